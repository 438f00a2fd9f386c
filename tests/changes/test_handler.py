# SPDX-License-Identifier: MIT
"""Structs of other handlers before and after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luoser.changes import Kind
from luoser.state import Record, State
from tests.changes.helpers import later, luo_of, problem, sound, told
from tests.checks.mutants import changed

WHERE = "luo/sessions/vm-web-01/files/0x1a/detail"
PLACE = "luo.sessions[0].files[0]"


def with_detail(*readings: tuple[str, dict[str, Any]], address: int = 0x1A98000) -> Any:
    """LUO with one file, which has a struct of these readings; none: without a struct."""
    detail = Record(address=address, readings=readings, confidence="") if readings else None
    session = luo_of().sessions[0]
    file = replace(session.files[0], compatible="vfio-pci-v2", memfd=None, detail=detail)
    return replace(luo_of(), sessions=(replace(session, files=(file,)),), flbs=())


def state(*readings: tuple[str, dict[str, Any]]) -> State:
    return changed(sound(), luo=with_detail(*readings), pci=())


ONE = ("vfio-pci-v1", {"bdf": 0x4100, "flags": {"a": 0, "b": 1}})
WIDE = ("vfio-pci-v1-domain32", {"bdf": 0x4100, "domain": 0})


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ([ONE], [ONE], {}),
        ([], [], {}),
        ([ONE, WIDE], [WIDE], {}),
        ([ONE], [("vfio-pci-v1", {**ONE[1], "bdf": 0x4200})], {"/bdf": Kind.CHANGED}),
        ([ONE], [("vfio-pci-v1", {"bdf": 0x4100, "flags": {"a": 1, "b": 1}})], {"/flags/a": Kind.CHANGED}),
        ([ONE], [("vfio-pci-v1", {"bdf": 0x4100})], {"/flags": Kind.CHANGED}),
        ([ONE], [WIDE], {"/layout": Kind.CHANGED}),
        ([], [ONE], {"": Kind.ADDED}),
        ([ONE], [], {"": Kind.REMOVED}),
    ],
)
def test_structs_by_the_layout_that_both_have(before: list[Any], after: list[Any], kinds: dict[str, Kind]) -> None:
    assert told(state(*before), state(*after)) == {f"{WHERE}{path}": kind for path, kind in kinds.items()}


@pytest.mark.parametrize("about", [PLACE, "luo.sessions[0].files[1]", "luo.sessions[0]"])
def test_a_struct_that_is_gone_was_consumed_if_its_handle_leads_nowhere(about: str) -> None:
    after = later(problem("bad-handler-data", about), luo=with_detail(), pci=())
    before = state(ONE)
    found = {where: kind for where, kind in told(before, after).items() if "/damage/" not in where}  # no device list
    assert found == {WHERE: Kind.PROGRESS if about == PLACE else Kind.REMOVED}
