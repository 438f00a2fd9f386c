# SPDX-License-Identifier: MIT
"""A real dump of a kernel that is about to jump, through `inspect --full --contents` and `build`, in a fresh kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import luoser
from luoser.reader import SYMBOLS
from luoser.state import Direction, State, to_document
from luoser.state.from_json import from_document
from luoser.symbols import read_symbols
from luoser.writer import write
from luoser.writer.complete import complete
from luoser.writer.image import write_image
from tests.e2e.boot import File, boot
from tests.e2e.judge import unsealed
from tests.e2e.live_update import Run, memory_of

__all__ = ["rebuilt"]

_ALIGNED = 2 << 20
"""Bytes by which a kernel of x86-64 is aligned."""
_ABOVE = 256 << 20
"""Bytes of memory above that of the dump, where QEMU puts the initrd."""


def rebuilt(run: Run, place: Path) -> str:
    """What is wrong with the files that the next kernel retrieves from the rebuilt image. Empty: nothing.

    Only small files have their contents in a document, so only those are compared.
    """
    frozen = next(moment for moment in run.moments if moment.name == "frozen")
    with luoser.open(frozen.dumps["elf"]) as memory:
        state = luoser.read(memory, contents=True, symbols=read_symbols(run.kernel.symbols, SYMBOLS))
    (handover,) = (one for one in state.handovers if one.direction is Direction.OUTGOING)
    document = to_document(replace(state, handovers=(handover,)), full=True)
    cast(Any, document)["handovers"][0].update(direction="incoming", at_jump=True)
    made = from_document(complete(document))
    image = write(made, machine=run.kernel.machine)
    place.mkdir(parents=True)
    write_image(str(place / "image"), image, "elf", force=False)
    wanted = _small(made, run)
    show: dict[str, list[int]] = {}
    for name, token in list(wanted)[:40]:
        show.setdefault(name, []).append(token)
    largest = max(handover.scratch or (), key=lambda area: area.size)
    scratch = -(-largest.address // _ALIGNED) * _ALIGNED if run.kernel.machine == "x86-64" else None
    memory = memory_of(run.kernel) + (0 if scratch is None else _ABOVE)
    words = "reserve_mem=1M:4096:labmem"
    outcome = boot(
        place, run.kernel, place / "image", image.passed[0], show, words=words, scratch=scratch, memory=memory
    )
    shown = [(name, token) for name in show for token in show[name]]
    lost = [key for key in shown if _differ(run, outcome.files.get(key), wanted[key])]
    bad = [f"{name} {token:#x}" for name, token in lost]
    if bad:
        return f"{outcome.ended}: {len(bad)} of {len(wanted)} files differ, such as {bad[0]}; {outcome.said[:2]}"
    if outcome.ended != "done":
        return outcome.ended
    return "" if wanted else "no file has its contents in the document"


def _differ(run: Run, found: File | None, wanted: File) -> bool:
    """Whether a file is another one; kernels before 7.1 do not hand over seals."""
    return found is None or unsealed(run, found) != unsealed(run, wanted)


def _small(state: State, run: Run) -> dict[tuple[str, int], File]:
    """The files of which the state has all contents, as user space preserved them."""
    found = {}
    for handover in state.handovers:
        for session in handover.luo.sessions if handover.luo is not None else ():
            for file in session.files:
                key = session.name, file.token
                if file.memfd is not None and file.memfd.contents and key in run.preserved:
                    found[key] = run.preserved[key]
    return found
