# SPDX-License-Identifier: MIT
"""The structs of handlers other than memfd."""

from __future__ import annotations

import json
from typing import Any

import pytest

import luoser
from luoser.abi.registry import layouts
from luoser.checks import check
from luoser.errors import UsageError
from luoser.state import to_document
from luoser.state.from_json import from_document
from luoser.writer import write
from tests.posted import hypervisor, poisoned, users
from tests.writer.helpers import built, built_file, compared, differences, order_at, read_file, reread

HANDLERS = [
    entry
    for entry in layouts()
    if entry.subject in ("hugetlb", "guest", "iommu", "vfio", "other") and entry.handler and entry.kind == "struct"
]


@pytest.mark.parametrize("entry", HANDLERS, ids=lambda entry: entry.name)
def test_a_struct_of_a_handler_comes_back(entry: Any) -> None:
    numbers = {field.name: 1 for field in entry.schemas[0].fields if field.c_type == "u16" and "." not in field.name}
    fields = {"version": 1, **numbers} if entry.name == "iommu-liveupdate-1" else numbers
    detail = {"readings": [{"layout": entry.name, "fields": fields}]}
    _, state, image = built_file({"compatible": entry.handler, "detail": detail})
    read = reread(image, layouts=(entry.name,))
    said = compared(to_document(state, full=True))["handovers"][0]["luo"]["sessions"]
    found = compared(to_document(read, full=True))["handovers"][0]["luo"]["sessions"]
    del said[0]["files"][0]["detail"]["readings"]  # short: every member is in what was read
    readings = found[0]["files"][0]["detail"].pop("readings")
    assert not list(differences(said, found))
    assert [reading["layout"] for reading in readings] == [entry.name]
    assert {name: readings[0]["fields"][name] for name in fields} == fields


def test_the_first_of_several_readings_is_the_longest_and_holds_the_others() -> None:
    """A vfio record that several layouts fit: its bytes are those of the longest."""
    detail = {"readings": [{"layout": "vfio-pci-v1-domain32", "fields": {"domain": 0, "bdf": 0x4100}}]}
    _, _, image = built_file({"compatible": "vfio-pci-v1", "detail": detail})
    first = read_file(image).detail
    assert first is not None and len(first.readings) > 1
    names = [name for name, _ in first.readings]
    document = to_document(reread(image), full=True)
    _, second = built(document)
    found = read_file(second).detail
    assert found is not None and [name for name, _ in found.readings] == names
    assert second.read(first.address, 4096) == image.read(first.address, 4096)


def test_what_a_struct_leads_to_is_told() -> None:
    fields = {"nr_hwpts": 2}
    _, _, image = built_file(
        {"compatible": "iommufd-v1", "detail": {"readings": [{"layout": "iommufd-v1", "fields": fields}]}}
    )
    assert image.lacks == ["session a, file 0x0: no iommufd_hwpt_ser after iommufd_ser in the state; left out"]


def test_a_handler_that_nobody_knows_is_told() -> None:
    found, state, image = built_file({"compatible": "x-v1", "token": 7})
    assert image.lacks == [f"session a, file 0x7: no data of x-v1 for {found.data:#x} in the state; left out"]
    assert order_at(state, found.data) == 0
    handle, state, _ = built_file({"compatible": "x-v1", "data": "0x42"})
    assert handle.data == 0x42
    assert state.handovers[0].preserved.map is not None and state.handovers[0].preserved.map.find(0x42) is None


def test_structs_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown struct layout vfio-pci-v9"):
        built_file({"compatible": "x", "detail": {"readings": [{"layout": "vfio-pci-v9", "fields": {}}]}})
    with pytest.raises(UsageError, match="session a, file 0x0: unknown member bfd"):
        built_file({"compatible": "x", "detail": {"readings": [{"layout": "vfio-pci-v2", "fields": {"bfd": 1}}]}})
    with pytest.raises(UsageError, match="unknown memfd layout memfd-v9"):
        built_file({"memfd": {"layout": "memfd-v9"}})


@pytest.mark.parametrize("words", [3, 1024])
def test_a_struct_with_an_array_is_described_by_its_words(words: int) -> None:
    fields = {"version": 1, "_pad": 0, "count": words}
    array = {"member": "pfns", "words": [f"{0x400000 + word:#x}" for word in range(words)]}
    detail = {"readings": [{"layout": "hwpoison", "fields": fields}], "arrays": [array]}
    _, image = built({"handovers": [{"subtrees": [{"name": "hwpoison", "detail": detail}]}]})
    state = luoser.read(image.memory())
    (tree,) = (tree for tree in state.handovers[0].subtrees if tree.name == "hwpoison")
    assert tree.detail is not None and tree.detail.arrays[0].words == tuple(range(0x400000, 0x400000 + words))
    assert not check(state).findings


def test_sub_trees_of_posted_users_come_back() -> None:
    before = luoser.read(users().open(), contents=True)
    image = write(from_document(json.loads(json.dumps(to_document(before, full=True)))))
    (again,), (first,) = luoser.read(image.memory(), contents=True).handovers, before.handovers
    assert again.subtrees == first.subtrees and [tree.name for tree in first.subtrees][1:] == [
        "hwpoison", "mshv_prsv_pt", "pcsc", "pstore-kho",
    ]  # fmt: skip
    assert check(luoser.read(image.memory())).findings == check(luoser.read(users().open())).findings


def test_the_earlier_list_of_pages_with_errors_comes_back() -> None:
    before = luoser.read(poisoned(0x1000, 0x1001).open())
    image = write(from_document(json.loads(json.dumps(to_document(before, full=True)))))
    (again,), (first,) = luoser.read(image.memory()).handovers, before.handovers
    assert image.lacks == [] and again.subtrees == first.subtrees


@pytest.mark.parametrize("orders", [True, False])
def test_the_pages_of_a_hypervisor_come_back(orders: bool) -> None:
    before = hypervisor(orders=orders).read()
    image = write(from_document(json.loads(json.dumps(to_document(before, full=True)))))
    (again,), (first,) = luoser.read(image.memory()).handovers, before.handovers
    assert image.lacks == [] and again.subtrees == first.subtrees and first.subtrees[0].page_tree is not None


def test_page_frame_numbers_have_no_order() -> None:
    document = to_document(hypervisor(orders=True).read(), full=True)
    document["handovers"][0]["subtrees"][0]["page_tree"]["form"] = "frames"
    with pytest.raises(UsageError, match=r"page tree of sub-tree mshv_prsv_pt at 0x.*: expected pages of order 0"):
        write(from_document(json.loads(json.dumps(document))))
