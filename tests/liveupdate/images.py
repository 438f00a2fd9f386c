# SPDX-License-Identifier: MIT
"""What a model hands over, read back."""

from __future__ import annotations

import luoser
from luoser.liveupdate import Machine, image_of
from luoser.liveupdate.image import described
from luoser.liveupdate.memory import PAGE_SIZE
from luoser.state import State

__all__ = ["image"]


def image(machine: Machine, *, has_old_bytes: bool = False) -> State:
    """The state that is read back, after a look whether the writer makes the same bytes of the machine's document.

    has_old_bytes: a list has bytes behind its end that no description has.
    """
    made = described(machine).pages
    for folio in machine.carried() if not has_old_bytes else ():
        for place in range(0, len(folio.data), PAGE_SIZE):
            page = folio.data[place : place + PAGE_SIZE]
            assert made.get(folio.address + place, page) == page, folio.what
    return luoser.read(image_of(machine).memory())
