# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/memfd.py."""

from __future__ import annotations

import struct

from luoser.abi import memfd as abi
from luoser.abi.schema import Schema
from luoser.state import Memfd, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__ = ["LOST", "memfd_of", "set_member"]

_ENTRY = abi.memfd_luo_folio_ser.size
LOST = "retrieving the file fails"


def _descriptor(memfd: Memfd) -> Schema | None:
    """The struct of a descriptor. None: a devicetree, before the merge."""
    form = abi.form(memfd.layout)
    return form.descriptor if form is not None else None


def memfd_of(state: State, *, folios: int = 2) -> Memfd:
    """The first memfd with a descriptor and an array. Raises Cannot if there is none.

    state:  whose first handover is used.
    folios: minimal number.
    """
    luo = first_handover(state).luo
    for session in luo.sessions if luo is not None else ():
        for file in session.files:
            memfd = file.memfd
            if (
                memfd is not None
                and _descriptor(memfd) is not None
                and memfd.folios.pages
                and memfd.folios.count >= folios
            ):
                return memfd
    raise Cannot(f"expected a memfd with at least {folios} folios")


def set_member(image: Image, memfd: Memfd, name: str, value: int) -> None:
    """Write a member of a descriptor. Raises Cannot if there is no such member.

    image: to write to.
    memfd: of the descriptor.
    name:  of the member, with dots for a nested one.
    value: to write.
    """
    schema = _descriptor(memfd)
    field = next((one for one in schema.fields if one.name == name), None) if schema is not None else None
    if field is None:
        raise Cannot(f"expected a memfd with {name}, found {memfd.layout}")
    image.patch(memfd.address + field.offset, value.to_bytes(field.size, "little"))


# -- the descriptor and its array -------------------------------------------------------------------------


@mutation("MFD001", "an Oops when the file is retrieved")
def descriptor(image: Image, state: State) -> None:
    """The number of folios becomes more than fit the array."""
    memfd = memfd_of(state)
    set_member(image, memfd, "nr_folios", memfd.folios.total_pages * image.page_size // _ENTRY + 1)


@mutation("MFD002", "the file is empty")
def zero(image: Image, state: State) -> None:
    """The descriptor becomes zeros."""
    memfd = memfd_of(state)
    image.patch(memfd.address, bytes(schema.size if (schema := _descriptor(memfd)) is not None else 0))


@mutation("MFD006", LOST)
def array_size(image: Image, state: State) -> None:
    """The folio array gets one page more than it needs."""
    memfd = memfd_of(state)
    set_member(image, memfd, "folios.total_pages", memfd.folios.total_pages + 1)


@mutation("MFD012", LOST)
def seals(image: Image, state: State) -> None:
    """The file gets a seal that does not exist."""
    set_member(image, memfd_of(state), "seals", 0x40)


@mutation("MFD013", "nothing: nobody reads the flags. No kernel writes them")
def flags(image: Image, state: State) -> None:
    """The reserved flags become 1."""
    set_member(image, memfd_of(state), "flags", 1)


# -- the folios -------------------------------------------------------------------------------------------


@mutation("MFD007", LOST)
def index_twice(image: Image, state: State) -> None:
    """The second folio gets the index of the first."""
    array = memfd_of(state).folios.pages[0]
    place = abi.memfd_luo_folio_ser.offset("index")
    image.patch(array + _ENTRY + place, image.read(array + place, 8))


@mutation("MFD008", "the file is shorter than its memory")
def beyond(image: Image, state: State) -> None:
    """The file ends where its last folio begins."""
    memfd = memfd_of(state)
    set_member(image, memfd, "size", memfd.folios.list[-1].index * image.page_size)


@mutation("MFD009", "the folio counts as never filled")
def folio_flags(image: Image, state: State) -> None:
    """The first folio becomes dirty, but not up to date."""
    array = memfd_of(state).folios.pages[0]
    word = int.from_bytes(image.read(array, 8), "little") & (1 << abi.PFN_BITS) - 1
    image.patch(array, struct.pack("<Q", word | 1 << abi.PFN_BITS))


@mutation("MFD016", "nothing: the bits are not looked at. No kernel writes them")
def unknown_flags(image: Image, state: State) -> None:
    """The first folio gets the highest flag."""
    array = memfd_of(state).folios.pages[0]
    word = int.from_bytes(image.read(array, 8), "little")
    image.patch(array, struct.pack("<Q", word | 1 << 63))


@mutation("MFD010", "retrieving the file fails at the second restore of the folio")
def shared(image: Image, state: State) -> None:
    """The second folio becomes the memory of the first."""
    array = memfd_of(state).folios.pages[0]
    image.patch(array + _ENTRY, image.read(array, 8))


@mutation("MFD011", "the end of the file is zeros")
def incomplete(image: Image, state: State) -> None:
    """The file becomes 1 GiB longer than its memory."""
    memfd = memfd_of(state)
    set_member(image, memfd, "size", memfd.size + (1 << 30))
