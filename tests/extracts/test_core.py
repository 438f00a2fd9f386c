# SPDX-License-Identifier: MIT
"""Cores of a few pages."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import MissingMemory, PageState, UsageError
from luoser.extracts.core import write_core
from luoser.limits import Limits, limited
from luoser.memory.elf import ElfMemory
from luoser.memory.kdump import KdumpMemory
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory, Segment
from luoser.reader import page_size as page_size_room
from luoser.state import Direction, Handover, Problem
from tests import real
from tests.images import Image
from tests.memory import writers
from tests.memory.images import Load, Nothing, core, note

PAGE = 4096


def written(memory: Memory, pages: Iterable[int]) -> bytes:
    file = io.BytesIO()
    assert write_core(file, memory, pages) == len(file.getvalue())
    return file.getvalue()


def cut(name: str) -> tuple[bytes, set[int]]:
    memory = Recorder(real.dump(name))
    luoser.read(memory, contents=True)
    return written(memory, memory.asked), memory.pages


def reading(memory: Memory) -> tuple[tuple[Handover, ...], tuple[Problem, ...]]:
    """All that is read of a source, but for what it is called."""
    state = luoser.read(memory, contents=True)
    return state.handovers, state.problems


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
    assert reading(memory) == reading(real.dump(name))


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


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED, PageState.DAMAGED])
def test_page_that_is_not_there_has_the_same_state_in_the_cut(image: Memory, state: PageState) -> None:
    overlay = Overlay(image)
    overlay.remove(0x2000, 2 * PAGE, state=state)
    memory = ElfMemory("cut", written(overlay, [0x1000, 0x2000, 0x3000, 0x4000]))
    assert [memory.page_state(page) for page in (0x1FFF, 0x2000, 0x3FFF, 0x4000, 0x5000)] == [
        PageState.PRESENT, state, state, PageState.PRESENT, PageState.ABSENT,
    ]  # fmt: skip
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x1FF0, 0x20)
    assert (caught.value.address, caught.value.state) == (0x2000, state)
    assert memory.read(0x4000, PAGE) == image.read(0x4000, PAGE)
    assert memory.ram == ((0, 64 * PAGE),)
    assert memory.remarks == []


@given(st.lists(st.sampled_from([*PageState]), min_size=1, max_size=24), st.booleans())
def test_any_states_against_the_source(states: list[PageState], all_asked: bool) -> None:
    loads = [
        Load(number * PAGE, b"%04d" % number * 1024 if state is PageState.PRESENT else b"", memsz=PAGE)
        for number, state in enumerate(states)
        if state in (PageState.PRESENT, PageState.ZERO)
    ]
    source = Overlay(ElfMemory("x", core(Load(1 << 40, b"x"), *loads)))
    for number, state in enumerate(states):
        if state in (PageState.EXCLUDED, PageState.DAMAGED):
            source.remove(number * PAGE, state=state)
    asked = [number for number in range(len(states)) if all_asked or number % 2]
    data = written(source, [number * PAGE for number in asked] + [1 << 40])
    once = ElfMemory("cut", data)
    for number, state in enumerate(states):
        assert once.page_state(number * PAGE) is (state if number in asked else PageState.ABSENT)
        if state in (PageState.PRESENT, PageState.ZERO) and number in asked:
            assert once.read(number * PAGE, PAGE) == source.read(number * PAGE, PAGE)
    assert written(once, [number * PAGE for number in asked] + [1 << 40]) == data


def test_zero_pages_take_no_room() -> None:
    source = ElfMemory("x", core(Load(0x1000, b"x" * PAGE, memsz=1 << 30)))
    data = written(source, range(0x1000, 1 << 24, PAGE))
    assert len(data) < 4 * PAGE
    memory = ElfMemory("cut", data)
    assert memory.read(0x1000, 2 * PAGE) == b"x" * PAGE + bytes(PAGE)
    assert memory.page_state(0x2000) is source.page_state(0x2000) is PageState.ZERO


@pytest.mark.parametrize("gap", [(0xC00, 0x1000), (0, 0x400), (0x400, 0xC00)])
def test_part_of_a_page_is_kept(gap: tuple[int, int]) -> None:
    page = bytes(range(256)) * 16
    parts = [Load(0x3000 + first, page[first:last]) for first, last in ((0, gap[0]), (gap[1], PAGE)) if first < last]
    source = ElfMemory("x", core(Load(0x1000, page), *parts))
    data = written(source, [0x1000, 0x3000])
    memory = ElfMemory("cut", data)
    for address in range(0x3000, 0x4000, 0x100):
        assert memory.page_state(address) is source.page_state(address)
        if source.page_state(address) is PageState.PRESENT:
            assert memory.read(address, 0x100) == source.read(address, 0x100)
    elf: Any = ELFFile(io.BytesIO(data))
    for part in elf.iter_segments("PT_LOAD"):
        assert (part["p_offset"] - part["p_paddr"]) % PAGE == 0


def test_page_of_zeros_and_of_a_segment_behind_them_keeps_its_bytes() -> None:
    source = ElfMemory("x", core(Load(0x1000, b"", memsz=0x800), Load(0x1800, b"y" * 0x800)))
    assert ElfMemory("cut", written(source, [0x1000])).read(0x1000, PAGE) == bytes(0x800) + b"y" * 0x800


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
        wanted = reading(memory)
        assert reading(ElfMemory("cut", written(overlay, memory.asked))) == wanted


def test_cut_over_an_excluded_page_reads_alike() -> None:
    name = "7.3-a/frozen"
    overlay = real.overlay(name)
    overlay.remove(luoser.read(real.dump(name)).handovers[0].pci[0].address // PAGE * PAGE, state=PageState.EXCLUDED)
    memory = Recorder(overlay)
    wanted = reading(memory)
    assert any("excluded" in problem.message for problem in wanted[1])
    assert reading(ElfMemory("cut", written(overlay, memory.asked))) == wanted


@cache
def pages_read(name: str) -> tuple[int, ...]:
    memory = Recorder(real.dump(name))
    luoser.read(memory, contents=True)
    return tuple(sorted(memory.pages))


@cache
def frames(name: str) -> dict[int, bytes]:
    memory = real.dump(name)
    return {
        address // PAGE: memory.read(address, PAGE)
        for part in memory.segments
        for address in range(part.start, part.end, PAGE)
    }


@pytest.mark.parametrize("kind", ["overlay", "kdump"])
@pytest.mark.parametrize("name", real.DUMPS)
def test_cut_over_any_missing_pages_reads_alike(name: str, kind: str) -> None:
    """Each page of metadata in turn, and a third of them at once, filtered out or not in the dump at all."""
    pages = pages_read(name)
    rng = random.Random(f"{name} {kind}")
    choices = [[page] for page in rng.sample(pages, min(len(pages), 3))] + [rng.sample(pages, len(pages) // 3)]
    for gone in choices:
        state = rng.choice([PageState.EXCLUDED, PageState.ABSENT])
        if kind == "overlay":
            source: Memory = real.overlay(name)
            for page in gone:
                source.remove(page, state=state)  # type: ignore[attr-defined]
        else:
            kept = {frame: data for frame, data in frames(name).items() if frame * PAGE not in gone}
            source = kdump_memory(kept, frames(name) if state is PageState.EXCLUDED else kept, name)
        memory = Recorder(source)
        wanted = reading(memory)
        cut = ElfMemory("cut", written(source, memory.asked))
        assert reading(cut) == wanted, (gone, state)
        again = Recorder(cut)
        luoser.read(again, contents=True)
        assert again.missing == memory.missing


def kdump_memory(pages: dict[int, bytes], ram: dict[int, bytes], name: str) -> Memory:
    info = "".join(f"{key}={value}\n" for key, value in real.dump(name).vmcoreinfo.items()).encode()
    return KdumpMemory("x", [("x", writers.kdump(pages, pack="plain", ram=ram, vmcoreinfo=info))])


def test_page_size_that_only_the_format_says_is_handed_on() -> None:
    source = KdumpMemory("x", [("x", writers.kdump({2: b"x" * 65536}, pack="plain", block=65536))])
    assert (source.page_size, source.vmcoreinfo) == (65536, {})
    assert ElfMemory("cut", written(source, [0x20000])).page_size == 65536


@pytest.mark.parametrize("machine", [62, 183, 243])
def test_machine_is_handed_on(machine: int) -> None:
    data = bytearray(core(Load(0x1000, b"x" * PAGE)))
    data[18:20] = machine.to_bytes(2, "little")
    once = Recorder(Overlay(ElfMemory("x", bytes(data))))
    assert ElfMemory("cut", written(once, [0x1000])).machine == once.machine == machine


def test_machine_that_the_source_does_not_say_is_not_made_up(image: Memory) -> None:
    data = written(image, [0x1000])
    elf: Any = ELFFile(io.BytesIO(data))
    assert image.machine is ElfMemory("cut", data).machine is None
    assert elf["e_machine"] == "EM_NONE"


def test_cut_of_a_dump_that_ends_inside_of_a_page() -> None:
    page = b"PAGE" + bytes(PAGE - 4)
    memory = Recorder(ElfMemory("x", core(Load(0x1000, page), Load(0x5000, page))[:-1000]))
    memory.read(0x1000, 16)
    memory.read(0x5000, 16)
    found = ElfMemory("cut", written(memory, memory.pages))
    assert found.read(0x1000, 16) == memory.read(0x1000, 16)


class Endless(Nothing):
    """A machine with every page."""

    format = "endless"

    def read(self, address: int, size: int) -> bytes:
        return bytes(size)

    def page_state(self, address: int) -> PageState:
        return PageState.PRESENT

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (Segment(0, 1 << 52, 0, 1 << 52),)


class Zeros(Endless):
    """The same, its pages known to be zero."""

    def page_state(self, address: int) -> PageState:
        return PageState.ZERO


@pytest.mark.parametrize("count", [65_533, 65_534, 65_535, 70_000])
def test_more_segments_than_a_header_can_count(count: int) -> None:
    """PN_XNUM from 65535 headers on; one of them is for the notes."""
    pages = [number * 2 * PAGE for number in range(count)]
    data = written(Zeros("x"), pages)
    memory = ElfMemory("cut", data)
    assert [(part.start, part.size) for part in memory.segments] == [(page, PAGE) for page in pages]
    assert (memory.remarks, memory.ram) == ([], ((0, 1 << 52),))
    elf: Any = ELFFile(io.BytesIO(data))
    assert elf.num_segments() == count + 1
    assert (elf["e_phnum"] == 0xFFFF) == (elf.num_sections() == 1) == (count + 1 >= 0xFFFF)
    assert elf.get_segment(count)["p_paddr"] == pages[-1]


def test_readelf_has_no_complaint_about_many_headers(tmp_path: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    (tmp_path / "cut").write_bytes(written(Zeros("x"), [number * 2 * PAGE for number in range(65_534)]))
    done = subprocess.run(["readelf", "-hlnW", tmp_path / "cut"], capture_output=True, text=True, check=True)
    assert "65535 (65535)" in done.stdout and done.stdout.count(" LOAD ") == 65_534
    assert done.stderr == ""


def test_more_runs_than_are_read_back_are_refused() -> None:
    text = "too many runs of pages for an ELF core: expected at most 9, found 10; --limit elf_headers=N"
    with limited(Limits(elf_headers=10)):
        assert written(Zeros("x"), [number * 2 * PAGE for number in range(9)])
        with pytest.raises(UsageError, match=text):
            written(Zeros("x"), [number * 2 * PAGE for number in range(10)])


def test_more_notes_than_are_read_back_are_refused() -> None:
    with limited(Limits(note_size=10)), pytest.raises(UsageError, match=r"at most 10 bytes.*--limit note_size=N"):
        written(Zeros("x"), [0])


def test_addresses_up_to_the_end_of_memory() -> None:
    memory = ElfMemory("cut", written(Endless("x"), [(1 << 52) - PAGE]))
    assert memory.read((1 << 52) - PAGE, PAGE) == bytes(PAGE)
    with pytest.raises(MissingMemory):
        memory.read(0, 1)


def test_memory_beyond_what_elf_can_name() -> None:
    """A segment may end at 2^64 or, in a damaged file, behind it."""
    top = (1 << 64) - PAGE
    source = ElfMemory("x", core(Load(top, b"x" * PAGE, memsz=1 << 63), Load(0x1000, b"y" * PAGE)))
    memory = ElfMemory("cut", written(source, [0x1000, top, 1 << 64, 1 << 70]))
    assert memory.read(top, PAGE) == b"x" * PAGE
    assert memory.ram == ((0x1000, 0x2000), (top, (1 << 64) - 1))


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


@pytest.mark.parametrize("page_size", [None, 4096])
def test_pages_that_only_a_trial_reads_are_not_in_a_cut(page_size: int | None) -> None:
    """Other page sizes are tried on a lone root whose map was consumed; what they read is none of its memory."""
    memory, state = real.overlay("7.3-a/post"), real.read("7.3-a/post")
    for handover in state.handovers:
        if handover.direction is Direction.OUTGOING:
            memory.remove(handover.address or 0)
    recorder = Recorder(memory)
    luoser.read(recorder, page_size=page_size)
    alone = Recorder(memory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_size_room, "best_size", lambda state, size, _: (size, 0))
        luoser.read(alone, page_size=page_size)
    assert recorder.asked == alone.asked


def test_vmcoreinfo_of_any_bytes_survives_unchanged() -> None:
    info = b"OSRELEASE=7.3\x1b[31m\\n\r\x85\xff\nno equals sign\nA=1\nA=2\n\nNUMBER(x)=\n"
    memory = ElfMemory("x", core(Load(0x1000, b"A" * PAGE), notes=note("VMCOREINFO", info)))
    again = ElfMemory("x", written(memory, [0x1000]))
    assert again.info_note == info
    assert again.vmcoreinfo == memory.vmcoreinfo
    assert memory.vmcoreinfo["OSRELEASE"].isprintable()
