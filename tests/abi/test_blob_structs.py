# SPDX-License-Identifier: MIT
"""Where the structs of a blob lie."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.blob_structs import Part, parts
from luoser.abi.registry import Layout, layout, layouts
from luoser.errors import FormatError
from tests import golden

FILES = golden.files()


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


def places(name: str, data: bytes) -> list[tuple[int, str, str, int | None]]:
    return [(part.offset, part.schema.name, part.name, part.index) for part in parts(known(name), data)]


def test_a_list_is_its_head_and_its_records() -> None:
    assert places("pci-lu-v2-06", FILES["pci-folio.bin"]) == [
        (0, "pci_ser", "", None), (8, "pci_dev_ser", "devs", 0), (88, "pci_dev_ser", "devs", 1),
    ]  # fmt: skip


def test_buses_follow_the_devices_without_a_gap() -> None:
    found = places("pci-lu-v1-19", FILES["pci/pci-lu-v1-19.bin"])
    assert found[3:] == [
        (8 + 2 * 89, "pci_dev_ser", "devs", 2),
        (8 + 3 * 89, "pci_bus_ser", "buses", 0),
        (8 + 3 * 89 + 4, "pci_bus_ser", "buses", 1),
        (8 + 3 * 89 + 8, "pci_bus_ser", "buses", 2),
    ]


def test_slots_behind_a_hole_count() -> None:
    hole = struct.pack("<II", 4, 2) + struct.pack("<IHH", 0, 0x501, 1) + bytes(8) + struct.pack("<IHH", 0, 0x408, 1)
    assert [index for *_, index in places("pci-v2-u32", hole.ljust(8 + 4 * 8, b"\0"))] == [None, 0, 1, 2]


def test_what_lies_behind_the_slots_does_not_count() -> None:
    data = struct.pack("<II", 1, 1) + struct.pack("<IHH", 0, 0x501, 1) + b"\xff" * 16
    assert len(places("pci-v2-u32", data)) == 2


def test_records_in_blocks_lie_elsewhere() -> None:
    assert places("pci-version-2", FILES["pci-version-2.bin"].ljust(4096, b"\xff")) == [(0, "pci_ser", "", None)]


@pytest.mark.parametrize(
    ("name", "file", "entry"),
    [
        ("kho-block-pci", "pci-version-2.block.bin", "pci_dev_ser"),
        ("kho-block-sessions", "luo-session-block.bin", "luo_session_ser"),
        ("luo-flb-v1", "luo-flb-page.bin", "luo_flb_ser"),
    ],
)
def test_a_block_page_has_counted_entries(name: str, file: str, entry: str) -> None:
    (count,) = struct.unpack_from("<Q", FILES[file], 8)
    head, *rest = places(name, FILES[file])
    assert head[0] == 0
    assert [(found, *more) for _, found, *more in rest] == [(entry, "entries", index) for index in range(count)]


def test_a_block_without_a_kind_is_its_head() -> None:
    assert len(places("kho-block", FILES["luo-session-block.bin"])) == 1


def test_bare_arrays_have_no_head() -> None:
    assert places("memfd-folio", FILES["memfd-folios.bin"]) == [
        (16 * index, "memfd_luo_folio_ser", "entries", index) for index in range(3)
    ]
    padded = FILES["memfd-file.bin"] * 2 + bytes(8192 - 128)
    assert places("luo-file", padded) == [(64 * index, "luo_file_ser", "entries", index) for index in range(2)]
    assert len(places("kho-scratch", bytes(64))) == 1


def test_setup_data_holds_the_record_of_kho() -> None:
    node = struct.pack("<QII", 0, 10, 32) + bytes(32)
    assert places("setup-data", node) == [(0, "setup_data", "", None), (16, "kho_data", "data", None)]
    assert len(places("setup-data", struct.pack("<QII", 0, 9, 32) + bytes(32))) == 1
    assert len(places("setup-data", node[:-1])) == 1


def test_a_devicetree_is_its_header_and_the_reserve_map() -> None:
    assert places("kho-v4", FILES["kho-v4-root.dtb"]) == [
        (0, "fdt_header", "", None), (40, "fdt_reserve_entry", "rsvmap", 0),
    ]  # fmt: skip


def test_a_devicetree_starts_with_its_magic() -> None:
    with pytest.raises(FormatError, match="expected magic 0xd00dfeed, found 0x00000000"):
        parts(known("kho-v4"), bytes(64))


@pytest.mark.parametrize("entry", layouts(), ids=[entry.name for entry in layouts()])
def test_a_head_that_does_not_fit_is_an_error(entry: Layout) -> None:
    size = entry.schemas[0].size if entry.schemas else 40
    with pytest.raises(FormatError, match=f"{entry.name}: .* expected {size} bytes, found {size - 1}"):
        parts(entry, bytes(size - 1))


@pytest.mark.parametrize("entry", layouts(), ids=[entry.name for entry in layouts()])
@settings(max_examples=12)
@given(noise=st.binary(max_size=64), fill=st.sampled_from([b"\0", b"\x01", b"\xff"]))
def test_parts_ascend_within_the_blob(entry: Layout, noise: bytes, fill: bytes) -> None:
    start = noise if entry.kind != "fdt" else b"\xd0\x0d\xfe\xed" + noise
    size = entry.schemas[0].size if entry.schemas else 40
    data = start.ljust(size + 200, fill)
    end = 0
    for part in parts(entry, data):
        assert isinstance(part, Part) and part.offset >= end
        end = part.end
    assert 0 < end <= len(data)
