# SPDX-License-Identifier: MIT
"""What all subjects share: items by key, members, and what became of a thing that is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import process_time
from types import SimpleNamespace as Thing

import pytest

from luoser.changes import Kind, compare
from luoser.changes.sides import Matches, Sides, mapping_changes, member_changes, paired, text_of
from luoser.state import Direction, Problem, State, Subtree
from tests.changes.helpers import luo_of, sound
from tests.checks.mutants import changed

MISSING = Problem(code="missing", address=1, message="not there", root=None, about="a")
DAMAGED = Problem(code="bad-file", address=1, message="bad", root=None, about="a")


def sides(*met: Problem, consumed: bool = True) -> Sides:
    named = changed(sound(), subtrees=(Subtree(name="x", address=1, size=1), Subtree(name="y", address=2, size=1)))
    direction = Direction.INCOMING if consumed else Direction.OUTGOING
    return Sides(sound().handovers[0], replace(named.handovers[0], direction=direction), met, 4096)


@pytest.mark.parametrize(
    ("consumed", "signs", "kind"),
    [
        (True, [], Kind.REMOVED),
        (False, [], Kind.REMOVED),
        (True, [MISSING], Kind.UNREAD),
        (True, [DAMAGED], Kind.PROGRESS),
        (False, [DAMAGED], Kind.REMOVED),
        (False, [MISSING], Kind.UNREAD),
        (False, [DAMAGED, MISSING], Kind.UNREAD),
    ],
)
def test_what_became_of_a_thing_that_is_gone(consumed: bool, signs: list[Problem], kind: Kind) -> None:
    change = sides(consumed=consumed).gone("w", "before", "why", signs)
    assert (change.where, change.kind, change.before) == ("w", kind, "before")
    assert change.after == ("why" if kind is Kind.PROGRESS else None)


def test_a_sub_tree_that_no_kernel_frees_is_not_consumed() -> None:
    for name, kind in (("memblock", Kind.REMOVED), ("kexec-metadata", Kind.REMOVED), ("kho_test", Kind.PROGRESS)):
        assert sides(consumed=True).gone("w", "before", "why", [DAMAGED], subtree=name).kind is kind


def test_problems_about_a_thing_and_about_its_sub_tree() -> None:
    one = Problem(code="missing", address=1, message="", root=None, about="subtrees[1]")
    two = sides(MISSING, DAMAGED, one)
    assert two.about("a", {"missing"}) == [MISSING]
    assert two.about("b", {"missing"}) == []
    assert two.about_subtree("y", "a", {"missing"}) == [MISSING, one]
    assert two.about_subtree("x", "a", {"missing", "bad-file"}) == [MISSING, DAMAGED]


def test_items_with_one_key_keep_their_order() -> None:
    found = list(paired([("a", 1), ("b", 2), ("a", 3)], [("a", 4), ("c", 5)], lambda item: item[0]))
    assert found == [
        ("a", ("a", 1), ("a", 4)),
        ("b", ("b", 2), None),
        ("a", ("a", 3), None),
        ("c", None, ("c", 5)),
    ]


def test_members() -> None:
    one, other = Thing(a=1, b=2, c=3), Thing(a=1, b=1, c=9)
    assert [change.where for change in member_changes("", one, other, ("a", "b"))] == ["b"]
    assert [change.where for change in member_changes("x", one, other, ("a", "b", "c"))] == ["x/b", "x/c"]


def test_items_of_mappings() -> None:
    found = list(mapping_changes("x", {"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 2, "c": 2}, "e": True}))
    assert [(change.where, change.before, change.after) for change in found] == [
        ("x/a/b", "0x1", "0x2"),
        ("x/d", "0x1", None),
        ("x/e", None, "True"),
    ]


def test_a_mapping_in_place_of_a_value() -> None:
    for one, other in (({"b": 1}, 2), (2, {"b": 1}), ({"b": 1}, None)):
        (change,) = mapping_changes("x", {"a": one}, {"a": other})
        assert (change.where, change.before, change.after) == ("x/a", text_of(one), text_of(other))


@pytest.mark.parametrize(
    ("value", "text"), [(None, None), (17, "0x11"), (0, "0x0"), (False, "False"), ("\x1b", "\\x1b")]
)
def test_values_as_text(value: object, text: str | None) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("code", "kind"),
    [("missing", Kind.UNREAD), ("excluded", Kind.UNREAD), ("page-damaged", Kind.UNREAD), ("bad-fdt", Kind.PROGRESS)],
)
def test_what_a_source_leaves_out_was_not_seen_to_be_consumed(code: str, kind: Kind) -> None:
    sign = Problem(code=code, address=0x1000, message="no", root=0x1000, about="memblock")
    for signs in ([sign], [DAMAGED, sign], [sign, DAMAGED]):
        assert sides(consumed=True).gone("w", "before", "why", signs).kind is kind


def test_many_items_of_one_key_are_paired_in_order_with_one_look_at_each() -> None:
    looks: list[int] = []
    items = list(range(1000))
    pairs = list(paired(items, items[:999], lambda item: looks.append(item) or "same"))  # type: ignore[func-returns-value]
    assert pairs == [("same", item, item if item < 999 else None) for item in items]
    assert len(looks) == 1999


def test_each_item_is_taken_once_by_any_of_its_keys() -> None:
    items = Matches([("a", 1), ("b", 2), ("b", 1)], lambda item: item)
    assert items.take(("x", 3)) is None
    assert items.take(("b", 1)) == ("a", 1)  # the first one in order
    assert items.take(("a", 2)) == ("b", 2)
    assert items.take(("a", 1)) == ("b", 1)
    assert items.take(("b", 1)) is None
    assert [*items.left()] == []


def _sessions(side: int, count: int) -> State:
    luo = luo_of()
    sessions = tuple(
        replace(luo.sessions[0], name=f"{side}-{at}", address=8 * at + side, files=()) for at in range(count)
    )
    return changed(sound(), luo=replace(luo, sessions=sessions, session_blocks=tuple(range(0x1000, count << 12, 4096))))


def _files(side: int, count: int) -> State:
    luo = luo_of()
    file = replace(luo.sessions[0].files[0], memfd=None)
    files = tuple(replace(file, token=2 * at + side, data=2 * at + side) for at in range(count))
    return changed(sound(), luo=replace(luo, sessions=(replace(luo.sessions[0], files=files),)))


def _subtrees(side: int, count: int) -> State:
    return changed(sound(), subtrees=tuple(Subtree(name=f"{at}", address=side, size=1) for at in range(count)))


def _lists(side: int, count: int) -> State:
    one = sound().handovers[0].pci[0]
    return changed(
        sound(), pci=tuple(replace(one, via=(f"subtree:{side}-{at}",), address=2 * at + side) for at in range(count))
    )


@pytest.mark.parametrize("make", [_sessions, _files, _subtrees, _lists])
def test_work_grows_with_what_both_sides_have(make: Callable[[int, int], State]) -> None:
    times = list[float]()
    for count in (1000, 8000):
        before, after = make(0, count), make(1, count)
        start = process_time()
        assert compare(before, after).changes
        times.append(process_time() - start)
    assert times[1] < 24 * times[0] + 1  # N: 8 times, N * N: 64 times
