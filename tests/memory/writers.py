# SPDX-License-Identifier: MIT
"""Dump files made by hand from the documented layouts: kdump, flattened, LiME, AVML, VMware, LZO streams.

Nothing of luoser's own is used, so that a wrong number there cannot hide here. The layouts are those of
makedumpfile's IMPLEMENTATION and diskdump_mod.h, LiME's doc, AVML's image.rs, volatility's vmware layer and the
kernel's Documentation/staging/lzo.rst.
"""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

__all__ = [
    "COMPRESSIONS",
    "FIELDS",
    "PAGE",
    "SUB_FIELDS",
    "LzoWriter",
    "Spans",
    "avml",
    "flattened",
    "kdump",
    "kdump_set",
    "lime",
    "lzo",
    "lzo_literals",
    "poke",
    "poke_sub",
    "vmware",
]

PAGE = 4096
ZERO = bytes(PAGE)
Spans = Iterable[tuple[int, bytes]]
"""(physical address, bytes) of each run of memory."""
Packed = tuple[bytes, int]
"""(stored bytes, flags of the page descriptor)."""


# -- LZO1X -------------------------------------------------------------------------------------------------

Kind = Literal["M1", "M1b", "M2", "M3", "M4"]


@dataclass
class LzoWriter:
    """An LZO1X stream, instruction by instruction. out: what it unpacks to.

    M1 copies 2 bytes of the last 1 KiB behind 1 to 3 literals, M1b 3 bytes from 2 to 3 KiB back behind 4
    literals or more, M2 3 to 8 bytes of the last 2 KiB, M3 any length of the last 16 KiB, M4 of 16 to 48 KiB back.
    """

    stream: bytearray = field(default_factory=bytearray)
    out: bytearray = field(default_factory=bytearray)
    state: int = 0
    _low: int | None = None  # the byte whose two low bits count the literals behind an instruction

    def literals(self, data: bytes) -> None:
        """Bytes as they are; at most one call between two matches."""
        if not data:
            return
        if not self.stream and len(data) <= 238:
            self.stream.append(17 + len(data))
            self.state = min(len(data), 4)
        elif len(data) <= 3 and self._low is not None:
            self.stream[self._low] |= len(data)
            self.state = len(data)
        else:
            assert len(data) > 3 or not self.stream, "three literals or less follow a match"
            self._length(0, len(data) - 3, 15)
            self.state = 4
        self.stream += data
        self.out += data

    def fits(self, kind: Kind, length: int, distance: int) -> bool:
        if not 0 < distance <= len(self.out):
            return False
        match kind:
            case "M1":
                return self.state in (1, 2, 3) and length == 2 and distance <= 0x400
            case "M1b":
                return self.state == 4 and length == 3 and 0x801 <= distance <= 0xC00
            case "M2":
                return 3 <= length <= 8 and distance <= 0x800
            case "M3":
                return length >= 3 and distance <= 0x4000
            case "M4":
                return length >= 3 and 0x4000 < distance <= 0xBFFF

    def match(self, kind: Kind, length: int, distance: int) -> None:
        assert self.fits(kind, length, distance), (kind, length, distance, self.state)
        match kind:
            case "M1":
                self._short((distance - 1 & 3) << 2, distance - 1 >> 2)
            case "M1b":
                self._short((distance - 0x801 & 3) << 2, distance - 0x801 >> 2)
            case "M2":
                self._short(length - 1 << 5 | (distance - 1 & 7) << 2, distance - 1 >> 3)
            case "M3":
                self._length(32, length - 2, 31)
                self._far(distance - 1)
            case "M4":
                self._length(16 | (distance - 0x4000 >> 14) << 3, length - 2, 7)
                self._far(distance - 0x4000 & 0x3FFF)
        self.state = 0
        for _ in range(length):
            self.out.append(self.out[-distance])

    def end(self) -> bytes:
        return bytes(self.stream) + b"\x11\0\0"

    def _short(self, code: int, high: int) -> None:
        self._low = len(self.stream)
        self.stream += bytes([code, high])

    def _far(self, number: int) -> None:
        self._low = len(self.stream)
        self.stream += struct.pack("<H", number << 2)

    def _length(self, code: int, length: int, most: int) -> None:
        if length <= most:
            self.stream.append(code | length)
            return
        rest = length - most
        self.stream.append(code)
        self.stream += bytes((rest - 1) // 255)
        self.stream.append((rest - 1) % 255 + 1)


def lzo(data: bytes, *, longest: int = 1 << 16) -> bytes:
    """A greedy compressor that uses every kind of match. longest: bytes of one match."""
    writer, known, place, start = LzoWriter(), dict[bytes, int](), 0, 0
    while place < len(data):
        key = data[place : place + 3]
        before = known.get(key, -1) if len(key) == 3 else -1
        if len(key) == 3:
            known[key] = place
        if before < 0 or place - before > 0xBFFF:
            place += 1
            continue
        length = 3
        while place + length < len(data) and length < longest and data[before + length] == data[place + length]:
            length += 1
        writer.literals(data[start:place])
        place = start = place + _emit(writer, length, place - before)
    writer.literals(data[start:])
    return writer.end()


def _emit(writer: LzoWriter, length: int, distance: int) -> int:
    """The shortest instruction for a match; how many bytes it covers."""
    choices: list[tuple[Kind, int]] = [("M1b", 3), ("M2", min(length, 8)), ("M3", length), ("M4", length)]
    if length == 3 and distance <= 0x400 and writer.state in (1, 2, 3):
        choices.insert(0, ("M1", 2))
    for kind, size in choices:
        if writer.fits(kind, size, distance) and (size == length or kind not in ("M2", "M1b")):
            writer.match(kind, size, distance)
            return size
    kind = "M2" if distance <= 0x800 else "M3"
    writer.match(kind, 3, distance)
    return 3


def lzo_literals(data: bytes) -> bytes:
    """A stream without any match."""
    writer = LzoWriter()
    writer.literals(data)
    return writer.end()


# -- kdump -------------------------------------------------------------------------------------------------

FIELDS = {  # struct disk_dump_header
    "signature": (0, "8s"), "version": (8, "i"), "status": (424, "I"), "block_size": (428, "i"),
    "sub_blocks": (432, "i"), "bitmap_blocks": (436, "I"), "max_mapnr": (440, "I"), "nr_cpus": (460, "i"),
}  # fmt: skip
SUB_FIELDS = {  # struct kdump_sub_header; name: (offset, form, header version that brought it)
    "phys_base": (0, "Q", 0), "dump_level": (8, "i", 1), "split": (12, "i", 2), "start_pfn": (16, "Q", 2),
    "end_pfn": (24, "Q", 2), "offset_vmcoreinfo": (32, "q", 3), "size_vmcoreinfo": (40, "Q", 3),
    "offset_note": (48, "q", 4), "size_note": (56, "Q", 4), "offset_eraseinfo": (64, "q", 5),
    "size_eraseinfo": (72, "Q", 5), "start_pfn_64": (80, "Q", 6), "end_pfn_64": (88, "Q", 6),
    "max_mapnr_64": (96, "Q", 6),
}  # fmt: skip


def _plain(page: bytes) -> Packed:
    return page, 0


def _zlib(page: bytes) -> Packed:
    return zlib.compress(page), 1


@cache
def _lzo(page: bytes) -> Packed:
    return lzo(page), 2


def _lzo_literals(page: bytes) -> Packed:
    return lzo_literals(page), 2


def _snappy(page: bytes) -> Packed:
    import cramjam

    return bytes(cramjam.snappy.compress_raw(page)), 4


def _zstd(page: bytes) -> Packed:
    import zstandard

    return zstandard.ZstdCompressor().compress(page), 0x20


COMPRESSIONS: dict[str, Callable[[bytes], Packed]] = {
    "plain": _plain,
    "zlib": _zlib,
    "lzo": _lzo,
    "lzo-literals": _lzo_literals,
    "snappy": _snappy,
    "zstd": _zstd,
}


def _bitmap(frames: Iterable[int], blocks: int, block: int) -> bytes:
    bits = bytearray(blocks * block)
    for frame in frames:
        bits[frame >> 3] |= 1 << (frame & 7)
    return bytes(bits)


def kdump(
    pages: Mapping[int, bytes],
    *,
    pack: str | Callable[[bytes], Packed] = "zlib",
    version: int = 6,
    block: int = PAGE,
    ram: Collection[int] | None = None,
    max_mapnr: int | None = None,
    bitmaps: int = 2,
    split: tuple[int, int] | None = None,
    level: int = 31,
    vmcoreinfo: bytes = b"",
    signature: bytes = b"KDUMP   ",
    sub_blocks: int = 1,
    share_zero: bool = True,
    junk: bool = False,
) -> bytes:
    """A kdump-compressed file of the given page frames.

    ram: frames of RAM, those of `pages` where not given; a frame that is here only was excluded. split: the
    frames [first, last) whose data is in this file of a set. junk: fill the fields of the sub-header that are newer
    than the version with ones, so that a reader has to leave them alone.
    """
    packer = COMPRESSIONS[pack] if isinstance(pack, str) else pack
    known = set(pages) | set(pages if ram is None else ram)
    mapnr = max(known, default=0) + 1 if max_mapnr is None else max_mapnr
    each = -(-mapnr // (8 * block))
    bits = _bitmap(pages, each, block)
    if bitmaps == 2:
        bits = _bitmap(known, each, block) + bits

    own = sorted(frame for frame in pages if split is None or split[0] <= frame < split[1])
    first = (1 + sub_blocks) * block + len(bits)
    blobs, descriptors, zero = bytearray(), bytearray(), -1
    place = first + 24 * len(own)
    for frame in own:
        is_zero = share_zero and not any(pages[frame])
        if is_zero and zero >= 0:
            descriptors += descriptors[zero : zero + 24]
            continue
        data, flags = packer(pages[frame])
        if len(data) >= block:
            data, flags = pages[frame], 0
        if is_zero:
            zero = len(descriptors)
        descriptors += struct.pack("<qIIQ", place + len(blobs), len(data), flags, 0)
        blobs += data

    padded = vmcoreinfo + bytes(-len(vmcoreinfo) % 4)
    note = struct.pack("<III12s", 11, len(vmcoreinfo), 0, b"VMCOREINFO") + padded if vmcoreinfo else b""
    values = {
        "phys_base": 0x1000000,
        "dump_level": level,
        "split": int(split is not None),
        "start_pfn": 0,
        "end_pfn": 0,
        "offset_vmcoreinfo": block + 104 + 24 if vmcoreinfo else 0,
        "size_vmcoreinfo": len(vmcoreinfo),
        "offset_note": block + 104 if vmcoreinfo else 0,
        "size_note": len(note),
        "max_mapnr_64": mapnr,
    }
    if split is not None:
        if version >= 6:  # the old fields are obsolete
            values |= {"start_pfn": 0xFFFFFFFF, "end_pfn": 0xFFFFFFFF, "start_pfn_64": split[0], "end_pfn_64": split[1]}
        else:
            values |= {"start_pfn": split[0], "end_pfn": split[1]}
    sub = bytearray(104)
    for name, (offset, form, since) in SUB_FIELDS.items():
        size = struct.calcsize(form)
        raw = struct.pack(f"<{form}", values.get(name, 0)) if version >= since else bytes([255 * junk]) * size
        sub[offset : offset + size] = raw

    utsname = b"".join(text.ljust(65, b"\0") for text in (b"Linux", b"lab", b"7.3.4", b"#1", b"x86_64", b"(none)"))
    head = struct.pack("<8si390s6x16s", signature, version, utsname, bytes(16))
    head += struct.pack(
        "<IiiIIIIIIi", 0, block, sub_blocks, len(bits) // block, min(mapnr, 0xFFFFFFFF), len(known), 0, len(own), 0, 1
    )
    body = bytes(sub) + note
    assert len(body) <= sub_blocks * block
    return head.ljust(block, b"\0") + body.ljust(sub_blocks * block, b"\0") + bits + bytes(descriptors) + bytes(blobs)


def kdump_set(pages: Mapping[int, bytes], bounds: list[int], **options: Any) -> list[bytes]:
    """The files of a split dump. bounds: first frame of each file, and the end."""
    options.setdefault("max_mapnr", bounds[-1])
    return [kdump(pages, split=span, **options) for span in itertools.pairwise(bounds)]


def poke(data: bytes, **values: int | bytes) -> bytes:
    """A kdump file with numbers of its header replaced."""
    out = bytearray(data)
    for name, value in values.items():
        offset, form = FIELDS[name]
        struct.pack_into(f"<{form}", out, offset, value)
    return bytes(out)


def poke_sub(data: bytes, **values: int) -> bytes:
    """A kdump file with numbers of its sub-header replaced."""
    (block,) = struct.unpack_from("<i", data, FIELDS["block_size"][0])
    out = bytearray(data)
    for name, value in values.items():
        offset, form, _ = SUB_FIELDS[name]
        struct.pack_into(f"<{form}", out, block + offset, value)
    return bytes(out)


# -- flattened ---------------------------------------------------------------------------------------------

FLAT_HEADER = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)


def flattened(
    data: bytes, *, piece: int = 3000, seed: int | None = None, end: bool = True, zeros: bool = False
) -> bytes:
    """A file in makedumpfile's flattened form. seed: shuffles the pieces. zeros: also write pieces of zeros."""
    cut = [(place, data[place : place + piece]) for place in range(0, len(data), piece)]
    kept = [(place, part) for place, part in cut if zeros or any(part) or place + piece >= len(data)]
    if seed is not None:
        random.Random(seed).shuffle(kept)
    records = b"".join(struct.pack(">qq", place, len(part)) + part for place, part in kept)
    return FLAT_HEADER.ljust(4096, b"\0") + records + (struct.pack(">qq", -1, -1) if end else b"")


# -- LiME and AVML -----------------------------------------------------------------------------------------


def _range(magic: bytes, version: int, start: int, size: int) -> bytes:
    return struct.pack("<4sIQQQ", magic, version, start, start + size - 1, 0)


def lime(spans: Spans) -> bytes:
    return b"".join(_range(b"EMiL", 1, start, len(data)) + data for start, data in spans)


def avml(spans: Spans, *, most: int = 16 << 20) -> bytes:
    """AVML version 2. most: bytes of one range."""
    import cramjam

    out = bytearray()
    for start, data in spans:
        for place in range(0, len(data), most):
            part = data[place : place + most]
            stream = bytes(cramjam.snappy.compress(part))
            out += _range(b"AVML", 2, start + place, len(part)) + stream + struct.pack("<Q", len(stream))
    return bytes(out)


# -- VMware ------------------------------------------------------------------------------------------------


def _tag(name: bytes, value: int, *indices: int, size: int = 4) -> bytes:
    head = bytes([len(indices) << 6 | size, len(name)]) + name
    return head + b"".join(struct.pack("<I", index) for index in indices) + value.to_bytes(size, "little")


def _block_tag(name: bytes, data: bytes, *indices: int, wide: bool) -> bytes:
    number = "<Q" if wide else "<I"
    head = bytes([len(indices) << 6 | 63, len(name)]) + name + b"".join(struct.pack("<I", index) for index in indices)
    return head + struct.pack(number, len(data)) * 2 + b"\0\0" + data


def vmware(spans: Spans, *, magic: bytes = b"\xd2\xbe\xd2\xbe", regions: bool = True) -> tuple[bytes, bytes]:
    """(.vmem, .vmss): the runs one behind the other, and the table of where they belong."""
    wide = magic[0] & 0xF != 0
    vmem, tags = bytearray(), bytearray()
    tags += _tag(b"hotSet", 7, 1, 2) + _block_tag(b"memBlock", b"regionPPN" * 20, wide=wide)
    table = bytearray()
    count = 0
    for count, (start, data) in enumerate(spans, 1):
        number = count - 1
        table += _tag(b"regionPageNum", len(vmem) // PAGE, number)
        table += _tag(b"regionPPN", start // PAGE, number, size=8)
        table += _tag(b"regionSize", len(data) // PAGE, number)
        vmem += data
    tags += (_tag(b"regionsCount", count) + table if regions else b"") + _tag(b"MainMemSize", len(vmem) >> 20) + b"\0\0"
    other = _tag(b"regionsCount", 99) + b"\0\0"
    groups = [(b"Checkpoint", other), (b"memory", bytes(tags)), (b"cpu", other)]
    place = 12 + 80 * len(groups)
    head, body = struct.pack("<4sII", magic, 8, len(groups)), b""
    for name, data in groups:
        head += struct.pack("<64sQQ", name, place + len(body), len(data))
        body += data
    return bytes(vmem), head + body
