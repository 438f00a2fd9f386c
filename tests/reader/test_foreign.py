# SPDX-License-Identifier: MIT
"""Roots that are not the machine's own."""

from __future__ import annotations

from luoser.state import Direction
from tests.images import Image


def test_lone_root_whose_subtrees_are_all_something_else_is_not_foreign() -> None:
    """A guest's root lies beside its host's own; alone, what it names was damaged."""
    image = Image()
    blob = image.alloc(b"nothing of the kind")
    image.handover({"LUO": (blob, 32), "memblock": (image.alloc(b"nor this"), 64)})
    (found,) = image.read().handovers
    assert (found.own, found.direction) == (True, Direction.OUTGOING)
    assert found.evidence == ("inferred: the only root, and its map is intact",)
