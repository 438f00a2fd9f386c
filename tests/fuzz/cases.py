# SPDX-License-Identifier: MIT
"""One case: a base, its damage, and the commands that read it. A case is a small JSON document."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from tests.fuzz.bases import BASES, Base, base
from tests.fuzz.containers import CONTAINERS, places_of
from tests.fuzz.damage import Steps, damage, damaged_file, damaged_runs, file_damage

__all__ = ["RUNS", "Case", "case_of", "files_of", "from_text", "load", "sound_file", "to_text"]

RUNS = 5
"""Commands of one case."""
_OFTEN_RUN = {"report": 0.2, "build": 0.5, "diff": 0.6}
"""How often a command is chosen that takes longer than others."""
_LARGE = 512 << 10
"""Bytes of memory from which on a dump is put only into containers that are written fast."""
_FAST = ("elf", "kdump-plain", "lime")

_DUMP = """
inspect @in
inspect @in --format json
inspect @in --full --contents --format json
inspect @in --format dot
inspect @in --format mermaid --all
inspect @in --format markdown
inspect @in --all --full --contents --pending
inspect @in --summary
pci @in
pci @in --format json
map @in
map @in --format json
check @in
check @in --verbose --severity info
check @in --format json
check @in --format ktap --pending
check @in --format sarif
check @in --format junit
check @in --format github
check @sound @in --format ktap
check @in --topology @topology --next 7.3.4 --format json
diff @sound @in
diff @in @sound --format json --all --contents
diff @sound @in --stat --all
report @in -o @out
report @sound @in -o @out --topology @topology
extract @in -o @out
extract @in -o @out --blob root
extract @in -o @out --blob pci[0]
extract @in -o @out --memfd vm-1/0x1
hexdump @in root
hexdump @in luo
hexdump @in pci[0]
hexdump @in preserved.nodes[0]
hexdump @in luo.sessions[0].files[0].memfd --plain
hexdump @in @page
compat @in 7.3 --format json
compat 7.2 @in
abi verify @in --format json
build @in.json -o @out
build @in.json -o @out --format c --blob pci[0]
"""
_BLOB = """
decode @in
decode @in --format json
decode @in --as @layout
decode @in --as @layout --format json
decode @in --offset 8
abi detect @in
abi detect @in --format json
build @in.json -o @out --format bin
build @in.json -o @out --format kunit
build @in.json -o @out --format kselftest
"""
_LIST = """
check @in --as @layout
check @in --as auto --format json
check @in --as @layout --topology @topology --format sarif
diff @sound @in --layout @layout
diff @in @sound --format json
"""
_FILES = {
    "topology": "topology @in\ntopology @in --format json\ntopology @in -o @out\ncheck @dump --topology @in --verbose\n"
    "check @dump --topology @in --format json\nsimulate @scenario --topology @in",
    "scenarios": "simulate @in\nsimulate @in --log\nsimulate @in -o @out\nsimulate @in --until freeze -o @out\n"
    "simulate @in --until cancel --fixed",
    "specs": "build @in -o @out\nbuild @in -o @out --format elf\nbuild @in -o @out --format kunit\n"
    "build @in -o @out --format kselftest\nbuild @in -o @out --format c --blob pci[0]\n"
    "build @in -o @out --format raw --kernel 7.1\nbuild @in -o @out --mutate PCI004",
    "state": "inspect @in\ninspect @in --format json --full\npci @in\nmap @in\ncheck @in --format json\ncheck @in\n"
    "diff @sound @in --all\ndiff @in @sound --format json\nbuild @in -o @out\nreport @in -o @out",
    "hex": "decode --hex @in\ndecode --hex @in --word 4 --format json\ncheck @in --as auto\nabi detect @in --hex",
}
_FILES["real"] = _FILES["topology"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is read, and by which commands.

    base:      name of it.
    container: of a dump. Empty: none.
    steps:     damage to memory.
    outer:     damage to the file.
    runs:      words of each command. @in is the damaged file, @sound the whole one, @out a new file.
    """

    base: str
    container: str
    steps: Steps
    outer: Steps
    runs: tuple[tuple[str, ...], ...]

    def without(self, **changes: Any) -> Case:
        """The case with other parts."""
        return replace(self, **changes)


_LABELS = list(BASES)
_OFTEN = list(accumulate(BASES.values()))


def case_of(seed: int, number: int, only: Sequence[str] = ()) -> Case:
    """The case of a seed and a number, always the same one. only: names of bases to choose from. Empty: all."""
    rng = random.Random(f"{seed} {number}")
    label = rng.choice(only) if only else rng.choices(_LABELS, cum_weights=_OFTEN)[0]
    found = base(label)
    container, steps, outer = "", Steps(), Steps()
    if found.kind == "dump":
        size = sum(len(data) for _, data in found.runs)
        container = rng.choice(_FAST if size > _LARGE else ("elf", "elf", *CONTAINERS))
    if found.kind != "file" and (found.kind == "blob" or rng.random() < 0.8):
        steps = damage(rng, found)
    if found.kind == "file" or not steps or rng.random() < 0.15:
        data = _contained(found, container, steps)
        outer = file_damage(rng, data, places_of(container, data), is_text=found.kind == "file")
    return Case(label, container, steps, outer, tuple(_commands(rng, found)))


def _commands(rng: random.Random, found: Base) -> Iterator[tuple[str, ...]]:
    if found.kind == "file":
        known = _FILES[found.name.split("/")[0]]
    else:
        known = _DUMP if found.kind == "dump" else _BLOB + (_LIST if found.layout.startswith("pci-") else "")
    rows = [row.split() for row in known.splitlines() if row]
    for words in rng.choices(rows, [_OFTEN_RUN.get(row[0], 1) for row in rows], k=RUNS):
        page = hex(rng.choice(found.pages)) if found.pages else "0"
        filled = {"@page": page, "@layout": found.layout or "auto"}
        yield tuple(filled.get(word, word) for word in words)


def _contained(found: Base, container: str, steps: Steps) -> bytes:
    runs, gone = damaged_runs(found, steps)
    return CONTAINERS[container](runs, gone) if container else runs[0][1]


def files_of(case: Case) -> tuple[bytes, bytes]:
    """(bytes of the damaged file, of the file that goes with it; empty: none)."""
    found = base(case.base)
    data = damaged_file(_contained(found, case.container, case.steps), case.outer)
    more = b"".join(part for _, part in damaged_runs(found, case.steps)[0]) if case.container == "vmware" else b""
    return data, more


@lru_cache(maxsize=64)
def sound_file(label: str) -> bytes:
    """The bytes of a base without damage, a dump as an ELF core."""
    found = base(label)
    return _contained(found, "elf" if found.kind == "dump" else "", [])


def to_text(case: Case, **more: Any) -> str:
    """The case as JSON, a step a line. more: what is to be said of it."""
    document = {**asdict(case), **more}
    parts = []
    for name, value in document.items():
        rows = ",\n  ".join(json.dumps(row) for row in value) if isinstance(value, list | tuple) else ""
        parts.append(f"{json.dumps(name)}: " + (f"[\n  {rows}\n ]" if rows else json.dumps(value)))
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def from_text(text: str) -> Case:
    """The case that `to_text` wrote."""
    document = json.loads(text)
    runs = tuple(tuple(words) for words in document["runs"])
    return Case(document["base"], document["container"], document["steps"], document["outer"], runs)


def load(path: Path) -> Case:
    """The case in a file."""
    return from_text(path.read_text())
