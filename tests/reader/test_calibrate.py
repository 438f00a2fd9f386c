# SPDX-License-Identifier: MIT
"""Raw images whose bytes lie elsewhere than it seems: what puts itself right, and what must be left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import UsageError
from luoser.fdt import MAGIC
from luoser.memory.overlay import Overlay
from luoser.memory.raw import Range
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.state import Direction, MapStatus, State, to_document
from luoser.state.from_json import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from tests import real
from tests.images import Image, Node, fdt, text, u32, u64
from tests.reader.helpers import only, problems
from tests.work import steps

FROZEN = "7.3-a/frozen"
GIB = 1 << 30
HOLE = 0xC000_0000


@pytest.fixture(scope="module")
def flat() -> bytes:
    """The lowest memory of a real machine as a flat image: the root and all that it names are there."""
    memory, end = real.dump(FROZEN), 32 << 20
    image = bytearray(end)
    for segment in memory.segments:
        if segment.end <= end:
            image[segment.start : segment.end] = memory.read(segment.start, segment.size)
    return bytes(image)


def opened(tmp_path: Path, *parts: tuple[int, bytes], size: int = 0) -> Memory:
    """A sparse image: (place in the file, bytes)."""
    file = tmp_path / "image"
    with file.open("wb") as out:
        for place, data in parts:
            out.seek(place)
            out.write(data)
        if size:
            out.truncate(size)
    return luoser.open(file)


def searches(memory: Memory) -> list[int]:
    """A list that gets the bytes to search of each search from now on, holes left out."""
    totals: list[int] = []
    memory.on_progress = lambda _, total: totals.append(total)
    return totals


def handovers(state: State) -> object:
    return to_document(state, full=True)["handovers"]


def said(state: State) -> str:
    return " ".join(problem.message for problem in problems(state, "source"))


# -- real memory, shifted ----------------------------------------------------------------------------------


def pieces_of(flat: bytes) -> bytes:
    """System RAM as /proc/iomem has it, one range behind the other: what `lime format=raw` writes."""
    out = b""
    for line in real.truth("7.3-a")[0]["iomem"]:
        span, _, what = line.partition(" : ")
        if what == "System RAM":
            low, high = (int(number, 16) for number in span.split("-"))
            out += flat[low : high + 1]
    return out


SHIFTS = {
    "header of a page": (lambda flat: b"H" * 4096 + flat, "assuming byte 0x1000 is physical address 0"),
    "header of 100 bytes": (lambda flat: b"H" * 100 + flat, "assuming byte 0x64 is physical address 0"),
    "header of 1 MiB": (lambda flat: bytes(1 << 20) + flat, "assuming byte 0x100000 is physical address 0"),
    "from 1 MiB on": (lambda flat: flat[1 << 20 :], "assuming byte 0 is physical address 0x100000"),
    "from 0x1000 on": (lambda flat: flat[0x1000:], "assuming byte 0 is physical address 0x1000"),
    "from the middle of a page on": (lambda flat: flat[0x234:-0x234], "assuming byte 0 is physical address 0x234"),
    "LiME's format=raw": (pieces_of, "assuming byte 0 is physical address 0x61400"),
}


@pytest.mark.parametrize("kind", SHIFTS)
def test_shifted_image_of_a_real_machine_puts_itself_right(tmp_path: Path, flat: bytes, kind: str) -> None:
    shift, word = SHIFTS[kind]
    memory = opened(tmp_path, (0, shift(flat)), size=-(-len(shift(flat)) // 4096) * 4096)
    state = luoser.read(memory)
    assert handovers(state) == handovers(luoser.read(opened(tmp_path / ".." / tmp_path.name, (0, flat))))
    assert word in said(state)


def test_shift_is_told_once_and_kept(tmp_path: Path, flat: bytes) -> None:
    memory = opened(tmp_path, (0, flat[1 << 20 :]))
    first, again = luoser.read(memory), luoser.read(memory)
    assert first == again
    assert len(problems(first, "source")) == 1
    assert memory.is_guess is False


def test_root_is_named_by_the_address_that_it_was_shown_with(tmp_path: Path, flat: bytes) -> None:
    memory = opened(tmp_path, (0, flat[1 << 20 :]))
    address = only(luoser.read(memory)).address
    assert address == only(real.read(FROZEN)).address
    again = opened(tmp_path, (0, flat[1 << 20 :]))
    assert only(luoser.read(again, root=address)).luo is not None
    assert only(luoser.read(again, root=address)).address == address
    with pytest.raises(UsageError, match="no KHO root"):
        luoser.read(opened(tmp_path, (0, flat[1 << 20 :])), root=address - (1 << 20))


def test_recorder_holds_the_pages_of_the_image_that_was_put_right(tmp_path: Path, flat: bytes) -> None:
    right = Recorder(opened(tmp_path, (0, flat)))
    luoser.read(right)
    shifted = Recorder(opened(tmp_path, (0, b"H" * 4096 + flat)))
    luoser.read(shifted)
    assert shifted.pages == right.pages


@pytest.mark.parametrize("place", [Range(1 << 20, None, 0), Range(0, None, 0)])
def test_word_of_the_user_is_the_last(tmp_path: Path, flat: bytes, place: Range) -> None:
    """--base: also where it is wrong."""
    opened(tmp_path, (0, flat[1 << 20 :]))
    state = luoser.read(luoser.open(tmp_path / "image", ranges=[place]))
    assert (only(state).luo is not None) is (place.start == 1 << 20)
    assert said(state) == ""


# -- the PC's hole -----------------------------------------------------------------------------------------


def metadata() -> bytes:
    return u32(1) + b"7.3.4".ljust(65, b"\0") + u32(1)


def memblock(image: Image) -> int:
    return image.tree(Node("", {"compatible": text("memblock-v1")}))


def luo_page(number: int = 1) -> bytes:
    return b"luo-v5\0\0" + u64(number) + u64(0) * 2


def users(image: Image) -> dict[str, tuple[int, int | None]]:
    tree = memblock(image)
    return {
        "LUO": (image.alloc(luo_page()), 32),
        "memblock": (tree, int.from_bytes(image.data[tree - image.base + 4 :][:4], "big")),
        "kexec-metadata": (image.alloc(metadata()), 73),
    }


def test_image_without_the_hole_whose_root_is_low(tmp_path: Path) -> None:
    high, low = Image(base=4 * GIB, pages=256), Image()
    named = users(high)
    low.kept += high.kept
    root = low.handover(named)
    memory = opened(tmp_path, (0, bytes(low.data)), (HOLE, bytes(high.data)), size=5 * GIB)
    searched = searches(memory)
    state = luoser.read(memory)
    assert 0 < max(searched) < 16 << 20
    handover = only(state)
    assert (handover.address, handover.preserved.status) == (root, MapStatus.INTACT)
    assert handover.luo is not None and handover.memblock is not None and handover.kexec_metadata is not None
    assert f"image without the PCI hole: assuming byte {HOLE:#x} is address 0x100000000" in said(state)


@pytest.mark.parametrize("header", [0x1000, 100])
def test_image_without_the_hole_behind_a_header(tmp_path: Path, header: int) -> None:
    high, low = Image(base=4 * GIB, pages=256), Image()
    named = users(high) | {"LUO": (low.alloc(luo_page()), 32)}
    low.kept += high.kept
    root = low.handover(named)
    parts = (header, bytes(low.data)), (header + HOLE, bytes(high.data))
    state = luoser.read(opened(tmp_path, *parts, size=4 * GIB + (1 << 20)))
    handover = only(state)
    assert handover.address == root
    assert handover.luo is not None and handover.memblock is not None
    assert f"byte {header:#x} is 0" in said(state)


def test_ranges_of_a_large_pc_one_behind_the_other(tmp_path: Path) -> None:
    """LiME's format=raw: 0x1000 to 0x9fc00, 1 MiB to 3 GiB, 4 GiB on."""
    high, low = Image(base=4 * GIB, pages=256), Image(pages=1024)
    low._next = 1 << 20
    named = users(high) | {"LUO": (low.alloc(luo_page()), 32)}
    low.kept += high.kept
    root = low.handover(named)
    first, second = 0x9EC00, 0x9EC00 + HOLE - (1 << 20)
    parts = (first, bytes(low.data[1 << 20 :])), (second, bytes(high.data))
    state = luoser.read(opened(tmp_path, *parts, size=second + 64 * 4096 + 0x1400))
    handover = only(state)
    assert handover.address == root
    assert handover.luo is not None and handover.memblock is not None and handover.kexec_metadata is not None


def test_image_without_the_hole_whose_handover_is_all_above_it(tmp_path: Path) -> None:
    """A hole, or RAM that starts at 1 GiB? Both fit; what is below 4 GiB is not known, and is not made up."""
    high = Image(base=4 * GIB, pages=256)
    root = high.handover(users(high))
    memory = opened(tmp_path, (0x5000, b"low"), (HOLE, bytes(high.data)), size=5 * GIB)
    state = luoser.read(memory)
    handover = only(state)
    assert (handover.address, handover.preserved.status) == (root, MapStatus.INTACT)
    assert handover.luo is not None and handover.memblock is not None
    assert "earlier bytes are ignored" in said(state)
    assert memory.segments[0].start == 4 * GIB


# -- images that are to be left alone ------------------------------------------------------------------------


class Counting(Overlay):
    """Counts the searches of the whole image: for roots, for setup_data; and how often its parts were put elsewhere."""

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.for_roots = self.for_nodes = self.placed = 0

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        self.for_roots += prefix == MAGIC
        return super().find_pages(prefix, at=at)

    def find(self, pattern: bytes) -> Iterator[int]:
        self.for_nodes += 1
        return super().find(pattern)

    def place(self, ranges: Sequence[Range]) -> None:
        self.placed += 1
        super().place(ranges)


def test_image_that_is_right_is_searched_once(tmp_path: Path, flat: bytes) -> None:
    memory = Counting(opened(tmp_path, (0, flat)))
    state = luoser.read(memory, kallsyms=False)
    assert (memory.for_roots, memory.for_nodes, memory.placed) == (1, 1, 0)
    assert only(state).luo is not None and said(state) == ""


def test_image_with_one_thing_lost_and_the_rest_in_place_is_searched_once(tmp_path: Path, flat: bytes) -> None:
    """After the jump: the page of LUO was reused, and another LUO page lies elsewhere."""
    memory = Counting(opened(tmp_path, (0, flat)))
    luo = only(real.read(FROZEN)).luo
    assert luo is not None
    memory.write(luo.address, bytes(4096))
    memory.write(0x30_0000, luo_page())
    state = luoser.read(memory, kallsyms=False)
    assert (memory.for_roots, memory.for_nodes, memory.placed) == (1, 1, 0)
    assert only(state).luo is None and problems(state, "luo-reused")


def test_image_without_a_handover_is_left_alone(tmp_path: Path) -> None:
    memory = Counting(opened(tmp_path, (0x5000, b"\xd0\x0d\xfe\xed" + bytes(100)), size=64 << 20))
    assert luoser.read(memory).handovers == ()
    assert memory.placed == 0 and said(luoser.read(memory)) == ""


def test_sparse_image_without_a_handover_costs_little(tmp_path: Path) -> None:
    """What the file system knows to be a hole is not searched."""
    memory = opened(tmp_path, (GIB, b"x"), size=64 * GIB)
    searched = searches(memory)
    assert luoser.read(memory).handovers == ()
    assert 0 < max(searched) < 16 << 20


def lost(*, pages: int = 512) -> tuple[Image, int]:
    """A root whose sub-trees and map are gone, and the address of the LUO page that it names."""
    image = Image(pages=pages)
    luo = image.alloc(keep=False)
    tree = image.alloc(keep=False)
    image.handover(
        {"LUO": (luo, 32), "memblock": (tree, None)}, map_address=image.alloc(b"#!/bin/sh" * 400, keep=False)
    )
    return image, luo


def test_page_of_a_newer_luo_does_not_shift_the_image(tmp_path: Path) -> None:
    """What an old root names is gone, and the one thing that looks like it is another kernel's."""
    image, _ = lost()
    image.alloc(luo_page(7), keep=False)
    memory = opened(tmp_path, (0, bytes(image.data)))
    state = luoser.read(memory)
    assert said(state) == "" and memory.is_guess
    assert only(state).luo is None and only(state).direction is not Direction.OUTGOING
    assert [segment.start for segment in memory.segments] == [0]


def test_tree_of_a_newer_kernel_does_not_shift_the_image(tmp_path: Path) -> None:
    image, _ = lost()
    image.alloc()
    memblock(image)
    assert said(luoser.read(opened(tmp_path, (0, bytes(image.data))))) == ""


def test_whole_handover_beside_an_old_root_keeps_the_image(tmp_path: Path) -> None:
    """The new kernel's own root and all that it names are in place."""
    image, luo = lost()
    image.put(luo, b"")
    own = image.handover(users(image))
    memory = Counting(opened(tmp_path, (0, bytes(image.data))))
    state = luoser.read(memory)
    assert (memory.placed, said(state)) == (0, "")
    assert next(handover for handover in state.handovers if handover.address == own).luo is not None


def test_two_shifts_that_are_as_good_leave_the_image_alone(tmp_path: Path) -> None:
    """Two images of the handover, as in a copy of the memory inside of the memory."""
    image = Image(base=0x1000_0000, pages=128)
    image.handover(users(image))
    data = bytes(image.data)
    memory = opened(tmp_path, (0, data + data))
    state = luoser.read(memory)
    assert said(state) == "" and memory.is_guess
    assert all(handover.luo is None for handover in state.handovers)


def test_recorder_holds_no_page_of_the_attempt(tmp_path: Path) -> None:
    """What was looked at to put the image right is no part of the handover."""
    image, _ = lost()
    image.alloc(luo_page(7), keep=False)
    tried = Recorder(opened(tmp_path, (0, bytes(image.data))))
    luoser.read(tried)
    left_alone = Recorder(luoser.open(tmp_path / "image", ranges=[Range(0, None, 0)]))
    luoser.read(left_alone)
    assert tried.pages == left_alone.pages != set()


def test_sub_tree_of_another_kind_is_no_sign(tmp_path: Path) -> None:
    image = Image()
    image.handover({"my-state": (0x4000_0000, 64)})
    image.alloc(luo_page())
    memory = Counting(opened(tmp_path, (0, bytes(image.data))))
    luoser.read(memory)
    assert memory.placed == 0


# -- hostile images ----------------------------------------------------------------------------------------


def test_many_roots_and_pages_that_look_right_cost_little(tmp_path: Path) -> None:
    """Roots, things that look like their sub-trees and models to try are bounded."""
    image = Image(pages=8192)
    for number in range(200):
        names = [Node("LUO", {"preserved-data": u64(0x7000_0000 + 4096 * number)}) for _ in range(8)]
        names += [Node("memblock", {"preserved-data": u64(0x7100_0000 + 4096 * number)})]
        image.tree(Node("", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}, names))
    for place in range(300, 8192):
        image.put(4096 * place, luo_page(place))
    memory = opened(tmp_path, (0, bytes(image.data)))
    with steps(5_000_000):
        luoser.read(memory)


def test_large_trees_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with the words of a KHO tree in it, and many nodes: the bytes of trees that are parsed are bounded."""
    monkeypatch.setattr(import_module("luoser.reader.calibrate"), "_TREE_BYTES", 1 << 18)
    image = Image(pages=2048)
    blob = fdt(Node("", {"compatible": text("luo-v1")}, [Node("a", {}) for _ in range(4000)]))
    assert 32 << 10 < len(blob) <= 64 << 10
    for place in range(16, 2048 - 16, 16):
        image.put(4096 * place, blob)
    image.tree(Node("", {"compatible": text("kho-v4")}, [Node("LUO", {"preserved-data": u64(0x7000_0000)})]))
    memory = opened(tmp_path, (0, bytes(image.data)))
    with steps(3_000_000):
        luoser.read(memory)


@pytest.mark.parametrize("named", [1 << 52, (1 << 64) - 4096, 0xFFFF_F000, 4 * GIB])
def test_address_that_no_shift_reaches(tmp_path: Path, named: int) -> None:
    image = Image()
    image.handover({"LUO": (named, 32), "memblock": (named + 4096 & (1 << 64) - 1, 64)}, map_address=0)
    image.alloc(luo_page())
    memblock(image)
    luoser.read(opened(tmp_path, (0, bytes(image.data))))


# -- only a part of the handover is above the hole --


def moved(tmp_path: Path, description: object, hole: int = HOLE) -> Memory:
    """A raw image of a PC of 8 GiB, without the hole, with a built handover."""
    assert isinstance(description, dict)
    image = write(from_document(complete(description)))
    parts = [(start if start < hole else start - ((4 << 30) - hole), data) for start, data in image.runs()]
    return opened(tmp_path, *parts, size=8 << 30)


HIGH_FILE = {
    "address": "0x150000000", "size": 8192,
    "folios": {
        "list": [[0, "0x150010000", 3], [1, "0x150011000", 3]], "pages": ["0x150020000"], "chunks": ["0x150021000"],
    },
}  # fmt: skip


@pytest.mark.parametrize("hole", [0xC000_0000, 0x8000_0000])
def test_a_file_above_the_hole_shows_the_hole(tmp_path: Path, hole: int) -> None:
    sessions = [{"name": "vm", "files": [{"token": 1, "memfd": HIGH_FILE}]}]
    memory = moved(tmp_path, {"handovers": [{"luo": {"sessions": sessions}}]}, hole)
    state = luoser.read(memory)
    luo = only(state).luo
    assert luo is not None and luo.sessions[0].files[0].memfd is not None
    assert f"assuming byte {hole:#x} is address 0x100000000" in said(state)
    assert check(state).verdict is Verdict.SOUND


def test_nothing_is_judged_if_no_hole_shows(tmp_path: Path) -> None:
    tree = {"name": "unknown", "contents": [{"bytes": "6162"}]}
    description = {"handovers": [{"luo": False, "kexec_metadata": False, "subtrees": [tree]}]}
    image = write(from_document(complete(description, base=0x1_4000_0000)))
    parts = [(start - (1 << 30), data) for start, data in image.runs()]
    report = check(luoser.read(opened(tmp_path, *parts, size=8 << 30)))
    assert report.verdict is Verdict.INCONCLUSIVE and not report.passed
    assert all("addresses guessed" in one.reason for one in report.unjudged)


def test_an_image_whose_addresses_are_right_is_judged(tmp_path: Path) -> None:
    description = {"handovers": [{"luo": {"sessions": [{"name": "vm", "files": [{"token": 1, "memfd": HIGH_FILE}]}]}}]}
    image = write(from_document(complete(description)))
    report = check(luoser.read(opened(tmp_path, *image.runs(), size=8 << 30)))
    assert report.verdict is Verdict.SOUND
