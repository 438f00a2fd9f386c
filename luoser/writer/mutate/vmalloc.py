# SPDX-License-Identifier: MIT
"""What breaks the rules of luoser/checks/vmalloc.py."""

from __future__ import annotations

import struct

from luoser.abi.vmalloc import kho_vmalloc_hdr
from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.memfd import LOST, memfd_of, set_member
from luoser.writer.mutate.model import mutation

__all__: list[str] = []


@mutation("MFD003", LOST)
def array_loop(image: Image, state: State) -> None:
    """The last chunk of the folio array leads back to the first."""
    chunks = memfd_of(state).folios.chunks
    image.patch(chunks[-1] + kho_vmalloc_hdr.offset("next"), struct.pack("<Q", chunks[0]))


@mutation("MFD004", LOST)
def array_flags(image: Image, state: State) -> None:
    """The folio array's vmalloc flags get bit 2, which does not exist."""
    memfd = memfd_of(state)
    set_member(image, memfd, "folios.flags", memfd.folios.flags | 4)


@mutation("MAP018", LOST)
def first_chunk(image: Image, state: State) -> None:
    """The address of the folio array's first chunk gets a bit that leads beyond all memory."""
    memfd = memfd_of(state)
    set_member(image, memfd, "folios.first", memfd.folios.chunks[0] | 1 << 45)
