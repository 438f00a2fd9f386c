# SPDX-License-Identifier: MIT
"""Sessions, files and memfds in an image to which nothing points, of each form, and look-alikes of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import luoser
from luoser.memory.source import Memory
from luoser.state import Confidence, Salvaged, State
from tests.images import Image, name, u64

__all__ = ["array", "block", "by_kind", "file", "high", "luo", "memfd", "salvaged", "session"]


def session(label: str | bytes, files: int = 0, count: int = 0) -> bytes:
    return name(label, 64) + struct.pack("<QQ", files, count)


def file(data: int, token: int, handler: str = "memfd-v2") -> bytes:
    return name(handler, 48) + struct.pack("<QQ", data, token)


def block(image: Image, entries: Sequence[bytes], *, following: int = 0, count: int | None = None) -> int:
    """One KHO block."""
    head = struct.pack("<QQ", following, len(entries) if count is None else count)
    return image.alloc(head + b"".join(entries))


def array(image: Image, entries: Sequence[bytes]) -> int:
    """The two pages of files of the forms before blocks."""
    return image.alloc(b"".join(entries), order=1)


def memfd(image: Image, folios: int = 2, *, version: int = 2, size: int | None = None, seals: int = 0) -> int:
    """A memfd descriptor with its array and its folios."""
    frames = [image.alloc(b"folio %d" % number) // image.page_size for number in range(folios)]
    entries = b"".join(struct.pack("<QQ", frame | 3 << 52, index) for index, frame in enumerate(frames))
    area = image.vmalloc(entries)
    whole = folios * image.page_size if size is None else size
    flags = struct.pack("<II", seals, 0) if version == 2 else b""
    return image.alloc(struct.pack("<QQ", 0, whole) + flags + u64(folios) + area)


def luo(image: Image, *, files: int = 2, sessions: int = 2) -> tuple[int, list[int], list[int]]:
    """Sessions as 7.3 hands them over: (address of their block, addresses of blocks of files, of memfds)."""
    memfds = [[memfd(image) for _ in range(files)] for _ in range(sessions)]
    blocks = [block(image, [file(data, token) for token, data in enumerate(one)]) for one in memfds]
    head = block(image, [session(f"vm-{number}", place, files) for number, place in enumerate(blocks)])
    return head, blocks, [one for some in memfds for one in some]


def salvaged(source: Image | Memory, **options: object) -> tuple[Salvaged, ...]:
    """What is found in a source."""
    memory = source.open() if isinstance(source, Image) else source
    state: State = luoser.read(memory, salvage=True, **options)  # type: ignore[arg-type]
    assert state.salvaged is not None
    return state.salvaged


def high(found: Iterable[Salvaged]) -> set[int]:
    """The addresses of what is sure."""
    return {one.address for one in found if one.confidence is Confidence.HIGH}


def by_kind(found: Iterable[Salvaged], kind: str) -> list[Salvaged]:
    return [one for one in found if one.kind == kind]
