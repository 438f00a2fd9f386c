# SPDX-License-Identifier: MIT
"""What breaks the rules of luoser/checks/kho.py."""

from __future__ import annotations

from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__: list[str] = []


@mutation("KHO001", "KHO revival is disabled; the kernel boots without anything that was preserved")
def root_version(image: Image, state: State) -> None:
    """kho-v4 becomes kho-v9."""
    root = first_handover(state).address
    if root is None:
        raise Cannot("the root has no address")
    page = image.read(root, image.page_size)
    place = page.index(b"kho-v")
    image.patch(root + place + 5, b"9")
