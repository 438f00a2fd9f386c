# SPDX-License-Identifier: MIT
"""`make e2e`: kernels do a live update and take images that luoser built, and luoser is held against what they say.

    python -m tests.e2e [--kernel 7.3]... [--machine x86-64] [--pages 4K] [--part live]

KTAP comes out. docs/kernels.md gets a row for each kernel that ran; those of other kernels stay, and so do the parts
of a row that did not run, with the day on which they did.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.judge import Compared
from tests.e2e.kernels import SERIES, Kernel, NoKernel, add_options, chosen, kernel, numbers
from tests.e2e.parts import COLUMNS, PARTS, SHORT, images, parts_of

__all__ = ["main", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
RESULTS = Path(__file__).with_name("kernels.json")
Json = dict[str, Any]


def page(results: Json) -> str:
    """docs/kernels.md. results: rows by series, machine and pages."""
    lines = [
        "# Kernels",
        "",
        "What `make e2e` compared. The kernels are built small from Debian's source packages, and boot in QEMU under",
        "emulation. Each takes images that `luoser build` made, and does live updates; dumps of each moment, as ELF",
        "and as kdump, are held against what kernel and user space said. A cell has the comparisons that agree, of",
        "all; `-`: none at that moment, or not run. The newest kernel also does a live update on a machine with two",
        "memory nodes; luoser runs in its guest, on the live machine and in a crash kernel, there on /proc/vmcore and",
        "on what makedumpfile -d 31 leaves of it. On the machine that builds, golden C is put into the source of each",
        "kernel with LUO by `luoser build --kernel-tree`: suites of KUnit run in user-mode Linux, kselftests in a",
        "guest; one of each has a wrong byte, which it has to report. Another copy of the newest source has members of",
        "four structs elsewhere, two of them structs that are handed over: `luoser abi verify` names just those, and",
        "all is read by the kernel's own types. No string differs from the kernel in the cache, and it retrieves none",
        "of that one's files, as `luoser compat` says of the two.",
        "",
        "A row has the day of its runs; parts of a row that ran on different days have the first and the last.",
        "",
        "A build needs gcc, flex, bison, bc, make, libelf-dev and libssl-dev, for arm64 gcc-aarch64-linux-gnu. A run",
        "needs qemu-system-x86, qemu-system-arm and busybox-static. A build took 2 to 10 minutes on two processors,",
        "and takes 2 GiB of the cache; a run needs up to 45 GiB for its dumps. Debian's own kernels of 7.2 and 7.3",
        "have no CONFIG_KEXEC_HANDOVER, on amd64 and arm64, so none of them hands anything over.",
        "",
        f"| kernel | machine | pages | {' | '.join(COLUMNS)} | seconds | run |",
        f"| --- | --- | --- | {' | '.join('---' for _ in COLUMNS)} | --- | --- |",
    ]
    here = {key.partition(" ")[0] for key in results}
    notes = [f"- {series}: not run yet." for series in SERIES if series not in here]
    for key in sorted(results, key=_order):
        row = results[key]
        parts, release = row["parts"], _newest(row["parts"]) or key.partition(" ")[0]
        where = f"{release} on {row['machine']}, {row['pages']}"
        found = {name: moment for part in parts.values() for name, moment in part["moments"].items()}
        moments = {name: found.get(name, {"agree": 0, "differ": []}) for name in COLUMNS}
        totals = {name: moment["agree"] + len(moment["differ"]) for name, moment in moments.items()}
        cells = [f"{moments[name]['agree']} of {total}" if total else "-" for name, total in totals.items()]
        days = sorted({part["day"] for part in parts.values()})
        ran = [sum(part["seconds"] for part in parts.values()) or "-", " to ".join(dict.fromkeys((days[0], days[-1])))]
        lines.append(f"| {release} | {' | '.join(map(str, (row['machine'], row['pages'], *cells, *ran)))} |")
        for name, part in parts.items():
            how = "ended early" if part["moments"] else "not run"
            notes += [f"- {where}: {name} {how}: {part['reason']}."] if part["reason"] else []
            notes += [f"- {where}: {name} is of {part['kernel']}."] if part["kernel"] not in ("", release) else []
        for name, moment in moments.items():
            notes += [f"- {where}, {name}: {what} differs." for what in moment["differ"]]
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _newest(parts: Json) -> str:
    """The newest release of the parts that ran. Empty: none did."""
    return max((part["kernel"] for part in parts.values()), key=numbers, default="")


def _order(key: str) -> tuple[list[int], str]:
    series, _, rest = key.partition(" ")
    return [int(part) for part in series.split(".")], rest


def _counted(found: list[Compared]) -> Json:
    """How many comparisons agree, and which differ, by moment."""
    moments: dict[str, list[Compared]] = {}
    for one in found:
        moments.setdefault(one.moment, []).append(one)
    return {
        moment: {"agree": sum(not one.fault for one in parts), "differ": [one.what for one in parts if one.fault]}
        for moment, parts in moments.items()
    }


class _Ktap:
    """Lines of KTAP on standard output."""

    def __init__(self) -> None:
        self.number = self.failed = 0
        print("KTAP version 1")

    def line(self, words: str, *, fault: str = "", reason: str = "") -> None:
        """A result. fault: it failed, and why. reason: it was not run, and why."""
        self.number, self.failed = self.number + 1, self.failed + bool(fault)
        more = f" # SKIP {reason}" if reason else f"\n# {fault}" if fault else ""
        print(f"{'not ok' if fault else 'ok'} {self.number} {words}{more}", flush=True)


def _run(ktap: _Ktap, words: str, found: Iterator[Compared]) -> tuple[list[Compared], str]:
    """(the comparisons of a part, why it did not come to its end)."""
    done: list[Compared] = []
    try:
        for one in found:
            done.append(one)
            ktap.line(f"{words} {one.moment}: {one.what}", fault=one.fault)
    except NoKernel as error:
        ktap.line(words, reason=str(error))
        return done, _first(error)
    except Exception as error:
        ktap.line(words, fault=f"{type(error).__name__}: {error}")
        return done, _first(error)
    if not done:
        ktap.line(words, fault="nothing was compared")
    return done, "" if done else "nothing was compared"


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _rows(ktap: _Ktap, ran: Kernel, old: Json, wanted: list[str]) -> Iterator[Json]:
    """The row of a kernel after each part. old: of before. wanted: the parts to run."""
    parts = {part: value for part, value in old["parts"].items() if part in PARTS}
    for part in wanted:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="luoser-e2e-") as place:
            found, reason = _run(ktap, f"{ran.release} {ran.machine} {ran.pages}", PARTS[part](ran, Path(place)))
        seconds = round(time.monotonic() - start)
        parts[part] = _part(ran.release, moments=_counted(found), seconds=seconds, reason=reason)
        yield old | {"parts": parts}


def _part(release: str, *, moments: Json, seconds: int = 0, reason: str) -> Json:
    """A part of a row. release: of the kernel; empty if there is none. reason: why it did not come to its end."""
    day = datetime.now(tz=UTC).date().isoformat()
    return {"kernel": release, "day": day, "moments": moments, "seconds": seconds, "reason": reason}


def _recorded() -> Json:
    """The rows by series, machine and pages."""
    found: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def _record(key: str, row: Json) -> None:
    """Write a row into the results and the page; others may have been written meanwhile."""
    results = _recorded() | {key: row}
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(results))


def main() -> int:
    """The command line. Returns 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e")
    add_options(parser)
    parser.add_argument("--part", action="append", choices=[*PARTS], help="default: all")
    parser.add_argument("--short", action="store_true", help="one boot of one image, if the kernel is in the cache")
    given = parser.parse_args()
    ktap = _Ktap()
    for series, machine, pages in chosen(given):
        key = f"{series} {machine} {pages}"
        row = _recorded().get(key) or {"machine": machine, "pages": pages, "parts": {}}
        try:
            ran = kernel(series, machine, pages, build=not given.short)
        except NoKernel as error:
            ktap.line(key, reason=str(error))
            if not given.short:
                _record(key, row | {"parts": row["parts"] | {"build": _part("", moments={}, reason=_first(error))}})
            continue
        if given.short:
            with tempfile.TemporaryDirectory(prefix="luoser-e2e-") as place:
                _run(ktap, key, images(ran, Path(place), only=SHORT))
            continue
        wanted = [part for part in parts_of(ran) if given.part is None or part in given.part]
        for grown in _rows(ktap, ran, row, wanted):
            _record(key, grown)
    print(f"1..{ktap.number}")
    return 1 if ktap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
