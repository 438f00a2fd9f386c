# SPDX-License-Identifier: MIT
"""What salvage brings back of real dumps, against the truth: the tables of docs/howto/salvage.md.

    python -m tests.salvage
    python -m tests.salvage --cut DUMP TARGET

The truth of a case is what pointers prove in any of its dumps: each moment has the same things at the same addresses,
as long as nobody reused their pages. `--cut` makes a dump of fixtures/salvage: the pages of the handovers, those that
salvage found, and those that it judged, except as device lists; and the folios of files up to 64 KiB.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import luoser
from luoser.errors import MissingMemory, PageState
from luoser.extracts.core import write_core
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.output import packed_file
from luoser.reader.salvage import memfd_at, salvage
from luoser.reader.salvage.blocks import blocks
from luoser.reader.salvage.found import Found
from luoser.reader.salvage.judge import Judge
from luoser.state import Confidence, Handover, Salvaged, State
from tests.real import REAL, ROOT

__all__ = [
    "CASES",
    "DAMAGES",
    "KINDS",
    "PAGE",
    "SALVAGED",
    "Score",
    "Thing",
    "damaged",
    "dump",
    "moments",
    "page",
    "score",
    "truth",
]

PAGE = ROOT / "docs" / "howto" / "salvage.md"
SALVAGED = ROOT / "fixtures" / "salvage"
KINDS = ("sessions", "files", "memfd", "flbs", "devices", "luo", "devicetree")
DAMAGES = ("zeros", "random bytes", "another page", "excluded")
"""What roots are overwritten with."""
Thing = tuple[str, int]
"""(kind, address)."""


def _folders() -> list[Path]:
    more = Path(os.environ.get("LUOSER_REAL", "/nonexistent"))
    roots = (more, REAL, ROOT / "fixtures" / "guests", SALVAGED)
    found = {folder.name: folder for root in roots for folder in root.glob("*") if folder.is_dir()}
    return [found[name] for name in sorted(found) if any(found[name].glob("*.elf*"))]


CASES = {folder.name: folder for folder in _folders()}
"""Folders of dumps by name: those of the tree, and those in the folder that LUOSER_REAL names."""


def moments(case: str) -> list[str]:
    """The moments of a case of which there are dumps."""
    return sorted(file.name.partition(".elf")[0] for file in CASES[case].glob("*.elf*"))


@cache
def dump(case: str, moment: str) -> Memory:
    """The memory of a dump."""
    return luoser.open(next(CASES[case].glob(f"{moment}.elf*")))


@cache
def _state(case: str, moment: str) -> State:
    return luoser.read(dump(case, moment))


@cache
def truth(case: str) -> dict[Thing, frozenset[bytes]]:
    """What pointers prove in any dump of a case, with the first bytes that it had in each."""
    found: dict[Thing, set[bytes]] = {}
    for moment in moments(case):
        memory = dump(case, moment)
        for handover in _state(case, moment).handovers:
            for thing in _things(handover):
                found.setdefault(thing, set()).add(_bytes(memory, thing[1]))
    return {thing: frozenset(data - {b""}) for thing, data in found.items() if any(map(any, data))}


def _bytes(memory: Memory, address: int) -> bytes:
    """The first bytes of a thing. Empty: not in the source."""
    try:
        return memory.read(address, 128)
    except MissingMemory:
        return b""


def _things(handover: Handover) -> Iterator[Thing]:
    """What is proven below a root, as salvage names it. An empty file has no descriptor that says anything."""
    trees = {one.address for one in handover.subtrees if one.fdt is not None and one.name in ("memblock", "kho_test")}
    yield from (("devicetree", address) for address in (handover.address, *trees) if address)
    yield from (("devices", one.address) for one in handover.pci if len(one.devices) > 1)
    luo = handover.luo
    if luo is None:
        return
    yield "devicetree" if luo.fdt is not None else "luo", luo.address
    yield from (("sessions", address) for address in luo.session_blocks if luo.sessions)
    if luo.flbs and luo.flb_area:
        yield "flbs", luo.flb_area
    for session in luo.sessions:
        yield from (("files", address) for address in session.blocks if session.files)
        for file in session.files:
            if file.memfd is not None and file.memfd.folios.count:
                yield "memfd", file.memfd.address


@dataclass(slots=True)
class Score:
    """What became of the things of a case in one dump.

    proven: pointers lead to it. high, lower: salvage found it. missed: its page is whole, and it was not found.
    gone:   its page was reused, or is not in the dump.
    wrong:  what salvage found at high, and lower, confidence that is none of them.
    """

    proven: int = 0
    high: int = 0
    lower: int = 0
    missed: int = 0
    gone: int = 0
    wrong: tuple[int, int] = (0, 0)


def score(case: str, memory: Memory, *, kallsyms: bool = True) -> tuple[dict[str, Score], list[Salvaged]]:
    """(by kind what became of the things of a case, what was found and is none of them)."""
    state = luoser.read(memory, salvage=True, kallsyms=kallsyms)
    known = truth(case)
    proven = {thing for handover in state.handovers for thing in _things(handover)}
    found = {(one.kind, one.address): one for one in state.salvaged or ()}
    scores = {kind: Score() for kind in KINDS}
    for thing, data in known.items():
        one, own = found.get(thing), scores[thing[0]]
        if one is not None:
            own.high += one.confidence is Confidence.HIGH
            own.lower += one.confidence is not Confidence.HIGH
        elif thing in proven:
            own.proven += 1
        elif _bytes(memory, thing[1]) in data:
            own.missed += 1
        else:
            own.gone += 1
    wrong = [one for thing, one in found.items() if thing not in known]
    for one in wrong:
        high, lower = scores[one.kind].wrong
        is_high = one.confidence is Confidence.HIGH
        scores[one.kind].wrong = high + is_high, lower + (not is_high)
    return scores, wrong


def damaged(case: str, moment: str, how: str) -> Overlay:
    """A dump whose KHO roots and LUO roots are overwritten. how: one of `DAMAGES`."""
    memory = Overlay(dump(case, moment))
    other = random.Random(case).randbytes(4096)
    for handover in _state(case, moment).handovers:
        luo = handover.luo
        for address in (handover.address, luo.address if luo is not None else None):
            if address is None:
                continue
            if how == "excluded":
                memory.remove(address, state=PageState.EXCLUDED)
            elif how == "another page" and luo is not None and luo.sessions and luo.sessions[0].files:
                memfd = luo.sessions[0].files[0].memfd
                assert memfd is not None
                memory.write(address, dump(case, moment).read(memfd.folios.pages[0], 4096))
            else:
                memory.write(address, other if how == "random bytes" else bytes(4096))
    return memory


_HEAD = (
    "| dump | proven by pointers | salvaged, high | salvaged, lower | missed | gone | wrong, high | wrong, lower |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
_AFTER = ("post", "finished", "frozen2")


def _row(name: str, scores: dict[str, Score]) -> str:
    numbers = {
        kind: (one.proven, one.high, one.lower, one.missed, one.gone, *one.wrong) for kind, one in scores.items()
    }
    cells = [
        ", ".join(f"{counts[column]} {kind}" for kind, counts in numbers.items() if counts[column]) or "-"
        for column in range(7)
    ]
    return f"| {name} | {' | '.join(cells)} |\n"


def after() -> Iterator[str]:
    """The rows of the dumps after a kexec."""
    for case in CASES:
        for moment in moments(case):
            if moment in _AFTER:
                yield _row(f"{case}/{moment}", score(case, dump(case, moment), kallsyms=False)[0])


def overwritten() -> Iterator[str]:
    """The rows of all dumps but those before LUO serialises, with their roots overwritten with zeros."""
    for case in CASES:
        for moment in moments(case):
            if moment != "pre":
                yield _row(f"{case}/{moment}", score(case, damaged(case, moment, "zeros"), kallsyms=False)[0])


_MARKER = re.compile(r"^<!-- salvage: (\w+) -->\n(?:.*\n)*?<!-- end -->$", re.MULTILINE)


def page(text: str) -> str:
    """The page with its tables made anew. text: as it is."""
    made = {"after": after, "overwritten": overwritten}
    return _MARKER.sub(
        lambda match: f"<!-- salvage: {match[1]} -->\n\n{_HEAD}{''.join(made[match[1]]())}\n<!-- end -->", text
    )


def cut(source: Path, target: Path) -> None:
    """Write a core of what salvage of a whole dump finds and judges. source: the dump. target: a new file."""
    memory = luoser.open(source)
    record = Recorder(memory)
    state = luoser.read(record, kallsyms=False)  # else it has the kernel's own symbols and text
    whole, at = blocks(memory, state.source.page_size), Judge.at

    def judged(self: Judge, kind: str, address: int, hint: str = "") -> Found | None:
        return None if kind == "devices" and not hint else at(self, kind, address, hint)

    with patch.object(Judge, "at", judged), patch("luoser.reader.salvage.search.blocks", lambda *_: whole):
        found, _ = salvage(record, state)
        files = [memfd_at(memory, one.address, state.source.page_size)[0] for one in found if _is_small(one)]
    folios = {folio.address for file in files for folio in file.folios.list}
    with packed_file(str(target), force=True) as file:
        write_core(file, memory, record.pages | folios)


def _is_small(one: Salvaged) -> bool:
    return one.kind == "memfd" and one.confidence is Confidence.HIGH and one.fields["size"] <= 64 << 10


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cut"]:
        cut(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        PAGE.write_text(page(PAGE.read_text()))
