# SPDX-License-Identifier: MIT
"""kallsyms: the symbols of a kernel, out of its own memory.

Names are packed with a table of 256 tokens and sorted by address; a second table has their order by name, so that a
look-up unpacks some twenty names of 200 000. VMCOREINFO names the tables, but for the two that only a look-up needs:
these are beside the others, and are not used unless they fit.

Source: kernel/kallsyms.c, scripts/kallsyms.c, kernel/vmcore_info.c, from 6.12 to 7.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, combinations

from luoser.errors import MissingMemory, PageState
from luoser.kernel.space import AddressSpace, Unmapped, hex_number
from luoser.limits import LIMITS, how_to_raise
from luoser.text import safe_text

__all__ = ["Kallsyms", "KernelSymbol", "NoKallsyms", "find_kallsyms"]

_MARKED = 256
"""Symbols from one marker to the next."""
_TOKENS = 256
_LONGEST = 1024
"""Bytes of a packed or unpacked name; the kernel's own bound is KSYM_NAME_LEN, 512."""
_WORD = (1 << 64) - 1
_APART = 1 << 30
"""Bytes from the first table to the last, at most: those of an image."""
_SAMPLES = 24
"""Neighbours in the table by name that are compared before it is used."""
_REPEATS = 5
"""How often a name uses one token, at most, where its flipped bits are looked for."""
_ALIGNED = 8
"""Alignment of a table, at most."""
_TABLES = tuple(
    f"SYMBOL(kallsyms_{name})" for name in ("names", "num_syms", "token_table", "token_index", "offsets", "addresses")
)
_ANCHORS = ("_stext", "swapper_pg_dir", "init_uts_ns")
"""Symbols of VMCOREINFO that kallsyms have with and without CONFIG_KALLSYMS_ALL: the first, and only with it: the
others."""


class NoKallsyms(Exception):
    """The symbols cannot be had from memory. Its text says why.

    is_absent: the source does not have them, or does not say where they are; nothing is wrong with it.
    is_excluded: a dump tool left a page of them out.
    """

    def __init__(self, text: str, *, is_absent: bool = False, is_excluded: bool = False) -> None:
        super().__init__(text)
        self.is_absent, self.is_excluded = is_absent, is_excluded


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """A symbol.

    name:    as the kernel has it.
    kind:    letter as in nm.
    address: virtual, at run time.
    size:    bytes to the next symbol; an upper bound.
    """

    name: str
    kind: str
    address: int
    size: int


class Kallsyms:
    """The symbols of a kernel. Made by `find_kallsyms`.

    count:  of symbols.
    damage: what was found wrong with the tables that make a look-up short, in words; symbols were looked for without
            them. Empty: nothing.
    """

    def __init__(self, space: AddressSpace, places: _Places, tokens: list[bytes]) -> None:
        self._space, self._places, self._tokens = space, places, tokens
        self._sizes = [*map(len, tokens)]
        self.count, self.damage = places.count, ""
        self._address: Callable[[int], int] = self._form()
        self._markers = self._find_markers()
        self._by_name = self._find_order() if self._markers is not None else None

    # -- addresses ----------------------------------------------------------------------------------------

    def _form(self) -> Callable[[int], int]:
        """How addresses are written: that which gives VMCOREINFO's own address of a symbol."""
        places, space = self._places, self._space
        if places.addresses is not None:
            start = places.addresses
            return lambda index: space.number(start + 8 * index, 8)
        offsets = places.offsets
        if places.relative_base is None:  # 7.0 and later: from the offset's own place

            def near(index: int) -> int:
                return (offsets + 4 * index + _signed(space.number(offsets + 4 * index, 4))) & _WORD

            return near
        base = space.number(places.relative_base, 8)
        return lambda index: (base + space.number(offsets + 4 * index, 4)) & _WORD

    def _absolute(self) -> Callable[[int], int]:
        """Addresses up to 6.14 on x86-64: of per-CPU variables as they are, all others below the base."""
        space, offsets = self._space, self._places.offsets
        base = space.number(self._places.relative_base or 0, 8)

        def address(index: int) -> int:
            offset = _signed(space.number(offsets + 4 * index, 4))
            return offset if offset >= 0 else (base - 1 - offset) & _WORD

        return address

    def agree(self) -> None:
        """Take the form of addresses that gives VMCOREINFO's own. Raises NoKallsyms if none does."""
        known = {name: address for name in _ANCHORS if (address := hex_number(self._space.info, f"SYMBOL({name})"))}
        found = self._indices([*known])
        if not any(found.values()):
            raise NoKallsyms(f"kallsyms have none of {', '.join(_ANCHORS)}, which VMCOREINFO has")
        forms = [self._address, *([self._absolute()] if self._places.relative_base is not None else [])]
        for form in forms:
            if all(known[name] in map(form, indices) for name, indices in found.items() if indices):
                self._address = form
                return
        name, indices = next(
            (name, indices)
            for name, indices in found.items()
            if indices and known[name] not in map(self._address, indices)
        )
        said = ", ".join(f"{self._address(index):#x}" for index in indices[:4])
        raise NoKallsyms(f"kallsyms are of another kernel: {name} is at {said}, VMCOREINFO has {known[name]:#x}")

    # -- names --------------------------------------------------------------------------------------------

    def _find_markers(self) -> int | None:
        """Address of the table with the place of each 256th name: right before the tokens, with padding or without."""
        count, is_there = -(-self.count // _MARKED), True
        for padding in (0, 4):
            start = self._places.token_table - 4 * count - padding
            try:
                if self._are_markers(start, count):
                    return start
            except (Unmapped, MissingMemory):
                is_there = False
            except NoKallsyms:
                continue
        if is_there:
            self.damage = f"kallsyms: the table with the places of names is not one of {self.count} names"
        return None

    def _are_markers(self, start: int, count: int) -> bool:
        """Whether the first two of some markers are right, and as many names as are left end where markers begin."""
        end, last = start - self._places.names, self._space.number(start + 4 * (count - 1), 4)
        if self._space.number(start, 4) or (count > 1 and self._space.number(start + 4, 4) != self._skip(0, _MARKED)):
            return False
        return 0 <= end - self._skip(last, self.count - _MARKED * (count - 1)) < _ALIGNED

    def _marked(self, index: int) -> int:
        """Offset of the first of the 256 names among which one is. Raises NoKallsyms if it is not among the names."""
        if self._markers is None:
            return 0
        place = self._space.number(self._markers + 4 * (index // _MARKED), 4)
        if place >= self._markers - self._places.names:
            raise NoKallsyms(f"kallsyms: name {index // _MARKED * _MARKED} at {place:#x}, which is after all names")
        return place

    def _find_order(self) -> int | None:
        """Address of the table of symbols by name: 3 bytes each, big-endian, after the offsets."""
        places = self._places
        last = places.relative_base + 8 if places.relative_base is not None else places.offsets + 4 * self.count
        if places.addresses is not None:
            last = places.addresses + 8 * self.count
        for start in dict.fromkeys((last, -(-last // 8) * 8)):
            try:
                if self._is_order(start):
                    return start
            except (Unmapped, MissingMemory, NoKallsyms, IndexError):
                continue
        return None

    def _is_order(self, start: int) -> bool:
        step = max(1, (self.count - 1) // _SAMPLES)
        names = [self._unpack(self._ordered(start, index)) for index in range(0, self.count, step)]
        return names == sorted(names) and (len(set(names)) > len(names) // 2 or len(names) < 4)

    def _ordered(self, start: int, index: int) -> int:
        number = int.from_bytes(self._space.read(start + 3 * index, 3), "big")
        if number >= self.count:
            raise NoKallsyms("the table of kallsyms by name has a number beyond the last")
        return number

    def _skip(self, place: int, count: int) -> int:
        """Offset of the name that is `count` names after the one at an offset."""
        end = self._places.token_table - self._places.names
        read, names = self._space.read, self._places.names
        for _ in range(count):
            head = read(names + place, 2)
            size = head[0] if head[0] < 0x80 else (head[0] & 0x7F) | head[1] << 7
            place += size + (1 if head[0] < 0x80 else 2)
            if not 0 < size <= _LONGEST or place > end:
                raise NoKallsyms(f"kallsyms: a name of {size} bytes")
        return place

    def _at(self, place: int) -> bytes:
        """Kind and name of the symbol whose packed name is at an offset, unpacked."""
        start = self._places.names + place
        head = self._space.read(start, 2)
        size, skip = (head[0], 1) if head[0] < 0x80 else ((head[0] & 0x7F) | head[1] << 7, 2)
        return self._unpacked(self._space.read(start + skip, size))

    def _size(self, packed: bytes) -> int:
        """Bytes of a kind and name that are packed. Raises NoKallsyms for none, and for too many."""
        size = sum(map(self._sizes.__getitem__, packed)) if len(packed) <= _LONGEST else len(packed)
        if not 0 < size <= _LONGEST:
            raise NoKallsyms(f"kallsyms: a name of {size} bytes")
        return size

    def _unpacked(self, packed: bytes) -> bytes:
        """Kind and name of a symbol out of its tokens."""
        self._size(packed)
        return b"".join([self._tokens[byte] for byte in packed])

    def _unpack(self, index: int) -> bytes:
        """Name of a symbol, without its kind."""
        return self._text(index)[1:]

    def _in_order(self, index: int) -> int:
        """Address of a symbol. Raises NoKallsyms if it is not between those before and after it."""
        address = self._address(index)
        before = self._address(index - 1) if index else 0
        after = self._address(index + 1) if index + 1 < self.count else _WORD
        if not before <= address <= after:
            place = f"symbol {index} of {self.count} is at {address:#x}, between {before:#x} and {after:#x}"
            raise NoKallsyms(f"kallsyms: the table of addresses is damaged: {place}")
        return address

    def _entry(self, index: int, text: bytes) -> KernelSymbol:
        address = self._in_order(index)
        end = next(
            (
                other
                for step in range(index + 1, min(index + 64, self.count))
                if (other := self._address(step)) > address
            ),
            address,
        )
        name = text[1:].decode("utf-8", "surrogateescape")
        return KernelSymbol(name, chr(text[0]) if text else "?", address, end - address)

    # -- look-up ------------------------------------------------------------------------------------------

    def get(self, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
        """The symbols of some names; several if a name is that of more than one. Names that are not there are left out.

        Raises NoKallsyms if the tables are damaged, MissingMemory or Unmapped if they are not in the source.
        """
        found = self._indices(names)
        return {name: [self._entry(index, self._text(index)) for index in found[name]] for name in found if found[name]}

    def _text(self, index: int) -> bytes:
        return self._at(self._skip(self._marked(index), index % _MARKED if self._markers is not None else index))

    def _indices(self, names: Iterable[str]) -> dict[str, list[int]]:
        wanted = [*names]
        if self._by_name is not None:
            try:
                return {name: sorted(self._search(_raw(name), self._by_name)) for name in wanted}
            except NoKallsyms as error:  # not the table of names in order after all
                self._by_name, self.damage = None, str(error)
        return self._listed(wanted)

    def _listed(self, names: Iterable[str]) -> dict[str, list[int]]:
        """Numbers of the symbols of some names, by a look at all. Only names of their sizes are unpacked."""
        found: dict[str, list[int]] = {name: [] for name in names}
        wanted = {_raw(name): name for name in found}
        sizes = {1 + len(raw) for raw in wanted}
        near, flipped = {text: name for raw, name in wanted.items() for text in _one_bit_off(raw)}, dict[str, bytes]()
        for index, packed in enumerate(self._packed()):
            if self._size(packed) not in sizes:
                continue
            text = self._unpacked(packed)[1:]
            if (name := wanted.get(text)) is not None:
                found[name].append(index)
            elif text in near:
                flipped[near[text]] = text
        for name, text in flipped.items():
            if not found[name]:
                raise _misspelt(name, text)
        return found

    def _search(self, name: bytes, order: int) -> list[int]:
        low, high, seen = 0, self.count, dict[int, bytes]()
        while low < high:
            middle = (low + high) // 2
            seen[middle] = self._unpack(self._ordered(order, middle))
            if seen[middle] < name:
                low = middle + 1
            else:
                high = middle
        found = list[int]()
        while low < self.count and len(found) < _MARKED and self._unpack(index := self._ordered(order, low)) == name:
            found.append(index)
            low += 1
        if not found:
            self._need_order(name, order, low, seen)
        return found

    def _need_order(self, name: bytes, order: int, place: int, seen: dict[int, bytes]) -> None:
        """Raise NoKallsyms if damage may be why a name was not found.

        place: where it would be in the table by name.
        seen:  names by which the search got there, by their place.

        A damaged entry leads a search astray only if it is out of order there, or is the name's own. Entries of a page
        that was overwritten with one value are the same symbol. A flipped bit in a token need not put a name out of
        order: it is still where it was.
        """
        near = range(max(place - 2, 0), min(place + 2, self.count))
        numbers = [self._ordered(order, index) for index in near]
        seen = seen | dict(zip(near, map(self._unpack, numbers), strict=True))
        names = [seen[index] for index in sorted(seen)]
        if names != sorted(names) or len({*numbers}) < len(near):
            raise NoKallsyms(f"kallsyms: names are not in order where {safe_text(name)} would be")
        for text in _one_bit_off(name).intersection(names):
            raise _misspelt(name, text)

    def _packed(self) -> Iterator[bytes]:
        """Kind and name of all symbols by address, as they are packed."""
        places = self._places
        data, place = self._space.read(places.names, places.token_table - places.names), 0
        is_astray = False
        for index in range(self.count):
            if index % _MARKED == 0 and self._markers is not None:
                is_off = place != self._space.number(self._markers + 4 * (index // _MARKED), 4)
                if is_off and is_astray:  # once: the marker; after that, names were skipped or made up
                    raise NoKallsyms(f"kallsyms: the names before symbol {index} of {self.count} are damaged")
                is_astray = is_off
            if place + 2 > len(data):
                raise NoKallsyms("kallsyms: the names end too early")
            size, place = data[place], place + 1
            if size >= 0x80:
                size, place = (size & 0x7F) | data[place] << 7, place + 1
            yield data[place : place + size]
            place += size

    def _texts(self) -> Iterator[bytes]:
        """Kind and name of all symbols by address."""
        return map(self._unpacked, self._packed())

    def __iter__(self) -> Iterator[KernelSymbol]:
        """All symbols, by address. Raises as `get`."""
        for index, text in enumerate(self._texts()):
            yield self._entry(index, text)


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _one_bit_off(name: bytes) -> set[bytes]:
    """What a name becomes by one flipped bit in a token: wherever it uses the token."""
    found = set[bytes]()
    for byte in {*name}:
        places = [at for at, each in enumerate(name) if each == byte][:_REPEATS]
        for some in chain.from_iterable(combinations(places, count + 1) for count in range(len(places))):
            for bit in range(8):
                text = bytearray(name)
                for at in some:
                    text[at] ^= 1 << bit
                found.add(bytes(text))
    return found


def _misspelt(name: str | bytes, text: bytes) -> NoKallsyms:
    """A name is not there, but one that a flipped bit makes of it is."""
    return NoKallsyms(f"kallsyms: no {safe_text(name)}, but {safe_text(text)}, which is one bit off: they are damaged")


def _signed(number: int) -> int:
    return number - (1 << 32) if number & 1 << 31 else number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Virtual addresses of the tables. addresses: only without CONFIG_KALLSYMS_BASE_RELATIVE."""

    count: int
    names: int
    token_table: int
    token_index: int
    offsets: int
    relative_base: int | None
    addresses: int | None


def find_kallsyms(space: AddressSpace, *, alone: bool = False) -> Kallsyms:
    """The symbols of the kernel whose memory this is, by the tables that its VMCOREINFO names.

    space: with VMCOREINFO.
    alone: nothing else of VMCOREINFO is known, by which the symbols could be tested.

    Raises NoKallsyms if there are none, with the reason in words: VMCOREINFO without them, not in the source, damaged,
    of another kernel.
    """
    try:
        places = _places(space)
        found = Kallsyms(space, places, _tokens(space, places))
        if not alone:
            found.agree()
    except (Unmapped, MissingMemory) as error:
        state, tables = getattr(error, "state", None), (hex_number(space.info, key) for key in _TABLES)
        is_absent = state in (None, PageState.ABSENT) and not any(place and space.holds(place, 4) for place in tables)
        raise NoKallsyms(f"kallsyms: {error}", is_absent=is_absent, is_excluded=state is PageState.EXCLUDED) from None
    return found


def _places(space: AddressSpace) -> _Places:
    def place(name: str) -> int | None:
        return hex_number(space.info, f"SYMBOL(kallsyms_{name})")

    names, number, tokens, index = map(place, ("names", "num_syms", "token_table", "token_index"))
    offsets, addresses = place("offsets"), place("addresses")
    if names is None or number is None or tokens is None or index is None or (offsets or addresses) is None:
        is_absent = sum(one is not None for one in (names, number, tokens, index, offsets or addresses)) < 2
        raise NoKallsyms("VMCOREINFO does not say where kallsyms are", is_absent=is_absent)
    said = (names, number, tokens, index, offsets or addresses or 0)
    if max(said) - min(said) > _APART:
        raise NoKallsyms(f"kallsyms: tables from {min(said):#x} to {max(said):#x}: VMCOREINFO is damaged")
    count = space.number(number, 4)
    if not names < tokens < index or not 0 < count <= min(LIMITS.kallsyms, tokens - names):
        text = f"kallsyms: {count} symbols between {names:#x} and {tokens:#x}"
        raise NoKallsyms(f"{text}; {how_to_raise('kallsyms')}" if count > LIMITS.kallsyms else text)
    if tokens - names > LIMITS.kallsyms * 32:
        raise NoKallsyms(f"kallsyms: names from {names:#x} to {tokens:#x}; {how_to_raise('kallsyms')}")
    return _Places(
        count=count,
        names=names,
        token_table=tokens,
        token_index=index,
        offsets=offsets or 0,
        relative_base=place("relative_base"),
        addresses=addresses if offsets is None else None,
    )


def _tokens(space: AddressSpace, places: _Places) -> list[bytes]:
    starts = struct.unpack(f"<{_TOKENS}H", space.read(places.token_index, 2 * _TOKENS))
    size = places.token_index - places.token_table
    data = space.read(places.token_table, size) if size <= 1 << 16 else b""
    tokens = data.split(b"\0")[:_TOKENS]
    ends = [*accumulate(len(token) + 1 for token in tokens)]
    # A byte that is in a name is its own token; all others are longer.
    is_odd = any(len(token) == 1 and token[0] != number for number, token in enumerate(tokens))
    if [*starts] != [0, *ends[:-1]] or ends[-1] > size or not all(tokens) or is_odd:
        raise NoKallsyms("kallsyms: the table of tokens is damaged")
    return tokens
