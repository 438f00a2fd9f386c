# SPDX-License-Identifier: MIT
"""`make e2e`: kernels do a live update and take images that luoser built, and luoser is held against what they say.

    python -m tests.e2e [--kernel 7.3]... [--machine x86-64] [--pages 4K]

KTAP comes out. docs/kernels.md gets a row for each kernel that ran; those of other kernels stay.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luoser.writer.image import write_image
from tests.e2e.boot import boot
from tests.e2e.inside import inside
from tests.e2e.judge import Compared, judged
from tests.e2e.kernels import FIRST_LUO, Kernel, NoKernel, kernel
from tests.e2e.live_update import live_update
from tests.e2e.machine import MachineError
from tests.e2e.mutations import built
from tests.e2e.rebuilt import rebuilt
from tests.e2e.shapes import SHAPES

__all__ = ["main", "page"]

SERIES = ("6.17", "6.18", "6.19", "7.1", "7.2", "7.3")
PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
RESULTS = Path(__file__).with_name("kernels.json")
_REFUSED = re.compile(r"KHO restore failed|disabling KHO|incompatible|[Ff]ailed to (prepare|deserialize|insert)")
"""What a kernel logs of an image that it does not take as a whole."""
Json = dict[str, Any]


def compared(kernel: Kernel, place: Path, *, short: bool) -> Iterator[Compared]:
    """All comparisons of a kernel. short: one boot of one image."""
    is_luo = kernel.number >= FIRST_LUO
    for name, shape in SHAPES.items() if is_luo else ():
        if short and name != "everything":
            continue
        made = shape(kernel)
        _, image = built(made, kernel)
        write_image(str(place / "image.elf"), image, "elf", force=True)
        words = "reserve_mem=1M:4096:labmem" if "memblock" in made.description["handovers"][0] else ""
        outcome = boot(place / name, kernel, place / "image.elf", image.passed[0], made.tokens, words=words)
        wrong = [key for key, file in made.shown.items() if outcome.files.get(key) != file]
        bad = [line for line in outcome.said if not line.endswith(": done")]
        bad += [line for line in outcome.log if _REFUSED.search(line)]
        fault = f"{len(wrong)} files differ, such as {wrong[0]}" if wrong else "; ".join(bad[:2])
        yield Compared("built image", name, fault or ("" if outcome.ended == "done" else outcome.ended))
    if short:
        return
    run = live_update(place / "live", kernel, chain=is_luo)
    yield from judged(run)
    if is_luo:
        yield Compared("built image", "a real frozen dump", rebuilt(run, place / "rebuilt"))
    if kernel.series == SERIES[-1]:
        yield from inside(kernel, place / "inside")


def _row(kernel: Kernel, found: list[Compared], seconds: float) -> Json:
    moments: dict[str, list[Compared]] = {}
    for one in found:
        moments.setdefault(one.moment, []).append(one)
    return {
        "kernel": kernel.release,
        "machine": kernel.machine,
        "pages": kernel.pages,
        "seconds": round(seconds),
        "moments": {
            moment: {"agree": sum(not one.fault for one in parts), "differ": [one.what for one in parts if one.fault]}
            for moment, parts in moments.items()
        },
    }


def page(results: Json) -> str:
    """docs/kernels.md. results: rows by series, machine and pages."""
    names = ("built image", "pre", "frozen", "post", "finished", "pre2", "frozen2", "post2", "in the guest")
    lines = [
        "# Kernels",
        "",
        "What `make e2e` compared. The kernels are built small from Debian's source packages, and boot in QEMU under",
        "emulation. Each takes images that `luoser build` made, and does live updates; dumps of each moment, as ELF",
        "and as kdump, are held against what kernel and user space said. A cell has the comparisons that agree, of",
        "all; `-`: none at that moment.",
        "",
        "A build needs gcc, flex, bison, bc, make, libelf-dev and libssl-dev, for arm64 gcc-aarch64-linux-gnu. A run",
        "needs qemu-system-x86, qemu-system-arm and busybox-static. Debian's own kernels of 7.2 and 7.3 have no",
        "CONFIG_KEXEC_HANDOVER, on amd64 and arm64, so none of them hands anything over.",
        "",
        f"| kernel | machine | pages | {' | '.join(names)} | seconds |",
        f"| --- | --- | --- | {' | '.join('---' for _ in names)} | --- |",
    ]
    notes = []
    for key in sorted(results, key=_order):
        row = results[key]
        if "missing" in row:
            lines.append(
                f"| {row['kernel']} | {row['machine']} | {row['pages']} | {' | '.join('-' for _ in names)} | - |"
            )
            notes.append(f"- {row['kernel']} on {row['machine']}, {row['pages']}: not run: {row['missing']}.")
            continue
        cells = []
        for name in names:
            moment = row["moments"].get(name)
            total = moment and moment["agree"] + len(moment["differ"])
            cells.append(f"{moment['agree']} of {total}" if moment else "-")
            for what in moment["differ"] if moment else ():
                notes.append(f"- {row['kernel']} on {row['machine']}, {row['pages']}, {name}: {what} differs.")
        lines.append(
            f"| {row['kernel']} | {row['machine']} | {row['pages']} | {' | '.join(cells)} | {row['seconds']} |"
        )
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _line(row: Json, cells: list[str], seconds: str) -> str:
    return f"| {row['kernel']} | {row['machine']} | {row['pages']} | {' | '.join(cells)} | {seconds} |"


def _order(key: str) -> tuple[list[int], str]:
    series, _, rest = key.partition(" ")
    return [int(part) for part in series.split(".")], rest


def main() -> int:
    """The command line. Returns 1 if something differs, 2 if no kernel could be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e")
    parser.add_argument("--kernel", action="append", choices=SERIES, help="default: all series")
    parser.add_argument("--machine", action="append", choices=("x86-64", "arm64"))
    parser.add_argument("--pages", action="append", choices=("4K", "16K", "64K"))
    parser.add_argument("--short", action="store_true", help="one boot of one image, if the kernel is in the cache")
    given = parser.parse_args()
    wanted = [
        (series, machine, pages)
        for series in given.kernel or SERIES
        for machine in given.machine or ("x86-64", "arm64")
        for pages in given.pages or ("4K", "16K", "64K")
        if machine == "arm64" or pages == "4K"
    ]
    results: Json = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print("KTAP version 1")
    number = failed = 0
    for series, machine, pages in wanted:
        key, start, found = f"{series} {machine} {pages}", time.monotonic(), list[Compared]()
        try:
            ran = kernel(series, machine, pages, build=not given.short)
            with tempfile.TemporaryDirectory(prefix="luoser-e2e-") as name:
                for one in compared(ran, Path(name), short=given.short):
                    found.append(one)
                    number, failed = number + 1, failed + bool(one.fault)
                    words = f"{number} {key} {one.moment}: {one.what}"
                    print(f"not ok {words}\n# {one.fault}" if one.fault else f"ok {words}", flush=True)
            results[key] = _row(ran, found, time.monotonic() - start)
        except (NoKernel, MachineError, subprocess.CalledProcessError) as error:
            number += 1
            failed += not isinstance(error, NoKernel)
            print(
                f"ok {number} {key} # SKIP {error}"
                if isinstance(error, NoKernel)
                else f"not ok {number} {key} # {error}"
            )
            reason = str(error).partition("\n")[0][:200]
            results[key] = {"kernel": series, "machine": machine, "pages": pages, "missing": reason}
    print(f"1..{number}")
    if not given.short:
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
