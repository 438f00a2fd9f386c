# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/kho_test.py."""

from __future__ import annotations

from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.kho import subtree_at, tree_at
from luoser.writer.mutate.model import mutation

__all__: list[str] = []


@mutation("KHO014", "the self-test reports that its data has changed")
def kho_test(image: Image, state: State) -> None:
    """The first byte of the self-test's magic becomes 0."""
    place = subtree_at(state, "kho_test")
    image.patch(place + tree_at(image, place).index(b"!OHK"), b"\0")
