# SPDX-License-Identifier: MIT
"""Whole handovers: what the next kernel is told, several in one image, plain users of KHO."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import luoser
from luoser.errors import UsageError
from luoser.fdt import parse
from luoser.state import Direction, to_document
from luoser.state.from_json import from_document
from luoser.writer import write
from tests.golden import CATALOGUE
from tests.writer.helpers import SCRATCH, built, compared, differences, there_and_back

Json = dict[str, Any]


def test_a_chain_of_two_live_updates() -> None:
    """What was handed to the running kernel, with its scratch areas, which are those of what it hands on as well."""
    first = {"direction": "incoming", "scratch": SCRATCH, "luo": {"liveupdate_number": 1}}
    second = {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}}
    state, image, again = there_and_back(first, second)
    assert image.lacks == []
    assert [entry.direction for entry in again.handovers] == [Direction.INCOMING, Direction.OUTGOING]
    said, read = compared(to_document(state, full=True)), compared(to_document(again, full=True))
    assert said["handovers"][1]["scratch"] is None
    said["handovers"][1]["scratch"] = said["handovers"][0]["scratch"]
    assert not list(differences(said, read))
    assert again.problems == ()


def test_two_handovers_take_no_page_twice() -> None:
    luo = {"sessions": [{"name": "a", "files": [{"memfd": {"size": "64K"}}]}]}
    state, _, again = there_and_back({"luo": {**luo, "liveupdate_number": 1}}, {"luo": {**luo, "liveupdate_number": 2}})
    assert len(again.handovers) == 2
    maps = [entry.preserved.map for entry in state.handovers]
    spans = []
    for found in maps:
        assert found is not None
        spans += [(start, start + (count * 4096 << order)) for start, order, count in found.extents()]
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(spans)))


def test_golden_root() -> None:
    """The kho-v4 root of the ABI description: 221 bytes, as libfdt packs it."""
    root = {
        "address": "0x5000",
        "luo": {"address": "0x105678000"},
        "kexec_metadata": False,
        "preserved": {"address": "0x101234000"},
    }
    _, image, _ = there_and_back(root)
    ours = image.read(0x5000, 221)
    assert int.from_bytes(ours[4:8], "big") == 221
    golden = CATALOGUE["kho-v4-root.dtb"]
    one, other = parse(ours).root, parse(golden).root  # the description's child has its properties the other way round
    assert one.properties == other.properties
    assert [(node.name, sorted(node.properties)) for node in one.nodes] == [
        (node.name, sorted(node.properties)) for node in other.nodes
    ]


@pytest.mark.parametrize(("kernel", "width"), [("6.16", 512), ("6.17.8", 512), ("6.17.9", 4096), ("6.18", 4096)])
def test_the_width_of_bitmaps_by_release(kernel: str, width: int) -> None:
    state, _, _ = there_and_back({"memblock": {"reservations": [{"name": "a", "size": "1M"}]}}, kernel=kernel)
    assert state.handovers[0].preserved.bitmap_size == width


def test_a_root_without_a_map() -> None:
    """6.19 before it finalizes: the pointer is there and zero."""
    state, _, again = there_and_back({"preserved": {"status": "absent"}}, kernel="6.19")
    assert again.handovers[0].preserved == state.handovers[0].preserved
    assert again.handovers[0].direction is Direction.OUTGOING


def test_two_things_at_one_place_are_refused() -> None:
    with pytest.raises(UsageError, match=r"at 0x5000000 .*overlap|overlap"):
        there_and_back({"address": "0x5000000", "luo": {"address": "0x5000000"}})


def test_what_is_no_handover_is_refused() -> None:
    for document, word in (
        ({}, "handovers: missing"),
        ({"handovers": []}, "handovers: missing"),
        ({"handovers": [{}] * 17}, "handovers: expected at most 16, found 17; --limit roots=N"),
        ({"handovers": [5]}, r"handovers\[0\]: expected an object"),
        ({"handovers": {}}, "handovers: expected a list"),
    ):
        with pytest.raises(UsageError, match=word):
            built(document)


_FILE = {"compatible": "mine-v1", "token": 1, "contents": [{"bytes": "61" * 12288}]}
UNKNOWN = {
    "luo": {
        "sessions": [{"name": "vm", "files": [_FILE]}],
        "flbs": [{"name": "mine", "contents": [{"bytes": "62" * 9000}]}],
    },
    "subtrees": [{"name": "mine", "contents": [{"bytes": "63" * 12288}]}],
}
"""Bytes of three kinds that nobody knows, each of three pages."""


def test_raw_bytes_lie_in_one_folio_each() -> None:
    _, image = built({"handovers": [UNKNOWN]})
    (handover,) = luoser.read(image.memory(), contents=True).handovers
    assert handover.luo is not None and handover.preserved.map is not None
    file, flb = handover.luo.sessions[0].files[0], handover.luo.flbs[0]
    (tree,) = (one for one in handover.subtrees if one.name == "mine")
    assert [len(one.contents[0].data) for one in (file, flb, tree)] == [12288, 9000, 12288]
    assert tree.size == 12288
    for address in (file.data, flb.data, tree.address or 0):
        block = handover.preserved.map.find(address)
        assert block is not None and (block.address, block.order) == (address, 2)
    assert image.lacks == []


def test_bytes_that_the_state_has_only_in_part_are_said_to_be_left_out() -> None:
    _, image = built({"handovers": [UNKNOWN]})
    document = to_document(luoser.read(image.memory(), contents=True), full=True)
    (handover,) = document["handovers"]
    trees = [one for one in handover["subtrees"] if one["name"] == "mine"]
    for one in (handover["luo"]["sessions"][0]["files"][0], handover["luo"]["flbs"][0], *trees):
        one["contents"][0] |= {"size": "0x1000", "bytes": "61"}
    lacks = write(from_document(document)).lacks
    assert [word.split(":")[0] for word in lacks] == ["sub-tree mine", "FLB mine", "file 0x1"]
    assert lacks[0].endswith("the first 0x1000 of 0x3000 bytes are in the state; the rest is left out")
    assert lacks[2].endswith("the first 0x1000 of 0x4000 bytes are in the state; the rest is left out")
