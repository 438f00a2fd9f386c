# SPDX-License-Identifier: MIT
"""The vmalloc area of a folio array: chunks and pages that are gone, broken or many."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.errors import PageState
from tests import real
from tests.images import Image, u32, u64
from tests.reader.helpers import FROZEN, RAM0, as_tuples, chunks_of, memfd_image, memfd_of, problems, sound_memfd, v2
from tests.work import steps


@pytest.mark.parametrize(("state", "code"), [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded")])
def test_vmalloc_chunk_that_is_gone_leaves_count_and_no_folios(state: PageState, code: str) -> None:
    memory = real.overlay(FROZEN)
    memory.remove(sound_memfd(RAM0).folios.address, state=state)
    found = luoser.read(memory)
    memfd = memfd_of(found, RAM0)
    assert (memfd.size, memfd.folios.count, len(memfd.folios.list)) == (0x400000, 1024, 0)
    assert [problem.address for problem in problems(found, code)] == [sound_memfd(RAM0).folios.address]


def test_missing_page_of_the_array_leaves_the_folios_before_it() -> None:
    memory = real.overlay(FROZEN)
    pages = sound_memfd(RAM0).folios.pages
    assert len(pages) == 4
    memory.remove(pages[2], state=PageState.EXCLUDED)
    found = luoser.read(memory)
    assert as_tuples(memfd_of(found, RAM0)) == as_tuples(sound_memfd(RAM0))[:512]
    assert problems(found, "excluded")[0].address == pages[2]


def test_chunk_that_ends_early_is_a_problem() -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound_memfd(RAM0).folios.address + 16, u64(0))
    found = luoser.read(memory)
    assert len(memfd_of(found, RAM0).folios.list) == 256
    assert problems(found, "short-list")


@pytest.mark.parametrize("entry", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_impossible_block_of_the_array_is_a_problem(entry: int) -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound_memfd(RAM0).folios.address + 16, u64(entry))
    found = luoser.read(memory)
    assert len(memfd_of(found, RAM0).folios.list) == 256
    assert f"{entry:#x}" in problems(found, "bad-pointer")[0].message


def test_chunk_that_leads_back_is_a_problem_with_both_addresses() -> None:
    """With more pages promised than the chain has, a loop would never end."""
    image = Image(pages=1500)
    descriptor, chunks = chunks_of(700, image)
    assert len(chunks) == 2
    image.put(chunks[1], u64(chunks[0]))
    descriptor = descriptor[:8] + u32(0xFFFFFFFF) + descriptor[12:]
    with steps(200_000):
        state = memfd_image(image, "memfd-v2", v2(descriptor, folios=1 << 20))
    (problem,) = problems(state, "loop")
    assert problem.address == chunks[1]
    assert f"{chunks[0]:#x}" in problem.message and f"{chunks[1]:#x}" in problem.message


def test_array_over_several_chunks() -> None:
    """511 pages fill a chunk: 512 pages hold 131072 folios."""
    image = Image(pages=700)
    array = b"".join(struct.pack("<QQ", i + 1 | 3 << 52, i) for i in range(512 * 256))
    state = memfd_image(image, "memfd-v2", v2(image.vmalloc(array), folios=512 * 256, size=512 << 20))
    memfd = memfd_of(state, 1)
    assert len(memfd.folios.chunks) == 2
    assert len(memfd.folios.list) == 512 * 256
    assert memfd.folios.list[-1].index == 512 * 256 - 1
    assert state.problems == ()


def test_extra_empty_chunk_behind_a_full_one_is_legal() -> None:
    image = Image(pages=700)
    array = b"".join(struct.pack("<QQ", i + 1 | 3 << 52, i) for i in range(511 * 256))
    descriptor = image.vmalloc(array)
    image.put(int.from_bytes(descriptor[:8], "little"), u64(image.alloc()))
    state = memfd_image(image, "memfd-v2", v2(descriptor, folios=511 * 256, size=511 << 20))
    assert len(memfd_of(state, 1).folios.list) == 511 * 256
    assert state.problems == ()
