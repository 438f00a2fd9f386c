# SPDX-License-Identifier: MIT
"""Runs cases in forked workers, which end when a command takes too long or too much, and keeps what is wrong.

A worker runs many commands. Before each it notes the number of the case and of the command in memory that it shares
with its parent, which so knows what a worker ended at.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import re
import resource
import select
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tests.fuzz.bases import BASES, base
from tests.fuzz.cases import Case, case_of, to_text
from tests.fuzz.judge import Fault, Folder, faults
from tests.real import ROOT

__all__ = ["LARGEST", "LONGEST", "Log", "attempt", "fuzz", "keep", "shrunk"]

LONGEST = 5
"""Seconds of processor time that a command may take."""
LARGEST = 1 << 30
"""Bytes of address space that a worker may take, above what it begins with."""
_SILENT = 600
"""Seconds after which a worker that says nothing and sleeps waits for something, and is ended."""
_PER_WORKER = 500
"""Cases after which a new worker goes on, so that nothing adds up."""
_KEPT = 5
"""Slowest and largest runs that are named."""
_ATTEMPTS = 80
"""Tries to make a case smaller."""


@dataclass(slots=True)
class Log:
    """What a run of the fuzzer did.

    codes:   how often each exit code was.
    slowest: (seconds of processor time, number of the case, words).
    largest: (bytes that memory grew by, number of the case, words).
    found:   first case and detail of each kind of fault, and how often it was.
    """

    seed: int
    cases: int = 0
    runs: int = 0
    seconds: float = 0.0
    commands: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, int, str]] = field(default_factory=list)
    largest: list[tuple[int, int, str]] = field(default_factory=list)
    found: dict[str, tuple[Case, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def ran(self, number: int, words: Sequence[str], seconds: float, grown: int) -> None:
        """Count a run."""
        self.runs, self.seconds = self.runs + 1, self.seconds + seconds
        text = " ".join(words)
        self.commands[words[0]] += 1
        self.slowest = sorted([*self.slowest, (seconds, number, text)], reverse=True)[:_KEPT]
        self.largest = sorted([*self.largest, (grown, number, text)], reverse=True)[:_KEPT]

    def fault(self, number: int, index: int, kind: str, detail: str, only: Sequence[str]) -> None:
        """Keep a fault."""
        self.counts[kind] += 1
        if kind not in self.found:
            case = case_of(self.seed, number, only)
            self.found[kind] = case.without(runs=(case.runs[index],)), detail


# -- in a worker ------------------------------------------------------------------------------------------


def _limit() -> None:
    """End this process when its next command takes longer; refuse it more memory."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + LARGEST, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _timed(work: Iterable[Fault]) -> tuple[list[Fault], float, int]:
    """(what is wrong, seconds of processor time, bytes that memory grew by) of a command."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, begun = _peak(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    found = list(work)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return found, time.process_time() - begun, max(0, _peak() - before)


def _peak() -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) << 10 if found else 0


def _work(pipe: int, place: mmap.mmap, folder: Folder, cases: Iterable[tuple[int, Case]]) -> None:
    _limit()
    for number, case in cases:
        rows: list[Any] = []
        words = folder.fill(case)
        for index, run in enumerate(case.runs):
            place[:16] = struct.pack("<QQ", number, index)
            found, seconds, grown = _timed(faults(case, folder, run, words))
            rows.append([index, run, seconds, grown, [[one.kind, one.detail] for one in found]])
        _send(pipe, [number, case.container or "none", rows, folder.codes])
        folder.codes.clear()


def _send(pipe: int, value: Any) -> None:
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def _forked(pipe: int, place: mmap.mmap, folder: Folder, cases: Iterable[tuple[int, Case]]) -> NoReturn:
    code = 1
    try:
        _work(pipe, place, folder, cases)
        code = 0
    finally:
        os._exit(code)


# -- in the parent ----------------------------------------------------------------------------------------


class _Worker:
    """A process that runs cases. place: what it is at."""

    def __init__(self, cases: Iterable[tuple[int, Case]]) -> None:
        self.place, self.folder = mmap.mmap(-1, mmap.PAGESIZE), Folder()
        self.pipe, other = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.pipe)
            _forked(other, self.place, self.folder, cases)
        os.close(other)
        self._rest = b""
        self.heard = time.monotonic()

    def lines(self) -> Iterator[Any]:
        """What it said. Raises EOFError at its end."""
        data = os.read(self.pipe, 1 << 20)
        if not data:
            raise EOFError
        self.heard = time.monotonic()
        *whole, self._rest = (self._rest + data).split(b"\n")
        yield from map(json.loads, whole)

    def ended(self) -> tuple[int, int, str]:
        """(number of the case, of the command, what ended it; empty: itself) after its end."""
        os.close(self.pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.folder.close()
        number, index = struct.unpack("<QQ", self.place[:16])
        if status == -signal.SIGPROF:
            return number, index, f"no end after {LONGEST} s of processor time"
        return number, index, f"the worker ended with {status}" if status else ""

    def sleeps(self) -> bool:
        """Whether it waits. On a busy machine it may be ready to run for long."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    def end(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)


def fuzz(
    seed: int,
    *,
    runs: int | None = None,
    seconds: float | None = None,
    jobs: int = 1,
    only: Sequence[str] = (),
    tell: Callable[[Log], None] = lambda log: None,
) -> Log:
    """Run cases until there were so many runs, or so many seconds passed.

    only: bases to choose from. Empty: all. tell: called now and then with what was done so far.
    """
    for label in only or BASES:
        base(label)
    gc.collect()
    gc.freeze()
    log, until = Log(seed), time.monotonic() + (seconds if seconds is not None else 1e12)

    def is_over() -> bool:
        return time.monotonic() > until or (runs is not None and log.runs >= runs)

    slots = [_Slot(seed, first, jobs, only) for first in range(jobs)]
    try:
        while not is_over():
            _listen(slots, log, only)
            tell(log)
    finally:
        for slot in slots:
            slot.worker.end()
            slot.worker.ended()
    return log


class _Slot:
    """Every so many-th case, in one worker after the other."""

    def __init__(self, seed: int, first: int, step: int, only: Sequence[str]) -> None:
        self.seed, self.next, self.step, self.only = seed, first, step, only
        self.start()

    def start(self) -> None:
        """A new worker for the next cases."""
        numbers = range(self.next, self.next + self.step * _PER_WORKER, self.step)
        self.worker = _Worker((number, case_of(self.seed, number, self.only)) for number in numbers)


def _listen(slots: list[_Slot], log: Log, only: Sequence[str]) -> None:
    ready = select.select([slot.worker.pipe for slot in slots], [], [], 5)[0]
    for slot in slots:
        if slot.worker.pipe in ready:
            try:
                for number, container, rows, codes in slot.worker.lines():
                    slot.next = number + slot.step
                    log.codes.update(codes)
                    _count(log, number, container, rows, only)
            except EOFError:
                _after(slot, log, only)
        elif time.monotonic() - slot.worker.heard > _SILENT and slot.worker.sleeps():
            slot.worker.end()


def _count(log: Log, number: int, container: str, rows: list[Any], only: Sequence[str]) -> None:
    log.cases += 1
    log.containers[container] += 1
    for index, words, seconds, grown, found in rows:
        log.ran(number, words, seconds, grown)
        for kind, detail in found:
            log.fault(number, index, kind, detail, only)


def _after(slot: _Slot, log: Log, only: Sequence[str]) -> None:
    number, index, word = slot.worker.ended()
    if word:
        log.fault(number, index, word, f"case {number} of seed {log.seed}", only)
        slot.next = number + slot.step
    slot.start()


# -- one case ---------------------------------------------------------------------------------------------


def attempt(case: Case) -> list[Fault]:
    """What is wrong with the runs of a case, each in a process of its own."""
    found: list[Fault] = []
    for run in case.runs:
        worker, said = _Worker([(0, case.without(runs=(run,)))]), list[Any]()
        try:
            while True:
                if select.select([worker.pipe], [], [], _SILENT)[0]:
                    said += worker.lines()
                elif worker.sleeps():
                    worker.end()
        except EOFError:
            word = worker.ended()[2]
        found += [Fault(word, " ".join(run))] if word else []
        found += [Fault(*one) for _, _, rows, _ in said for row in rows for one in row[4]]
    return found


def shrunk(case: Case, kind: str) -> Case:
    """The case with only the steps that its fault needs."""
    tries = 0

    def still(other: Case) -> bool:
        nonlocal tries
        tries += 1
        return any(fault.kind == kind for fault in attempt(other))

    for name in ("steps", "outer"):
        place = 0
        while tries < _ATTEMPTS and place < len(getattr(case, name)):
            rest = [step for at, step in enumerate(getattr(case, name)) if at != place]
            if still(other := case.without(**{name: rest})):
                case = other
            else:
                place += 1
    for plain in ("elf", "lime"):
        if case.container not in ("", plain) and not case.outer and still(other := case.without(container=plain)):
            return other
    return case


def keep(folder: Path, kind: str, case: Case, detail: str) -> Path:
    """Write a case with what is wrong with it, and no path of this machine. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")[:80]
    place = folder / f"{name}.json"
    place.write_text(to_text(case, fault=kind, detail=detail.replace(f"{ROOT}/", "")[-1500:]))
    return place
