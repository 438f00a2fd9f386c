# SPDX-License-Identifier: MIT
"""The parts of `make e2e`: what is compared of a kernel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from luoser.checks import Report, Severity, check
from luoser.reader import read
from luoser.writer.image import write_image
from tests.e2e.boot import Outcome, boot
from tests.e2e.golden import golden
from tests.e2e.inside import crashed, inside
from tests.e2e.judge import Compared, judged
from tests.e2e.kernels import FIRST_LUO, SERIES, Kernel, host
from tests.e2e.live_update import live_update
from tests.e2e.moved import moved
from tests.e2e.mutations import built
from tests.e2e.rebuilt import rebuilt
from tests.e2e.shapes import Shape, shapes_of

__all__ = ["COLUMNS", "PARTS", "SHORT", "fault_of", "parts_of", "unlike"]

Part = Callable[[Kernel, Path], Iterator[Compared]]
COLUMNS = (
    *("built image", "pre", "frozen", "post", "finished", "pre2", "frozen2", "post2"),
    *("two nodes", "in the guest", "crash", "golden", "members moved"),
)
"""The moments of the table, in its order. A moment belongs to one part."""
_FOUND = {"sparse": {"MFD011"}}
"""Errors of images that are taken: a kernel preserves no holes, so one is lost data."""
SHORT = "everything"
"""The shape of a short run."""
_REFUSED = re.compile(
    r"^WARNING: |KHO restore failed|disabling KHO|incompatible|[Ff]ailed to (prepare|deserialize|insert)"
)
"""What a kernel logs of an image that it does not take as a whole, or not without a word."""


def images(kernel: Kernel, place: Path, *, only: str = "") -> Iterator[Compared]:
    """Images that luoser builds, before a fresh kernel. only: name of a shape. Empty: all."""
    for name, shape in shapes_of(kernel).items():
        if only and name != only:
            continue
        made = shape(kernel)
        _, image = built(made, kernel)
        write_image(str(place / "image.elf"), image, "elf", force=True)
        words = "reserve_mem=1M:4096:labmem" if "memblock" in made.description["handovers"][0] else ""
        outcome = boot(place / name, kernel, place / "image.elf", image.passed[0], made.tokens, words=words)
        fault = fault_of(made, outcome) or unlike(check(read(image.memory())), _FOUND.get(name, set()))
        yield Compared("built image", name, fault)


def fault_of(made: Shape, outcome: Outcome) -> str:
    """What a kernel did not take of an image, or not without a word. Empty: nothing."""
    wrong = [key for key, file in made.shown.items() if outcome.files.get(key) != file]
    bad = [line for line in outcome.said if not line.endswith(": done")]
    bad += [line for line in outcome.log if _REFUSED.search(line)]
    bad += [f"not logged: {line}" for line in made.taken if line not in outcome.log]
    fault = f"{len(wrong)} files differ, such as {wrong[0]}" if wrong else "; ".join(bad[:2])
    return fault or ("" if outcome.ended == "done" else outcome.ended)


def unlike(report: Report, wanted: set[str]) -> str:
    """What `check` says of an image that a kernel takes, but errors that are wanted. Empty: nothing."""
    errors = {finding.rule for finding in report.findings if finding.severity is Severity.ERROR}
    if errors != wanted:
        return f"check finds {sorted(errors)}"
    return f"check does not judge {[one.rule for one in report.unjudged]}" if report.unjudged else ""


def live(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """Two live updates in a row; a dump of the first one's jump, rebuilt, before a fresh kernel."""
    is_luo = kernel.number >= FIRST_LUO
    run = live_update(place / "live", kernel, chain=is_luo)
    yield from judged(run)
    if is_luo:
        yield Compared("frozen", "rebuilt, before a fresh kernel", rebuilt(run, place / "rebuilt"))


def nodes(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """A live update on a machine with two memory nodes."""
    run = live_update(place / "nodes", kernel, sessions=2, files=3, formats=("elf",), nodes=2)
    yield from (replace(one, what=f"{one.moment}: {one.what}", moment="two nodes") for one in judged(run))


PARTS: Mapping[str, Part] = {
    "images": images,
    "live": live,
    "nodes": nodes,
    "inside": inside,
    "crash": crashed,
    "golden": golden,
    "moved": moved,
}
"""Each yields the comparisons of a kernel, with files in a folder."""
_OF_LUO = ("golden",)
_OF_NEWEST = ("nodes", "inside", "crash", "moved")
_OF_X86 = ("moved",)
_OF_HOST = ("golden",)
"""User-mode Linux is a program."""


def parts_of(kernel: Kernel) -> list[str]:
    """The parts that a kernel takes part in."""
    out = {
        *(() if kernel.number >= FIRST_LUO else _OF_LUO),
        *(() if kernel.machine == "x86-64" else _OF_X86),
        *(() if (kernel.machine, kernel.pages) == (host(), "4K") else _OF_HOST),
    }
    return [name for name in PARTS if name not in out and (name not in _OF_NEWEST or kernel.series == SERIES[-1])]
