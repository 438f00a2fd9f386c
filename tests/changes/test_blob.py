# SPDX-License-Identifier: MIT
"""Two bare blobs: layouts, members, records and devices."""

from __future__ import annotations

from typing import Any

import pytest

from luoser.changes import Kind, blob_changes
from luoser.fdt import Fdt, Node, flatten, parse, sequential
from luoser.state import Blob
from tests.checks.device_lists import a_list
from tests.golden import Dev


def blob(**members: Any) -> Blob:
    return Blob(**{"layout": "x", "candidates": (), "confidence": "", "size": 8, **members})


def told(before: Blob, after: Blob) -> list[tuple[str, Kind, str | None, str | None]]:
    return [(change.where, change.kind, change.before, change.after) for change in blob_changes(before, after)]


def test_equal_blobs() -> None:
    assert told(blob(fields={"a": 1}), blob(fields={"a": 1}, size=16)) == []


def test_layouts() -> None:
    assert told(blob(), blob(layout="y")) == [("layout", Kind.CHANGED, "x", "y")]


@pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 1), ("a", "b"), ("b", "a")])
def test_members(low: Any, high: Any) -> None:
    ((where, kind, _, _),) = told(blob(fields={"a": low, "b": 5}), blob(fields={"a": high, "b": 5}))
    assert (where, kind) == ("fields/a", Kind.CHANGED)


def test_members_that_only_one_has_and_nested_ones() -> None:
    one, other = blob(fields={"a": {"b": 1, "c": 2}}), blob(fields={"a": {"b": 1, "c": 3}, "d": "text"})
    assert told(one, other) == [
        ("fields/a/c", Kind.CHANGED, "0x2", "0x3"),
        ("fields/d", Kind.CHANGED, None, "text"),
    ]


def test_a_mapping_in_place_of_a_value() -> None:
    one, other = blob(fields={"a": {"b": 1}}), blob(fields={"a": 2})
    assert told(one, other) == [("fields/a", Kind.CHANGED, "{'b': 1}", "0x2")]
    assert told(other, one) == [("fields/a", Kind.CHANGED, "0x2", "{'b': 1}")]


def test_records() -> None:
    one, other = blob(records=({"a": 1}, {"a": 2})), blob(records=({"a": 1}, {"a": 9}, {"a": 3, "b": 4}))
    assert told(one, other) == [
        ("records/1/a", Kind.CHANGED, "0x2", "0x9"),
        ("records/2", Kind.ADDED, None, "2"),
    ]
    assert told(other, one)[-1] == ("records/2", Kind.REMOVED, "2", None)


def test_the_head_of_a_device_list_follows_from_its_devices() -> None:
    one, both = (a_list("pci-lu-v2-03", [Dev(domain=0, bdf=place) for place in places]).devices
                 for places in ((0x4100,), (0x4100, 0x0500)))  # fmt: skip
    found = told(blob(devices=one, fields={"count": 1}), blob(devices=both, fields={"count": 2}))
    assert [(where, kind) for where, kind, _, _ in found] == [("0000:05:00.0", Kind.ADDED)]
    assert [where for where, *_ in told(blob(devices=one, fields={"a": 1}), blob(fields={"a": 2}))] == ["fields/a"]


def test_a_count_that_is_not_the_number_of_devices_is_a_change() -> None:
    devices = a_list("pci-lu-v2-03", [Dev(domain=0, bdf=0x4100)]).devices
    one, other = (blob(devices=devices, fields={"count": count}) for count in (1, 255))
    assert told(one, other) == [("fields/count", Kind.CHANGED, "0x1", "0xff")]


def test_a_member_of_the_head_that_is_no_count_is_compared_with_other_devices() -> None:
    one, both = (a_list("pci-v2-u64", [Dev(domain=0, bdf=place) for place in places]).devices
                 for places in ((0x4100,), (0x4100, 0x0500)))  # fmt: skip
    found = told(blob(devices=one, fields={"max_nr_devices": 1}), blob(devices=both, fields={"max_nr_devices": 2}))
    assert ("fields/max_nr_devices", Kind.CHANGED, "0x1", "0x2") in found


def test_buses_are_compared() -> None:
    whole = a_list("pci-lu-v1-22", [Dev(domain=0, bdf=place) for place in (0x4100, 0x0500)])
    one, both = (blob(devices=whole.devices, buses=buses, fields={"bus_count": len(buses)})
                 for buses in (whole.buses[:1], whole.buses))  # fmt: skip
    assert [(where, kind) for where, kind, _, _ in told(one, both)] == [("bus/0000:05", Kind.ADDED)]


def tree(value: bytes) -> Fdt:
    return parse(flatten(sequential(Node(b"", [(b"a", value)]))))


def test_devicetrees() -> None:
    assert told(blob(fdt=tree(b"1")), blob(fdt=tree(b"1"))) == []
    assert [where for where, *_ in told(blob(fdt=tree(b"1")), blob(fdt=tree(b"2")))] == ["fdt"]
    assert told(blob(fdt=tree(b"1")), blob()) == []
