# SPDX-License-Identifier: MIT
"""A bare blob, without other memory: the layouts that fit it, and its members in one of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from luoser import fdt
from luoser.abi import block, guest, kexec_metadata, kho, luo, memfd, other, pci
from luoser.abi.registry import Layout, layout, unknown_layout
from luoser.abi.schema import Schema
from luoser.arguments import need_names
from luoser.bits import is_zero
from luoser.errors import FormatError, UsageError
from luoser.reader.pci_layout import Fit, best_fits, fit_pci, read_pci
from luoser.reader.plausible import PAGE_SIZES, is_array, is_guest_memfd, is_hwpoison, is_name, is_page, is_pstore
from luoser.state import Blob, DeviceList
from luoser.state.columns import columns
from luoser.state.struct_values import marked, struct_values

__all__ = ["candidates", "decode", "hex_hint", "tree_layout"]

_HEX_ROW = re.compile(rb"(?:0x)?[0-9a-fA-F]{6,16}:?(?:\s{1,3}(?:0x)?[0-9a-fA-F]{2,16}){2}\s")
"""How a row of hexdump, xxd, od, gdb or crash begins."""


def decode(data: bytes, name: str | None = None) -> Blob:
    """A decoded blob.

    data: the blob, from its first byte on.
    name: of the layout. None: the layout that fits the bytes best.

    Raises UsageError if the name is unknown or no layout fits, FormatError if the blob is too short.
    """
    if not data:
        raise FormatError("the blob is empty")
    if name is None:
        return _decided(data)
    need_names(layout=(name,))
    chosen = layout(name)
    if chosen is None:
        raise unknown_layout(name)
    return _as(data, chosen, (chosen.name,), "chosen by name")


def _decided(data: bytes) -> Blob:
    fits = candidates(data)
    if not fits:
        raise UsageError(f"no known layout fits these {len(data)} bytes{_closest(data)}; select one with --as")
    chosen = layout(fits[0][0])
    assert chosen is not None
    names = tuple(name for name, _ in fits)
    confidence = (
        f"the only layout that fits: {fits[0][1]}" if len(names) == 1 else f"several layouts fit: {', '.join(names)}"
    )
    lists = [pci.layout(name) for name in names]
    is_bare = chosen.kind == "list" and not any(fit.blob.devices for fit in _sound_lists(data))
    if any(data) and ((all(lists) and is_bare) or any(name in _WEAK for name in names)):
        word = "nothing in it is a device" if is_bare else "only its first bytes are not zero"
        confidence += f"; {word}, so it may be a record of another kind: --as LAYOUT"
    if not any(data):
        confidence = f"all zeros, an empty list in {len(names)} layouts: {', '.join(names)}"
    return _as(data, chosen, names, confidence)


def _closest(data: bytes) -> str:
    fits = best_fits(data)
    if fits:
        return f" (closest is {fits[0].name}: {'; '.join(map(str, fits[0].faults))})"
    return hex_hint(data)


def hex_hint(data: bytes) -> str:
    """` (they look like hex text ...)` for the bytes of such a text. Empty: they do not."""
    text = data.strip()
    if text and (_HEX_ROW.match(text) or all(byte in b"0123456789abcdefABCDEF \t\r\n:|x" for byte in text[:64])):
        return " (they look like hex text: use --hex)"
    return ""


# -- what it can be ---------------------------------------------------------------------------------------


def candidates(data: bytes) -> list[tuple[str, str]]:
    """(layout, reason in words) for each layout that fits a blob without a fault, likeliest first."""
    tree = tree_layout(data)
    if tree is not None:
        return [tree]
    structs = [(name, why) for name, (test, why) in _TESTS.items() if test(data)]
    fits = _sound_lists(data)
    lists = [(fit.name, _why(fit)) for fit in fits]
    if any(data) and structs:
        lists = [] if all(not fit.blob.devices for fit in fits) else lists
    is_small = all(len(fit.blob.devices) <= 1 for fit in fits) and {name for name, _ in structs} <= {"hwpoison"}
    weak = [(name, why) for name, (test, why) in _WEAK.items() if any(data) and is_small and test(data)]
    return structs + lists + weak


def _sound_lists(data: bytes) -> list[Fit]:
    return [fit for fit in best_fits(data) if not fit.faults]


def _why(fit: Fit) -> str:
    if not fit.blob.devices:
        return (
            "an empty list"
            if fit.blob.layout.blocks is None
            else "a header without its records, which are in KHO blocks"
        )
    return "a list of devices, by shape"


def tree_layout(data: bytes) -> tuple[str, str] | None:
    """(layout, reason in words) of a devicetree, by its compatible string. None: not a devicetree."""
    if data[:4] != fdt.MAGIC:
        return None
    try:
        tree = fdt.parse(data, partial=True)
    except FormatError:
        return None
    text = (tree.root.text("compatible") or b"").decode("ascii", "replace").split(";")[0]
    if tree.root.node("luo-session") is None and tree.root.get("luo-abi-header") is not None:
        text = "luo-v2-fdt"
    known = layout(text.replace("_", "-"))
    if known is None or known.kind != "fdt":
        return "devicetree", "a devicetree with an unknown compatible string"
    return known.name, "a devicetree with this compatible string"


def _starts(prefix: bytes, size: int) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(prefix) and len(data) >= size


def _is_luo(data: bytes) -> bool:
    return data.startswith(b"luo-v") and is_name(data[:8]) and len(data) >= luo.luo_ser.size


def _is_composed(data: bytes) -> bool:
    return (
        data.startswith(b"luo-v")
        and b";" in data[:16]
        and is_name(data[:16])
        and len(data) >= luo.luo_ser_composed.size
    )


def _is_metadata(data: bytes) -> bool:
    schema = kexec_metadata.kho_kexec_metadata
    if len(data) < schema.size or not is_zero(data[schema.size :]):
        return False
    ser = schema.values(data)
    return ser["version"] == 1 and is_name(ser["previous_release"]) and ser["previous_release"][:1].isdigit()


def _is_eventfd(data: bytes) -> bool:
    schema = other.eventfd_ser
    if len(data) != schema.size:  # so small that more bytes show nothing
        return False
    ser, pointer = schema.parse(data), int.from_bytes(data[4:12], "little")
    is_list = is_page(pointer) and bool(pointer % (1 << 32))  # u32 and a pointer: a device list in blocks
    return any(data) and not ser.flags & ~sum(other.EVENTFD_FLAGS) and not is_list


def _is_eventfd_page(data: bytes) -> bool:
    size = other.eventfd_ser.size
    return len(data) > size and is_zero(data[size:]) and _is_eventfd(data[:size])


def _is_kvm_type(data: bytes) -> bool:
    """Whether it can be the type of a KVM machine, which is a small number, and zeros."""
    size = guest.kvm_luo_ser_type.size
    return len(data) >= size and 0 < int.from_bytes(data[:size], "little") < 1 << 16 and is_zero(data[size:])


def _is_kvm_arch(data: bytes) -> bool:
    schema = guest.kvm_luo_ser_arch
    if len(data) < schema.size or not is_zero(data[schema.size :]):
        return False
    ser = schema.values(data)
    return 0 < ser["type"] < 1 << 16 and is_page(ser["arch_state"])


def _is_hwpoison(data: bytes) -> bool:
    schema = other.kho_hwpoison_metadata
    return is_hwpoison(data) and bool(schema.parse(data).count) and is_zero(data[schema.size :])


def _is_empty_hwpoison(data: bytes) -> bool:
    version = other.RECORD_VERSION.to_bytes(4, "little")
    return len(data) >= other.kho_hwpoison_metadata.size and data.rstrip(b"\0") == version.rstrip(b"\0")


def _is_pstore(data: bytes) -> bool:
    schema = other.pstore_ser
    if not is_pstore(data, len(data)):
        return False
    end = schema.body + schema.parse(data).record.size
    return any(data[schema.body : end]) and is_zero(data[end:])


def _is_setup_data(data: bytes) -> bool:
    if len(data) < kho.setup_data.size:
        return False
    ser = kho.setup_data.values(data)
    return ser["type"] == kho.SETUP_KEXEC_KHO and ser["len"] in (kho.kho_data.size, kho.kho_data_2023.size)


def _is_kho_data(data: bytes) -> bool:
    if len(data) != kho.kho_data.size:
        return False
    ser = kho.kho_data.values(data)
    return (
        ser["fdt_size"] in PAGE_SIZES
        and is_page(ser["fdt_addr"])
        and is_page(ser["scratch_addr"])
        and not ser["scratch_size"] % 16
    )


def _is_memfd(schema: Schema) -> Callable[[bytes], bool]:
    def test(data: bytes) -> bool:
        if len(data) < schema.size or not is_zero(data[schema.size :]):
            return False
        ser = schema.parse(data)
        return (
            ser.nr_folios > 0
            and is_array(ser.nr_folios * 16, ser.folios)
            and ser.folios.flags <= 3
            and ser.get("seals", 0) <= 0x3F
            and not ser.get("flags", 0)
            and (ser.nr_folios - 1) * PAGE_SIZES[0] <= ser.size <= 1 << 52
        )

    return test


def _is_guest_memfd(data: bytes) -> bool:
    schema = guest.guest_memfd_luo_ser
    if not is_guest_memfd(data) or not is_zero(data[schema.size :]):
        return False
    return bool(schema.parse(data).nr_folios)


def _is_vcpu(data: bytes) -> bool:
    """Whether it can be a virtual CPU: numbers, a token, and the addresses of two pages."""
    schema = guest.kvm_vcpu_ser
    if len(data) < schema.size or not is_zero(data[schema.size :]):
        return False
    ser = schema.parse(data)
    return ser.vcpu_id < 1 << 16 and is_page(ser.arch_state) and is_page(ser.cb)


def _is_kvm_rfc(data: bytes) -> bool:
    """Whether it can be the type of a KVM machine with an array of memory attributes."""
    schema = guest.kvm_luo_ser_mem_attrs
    if len(data) < schema.size or not is_zero(data[schema.size :]):
        return False
    ser = schema.parse(data)
    is_array = bool(ser.nr_mem_attrs) == bool(ser.mem_attrs.first) and is_page(ser.mem_attrs.first or PAGE_SIZES[0])
    return ser.type < 1 << 16 and bool(ser.nr_mem_attrs) and is_array


def _is_block(entry: Schema, test: Callable[[bytes], bool]) -> Callable[[bytes], bool]:
    def check(data: bytes) -> bool:
        if len(data) < block.kho_block_header_ser.size:
            return False
        head = block.kho_block_header_ser
        ser = head.values(data)
        is_link = ser["next"] == 0 or is_page(ser["next"])
        return is_link and _entries(data, head.size, ser["count"], entry, test)

    return check


def _is_area(header: Schema, entry: Schema) -> Callable[[bytes], bool]:
    def check(data: bytes) -> bool:
        if len(data) < header.size:
            return False
        ser = header.values(data)
        if ser.get("pgcnt", 1) not in range(1, 1 << 12):
            return False
        return _entries(data, header.size, ser["count"], entry, _is_named)

    return check


def _entries(data: bytes, start: int, count: int, entry: Schema, test: Callable[[bytes], bool]) -> bool:
    """Whether a header is followed by `count` plausible entries, at least one, and then only zeros."""
    end = start + count * entry.size
    if not count >= 1 or end > len(data) or not is_zero(data[end:]):
        return False
    return all(test(data[place : place + entry.size]) for place in range(start, end, entry.size))


def _is_named(raw: bytes) -> bool:
    """Whether an entry starts with a name, in a field of 48 bytes or more."""
    return is_name(raw[:48]) and raw[0] >= 0x20


def _is_session(raw: bytes) -> bool:
    ser = luo.luo_session_ser.parse(raw)
    return (
        is_name(ser.name)
        and bool(ser.file_set_ser.files) == bool(ser.file_set_ser.count)
        and ser.file_set_ser.files % PAGE_SIZES[0] == 0
    )


def _is_device_block(data: bytes) -> bool:
    """Whether a block has device entries: all (except holes) with refcounts or, in the first patch of v7, none."""
    schema = pci.pci_dev_ser_b_refcount
    if not _is_block(schema, lambda raw: bool(schema.parse(raw).domain <= pci.MAX_DOMAIN))(data):
        return False
    head = block.kho_block_header_ser
    end = head.size + head.parse(data).count * schema.size
    rows = [row for row in schema.record.iter_unpack(data[head.size : end]) if any(row)]
    counted = sum(1 for *_, refcount in rows if refcount)
    return bool(rows) and counted in (0, len(rows)) and len({row[:2] for row in rows}) == len(rows)


_TESTS: dict[str, tuple[Callable[[bytes], bool], str]] = {
    "luo-composed": (_is_composed, "it starts with a composed luo-v string"),
    "luo-v5": (_is_luo, "it starts with luo-v"),
    "kexec-metadata-v1": (_is_metadata, "version 1 and a kernel release"),
    "eventfd-v1": (_is_eventfd, "12 bytes: a counter and flags of an eventfd"),
    "hwpoison": (_is_hwpoison, "version 1 and an array of the size of its vmalloc area"),
    "pstore-kho": (_is_pstore, "version 1 and a record of its size"),
    "setup-data": (_is_setup_data, "type 10 and the length of a kho_data"),
    "kho-data": (_is_kho_data, "a page of devicetree and a scratch array"),
    "liveupdate-features": (_starts(b"PUVL", 8), "magic PUVL"),
    "guest-memfd-v1": (_is_guest_memfd, "a size of whole pages, and a folio array of the size of its vmalloc area"),
    "memfd-v2": (_is_memfd(memfd.memfd_luo_ser_v2), "a folio array of the size of its vmalloc area"),
    "memfd-v1": (_is_memfd(memfd.memfd_luo_ser_v1), "a folio array of the size of its vmalloc area"),
    "kho-block-sessions": (_is_block(luo.luo_session_ser, _is_session), "a block of plausible session entries"),
    "kho-block-files": (_is_block(luo.luo_file_ser, _is_named), "a block of plausible file entries"),
    "kho-block-pci": (_is_device_block, "a block of plausible device entries"),
    "luo-session-v2": (
        _is_area(luo.luo_session_header_ser, luo.luo_session_ser),
        "a count and plausible session entries",
    ),
    "luo-flb-v1": (_is_area(luo.luo_flb_header_ser, luo.luo_flb_ser), "a count and plausible FLB entries"),
}
_WEAK: dict[str, tuple[Callable[[bytes], bool], str]] = {
    "eventfd-v1": (_is_eventfd_page, "a counter and flags of an eventfd, then zeros"),
    "hwpoison": (_is_empty_hwpoison, "version 1, then zeros: no pages with errors"),
    "kvm-vcpu-v1": (_is_vcpu, "a number, a token and the addresses of two pages"),
    "kvm-vm-rfc": (_is_kvm_rfc, "a small number and an array of memory attributes"),
    "kvm-vm-arch": (_is_kvm_arch, "a small number and the address of a page, then zeros"),
    "kvm-vm-v1-type": (_is_kvm_type, "a small number, then zeros"),
}
"""Records of so few bytes that much else looks like them: never a reason not to name a list."""


# -- as one of them ---------------------------------------------------------------------------------------


def _as(data: bytes, chosen: Layout, names: tuple[str, ...], confidence: str) -> Blob:
    if chosen.kind == "fdt":
        tree = fdt.parse(data, partial=True)
        notes = (tree.fault,) if tree.fault else ()
        return Blob(
            layout=chosen.name,
            candidates=names,
            confidence=confidence,
            size=tree.header.totalsize,
            fdt=tree,
            notes=notes,
        )
    head = chosen.schemas[0]
    if len(data) < head.size:
        raise FormatError(
            f"{chosen.name}: too short for struct {head.name}: expected {head.size} bytes, found {len(data)}"
        )
    return (
        _as_list(data, chosen, names, confidence)
        if chosen.kind == "list"
        else _as_struct(data, chosen, names, confidence)
    )


def _as_list(data: bytes, chosen: Layout, names: tuple[str, ...], confidence: str) -> Blob:
    form = pci.layout(chosen.name)
    assert form is not None
    blob = read_pci(form, data)
    assert blob is not None
    fit = fit_pci(form, data, partial=True)
    notes = list(map(str, fit.faults) if fit is not None else ["impossible counts in the header"])
    if form.blocks is not None and blob.header[form.blocks]:
        count, first = blob.header[form.count], blob.header[form.blocks]
        notes.append(f"the records of {count} devices are in KHO blocks from {first:#x} on, not in this blob")
    return Blob(
        layout=chosen.name,
        candidates=names,
        confidence=confidence,
        size=min(blob.size, len(data)),
        fields=marked(form.header, blob.header),
        devices=blob.devices,
        buses=blob.buses,
        notes=tuple(notes),
    )


def _as_struct(data: bytes, chosen: Layout, names: tuple[str, ...], confidence: str) -> Blob:
    head = chosen.schemas[0]
    fields = struct_values(head, data)
    records: list[dict[str, Any]] = []
    devices, size, notes = None, head.size, []
    if chosen.count:
        entry, count = chosen.schemas[1], fields[chosen.count]
        have = min(count, (len(data) - head.size) // entry.size)
        size += have * entry.size
        if entry is pci.pci_dev_ser_b_refcount:
            devices = DeviceList(entry.record, columns(entry), data[head.size : size])
        else:
            records = [struct_values(entry, data[place:]) for place in range(head.size, size, entry.size)]
        if have < count:
            notes.append(f"too short: expected {count} records as in the header, found {have} in {len(data)} bytes")
    if chosen.name == "setup-data" and fields["len"] == kho.kho_data.size <= len(data) - size:
        values = struct_values(kho.kho_data, data[size:]).items()
        notes.append(f"its data is a kho_data: {', '.join(f'{name} {value:#x}' for name, value in values)}")
    return Blob(
        layout=chosen.name,
        candidates=names,
        confidence=confidence,
        size=size,
        fields=fields,
        devices=devices,
        records=tuple(records),
        notes=tuple(notes),
    )
