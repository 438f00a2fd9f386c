# SPDX-License-Identifier: MIT
"""One flipped bit never makes a live handover look consumed, and never turns its direction round.

Every dump with a map that can be read, every kind of page that decides: the root, the map, LUO. The default run takes
a sample with a fixed seed, `make test-slow` all of it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.memory.elf import ElfMemory
from luoser.memory.source import Memory
from luoser.state import Direction, Handover, MapStatus, State
from tests import flips, real
from tests.flips import Bit
from tests.images import Image, Node, fdt, text, u64
from tests.memory.images import Load, core
from tests.reader.helpers import only

LIVE = (MapStatus.INTACT, MapStatus.ABSENT)
DUMPS = [
    name for name in [*real.DUMPS, *real.MORE] if any(one.preserved.status in LIVE for one in real.read(name).handovers)
]
PER_ROOT, PER_NODE = 512, 64
"""Bits of a root page and of a page of the map that the slow run flips."""
SAMPLE = {"root": 16, "map": 10, "luo": 8, "pointer": 6}
"""Bits of each dump or machine that the default run flips."""


def bits(start: int, size: int) -> list[Bit]:
    return [(start + byte, bit) for byte in range(size) for bit in range(8)]


def sampled(places: list[Bit], count: int, rng: random.Random) -> list[Bit]:
    return rng.sample(places, min(count, len(places)))


def roots(name: str) -> tuple[Handover, ...]:
    return real.read(name).handovers


@cache
def root_bits(name: str) -> list[Bit]:
    """Of the used bytes of each root page."""
    found, rng = list[Bit](), random.Random(name)
    for one in roots(name):
        assert one.address is not None and one.fdt is not None
        found += sampled(bits(one.address, one.fdt.header.totalsize), PER_ROOT, rng)
    return found


@cache
def map_bits(name: str) -> list[Bit]:
    """Of each page of each live map."""
    rng = random.Random(name)
    return [
        bit for one in roots(name) for node in one.preserved.nodes for bit in sampled(bits(node, 4096), PER_NODE, rng)
    ]


@cache
def luo_bits(name: str) -> list[Bit]:
    """Of LUO's root object, of the headers of all blocks, and of what kexec says of itself."""
    found = list[Bit]()
    for one in roots(name):
        for entry in one.subtrees:
            if entry.name in ("LUO", "kexec-metadata") and entry.address is not None:
                assert entry.size is not None
                found += bits(entry.address, entry.size)
        if one.luo is not None:
            blocks = {*one.luo.session_blocks, *(block for session in one.luo.sessions for block in session.blocks)}
            found += [bit for block in sorted(blocks) for bit in bits(block, 16)]
    return found


KINDS = {"root": root_bits, "map": map_bits, "luo": luo_bits}


def flipped(memory: Memory, places: Iterable[Bit]) -> Iterator[tuple[Bit, State]]:
    for bit in places:
        yield bit, luoser.read(flips.flipped(memory, bit))


def violations(before: State, bit: Bit, state: State) -> Iterator[str]:
    """Where a state is not what one flipped bit may make of another."""
    truth = {one.address: one for one in before.handovers}
    found = {one.address: one for one in state.handovers}
    where = f"{before.source.path}: bit {bit[1]} of {bit[0]:#x}"
    for address, one in found.items():
        if address not in truth:
            yield f"{where}: there is no root at {address:#x}"
            continue
        true = truth[address].direction
        if one.direction not in (true, Direction.UNKNOWN):
            yield f"{where}: root {address:#x} is {true.value}, and is called {one.direction.value}: {one.evidence}"
        if true is Direction.OUTGOING and one.preserved.status is MapStatus.STALE:
            yield f"{where}: the map of root {address:#x} is called stale: {state.problems}"
        if not one.own:
            yield f"{where}: root {address:#x} is called foreign: {one.evidence}"
    for address in truth.keys() - found.keys():
        assert address is not None
        if not address <= bit[0] < address + 4096:
            yield f"{where}: root {address:#x} is lost"


@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_flipped_bit_is_damage(name: str, kind: str) -> None:
    places = sampled(KINDS[kind](name), SAMPLE[kind], random.Random(f"{name} {kind}"))
    assert places or (kind == "map" and not any(one.preserved.nodes for one in roots(name)))
    for bit, state in flipped(real.dump(name), places):
        assert list(violations(real.read(name), bit, state)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_damage(name: str, kind: str) -> None:
    found = [
        line
        for bit, state in flipped(real.dump(name), KINDS[kind](name))
        for line in violations(real.read(name), bit, state)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["6.19-a/pre", "7.3-chain/frozen"])
def test_number_of_bits_is_what_was_promised(name: str) -> None:
    assert len(root_bits(name)) >= 400
    assert len(map_bits(name)) == 64 * len(only(real.read(name)).preserved.nodes)
    assert len(luo_bits(name)) >= 8 * 32


def test_violations_are_seen() -> None:
    """The states of a dump before and after the jump: another direction, a stale map, another root."""
    before, after = real.read("7.3-chain/frozen"), real.read("7.3-chain/post")
    words = " ".join(violations(before, (0, 0), after))
    assert "is outgoing, and is called incoming" in words
    assert "is called stale" in words
    assert "there is no root at 0xe55000" in words
    assert "root 0xe55000 is lost" in " ".join(violations(after, (0, 0), before))


# -- the verdict --


def unseen(name: str, count: int, *, members: int | None = None) -> list[str]:
    """Flips in members that decide, of which `check` says sound. members: how many of them. None: all.

    Flags of a folio are a hint (MFD009) where the first kernels of a release left them unset.
    """
    bits = {member: found for member, found in flips.bits_of(name).items() if not flips.is_plain(member)}
    if members is not None:
        bits = {member: bits[member] for member in random.Random(name).sample(list(bits), members)}
    return [
        f"{name}: {flip.name}: bit {flip.bit[1]} of {flip.bit[0]:#x}"
        for flip in flips.flips(name, flips.sampled(bits, count, name))
        if flip.verdict == "sound" and flip.rules != ("MFD009",)
    ]


@pytest.mark.parametrize("name", flips.DUMPS)
def test_a_flipped_bit_of_what_decides_is_not_sound(name: str) -> None:
    assert unseen(name, 1, members=6) == []


EVERY, MANY = 1 << 20, 100
"""Bits of each member: all, and in dumps with large files, which take longer to read."""


@pytest.mark.slow
@pytest.mark.parametrize("name", flips.DUMPS)
def test_flipped_bits_of_what_decides_are_not_sound(name: str) -> None:
    has_files = any(luo is not None and luo.sessions for luo in (one.luo for one in real.read(name).handovers))
    assert unseen(name, MANY if has_files else EVERY) == []


def test_dumps_themselves_are_sound() -> None:
    """Else the tests above could not fail."""
    for name in flips.DUMPS:
        memory = real.dump(name)
        assert check(luoser.read(memory, contents=True), ram=memory.known_ram).verdict is Verdict.SOUND, name


# -- each of these was one --


@pytest.mark.parametrize(
    ("name", "bit"),
    [
        pytest.param("6.19-a/frozen", (0x5FD0A5, 5), id="pointer to LUO leads to a page of the map"),
        pytest.param("6.19-a/pre", (0x5FD0A5, 5), id="the same before finalisation"),
        pytest.param("7.3-a/finished", (0x65D40CD, 7), id="pointer to LUO leads to a root"),
    ],
)
def test_bit_that_made_a_live_map_stale(name: str, bit: Bit) -> None:
    ((_, state),) = flipped(real.dump(name), [bit])
    assert list(violations(real.read(name), bit, state)) == []


# -- machines whose memory is all there: a wrong pointer leads somewhere --

PAGES = 1024
FORMS = [("kho-v1", None), ("kho-v1", 512), ("kho-v2", None), ("kho-v3", None), ("kho-v4", None)]


@cache
def machine(compatible: str, bitmap_size: int | None) -> tuple[ElfMemory, State]:
    """A lone outgoing root among pages of zeros, of garbage, of pointers, and of a few pointers."""
    image, rng = Image(pages=PAGES, first=1 << 20), random.Random(f"{compatible} {bitmap_size}")
    for _ in range(20):
        image.alloc(rng.randbytes(4096))
    image.alloc(order=4), image.alloc(order=6)
    subtrees: dict[str, tuple[int, int | None]] = {
        "memblock": (image.alloc(fdt(Node("", {"compatible": text("memblock-v1")}))), 210),
        "LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32),
        "kexec-metadata": (image.alloc(struct.pack("<I65sI", 1, b"7.3.4", 1)), 73),
    }
    image.handover(subtrees, compatible=compatible, bitmap_size=bitmap_size)
    pointers = [u64(4096 * number) for number in range(1, PAGES)]
    for page in range(image._next, PAGES * 4096, 4096):
        few = [rng.choice(pointers) if rng.random() < 0.1 else u64(0) for _ in range(512)]
        many = [rng.choice(pointers) for _ in range(512)]
        image.put(page, rng.choice([b"", rng.randbytes(4096), b"".join(few), b"".join(many)]))
    memory = ElfMemory("machine", core(Load(0, bytes(image.data))))
    memory.vmcoreinfo = {"OSRELEASE": "7.3.4"}
    return memory, luoser.read(memory)


def pointer_bits(memory: Memory, state: State) -> list[Bit]:
    """Of everything in the root and in the map that can be the address of a page: those that stay within memory."""
    one, found = only(state), list[Bit]()
    assert one.address is not None
    for page in (one.address, *one.preserved.nodes):
        step = 4 if page == one.address else 8
        data = memory.read(page, 4096)
        for place in range(0, 4089, step):
            value = int.from_bytes(data[place : place + 8], "little")
            if value and value % 4096 == 0 and value < PAGES * 4096:
                found += [(page + place + bit // 8, bit % 8) for bit in range(12, 22)]
    return found


@pytest.mark.parametrize(("compatible", "bitmap_size"), FORMS)
def test_machine_is_what_it_is_meant_to_be(compatible: str, bitmap_size: int | None) -> None:
    memory, state = machine(compatible, bitmap_size)
    assert (only(state).direction, only(state).preserved.status) == (Direction.OUTGOING, MapStatus.INTACT)
    assert len(pointer_bits(memory, state)) >= 50


@pytest.mark.parametrize(("compatible", "bitmap_size"), FORMS)
def test_one_flipped_bit_of_a_pointer_is_damage(compatible: str, bitmap_size: int | None) -> None:
    memory, state = machine(compatible, bitmap_size)
    rng = random.Random(f"{compatible} {bitmap_size}")
    for bit, after in flipped(memory, sampled(pointer_bits(memory, state), SAMPLE["pointer"], rng)):
        assert list(violations(state, bit, after)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("compatible", "bitmap_size"), FORMS)
def test_every_flipped_bit_of_a_machine_is_damage(compatible: str, bitmap_size: int | None) -> None:
    memory, state = machine(compatible, bitmap_size)
    one, rng = only(state), random.Random(1)
    assert one.address is not None and one.fdt is not None
    places = bits(one.address, one.fdt.header.totalsize)
    for node in one.preserved.nodes:
        used = [byte for byte, value in enumerate(memory.read(node, 4096)) if value]
        places += sampled(bits(node, 4096), PER_NODE, rng)
        places += [(node + byte, bit) for byte in used[:64] for bit in range(8)]
    assert [line for bit, after in flipped(memory, places) for line in violations(state, bit, after)] == []
