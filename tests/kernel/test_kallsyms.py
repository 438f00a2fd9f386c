# SPDX-License-Identifier: MIT
"""kallsyms: those of a real kernel, those of every form, and those that somebody broke."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from itertools import islice, product
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory, PageState
from luoser.kernel.kallsyms import Kallsyms, NoKallsyms, find_kallsyms
from luoser.kernel.space import AddressSpace, Unmapped
from luoser.limits import LIMITS, Limits, limited
from luoser.memory.overlay import Overlay
from tests.kernel import real
from tests.kernel.made import IMAGE, Form, Tables, kallsyms_memory

NAMES = ("kho_in", "kho_out", "luo_session_global", "__start_BTF", "__stop_BTF", "page_offset_base", "_stext")


# -- a real kernel -----------------------------------------------------------------------------------------


def test_all_symbols_equal_those_of_system_map() -> None:
    found = find_kallsyms(real.space("pre"))
    assert found.count == 40_019
    listed = Counter((one.address, one.kind, one.name) for one in found)
    left = Counter(real.symbols())
    assert listed <= left
    assert [name for _, _, name in left - listed] == ["phys_startup_64", "xen_elfnote_phys32_entry_value"]  # absolute


def test_a_look_up_equals_the_list_for_every_name() -> None:
    found = find_kallsyms(real.space("pre"))
    listed: dict[str, list[int]] = {}
    for one in found:
        listed.setdefault(one.name, []).append(one.address)
    some = [*listed][::23] + [name for name, places in listed.items() if len(places) > 3]
    got = found.get([*some, "no_such_symbol", "", "\udcff"])
    assert {name: sorted(one.address for one in got[name]) for name in got} == {
        name: sorted(listed[name]) for name in some
    }


def test_sizes_go_to_the_next_symbol() -> None:
    found = find_kallsyms(real.space("pre")).get(["kho_in"])["kho_in"][0]
    after = min(address for address, _, _ in real.symbols() if address > found.address)
    assert found.size == after - found.address


def test_symbols_of_another_boot_are_refused() -> None:
    """The same kernel with another KASLR offset in VMCOREINFO."""
    info = {**real.memory("pre").vmcoreinfo}
    info["SYMBOL(init_uts_ns)"] = f"{int(info['SYMBOL(init_uts_ns)'], 16) + 0x20_0000:x}"
    with pytest.raises(NoKallsyms, match="kallsyms are of another kernel: init_uts_ns is at"):
        find_kallsyms(AddressSpace(real.memory("pre"), info))


@pytest.mark.parametrize(
    ("table", "state", "expected"),
    [
        ("num_syms", PageState.ABSENT, False),
        ("num_syms", PageState.EXCLUDED, False),
        ("token_table", PageState.ABSENT, False),
        ("", PageState.ABSENT, True),
    ],
)
def test_tables_that_are_not_there_are_absent_unless_a_part_is_lost(
    table: str, state: PageState, expected: bool
) -> None:
    memory = Overlay(real.memory("pre"))
    place = real.space("pre")
    for key in [key for key in place.info if key.startswith(f"SYMBOL(kallsyms_{table}")]:
        memory.remove(place.physical(int(place.info[key], 16)), state=state)
    with pytest.raises(NoKallsyms) as raised:
        find_kallsyms(AddressSpace(memory, place.info))
    assert raised.value.is_absent is expected


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
def test_the_tables_of_a_vmlinux(machine: str) -> None:
    """A kernel of the cache, its sections as memory: every symbol equals its System.map."""
    from elftools.elf.elffile import ELFFile

    image = real.vmlinux(machine)
    lines = [line.split() for line in image.with_name("System.map").read_text().splitlines()]
    listed = [(int(address, 16), kind, name) for address, kind, name in lines]
    places = {name: address for address, _, name in listed}
    wanted = ("_stext", "init_uts_ns", *(name for name in places if name.startswith("kallsyms_")))
    memory, slide = Overlay(real.memory("pre")), min(address for address, _, name in listed if name == "_text")
    with image.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section["sh_addr"] >= slide and section["sh_type"] == "SHT_PROGBITS":
                memory.write(0x1_0000_0000 + section["sh_addr"] - slide, section.data())
    info = {
        "NUMBER(kimage_voffset)": f"{slide - 0x1_0000_0000:#x}",
        **{f"SYMBOL({name})": f"{places[name]:x}" for name in wanted},
    }
    found = Counter((one.address, one.kind, one.name) for one in find_kallsyms(AddressSpace(memory, info)))
    assert found <= Counter(listed)
    left = Counter(listed) - found
    assert len(left) < 20 and {kind for _, kind, _ in left} <= set("AaBb")


def with_the_table_by_name() -> tuple[Overlay, int]:
    """The memory of a real kernel with the table that its cut does not have, and the table's physical address."""
    place = real.space("pre")
    names = [one.name.encode("utf-8", "surrogateescape") for one in find_kallsyms(place)]
    start = place.image(int(place.info["SYMBOL(kallsyms_offsets)"], 16) + 4 * len(names))
    assert start is not None
    memory = Overlay(real.memory("pre"))
    order = sorted(range(len(names)), key=lambda index: (names[index], index))
    memory.write(start, b"".join(index.to_bytes(3, "big") for index in order))
    return memory, start


def test_a_look_up_by_name_reads_little_and_equals_the_list() -> None:
    """Names are unpacked one by one: some pages of the tables, which are megabytes with 200 000 symbols."""
    place = AddressSpace(with_the_table_by_name()[0], real.memory("pre").vmcoreinfo)
    found = find_kallsyms(place)
    before = len(place._pages)
    assert found._by_name is not None and before < 100
    assert found.get(NAMES) == find_kallsyms(real.space("pre")).get(NAMES)
    assert set(found.get(NAMES)) == set(NAMES) and len(place._pages) - before < 50
    some = [one.name for one in found][::97]
    assert found.get(some) == find_kallsyms(real.space("pre")).get(some)
    assert found._by_name is not None and not found.damage


@pytest.mark.parametrize("name", ["luo_session_global", "kho_out"])
@pytest.mark.parametrize("size", [1, 3, 0x1000], ids=["bit", "entry", "page"])
def test_a_table_by_name_that_lies_loses_nothing(name: str, size: int) -> None:
    memory, start = with_the_table_by_name()
    info = real.memory("pre").vmcoreinfo
    whole = find_kallsyms(AddressSpace(memory, info))
    assert whole._by_name is not None
    expected = whole.get([name])
    names = sorted(one.name.encode("utf-8", "surrogateescape") for one in whole)
    entry = start + 3 * names.index(name.encode())
    if size == 1:
        memory.write(entry + 1, bytes([memory.read(entry + 1, 1)[0] ^ 1]))
    else:
        memory.write(entry // size * size if size > 3 else entry, bytes(size))
    damaged = find_kallsyms(AddressSpace(memory, info))
    assert damaged._by_name is not None  # the samples do not show it
    assert damaged.get([name]) == expected
    assert "kallsyms: " in damaged.damage and name in damaged.damage


@pytest.mark.parametrize("name", ["luo_session_global", "_stext", "kho_bootmem"])
def test_no_bit_of_the_table_by_name_leads_astray_in_silence(name: str) -> None:
    """Of each entry that a look-up reads. kho_bootmem is not there."""
    memory, _ = with_the_table_by_name()
    found = find_kallsyms(AddressSpace(memory, real.memory("pre").vmcoreinfo))
    order, whole, read = found._by_name, found._ordered, set[int]()
    assert order is not None
    found._ordered = lambda table, index: read.add(index) or whole(table, index)  # type: ignore[method-assign, func-returns-value]
    right = found._search(name.encode(), order)
    assert len(right) == (name != "kho_bootmem") and len(read) > 10
    for index, bit in product(sorted(read), range(24)):
        found._ordered = lambda table, at: whole(table, at) ^ ((at == index) << bit)  # type: ignore[method-assign]  # noqa: B023
        try:
            assert found._search(name.encode(), order) == right, (index, bit)
        except (NoKallsyms, Unmapped, MissingMemory):
            continue


def test_a_look_up_of_a_name_that_is_not_there_reads_little() -> None:
    place = AddressSpace(with_the_table_by_name()[0], real.memory("pre").vmcoreinfo)
    found = find_kallsyms(place)
    before = len(place._pages)
    assert found.get(["kho_bootmem", "kho_out"]).keys() == {"kho_out"}
    assert len(place._pages) - before < 20 and not found.damage


@pytest.mark.parametrize("has_order", [True, False], ids=["by-name", "listed"])
@pytest.mark.parametrize("name", ["kho_in", "__start_BTF"])
def test_a_flipped_bit_in_a_token_hides_no_symbol_in_silence(name: str, has_order: bool) -> None:
    """It is in all names with the token, some of which stay in order: in `__start_BTF` and in `__stop_BTF`."""
    memory = Overlay(with_the_table_by_name()[0] if has_order else real.memory("pre"))
    info = real.memory("pre").vmcoreinfo
    whole = find_kallsyms(AddressSpace(memory, info))
    (index,) = whole._indices([name])[name]
    (packed,) = islice(whole._packed(), index, index + 1)
    start = whole._space.physical(whole._places.token_table)
    for token in {*packed}:
        place = start + sum(len(one) + 1 for one in whole._tokens[:token])
        flipped = Overlay(memory)
        flipped.write(place, bytes([memory.read(place, 1)[0] ^ 2]))
        try:
            assert find_kallsyms(AddressSpace(flipped, info)).get([name]).keys() == {name}
        except NoKallsyms as error:
            assert not error.is_absent


@pytest.mark.parametrize("bit", range(17))
def test_a_wrong_number_of_symbols_is_damage(bit: int) -> None:
    memory, info = Overlay(real.memory("pre")), real.memory("pre").vmcoreinfo
    place = real.space("pre").physical(int(info["SYMBOL(kallsyms_num_syms)"], 16))
    memory.write(place, (int.from_bytes(memory.read(place, 4), "little") ^ 1 << bit).to_bytes(4, "little"))
    try:
        assert find_kallsyms(AddressSpace(memory, info)).damage
    except NoKallsyms as error:
        assert not error.is_absent


def test_names_that_are_skipped_are_damage() -> None:
    """One bit in the length of a name: those after it are read from the middle of others."""
    ram, place = kallsyms_memory(Tables(symbols=SYMBOLS, ordered=False))
    found = find_kallsyms(place)
    assert found._markers is not None and found.get(["_end"])
    length = found._skip(0, 200) + found._places.names - 0xFFFF_FFFF_8000_0000
    ram.write(length, bytes([ram.read(length, 1)[0] ^ 8]))
    with pytest.raises(NoKallsyms, match=r"the names (before symbol 512 of 709 are damaged|end too early)"):
        find_kallsyms(AddressSpace(ram, place.info)).get(["_end"])


def test_a_marker_beyond_the_names_is_damage_also_where_the_source_ends() -> None:
    memory, _ = with_the_table_by_name()
    info = real.memory("pre").vmcoreinfo
    whole = find_kallsyms(AddressSpace(memory, info))
    (index,) = whole._indices(["kho_out"])["kho_out"]
    place = whole._space.physical((whole._markers or 0) + 4 * (index // 256)) + 3
    memory.write(place, b"\x10")
    damaged = find_kallsyms(AddressSpace(memory, info))
    with pytest.raises(NoKallsyms, match="which is after all names"):
        damaged.get(["kho_out"])


# -- every form --------------------------------------------------------------------------------------------

LONG = b"_RNv" + b"x" * 0x90
SYMBOLS: list[tuple[int, str, bytes]] = [
    (IMAGE, "T", b"_stext"),
    (IMAGE, "T", b"_text"),
    *((IMAGE + 0x100 * number, "t", b"function_%d" % number) for number in range(1, 700)),
    (IMAGE + 0x8_0000, "t", b"init_luo_kho_"),
    (IMAGE + 0x8_0000, "t", LONG),
    (IMAGE + 0x8_1000, "t", b"twice"),
    (IMAGE + 0x8_2000, "d", b"twice"),
    (IMAGE + 0x8_3000, "D", "größe".encode()),
    (IMAGE + 0x8_4000, "D", b"init_uts_ns"),
    (IMAGE + 0x8_5000, "d", b"\xff\x1b[31m"),
    (IMAGE + 0x8_6000, "B", b"_end"),
]
FORMS: list[tuple[Form, int]] = [("near", 4), ("base", 8), ("percpu", 8), ("addresses", 8)]
every_form = pytest.mark.parametrize(("form", "align"), FORMS, ids=[form for form, _ in FORMS])


def triples(found: Kallsyms) -> list[tuple[int, str, bytes]]:
    return [(one.address, one.kind, one.name.encode("utf-8", "surrogateescape")) for one in found]


@every_form
@pytest.mark.parametrize(
    ("count", "ordered", "markers"),
    [
        *((count, True, True) for count in (513, 256)),
        *(pytest.param(count, True, True, marks=pytest.mark.slow) for count in (len(SYMBOLS), 512, 257, 255)),
        (257, False, False),
        pytest.param(len(SYMBOLS), False, False, marks=pytest.mark.slow),
        *((count, ordered, not ordered) for count, ordered in ((512, True), (255, False))),
        *(
            pytest.param(count, ordered, not ordered, marks=pytest.mark.slow)
            for count, ordered in ((512, False), (255, True))
        ),
    ],
)
def test_symbols_of_every_form(form: Form, align: int, count: int, ordered: bool, markers: bool) -> None:
    """An odd number of markers has padding after it where tables are aligned to 8."""
    some = [*SYMBOLS[: count - 8], *SYMBOLS[-8:]]
    percpu = [(0x1000 + 64 * number, "A", b"percpu_%d" % number) for number in range(3)] if form == "percpu" else []
    tables = Tables(symbols=[*percpu, *some], form=form, align=align, ordered=ordered, markers=markers)
    found = find_kallsyms(kallsyms_memory(tables)[1])
    assert triples(found) == [*percpu, *some]
    listed: dict[str, list[int]] = {}
    for address, _, name in [*percpu, *some]:
        listed.setdefault(name.decode("utf-8", "surrogateescape"), []).append(address)
    got = found.get([*listed, "nothing", "twic", "twicf"])
    assert {name: [one.address for one in got[name]] for name in got} == listed
    assert (found._by_name is not None) == (ordered and (markers or (count < 257 and found._markers is not None)))


@every_form
def test_a_kernel_without_variables_in_its_symbols(form: Form, align: int) -> None:
    """Without CONFIG_KALLSYMS_ALL only `_stext` is there to compare."""
    functions = [one for one in SYMBOLS if one[1] in "tT"]
    found = find_kallsyms(kallsyms_memory(Tables(symbols=functions, form=form, align=align))[1])
    assert triples(found) == functions and "init_uts_ns" not in found.get(["init_uts_ns"])


def test_one_symbol_is_enough() -> None:
    assert triples(find_kallsyms(kallsyms_memory(Tables(symbols=SYMBOLS[:1]))[1])) == SYMBOLS[:1]


def test_an_order_that_is_none_is_not_used() -> None:
    tables = Tables(symbols=SYMBOLS)
    ram, place = kallsyms_memory(tables)
    _, places = tables.written()
    start = places["seqs_of_names"] - 0xFFFF_FFFF_8000_0000
    ram.write(start, b"".join(index.to_bytes(3, "big") for index in range(len(SYMBOLS))))
    found = find_kallsyms(place)
    assert found._by_name is None
    assert [one.address for one in found.get(["twice"])["twice"]] == [IMAGE + 0x8_1000, IMAGE + 0x8_2000]


@every_form
@pytest.mark.parametrize("bit", [16, 24])
def test_an_address_that_is_not_between_its_neighbours_is_damage(form: Form, align: int, bit: int) -> None:
    """The kernel sorts its symbols by address: one bit of an entry is another variable's address."""
    tables = Tables(symbols=SYMBOLS, form=form, align=align)
    ram, place = kallsyms_memory(tables)
    _, places = tables.written()
    index = next(index for index, one in enumerate(SYMBOLS) if one[2] == "größe".encode())
    size = 8 if form == "addresses" else 4
    entry = places["addresses" if size == 8 else "offsets"] - 0xFFFF_FFFF_8000_0000 + size * index
    assert find_kallsyms(place).get(["größe"])["größe"][0].address == IMAGE + 0x8_3000
    ram.write(entry, (int.from_bytes(ram.read(entry, size), "little") ^ 1 << bit).to_bytes(size, "little"))
    found = find_kallsyms(AddressSpace(ram, place.info))
    with pytest.raises(NoKallsyms, match=r"the table of addresses is damaged: symbol \d+ of 709 is at"):
        found.get(["größe"])
    assert found.get(["function_9"])["function_9"][0].address == IMAGE + 0x900


def test_a_table_by_name_that_is_damaged_in_between_is_not_used() -> None:
    tables = Tables(symbols=SYMBOLS)
    ram, place = kallsyms_memory(tables)
    _, places = tables.written()
    assert find_kallsyms(place)._by_name is not None
    step = (len(SYMBOLS) - 1) // 24
    start = places["seqs_of_names"] - 0xFFFF_FFFF_8000_0000
    for index in range(len(SYMBOLS)):
        if index % step:  # all but the samples
            ram.write(start + 3 * index, b"\xff\xff\xff")
    found = find_kallsyms(AddressSpace(ram, place.info))
    assert [one.address for one in found.get(["twice"])["twice"]] == [IMAGE + 0x8_1000, IMAGE + 0x8_2000]
    assert found._by_name is None and "a number beyond the last" in found.damage


# -- nothing there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["names", "num_syms", "token_table", "token_index", "offsets"])
def test_a_table_that_vmcoreinfo_alone_does_not_name_is_damage(lost: str) -> None:
    _, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    info = {key: value for key, value in place.info.items() if key != f"SYMBOL(kallsyms_{lost})"}
    with pytest.raises(NoKallsyms, match="VMCOREINFO does not say where kallsyms are") as raised:
        find_kallsyms(AddressSpace(place.memory, info))
    assert not raised.value.is_absent


def test_tables_of_which_vmcoreinfo_names_none_are_absent() -> None:
    _, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    info = {key: value for key, value in place.info.items() if "kallsyms" not in key}
    with pytest.raises(NoKallsyms, match="VMCOREINFO does not say where kallsyms are") as raised:
        find_kallsyms(AddressSpace(place.memory, info))
    assert raised.value.is_absent


def test_a_table_far_from_the_others_is_damage() -> None:
    _, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    key = "SYMBOL(kallsyms_num_syms)"
    info = {**place.info, key: f"{int(place.info[key], 16) ^ 1 << 40:x}"}
    with pytest.raises(NoKallsyms, match="VMCOREINFO is damaged") as raised:
        find_kallsyms(AddressSpace(place.memory, info))
    assert not raised.value.is_absent


def test_symbols_without_any_that_vmcoreinfo_has() -> None:
    with pytest.raises(NoKallsyms, match="kallsyms have none of _stext"):
        find_kallsyms(kallsyms_memory(Tables(symbols=SYMBOLS[1:-4]))[1])


# -- hostile -----------------------------------------------------------------------------------------------


def outcome(place: AddressSpace) -> str | None:
    """Why there are no symbols, or None. Other errors go through. A table that is read by name may be damaged later."""
    try:
        found = find_kallsyms(place)
        found.get(["kho_in", "_stext", "init_uts_ns"])
        for _ in found:
            pass
    except (NoKallsyms, Unmapped, MissingMemory) as error:
        return str(error)
    return None


def in_time(run: Callable[[], Any], seconds: float = 4.0) -> Any:
    start = process_time()
    result = run()
    assert process_time() - start < seconds
    return result


def test_tokens_that_overlap_are_damage() -> None:
    """256 tokens that are each the same 1000 bytes, in names of 1000 tokens: a megabyte for each symbol."""
    count = 20_000
    tables = Tables(symbols=SYMBOLS)
    ram, place = kallsyms_memory(tables)
    names = b"\xe8\x07" + b"x" * 1000
    start = 0x400_0000
    parts = [struct.pack("<I", count), names * count, b"x" * 1000 + b"\0", struct.pack("<256H", *[0] * 256), b""]
    places = dict[str, str]()
    for name, data in zip(("num_syms", "names", "token_table", "token_index", "offsets"), parts, strict=True):
        ram.write(start, data)
        places[f"SYMBOL(kallsyms_{name})"] = f"{0xFFFF_FFFF_8000_0000 + start:x}"
        start += len(data)
    space = AddressSpace(ram, {**place.info, **places})
    assert in_time(lambda: outcome(space)) == "kallsyms: the table of tokens is damaged"


def test_many_long_tokens_in_one_name_are_damage() -> None:
    long = [bytes([byte + 1]) * 200 for byte in range(128)] + [bytes([byte]) for byte in range(128, 256)]
    tables = Tables(symbols=[(IMAGE, "T", b"\x05" * 500)] * 20_000 + SYMBOLS, tokens=long)
    assert "a name of" in (in_time(lambda: outcome(kallsyms_memory(tables)[1])) or "")


def test_symbols_are_counted() -> None:
    _, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    assert outcome(place) is None
    with limited(Limits(kallsyms=len(SYMBOLS) - 1)):
        assert "--limit kallsyms=N" in (outcome(place) or "")


def test_four_million_names_of_nothing_are_damage() -> None:
    """Pages of zeros: each byte would be an empty name."""
    ram, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    start, size = 0x400_0000, LIMITS.kallsyms + 0x1000
    ram.write(start, bytes(size))
    ram.write(start - 0x1000, struct.pack("<I", LIMITS.kallsyms))
    tokens = 0xFFFF_FFFF_8000_0000 + start + size
    ram.write(start + size, b"zero\0" + b"".join(bytes([byte, 0]) for byte in range(1, 256)))
    ram.write(start + size + 515, struct.pack("<256H", 0, *range(5, 515, 2)))
    info = {
        "SYMBOL(kallsyms_names)": f"{0xFFFF_FFFF_8000_0000 + start:x}",
        "SYMBOL(kallsyms_num_syms)": f"{0xFFFF_FFFF_8000_0000 + start - 0x1000:x}",
        "SYMBOL(kallsyms_token_table)": f"{tokens:x}",
        "SYMBOL(kallsyms_token_index)": f"{tokens + 515:x}",
    }
    assert in_time(lambda: outcome(AddressSpace(ram, {**place.info, **info}))) == "kallsyms: a name of 0 bytes"


@given(
    st.lists(st.tuples(st.integers(0, 0x3000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    st.sampled_from(FORMS),
    st.booleans(),
)
def test_no_damage_breaks_it(damage: list[tuple[int, bytes]], form: tuple[Form, int], ordered: bool) -> None:
    some = [*SYMBOLS[:300], *SYMBOLS[-8:]]
    tables = Tables(symbols=some, form=form[0], align=form[1], ordered=ordered)
    ram, place = kallsyms_memory(tables)
    for where, data in damage:
        ram.write(tables.at - 0xFFFF_FFFF_8000_0000 + where, data)
    outcome(place)


@given(
    st.dictionaries(
        st.sampled_from(["names", "num_syms", "token_table", "token_index", "offsets", "relative_base", "addresses"]),
        st.integers(-(1 << 65), 1 << 65) | st.integers(IMAGE, IMAGE + 0x20_0000),
    )
)
def test_no_place_of_a_table_breaks_it(places: dict[str, int]) -> None:
    _, place = kallsyms_memory(Tables(symbols=SYMBOLS))
    said = {f"SYMBOL(kallsyms_{name})": f"{address:x}" for name, address in places.items()}
    outcome(AddressSpace(place.memory, {**place.info, **said}))


def test_tables_that_a_dump_tool_left_out_are_not_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def left_out(address: int, _: int) -> bytes:
        raise MissingMemory(address, PageState.EXCLUDED)

    memory = real.memory("frozen")
    space = AddressSpace(memory, memory.vmcoreinfo, 4096)
    monkeypatch.setattr(memory, "read", left_out)
    with pytest.raises(NoKallsyms) as caught:
        find_kallsyms(space)
    assert caught.value.is_excluded and not caught.value.is_absent
