# SPDX-License-Identifier: MIT
"""Sub-trees of KHO's plain users: memblock (reserve_mem), kexec-metadata, the KHO self-test."""

from __future__ import annotations

import struct

from luoser.abi.kho import kho_kexec_metadata
from luoser.abi.vmalloc import kho_vmalloc
from luoser.fdt import Fdt
from luoser.limits import LIMITS
from luoser.reader.vmalloc import read_area
from luoser.reader.walk import PHYSICAL_LIMIT, Walk, is_name
from luoser.state import KexecMetadata, KhoTest, Memblock, Reservation
from luoser.text import decode_name, safe_text

__all__ = ["read_kexec_metadata", "read_kho_test", "read_memblock"]


def read_memblock(walk: Walk, address: int, tree: Fdt) -> Memblock | None:
    """The reserve_mem areas of a memblock-v1 devicetree."""
    compatible = tree.root.text("compatible") or b""
    if compatible != b"memblock-v1":
        word = f"sub-tree memblock: compatible is '{safe_text(compatible)}', expected memblock-v1"
        walk.problem("bad-memblock", address, word)
        return None
    reservations = []
    for node in tree.root.nodes:
        start, size = node.u64("start"), node.u64("size")
        if start is None or size is None or node.text("compatible") != b"reserve-mem-v1":
            walk.problem(
                "bad-memblock",
                address,
                f"sub-tree memblock: node '{safe_text(node.name)}' has no reserve-mem-v1 start and size",
            )
            continue
        reservations.append(Reservation(name=decode_name(node.name), start=start, size=size))
    return Memblock(address=address, reservations=tuple(reservations))


def read_kexec_metadata(walk: Walk, address: int, size: int | None) -> KexecMetadata | None:
    """struct kho_kexec_metadata; None and a problem for another version or a short blob."""
    what = "sub-tree kexec-metadata"
    if size is not None and size < kho_kexec_metadata.size:
        walk.problem("bad-metadata", address, f"{what}: blob-size {size}, expected {kho_kexec_metadata.size}")
        return None
    data = walk.read(address, kho_kexec_metadata.size, what)
    if data is None:
        return None
    ser = kho_kexec_metadata.parse(data)
    if ser.version != 1 or not is_name(ser.previous_release):
        walk.problem(
            "bad-metadata", address, f"{what}: version {ser.version}, expected 1 and a release; reused memory?"
        )
        return None
    return KexecMetadata(
        address=address,
        version=ser.version,
        previous_release=decode_name(ser.previous_release),
        kexec_count=ser.kexec_count,
    )


def read_kho_test(walk: Walk, address: int, tree: Fdt) -> KhoTest | None:
    """The self-test's folios, from a vmalloc array (6.18 and later) or from the property itself (6.17)."""
    data = tree.root.node("data")
    magic = tree.root.u32("magic")
    count = data.u32("nr_folios") if data is not None else None
    info = data.get("folios_info") if data is not None else None
    checksum = data.u32("csum") if data is not None else None
    if tree.root.text("compatible") != b"kho-test-v1" or None in (magic, count, info, checksum):
        walk.problem(
            "bad-kho-test",
            address,
            "sub-tree kho_test: no kho-test-v1 devicetree with magic, nr_folios, folios_info, csum",
        )
        return None
    assert magic is not None and count is not None and info is not None and checksum is not None
    words, pages = _test_folios(walk, address, count, info)
    folios = []
    if len(words) // 8 > LIMITS.kho_test_folios:
        walk.problem(
            "too-many", address, f"sub-tree kho_test: {count} folios, the first {LIMITS.kho_test_folios} are read"
        )
    for (word,) in struct.iter_unpack("<Q", words[: min(len(words) // 8, LIMITS.kho_test_folios) * 8]):
        place, order = word & ~0xFFF, word & 0xFFF
        if order > 40 or not place or place % (walk.page_size << order) or place >= PHYSICAL_LIMIT:
            walk.problem(
                "bad-kho-test",
                address,
                f"sub-tree kho_test: {word:#x} is no folio address with an order; reused memory?",
            )
            break
        folios.append((place, order))
    return KhoTest(address=address, magic=magic, count=count, checksum=checksum, folios=tuple(folios), pages=pages)


def _test_folios(walk: Walk, address: int, count: int, info: bytes) -> tuple[bytes, tuple[int, ...]]:
    descriptor = kho_vmalloc.parse(info) if len(info) == kho_vmalloc.size else None
    if descriptor is not None and (
        count != 2 or (walk.is_page_address(descriptor.first) and descriptor.total_pages == 1)
    ):
        if not walk.is_page_address(descriptor.first):
            walk.problem(
                "bad-pointer", address, f"sub-tree kho_test: vmalloc chunk {descriptor.first:#x} is no page address"
            )
            return b"", ()
        wanted = min(count, LIMITS.kho_test_folios + 1) * 8
        area = read_area(walk, descriptor, wanted, "sub-tree kho_test")
        return area.data, area.pages if len(area.data) == wanted else ()
    if len(info) != 8 * count:
        walk.problem("bad-kho-test", address, f"sub-tree kho_test: {len(info)} bytes of folios_info for {count} folios")
    return info[: 8 * count], ()
