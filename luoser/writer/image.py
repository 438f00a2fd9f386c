# SPDX-License-Identifier: MIT
"""The memory that a state is written into: pages by physical address, each byte with one owner."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from luoser.errors import UsageError
from luoser.extract.core import write_core
from luoser.memory.source import Segment, SegmentedMemory
from luoser.output import new_file
from luoser.text import human_size

__all__ = ["Image", "write_image"]

_RAW_LIMIT = 1 << 40


class Image:
    """Pages of zeros with what was put into them.

    lacks: what the state names but does not hold, so that it is not in the image, a sentence each.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.lacks: list[str] = []
        self._pages: dict[int, bytearray] = {}
        self._owners: dict[int, list[tuple[int, int, str]]] = {}

    def put(self, address: int, data: bytes, what: str) -> None:
        """Bytes at a physical address. Raises UsageError where something else lies there already."""
        for page, start, stop in self._parts(address, len(data)):
            self._claim(page, start, stop, what)
        self.patch(address, data)

    def patch(self, address: int, data: bytes) -> None:
        """Overwrite bytes whoever owns them; pages that were not there are made of zeros."""
        for page, start, stop in self._parts(address, len(data)):
            into = self._pages.setdefault(page, bytearray(self.page_size))
            into[start - page : stop - page] = data[start - address : stop - address]

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the image. Raises MissingMemory."""
        return self.memory().read(address, size)

    def _parts(self, address: int, size: int) -> Iterator[tuple[int, int, int]]:
        """(page, start, end) of the part of some bytes that lies in each page."""
        start, end = address, address + size
        while start < end:
            page = start - start % self.page_size
            stop = min(end, page + self.page_size)
            yield page, start, stop
            start = stop

    def _claim(self, page: int, start: int, end: int, what: str) -> None:
        owners = self._owners.setdefault(page, [])
        index = bisect_right(owners, (start, end, what))
        for first, last, other in owners[max(0, index - 1) : index + 1]:
            if first < end and start < last:
                raise UsageError(f"{what} at {start:#x} and {other} at {first:#x} overlap")
        owners.insert(index, (start, end, what))

    @property
    def pages(self) -> dict[int, bytes]:
        """The pages by address, ascending."""
        return {address: bytes(self._pages[address]) for address in sorted(self._pages)}

    @property
    def pieces(self) -> Iterator[tuple[int, int, str]]:
        """(start, end, what) of everything that was put, in parts of a page at most, ascending."""
        for address in sorted(self._owners):
            yield from self._owners[address]

    @property
    def end(self) -> int:
        """The address behind the last page, 0 for an empty image."""
        return max(self._pages, default=-self.page_size) + self.page_size

    def memory(self) -> SegmentedMemory:
        """The image as a source to read from."""
        data, segments = bytearray(), list[Segment]()
        for address, run in self.runs():
            segments.append(Segment(address, len(run), len(data), len(run)))
            data += run
        memory = SegmentedMemory("image", bytes(data), segments)
        memory.format = "elf"
        return memory

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of neighbouring pages, ascending."""
        start, parts = 0, list[bytes]()
        for address, data in self.pages.items():
            if parts and address != start + len(parts) * self.page_size:
                yield start, b"".join(parts)
                parts = []
            if not parts:
                start = address
            parts.append(data)
        if parts:
            yield start, b"".join(parts)


def write_image(target: str, image: Image, form: str, *, force: bool) -> None:
    """An ELF core of the pages, or `raw`: a sparse flat image in which byte N is physical address N.

    Raises UsageError when the flat image would be larger than 1 TiB, or the name is taken.
    """
    if form == "raw" and image.end > _RAW_LIMIT:
        raise UsageError(f"a flat image up to {image.end:#x} has {human_size(image.end)}; write an ELF core instead")
    with new_file(target, force=force) as file:
        if form == "raw":
            for address, data in image.runs():
                file.seek(address)
                file.write(data)
        else:
            write_core(file, image.memory(), image.pages, knows_ram=False)
