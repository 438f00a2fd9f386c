# SPDX-License-Identifier: MIT
"""The search of a whole source by shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luoser.abi.luo import LuoForm
from luoser.abi.memfd import MemfdForm
from luoser.abi.pci import PciLayout
from luoser.errors import UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import Memory
from luoser.reader.page_size import PAGE_SIZES
from luoser.reader.salvage.blocks import blocks
from luoser.reader.salvage.columns import Columns
from luoser.reader.salvage.folios import differs_from_map
from luoser.reader.salvage.forms import TABLES, Table, Wanted, shapes
from luoser.reader.salvage.found import Found
from luoser.reader.salvage.judge import Judge
from luoser.reader.salvage.links import Links, confidence, is_worth, words
from luoser.reader.salvage.places import is_in_scratch, place_words, preserving, proven
from luoser.reader.walk import Walk
from luoser.state import Confidence, Device, DeviceList, Entries, Handover, Memfd, Problem, Salvaged, State
from luoser.state.packed import Hex
from luoser.state.struct_values import struct_values

__all__ = ["memfd_at", "salvage"]

_SURE = 8
"""So many addresses, all multiples of a larger page, show that this is the page size."""


def salvage(memory: Memory, state: State, *, guess: bool = False) -> tuple[tuple[Salvaged, ...], tuple[Problem, ...]]:
    """What is found by its shape in a source, the surest first, and the bounds that were met.

    memory: the source.
    state:  as read from it. What its pointers lead to is left out.
    guess:  the page size is assumed: another one may be found.
    """
    page_size = state.source.page_size
    made = _Search(memory, state.handovers, page_size)
    found = made.run()
    if guess and (other := _page_size(found, page_size)) != page_size:
        again = _Search(memory, state.handovers, other)
        second = again.run()
        if _score(second) >= _score(found):
            made, found = again, second
            made.notice(f"every address is a multiple of {other}: salvaged with pages of so many bytes")
    return found, tuple(made.problems)


def memfd_at(memory: Memory, address: int, page_size: int) -> tuple[Memfd, tuple[str, ...]]:
    """The memfd whose descriptor is at an address, with its folios, and what is against it; nothing else is searched.

    memory:    the source.
    address:   physical.
    page_size: bytes.

    Raises UsageError if there is no descriptor, or if its array of folios is not whole.
    """
    found = Judge(Walk(memory, page_size)).at("memfd", address)
    if found is None or found.memfd is None:
        raise UsageError(
            f"no memfd descriptor at {address:#x}: expected a memfd_luo_ser whose folios fit; `luoser inspect "
            "--salvage` lists what is found"
        )
    if not found.is_whole:
        why = "; ".join(found.against)
        raise UsageError(f"memfd at {address:#x}: {why}; its bytes are not known, and luoser makes none up")
    return found.memfd, tuple(found.against)


def _page_size(found: Sequence[Salvaged], page_size: int) -> int:
    """The largest page size of which the addresses of all that fits well are multiples.

    With too small a page size memfds seem to end before their size, and are less sure.
    """
    addresses = {
        address for one in found if one.confidence is not Confidence.LOW for address in (one.address, *one.leads_to)
    }
    sizes = [size for size in PAGE_SIZES if all(address % size == 0 for address in addresses)]
    return max(sizes, default=page_size) if len(addresses) >= _SURE else page_size


def _score(found: Sequence[Salvaged]) -> int:
    return sum(one.confidence is Confidence.HIGH for one in found)


class _Search:
    """One search with one page size."""

    def __init__(self, memory: Memory, handovers: Sequence[Handover], page_size: int) -> None:
        self.memory, self.handovers, self.page_size = memory, handovers, page_size
        self.problems: list[Problem] = []
        self._proven = proven(handovers)
        self._judge = Judge(Walk(memory, page_size))
        self._links = Links(self._judge, self._proven)

    def run(self) -> tuple[Salvaged, ...]:
        for kind, address, hint in self._candidates():
            self._links.add(kind, address, hint)
        self._links.follow()
        for one in self._links.found.values():
            self._place(one)
        self._links.compare()
        if self._links.is_full:
            self.notice(f"too much has a shape: only the first {LIMITS.salvage_found}; {how_to_raise('salvage_found')}")
        if self._judge.has_many_lists:
            text = f"too many pages end like a device list: only {LIMITS.salvage_lists} were tried"
            self.notice(f"{text}; {how_to_raise('salvage_lists')}")
        if self._judge.is_spent:
            self.notice(f"too much looks like something: not all was judged; {how_to_raise('salvage_judged')}")
        rest = [one for one in self._links.found.values() if one.address not in self._proven and is_worth(one)]
        ranked = sorted(rest, key=lambda one: (-_RANK[confidence(one)], _KINDS.index(one.kind), one.address))
        return tuple(map(self._salvaged, ranked))

    def _place(self, one: Found) -> None:
        """Note what scratch areas and maps say of a thing."""
        if is_in_scratch(self.handovers, one.address):
            one.against.append("it lies in scratch")
        root = preserving(self.handovers, one.address)
        if root is None or root.preserved.map is None:
            return
        one.is_preserved = True
        known = root.preserved.map
        others = [pointer.address for pointer in one.pointers if pointer.owns and known.head(pointer.address) is None]
        if others:
            one.against.append(f"{len(others)} of its pointers lead to no block of the map that has it")
        if one.memfd is not None and one.fits and one.is_whole:
            fault = differs_from_map(one.memfd, known)
            one.has_blocks = fault is None
            one.against += [] if fault is None else [fault]

    def notice(self, text: str) -> None:
        """Note a bound that was met. It hides nothing that pointers prove."""
        self.problems.append(Problem(code="salvage-limit", address=None, message=text))

    def _candidates(self) -> Iterator[tuple[str, int, str]]:
        """(kind, address, layout of a table or handler) of all that has a shape."""
        seen, number = set[tuple[str, int, str]](), 0
        for block in blocks(self.memory, self.page_size):
            columns = Columns(bytes(block.data), self.page_size)
            for wanted, shape in shapes(self.page_size):
                kind, hint = _kind(wanted)
                for index in shape.pages(columns):
                    key = (kind, block.address(index * self.page_size), hint)
                    if key in seen:
                        continue
                    seen.add(key)
                    number += 1
                    if number > LIMITS.salvage_candidates:
                        text = f"too many pages have a shape: only the first {number - 1} were judged"
                        self.notice(f"{text}; {how_to_raise('salvage_candidates')}")
                        return
                    yield key
        if sum(segment.stored for segment in self.memory.segments) > LIMITS.salvage_bytes:
            self.notice(f"the source is larger than what is searched; {how_to_raise('salvage_bytes')}")

    def _salvaged(self, one: Found) -> Salvaged:
        return Salvaged(
            kind=one.kind,
            layout=one.layout,
            address=one.address,
            size=len(one.data),
            confidence=confidence(one),
            evidence=(*words(one), place_words(self.handovers, one.address)),
            fields=one.fields,
            entries=_entries(one),
            leads_to=tuple(dict.fromkeys((*one.leads_to, *one.inside))),
            led_from=tuple(dict.fromkeys(one.led_from)),
            copies=one.copies,
            unconfirmed=_unconfirmed(one),
        )


_RANK = {Confidence.HIGH: 2, Confidence.MEDIUM: 1, Confidence.LOW: 0}
_KINDS = ("luo", "sessions", "files", "memfd", "flbs", "devices", "devicetree")


def _unconfirmed(one: Found) -> tuple[str, ...]:
    """The members that nothing else in a source says: a bit of them may be wrong, and nothing shows it."""
    if one.devices is not None:
        rows = _entries(one)[:1]
        heads = (f"fields.{name}" for name, value in one.fields.items() if value != one.count)
        return (*heads, *(f"entries.{name}" for row in rows for name in row))
    names = _ALONE[one.kind] + (_POINTERS.get(one.kind, ()) if one.is_doubted else ())
    rows = _entries(one)[:1]
    members = {f"fields.{name}" for name in one.fields} | {f"entries.{name}" for row in rows for name in row}
    said = tuple(name for name in names if {name, name.rpartition(".")[0]} & members)
    if one.kind != "memfd":
        return said
    return (*said, _FOLIO_FLAGS) if one.has_blocks else (*said, _FRAMES, _FOLIO_FLAGS)


_FRAMES, _FOLIO_FLAGS = "folio.pfn", "folio.flags"
_ALONE = {
    "luo": ("fields.liveupdate_num",),
    "sessions": ("entries.name",),
    "files": ("entries.token",),
    "flbs": ("entries.name", "entries.count"),
    "memfd": ("fields.pos", "fields.size", "fields.seals", "fields.folios.flags"),
    "devicetree": ("fields.nodes",),
}
_POINTERS = {
    "luo": ("fields.sessions_pa", "fields.flbs_pa"),
    "sessions": ("entries.files", "entries.count", "entries.file_set_ser"),
    "files": ("entries.data",),
    "flbs": ("entries.data",),
}
"""Pointers of things, and counts of what they lead to."""


def _kind(wanted: Wanted) -> tuple[str, str]:
    if isinstance(wanted, Table):
        return wanted.kind, wanted.layout
    if isinstance(wanted, MemfdForm):
        return "memfd", wanted.handler
    if isinstance(wanted, LuoForm):
        return "luo", ""
    return ("devices", "") if isinstance(wanted, PciLayout) else ("devicetree", "")


def _entries(one: Found) -> Sequence[Mapping[str, Any]]:
    devices, address, data = one.devices, one.address, one.data
    if devices is not None:
        return Entries(len(devices), lambda index: _row(devices, devices[index]))
    form = next((form for form in TABLES if (form.kind, form.layout) == (one.kind, one.layout)), None)
    if form is None:
        return ()
    start, entry = form.start, form.entry

    def made(index: int) -> Mapping[str, Any]:
        place = start + index * entry.size
        return {"address": Hex(address + place), **struct_values(entry, data[place:])}

    return Entries(one.count, made)


def _row(devices: DeviceList, one: Device) -> dict[str, Any]:
    """The members of a device, with its address in place of those that it is made of."""
    hexes = {column.name for column in devices.columns if column.is_hex}
    return {"bdf": one.name} | {
        name: Hex(value) if name in hexes and isinstance(value, int) else value
        for name, value in one.fields.items()
        if name != "path"
    }
