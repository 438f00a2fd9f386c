# SPDX-License-Identifier: MIT
"""Bare blobs: golden bytes as what they are, and anything else without an accident."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.registry import layout, layouts
from luoser.errors import FormatError, LuoserError, UsageError
from luoser.memory.source import Memory
from luoser.reader.blob import candidates, decode
from tests import golden
from tests.golden import BLOCK_FORMS, CATALOGUE, FORMS, GOLDEN, devices_of
from tests.lists import FIRST_BLOCKS, buses, device_lists

GOLDEN_FILES = sorted(golden.files())
each_form = pytest.mark.parametrize("name", FORMS)


def read(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


# -- auto -------------------------------------------------------------------------------------------------

WANT: dict[str, list[str]] = {
    "kexec-metadata.bin": ["kexec-metadata-v1"],
    "kho-v4-root.dtb": ["kho-v4"],
    "luo-flb-page.bin": ["luo-flb-v1"],
    "luo-ser.bin": ["luo-v5"],
    "luo-session-block.bin": ["kho-block-sessions"],
    "memfd-ser.bin": ["memfd-v2"],
    "pci-folio.bin": ["pci-lu-v2-06"],
    "pci-luo.dtb": ["luo-v1"],
    "pci-version-2.bin": ["pci-version-2"],
    "pci-version-2.block.bin": ["kho-block-pci"],
    **{f"pci/{name}.bin": [name] for name in FORMS},
    # v7 has the same header in both forms
    "pci/pci-v2-block.bin": ["pci-v2-block", "pci-v1-block"],
    "pci/pci-v1-block.bin": ["pci-v2-block", "pci-v1-block"],
    **{f"pci/{name}.block.bin": ["kho-block-pci"] for name in BLOCK_FORMS},
}
"""Every layout that the bytes of a golden file can be, and no other."""


@pytest.mark.parametrize("name", WANT)
def test_auto_names_what_the_bytes_can_be(name: str) -> None:
    data = read(name)
    assert [found for found, _ in candidates(data)] == WANT[name]
    blob = decode(data)
    assert blob.layout in WANT[name]
    assert list(blob.candidates) == WANT[name]
    assert (len(WANT[name]) == 1) == ("several layouts fit" not in blob.confidence)


def test_every_golden_file_is_decided_or_has_no_shape_of_its_own() -> None:
    assert set(GOLDEN_FILES) - set(WANT) == {
        "kho-chunk-512.bin",
        "kho-chunk-page.bin",
        "memfd-file.bin",
        "memfd-folios.bin",
        "memfd-vmalloc-chunk.bin",
        "pci-stub-page.bin",
    }


@pytest.mark.parametrize(
    ("case", "address", "want"),
    [
        ("7.3-a/frozen", 0x1A97000, "pci-lu-v2-03"),
        ("7.3-a/frozen", 0x1AD9000, "pci-v2-u64"),
        ("6.18-a/frozen", 0x1358000, "pci-lu-v2-03"),
        ("7.3-a/frozen", 0x1A11000, "luo-v5"),
        ("7.3-a/frozen", 0x1ADC000, "kho-block-sessions"),
        ("7.3-a/frozen", 0x1AD2000, "memfd-v2"),
        ("7.3-a/frozen", 0x5D3000, "kexec-metadata-v1"),
        ("7.3-a/frozen", 0x5CD000, "kho-v4"),
        ("7.3-a/frozen", 0xFDD000, "memblock-v1"),
        ("7.3-a/frozen", 0x680000, "kho-test-v1"),
        ("6.18-a/frozen", 0x117B000, "luo-v1"),
    ],
)
def test_real_pages(dump: Callable[[str], Memory], case: str, address: int, want: str) -> None:
    blob = decode(dump(case).read(address, 4096))
    assert blob.candidates == (want,)
    if blob.devices is not None:
        assert len(blob.devices) == 8
        assert {device.name for device in blob.devices} >= {"0000:41:00.0", "0000:40:00.0", "0000:03:00.0"}


# -- by name ----------------------------------------------------------------------------------------------


@each_form
def test_by_name_gives_the_devices(name: str) -> None:
    form = FORMS[name]
    blob = decode(read(f"pci/{name}.bin"), name)
    assert (blob.layout, blob.candidates, blob.confidence) == (name, (name,), "chosen by name")
    assert blob.devices is not None
    if form.block:
        assert len(blob.devices) == 0
        assert any("not in this blob" in note and "0x1f1d29000" in note for note in blob.notes)
    else:
        want = [(dev.domain, dev.bdf) for dev in form.order(devices_of(form))]
        assert [(device.domain, device.bdf) for device in blob.devices] == want
        assert blob.notes == ()
    assert len(blob.buses) == (3 if form.bus else 0)


def test_every_other_golden_file_by_name() -> None:
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "luo-ser.bin": ("luo-v5", {"liveupdate_num": 1, "sessions_pa": 0x10ABC0000, "flbs_pa": 0x10ABD0000}),
        "kexec-metadata.bin": (
            "kexec-metadata-v1",
            {"version": 1, "previous_release": "7.1.13", "kexec_count": 1},
        ),
        "memfd-file.bin": ("luo-file", {"compatible": "memfd-v2", "data": 0x10D000000, "token": 0x1234}),
        "memfd-ser.bin": ("memfd-v2", {"pos": 0x10, "size": 0x3000, "seals": 0xF, "nr_folios": 3}),
        "memfd-folios.bin": ("memfd-folio", {"pfn": 0x1AC6F4, "flags": 3, "index": 0}),
        "pci-stub-page.bin": ("pci-lu-stub", {"dev_id": 0x0501}),
        "pci-version-2.bin": ("pci-version-2", {"version": 2, "nr_devices": 2, "devices": 0x1F1D29000}),
        "luo-flb-page.bin": ("luo-flb-v1", {"pgcnt": 1, "count": 1}),
        "luo-session-block.bin": ("kho-block-sessions", {"next": 0, "count": 1}),
        "kho-chunk-512.bin": ("kho-chunk", {}),
        "memfd-vmalloc-chunk.bin": ("kho-vmalloc-chunk", {}),
    }
    for name, (form, members) in wanted.items():
        fields = decode(read(name), form).fields
        assert {key: fields[key] for key in members} == members, name


def test_records_of_other_arrays() -> None:
    session = decode(read("luo-session-block.bin")).records
    assert session == ({"name": "vm0", "file_set_ser": {"files": 0x10ABC5000, "count": 1}},)
    flb = decode(read("luo-flb-page.bin"), "luo-flb-v1").records
    assert flb == ({"name": "pci", "data": 0x1F1D2A000, "count": 2},)
    block = decode(read("pci/pci-version-2.block.bin")).devices
    assert block is not None
    assert [(device.name, device.number("refcount")) for device in block] == [
        ("10000:00:04.0", 1),
        ("0000:00:00.0", 0),
        ("0000:41:00.0", 1),
        ("0000:40:00.0", 1),
    ]


def test_chunks_of_the_description() -> None:
    for name, entries in (
        ("kho-chunk-512.bin", [(0x1AC000000, 0x10A2B3200), (0x1F1000000, 0x10A2B3400)]),
        ("kho-chunk-page.bin", [(0x1A8000000, 0x10A2B3000), (0x1F0000000, 0x10A2B4000)]),
    ):
        fields = decode(read(name), "kho-chunk").fields
        assert fields["hdr"] == {"next": 0, "order": 0, "num_elms": 2}
        assert [(entry["phys_start"], entry["bitmap"]) for entry in fields["bitmaps"][:2]] == entries


def test_the_folio_of_the_log() -> None:
    """LUO PCI v2: an endpoint with the stub driver, and its bridge."""
    blob = decode(CATALOGUE["pci-folio.bin"])
    assert blob.size == 168 and blob.fields == {"count": 2} and blob.notes == ()
    assert blob.devices is not None
    assert [(device.name, dict(device.fields)) for device in blob.devices] == [
        ("0000:05:00.1", {"path": 0x501, "flags": 1, "driver_name": "pci-lu-stub", "driver_data": 0x1AC6F4000}),
        ("0000:04:01.0", {"path": 0x408, "flags": 2, "driver_name": "pcieport", "driver_data": 0}),
    ]


def test_the_luo_tree_of_the_log_leads_to_the_folio() -> None:
    blob = decode(CATALOGUE["pci-luo.dtb"])
    assert blob.fdt is not None
    node = blob.fdt.root.node("subsystems")
    assert node is not None and node.u64("pci") == 0x1F1D28000


@pytest.mark.parametrize("entry", [entry.name for entry in layouts()])
def test_every_layout_reads_zeros_or_says_why_not(entry: str) -> None:
    known = layout(entry)
    assert known is not None
    if known.kind == "fdt":
        with pytest.raises(FormatError):
            decode(bytes(65536), entry)
        return
    blob = decode(bytes(65536), entry)
    assert blob.layout == entry and blob.size >= known.schemas[0].size
    with pytest.raises(FormatError, match=entry):
        decode(bytes(known.schemas[0].size - 1) or b"", entry)


# -- what is not whole ------------------------------------------------------------------------------------


def test_nothing_and_unknown_names_are_errors() -> None:
    with pytest.raises(FormatError, match="empty"):
        decode(b"")
    with pytest.raises(UsageError, match="no-such"):
        decode(b"x", "no-such")
    with pytest.raises(UsageError, match="no known layout fits"):
        decode(b"\xff" * 64)
    with pytest.raises(UsageError, match="--hex"):
        decode(b"02 00 00 00 00 00 00 00 01 05 00 00 01 00 00 00\n")


@pytest.mark.parametrize("name", [name for name in FORMS if name not in BLOCK_FORMS])
def test_a_list_cut_short_says_so(name: str) -> None:
    data = read(f"pci/{name}.bin")
    known = layout(name)
    assert known is not None
    cut = data[: known.schemas[0].size + known.schemas[1].size]
    blob = decode(cut, name)
    assert blob.devices is not None and len(blob.devices) == 1
    assert any("of records are missing" in note for note in blob.notes)
    assert name not in [found for found, _ in candidates(cut)]


@each_form
def test_bytes_behind_a_list_are_a_note(name: str) -> None:
    blob = decode(read(f"pci/{name}.bin") + b"\0\0\xa5", name)
    assert any("after the list" in note for note in blob.notes)


def test_a_note_names_the_closest_layout() -> None:
    with pytest.raises(UsageError, match="closest is pci-lu-v2-06: bytes after the list"):
        decode(CATALOGUE["pci-folio.bin"] + b"\xa5")


def test_a_list_without_devices_is_named_as_such() -> None:
    found = dict(candidates(bytes(4096)))
    assert found["pci-lu-v2-06"] == "an empty list"
    assert "several layouts fit" in decode(bytes(8)).confidence or "all zeros" in decode(bytes(8)).confidence


def test_no_candidate_of_several_is_the_only_one() -> None:
    """Requested endpoints only: flags 1 and requested 1 are the same bytes."""
    found = candidates(FORMS["pci-lu-v2-03"].blob([golden.Dev(domain=0, bdf=0x4100, data=0x1A96000)]))
    assert {name for name, _ in found} == {"pci-lu-v2-03", "pci-lu-v1-04"}
    assert not any("the only" in why for _, why in found)


@pytest.mark.parametrize("name", ["kho-block-sessions", "kho-block-pci", "luo-flb-v1", "luo-session-v2"])
def test_a_count_of_all_ones_costs_nothing(name: str) -> None:
    known = layout(name)
    assert known is not None
    head = bytearray(known.schemas[0].size)
    place = known.schemas[0].offset(known.count)
    head[place : place + 8] = b"\xff" * 8
    blob = decode(bytes(head) + bytes(4096), name)
    assert len(blob.records) + len(blob.devices or ()) <= 4096 // known.schemas[1].size
    assert any("records as in the header" in note for note in blob.notes)


@each_form
def test_a_pci_count_of_all_ones_is_a_note(name: str) -> None:
    data = bytearray(read(f"pci/{name}.bin"))
    known = layout(name)
    assert known is not None
    data[: known.schemas[0].size] = b"\xff" * known.schemas[0].size
    blob = decode(bytes(data), name)
    assert blob.notes
    assert blob.devices is not None and len(blob.devices) * known.schemas[1].size <= len(data)
    assert name not in [found for found, _ in candidates(bytes(data))]


def test_a_devicetree_cut_short_shows_what_is_there() -> None:
    blob = decode(CATALOGUE["kho-v4-root.dtb"][:200], "kho-v4")
    assert blob.fdt is not None and blob.notes
    with pytest.raises(FormatError):
        decode(CATALOGUE["kho-v4-root.dtb"][:39], "kho-v4")


# -- random -----------------------------------------------------------------------------------------------


@each_form
@settings(max_examples=10)
@given(data=st.data())
def test_random_lists_are_named(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    devices = data.draw(device_lists(form))
    blob = form.blob(
        devices, data.draw(buses()) if form.bus else (), capacity=len(devices), first=data.draw(FIRST_BLOCKS)
    )
    found = decode(blob)
    assert name in found.candidates
    if found.layout == name and found.devices is not None and not form.block:
        assert [device.bdf for device in found.devices] == [dev.bdf for dev in form.order(devices)]


def harmless(data: bytes, name: str | None = None) -> None:
    try:
        blob = decode(data, name)
    except LuoserError as error:
        assert str(error).isprintable()
    else:
        assert blob.layout in blob.candidates


@settings(max_examples=300)
@given(data=st.binary(max_size=400))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    harmless(data)


@settings(max_examples=150)
@given(
    name=st.sampled_from([None, *(entry.name for entry in layouts())]),
    file=st.sampled_from(GOLDEN_FILES),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 5000),
)
def test_changed_and_cut_goldens_raise_nothing_else(
    name: str | None, file: str, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(golden.files()[file])
    for place, value in changes:
        data[place % len(data)] = value
    harmless(bytes(data[:end]), name)


@settings(max_examples=100)
@given(
    words=st.lists(st.sampled_from([1, 2, 3, 4, 9, 0xD00DFEED, 17, 16, 40, 56, 0xFFFFFFFF, 0, 64]), max_size=40),
    name=st.sampled_from([None, "kho-v4", "luo-v1"]),
)
def test_things_like_devicetrees_raise_nothing_else(words: list[int], name: str | None) -> None:
    harmless(b"".join(struct.pack(">I", word) for word in (0xD00DFEED, *words)), name)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (struct.pack("<QI", 7, 1), "eventfd-v1"),
        (struct.pack("<QI", 7, 0x800), "eventfd-v1"),
        (struct.pack("<Q", 1), "kvm-vm-v1-type"),
    ],
)
@pytest.mark.parametrize("size", [4096, 8192])
def test_a_record_of_a_few_bytes_in_a_page_is_not_said_to_be_a_device_list(data: bytes, name: str, size: int) -> None:
    blob = decode(data.ljust(size, b"\0"))
    assert name in blob.candidates and "it may be a record of another kind" in blob.confidence


def test_eight_bytes_can_be_the_type_of_a_machine() -> None:
    blob = decode(struct.pack("<Q", 1))
    assert "kvm-vm-v1-type" in blob.candidates and "another kind" in blob.confidence


def vmalloc(size: int, page: int) -> bytes:
    return struct.pack("<QIHH", 0x1234000 & -65536, -(-size // page), 1, 0)


@pytest.mark.parametrize("page", [4096, 16384, 65536])
@pytest.mark.parametrize(
    ("name", "head", "size"),
    [
        ("hwpoison", struct.pack("<IIQ", 1, 0, 8000), 64000),
        ("memfd-v2", struct.pack("<QQIIQ", 0, 1000 << 12, 0, 0, 1000), 16000),
    ],
)
def test_arrays_of_kernels_with_larger_pages(page: int, name: str, head: bytes, size: int) -> None:
    blob = decode((head + vmalloc(size, page)).ljust(page, b"\0"))
    assert blob.layout == blob.candidates[0] == name


def test_a_guest_memfd_is_not_taken_for_a_memfd() -> None:
    data = struct.pack("<QQQQ", 6 << 20, 1, 3, 5) + vmalloc(48, 4096)
    assert decode(data.ljust(4096, b"\0")).candidates[0] == "guest-memfd-v1"


def test_a_number_and_an_address_can_be_a_machine_with_its_state() -> None:
    blob = decode(struct.pack("<QQ", 1, 0x123000))
    assert "kvm-vm-arch" in blob.candidates and "another kind" in blob.confidence
