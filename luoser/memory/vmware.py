# SPDX-License-Identifier: MIT
"""VMware memory files: a .vmem without a header, and its .vmss or .vmsn (state file) with the physical addresses.

The state file is a list of groups. The group `memory` has three tags for each region, all in pages: regionPPN is its
physical address, regionPageNum its offset in the .vmem, regionSize its size. A machine with less than 3 GiB has no
regions: byte N of its .vmem is address N.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from luoser.errors import PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import Buffer
from luoser.memory.source import Segment, SegmentedMemory

__all__ = ["MAGICS", "VmwareMemory"]

MAGICS = (b"\xd0\xbe\xd2\xbe", b"\xd1\xba\xd1\xba", b"\xd2\xbe\xd2\xbe", b"\xd3\xbe\xd3\xbe")
_HEADER = struct.Struct("<4sII")
_GROUP = struct.Struct("<64sQQ")
_PAGE = 4096
_Tag = tuple[bytes, tuple[int, ...]]
"""Name and indices of a tag."""


class VmwareMemory(SegmentedMemory):
    """A .vmem with its state file."""

    format = "vmware"

    def __init__(self, path: str, vmem: Buffer, state_path: str, state: Buffer) -> None:
        """path: of the .vmem. Raises SourceError for a state file that is truncated or lacks tags of a region."""
        tags = dict(_tags(state_path, state))
        remarks: list[str] = []
        super().__init__(path, vmem, list(_segments(state_path, tags, len(vmem), remarks)))
        self.remarks[:0] = remarks


def _segments(path: str, tags: dict[_Tag, int], size: int, remarks: list[str]) -> Iterator[Segment]:
    count = tags.get((b"regionsCount", ()), 0)
    if not count:
        yield Segment(0, size, 0, size)
    for region in range(count):
        try:
            physical, place, length = (
                tags[name, (region,)] * _PAGE for name in (b"regionPPN", b"regionPageNum", b"regionSize")
            )
        except KeyError as error:
            raise SourceError(f"{path}: memory region {region} has no tag {error.args[0][0].decode()}") from None
        stored = max(0, min(length, size - place))
        if stored < length:
            remarks.append(f"truncated: region {physical:#x} has {stored:#x} of its {length:#x} bytes in the .vmem")
        yield Segment(physical, length, place, stored, PageState.ABSENT)


def _tags(path: str, state: Buffer) -> Iterator[tuple[_Tag, int]]:
    """The numeric tags in the group `memory`.

    Raises SourceError if the file ends inside the group: without one of the regions, later parts of the .vmem would
    get wrong addresses.
    """
    magic, _, groups = _HEADER.unpack(bytes(state[: _HEADER.size]).ljust(_HEADER.size, b"\0"))
    width = 8 if magic[0] & 0xF else 4
    tags = _Cursor(path, state, _memory_group(path, state, groups))
    for _ in range(LIMITS.vmware_tags + 1):  # and the end
        flags, length = tags.take(2)
        if flags == 0 and length == 0:
            return
        name = tags.take(length)
        indices = tuple(tags.number(4) for _ in range(flags >> 6))
        size = flags & 0x3F
        if size in (62, 63):  # a block of data: size, size in memory, two bytes, then the data
            block = tags.number(width)
            tags.place += width + 2 + block
        else:
            yield (name, indices), tags.number(size)
    text = f"more than {LIMITS.vmware_tags} tags in the group memory of a VMware state file"
    raise SourceError(f"{path}: {text}; {how_to_raise('vmware_tags')}")


@dataclass(slots=True)
class _Cursor:
    """A place in a state file."""

    path: str
    state: Buffer
    place: int

    def take(self, size: int) -> bytes:
        data = bytes(self.state[self.place : self.place + size])
        if len(data) < size:
            raise SourceError(
                f"{self.path}: truncated VMware state file: expected {size} bytes of the group memory at "
                f"{self.place:#x}, the file ends at {len(self.state):#x}"
            )
        self.place += size
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")


def _memory_group(path: str, state: Buffer, groups: int) -> int:
    for number in range(groups):
        start = _HEADER.size + number * _GROUP.size
        raw = bytes(state[start : start + _GROUP.size])
        if len(raw) < _GROUP.size:
            break
        name, place, _ = _GROUP.unpack(raw)
        if name.rstrip(b"\0") == b"memory":
            return int(place)
    raise SourceError(f"{path}: a VMware state file without the group memory")
