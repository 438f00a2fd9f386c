# SPDX-License-Identifier: MIT
"""Which page size a source is read with, and what is said where the map is whole with another one only."""

from __future__ import annotations

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import UsageError
from luoser.fdt import MAGIC
from luoser.memory.elf import ElfMemory
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import Direction, MapStatus, State
from tests import real
from tests.images import Image
from tests.memory.images import Load, core
from tests.reader.helpers import codes, only, problems

FROZEN = "7.3-a/frozen"
SIZES = (4096, 16384, 65536)


def unsaid(name: str = FROZEN) -> Overlay:
    """A dump of 4 KiB pages whose notes and header do not say the page size."""
    memory = real.overlay(name)
    memory.vmcoreinfo = {key: value for key, value in memory.vmcoreinfo.items() if key != "PAGESIZE"}
    memory.page_size = None
    return memory


def image(page_size: int) -> Memory:
    """An image that does not say its page size."""
    made = Image(page_size=page_size, first=1 << 20)
    made.handover()
    return ElfMemory("x", core(Load(0, bytes(made.data))))


def page_size_problems(state: State) -> list[str]:
    return [code for code in codes(state) if code.startswith("page-size")]


# -- who is heard first --


@pytest.mark.parametrize("size", SIZES)
def test_users_page_size_is_never_replaced(size: int) -> None:
    for stated in SIZES:
        memory = image(stated)
        memory.vmcoreinfo = {"PAGESIZE": str(stated)}
        assert luoser.read(memory, page_size=size).source.page_size == size


@pytest.mark.parametrize("size", [16384, 65536])
def test_users_page_size_with_which_no_map_is_whole_is_doubted(size: int) -> None:
    state = luoser.read(real.dump(FROZEN), page_size=size)
    assert state.source.page_size == size
    (problem,) = problems(state, "page-size-doubt")
    assert (problem.root, problem.address) == (None, None)
    assert problem.message == (
        f"page size: --page-size has {size}, but the map is intact only with 4096; read with {size}"
    )


@pytest.mark.parametrize("name", real.DUMPS)
@pytest.mark.parametrize("size", [16384, 65536])
def test_map_that_is_read_with_a_wrong_page_size_is_not_called_stale(name: str, size: int) -> None:
    sound = {one.address: one.direction for one in real.read(name).handovers}
    for one in luoser.read(real.dump(name), page_size=size).handovers:
        assert one.direction in (sound[one.address], Direction.UNKNOWN)
        if sound[one.address] is Direction.OUTGOING:
            assert one.preserved.status is not MapStatus.STALE


def test_vmcoreinfo_outranks_the_container() -> None:
    """QEMU's kdump header says 65536 of every arm64 guest."""
    memory = real.overlay(FROZEN)
    memory.page_size = 65536
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, [])
    assert state.handovers == real.read(FROZEN).handovers


@pytest.mark.parametrize("size", SIZES)
def test_container_is_heard_where_vmcoreinfo_says_nothing(size: int) -> None:
    memory = image(size)
    memory.page_size = size
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (size, [])


@pytest.mark.parametrize("stated", ["8192", "x", "", "-4096", "1" * 30, "\u0664\u0660\u0669\u0666"])
def test_page_size_of_vmcoreinfo_that_no_kernel_has_is_passed_over(stated: str) -> None:
    memory = real.overlay(FROZEN)
    memory.vmcoreinfo = {**memory.vmcoreinfo, "PAGESIZE": stated}
    memory.page_size = 4096
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, [])


@pytest.mark.parametrize("size", [0, 1, 512, 8192, 1 << 20])
def test_users_page_size_that_no_kernel_has_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"page size: expected one of 4096, 16384, 65536 bytes, found {size}"):
        luoser.read(real.dump(FROZEN), page_size=size)


# -- the map is the proof --


@pytest.mark.parametrize("stated", ["16384", "65536"])
def test_vmcoreinfo_with_which_no_map_is_whole_is_doubted_and_replaced(stated: str) -> None:
    memory = real.overlay(FROZEN)
    memory.vmcoreinfo = {**memory.vmcoreinfo, "PAGESIZE": stated}
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, ["page-size-doubt"])
    assert f"VMCOREINFO has {stated}, but the map is intact only with 4096" in state.problems[-1].message
    assert state.handovers == real.read(FROZEN).handovers


@pytest.mark.parametrize("size", [16384, 65536])
def test_container_with_which_no_map_is_whole_is_replaced(size: int) -> None:
    memory = unsaid()
    memory.page_size = size
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, ["page-size-guessed"])
    assert f"the elf header has {size}, but the map is intact only with 4096" in state.problems[-1].message


@pytest.mark.parametrize("size", SIZES)
def test_page_size_that_nobody_says_is_that_of_the_whole_map(size: int) -> None:
    state = luoser.read(image(size))
    assert state.source.page_size == size
    assert only(state).preserved.status is MapStatus.INTACT
    assert page_size_problems(state) == ([] if size == 4096 else ["page-size-guessed"])


@pytest.mark.parametrize("name", real.DUMPS)
def test_real_dump_that_does_not_say_its_page_size_is_read_alike(name: str) -> None:
    state = luoser.read(unsaid(name))
    assert (state.source.page_size, page_size_problems(state)) == (4096, [])
    assert state.handovers == real.read(name).handovers


def test_map_that_is_broken_with_every_size_proves_none() -> None:
    memory = unsaid()
    memory.write(only(real.read(FROZEN)).preserved.address, b"#!/bin/sh\n" * 409)
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, [])


def test_whole_map_of_one_root_outweighs_a_broken_one_of_another() -> None:
    """After the jump the incoming map is gone whatever the page size is: the outgoing one decides."""
    memory = real.overlay("7.3-chain/post")
    memory.vmcoreinfo = {**memory.vmcoreinfo, "PAGESIZE": "65536"}
    state = luoser.read(memory)
    assert (state.source.page_size, page_size_problems(state)) == (4096, ["page-size-doubt"])
    assert state.handovers == real.read("7.3-chain/post").handovers


class Counting(Overlay):
    """Counts the searches for roots."""

    searches = 0

    def find_pages(self, prefix: bytes, *, at: int = 0):  # type: ignore[no-untyped-def]
        self.searches += prefix == MAGIC
        return super().find_pages(prefix, at=at)


@pytest.mark.parametrize("pointer", [0, 0x7000_0000], ids=["absent", "missing"])
def test_other_page_sizes_are_not_tried_where_there_is_no_map_to_prove_one(pointer: int) -> None:
    made = Image()
    made.handover(map_address=pointer)
    memory = Counting(ElfMemory("x", core(Load(0, bytes(made.data)))))
    assert luoser.read(memory).source.page_size == 4096
    assert memory.searches == 1


def test_page_size_is_not_guessed_from_a_map_that_cannot_be_read() -> None:
    image = Image(pages=64)
    place = -(-(image._next) // 0x4000) * 0x4000
    while image._next <= place:
        image.alloc(keep=False)
    image.put(place, b"#!/bin/sh\n" * 400)
    image.handover(map_address=place)
    state = luoser.read(image.open())
    assert state.source.page_size == 4096
    assert state.handovers[0].preserved.status is MapStatus.DAMAGED
    assert codes(state) == ["map-garbage"]


@pytest.mark.parametrize("name", ["6.18-a/post", "6.19-a/post"])
@pytest.mark.parametrize("how", ["--page-size", "VMCOREINFO"])
def test_a_size_to_which_sub_trees_are_not_aligned_is_in_doubt(name: str, how: str) -> None:
    """No map can prove it: the next kernel has consumed it, and does not find one of its own."""
    memory = real.overlay(name)
    assert check(luoser.read(memory)).verdict is Verdict.SOUND
    if how == "VMCOREINFO":
        memory.vmcoreinfo = {**memory.vmcoreinfo, "PAGESIZE": "16384"}
    state = luoser.read(memory, page_size=16384 if how == "--page-size" else None)
    (problem,) = (one for one in state.problems if one.code == "page-size-doubt")
    assert f"{how} has 16384, but sub-trees are aligned only to 4096" in problem.message
    assert check(state).verdict is Verdict.INCONCLUSIVE
