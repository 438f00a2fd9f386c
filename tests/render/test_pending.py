# SPDX-License-Identifier: MIT
"""The branch of what the kernel's own objects say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.render.tree import print_state
from tests.conftest import Run
from tests.kernel import real


def shown(moment: str, run: Run) -> str:
    return run("inspect", real.FIXTURES / f"{moment}.elf.xz").stdout.decode()


def test_what_will_be_handed_over(luoser_command: Run) -> None:
    text = shown("pre", luoser_command)
    assert "to be handed over: 6 sessions, 64 files" in text
    assert "memfd-v2  data 0x103c000  64 KiB, position 0x1234" in text
    assert "evidence: outgoing lists of kernel 7.3.4, by BTF of kernel 7.3.4" in text
    assert "registered handlers  " + ", ".join(real.walked("pre")["handlers"]) in text
    assert "\x1b" not in text


def test_what_was_not_finished(luoser_command: Run) -> None:
    text = shown("finished", luoser_command)
    assert "handed over, not finished: 5 sessions, 61 files" in text
    assert "count saturated" in text
    assert "3 sessions vm-batch-000 … vm-batch-002  20 files each" in text
    assert "FLBs without files  liveupdate-test-flb-v0, liveupdate-test-flb-v1" in text


def test_what_is_serialised_just_so_is_not_repeated(luoser_command: Run, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown("frozen", luoser_command)
    assert "to be handed over: 6 sessions, 64 files, the same as serialised\n" in text
    assert text.count("vm-batch-000") == 1 and text.count("FLB pci-v2") == 1
    whole = luoser_command("inspect", "--all", real.FIXTURES / "frozen.elf.xz").stdout.decode()
    assert whole.count("vm-batch-000") == 2 and whole.count("FLB pci-v2") == 2
    state = real.read("frozen")
    (handover,) = state.handovers
    assert handover.pending is not None
    first, *others = handover.pending.sessions
    changed = replace(handover.pending, sessions=(replace(first, files=first.files[:-1]), *others))
    print_state(replace(state, handovers=(replace(handover, pending=changed),)))
    text = capsys.readouterr().out
    assert "6 sessions, 63 files\n" in text and text.count("vm-batch-000") == 2


@pytest.mark.parametrize("what", ["retrieved", "position"])
def test_a_difference_to_what_is_serialised_is_shown(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("frozen")
    (handover,) = state.handovers
    assert handover.pending is not None
    first, *others = handover.pending.sessions
    files = tuple(replace(file, position=0x77) for file in first.files)
    changed = replace(first, retrieved=True) if what == "retrieved" else replace(first, files=files)
    pending = replace(handover.pending, sessions=(changed, *others))
    print_state(replace(state, handovers=(replace(handover, pending=pending),)))
    text = capsys.readouterr().out
    assert "the same as serialised" not in text and ("  retrieved" if what == "retrieved" else "position 0x77") in text


def test_without_the_kernels_own_symbols_there_is_none(luoser_command: Run) -> None:
    text = luoser_command("inspect", "--no-symbols", real.FIXTURES / "pre.elf.xz").stdout.decode()
    assert "pending" not in text


@pytest.mark.parametrize("folded", [True, False])
def test_flbs_that_the_kernel_does_not_have_are_named(folded: bool, capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("frozen")
    (handover,) = state.handovers
    assert handover.pending is not None
    print_state(state, folded=folded)
    assert "not in the kernel's list" not in capsys.readouterr().out
    left = tuple(flb for flb in handover.pending.flbs if not flb.name.startswith("pci"))
    for complete in (True, False):  # what was not read to its end may have them
        pending = replace(handover.pending, flbs=left, complete=complete)
        print_state(replace(state, handovers=(replace(handover, pending=pending),)), folded=folded)
        said = "FLBs serialised, but not in the kernel's list  pci-v2, pci\n"
        assert (said in capsys.readouterr().out) is complete
