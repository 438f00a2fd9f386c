# SPDX-License-Identifier: MIT
"""A fleet: many cuts, made from the real ones with changed numbers."""

from __future__ import annotations

import lzma
import struct
from functools import cache
from pathlib import Path

import zstandard

import luoser
from luoser.memory.elf import ElfMemory
from tests import real

__all__ = ["MOMENTS", "RULE", "make"]

RULE = "{host}.{moment}.elf"
MOMENTS = ("pre", "frozen", "frozen2", "post", "finished")


def make(folder: Path, count: int) -> list[Path]:
    """Write some cuts: of each host as many as the case of the real dumps has, packed, each with a token of its own."""
    made = []
    for number in range(count):
        name = real.DUMPS[number % len(real.DUMPS)]
        case, moment = name.split("/")
        path = folder / f"host{number // len(real.DUMPS):04}-{case}.{moment}.elf.zst"
        path.write_bytes(zstandard.ZstdCompressor(level=1).compress(_changed(name, number)))
        made.append(path)
    return made


def _changed(name: str, number: int) -> bytes:
    data, place = _plain(name)
    if place is None:
        return data + struct.pack("<Q", number)
    return data[:place] + struct.pack("<Q", 0x10000 + number) + data[place + 8 :]


@cache
def _plain(name: str) -> tuple[bytes, int | None]:
    """(a dump, unpacked; the offset of the token of its first file). None: it has no files."""
    data = lzma.decompress(real.path(name).read_bytes())
    for handover in luoser.read(ElfMemory(name, data)).handovers:
        for session in handover.luo.sessions if handover.luo is not None else ():
            for file in session.files:
                assert file.address is not None
                offset = next(
                    one.offset + file.address - one.start
                    for one in ElfMemory(name, data).segments
                    if one.start <= file.address < one.end
                )
                return data, data.index(struct.pack("<Q", file.token), offset)
    return data, None
