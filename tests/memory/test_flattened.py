# SPDX-License-Identifier: MIT
"""makedumpfile's flattened form as a layer below kdump and ELF."""

from __future__ import annotations

import itertools
import lzma
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory import flattened as module
from luoser.memory.flattened import Flattened
from tests.memory.conftest import Bounded, Opened
from tests.memory.images import Load, core, note
from tests.memory.writers import FLAT_HEADER, PAGE, ZERO, flattened, kdump, poke, poke_sub
from tests.work import steps

HEAD = FLAT_HEADER.ljust(4096, b"\0")
END = struct.pack(">qq", -1, -1)
PAGES = {frame: b"MAGI%04d" % frame + bytes([frame % 255]) * 4088 for frame in range(60)} | {30: ZERO, 31: ZERO}
KDUMP = kdump(PAGES, ram=range(70), pack="plain", vmcoreinfo=b"OSRELEASE=7.3.4\n")
INFO = note("VMCOREINFO", b"OSRELEASE=7.3.4\nPAGESIZE=4096\n")
ELF = core(
    Load(0x100000, PAGES[1] + bytes(5 * PAGE) + PAGES[2]),
    Load(0x1000, PAGES[3], memsz=3 * PAGE),
    Load(0x800000, PAGES[4] * 3 + bytes(4 * PAGE)),
    notes=INFO,
)


def piece(offset: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack(">qq", offset, len(data) if size is None else size) + data


def layer(*records: bytes, end: bytes = END) -> Flattened:
    return Flattened("x", HEAD + b"".join(records) + end)


# -- the layer ---------------------------------------------------------------------------------------------


@given(
    data=st.binary(max_size=3000),
    size=st.integers(1, 700),
    seed=st.integers(0, 9),
    spans=st.lists(st.tuples(st.integers(0, 3100), st.integers(0, 3100)), max_size=5),
)
def test_slices_are_those_of_the_file(data: bytes, size: int, seed: int, spans: list[tuple[int, int]]) -> None:
    found = Flattened("x", flattened(data, piece=size, seed=seed))
    assert (len(found), found.truncated) == (len(data), False)
    assert found[:] == data
    for start, stop in spans:
        assert found[start:stop] == data[start:stop]


@given(
    pieces=st.lists(st.tuples(st.integers(0, 90), st.binary(min_size=1, max_size=5)), max_size=40),
    spans=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=8),
    is_whole=st.booleans(),
)
def test_slices_over_many_small_pieces(
    pieces: list[tuple[int, bytes]], spans: list[tuple[int, int]], is_whole: bool
) -> None:
    """Blocks with many pieces are kept; that changes nothing."""
    model = {offset + index: byte for offset, data in pieces for index, byte in enumerate(data)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 16)
        patch.setattr(module, "_DENSE", 2)
        found = layer(*(piece(offset, data) for offset, data in pieces), end=END if is_whole else b"")
    assert len(found) == max(model, default=-1) + 1
    for start, stop in spans:
        stop = min(stop, len(found))
        if not is_whole:
            stop = next((place for place in range(start, stop) if place not in model), stop)
        assert found[start:stop] == bytes(model.get(place, 0) for place in range(start, stop))


def test_gaps_are_zeros() -> None:
    found = layer(piece(10, b"abc"), piece(3, b"xy"))
    assert found[:] == b"\0\0\0xy\0\0\0\0\0abc"
    assert found[5:11] == b"\0\0\0\0\0a"


def test_pieces_without_bytes_are_nothing() -> None:
    assert layer(piece(50, b""), piece(0, b"ab"), piece(1, b""))[:] == b"ab"


def test_later_piece_wins_at_one_offset() -> None:
    assert layer(piece(0, b"old!"), piece(0, b"new!"))[:] == b"new!"


@pytest.mark.parametrize(
    "records",
    [
        [(0, b"0123456789"), (0, b"abc")],
        [(0, b"0123456789"), (4, b"abc")],
        [(4, b"abc"), (0, b"0123456789")],
        [(0, b"0123456789"), (2, b"xx"), (7, b"yy")],
    ],
)
def test_pieces_are_written_one_over_the_other(records: list[tuple[int, bytes]]) -> None:
    """As `makedumpfile -R` does: every record is written at its offset, in the order of the file."""
    out = bytearray(10)
    for offset, data in records:
        out[offset : offset + len(data)] = data
    found = layer(*(piece(offset, data) for offset, data in records))
    assert [found[low:high] for low, high in ((0, 10), (3, 6), (8, 10))] == [
        bytes(out[low:high]) for low, high in ((0, 10), (3, 6), (8, 10))
    ]


def test_missing_end_record_is_told() -> None:
    assert layer(piece(0, b"ab"), end=b"").truncated
    assert layer(piece(0, b"ab"), end=END[:9]).truncated
    assert not layer(piece(0, b"ab")).truncated


def test_what_stands_behind_the_end_record_is_nothing() -> None:
    assert layer(piece(0, b"ab"), END, piece(0, b"xy"))[:] == b"ab"


def test_makedumpfile_rearranges_to_the_same_bytes(tmp_path: Path) -> None:
    """An oracle for the writer as well."""
    if shutil.which("makedumpfile") is None:
        pytest.skip("makedumpfile is not installed")
    data = flattened(KDUMP, seed=3)
    subprocess.run(
        ["makedumpfile", "-R", tmp_path / "out"], input=data, check=True, capture_output=True, timeout=600
    )  # fmt: skip
    assert (tmp_path / "out").read_bytes() == KDUMP == Flattened("x", data)[:]


# -- kdump and ELF on top ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_kdump_in_pieces(open_files: Opened, size: int, seed: int | None) -> None:
    memory = open_files(flattened(KDUMP, piece=size, seed=seed))
    assert (memory.format, memory.remarks, memory.vmcoreinfo) == ("kdump", [], {"OSRELEASE": "7.3.4"})
    assert {frame: memory.read(frame * PAGE, PAGE) for frame in PAGES} == PAGES
    assert memory.page_state(65 * PAGE) is PageState.EXCLUDED
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in PAGES if PAGES[frame] != ZERO]


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_elf_in_pieces(open_files: Opened, size: int, seed: int | None) -> None:
    plain, memory = open_files(ELF), open_files(flattened(ELF, piece=size, seed=seed))
    assert (memory.format, memory.remarks) == ("elf", [])
    assert memory.vmcoreinfo == plain.vmcoreinfo
    assert memory.page_size == plain.page_size == 4096
    for start, length in ((0x1000, 1), (0x100000, 7), (0x800000, 7)):
        assert memory.read(start, length * PAGE) == plain.read(start, length * PAGE)
    for address in (0, 0x4000, 0x107000):
        assert memory.page_state(address) is PageState.ABSENT
    assert memory.page_state(0x2000) is plain.page_state(0x2000) is PageState.EXCLUDED


def merged(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in spans:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def test_elf_in_pieces_covers_the_same_memory(open_files: Opened) -> None:
    plain = open_files(ELF)
    memory = open_files(flattened(ELF, piece=700, seed=5))
    assert merged((part.start, part.end) for part in memory.segments) == merged(
        (part.start, part.end) for part in plain.segments
    )


def test_pages_of_an_elf_in_whole_pieces_are_found(open_files: Opened) -> None:
    """A piece that holds the magic whole, at any place in it."""
    memory = open_files(flattened(ELF, piece=1 << 20))
    assert list(memory.find_pages(b"MAGI")) == list(open_files(ELF).find_pages(b"MAGI"))
    assert list(memory.find(b"MAGI0004")) == list(open_files(ELF).find(b"MAGI0004"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_of_an_elf_in_tiny_pieces_are_found(open_files: Opened, size: int) -> None:
    data = core(Load(0x1000, b"MAGI" + b"x" * 4092))
    assert list(open_files(flattened(data, piece=size)).find_pages(b"MAGI")) == [0x1000]


def test_packed(open_files: Opened) -> None:
    memory = open_files(lzma.compress(flattened(KDUMP, seed=1), preset=0))
    assert memory.read(7 * PAGE, PAGE) == PAGES[7]


# -- cut and hostile files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [8, 16, 17, 5000, 100_000])
def test_cut_file_is_read_as_far_as_it_goes(open_files: Opened, cut: int) -> None:
    memory = open_files(flattened(KDUMP, zeros=True)[:-cut])
    assert any("truncated" in remark for remark in memory.remarks)
    found = 0
    for frame, data in PAGES.items():
        try:
            assert memory.read(frame * PAGE, PAGE) == data
            found += 1
        except MissingMemory as error:
            assert error.state is PageState.ABSENT
    assert found >= len(PAGES) - 1 - cut // 3000


def test_cut_elf_is_read_as_far_as_it_goes(open_files: Opened) -> None:
    data = core(*(Load(frame * 0x10000, PAGES[frame]) for frame in range(1, 20)))
    memory = open_files(flattened(data)[:-30_000])
    assert any("truncated" in remark for remark in memory.remarks)
    assert memory.read(0x10000, PAGE) == PAGES[1]
    assert memory.page_state(0x13_0000) is PageState.ABSENT
    for frame in range(1, 20):
        try:
            assert memory.read(frame * 0x10000, PAGE) == PAGES[frame]
        except MissingMemory as error:
            assert error.state is PageState.ABSENT


def test_lost_pieces_of_a_cut_file_are_not_zeros(open_files: Opened) -> None:
    """The pieces may come in any order, so that those which are lost leave gaps."""
    records = sorted(range(0, len(KDUMP), 3000), key=lambda place: -place)
    whole = (
        HEAD + piece(0, KDUMP[: 9 * PAGE]) + b"".join(piece(place, KDUMP[place : place + 3000]) for place in records)
    )
    memory = open_files(whole[: len(HEAD) + 9 * PAGE + 16 + 30 * 3016])
    for frame, data in PAGES.items():
        try:
            assert memory.read(frame * PAGE, PAGE) == data
        except MissingMemory as error:
            assert error.state is PageState.ABSENT


def test_lost_pieces_of_a_cut_elf_are_not_zeros(open_files: Opened) -> None:
    data = core(Load(0x1000, PAGES[1] + PAGES[2] + PAGES[3]), notes=INFO)
    start = len(data) - 3 * PAGE
    pieces = [piece(0, data[: start + 100]), piece(start + PAGE + 100, data[start + PAGE + 100 : start + 2 * PAGE])]
    memory = open_files(HEAD + b"".join(pieces))
    assert any("truncated" in remark for remark in memory.remarks)
    assert memory.read(0x1000, 100) == PAGES[1][:100]
    assert memory.read(0x2064, PAGE - 100) == PAGES[2][100:]
    for address in (0x1064, 0x2063, 0x3000):
        assert memory.page_state(address) is PageState.ABSENT
        with pytest.raises(MissingMemory):
            memory.read(address, 1)
    whole = open_files(HEAD + b"".join(pieces) + piece(len(data) - 1, data[-1:]) + END)
    assert whole.read(0x1064, 100) == bytes(100)


@pytest.mark.parametrize("lost", ["sub-header", "bitmaps", "descriptors", "data"])
def test_lost_piece_of_a_cut_kdump_hides_no_page_as_excluded(open_files: Opened, lost: str) -> None:
    """Whatever the lost piece was, no page reads wrong, and none that was dumped is called excluded."""
    spots = {"sub-header": (PAGE, 8), "bitmaps": (3 * PAGE + 2, 1), "descriptors": (4 * PAGE + 240, 480)}
    start, size = spots.get(lost, (4 * PAGE + 24 * 60 + 5 * PAGE, 3 * PAGE))
    memory = open_files(HEAD + piece(0, KDUMP[:start]) + piece(start + size, KDUMP[start + size :]))
    assert all("truncated" in remark for remark in memory.remarks) and len(memory.remarks) == 2
    states = {frame: memory.page_state(frame * PAGE) for frame in PAGES}
    assert set(states.values()) <= {PageState.PRESENT, PageState.ABSENT}
    held = [frame for frame, state in states.items() if state is PageState.PRESENT]
    assert all(memory.read(frame * PAGE, PAGE) == PAGES[frame] for frame in held)
    assert list(memory.find_pages(b"MAGI")) == [frame * PAGE for frame in held if any(PAGES[frame])]
    assert len(held) == {"sub-header": 0, "bitmaps": 16, "descriptors": 40}.get(lost, len(held))
    assert lost != "data" or set(PAGES) - set(held) in ({5, 6, 7, 8}, {4, 5, 6, 7}, {5, 6, 7})


@pytest.mark.parametrize(
    "head", [struct.pack(">qq", 2, 1), struct.pack(">qq", 1, 2), struct.pack("<qq", 1, 1), bytes(16)]
)
def test_other_types_and_versions_are_refused(open_files: Opened, head: bytes) -> None:
    with pytest.raises(SourceError, match="expected type 1 version 1, found type"):
        open_files(FLAT_HEADER[:16] + head + bytes(9000))


def test_neither_kdump_nor_elf_is_refused(open_files: Opened) -> None:
    with pytest.raises(SourceError, match="expected kdump or ELF inside"):
        open_files(flattened(b"EMiL" + bytes(9000), zeros=True))
    with pytest.raises(SourceError):
        open_files(HEAD + END)


@pytest.mark.parametrize("size", [16, 20, 31])
def test_header_that_breaks_off_is_refused(open_files: Opened, size: int) -> None:
    with pytest.raises(SourceError):
        open_files(HEAD[:size])


@pytest.mark.parametrize("size", [32, 4095, 4096, 4100])
def test_file_without_pieces_is_refused(open_files: Opened, size: int) -> None:
    with pytest.raises(SourceError):
        open_files((HEAD + END)[:size])


def use(open_files: Opened, data: bytes) -> None:
    try:
        memory = open_files(data)
    except SourceError as error:
        assert "\n" not in str(error)
        return
    for frame in (0, 5, 59, 65, 1 << 30):
        memory.page_state(frame * PAGE)
        try:
            memory.read(frame * PAGE, PAGE)
        except MissingMemory:
            continue
    list(itertools.islice(memory.find_pages(b"MAGI"), 100))


HOSTILE = {
    "piece far away": piece(1 << 50, b"x"),
    "piece of 2^63 - 1 bytes": piece(1 << 20, b"x", (1 << 63) - 1),
    "negative offset": piece(-5, b"xxxx"),
    "negative size": piece(5, b"", -5),
    "pieces of no bytes": piece(0, b"") * 10_000,
    "tiny pieces": b"".join(piece(1 << 20 | number, b"x") for number in range(10_000)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pieces_are_quick_and_bounded(open_files: Opened, bounded: Bounded, case: str) -> None:
    with bounded(lines=1_500_000):  # 10,000 pieces, twice, with 25 lines each
        use(open_files, HEAD + piece(0, KDUMP) + HOSTILE[case] + END)
        use(open_files, HEAD + piece(0, ELF) + HOSTILE[case] + END)


def test_piece_that_ends_behind_all_numbers(open_files: Opened) -> None:
    use(open_files, HEAD + piece(0, KDUMP) + piece((1 << 63) - 1, b"xx") + END)


@pytest.mark.parametrize("blocks", [1 << 15, 0xFFFFFFFF])
def test_bitmaps_in_a_gap_are_bounded(open_files: Opened, bounded: Bounded, blocks: int) -> None:
    with bounded():
        use(open_files, HEAD + piece(0, poke(KDUMP, bitmap_blocks=blocks)) + piece(1 << 50, b"x") + END)


def test_frames_in_a_gap_are_bounded(open_files: Opened, bounded: Bounded) -> None:
    """The header speaks of 128 TiB of memory, the file has nothing of their bitmaps or descriptors."""
    frames = 1 << 35
    data = poke_sub(poke(KDUMP[: 2 * PAGE], bitmap_blocks=frames // 16384), max_mapnr_64=frames)
    with bounded():
        use(open_files, HEAD + piece(0, data) + piece(1 << 50, b"x") + END)
        use(open_files, HEAD + piece(0, data + b"\xff" * 8 * PAGE) + piece(1 << 50, b"x") + END)


def test_pieces_cost_no_objects(bounded: Bounded) -> None:
    """A dump of 1 TiB has millions of them."""
    count = 16_000
    data = HEAD + b"".join(piece(64 * (7 * number % count), b"x") for number in range(count)) + END
    with bounded(lines=1_000_000, mib=2):
        found = Flattened("x", data)
    assert found[: 64 * 3] == (b"x" + bytes(63)) * 3


def test_pages_over_many_small_pieces_cost_little() -> None:
    """The bytes are put together once, not for each page that has some of them."""
    found = layer(*(piece(number, b"x") for number in range(16_000)))
    with steps(1000 * 60):
        assert all(found[start : start + 8192] == b"x" * 8192 for start in range(1000))


def test_segments_over_the_same_pieces_are_bounded(open_files: Opened) -> None:
    count = 500
    data = core(*(Load(number << 32, b"x" if not number else b"") for number in range(count)))
    start = len(data) - 1
    loads = b"".join(struct.pack("<IIQQQQQQ", 1, 0, start, 0, number << 32, count, count, 0) for number in range(count))
    file = HEAD + piece(0, data[:64] + loads) + b"".join(piece(start + number, b"x") for number in range(count)) + END
    with steps(500_000):  # 100 for each piece of a segment
        memory = open_files(file)
    assert len(memory.segments) <= 4 * (2 * count + 1)
    assert "times the pieces of the flattened file; the others are left out" in memory.remarks[0]


def test_cost_of_a_read_does_not_grow_with_the_pieces() -> None:
    """The piece is looked up, not looked for: some 20 lines, wherever it is."""
    count = 10_000
    found = layer(b"".join(piece(64 * number, b"x") for number in range(count)))
    for number in (0, count // 2, count - 2):
        with steps(100):
            assert found[64 * number : 64 * number + 4] == b"x\0\0\0"


@given(st.binary(max_size=400))
def test_any_records_raise_nothing_else(data: bytes) -> None:
    from luoser.memory.open import _recognise_flattened

    buffer = HEAD + piece(0, ELF[:2000]) + data
    try:
        found = Flattened("x", buffer)
        if len(found) < 1 << 20:
            _recognise_flattened("x", buffer, found)
    except (SourceError, OverflowError) as error:  # OverflowError: see test_piece_that_ends_behind_all_numbers
        assert "\n" not in str(error)
