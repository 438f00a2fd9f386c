# SPDX-License-Identifier: MIT
"""What the tests of the reader share."""

from __future__ import annotations

import struct

from luoser.memory.overlay import Overlay
from luoser.state import File, Handover, Luo, Memfd, Problem, State
from tests import real
from tests.images import Image, name

__all__ = [
    "EXAMPLE",
    "FROZEN",
    "OLD",
    "RAM0",
    "SEALED",
    "as_tuples",
    "brief",
    "chunks_of",
    "codes",
    "file_of",
    "luo_image",
    "luo_of",
    "luo_ser",
    "memfd_image",
    "memfd_of",
    "merged_array",
    "number",
    "only",
    "pci_entry",
    "problems",
    "replace_u64",
    "session_entry",
    "sound_luo",
    "sound_memfd",
    "v2",
]

FROZEN, OLD = "7.3-a/frozen", "6.19-a/frozen"
RAM0, SEALED = 0x1A, 0x1B
"""Tokens of two files of FROZEN: 4 MiB, and 64 KiB with seals."""


EXAMPLE = [(0x1AC6F4, 3, 0), (0x1AC6F5, 3, 1), (0x1F1D28, 1, 5), (0, 0, 6)]
"""(frame number, flags, index) of four folios, the last a hole."""


def only(state: State) -> Handover:
    """The one handover of a state."""
    (handover,) = state.handovers
    return handover


def codes(state: State) -> list[str]:
    return [problem.code for problem in state.problems]


def problems(state: State, code: str) -> list[Problem]:
    return [problem for problem in state.problems if problem.code == code]


def number(memory: Overlay, address: int) -> int:
    return int.from_bytes(memory.read(address, 8), "little")


def replace_u64(memory: Overlay, page: int, old: int, new: int) -> None:
    """Put another number where a page holds a given one, once."""
    data = memory.read(page, 4096)
    assert data.count(old.to_bytes(8, "little")) == 1
    memory.write(page + data.index(old.to_bytes(8, "little")), new.to_bytes(8, "little"))


def file_of(state: State, token: int) -> File:
    luo = only(state).luo
    assert luo is not None
    return next(file for session in luo.sessions for file in session.files if file.token == token)


def memfd_of(state: State, token: int) -> Memfd:
    memfd = file_of(state, token).memfd
    assert memfd is not None
    return memfd


def as_tuples(memfd: Memfd) -> list[tuple[int, int, int]]:
    return [(folio.address // 4096, folio.flags, folio.index) for folio in memfd.folios.list]


def chunks_of(count: int, image: Image) -> tuple[bytes, list[int]]:
    """A vmalloc descriptor over more than one chunk, and its chunks."""
    descriptor = image.vmalloc(bytes(4096 * count))
    chunk, chunks = int.from_bytes(descriptor[:8], "little"), []
    while chunk:
        chunks.append(chunk)
        chunk = int.from_bytes(image.data[chunk : chunk + 8], "little")
    return descriptor, chunks


def v2(descriptor: bytes, *, folios: int, size: int = 0x3000, position: int = 0x10, seals: int = 0xF) -> bytes:
    return struct.pack("<QQIIQ", position, size, seals, 0, folios) + descriptor


def memfd_image(image: Image, handler: str, blob: bytes) -> State:
    """One session `s` with one file, token 1, whose data is a page with these bytes."""
    entry = name(handler, 48) + struct.pack("<QQ", image.alloc(blob), 1)
    session = name("s", 64) + struct.pack("<QQ", image.blocks([entry]), 1)
    blob = struct.pack("<8sQQQ", b"luo-v5", 1, image.blocks([session]), 0)
    image.handover({"LUO": (image.alloc(blob), 32)})
    return image.read()


def merged_array() -> bytes:
    return b"".join(struct.pack("<QQ", frame | flags << 52, index) for frame, flags, index in EXAMPLE)


def luo_of(state: State) -> Luo:
    luo = only(state).luo
    assert luo is not None
    return luo


def pci_entry(bdf: int, refcount: int = 1) -> bytes:
    return struct.pack("<IHH", 0, bdf, refcount)


def sound_luo(dump: str = FROZEN) -> Luo:
    return luo_of(real.read(dump))


def brief(luo: Luo) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """Sessions with (handler, handle, token) of each file."""
    return [
        (session.name, [(file.compatible, file.data, file.token) for file in session.files]) for session in luo.sessions
    ]


def luo_ser(liveupdate: int, sessions: int, flbs: int = 0, *, compatible: str = "luo-v5") -> bytes:
    return struct.pack("<8sQQQ", compatible.encode(), liveupdate, sessions, flbs)


def session_entry(label: str | bytes, files: int, count: int) -> bytes:
    return name(label, 64) + struct.pack("<QQ", files, count)


def luo_image(
    image: Image, blob: bytes | None, *, sessions: list[bytes] | None = None, compatible: str = "kho-v4"
) -> State:
    """An image with a LUO object of these bytes, or a luo-v5 one with these session entries."""
    if blob is None:
        blob = luo_ser(1, image.blocks(sessions or []))
    size = None if blob[:4] == b"\xd0\x0d\xfe\xed" else len(blob)
    image.handover({"LUO": (image.alloc(blob), size)}, compatible=compatible)
    return image.read()


def sound_memfd(token: int) -> Memfd:
    return memfd_of(real.read(FROZEN), token)
