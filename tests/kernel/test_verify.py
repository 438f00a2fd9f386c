# SPDX-License-Identifier: MIT
"""The registry against a kernel's types: a real kernel, structs made by a compiler, structs that are wrong."""

from __future__ import annotations

import struct
from pathlib import Path
from time import process_time

import pytest

from luoser.kernel.btf import Btf
from luoser.kernel.files import read_types
from luoser.kernel.types import Types, TypesError
from luoser.kernel.verify import Difference, Verified, changed, verify
from luoser.limits import LIMITS, Limits, limited
from tests.kernel import real
from tests.kernel.compiled import FILE, FILE_SER, btf, dwarf
from tests.kernel.made import Blob

ABSENT = {"fdt_property_record", "khoser_mem_chunk", "khoser_mem_chunk_hdr", "khoser_mem_bitmap_ptr"}
"""Merged structs that 7.3 does not have."""


def one(types: Types, name: str) -> Verified:
    (found,) = [found for found in verify(types) if found.name == name]
    return found


@pytest.mark.parametrize("moment", ["pre", "frozen", "finished"])
def test_all_merged_layouts_of_7_3_are_equal(moment: str) -> None:
    types = real.running(moment).types
    assert types is not None
    found = verify(types)
    merged = {each.name: each.result for each in found if each.status == "merged"}
    assert {name for name, result in merged.items() if result == "equal"} >= {
        *("luo_ser", "luo_session_ser", "luo_file_ser", "luo_flb_ser", "luo_flb_header_ser", "luo_file_set_ser"),
        *("memfd_luo_ser", "memfd_luo_folio_ser", "kho_vmalloc", "kho_vmalloc_chunk", "kho_radix_node", "kho_scratch"),
        *("kho_block_header_ser", "kho_kexec_metadata", "kho_data", "setup_data"),
    }
    assert {name for name, result in merged.items() if result == "absent"} >= ABSENT
    assert {each.result for each in found if each.status != "merged"} == {"absent", "unknown"}
    assert [each.name for each in found if each.result == "different"] == []
    assert {each.name for each in found if each.result == "unknown"} == {
        *("lab2_dev_ser", "lab2_ser", "lab_dev_ser", "lab_ser"),
    }


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
def test_the_vmlinux_of_a_built_kernel(machine: str) -> None:
    found = verify(read_types(real.vmlinux(machine)))
    assert not [each.name for each in found if each.result == "different"]
    assert sum(each.result == "equal" for each in found) >= 23


# -- made by a compiler ------------------------------------------------------------------------------------

CHANGES = {
    "moved": (
        FILE_SER.replace("\tu64 data;\n\tu64 token;\n", "\tu64 token;\n\tu64 data;\n"),
        {("moved", "data", "48", "56"), ("moved", "token", "56", "48")},
    ),
    "size": (
        FILE_SER.replace("u64 token", "u32 token; u32 _pad"),
        {("size", "token", "8", "4"), ("new", "_pad", "", "u32 at 60")},
    ),
    "grown": (
        FILE_SER.replace("u64 token;", "u64 token;\n\tu64 more;"),
        {("size", "", "64", "72"), ("new", "more", "", "u64 at 64")},
    ),
    "type": (FILE_SER.replace("u64 data", "void *data"), {("type", "data", "u64", "void *")}),
    "renamed": (FILE_SER.replace("token", "ticket"), {("renamed", "token", "token", "ticket")}),
    "gone": (FILE_SER.replace("\tu64 token;\n", ""), {("size", "", "64", "56"), ("gone", "token", "at 56", "")}),
}


def test_a_struct_as_it_is(tmp_path: Path) -> None:
    assert one(read_types(btf(tmp_path, FILE)), "luo_file_ser").result == "equal"


def test_structs_of_posted_users_have_the_names_of_their_postings(tmp_path: Path) -> None:
    text = """typedef unsigned long long u64; typedef unsigned int u32; typedef unsigned short u16;
    typedef long long s64; typedef int s32; typedef char c8;
    struct pstore_kho_record { s64 size, time_sec; u32 time_nsec; s32 count; u32 reason, part, compressed; c8 buf[]; };
    struct pstore_ser { u32 version; struct pstore_kho_record record; };
    struct pstore_ser log;
    struct kho_vmalloc { u64 first; u32 total_pages; u16 flags; u16 order; };
    struct kho_hwpoison_metadata { u32 version; u32 _pad; u64 count; struct kho_vmalloc pfns; } __attribute__((packed));
    struct kho_hwpoison_metadata list;
    """
    types = read_types(dwarf(tmp_path, text))
    assert {name: one(types, name).result for name in ("kho_hwpoison_metadata", "pstore_ser")} == {
        "kho_hwpoison_metadata": "equal",
        "pstore_ser": "equal",
    }


@pytest.mark.parametrize("change", CHANGES)
def test_a_struct_that_was_changed(change: str, tmp_path: Path) -> None:
    text, differences = CHANGES[change]
    assert text != FILE_SER
    found = one(read_types(btf(tmp_path, FILE.replace(FILE_SER, text))), "luo_file_ser")
    assert found.result == "different" and "luo-file" in found.layouts
    assert {(each.what, each.member, each.ours, each.theirs) for each in found.differences} == differences
    assert found.members[0].c_type == "char[48]"


def test_a_struct_with_a_pointer_is_not_on_the_wire(tmp_path: Path) -> None:
    more = "struct kho_live { struct kho_live *next; };\nstruct kho_bits { unsigned a : 3; unsigned b : 29; };\n"
    uses = "struct kho_live live; struct kho_bits bits;\n"
    found = {each.name: each for each in verify(read_types(btf(tmp_path, more + uses + FILE)))}
    assert "kho_live" not in found
    assert [(member.offset, member.bits) for member in found["kho_bits"].members] == [(0, 3), (0, 29)]


# -- hostile -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 1000])
def test_structs_that_contain_themselves(width: int) -> None:
    """Four levels of a thousand members each."""
    blob = Blob()
    blob.structure(b"kho_loop", 8, *[(b"m%d" % number, 1, 0) for number in range(width)])
    word = blob.integer(b"u64", 8)
    rows = word
    for level in range(6):
        name = b"kho_deep" if level == 5 else b"level%d" % level
        rows = blob.structure(name, 8, *[(b"m%d" % number, rows, 0) for number in range(width)])
    start = process_time()
    try:
        found = verify(Btf(blob.data()))
    except TypesError as error:
        assert "members" in str(error)
    else:
        assert "kho_loop" not in {each.name for each in found}
    assert process_time() - start < 10


def test_a_known_struct_that_contains_itself() -> None:
    blob = Blob()
    blob.structure(b"luo_file_ser", 64, *[(b"m%d" % number, 1, 0) for number in range(1000)])
    start = process_time()
    with pytest.raises(TypesError, match="members"):
        verify(Btf(blob.data()))
    assert process_time() - start < 10


def shared(count: int) -> Types:
    """Structs that each have the same inner ones: 25 members, each of 25 members."""
    blob = Blob()
    inner = blob.integer(b"u8", 1)
    for level in range(2):
        inner = blob.structure(b"inner%d" % level, 25**level, *[(b"m%d" % number, inner, 0) for number in range(25)])
    for number in range(count):
        blob.structure(b"x%d_ser" % number, 25, (b"value", inner, 0))
    return Btf(blob.data())


def test_members_of_all_structs_are_counted_together() -> None:
    """Each struct is 30 bytes of BTF, and 651 members."""
    assert sum(len(each.members) for each in verify(shared(8))) == 8 * 651
    with limited(Limits(compared_members=4500)):
        verify(shared(6))
        for run in (lambda: verify(shared(8)), lambda: [*changed(shared(4), shared(4))]):
            with pytest.raises(TypesError, match=r"more than 4500 members .*--limit compared_members=N"):
                run()
    with pytest.raises(TypesError, match="members of structs to look at"):
        verify(shared(LIMITS.compared_members // 651 + 1))


def test_what_changes_behind_equal_places() -> None:
    """Elements of an array whose members are in another order, and a number that becomes another kind of value."""

    def made(first: bytes, second: bytes, kind: str) -> Types:
        blob = Blob()
        u64, u32, u8 = blob.integer(b"u64", 8), blob.integer(b"u32", 4), blob.integer(b"u8", 1)
        inner = blob.structure(b"", 8, (first, u32, 0), (second, u32, 32))
        kinds = {"u64": u64, "pointer": blob.pointer(u8), "bytes": blob.array(u8, 8)}
        blob.structure(b"luo_file_ser", 24, (b"list", blob.array(inner, 2), 0), (b"data", kinds[kind], 128))
        return Btf(blob.data())

    before = made(b"a", b"b", "u64")
    assert [*changed(before, made(b"a", b"b", "u64"))] == []
    assert [*changed(before, made(b"b", b"a", "u64"))] == [
        ("luo_file_ser", "list[].a of 4 bytes at 0 is now of 4 at 4"),
    ]
    for kind, said in (("pointer", "u8 *"), ("bytes", "u8[8]")):
        assert [*changed(before, made(b"a", b"b", kind))] == [("luo_file_ser", f"data, u64, is now {said}")]


def test_structs_of_one_name_are_counted() -> None:
    blob = Blob()
    word = blob.integer(b"u64", 8)
    for _ in range(100):
        blob.structure(b"luo_file_ser", 8, (b"a", word, 0), (b"b", word, 0))
    with limited(Limits(compared_members=199)), pytest.raises(TypesError, match="more than 199 members"):
        verify(Btf(blob.data()))


@pytest.mark.parametrize("width", [0, 1000])
def test_structs_of_one_name_cost_what_they_have_inside(width: int) -> None:
    """Also those without a member are work, and those that all have the same inner one."""
    blob = Blob()
    inner = blob.structure(b"", 8, *[(b"m%d" % number, blob.integer(b"u8", 1), 0) for number in range(width)])
    for _ in range(200):
        blob.structure(b"luo_session_ser", 8, *([(b"file_set_ser", inner, 0)] if width else []))
    with limited(Limits(compared_members=100 + 50 * width)), pytest.raises(TypesError, match="members of structs"):
        verify(Btf(blob.data()))


def test_types_that_are_not_there() -> None:
    blob = Blob()
    blob.structure(b"luo_file_ser", 64, (b"data", 77, 0))
    with pytest.raises(TypesError, match="no type 77"):
        verify(Btf(blob.data()))


def test_many_definitions_of_one_name() -> None:
    """A kernel's BTF may have several structs of a name; the nearest counts."""
    blob = Blob()
    word, char = blob.integer(b"u64", 8), blob.integer(b"char", 1)
    name = blob.array(char, 48)
    blob.structure(b"luo_file_ser", 8, (b"data", word, 0))
    blob.structure(b"luo_file_ser", 64, (b"compatible", name, 0), (b"data", word, 384), (b"token", word, 448))
    assert one(Btf(blob.data()), "luo_file_ser").result == "equal"


def test_a_bit_field_is_no_number_of_the_same_size() -> None:
    blob = Blob()
    word, char = blob.integer(b"u64", 8), blob.integer(b"char", 1)
    name = (b"compatible", blob.array(char, 48), 0, 0)
    blob.structure(b"luo_file_ser", 64, name, (b"data", word, 384, 64), (b"token", word, 448, 0))
    assert [each.what for each in one(Btf(blob.data()), "luo_file_ser").differences] == ["type"]


def test_a_difference_says_bits() -> None:
    blob = Blob()
    word, char = blob.integer(b"u64", 8), blob.integer(b"char", 1)
    blob.structure(
        b"luo_file_ser",
        64,
        (b"compatible", blob.array(char, 48), 0, 0),
        (b"data", word, 384, 3),
        (b"token", word, 448, 0),
    )
    found = one(Btf(blob.data()), "luo_file_ser")
    assert found.differences == (Difference(what="size", member="data", ours="8", theirs="0, bit 3"),)
    assert struct.calcsize("48sQQ") == found.size
