# SPDX-License-Identifier: MIT
"""With a kernel: a live update in QEMU, looked at from outside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm import INITRD, KERNEL, VM

from luoser.state import State
from luoser.testing import assert_same_state, assert_sound
from luoser.testing.plugin import GuestOpener

pytestmark = [
    pytest.mark.skipif(not (KERNEL and INITRD), reason="KERNEL and INITRD name no kernel"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"),
]


@pytest.fixture
def vm() -> Iterator[VM]:
    """A guest. The name of its folder is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="vm-") as folder, VM(Path(folder)) as running:
        yield running


RETRIEVED = "shapes"
"""The session that user space retrieves and finishes in the next kernel."""


def test_sessions_come_through_a_live_update(vm: VM, luoser_guest: GuestOpener) -> None:
    vm.wait_for("pre")
    with luoser_guest(vm.qmp) as guest:  # stopped until the end of the block
        assert_sound(guest.memory, pending=True)
        before = sessions(guest.state(pending=True))
    vm.go_on()  # the guest jumps into the next kernel

    vm.wait_for("post")
    with luoser_guest(vm.qmp) as guest:
        assert_sound(guest.memory)
        booted = guest.state()
    vm.go_on()

    vm.wait_for("finished")
    with luoser_guest(vm.qmp) as guest:
        assert_same_state(booted, guest.memory, allow_progress=True)
        left = sessions(guest.state(pending=True))
    assert RETRIEVED in before and left == before - {RETRIEVED}


def sessions(state: State) -> set[str]:
    """Names of the sessions that the running kernel has in its own objects."""
    return {session.name for handover in state.handovers if handover.pending for session in handover.pending.sessions}
