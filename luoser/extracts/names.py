# SPDX-License-Identifier: MIT
"""Names that users chose, replaced by hashes with a key: equal names have equal hashes, in all cuts with this key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from luoser.errors import MissingMemory
from luoser.memory.source import Memory
from luoser.state import HASHED_NAMES

__all__ = ["hashed_names", "names_are_hashed"]

_LONGEST = 24
"""Characters of a hash: 120 bits."""


def hashed_names(memory: Memory, places: Iterable[tuple[int, int]], key: bytes) -> Mapping[tuple[int, int], bytes]:
    """What replaces the names at some places, by place. A name is as long as its room lets it be, with a NUL.

    memory: the source.
    places: (physical address, size in bytes) of the room of each.
    key:    of the hashes.
    """
    made: dict[tuple[int, int], bytes] = {}
    owners: dict[bytes, bytes] = {}
    for name, place in sorted((_name(memory, place), place) for place in set(places)):
        if name:
            made[place] = _hashed(name, key, min(_LONGEST, place[1] - 1), owners)
    return made


def names_are_hashed(key: bytes) -> str:
    """What a cut says of its names, in words. The same for the same key."""
    mark = _digest(key, b"")[:16].decode()
    return f"{HASHED_NAMES}; the mark of their key is {mark}"


def _name(memory: Memory, place: tuple[int, int]) -> bytes:
    """The name at a place. Empty: it has none, or is not in the source."""
    try:
        return memory.read(*place).partition(b"\0")[0]
    except MissingMemory:
        return b""


def _hashed(name: bytes, key: bytes, size: int, owners: dict[bytes, bytes]) -> bytes:
    """A hash of a name that no other name in this cut has. size: in bytes."""
    for number in range(1 << 16):
        again = b"/%d" % number if number else b""
        found = _digest(key, name + b"\0" + again)[:size]
        if owners.setdefault(found, name) == name:
            break
    return found


def _digest(key: bytes, data: bytes) -> bytes:
    return base64.b32encode(hmac.new(key, data, hashlib.sha256).digest()).lower().rstrip(b"=")
