# SPDX-License-Identifier: MIT
"""Reassembles a preserved memfd into a file: folios at their indices, holes stay holes."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import BinaryIO, NamedTuple

from luoser.errors import MissingMemory, PageState, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.state import File, Handover, MapStatus, Memfd, Preserved, PreservedMap, State
from luoser.text import human_size, parse_number, safe_text

__all__ = ["is_led_to", "memfd_address", "write_memfd"]

_PAGE = 4096
_PIECE = 16 << 20
_HASHED = 1 << 30
"""Most bytes of holes to hash, as it takes some seconds."""
_RANGES_NAMED = 8
_PAGES_PROBED = 1 << 17
_ELSE = " (if it cannot: one page)"


class _Piece(NamedTuple):
    """A folio, or several that follow each other in the file and in memory, cut at the end of the file.

    offset:  in the file.
    address: physical.
    size:    in bytes.
    """

    offset: int
    address: int
    size: int


def memfd_address(name: str) -> int | None:
    """The address of a descriptor, as @ADDRESS or ADDRESS. None: it is SESSION/TOKEN. Raises UsageError."""
    if "/" in name:
        return None
    try:
        return parse_number(name.removeprefix("@"))
    except ValueError:
        raise UsageError(f"{safe_text(name)!r}: expected SESSION/TOKEN such as vm-web-01/0x1b, or @ADDRESS") from None


def write_memfd(file: BinaryIO, memory: Memory, state: State, name: str, found: Memfd | None = None) -> str:
    """Write a preserved memfd. Returns a line that says what was written, with the SHA-256 of the file.

    The size of a folio comes from its order in an intact map. Where the map cannot be read, a folio is assumed to reach
    to the next one, as a preserved memfd has no holes; if it cannot, and in an intact map, one page is assumed.

    name:  SESSION/TOKEN, or @ADDRESS.
    found: the memfd at this address, to which no pointer leads. None: find it in the state.

    Raises UsageError if there is no such memfd, if several handovers have one, if its folios overlap, or if one of
    its pages cannot be read, because luoser never makes up bytes. The file is then incomplete.
    """
    preserved, memfd = (_preserving(state, found.address), found) if found is not None else _find(state, name)
    what = f"memfd {safe_text(name)}"
    if len(memfd.folios.list) != memfd.folios.count:
        have, count = len(memfd.folios.list), memfd.folios.count
        raise UsageError(f"{what}: incomplete list of folios: expected {count}, found {have}")
    if memfd.size > LIMITS.memfd_size:
        text = f"implausible size: expected at most {LIMITS.memfd_size:#x} bytes, found {memfd.size:#x}"
        raise UsageError(f"{what}: {text}; {how_to_raise('memfd_size')}")
    file.truncate(memfd.size)
    copy, end, written, guesses = _Copy(file, memory), 0, 0, _Guesses()
    pieces = _pieces(memfd, state.source.page_size, preserved.map if preserved is not None else None, guesses)
    for piece in pieces:
        if piece.offset < end:
            raise UsageError(f"{what}: its folios overlap or are out of order at offset {piece.offset:#x}")
        try:
            copy.put(piece)
        except MissingMemory as error:
            raise UsageError(f"{what}: {_lost(memory, error, chain([piece], pieces))}") from None
        if copy.copied > copy.stored:
            raise UsageError(f"{what}: some of its folios are the same: together they have more bytes than the source")
        end, written = piece.offset + piece.size, written + piece.size
    file.flush()
    digest = _digest(file) if memfd.size <= _HASHED + 8 * copy.copied else "not computed, nearly all of it is a hole"
    doubt = _doubt(preserved, guesses)
    if preserved is not None and found is not None:  # its bytes may be those of any preserved file
        doubt += "; salvaged: no pointer of a handover leads to this descriptor"
    return f"{memfd.size} bytes, {written} of them from folios, sha256 {digest}{doubt}"


def _preserving(state: State, address: int) -> Preserved | None:
    """The memory of the handover whose map has the descriptor at an address. None: no map has it."""
    found = (one.preserved for one in state.handovers if one.preserved.map is not None)
    return next((one for one in found if one.map is not None and one.map.find(address) is not None), None)


def _led(state: State, address: int) -> tuple[Preserved, Memfd] | None:
    """The memfd with the descriptor at an address to which a handover, or the kernel's own list, leads."""
    for handover in state.handovers:
        for side in (handover.luo, handover.pending):
            for file in (file for session in (side.sessions if side is not None else ()) for file in session.files):
                if file.memfd is not None and file.memfd.address == address:
                    return _preserving(state, address) or handover.preserved, file.memfd
    return None


def is_led_to(state: State, address: int) -> bool:
    """Whether a handover, or the running kernel's own list, leads to the descriptor of a memfd at an address."""
    return _led(state, address) is not None


@dataclass(slots=True)
class _Guesses:
    """Folios of which no map has the size.

    count:   of them.
    offsets: in the file, of the first of them.
    """

    count: int = 0
    offsets: list[int] = field(default_factory=list)

    def add(self, offset: int) -> None:
        self.count += 1
        if len(self.offsets) < _RANGES_NAMED:
            self.offsets.append(offset)


def _doubt(preserved: Preserved | None, guesses: _Guesses) -> str:
    """Warning for folios of unknown size, in words."""
    assuming = "assuming that each ends where the next one begins"
    if preserved is None:
        return f"; salvaged: no map confirms its folios, {assuming}; its pages may have been reused since"
    if preserved.map is None:
        reused = "; its pages may have been reused since" if preserved.status is MapStatus.STALE else ""
        return f"; the map is {preserved.status.value}, {assuming.replace('each', 'each folio')}{_ELSE}{reused}"
    if not guesses.count:
        return ""
    where = ", ".join(f"{offset:#x}" for offset in guesses.offsets)
    more = ", ..." if guesses.count > len(guesses.offsets) else ""
    partial, assuming = (
        ("", "assuming one page each") if preserved.map.complete else (" (partly unreadable)", assuming + _ELSE)
    )
    return (
        f"; no block of the map{partial} begins at {guesses.count} of the folios, {assuming}: at offset {where}{more}"
    )


def _gap_orders(memfd: Memfd, page: int) -> Iterator[int | None]:
    """The order of each folio, if it can reach to the next one, or to the end of the file. None: it cannot."""
    rows = list(memfd.folios.list.rows())
    last = -(-memfd.size // page)
    for (index, address, _), end in zip(rows, [*(row[0] for row in rows[1:]), last], strict=True):
        order = max(end - index - 1, 0).bit_length()
        fits = end - index == 1 << order or end == last  # the last folio may go on after the end
        yield order if fits and address % (page << order) == 0 else None


def _orders(memfd: Memfd, page: int, found: PreservedMap | None, guesses: _Guesses) -> Iterator[int]:
    """The order of each folio: by the map; where that is not known to its end by the next folio; else one page."""
    known = found.heads(memfd.folios.list.addresses()) if found is not None else repeat(None)
    others = repeat(None) if found is not None and found.complete else _gap_orders(memfd, page)
    for (index, address, _), order, other in zip(memfd.folios.list.rows(), known, others, strict=False):
        if order is None and address and index * page < memfd.size:
            guesses.add(index * page)
        yield order if order is not None else other or 0


def _pieces(memfd: Memfd, page: int, found: PreservedMap | None, guesses: _Guesses) -> Iterator[_Piece]:
    """The folios, joined where they can be copied at once."""
    first = place = size = 0
    for (index, address, _), order in zip(memfd.folios.list.rows(), _orders(memfd, page, found, guesses), strict=True):
        offset = index * page
        if not address or offset >= memfd.size:
            continue
        if size and (offset, address) == (first + size, place + size):
            size += page << order
            continue
        if size:
            yield _Piece(first, place, min(size, memfd.size - first))
        first, place, size = offset, address, page << order
    if size:
        yield _Piece(first, place, min(size, memfd.size - first))


class _Copy:
    """Copies folios in bounded pieces. Memory that is zero according to the source becomes a hole.

    copied: number of bytes copied so far.
    stored: number of bytes that the source has, which distinct folios cannot exceed.
    """

    def __init__(self, file: BinaryIO, memory: Memory) -> None:
        self._file, self._memory = file, memory
        self._starts, self._ends = list[int](), list[int]()
        self.copied = self.stored = 0
        for segment in memory.segments:
            self.stored += segment.stored
            if segment.rest is PageState.ZERO and segment.stored < segment.size:
                self._add_zeros(segment.start + segment.stored, segment.end)

    def _add_zeros(self, start: int, end: int) -> None:
        if self._ends and self._ends[-1] == start:
            self._ends[-1] = end
        else:
            self._starts.append(start)
            self._ends.append(end)

    def put(self, piece: _Piece) -> None:
        """Copy a folio. Stops once `copied` exceeds `stored`. Raises MissingMemory."""
        address, end = piece.address, piece.address + piece.size
        while address < end and self.copied <= self.stored:
            index = bisect_right(self._starts, address)
            if index and address < self._ends[index - 1]:
                address = self._ends[index - 1]
                continue
            border = self._starts[index] if index < len(self._starts) else end
            size = min(border, end, address + _PIECE) - address
            self._file.seek(piece.offset + address - piece.address)
            self._file.write(self._memory.read(address, size))
            address, self.copied = address + size, self.copied + size


def _lost(memory: Memory, error: MissingMemory, pieces: Iterable[_Piece]) -> str:
    """Which parts of the file cannot be read, in words.

    error:  of the first page that could not be read.
    pieces: the folio of that page and all later ones.
    """
    ranges, left, first = list[tuple[int, int]](), _PAGES_PROBED, error.page
    for piece in pieces:
        for skip in range(max(0, first - piece.address), piece.size, _PAGE)[: left + 1]:
            page, left = piece.address + skip, left - 1
            if page != error.page and memory.page_state(page) in (PageState.PRESENT, PageState.ZERO):
                continue
            start, end = piece.offset + skip, piece.offset + min(skip + _PAGE, piece.size)
            if ranges and ranges[-1][1] == start:
                start, _ = ranges.pop()
            ranges.append((start, end))
        if left < 0 or len(ranges) > _RANGES_NAMED:
            break
        first = 0
    size = human_size(sum(end - start for start, end in ranges))
    where = ", ".join(f"{start:#x}-{end - 1:#x}" for start, end in ranges[:_RANGES_NAMED])
    least, more = ("at least ", ", ...") if left < 0 or len(ranges) > _RANGES_NAMED else ("", "")
    absent = error.state is PageState.ABSENT and memory.format in ("avml", "lime")
    hint = "; AVML omits blocks of zeros, and this may have been one" if absent else ""
    return f"{least}{size} of it cannot be read, at offset {where}{more}: {error}{hint}"


def _digest(file: BinaryIO) -> str:
    with open(file.fileno(), "rb", closefd=False) as again:
        again.seek(0)
        return hashlib.file_digest(again, "sha256").hexdigest()


def _find(state: State, name: str) -> tuple[Preserved, Memfd]:
    """The memfd SESSION/TOKEN or @ADDRESS, and the preserved memory of its handover. Raises UsageError."""
    address = memfd_address(name)
    if address is not None:
        led = _led(state, address)
        if led is None:
            raise UsageError(f"{safe_text(name)}: no pointer of a handover leads to a memfd there")
        return led
    session_name, _, token_text = name.rpartition("/")
    try:
        token = parse_number(token_text)
    except ValueError:
        raise UsageError(f"{safe_text(name)!r}: expected SESSION/TOKEN such as vm-web-01/0x1b") from None
    found = [
        (handover, file)
        for handover in state.handovers
        for file in _files(handover, session_name)
        if file.token == token
    ]
    if not found:
        raise UsageError(f"no file with token {token:#x} in a session {safe_text(session_name)!r}{_why_none(state)}")
    if len(found) > 1:
        addresses = sorted({handover.address or 0 for handover, _ in found})
        if len(addresses) == 1:
            raise UsageError(f"{safe_text(name)}: ambiguous: {len(found)} files have this session name and token")
        roots = ", ".join(f"{address:#x}" for address in addresses)
        raise UsageError(f"{safe_text(name)}: ambiguous: it is in several handovers ({roots}); select one with --root")
    handover, file = found[0]
    if file.memfd is None:
        if file.compatible.startswith("memfd"):
            why = f"no descriptor can be read at {file.data:#x}: the page was freed, reused or excluded from the dump"
            raise UsageError(f"{safe_text(name)}: {why}; `luoser inspect` lists the problems")
        raise UsageError(f"{safe_text(name)}: expected a memfd, found {safe_text(file.compatible)}")
    return handover.preserved, file.memfd


def _why_none(state: State) -> str:
    """Why there may be no such file, in words."""
    luos = [handover.luo for handover in state.handovers]
    if any(luo is not None and luo.sessions for luo in luos):
        return "; `luoser inspect` lists them"
    if any(luo is not None and not luo.serialized for luo in luos):
        return ": LUO has not serialised its sessions yet, or the next kernel has consumed them"
    return ": no sessions can be read: LUO's page was reused or is not in this source"


def _files(handover: Handover, name: str) -> Iterator[File]:
    for session in handover.luo.sessions if handover.luo is not None else ():
        if session.name == name or safe_text(session.name) == name:
            yield from session.files
