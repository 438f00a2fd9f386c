# SPDX-License-Identifier: MIT
"""VMware memory files: a .vmem without any header, and the .vmss or .vmsn beside it that says where it belongs.

The state file is a list of groups; the group `memory` has tags regionPPN (where in physical memory),
regionPageNum (where in the .vmem) and regionSize, all in pages, one of each for a region. A machine with
less than 3 GiB has no regions: its .vmem is a plain image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from luoser.errors import PageState, SourceError
from luoser.memory.source import Buffer, Segment, SegmentedMemory

__all__ = ["MAGICS", "VmwareMemory"]

MAGICS = (b"\xd0\xbe\xd2\xbe", b"\xd1\xba\xd1\xba", b"\xd2\xbe\xd2\xbe", b"\xd3\xbe\xd3\xbe")
_HEADER = struct.Struct("<4sII")
_GROUP = struct.Struct("<64sQQ")
_PAGE = 4096
_TAGS = 1 << 16
_REGIONS = 1 << 12


class VmwareMemory(SegmentedMemory):
    """A .vmem with its state file."""

    format = "vmware"

    def __init__(self, path: str, vmem: Buffer, state_path: str, state: Buffer) -> None:
        tags = dict(_tags(state_path, state))
        remarks: list[str] = []
        super().__init__(path, vmem, list(_segments(state_path, tags, len(vmem), remarks)))
        self.remarks[:0] = remarks


def _segments(path: str, tags: dict[tuple[bytes, int], int], size: int, remarks: list[str]) -> Iterator[Segment]:
    count = tags.get((b"regionsCount", -1), 0)
    if count > _REGIONS:
        raise SourceError(f"{path}: {count} memory regions, expected at most {_REGIONS}")
    if not count:
        yield Segment(0, size, 0, size)
    for region in range(count):
        try:
            physical, place, length = (
                tags[name, region] * _PAGE for name in (b"regionPPN", b"regionPageNum", b"regionSize")
            )
        except KeyError as error:
            raise SourceError(f"{path}: memory region {region} has no tag {error.args[0][0].decode()}") from None
        stored = max(0, min(length, size - place))
        if stored < length:
            remarks.append(f"truncated: region {physical:#x} has {stored:#x} of its {length:#x} bytes in the .vmem")
        yield Segment(physical, length, place, stored, PageState.ABSENT)


def _tags(path: str, state: Buffer) -> Iterator[tuple[tuple[bytes, int], int]]:
    """((name, index or -1), value) of the numeric tags in the group `memory`."""
    magic, _, groups = _HEADER.unpack(bytes(state[: _HEADER.size]).ljust(_HEADER.size, b"\0"))
    wide = magic[0] & 0xF != 0
    place = _memory_group(path, state, groups)
    for _ in range(_TAGS):
        if place + 2 > len(state):
            raise SourceError(f"{path}: a VMware state file that breaks off inside of its group memory")
        flags, length = bytes(state[place : place + 2])
        if flags == 0 and length == 0:
            return
        name = bytes(state[place + 2 : place + 2 + length])
        indices = flags >> 6 & 3
        place += 2 + length
        index = int.from_bytes(state[place : place + 4], "little") if indices else -1
        place += 4 * indices
        size = flags & 0x3F
        if size in (62, 63):  # a block of data: its size, its size in memory, two bytes, then the block
            width = 8 if wide else 4
            place += 2 * width + 2 + int.from_bytes(state[place : place + width], "little")
        else:
            yield (name, index), int.from_bytes(state[place : place + size], "little")
            place += size


def _memory_group(path: str, state: Buffer, groups: int) -> int:
    for number in range(min(groups, 1024)):
        start = _HEADER.size + number * _GROUP.size
        raw = bytes(state[start : start + _GROUP.size])
        if len(raw) < _GROUP.size:
            break
        name, place, _ = _GROUP.unpack(raw)
        if name.rstrip(b"\0") == b"memory":
            return int(place)
    raise SourceError(f"{path}: a VMware state file without the group memory")
