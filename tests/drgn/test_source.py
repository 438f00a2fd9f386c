# SPDX-License-Identifier: MIT
"""The memory of a drgn program: what it says is what luoser reads of the same file."""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.drgn.source import NAME, DrgnMemory, memory, name_of
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.memory.raw import Range
from luoser.memory.source import Memory
from tests import real
from tests.drgn.programs import RAM, Resources, core, custom, drgn, unpacked
from tests.kernel import real as kernel

PAGE = 4096


def ranges(source: Memory) -> list[Range]:
    return [Range(one.start, one.size, 0) for one in source.segments]


# -- the same state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", real.DUMPS)
def test_the_state_of_a_core_file_is_that_of_inspect(name: str, tmp_path: Path) -> None:
    path = unpacked(real.path(name), tmp_path)
    with memory(core(path)) as source:
        found = luoser.read(source, contents=True)
    assert found.handovers
    assert found == luoser.load(path, contents=True)


@pytest.mark.parametrize("name", ["7.3-a/frozen", "6.18-a/frozen", "6.19-a/post", "7.3-chain/frozen2"])
def test_the_state_through_drgn_is_that_of_the_file(name: str) -> None:
    one = real.dump(name)
    with memory(custom(one), ranges=ranges(one)) as source:
        assert source.format == "drgn"
        found = luoser.read(source)

    def of_memory(state: luoser.state.State) -> list[Any]:
        return [(h.address, h.preserved, h.subtrees, h.luo, h.pci, h.memblock, h.kho_test) for h in state.handovers]

    assert of_memory(found) == of_memory(luoser.read(one, kallsyms=False))


def test_a_search_finds_what_that_of_the_file_finds() -> None:
    one = real.dump("7.3-a/frozen")
    with memory(custom(one), ranges=ranges(one)) as source:
        assert [*source.find_pages(b"\xd0\x0d\xfe\xed")] == [*one.find_pages(b"\xd0\x0d\xfe\xed")]
        assert [*source.find(b"kho-v4")] == [*one.find(b"kho-v4")]


# -- where RAM is -----------------------------------------------------------------------------------------


def test_ram_is_where_the_kernel_says_without_debug_info() -> None:
    planted = Resources()
    planted.at(1, 0x1000, 0x9FBFF, RAM, sibling=2)
    planted.at(2, 0xF0000, 0xFFFFF, sibling=3)
    planted.at(3, 0x100000, 0x3FFFFFFF, RAM, child=5, sibling=4)
    planted.at(4, 1 << 32, (1 << 33) - 1, child=6)
    planted.at(5, 0x100000, 0x1FFFFF, RAM)
    planted.at(6, 1 << 32, (1 << 32) + 0xFFFFFFF, RAM)  # of a device, such as memory of CXL
    with memory(custom(planted.memory)) as source:
        assert [(one.start, one.end) for one in source.segments] == [
            (0x1000, 0x9FC00), (0x100000, 1 << 30), (1 << 32, (1 << 32) + (1 << 28))
        ]  # fmt: skip


def test_without_debug_info_the_state_is_that_of_the_file() -> None:
    with memory(custom(Resources().cover())) as source:
        assert isinstance(source, DrgnMemory)
        found = luoser.read(source)
    assert found.handovers == kernel.read("pre").handovers
    assert found.handovers[0].pending


def test_a_loop_of_resources_ends() -> None:
    planted = Resources()
    planted.at(1, 0x1000, 0x1FFF, RAM, sibling=1)
    with limited(Limits(note_ranges=1000)), pytest.raises(SourceError, match=r"more than 1000 resources.*note_ranges"):
        memory(custom(planted.memory))


@pytest.mark.parametrize("flags", [RAM, 0x200])
def test_resources_that_overlap_or_are_no_ram_are_refused(flags: int) -> None:
    planted = Resources()
    planted.at(1, 0x1000, 0x2FFF, flags, sibling=2)
    planted.at(2, 0x2000, 0x3FFF, flags)
    with pytest.raises(SourceError, match=r"no System RAM, or it overlaps; say it with --map START:LENGTH@0"):
        memory(custom(planted.memory))


def test_without_symbols_ram_has_to_be_said() -> None:
    with pytest.raises(SourceError, match=r"where RAM is: expected debug info, or kallsyms and BTF.*--map"):
        memory(custom(real.dump("7.3-a/frozen")))


def test_nothing_outside_of_ram_is_asked_for() -> None:
    asked = list[int]()
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.set_linux_kernel_custom(real.dump("7.3-a/frozen").info_note, False)

    def read(address: int, count: int, _: int, __: bool) -> bytes:
        asked.append(address)
        return bytes(count)

    prog.add_memory_segment(0, 1 << 40, read, True)
    with memory(prog, ranges=[Range(0x1000, 0x1000, 0)]) as source:
        for address, size in ((0, 8), (0x2000, 8), (0x1FFC, 8), (0x800, 0x1000)):
            with pytest.raises(MissingMemory, match="absent"):
                source.read(address, size)
        assert source.page_state(0x5000) is PageState.ABSENT and asked == []
        assert source.read(0x1FFC, 4) == bytes(4) and asked == [0x1FFC]


# -- pages that cannot be read ----------------------------------------------------------------------------


def holed(*holes: tuple[int, int, str], size: int = 64 << 10) -> DrgnMemory:
    """Memory of which each page has its number in each word, with holes."""
    data = b"".join(struct.pack("<Q", 1 + page) * 512 for page in range(size // PAGE))
    below = Overlay(real.dump("7.3-a/frozen"))
    below.write(0x100000, data)
    return DrgnMemory(custom(below, holes), ranges=[(0x100000, 0x100000 + size)])


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("memory not saved in core dump", PageState.EXCLUDED),
        ("could not read memory from kdump: Excluded page", PageState.EXCLUDED),
        ("could not find physical memory segment", PageState.ABSENT),
    ],
)
def test_a_page_that_faults_is_missing(words: str, state: PageState) -> None:
    source = holed((0x103000, 0x104000, words))
    with pytest.raises(MissingMemory) as raised:
        source.read(0x101008, 0x4000)
    assert (raised.value.page, raised.value.state) == (0x103000, state)
    assert (source.page_state(0x103FFF), source.page_state(0x104000)) == (state, PageState.PRESENT)
    assert source.read(0x104000, 8) == struct.pack("<Q", 5)


def test_a_search_goes_on_after_a_page_that_faults() -> None:
    source = holed((0x103000, 0x104000, "gone"), (0x108000, 0x10A000, "gone"))
    found = [page for number in range(1, 17) for page in source.find_pages(struct.pack("<Q", number))]
    assert found == [0x100000 + PAGE * page for page in range(16) if page not in (3, 8, 9)]


def test_a_search_keeps_pages_next_to_one_that_faults_where_ram_begins_amid_a_page() -> None:
    below = Overlay(real.dump("7.3-a/frozen"))
    below.write(0x100000, b"".join(struct.pack("<Q", 1 + page) * 512 for page in range(8)))
    source = DrgnMemory(custom(below, [(0x103000, 0x104000, "gone")]), ranges=[(0x100800, 0x108000)])
    assert [*source.find_pages(struct.pack("<Q", 3))] == [0x102000]
    assert [*source.find_pages(struct.pack("<Q", 5))] == [0x104000]


def test_an_error_of_the_user_s_own_memory_is_one_line() -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.set_linux_kernel_custom(real.dump("7.3-a/frozen").info_note, False)

    def read(*_: object) -> bytes:
        raise OSError(5, "the line is down")

    prog.add_memory_segment(0, 1 << 20, read, True)
    source = DrgnMemory(prog, ranges=[(0, 1 << 20)])
    with pytest.raises(SourceError, match=r"drgn cannot read at 0x1000: .*the line is down"):
        source.read(0x1000, 8)
    with pytest.raises(SourceError, match="the line is down"):
        luoser.read(source)


# -- programs ---------------------------------------------------------------------------------------------


def test_a_live_program_is_a_live_source() -> None:
    one = real.dump("7.3-a/frozen")
    source = memory(custom(one, live=True), ranges=ranges(one))
    assert source.live and any("running machine" in remark for remark in source.remarks)
    assert not memory(custom(one), ranges=ranges(one)).live


def test_a_program_of_user_space_is_refused() -> None:
    prog = drgn.Program()
    prog.set_pid(os.getpid())
    with pytest.raises(SourceError, match="expected the memory of a Linux kernel"):
        memory(prog)


@pytest.mark.parametrize("make", [drgn.Program, lambda: drgn.Program(drgn.Platform(drgn.Architecture.X86_64))])
def test_a_program_of_nothing_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(SourceError, match="expected the memory of a Linux kernel"):
        memory(make())


def test_another_vmcoreinfo_is_used_and_named(tmp_path: Path) -> None:
    path = unpacked(real.path("7.3-a/frozen"), tmp_path)
    own = real.dump("7.3-a/frozen").info_note
    prog = drgn.Program(vmcoreinfo=own.replace(b"OSRELEASE=7.3.4", b"OSRELEASE=7.3.5"))
    prog.set_core_dump(path)
    with memory(prog) as source:
        assert source.vmcoreinfo["OSRELEASE"] == "7.3.5"
        assert "VMCOREINFO is that of drgn, which differs from that in the file" in source.remarks
    with memory(core(path)) as source:
        assert not source.remarks


def test_a_core_that_is_gone_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = unpacked(real.path("7.3-a/pre"), tmp_path)
    prog = core(path)
    path.unlink()
    with pytest.raises(SourceError, match=r"pre\.elf: No such file"):
        memory(prog)


def test_the_name_of_a_core_is_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unpacked(real.path("7.3-a/pre"), tmp_path)
    monkeypatch.chdir(tmp_path)
    prog = core(Path(path.name))
    monkeypatch.chdir("/")
    assert name_of(prog) == str(path)
    assert name_of(custom(real.dump("7.3-a/pre"))) == NAME


def test_a_source_does_not_keep_its_program() -> None:
    class Kept:
        def __call__(self, address: int, count: int, *_: object) -> bytes:
            return bytes(count)

    kept = Kept()
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    prog.set_linux_kernel_custom(real.dump("7.3-a/frozen").info_note, False)
    prog.add_memory_segment(0, 1 << 20, kept, True)
    source, there = DrgnMemory(prog, ranges=[(0, 1 << 20)]), weakref.ref(kept)
    del kept, prog
    assert source.read(0, 8) == bytes(8) and there() is not None
    del source
    assert there() is None
