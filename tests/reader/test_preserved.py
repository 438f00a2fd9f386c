# SPDX-License-Identifier: MIT
"""The preserved map: both forms, every page size, and whether it still is a map."""

from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import luoser
from luoser.errors import PageState
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import Direction, MapStatus, Preserved, PreservedMap, State
from tests import real
from tests.images import Image, Node, fdt, find_radix_bit, text, u64
from tests.posted import hypervisor
from tests.reader.helpers import codes, number, only, problems, replace_u64
from tests.work import steps

RADIX, CHUNKS = "7.3-a/frozen", "6.18-a/frozen"
both_forms = pytest.mark.parametrize("name", [RADIX, CHUNKS], ids=["radix", "chunks"])


def map_address(name: str) -> int:
    return only(real.read(name)).preserved.address


def luo_address(name: str) -> int:
    (address,) = (subtree.address for subtree in only(real.read(name)).subtrees if subtree.name == "LUO")
    assert address is not None
    return address


def blocks_of(found: PreservedMap | None) -> set[tuple[int, int]]:
    assert found is not None
    return {
        (address + i * (found.page_size << order), order)
        for address, order, count in found.extents()
        for i in range(count)
    }


def read_map(image: Image, blocks: list[tuple[int, int]], *, compatible: str, bitmap_size: int | None = None) -> State:
    """The state of an image whose map has exactly these blocks and its own root."""
    root = image.alloc()
    wanted = [*blocks, (root, 0)]
    is_chunks = compatible == "kho-v1"
    address = image.chunks(wanted, bitmap_size=bitmap_size) if is_chunks else image.radix(wanted)
    image.handover(compatible=compatible, map_address=address, root=root)
    return image.read()


# -- damage in real dumps --


@both_forms
def test_map_root_that_is_not_in_the_source_is_missing(name: str) -> None:
    memory = real.overlay(name)
    memory.remove(map_address(name))
    state = luoser.read(memory)
    preserved = only(state).preserved
    assert (preserved.status, preserved.map) == (MapStatus.MISSING, None)
    assert preserved.address == map_address(name)
    assert [problem.address for problem in problems(state, "missing")] == [map_address(name)]


@both_forms
def test_map_root_that_was_left_out_of_the_dump_is_missing_and_called_excluded(name: str) -> None:
    memory = real.overlay(name)
    memory.remove(map_address(name), state=PageState.EXCLUDED)
    state = luoser.read(memory)
    assert only(state).preserved.status is MapStatus.MISSING
    assert [problem.address for problem in problems(state, "excluded")] == [map_address(name)]


SCRIPT = b"#!/bin/busybox sh\n# First process of the machine\n" * 80
"""What a reused page of a map holds in a real dump."""


@both_forms
def test_garbage_in_the_map_root_is_damage_that_names_the_page_and_its_bytes(name: str) -> None:
    """One kind of evidence: the same bytes may have come there before the jump."""
    memory = real.overlay(name)
    memory.write(map_address(name), SCRIPT)
    state = luoser.read(memory)
    handover = only(state)
    assert (handover.preserved.status, handover.preserved.nodes) == (MapStatus.DAMAGED, (map_address(name),))
    assert handover.preserved.map is not None
    assert (handover.preserved.map.entries, handover.preserved.map.complete) == (0, False)
    assert handover.direction is Direction.OUTGOING
    assert handover.evidence[0] == "inferred: the only root, and its map is damaged"
    (problem,) = state.problems
    assert (problem.code, problem.address, problem.about) == ("map-garbage", map_address(name), "preserved")
    assert SCRIPT[:16].hex(" ") in problem.message


@both_forms
def test_garbage_in_the_map_root_and_in_the_page_of_luo_is_stale_and_was_consumed(name: str) -> None:
    memory = real.overlay(name)
    memory.write(map_address(name), SCRIPT)
    memory.write(luo_address(name), SCRIPT)
    state = luoser.read(memory)
    preserved = only(state).preserved
    assert (preserved.status, preserved.map, preserved.nodes) == (MapStatus.STALE, None, ())
    assert only(state).direction is Direction.INCOMING
    (problem,) = problems(state, "map-stale")
    assert problem.address == map_address(name)
    assert SCRIPT[:16].hex(" ") in problem.message and "LUO's page holds something else" in problem.message


@both_forms
def test_map_that_is_not_there_any_more_leaves_sessions_and_devices_readable(name: str) -> None:
    memory = real.overlay(name)
    memory.write(map_address(name), b"\xff" * 4096)
    handover, sound = only(luoser.read(memory)), only(real.read(name))
    assert handover.preserved.status is MapStatus.DAMAGED
    assert handover.luo == sound.luo
    assert [(entry.layout, entry.devices) for entry in handover.pci] == [
        (entry.layout, entry.devices) for entry in sound.pci
    ]


def test_stale_map_leaves_sessions_and_devices_readable() -> None:
    name = "7.3-chain/post"
    state = real.read(name)
    (stale,) = (handover for handover in state.handovers if handover.preserved.status is MapStatus.STALE)
    (frozen,) = real.read("7.3-chain/frozen").handovers
    assert stale.luo is not None and frozen.luo is not None and stale.luo.sessions
    assert [session.name for session in stale.luo.sessions] == [session.name for session in frozen.luo.sessions]
    assert [(entry.layout, entry.devices) for entry in stale.pci] == [
        (entry.layout, entry.devices) for entry in frozen.pci
    ]


def test_stale_map_has_null_counts_in_the_document() -> None:
    preserved = real.document("7.3-a/post")["handovers"][0]["preserved"]
    assert (preserved["status"], preserved["entries"], preserved["pages"]) == ("stale", None, None)


@both_forms
def test_map_pointer_of_zero_is_absent(name: str) -> None:
    memory = real.overlay(name)
    replace_u64(memory, only(real.read(name)).address, map_address(name), 0)
    state = luoser.read(memory)
    preserved = only(state).preserved
    assert (preserved.status, preserved.address, preserved.map) == (MapStatus.ABSENT, 0, None)
    assert state.problems == ()


@both_forms
@pytest.mark.parametrize("pointer", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_map_pointer_that_is_no_page_address_is_damage_of_the_root(name: str, pointer: int) -> None:
    memory = real.overlay(name)
    root = only(real.read(name)).address
    replace_u64(memory, root, map_address(name), pointer)
    state = luoser.read(memory)
    preserved = only(state).preserved
    assert (preserved.status, preserved.address, preserved.nodes) == (MapStatus.DAMAGED, pointer, ())
    assert preserved.map is not None and not preserved.map.complete
    assert only(state).direction is Direction.OUTGOING
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-node-broken", root)
    assert hex(pointer) in problem.message


def clear_luo_bit(name: str) -> Overlay:
    """The dump with the bit of LUO's page cleared, by a way of the test's own."""
    memory = real.overlay(name)
    if name == RADIX:
        place, mask = find_radix_bit(memory, map_address(name), luo_address(name))
    else:
        place, mask = find_chunk_bit(memory, map_address(name), luo_address(name))
    byte = memory.read(place, 1)[0]
    assert byte & mask
    memory.write(place, bytes([byte & ~mask]))
    return memory


def find_chunk_bit(memory: Overlay, chunk: int, address: int) -> tuple[int, int]:
    while chunk:
        following, order, count = struct.unpack("<QII", memory.read(chunk, 16))
        for start, bitmap in struct.iter_unpack("<QQ", memory.read(chunk + 16, 16 * count)):
            bit = (address - start) // (4096 << order)
            if 0 <= bit < 32768 and memory.read(bitmap + bit // 8, 1)[0] >> bit % 8 & 1:
                return bitmap + bit // 8, 1 << bit % 8
        chunk = following
    raise AssertionError("not in the map")


@both_forms
def test_one_kind_of_evidence_is_damage_and_the_map_stays_intact(name: str) -> None:
    state = luoser.read(clear_luo_bit(name))
    handover, sound = only(state), only(real.read(name)).preserved.map
    assert handover.preserved.status is MapStatus.INTACT
    assert handover.direction is Direction.OUTGOING
    assert handover.preserved.map is not None and sound is not None
    assert handover.preserved.map.entries == sound.entries - 1
    (problem,) = state.problems
    assert problem.code == "map-damaged"
    assert f"{luo_address(name):#x}" in problem.message


def test_map_with_a_missing_leaf_is_intact_and_says_so() -> None:
    memory = real.overlay(RADIX)
    leaf = find_radix_bit(memory, map_address(RADIX), luo_address(RADIX))[0] // 4096 * 4096
    memory.remove(leaf)
    state = luoser.read(memory)
    preserved = only(state).preserved
    assert preserved.status is MapStatus.INTACT
    assert preserved.map is not None and not preserved.map.complete
    (problem,) = problems(state, "map-node-missing")
    assert problem.address == leaf


def test_map_with_an_excluded_leaf_does_not_take_it_for_zeros() -> None:
    memory = real.overlay(RADIX)
    leaf = find_radix_bit(memory, map_address(RADIX), luo_address(RADIX))[0] // 4096 * 4096
    memory.remove(leaf, state=PageState.EXCLUDED)
    state = luoser.read(memory)
    assert "excluded" in problems(state, "map-node-missing")[0].message
    assert leaf not in only(state).preserved.nodes


# -- loops --


def free_slot(memory: Overlay, page: int) -> int:
    return next(page + 8 * i for i in range(3, 512) if not number(memory, page + 8 * i))


def inner_nodes(memory: Overlay, root: int) -> list[int]:
    """One node of each table level, from the root down, on the way to LUO's page."""
    key, node, path = 1 << 52 | luo_address(RADIX) >> 12, root, []
    for level in (5, 4, 3, 2, 1):
        path.append(node)
        node = number(memory, node + 8 * (key >> (15 + 9 * (level - 1)) & 511))
    return path


@pytest.mark.parametrize(("depth", "up"), [(depth, up) for depth in range(5) for up in range(depth + 1)])
def test_radix_node_that_leads_back_is_a_problem_with_both_addresses(depth: int, up: int) -> None:
    """The pages that were visited are remembered: a loop costs no more than the sound dump, 130,000 lines."""
    memory = real.overlay(RADIX)
    path = inner_nodes(memory, map_address(RADIX))
    memory.write(free_slot(memory, path[depth]), u64(path[up]))
    with steps(400_000):
        state = luoser.read(memory)
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-node-broken", path[depth])
    assert f"{path[depth]:#x}" in problem.message and f"{path[up]:#x}" in problem.message
    assert only(state).preserved.status is MapStatus.DAMAGED
    assert blocks_of(only(state).preserved.map) == blocks_of(only(real.read(RADIX)).preserved.map)


def test_table_full_of_itself_ends_fast() -> None:
    """The pages that were visited are remembered: 512^5 ways lead to the first leaf."""
    memory = real.overlay(RADIX)
    memory.write(map_address(RADIX), u64(map_address(RADIX)) * 512)
    with steps(400_000):
        state = luoser.read(memory)
    assert only(state).preserved.status is MapStatus.DAMAGED
    assert {(problem.code, problem.address) for problem in state.problems} == {
        ("map-node-broken", map_address(RADIX)),
    }  # fmt: skip


def test_pages_of_zeros_are_read_up_to_a_limit() -> None:
    """In addition to twice what the source holds."""
    image, zeros = Image(pages=64), 1 << 32
    table = image.alloc(struct.pack("<512Q", *(zeros + (number << 12) for number in range(512))))
    for _ in range(4):
        table = image.alloc(u64(table))
    image.handover(map_address=table)
    with limited(Limits(map_pages=100)):
        state = luoser.read(image.with_zeros(zeros, 1 << 21))
    (problem,) = problems(state, "map-too-large")
    assert f"only the first {100 + 2 * 64} were read; --limit map_pages=N" in problem.message


def test_shared_subtrees_do_not_multiply() -> None:
    """Five levels that each name the next one 512 times: 512^5 ways to one leaf."""
    image = Image()
    levels = [image.alloc(keep=False) for _ in range(6)]
    for node, child in pairwise(levels):
        image.put(node, u64(child) * 512)
    image.handover(map_address=levels[0])
    with steps(200_000):
        state = image.read()
    assert only(state).preserved.status is MapStatus.DAMAGED
    broken = {problem.address for problem in problems(state, "map-node-broken")}
    assert broken == set(levels[:-1])  # each names the next one once, which is a way, and then 511 times more


def test_chunk_that_names_itself_is_a_problem_with_both_addresses() -> None:
    memory = real.overlay(CHUNKS)
    chain = [map_address(CHUNKS)]
    while following := number(memory, chain[-1]):
        chain.append(following)
    assert len(chain) > 1
    memory.write(chain[-1], u64(chain[0]))
    state = luoser.read(memory)
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-node-broken", chain[-1])
    assert f"{chain[-1]:#x}" in problem.message and f"{chain[0]:#x}" in problem.message
    assert only(state).preserved.status is MapStatus.DAMAGED
    assert blocks_of(only(state).preserved.map) == blocks_of(only(real.read(CHUNKS)).preserved.map)


def orders(found: PreservedMap | None) -> set[int]:
    return {order for _, order in blocks_of(found)}


def assert_first_chunk_is_broken(state: State, memory: Overlay) -> None:
    """The first chunk, of order 0, is lost, and the chunks after it are read."""
    preserved, sound = only(state).preserved, only(real.read(CHUNKS)).preserved
    assert (preserved.status, only(state).direction) == (MapStatus.DAMAGED, Direction.OUTGOING)
    assert preserved.map is not None and not preserved.map.complete
    assert blocks_of(preserved.map) == {block for block in blocks_of(sound.map) if block[1]}
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-node-broken", map_address(CHUNKS))
    assert memory.read(map_address(CHUNKS), 16).hex(" ") in problem.message


@pytest.mark.parametrize("count", [0, 256, 0xFFFFFFFF])
def test_chunk_with_an_impossible_count_is_broken(count: int) -> None:
    memory = real.overlay(CHUNKS)
    memory.write(map_address(CHUNKS) + 12, count.to_bytes(4, "little"))
    state = luoser.read(memory)
    assert_first_chunk_is_broken(state, memory)
    assert f"found {count} of order" in state.problems[0].message


def test_chunk_with_an_impossible_order_is_broken() -> None:
    memory = real.overlay(CHUNKS)
    memory.write(map_address(CHUNKS) + 8, (64).to_bytes(4, "little"))
    assert_first_chunk_is_broken(luoser.read(memory), memory)


@both_forms
def test_reading_twice_gives_equal_states(name: str) -> None:
    assert luoser.read(real.dump(name)) == luoser.read(real.dump(name))


# -- synthetic maps --

UNITS = {4096: [0x617, 0x618, 0x7FFF, 0x8000], 16384: [0x100, 0x1FFFF, 0x20000], 65536: [5, 0x7FFFF, 0x80000]}


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("compatible", ["kho-v1", "kho-v3", "kho-v4"])
def test_blocks_are_read_for_every_page_size(page_size: int, compatible: str) -> None:
    blocks = [(unit * page_size, 0) for unit in UNITS[page_size]]
    blocks += [(page_size << 9, 9), (page_size << 11, 10), (page_size << 13, 3)]
    state = read_map(Image(page_size=page_size), blocks, compatible=compatible)
    assert set(blocks) < blocks_of(only(state).preserved.map)
    assert len(blocks_of(only(state).preserved.map)) == len(blocks) + 1


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_page_size_is_guessed_where_the_source_does_not_say(page_size: int) -> None:
    image = Image(page_size=page_size)
    image.handover()
    state = image.read(page_size=None)
    assert state.source.page_size == page_size
    assert only(state).preserved.status is MapStatus.INTACT
    assert [problem.code for problem in state.problems] == (["page-size-guessed"] if page_size != 4096 else [])


def test_page_size_that_no_kernel_has_is_refused() -> None:
    with pytest.raises(luoser.errors.UsageError, match=r"page size: expected .* found 8192"):
        luoser.read(real.dump(RADIX), page_size=8192)


@pytest.mark.parametrize("bitmap_size", [512, 4096])
def test_both_widths_of_bitmaps_are_told_apart(bitmap_size: int) -> None:
    """The compatible string is kho-v1 either way; the addresses tell."""
    blocks = [(0x1AC6F4000, 0), (0x1F1D28000, 0), (0x1F1D29000, 0), (0x40000000, 9)]
    state = read_map(Image(), blocks, compatible="kho-v1", bitmap_size=bitmap_size)
    preserved = only(state).preserved
    assert preserved.bitmap_size == bitmap_size
    assert set(blocks) < blocks_of(preserved.map)
    assert len(blocks_of(preserved.map)) == len(blocks) + 1


def test_sound_synthetic_map_has_no_problem() -> None:
    for compatible, form in (("kho-v1", "chunks"), ("kho-v3", "radix"), ("kho-v4", "radix")):
        image = Image()
        image.alloc(order=3)
        image.handover(compatible=compatible)
        state = image.read()
        assert only(state).preserved.form == form
        assert state.problems == ()


def test_map_property_of_the_october_2025_posting_is_known() -> None:
    image = Image()
    image.handover(compatible="kho-v2", map_property="preserved-page-radix-tree")
    state = image.read()
    assert only(state).preserved.status is MapStatus.INTACT
    assert state.problems == ()


def test_pages_count_blocks_by_their_order() -> None:
    image = Image()
    image.alloc(order=5)
    image.alloc()
    image.handover()
    found = only(image.read()).preserved.map
    assert found is not None
    assert (found.entries, found.pages) == (3, 32 + 1 + 1)


def test_root_without_a_map_property_is_a_problem() -> None:
    image = Image()
    image.handover(map_property="something-else")
    state = image.read()
    assert only(state).preserved.status is MapStatus.ABSENT
    assert "no-map" in codes(state)


@pytest.mark.parametrize("count", [1, 15])
def test_a_few_entries_that_overlap_are_no_evidence(count: int) -> None:
    """One flipped bit makes that many; MAP003 of `check` finds each of them."""
    state = read_map(
        Image(), [(0x40000000, 9), *((0x40001000 + 8192 * i, 0) for i in range(count))], compatible="kho-v4"
    )
    assert only(state).preserved.status is MapStatus.INTACT
    assert state.problems == ()


def test_many_entries_that_overlap_are_damage() -> None:
    state = read_map(Image(), [(0x40000000, 9), *((0x40001000 + 8192 * i, 0) for i in range(16))], compatible="kho-v4")
    assert only(state).preserved.status is MapStatus.INTACT
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-damaged", 0x40001000)
    assert "16 entries overlap others" in problem.message


@st.composite
def some_blocks(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Blocks far from the image, so that none of them can cover the map itself."""
    orders = draw(st.lists(st.integers(0, 12), max_size=12))
    return [((1 << 40) + (draw(st.integers(0, (1 << 20) - 1)) << 12 << order), order) for order in orders]


@settings(max_examples=60)
@given(blocks=some_blocks(), compatible=st.sampled_from(["kho-v1", "kho-v4"]))
def test_any_set_of_blocks_is_read_back(blocks: list[tuple[int, int]], compatible: str) -> None:
    state = read_map(Image(pages=256), blocks, compatible=compatible, bitmap_size=4096)
    preserved = only(state).preserved
    assert preserved.status is MapStatus.INTACT
    assert set(blocks) <= blocks_of(preserved.map)
    assert len(blocks_of(preserved.map) - set(blocks)) == 1


# -- the width of kho-v1 bitmaps --


def small_bitmap(pages: int) -> Image:
    """A map of 512-byte bitmaps whose only one starts a page, with something else behind it."""
    image = Image(pages=pages)
    blob = image.alloc(fdt(Node("", {"compatible": text("memblock-v1")})))
    image.handover({"memblock": (blob, None)}, compatible="kho-v1", bitmap_size=512)
    chunk = image.read().handovers[0].preserved.address
    bitmap = int.from_bytes(image.data[chunk + 24 : chunk + 32], "little")
    image.put(bitmap + 512, random.Random(1).randbytes(3584))
    return image


def test_slab_neighbours_of_a_small_bitmap_are_not_preserved_memory() -> None:
    preserved = small_bitmap(17000).read().handovers[0].preserved
    assert (preserved.bitmap_size, preserved.map and preserved.map.entries) == (512, 2)


def test_width_that_nothing_decides_is_said_to_be_open() -> None:
    assert "map-width" in codes(small_bitmap(512).read())


def test_map_that_leads_to_itself_only_decides_nothing() -> None:
    image = Image()
    node = image.alloc(keep=False)
    image.put(node, u64(node) * 512)
    image.handover(map_address=node)
    (found,) = image.read().handovers
    assert (found.preserved.status, found.preserved.nodes) == (MapStatus.DAMAGED, (node,))
    assert found.preserved.map is not None
    assert (found.preserved.map.entries, found.preserved.map.complete) == (0, False)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (PageState.DAMAGED, "missing: its page is damaged in this source"),
        (PageState.EXCLUDED, "missing: the dump tool left its page out"),
        (PageState.ABSENT, "missing: not in this source"),
    ],
)
def test_why_a_map_cannot_be_read_is_shown(state: PageState, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    memory = real.overlay("7.3-a/frozen")
    (one,) = real.read("7.3-a/frozen").handovers
    memory.remove(one.preserved.address, state=state)
    print_state(luoser.read(memory))
    assert words in capsys.readouterr().out


def test_a_node_below_one_that_is_absent_is_not_taken_for_it() -> None:
    """Nodes are made one after the other: the neighbour of an absent root is likely one of its own."""
    memory = real.overlay("7.3-a/post")
    state = real.read("7.3-a/post")
    found = next(one for one in state.handovers if one.direction is Direction.OUTGOING).preserved
    assert found.address and any((found.address ^ node).bit_count() == 1 for node in found.nodes)
    memory.remove(found.address)
    assert "pointer-off" not in [problem.code for problem in luoser.read(memory).problems]


def test_a_root_of_the_map_that_is_one_bit_off_is_found() -> None:
    memory = real.overlay("7.3-a/frozen")
    found = only(real.read("7.3-a/frozen"))
    root, own = found.address or 0, found.preserved.address or 0
    place = root + memory.read(root, 4096).index(own.to_bytes(8, "little"))  # a value of KHO's own, not of a devicetree
    memory.write(place, (own ^ 1 << 30).to_bytes(8, "little"))
    assert "pointer-off" in [problem.code for problem in luoser.read(memory).problems]


# -- other trees of pages ---------------------------------------------------------------------------------


def page_tree(image: Image) -> Preserved:
    (handover,) = image.read().handovers
    found = handover.subtrees[0].page_tree
    assert found is not None
    return found


@pytest.mark.parametrize(("orders", "form", "pages"), [(True, "orders", [0, 0, 2]), (False, "frames", [0, 0])])
def test_keys_of_a_page_tree_tell_their_form(orders: bool, form: str, pages: list[int]) -> None:
    tree = page_tree(hypervisor(orders=orders))
    assert (tree.form, tree.status) == (form, MapStatus.INTACT)
    assert tree.map is not None and [order for _, order, count in tree.map.extents() for _ in range(count)] == pages
    assert tree.map.find(0x10000) is not None and tree.map.find(0x12000) is None


@pytest.mark.parametrize("orders", [True, False])
def test_the_highest_keys_of_a_page_tree_are_of_their_form(orders: bool) -> None:
    keys = [1 << 42, (1 << 42) + (1 << 30) - 1, (1 << 52) + (1 << 40) - 1] if orders else [0, (1 << 40) - 1]
    assert page_tree(hypervisor(orders=orders, more=keys)).form == ("orders" if orders else "frames")


@pytest.mark.parametrize("orders", [True, False])
@pytest.mark.parametrize("key", [1 << 40, (1 << 42) - 1, 1 << 53, (1 << 52) + (1 << 40)])
def test_keys_of_no_form_are_not_decoded(orders: bool, key: int) -> None:
    image = hypervisor(orders=orders, more=[key])
    tree = page_tree(image)
    assert (tree.form, tree.status, tree.map) == ("open", MapStatus.UNREAD, None)
    (problem,) = image.read().problems
    assert (problem.code, problem.about) == ("map-unread", "subtrees[0].page_tree")


def test_keys_of_both_forms_are_not_decoded() -> None:
    assert page_tree(hypervisor(orders=True, more=[0x10])).status is MapStatus.UNREAD


def test_a_page_tree_without_keys_is_in_no_form() -> None:
    image = Image()
    root = image.tree_of([], keep=True)
    image.handover(
        {"mshv_prsv_pt": (image.tree(Node("", {"compatible": text("mshv_kho-v1"), "root_table": u64(root)})), 4096)}
    )
    tree = page_tree(image)
    assert (tree.form, tree.status) == ("open", MapStatus.INTACT) and tree.map is not None and tree.map.entries == 0
