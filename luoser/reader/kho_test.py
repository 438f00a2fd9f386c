# SPDX-License-Identifier: MIT
"""Sub-tree of the KHO self-test: folios of several orders, listed in a vmalloc area."""

from __future__ import annotations

import struct

from luoser.abi.kho_test import COMPATIBLE
from luoser.abi.vmalloc import kho_vmalloc
from luoser.fdt import Fdt
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.kept import keep_words
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.vmalloc import read_area
from luoser.reader.walk import Subject, Walk
from luoser.state import KhoTest

__all__ = ["read_kho_test"]

_SUBJECT = Subject("sub-tree kho_test", "kho_test")


def read_kho_test(walk: Walk, address: int, tree: Fdt) -> KhoTest | None:
    """The self-test's folios, from a vmalloc area (6.18 and later) or from the property (6.17).

    walk:    the source.
    address: of the sub-tree.
    tree:    its devicetree.

    None, with a problem: not a kho-test-v1 devicetree. Source: lib/test_kho.c; docs/abi/kho_test.md.
    """
    data = tree.root.node("data")
    magic = tree.root.u32("magic")
    count = data.u32("nr_folios") if data is not None else None
    info = data.get("folios_info") if data is not None else None
    checksum = data.u32("csum") if data is not None else None
    if tree.root.text("compatible") != COMPATIBLE or None in (magic, count, info, checksum):
        text = "expected a kho-test-v1 devicetree with magic, nr_folios, folios_info and csum"
        walk.problem("bad-kho-test", address, _SUBJECT, text)
        return None
    assert magic is not None and count is not None and info is not None and checksum is not None
    words, pages = _test_folios(walk, address, count, info)
    folios = []
    if len(words) // 8 > LIMITS.kho_test_folios:
        text = f"too many folios: found {count}, only the first {LIMITS.kho_test_folios} are read"
        walk.problem("too-many", address, _SUBJECT, f"{text}; {how_to_raise('kho_test_folios')}")
    for (word,) in struct.iter_unpack("<Q", words[: min(len(words) // 8, LIMITS.kho_test_folios) * 8]):
        place, order = word & ~0xFFF, word & 0xFFF
        if order > 40 or not place or place % (walk.page_size << order) or place >= PHYSICAL_LIMIT:
            text = f"{word:#x} is not a folio address with an order; reused memory?"
            walk.problem("bad-kho-test", address, _SUBJECT, text)
            break
        folios.append((place, order))
    return KhoTest(address=address, magic=magic, count=count, checksum=checksum, folios=tuple(folios), pages=pages)


def _test_folios(walk: Walk, address: int, count: int, info: bytes) -> tuple[bytes, tuple[int, ...]]:
    descriptor = kho_vmalloc.parse(info) if len(info) == kho_vmalloc.size else None
    if descriptor is not None and (
        count != 2 or (walk.is_page_address(descriptor.first) and descriptor.total_pages == 1)
    ):
        if not walk.is_page_address(descriptor.first):
            text = f"vmalloc chunk {descriptor.first:#x} is not a page address"
            walk.problem("bad-pointer", address, _SUBJECT, text)
            return b"", ()
        wanted = min(count, LIMITS.kho_test_folios + 1) * 8
        area = read_area(walk, descriptor, wanted, _SUBJECT)
        keep_words(walk, area.pieces(walk.page_size << min(descriptor.order, 20)), _SUBJECT)
        return area.data, area.pages if len(area.data) == wanted else ()
    if len(info) != 8 * count:
        walk.problem(
            "bad-kho-test",
            address,
            _SUBJECT,
            f"folios_info: expected {8 * count} bytes for {count} folios, found {len(info)}",
        )
    return info[: 8 * count], ()
