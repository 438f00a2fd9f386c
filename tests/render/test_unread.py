# SPDX-License-Identifier: MIT
"""What could not be read is said by commands that show a part of a handover."""

from __future__ import annotations

import pytest

import luoser
from luoser.errors import PageState
from luoser.render.extents import print_extents
from luoser.render.tables import print_devices
from tests import real


@pytest.mark.parametrize("state", [PageState.DAMAGED, PageState.ABSENT])
def test_lists_of_devices_that_cannot_be_read(state: PageState, capsys: pytest.CaptureFixture[str]) -> None:
    memory = real.overlay("7.3-a/frozen")
    for entry in real.read("7.3-a/frozen").handovers[0].pci:
        memory.remove(entry.address, state=state)
    print_devices(luoser.read(memory))
    shown = " ".join(capsys.readouterr().out.split())
    assert "no list of preserved PCI devices can be read" in shown
    assert f"not read: PCI device list (flb:pci-v2): page 0x1ad9000 is {state.value}" in shown


def test_a_node_of_the_map_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    memory, node = real.overlay("7.3-a/frozen"), real.read("7.3-a/frozen").handovers[0].preserved.nodes[-1]
    memory.remove(node)
    print_extents(luoser.read(memory))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("map intact, incomplete")
    assert any(line.startswith(f"  not read: preserved map: node {node:#x}") for line in lines)


def test_what_is_read_is_not_said_to_be_unread(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    print_devices(state)
    print_extents(state)
    shown = capsys.readouterr().out
    assert "not read" not in shown and "incomplete" not in shown
