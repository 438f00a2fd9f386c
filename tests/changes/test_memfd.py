# SPDX-License-Identifier: MIT
"""Preserved memfds before and after: their descriptors and folios."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from luoser.changes import Kind
from luoser.changes.memfd import memfd_changes
from luoser.state import FolioList, Memfd
from tests.checks.mutants import memfd_of


def with_folios(*folios: tuple[int, int, int]) -> Memfd:
    """(index, frame, flags) of each."""
    data = b"".join(
        (frame | flags << 52).to_bytes(8, "little") + index.to_bytes(8, "little") for index, frame, flags in folios
    )
    memfd = memfd_of()
    return replace(memfd, folios=replace(memfd.folios, count=len(folios), list=FolioList(data, page_size=4096)))


def told(before: Memfd, after: Memfd) -> list[tuple[str, Kind]]:
    return [(change.where, change.kind) for change in memfd_changes("x", before, after)]


@pytest.mark.parametrize("name", ["layout", "size", "position", "seals", "flags"])
def test_members_of_the_descriptor(name: str) -> None:
    values: dict[str, Any] = {"layout": "memfd-v9"}
    assert told(memfd_of(), replace(memfd_of(), **{name: values.get(name, 77)})) == [(f"x/{name}", Kind.CHANGED)]


FOLIOS = ((0, 10, 3), (1, 11, 3), (2, 12, 3))


@pytest.mark.parametrize(
    ("after", "kinds"),
    [
        (FOLIOS, []),
        (((0, 10, 3), (1, 91, 3), (2, 12, 3)), [("x/folios/1/address", Kind.CHANGED)]),
        (((0, 10, 3), (1, 11, 1), (2, 12, 3)), [("x/folios/1/flags", Kind.CHANGED)]),
        (((0, 10, 3), (1, 11, 3), (7, 12, 3)), [("x/folios/2", Kind.CHANGED)]),
        (((0, 10, 3), (1, 11, 3)), [("x/folios/2", Kind.REMOVED)]),
        (((0, 10, 3), (2, 12, 3)), [("x/folios/1", Kind.REMOVED)]),
        ((*FOLIOS, (3, 13, 3)), [("x/folios/3", Kind.ADDED)]),
        (((1, 91, 1),), [("x/folios/0", Kind.REMOVED), ("x/folios/1/address", Kind.CHANGED),
                         ("x/folios/1/flags", Kind.CHANGED), ("x/folios/2", Kind.REMOVED)]),
    ],
)  # fmt: skip
def test_folios_by_index(after: tuple[tuple[int, int, int], ...], kinds: list[tuple[str, Kind]]) -> None:
    count = [("x/folios/count", Kind.CHANGED)] * (len(after) != len(FOLIOS))
    assert told(with_folios(*FOLIOS), with_folios(*after)) == [*count, *kinds]


@pytest.mark.parametrize("index", [0, 1, 3])
def test_an_index_that_is_another_one(index: int) -> None:
    (change,) = memfd_changes("x", with_folios((2, 12, 3)), with_folios((index, 12, 3)))
    assert (change.where, change.before, change.after) == ("x/folios/2", "index 2", f"index {index}")


@pytest.mark.parametrize("rows", [FOLIOS, FOLIOS[:1]])
def test_folios_of_two_forms_are_compared_by_what_they_say(rows: tuple[tuple[int, int, int], ...]) -> None:
    """The frame number is in the upper bits of an entry in the forms before the merge, and the flags are below."""
    merged = with_folios(*rows)
    data = b"".join((frame << 12 | flags).to_bytes(8, "little") + index.to_bytes(8, "little")
                    for index, frame, flags in rows)  # fmt: skip
    posted = replace(merged, folios=replace(merged.folios, list=FolioList(data, page_size=4096, frame_shift=12)))
    assert told(merged, posted) == told(posted, merged) == []
    moved = replace(posted, folios=replace(posted.folios, list=FolioList(merged.folios.list.data, page_size=4096,
                                                                         frame_shift=12)))  # fmt: skip
    assert [where for where, _ in told(merged, moved)] == [
        f"x/folios/{index}/{member}" for index, _, _ in rows for member in ("address", "flags")
    ]


_SOME = st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 3), st.integers(0, 1)))


@given(before=_SOME, after=_SOME)
def test_folios_that_are_equal_on_both_sides_make_no_difference(
    before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]
) -> None:
    assume(len(before) != len(after))  # else row by row
    rows = [[(index, *folio) for index, folio in sorted(side.items())] for side in (before, after)]
    found = [change for change in told(*(with_folios(*side) for side in rows)) if change[0] != "x/folios/count"]
    expected = []
    for index in dict.fromkeys((*sorted(before), *sorted(after))):
        if index not in after or index not in before:
            expected.append((f"x/folios/{index}", Kind.REMOVED if index in before else Kind.ADDED))
            continue
        for name, old, new in zip(("address", "flags"), before[index], after[index], strict=True):
            expected += [(f"x/folios/{index}/{name}", Kind.CHANGED)] if old != new else []
    assert found == expected
