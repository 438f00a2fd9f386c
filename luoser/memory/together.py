# SPDX-License-Identifier: MIT
"""Which of many files are parts of one dump: those of a split kdump, and a .vmem with its state file."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

from luoser.errors import LuoserError
from luoser.memory import kdump
from luoser.memory.packed import LONGEST, unpacked
from luoser.memory.vmware import MAGICS as STATE_MAGICS

__all__ = ["grouped"]

_HEAD = 2 * 65536
"""Bytes of a kdump that have both of its headers: the second one begins the block after the first, of up to 64 KiB."""


def grouped(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The files as sources: each alone, or with the others of its dump, in the order of the first of each.

    names: of files, or of anything else, which stays alone.
    """
    groups, places, states = list[list[str]](), dict[Hashable, int](), list[tuple[str, int]]()
    for name in names:
        head = b"".join(_head(name))
        if head.startswith(STATE_MAGICS):
            states.append((name, len(groups) - 1))
            continue
        key = _split_dump(name, head)
        place = len(groups) if key is None else places.setdefault(key, len(groups))
        if place == len(groups):
            groups.append([])
            places.setdefault(name, place)
        groups[place].append(name)
    for name, before in states:  # it belongs to the .vmem of its name, or to the file before it
        memory = places.get(f"{name.rpartition('.')[0]}.vmem", before)
        if memory >= 0 and len(groups[memory]) == 1:
            groups[memory].append(name)
        else:
            groups.append([name])
    return [tuple(group) for group in groups]


def _split_dump(name: str, head: bytes) -> tuple[Hashable, ...] | None:
    if not head.startswith(kdump.MAGICS):
        return None
    try:
        return kdump.split_dump(name, head)
    except LuoserError:
        return None


def _head(name: str) -> Iterator[bytes]:
    """The first bytes of a file, unpacked, if it may be part of a dump. Nothing of what cannot be read."""
    try:
        path = Path(name)
        if not path.is_file():
            return
        with path.open("rb") as file:
            start = file.read(LONGEST)
            file.seek(0)
            pieces, left = unpacked(file, start, []) or iter((file.read(_HEAD),)), _HEAD
            for piece in pieces:
                if left == _HEAD and not piece.startswith((*kdump.MAGICS, *STATE_MAGICS)):
                    return
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return
    except (OSError, ValueError, LuoserError):
        return
