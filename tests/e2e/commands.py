# SPDX-License-Identifier: MIT
"""What `luoser map`, `hexdump` and `simulate` say of a live update, against what kernel and user space said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from click.testing import CliRunner

import luoser
from luoser.cli.main import cli
from luoser.liveupdate import Machine, image_of, load_scenario, simulate
from luoser.render.extents import owned_blocks, owners
from luoser.state import Direction, Handover, State
from luoser.text import safe_text
from tests.e2e.live_update import AGAIN, Folio, Moment, Run

__all__ = ["commands", "simulated"]

Json = dict[str, Any]
Pair = tuple[str, str]
"""(what was compared, what differs; empty: nothing)."""
_FIRST_SIMULATED = (7, 0)


def commands(run: Run, moment: Moment, state: State) -> Iterator[Pair]:
    """All comparisons of a moment."""
    document = json.loads(_output("map", str(moment.dumps["elf"]), "--format", "json"))
    yield "map, ranges", _ranges(document, _output("map", str(moment.dumps["elf"])))
    for where in ("in", "out"):
        if "scratch_phys" in (files := moment.debugfs(where)):
            yield f"map, scratch of debugfs {where}", _scratch(files, document)
    handover = _with_sessions(state, Direction.OUTGOING)
    if moment.name.startswith("frozen") and handover is not None:
        yield "map, pages of files", _pages(run, handover, state.source.page_size)
    for where, direction in (("in", Direction.INCOMING), ("out", Direction.OUTGOING)):
        files = moment.debugfs(where)
        roots = [one for one in state.handovers if one.direction is direction and one.own]
        if moment.name in ("pre", "post") and "fdt" in files and len(roots) == 1:
            yield f"hexdump of debugfs {where}", _hexdumps(files, roots[0], str(moment.dumps["elf"]))
    if run.kernel.number >= _FIRST_SIMULATED and run.kernel.pages == "4K":
        yield from simulated(run, moment, state)


def _output(*words: str) -> str:
    """What a command prints. Raises what it raises."""
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    return result.stdout


def _with_sessions(state: State, direction: Direction) -> Handover | None:
    handovers = [one for one in state.handovers if one.direction is direction]
    return next((one for one in handovers if one.luo is not None and one.luo.sessions), None)


# -- map --


def _ranges(document: Json, text: str) -> str:
    """Whether no two ranges overlap, and the lines have all of them."""
    page, lines = (
        document["source"]["page_size"],
        re.findall(r"^ {2}([0-9a-f]+)-([0-9a-f]+) : (\S+)", text, re.MULTILINE),
    )
    printed = {(int(start, 16), int(end, 16) + 1) for start, end, kind in lines if kind != "scratch,"}
    wanted = set()
    for handover in document["handovers"]:
        ranges = sorted(
            (int(address, 16), int(address, 16) + count * (page << order))
            for address, order, count in handover["preserved"].get("extents") or ()
        )
        for before, after in pairwise(ranges):
            if before[1] > after[0]:
                return f"{before[0]:#x} to {before[1]:#x} and {after[0]:#x} overlap"
        if handover["preserved"]["status"] == "intact":
            wanted |= set(ranges)
    return "" if printed == wanted else f"other lines than ranges: {sorted(printed ^ wanted)[:2]}"


def _scratch(files: dict[str, bytes], document: Json) -> str:
    numbers = [[int(line, 0) for line in files[name].split()] for name in ("scratch_phys", "scratch_len")]
    wanted = sorted(zip(*numbers, strict=True))
    found = [
        sorted((int(area["address"], 16), int(area["size"], 16)) for area in handover["scratch"] or ())
        for handover in document["handovers"]
    ]
    return "" if wanted in found else f"expected {wanted}, found {found}"


def _pages(run: Run, handover: Handover, page: int) -> str:
    """Whether the folios of each file are those that user space saw, each one preserved block that only it owns."""
    assert handover.preserved.map is not None and handover.luo is not None
    names: dict[int, set[str]] = {}
    for owner in owners(handover):
        names.setdefault(owner.address, set()).add(owner.name)
    for session in handover.luo.sessions:
        for file in session.files:
            own = f"folios of {safe_text(session.name)}/{file.token:#x}"
            said = run.folios.get((session.name, file.token), [])
            found = []
            for entry in file.memfd.folios.list if file.memfd is not None else ():
                block = handover.preserved.map.find(entry.address)
                if block is None or block.address != entry.address or names[block.address] != {own}:
                    return f"{entry.address:#x}: expected {own}, found {block} of {sorted(names[entry.address])}"
                found.append(Folio(entry.index, block.address // page, 1 << block.order))
            if found != said:
                return f"{own}: expected {said[:2]}, found {found[:2]}"
    return "" if run.folios else "user space does not say the folios of its files"


# -- hexdump --


def _hexdumps(files: dict[str, bytes], root: Handover, path: str) -> str:
    """Whether the bytes that hexdump prints of root and sub-trees are those of debugfs."""
    subtrees = {f"sub_fdts/{entry.name}": f"subtrees[{entry.name}]" for entry in root.subtrees}
    for name, data in files.items():
        where = "root" if name == "fdt" else subtrees.get(name)
        if where is None or not data:
            continue
        words = ("--plain", "--root", f"{root.address:#x}", "--length", str(len(data)))
        found = _parsed(_output("hexdump", *words, path, where))
        if found != data:
            at = next((place for place, pair in enumerate(zip(found, data, strict=False)) if len(set(pair)) > 1), -1)
            return f"{where}: {len(found)} bytes for {len(data)}, other ones from {at:#x} on"
    return ""


def _parsed(text: str) -> bytes:
    """The bytes of rows `ADDRESS: 16 BYTES  TEXT`. A row of `*` stands for rows like the one before."""
    found, start = bytearray(), int(text.partition(":")[0], 16)
    for row in text.splitlines():
        if row != "*":
            address, _, rest = row.partition(":")
            while start + len(found) < int(address, 16):
                found += found[-16:]
            found += bytes.fromhex(rest[:50])
    return bytes(found)


# -- simulate --


def simulated(run: Run, moment: Moment, state: State) -> Iterator[Pair]:
    """What the model of a live update says of a moment. Its memfds have no large folios, and its kernels no devices."""
    steps = {"frozen": "freeze", "post": "restore", "frozen2": "freeze"}
    if moment.name not in steps:
        return
    handover = _with_sessions(state, Direction.INCOMING if moment.name == "post" else Direction.OUTGOING)
    if handover is None:
        reused = [one for one in state.problems if one.about.startswith("luo")]
        if moment.name != "post" or not reused:  # a kernel frees these pages as soon as it has read them
            yield "simulate", "no session in the dump"
        return
    machine = _machine(run, moment.name, steps[moment.name])
    (model,) = luoser.read(image_of(machine).memory()).handovers
    yield "simulate, sessions and files", _differences(_shape(model), _shape(handover))
    if moment.name == "post":
        log = [str(event).removeprefix("luo: ") for event in machine.trace.events if str(event).startswith("luo: ")]
        yield "simulate, log", _differences(dict.fromkeys(log), dict.fromkeys(moment.log(r"luo: (.*)$")))
    else:
        yield "simulate, memory of sessions", _differences(_sizes(run, model), _sizes(run, handover))


def _machine(run: Run, moment: str, until: str) -> Machine:
    """The model after a step, with the sessions and memfds that user space had for the live update of a moment."""
    files = run.preserved_at(moment)
    sessions = [
        {
            "name": name,
            "files": [
                {"token": token, "memfd": f"{number}/{token:#x}"}
                | {"size": file.size, "position": file.position, "seals": file.seals}
                for (session, token), file in files.items()
                if session == name
            ],
        }
        for number, name in enumerate(run.sessions)
        if name.endswith(AGAIN) is moment.endswith("2")
    ]
    values = {"series": "pci-core-v9", "kernel": run.kernel.series, "devices": [], "sessions": sessions}
    return simulate(load_scenario(values), until=until)


def _shape(handover: Handover) -> Json:
    """What a model and a kernel have in common of their sessions."""
    assert handover.luo is not None
    found: Json = {"blocks of sessions": len(handover.luo.session_blocks)}
    for session in handover.luo.sessions:
        found[session.name] = {
            "blocks": len(session.blocks),
            "files": [
                (file.token, file.compatible)
                + ((file.memfd.size, file.memfd.position, file.memfd.seals) if file.memfd is not None else ())
                for file in session.files
            ],
        }
    return found


def _sizes(run: Run, handover: Handover) -> dict[str, int]:
    """Bytes of preserved memory of LUO by owner, without sessions whose files have large folios."""
    assert handover.preserved.map is not None
    large = {name for (name, _), folios in run.folios.items() if any(folio.size > 1 for folio in folios)}
    found: dict[str, int] = {}
    for kind, size in owned_blocks(handover.preserved.map, sorted(owners(handover)), run.kernel.page_size).values():
        if re.match("session |LUO |sub-tree LUO", kind) and kind.removeprefix("session ") not in large:
            found[kind] = found.get(kind, 0) + size
    return found


def _differences(model: Json, real: Json) -> str:
    """What differs, the first two of it."""
    keys = [key for key in {**model, **real} if model.get(key) != real.get(key) or (key in model) is not (key in real)]
    return "; ".join(
        f"{key!r}: model {model.get(key, '-')!s:.120}, kernel {real.get(key, '-')!s:.120}" for key in keys[:2]
    )
