# SPDX-License-Identifier: MIT
"""Whole handovers: what the next kernel is told, several in one image, plain users of KHO."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.fdt import parse
from luoser.state import Direction, State, to_document
from luoser.writer import Image
from tests.golden import CATALOGUE
from tests.writer.helpers import built, compared, differences, reread

Json = dict[str, Any]
SCRATCH = [{"address": "0x1000000", "size": "16M"}, {"address": "0x8000000", "size": "64M"}]


def both(*handovers: Json, kernel: str = "7.3") -> tuple[State, Image, State]:
    state, image = built({"handovers": list(handovers)}, kernel=kernel)
    return state, image, reread(image)


def test_a_chain_of_two_live_updates() -> None:
    """What was handed to the running kernel, with its scratch areas, which are those of what it hands on as well."""
    first = {"direction": "incoming", "scratch": SCRATCH, "luo": {"liveupdate_number": 1}}
    second = {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}}
    state, image, again = both(first, second)
    assert image.lacks == []
    assert [entry.direction for entry in again.handovers] == [Direction.INCOMING, Direction.OUTGOING]
    said, read = compared(to_document(state, full=True)), compared(to_document(again, full=True))
    assert said["handovers"][1]["scratch"] is None
    said["handovers"][1]["scratch"] = said["handovers"][0]["scratch"]
    assert not list(differences(said, read))
    assert again.problems == ()


def test_the_setup_data_node_of_an_incoming_root() -> None:
    first = {"direction": "incoming", "scratch": SCRATCH, "luo": {"liveupdate_number": 1}}
    state, image, _ = both(first, {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}})
    places = {what: start for start, _, what in image.pieces}
    array, node = places["scratch array"], places["setup_data"]
    assert image.read(array, 32) == struct.pack("<4Q", 0x1000000, 16 << 20, 0x8000000, 64 << 20)
    assert image.read(node, 16) == struct.pack("<QII", 0, 10, 32)
    assert image.read(node + 16, 32) == struct.pack("<4Q", state.handovers[0].address or 0, 4096, array, 32)
    assert min(array, node) >= 0x8000000 + (64 << 20)


def test_nothing_lies_in_scratch() -> None:
    areas = [{"address": "0x1000000", "size": "32M"}]
    first = {
        "direction": "incoming",
        "scratch": areas,
        "luo": {"sessions": [{"name": "a", "files": [{"memfd": {"size": "1M"}}]}]},
    }
    _, image, _ = both(first, {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}})
    assert not [address for address in image.pages if 0x1000000 <= address < 0x3000000]


def test_scratch_of_an_outgoing_root_is_told() -> None:
    _, image, again = both({"scratch": SCRATCH})
    assert len(image.lacks) == 1 and "only variables of the kernel name them" in image.lacks[0]
    assert again.handovers[0].scratch is None


def test_two_handovers_take_no_page_twice() -> None:
    luo = {"sessions": [{"name": "a", "files": [{"memfd": {"size": "64K"}}]}]}
    state, _, again = both({"luo": {**luo, "liveupdate_number": 1}}, {"luo": {**luo, "liveupdate_number": 2}})
    assert len(again.handovers) == 2
    maps = [entry.preserved.map for entry in state.handovers]
    spans = []
    for found in maps:
        assert found is not None
        spans += [(start, start + (count * 4096 << order)) for start, order, count in found.extents()]
    assert all(end <= start for (_, end), (start, _) in pairwise(sorted(spans)))


def test_golden_metadata() -> None:
    state, image, _ = both({"kexec_metadata": {"previous_release": "7.1.13", "kexec_count": 1}})
    metadata = state.handovers[0].kexec_metadata
    assert metadata is not None
    assert image.read(metadata.address, 73) == CATALOGUE["kexec-metadata.bin"]
    with pytest.raises(UsageError, match="previous_release: 65 bytes, there is room for 64 and a NUL"):
        both({"kexec_metadata": {"previous_release": "7" * 65}})
    with pytest.raises(UsageError, match="kexec_count: 4294967296 does not fit 4 bytes"):
        both({"kexec_metadata": {"kexec_count": 1 << 32}})


def test_golden_root() -> None:
    """The kho-v4 root of the ABI description: 221 bytes, as libfdt packs it."""
    root = {
        "address": "0x5000",
        "luo": {"address": "0x105678000"},
        "kexec_metadata": False,
        "preserved": {"address": "0x101234000"},
    }
    _, image, _ = both(root)
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
    state, _, _ = both({"memblock": {"reservations": [{"name": "a", "size": "1M"}]}}, kernel=kernel)
    assert state.handovers[0].preserved.bitmap_size == width


@pytest.mark.parametrize("kernel", ["6.17", "6.18", "7.3"])
@pytest.mark.parametrize("count", [1, 2, 3, 600])
def test_the_self_test(kernel: str, count: int) -> None:
    """6.17 has its folios in the devicetree, later ones in a vmalloc area; its page is of get_order(8 n + 4096)."""
    folios = [[hex(0x40000000 + index * 8192), index % 2] for index in range(count)]
    state, image, again = both({"kho_test": {"folios": folios}}, kernel=kernel)
    test, found = state.handovers[0].kho_test, state.handovers[0].preserved.map
    assert test is not None and found is not None and again.handovers[0].kho_test == test
    assert len(test.pages) == (0 if kernel == "6.17" else -(-count * 8 // 4096))
    block = found.find(test.address)
    assert block is not None and (block.address, block.order) == (test.address, (8 * count + 4095) // 4096)
    assert image.lacks == [] and again.problems == ()


def test_reservations_are_preserved_whole() -> None:
    state, _, again = both({"memblock": {"reservations": [{"name": "trace", "start": "0x1001000", "size": "1M"}]}})
    found = state.handovers[0].preserved.map
    assert found is not None and found.covers(0x1001000, 1 << 20)
    wanted = {0x1001000: 0, 0x1002000: 1, 0x1040000: 6, 0x1080000: 7, 0x1100000: 0}
    assert {start: block.order for start in wanted if (block := found.find(start))} == wanted
    assert again.handovers[0].memblock == state.handovers[0].memblock


def test_a_root_without_a_map() -> None:
    """6.19 before it finalizes: the pointer is there and zero."""
    state, _, again = both({"preserved": {"status": "absent"}}, kernel="6.19")
    assert again.handovers[0].preserved == state.handovers[0].preserved
    assert again.handovers[0].direction is Direction.OUTGOING


def test_two_things_at_one_place_are_refused() -> None:
    with pytest.raises(UsageError, match=r"at 0x5000000 .*overlap|overlap"):
        both({"address": "0x5000000", "luo": {"address": "0x5000000"}})


def test_what_is_no_handover_is_refused() -> None:
    for document, word in (
        ({}, "handovers: missing"),
        ({"handovers": []}, "handovers: missing"),
        ({"handovers": [5]}, r"handovers\[0\]: expected an object"),
        ({"handovers": {}}, "handovers: expected a list"),
    ):
        with pytest.raises(UsageError, match=word):
            built(document)
