# SPDX-License-Identifier: MIT
"""What was salvaged, as a tree of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import luoser
from luoser.render.out import Tree
from luoser.render.out import tree as print_tree
from luoser.render.salvaged import salvaged_tree
from luoser.state import Confidence, Hex, Salvaged
from tests import salvage


def rows(tree: Tree, depth: int = 0) -> Iterator[str]:
    yield "  " * depth + "".join(part if isinstance(part, str) else part[0] for part in tree.parts)
    for child in tree.children:
        yield from rows(child, depth + 1)


def found() -> tuple[Salvaged, ...]:
    state = luoser.read(salvage.dump("7.3-whole", "post"), salvage=True)
    assert state.salvaged is not None
    return state.salvaged


def test_each_thing_is_shown_once_below_what_leads_to_it() -> None:
    whole = list(rows(salvaged_tree(found(), folded=False)))
    assert whole[0].split() == ["Salvaged", "by", "shape", "34", "things:", "32", "high,", "2", "medium"]
    assert "no pointer of a handover leads here" in whole[1]
    for one in found():
        assert [f" at {one.address:#x}  {one.confidence.value}" in row for row in whole].count(True) == 1
    (sessions,) = (row for row in whole if "sessions kho-block-sessions" in row)
    (memfd,) = (row for row in whole if "at 0x44e0000" in row)
    assert (len(sessions) - len(sessions.lstrip()), len(memfd) - len(memfd.lstrip())) == (2, 6)


def test_evidence_is_shown_with_all_and_with_what_is_not_sure() -> None:
    text = "8 files as the count says, then zeros"
    assert any(text in row for row in rows(salvaged_tree(found(), folded=False)))
    assert not any(text in row for row in rows(salvaged_tree(found())))
    doubted = [replace(one, confidence=Confidence.MEDIUM) for one in found() if one.kind == "files"]
    assert any(text in row for row in rows(salvaged_tree(doubted)))


def test_members_that_nothing_repeats_are_named_with_the_evidence() -> None:
    shown = list(rows(salvaged_tree(found(), folded=False)))
    assert any("nothing repeats token: a wrong bit there is not seen" in row for row in shown)
    assert any("nothing repeats pos, size, seals, folios.flags, folio.pfn, folio.flags: " in row for row in shown)


def test_many_memfds_and_many_entries_are_folded() -> None:
    short = list(rows(salvaged_tree(found())))
    assert any("20 memfds  high  80 KiB" in row for row in short)
    assert any("… 17 more of 20; --all shows them" in row for row in short)
    assert len(short) < 60 < len(list(rows(salvaged_tree(found(), folded=False))))


def test_nothing_is_said_to_be_nothing() -> None:
    assert next(rows(salvaged_tree([]))) == "Salvaged by shape  nothing"


def block(address: int, *others: int, led_from: tuple[int, ...]) -> Salvaged:
    return Salvaged(
        kind="sessions",
        layout="kho-block-sessions",
        address=address,
        size=96,
        confidence=Confidence.LOW,
        evidence=("against it: its chain leads back to itself",),
        entries=({"address": Hex(address), "name": "\x1b[31m", "file_set_ser": {"files": Hex(0), "count": 0}},),
        leads_to=others,
        led_from=led_from,
    )


def test_names_from_a_dump_are_made_safe_and_a_cycle_ends() -> None:
    first, second = block(0x1000, 0x2000, led_from=(0x2000,)), block(0x2000, 0x1000, led_from=(0x1000,))
    shown = list(rows(salvaged_tree([first, second])))
    assert sum("\\x1b[31m  files 0x0  count 0" in row for row in shown) == 2
    assert not any("\x1b" in row for row in shown)


def test_a_chain_of_any_length_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    chain = [block(page << 12, (page + 1) << 12, led_from=((page - 1) << 12,)) for page in range(1, 2001)]
    print_tree(salvaged_tree(chain))
    lines = capsys.readouterr().out.splitlines()
    assert sum(" at 0x" in line for line in lines) == 2000
    assert max(map(len, lines)) < 120
