# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/vmalloc.py."""

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
    """The last chunk of the folio array points to the first one."""
    chunks = memfd_of(state).folios.chunks
    image.patch(chunks[-1] + kho_vmalloc_hdr.offset("next"), struct.pack("<Q", chunks[0]))


@mutation("MFD004", "nothing: flags that are not known are dropped. No kernel writes them")
def array_flags(image: Image, state: State) -> None:
    """The unknown bit 2 is set in the vmalloc flags of the folio array."""
    memfd = memfd_of(state)
    set_member(image, memfd, "folios.flags", memfd.folios.flags | 4)


@mutation("MAP018", "an Oops when the file is retrieved")
def first_chunk(image: Image, state: State) -> None:
    """A high bit is set in the address of the folio array's first chunk, so that it is beyond RAM."""
    memfd = memfd_of(state)
    set_member(image, memfd, "folios.first", memfd.folios.chunks[0] | 1 << 45)
