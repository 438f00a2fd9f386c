# SPDX-License-Identifier: MIT
"""Parsers of untrusted bytes for coverage-guided fuzzing by atheris, with seeds from the fixtures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import luoser
from luoser.errors import LuoserError
from luoser.fdt import parse
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import NoKallsyms, find_kallsyms
from luoser.kernel.types import TypesError
from luoser.memory.lzo import decompress
from tests.golden import GOLDEN
from tests.images import Image
from tests.kernel.made import IMAGE, Blob, Tables, kallsyms_memory
from tests.memory import writers

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A parser. run: takes any bytes, and raises only where the parser is wrong. seeds: bytes that are sound."""

    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]


def _opened(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with suppress(LuoserError), luoser.open(file.name) as memory:
            luoser.read(memory)


def _fdt(data: bytes) -> None:
    with suppress(LuoserError):
        parse(data)


def _lzo(data: bytes) -> None:
    with suppress(LuoserError, ValueError):
        assert len(decompress(data, 4096)) <= 4096


def _btf(data: bytes) -> None:
    with suppress(TypesError):
        types = Btf(data)
        for number in range(1, min(types.count, 200)):
            list(types.members(number))


def _kallsyms(data: bytes) -> None:
    """The tables of a kernel with some of their bytes replaced: an offset of two bytes, then the bytes."""
    memory, space = kallsyms_memory(Tables(symbols=[(IMAGE + 16 * number, "t", b"name") for number in range(300)]))
    place = space.physical(IMAGE + 0x10_0000) + int.from_bytes(data[:2], "little")
    memory.write(place, data[2:4096])
    with suppress(NoKallsyms, LuoserError):
        list(find_kallsyms(space))


def _spans() -> list[tuple[int, bytes]]:
    image = Image(pages=24)
    image.handover()
    return [(64 << 10, bytes(image.data[64 << 10 :]))]


def _pages() -> dict[int, bytes]:
    (start, data), *_ = _spans()
    return {(start + at) // 4096: data[at : at + 4096] for at in range(0, len(data), 4096)}


def _blob() -> bytes:
    blob = Blob()
    blob.structure(b"s", 16, (b"a", blob.integer(b"u64", 8), 0), (b"b", blob.pointer(1), 64))
    return blob.data()


def _elf() -> bytes:
    from tests.memory.images import Load, core, note

    return core(*(Load(start, data) for start, data in _spans()), notes=note("VMCOREINFO", b"PAGESIZE=4096\n"))


TARGETS = {
    "fdt": Target(_fdt, lambda: [place.read_bytes() for place in sorted(GOLDEN.glob("*.dtb"))]),
    "kdump": Target(_opened, lambda: [writers.kdump(_pages(), pack=pack) for pack in ("plain", "zlib", "lzo", "zstd")]),
    "lzo": Target(_lzo, lambda: [writers.lzo(page) for page in _pages().values()]),
    "elf": Target(_opened, lambda: [_elf()]),
    "avml": Target(_opened, lambda: [writers.avml(_spans())]),
    "kallsyms": Target(_kallsyms, lambda: [bytes(16), b"\x04\0" + bytes([3, 1, 2, 3])]),
    "btf": Target(_btf, lambda: [_blob()]),
}
"""By name."""
