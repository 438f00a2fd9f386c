# SPDX-License-Identifier: MIT
"""Structs of file handlers and FLBs other than memfd and PCI."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any

from luoser.abi import iommu
from luoser.abi.luo import is_test_flb
from luoser.abi.other import POISONED_TREE
from luoser.abi.pci import MAX_DOMAIN
from luoser.abi.registry import Layout, layout, layouts
from luoser.abi.schema import Schema, Values
from luoser.abi.vmalloc import kho_vmalloc
from luoser.bits import is_zero, used_size
from luoser.errors import MissingMemory
from luoser.fdt import Fdt
from luoser.reader.kept import keep_struct, keep_words
from luoser.reader.plausible import (
    PHYSICAL_LIMIT,
    is_empty_pstore,
    is_guest_memfd,
    is_hwpoison,
    is_pstore,
    is_tmpfs_file,
)
from luoser.reader.vmalloc import read_area
from luoser.reader.walk import Subject, Walk
from luoser.state import Array, Record
from luoser.state.struct_values import struct_values

__all__ = ["read_detail", "read_flb_detail", "read_poisoned", "settled", "struct_candidates"]

_ELSEWHERE = ("kho", "luo", "memfd", "pci")
"""Subjects that other readers read."""


def read_detail(
    walk: Walk, compatible: str, address: int, subject: Subject, *, size: int | None = None
) -> Record | None:
    """The struct of a file's handler. None: no known layout for the handler, or none that fits (a problem then).

    walk:       the source.
    compatible: string of the handler.
    address:    of the struct.
    subject:    what problems are about.
    size:       bytes of the blob. None: unknown.
    """
    forms = [
        entry
        for entry in layouts()
        if entry.handler == compatible and entry.kind == "struct" and entry.subject not in _ELSEWHERE
    ]
    return _read(walk, forms, address, subject, size)


def read_poisoned(walk: Walk, address: int, tree: Fdt, subject: Subject) -> Record | None:
    """The list of pages with errors in its earlier form. None: another devicetree, or without the two properties.

    walk:    the source.
    address: of the devicetree.
    tree:    of the sub-tree.
    subject: what problems are about.
    """
    count, area = tree.root.u64("count"), tree.root.get("pfns")
    is_list = tree.root.text("compatible") == POISONED_TREE.encode()
    if not is_list or count is None or area is None or len(area) != kho_vmalloc.size:
        return None
    part, value = subject.part("pfns", ".pfns"), kho_vmalloc.parse(area)
    made = _array(walk, "pfns", value, value.total_pages * walk.page_size, part, count) if any(area) else None
    reading = {"count": count, "pfns": struct_values(kho_vmalloc, area)}
    word = "by its compatible string"
    arrays = (made,) if made is not None else ()
    return Record(address=address, readings=((POISONED_TREE, reading),), confidence=word, arrays=arrays)


def read_flb_detail(walk: Walk, name: str, address: int, subject: Subject) -> Record | None:
    """The struct of an FLB's owner. None: as for a file; also for device lists and the kernel's test FLBs.

    walk:    the source.
    name:    of the FLB.
    address: of the struct.
    subject: what problems are about.
    """
    if is_test_flb(address):
        return None
    return read_detail(walk, name, address, subject)


def _read(walk: Walk, forms: list[Layout], address: int, subject: Subject, size: int | None) -> Record | None:
    if not forms:
        return None
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, subject, f"{address:#x} is not a page address")
        return None
    chosen = [entry for name in walk.layouts if (entry := layout(name)) in forms and entry is not None]
    try:
        page = walk.memory.read(address, walk.page_size)
    except MissingMemory as error:
        walk.missing(error, subject)
        return None
    fits = chosen[:1] or struct_candidates(forms, page, size=size)
    if not fits:
        text = f"no layout fits: expected one of {', '.join(entry.name for entry in forms)}; reused memory?"
        walk.problem("bad-handler-data", address, subject, text)
        return None
    for entry in fits:
        keep_struct(walk, address, entry.schemas[0], subject, name=_NAMES.get(entry.schemas[0].name, ""))
    readings = tuple((entry.name, struct_values(entry.schemas[0], page)) for entry in fits)
    arrays = tuple(_arrays(walk, fits[0].schemas[0], page, subject)) if len(fits) == 1 else ()
    word = _confidence(len(readings), chosen=bool(chosen))
    return Record(address=address, readings=readings, confidence=word, arrays=arrays)


def _arrays(walk: Walk, schema: Schema, page: bytes, subject: Subject) -> Iterator[Array]:
    """The arrays in the vmalloc areas that a struct has. What of them is not there becomes a problem.

    schema: of the struct.
    page:   starts with it.
    """
    for name, value in schema.parse(page).items():
        if isinstance(value, Values) and {"first", "total_pages", "order"} <= value.keys() and value.first:
            size = value.total_pages * walk.page_size
            yield _array(walk, name, value, size, subject.part(name, f".{name}"), _words(schema, page))


def _array(walk: Walk, name: str, descriptor: Any, size: int, part: Subject, words: int) -> Array:
    """The u64 of a vmalloc area: all up to the last that is not 0, and at least as many as are counted."""
    area = read_area(walk, descriptor, size, part)
    data = area.data[: len(area.data) // 8 * 8]
    used = max(-(-used_size(data) // 8), min(words, len(data) // 8))
    keep_words(walk, area._replace(data=data[: used * 8]).pieces(walk.page_size << min(descriptor.order, 20)), part)
    return Array(
        member=name,
        order=descriptor.order,
        chunks=area.chunks,
        pages=area.pages,
        words=struct.unpack(f"<{used}Q", data[: used * 8]),
        complete=len(area.data) == size,
    )


def _words(schema: Schema, page: bytes) -> int:
    """The number of u64 in the array of a struct, by its count. 0: it has no count that is known."""
    count, words = _COUNTS.get(schema.name, ("", 0))
    return schema.parse(page)[count] * words if count else 0


_NAMES = {"tmpfs_file_ser": "name"}
"""Members with a name that a user chose, by struct."""
_COUNTS = {
    "kho_hwpoison_metadata": ("count", 1),
    "tmpfs_file_ser": ("nr_folios", 2),
    "guest_memfd_luo_ser": ("nr_folios", 2),
}
"""Member with the entries of the array, and the u64 of an entry, by struct."""


def _confidence(readings: int, *, chosen: bool) -> str:
    if chosen:
        return "chosen by --layout"
    return "the only layout that fits" if readings == 1 else f"{readings} layouts fit these bytes"


def settled(record: Record, devices: Set[tuple[int, int]]) -> Record:
    """A vfio record with only those readings whose device is in a preserved list. Unchanged if none or all are.

    record:  of a file.
    devices: (domain, bus << 8 | devfn) of all devices in the lists of the handover.
    """
    named = tuple(
        (layout_name, fields)
        for layout_name, fields in record.readings
        if (fields.get("domain", 0), fields.get("bdf")) in devices
    )
    if not named or len(named) == len(record.readings):
        return record
    word = "its device is in the preserved PCI list"
    return replace(record, readings=named, confidence=f"{_confidence(len(named), chosen=False)}; {word}")


def struct_candidates(forms: list[Layout], page: bytes, *, size: int | None = None) -> list[Layout]:
    """The layouts that fit a page, the longest first.

    forms: the layouts of one handler.
    page:  starts with the struct; zeros after it.
    size:  bytes of the blob. None: unknown.
    """
    fits = [entry for entry in forms if entry.schemas[0].size <= len(page) and _is_plausible(entry, page, size)]
    return sorted(fits, key=lambda entry: -entry.schemas[0].size)


def _is_plausible(entry: Layout, page: bytes, size: int | None) -> bool:
    head = entry.schemas[0]
    if entry.name == "hwpoison":
        return is_hwpoison(page, (len(page),))
    if entry.name == "guest-memfd-v1":
        return is_guest_memfd(page, (len(page),))
    if entry.name == "tmpfs-file-v1":
        return is_tmpfs_file(page, (len(page),))
    if entry.name == "pstore-kho":
        return is_empty_pstore(page) or is_pstore(page, size if size is not None else PHYSICAL_LIMIT)
    fields = struct_values(head, page)
    if entry.subject == "vfio":
        return _is_vfio(entry, fields, page)
    if entry.name == "kvm-vm-rfc" and bool(fields["nr_mem_attrs"]) != bool(fields["mem_attrs"]["first"]):
        return False
    if entry.name == "kvm-vm-v1-type" and not is_zero(page[head.size :]):
        return False
    if entry.name == "iommu-liveupdate-1" and fields["version"] != iommu.FLB_VERSION:
        return False
    return all(_member_is_plausible(head, name, value) for name, value in fields.items())


def _is_vfio(entry: Layout, fields: Mapping[str, Any], page: bytes) -> bool:
    """Whether a vfio layout fits: zeros after its struct, and a plausible domain and reset_works."""
    size = entry.schemas[0].size
    return fields.get("domain", 0) <= MAX_DOMAIN and fields.get("reset_works", 0) <= 1 and is_zero(page[size:])


def _member_is_plausible(head: Any, name: str, value: Any) -> bool:
    member = next((field for field in head.fields if field.name == name), None)
    if member is None or not isinstance(value, int):
        return True
    return member.c_type != "phys" or (value % 4096 == 0 and value < PHYSICAL_LIMIT)
