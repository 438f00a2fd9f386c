# SPDX-License-Identifier: MIT
"""The first screen of `inspect`: what it folds, what it never leaves out, and that --all has the rest."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luoser.render.tree import print_state
from luoser.state import FolioList, PreservedMap, Problem, State, to_document
from tests import real
from tests.conftest import Run
from tests.images import Image, name
from tests.render.test_out import shown

LINES = dict.fromkeys(real.DUMPS, 36) | {"7.3-chain/post": 50, "7.3-chain/frozen2": 56}
"""Most lines of a real dump at 80 columns: the last two have two roots."""
FACTS = {
    "7.3-a/frozen": (
        "driver_data 0x0\n",
        "evidence: ",
        "layout: the only layout that fits",
        "16384 folios",
        "0x1000  ",
    ),
    "7.3-chain/frozen2": ("(map not readable)", "map-stale  0x5cc000  preserved map: stale", "136 bytes"),
}
"""What the first screen leaves out."""


def text(state: State, capsys: pytest.CaptureFixture[str], *, folded: bool = True) -> str:
    print_state(state, folded=folded)
    return capsys.readouterr().out


@pytest.mark.parametrize("dump", real.DUMPS)
def test_a_real_dump_fits_a_screen(dump: str) -> None:
    rows = shown(80, "inspect", str(real.path(dump))).splitlines()
    assert len(rows) <= LINES[dump] + 2  # where the path of this checkout is long, the first line is more


def test_a_state_of_many_different_files_fits_a_screen(luoser_command: Run, tmp_path: Path) -> None:
    """13 sessions of 23 files, no two of a session alike."""
    spec = "[[handovers]]\n[handovers.luo]\n"
    for session in range(13):
        files = ", ".join(f'{{ token = {number}, memfd = {{ size = "{4 + 4 * number}K" }} }}' for number in range(23))
        spec += f'[[handovers.luo.sessions]]\nname = "vm-{"abc"[session % 3]}{session}"\nfiles = [{files}]\n'
    spec = spec.replace("token = 22,", "token = 99,", 1)
    (tmp_path / "spec.toml").write_text(spec)
    assert luoser_command("build", tmp_path / "spec.toml", "-o", tmp_path / "many.elf").returncode == 0
    said = shown(80, "inspect", str(tmp_path / "many.elf"))
    assert len(said.splitlines()) <= 30
    assert "files are summed up; --all lists them" in said
    assert "session vm-a0" in said and "23 memfd-v2, 1.08 MiB, tokens 0x0-0x15, 0x63" in " ".join(said.split())
    assert luoser_command("inspect", "--all", tmp_path / "many.elf").stdout.count(b"\xe2\x94\x80 file 0x") == 299


def test_many_sessions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    made = Image()
    rows = [name(f"vm-{'ab'[number % 2]}{number}", 64) + bytes(16) for number in range(60)]
    luo = made.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, made.blocks(rows), 0))
    made.handover({"LUO": (luo, 32)})
    said = text(made.read(), capsys)
    assert said.count("session vm-") == 40 and "… 20 more sessions, 0 files; --all lists them" in said
    assert text(made.read(), capsys, folded=False).count("session vm-") == 60


@pytest.mark.parametrize("dump", FACTS)
def test_what_is_as_usual_is_one_flag_away(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read(dump)
    first, whole = text(state, capsys), text(state, capsys, folded=False)
    for fact in FACTS[dump]:
        assert fact in whole
    assert "(preserved" not in first and whole.count("(preserved, order") >= 10
    assert "(map not readable)" not in first and "layout: " not in first
    for devices in (one for handover in state.handovers for one in handover.pci):
        assert all(device.name in first for device in devices.devices)
    shown_whole = [one for one in state.handovers if one.luo and not (len(state.handovers) > 1 and one.is_consumed)]
    for session in (one for handover in shown_whole if handover.luo for one in handover.luo.sessions):
        assert len(session.files) != 3 or f"session {session.name}  {session.address:#x}" in first


def addresses(value: Any) -> Iterator[str]:
    """All physical addresses in a document."""
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name in ("address", "data") and isinstance(item, str))
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from addresses(item)


@pytest.mark.parametrize("dump", real.DUMPS)
def test_every_address_is_one_flag_away(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read(dump)
    whole = set(re.findall("0x[0-9a-f]+", text(state, capsys, folded=False)))
    assert set(addresses(to_document(state)["handovers"])) - {"0x0"} <= whole


def test_a_consumed_root_that_does_not_fit_a_screen_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-chain/frozen2")
    said = text(state, capsys)
    first, second = said.split("KHO root ")[1:]
    assert first.startswith("0xe55000  kho-v4  outgoing") and " below" not in first
    assert second.startswith("0x5cd000  kho-v4  incoming  live update 1  consumed: --all shows what is below\n")
    assert "LUO  luo-v5 at 0x21e4000  serialised: 5 sessions, 14 files, 68.1 MiB  … 13 below" in second
    print_state(state, depth=3)
    assert "file 0x1a  memfd-v2  data 0x2152000" in capsys.readouterr().out
    first, second = text(real.read("7.3-chain/post"), capsys).split("KHO root ")[1:]  # the other one has nothing yet
    assert first.startswith("0x5cd000  kho-v4  incoming") and "consumed" not in first
    assert second.startswith("0xe55000  kho-v4  outgoing")


def test_what_is_not_as_usual_is_on_the_first_screen(capsys: pytest.CaptureFixture[str]) -> None:
    made = Image()
    files = made.blocks([name("memfd-v2", 48) + struct.pack("<QQ", made.alloc(bytes(32), keep=False), 1)])
    sessions = made.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    luo = made.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, 0))
    made.handover({"LUO": (luo, 32), "module": (0x7000000, 8)})
    said = text(made.read(), capsys)
    assert "module 0x7000000 (not preserved)" in said
    assert said.count("(not preserved)") == 2  # the memfd, too


@pytest.mark.parametrize(("what", "words"), [("data", "not preserved"), ("folio", "1 of 2 folios not preserved")])
def test_a_file_that_is_not_preserved_is_not_folded(what: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    (handover,) = state.handovers
    assert handover.luo is not None and handover.preserved.map is not None
    session = handover.luo.sessions[2]
    file = session.files[7]
    assert file.memfd is not None
    lost = file.data if what == "data" else file.memfd.folios.list[1].address
    blocks = [
        (address + n * (4096 << order), order)
        for address, order, count in handover.preserved.map.by_address()
        for n in range(count)
    ]
    kept = [(address, order, 1) for address, order in blocks if address != lost]
    smaller = PreservedMap.from_extents(kept, page_size=4096)
    changed = replace(handover, preserved=replace(handover.preserved, map=smaller))
    said = text(replace(state, handovers=(changed,)), capsys)
    assert f"session {session.name}  {session.address:#x}  20 files, 160 KiB\n" in said
    assert "19 memfds of 8 KiB" in said
    assert f"file {file.token:#x}  memfd-v2  data {file.data:#x} ({words})  8 KiB" in said


def test_all_evidence_is_shown_where_the_direction_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    (handover,) = state.handovers
    two = replace(handover, evidence=("one", "two"))
    assert "evidence: two" not in text(replace(state, handovers=(two,)), capsys)
    foreign = replace(two, own=False)
    assert "evidence: two" in text(replace(state, handovers=(foreign,)), capsys)


def problem(address: int | None, code: str = "bad-session", about: str = "luo") -> Problem:
    return Problem(code=code, root=0x5CD000, about=about, address=address, message=f"{about} is wrong")


@pytest.mark.parametrize(("count", "lines"), [(1, 1), (2, 2), (3, 2), (6, 2), (8, 2), (9, 4)])
def test_problems_at_one_address_are_counted(count: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    state = replace(real.read("7.3-a/frozen"), problems=(problem(0x1000),) * count)
    said = text(state, capsys).partition(f"Problems: {count}\n")[2].splitlines()
    assert len(said) == lines
    assert lines == count or said[-1].endswith("; --all lists them")
    assert len(text(state, capsys, folded=False).partition("Problems: ")[2].splitlines()) == count + 1


def test_problems_elsewhere_are_all_shown(capsys: pytest.CaptureFixture[str]) -> None:
    problems = *(problem(address) for address in range(4)), *(problem(None) for _ in range(4))
    said = text(replace(real.read("7.3-a/frozen"), problems=problems), capsys)
    assert said.count("luo is wrong") == 8


def test_notes_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = text(real.read("7.3-chain/frozen2"), capsys)
    assert "Notes: 3  bad-memfd 0x214c170, bad-pointer 0x18d000, map-stale 0x5cc000 (consumed" in said
    three = (problem(0x1000, "missing", "luo.sessions[0].files[0].contents"),) * 3
    assert "Notes: 3  missing 3 times (" in text(replace(real.read("7.3-a/frozen"), problems=three), capsys)


def test_luo_of_a_reused_page_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "LUO  reused: its page holds something else" in text(real.read("7.3-a/post"), capsys)


def test_files_that_are_summed_up_are_shown_where_something_is_odd(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    (handover,) = state.handovers
    assert handover.luo is not None
    session = handover.luo.sessions[0]
    usual = session.files[0]
    assert usual.memfd is not None
    first = FolioList(usual.memfd.folios.list.data[:80], page_size=4096)
    cut = replace(usual.memfd, folios=replace(usual.memfd.folios, list=first))
    files = [replace(usual, token=n, memfd=replace(usual.memfd, position=n)) for n in range(1, 41)]
    files += [replace(usual, token=0x998, memfd=cut), replace(usual, token=0x999, data=0x7777000, memfd=None)]
    sessions = (replace(session, files=tuple(files)), *handover.luo.sessions[1:])
    luo = replace(handover.luo, sessions=sessions)
    shown = text(replace(state, handovers=(replace(handover, luo=luo),)), capsys)
    assert "files are summed up" in shown and "file 0x1 " not in shown
    assert "(5 of the folios readable)" in shown and "data 0x7777000 (not preserved)" in shown


def test_flbs_of_other_names_are_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    state = real.read("7.3-a/frozen")
    (handover,) = state.handovers
    assert handover.luo is not None
    flbs = handover.luo.flbs
    luo = replace(handover.luo, flbs=(flbs[0], replace(flbs[1], name="vfio-pci"), *flbs[2:]))
    shown = text(replace(state, handovers=(replace(handover, luo=luo),)), capsys)
    assert "FLB vfio-pci " in shown and flbs[0].name in shown
