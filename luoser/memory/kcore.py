# SPDX-License-Identifier: MIT
"""/proc/kcore: the running kernel's memory as an ELF core. Its segments of the direct map are physical memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from luoser.bits import is_zero
from luoser.errors import SourceError
from luoser.memory.device import DeviceMemory
from luoser.memory.elf import core_segments
from luoser.memory.source import Segment, swept

__all__ = ["KcoreMemory"]

_LIMIT = 1 << 52
_PAGE = 4096


class _Positioned:
    """The bytes of a descriptor whose size is not known."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __len__(self) -> int:
        return 1 << 62

    def __getitem__(self, span: slice) -> bytes:
        start = span.start or 0
        return os.pread(self._descriptor, span.stop - start, start)


class KcoreMemory(DeviceMemory):
    """The segments that have a physical address. Those of vmalloc, modules and vmemmap have none.

    The kernel returns zeros for pages that it does not expose (offline, poisoned) or has not mapped there, so they look
    like zero pages. arm64 has its own data only in the mapping of the kernel image (7.3), and memory of its start that
    was freed only in the direct map: of what has two segments, the one without zeros is right.

    Source: fs/proc/kcore.c, and map_mem() of arch/arm64/mm/mmu.c.
    """

    format = "kcore"

    def __init__(self, path: str, descriptor: int) -> None:
        """descriptor: open for reading; `close` closes it. Raises SourceError for a file that is not such a core."""
        super().__init__(path, descriptor)
        try:
            self.vmcoreinfo, loads = core_segments(path, _Positioned(descriptor))
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from error
        except struct.error:
            raise SourceError(f"{path}: ends inside its headers: expected an ELF core") from None
        self.is_own_info = bool(self.vmcoreinfo)
        usable = [load._replace(size=load.stored) for load in loads if load.stored and load.end <= _LIMIT]
        if not usable:
            raise SourceError(f"{path}: no segment has a physical address: expected the direct map")
        self._segments = tuple(swept(sorted(usable, key=lambda load: -load.size)))
        whole = set(self._segments)
        self._again = [load for load in usable if load not in whole]
        size = self.vmcoreinfo.get("PAGESIZE", "")
        self.page_size = int(size) if size.isascii() and size.isdigit() and len(size) <= 7 else None
        self.remarks.append("read from a running machine: parts that changed in the meantime may be inconsistent")

    def _fetch(self, segment: Segment, skip: int, size: int) -> bytes:
        data, start = super()._fetch(segment, skip, size), segment.start + skip
        for other in self._again:
            low, high = max(start, other.start), min(start + len(data), other.end)
            if low < high and other.offset + low - other.start != segment.offset + low - segment.start:
                parts = self._either(data[low - start : high - start], other, low - other.start)
                data = b"".join([data[: low - start], *parts, data[high - start :]])
        return data

    def _either(self, data: bytes, other: Segment, skip: int) -> Iterator[bytes]:
        """The same memory by two mappings: pages that are zeros in the first are read by the other.

        data:  by the first.
        other: the second mapping.
        skip:  bytes of it before the first one.
        """
        place = 0
        while place < len(data):
            end = min(len(data), place + _PAGE - (other.start + skip + place) % _PAGE)
            part = data[place:end]
            more = super()._fetch(other, skip + place, len(part)) if is_zero(part) else b""
            yield more if len(more) == len(part) else part
            place = end
