# SPDX-License-Identifier: MIT
"""Directions from the kernel's own variables: x86-64 and arm64 addresses, wrong symbols, several kernels in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.checks import check
from luoser.errors import PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.memory.source import KnownRoot, Memory
from luoser.reader import SYMBOLS
from luoser.state import Direction, Handover, State
from luoser.symbols import Symbol, Symbols, read_symbols
from tests import real
from tests.images import Image, u64
from tests.kernels import PLACES, Kernel
from tests.reader.helpers import codes, only, problems
from tests.work import steps

INCOMING, OUTGOING, UNKNOWN = Direction.INCOMING, Direction.OUTGOING, Direction.UNKNOWN
PLACE = Path("System.map")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def symbols(text: str) -> Symbols:
    PLACE.write_text(text)
    return read_symbols(PLACE, SYMBOLS)


def opened(data: bytes) -> Memory:
    file = Path("dump")
    file.write_bytes(data)
    return luoser.open(file)


def read(kernel: Kernel, found: Symbols | None = None, **more: str) -> State:
    """A core of the kernel's machine, read with its System.map or other symbols."""
    memory = opened(kernel.image.core(notes=kernel.note(**more)))
    return luoser.read(memory, symbols=found or symbols(kernel.system_map()))


def read_raw(image: Image, text: str) -> State:
    return luoser.read(opened(bytes(image.data)), symbols=symbols(text))


def by_address(state: State) -> dict[int | None, Handover]:
    return {handover.address: handover for handover in state.handovers}


def directions(state: State) -> dict[int | None, Direction]:
    return {handover.address: handover.direction for handover in state.handovers}


def certain(handover: Handover) -> bool:
    return handover.evidence[0].startswith("certain: ")


# -- real kernels ------------------------------------------------------------------------------------------


def real_variables(name: str, boot: int, words: dict[str, bytes]) -> tuple[Overlay, Symbols]:
    """A cut of a real dump with variables of its kernel as truth.json knows them, at the addresses that it gives."""
    memory, truth = real.overlay(name), real.truth(name.split("/")[0])[boot]
    said = {line.split()[0]: int(line.split()[1], 16) for line in truth["sym"]}
    if "kho_bootmem" in words:  # as the variables may be called from 7.4 on
        said = {name.replace("kho_scratch", "kho_bootmem"): address for name, address in said.items()}
    base = int(memory.vmcoreinfo["NUMBER(phys_base)"])
    for variable, data in words.items():
        memory.write(said[variable] - 0xFFFFFFFF80000000 + base, data)
    said |= {
        key[7:-1]: int(value, 16)
        for key, value in memory.vmcoreinfo.items()
        if key in ("SYMBOL(_stext)", "SYMBOL(clear_seq)", "SYMBOL(init_uts_ns)")
    }
    lines = sorted((address, name) for name, address in said.items())
    return memory, symbols("".join(f"{address:016x} b {name}\n" for address, name in lines))


DIRECT = 0xFF11_0000_0000_0000


@pytest.mark.parametrize("areas", ["kho_scratch", "kho_bootmem"])
@pytest.mark.parametrize("case", ["7.3-a", "7.3-chain"])
def test_real_kernel_names_the_root_that_it_was_handed(case: str, areas: str) -> None:
    setup = bytes.fromhex(real.truth(case)[1]["setup_data"][1]["data"])
    root, scratch = (int.from_bytes(setup[at : at + 8], "little") for at in (0, 16))
    inferred = by_address(real.read(f"{case}/post"))
    own = next(address for address in inferred if address != root)
    assert own is not None
    words = {
        "kho_in": u64(root) + u64(scratch),
        "kho_out": u64(DIRECT + own),
        "page_offset_base": u64(DIRECT),
        areas: u64(DIRECT + scratch),
        f"{areas}_cnt": u64(3),
    }
    memory, found = real_variables(f"{case}/post", 1, words)
    state = luoser.read(memory, symbols=found)
    assert directions(state) == {root: INCOMING, own: OUTGOING}
    assert all(map(certain, state.handovers))
    assert by_address(state)[root].scratch == inferred[root].scratch
    assert "kho_scratch points to the scratch array" in " ".join(by_address(state)[root].evidence)


def test_real_symbols_of_another_boot_are_those_of_the_same_kernel() -> None:
    """Up to the slide of KASLR: VMCOREINFO says where the kernel of this dump is. It names no root here."""
    memory, found = real_variables("7.3-a/frozen", 0, {"kho_in": u64(0), "kho_out": u64(0)})
    first, second = (
        {line.split()[0]: int(line.split()[1], 16) for line in boot["sym"]} for boot in real.truth("7.3-a")
    )
    slide = second["kho_in"] - first["kho_in"]
    assert slide
    moved = {name: replace(symbol, address=symbol.address + slide) for name, symbol in found.found.items()}
    state = luoser.read(memory, symbols=replace(found, found=moved))
    assert "kho_in and kho_out of" in only(state).evidence[0]


def test_real_cut_without_the_variables_says_so_and_infers() -> None:
    _, found = real_variables("7.3-a/frozen", 0, {})
    state = luoser.read(real.dump("7.3-a/frozen"), symbols=found)
    assert any("variable kho_in" in problem.message for problem in problems(state, "missing"))
    assert only(state).direction is OUTGOING
    assert only(state).evidence == only(real.read("7.3-a/frozen")).evidence


@pytest.mark.parametrize("name", ["6.18-a/frozen", "7.3-chain/frozen"])
def test_real_symbols_of_another_kernel_are_refused(name: str) -> None:
    _, found = real_variables("7.3-a/frozen", 0, {})
    with pytest.raises(SourceError, match="another kernel"):
        luoser.read(real.dump(name), symbols=shuffled(found))


def shuffled(found: Symbols) -> Symbols:
    """As if another build had put clear_seq 64 bytes further on."""
    moved = replace(found.found["clear_seq"], address=found.found["clear_seq"].address + 64)
    return replace(found, found={**found.found, "clear_seq": moved})


# -- addresses of x86-64 and arm64 -------------------------------------------------------------------------

ARM_LINK = 0xFFFF_8000_8000_0000


def x86(image: Image | None = None, **options: Any) -> Kernel:
    return Kernel(image=image or Image(first=1 << 20, pages=1024), **options)


def arm(bits: int, usable: int, *, base: int = 0, lowest: int = 0, page_size: int = 4096) -> Kernel:
    """An arm64 kernel whose direct map begins at its first virtual address, as far as the machine has them."""
    image = Image(base=base, page_size=page_size, pages=256)
    return Kernel(
        image=image, link=ARM_LINK, direct=-(1 << usable) & (1 << 64) - 1, lowest=lowest, arm=(bits, usable),
        vmemmap=0xFFFF_FDFF_C000_0000 - base // page_size * 64,
    )  # fmt: skip


MACHINES = {
    "x86": x86,
    "x86, no KASLR": lambda: x86(slide=0, direct=0xFFFF_8880_0000_0000),
    "x86, kernel low in memory": lambda: x86(slide=0x3FE0_0000),
    "x86, kernel high in memory": lambda: x86(Image(base=0x7_4000_0000)),
    "arm64, 48 bits": lambda: arm(48, 48),
    "arm64, RAM from 1 GiB on": lambda: arm(48, 48, base=0x4000_0000, lowest=0x4000_0000),
    "arm64, RAM above 512 GiB": lambda: arm(48, 48, base=0x80_8000_0000, lowest=0x80_8000_0000),
    "arm64, 39 bits": lambda: arm(39, 39, base=0x4000_0000, lowest=0x4000_0000),
    "arm64, 52 bits": lambda: arm(52, 52, base=0x4000_0000, lowest=0x4000_0000),
    "arm64, 52 bits on a machine of 48": lambda: arm(52, 48, base=0x4000_0000, lowest=0x4000_0000),
    "arm64, 16 KiB pages": lambda: arm(47, 47, base=0x4000_0000, lowest=0x4000_0000, page_size=16384),
    "arm64, 64 KiB pages": lambda: arm(52, 48, base=0x4000_0000, lowest=0x4000_0000, page_size=65536),
}
each_machine = pytest.mark.parametrize("machine", MACHINES)


def test_phys_offset_of_a_52_bit_kernel_on_48_bits_is_below_zero() -> None:
    """As arm64 computes it: the machine's first address lies where the direct map of 48 bits begins."""
    assert b"NUMBER(PHYS_OFFSET)=0xfff1000040000000\n" in MACHINES["arm64, 52 bits on a machine of 48"]().vmcoreinfo()


@each_machine
def test_root_that_kho_out_points_to_is_outgoing(machine: str) -> None:
    kernel = MACHINES[machine]()
    luo = kernel.image.alloc(b"luo-v5\0\0" + u64(1))
    root = kernel.image.handover({"LUO": (luo, 32)})
    kernel.hand(outgoing=root, luo=luo)
    array = kernel.scratch((kernel.image.base, 1 << 20))
    handover = only(read(kernel))
    assert (handover.address, handover.direction) == (root, OUTGOING)
    assert handover.evidence == (
        "certain: kho_out, byte 0 of System.map points to it",
        "luo_global, byte 8 points to its LUO page",
        f"kho_scratch points to the scratch array at {array:#x}",
    )
    assert handover.scratch is not None and handover.scratch[0].size == 1 << 20


@each_machine
def test_root_that_kho_in_names_is_incoming_whatever_it_looks_like(machine: str) -> None:
    kernel = MACHINES[machine]()
    kernel.hand(incoming=kernel.image.handover())
    handover = only(read(kernel))
    assert handover.direction is INCOMING
    assert handover.evidence[0] == "certain: kho_in, byte 0 of System.map points to it"


@each_machine
def test_struct_page_of_a_root_as_6_17_has_it(machine: str) -> None:
    kernel = MACHINES[machine]()
    root = kernel.image.handover()
    kernel.put("kho_in", 0, 0)
    kernel.put("kho_out", kernel.page(root), at=88)
    handover = only(read(kernel))
    assert (handover.address, handover.direction) == (root, OUTGOING)
    assert handover.evidence[0] == "certain: kho_out, byte 88 of System.map points to it"


def test_tag_of_kasan_in_a_pointer_is_no_part_of_the_address() -> None:
    kernel = arm(48, 48)
    root = kernel.image.handover()
    kernel.put("kho_out", kernel.virtual(root) & ~(0xFF << 56) | 0xF4 << 56)
    assert certain(only(read(kernel)))


def test_pointer_above_the_direct_map_of_the_machine_is_none() -> None:
    """Where a 48-bit machine has its kernel image and vmalloc area, 52 bits would still have direct map."""
    kernel = arm(52, 48)
    root = kernel.image.handover()
    kernel.put("kho_out", kernel.virtual(root) + (1 << 47))
    assert only(read(kernel)).direction is UNKNOWN


@each_machine
def test_addresses_of_kallsyms_are_those_of_the_run(machine: str) -> None:
    kernel = MACHINES[machine]()
    kernel.hand(outgoing=kernel.image.handover())
    text = kernel.system_map(slide=kernel.slide)
    assert certain(only(read(kernel, symbols(text))))


def test_direct_map_of_a_kernel_without_a_variable_for_it() -> None:
    kernel = x86(direct=0xFFFF_8880_0000_0000)
    kernel.hand(outgoing=kernel.image.handover())
    assert certain(only(read(kernel, symbols(kernel.system_map(without=("page_offset_base",))))))


# -- debug info --------------------------------------------------------------------------------------------


def with_members(kernel: Kernel, name: str, members: dict[int, str], size: int = 152) -> Symbols:
    found = symbols(kernel.system_map())
    symbol = Symbol(name, found.found[name].address, size, members)
    return replace(found, found={**found.found, name: symbol})


def test_debug_info_names_the_member() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(outgoing=root)
    found = with_members(kernel, "kho_out", {0: "fdt", 8: "lock.owner.counter"})
    assert only(read(kernel, found)).evidence[0] == "certain: kho_out.fdt of System.map points to it"


def test_with_debug_info_other_members_do_not_count() -> None:
    """The tree's first node as a root: by words alone this would be one."""
    kernel = x86()
    root = kernel.image.handover()
    kernel.put("kho_out", 0, 0, 0, 0, kernel.virtual(root))
    assert only(read(kernel)).direction is OUTGOING
    found = with_members(kernel, "kho_out", {0: "fdt", 32: "radix_tree.root"})
    assert only(read(kernel, found)).direction is UNKNOWN


def test_member_far_behind_is_found_by_debug_info() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.put("kho_out", kernel.virtual(root), at=144)
    assert only(read(kernel, with_members(kernel, "kho_out", {144: "fdt"}))).direction is OUTGOING


def test_debug_info_of_a_layout_that_is_not_known_leaves_the_words() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    found = with_members(kernel, "kho_out", {0: "root_page", 8: "lock"})
    assert only(read(kernel, found)).evidence[0] == "certain: kho_out, byte 0 of System.map points to it"


# -- words that only look like it --------------------------------------------------------------------------


def test_excerpt_without_kho_out_does_not_give_its_words_to_kho_in() -> None:
    """`grep kho_in System.map`: what lies behind kho_in is not its own."""
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    state = read(kernel, symbols(kernel.system_map(without=("kho_out", "luo_global"))))
    assert only(state).direction is OUTGOING
    assert only(state).evidence[0].startswith("inferred")
    assert "kho_out missing: an excerpt of the symbols" in problems(state, "symbols")[0].message


def test_variable_that_names_two_roots_makes_nothing_certain() -> None:
    kernel = x86()
    first, second = kernel.image.handover(), kernel.image.handover()
    kernel.put("kho_in", first, 0, second)
    state = read(kernel)
    assert directions(state) == {first: UNKNOWN, second: UNKNOWN}
    assert f"and to {second:#x}" in by_address(state)[first].evidence[0]


def test_root_that_both_variables_name_has_no_direction() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(incoming=root, outgoing=root)
    handover = only(read(kernel))
    assert handover.direction is UNKNOWN
    assert "but so does kho_out" in " ".join(handover.evidence)


def test_pointer_to_a_page_that_is_no_root_says_nothing() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(incoming=kernel.image.alloc(b"#!/bin/sh"), outgoing=root)
    assert directions(read(kernel)) == {root: OUTGOING}


@pytest.mark.parametrize("is_finalized", [False, True])
def test_page_for_a_root_that_is_not_written_yet_is_no_lost_root(*, is_finalized: bool) -> None:
    """Up to 6.18 a kernel has the page from its boot on, and writes the root when KHO is finalized."""
    kernel = x86()
    root, page = kernel.image.handover(), kernel.image.alloc(bytes(4096))
    kernel.hand(incoming=root)
    kernel.put("kho_out", kernel.page(page), at=88)
    kernel.put("kho_out", int(is_finalized), at=120)
    state = read(kernel, with_members(kernel, "kho_out", {88: "ser.fdt", 120: "finalized"}))
    assert directions(state) == {root: INCOMING}
    assert [one.address for one in problems(state, "root-lost")] == [page] * is_finalized


def test_root_beyond_a_limit_is_no_lost_root() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(outgoing=root)
    with limited(Limits(fdt_size=16)):
        state = read(kernel, with_members(kernel, "kho_out", {0: "fdt"}))
    assert [one.address for one in problems(state, "too-many")] == [root]
    assert [one.address for one in problems(state, "root-unread")] == [root]
    assert check(state).verdict == "inconclusive"


def test_root_that_the_kernel_does_not_name_is_left_over() -> None:
    """Its map is intact and there is no other: without symbols it would be taken for the outgoing one."""
    kernel = x86()
    kernel.image.handover()
    assert luoser.read(opened(kernel.image.core(notes=kernel.note()))).handovers[0].direction is OUTGOING
    handover = only(read(kernel))
    assert handover.direction is UNKNOWN
    assert handover.evidence == (
        "kho_in and kho_out of System.map do not point to it: left over, or of another machine",
    )


def test_boot_parameters_and_variables_agree() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(incoming=root)
    memory = opened(kernel.image.core(notes=kernel.note()))
    memory.known_roots = (KnownRoot(root=root, incoming=True, evidence="setup_data 1"),)
    handover = only(luoser.read(memory, symbols=symbols(kernel.system_map())))
    assert handover.direction is INCOMING
    assert handover.evidence[1] == "certain: setup_data 1 points to it"


def test_boot_parameters_and_variables_contradict_each_other() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(outgoing=root)
    memory = opened(kernel.image.core(notes=kernel.note()))
    memory.known_roots = (KnownRoot(root=root, incoming=True, evidence="setup_data 1"),)
    handover = only(luoser.read(memory, symbols=symbols(kernel.system_map())))
    assert handover.direction is UNKNOWN
    assert len(handover.evidence) == 2


def test_number_does_not_make_a_second_incoming_root() -> None:
    """Live update 2 is what the kernel was handed; what is left of live update 1 was handed to the one before."""
    image = Image()
    kernel = x86(image)
    roots = [image.handover({"LUO": (image.alloc(b"luo-v5\0\0" + u64(number)), 32)}) for number in (1, 2)]
    memory = opened(image.core(notes=kernel.note()))
    assert directions(luoser.read(memory)) == {roots[0]: INCOMING, roots[1]: OUTGOING}
    memory.known_roots = (KnownRoot(root=roots[1], incoming=True, evidence="setup_data 1"),)
    state = luoser.read(memory)
    assert directions(state) == {roots[0]: UNKNOWN, roots[1]: INCOMING}
    word = f"liveupdate numbers 1 and 2, but {roots[1]:#x} is incoming by the running kernel"
    assert by_address(state)[roots[0]].evidence == (word,)


# -- whose symbols ------------------------------------------------------------------------------------------


def test_build_id_of_another_kernel_is_refused() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    found = replace(symbols(kernel.system_map()), build_id="cd" * 20)
    with pytest.raises(SourceError, match=f"wrong build id: expected {kernel.build_id}.*{'cd' * 20}"):
        read(kernel, found)


@pytest.mark.parametrize("name", ["kallsyms_names", "init_top_pgt", "init_uts_ns", "prb", "clear_seq", "node_data"])
def test_symbols_that_differ_anywhere_are_refused(name: str) -> None:
    kernel = x86()
    other = replace(kernel, places={**PLACES, name: PLACES[name] + 8})
    with pytest.raises(
        SourceError, match=f"another kernel than 7.3.4: the distance from .* to {name} differs by 0x8 bytes"
    ):
        read(kernel, symbols(other.system_map()))


def test_nothing_to_compare_is_refused() -> None:
    kernel = x86()
    found = symbols(kernel.system_map(without=tuple(name for name in PLACES if not name.startswith("kho"))))
    with pytest.raises(SourceError, match="no symbol in common with VMCOREINFO: expected one of _stext"):
        read(kernel, found)


def test_one_symbol_to_compare_tells_only_if_it_did_not_move() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    rest = tuple(name for name in PLACES if name in ("init_top_pgt", "swapper_pg_dir", "prb", "init_uts_ns",
                                                     "clear_seq", "node_data", "kallsyms_names"))  # fmt: skip
    with pytest.raises(SourceError, match="only _stext"):
        read(kernel, symbols(kernel.system_map(without=rest)))
    assert certain(only(read(kernel, symbols(kernel.system_map(slide=kernel.slide, without=rest)))))


def test_vmcoreinfo_of_a_kernel_that_is_gone_makes_nothing_certain() -> None:
    """Such as a note that QEMU was given by the kernel before, whose pages the next one has reused."""
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    kernel.put("init_uts_ns", *[0] * 30)
    state = read(kernel)
    assert only(state).evidence[0].startswith("inferred")
    assert "is not in this source" in problems(state, "symbols")[0].message


def test_utsname_that_was_left_out_does_not_matter() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    memory = Overlay(opened(kernel.image.core(notes=kernel.note())))
    memory.remove(kernel.physical("init_uts_ns") // 4096 * 4096, state=PageState.EXCLUDED)
    assert certain(only(luoser.read(memory, symbols=symbols(kernel.system_map()))))


@pytest.mark.parametrize("name", ["kho_in", "kho_out"])
def test_variable_that_is_not_in_the_source_leaves_the_inference(name: str) -> None:
    kernel = x86(places={**PLACES, "kho_in": 0x5000, "kho_out": 0x7000})
    kernel.image.handover()
    memory = Overlay(opened(kernel.image.core(notes=kernel.note())))
    memory.remove(kernel.physical(name))
    state = luoser.read(memory, symbols=symbols(kernel.system_map()))
    assert only(state).evidence == ("inferred: the only root, and its map is intact",)
    assert any(f"variable {name}" in problem.message for problem in problems(state, "missing"))


@pytest.mark.parametrize(
    "more",
    [
        {"NUMBER(phys_base)": "0x" + "f" * 4000},
        {"NUMBER(phys_base)": "-9999999999999999999999"},
        {"NUMBER(phys_base)": "many"},
        {"SYMBOL(vmemmap)": "f" * 4000},
        {"SIZE(page)": "0"},
        {"SIZE(page)": "-64"},
        {"OFFSET(uts_namespace.name)": "9" * 4000},
        {"SYMBOL(init_uts_ns)": "0"},
        {"NUMBER(VA_BITS)": "9" * 4000, "NUMBER(phys_base)": "", "NUMBER(kimage_voffset)": "-1"},
        {"NUMBER(TCR_EL1_T1SZ)": "-7", "NUMBER(VA_BITS)": "48", "NUMBER(PHYS_OFFSET)": "-1", "NUMBER(phys_base)": ""},
    ],
)
def test_hostile_numbers_make_nothing_certain(more: dict[str, str]) -> None:
    kernel = x86()
    kernel.image.handover()
    kernel.put("kho_out", *[(1 << 64) - 1 - place for place in range(16)])
    try:
        handover = only(read(kernel, **more))
    except SourceError:
        return
    assert not certain(handover)


# -- raw images, and several kernels in one ------------------------------------------------------------------


def test_vmcoreinfo_is_found_in_a_raw_image() -> None:
    kernel = x86()
    root = kernel.image.handover()
    kernel.hand(outgoing=root)
    kernel.info_page()
    assert certain(only(read_raw(kernel.image, kernel.system_map())))


def test_copy_of_vmcoreinfo_for_a_crash_kernel_is_no_second_kernel() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    for _ in range(3):
        kernel.info_page()
    assert certain(only(read_raw(kernel.image, kernel.system_map())))


def test_raw_image_without_vmcoreinfo_says_so_and_infers() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    state = read_raw(kernel.image, kernel.system_map())
    assert only(state).evidence[0].startswith("inferred")
    assert "no kernel with these symbols in this source" in problems(state, "symbols")[0].message


def test_symbols_of_another_kernel_for_a_raw_image_say_why_they_are_not_used() -> None:
    kernel = x86()
    kernel.hand(outgoing=kernel.image.handover())
    kernel.info_page()
    other = replace(kernel, places={**PLACES, "clear_seq": PLACES["clear_seq"] + 64})
    state = read_raw(kernel.image, other.system_map())
    assert only(state).evidence[0].startswith("inferred")
    assert "to clear_seq differs by 0x40 bytes" in problems(state, "symbols")[0].message


def two_kernels(**options: Any) -> tuple[Image, Kernel, Kernel, int, int]:
    """The kernel that handed a root over, and the one that took it and has one of its own; both whole in memory."""
    image = Image(pages=1024)
    old, new = Kernel(image=image, slide=0x100_0000, **options), Kernel(image=image, slide=0x2BE0_0000)
    handed, own = image.handover(), image.handover()
    old.hand(outgoing=handed)
    new.hand(incoming=handed, outgoing=own)
    old.info_page()
    new.info_page()
    return image, old, new, handed, own


def test_of_two_kernels_that_runs_which_was_handed_what_the_other_hands_over() -> None:
    image, _, new, handed, own = two_kernels()
    state = read_raw(image, new.system_map())
    assert directions(state) == {handed: INCOMING, own: OUTGOING}
    assert all(map(certain, state.handovers))


def test_kernel_before_the_last_makes_it_uncertain_which_runs() -> None:
    image, old, new, handed, own = two_kernels()
    first = Kernel(image=image, slide=0x300_0000)
    before = image.handover()
    first.hand(outgoing=before)
    old.hand(incoming=before, outgoing=handed)
    first.info_page()
    state = read_raw(image, new.system_map())
    assert set(directions(state)) == {before, handed, own}
    assert not any(map(certain, state.handovers))
    assert "3 kernels are in this source" in problems(state, "symbols")[0].message


def test_symbols_of_the_kernel_before_do_not_speak_for_the_one_that_runs() -> None:
    """An upgrade: the old kernel's variables still say that the root goes out."""
    image, old, _, handed, _ = two_kernels(release="7.2.6", places={**PLACES, "clear_seq": 0x4000})
    state = read_raw(image, old.system_map())
    assert not any(map(certain, state.handovers))
    assert "kernel 7.3.4 is in this source, too" in problems(state, "symbols")[0].message
    assert handed in directions(state)


def test_kernel_before_whose_pages_were_reused_does_not_matter() -> None:
    image, old, new, handed, own = two_kernels(release="7.2.6", places={**PLACES, "clear_seq": 0x4000})
    old.put("init_uts_ns", *[0] * 30)
    assert directions(read_raw(image, new.system_map())) == {handed: INCOMING, own: OUTGOING}


def test_many_pages_of_vmcoreinfo_cost_little() -> None:
    """The pages of VMCOREINFO that are looked at are bounded."""
    image = Image(pages=8192)
    kernel = Kernel(image=image)
    image.handover()
    page = kernel.vmcoreinfo().ljust(4096, b"\0")
    for place in range(1024, 8192):
        image.put(place * 4096, page.replace(b"KERNELOFFSET=", b"KERNELOFFSET=%d" % place))
    found = symbols(kernel.system_map())
    memory = opened(bytes(image.data))
    with steps(1_400_000):  # 240 for each of the 4096 that are looked at
        state = luoser.read(memory, symbols=found)
    assert "--limit kernel_places=N" in problems(state, "too-many")[0].message


@pytest.mark.parametrize("limit", ["kernels", "kernel_places"])
def test_kernels_beyond_the_limit_are_said(limit: str) -> None:
    image, _, new, _, _ = two_kernels()
    with limited(Limits(**{limit: 1})):
        state = read_raw(image, new.system_map())
    assert f"--limit {limit}=N" in problems(state, "too-many")[0].message


# -- a live machine ------------------------------------------------------------------------------------------


class Searched(Overlay):
    """Counts the searches for devicetrees."""

    live = True

    def __init__(self, below: Memory) -> None:
        super().__init__(below)
        self.live, self.searches = True, 0

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        self.searches += prefix == b"\xd0\x0d\xfe\xed"
        return super().find_pages(prefix, at=at)


def live(kernel: Kernel) -> Searched:
    return Searched(opened(kernel.image.core(notes=kernel.note())))


def test_live_machine_whose_variables_can_be_read_is_not_searched() -> None:
    kernel = x86()
    root, own = kernel.image.handover(), kernel.image.handover()
    kernel.hand(incoming=root, outgoing=own)
    memory = live(kernel)
    assert directions(luoser.read(memory, symbols=symbols(kernel.system_map()))) == {root: INCOMING, own: OUTGOING}
    assert memory.searches == 0


def test_live_machine_without_kho_is_not_searched() -> None:
    kernel = x86()
    kernel.image.handover()
    memory = live(kernel)
    assert luoser.read(memory, symbols=symbols(kernel.system_map())).handovers == ()
    assert memory.searches == 0


def test_live_machine_is_searched_for_what_boot_parameters_do_not_name() -> None:
    """They name the incoming root only."""
    image = Image(first=1 << 20)
    kernel = x86(image)
    root, own = (image.handover({"LUO": (image.alloc(b"luo-v5\0\0" + u64(number)), 32)}) for number in (1, 2))
    memory = live(kernel)
    memory.known_roots = (KnownRoot(root=root, incoming=True, evidence="setup_data 1"),)
    assert directions(luoser.read(memory)) == {root: INCOMING, own: OUTGOING}
    assert memory.searches == 1


def test_live_machine_whose_variables_cannot_be_read_is_searched() -> None:
    kernel = x86()
    root = kernel.image.handover()
    memory = live(kernel)
    state = luoser.read(memory, symbols=symbols(kernel.system_map(without=("kho_out", "kho_in"))))
    assert directions(state) == {root: OUTGOING}
    assert codes(state) == ["symbols"]
