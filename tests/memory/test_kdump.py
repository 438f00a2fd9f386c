# SPDX-License-Identifier: MIT
"""kdump-compressed files of every version, against a writer of its own."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import lzma
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import LuoserError, MissingMemory, PageState, SourceError
from luoser.limits import LIMITS, Limits, limited
from luoser.memory import kdump as module
from luoser.memory.kdump import KdumpMemory
from luoser.memory.source import Memory
from tests.memory import writers
from tests.memory.conftest import Bounded, Opened
from tests.memory.writers import COMPRESSIONS, PAGE, ZERO, kdump, kdump_set, poke, poke_sub
from tests.work import steps

PRESENT, EXCLUDED, ABSENT = PageState.PRESENT, PageState.EXCLUDED, PageState.ABSENT
each_version = pytest.mark.parametrize("version", range(1, 7))
each_pack = pytest.mark.parametrize("pack", COMPRESSIONS)
INFO = b"OSRELEASE=7.3.4\nPAGESIZE=4096\nno equals sign\nSYMBOL(_stext)=ffffffff81000000\n"


def page(number: int, size: int = PAGE) -> bytes:
    """A page that starts with MAGI and compresses."""
    return (b"MAGI%04d" % number + bytes(range(number % 200, number % 200 + 50)) * 1400)[:size]


# frames 0 to 9, a hole, and more far away; 6 and 7 are zeros; 30 is no page of RAM
PAGES = {number: page(number) for number in (*range(10), *range(20, 25), 70_000, 70_001)} | {6: ZERO, 7: ZERO}
LEFT_OUT = (10, 11, 25, 69_999, 80_000)
RAM = [*PAGES, *LEFT_OUT]
SPANS = [(a * PAGE, b * PAGE) for a, b in ((0, 12), (20, 26), (69_999, 70_002), (80_000, 80_001))]


def states(memory: Memory, frames: Iterable[int]) -> list[PageState]:
    return [memory.page_state(frame * PAGE) for frame in frames]


def missing(memory: Memory, address: int, size: int = 1) -> tuple[int, PageState]:
    with pytest.raises(MissingMemory) as caught:
        memory.read(address, size)
    return caught.value.address, caught.value.state


def assert_holds(memory: Memory, pages: dict[int, bytes] = PAGES) -> None:
    assert {frame: memory.read(frame * PAGE, PAGE) for frame in pages} == pages
    assert set(states(memory, pages)) == {PRESENT}


# -- what is in a file -------------------------------------------------------------------------------------


@each_pack
@each_version
def test_contents_and_states(open_files: Opened, pack: str, version: int) -> None:
    memory = open_files(kdump(PAGES, ram=RAM, pack=pack, version=version, vmcoreinfo=INFO))
    assert (memory.format, memory.page_size, memory.remarks) == ("kdump", PAGE, [])
    assert_holds(memory)
    assert states(memory, LEFT_OUT) == [EXCLUDED] * len(LEFT_OUT)
    assert states(memory, (12, 30, 80_001, 1 << 40)) == [ABSENT] * 4


@each_version
def test_vmcoreinfo_since_version_3(open_files: Opened, version: int) -> None:
    info = open_files(kdump(PAGES, version=version, vmcoreinfo=INFO)).vmcoreinfo
    known = {"OSRELEASE": "7.3.4", "PAGESIZE": "4096", "SYMBOL(_stext)": "ffffffff81000000"}
    assert info == (known if version >= 3 else {})


def test_vmcoreinfo_is_of_the_kernel_that_ran_unless_qemu_made_the_dump(open_files: Opened) -> None:
    assert open_files(kdump(PAGES, vmcoreinfo=INFO)).is_own_info
    assert not open_files(kdump(PAGES, vmcoreinfo=INFO + b"QEMU=1\n")).is_own_info  # as a note of that name
    assert not open_files(kdump(PAGES, version=3, vmcoreinfo=INFO)).is_own_info  # too old to have notes


def test_long_notes_are_cut_and_said_to_be(open_files: Opened) -> None:
    data = kdump(PAGES, version=3, vmcoreinfo=INFO)
    with limited(Limits(note_size=20)):
        memory = open_files(data)
    assert memory.vmcoreinfo == {"OSRELEASE": "7.3.4"}
    assert any("--limit note_size=N raises this limit, now 20" in remark for remark in memory.remarks)
    assert not open_files(data).remarks


def test_control_characters_of_vmcoreinfo_are_escaped(open_files: Opened) -> None:
    assert open_files(kdump(PAGES, vmcoreinfo=b"A=\x1b[31m\n")).vmcoreinfo == {"A": r"\x1b[31m"}


@each_version
def test_fields_that_are_newer_than_the_version_are_left_alone(open_files: Opened, version: int) -> None:
    memory = open_files(kdump(PAGES, ram=RAM, version=version, vmcoreinfo=INFO, junk=True))
    assert memory.remarks == []
    assert_holds(memory)
    assert states(memory, LEFT_OUT) == [EXCLUDED] * len(LEFT_OUT)


@pytest.mark.parametrize(("name", "machine"), [(b"x86_64", 62), (b"aarch64", 183), (b"i686", None), (b"", None)])
def test_machine_of_utsname(open_files: Opened, name: bytes, machine: int | None) -> None:
    data = bytearray(kdump(PAGES))
    data[12 + 4 * 65 : 12 + 5 * 65] = name.ljust(65, b"\0")
    assert open_files(bytes(data)).machine == machine


def test_diskdump_signature(open_files: Opened) -> None:
    assert_holds(open_files(kdump(PAGES, signature=b"DISKDUMP", version=1)))


@pytest.mark.parametrize("block", [16384, 65536])
@each_pack
def test_blocks_of_other_sizes(open_files: Opened, block: int, pack: str) -> None:
    pages = {frame: page(frame, block) for frame in (0, 3, 4, 100)}
    memory = open_files(kdump(pages, block=block, ram=[*pages, 5], pack=pack))
    assert memory.page_size == block
    assert all(memory.read(frame * block, block) == data for frame, data in pages.items())
    assert [memory.page_state(frame * block + block - 1) for frame in (4, 5, 6)] == [PRESENT, EXCLUDED, ABSENT]
    assert list(memory.find_pages(b"MAGI")) == [frame * block for frame in pages]


def test_longer_sub_header(open_files: Opened) -> None:
    assert_holds(open_files(kdump(PAGES, ram=RAM, sub_blocks=5, vmcoreinfo=INFO * 100)))


def test_segments_are_the_ram_with_excluded_pages(open_files: Opened) -> None:
    memory = open_files(kdump(PAGES, ram=RAM))
    assert [(part.start, part.end) for part in memory.segments] == SPANS


def test_runs_of_ram_are_bounded(open_files: Opened, bounded: Bounded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second frame: the file is small, its list of segments would not be."""
    monkeypatch.setattr(module, "LIMITS", Limits(kdump_segments=1000))
    data = kdump({0: page(0)}, ram=range(0, 1 << 20, 2))
    with bounded():
        memory = open_files(data)
    assert [part.start for part in memory.segments] == list(range(0, 2000 * PAGE, 2 * PAGE))
    (remark,) = memory.remarks
    assert remark.startswith(
        "more than 1000 runs of RAM; those from 0x7d0000 on are not listed; --limit kdump_segments=N"
    )
    assert memory.page_state((1 << 19) * PAGE) is EXCLUDED


def test_long_runs_are_one_segment(open_files: Opened) -> None:
    memory = open_files(kdump({200_000: page(1)}, ram=range(200_001)))
    assert [(part.start, part.end) for part in memory.segments] == [(0, 200_001 * PAGE)]


def test_single_bitmap_does_not_tell_excluded_from_absent(open_files: Opened) -> None:
    memory = open_files(kdump(PAGES, ram=RAM, bitmaps=1))
    assert_holds(memory)
    assert states(memory, LEFT_OUT) == [ABSENT] * len(LEFT_OUT)


def test_read_goes_over_pages(open_files: Opened) -> None:
    memory = open_files(kdump(PAGES, ram=RAM))
    joined = b"".join(PAGES[frame] for frame in range(10))
    assert memory.read(0, 10 * PAGE) == joined
    assert memory.read(0x1FF0, 0x2020) == joined[0x1FF0:0x4010]
    assert memory.read(0x1234, 0) == b""


def test_excluded_is_never_zeros(open_files: Opened) -> None:
    memory = open_files(kdump(PAGES, ram=RAM))
    for frame in LEFT_OUT:
        assert missing(memory, frame * PAGE + 5) == (frame * PAGE, EXCLUDED)
    assert missing(memory, 9 * PAGE, 2 * PAGE) == (10 * PAGE, EXCLUDED)
    assert missing(memory, 30 * PAGE) == (30 * PAGE, ABSENT)


@pytest.mark.parametrize("share", [True, False])
def test_zero_pages_read_as_zeros(open_files: Opened, share: bool) -> None:
    memory = open_files(kdump(PAGES, share_zero=share))
    assert memory.read(6 * PAGE, 2 * PAGE) == bytes(2 * PAGE)


@pytest.mark.parametrize("frame", [7, 8, 9, 4095, 4096, 32767, 32768, 32769, 65535, 262_143, 262_144])
def test_frames_around_the_edges_of_bytes_and_blocks(open_files: Opened, frame: int) -> None:
    pages = {number: page(number) for number in (1, frame - 1, frame, frame + 1)}
    memory = open_files(kdump(pages, ram=[*pages, frame + 2]))
    assert_holds(memory, pages)
    assert states(memory, [frame + 2, frame + 3]) == [EXCLUDED, ABSENT]


@given(present=st.sets(st.integers(0, 70_000), max_size=20), out=st.sets(st.integers(0, 70_000), max_size=20))
def test_any_set_of_frames(present: set[int], out: set[int]) -> None:
    pages = {frame: page(frame) for frame in present}
    memory = KdumpMemory("x", [("x", kdump(pages, ram=present | out, max_mapnr=70_001))])
    assert_holds(memory, pages) if pages else None
    assert set(states(memory, out - present)) <= {EXCLUDED}
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in sorted(present)]


def test_64_bit_number_of_frames_is_the_last_word_since_version_6(open_files: Opened) -> None:
    assert_holds(open_files(poke(kdump(PAGES), max_mapnr=5)))
    old = open_files(poke_sub(kdump(PAGES, version=5), max_mapnr_64=5))
    assert_holds(old)
    cut = open_files(poke_sub(kdump(PAGES), max_mapnr_64=5))
    assert states(cut, (4, 5)) == [PRESENT, ABSENT]


def test_writer_of_version_6_without_the_64_bit_number(open_files: Opened) -> None:
    assert_holds(open_files(poke_sub(kdump(PAGES), max_mapnr_64=0)))


@pytest.mark.parametrize("packed", [lzma.compress, gzip.compress])
def test_packed_file_is_known_by_content(open_files: Opened, packed: Callable[[bytes], bytes]) -> None:
    memory = open_files(packed(kdump(PAGES, ram=RAM)))
    assert memory.format == "kdump"
    assert_holds(memory)


# -- split sets --------------------------------------------------------------------------------------------

BOUNDS = [0, 8, 22, 80_001]


@pytest.mark.parametrize("version", range(2, 7))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_split_set_in_any_order(open_files: Opened, version: int, order: tuple[int, ...]) -> None:
    parts = kdump_set(PAGES, BOUNDS, ram=RAM, version=version, vmcoreinfo=INFO)
    memory = open_files(*(parts[number] for number in order))
    assert memory.remarks == []
    assert_holds(memory)
    assert states(memory, LEFT_OUT) == [EXCLUDED] * len(LEFT_OUT)
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in PAGES if PAGES[frame] != ZERO]
    assert memory.vmcoreinfo.get("OSRELEASE") == ("7.3.4" if version >= 3 else None)


@pytest.mark.parametrize("given_parts", [(0,), (1,), (2,), (0, 1), (2, 0)])
def test_incomplete_set_says_so_and_does_not_know_the_rest(open_files: Opened, given_parts: tuple[int, ...]) -> None:
    parts = kdump_set(PAGES, BOUNDS, ram=RAM)
    memory = open_files(*(parts[number] for number in given_parts))
    assert any("split" in remark for remark in memory.remarks)
    for number, (low, high) in enumerate(itertools.pairwise(BOUNDS)):
        own = {frame: data for frame, data in PAGES.items() if low <= frame < high}
        out = [frame for frame in LEFT_OUT if low <= frame < high]
        if number in given_parts:
            assert_holds(memory, own)
            assert set(states(memory, out)) <= {EXCLUDED}
        else:
            assert set(states(memory, [*own, *out])) == {ABSENT}
            assert missing(memory, min(own) * PAGE) == (min(own) * PAGE, ABSENT)


def test_one_part_twice_is_no_complete_set(open_files: Opened) -> None:
    parts = kdump_set({frame: page(frame) for frame in range(300)}, [0, 150, 300])
    assert any("split" in remark for remark in open_files(parts[0], parts[0]).remarks)


def test_one_part_twice_gives_each_page_once(open_files: Opened) -> None:
    parts = kdump_set(PAGES, BOUNDS)
    found = list(open_files(*parts, parts[1]).find_pages(b"MAGI"))
    assert found == sorted(set(found))


def test_parts_of_other_machines_are_refused(open_files: Opened) -> None:
    with pytest.raises(SourceError, match="not of the same dump"):
        open_files(kdump_set(PAGES, BOUNDS)[0], kdump_set(PAGES, [0, 8, 22, 90_000])[1])


def test_parts_of_another_dump_of_the_same_machine_are_refused(open_files: Opened) -> None:
    other = {frame: page(frame) for frame in range(0, 80_000, 7)}
    with pytest.raises(SourceError, match="not of the same dump"):
        open_files(kdump_set(PAGES, BOUNDS)[0], kdump_set(other, BOUNDS)[1])


OTHER_DUMP = {
    "kernel or machine name": lambda data: data[:142] + b"another" + data[149:],
    "time": lambda data: data[:408] + b"\x3d" + data[409:],  # 61 s later
    "kernel load address": lambda data: poke_sub(data, phys_base=0x2000000),
    "dump level": lambda data: poke_sub(data, dump_level=1),
    "header version": lambda data: poke(data, version=5),
    "VMCOREINFO": lambda data: data.replace(b"OSRELEASE=7.3.4", b"OSRELEASE=7.3.5"),
    "page frames": lambda data: data[: 2 * PAGE + 9] + bytes([data[2 * PAGE + 9] ^ 1]) + data[2 * PAGE + 10 :],
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER_DUMP)
def test_parts_of_different_dumps_are_refused(open_files: Opened, what: str) -> None:
    parts = kdump_set(PAGES, BOUNDS, ram=RAM, vmcoreinfo=INFO)
    with pytest.raises(SourceError, match=f"not of the same dump as .*different {what}"):
        open_files(parts[0], OTHER_DUMP[what](parts[1]), parts[2])


def test_parts_that_share_frames_give_each_page_once(open_files: Opened) -> None:
    parts = [kdump(PAGES, ram=RAM, split=span, max_mapnr=80_001) for span in ((0, 21), (4, 23), (22, 80_001))]
    memory = open_files(*parts)
    assert_holds(memory)
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in PAGES if PAGES[frame] != ZERO]
    assert [remark.split(" are ")[0] for remark in memory.remarks] == [
        "split dump: page frames 0x4-0x15",
        "split dump: page frames 0x16-0x17",
    ]


def test_part_beside_the_whole_dump_adds_nothing(open_files: Opened) -> None:
    whole, part = kdump(PAGES, ram=RAM, max_mapnr=80_001), kdump_set(PAGES, BOUNDS, ram=RAM)[1]
    for files in ([whole, part], [part, whole]):
        memory = open_files(*files)
        assert_holds(memory)
        assert len(list(memory.find_pages(b"MAGI"))) == len(PAGES) - 2
        assert [remark.split(" are ")[0] for remark in memory.remarks] == ["split dump: page frames 0x8-0x16"]


def test_one_file_that_is_given_twice_has_a_remark(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(kdump(PAGES))
    assert luoser.open(tmp_path / "part", tmp_path / "part").remarks == [f"split dump: {tmp_path}/part is given twice"]


def test_whole_copy_of_a_part_is_preferred_to_a_cut_one(open_files: Opened) -> None:
    parts = kdump_set(PAGES, BOUNDS, ram=RAM)
    memory = open_files(parts[0][:-300], *parts)
    assert_holds(memory)
    assert not any("truncated: file" in remark for remark in memory.remarks)


def test_cut_part_of_a_set_is_still_of_the_set(open_files: Opened) -> None:
    """Whatever is left of it; what the whole parts hold is read, their bitmaps know all RAM."""
    parts = kdump_set(PAGES, BOUNDS, ram=RAM, vmcoreinfo=INFO)
    for size in (2 * PAGE, 2 * PAGE + 100, 7 * PAGE, len(parts[0]) - 100):
        memory = open_files(parts[0][:size], *parts[1:])
        assert_holds(memory, {frame: data for frame, data in PAGES.items() if frame >= 8})
        assert [(part.start, part.end) for part in memory.segments] == SPANS
        assert any("truncated" in remark for remark in memory.remarks)


def test_part_with_another_format_is_refused(open_files: Opened) -> None:
    with pytest.raises(SourceError):
        open_files(kdump_set(PAGES, BOUNDS)[0], b"\x7fELF" + bytes(9000))


# -- cut files ---------------------------------------------------------------------------------------------

LONG = {frame: page(frame) for frame in range(300)}
WHOLE = kdump(LONG, ram=range(310))
DATA = 4 * PAGE + 24 * len(LONG)


@pytest.mark.parametrize("pack", ["plain", "zlib", "lzo"])
def test_cut_file_is_read_as_far_as_it_goes(open_files: Opened, pack: str) -> None:
    whole = kdump(LONG, ram=range(310), pack=pack)
    sizes = [len(whole) - 1, len(whole) - 5000, DATA + 700, DATA + 1, DATA, DATA - 24, 4 * PAGE + 40, 4 * PAGE]
    for size in sizes:
        memory = open_files(whole[:size])
        ends = [sum(struct.unpack_from("<qI", whole, 4 * PAGE + 24 * frame)) for frame in LONG]
        held = [
            frame for frame, end in enumerate(ends) if end <= size and 4 * PAGE + 24 * (frame + 1) <= size
        ]  # a page needs its descriptor and its data
        assert_holds(memory, {frame: LONG[frame] for frame in held}) if held else None
        for frame in set(LONG) - set(held):
            assert missing(memory, frame * PAGE) == (frame * PAGE, ABSENT)
            assert memory.page_state(frame * PAGE) is ABSENT
        assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in held]
        assert states(memory, (300, 309, 310)) == [EXCLUDED, EXCLUDED, ABSENT]
        assert any("truncated" in remark for remark in memory.remarks), size


def test_remark_names_the_first_page_that_is_lost(open_files: Opened) -> None:
    memory = open_files(kdump(LONG, pack="plain")[: DATA + 100 * PAGE + 5])
    assert missing(memory, 100 * PAGE) == (100 * PAGE, ABSENT)
    assert any("frame 0x64 " in remark for remark in memory.remarks)


def test_cut_file_whose_last_pages_are_zeros_says_so(open_files: Opened) -> None:
    pages = LONG | dict.fromkeys([0, *range(200, 300)], ZERO)
    memory = open_files(kdump(pages)[: DATA + 3000])
    assert missing(memory, 199 * PAGE)
    assert any("truncated" in remark for remark in memory.remarks)


def test_cut_file_whose_end_was_excluded_says_so(open_files: Opened) -> None:
    memory = open_files(kdump(LONG, ram=range(70_000))[:-500])
    assert missing(memory, 299 * PAGE)
    assert any("truncated" in remark for remark in memory.remarks)


@pytest.mark.parametrize("size", [2 * PAGE, 2 * PAGE + 100, 3 * PAGE, 3 * PAGE + 10])
def test_file_cut_inside_of_its_bitmaps_says_so(open_files: Opened, size: int) -> None:
    memory = open_files(WHOLE[:size])
    assert any("truncated" in remark for remark in memory.remarks)


@pytest.mark.parametrize("size", [2 * PAGE + 100, 3 * PAGE, 3 * PAGE + 10])
def test_file_cut_inside_of_its_bitmaps_calls_no_dumped_page_excluded(open_files: Opened, size: int) -> None:
    assert set(states(open_files(WHOLE[:size]), LONG)) == {ABSENT}


def test_descriptors_that_were_never_written_are_absent_and_told(open_files: Opened) -> None:
    """What makedumpfile leaves when the disk is full, seen in a real file: bitmaps are whole, descriptors zeros."""
    data = bytearray(WHOLE)
    place = 4 * PAGE + 24 * 200
    data[place : place + 24 * 100] = bytes(24 * 100)
    memory = open_files(bytes(data))
    assert memory.read(199 * PAGE, PAGE) == LONG[199]
    assert missing(memory, 200 * PAGE) == (200 * PAGE, ABSENT)
    assert set(states(memory, range(200, 300))) == {ABSENT}
    assert [("truncated" in remark, "frame 0xc8 " in remark) for remark in memory.remarks] == [(True, True)]


def test_file_that_its_writer_left_incomplete_says_so(open_files: Opened) -> None:
    """makedumpfile sets a flag when it could not write all, seen in a real file."""
    (remark,) = open_files(poke(WHOLE, status=1 | 8)).remarks
    assert "truncated" in remark and "marked as incomplete in its header" in remark
    assert open_files(poke(WHOLE, status=1)).remarks == []


def lost_frames(data: bytes, size: int, frames: Iterable[int]) -> list[int]:
    """Frames whose data is beyond a size, told from the descriptors."""
    table = struct.iter_unpack("<qIIQ", data[4 * PAGE : DATA])
    return [frame for frame, (offset, length, _, _) in zip(frames, table, strict=True) if offset + length > size]


@pytest.mark.parametrize("step", [4, 1 << 12])
@given(
    zeros=st.sets(st.integers(0, 299)) | st.integers(0, 299).map(lambda first: set(range(first, 300))), data=st.data()
)
def test_cut_anywhere_behind_the_descriptors_is_told(step: int, zeros: set[int], data: st.DataObject) -> None:
    """Also where not all descriptors are looked at: the step is made small, as if the dump were large."""
    whole = kdump(LONG | dict.fromkeys(zeros, ZERO))
    size = data.draw(st.integers(DATA, len(whole)))
    lost = lost_frames(whole, size, LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STEP", step)
        patch.setattr(module, "LIMITS", Limits(kdump_checked=10 * step))
        memory = KdumpMemory("x", [("x", whole[:size])])
        assert len(memory.remarks) == bool(lost)
        for remark in memory.remarks:
            named = int(remark.partition("page frame 0x")[2].split()[0], 16)
            assert memory.page_state(named * PAGE) is ABSENT
            if step > 300 or not zeros:
                assert named == lost[0]


def test_descriptors_at_the_end_of_a_large_dump_that_were_never_written_are_told(
    open_files: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP", 4)
    monkeypatch.setattr(module, "LIMITS", Limits(kdump_checked=40))
    data = bytearray(WHOLE)
    data[DATA - 24 * 8 : DATA] = bytes(24 * 8)
    (remark,) = open_files(bytes(data)).remarks
    assert f"frame {300 - 8:#x} " in remark


def test_frames_have_a_limit(open_files: Opened) -> None:
    with limited(Limits(kdump_bitmap=1)), pytest.raises(SourceError, match="kdump_bitmap=N"):
        open_files(WHOLE)


def test_a_lost_page_that_is_not_in_the_sample_is_told_by_a_search(
    open_files: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP", 4)
    monkeypatch.setattr(module, "LIMITS", Limits(kdump_checked=8))
    data = bytearray(WHOLE)
    data[DATA - 24 * 44 : DATA - 24 * 43] = bytes(24)
    memory = open_files(bytes(data))
    assert memory.remarks == []
    assert list(memory.find_pages(b"none of this")) == []
    assert any(f"page frame {300 - 44:#x} " in remark for remark in memory.remarks)


def test_pages_that_share_their_bytes_are_told_up_to_a_limit() -> None:
    same = WHOLE[: 4 * PAGE] + WHOLE[4 * PAGE : 4 * PAGE + 24] * 300 + WHOLE[DATA:]
    assert KdumpMemory("x", [("x", same)]).held == PAGE
    with limited(Limits(kdump_descriptors=299)):
        assert KdumpMemory("x", [("x", same)]).held == 310 * PAGE  # its RAM


@pytest.mark.parametrize("lost", [0, 1000])
def test_opening_a_large_dump_reads_little_of_it(lost: int) -> None:
    """64 GiB, its 400 MB of descriptors made when they are asked for."""
    source = Endless(16 * LIMITS.kdump_descriptors, lost=lost)
    memory = KdumpMemory("x", [("x", source)])
    assert len(memory.segments) == 1
    assert [f"frame {(1 << 24) - lost // 100:#x} " in remark for remark in memory.remarks] == [True] * bool(lost)
    assert source.asked < (40 << 20 if lost else 8 << 20)  # of which 4 are bitmaps


class Endless:
    """A file of a machine whose pages are all in it, each packed to 100 bytes."""

    def __init__(self, frames: int, *, lost: int) -> None:
        blocks = frames // (8 * PAGE)
        head = kdump({0: page(0)}, max_mapnr=8)[: 2 * PAGE]
        self.head = poke_sub(poke(head, bitmap_blocks=2 * blocks), max_mapnr_64=frames)
        self.table = (2 + 2 * blocks) * PAGE
        self.data = self.table + 24 * frames
        self.size = self.data + 100 * frames - lost
        self.asked = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(self.size)
        self.asked += stop - start
        if stop <= 2 * PAGE:
            return self.head[start:stop]
        if stop <= self.table:
            return b"\xff" * (stop - start)
        if start >= self.data:
            return bytes(stop - start)
        first, count = (start - self.table) // 24, (stop - start) // 24
        records = array("Q", [1 << 32 | 100]) * (3 * count)
        records[0::3] = array("Q", range(self.data + 100 * first, self.data + 100 * (first + count), 100))
        return records.tobytes()


@given(size=st.integers(0, len(WHOLE)))
def test_cut_anywhere_gives_true_bytes_or_none(size: int) -> None:
    try:
        memory = KdumpMemory("x", [("x", WHOLE[:size])])
    except SourceError:
        assert size < 2 * PAGE
        return
    for frame in (0, 1, 63, 150, 298, 299):
        try:
            assert memory.read(frame * PAGE, PAGE) == LONG[frame]
        except MissingMemory as error:
            assert error.address == frame * PAGE


# -- hostile files -----------------------------------------------------------------------------------------


def use(memory: Memory) -> None:
    """All that a reader may ask for."""
    for frame in (0, 1, 9, 10, 69_999, 70_001, 80_000, 1 << 30, 1 << 52):
        memory.page_state(frame * PAGE)
        with contextlib.suppress(MissingMemory):
            assert len(memory.read(frame * PAGE + 1, 4000)) == 4000
    list(itertools.islice(memory.find_pages(b"MAGI"), 100))
    list(itertools.islice(memory.find(b"MAGI0001"), 100))


HOSTILE: dict[str, dict[str, Any]] = {
    "bitmaps of 16 TiB": {"bitmap_blocks": 0xFFFFFFFF},
    "no bitmaps": {"bitmap_blocks": 0},
    "one block of bitmaps": {"bitmap_blocks": 1},
    "odd bitmaps": {"bitmap_blocks": 7},
    "2^32 - 1 frames": {"max_mapnr": 0xFFFFFFFF},
    "no frames": {"max_mapnr": 0},
    "negative block size": {"block_size": -4096},
    "block size 0": {"block_size": 0},
    "block size 2^31 - 1": {"block_size": 0x7FFFFFFF},
    "larger blocks": {"block_size": 65536},
    "negative sub-header": {"sub_blocks": -1},
    "sub-header of 2^31 - 1 blocks": {"sub_blocks": 0x7FFFFFFF},
    "no sub-header": {"sub_blocks": 0},
    "negative version": {"version": -1},
    "version 2^31 - 1": {"version": 0x7FFFFFFF},
}
HOSTILE_SUB: dict[str, dict[str, Any]] = {
    "2^64 - 1 frames": {"max_mapnr_64": (1 << 64) - 1},
    "2^40 frames": {"max_mapnr_64": 1 << 40},
    "split before its start": {"split": 1, "start_pfn_64": 70_000, "end_pfn_64": 3},
    "split to the end of numbers": {"split": 1, "start_pfn_64": 3, "end_pfn_64": (1 << 64) - 1},
    "VMCOREINFO before the file": {"offset_vmcoreinfo": -1, "size_vmcoreinfo": 1 << 63},
    "VMCOREINFO behind the file": {"offset_vmcoreinfo": (1 << 63) - 1, "size_vmcoreinfo": 100},
    "VMCOREINFO of 2^64 - 1 bytes": {"offset_vmcoreinfo": 4200, "size_vmcoreinfo": (1 << 64) - 1},
    "VMCOREINFO from the back": {"offset_vmcoreinfo": -(1 << 63), "size_vmcoreinfo": (1 << 64) - 1},
}


@pytest.mark.parametrize("version", [1, 5, 6])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_quick_and_bounded(open_files: Opened, bounded: Bounded, case: str, version: int) -> None:
    data = poke(kdump(PAGES, ram=RAM, version=version, vmcoreinfo=INFO), **HOSTILE[case])
    with bounded():
        try:
            use(open_files(data))
        except SourceError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("case", HOSTILE_SUB)
def test_hostile_sub_header_is_quick_and_bounded(open_files: Opened, bounded: Bounded, case: str) -> None:
    data = poke_sub(kdump(PAGES, ram=RAM, vmcoreinfo=INFO), **HOSTILE_SUB[case])
    with bounded():
        try:
            use(open_files(data))
        except SourceError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("start", [(1 << 64) - 1, 1 << 40, 1 << 32])
def test_split_that_starts_beyond_the_machine_is_quick_and_bounded(
    open_files: Opened, bounded: Bounded, start: int
) -> None:
    data = poke_sub(kdump(PAGES, ram=RAM), split=1, start_pfn_64=start, end_pfn_64=(1 << 64) - 1)
    with bounded():
        try:
            use(open_files(data))
        except SourceError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 463, 464, 4095, 4096, 4200, 8191, 8192])
def test_header_that_breaks_off(open_files: Opened, size: int) -> None:
    data = WHOLE[:size]
    with pytest.raises(SourceError) if size < 464 else pytest.MonkeyPatch.context():
        use(open_files(data))


def test_big_endian_machine_is_refused_by_name(open_files: Opened) -> None:
    head = struct.pack(">8si390s6x16sIiiIIIIIIi", b"KDUMP   ", 6, b"Linux", bytes(16), 1, 4096, 1, 2, 99, 0, 0, 0, 0, 1)
    with pytest.raises(SourceError, match="big-endian"):
        open_files(head.ljust(9000, b"\0"))


def test_32_bit_machine_is_refused_by_name(open_files: Opened) -> None:
    head = struct.pack("<8si390s2x8sIiiIIIIIIi", b"KDUMP   ", 6, b"Linux", bytes(8), 1, 4096, 1, 2, 99, 0, 0, 0, 0, 1)
    with pytest.raises(SourceError, match="32-bit"):
        open_files(head.ljust(9000, b"\0"))


@given(st.binary(max_size=600), st.sampled_from([b"KDUMP   ", b"DISKDUMP"]))
def test_any_bytes_behind_the_signature_raise_nothing_else(data: bytes, magic: bytes) -> None:
    try:
        use(KdumpMemory("x", [("x", magic + data)]))
    except SourceError as error:
        assert "\n" not in str(error)


SMALL = {"zlib": kdump(PAGES, ram=RAM), "lzo": kdump(PAGES, ram=RAM, pack="lzo"), "zstd": kdump(PAGES, pack="zstd"),
         "snappy": kdump(PAGES, pack="snappy")}  # fmt: skip


@given(
    pack=st.sampled_from(sorted(SMALL)),
    changes=st.lists(
        st.tuples(
            st.sampled_from(["head", "bitmap", "descriptor", "data"]), st.integers(0, 1 << 20), st.integers(1, 255)
        ),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_changed_bytes_raise_nothing_else(pack: str, changes: list[tuple[str, int, int]]) -> None:
    data = bytearray(SMALL[pack])
    bits = 6 * PAGE
    parts = {
        # not the block size's neighbours of a split set, whose start is an own test
        "head": (424, 20), "bitmap": (2 * PAGE, 6 * PAGE), "descriptor": (2 * PAGE + bits, 24 * len(PAGES)),
        "data": (2 * PAGE + bits + 24 * len(PAGES), 10 * PAGE),
    }  # fmt: skip
    for where, place, mask in changes:
        start, size = parts[where]
        spot = start + place % size
        if spot < len(data):
            data[spot] ^= mask
    try:
        use(KdumpMemory("x", [("x", bytes(data))]))
    except LuoserError as error:
        assert "\n" not in str(error)


# -- single pages ------------------------------------------------------------------------------------------


def one_page(data: bytes, flags: int, **descriptor: int) -> bytes:
    """A file with a good page 0 and a page 1 of these bytes. offset, size: what its descriptor says instead."""
    out = bytearray(kdump({0: page(0), 1: page(1)}, ram=[0, 1, 2]))
    place = 4 * PAGE
    offset, size = descriptor.get("offset", len(out)), descriptor.get("size", len(data))
    struct.pack_into("<qIIQ", out, place + 24, offset, size, flags, 0)
    return bytes(out) + data


BAD_PAGES = {
    "unknown flags": one_page(page(1), 0x40),
    "two compressions": one_page(zlib.compress(page(1)), 3),
    "too short": one_page(page(1)[:-1], 0),
    "empty": one_page(b"", 0),
    "zlib of too few bytes": one_page(zlib.compress(page(1)[:-1]), 1),
    "zlib breaks off": one_page(zlib.compress(page(1))[:-20], 1),
    "zlib garbage": one_page(b"garbage" * 9, 1),
    "zlib of nothing": one_page(b"", 1),
    "lzo of too few bytes": one_page(writers.lzo(page(1)[:-1]), 2),
    "lzo breaks off": one_page(writers.lzo(page(1))[:-20], 2),
    "lzo garbage": one_page(b"\xff" * 30, 2),
    "lzo of nothing": one_page(b"", 2),
    "snappy of too few bytes": one_page(COMPRESSIONS["snappy"](page(1)[:-1])[0], 4),
    "snappy of too many bytes": one_page(COMPRESSIONS["snappy"](page(1) + b"x")[0], 4),
    "snappy of 4 GiB": one_page(b"\xff\xff\xff\xff\x0f" + b"x" * 40, 4),
    "snappy garbage": one_page(b"\x80\x20" + b"\xff" * 40, 4),
    "snappy of nothing": one_page(b"", 4),
    "zstd of too few bytes": one_page(COMPRESSIONS["zstd"](page(1)[:-1])[0], 0x20),
    "zstd garbage": one_page(b"garbage" * 9, 0x20),
    "zstd breaks off": one_page(COMPRESSIONS["zstd"](page(1))[0][:-4], 0x20),
    "zstd that announces 1 TiB": one_page(b"\x28\xb5\x2f\xfd\xc0\x58" + struct.pack("<Q", 1 << 40) + b"\1\0\0", 0x20),
    "size of 4 GiB": one_page(page(1), 0, size=0xFFFFFFFF),
    "offset before the file": one_page(page(1), 0, offset=-PAGE),
    "least offset": one_page(page(1), 0, offset=-(1 << 63)),
    "offset behind the file": one_page(page(1), 0, offset=(1 << 63) - 1),
}


@pytest.mark.parametrize("case", BAD_PAGES)
def test_page_that_cannot_be_unpacked_is_missing(open_files: Opened, bounded: Bounded, case: str) -> None:
    with bounded(mib=4):
        memory = open_files(BAD_PAGES[case])
        assert memory.read(0, PAGE) == page(0)
        assert missing(memory, PAGE)[0] == PAGE
        assert list(memory.find(b"MAGI0000")) == [0]
        assert 0 in list(memory.find_pages(b"MAGI"))


def crowd(offsets: Sequence[int], size: int, data: bytes, flags: int = 0) -> bytes:
    """Pages at these offsets of some data, of one size each."""
    whole = kdump(dict.fromkeys(range(len(offsets)), ZERO), pack="plain")
    place = len(whole) - PAGE
    table = struct.pack("<qIIQ", place, PAGE, 0, 0) * len(offsets)
    assert whole.count(table) == 1
    made = b"".join(struct.pack("<qIIQ", place + offset, size, flags, 0) for offset in offsets)
    return whole.replace(table, made)[:place] + data


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
def test_pages_that_share_their_bytes_are_not_all_searched(open_files: Opened, order: int) -> None:
    """Each has a descriptor of 24 bytes, and a search could take 8 KiB for it."""
    memory = open_files(crowd(range(4000)[::order], PAGE, bytes(4000) + PAGES[0] + bytes(PAGE)))
    with steps(20_000):
        assert not list(memory.find_pages(b"none"))
        assert not list(memory.find(b"none"))
    (remark,) = memory.remarks
    assert remark.startswith("truncated: the pages of ") and "have 4 times the bytes of the file" in remark


def test_damage_is_counted_without_looking_at_all_of_it(open_files: Opened) -> None:
    class Unseen(set[int]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("each damaged page would cost all before it")

    memory = open_files(crowd([16, 8, 0], 8, b"garbage!" * 3, flags=1))
    assert isinstance(memory, KdumpMemory)
    memory._damaged = Unseen()
    assert [memory.page_state(frame * PAGE) for frame in range(3)] == [PageState.DAMAGED] * 3
    (remark,) = memory.remarks
    lowest = module._DESCRIPTOR.unpack(memory._parts[0].source[4 * PAGE + 2 * 24 :][:24])[0]
    assert remark == f"damaged: 3 stored pages cannot be unpacked, the first at file offset {lowest:#x}"


@pytest.mark.parametrize("case", ["offset before the file", "least offset"])
def test_page_whose_data_is_outside_of_the_file_is_absent(open_files: Opened, case: str) -> None:
    assert states(open_files(BAD_PAGES[case]), [1]) == [ABSENT]


def test_page_of_an_impossible_size_is_damaged(open_files: Opened) -> None:
    memory = open_files(BAD_PAGES["size of 4 GiB"])
    assert states(memory, [1]) == [PageState.DAMAGED]
    assert not any(remark.startswith("truncated") for remark in memory.remarks)


def test_page_marked_incomplete_is_read(open_files: Opened) -> None:
    assert open_files(one_page(zlib.compress(page(1)), 1 | 8)).read(PAGE, PAGE) == page(1)


def _zstd_bomb() -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(bytes(128 << 20))


def _zstd_bomb_without_size() -> bytes:
    import zstandard

    packer = zstandard.ZstdCompressor(write_content_size=False)
    return packer.compress(bytes(128 << 20))


def _lzo_bomb() -> bytes:
    writer = writers.LzoWriter()
    writer.literals(b"MAGI")
    writer.match("M3", 1 << 20, 1)
    return writer.end()


BOMBS: dict[str, tuple[Callable[[], bytes], int]] = {
    "zlib": (lambda: zlib.compress(bytes(4 << 20)), 1),
    "lzo": (_lzo_bomb, 2),
    "snappy": (lambda: COMPRESSIONS["snappy"](bytes(80_000))[0], 4),
    "zstd": (_zstd_bomb, 0x20),
    "zstd without its size": (_zstd_bomb_without_size, 0x20),
}


@pytest.mark.parametrize("case", BOMBS)
def test_page_never_unpacks_to_more_than_a_page(open_files: Opened, bounded: Bounded, case: str) -> None:
    make, flags = BOMBS[case]
    data = one_page(make()[: 2 * PAGE], flags)
    with bounded(mib=4):
        memory = open_files(data)
        try:
            assert len(memory.read(PAGE, PAGE)) == PAGE
        except MissingMemory as error:
            assert error.address == PAGE
        list(memory.find_pages(b"MAGI"))
        list(memory.find(b"MAGI0001"))


def test_zstd_page_of_too_many_bytes_is_missing(open_files: Opened) -> None:
    missing(open_files(one_page(COMPRESSIONS["zstd"](page(1) + b"x")[0], 0x20)), PAGE)


# -- scans -------------------------------------------------------------------------------------------------


@each_pack
def test_find_pages_gives_exactly_the_pages_that_start_so(open_files: Opened, pack: str) -> None:
    wanted = b"\xd0\x0d\xfe\xed"
    hit, inner = wanted.ljust(PAGE, b"x"), b"x" * 8 + wanted + bytes(PAGE - 12)
    near = wanted[:3].ljust(PAGE, b"y")
    pages = {3: hit, 4: inner, 5: near, 9: hit, 40: ZERO, 41: hit, 50: b"z" * (PAGE - 4) + wanted}
    memory = open_files(kdump(pages, pack=pack, ram=[*pages, 60]))
    assert list(memory.find_pages(wanted)) == [frame * PAGE for frame in (3, 9, 41)]
    assert list(memory.find_pages(wanted, at=8)) == [4 * PAGE]
    assert list(memory.find_pages(wanted, at=PAGE - 4)) == [50 * PAGE]
    assert list(memory.find(wanted)) == [3 * PAGE, 4 * PAGE + 8, 9 * PAGE, 41 * PAGE, 50 * PAGE + PAGE - 4]


def test_find_over_the_end_of_a_page(open_files: Opened) -> None:
    """Also into the next file of a set, but into no page that is another's neighbour only in the file."""
    needle = b"needle in a dump"
    ends = {1: 15, 2: 1, 4: 8, 6: 8, 8: 16}
    pages = {frame: bytearray(page(frame)) for frame in (1, 2, 3, 4, 5, 6, 8, 9)}
    for frame, size in ends.items():
        pages[frame][PAGE - size :] = needle[:size]
        following = {1: 2, 2: 3, 4: 5, 6: 8, 8: 9}[frame]
        pages[following][: 16 - size] = needle[size:]
    wanted = [frame * PAGE + PAGE - size for frame, size in ends.items() if frame != 6]
    whole = {frame: bytes(data) for frame, data in pages.items()}
    assert list(open_files(kdump(whole)).find(needle)) == wanted
    assert list(open_files(*kdump_set(whole, [0, 2, 5, 10])).find(needle)) == wanted


@pytest.mark.parametrize("block", [4096, 16384, 65536])
@each_pack
def test_find_pages_sees_every_4_kib_of_larger_blocks(open_files: Opened, block: int, pack: str) -> None:
    """Whatever the page size of the machine, what is looked for starts at a multiple of 4 KiB."""
    wanted = b"\xd0\x0d\xfe\xed"
    pages = {}
    for frame in (1, 2, 7):
        data = bytearray(page(frame, block))
        for start in range(block - PAGE, -1, -8192):
            data[start : start + 4] = wanted
            data[start + 1000 : start + 1004] = wanted
        data[-4:] = wanted
        pages[frame] = bytes(data)
    memory = open_files(kdump(pages, block=block, pack=pack))
    first = 0 if block == PAGE else PAGE
    starts = [frame * block + start for frame in pages for start in range(first, block, 8192)]
    assert list(memory.find_pages(wanted)) == starts
    assert list(memory.find_pages(wanted, at=1000)) == starts
    ends = [frame * block + block - PAGE for frame in pages]
    assert list(memory.find_pages(wanted, at=PAGE - 4)) == ends
    following = 2 * block - PAGE  # its neighbour holds the rest
    assert list(memory.find_pages(wanted + pages[2][:8], at=PAGE - 4)) == [following]


@pytest.mark.parametrize("shared_at", [0, 5])
def test_find_pages_gives_all_frames_that_share_one_stored_page(open_files: Opened, shared_at: int) -> None:
    """As a writer would that knows more than zeros alike."""
    data = kdump({frame: page(frame) for frame in range(10)})
    out = bytearray(data)
    place = 4 * PAGE
    for frame in (2, 3, 8):
        out[place + 24 * frame : place + 24 * frame + 24] = out[place + 24 * shared_at : place + 24 * shared_at + 24]
    memory = open_files(bytes(out))
    same = sorted({2, 3, 8, shared_at})
    assert list(memory.find_pages(b"MAGI%04d" % shared_at)) == [frame * PAGE for frame in same]
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in range(10)]


def test_find_pages_with_descriptors_in_any_order(open_files: Opened) -> None:
    data = bytearray(kdump(LONG, pack="plain"))
    place = 4 * PAGE
    records = [data[place + 24 * frame : place + 24 * frame + 24] for frame in LONG]
    data[place : place + 24 * len(LONG)] = b"".join(reversed(records))
    memory = open_files(bytes(data))
    assert list(memory.find_pages(b"MAGI0007")) == [292 * PAGE]
    assert memory.read(292 * PAGE, PAGE) == page(7)


def test_find_pages_unpacks_no_more_than_the_prefix(open_files: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = open_files(WHOLE)
    asked: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def decompress(self, data: bytes, limit: int) -> bytes:
            asked.append(limit)
            return real().decompress(data, limit)

    monkeypatch.setattr(module.zlib, "decompressobj", Counting)
    assert len(list(memory.find_pages(b"MAGI"))) == 300
    assert asked == [4] * 300


def test_shared_zero_page_is_unpacked_at_most_twice(open_files: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = open_files(kdump(dict.fromkeys(range(1000), ZERO)))
    asked: list[int] = []
    real = module._unpack

    def counting(part: Any, offset: int, *rest: int) -> bytes:
        asked.append(offset)
        return real(part, offset, *rest)

    monkeypatch.setattr(module, "_unpack", counting)
    assert list(memory.find_pages(b"MAGI")) == []
    assert len(asked) <= 2


def test_page_frames_after_the_end_of_the_descriptors_are_not_walked(
    open_files: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bitmap of many runs costs nothing if the file has no descriptors for them."""
    data = kdump({frame: page(1) for frame in range(0, 40_000, 2)})
    calls = itertools.count()

    def counted(*arguments: Any) -> Iterator[tuple[int, int]]:
        next(calls)
        return known(*arguments)

    known = module.known
    monkeypatch.setattr(module, "known", counted)
    assert list(open_files(data[: 64 << 10]).find_pages(b"MAGI")) == []
    assert next(calls) < 5000


def test_pages_that_share_their_bytes_are_held_once() -> None:
    """All pages of zeros do, and all of any other content in a file that somebody made to harm."""
    pages = {frame: bytes(4096) for frame in range(2048)} | {5000: page(1), 5001: page(2)}
    assert KdumpMemory("x", [("x", kdump(pages))]).held == 3 * 4096
