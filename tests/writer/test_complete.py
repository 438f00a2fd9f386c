# SPDX-License-Identifier: MIT
"""What is left out of a description is what the kernel of a release writes; what cannot be is named by its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from luoser.abi import release
from luoser.errors import UsageError
from luoser.state import to_document
from luoser.writer.complete import complete
from tests import real
from tests.schemas import errors
from tests.writer.helpers import built, full_document, reread

Json = dict[str, Any]


def filled(handover: Json, kernel: str = "7.3", **document: Any) -> Json:
    made = complete({**document, "handovers": [handover]}, kernel=kernel)
    found: Json = made["handovers"][0]
    return found


@pytest.mark.parametrize("name", real.DUMPS)
def test_a_full_document_stays_as_it_is(name: str) -> None:
    document = full_document(real.dump(name))
    before = copy.deepcopy(document)
    assert complete(document) == before == document


RELEASES = {  # string, LUO's form, names of the sub-trees, memfd
    "6.16": ("kho-v1", None, [], None),
    "6.17": ("kho-v1", None, [], None),
    "6.18": ("kho-v1", None, [], None),
    "6.19": ("kho-v1", "luo-v1", ["LUO"], "memfd-v1"),
    "7.0": ("kho-v1", "luo-v1-flb", ["LUO"], "memfd-v1"),
    "7.1": ("kho-v3", "luo-v1-flb", ["LUO", "kexec-metadata"], "memfd-v2"),
    "7.2": ("kho-v4", "luo-v5", ["LUO", "kexec-metadata"], "memfd-v2"),
    "7.3": ("kho-v4", "luo-v5", ["LUO", "kexec-metadata"], "memfd-v2"),
}


@pytest.mark.parametrize("kernel", release.RELEASES)
def test_the_forms_of_a_release(kernel: str) -> None:
    compatible, luo, subtrees, memfd = RELEASES[kernel]
    handover = filled({}, kernel)
    assert handover["compatible"] == compatible
    assert (handover["luo"] and handover["luo"]["layout"]) == luo
    assert [subtree["name"] for subtree in handover["subtrees"]] == subtrees
    assert handover["preserved"]["form"] == ("chunks" if compatible == "kho-v1" else "radix")
    if memfd is not None:
        session = {"name": "a", "files": [{}]}
        handover = filled({"luo": {"sessions": [session]}}, kernel)
        assert handover["luo"]["sessions"][0]["files"][0]["compatible"] == memfd


@pytest.mark.parametrize("kernel", release.RELEASES)
def test_the_least_that_can_be_said_makes_a_handover(kernel: str) -> None:
    state, image = built({"handovers": [{}]}, kernel=kernel)
    again = reread(image)
    assert image.lacks == [] and [problem.code for problem in again.problems] in ([], ["map-width"])
    assert len(again.handovers) == 1
    assert errors(to_document(state, full=True)) == []


@pytest.mark.parametrize("kernel", ["7.3.4", "7.3-rc1", "7.3.4-200.fc45.x86_64", "7.3"])
def test_releases_are_taken_as_uname_gives_them(kernel: str) -> None:
    release = filled({}, kernel)["kexec_metadata"]["previous_release"]
    assert release == (kernel if kernel.count(".") > 1 else f"{kernel}.0")


@pytest.mark.parametrize("kernel", ["7.4", "6.15", "7", "", "next", "7.33", "\x1b[1m"])
def test_releases_that_nobody_knows_are_refused(kernel: str) -> None:
    with pytest.raises(UsageError, match=r"expected one of 6\.16, 6\.17") as caught:
        filled({}, kernel)
    assert str(caught.value).isprintable()


def test_a_root_of_another_version_takes_the_forms_of_its_release() -> None:
    assert filled({"compatible": "kho-v1"})["kexec_metadata"] is None
    assert filled({"compatible": "kho-v3"})["luo"]["layout"] == "luo-v1-flb"
    assert filled({"compatible": "kho-v2"})["subtrees"][0]["size"] is not None  # a devicetree, which says it itself


@pytest.mark.parametrize("nothing", [None, False])
@pytest.mark.parametrize("part", ["luo", "kexec_metadata", "memblock", "kho_test"])
def test_false_and_null_say_that_there_is_none(part: str, nothing: Any) -> None:
    handover = filled({part: nothing})
    assert handover[part] is None
    assert part not in [subtree["name"].replace("-", "_").lower() for subtree in handover["subtrees"]]


def test_an_empty_object_says_that_there_is_one() -> None:
    assert filled({"luo": {}}, "6.18")["luo"]["layout"] == "luo-v1-subsystems"
    assert filled({"memblock": {}})["subtrees"][0]["name"] == "memblock"


WAYS = [
    ({}, "7.3", ["flb:pci"], "luo-v5"),
    ({}, "6.18", ["subsystem:pci"], "luo-v1-subsystems"),
    ({"luo": False}, "7.3", ["subtree:pci"], None),
    ({"luo": {"layout": "luo-v1-subsystems"}}, "7.3", ["subsystem:pci"], "luo-v1-subsystems"),
]


@pytest.mark.parametrize(("more", "kernel", "via", "layout"), WAYS)
def test_a_device_list_is_reached_as_its_series_has_it(more: Json, kernel: str, via: list[str], layout: Any) -> None:
    devices = [{"bdf": "0000:41:00.0", "flags": 1, "driver_name": "nvme"}]
    handover = {**more, "pci": [{"layout": "pci-lu-v2-06", "devices": devices}]}
    state, image = built({"handovers": [handover]}, kernel=kernel)
    again = reread(image).handovers[0]
    assert list(again.pci[0].via) == via == list(state.handovers[0].pci[0].via)
    assert (again.luo and again.luo.layout) == layout
    assert [device.name for device in again.pci[0].devices] == ["0000:41:00.0"]


def test_one_list_by_two_ways_is_one_list() -> None:
    entry = {
        "layout": "pci-lu-v2-03",
        "via": ["flb:pci", "subtree:pci-lab"],
        "devices": [{"bdf": "0:01:00.0", "flags": 1}],
    }
    _, image = built({"handovers": [{"pci": [entry]}]})
    (found,) = reread(image).handovers[0].pci
    assert sorted(found.via) == ["flb:pci", "subtree:pci-lab"]


def test_only_addresses_of_pages_are_preserved() -> None:
    devices = [
        {"bdf": "0:01:00.0", "flags": 1, "driver_data": "0x40000000"},
        {"bdf": "0:02:00.0", "flags": 1, "driver_data": "0x41000008"},
        {"bdf": "0:03:00.0", "flags": 1, "driver_data": "0xfffffffffffff000"},
    ]
    state, _ = built({"handovers": [{"pci": [{"layout": "pci-lu-v2-03", "devices": devices}]}]})
    found = state.handovers[0].preserved.map
    assert found is not None
    assert found.find(0x40000000) is not None and found.find(0x41000000) is None


def test_the_root_and_all_sub_trees_are_preserved() -> None:
    handover = {"memblock": {"reservations": [{"name": "a", "size": 1}]}, "kho_test": {"folios": [["0x40000000", 3]]}}
    state, _ = built({"handovers": [handover]})
    only = state.handovers[0]
    assert only.preserved.map is not None
    for address in [only.address, *(subtree.address for subtree in only.subtrees), 0x40000000]:
        assert address is not None and only.preserved.map.find(address) is not None
    assert not [node for node in only.preserved.nodes if only.preserved.map.find(node)]


WRONG = [
    ({"adress": 1}, "handovers[0].adress: unknown name: expected one of address, compatible"),
    ({"luo": {"session": []}}, "handovers[0].luo.session: unknown name"),
    ({"luo": []}, "handovers[0].luo: expected an object, found a list"),
    ({"luo": True}, "handovers[0].luo: expected an object"),
    ({"luo": {"sessions": {}}}, "handovers[0].luo.sessions: expected a list, found an object"),
    ({"luo": {"sessions": [5]}}, "handovers[0].luo.sessions[0]: expected an object"),
    ({"luo": {"sessions": [{}]}}, "handovers[0].luo.sessions[0].name: missing; expected a text"),
    ({"address": "0x1234"}, "handovers[0].address: 0x1234 is not the address of a page of 4096 bytes"),
    ({"address": 0}, "handovers[0].address: 0x0 is not the address of a page"),
    ({"address": 1 << 52}, "handovers[0].address: 0x10000000000000 is not the address of a page"),
    ({"address": "high"}, "handovers[0].address: expected a number such as 0x617000 or 64M, found 'high'"),
    ({"luo": {"address": 5}}, "handovers[0].luo.address: 0x5 is not the address of a page"),
    ({"luo": {"sessions": [{"name": "a"}], "session_blocks": ["0x1001"]}}, "session_blocks[0]: 0x1001 is not the"),
    ({"preserved": {"nodes": ["0x1"], "address": "0x1"}}, "preserved.nodes[0]: 0x1 is not the address of a page"),
    ({"preserved": {"extents": [[0, 0]]}}, "preserved.extents[0]: expected a list of 3 numbers"),
    ({"preserved": {"extents": [[0, 0, 1 << 63]]}}, "extents[0]: impossible extent: 9223372036854775808 blocks"),
    ({"pci": [{}]}, "handovers[0].pci[0].layout: missing; expected a text"),
    ({"pci": [{"layout": "pci"}]}, "handovers[0].pci[0].layout: unknown device list layout 'pci'; `luoser abi list`"),
    ({"pci": [{"layout": "pci-v2-u32", "devices": [{"bdf": "1:2:3"}]}]}, "devices[0].bdf: expected a PCI address"),
    (
        {"pci": [{"layout": "pci-v2-u32", "devices": [{"bdf": "0:01:00.0"}, {"bdf": "0000:01:00.0"}]}]},
        "handovers[0].pci[0].devices[1].bdf: duplicate device 0000:01:00.0, also devices[0]",
    ),
    ({"memblock": {"reservations": [{"name": "a"}]}}, "memblock.reservations[0].size: missing; expected a number"),
    ({"memblock": {"reservations": [{"name": "a", "start": 1 << 52, "size": 1}]}}, "reservations[0].start: "),
    ({"kho_test": {}}, "handovers[0].kho_test.folios: missing; expected at least one"),
    ({"kho_test": {"folios": [["0x1000", 1]]}}, "kho_test.folios[0]: 0x1000 is not the address of a block of order 1"),
    ({"kho_test": {"folios": [["0x1000", 0]], "nr_folios": 2}}, "nr_folios: expected 1, the number of folios, found 2"),
    ({"kho_test": {"folios": [["0x1000", 0]], "checksum": 1 << 32}}, "kho_test.checksum: 0x100000000 does not fit 32"),
    ({"subtrees": [{"name": "x"}]}, "handovers[0].subtrees[0].address: missing; expected a number"),
    (
        {"subtrees": [{"name": f"x{number:050}", "contents": [{"bytes": "00"}]} for number in range(40)]},
        "handovers[0].subtrees: too many, or too long names: the root's devicetree has ",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("handover", "word"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_cannot_be_is_named_by_its_path(handover: Json, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        built({"handovers": [handover]})
    assert word in str(caught.value)


@pytest.mark.parametrize("page_size", [0, 1, 8192, "4G", -1])
def test_page_sizes_that_no_kernel_has_are_refused(page_size: Any) -> None:
    with pytest.raises(UsageError, match=r"source.page_size: .*(expected 4096, 16384 or 65536|does not fit 64 bits)"):
        filled({}, source={"page_size": page_size})


def test_numbers_may_have_units() -> None:
    handover = filled({"memblock": {"reservations": [{"name": "a", "size": "2M"}]}}, source={"page_size": "16K"})
    assert handover["memblock"]["reservations"][0]["size"] == "0x200000"
