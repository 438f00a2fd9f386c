# SPDX-License-Identifier: MIT
"""VMware .vmem files with the .vmss or .vmsn that says where their bytes belong."""

from __future__ import annotations

import contextlib
import lzma
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory.vmware import VmwareMemory
from tests.memory.conftest import Bounded, Opened
from tests.memory.writers import PAGE, vmware

PRESENT, ABSENT = PageState.PRESENT, PageState.ABSENT
MAGICS = [b"\xd0\xbe\xd2\xbe", b"\xd1\xba\xd1\xba", b"\xd2\xbe\xd2\xbe", b"\xd3\xbe\xd3\xbe"]


def page(number: int) -> bytes:
    return b"MAGI%04d" % number + bytes([number % 250 + 1]) * (PAGE - 8)


SPANS = [(0, page(1) + page(2) + page(3)), (1 << 32, page(4) * 2), (1 << 40, page(5))]
VMEM, VMSS = vmware(SPANS)


def tag(name: bytes, value: int, *indices: int, size: int = 4) -> bytes:
    head = bytes([len(indices) << 6 | size, len(name)]) + name
    return head + b"".join(struct.pack("<I", index) for index in indices) + value.to_bytes(size, "little")


def state(tags: bytes, *, groups: int = 1, place: int = 92) -> bytes:
    return struct.pack("<4sII64sQQ", MAGICS[2], 8, groups, b"memory", place, len(tags)) + tags


def region(number: int, ppn: int, place: int, size: int, width: int = 8) -> bytes:
    return (
        tag(b"regionPPN", ppn, number, size=width)
        + tag(b"regionPageNum", place, number, size=width)
        + tag(b"regionSize", size, number, size=width)
    )


@pytest.mark.parametrize("magic", MAGICS)
def test_contents_states_and_segments(open_files: Opened, magic: bytes) -> None:
    memory = open_files(*vmware(SPANS, magic=magic))
    assert (memory.format, memory.page_size, memory.vmcoreinfo, memory.remarks) == ("vmware", None, {}, [])
    assert [(part.start, part.size) for part in memory.segments] == [(start, len(data)) for start, data in SPANS]
    for start, data in SPANS:
        assert memory.read(start, len(data)) == data
        assert memory.page_state(start + len(data)) is ABSENT
    with pytest.raises(MissingMemory) as caught:
        memory.read(0, 4 * PAGE)
    assert (caught.value.address, caught.value.state) == (3 * PAGE, ABSENT)
    assert list(memory.find_pages(b"MAGI")) == [start + at for start, data in SPANS for at in range(0, len(data), PAGE)]


def test_small_machine_without_regions(open_files: Opened) -> None:
    memory = open_files(*vmware([(0, page(1) + page(2))], regions=False))
    assert memory.read(0, 2 * PAGE) == page(1) + page(2)
    assert [(part.start, part.size) for part in memory.segments] == [(0, 2 * PAGE)]


def test_regions_of_count_0(open_files: Opened) -> None:
    memory = open_files(VMEM, state(tag(b"regionsCount", 0) + b"\0\0"))
    assert memory.read(0, len(VMEM)) == VMEM


def test_path_is_that_of_the_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(VMEM)
    (tmp_path / "b").write_bytes(VMSS)
    assert luoser.open(tmp_path / "a", tmp_path / "b").path == str(tmp_path / "a")


def test_packed_files(open_files: Opened) -> None:
    memory = open_files(lzma.compress(VMEM), lzma.compress(VMSS))
    assert (memory.format, memory.read(1 << 40, PAGE)) == ("vmware", page(5))


def test_state_file_alone_says_what_is_to_be_named(open_files: Opened) -> None:
    with pytest.raises(SourceError, match=r"\.vmem first"):
        open_files(VMSS)


def test_memory_file_alone_is_a_raw_image(open_files: Opened) -> None:
    assert open_files(VMEM).format == "raw"


def test_wrong_order_is_refused(open_files: Opened) -> None:
    with pytest.raises(SourceError):
        open_files(VMSS, VMEM)


def test_three_files_are_refused(open_files: Opened) -> None:
    with pytest.raises(SourceError):
        open_files(VMEM, VMSS, VMSS)


@pytest.mark.parametrize("cut", [1, PAGE, 2 * PAGE + 5])
def test_cut_memory_is_read_as_far_as_it_goes(open_files: Opened, cut: int) -> None:
    memory = open_files(VMEM[:-cut], VMSS)
    assert memory.read(0, 3 * PAGE) == SPANS[0][1]
    assert memory.page_state((1 << 40) + PAGE - 1) is ABSENT
    with pytest.raises(MissingMemory):
        memory.read(1 << 40, PAGE)
    assert any("truncated" in remark for remark in memory.remarks)


def test_overlapping_regions_are_told(open_files: Opened) -> None:
    tags = tag(b"regionsCount", 2) + region(0, 1, 0, 1) + region(1, 0, 1, 3)
    memory = open_files(VMEM, state(tags + b"\0\0"))
    assert memory.read(PAGE, PAGE) == page(1)
    assert any("overlap" in remark for remark in memory.remarks)


GARBAGE = {
    "no group": struct.pack("<4sII", MAGICS[2], 8, 0),
    "groups that are not there": struct.pack("<4sII", MAGICS[2], 8, 0xFFFFFFFF),
    "only the magic": MAGICS[2],
    "4 G regions": state(tag(b"regionsCount", 0xFFFFFFFF) + b"\0\0"),
    "a region is missing": state(tag(b"regionsCount", 2) + region(0, 0, 0, 1) + b"\0\0"),
    "a tag is missing": state(tag(b"regionsCount", 1) + tag(b"regionPPN", 0, 0) + tag(b"regionSize", 1, 0) + b"\0\0"),
    "count of 61 bytes": state(tag(b"regionsCount", (1 << 488) - 1, size=61) + b"\0\0"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_refused(open_files: Opened, bounded: Bounded, case: str) -> None:
    with bounded(), pytest.raises(SourceError) as caught:
        open_files(VMEM, GARBAGE[case])
    assert "\n" not in str(caught.value)


LONG_VMEM, LONG_VMSS = vmware([(0, page(1)), (1 << 32, page(4) * 300)])
CUTS = {
    "before the count": LONG_VMSS.index(b"hotSet") + 20,
    "inside of a size": LONG_VMSS.rindex(b"regionSize") + 10 + 4 + 1,
}


@pytest.mark.parametrize("case", CUTS)
def test_state_file_that_breaks_off_is_refused_or_told(open_files: Opened, case: str) -> None:
    """Whether regions are lost cannot be known: the bytes must not lie at other addresses without a word."""
    try:
        memory = open_files(LONG_VMEM, LONG_VMSS[: CUTS[case]])
    except SourceError:
        return
    assert memory.remarks


@pytest.mark.parametrize("magic", MAGICS)
def test_group_that_breaks_off_anywhere_is_refused(magic: bytes) -> None:
    """Up to the end mark of the group memory; what is behind it is not needed."""
    vmem, whole = vmware([(0, page(1)), (1 << 32, page(4) * 3)], magic=magic)
    name, size = b"MainMemSize", 4
    end = whole.index(name) + len(name) + size + 2
    for cut in range(end):
        with pytest.raises(SourceError) as caught:
            VmwareMemory("x", vmem, "y", whole[:cut])
        assert "\n" not in str(caught.value)
    assert VmwareMemory("x", vmem, "y", whole[:end]).segments == VmwareMemory("x", vmem, "y", whole).segments


def test_tag_with_more_indices_is_no_region(open_files: Opened) -> None:
    tags = tag(b"regionsCount", 1) + region(0, 0, 0, 1) + tag(b"regionPPN", 7, 0, 1)
    assert open_files(VMEM, state(tags + b"\0\0")).segments[0].start == 0


def test_group_that_starts_behind_the_file(open_files: Opened) -> None:
    with pytest.raises(SourceError, match="truncated"):
        open_files(VMEM, state(b"", place=(1 << 64) - 1))


def test_hostile_regions_are_quick_and_bounded(open_files: Opened, bounded: Bounded) -> None:
    big = (1 << 64) - 1
    for ppn, place, size in ((big, 0, 1), (0, big, 1), (0, 0, big), (big, big, big)):
        with bounded():
            memory = open_files(VMEM, state(tag(b"regionsCount", 1) + region(0, ppn, place, size) + b"\0\0"))
            memory.page_state(0)
            with contextlib.suppress(MissingMemory):
                memory.read(0, PAGE)
            list(memory.find_pages(b"MAGI"))


def test_find_with_a_region_behind_the_file(open_files: Opened) -> None:
    memory = open_files(VMEM, state(tag(b"regionsCount", 1) + region(0, 0, (1 << 64) - 1, 1) + b"\0\0"))
    assert list(memory.find(b"MAGI")) == []


def test_tags_without_end_are_bounded(open_files: Opened) -> None:
    tags = tag(b"x", 1) * 100 + b"\0\0"
    with limited(Limits(vmware_tags=100)):
        assert open_files(VMEM, state(tags)).segments
    with limited(Limits(vmware_tags=99)), pytest.raises(SourceError, match=r"more than 99 tags .*vmware_tags=N"):
        open_files(VMEM, state(tags))


def test_regions_are_as_many_as_there_are_tags(open_files: Opened) -> None:
    with pytest.raises(SourceError, match="memory region 1 has no tag regionPPN"):
        open_files(VMEM, state(tag(b"regionsCount", 0xFFFF_FFFF) + region(0, 0, 0, 1) + b"\0\0"))


def test_the_group_may_be_behind_many_others(open_files: Opened) -> None:
    groups = struct.pack("<64sQQ", b"other", 0, 0) * 2000
    data = struct.pack("<4sII", MAGICS[1], 0, 2001) + groups
    data += struct.pack("<64sQQ", b"memory", len(data) + 80, 0) + b"\0\0"
    assert open_files(VMEM, data).segments[0].start == 0


def test_block_tag_that_is_larger_than_the_file(open_files: Opened) -> None:
    data = bytes([63, 1]) + b"m" + struct.pack("<QQ", (1 << 64) - 1, 5)
    with pytest.raises(SourceError, match="truncated"):
        open_files(VMEM, state(data))


@given(st.binary(max_size=400))
def test_any_tags_raise_nothing_else(data: bytes) -> None:
    for content in (state(data), state(tag(b"regionsCount", 1) + data), MAGICS[0] + data):
        try:
            memory = VmwareMemory("x", VMEM, "y", content)
        except SourceError as error:
            assert "\n" not in str(error)
        else:
            list(memory.find_pages(b"MAGI"))
