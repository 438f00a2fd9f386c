# SPDX-License-Identifier: MIT
"""The memory of a handover to scale: RAM, holes, scratch areas, and what is preserved, by owner."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import NamedTuple

from luoser.limits import LIMITS, how_to_raise
from luoser.render.extents import owned_blocks, owners
from luoser.state import Handover, MapStatus, PreservedMap
from luoser.text import counted, human_size, rounded_size

__all__ = ["Legend", "MemoryMap", "Span", "memory_map"]

WIDTH = 1000
"""Units of the drawing from its first address to its last one."""
_LEAST = 1.5
"""Least width of a rectangle in these units, so that a page of a large machine is seen."""
_SPANS = 600
"""Most rectangles of preserved memory. Of more, neighbours are drawn as one."""
_COLOURS = 10
_NOBODY = "no known owner"
_OTHERS = "other owners"
_SEVERAL = "several owners"


@dataclass(frozen=True, slots=True)
class Span:
    """A range [start, end) of physical addresses.

    lane:   RAM, hole, scratch or preserved.
    name:   what it is, or who owns it.
    colour: class of its colour.
    left:   in units of the drawing; as is width.
    """

    start: int
    end: int
    lane: str
    name: str
    colour: str
    left: float = 0
    width: float = 0

    @property
    def size(self) -> str:
        """The size in words."""
        return human_size(self.end - self.start)

    @property
    def range(self) -> str:
        """First and last address."""
        return f"{self.start:#x}-{self.end - 1:#x}"


class Legend(NamedTuple):
    """What a colour means. size: in words."""

    colour: str
    name: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMap:
    """A drawing.

    low, high: first address, and that after the last one.
    spans:     RAM and holes, then scratch, then preserved, each by address.
    legend:    owners, largest first.
    notes:     what is not drawn, and why, in words.
    """

    low: int
    high: int
    spans: tuple[Span, ...]
    legend: tuple[Legend, ...]
    notes: tuple[str, ...]


def memory_map(handover: Handover, ram: Sequence[tuple[int, int]], page_size: int) -> MemoryMap | None:
    """The drawing of a handover. None: nothing is known that can be drawn.

    handover:  any.
    ram:       [start, end) ranges of RAM. Empty: unknown.
    page_size: bytes.
    """
    found, status = handover.preserved.map, handover.preserved.status
    notes = list[str]()
    preserved, legend = list[Span](), list[Legend]()
    if found is not None and status in (MapStatus.INTACT, MapStatus.DAMAGED):
        preserved, legend, notes = _preserved(found, handover, page_size)
        if status is MapStatus.DAMAGED or not found.complete:
            notes.append(f"the preserved map is {status.value}; only what could be read of it is drawn")
    else:
        notes.append(f"the preserved map is {status.value}: preserved memory is not drawn")
    areas = [area for area in handover.scratch or () if area.size][:_SPANS]
    scratch = [Span(area.address, area.address + area.size, "scratch", "scratch", "scratch") for area in areas]
    if not scratch:
        notes.append("no scratch areas in this source")
    if not ram:
        notes.append("the ranges of RAM are not in this source")
    spans = [*_ram(ram), *scratch, *preserved]
    if not spans:
        return None
    low, high = min(span.start for span in spans), max(span.end for span in spans)
    placed = tuple(_placed(span, low, high) for span in spans)
    return MemoryMap(low=low, high=high, spans=placed, legend=tuple(legend), notes=tuple(notes))


def _placed(span: Span, low: int, high: int) -> Span:
    scale = WIDTH / (high - low)
    width = max((span.end - span.start) * scale, _LEAST)
    return replace(span, left=round(min((span.start - low) * scale, WIDTH - width), 2), width=round(width, 2))


def _ram(ranges: Iterable[tuple[int, int]]) -> Iterator[Span]:
    joined = list[tuple[int, int]]()
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    for start, end in joined[:_SPANS]:
        yield Span(start, end, "RAM", "RAM", "ram")
    for (_, start), (end, _) in pairwise(joined[:_SPANS]):
        yield Span(start, end, "hole", "no RAM", "hole")


def _preserved(found: PreservedMap, handover: Handover, page_size: int) -> tuple[list[Span], list[Legend], list[str]]:
    """(spans, legend, notes) of an intact or damaged map."""
    owned = owned_blocks(found, sorted(owners(handover)), page_size)
    sizes = dict[str, int]()
    for kind, size in owned.values():
        sizes[kind] = sizes.get(kind, 0) + size
    ranked = sorted(sizes, key=lambda kind: -sizes[kind])
    colours = {kind: f"c{place}" for place, kind in enumerate(ranked[:_COLOURS])}
    legend = [Legend(colours[kind], kind, rounded_size(sizes[kind])) for kind in colours]
    if others := ranked[_COLOURS:]:
        legend.append(Legend("others", f"{len(others)} {_OTHERS}", rounded_size(sum(sizes[kind] for kind in others))))
    blocks = found.entries - len(owned)
    if blocks:
        rest = rounded_size(found.pages * page_size - sum(sizes.values()))
        legend.append(Legend("nobody", f"{_NOBODY}, {counted(blocks, 'block')}", rest))
    notes = list[str]()
    whole = list(islice(_owned_spans(found, owned, colours, page_size), LIMITS.report_extents + 1))
    if len(whole) > LIMITS.report_extents:
        whole.pop()
        text = f"only the first {LIMITS.report_extents} ranges of preserved memory are drawn"
        notes.append(f"{text}; {how_to_raise('report_extents')}")
    spans, gap = _merged(whole)
    if gap:
        notes.append(f"preserved ranges less than {rounded_size(gap)} apart are drawn as one")
    return spans, legend, notes


def _owned_spans(
    found: PreservedMap, owned: dict[int, tuple[str, int]], colours: dict[str, str], page_size: int
) -> Iterator[Span]:
    """The preserved ranges by address, a new one where the owner changes."""
    places = sorted(owned)
    for address, order, count in found.by_address():
        end, place = address + count * (page_size << order), address
        for block in places[bisect_left(places, address) : bisect_left(places, end)]:
            kind, size = owned[block]
            if place < block:
                yield Span(place, block, "preserved", _NOBODY, "nobody")
            yield Span(block, block + size, "preserved", kind, colours.get(kind, "others"))
            place = block + size
        if place < end:
            yield Span(place, end, "preserved", _NOBODY, "nobody")


def _merged(spans: Sequence[Span]) -> tuple[list[Span], int]:
    """(at most so many spans as are drawn, size in bytes of the gaps that this closed; 0: adjacent ones only)."""
    made, gap = _joined(spans, 0, mix=False), 0
    whole = spans[-1].end - spans[0].start if spans else 0
    while len(made) > _SPANS:
        gap = max(2 * gap, whole // 65536, 1)
        made = _joined(spans, gap, mix=gap > whole // 2048)
    return made, gap


def _joined(spans: Iterable[Span], gap: int, *, mix: bool) -> list[Span]:
    """Neighbours of one owner that are at most `gap` bytes apart, as one. mix: those of several owners, too."""
    made = list[Span]()
    for span in spans:
        last = made[-1] if made else None
        if last is not None and span.start - last.end <= gap and (mix or last.name == span.name):
            is_one = last.name == span.name
            name, colour = (last.name, last.colour) if is_one else (_SEVERAL, "others")
            made[-1] = Span(last.start, max(last.end, span.end), last.lane, name, colour)
        else:
            made.append(span)
    return made
