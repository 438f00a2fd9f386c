# SPDX-License-Identifier: MIT
"""DWARF as compilers write it: bit-fields of version 4 and 5, arrays, anonymous members; and whose structs are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from luoser.kernel.files import read_types
from luoser.kernel.types import described
from luoser.kernel.verify import kernel_members
from tests.kernel import real
from tests.kernel.compiled import FILE, btf, dwarf

TEXT = """typedef unsigned long long u64;
typedef unsigned char u8;
struct other { int private; };
struct list { struct list *next; };
enum colour { RED };
struct kho_all {
	u64 plain;
	unsigned low : 3, middle : 9;
	u8 tiny : 2;
	union { u64 whole; struct { int left, right; }; };
	char text[6];
	const volatile int *pointer;
	void *nothing;
	struct other *other;
	struct list list;
	void (*call)(int);
	enum colour colour;
	u64 none[0];
	u64 rest[];
};
struct kho_all *all;
"""


@pytest.mark.parametrize("version", [4, 5])
def test_members_equal_those_of_btf(version: int, tmp_path: Path) -> None:
    made = read_types(dwarf(tmp_path, TEXT, f"-gdwarf-{version}"))
    other = read_types(btf(tmp_path, TEXT))
    ours, theirs = made.struct("kho_all"), other.struct("kho_all")
    assert ours is not None and theirs is not None
    assert [*kernel_members(made, ours)] == [*kernel_members(other, theirs)]
    assert made.size(ours) == other.size(theirs)


def test_arrays_of_arrays(tmp_path: Path) -> None:
    """pahole writes one array of all elements; DWARF has each dimension."""
    types = read_types(dwarf(tmp_path, "struct kho_rows { char rows[2][3][4]; } rows;\n"))
    number = types.struct("kho_rows")
    assert number is not None
    assert [(one.c_type, one.size) for one in kernel_members(types, number)] == [("char[2][3][4]", 24)]


@pytest.mark.parametrize("name", ["mm/slub.c", "luo-dev/linux/mm/slub.c"])
def test_structs_of_other_units_are_not_read(tmp_path: Path, name: str) -> None:
    """Wherever the source of the kernel lies."""
    assert [*read_types(dwarf(tmp_path, TEXT, name=name)).structs()] == []


@pytest.mark.parametrize("name", ["kernel/liveupdate/core.c", "mm/memfd_luo.c", "lib/test_kho.c"])
def test_structs_of_units_of_kho_and_luo_are_read(tmp_path: Path, name: str) -> None:
    assert read_types(dwarf(tmp_path, TEXT, name=name)).struct("kho_all") is not None


def test_what_a_pointer_leads_to_has_only_its_name(tmp_path: Path) -> None:
    types = read_types(dwarf(tmp_path, TEXT))
    assert types.named("other") == [] and len(types.named("list")) == 1
    number = types.struct("kho_all")
    place = types.find(number, "other") if number is not None else None
    assert place is not None and described(types, place.type) == "struct other *"


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("kernel/liveupdate/luo_session.o", "luo_session"),
        ("kernel/liveupdate/luo_file.o", "luo_file"),
        ("mm/memfd_luo.o", "memfd_luo_ser"),
    ],
)
def test_an_object_of_a_kernel_says_the_same_as_its_btf(unit: str, name: str) -> None:
    image = real.vmlinux("x86-64")
    if not (image.parent / unit).exists():
        pytest.skip(f"{unit} is not in the cache")
    types, other = read_types(image.parent / unit), read_types(image)
    number, theirs = types.struct(name), other.struct(name)
    assert number is not None and theirs is not None
    ours = [(member.name, member.offset, member.size) for member in kernel_members(types, number)]
    assert ours == [(member.name, member.offset, member.size) for member in kernel_members(other, theirs)]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_bit_fields_are_where_the_compiler_puts_them(version: int, tmp_path: Path) -> None:
    """Up to DWARF 4 their places are counted from the other end of their unit."""
    fields = "u64 pfn:52; u64 flags:12; u64 index; u32 low:3; u32 high:29;"
    text = f"{FILE}struct kho_bits {{ {fields} }} __attribute__((packed));\nstruct kho_bits bits;\n"
    types = read_types(dwarf(tmp_path, text, f"-gdwarf-{version}", "-gstrict-dwarf"))
    number = types.struct("kho_bits")
    assert number is not None
    assert [(name, place.bit, place.bits) for name, place in types.members(number)] == [
        *(("pfn", 0, 52), ("flags", 52, 12), ("index", 64, 0), ("low", 128, 3), ("high", 131, 29)),
    ]


def test_numbers_of_dwarf_have_their_signs(tmp_path: Path) -> None:
    text = FILE + "struct kho_signs { int a; unsigned b; signed char c; unsigned char d; };\nstruct kho_signs signs;\n"
    types = read_types(dwarf(tmp_path, text))
    number = types.struct("kho_signs")
    assert number is not None
    assert [types.type(place.type).signed for _, place in types.members(number)] == [True, False, True, False]
