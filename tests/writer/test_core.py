# SPDX-License-Identifier: MIT
"""Cores of a few pages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import MissingMemory, PageState
from luoser.memory.elf import ElfMemory
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory, Segment
from luoser.state import to_document
from luoser.writer.core import write_core
from tests import real
from tests.images import Image
from tests.memory.images import Load, core

PAGE = 4096


def written(memory: Memory, pages: set[int] | list[int]) -> bytes:
    file = io.BytesIO()
    assert write_core(file, memory, pages) == len(file.getvalue())
    return file.getvalue()


def cut(name: str) -> tuple[bytes, set[int]]:
    memory = Recorder(real.dump(name))
    luoser.read(memory, contents=True)
    return written(memory, memory.pages), memory.pages


def document(memory: Memory) -> dict[str, Any]:
    found = to_document(luoser.read(memory, contents=True), full=True)
    del found["source"]
    return found


@pytest.fixture(scope="module")
def image() -> Memory:
    made = Image(pages=64)
    for number in range(64):
        made.put(number * PAGE, b"PAGE%04d" % number)
    return made.open()


@pytest.mark.parametrize("name", real.DUMPS)
def test_cut_of_a_real_dump_reads_alike(name: str) -> None:
    data, _ = cut(name)
    assert len(data) < 4 << 20
    memory = ElfMemory("cut", data)
    assert memory.remarks == []
    assert document(memory) == document(real.dump(name))


@pytest.mark.parametrize("name", real.DUMPS)
def test_cut_of_a_cut_is_the_same(name: str) -> None:
    data, pages = cut(name)
    assert written(ElfMemory("cut", data), pages) == data


@pytest.mark.parametrize("name", real.DUMPS)
def test_pyelftools_reads_a_cut(name: str) -> None:
    data, pages = cut(name)
    elf: Any = ELFFile(io.BytesIO(data))
    assert (elf["e_type"], elf["e_machine"], elf.little_endian, elf.elfclass) == ("ET_CORE", "EM_X86_64", True, 64)
    found = set()
    for part in elf.iter_segments("PT_LOAD"):
        assert part["p_filesz"] == part["p_memsz"] == len(part.data())
        assert part["p_offset"] % PAGE == part["p_paddr"] % PAGE == 0
        assert part.data() == real.dump(name).read(part["p_paddr"], part["p_memsz"])
        found |= set(range(part["p_paddr"], part["p_paddr"] + part["p_memsz"], PAGE))
    assert found == pages
    notes = {note["n_name"]: note["n_desc"] for part in elf.iter_segments("PT_NOTE") for note in part.iter_notes()}
    assert set(notes) == {"LUOSER-RAM", "VMCOREINFO"}
    lines = notes["VMCOREINFO"] if isinstance(notes["VMCOREINFO"], str) else notes["VMCOREINFO"].decode()
    known = dict(line.split("=", 1) for line in lines.rstrip("\0").splitlines())
    assert known == dict(real.dump(name).vmcoreinfo)


def test_no_other_memory_is_in_a_cut() -> None:
    """Safe to attach to a bug report: not one page more than was asked for."""
    made = Image(pages=32)
    for number in range(32):
        made.put(number * PAGE, b"SECRET%02d" % number)
    data = written(made.open(), {3 * PAGE, 4 * PAGE, 20 * PAGE})
    assert sorted(data[i : i + 8] for i in range(0, len(data), PAGE) if data[i:].startswith(b"SECRET")) == [
        b"SECRET03", b"SECRET04", b"SECRET20",
    ]  # fmt: skip
    assert data.count(b"SECRET") == 3


@given(pages=st.sets(st.integers(0, 63), min_size=1))
def test_any_pages(image: Memory, pages: set[int]) -> None:
    data = written(image, [page * PAGE for page in pages])
    memory = ElfMemory("cut", data)
    for page in range(64):
        if page in pages:
            assert memory.read(page * PAGE, PAGE) == image.read(page * PAGE, PAGE)
        else:
            assert memory.page_state(page * PAGE) is PageState.ABSENT
    assert memory.ram == ((0, 64 * PAGE),)


def test_neighbours_are_one_segment(image: Memory) -> None:
    memory = ElfMemory("cut", written(image, [0x5000, 0x1000, 0x2000, 0x1000, 0x3000]))
    assert [(part.start, part.end) for part in memory.segments] == [(0x1000, 0x4000), (0x5000, 0x6000)]


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_page_that_is_not_there_is_left_out(image: Memory, state: PageState) -> None:
    overlay = Overlay(image)
    overlay.remove(0x2000, state=state)
    memory = ElfMemory("cut", written(overlay, [0x1000, 0x2000, 0x3000]))
    assert memory.page_state(0x2000) is PageState.ABSENT
    assert memory.read(0x3000, PAGE) == image.read(0x3000, PAGE)


def test_cut_over_a_missing_page_reads_alike() -> None:
    """A page of a device list, of a folio array and of a devicetree is gone: the same is said of the cut."""
    name = "7.3-a/frozen"
    handover = luoser.read(real.dump(name)).handovers[0]
    assert handover.luo is not None
    gone = [handover.luo.sessions[0].blocks[0], handover.pci[0].address]
    for page in gone:
        overlay = real.overlay(name)
        overlay.remove(page // PAGE * PAGE)
        memory = Recorder(overlay)
        wanted = document(memory)
        assert document(ElfMemory("cut", written(overlay, memory.pages))) == wanted


@pytest.mark.xfail(strict=True, reason="the cut does not say that a page was excluded, only that it is absent")
def test_cut_over_an_excluded_page_reads_alike() -> None:
    name = "7.3-a/frozen"
    overlay = real.overlay(name)
    overlay.remove(luoser.read(real.dump(name)).handovers[0].pci[0].address // PAGE * PAGE, state=PageState.EXCLUDED)
    memory = Recorder(overlay)
    wanted = document(memory)
    assert any("excluded" in problem["message"] for problem in wanted["problems"])
    assert document(ElfMemory("cut", written(overlay, memory.pages))) == wanted


def test_cut_of_a_dump_that_ends_inside_of_a_page() -> None:
    page = b"PAGE" + bytes(PAGE - 4)
    memory = Recorder(ElfMemory("x", core(Load(0x1000, page), Load(0x5000, page))[:-1000]))
    memory.read(0x1000, 16)
    memory.read(0x5000, 16)
    found = ElfMemory("cut", written(memory, memory.pages))
    assert found.read(0x1000, 16) == memory.read(0x1000, 16)


class Endless(Memory):
    """A machine with every page."""

    format = "endless"

    def read(self, address: int, size: int) -> bytes:
        return bytes(size)

    def page_state(self, address: int) -> PageState:
        return PageState.PRESENT

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        return iter(())

    def find(self, pattern: bytes) -> Iterator[int]:
        return iter(())

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (Segment(0, 1 << 52, 0, 1 << 52),)


@pytest.mark.xfail(strict=True, reason="struct.error: more than 65534 program headers need PN_XNUM")
def test_more_segments_than_a_header_can_count() -> None:
    pages = [number * 2 * PAGE for number in range(70_000)]
    memory = ElfMemory("cut", written(Endless("x"), pages))
    assert len(memory.segments) == 70_000


def test_addresses_up_to_the_end_of_memory() -> None:
    memory = ElfMemory("cut", written(Endless("x"), [(1 << 52) - PAGE]))
    assert memory.read((1 << 52) - PAGE, PAGE) == bytes(PAGE)
    with pytest.raises(MissingMemory):
        memory.read(0, 1)


def test_ram_is_handed_on(image: Memory) -> None:
    once = ElfMemory("cut", written(image, [0x1000]))
    twice = ElfMemory("cut", written(once, [0x1000]))
    assert once.ram == twice.ram == ((0, 64 * PAGE),)


def test_control_characters_of_vmcoreinfo_stay_as_shown(tmp_path: Path) -> None:
    from tests.memory.images import note

    first = ElfMemory("x", core(Load(0x1000, bytes(PAGE)), notes=note("VMCOREINFO", b"A=\x1b[31m\nB=caf\xc3\xa9\n")))
    second = ElfMemory("cut", written(first, [0x1000]))
    third = ElfMemory("cut", written(second, [0x1000]))
    assert second.vmcoreinfo["B"] == "caf\u00e9"
    assert "\x1b" not in second.vmcoreinfo["A"]
    assert len(third.vmcoreinfo) == 2
