# SPDX-License-Identifier: MIT
"""What breaks the rules of luoser/checks/luo.py."""

from __future__ import annotations

import struct

from luoser.abi import luo as abi
from luoser.abi import memfd
from luoser.abi.block import kho_block_header_ser
from luoser.state import File, Flb, Luo, Session, State
from luoser.writer.image import Image
from luoser.writer.luo import BLOCK_FORMS, STRUCT_FORMS
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__: list[str] = []

_PANIC = "LUO refuses, and the kernel panics while it restores"
_EIO = "the first open of /dev/liveupdate and all later ones return -EIO"


def _luo(state: State) -> Luo:
    luo = first_handover(state).luo
    if luo is None:
        raise Cannot("the state has no LUO to break")
    return luo


def _set_root(image: Image, luo: Luo, name: str, value: int) -> None:
    if luo.layout not in STRUCT_FORMS:
        raise Cannot(f"LUO is {luo.layout}; this breaks forms with luo_ser only")
    image.patch(luo.address + STRUCT_FORMS[luo.layout].offset(name), struct.pack("<Q", value))


def _sessions(state: State, files: int = 0, *, count: int = 1) -> list[Session]:
    """The first sessions that have so many files and a place in memory."""
    found = [one for one in _luo(state).sessions if one.address is not None and len(one.files) >= files]
    if len(found) < count:
        raise Cannot(f"this needs {count} sessions with at least {files} files each")
    return found[:count]


def _place(thing: Session | File) -> int:
    if thing.address is None:
        raise Cannot("the entry has no place in memory in this form of LUO")
    return thing.address


def _flbs(state: State, count: int = 1) -> tuple[Flb, ...]:
    flbs = _luo(state).flbs
    if len(flbs) < count:
        raise Cannot(f"this needs {count} FLBs")
    return flbs[:count]


def _set_count(image: Image, session: Session, count: int) -> None:
    image.patch(_place(session) + abi.luo_session_ser.offset("file_set_ser.count"), struct.pack("<Q", count))


# -- the root object --------------------------------------------------------------------------------------


@mutation("LUO001", _PANIC)
def unreadable(image: Image, state: State) -> None:
    """The first byte of LUO's root object becomes x."""
    image.patch(_luo(state).address, b"x")


@mutation("LUO002", _PANIC)
def version(image: Image, state: State) -> None:
    """luo-v5 becomes luo-v6, luo-v1 of a devicetree too."""
    address = _luo(state).address
    place = image.read(address, image.page_size).index(b"luo-v")
    image.patch(address + place + 5, b"6")


@mutation("LUO003", _PANIC)
def blob_size(image: Image, state: State) -> None:
    """blob-size of LUO becomes 16."""
    handover = first_handover(state)
    tree = next((entry for entry in handover.subtrees if entry.name == "LUO"), None)
    if handover.address is None or tree is None or tree.size is None or tree.fdt is not None:
        raise Cannot("the root gives LUO no blob-size")
    page = image.read(handover.address, image.page_size)
    place = page.index(struct.pack("<Q", tree.size), page.index(b"\1LUO\0"))
    image.patch(handover.address + place, struct.pack("<Q", abi.luo_ser.size // 2))


@mutation("LUO004", _PANIC)
def number_missing(image: Image, state: State) -> None:
    """The property liveupdate-number gets another name."""
    luo = _luo(state)
    if luo.number is None or luo.layout not in ("luo-v1", "luo-v1-flb"):
        raise Cannot(f"LUO is {luo.layout}; its number is no property of a devicetree")
    name = b"liveupdate-number\0"
    image.patch(luo.address + image.read(luo.address, image.page_size).index(name), b"L")


@mutation("LUO005", "nothing that is known of: the next number is 1 again")
def number_zero(image: Image, state: State) -> None:
    """The number of live updates becomes 0."""
    _set_root(image, _luo(state), "liveupdate_num", 0)


@mutation("LUO006", _PANIC)
def flb_area(image: Image, state: State) -> None:
    """The pointer to the FLB page becomes 0."""
    _set_root(image, _luo(state), "flbs_pa", 0)


# -- chains and counts ------------------------------------------------------------------------------------


@mutation("LUO008", _PANIC)
def chain_loop(image: Image, state: State) -> None:
    """The last session block leads to itself."""
    luo = _luo(state)
    if luo.layout not in BLOCK_FORMS or not luo.session_blocks:
        raise Cannot("LUO has no session blocks")
    last = luo.session_blocks[-1]
    image.patch(last + kho_block_header_ser.offset("next"), struct.pack("<Q", last))


@mutation("LUO009", _PANIC)
def block_count(image: Image, state: State) -> None:
    """The first session block counts 0 sessions; a session area of the older forms, 820."""
    luo = _luo(state)
    if not luo.session_blocks or luo.layout == "luo-v1-session-v1":
        raise Cannot("LUO has no session blocks")
    if luo.layout in BLOCK_FORMS:
        image.patch(luo.session_blocks[0] + kho_block_header_ser.offset("count"), struct.pack("<Q", 0))
    else:
        room = abi.SESSION_PAGES * image.page_size - abi.luo_session_header_ser.size
        image.patch(luo.session_blocks[0], struct.pack("<Q", room // abi.luo_session_ser.size + 1))


@mutation("LUO010", _EIO)
def file_count(image: Image, state: State) -> None:
    """The first session with files counts one more."""
    session = _sessions(state, 1)[0]
    _set_count(image, session, session.count + 1)


@mutation("LUO012", "no session can be retrieved, and the FLBs are never finished")
def sessions_lost(image: Image, state: State) -> None:
    """The pointer to the sessions becomes 0, while FLBs count files."""
    _flbs(state)
    _set_root(image, _luo(state), "sessions_pa", 0)


# -- sessions and files -----------------------------------------------------------------------------------


@mutation("LUO013", "the session cannot be retrieved")
def session_name(image: Image, state: State) -> None:
    """The first session with files loses its name."""
    image.patch(_place(_sessions(state, 1)[0]), bytes(56))


@mutation("LUO014", "one of the two sessions can be retrieved")
def session_duplicate(image: Image, state: State) -> None:
    """The second session gets the first one's name."""
    first, second = _sessions(state, count=2)
    image.patch(_place(second), image.read(_place(first), 56))


@mutation("LUO015", _EIO)
def file_entry(image: Image, state: State) -> None:
    """The handler of a file becomes 48 letters without a NUL."""
    image.patch(_place(_sessions(state, 1)[0].files[-1]), b"m" * 48)


@mutation("LUO016", "one of the two files can be retrieved")
def token_duplicate(image: Image, state: State) -> None:
    """The last file of a session gets the first one's token."""
    files = _sessions(state, 2)[0].files
    image.patch(_place(files[-1]) + abi.luo_file_ser.offset("token"), struct.pack("<Q", files[0].token))


@mutation("LUO017", _EIO)
def handler(image: Image, state: State) -> None:
    """The handler of a file gets version 9."""
    file = _sessions(state, 1)[0].files[-1]
    image.patch(_place(file), (file.compatible.split("-v")[0].encode() + b"-v9").ljust(48, b"\0"))


@mutation("LUO018", _EIO)
def handler_generation(image: Image, state: State) -> None:
    """A file becomes memfd-v1, descriptor and all, below a root that goes with memfd-v2."""
    files = (file for session in _sessions(state, 1, count=1) for file in session.files)
    file = next((one for one in files if one.compatible == "memfd-v2" and one.memfd is not None), None)
    if file is None:
        raise Cannot("the first session has no memfd-v2")
    old, new = memfd.memfd_luo_ser_v2, memfd.memfd_luo_ser_v1
    data = image.read(file.data, old.size)
    data = data[: old.offset("seals")] + data[old.offset("nr_folios") :]
    assert len(data) == new.size
    image.patch(file.data, data.ljust(old.size, b"\0"))
    image.patch(_place(file), b"memfd-v1")


# -- FLBs -------------------------------------------------------------------------------------------------


@mutation("LUO019", "the FLB is not finished when its last file is, and its memory leaks")
def flb_count(image: Image, state: State) -> None:
    """The first FLB counts one file more than there are."""
    files = sum(session.count for session in _luo(state).sessions)
    image.patch(_flbs(state)[0].address + abi.luo_flb_ser.offset("count"), struct.pack("<Q", files + 1))


@mutation("LUO020", "one of the two FLBs is found")
def flb_duplicate(image: Image, state: State) -> None:
    """The second FLB gets the first one's name."""
    first, second = _flbs(state, 2)
    image.patch(second.address, image.read(first.address, 48))
