# SPDX-License-Identifier: MIT
"""Looks at a real QEMU guest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from luoser.errors import SourceError
from luoser.testing import Guest, assert_same_state, assert_sound
from luoser.testing.plugin import GuestOpener, ImageMaker
from tests import qemu
from tests.qemu import needs_qemu

DESCRIPTION = {"handovers": [{"luo": {"sessions": [{"name": "vm-1"}]}}]}


@pytest.fixture
def machine(luoser_image: ImageMaker) -> Iterator[qemu.Guest]:
    """A running guest without a kernel, with a handover in its memory."""
    image = luoser_image(DESCRIPTION, form="raw")
    with tempfile.TemporaryDirectory(prefix="luoser-") as name:
        data = image.read_bytes()
        first = data.index(data.lstrip(b"\0")[:1]) & ~0xFFF
        stub = ("-gdb", f"unix:{name}/gdb,server=on,wait=off")
        with qemu.Guest(Path(name), *stub, blobs={first: data[first:]}, running=True) as guest:
            yield guest


@needs_qemu
def test_a_guest_is_stopped_while_it_is_looked_at(machine: qemu.Guest, luoser_guest: GuestOpener) -> None:
    with luoser_guest(machine.socket) as guest:
        assert machine.status == "paused"
        state = guest.state()
        assert guest.check().verdict.value == assert_sound(guest.memory).verdict.value == "sound"
    assert machine.status == "running"
    assert [session.name for handover in state.handovers for session in handover.luo.sessions] == ["vm-1"]
    with luoser_guest(machine.source) as guest:
        assert_same_state(state, guest.memory)


@needs_qemu
def test_a_debugger_stub_shows_the_same(machine: qemu.Guest, luoser_guest: GuestOpener) -> None:
    with luoser_guest(machine.socket) as guest:
        state = guest.state()
    with luoser_guest(f"gdb:{machine.socket.with_name('gdb')},{machine.source}") as guest:
        assert (guest.memory.format, machine.status) == ("gdb", "paused")
        assert_same_state(state, guest.memory)
    assert machine.status == "running"


@needs_qemu
def test_the_end_of_a_test_lets_it_run(machine: qemu.Guest) -> None:
    with ExitStack() as test:
        GuestOpener(test)(machine.socket)
        assert machine.status == "paused"
    assert machine.status == "running"


@needs_qemu
def test_one_that_is_not_to_be_stopped_runs_on(machine: qemu.Guest) -> None:
    with Guest(machine.socket, pause=False) as guest:
        assert machine.status == "running" and "running guest" in guest.memory.remarks[0]


@needs_qemu
def test_a_test_that_fails_lets_the_guest_run(machine: qemu.Guest) -> None:
    with pytest.raises(AssertionError), Guest(machine.socket) as guest:
        assert_sound(guest.memory, select=["TOP"])
    assert machine.status == "running"


@needs_qemu
def test_a_guest_that_ends_does_not_hide_why_the_test_fails(machine: qemu.Guest) -> None:
    with pytest.raises(AssertionError, match="lost a session") as caught, Guest(machine.socket):
        machine.process.kill()
        machine.process.wait()
        raise AssertionError("lost a session")
    assert "may have ended" in caught.value.__notes__[0]


@needs_qemu
@pytest.mark.parametrize("where", ["qmp", "gdb"])
def test_a_guest_that_was_closed_is_not_read(machine: qemu.Guest, where: str) -> None:
    name = machine.source if where == "qmp" else f"gdb:{machine.socket.with_name('gdb')},{machine.source}"
    with Guest(name) as guest:
        pass
    with pytest.raises(SourceError, match="was closed; open it again"):
        guest.state()


def test_no_guest_is_an_error(tmp_path: Path, luoser_guest: GuestOpener) -> None:
    with pytest.raises(SourceError, match="no such socket"):
        luoser_guest(tmp_path / "none")
