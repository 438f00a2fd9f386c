# SPDX-License-Identifier: MIT
"""The memory that a machine hands over."""

from __future__ import annotations

from luoser.liveupdate.machine import Machine
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.complete import complete

__all__ = ["described", "image_of"]

_KERNEL = "6.17"
"""Release of the time of the 2025 series, whose KHO has 512-byte bitmaps."""


def image_of(machine: Machine) -> Image:
    """KHO's own pages, and every page that is carried as the machine left it. Raises UsageError where nothing is handed
    over.
    """
    image = described(machine)
    for folio in machine.carried():
        for place in range(0, len(folio.data), image.page_size):
            image.patch(folio.address + place, bytes(folio.data[place : place + image.page_size]))
    return image


def described(machine: Machine) -> Image:
    """What the writer makes of a machine's document: old bytes behind a list are not in it."""
    kernel = getattr(machine, "kernel", _KERNEL)
    ranges = [(folio.address, len(folio.data) // folio.count, folio.count) for folio in machine.carried()]
    return write(from_document(complete(machine.document(), kernel=kernel, preserved=ranges)))
