# SPDX-License-Identifier: MIT
"""One real handover in every dump format, written by the writers of the tests.

`python -m tests.formats` remakes every file of fixtures/formats. The pages and VMCOREINFO are those of one dump of
fixtures/real; the bytes around them come from `tests.memory.writers`, which use nothing of luoser's readers.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tests import real
from tests.memory import writers
from tests.memory.images import Load, core, note
from tests.memory.writers import PAGE

__all__ = [
    "FORMATS",
    "MADE_WITH",
    "OF_RANGES",
    "SETS",
    "SOURCE",
    "files",
    "left_out",
    "libraries",
    "main",
    "pages",
    "runs",
]

FORMATS = real.ROOT / "fixtures" / "formats"
SOURCE = "7.3-a/frozen"
SETS = {"kdump-split": ("kdump-split-1", "kdump-split-2")}
"""Files that are read together."""
OF_RANGES: dict[str, Callable[[writers.Spans], bytes]] = {"lime": writers.lime, "avml": writers.avml}
"""Formats of address ranges and nothing else: what writes each. A new one is a line here."""
MADE_WITH = {"zlib": "1.2.13", "zstandard": "0.25.0", "cramjam": "2.14.0"}
"""Compressors: another version may pack the same pages to other bytes."""


@cache
def runs() -> tuple[tuple[int, bytes], ...]:
    """(address, bytes) of each run of memory in the source."""
    memory = real.dump(SOURCE)
    return tuple((part.start, memory.read(part.start, part.size)) for part in memory.segments)


@cache
def pages() -> dict[int, bytes]:
    """Page frames and what they hold."""
    return {(start + at) // PAGE: data[at : at + PAGE] for start, data in runs() for at in range(0, len(data), PAGE)}


def left_out() -> set[int]:
    """Frames that the kdump files name as RAM but do not hold: the one behind each run."""
    return {(start + len(data)) // PAGE for start, data in runs()} - set(pages())


def _vmcoreinfo() -> bytes:
    return "".join(f"{key}={value}\n" for key, value in real.dump(SOURCE).vmcoreinfo.items()).encode()


def _elf() -> bytes:
    notes = note("CORE", bytes(336), 1) + note("VMCOREINFO", _vmcoreinfo())
    return core(*(Load(start, data) for start, data in runs()), notes=notes)


@cache
def files() -> dict[str, bytes]:
    """Every file by its name, before it is packed to .xz."""
    shared: dict[str, Any] = {"ram": {*pages(), *left_out()}, "vmcoreinfo": _vmcoreinfo()}
    made = {
        f"kdump-{pack}": writers.kdump(pages(), pack=pack, **shared)
        for pack in ("plain", "zlib", "lzo", "snappy", "zstd")
    }
    frames = sorted(pages())
    bounds = [0, frames[len(frames) // 2], max(shared["ram"]) + 1]
    parts = writers.kdump_set(pages(), bounds, pack="lzo", **shared)
    made |= dict(zip(SETS["kdump-split"], parts, strict=True))
    made["kdump-flat"] = writers.flattened(made["kdump-lzo"], piece=16384, zeros=True)
    made["elf"] = _elf()
    made["elf-flat"] = writers.flattened(made["elf"], piece=65536, zeros=True)
    return made | {name: write(runs()) for name, write in OF_RANGES.items()}


def libraries(name: str) -> dict[str, str]:
    """The compressors of a file and their versions here."""
    import cramjam
    import zstandard

    here = {"zlib": zlib.ZLIB_RUNTIME_VERSION, "zstandard": zstandard.__version__, "cramjam": cramjam.__version__}
    used = {"kdump-zlib": "zlib", "kdump-zstd": "zstandard", "kdump-snappy": "cramjam", "avml": "cramjam"}
    return {used[name]: here[used[name]]} if name in used else {}


def main(target: Path = FORMATS, only: Iterable[str] = ()) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name, data in files().items():
        if not only or name in only:
            (target / f"{name}.xz").write_bytes(lzma.compress(data, preset=9))


if __name__ == "__main__":
    main()
