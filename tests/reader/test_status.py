# SPDX-License-Identifier: MIT
"""What became of a map: one kind of evidence is damage, two that one broken place cannot explain are age.

Each kind is made on a real dump that was taken before the jump; what the next kernel adds comes from the dump of the
same machine after it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest

import luoser
from luoser.bits import run_ends
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.reader import status
from luoser.reader.preserved import MapReading
from luoser.reader.walk import Walk
from luoser.state import Bitmap, Direction, Handover, MapStatus, Preserved, PreservedMap, State
from tests import real
from tests.images import u64
from tests.reader.helpers import codes, only, problems
from tests.reader.messengers import named

RADIX, CHUNKS = "7.3-chain/frozen", "6.19-a/frozen"
AFTER = {RADIX: "7.3-chain/post", CHUNKS: "6.19-a/post"}
SCRIPT = b"#!/bin/busybox sh\n# First process of the machine\n" * 83
both_forms = pytest.mark.parametrize("name", [RADIX, CHUNKS], ids=["radix", "chunks"])


def sound(name: str) -> Handover:
    return only(real.read(name))


def map_of(name: str) -> PreservedMap:
    found = sound(name).preserved.map
    assert found is not None
    return found


def subtree(name: str, label: str) -> int:
    (address,) = (entry.address for entry in sound(name).subtrees if entry.name == label)
    assert address is not None
    return address


def place_of_bit(preserved: Preserved, address: int, order: int) -> tuple[int, int]:
    """(address of the byte, mask) of the bit of a block, in a leaf or bitmap that is there already."""
    unit = 4096 << order
    for leaf, of, start in preserved.bitmaps:
        if of == order and start <= address < start + 32768 * unit:
            bit = (address - start) // unit
            return leaf + bit // 8, 1 << bit % 8
    raise AssertionError(f"no bitmap of order {order} for {address:#x}")


def set_bit(memory: Overlay, name: str, address: int, order: int, *, to: bool = True) -> None:
    place, mask = place_of_bit(sound(name).preserved, address, order)
    byte = memory.read(place, 1)[0]
    assert bool(byte & mask) is not to
    memory.write(place, bytes([byte ^ mask]))


# -- the kinds of evidence --


def a_uncovered(memory: Overlay, name: str) -> None:
    for label in ("memblock", "kho_test"):
        block = map_of(name).find(subtree(name, label))
        assert block is not None
        set_bit(memory, name, block.address, block.order, to=False)


def b_overlaps(memory: Overlay, name: str) -> None:
    """Twenty blocks of order 1 over single pages, and one of order 3 over one of order 2."""
    found, made = map_of(name), 0
    for address, order, count in found.extents():
        first = -(-address // 8192) * 8192
        if order == 0 and address < 1 << 28:
            for block in range(first, address + (count - 1) * 4096, 8192):
                if made < 20 and found.head(block) == 0:
                    set_bit(memory, name, block, 1)
                    made += 1
    assert made == 20
    address = next(address for address, order, _ in found.extents() if order == 2)
    set_bit(memory, name, address // 32768 * 32768, 3)


def c_kernel_text(memory: Overlay, name: str) -> None:
    """The running kernel's text lies where the map says that something is preserved: in one block of order 5."""
    text = next(address for address, order, _ in map_of(name).extents() if order == 5)
    info = memory.vmcoreinfo
    base = text + 0xFFFFFFFF80000000 - int(info["SYMBOL(_stext)"], 16)
    memory.vmcoreinfo = {**info, "NUMBER(phys_base)": str(base)}


def d_outside_ram(memory: Overlay, name: str) -> None:
    """A machine without memory below 1 GiB and with much above."""
    memory.ram = ((1 << 30, 1 << 34),)


def e_luo_reused(memory: Overlay, name: str) -> None:
    memory.write(subtree(name, "LUO"), SCRIPT)


def f_other_release(memory: Overlay, name: str) -> None:
    memory.vmcoreinfo = {**memory.vmcoreinfo, "OSRELEASE": "7.4.1"}


def g_next_number(memory: Overlay, name: str) -> None:
    """The root that the next kernel made for its own successor, and what it names."""
    after = real.dump(AFTER[name])
    (successor,) = (one for one in real.read(AFTER[name]).handovers if one.address != sound(name).address)
    pages = {successor.address, *successor.preserved.nodes, *(entry.address for entry in successor.subtrees)}
    assert not pages & set(sound(name).preserved.nodes)
    for page in pages:
        assert page is not None
        memory.write(page, after.read(page, 4096))


def h_messenger_in_scratch(memory: Overlay, name: str) -> None:
    """The setup_data node that the next kernel was started with, and the array of scratch areas."""
    after = real.dump(AFTER[name])
    node = max(named(after), key=lambda one: one.address)
    for address, size in ((node.address, node.size), (node.array, node.array_size)):
        memory.write(address, after.read(address, size))


def i_own_nodes(memory: Overlay, name: str) -> None:
    """It covers its first bitmap of single pages with a single page, and another page with a block of four."""
    preserved, found = sound(name).preserved, map_of(name)
    single = next(place for place, order, _ in preserved.bitmaps if order == 0)
    block = next(
        node for node in preserved.nodes if node // 16384 != single // 16384 and not found.find(node // 16384 * 16384)
    )
    set_bit(memory, name, single, 0)
    set_bit(memory, name, block // 16384 * 16384, 2)


def j_nothing(memory: Overlay, name: str) -> None:
    for leaf, _, _ in sound(name).preserved.bitmaps:
        memory.write(leaf, bytes(4096))


Evidence = Callable[[Overlay, str], None]
BITS: dict[str, tuple[Evidence, str]] = {
    "a": (a_uncovered, "it does not cover sub-tree"),
    "b": (b_overlaps, "entries overlap others"),
    "c": (c_kernel_text, "it covers the text of the running kernel"),
    "d": (d_outside_ram, "of its ranges are outside RAM"),
    "i": (i_own_nodes, "it covers its own page"),
    "j": (j_nothing, "it preserves nothing"),
}
OUTSIDE: dict[str, tuple[Evidence, str]] = {
    "e": (e_luo_reused, "LUO's page holds something else"),
    "f": (f_other_release, "written by kernel"),
    "g": (g_next_number, "has the next number"),
    "h": (h_messenger_in_scratch, "is in scratch, where kexec puts it at the jump"),
}
KINDS = BITS | OUTSIDE
INCOMING = "fgh"
"""Kinds that make the direction incoming by themselves."""


def is_possible(name: str, *kinds: str) -> bool:
    if name == CHUNKS and ("f" in kinds or {"e", "g"} <= {*kinds}):
        return False  # 6.19 has no kexec-metadata, and its number lies in LUO's page
    return not ("j" in kinds and {*kinds} & {"b", "c", "d", "i"})  # what preserves nothing covers nothing


ONCE = {(RADIX, "ac"), (RADIX, "aj"), (CHUNKS, "ac"), (CHUNKS, "aj"), (CHUNKS, "ab"), (CHUNKS, "bc")}
"""Pairs that one broken place explains: a bitmap that covers the text and not the sub-tree; an empty map; and in chunks
the second one, which leads to all bitmaps of higher orders."""
ALONE = [(name, kind) for name in (RADIX, CHUNKS) for kind in sorted(KINDS) if is_possible(name, kind)]
PAIRS = [
    (name, "".join(pair))
    for name in (RADIX, CHUNKS)
    for pair in combinations(sorted(KINDS), 2)
    if is_possible(name, *pair)
]


def read_with(name: str, kinds: str) -> tuple[Handover, State]:
    memory = real.overlay(name)
    for kind in kinds:
        KINDS[kind][0](memory, name)
    state = luoser.read(memory)
    (found,) = (handover for handover in state.handovers if handover.address == sound(name).address)
    return found, state


def test_all_ten_kinds_and_most_pairs_are_tried() -> None:
    assert sorted(KINDS) == [*"abcdefghij"]
    assert {kind for _, kind in ALONE} == set(KINDS)
    assert len([pair for pair in PAIRS if pair[0] == RADIX]) == 45 - 4
    assert set(PAIRS) > ONCE


@pytest.mark.parametrize(("name", "kind"), ALONE)
def test_one_kind_alone_does_not_make_a_map_stale(name: str, kind: str) -> None:
    found, state = read_with(name, kind)
    assert found.preserved.status is MapStatus.INTACT
    assert found.direction is (Direction.INCOMING if kind in INCOMING else Direction.OUTGOING)
    assert found.preserved.map is not None and found.preserved.map.complete
    assert found.preserved.bitmap_size == sound(name).preserved.bitmap_size
    assert problems(state, "map-stale") == []
    damaged = [problem for problem in problems(state, "map-damaged") if problem.root == found.address]
    assert len(damaged) == (kind in BITS) + (kind == "j")  # what preserves nothing covers nothing
    if damaged:
        assert KINDS[kind][1] in damaged[0].message


@pytest.mark.parametrize(("name", "kinds"), [pair for pair in PAIRS if pair not in ONCE])
def test_two_kinds_make_a_map_stale(name: str, kinds: str) -> None:
    found, state = read_with(name, kinds)
    assert (found.preserved.status, found.preserved.map, found.preserved.nodes) == (MapStatus.STALE, None, ())
    assert found.direction is Direction.INCOMING
    (problem,) = problems(state, "map-stale")
    assert (problem.address, problem.root, problem.about) == (found.preserved.address, found.address, "preserved")
    assert [kind for kind in kinds if KINDS[kind][1] not in problem.message] == []


@pytest.mark.parametrize(("name", "kinds"), sorted(ONCE))
def test_two_kinds_that_one_broken_place_explains_count_once(name: str, kinds: str) -> None:
    found, state = read_with(name, kinds)
    assert (found.preserved.status, found.direction) == (MapStatus.INTACT, Direction.OUTGOING)
    assert found.preserved.bitmap_size == sound(name).preserved.bitmap_size
    assert len(problems(state, "map-damaged")) == 2
    found, _ = read_with(name, kinds + "h")
    assert found.preserved.status is MapStatus.STALE


# -- what one broken place explains --


@both_forms
def test_first_page_that_is_no_node_is_one_kind(name: str) -> None:
    memory = real.overlay(name)
    memory.write(sound(name).preserved.address, SCRIPT)
    state = luoser.read(memory)
    assert only(state).preserved.status is MapStatus.DAMAGED
    assert codes(state) == ["map-garbage"]
    assert SCRIPT[:16].hex(" ") in state.problems[0].message


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in (RADIX, CHUNKS) for kind in OUTSIDE if is_possible(name, kind)]
)
def test_first_page_that_is_no_node_and_another_kind_make_a_map_stale(name: str, kind: str) -> None:
    memory = real.overlay(name)
    memory.write(sound(name).preserved.address, SCRIPT)
    KINDS[kind][0](memory, name)
    state = luoser.read(memory)
    (found,) = (handover for handover in state.handovers if handover.address == sound(name).address)
    assert (found.preserved.status, found.direction) == (MapStatus.STALE, Direction.INCOMING)
    message = problems(state, "map-stale")[0].message
    assert "its first page is not a node" in message and KINDS[kind][1] in message


@both_forms
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x55", b"\x80"])
def test_any_one_page_of_a_live_map_may_hold_anything(name: str, fill: bytes) -> None:
    """One page of garbage is one broken place, whatever it makes the map say."""
    for node in sound(name).preserved.nodes:
        memory = real.overlay(name)
        memory.write(node, fill * 4096)
        found = only(luoser.read(memory))
        assert found.preserved.status in (MapStatus.INTACT, MapStatus.DAMAGED), f"{node:#x}"
        assert found.direction is Direction.OUTGOING


@both_forms
def test_any_one_page_of_a_live_map_may_hold_another_page_of_it(name: str) -> None:
    nodes = sound(name).preserved.nodes
    for node, other in zip(nodes, [*nodes[7:], *nodes[:7]], strict=True):
        memory = real.overlay(name)
        memory.write(node, memory.read(other, 4096))
        found = only(luoser.read(memory))
        assert found.preserved.status in (MapStatus.INTACT, MapStatus.DAMAGED), f"{node:#x} is {other:#x}"
        assert found.direction is Direction.OUTGOING


def test_one_leaf_that_lacks_a_sub_tree_and_covers_the_map_counts_once() -> None:
    memory = real.overlay(RADIX)
    set_bit(memory, RADIX, subtree(RADIX, "LUO"), 0, to=False)
    set_bit(memory, RADIX, sound(RADIX).preserved.address, 0)
    state = luoser.read(memory)
    assert (only(state).preserved.status, only(state).direction) == (MapStatus.INTACT, Direction.OUTGOING)
    assert codes(state) == ["map-damaged"] * 2


@both_forms
def test_wrong_pointer_to_luo_counts_once(name: str) -> None:
    """The page there holds something else, and the map does not cover it: one wrong pointer explains both."""
    memory = real.overlay(name)
    free = next(address for address in range(0x100000, 1 << 27, 4096) if map_of(name).find(address) is None)
    data = memory.read(sound(name).address or 0, 4096)
    luo = subtree(name, "LUO").to_bytes(8, "little")
    assert data.count(luo) == 1
    memory.write((sound(name).address or 0) + data.index(luo), free.to_bytes(8, "little"))
    memory.write(free, SCRIPT)
    state = luoser.read(memory)
    assert (only(state).preserved.status, only(state).direction) == (MapStatus.INTACT, Direction.OUTGOING)
    assert codes(state) == ["luo-reused"]


# -- damage --


def test_map_is_read_as_far_as_it_goes() -> None:
    """One entry of an inner node is no page address: what the others lead to is read."""
    memory = real.overlay(RADIX)
    preserved, found = sound(RADIX).preserved, map_of(RADIX)
    top = next(preserved.address + 8 * i for i in range(512) if any(memory.read(preserved.address + 8 * i, 8)))
    bad = 0x1234_5678_9ABC_DEF1
    memory.write(top, u64(bad))
    state = luoser.read(memory)
    damaged = only(state).preserved
    assert damaged.status is MapStatus.DAMAGED and damaged.map is not None
    assert not damaged.map.complete and 0 < damaged.map.entries < found.entries
    (problem,) = state.problems
    assert (problem.code, problem.address) == ("map-node-broken", preserved.address)
    assert f"{top:#x} is {bad:#x}, which is not a page address" in problem.message


def test_each_broken_node_is_a_problem_of_its_own() -> None:
    memory = real.overlay(RADIX)
    bad = sound(RADIX).preserved.nodes[1:4]
    for node in bad:
        index = next(i for i in range(512) if any(memory.read(node + 8 * i, 8)))
        memory.write(node + 8 * (511 if index != 511 else 510), u64(0x1001))
    state = luoser.read(memory)
    assert only(state).preserved.status is MapStatus.DAMAGED
    assert [(problem.code, problem.address) for problem in state.problems] == [
        ("map-node-broken", node) for node in bad
    ]  # fmt: skip


@both_forms
def test_damaged_map_that_covers_everything_is_damaged_all_the_same(name: str) -> None:
    memory = real.overlay(name)
    last = sound(name).preserved.nodes[0]
    if name == CHUNKS:
        while following := int.from_bytes(memory.read(last, 8), "little"):
            last = following
        memory.write(last, u64(0x1001))
    else:
        memory.write(last + 8 * 511, u64(0x1001))
    state = luoser.read(memory)
    found = only(state).preserved
    assert found.status is MapStatus.DAMAGED and found.map is not None
    assert found.map.bitmaps == map_of(name).bitmaps and not found.map.complete
    assert codes(state) == ["map-node-broken"]


@both_forms
@pytest.mark.parametrize(
    ("state", "code"),
    [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded"), (PageState.DAMAGED, "page-damaged")],
)
def test_sound_map_of_which_a_page_is_not_in_the_source_is_intact_and_incomplete(
    name: str, state: PageState, code: str
) -> None:
    memory = real.overlay(name)
    node = sound(name).preserved.nodes[-1]
    memory.remove(node, state=state)
    read = luoser.read(memory)
    found = only(read).preserved
    assert found.status is MapStatus.INTACT and found.map is not None
    assert not found.map.complete and found.map.entries < map_of(name).entries
    said = [(problem.code, problem.address) for problem in read.problems if problem.code != "map-width"]
    assert said == [(code, node), ("map-node-missing", node)]


@both_forms
def test_missing_page_and_a_broken_one_are_damage(name: str) -> None:
    memory = real.overlay(name)
    nodes = sound(name).preserved.nodes
    memory.remove(nodes[-1])
    memory.write(nodes[1], u64(0x1001) + u64(0) * 511)
    assert only(luoser.read(memory)).preserved.status is MapStatus.DAMAGED


@both_forms
def test_what_is_missing_is_not_taken_for_uncovered(name: str) -> None:
    """Of a map that was not read to its end nobody can say what it does not cover."""
    memory = real.overlay(name)
    place, _ = place_of_bit(sound(name).preserved, subtree(name, "LUO"), 0)
    memory.remove(place)
    e_luo_reused(memory, name)
    found = only(luoser.read(memory))
    assert (found.preserved.status, found.direction) == (MapStatus.INTACT, Direction.OUTGOING)


def test_bitmaps_of_separate_memory_are_judged_without_a_list_of_their_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fragmented map of 1 TiB has 134 million runs."""
    listed = list[bytes]()
    monkeypatch.setattr(status, "run_ends", lambda bits: listed.append(bits) or run_ends(bits))
    alone = [Bitmap(0, number << 27, b"\x55" * 4096) for number in range(1, 9)]
    meeting = [Bitmap(0, 9 << 27, b"\x05" + bytes(4095)), Bitmap(1, 4 << 28, bytes(2048) + b"\x81")]
    reading = MapReading("radix", 0x1000, bitmaps=[*alone, *meeting])
    judged = status.judge(Walk(real.dump(RADIX)), reading, ())
    assert judged.status is MapStatus.INTACT
    assert listed == [bitmap.bits for bitmap in meeting]


def test_overlaps_are_counted_by_run() -> None:
    """Of the lower order, the part of a run that is covered; of any run, at least one entry."""
    whole, half = b"\xff" * 4096, (b"\x0f" * 2048).ljust(4096, b"\0")
    reading = MapReading("radix", 0x1000, bitmaps=[Bitmap(0, 1 << 27, half), Bitmap(9, 0, whole)])
    walk = Walk(real.dump(RADIX))
    status.judge(walk, reading, ())
    (text,) = (problem.message for problem in walk.problems if "overlap" in problem.message)
    assert "8192 entries overlap others, the first at 0x8000000" in text
