# SPDX-License-Identifier: MIT
"""What luoser says of the dumps of a live update, against what the kernels and their user space said."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import luoser
from luoser.changes import Verdict as DiffVerdict
from luoser.changes import compare
from luoser.checks import Verdict as CheckVerdict
from luoser.checks import check
from luoser.extracts.core import write_core
from luoser.extracts.memfd import write_memfd
from luoser.kernel.kallsyms import find_kallsyms
from luoser.kernel.space import AddressSpace
from luoser.kernel.types import Types
from luoser.kernel.verify import verify
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.reader import SYMBOLS
from luoser.reader.own_types import types_of
from luoser.state import Direction, Handover, State, to_document
from luoser.symbols import read_symbols
from tests.e2e.boot import File
from tests.e2e.commands import commands
from tests.e2e.kernels import FIRST_LUO
from tests.e2e.live_update import AGAIN, DEVICES, SHAPES, Moment, Run

__all__ = ["Compared", "judged", "unsealed"]

Json = dict[str, Any]


_NUMBER = r"luo: Retrieved live update data, liveupdate number: (\d+)"
_FIRST_FLB = (7, 0)
"""The first series with FLBs, by which the guest's module hands over a list of devices."""


_FIRST_SEALS = (7, 1)
"""The first series that hands over the seals of a memfd."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison. fault: what differs; empty: it agrees."""

    moment: str
    what: str
    fault: str = ""


def judged(run: Run, *, whole: bool = True) -> Iterator[Compared]:
    """All comparisons of a live update. whole: the dumps have all memory, and the kernel its symbols."""
    states: dict[str, State] = {}
    for moment in run.moments:
        with luoser.open(moment.dumps["elf"]) as memory:
            states[moment.name] = state = luoser.read(memory)
            for what, fault in _moment(run, moment, state, memory):
                yield Compared(moment.name, what, fault)
            for what, fault in _whole(run, moment, state, memory) if whole else ():
                yield Compared(moment.name, what, fault)
            for what, fault in commands(run, moment, state):
                yield Compared(moment.name, what, fault)
        for form in moment.dumps.keys() - {"elf"}:
            with luoser.open(moment.dumps[form]) as other:
                same = _document(luoser.read(other)) == _document(state)
                yield Compared(moment.name, f"{form} as elf", "" if same else "another document")
    for before, after in (("pre", "frozen"), ("frozen", "post"), ("post", "finished"), ("frozen2", "post2")):
        if before in states and after in states:
            found = compare(states[before], states[after])
            may_be = {DiffVerdict.PROGRESS}
            if after == "finished" or run.kernel.number < FIRST_LUO:
                may_be |= {DiffVerdict.EQUAL}
            changes = "; ".join(map(str, found.changes[:3]))
            yield Compared(after, f"diff of {before}", "" if found.verdict in may_be else f"{found.verdict}: {changes}")
    if run.kernel.number >= FIRST_LUO:
        yield from _numbered(run, states)
        yield from _retrieved(run, SHAPES[0], "finished")
        if "post2" in states:
            yield from _retrieved(run, SHAPES[0] + AGAIN, "post2")


def _numbered(run: Run, states: Mapping[str, State]) -> Iterator[Compared]:
    """The number of a live update, before the jump, against the log of the kernel that comes then."""
    moments = {moment.name: moment for moment in run.moments}
    for before, after in (("frozen", "post"), ("frozen2", "post2")):
        said = moments[after].log(_NUMBER) if before in states and after in moments else []
        if said:
            own = [one for one in states[before].handovers if one.own and one.direction is Direction.OUTGOING]
            found = {one.luo.number for one in own if one.luo is not None and one.luo.serialized}
            yield Compared(before, "live update number", "" if int(said[-1]) in found else f"{said[-1]}, found {found}")


def _retrieved(run: Run, name: str, moment: str) -> Iterator[Compared]:
    """Whether the next kernel gave user space the files of a session, in the memory that they had."""
    keys = [(name, token) for token in SHAPES[1]]
    pairs = {key: (run.preserved.get(key), run.retrieved.get(key)) for key in keys}
    wrong = {key for key, pair in pairs.items() if None in pair or len({unsealed(run, file) for file in pair}) > 1}
    wrong |= {key for key in keys if run.folios.get(key) != run.kept.get(key)}
    yield Compared(moment, "the kernel's own files", f"{sorted(wrong)[:3]}" if wrong else "")


def unsealed(run: Run, file: File | None) -> File | None:
    """A file without its seals where a kernel does not hand them over."""
    return file if file is None or run.kernel.number >= _FIRST_SEALS else replace(file, seals=0)


def _document(state: State) -> Json:
    document = to_document(state, full=True)
    del document["source"]
    return document


def _whole(run: Run, moment: Moment, state: State, memory: Memory) -> Iterator[tuple[str, str]]:
    """What needs the whole memory."""
    sure = luoser.read(memory, symbols=read_symbols(run.kernel.symbols, SYMBOLS))
    yield "direction by symbols", _same(_directions(luoser.read(memory, kallsyms=False)), _directions(sure))
    yield "direction by kallsyms", _same(_directions(state), _directions(sure))
    yield "kallsyms", _kallsyms(run, memory)
    types, reason = types_of(memory)
    yield "types", _types(types) if types is not None else reason
    if moment.name.startswith("frozen"):
        yield from _bytes(run, moment, state, memory)
        yield "cut", _cut(state, memory, moment.dumps["elf"])


def _moment(run: Run, moment: Moment, state: State, memory: Memory) -> Iterator[tuple[str, str]]:
    yield "check", _verdict(state)
    if moment.name in ("pre", "frozen", "pre2", "frozen2") and run.kernel.number >= FIRST_LUO:
        yield "pending", _pending(run, moment, state)
    for where, direction in (("in", Direction.INCOMING), ("out", Direction.OUTGOING)):
        files = moment.debugfs(where)
        if where == "out" and moment.name.startswith("frozen"):
            files.pop("sub_fdts/LUO", None)  # of before: sessions are serialised at the reboot call
            if run.kernel.number < (7, 0):
                files.pop("fdt", None)  # and the map is published then
        roots = [one for one in state.handovers if one.direction is direction and one.own]
        if "fdt" in files:
            yield f"debugfs {where}", _blobs(files, roots, memory)
        if "scratch_phys" in files:
            yield f"debugfs {where}, scratch", _scratch(files, state)
    told = moment.told()
    if told is not None:
        found = [(one.address, one.scratch_array) for one in state.handovers if one.direction is Direction.INCOMING]
        yield "root and array that the kernel was told", _same(found, [told])
    yield from _numbers(moment, state)
    for one in state.handovers:
        if one.own and any(entry.name == "memblock" for entry in one.subtrees):
            yield f"reserve_mem, {one.direction.value}", _reserved(one)
    if moment.name.startswith("frozen"):
        yield from _files(run, moment, state)


def _kallsyms(run: Run, memory: Memory) -> str:
    """All symbols of the running kernel, against its System.map. Some that are no addresses it has not in kallsyms."""
    space = AddressSpace(memory, memory.vmcoreinfo, run.kernel.page_size)
    slide = int(memory.vmcoreinfo["KERNELOFFSET"], 16)
    lines = [line.split() for line in run.kernel.symbols.read_text().splitlines()]
    wanted = {(int(address, 16), name): kind for address, kind, name in lines}
    found = {(symbol.address, symbol.name) for symbol in find_kallsyms(space)}
    strange = [one for one in found if one not in wanted and (one[0] - slide, one[1]) not in wanted]
    missing = [
        (address, name)
        for (address, name), kind in wanted.items()
        if kind not in "Aa" and not {(address, name), (address + slide, name)} & found
    ]
    if strange:
        return f"not in System.map: {strange[:2]}"
    return f"not in kallsyms: {missing[:2]} of {len(missing)}" if missing else ""


def _types(types: Types) -> str:
    """The layouts that the kernel has, against its own types."""
    verified = verify(types)
    found = [one for one in verified if one.result == "different"]
    if not any(one.result == "equal" and one.is_of_handover for one in verified):
        return "no struct of a handover in the kernel's types"
    return f"{found[0].name}: {found[0].differences[:2]}" if found else ""


def _pending(run: Run, moment: Moment, state: State) -> str:
    """What is pending, against what user space preserved and, at the jump, against what was serialised."""
    outgoing = [one for one in state.handovers if one.direction is Direction.OUTGOING and one.own]
    if len(outgoing) != 1:
        return f"expected one outgoing handover, found {len(outgoing)}"
    pending, luo = outgoing[0].pending, outgoing[0].luo
    if pending is None or not pending.complete:
        return "not known, or not read to the end"
    found = {
        (session.name, file.token): (file.size, file.position) for session in pending.sessions for file in session.files
    }
    wanted = {key: (file.size, file.position) for key, file in run.preserved_at(moment.name).items()}
    if found != wanted:
        return f"pending and preserved: {sorted(found.items() ^ wanted.items(), key=str)[:3]}"
    sessions = [name for name in run.sessions if name.endswith(AGAIN) is moment.name.endswith("2")]
    if [session.name for session in pending.sessions] != sessions:
        return f"expected sessions {sessions[:3]}, found {[session.name for session in pending.sessions][:3]}"
    if luo is not None and luo.serialized:
        written = [(session.name, [(file.token, file.data) for file in session.files]) for session in luo.sessions]
        return _same(
            [(session.name, [(file.token, file.data) for file in session.files]) for session in pending.sessions],
            written,
        )
    return ""


def _verdict(state: State) -> str:
    report = check(state)
    words = [f"{finding.rule} {finding.message}" for finding in report.findings]
    words += [f"{one.rule} not judged: {one.about} {one.cause}" for one in report.unjudged]
    return "" if report.verdict is CheckVerdict.SOUND else "; ".join(words[:4]) or str(report.verdict)


def _same(found: object, wanted: object) -> str:
    return "" if found == wanted else f"expected {wanted}, found {found}"


def _directions(state: State) -> list[tuple[int, Direction]]:
    return sorted((one.address or 0, one.direction) for one in state.handovers)


def _blobs(files: dict[str, bytes], roots: list[Handover], memory: Memory) -> str:
    """Whether the blobs of debugfs are what is at the addresses that luoser gives."""
    if len(roots) != 1 or roots[0].address is None:
        return f"expected one root, found {len(roots)}"
    places = {"fdt": roots[0].address} | {f"sub_fdts/{entry.name}": entry.address for entry in roots[0].subtrees}
    for name, data in files.items():
        address = places.get(name)
        if name.startswith("scratch"):
            continue
        if address is None:
            return f"{name} is not in the state"
        if memory.read(address, len(data)) != data:
            return f"{name}: other bytes at {address:#x}"
    return ""


def _scratch(files: dict[str, bytes], state: State) -> str:
    numbers = [[int(line, 0) for line in files[name].split()] for name in ("scratch_phys", "scratch_len")]
    wanted = sorted(zip(*numbers, strict=True))
    found = [sorted((area.address, area.size) for area in one.scratch) for one in state.handovers if one.scratch]
    return "" if wanted in found else f"expected {wanted}, found {found}"


def _numbers(moment: Moment, state: State) -> Iterator[tuple[str, str]]:
    """The number of the live update and the kernel before, as the log has them."""
    incoming = next((one for one in state.handovers if one.direction is Direction.INCOMING), None)
    number, luo = moment.log(_NUMBER), incoming.luo if incoming is not None else None
    is_reused = any(problem.code == "luo-reused" for problem in state.problems)  # it is freed as soon as it is read
    if number and not is_reused:
        yield "live update number", _same(luo.number if luo is not None else None, int(number[-1]))
    before = moment.log(r"KHO: exec from: (\S+ \(count \d+\))")
    if before:
        data = incoming.kexec_metadata if incoming is not None else None
        found = f"{data.previous_release} (count {data.kexec_count})" if data is not None else None
        yield "kexec-metadata", _same(found, before[-1])


def _reserved(handover: Handover) -> str:
    """The reservations of memblock, against those of the command line."""
    memblock = handover.memblock
    found = [(one.name, one.size) for one in memblock.reservations] if memblock is not None else []
    return _same(found, [("labmem", 1 << 20)])


def _bytes(run: Run, moment: Moment, state: State, memory: Memory) -> Iterator[tuple[str, str]]:
    """The bytes of files, as user space had them."""
    zeros = {key for one in state.handovers if one.direction is Direction.OUTGOING for key, _ in _empty(state, one)}
    files = {key: file for key, file in run.preserved_at(moment.name).items() if key not in zeros}
    bad = [key for key, file in files.items() if _hash(memory, state, key) != file.sha256]
    yield "bytes of files", f"other bytes of {bad[:3]}" if bad else ""


def _empty(state: State, handover: Handover) -> Iterator[tuple[tuple[str, int], tuple[int, int, int]]]:
    """Files whose descriptor is a page of zeros, as of an empty file without seals, or as a freed page can be."""
    for problem in (one for one in state.problems if one.root == handover.address):
        match = re.search(r"session (\S+), file (0x[0-9a-f]+): descriptor is all zeros", problem.message)
        if problem.code == "zero-memfd" and match is not None:
            yield (match[1], int(match[2], 16)), (0, 0, 0)


def _files(run: Run, moment: Moment, state: State) -> Iterator[tuple[str, str]]:
    """Sessions, files and devices, as user space had them."""
    files = run.preserved_at(moment.name)
    outgoing = [one for one in state.handovers if one.direction is Direction.OUTGOING]
    handover = next((one for one in outgoing if one.luo is not None and one.luo.sessions), None)
    if handover is None or handover.luo is None:
        if files:
            yield "sessions", "no session found"
        return
    found = {
        (session.name, file.token): file.memfd
        for session in handover.luo.sessions
        for file in session.files
        if file.memfd is not None
    }
    has_seals = run.kernel.number >= _FIRST_SEALS
    said: dict[tuple[str, int], tuple[int, int, int | None]]
    said = {key: (0, 0, 0 if has_seals else None) for key, _ in _empty(state, handover)}
    said |= {key: (memfd.size, memfd.position, memfd.seals) for key, memfd in found.items()}
    wanted = {key: (file.size, file.position, file.seals if has_seals else None) for key, file in files.items()}
    yield "sessions and files", "" if said == wanted else f"{set(said.items()) ^ set(wanted.items())}"[:300]
    sessions = [name for name in run.sessions if name.endswith(AGAIN) is moment.name.endswith("2")]
    yield "order of sessions", _same([session.name for session in handover.luo.sessions], sessions)
    lists = [[device.name for device in entry.devices] for entry in handover.pci]
    if lists or run.kernel.number >= _FIRST_FLB:
        yield "devices", _same(lists, [list(DEVICES)])


def _hash(memory: Memory, state: State, key: tuple[str, int]) -> str:
    with tempfile.TemporaryFile() as file:
        line = write_memfd(file, memory, state, f"{key[0]}/{key[1]:#x}")
    return line.rpartition("sha256 ")[2][:64]


def _cut(state: State, memory: Memory, path: Path) -> str:
    """Whether the pages that a reading needs read alike."""
    with luoser.open(path) as source:
        recorder = Recorder(source)
        luoser.read(recorder, contents=True)
        with tempfile.TemporaryDirectory() as name:
            cut = Path(name) / "cut"
            data = io.BytesIO()
            write_core(data, source, recorder.asked, answers=recorder.answers)
            cut.write_bytes(data.getvalue())
            with luoser.open(cut) as again:
                return "" if _document(luoser.read(again)) == _document(state) else "another document"
