# SPDX-License-Identifier: MIT
"""Status of a preserved map: intact, damaged, or stale, that is freed and reused by the next kernel.

Corruption before the kexec must never look like a stale map. So stale needs two independent kinds of evidence, and all
that one broken node can explain counts as one kind. Source: docs/deciding.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from luoser.bits import next_one, run_ends, used_size
from luoser.reader.preserved import MapReading
from luoser.reader.walk import Subject, Walk
from luoser.state import Bitmap, MapStatus, Preserved, PreservedMap

__all__ = ["Named", "judge", "judge_page_tree", "kernel_text"]

_MAP = Subject("preserved map", "preserved")
_RUNS_COMPARED = 1 << 18
"""At most so many runs are compared of the bitmaps that share memory, and of those that are not all in RAM."""
_MANY = 16
"""So many overlapping entries, or ranges outside RAM, are evidence: one flipped bit causes fewer."""

Named = tuple[int, int, str]
"""(physical address, size in bytes, what) of memory that a real map covers."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """One kind of evidence in the bits of a map.

    kind:    a word.
    address: physical.
    text:    in words.
    holders: for each fault, the addresses of the nodes on the way to its bitmaps. Empty: something is missing.
    """

    kind: str
    address: int
    text: str
    holders: tuple[frozenset[int], ...] = ()


@dataclass(frozen=True, slots=True)
class _Judged:
    """A reading, its map, and the evidence against it."""

    reading: MapReading
    map: PreservedMap
    signs: tuple[_Sign, ...]

    @property
    def weight(self) -> int:
        """Number of faults against it."""
        return len(self.signs) + len(self.reading.broken)


def judge(walk: Walk, reading: MapReading, named: Iterable[Named], *, outside: Sequence[str] | None = ()) -> Preserved:
    """The preserved map of a reading: its status, and a problem for each fault.

    walk:    the source.
    reading: the map as walked.
    named:   memory that a real map covers.
    outside: evidence from outside the map that the next kernel is running: a text per kind. None: it is not, so the map
             cannot be stale.

    Source: docs/deciding.md.
    """
    _report_off(walk, reading, _MAP)
    if reading.address in walk.memory.stale:
        walk.memory.note_stale(reading.address)
        text, is_old = "it was stale in the source of this cut, which left its pages out", outside is not None
        walk.problem("map-stale" if is_old else "excluded", reading.address, _MAP, text)
        status = MapStatus.STALE if is_old else MapStatus.MISSING
        return Preserved(form=reading.form, address=reading.address, status=status)
    if reading.missing is not None:
        walk.missing(reading.missing, _MAP)
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.MISSING)
    if reading.unread:
        walk.problem("map-unread", reading.address, _MAP, f"form not decoded by luoser: {reading.unread}")
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.UNREAD)
    chosen = _by_width(walk, reading, list(named))
    kinds = _kinds(chosen)
    if outside is not None and len(kinds) + len(outside) >= 2 and not reading.is_nowhere:
        walk.memory.note_stale(reading.address)
        text = "; ".join([*(sign.text for sign in kinds), *outside])
        walk.problem("map-stale", reading.address, _MAP, f"stale, so it is not decoded: {text}")
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.STALE)
    return _live(walk, chosen)


def _live(walk: Walk, chosen: _Judged) -> Preserved:
    """An intact or damaged map, with its problems."""
    reading = chosen.reading
    _keep(walk, chosen)
    _report(walk, reading, _MAP)
    for sign in chosen.signs if not reading.is_no_map else ():  # then its first page is a problem already
        walk.problem("map-damaged", sign.address, _MAP, sign.text)
    return _as_read(reading, chosen.map)


def _as_read(reading: MapReading, found: PreservedMap) -> Preserved:
    return Preserved(
        form=reading.form,
        address=reading.address,
        status=MapStatus.DAMAGED if reading.broken else MapStatus.INTACT,
        map=found,
        nodes=tuple(reading.nodes),
        bitmap_size=reading.bitmap_size,
        bitmaps=tuple(reading.places),
    )


def _report_off(walk: Walk, reading: MapReading, subject: Subject) -> None:
    for node, _, text in (one for one in reading.off if one[1] not in reading.nodes):  # else it is in its own place
        walk.problem("pointer-off", node, subject, text)


def _report(walk: Walk, reading: MapReading, subject: Subject) -> None:
    """A problem for each node that is broken or not in the source."""
    for broken in reading.broken:
        if reading.is_no_map:
            walk.problem("map-garbage", broken.address, subject, broken.text)
        else:
            walk.problem("map-node-broken", broken.address, subject, broken.text)
    for node, error, text in reading.absent:
        walk.missing(error, subject)
        walk.problem("map-node-missing", node, subject, text)
    for code, address, text in reading.faults:
        walk.problem(code, address, subject, text)


def judge_page_tree(walk: Walk, reading: MapReading, subject: Subject) -> Preserved:
    """A tree of pages that is not the map: its status, and a problem for each fault. It is never stale, as its owner in
    the next kernel goes on with it.

    walk:    the source.
    reading: the tree as walked.
    subject: what problems are about.
    """
    _report_off(walk, reading, subject)
    if reading.missing is not None or walk.memory.withholds(reading.address, walk.page_size):
        if reading.missing is not None:
            walk.missing(reading.missing, subject)
        walk.need(reading.address, walk.page_size, subject)
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.MISSING)
    use = walk.need if reading.unread or reading.broken else walk.keep  # a wrong pointer leads to any page
    for node in reading.nodes if walk.keeps else ():
        use(node, walk.page_size, subject)
    _report(walk, reading, subject)
    if reading.unread:
        walk.problem("map-unread", reading.address, subject, f"not decoded by luoser: {reading.unread}")
        return Preserved(form=reading.form, address=reading.address, status=MapStatus.UNREAD)
    return _as_read(reading, PreservedMap(reading.bitmaps, page_size=walk.page_size, complete=reading.complete))


def _keep(walk: Walk, chosen: _Judged) -> None:
    """Keep the nodes of a map, without bitmaps that there is evidence against: a wrong pointer leads to any page."""
    if not walk.keeps:
        return
    reading, keep = chosen.reading, walk.memory.keep
    signs = [sign for sign in chosen.signs if sign.kind != "own-node"]
    doubted = {place for sign in signs for holders in sign.holders for place in holders}
    doubted |= {node for node in reading.nodes if chosen.map.find(node)}  # it may be a preserved page of a user
    bitmaps = {place: reading.bitmap_size or walk.page_size for place, _, _ in reading.places}
    for place, size in bitmaps.items():
        if place - place % walk.page_size not in doubted:
            keep(place, size)
    for node, start, end in reading.entries:
        keep(node + start, end - start)


def _by_width(walk: Walk, reading: MapReading, named: list[Named]) -> _Judged:
    """Of the two widths of bitmaps that the pointers allow, the one with less evidence against it."""
    judged = _judged(walk, reading, named)
    if reading.other is None:
        return judged
    other = _judged(walk, reading.other, named)
    if judged.weight and other.weight < judged.weight:
        return other
    if not judged.weight and not other.weight and judged.map.entries != other.map.entries:
        text = f"assuming {reading.bitmap_size}-byte bitmaps (6.17.9 and later); {reading.other.bitmap_size}-byte"
        walk.problem("map-width", reading.address, _MAP, f"{text} bitmaps fit too, with {other.map.entries} entries")
    return judged


def _judged(walk: Walk, reading: MapReading, named: list[Named]) -> _Judged:
    found = PreservedMap(reading.bitmaps, page_size=walk.page_size, complete=reading.complete)
    return _Judged(reading, found, tuple(_signs(walk, reading, found, named)))


# -- evidence in the bits ---------------------------------------------------------------------------------


def _kinds(judged: _Judged) -> list[_Sign]:
    """The independent kinds of evidence: all that one node on the way explains is one kind."""
    signs = list(judged.signs)
    faults = [holders for sign in signs for holders in sign.holders]
    if faults and any(all(place in holders for holders in faults) for place in faults[0]):
        return signs[:1]
    if any(sign.kind == "empty" for sign in signs):  # an empty map covers nothing: not independent
        signs = [sign for sign in signs if sign.kind != "uncovered"]
    return signs


def _signs(walk: Walk, reading: MapReading, found: PreservedMap, named: list[Named]) -> Iterator[_Sign]:
    """At most one sign of each kind."""
    if reading.is_no_map:
        yield _Sign("no-map", reading.address, f"its first page is not a node: {reading.broken[0].text}")
        return
    if found.complete:
        yield from _coverage(reading, found, named)
    own = [node for node in reading.nodes if found.find(node)]
    if own:
        holders = tuple(_holders(reading, found, node) | _leading_to(reading, node) for node in own[:_MANY])
        yield _Sign("own-node", own[0], f"it covers its own page {own[0]:#x}", holders)
    text = kernel_text(walk)
    if text is not None and found.find(text):
        word = f"it covers the text of the running kernel at {text:#x}"
        yield _Sign("kernel-text", text, word, (_holders(reading, found, text),))
    yield from _range_signs(walk, reading, found)


def _coverage(reading: MapReading, found: PreservedMap, named: list[Named]) -> Iterator[_Sign]:
    if not found.entries:
        yield _Sign("empty", reading.address, "it preserves nothing")
    uncovered = [(address, what) for address, size, what in named if not found.covers(address, size)]
    if uncovered:
        address, what = uncovered[0]
        more = f", nor {len(uncovered) - 1} more structures of the handover" if len(uncovered) > 1 else ""
        yield _Sign("uncovered", address, f"it does not cover {what} at {address:#x}{more}")


def _leading_to(reading: MapReading, node: int) -> frozenset[int]:
    """The nodes on the way to a node: with a wrong pointer in them, the node may be other preserved memory."""
    return reading.leading_to(node) if node != reading.address else frozenset()


def _holders(reading: MapReading, found: PreservedMap, address: int) -> frozenset[int]:
    """The nodes on the way to the bitmap with the bit of an address."""
    block = found.find(address)
    if block is None:
        return frozenset()
    for bitmap in found.bitmaps:
        span = (len(bitmap.bits) * 8 * found.page_size) << bitmap.order
        if bitmap.order == block.order and bitmap.start <= block.address < bitmap.start + span:
            return reading.leading_to_bitmap((bitmap.order, bitmap.start))
    return frozenset()


class _Span(NamedTuple):
    """The memory of a bitmap, [low, high), from its first block to its last. low, high: physical addresses."""

    low: int
    high: int
    key: tuple[int, int]
    bitmap: Bitmap


def _spans(found: PreservedMap) -> list[_Span]:
    """The memory of the bitmaps, by address. The runs of most maps then need no look."""
    spans = []
    for bitmap in found.bitmaps:
        if size := used_size(bitmap.bits):
            unit, ones = found.page_size << bitmap.order, 8 * (size - 1) + bitmap.bits[size - 1].bit_length()
            low = bitmap.start + next_one(bitmap.bits, 0) * unit
            spans.append(_Span(low, bitmap.start + ones * unit, (bitmap.order, bitmap.start), bitmap))
    return sorted(spans)


_Run = tuple[int, int, int, tuple[int, int]]
"""(start, end, bytes of an entry, (order, start) of the bitmap); start and end are physical addresses."""


def _runs(found: PreservedMap, spans: Iterable[_Span]) -> list[_Run]:
    """Runs of adjacent entries of one bitmap, by address: those of the first bitmaps, as many as are compared."""
    runs = list[_Run]()
    for _, _, key, bitmap in spans:
        base, unit = bitmap.start, found.page_size << bitmap.order
        ends = islice(zip(*run_ends(bitmap.bits), strict=True), _RUNS_COMPARED - len(runs))
        runs += [(base + first * unit, base + (last + 1) * unit, unit, key) for first, last in ends]
        if len(runs) >= _RUNS_COMPARED:
            break
    return sorted(runs)


def _range_signs(walk: Walk, reading: MapReading, found: PreservedMap) -> Iterator[_Sign]:
    spans = _spans(found)
    yield from _overlaps(reading, _runs(found, _meeting(spans)))
    yield from _outside(walk, reading, found, spans)


def _meeting(spans: list[_Span]) -> list[_Span]:
    """Those that share memory with another one."""
    met, end, last = set[int](), 0, 0
    for number, span in enumerate(spans):
        if span.low < end:
            met |= {last, number}
        if span.high > end:
            end, last = span.high, number
    return [spans[number] for number in sorted(met)]


def _overlaps(reading: MapReading, runs: list[_Run]) -> Iterator[_Sign]:
    """A sign if at least 16 entries share memory with others."""
    entries, first, pairs = 0, 0, set[tuple[tuple[int, int], tuple[int, int]]]()
    end, last = 0, (0, 0)
    for start, stop, unit, bitmap in runs:
        if start < end:
            entries += ((end if end < stop else stop) - start) // unit or 1
            first = first or start
            pairs.add((bitmap, last))
        if stop > end:
            end, last = stop, bitmap
    if entries >= _MANY:
        faults = {reading.leading_to_bitmap(one) | reading.leading_to_bitmap(other) for one, other in pairs}
        yield _Sign("overlap", first, f"{entries} entries overlap others, the first at {first:#x}", tuple(faults))


def _outside(walk: Walk, reading: MapReading, found: PreservedMap, spans: list[_Span]) -> Iterator[_Sign]:
    """A sign if at least 16 ranges are outside RAM."""
    ram = walk.memory.known_ram
    if not ram:
        return
    starts = [start for start, _ in ram]

    def is_inside(start: int, end: int) -> bool:
        low, high = ram[max(0, bisect_right(starts, start) - 1)]
        return low <= start and end <= high

    strays = (span for span in spans if not is_inside(span.low, span.high))
    outside = [(start, key) for start, _, _, key in _runs(found, strays) if not is_inside(start, start + 1)]
    if len(outside) >= _MANY:
        first, faults = outside[0][0], {key: reading.leading_to_bitmap(key) for _, key in outside}
        text = f"{len(outside)} of its ranges are outside RAM, from {first:#x} on"
        yield _Sign("outside-ram", first, text, tuple(faults.values()))


def kernel_text(walk: Walk) -> int | None:
    """Physical address of the text of the running x86-64 kernel, from VMCOREINFO. None: unknown."""
    info = walk.memory.vmcoreinfo
    try:
        text, base = int(info["SYMBOL(_stext)"], 16), int(info["NUMBER(phys_base)"], 0)
    except (KeyError, ValueError):
        return None
    return text - 0xFFFFFFFF80000000 + base if text >= 0xFFFFFFFF80000000 else None
