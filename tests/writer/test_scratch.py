# SPDX-License-Identifier: MIT
"""Scratch areas: the array that names them, and that nothing lies in one."""

from __future__ import annotations

import struct

import pytest

from luoser.checks import Verdict, check
from luoser.errors import UsageError
from luoser.fdt import parse
from luoser.reader import read
from luoser.state import Direction
from luoser.state.from_json import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from luoser.writer.contents import with_contents
from tests.writer.helpers import SCRATCH, there_and_back

AREAS = [(0x1000000, 16 << 20), (0x8000000, 64 << 20)]


def test_the_setup_data_node_of_an_incoming_root() -> None:
    first = {"direction": "incoming", "scratch": SCRATCH, "luo": {"liveupdate_number": 1}}
    state, image, _ = there_and_back(first)
    places = {what: start for start, _, what in image.pieces}
    array, node = places["scratch array"], places["setup_data"]
    assert image.read(array, 32) == struct.pack("<4Q", 0x1000000, 16 << 20, 0x8000000, 64 << 20)
    assert image.read(node, 16) == struct.pack("<QII", 0, 10, 32)
    assert image.read(node + 16, 32) == struct.pack("<4Q", state.handovers[0].address or 0, 4096, array, 32)
    found = state.handovers[0].preserved.map
    assert found is not None and found.find(array) is None
    assert node == AREAS[0][0] + AREAS[0][1] - 4096
    assert not any(start <= array < start + size for start, size in AREAS)


def test_nothing_of_a_chain_is_in_scratch() -> None:
    areas = [{"address": "0x1000000", "size": "32M"}]
    first = {
        "direction": "incoming",
        "scratch": areas,
        "luo": {"sessions": [{"name": "a", "files": [{"memfd": {"size": "1M"}}]}]},
    }
    _, image, _ = there_and_back(first, {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}})
    assert not [address for address in image.pages if 0x1000000 <= address < 0x3000000]


def test_scratch_of_an_outgoing_root_is_told() -> None:
    _, image, again = there_and_back({"scratch": SCRATCH})
    assert len(image.lacks) == 1 and "only variables of the kernel point to them" in image.lacks[0]
    assert again.handovers[0].scratch is None


def test_a_new_incoming_root_is_judged_as_one_that_no_kernel_has_taken_over() -> None:
    files = [{"token": 1, "memfd": {"contents_text": "a"}}]
    made = with_contents({"luo": {"sessions": [{"name": "s", "files": files}]}}, lambda _: b"")
    state, image, again = there_and_back(made | {"direction": "incoming"})
    assert state.handovers[0].at_jump and again.handovers[0].at_jump and not again.handovers[0].is_consumed
    report = check(again)
    assert report.verdict is Verdict.SOUND and not [one for one in report.skipped if "consumed" in one.reason]
    image.patch(state.handovers[0].preserved.address, b"#!/bin/sh")
    assert check(read(image.memory())).verdict is Verdict.FINDINGS


@pytest.mark.parametrize("area", [("0x8000800", "64M"), ("0x8000000", "0x4000800")])
def test_an_image_to_boot_with_areas_that_are_no_pages_is_not_sound(area: tuple[str, str]) -> None:
    """7.2 panics with the first one."""
    scratch = [SCRATCH[0], {"address": area[0], "size": area[1]}]
    image = there_and_back({"direction": "incoming", "scratch": scratch})[1]
    report = check(read(image.memory()))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert {"KHO016", "MAP006"} <= {one.rule for one in report.unjudged}


@pytest.mark.parametrize(
    ("machine", "scratch", "array"),
    [
        ("arm64", [SCRATCH[0], {"address": "0x48000800", "size": "64M"}], None),
        ("x86-64", SCRATCH, "0x3008"),
    ],
)
def test_an_image_to_boot_with_is_not_sound_if_what_tells_of_its_areas_is_not_found(
    machine: str, scratch: list[dict[str, str]], array: str | None
) -> None:
    made = {"direction": "incoming", "scratch": scratch, "scratch_array": array}
    state = from_document(complete({"handovers": [made]}))
    memory = write(state, machine=machine).memory()
    found = read(memory)
    assert [one.code for one in found.problems] == ["scratch-unread"] and check(found).verdict is Verdict.INCONCLUSIVE


def test_an_outgoing_root_is_not_at_the_jump() -> None:
    with pytest.raises(UsageError, match="at_jump: expected false, or an incoming handover"):
        there_and_back({"at_jump": True})


def test_an_incoming_root_beside_an_outgoing_one_or_without_a_map_was_taken_over() -> None:
    chain = there_and_back({"direction": "incoming"}, {"kexec_metadata": {"kexec_count": 2}})[0]
    assert not any(handover.at_jump for handover in chain.handovers)
    stale = there_and_back({"direction": "incoming", "preserved": {"status": "stale"}})[0]
    assert stale.handovers[0].is_consumed


def test_an_incoming_root_without_scratch_is_no_image_to_boot_with() -> None:
    state, _, again = there_and_back({"direction": "incoming", "scratch": None})
    assert not state.handovers[0].at_jump and not again.problems


@pytest.mark.parametrize(
    ("page", "unit", "size"), [(4096, 4 << 20, 32 << 20), (16384, 32 << 20, 32 << 20), (65536, 512 << 20, 512 << 20)]
)
def test_a_new_incoming_root_has_areas_of_whole_units(page: int, unit: int, size: int) -> None:
    state, image, again = there_and_back({"direction": "incoming"}, source={"page_size": page})
    (handover,) = state.handovers
    assert handover.scratch is not None and [area.size for area in handover.scratch] == [size, size]
    assert not [area for area in handover.scratch if area.address % unit]
    assert again.handovers[0].scratch == handover.scratch and again.handovers[0].direction is Direction.INCOMING
    assert not check(again).findings and image.passed[0].array == handover.scratch_array


def test_an_arm64_kernel_is_told_by_the_devicetree() -> None:
    state, image, again = there_and_back({"direction": "incoming"}, source={"page_size": 65536})
    (told,) = image.passed
    assert [what for _, _, what in image.pieces if what in ("setup_data", "devicetree with /chosen")] == [
        "devicetree with /chosen"
    ]
    size = int.from_bytes(image.read(told.node + 4, 4), "big")
    chosen = parse(image.read(told.node, size)).root.node("chosen")
    assert chosen is not None
    assert chosen.get("linux,kho-fdt") == struct.pack(">QQ", state.handovers[0].address or 0, 65536)
    assert chosen.get("linux,kho-scratch") == struct.pack(">QQ", told.array, 32)
    assert again.handovers[0].direction is Direction.INCOMING
