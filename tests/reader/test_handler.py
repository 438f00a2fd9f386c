# SPDX-License-Identifier: MIT
"""Structs of other handlers: which of several layouts one has."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.abi.registry import layout, layouts
from luoser.reader.handler import struct_candidates
from luoser.state import Array, File, State
from tests.images import Image, name
from tests.posted import posted
from tests.reader.helpers import pci_entry


def vfio_state(blob: bytes, devices: bytes) -> State:
    image = Image()
    data = image.alloc(blob)
    files = image.blocks([name("vfio-pci-v1", 48) + struct.pack("<QQ", data, 7)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    page = image.alloc(struct.pack("<QQ", 1, 1) + name("pci-v2", 48) + struct.pack("<QQ", image.alloc(devices), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, page)), 32)})
    return image.read()


def only_file(state: State) -> File:
    luo = state.handovers[0].luo
    assert luo is not None
    return luo.sessions[0].files[0]


def test_vfio_device_is_read_by_the_layout_that_names_a_preserved_one() -> None:
    devices = struct.pack("<II", 1, 1) + pci_entry(0x501)
    detail = only_file(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None
    assert [layout for layout, _ in detail.readings] == ["vfio-pci-v1-domain32-reset"]
    assert detail.readings[0][1]["bdf"] == 0x501


def test_undecided_vfio_device_has_no_headline() -> None:
    devices = struct.pack("<II", 1, 1) + pci_entry(0x900)
    detail = only_file(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None and len(detail.readings) > 1
    assert "layouts fit these bytes" in detail.confidence


VMALLOC = struct.pack("<QIHH", 0x1234000, 1, 1, 0)
PSTORE = struct.pack("<I4xqqIiIII", 1, 5, 1_700_000_000, 3, 7, 1, 2, 1)
PSTORE_RECORD = {
    "size": 5, "time_sec": 1_700_000_000, "time_nsec": 3, "count": 7, "reason": 1, "part": 2, "compressed": 1
}  # fmt: skip
FILES = {
    "eventfd-v1": (struct.pack("<QI", 7, 0x800), {"count": 7, "flags": 0x800}),
    "tmpfs-file-v1": (
        struct.pack("<QQQIIQ", 0x2A, 1, 4097, 0o100644, 0, 2) + VMALLOC + b"log".ljust(256, b"\0"),
        {"mnt_token": 0x2A, "size": 4097, "mode": 0o100644, "nr_folios": 2, "name": "log"},
    ),
    "kvm_vm_luo_v1": (struct.pack("<Q", 3), {"type": 3}),
    "cpu_fh_v1": (struct.pack("<IIQQQQ", 4, 1, 0x5000, 9, 12, 0), {"cpu": 4, "stack_pa": 0x5000, "hwid": 12}),
}


def one_file(handler: str, data: bytes) -> Image:
    """An image with one file of a handler."""
    image = Image()
    page = image.alloc(data)
    files = image.blocks([name(handler, 48) + struct.pack("<QQ", page, 7)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, 0)), 32)})
    return image


@pytest.mark.parametrize("handler", FILES)
def test_struct_of_a_posted_handler(handler: str) -> None:
    data, wanted = FILES[handler]
    file = only_file(one_file(handler, data).read())
    detail = file.detail
    assert detail is not None and detail.address == file.data
    fields = {name: value for _, values in reversed(detail.readings) for name, value in values.items()}
    assert {member: fields[member] for member in wanted} == wanted


SUBTREES = {
    "hwpoison": (struct.pack("<IIQ", 1, 0, 3) + VMALLOC, {"version": 1, "count": 3}),
    "pstore-kho": (PSTORE + b"panic", {"version": 1, "record": PSTORE_RECORD}),
}


@pytest.mark.parametrize("subtree", SUBTREES)
def test_struct_of_a_posted_sub_tree(subtree: str) -> None:
    data, wanted = SUBTREES[subtree]
    image = Image()
    image.handover({subtree: (image.alloc(data), len(data))})
    (entry,) = image.read(contents=True).handovers[0].subtrees
    assert entry.detail is not None
    assert b"".join(piece.data for piece in entry.contents) == data[layout(subtree).schemas[0].body :].rstrip(b"\0")
    ((form, fields),) = entry.detail.readings
    assert form == subtree
    assert {member: fields[member] for member in wanted} == wanted


def test_type_of_a_vm_is_all_of_a_page_that_has_no_more() -> None:
    forms = [entry for entry in layouts() if entry.handler == "kvm_vm_luo_v1"]
    short = struct.pack("<Q", 3).ljust(4096, b"\0")
    long = struct.pack("<QQ", 3, 0x7000).ljust(4096, b"\0")
    assert "kvm-vm-v1-type" in {entry.name for entry in struct_candidates(forms, short)}
    assert [entry.name for entry in struct_candidates(forms, long)] == ["kvm-vm-v1"]


def test_the_array_of_a_struct_is_read() -> None:
    image, places = posted()
    (handover,) = luoser.read(image.open()).handovers
    detail = next(tree.detail for tree in handover.subtrees if tree.name == "hwpoison")
    assert detail is not None
    array = Array(member="pfns", order=0, chunks=(places.chunk,), pages=(places.page,), words=(0x100, 0x200, 0x300))
    assert detail.arrays == (array,)


@pytest.mark.parametrize(
    ("words", "count", "shown"), [((0x100, 0), 2, (0x100, 0)), ((0,), 1, (0,)), ((5, 6, 7), 2, (5, 6, 7))]
)
def test_an_array_has_as_many_entries_as_the_struct_counts(
    words: tuple[int, ...], count: int, shown: tuple[int, ...]
) -> None:
    image = Image()
    area = image.vmalloc(struct.pack(f"<{len(words)}Q", *words))
    image.handover({"hwpoison": (image.alloc(struct.pack("<IIQ", 1, 0, count) + area), 32)})
    (handover,) = luoser.read(image.open()).handovers
    detail = handover.subtrees[0].detail
    assert detail is not None and detail.arrays[0].words == shown and detail.arrays[0].complete


@pytest.mark.parametrize(("size", "fits"), [(44 + 200, True), (44 + 199, False)])
def test_a_record_of_pstore_is_in_its_blob(size: int, fits: bool) -> None:
    image = Image()
    record = struct.pack("<I4xqqIiIII", 1, 200, 5, 0, 1, 2, 0, 0) + b"x" * 200
    image.handover({"pstore-kho": (image.alloc(record), size)})
    (handover,) = luoser.read(image.open()).handovers
    assert (handover.subtrees[0].detail is not None) is fits


@pytest.mark.parametrize(
    ("count", "pages", "fits"),
    [(0, 1, True), (512, 1, True), (513, 1, False), (513, 2, True), (1030, 4, True), (3, 4, True), (3, 3, False)],
)
def test_the_area_of_pages_with_errors_doubles_and_never_shrinks(count: int, pages: int, fits: bool) -> None:
    (form,) = (entry for entry in layouts() if entry.name == "hwpoison")
    page = struct.pack("<IIQQIHH", 1, 0, count, 0x10000, pages, 1, 0).ljust(4096, b"\0")
    assert (struct_candidates([form], page) == [form]) is fits


def test_an_area_of_pages_with_errors_is_there_or_nothing_is() -> None:
    (form,) = (entry for entry in layouts() if entry.name == "hwpoison")
    for count, pages, fits in ((0, 0, True), (1, 0, False), (0, 1, False)):
        page = struct.pack("<IIQQIHH", 1, 0, count, 0, pages, 0, 0).ljust(4096, b"\0")
        assert (struct_candidates([form], page) == [form]) is fits


@pytest.mark.parametrize(("changed", "fits"), [(None, True), (8, False), (16, False), (47, False)])
def test_a_log_without_a_record_is_one(changed: int | None, fits: bool) -> None:
    """A kernel that runs has no record yet. changed: offset of a byte that is not zero."""
    (form,) = (entry for entry in layouts() if entry.name == "pstore-kho")
    page = bytearray(struct.pack("<I", 1).ljust(4096, b"\0"))
    if changed is not None:
        page[changed] = 1
    assert (struct_candidates([form], bytes(page), size=4096) == [form]) is fits
