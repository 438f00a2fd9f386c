# SPDX-License-Identifier: MIT
"""One root of a source that is not searched: what is read, what is said, and where a search is made all the same."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import UsageError
from luoser.extracts.parts import write_part
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.reader import SYMBOLS, locate, memfd_at, reading
from luoser.reader import kernel as reader_kernel
from luoser.reader.kernel import find_kernels
from luoser.reader.walk import Walk
from luoser.state import Direction, MapStatus, State
from luoser.symbols import read_symbols
from tests import real
from tests.conftest import Run
from tests.images import Image, u64
from tests.kernel import real as kernel_real
from tests.kernels import Kernel
from tests.memory.images import note
from tests.reader.helpers import only, problems
from tests.reader.messengers import setup_node

INCOMING, OUTGOING, UNKNOWN = Direction.INCOMING, Direction.OUTGOING, Direction.UNKNOWN


@pytest.fixture(autouse=True)
def every_source_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SMALL", 0)


class Counted(Overlay):
    """Counts the searches, and the bytes that are read."""

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.searches = self.bytes = 0

    def read(self, address: int, size: int) -> bytes:
        self.bytes += size
        return super().read(address, size)

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        self.searches += 1
        return super().find_pages(prefix, at=at)

    def find(self, pattern: bytes) -> Iterator[int]:
        self.searches += 1
        return super().find(pattern)


@dataclass
class Machine:
    """A kernel with a root of each direction, and a dump of it. notes: of the dump besides VMCOREINFO."""

    folder: Path
    kernel: Kernel = field(default_factory=lambda: Kernel(image=Image(first=1 << 20, pages=1024)))
    notes: bytes = b""

    def __post_init__(self) -> None:
        self.incoming, self.outgoing = self.kernel.image.handover(), self.kernel.image.handover()
        self.kernel.hand(incoming=self.incoming, outgoing=self.outgoing)

    def opened(self, *, info: bool = True) -> Counted:
        file = self.folder / "dump"
        file.write_bytes(self.kernel.image.core(notes=(self.kernel.note() if info else b"") + self.notes))
        return Counted(luoser.open(file))

    def read(self, memory: Memory, root: int, *, search: bool = False) -> State:
        file = self.folder / "System.map"
        file.write_text(self.kernel.system_map())
        return luoser.read(memory, root=root, search=search, symbols=read_symbols(file, SYMBOLS))


def test_roots_that_the_running_kernel_names_need_no_search(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    memory = machine.opened()
    for root, direction in ((machine.incoming, INCOMING), (machine.outgoing, OUTGOING)):
        handover = only(machine.read(memory, root))
        assert (handover.address, handover.direction, handover.own) == (root, direction, True)
        assert handover.evidence[0].startswith("certain: ")
        assert "no search was made for other roots and kernels; --search decides" in handover.evidence
    assert memory.searches == 0 and memory.bytes < 1 << 20


def test_root_that_the_running_kernel_does_not_name_is_left_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    root = machine.kernel.image.handover()
    memory = machine.opened()
    handover = only(machine.read(memory, root))
    assert (handover.direction, handover.own, memory.searches) == (UNKNOWN, False, 0)


def test_without_symbols_a_direction_is_left_open(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    memory = machine.opened()
    handover = only(luoser.read(memory, root=machine.outgoing, search=False))
    assert handover.direction is UNKNOWN and memory.searches == 0
    assert handover.evidence[-1].startswith("direction unknown, and so whether the map is still in use: no search was")
    assert handover.preserved.status is MapStatus.INTACT


def test_symbols_without_vmcoreinfo_are_not_used(tmp_path: Path) -> None:
    """Which kernel they are of shows only a search."""
    machine = Machine(tmp_path)
    machine.kernel.info_page()
    memory = machine.opened(info=False)
    state = machine.read(memory, machine.outgoing)
    assert only(state).direction is UNKNOWN and memory.searches == 0
    assert "found only by a search: --search" in problems(state, "symbols")[0].message
    assert only(machine.read(memory, machine.outgoing, search=True)).direction is OUTGOING


@pytest.mark.parametrize(("notes", "is_own"), [(b"", True), (note("QEMU", bytes(8)), False)])
def test_vmcoreinfo_of_a_hypervisor_may_be_of_a_kernel_before(tmp_path: Path, notes: bytes, is_own: bool) -> None:
    assert Machine(tmp_path, notes=notes).opened().is_own_info is is_own


def test_which_kernel_runs_is_known_by_the_user_or_the_dump() -> None:
    """That a cut has the answers of a kernel says only that the search before it found this one."""
    memory = Counted(kernel_real.memory("frozen"))
    (found,) = find_kernels(Walk(memory), None)
    assert found.is_found and found.walk.memory.answers
    assert not found.is_running and replace(found, is_found=False).is_running
    found.walk.memory.is_own_info = True
    assert found.is_running


@pytest.mark.parametrize("is_running", [True, False])
def test_kernel_that_may_not_run_makes_nothing_certain(is_running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_kernel.Kernel, "is_running", is_running)
    memory = Counted(kernel_real.memory("frozen"))
    handover = only(luoser.read(memory, root=0x583000, search=False))
    assert handover.evidence[0] == "certain: kho_out.fdt of kernel 7.3.4 points to it"
    assert (handover.direction, memory.searches) == (OUTGOING if is_running else UNKNOWN, 0)
    assert memory.bytes < 5 << 20


@pytest.mark.parametrize("options", [{}, {"no_contents": True}])
@pytest.mark.parametrize("is_own", [True, False])
def test_a_cut_of_what_was_not_searched_is_not_sound(is_own: bool, options: dict[str, bool], tmp_path: Path) -> None:
    """It is not the lone root of its source, and its kernel may be the one before a kexec."""
    memory = Counted(kernel_real.memory("frozen"))
    memory.is_own_info = is_own

    def read(memory: Memory, **how: bool) -> State:
        return luoser.read(memory, root=0x583000, search=False, **how)

    write_part(str(tmp_path / "cut"), memory, read, memfd=None, blob=None, memfd_at=memfd_at, force=False, **options)
    luoser.extract(tmp_path / "cut", tmp_path / "cut of the cut")
    for name in ("cut", "cut of the cut"):
        state = luoser.load(tmp_path / name)
        (problem,) = problems(state, "not-searched")
        assert "a cut made with --search decides" in problem.message
        assert only(state).direction is (OUTGOING if is_own else UNKNOWN) is only(read(memory)).direction
        assert check(state).verdict is Verdict.INCONCLUSIVE
    luoser.extract(memory, tmp_path / "whole")
    assert not problems(luoser.load(tmp_path / "whole"), "not-searched")


def test_damaged_map_is_judged_after_a_search() -> None:
    """Damage and age are told apart by other roots and kernels."""
    memory = real.overlay("7.3-a/frozen")
    root = only(luoser.read(memory)).preserved.address
    memory.write(root, b"\x01" * 64)
    counted = Counted(memory)
    (whole,) = luoser.read(counted).handovers
    assert whole.preserved.status is not MapStatus.INTACT
    counted.searches = 0
    (one,) = luoser.read(counted, root=whole.address, search=False).handovers
    assert counted.searches and one == whole


def test_no_verdict_is_sound_without_a_search(tmp_path: Path) -> None:
    """The incoming root is overwritten, which only its messenger in scratch shows."""
    machine = Machine(tmp_path)
    image = machine.kernel.image
    array = machine.kernel.scratch((0x200000, 0x600000))
    image.put(0x280000, setup_node(machine.incoming, array, 16))
    sound = machine.read(machine.opened(), machine.outgoing, search=True)
    assert check(sound).verdict is Verdict.SOUND
    image.put(machine.incoming, bytes(4096))
    memory = machine.opened()
    state = machine.read(memory, machine.outgoing)
    assert (check(state).verdict, memory.searches) == (Verdict.INCONCLUSIVE, 0)
    (unjudged,) = check(state).unjudged
    assert unjudged.reason == "no search was made for other roots and kernels; --search decides"
    assert check(machine.read(memory, machine.outgoing, search=True)).verdict is Verdict.FINDINGS


def test_map_of_a_root_of_another_release_is_judged_after_a_search() -> None:
    """With the number of the other root it is stale, though nothing is wrong in it yet."""
    image = Image(first=1 << 20, pages=1024)
    roots = []
    for count, release in ((1, b"7.2.0"), (2, b"7.3.4")):
        image.kept = []
        metadata = image.alloc(struct.pack("<I65sI", 1, release, count))
        roots.append(image.handover({"kexec-metadata": (metadata, 73)}))
    memory = Counted(image.open())
    memory.vmcoreinfo = {"OSRELEASE": "7.3.4"}
    older = only(luoser.read(memory, root=roots[0], search=False))
    assert (older.direction, older.preserved.status) == (INCOMING, MapStatus.STALE) and memory.searches
    memory.searches = 0
    newer = only(luoser.read(memory, root=roots[1], search=False))
    assert (newer.direction, newer.preserved.status, memory.searches) == (UNKNOWN, MapStatus.INTACT, 0)


@pytest.mark.parametrize("is_own", [True, False])
def test_search_doubts_the_same_kernels_as_no_search(is_own: bool) -> None:
    """VMCOREINFO of a hypervisor, and so a cut of its dump, can be that of a kernel before the one that runs."""
    root, array, free = 0x583000, 0x7000000, 0x7100000
    memory = Counted(kernel_real.memory("frozen"))
    memory.write(array, u64(free) + u64(4096))
    memory.write(free, setup_node(root, array, 16))
    memory.is_own_info = is_own
    for search in (True, False):
        handover = only(luoser.read(memory, root=root, search=search))
        assert handover.direction is (OUTGOING if is_own else UNKNOWN), search


@pytest.mark.parametrize("is_own", [True, False])
def test_kernel_that_wrote_the_dump_has_no_successor(is_own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kernel in memory is of an earlier boot, whose roots were at the same places."""
    asked: list[Walk] = []

    def find_successors(walk: Walk, _: object) -> list[object]:
        asked.append(walk)
        return []

    monkeypatch.setattr(locate, "find_successors", find_successors)
    memory = Counted(kernel_real.memory("frozen"))
    memory.is_own_info = is_own
    assert only(luoser.read(memory)).direction is OUTGOING and bool(asked) is not is_own


def test_directions_of_other_roots_need_a_search(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    memory = machine.opened()
    told = {machine.incoming: INCOMING}
    luoser.read(memory, root=machine.outgoing, search=False, directions=told)
    assert memory.searches
    memory.searches = 0
    state = luoser.read(memory, root=machine.outgoing, search=False, directions={machine.outgoing: OUTGOING})
    assert only(state).direction is OUTGOING and memory.searches == 0


def test_option_without_a_root_is_refused(luoser_command: Run) -> None:
    result = luoser_command("inspect", real.path("7.3-a/frozen"), "--search")
    assert result.returncode == 2 and b"--search is for --root" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": "0x5cd000"}, "root: expected an address, found '0x5cd000'"),
        ({"layouts": "pci-v2-u64"}, "layout: expected names, found 'pci-v2-u64'"),
        ({"layouts": ["nope"]}, "unknown layout 'nope'"),
        ({"layouts": ["luo-v1"]}, "layout luo-v1: not needed"),
        ({"directions": {0x5CD000: "up"}}, "directions: expected one of incoming, outgoing, unknown"),
        ({"directions": 5}, "directions: expected one of incoming, outgoing, unknown"),
        ({"symbols": "System.map"}, "symbols: expected those of luoser.symbols, found str"),
        ({"limits": {}}, "limits: expected luoser.limits.Limits, found dict"),
    ],
)
def test_arguments_of_another_type_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        luoser.read(real.dump("7.3-a/frozen"), **options)


def test_a_direction_may_be_given_by_its_name() -> None:
    asked: Any = {0x5CD000: "incoming"}
    assert luoser.read(real.dump("7.3-a/frozen"), directions=asked).handovers[0].direction is Direction.INCOMING
