# SPDX-License-Identifier: MIT
"""Damage to bytes, as a list of steps that is short, is stored as JSON, and gives the same bytes again.

A step is a list: its name, then numbers, then bytes in hex.

    ["put", PLACE, HEX]            bytes at an address, or offset
    ["copy", FROM, TO]             a page over another one
    ["swap", PAGE, PAGE]           two pages
    ["fill", PAGE, BYTE]           a page with one byte
    ["noise", PAGE, SEED]          a page with random bytes
    ["drop", PAGE]                 a page that is not in the dump
    ["splice", OFFSET, SIZE, HEX]  other bytes in place of SIZE bytes of a file
    ["repeat", OFFSET, SIZE, N]    N times the same bytes in place of them
    ["cut", OFFSET]                the end of a file, at OFFSET
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.fuzz.bases import PAGE, Base, Member

__all__ = ["Step", "Steps", "damage", "damaged_file", "damaged_runs", "file_damage"]

Step = list[Any]
Steps = list[Step]
Runs = Sequence[tuple[int, bytes]]

NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 511, 512, 4095, 4096, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
WIDE = [1 << 32, 1 << 40, (1 << 52) - 4096, 1 << 52, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1]
TEXTS = [
    *(b"", b"\x1b[31mred", b"a\nb", b"a\r\nb", b"\x9b31m", b"\xc2\x9b31m", "\u202egnp".encode(), "\u2028".encode()),
    *(b"\xff\xfe", b"\xed\xa0\x80", b"*/ x", b"</script><script>", b"=1+1", b"../../etc/passwd", b"a/b", b"%s%n", b'"'),
    *(b"'; $(id) `id`", b"\\", b"|", b"[x](y)", b"\t", b"\x7f", b"a" * 300, "\u00e9\u4e2d".encode(), b"{{7*7}}"),
]
"""Names that a terminal, a shell, C, HTML, Markdown, dot or a spreadsheet reads as something else."""
DIGITS = ["0", "-1", "1", "255", "256", "4294967296", "18446744073709551616", "9" * 30, "9" * 5000, "0x", "1e9", "1.5"]
WORDS = [
    *("null", "true", "[]", "{}", '""', "[[[[[[[[[[1]]]]]]]]]]", '"\\u0000"', '"\\ud800"', '"\\u001b[31m"', "NaN"),
    *('"0x10000000000000000"', '"0x-1"', '"0000:00:00.0"', '"*/"', '"../../x"', "Infinity", "1979-05-27T07:32:00Z"),
]


# -- what is done -----------------------------------------------------------------------------------------


class _Memory:
    """Runs of bytes to change."""

    def __init__(self, runs: Runs) -> None:
        self.runs = [(start, bytearray(data)) for start, data in runs]

    def read(self, place: int, size: int) -> bytes:
        """Fewer bytes at the end of a run, none where nothing is."""
        for start, data in self.runs:
            if start <= place < start + len(data):
                return bytes(data[place - start : place - start + size])
        return b""

    def put(self, place: int, new: bytes) -> None:
        """What is beyond the end of a run is lost."""
        for start, data in self.runs:
            if start <= place < start + len(data):
                at = place - start
                data[at : at + len(new)] = new[: len(data) - at]

    def swap(self, one: int, other: int) -> None:
        """Two pages."""
        first, second = self.read(one, PAGE), self.read(other, PAGE)
        self.put(one, second)
        self.put(other, first)


def damaged_runs(base: Base, steps: Iterable[Step]) -> tuple[list[tuple[int, bytes]], set[int]]:
    """(the runs of a base after some steps, the pages that were dropped)."""
    memory, gone = _Memory(base.runs), set[int]()
    ways: dict[str, Callable[..., object]] = {
        "put": lambda place, data: memory.put(place, bytes.fromhex(data)),
        "copy": lambda one, other: memory.put(other, memory.read(one, PAGE)),
        "swap": memory.swap,
        "fill": lambda page, byte: memory.put(page, bytes([byte]) * PAGE),
        "noise": lambda page, seed: memory.put(page, random.Random(seed).randbytes(PAGE)),
        "drop": gone.add,
    }
    for name, *values in steps:
        ways[name](*values)
    return [(start, bytes(data)) for start, data in memory.runs], gone


def damaged_file(data: bytes, steps: Iterable[Step]) -> bytes:
    """The bytes of a file after the steps that are about files."""
    made = bytearray(data)
    for name, *values in steps:
        if name == "splice":
            made[values[0] : values[0] + values[1]] = bytes.fromhex(values[2])
        elif name == "repeat":
            made[values[0] : values[0] + values[1]] = made[values[0] : values[0] + values[1]] * values[2]
        elif name == "cut":
            del made[values[0] :]
    return bytes(made)


# -- what is chosen ---------------------------------------------------------------------------------------


def damage(rng: random.Random, base: Base) -> Steps:
    """Some steps for memory or a blob: by member, by page and by structure."""
    ways: list[Callable[[random.Random, Base], Steps]] = [_plain]
    if base.members:
        ways += [_member] * 8
    if any(one.kind == "address" and one.size == 8 for one in base.members):
        ways += [_pointer] * 3 + [_shared]
    if base.pages:
        ways += [_page] * 2 + [_chain]
    count = rng.choice([1, 1, 1, 2, 2, 3, 5, 8, 32])
    return [step for _ in range(count) for step in rng.choice(ways)(rng, base)]


def _put(place: int, data: bytes) -> Step:
    return ["put", place, data.hex()]


def _plain(rng: random.Random, base: Base) -> Steps:
    """Any byte, whatever it is."""
    start, data = rng.choice([*base.runs])
    if base.pages:
        start, data = rng.choice(base.pages), bytes(PAGE)
    place = start + rng.randrange(min(len(data), rng.choice([16, 64, 512, PAGE])) or 1)
    return [_put(place, rng.randbytes(rng.choice([1, 1, 2, 4, 8])))]


def _member(rng: random.Random, base: Base) -> Steps:
    """A member gets a value that its kind makes interesting."""
    one = rng.choice(base.members)
    return [_put(one.place, _value(rng, base, one))]


def _value(rng: random.Random, base: Base, one: Member) -> bytes:
    if one.kind == "text":
        made = rng.choice(TEXTS)
        return rng.choice([made[: one.size], made[: one.size - 1].ljust(one.size, b"\0"), b"\xff" * one.size])
    if one.size not in (1, 2, 4, 8) or (one.kind == "bytes" and rng.random() < 0.5):
        return rng.choice([bytes(one.size), b"\xff" * one.size, rng.randbytes(one.size)])
    old = int.from_bytes(_read(base, one.place, one.size), "little")
    if one.kind == "flags":
        value = old ^ 1 << rng.randrange(8 * one.size)
    elif one.kind == "address":
        value = rng.choice([*WIDE, 0, old + 1, old + 8, old - PAGE, old + PAGE, old << 12, old >> 12])
    else:
        value = rng.choice([*NUMBERS, *WIDE, old + 1, old - 1, old * 2, old << 8, -old])
    order: Any = rng.choice(["little", "little", "little", "big"])
    return (value % (1 << 8 * one.size)).to_bytes(one.size, order)


def _read(base: Base, place: int, size: int) -> bytes:
    for start, data in base.runs:
        if start <= place < start + len(data):
            return data[place - start : place - start + size]
    return bytes(size)


def _pointers(base: Base) -> list[Member]:
    return [one for one in base.members if one.kind == "address" and one.size == 8]


def _pointer(rng: random.Random, base: Base) -> Steps:
    """A pointer to itself, or to a page of another kind."""
    one = rng.choice(_pointers(base))
    target = rng.choice([one.place & -PAGE, one.place, *rng.choices(base.pages or [0], k=3)])
    return [_put(one.place, target.to_bytes(8, "little"))]


def _shared(rng: random.Random, base: Base) -> Steps:
    """One child many times: the words after a pointer are the same pointer."""
    one = rng.choice(_pointers(base))
    room = (PAGE - one.place % PAGE) // 8
    count = min(room, rng.choice([2, 8, 64, 512]))
    return [_put(one.place, _read(base, one.place, 8) * count)]


def _page(rng: random.Random, base: Base) -> Steps:
    one, other = rng.choice(base.pages), rng.choice(base.pages)
    return [
        rng.choice(
            [
                ["swap", one, other],
                ["copy", one, other],
                ["drop", one],
                ["drop", one],
                ["fill", one, rng.choice([0, 0xFF, rng.randrange(256)])],
                ["noise", one, rng.randrange(1 << 32)],
            ]
        )
    ]


def _chain(rng: random.Random, base: Base) -> Steps:
    """Pages that each point to the next one, the last to the first."""
    pages = rng.choices(base.pages, k=rng.choice([1, 2, 3, 8, 32]))
    at = rng.choice([0, 0, 8, 16])
    return [
        _put(page + at, after.to_bytes(8, "little")) for page, after in zip(pages, [*pages[1:], pages[0]], strict=True)
    ]


def file_damage(rng: random.Random, data: bytes, places: Sequence[range] = (), *, is_text: bool = False) -> Steps:
    """Some steps for a file. places: of its numbers. Empty: anywhere. is_text: whether people write it."""
    count = rng.choice([1, 1, 2, 3, 5, 8])
    return [_text_step(rng, data) if is_text else _file_step(rng, data, places) for _ in range(count)]


def _file_step(rng: random.Random, data: bytes, places: Sequence[range]) -> Step:
    spans = [span for span in places if len(span)] or [range(len(data) or 1)]
    place = rng.choice(rng.choice(spans))
    size = rng.choice([1, 2, 4, 8])
    how = rng.randrange(10)
    if how < 5:
        number = rng.choice([*NUMBERS, *WIDE]) % (1 << 8 * size)
        order: Any = rng.choice(["little", "little", "big"])
        return ["splice", place, size, number.to_bytes(size, order).hex()]
    if how < 7:
        old = data[place] if place < len(data) else 0
        return ["splice", place, 1, f"{old ^ 1 << rng.randrange(8):02x}"]
    if how == 7:
        return ["cut", rng.choice([place, rng.randrange(len(data) + 1)])]
    if how == 8:
        return ["splice", place, rng.choice([0, size]), rng.randbytes(rng.choice([0, size])).hex()]
    other = rng.choice(rng.choice(spans))
    return ["splice", place, 8 * size, data[other : other + 8 * size].hex()]


_TOKEN = re.compile(rb'"[^"\n]*"|0x[0-9a-fA-F]+|\b\d+\b|[\w.:-]+')


def _text_step(rng: random.Random, data: bytes) -> Step:
    """A token, a line or a bracket of a text becomes something else."""
    tokens = list(_TOKEN.finditer(data)) or list(re.finditer(rb"\A", data))
    one = rng.choice(tokens)
    how = rng.randrange(8)
    if how < 3:
        new = rng.choice([*DIGITS, *WORDS, *DIGITS]).encode()
        return ["splice", one.start(), len(one[0]), new.hex()]
    if how == 3:
        text = rng.choice(TEXTS)
        return ["splice", one.start() + 1, max(0, len(one[0]) - 2), text.hex()]
    if how == 4:
        return ["splice", one.start(), len(one[0]), rng.choice(tokens)[0].hex()]
    start = data.rfind(b"\n", 0, one.start()) + 1
    end = data.find(b"\n", start) + 1 or len(data)
    if how == 5:
        return ["repeat", start, end - start, rng.choice([0, 2, 2, 3, 100, 5000])]
    if how == 6:
        return ["cut", one.start()]
    bracket = rng.choice([b"[", b"]", b"{", b"}", b"=", b",", b"\n", b"[" * 200, b"a." * 200, b"\0", b"#", b'"'])
    return ["splice", one.end(), 0, bracket.hex()]
