# SPDX-License-Identifier: MIT
"""The sub-tree of the KHO self-test before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luoser.changes import Kind, compare
from tests.changes.helpers import later, problem, sound, told
from tests.checks.mutants import changed

SELF_TEST = sound().handovers[0].kho_test


@pytest.mark.parametrize("members", [{"magic": 1}, {"checksum": 1}])
def test_members_that_changed(members: dict[str, Any]) -> None:
    assert SELF_TEST is not None
    after = changed(sound(), kho_test=replace(SELF_TEST, **members))
    assert told(sound(), after) == {f"kho_test/{name}": Kind.CHANGED for name in members}


def test_a_self_test_that_came_or_went() -> None:
    without = changed(sound(), kho_test=None)
    assert [(one.before, one.after) for one in compare(sound(), without).changes] == [("0x680000", None)]
    assert [(one.before, one.after) for one in compare(without, sound()).changes] == [(None, "0x680000")]
    assert told(sound(), without) == {"kho_test": Kind.REMOVED}
    assert told(without, sound()) == {"kho_test": Kind.ADDED}
    assert told(without, without) == {}


@pytest.mark.parametrize("about", ["kho_test", "subtrees[3]", "subtrees[4]"])
def test_a_self_test_that_is_gone_was_consumed_if_its_own_tree_is_damaged(about: str) -> None:
    after = later(problem("bad-kho-test", about), kho_test=None)
    assert told(sound(), after) == {"kho_test": Kind.REMOVED if about == "subtrees[4]" else Kind.PROGRESS}
