# SPDX-License-Identifier: MIT
"""One root of a source that is not searched: what is read, what is said, and where a search is made all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import luoser
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.reader import SYMBOLS, reading
from luoser.reader import kernel as reader_kernel
from luoser.reader.kernel import find_kernels
from luoser.reader.walk import Walk
from luoser.state import Direction, MapStatus, State
from luoser.symbols import read_symbols
from tests import real
from tests.conftest import Run
from tests.images import Image
from tests.kernel import real as kernel_real
from tests.kernels import Kernel
from tests.memory.images import note
from tests.reader.helpers import only, problems

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
        assert "no search was made for other roots; --search makes it" in handover.evidence
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
    assert handover.evidence[-1].startswith("direction unknown: no search was made for other roots and kernels")
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


def test_which_kernel_runs_is_known_by_the_user_the_dump_or_a_cut() -> None:
    memory = Counted(kernel_real.memory("frozen"))
    (found,) = find_kernels(Walk(memory), None)
    assert found.is_found and found.is_running  # a cut with the answers of this kernel
    found.walk.memory.answers = b""
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
