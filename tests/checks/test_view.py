# SPDX-License-Identifier: MIT
"""What a rule may know of a handover, and why it may not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import luoser
from luoser.checks.model import NotApplicable, NotJudged, NotLookedAt
from luoser.checks.view import View, cause_of
from luoser.errors import PageState
from luoser.state import (
    Area,
    Direction,
    FolioList,
    Folios,
    Handover,
    MapStatus,
    Memfd,
    PreservedMap,
    Problem,
    State,
)
from tests import real
from tests.checks.mutants import NAME, changed, luo_of


def view(state: State | None = None, **members: Any) -> View:
    """The last handover of a state; without one, of a real dump with members replaced."""
    made = state or changed(NAME, **members)
    return View(state=made, handover=made.handovers[-1])


def problem(code: str, about: str, *, root: int | None = 0x5CD000) -> Problem:
    return Problem(code=code, address=0x1000, message=f"{code} there", root=root, about=about)


def with_problems(*problems: Problem, **members: Any) -> View:
    return view(replace(changed(NAME, **members), problems=problems))


def why(ask: Callable[[], object]) -> tuple[str, str]:
    """Cause and subject of what cannot be judged."""
    with pytest.raises(NotJudged) as caught:
        ask()
    return caught.value.cause, caught.value.about


# -- folios -----------------------------------------------------------------------------------------------


def test_orders_of_folios_are_found_once() -> None:
    page = 4096
    entries = (0x200000, 0x202000, 0, 0x203000, 0x204000)
    data = b"".join(struct.pack("<QQ", address // page, index) for index, address in enumerate(entries))
    folios = Folios(count=5, address=0x2000, list=FolioList(data, page_size=page))
    memfd = Memfd(layout="memfd-v1", address=0x1000, size=0, position=0, seals=None, folios=folios)
    found = PreservedMap.from_extents([(0x200000, 1, 1), (0x202000, 0, 1), (0x204000, 2, 1)], page_size=page)
    seen = view(preserved=replace(real.read(NAME).handovers[0].preserved, map=found))
    orders = seen.folio_orders(memfd)
    assert list(orders) == [1, 0, 0, 0, 2]
    assert seen.folio_orders(memfd) is orders
    assert list(view(preserved=replace(seen.handover.preserved, map=None)).folio_orders(memfd)) == [0] * 5


# -- consumed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direction", "status", "consumed"),
    [
        (Direction.OUTGOING, MapStatus.INTACT, False),
        (Direction.OUTGOING, MapStatus.STALE, False),
        (Direction.INCOMING, MapStatus.INTACT, True),
        (Direction.UNKNOWN, MapStatus.STALE, True),
        (Direction.UNKNOWN, MapStatus.DAMAGED, False),
    ],
)
def test_consumed(direction: Direction, status: MapStatus, consumed: bool) -> None:
    preserved = replace(real.read(NAME).handovers[0].preserved, status=status)
    found = view(direction=direction, preserved=preserved)
    assert found.consumed is consumed
    if consumed:
        with pytest.raises(NotApplicable):
            found.need_unconsumed()
    else:
        found.need_unconsumed()


# -- the map ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cause"),
    [("missing", "missing"), ("excluded", "excluded"), ("page-damaged", "damaged"), (None, "missing")],
)
def test_why_there_is_no_map(code: str | None, cause: str) -> None:
    lost = replace(real.read(NAME).handovers[0].preserved, status=MapStatus.MISSING, map=None)
    problems = [problem(code, "preserved")] if code else []
    assert why(with_problems(problem("too-many", "luo"), *problems, preserved=lost).known_map) == (cause, "preserved")


@pytest.mark.parametrize(
    ("state", "cause"),
    [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded"), (PageState.DAMAGED, "damaged")],
)
def test_why_a_part_of_the_map_is_not_there(state: PageState, cause: str) -> None:
    memory = real.overlay(NAME)
    memory.remove(real.read(NAME).handovers[0].preserved.nodes[-1], state=state)
    found = view(luoser.read(memory))
    assert found.known_map().entries
    assert why(found.map) == (cause, "preserved")


@pytest.mark.parametrize(
    ("code", "cause"), [("map-too-large", "limit"), ("map-node-broken", "damaged"), (None, "missing")]
)
def test_why_a_map_was_not_read_to_its_end(code: str | None, cause: str) -> None:
    preserved = real.read(NAME).handovers[0].preserved
    assert preserved.map is not None
    part = replace(preserved, map=type(preserved.map)(preserved.map.bitmaps, page_size=4096, complete=False))
    problems = [problem(code, "preserved")] if code else [problem("missing", "luo")]
    assert why(with_problems(*problems, preserved=part).map) == (cause, "preserved")


def test_a_page_size_in_doubt() -> None:
    assert why(with_problems(problem("page-size-doubt", "", root=None)).map) == ("open", "preserved")
    assert view().map().entries


# -- LUO --------------------------------------------------------------------------------------------------


def test_luo_that_is_not_there() -> None:
    trees = real.read(NAME).handovers[0].subtrees
    without = tuple(entry for entry in trees if entry.name != "LUO")
    with pytest.raises(NotApplicable, match="has no sub-tree LUO"):
        view(luo=None, subtrees=without).luo()
    with pytest.raises(NotApplicable, match="consumed"):
        view(luo=None, direction=Direction.INCOMING).luo()
    assert why(view(luo=None).luo) == ("missing", "luo")
    assert why(with_problems(problem("excluded", "luo"), luo=None).luo) == ("excluded", "luo")
    assert why(with_problems(problem("luo-reused", "luo"), luo=None).luo) == ("damaged", "luo")


def test_luo_that_has_not_serialised() -> None:
    assert view().serialised() == luo_of()
    with pytest.raises(NotApplicable, match="not serialised"):
        view(luo=replace(luo_of(), serialized=False)).serialised()


# -- context ----------------------------------------------------------------------------------------------


def test_what_was_not_given_is_not_looked_at() -> None:
    found = view()
    for ask in (found.pci_topology, found.target, found.next_kernel, found.known_ram, found.scratch):
        with pytest.raises(NotLookedAt):
            ask()
    with pytest.raises(NotApplicable):
        view(pci=()).lists()


@pytest.mark.parametrize(
    ("said", "numbers"),
    [("7.3.4", (7, 3, 4)), ("v7.3", (7, 3, 0)), ("7.2.0-rc3", (7, 2, 0)), ("10.11.12+", (10, 11, 12))],
)
def test_the_next_kernel(said: str, numbers: tuple[int, int, int]) -> None:
    assert replace(view(), next_release=said).next_kernel() == (said, numbers)
    with pytest.raises(NotApplicable):
        replace(view(direction=Direction.INCOMING), next_release=said).next_kernel()


def test_scratch_areas_of_the_only_other_root() -> None:
    areas = (Area(address=0x1000000, size=0x400000),)
    one, other = real.read(NAME).handovers[0], replace(real.read(NAME).handovers[0], address=0x7000000, scratch=areas)

    def of(*handovers: Handover) -> View:
        return view(replace(real.read(NAME), handovers=handovers))

    assert of(other, one).scratch() == of(one, other).scratch() == areas
    assert of(other, replace(one, scratch=())).scratch() == ()
    for unclear in ((other, other, one), (other, one, one)):
        with pytest.raises(NotLookedAt):
            of(*unclear).scratch()


# -- problems ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("missing", "missing"),
        ("excluded", "excluded"),
        ("page-damaged", "damaged"),
        ("too-many", "limit"),
        ("map-too-large", "limit"),
        ("bad-file", "damaged"),
    ],
)
def test_causes(code: str, cause: str) -> None:
    assert cause_of(problem(code, "")) == cause


def test_problems_of_this_root_by_code_and_subject() -> None:
    one, other, third = problem("missing", "a"), problem("missing", "b"), problem("bad-file", "a")
    found = with_problems(one, other, third, problem("missing", "a", root=1), problem("missing", "a", root=1 << 40))
    assert list(found.problems("missing")) == [one, other]
    assert list(found.problems("missing", "bad-file", about="a")) == [one, third]
    assert list(found.problems("loop")) == []
    assert found.subjects("missing", "bad-file") == {"a": [one, third], "b": [other]}


@pytest.mark.parametrize("about", ["memblock", "subtrees[1]", "subtrees[2]", "luo"])
def test_a_sub_tree_that_was_not_read(about: str) -> None:
    found = with_problems(problem("excluded", about))
    if about in ("memblock", "subtrees[1]"):
        assert why(lambda: found.need_subtree("memblock", "memblock")) == ("excluded", about)
    else:
        found.need_subtree("memblock", "memblock")


def test_the_address_of_a_sub_tree() -> None:
    assert view().subtree("memblock") == 0xFDD000
    with pytest.raises(NotApplicable):
        view().subtree("x")


def test_structures_that_are_there() -> None:
    def names(**members: Any) -> list[str]:
        return [path for _, path, _ in view(**members).structures()]

    absent = replace(real.read(NAME).handovers[0].preserved, status=MapStatus.ABSENT, map=None)
    assert names() == ["root", "luo", "pci", "preserved", "luo.sessions"]
    assert names(direction=Direction.INCOMING) == ["root", "luo", "pci"]
    assert names(pci=(), preserved=absent) == ["root", "luo", "luo.sessions"]
    assert names(luo=None) == ["root", "pci", "preserved"]
    assert names(luo=replace(luo_of(), sessions=luo_of().sessions[4:5])) == ["root", "luo", "pci", "preserved"]


def test_files_with_their_places() -> None:
    assert [where for where, _, _ in view().files()][:4] == [
        "luo.sessions[0].files[0]", "luo.sessions[0].files[1]", "luo.sessions[0].files[2]", "luo.sessions[1].files[0]",
    ]  # fmt: skip
    assert list(view(luo=None).files()) == []
