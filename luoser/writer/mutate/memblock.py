# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/memblock.py."""

from __future__ import annotations

from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.kho import subtree_at, tree_at
from luoser.writer.mutate.model import Cannot, mutation

__all__: list[str] = []


@mutation("KHO010", "the region is allocated again; its contents are lost")
def memblock(image: Image, state: State) -> None:
    """reserve-mem-v1 becomes Reserve-mem-v1."""
    place = subtree_at(state, "memblock")
    offset = tree_at(image, place).find(b"reserve-mem-v1")
    if offset < 0:
        raise Cannot("expected a region in the sub-tree memblock")
    image.patch(place + offset, b"R")
