# SPDX-License-Identifier: MIT
"""Each kernel hands over to each other one: what the second kernel did, as data of `luoser compat`.

    python -m tests.e2e.pairs [FROM:TO]...

FROM and TO are series such as 7.3, all kernels that are in the cache without them. KTAP comes out: whether the second
kernel did what `luoser compat` says of the two releases.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

from luoser.clashes import compare, of_release
from luoser.clashes.booted import Booted, of_record
from tests.e2e.boot import ABOUT, File, files_of
from tests.e2e.guest import initramfs
from tests.e2e.kernels import SERIES, Kernel, NoKernel, kernel
from tests.e2e.live_update import SHAPES
from tests.e2e.machine import Machine, MachineError

__all__ = ["fault_of", "hand_over", "log_of"]

RESULTS = Path(__file__).parents[2] / "luoser" / "clashes" / "booted.json"
_WORDS = "kho_scratch=32M,64M,16M reserve_mem=1M:4096:labmem sessions=4 files=8"
_LINES = 12
"""Most lines of a log that are kept."""
Json = dict[str, Any]


def hand_over(place: Path, writer: Kernel, reader: Kernel) -> Json:
    """What a kernel did that got the handover of another one. Raises MachineError if the first one did not jump."""
    image = initramfs(writer, kexecs=1, after=reader)
    said, ended = "", "done"
    with Machine(place, writer, image, _WORDS) as machine:
        machine.wait("AT pre\n")
        preserved, start = files_of(machine.console, "preserved"), len(machine.console)
        machine.go()
        try:
            machine.wait("AT post\n", seconds=240)
            machine.go()
            machine.wait("AT finished\n", seconds=240)
        except MachineError:
            ended = "silent"
        said = machine.console[start:]
    if "Kernel panic" in said:
        ended = "panic"
    name, tokens = SHAPES
    keeps_seals = min(writer.number, reader.number) >= (7, 1)
    retrieved = files_of(said, "retrieved")
    wanted = {key: file for token in tokens if (file := preserved.get(key := (name, token))) is not None}
    same = [key for key, file in wanted.items() if _is_same(file, retrieved.get(key), keeps_seals=keeps_seals)]
    return {
        "from": writer.release,
        "to": reader.release,
        "ended": ended,
        "preserved": len(wanted),
        "retrieved": len(same),
        "has_luo": re.search(r"^LUO ", said, re.MULTILINE) is not None,
        "log": log_of(said)[:_LINES],
    }


def _is_same(preserved: File, retrieved: File | None, *, keeps_seals: bool) -> bool:
    """Whether a file came back unchanged, but for seals where one of the kernels does not hand them over."""
    if retrieved is not None and not keeps_seals:
        retrieved = replace(retrieved, seals=preserved.seals)
    return retrieved == preserved


def log_of(console: str) -> list[str]:
    """The lines of a kernel about KHO, LUO and their users, each once, without addresses.

    They are what its user space read of its log. If it did not come so far: what is on the console, where letters can
    be lost.
    """
    lines = [re.findall(rf"^{head}\[ *[\d.]+\] (.*)$", console, re.MULTILINE) for head in ("LOG ", "")]
    found = lines[0] or lines[1]
    about = [line for line in found if re.search(ABOUT, line, re.IGNORECASE) and "ommand line" not in line]
    return list(dict.fromkeys(re.sub(r"0x[0-9a-f]+", "N", line)[:200] for line in about))


def _kernels(machine: str) -> dict[str, Kernel]:
    """The kernels in the cache, by series."""
    found = {}
    for series in SERIES:
        with suppress(NoKernel):
            found[series] = kernel(series, machine, build=False)
    return found


def fault_of(made: Booted) -> str:
    """What differs between a kernel and `luoser compat`. Empty: nothing."""
    found, log = compare(of_release(made.writer), of_release(made.reader)), "\n".join(made.log)
    words = [f"compat says {found.result}, the kernel {made.result}"] if found.result != made.result else []
    for message in (one.message for one in found.clashes if one.message):
        parts = [re.escape(part).replace("…", ".*") for part in message.split("; ")]
        words += [f"not logged: {part}" for part in parts if not re.search(part, log)]
    return "; ".join(words)


def main(given: Sequence[str] | None = None) -> int:
    """The command line: writes what was booted beside `luoser compat`. Returns 1 if compat says something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.pairs")
    parser.add_argument("pairs", nargs="*", metavar="FROM:TO")
    known = _kernels("x86-64")
    wanted = [tuple(pair.split(":")) for pair in parser.parse_args(given).pairs] or [*permutations(known, 2)]
    document: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print(f"KTAP version 1\n1..{len(wanted)}")
    failed = 0
    for number, (first, second) in enumerate(wanted, 1):
        name = f"{first} to {second}"
        if not {first, second} <= known.keys():
            print(f"ok {number} {name} # SKIP not in the cache")
            continue
        with tempfile.TemporaryDirectory(prefix="luoser-e2e-") as place:
            found = hand_over(Path(place), known[first], known[second])
        document[name] = found
        RESULTS.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        made = of_record(found)
        fault = fault_of(made)
        failed += bool(fault)
        print(f"{'not ok' if fault else 'ok'} {number} {made.words}" + (f"\n# {fault}" if fault else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
