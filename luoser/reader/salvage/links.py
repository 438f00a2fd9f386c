# SPDX-License-Identifier: MIT
"""What salvaged things say of each other: pointers that fit, pointers that two share, copies; and so the confidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import nsmallest

from luoser.limits import LIMITS
from luoser.reader.salvage.folios import Frames, within
from luoser.reader.salvage.found import Found, Pointer
from luoser.reader.salvage.judge import Judge
from luoser.state import Confidence

__all__ = ["Links", "confidence", "is_worth", "words"]

_LOST_SHARE = 4
"""Of so many pointers that fit, one may lead to something else, as if it was reused."""
_LEVELS = (Confidence.LOW, Confidence.MEDIUM, Confidence.HIGH)
_ENOUGH = 3
"""So many constraints are several, without a pointer."""


class Links:
    """The things of one source by address, and what they say of each other.

    judge:   says what is at an address.
    proven:  addresses of what pointers of a handover prove.
    is_full: whether there were more than LIMITS.salvage_found.
    """

    def __init__(self, judge: Judge, proven: frozenset[int]) -> None:
        self.found: dict[int, Found] = {}
        self._judge, self._proven, self.is_full = judge, proven, False
        self._nothing, self._totals = set[tuple[str, int, str]](), dict[int, int]()

    def add(self, kind: str, address: int, hint: str = "", *, is_led: bool = False) -> Found | None:
        """The thing of a kind at an address, judged once. None: there is none, or one of another kind.

        is_led: a pointer says the kind. A page can have the shape of two; one of another kind, which nothing confirms,
                then gives way, and else if it fits less well.
        """
        known = self.found.get(address)
        if known is not None and (kind in ("", known.kind) or known.fits):
            return known if kind in ("", known.kind) else None
        key = (kind, address, hint)
        if not kind or key in self._nothing:
            return None
        if known is None and len(self.found) >= LIMITS.salvage_found:
            self.is_full = True
            return None
        made = self._judge.at(kind, address, hint)
        if made is None:
            self._nothing.add(key)
            return None
        if known is not None and not is_led and _merit(made) <= _merit(known):
            return None
        self.found[address] = made
        return made

    def follow(self) -> None:
        """Follow all pointers, also those of things that are only found by them."""
        self._drop_insides()
        todo = list(self.found.values())
        while todo:
            one = todo.pop()
            for pointer in one.pointers:
                before = self.found.get(pointer.address)
                target = self.add(pointer.kind, pointer.address, pointer.hint, is_led=True)
                if target is not None and target is not before:
                    todo.append(target)
        self._totals = self._chains()
        for one in self.found.values():
            for pointer in one.pointers:
                self._lead(one, pointer)

    def _drop_insides(self) -> None:
        """Drop what is only a later page of another thing of its kind: an array goes on with whole entries."""
        for address in sorted(self.found):
            one = self.found.get(address)
            if one is None:
                continue
            page = self._judge.walk.page_size
            for inner in range(address + page, address + len(one.data), page):
                if inner in self.found and self.found[inner].kind == one.kind:
                    del self.found[inner]

    def _lead(self, one: Found, pointer: Pointer) -> None:
        target = self.found.get(pointer.address)
        if target is None or pointer.kind not in ("", target.kind):
            if pointer.wanted:
                is_away = self._judge.walk.gap(pointer.address) is not None
                one.away += is_away
                one.lost += not is_away and not self._judge.walk.is_zero_page(pointer.address)
            return
        if pointer.kind == "memfd" and not target.fits:  # an empty file, or one whose array is gone: nothing to compare
            target.led_from.append(one.address)
            return
        if pointer.entries is not None and self._totals.get(pointer.address) != pointer.entries:
            one.against.append(f"the files at {pointer.address:#x} are not {pointer.entries}, as their session says")
            return
        one.fits += 1
        one.leads_to.append(pointer.address)
        target.led_from.append(one.address)

    def _chains(self) -> dict[int, int]:
        """The entries of a chain from each block on; LOOP if it leads back to itself, GAP if a block is not there."""
        totals = dict[int, int]()
        for start in self.found:
            path, here = dict[int, None](), start
            while here in self.found and here not in totals and here not in path:
                path[here] = None
                here = self.found[here].following
            total = _LOOP if here in path else totals.get(here, 0 if not here else _GAP)
            for address in reversed(path):
                total = total + self.found[address].count if total >= 0 else total
                totals[address] = total
        return totals

    def compare(self) -> None:
        """Note what is the same at two places, what two things point to, and chains that lead back."""
        self._shared()
        same = defaultdict[tuple[str, bytes], list[Found]](list)
        for one in self.found.values():
            same[one.layout, one.data].append(one)
        for group in same.values():
            if len(group) > 1:
                self._are_copies(group)
        for address, total in self._totals.items():
            if total == _LOOP:
                self.found[address].against += ["its chain leads back to itself"] * 2
        self._twice()
        self._contents()
        self._folios()

    def _twice(self) -> None:
        """Note the names or tokens that two blocks of one chain have."""
        following = {one.following for one in self.found.values()}
        done = set[int]()
        for start in self.found.keys() - following:
            keys, here = set[int | bytes](), start
            while here in self.found and here not in done:
                done.add(here)
                one = self.found[here]
                if not keys.isdisjoint(one.keys):
                    one.against.append("another block of its chain has one of its names or tokens, too")
                keys.update(one.keys)
                here = one.following

    def _contents(self) -> None:
        """Note what lies in the pages of a file. A copy there, as in a dump that the file has, is at another address
        than its original, so nothing points to it; if something does, the file is wrong, or its pages were reused."""
        own = {page: one for one in self.found.values() for page in (one.address, *one.inside)}
        places = sorted(own)
        for file in self._files():
            is_proven, is_wrong = file.address in self._proven, False
            for page in within(places, file.memfd) if file.memfd is not None else ():
                one = own[page]
                is_there = one.address in self._proven or bool(one.led_from)
                if not is_wrong and (is_there or (one.is_preserved and one.fits)):
                    file.against.append(f"its page at {page:#x} is another thing: it is wrong, or was reused")
                    is_wrong = True
                if page == one.address and (is_proven or not is_there):
                    one.against += [f"it lies in the contents of the memfd at {file.address:#x}"] * (1 + is_proven)

    def _files(self) -> Iterator[Found]:
        """The memfds with all their folios; of those that share an array one."""
        files = {one.memfd.folios.address: one for one in self.found.values() if one.memfd is not None and one.fits}
        return (one for one in files.values() if one.is_whole)

    def _folios(self) -> None:
        """Note folios that two files have. Of those that a map has, only another one of that map makes one doubtful."""
        page, frames, twice = self._judge.walk.page_size, Frames(), set[int]()
        files = list(self._files())
        for group in ([one for one in files if one.has_blocks], [one for one in files if not one.has_blocks]):
            for one in group:
                twice.update(address for address in _folios_of(one) if frames.add(address // page))
            for one in group if twice else ():
                shared = next((address for address in _folios_of(one) if address in twice), None)
                if shared is not None:
                    one.against.append(f"another file has the folio at {shared:#x}, too")

    def _are_copies(self, group: list[Found]) -> None:
        places = sorted((one.address for one in group), key=self._rank)[: _NAMED + 1]
        for one in group:
            one.copies = tuple(address for address in places if address != one.address)[:_NAMED]
            if one.copies[0] in self._proven and one.address not in self._proven:
                one.against += [f"a handover has the same bytes at {one.copies[0]:#x}: this is a copy"] * 2
            elif not one.led_from:
                where = ", ".join(f"{address:#x}" for address in one.copies)
                one.against.append(f"the same bytes are at {where}: one is a copy")

    def _rank(self, address: int) -> tuple[bool, int]:
        """Proven ones first."""
        return address not in self._proven, address

    def _shared(self) -> None:
        """Note where two things point to one that can have only one owner, or have a page of their own in common."""
        owners = defaultdict[int, set[int]](set)
        for one in self.found.values():
            for address in (*one.inside, *(pointer.address for pointer in one.pointers if pointer.owns)):
                owners[address].add(one.address)
        told = set[tuple[int, int]]()
        for address, sharing in owners.items():
            first = nsmallest(2, sharing, key=self._rank)
            for place in sharing - self._proven if len(sharing) > 1 else ():
                other = next(one for one in first if one != place)
                if (place, other) not in told:
                    told.add((place, other))
                    self._is_shared(place, other, address)

    def _is_shared(self, place: int, other: int, address: int) -> None:
        is_proven = other in self._proven
        whose = "a handover has" if is_proven else "there is"
        text = f"{whose} another one at {other:#x} that points to {address:#x}, too: one is a copy, or older"
        self.found[place].against += [text] * (2 if is_proven else 1)


_NAMED = 3
"""So many addresses are named at most."""
_LOOP, _GAP = -1, -2


def _folios_of(one: Found) -> Iterable[int]:
    return one.memfd.folios.list.addresses() if one.memfd is not None else ()


def _merit(one: Found) -> tuple[int, int]:
    """How well a thing fits by itself."""
    return -len(one.against), one.strength


def confidence(one: Found) -> Confidence:
    """How sure it is. one: after all comparisons."""
    is_confirmed = one.fits or (one.led_from and one.strength >= _ENOUGH)
    level = 2 if is_confirmed and _is_placed(one) else 1 if one.fits or one.strength >= _ENOUGH else 0
    level -= len(one.against) + (one.lost * _LOST_SHARE > one.fits) + (one.lost > one.fits)
    return _LEVELS[max(0, level)]


def _is_placed(one: Found) -> bool:
    """Whether something says that a thing is there. What only points to others can be a copy of what is gone."""
    return bool(one.led_from) or one.is_preserved


def is_worth(one: Found) -> bool:
    """Whether it is shown at all: with less, pages of other things would be."""
    return bool(one.fits or one.led_from) or one.strength >= _ENOUGH


def words(one: Found) -> Iterable[str]:
    """The evidence for a thing, and against it."""
    yield from one.reasons
    if one.leads_to:
        yield f"{len(one.leads_to)} of its pointers lead to what fits"
    if one.away:
        yield f"{one.away} of its pointers lead to pages that are not in this source"
    if one.lost:
        yield f"{one.lost} of its pointers lead to something else, as if reused"
    if one.led_from:
        places = ", ".join(f"{address:#x}" for address in one.led_from[:_NAMED])
        yield f"what is at {places} points to it"
    if one.is_preserved:
        yield "a block of an intact map begins there"
    elif not one.led_from:
        yield "nothing points to it, and no intact map has it: it can be a copy of what is gone"
    yield from (f"against it: {text}" for text in dict.fromkeys(one.against))
