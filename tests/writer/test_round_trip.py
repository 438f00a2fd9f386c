# SPDX-License-Identifier: MIT
"""read(write(state)) == state, for random descriptions of every release and layout."""

from __future__ import annotations

from hypothesis import Phase, given, settings

from luoser.state import to_document
from tests.schemas import errors
from tests.writer.helpers import Json, built, compared, differences, reread
from tests.writer.specs import Case, cases

HARMLESS = {"missing", "map-width"}
"""Pages that the description names and does not fill, and a width that the bytes leave open."""


def without_width(document: Json) -> Json:
    """Of bitmaps of 512 bytes that all begin a page nobody can say how wide they are."""
    for handover in document["handovers"]:
        handover["preserved"]["bitmap_size"] = None
    return document


@settings(max_examples=100, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(cases())
def test_what_was_written_is_what_is_read(case: Case) -> None:
    state, image = built(case.document, kernel=case.kernel)
    again = reread(image, layouts=case.layouts)
    said, read = compared(to_document(state, full=True)), compared(to_document(again, full=True))
    if case.kernel in ("6.16", "6.17"):
        said, read = without_width(said), without_width(read)
    assert not list(differences(said, read))
    assert [problem for problem in again.problems if problem.code not in HARMLESS] == []
    assert errors(to_document(state, full=True)) == []
    assert image.lacks == [word for word in image.lacks if "no data of unknown-v1" in word or "FLB" in word]
