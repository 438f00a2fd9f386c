# SPDX-License-Identifier: MIT
"""The memory image of a state: pages by physical address, with one owner per byte."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from luoser.bits import used_size
from luoser.errors import MissingMemory, PageState, UsageError
from luoser.extracts.core import write_core
from luoser.memory.source import Memory, Segment, SegmentedMemory
from luoser.output import new_output
from luoser.text import human_size

__all__ = ["Image", "Passed", "write_image"]

_RAW_LIMIT = 1 << 40
_RUN = 256
"""Pages of one run, at most."""
_PAGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a kernel is told at boot: where the root and the array of scratch areas are. All addresses are physical.

    root:      of the KHO root.
    root_size: bytes of the root's page.
    array:     of the scratch areas.
    size:      bytes of that array.
    node:      of the setup_data node that points to both (x86-64), or of a devicetree with the /chosen (arm64).
    """

    root: int
    root_size: int
    array: int
    size: int
    node: int


class Image:
    """Pages of zeros, and what was put into them. Of each page only the bytes before its last zeros are kept.

    page_size: bytes.
    lacks:     notes on what is not in the image because the state does not have it.
    passed:    what a boot loader passes to the kernel of each incoming root.
    at_jump:   addresses of roots that no kernel has taken over yet.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.lacks: list[str] = []
        self.passed: list[Passed] = []
        self.at_jump: set[int] = set()
        self._pages: dict[int, bytes] = {}
        self._owners: dict[int, list[tuple[int, int, str]]] = {}

    def put(self, address: int, data: bytes, what: str) -> None:
        """Write bytes that nothing else may overlap.

        address: physical.
        data:    the bytes.
        what:    name of the bytes in errors.

        Raises UsageError if something else is already there.
        """
        for page, start, stop in self._parts(address, len(data)):
            self._claim(page, start, stop, what)
        self.patch(address, data)

    def patch(self, address: int, data: bytes) -> None:
        """Overwrite bytes of any owner. Missing pages are added, as zeros.

        address: physical.
        data:    the bytes.
        """
        for page, start, stop in self._parts(address, len(data)):
            kept, part = self._pages.get(page, b""), data[start - address : stop - address]
            made = kept[: start - page].ljust(start - page, b"\0") + part + kept[stop - page :]
            self._pages[page] = made[: used_size(made)]

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the image.

        address: physical.
        size:    bytes.

        Raises MissingMemory.
        """
        parts = list[bytes]()
        for page, start, stop in self._parts(address, size):
            if page not in self._pages:
                raise MissingMemory(start, PageState.ABSENT)
            parts.append(self._pages[page][start - page : stop - page].ljust(stop - start, b"\0"))
        return b"".join(parts)

    def _parts(self, address: int, size: int) -> Iterator[tuple[int, int, int]]:
        """(page, start, end) of the part of a range in each of its pages."""
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

    def is_free(self, address: int) -> bool:
        """Whether nothing is in a page. address: physical."""
        return address not in self._pages

    @property
    def pages(self) -> dict[int, bytes]:
        """The pages by physical address, ascending."""
        return {address: self._whole(address) for address in sorted(self._pages)}

    @property
    def frames(self) -> Iterator[int]:
        """Addresses of the pages in units of 4 KiB, ascending."""
        return (page + part for page in sorted(self._pages) for part in range(0, self.page_size, _PAGE))

    @property
    def pieces(self) -> Iterator[tuple[int, int, str]]:
        """(start, end, what) of all that was put, split at page boundaries, ascending."""
        for address in sorted(self._owners):
            yield from self._owners[address]

    @property
    def end(self) -> int:
        """Physical address after the last page, 0 for an empty image."""
        return max(self._pages, default=-self.page_size) + self.page_size

    def memory(self) -> Memory:
        """The image as a source. It has the image's own pages, as they are when they are read."""
        return _Pages(self)

    def drop(self) -> None:
        """Forget all pages: they were written."""
        self._pages.clear()

    def _whole(self, address: int) -> bytes:
        return self._pages[address].ljust(self.page_size, b"\0")

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """(physical address, bytes) of runs of adjacent pages, ascending. Long ones are split."""
        start, parts = 0, list[bytes]()
        for address in sorted(self._pages):
            if parts and (address != start + len(parts) * self.page_size or len(parts) == _RUN):
                yield start, b"".join(parts)
                parts = []
            if not parts:
                start = address
            parts.append(self._whole(address))
        if parts:
            yield start, b"".join(parts)


class _Pages(SegmentedMemory):
    """The pages of an image. They are not copied: an image can have as many as fit into memory once."""

    format = "elf"

    def __init__(self, image: Image) -> None:
        segments = list[Segment]()
        for address in sorted(image._pages):
            first = segments.pop() if segments and segments[-1].end == address else Segment(address, 0, 0, 0)
            size = first.size + image.page_size
            segments.append(Segment(first.start, size, 0, size))
        super().__init__("image", b"", segments)
        self.at_jump = frozenset(image.at_jump)
        self._image, self.page_size, self.file_data = image, image.page_size, len(image._pages) * image.page_size

    def _read_segment(self, segment: Segment, skip: int, size: int) -> bytes:
        return self._image.read(segment.start + skip, size)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        for address, run in self._image.runs():
            for page in range(address, address + len(run), _PAGE):
                if run.startswith(prefix[:1], page - address + at) and self._has(page + at, prefix):
                    yield page

    def find(self, pattern: bytes) -> Iterator[int]:
        search, end, rest = re.compile(re.escape(pattern), re.DOTALL), 0, b""
        for address, run in self._image.runs():
            data = rest + run if address == end else run  # with what can be the beginning of a match
            end = address + len(run)
            for match in search.finditer(data):
                yield end - len(data) + match.start()
            rest = data[max(0, len(data) - len(pattern) + 1) :]


def write_image(target: str, image: Image, form: str, *, force: bool) -> None:
    """Write an image to a file.

    target: path of the file, `-`: standard output.
    image:  to write.
    form:   `raw`: a sparse flat image in which byte N is physical address N. `elf`: an ELF core.
    force:  replace an existing file.

    Raises UsageError for another form, if a flat image would be larger than 1 TiB, or the file exists.
    """
    if form not in ("elf", "raw"):
        raise UsageError(f"form: expected elf or raw, found {form!r}")
    if form == "raw" and image.end > _RAW_LIMIT:
        raise UsageError(
            f"flat image too large: expected at most {human_size(_RAW_LIMIT)}, found {human_size(image.end)}; "
            "write an ELF core instead"
        )
    with new_output(target, force=force) as file:
        if form == "raw":
            for address, data in image.runs():
                file.seek(address)
                file.write(data)
        else:
            write_core(file, image.memory(), image.frames, knows_ram=False)
