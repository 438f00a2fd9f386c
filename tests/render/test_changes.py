# SPDX-License-Identifier: MIT
"""Changes as text: what matters first, many of a kind as one."""

from __future__ import annotations

import pytest

from luoser.changes import Change, Comparison, Kind
from luoser.render.changes import print_changes


def made(kind: Kind, *paths: str) -> Comparison:
    return Comparison(changes=tuple(Change(kind=kind, where=path, before="x", after="y") for path in paths), pairing=())


def test_devices_and_sessions_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(made(Kind.ADDED, "preserved/0x1000", "memblock/x", "luo/sessions/vm", "handovers/0x5/pci/x", "pci/a"))
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert shown == ["handovers/0x5/pci/x", "pci/a", "luo/sessions/vm", "memblock/x", "preserved/0x1000"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("preserved/N", "preserved/*  50 ranges"),
        ("luo/sessions/vm/files/0x1/folios/N/address", "luo/sessions/vm/files/*/folios/*/address  50 folios"),
        ("luo/sessions/vm/files/N", "luo/sessions/vm/files/*  50 files"),
        ("luo/sessions/N/address", "luo/sessions/*/address  50 sessions"),
        ("handovers/0x5/luo/sessions/N/count", "handovers/0x5/luo/sessions/*/count  50 sessions"),
    ],
)
def test_many_of_a_kind_are_one_line(capsys: pytest.CaptureFixture[str], path: str, shown: str) -> None:
    found = made(Kind.REMOVED, *(path.replace("N", f"{number:#x}") for number in range(50)))
    print_changes(found)
    assert capsys.readouterr().out.splitlines()[0] == f"- {shown} removed; --all lists them"
    print_changes(found, folded=False)
    assert len(capsys.readouterr().out.splitlines()) == 51


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("0x1000", "0x2000", ["! luo/address  0x1000 → 0x2000  (why)"]),
        ("a" * 30, "b" * 30, [f"! luo/address  {'a' * 30} → {'b' * 30}  (why)"]),
        ("a" * 31, "b" * 30, ["  luo/address  (why)", f"- {'a' * 31}", f"+ {'b' * 30}"]),
        ("a" * 61, None, ["  luo/address  (why)", f"- {'a' * 61}", "+ nothing"]),
        (None, "0x1", ["! luo/address  nothing → 0x1  (why)"]),
        (None, None, ["! luo/address  (why)"]),
    ],
)
def test_a_change_with_short_values_is_one_line(
    capsys: pytest.CaptureFixture[str], before: str | None, after: str | None, lines: list[str]
) -> None:
    change = Change(kind=Kind.CHANGED, where="luo/address", before=before, after=after, note="why")
    print_changes(Comparison(changes=(change,), pairing=()))
    assert capsys.readouterr().out.splitlines()[:-1] == lines


def test_what_many_sessions_have_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [f"luo/sessions/vm-{session}/files/{file:#x}/data" for session in range(4) for file in range(2)]
    print_changes(made(Kind.CHANGED, *paths, "luo/sessions/vm-0/files/0x1/size"))
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "! luo/sessions/*/files/*/data  8 files changed in 4 sessions; --all lists them",
        "! luo/sessions/vm-0/files/0x1/size  x → y",
    ]


def test_sessions_that_came_or_went_are_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(made(Kind.REMOVED, *(f"luo/sessions/vm-{session}" for session in range(40))))
    assert capsys.readouterr().out.count("- luo/sessions/vm-") == 40


@pytest.mark.parametrize("member", ["folios/address", "memfd/folios/pages[0]"])
def test_a_member_of_a_list_is_no_item_of_it(capsys: pytest.CaptureFixture[str], member: str) -> None:
    print_changes(made(Kind.CHANGED, *(f"luo/sessions/vm/files/{file:#x}/{member}" for file in range(5))))
    shown = f"! luo/sessions/vm/files/*/{member}  5 files changed; --all lists them"
    assert capsys.readouterr().out.splitlines()[0] == shown


@pytest.mark.parametrize("name", ["files", "folios", "preserved", "sessions"])
def test_a_session_may_be_named_like_a_list(capsys: pytest.CaptureFixture[str], name: str) -> None:
    members = [f"luo/sessions/{name}/{member}" for member in ("address", "count", "layout", "name")]
    print_changes(made(Kind.CHANGED, *members, *(f"luo/sessions/{name}/files/{file:#x}/data" for file in range(9))))
    *alone, many, _ = capsys.readouterr().out.splitlines()
    assert alone == [f"! {member}  x → y" for member in members]
    assert many == f"! luo/sessions/{name}/files/*/data  9 files changed; --all lists them"


def test_few_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(made(Kind.ADDED, "preserved/0x1000", "preserved/0x2000", "preserved/0x3000"))
    assert capsys.readouterr().out.count("+ preserved/0x") == 3
