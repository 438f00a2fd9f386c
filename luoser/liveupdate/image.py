# SPDX-License-Identifier: MIT
"""Memory images of a modelled machine."""

from __future__ import annotations

from luoser.liveupdate.machine import Machine
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.complete import complete

__all__ = ["described", "image_of"]

_KERNEL = "6.17"
"""Kernel release of the 2025 series. Its KHO has 512-byte bitmaps."""


def image_of(machine: Machine) -> Image:
    """The image of a machine: KHO's own pages, and the current bytes of every preserved page.

    Raises UsageError if nothing is handed over.
    """
    image = described(machine)
    for folio in machine.carried():
        for place in range(0, len(folio.data), image.page_size):
            image.patch(folio.address + place, bytes(folio.data[place : place + image.page_size]))
    return image


def described(machine: Machine) -> Image:
    """The image that the writer makes from the machine's document.

    Unlike `image_of` it does not have old bytes after the end of a list.
    """
    kernel = getattr(machine, "kernel", _KERNEL)
    ranges = [(folio.address, len(folio.data) // folio.count, folio.count) for folio in machine.carried()]
    return write(from_document(complete(machine.document(), kernel=kernel, preserved=ranges)))
