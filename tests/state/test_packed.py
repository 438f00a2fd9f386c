# SPDX-License-Identifier: MIT
"""Lists over packed bytes behave like lists of the items that are in them."""

from __future__ import annotations

import copy
import pickle
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.abi.pci import layout
from luoser.reader.pci_layout import read_pci
from luoser.state import Column, Device, DeviceList, Folio, FolioList, row_fields
from luoser.state.columns import columns
from tests.golden import FORMS, GOLDEN
from tests.real import REAL

PATHS = (Column("path"), Column("flags"), Column("driver_data", "hex"))
RECORD = struct.Struct("<IIQ")
rows = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), max_size=20)
slices = st.builds(slice, *[st.none() | st.integers(-25, 25)] * 2, st.none() | st.integers(-3, 3).filter(bool))


def devices(values: Sequence[tuple[int, int, int]]) -> DeviceList:
    return DeviceList(RECORD, PATHS, b"".join(RECORD.pack(*row) for row in values))


def behaves_like_a_list(got: Sequence[Any], want: list[Any], part: slice) -> None:
    assert len(got) == len(want)
    assert list(got) == want
    assert got[part] == want[part]
    assert [got[i] for i in range(-len(want), len(want))] == want + want
    assert list(reversed(got)) == want[::-1]
    for index in (len(want), -len(want) - 1):
        with pytest.raises(IndexError):
            got[index]


@given(rows, slices)
def test_devices_by_path(values: list[tuple[int, int, int]], part: slice) -> None:
    want = [
        Device(index, path >> 16, path & 0xFFFF, {"path": path, "flags": flags, "driver_data": data})
        for index, (path, flags, data) in enumerate(values)
    ]
    found = devices(values)
    behaves_like_a_list(found, want, part)
    assert list(found.rows()) == values
    assert found == devices(values)
    assert found.data == b"".join(RECORD.pack(*row) for row in values)
    assert (found == devices([*values, (0, 0, 0)])) is False
    assert found != list(want)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)), max_size=9))
def test_devices_by_domain_and_bdf(values: list[tuple[int, int, int]]) -> None:
    made = b"".join(struct.pack("<IHH", *row) for row in values)
    found = DeviceList(struct.Struct("<IHH"), (Column("domain"), Column("bdf"), Column("refcount")), made)
    assert [(device.domain, device.bdf, device.fields) for device in found] == [
        (domain, bdf, {"refcount": refcount}) for domain, bdf, refcount in values
    ]


def test_paths_of_devices_are_without_holes() -> None:
    data = b"".join(RECORD.pack(*row) for row in ((3, 1, 0), (0, 0, 0), (2, 0, 0)))
    for has_holes, want in ((True, [3, 2]), (False, [3, 0, 2])):
        assert [*DeviceList(RECORD, PATHS, data, holes=has_holes).used_paths()] == want


def test_names_and_numbers_of_a_device() -> None:
    device = devices([(0x4100, 1, 0x1A96000)])[0]
    assert device.name == "0000:41:00.0"
    assert device.number("flags") == 1
    assert device.number("driver_name") is None


def test_a_part_of_a_record_is_refused() -> None:
    with pytest.raises(ValueError, match="17 bytes"):
        DeviceList(RECORD, PATHS, bytes(17))


def test_lists_cannot_be_hashed() -> None:
    for found in (devices([]), FolioList(b"", page_size=4096)):
        with pytest.raises(TypeError):
            hash(found)


def test_every_kind_of_column() -> None:
    inner = (Column("start", "hex"), Column("name", "text"))
    kinds = (
        Column("bits", "bits", bits=(("low", 0, 1), ("middle", 1, 3), ("high", 8, 1))),
        Column("name", "text"),
        Column("number"),
        Column("parts", "records", record=struct.Struct("<Q4s"), columns=inner),
    )
    row = (0b1_0000_1011, b"ab\xff\0zz", 7, struct.pack("<Q4sQ4s", 1, b"x", 2, b""))
    assert row_fields(kinds, row) == {
        "low": 1,
        "middle": 5,
        "high": 1,
        "name": "ab\udcff",
        "number": 7,
        "parts": ({"start": 1, "name": "x"}, {"start": 2, "name": ""}),
    }


@pytest.mark.parametrize("name", FORMS)
def test_columns_name_what_a_record_unpacks_to(name: str) -> None:
    known = layout(name)
    assert known is not None
    made = columns(known.record)
    row = known.record.record.unpack(bytes(known.record.size))
    assert len(made) == len(row)
    members = {field.name for field in known.record.fields if not field.padding and "." not in field.name}
    assert set(row_fields(made, row)) == members
    blob = read_pci(known, (GOLDEN / "pci" / f"{name}.bin").read_bytes())
    assert blob is not None
    assert [device.index for device in blob.devices] == list(range(len(blob.devices)))


@given(st.lists(st.tuples(st.integers(0, 2**52 - 1), st.integers(0, 2**12 - 1), st.integers(0, 2**64 - 1)), max_size=9),
       slices, st.sampled_from([4096, 16384, 65536]))  # fmt: skip
def test_folios_of_both_forms(values: list[tuple[int, int, int]], part: slice, page_size: int) -> None:
    want = [Folio(index, frame * page_size, flags) for frame, flags, index in values]
    merged = b"".join(struct.pack("<QQ", frame | flags << 52, index) for frame, flags, index in values)
    older = b"".join(struct.pack("<QQ", frame << 12 | flags, index) for frame, flags, index in values)
    behaves_like_a_list(FolioList(merged, page_size=page_size), want, part)
    behaves_like_a_list(FolioList(older, page_size=page_size, frame_shift=12), want, part)
    assert FolioList(merged, page_size=page_size) == FolioList(merged + b"tail", page_size=page_size)
    assert (FolioList(merged, page_size=page_size) == FolioList(older, page_size=page_size, frame_shift=12)) is False


def test_the_folio_of_the_description() -> None:
    merged = bytes.fromhex("f4 c6 1a 00 00 00 30 00 05 00 00 00 00 00 00 00")
    older = bytes.fromhex("03 40 6f ac 01 00 00 00 05 00 00 00 00 00 00 00")
    want = Folio(5, 0x1AC6F4000, 3)
    assert FolioList(merged, page_size=4096)[0] == want
    assert FolioList(older, page_size=4096, frame_shift=12)[0] == want


def test_a_state_can_be_pickled_and_copied() -> None:
    state = luoser.load(REAL / "7.3-a" / "frozen.elf.xz", contents=True)
    assert list(state.handovers[0].pci[0].devices)
    assert pickle.loads(pickle.dumps(state)) == state
    assert copy.deepcopy(state) == state
