# SPDX-License-Identifier: MIT
"""Before and after a real kexec: what was consumed is progress, what can still be read does not differ."""

from __future__ import annotations

import pytest

import luoser
from luoser.diff import Change, Comparison, Kind, compare
from luoser.errors import UsageError
from tests import real

PAIRS = [("6.18-a", "post"), ("6.19-a", "post"), ("7.3-a", "post"), ("7.3-a", "finished"), ("7.3-chain", "post")]


def between(case: str, before: str, after: str) -> Comparison:
    memories = real.dump(f"{case}/{before}"), real.dump(f"{case}/{after}")
    states = [luoser.read(memory, contents=True) for memory in memories]
    return compare(states[0], states[1], memories=memories, contents=True)


def where(changes: tuple[Change, ...], kind: Kind) -> list[str]:
    return [change.where for change in changes if change.kind is kind]


@pytest.mark.parametrize(("case", "moment"), PAIRS)
def test_after_the_jump_there_is_progress_only(case: str, moment: str) -> None:
    found = between(case, "frozen", moment)
    assert found.is_equal
    assert "preserved/status" in where(found.changes, Kind.PROGRESS)


def test_the_page_of_luo_that_was_reused_is_progress() -> None:
    assert "luo" in where(between("7.3-a", "frozen", "post").changes, Kind.PROGRESS)
    assert "luo" not in where(between("7.3-chain", "frozen", "post").changes, Kind.PROGRESS)


def test_a_kernel_that_hands_on_its_own_is_one_added_handover() -> None:
    found = between("7.3-chain", "frozen", "frozen2")
    assert where(found.changes, Kind.ADDED) == ["handovers/0xe55000"]
    assert where(found.changes, Kind.REMOVED) == where(found.changes, Kind.CHANGED) == []


def test_serialising_is_progress() -> None:
    assert between("7.3-a", "pre", "frozen").is_equal


def test_what_was_paired_is_said() -> None:
    assert between("7.3-a", "frozen", "post").pairing == ("0x5cd000 (outgoing) and 0x5cd000 (incoming): the same root",)


def test_the_roots_can_be_named() -> None:
    chain = luoser.read(real.dump("7.3-chain/frozen2"))
    assert compare(chain, chain, roots=(0x5CD000, 0x5CD000)).changes == ()
    with pytest.raises(UsageError, match="no KHO root at 0x1000"):
        compare(chain, chain, roots=(0x1000, 0x5CD000))


def test_a_true_loss_is_no_progress() -> None:
    memory = real.overlay("7.3-chain/post")
    state = luoser.read(memory)
    incoming = next(one for one in state.handovers if one.direction.value == "incoming")
    assert incoming.luo is not None
    flbs = incoming.luo.flb_area
    assert flbs is not None
    count = int.from_bytes(memory.read(flbs + 8, 8), "little")
    memory.write(flbs + 8, (count - 1).to_bytes(8, "little"))
    found = compare(luoser.read(real.dump("7.3-chain/frozen")), luoser.read(memory))
    assert any(path.startswith("luo/flbs/") for path in where(found.changes, Kind.REMOVED))


def test_an_outgoing_map_that_is_destroyed_is_no_progress() -> None:
    memory = real.overlay("7.3-chain/frozen2")
    memory.write(0xE54000, b"#!/bin/sh\n" * 409)
    found = compare(luoser.read(real.dump("7.3-chain/frozen2")), luoser.read(memory))
    assert where(found.changes, Kind.CHANGED) == ["handovers/0xe55000/preserved/status"]
