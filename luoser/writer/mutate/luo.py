# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/luo.py."""

from __future__ import annotations

import struct

from luoser.abi import luo as abi
from luoser.abi.luo import LuoForm
from luoser.abi.release import writers_of
from luoser.state import File, Flb, Luo, Session, State
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation
from luoser.writer.mutate.preserved import fresh_page, preserve

__all__ = ["EIO", "PANIC", "form_of", "luo_of", "place_of", "sessions_of"]

PANIC = "LUO refuses, and the kernel panics while restoring"
EIO = "the first open of /dev/liveupdate and all later ones return -EIO"


def luo_of(state: State) -> Luo:
    """LUO of the first handover. Raises Cannot if there is none."""
    luo = first_handover(state).luo
    if luo is None:
        raise Cannot("expected a state with LUO")
    return luo


def form_of(luo: Luo) -> LuoForm:
    """The form of LUO. Raises Cannot if it is unknown."""
    form = abi.form(luo.layout)
    if form is None:
        raise Cannot(f"unknown form of LUO: {luo.layout}")
    return form


def _set_root(image: Image, luo: Luo, name: str, value: int) -> None:
    root = form_of(luo).root
    if root is None:
        raise Cannot(f"expected a form of LUO with struct luo_ser, found {luo.layout}")
    image.patch(luo.address + root.offset(name), struct.pack("<Q", value))


def sessions_of(state: State, files: int = 0, *, count: int = 1) -> list[Session]:
    """The first sessions that have an address. Raises Cannot if there are too few.

    state: whose first handover is used.
    files: minimal number of files of each session.
    count: number of sessions.
    """
    found = [one for one in luo_of(state).sessions if one.address is not None and len(one.files) >= files]
    if len(found) < count:
        raise Cannot(f"expected {count} sessions with at least {files} files each")
    return found[:count]


def place_of(thing: Session | File) -> int:
    """Address of an entry. Raises Cannot if it has none."""
    if thing.address is None:
        raise Cannot("entries have no addresses in this form of LUO")
    return thing.address


def _flbs(state: State, count: int = 1) -> tuple[Flb, ...]:
    flbs = luo_of(state).flbs
    if len(flbs) < count:
        raise Cannot(f"expected {count} FLBs")
    return flbs[:count]


def _set_count(image: Image, session: Session, count: int) -> None:
    image.patch(place_of(session) + abi.luo_session_ser.offset("file_set_ser.count"), struct.pack("<Q", count))


# -- the root object --------------------------------------------------------------------------------------


@mutation("LUO001", PANIC)
def unreadable(image: Image, state: State) -> None:
    """The first byte of LUO's root object becomes x."""
    image.patch(luo_of(state).address, b"x")


@mutation("LUO002", PANIC)
def version(image: Image, state: State) -> None:
    """luo-v5 becomes luo-v6, and so does luo-v1 of a devicetree."""
    address = luo_of(state).address
    place = image.read(address, image.page_size).index(b"luo-v")
    image.patch(address + place + 5, b"6")


@mutation("LUO003", PANIC)
def blob_size(image: Image, state: State) -> None:
    """blob-size of LUO becomes 16."""
    handover = first_handover(state)
    tree = next((entry for entry in handover.subtrees if entry.name == "LUO"), None)
    if handover.address is None or tree is None or tree.size is None or tree.fdt is not None:
        raise Cannot("expected a blob-size of LUO in the root")
    page = image.read(handover.address, image.page_size)
    place = page.index(struct.pack("<Q", tree.size), page.index(b"\1LUO\0"))
    image.patch(handover.address + place, struct.pack("<Q", abi.luo_ser.size // 2))


@mutation("LUO004", PANIC)
def number_missing(image: Image, state: State) -> None:
    """The property liveupdate-number gets another name."""
    luo = luo_of(state)
    if luo.number is None or not writers_of(luo.layout) or not form_of(luo).is_tree:
        raise Cannot(f"expected a form of LUO with the property liveupdate-number, found {luo.layout}")
    name = b"liveupdate-number\0"
    image.patch(luo.address + image.read(luo.address, image.page_size).index(name), b"L")


@mutation("LUO005", "none known: the next number is 1 again")
def number_zero(image: Image, state: State) -> None:
    """The number of live updates becomes 0."""
    _set_root(image, luo_of(state), "liveupdate_num", 0)


@mutation("LUO006", "nothing at boot, but the FLBs are lost; a panic if LUO is that of 7.0 or 7.1")
def flb_area(image: Image, state: State) -> None:
    """The pointer to the FLB page becomes 0."""
    _set_root(image, luo_of(state), "flbs_pa", 0)


# -- counts -----------------------------------------------------------------------------------------------


@mutation("LUO010", EIO)
def file_count(image: Image, state: State) -> None:
    """The count of the first session with files is incremented."""
    session = sessions_of(state, 1)[0]
    _set_count(image, session, session.count + 1)


@mutation("LUO012", "no session can be retrieved, and the FLBs are never finished")
def sessions_lost(image: Image, state: State) -> None:
    """The pointer to the sessions becomes 0. There are FLBs with files."""
    _flbs(state)
    _set_root(image, luo_of(state), "sessions_pa", 0)


# -- sessions and files -----------------------------------------------------------------------------------


@mutation("LUO013", "the session cannot be retrieved")
def session_name(image: Image, state: State) -> None:
    """The first session with files loses its name."""
    image.patch(place_of(sessions_of(state, 1)[0]), bytes(56))


@mutation("LUO014", EIO)
def session_duplicate(image: Image, state: State) -> None:
    """The second session gets the first one's name."""
    first, second = sessions_of(state, count=2)
    image.patch(place_of(second), image.read(place_of(first), 56))


@mutation("LUO015", EIO)
def file_entry(image: Image, state: State) -> None:
    """The handler of a file becomes 48 letters without a NUL."""
    image.patch(place_of(sessions_of(state, 1)[0].files[-1]), b"m" * 48)


@mutation("LUO016", "only one of the two files can be retrieved")
def token_duplicate(image: Image, state: State) -> None:
    """The last file of a session gets the first one's token."""
    files = sessions_of(state, 2)[0].files
    image.patch(place_of(files[-1]) + abi.luo_file_ser.offset("token"), struct.pack("<Q", files[0].token))


# -- FLBs -------------------------------------------------------------------------------------------------


@mutation("LUO019", "nothing until the FLB is to be finished: it never is, and its memory leaks")
def flb_count(image: Image, state: State) -> None:
    """The count of the first FLB becomes one more than the number of files."""
    files = sum(session.count for session in luo_of(state).sessions)
    image.patch(_flbs(state)[0].address + abi.luo_flb_ser.offset("count"), struct.pack("<Q", files + 1))


@mutation("LUO020", "only one of the two FLBs is found")
def flb_duplicate(image: Image, state: State) -> None:
    """The second FLB gets the first one's name."""
    first, second = _flbs(state, 2)
    image.patch(second.address, image.read(first.address, 48))


@mutation("LUO023", "nothing until its owner retrieves the FLB: it finds a page of zeros")
def flb_page(image: Image, state: State) -> None:
    """The data of the first FLB becomes the address of another page, which is preserved and all zeros."""
    flb = _flbs(state)[0]
    page = fresh_page(image, state)
    preserve(image, state, page, 0)
    image.patch(flb.address + abi.luo_flb_ser.offset("data"), struct.pack("<Q", page))
