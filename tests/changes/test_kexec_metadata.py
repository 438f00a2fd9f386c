# SPDX-License-Identifier: MIT
"""The sub-tree kexec-metadata before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luoser.changes import Kind, compare
from tests.changes.helpers import later, problem, sound, told
from tests.checks.mutants import changed

METADATA = sound().handovers[0].kexec_metadata


@pytest.mark.parametrize("members", [{"version": 2}, {"previous_release": "7.3.5"}, {"kexec_count": 2}, {"address": 1}])
def test_members_that_changed(members: dict[str, Any]) -> None:
    assert METADATA is not None
    after = changed(sound(), kexec_metadata=replace(METADATA, **members))
    assert told(sound(), after) == {f"kexec_metadata/{name}": Kind.CHANGED for name in members if name != "address"}


def test_metadata_that_came_or_went() -> None:
    without = changed(sound(), kexec_metadata=None)
    assert [(one.before, one.after) for one in compare(sound(), without).changes] == [("0x5d3000", None)]
    assert [(one.before, one.after) for one in compare(without, sound()).changes] == [(None, "0x5d3000")]
    assert told(sound(), without) == {"kexec_metadata": Kind.REMOVED}
    assert told(without, sound()) == {"kexec_metadata": Kind.ADDED}
    assert told(without, without) == {}


@pytest.mark.parametrize("about", ["kexec_metadata", "subtrees[4]", "subtrees[3]"])
def test_no_kernel_frees_the_page_of_metadata_that_are_gone(about: str) -> None:
    after = later(problem("bad-metadata", about), kexec_metadata=None)
    assert told(sound(), after) == {"kexec_metadata": Kind.REMOVED}
