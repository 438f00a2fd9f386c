# SPDX-License-Identifier: MIT
"""Every container of memory that luoser reads, and where its own numbers are."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

from tests.memory import writers
from tests.memory.images import Load, core, note

__all__ = ["CONTAINERS", "avml_places", "elf_places", "lime_places", "packed", "places_of"]

Spans = list[tuple[int, bytes]]
_PAGE = 4096
_INFO = b"OSRELEASE=7.3.4\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82000000\n"


# -- where the numbers are --------------------------------------------------------------------------------


def lime_places(data: bytes) -> Iterator[int]:
    """Offsets of the range headers of a LiME file."""
    place = 0
    while place < len(data):
        yield from range(place, place + 32)
        first, last = struct.unpack_from("<QQ", data, place + 8)
        place += 32 + last + 1 - first


def avml_places(data: bytes) -> Iterator[int]:
    """Offsets of the range headers of an AVML file, of the heads of its chunks, and of the sizes behind them."""
    place = 0
    while place < len(data):
        yield from range(place, place + 32)
        first, last = struct.unpack_from("<QQ", data, place + 8)
        left, place = last + 1 - first, place + 32
        while left > 0:
            yield from range(place, place + 14)
            left -= 65536 if data[place] < 2 else 0
            place += 4 + int.from_bytes(data[place + 1 : place + 4], "little")
        yield from range(place, place + 8)
        place += 8


def elf_places(data: bytes) -> Iterator[int]:
    """Offsets of the headers and the notes of an ELF core."""
    (count,) = struct.unpack_from("<H", data, 56)
    offset, size = struct.unpack_from("<Q16xQ", data, 64 + 8)
    return iter([*range(64 + 56 * count), *range(offset, offset + size)])


def _flat_places(data: bytes) -> Iterator[int]:
    yield from range(32)
    place = 4096
    while place < len(data):
        yield from range(place, place + 16)
        (size,) = struct.unpack_from(">q", data, place + 8)
        place += 16 + max(0, size)


def _kdump_places(data: bytes) -> Iterator[int]:
    yield from [*range(8), *range(424, 464), *range(4096, 4096 + 104 + 200)]
    (blocks,) = struct.unpack_from("<I", data, writers.FIELDS["bitmap_blocks"][0])
    start = 2 * _PAGE
    yield from (at for at in range(start, start + blocks * _PAGE) if data[at])
    yield from range(start + blocks * _PAGE, min(len(data), start + blocks * _PAGE + 24 * 200))


def places_of(container: str, data: bytes) -> list[range]:
    """Where the numbers of a container are; of a compressed file anywhere."""
    kind = container.split("-")[0]
    found = {"elf": elf_places, "lime": lime_places, "avml": avml_places, "flat": _flat_places, "kdump": _kdump_places}
    if "." in container or kind not in found:
        return [range(len(data))]
    return [range(at, at + 1) for at in found[kind](data)]


# -- writing ----------------------------------------------------------------------------------------------


def _without(spans: Spans, gone: Collection[int]) -> Spans:
    """Runs without some pages."""
    made: Spans = []
    for start, data in spans:
        begin = start
        for page in sorted(page for page in gone if start <= page < start + len(data)):
            if page > begin:
                made.append((begin, data[begin - start : page - start]))
            begin = page + _PAGE
        if begin < start + len(data):
            made.append((begin, data[begin - start :]))
    return made


def _elf(spans: Spans, gone: Collection[int]) -> bytes:
    """Dropped pages are in memory, but not in the file."""
    loads = [Load(start, data) for start, data in _without(spans, gone)]
    loads += [Load(page, b"", memsz=_PAGE) for page in gone]
    return core(*loads, notes=note("CORE", bytes(336), 1) + note("VMCOREINFO", _INFO))


@lru_cache(maxsize=4096)
def _lzo(page: bytes) -> tuple[bytes, int]:
    return writers.lzo(page), 2


def _zlib(page: bytes) -> tuple[bytes, int]:
    return zlib.compress(page, 1), 1


def _kdump(pack: str) -> Callable[[Spans, Collection[int]], bytes]:
    own: dict[str, Callable[[bytes], tuple[bytes, int]]] = {"lzo": _lzo, "zlib": _zlib}
    packer = own.get(pack, pack)

    def write(spans: Spans, gone: Collection[int]) -> bytes:
        pages = {
            (start + at) // _PAGE: data[at : at + _PAGE].ljust(_PAGE, b"\0")
            for start, data in spans
            for at in range(0, len(data), _PAGE)
        }
        kept = {frame: data for frame, data in pages.items() if frame * _PAGE not in gone}
        return writers.kdump(kept, ram=set(pages), pack=packer, vmcoreinfo=_INFO)

    return write


def _vmware(spans: Spans, gone: Collection[int]) -> bytes:
    """The table; the memory itself is the other file."""
    return writers.vmware(_without(spans, gone))[1]


CONTAINERS: dict[str, Callable[[Spans, Collection[int]], bytes]] = {
    "elf": _elf,
    "kdump-plain": _kdump("plain"),
    "kdump-zlib": _kdump("zlib"),
    "kdump-lzo": _kdump("lzo"),
    "kdump-snappy": _kdump("snappy"),
    "kdump-zstd": _kdump("zstd"),
    "flat-elf": lambda spans, gone: writers.flattened(_elf(spans, gone), piece=16384, zeros=True),
    "flat-kdump": lambda spans, gone: writers.flattened(_kdump("plain")(spans, gone), piece=16384),
    "lime": lambda spans, gone: writers.lime(_without(spans, gone)),
    "avml": lambda spans, gone: writers.avml(_without(spans, gone), most=1 << 20),
    "vmware": _vmware,
    "elf.xz": lambda spans, gone: packed("xz", _elf(spans, gone)),
    "elf.gz": lambda spans, gone: packed("gz", _elf(spans, gone)),
    "elf.bz2": lambda spans, gone: packed("bz2", _elf(spans, gone)),
    "elf.zst": lambda spans, gone: packed("zst", _elf(spans, gone)),
}
"""Writes runs of memory, without the pages that were dropped, by name."""


def packed(how: str, data: bytes) -> bytes:
    """Compressed bytes. how: xz, gz, bz2 or zst."""
    import zstandard

    if how == "zst":
        return zstandard.ZstdCompressor(level=1).compress(data)
    ways: dict[str, Callable[[bytes], bytes]] = {
        "xz": lambda data: lzma.compress(data, preset=0),
        "gz": lambda data: gzip.compress(data, 1, mtime=0),
        "bz2": lambda data: bz2.compress(data, 1),
    }
    return ways[how](data)
