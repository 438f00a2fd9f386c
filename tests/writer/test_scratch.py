# SPDX-License-Identifier: MIT
"""Scratch areas: the array that names them, and that nothing lies in one."""

from __future__ import annotations

import struct

from tests.writer.helpers import SCRATCH, there_and_back


def test_the_setup_data_node_of_an_incoming_root() -> None:
    first = {"direction": "incoming", "scratch": SCRATCH, "luo": {"liveupdate_number": 1}}
    state, image, _ = there_and_back(first, {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}})
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
    _, image, _ = there_and_back(first, {"luo": {"liveupdate_number": 2}, "kexec_metadata": {"kexec_count": 2}})
    assert not [address for address in image.pages if 0x1000000 <= address < 0x3000000]


def test_scratch_of_an_outgoing_root_is_told() -> None:
    _, image, again = there_and_back({"scratch": SCRATCH})
    assert len(image.lacks) == 1 and "only variables of the kernel name them" in image.lacks[0]
    assert again.handovers[0].scratch is None
