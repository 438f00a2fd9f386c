# SPDX-License-Identifier: MIT
"""ELF cores: what a segment says, what the file holds, and what cannot be read."""

from __future__ import annotations

import io
import lzma
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, Limits, limited
from luoser.memory import source
from luoser.memory.elf import JUMP_NOTE, LEFT_OUT_NOTE, RAM_NOTE, STALE_NOTE, WITHHELD_NOTE, ElfMemory
from luoser.memory.source import Memory
from luoser.state import MapStatus
from tests import real
from tests.images import Node, fdt, text
from tests.memory.conftest import Bounded
from tests.memory.images import Load, core, note
from tests.work import steps

Opened = Callable[[bytes], Memory]
A, B = b"A" * 4096, b"B" * 4096


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """opened(bytes): the memory of a file with these bytes."""

    def make(data: bytes) -> Memory:
        file = tmp_path / "core"
        file.write_bytes(data)
        return luoser.open(file)

    return make


def spans(memory: Memory) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in memory.segments]


def absent(memory: Memory, address: int) -> PageState:
    with pytest.raises(MissingMemory) as caught:
        memory.read(address, 1)
    assert caught.value.address == address
    assert memory.page_state(address) is caught.value.state
    return caught.value.state


# -- segments --


def test_segments_are_sorted_by_address(opened: Opened) -> None:
    memory = opened(core(Load(0x5000, B), Load(0x1000, A)))
    assert spans(memory) == [(0x1000, 0x2000), (0x5000, 0x6000)]
    assert (memory.read(0x1000, 4096), memory.read(0x5000, 4096)) == (A, B)
    assert memory.format == "elf"


def test_read_goes_over_neighbouring_segments(opened: Opened) -> None:
    memory = opened(core(Load(0x2000, B), Load(0x1000, A)))
    assert memory.read(0x1FFE, 4) == b"AABB"


def test_read_into_a_hole_names_its_first_byte(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A), Load(0x3000, B)))
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x1FF0, 0x2000)
    assert (caught.value.address, caught.value.state) == (0x2000, PageState.ABSENT)
    assert absent(memory, 0) is PageState.ABSENT
    assert absent(memory, 0x4000) is PageState.ABSENT


def test_first_of_two_overlapping_segments_keeps_its_bytes(opened: Opened) -> None:
    memory = opened(core(Load(0x2000, A), Load(0x1000, B * 3)))
    assert memory.read(0x1000, 0x3000) == B + A + B
    assert spans(memory) == [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000)]
    assert any("overlap" in remark for remark in memory.remarks)


def test_segment_inside_another_adds_nothing(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A * 3), Load(0x2000, B)))
    assert memory.read(0x1000, 0x3000) == A * 3
    assert any("overlap" in remark for remark in memory.remarks)


def test_overlap_off_page_bounds_keeps_every_byte_in_place(opened: Opened) -> None:
    ramp = bytes(range(256)) * 16
    memory = opened(core(Load(0x1800, A), Load(0x1000, ramp * 2)))
    assert memory.read(0x1000, 0x800) == ramp[:0x800]
    assert memory.read(0x1800, 0x1000) == A
    assert memory.read(0x2800, 0x800) == ramp[0x800:]


def where(data: bytes, number: int) -> int:
    """Offset in the file of a segment's bytes, for another segment that is to have the same."""
    offset: int = struct.unpack_from("<Q", data, 64 + 56 * number + 8)[0]
    return offset


def test_segments_of_the_same_bytes_are_one(opened: Opened) -> None:
    """QEMU with paging=true: a segment for each virtual address, all of one place in the file."""
    probe = core(Load(0x1000, A + B + A), *[Load(0, b"")] * 3)
    first = where(probe, 0)
    aliases = [Load(0x2000, b"", filesz=0x1000, offset=first + 0x1000), Load(0x1000, b"", filesz=0x3000, offset=first)]
    aliases += [Load(0x2000, b"", filesz=0x2000, offset=first + 0x1000)]
    memory = opened(core(Load(0x1000, A + B + A), *aliases))
    assert (spans(memory), memory.remarks) == ([(0x1000, 0x4000)], [])
    memory = opened(core(*aliases, Load(0x1000, A + B + A)))
    assert (spans(memory), memory.remarks) == ([(0x1000, 0x4000)], [])
    assert memory.read(0x1000, 0x3000) == A + B + A


@pytest.mark.parametrize(("count", "lines"), [(7000, 1_500_000), (70_000, None)])  # 75 for each
def test_many_aliases_are_one_segment(opened: Opened, count: int, lines: int | None) -> None:
    """In the order of virtual addresses, and more of them than an ELF header can count. The cost is that of sorting."""
    first = where(core(Load(0, b"")), 0) + 56 * count + 64
    loads = [Load(0x1000 * (7 * number % 64), b"", filesz=0x1000) for number in range(count)]
    loads = [replace(load, offset=first + load.paddr) for load in loads]
    with steps(lines) if lines is not None else nullcontext():
        memory = opened(core(*loads, Load(0, (A + B) * 32), xnum=True))
    assert (spans(memory), memory.remarks) == ([(0, 64 * 4096)], [])
    assert memory.read(0, 64 * 4096) == (A + B) * 32


def test_copy_of_the_same_memory_is_no_oddity(opened: Opened) -> None:
    """/proc/vmcore: the kernel's text has a segment of its own, with the same bytes at another place of the file."""
    memory = opened(core(Load(0x2000, B + A), Load(0x1000, A + B + A + B)))
    assert memory.remarks == []
    assert memory.read(0x1000, 0x4000) == A + B + A + B


def test_copy_with_other_bytes_is_told(opened: Opened) -> None:
    memory = opened(core(Load(0x2000, B + A), Load(0x1000, A + B + A[:-1] + b"!" + B), Load(0x9000, A)))
    (remark,) = memory.remarks
    assert "0x1000-0x5000" in remark and "overlap" in remark
    assert memory.read(0x1000, 0x4000) == A + B + A + B


def test_looking_at_copies_is_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not compared is not taken for a copy."""
    monkeypatch.setattr(source, "LIMITS", Limits(overlap_bytes=0x2800))
    memory = opened(core(Load(0x1000, A), Load(0x1000, A), Load(0x1000, A), Load(0x1000, A), Load(0x1000, A)))
    assert len(memory.remarks) == 2


def test_segments_that_all_overlap_are_quick(opened: Opened) -> None:
    loads = [Load(0x1000 * number, b"%5d" % number * 8, memsz=0x1000 * (1500 - number)) for number in range(1500)]
    with steps(750_000):  # 160 each
        memory = opened(core(*loads))
        list(memory.find_pages(b"MAGI"))
    assert memory.read(0x5000, 4) == b"    "
    assert len(memory.remarks) <= LIMITS.overlap_remarks + 1


def test_stored_bytes_go_before_any_rest(opened: Opened) -> None:
    """A segment that the file names first, but without these bytes, does not hide them."""
    memory = opened(core(Load(0x1000, A, memsz=0x4000), Load(0x2000, B)))
    assert memory.read(0x1000, 0x4000) == A + B + bytes(0x2000)
    assert memory.remarks == []
    cut = opened(core(Load(0x2000, B), Load(0x1000, A, filesz=0x3000, offset=1 << 40)))
    assert cut.read(0x2000, 0x1000) == B
    assert absent(cut, 0x1000) is absent(cut, 0x3000) is PageState.ABSENT


INFO = note("VMCOREINFO", b"OSRELEASE=7.3.4\n")
RESTS = {
    "no notes": (b"", PageState.ZERO),
    "luoser": (note("LUOSER-RAM", bytes(8) + b"\0\0\1\0\0\0\0\0") + INFO, PageState.ZERO),
    "makedumpfile": (note("CORE", bytes(336), 1) + INFO, PageState.EXCLUDED),
    "makedumpfile, of a dump of QEMU without VMCOREINFO": (
        note("CORE", bytes(336), 1) + note("QEMU", bytes(440)),
        PageState.EXCLUDED,
    ),
    "makedumpfile, of a dump of QEMU": (note("QEMU", bytes(440)) + INFO, PageState.EXCLUDED),
}


@pytest.mark.parametrize("writer", RESTS)
def test_what_lies_beyond_the_stored_bytes_depends_on_the_writer(opened: Opened, writer: str) -> None:
    """makedumpfile -E leaves pages out that are not zero, QEMU maps devices: seen in real files of both."""
    notes, state = RESTS[writer]
    memory = opened(core(Load(0x1000, A, memsz=0x3000), Load(0x8000, B), notes=notes))
    assert memory.read(0x1000, 0x1000) == A
    assert [memory.page_state(address) for address in (0x2000, 0x3000)] == [state, state]
    if state is PageState.ZERO:
        assert memory.read(0x1000, 0x3000) == A + bytes(0x2000)
    else:
        assert absent(memory, 0x2000) is state
    assert memory.remarks == []


def test_qemu_stores_all_of_a_segment_or_nothing(opened: Opened) -> None:
    """With VMCOREINFO its dumps differ from those that makedumpfile -E makes of them only by that."""
    device = Load(0xFEC00000, b"", memsz=0x3000)
    memory = opened(core(Load(0x1000, A), device, notes=note("QEMU", bytes(440)) + INFO))
    assert absent(memory, 0xFEC00000) is PageState.ABSENT
    cut = opened(core(Load(0x1000, A, memsz=0x3000), device, notes=note("QEMU", bytes(440)) + INFO))
    assert absent(cut, 0x2000) is absent(cut, 0xFEC00000) is PageState.EXCLUDED


@pytest.mark.parametrize(("place", "state"), [(0x2000, PageState.EXCLUDED), (0xFEC00000, PageState.ABSENT)])
def test_a_segment_of_nothing_beside_a_stored_one_was_left_out(opened: Opened, place: int, state: PageState) -> None:
    """makedumpfile -E of a core of QEMU, where what it leaves out begins a segment."""
    empty = Load(place, b"", memsz=0x3000)
    memory = opened(core(Load(0x1000, A), empty, notes=note("QEMU", bytes(440)) + INFO))
    assert absent(memory, place) is state


def test_memory_that_qemu_maps_but_does_not_dump_is_no_segment(opened: Opened) -> None:
    device = Load(0xFEC00000, b"", memsz=0x1000, offset=(1 << 64) - 1)
    memory = opened(core(Load(0x1000, A), device, notes=note("QEMU", bytes(440))))
    assert (spans(memory), memory.remarks) == ([(0x1000, 0x2000)], [])
    assert absent(memory, 0xFEC00000) is PageState.ABSENT


def test_core_that_its_writer_left_incomplete_says_so(opened: Opened) -> None:
    """makedumpfile sets a flag in the ELF header when it could not write all."""
    data = bytearray(core(Load(0x1000, A)))
    data[48] |= 1
    (remark,) = opened(bytes(data)).remarks
    assert "truncated" in remark and "marked as incomplete in its header" in remark


def test_memory_beyond_the_stored_bytes_is_zero(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A, memsz=0x3000), Load(0x8000, B)))
    assert memory.read(0x1000, 0x3000) == A + bytes(0x2000)
    states = [memory.page_state(address) for address in (0x1000, 0x2000, 0x3FFF, 0x4000)]
    assert states == [PageState.PRESENT, PageState.ZERO, PageState.ZERO, PageState.ABSENT]
    assert memory.remarks == []


def test_segment_without_any_stored_bytes_is_zero(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, b"", memsz=0x2000)))
    assert memory.read(0x1000, 0x2000) == bytes(0x2000)


def test_stored_bytes_beyond_the_end_of_the_file_are_absent_and_reported(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A, filesz=0x3000, memsz=0x3000)))
    assert memory.read(0x1000, 0x1000) == A
    assert absent(memory, 0x2000) is PageState.ABSENT
    with pytest.raises(MissingMemory):
        memory.read(0x1F00, 0x200)
    (remark,) = memory.remarks
    assert "truncated" in remark and "0x1000" in remark


@pytest.mark.parametrize("offset", [1 << 40, (1 << 64) - 1])
def test_segment_wholly_beyond_the_end_of_the_file_is_absent(opened: Opened, offset: int) -> None:
    memory = opened(core(Load(0x1000, A), Load(0x9000, B, offset=offset)))
    assert memory.read(0x1000, 16) == A[:16]
    assert absent(memory, 0x9000) is PageState.ABSENT
    assert any("truncated" in remark for remark in memory.remarks)


def test_truncated_core_is_a_problem_of_the_state(opened: Opened) -> None:
    whole = lzma.decompress(real.path("7.3-a/frozen").read_bytes())
    state = luoser.read(opened(whole[: len(whole) * 2 // 3]))
    assert any(problem.code == "truncated" for problem in state.problems)


def test_segment_at_the_top_of_the_address_space(opened: Opened) -> None:
    memory = opened(core(Load((1 << 64) - 4096, A, memsz=(1 << 64) - 1), Load(0x1000, B)))
    assert memory.read((1 << 64) - 16, 16) == b"A" * 16
    assert luoser.read(memory).handovers == ()


def test_count_of_headers_in_section_zero(opened: Opened) -> None:
    memory = opened(core(Load(0x5000, B), Load(0x1000, A), xnum=True))
    assert spans(memory) == [(0x1000, 0x2000), (0x5000, 0x6000)]


def test_many_segments_are_not_quadratic(opened: Opened) -> None:
    loads = [Load(0x10000 + 0x2000 * i, b"x" * 16, memsz=0x1000) for i in range(5000)]
    with steps(500_000):  # 32 each
        memory = opened(core(*loads[::-1]))
    assert len(memory.segments) == 5000


# -- what is refused --


def reason(opened: Opened, data: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_32_bit_is_refused(opened: Opened) -> None:
    assert "32-bit" in reason(opened, core(Load(0x1000, A), bits=1))


def test_big_endian_is_refused(opened: Opened) -> None:
    assert "big-endian" in reason(opened, core(Load(0x1000, A), order=2))


def test_unknown_class_is_refused(opened: Opened) -> None:
    assert "class 9" in reason(opened, core(Load(0x1000, A), bits=9))


@pytest.mark.parametrize("kind, word", [(1, "relocatable"), (2, "executable"), (3, "shared")])
def test_elf_file_that_is_no_core_is_refused(opened: Opened, kind: int, word: str) -> None:
    """A vmlinux has segments with physical addresses as well."""
    data = bytearray(core(Load(0x1000, A)))
    data[16] = kind
    assert word in reason(opened, bytes(data))


def test_core_without_loads_is_refused(opened: Opened) -> None:
    assert "without loadable segments" in reason(opened, core(notes=note("CORE", b"x")))


@pytest.mark.parametrize("size", [4, 16, 63])
def test_header_that_breaks_off_is_refused(opened: Opened, size: int) -> None:
    assert str(size) in reason(opened, core(Load(0x1000, A))[:size])


def test_section_zero_beyond_the_file_is_refused(opened: Opened) -> None:
    data = bytearray(core(Load(0x1000, A), xnum=True))
    data[40:48] = (1 << 40).to_bytes(8, "little")
    assert "PN_XNUM" in reason(opened, bytes(data))


def test_program_headers_of_another_size_are_refused(opened: Opened) -> None:
    data = bytearray(core(Load(0x1000, A)))
    data[54:56] = (32).to_bytes(2, "little")
    assert "program header size: expected 56 bytes, found 32" in reason(opened, bytes(data))


def test_program_headers_beyond_the_file_are_refused(opened: Opened) -> None:
    data = bytearray(core(Load(0x1000, A)))
    data[32:40] = (1 << 63).to_bytes(8, "little")
    assert reason(opened, bytes(data))


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic_raise_nothing_else(data: bytes) -> None:
    from luoser.memory.elf import ElfMemory

    try:
        ElfMemory("core", b"\x7fELF\2\1\1".ljust(16, b"\0") + data)
    except SourceError as error:
        assert "\n" not in str(error)


# -- notes --


def test_vmcoreinfo_is_read_from_its_note(opened: Opened) -> None:
    info = b"OSRELEASE=7.3.4\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\nno equals sign\n"
    memory = opened(core(Load(0x1000, A), notes=note("CORE", b"odd") + note("VMCOREINFO", info) + note("QEMU", b"")))
    assert memory.vmcoreinfo == {"OSRELEASE": "7.3.4", "PAGESIZE": "4096", "SYMBOL(_stext)": "ffffffff81000000"}
    assert memory.page_size == 4096


def test_excluded_note_of_a_cut(opened: Opened) -> None:
    ranges = struct.pack("<QQQQ", 0x2000, 0x4000, 0x9000, 0xA000)
    memory = opened(core(Load(0x1000, A), notes=note("LUOSER-EXCLUDED", ranges)))
    states = [memory.page_state(address) for address in (0x1000, 0x2000, 0x3FFF, 0x4000, 0x9000, 0xA000)]
    excluded, gone = PageState.EXCLUDED, PageState.ABSENT
    assert states == [PageState.PRESENT, excluded, excluded, gone, excluded, gone]
    with pytest.raises(MissingMemory) as caught:
        memory.read(0x1FF0, 0x20)
    assert (caught.value.address, caught.value.state) == (0x2000, excluded)
    assert list(memory.find_pages(b"A")) == [0x1000]


@pytest.mark.parametrize(
    "ranges",
    [
        b"",
        b"x" * 15,
        struct.pack("<QQ", 0x4000, 0x2000),
        struct.pack("<QQ", 0, (1 << 64) - 1) + b"odd",
        struct.pack("<QQ", 0x1800, 0x2800) * 10_000,
    ],
)
def test_hostile_excluded_note_takes_no_bytes_away(opened: Opened, ranges: bytes) -> None:
    with steps(1_200_000):  # 40 for each range
        memory = opened(core(Load(0x1000, A), Load(0x8000, B), notes=note("LUOSER-EXCLUDED", ranges)))
        assert (memory.read(0x1000, 4096), memory.read(0x8000, 4096)) == (A, B)
        assert len(memory.remarks) <= LIMITS.overlap_remarks + 1


@pytest.mark.parametrize("machine", [0, 62, 183])
def test_machine_of_the_header(opened: Opened, machine: int) -> None:
    data = bytearray(core(Load(0x1000, A)))
    data[18:20] = machine.to_bytes(2, "little")
    assert opened(bytes(data)).machine == (machine or None)


def test_core_without_vmcoreinfo_has_no_page_size(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A), notes=note("CORE", b"x")))
    assert (memory.vmcoreinfo, memory.page_size) == ({}, None)


@pytest.mark.parametrize("size", ["65536", "16384"])
def test_page_size_of_vmcoreinfo_is_taken(opened: Opened, size: str) -> None:
    memory = opened(core(Load(0x1000, A), notes=note("VMCOREINFO", f"PAGESIZE={size}\n".encode())))
    assert luoser.read(memory).source.page_size == int(size)


@pytest.mark.parametrize("size", ["0", "-4096", "4097", "9" * 50, "٤٠٩٦", "x", ""])
def test_impossible_page_size_is_not_taken(opened: Opened, size: str) -> None:
    memory = opened(core(Load(0x1000, A), notes=note("VMCOREINFO", f"PAGESIZE={size}\n".encode())))
    assert luoser.read(memory).source.page_size == 4096


def test_control_characters_of_vmcoreinfo_are_escaped(opened: Opened) -> None:
    memory = opened(core(Load(0x1000, A), notes=note("VMCOREINFO", b"OSRELEASE=\x1b[31m\n")))
    assert memory.vmcoreinfo == {"OSRELEASE": r"\x1b[31m"}


@pytest.mark.parametrize(
    "sizes", [b"\xff" * 12, b"\xff\xff\xff\xff" + bytes(8), bytes(4) + b"\xff\xff\xff\xff" + bytes(4)]
)
def test_broken_notes_are_no_notes(opened: Opened, sizes: bytes) -> None:
    memory = opened(core(Load(0x1000, A), notes=sizes + note("VMCOREINFO", b"A=1")))
    assert memory.read(0x1000, 1) == b"A"


DUMP = note("LINUX", bytes(100 << 10), 0x700)
"""A device dump (VMCOREDD), which the kernel puts before all other notes."""


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(note("VMCOREDD", bytes(20 << 20), 0x700), id="one device dump larger than any limit"),
        pytest.param(DUMP * 300, id="many device dumps"),
        pytest.param(note("CORE", bytes(336), 1) + bytes(5 * 4096), id="a gap of zeros, up to the next page"),
        pytest.param(note("CORE", bytes(336), 1) + bytes(4), id="a gap of one word"),
        pytest.param(bytes(1 << 20), id="zeros first"),
    ],
)
def test_vmcoreinfo_is_found_behind_other_notes(opened: Opened, before: bytes) -> None:
    memory = opened(core(Load(0x1000, A), notes=before + INFO + note("QEMU", bytes(440))))
    assert memory.vmcoreinfo == {"OSRELEASE": "7.3.4"}


def padded_to_8(name: bytes, data: bytes) -> bytes:
    head = struct.pack("<III", len(name) + 1, len(data), 0) + name + b"\0"
    head += bytes(-len(head) % 8) + data
    return head + bytes(-len(head) % 8)


@pytest.mark.parametrize("size", [1, 4, 7, 336])
def test_notes_that_are_aligned_to_8_bytes(opened: Opened, size: int) -> None:
    notes = padded_to_8(b"CORE", bytes(size)) + padded_to_8(b"VMCOREINFO", b"OSRELEASE=7.3.4\n")
    data = bytearray(core(Load(0x1000, A), notes=notes))
    data[64 + 48 : 64 + 56] = (8).to_bytes(8, "little")  # p_align of the first program header
    assert data[64:68] == (4).to_bytes(4, "little")
    assert opened(bytes(data)).vmcoreinfo == {"OSRELEASE": "7.3.4"}


def test_notes_of_a_segment_that_only_claims_to_be_aligned_to_8(opened: Opened) -> None:
    data = bytearray(core(Load(0x1000, A), notes=note("CORE", bytes(5)) + INFO))
    data[64 + 48 : 64 + 56] = (8).to_bytes(8, "little")
    assert opened(bytes(data)).vmcoreinfo == {"OSRELEASE": "7.3.4"}


def test_many_notes_are_bounded(opened: Opened, bounded: Bounded) -> None:
    notes = note("A", b"") * (1 << 18)
    with bounded(lines=2_000_000):
        assert opened(core(Load(0x1000, A), notes=notes + INFO)).vmcoreinfo == {}


def test_segments_without_a_physical_address_are_no_memory(opened: Opened) -> None:
    """A copy of /proc/kcore: vmalloc and modules have p_paddr -1."""
    nowhere = Load((1 << 64) - 1, B)
    memory = opened(core(nowhere, Load(0x1000, A)))
    assert [(part.start, part.size) for part in memory.segments] == [(0x1000, 0x1000)]
    with pytest.raises(SourceError, match="no segment has a physical address"):
        opened(core(nowhere))


def test_a_core_of_a_process_is_no_memory(opened: Opened) -> None:
    with pytest.raises(SourceError, match="no segment has a physical address"):
        opened(core(Load(0, A), Load(0, B)))
    assert opened(core(Load(0, A))).segments


@pytest.mark.parametrize("name", ["Xen", "VMCOREINFO_XEN"])
def test_dump_of_a_machine_with_xen_is_remarked_on(opened: Opened, name: str) -> None:
    memory = opened(core(Load(0x1000, A), notes=note(name, bytes(16)) + INFO))
    (remark,) = memory.remarks
    assert remark.startswith("a dump of a machine with Xen")


def test_core_of_a_xen_guest_is_named(opened: Opened) -> None:
    """xc_core: no program headers, the pages are in a section."""
    names = b"\0.shstrtab\0.xen_pages\0"
    data = bytearray(core(notes=b"")).ljust(64, b"\0")
    section = struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 64, len(names), 0, 0, 1, 0)
    data[40:48] = (64 + len(names)).to_bytes(8, "little")
    data[54:64] = struct.pack("<HHHHH", 56, 0, 64, 1, 0)
    with pytest.raises(SourceError, match=r"a core of a Xen guest \(xc_core\), which luoser does not read"):
        opened(bytes(data) + names + section)


# -- scans --


def test_find_pages_sees_page_starts_only(opened: Opened) -> None:
    page = b"MAGI" + bytes(100) + b"MAGI" + bytes(4096 - 108)
    memory = opened(core(Load(0x5000, page + bytes(4096) + page), Load(0x1000, page)))
    assert list(memory.find_pages(b"MAGI")) == [0x1000, 0x5000, 0x7000]
    assert list(memory.find_pages(b"MAGI", at=104)) == [0x1000, 0x5000, 0x7000]
    assert list(memory.find(b"MAGI")) == [0x1000, 0x1068, 0x5000, 0x5068, 0x7000, 0x7068]


def test_find_pages_in_a_segment_off_page_bounds(opened: Opened) -> None:
    memory = opened(core(Load(0x1800, bytes(0x800) + b"MAGI".ljust(4096, b"\0"))))
    assert list(memory.find_pages(b"MAGI")) == [0x2000]


def test_find_pages_over_the_end_of_a_segment(opened: Opened) -> None:
    """The rest of a prefix is in the next segment, wherever that lies in the file, or it is nowhere."""
    page = b"MAGI".ljust(4096, b"x")
    for cut in (1, 2, 3, 104):
        memory = opened(core(Load(0x1000 + cut, page[cut:]), Load(0x9000, A), Load(0x1000, page[:cut])))
        assert list(memory.find_pages(b"MAGI")) == [0x1000]
        assert list(memory.find_pages(b"xxxx", at=102)) == [0x1000]
        assert list(memory.find_pages(b"xxxx", at=106)) == [0x1000]
    lost = opened(core(Load(0x1000, b"MA"), Load(0x9000, b"GI")))
    assert list(lost.find_pages(b"MAGI")) == []
    assert list(lost.find_pages(b"MA")) == [0x1000]


def test_find_over_the_end_of_a_segment(opened: Opened) -> None:
    page = bytes(100) + b"needle" + bytes(4096 - 106)
    for cuts in ((101,), (105,), (102, 103), (101, 102, 103, 104, 105), (100,), (106,)):
        edges = [0, *cuts, 4096]
        loads = [Load(0x1000 + low, page[low:high]) for low, high in pairwise(edges)]
        memory = opened(core(*loads[::-1], Load(0x2000, b"needle" + A)))
        assert list(memory.find(b"needle")) == [0x1064, 0x2000]
        assert list(memory.find(b"n")) == [0x1064, 0x2000]
    assert list(opened(core(Load(0x1000, b"nee"), Load(0x9000, b"dle"))).find(b"needle")) == []
    assert list(opened(core(Load(0x1000, b"nee", memsz=0x100), Load(0x1003, b"dle"))).find(b"needle")) == [0x1000]


# -- an oracle --


@pytest.mark.parametrize("name", real.DUMPS)
def test_segments_of_real_dumps_are_those_of_pyelftools(name: str) -> None:
    elf = ELFFile(io.BytesIO(lzma.decompress(real.path(name).read_bytes())))
    loads = sorted((part for part in elf.iter_segments("PT_LOAD")), key=lambda part: part["p_paddr"])
    memory = real.dump(name)
    assert spans(memory) == [(part["p_paddr"], part["p_paddr"] + part["p_memsz"]) for part in loads]
    for part in loads:
        assert memory.read(part["p_paddr"], part["p_filesz"]) == part.data()


@pytest.mark.parametrize("name", real.DUMPS)
def test_vmcoreinfo_of_real_dumps_is_that_of_pyelftools(name: str) -> None:
    elf: Any = ELFFile(io.BytesIO(lzma.decompress(real.path(name).read_bytes())))
    raw = [
        entry["n_desc"]
        for part in elf.iter_segments("PT_NOTE")
        for entry in part.iter_notes()
        if entry["n_name"] == "VMCOREINFO"
    ]
    found = real.dump(name).vmcoreinfo
    if not raw:
        assert found == {}
        return
    text = raw[0].decode() if isinstance(raw[0], bytes) else raw[0]
    assert dict(found) == dict(line.split("=", 1) for line in text.rstrip("\0").splitlines() if "=" in line)
    assert real.dump(name).page_size == 4096


def test_segments_that_share_the_bytes_of_the_file_are_bounded(opened: Opened) -> None:
    """A header of 56 bytes could else have all bytes of the file searched once more."""
    data = bytearray(
        core(*(Load(page << 20, A if not page else b"") for page in range(100)), Load(1 << 40, bytes(1 << 16)))
    )
    offset = int.from_bytes(data[64 + 56 + 8 : 64 + 56 + 16], "little")
    for number in range(100):
        place = 64 + 56 * (number + 1)
        data[place + 8 : place + 16] = offset.to_bytes(8, "little")
        data[place + 32 : place + 48] = (1 << 16).to_bytes(8, "little") * 2
    memory = opened(bytes(data))
    assert any("16 times the bytes of the file" in remark for remark in memory.remarks)
    assert sum(segment.stored for segment in memory.segments) <= 17 * len(data)


def test_headers_beyond_the_limit_are_said(opened: Opened) -> None:
    with limited(Limits(elf_headers=2)):
        memory = opened(core(*(Load(number << 12, A) for number in range(4))))
    text = "truncated: the ELF header claims 4 program headers, 2 could be read"
    assert memory.remarks == [f"{text}; --limit elf_headers=N raises this limit, now 2"]
    assert len(memory.segments) == 2


def test_ranges_of_notes_are_bounded(opened: Opened) -> None:
    ranges = struct.pack("<QQ", 0, 1) * 10
    data = core(Load(0x1000, A), notes=note(RAM_NOTE.decode(), ranges))
    with limited(Limits(note_ranges=3)):
        memory = opened(data)
    assert len(memory.ram) == 3
    assert "truncated: a note has 10 ranges of memory; --limit note_ranges=N" in memory.remarks[0]


@pytest.mark.parametrize(("release", "roots"), [("", {0x5000}), ("OSRELEASE=7.3.4\n", set())])
def test_roots_that_no_kernel_has_taken_over(opened: Opened, release: str, roots: set[int]) -> None:
    notes = note(JUMP_NOTE.decode(), struct.pack("<QQ", 0x5000, 0x6000)) + note("VMCOREINFO", release.encode())
    assert opened(core(Load(0x1000, A), notes=notes)).at_jump == roots


def test_a_limit_that_leaves_no_segment_is_named() -> None:
    with (
        limited(Limits(elf_headers=1)),
        pytest.raises(SourceError, match=r"loadable segments; .*elf_headers=N"),
    ):
        luoser.open(real.path("7.3-a/frozen"))


def test_what_a_cut_left_out_of_its_pages_is_excluded_and_known() -> None:
    parts = struct.pack("<6Q", 0x1400, 0x1800, 0x1600, 0x1900, 0x900, 0x900)
    notes = note(RAM_NOTE.decode(), b"") + note(WITHHELD_NOTE.decode(), parts)
    notes += note(STALE_NOTE.decode(), struct.pack("<QI", 0x5000, 7))
    notes += note(LEFT_OUT_NOTE.decode(), b"no contents\n\x1b[31mnames" + b"\nx" * 100)
    loads = Load(0x1000, bytes(0x400)), Load(0x1900, bytes(0x700))
    memory = ElfMemory("cut", core(*loads, notes=notes))
    assert memory.withheld == ((0x1400, 0x1800), (0x1800, 0x1900))
    assert memory.page_state(0x1400) is memory.page_state(0x18FF) is PageState.EXCLUDED
    assert [memory.withholds(*one) for one in ((0x13F0, 16), (0x13F0, 17), (0x18FF, 1), (0x1900, 8), (0x1400, 0))] == [
        False, True, True, False, False,
    ]  # fmt: skip
    assert memory.stale == {0x5000}
    assert memory.left_out[:2] == ("no contents", r"\x1b[31mnames") and len(memory.left_out) == 16


def test_a_part_of_the_whole_address_space_that_is_left_out_costs_nothing() -> None:
    """It stands for as many bytes as are read, and these are bounded."""
    notes = note(RAM_NOTE.decode(), b"") + note(WITHHELD_NOTE.decode(), struct.pack("<QQ", 0, (1 << 64) - 1))
    root = fdt(Node("", {"compatible": text("kho-v4"), "preserved-page-radix-tree": struct.pack("<Q", 0x8000)}))
    with limited(Limits(read_bytes=16 << 20)):
        state = luoser.read(ElfMemory("cut", core(Load(0x1000, root.ljust(4096, b"\0")), notes=notes)))
    (handover,) = state.handovers
    assert handover.preserved.status is not MapStatus.INTACT
