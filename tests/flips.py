# SPDX-License-Identifier: MIT
"""Single flipped bits in real dumps, and what `check` says: the rows of docs/flips.md, `make flips`.

    python -m tests.flips [BITS]

BITS of each member of each dump are flipped, one at a time (default 8), at places that a fixed seed chooses.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import luoser
from luoser.checks import Finding, check
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import Handover, MapStatus, State
from tests import real
from tests.places import PLAIN, map_pages, places

__all__ = ["DUMPS", "Bit", "Flip", "bits_of", "flipped", "flips", "is_plain", "sampled"]

Bit = tuple[int, int]
"""(physical address of the byte, number of the bit)."""


def _is_judged(one: Handover) -> bool:
    """Whether a handover has an intact map, or was taken over: then what no kernel frees is judged."""
    return one.preserved.status is MapStatus.INTACT or one.is_consumed


DUMPS = [name for name in [*real.DUMPS, *real.MORE] if any(_is_judged(one) for one in real.read(name).handovers)]
"""Dumps with a handover of which bits are judged."""
PLAIN_BITS = {
    "map leaf": "the bit of a block that nobody names",
    "map bitmap": "the bit of a block that nobody names",
}
PER_NODE = 64
"""Bits of each page of a map."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One flipped bit. verdict: `sound`, `findings`, `inconclusive`, or `none`: no KHO root is left."""

    name: str
    bit: Bit
    verdict: str
    rules: tuple[str, ...]
    state: State


@dataclass(slots=True)
class _Row:
    verdicts: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)


def is_plain(name: str) -> bool:
    """Whether each value of a member is possible. name: of the member."""
    return name in PLAIN or name in PLAIN_BITS


def bits_of(name: str) -> dict[str, list[Bit]]:
    """The bits of each member of a dump, and some of each page of a map. name: of the dump."""
    memory, state, rng = real.dump(name), luoser.read(real.dump(name), contents=True), random.Random(name)
    found: dict[str, list[Bit]] = defaultdict(list)
    for handover in state.handovers:
        if not _is_judged(handover):
            continue
        for place in places(memory, handover):
            found[place.name] += [(place.address + bit // 8, bit % 8) for bit in range(8 * place.size)]
        for kind, page in map_pages(handover) if not handover.is_consumed else ():
            found[f"map {kind}"] += [(page + rng.randrange(4096), rng.randrange(8)) for _ in range(PER_NODE)]
    return dict(sorted(found.items()))


def flipped(memory: Memory, bit: Bit) -> Overlay:
    """A source with one bit flipped."""
    address, number = bit
    overlay = Overlay(memory)
    overlay.write(address, bytes([memory.read(address, 1)[0] ^ 1 << number]))
    return overlay


def flips(name: str, bits: dict[str, list[Bit]]) -> Iterator[Flip]:
    """What each flipped bit gives. name: of the dump. bits: by member."""
    memory = real.dump(name)
    known = set(_findings(memory)[1])
    for member, places_ in bits.items():
        for address, bit in places_:
            state, findings, verdict = _findings(flipped(memory, (address, bit)))
            rules = tuple(sorted({one.rule for one in findings if one not in known}))
            yield Flip(member, (address, bit), verdict if state.handovers else "none", rules, state)


def _findings(memory: Memory) -> tuple[State, tuple[Finding, ...], str]:
    state = luoser.read(memory, contents=True)
    report = check(state, ram=memory.known_ram)
    return state, report.findings, report.verdict.value


def sampled(bits: dict[str, list[Bit]], count: int, seed: str) -> dict[str, list[Bit]]:
    """So many bits of each member. seed: of the choice."""
    rng = random.Random(seed)
    return {member: rng.sample(found, min(count, len(found))) for member, found in bits.items()}


def page(count: int) -> str:
    """The page docs/flips.md. count: bits of each member of each dump."""
    rows: dict[str, _Row] = defaultdict(_Row)
    for name in DUMPS:
        for flip in flips(name, sampled(bits_of(name), count, name)):
            rows[flip.name].verdicts[flip.verdict] += 1
            rows[flip.name].rules.update(flip.rules)
    head = "| member | flips | findings | inconclusive | no root left | sound | by rules, or why not |\n"
    lines = [head, "|---|---:|---:|---:|---:|---:|---|\n"]
    for member, row in sorted(rows.items(), key=lambda entry: (is_plain(entry[0]), entry[0])):
        numbers = [row.verdicts[verdict] for verdict in ("findings", "inconclusive", "none", "sound")]
        rules = ", ".join(rule for rule, _ in row.rules.most_common(6))
        why = PLAIN.get(member) or PLAIN_BITS.get(member)
        words = "; ".join(word for word in (rules, why) if word)
        lines.append(f"| `{member}` | {sum(numbers)} | {' | '.join(map(str, numbers))} | {words} |\n")
    return _TEXT.format(dumps=len(DUMPS), count=count) + "".join(lines)


_TEXT = """# Flipped bits

What `luoser check` says of a real dump in which one bit was flipped: {dumps} dumps with a map that is intact, up to
{count} bits of each member in each of them, and of each kind of page of the map. `make flips` makes this page.

A flip in a pointer, a count, a version, a string of a version, or in bytes that have to be zero ought never to be
*sound*: it is a finding, or the verdict is inconclusive, or no root is left (exit code 3 or 4). Where the first rows
have another number than 0 under *sound*, a flip is not found yet. The last rows have members of which
each value is possible, with the reason: there a flip is found only if it contradicts something else. Findings of
warning or info do not change the verdict.

"""


if __name__ == "__main__":
    sys.stdout.write(page(int(sys.argv[1]) if len(sys.argv) > 1 else 8))
