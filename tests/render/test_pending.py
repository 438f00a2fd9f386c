# SPDX-License-Identifier: MIT
"""The branch of what the kernel's own objects say."""

from __future__ import annotations

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
    assert "count saturated" in text and "(magic of a test FLB)" in text


def test_without_the_kernels_own_symbols_there_is_none(luoser_command: Run) -> None:
    text = luoser_command("inspect", "--no-symbols", real.FIXTURES / "pre.elf.xz").stdout.decode()
    assert "pending" not in text
