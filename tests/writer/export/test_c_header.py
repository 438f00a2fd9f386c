# SPDX-License-Identifier: MIT
"""C headers of the layouts, compiled: they assert every offset and size themselves."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from luoser.abi.registry import Layout, layout, layouts
from luoser.abi.schema import Bits
from luoser.writer.export.c_header import c_header
from tests.writer.golden.compiler import compile_all, each_compiler, needs_gcc, program

C11 = ("-std=c11", "-pedantic")
ALL = c_header(layouts())


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


@each_compiler
@pytest.mark.parametrize("more", [(), ("-D__KERNEL__", "-Ikernel")], ids=["user space", "kernel"])
def test_all_layouts_in_one_header_compile(more: tuple[str, ...], compiler: str, tmp_path: Path) -> None:
    (tmp_path / "kernel" / "linux").mkdir(parents=True)
    for name, text in KERNEL.items():
        (tmp_path / "kernel" / "linux" / name).write_text(text)
    (tmp_path / "all.h").write_text(ALL)
    (tmp_path / "all.c").write_text('#include "all.h"\n#include "all.h"\nint unit;\n')
    result = compile_all(tmp_path, ["all.c"], *C11, "-fsyntax-only", *more, compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


GXX = shutil.which("g++")


@needs_gcc
@pytest.mark.skipif(GXX is None, reason="g++ is not installed")
def test_it_is_a_header_for_c_plus_plus_too(tmp_path: Path) -> None:
    (tmp_path / "all.cc").write_text(ALL)
    command = [str(GXX), "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "all.cc"]
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


KERNEL = {
    "build_bug.h": "#define static_assert(claim, ...) _Static_assert(claim, #claim)\n",
    "compiler.h": "#define __packed __attribute__((packed))\n#define __aligned(x) __attribute__((aligned(x)))\n",
    "stddef.h": "#define offsetof(type, member) __builtin_offsetof(type, member)\n",
    "types.h": "".join(f"typedef __UINT{bits}_TYPE__ uint{bits}_t;\n" for bits in (8, 16, 32, 64))
    + "".join(f"typedef __INT{bits}_TYPE__ int{bits}_t;\n" for bits in (8, 16, 32, 64))
    + "typedef _Bool bool;\n",
}


@needs_gcc
@pytest.mark.skipif(platform.machine() != "x86_64", reason="gcc for x86 has -m32")
def test_where_64_bits_are_aligned_to_4_bytes_it_says_why_it_does_not_compile(tmp_path: Path) -> None:
    """For the kernel, as it needs no library. A header of packed structs alone is right there, too."""
    (tmp_path / "linux").mkdir()
    for name, text in KERNEL.items():
        (tmp_path / "linux" / name).write_text(text)
    said = []
    for name in ("kho-scratch", "luo-file"):
        (tmp_path / "one.c").write_text(c_header([known(name)]) + "int unit;\n")
        said.append(compile_all(tmp_path, ["one.c"], *C11, "-m32", "-D__KERNEL__", "-fsyntax-only").stderr)
    assert "LUOSER_ALIGNOF(uint64_t) == 8" in said[0] and not said[1]


@needs_gcc
def test_each_layout_compiles_alone(tmp_path: Path) -> None:
    sources = [f"{entry.name}.c" for entry in layouts()]
    for entry, name in zip(layouts(), sources, strict=True):
        (tmp_path / name).write_text(c_header([entry]) + "int unit;\n")
    result = compile_all(tmp_path, sources, *C11, "-fsyntax-only")
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("LUOSER_MEMBER(struct luo_file_ser, data, 48, 8);", "LUOSER_MEMBER(struct luo_file_ser, data, 56, 8);"),
        ("LUOSER_MEMBER(struct luo_file_ser, data, 48, 8);", "LUOSER_MEMBER(struct luo_file_ser, data, 48, 4);"),
        ("LUOSER_STRUCT(struct luo_file_ser, 64, 1);", "LUOSER_STRUCT(struct luo_file_ser, 63, 1);"),
        ("LUOSER_STRUCT(struct luo_file_ser, 64, 1);", "LUOSER_STRUCT(struct luo_file_ser, 64, 8);"),
    ],
)
def test_what_is_not_so_does_not_compile(line: str, other: str, tmp_path: Path) -> None:
    header = c_header([known("luo-file")])
    assert line in header
    (tmp_path / "one.c").write_text(header.replace(line, other))
    assert "static assertion failed" in compile_all(tmp_path, ["one.c"], *C11, "-fsyntax-only").stderr


@needs_gcc
def test_bit_fields_are_the_bits_of_the_schemas(tmp_path: Path) -> None:
    """They have no offset in C: each is filled, and the bytes compared."""
    structs = [(entry, schema) for entry in layouts() for schema in entry.schemas]
    cases = {
        (schema.label, schema.name, name): (entry, schema, name)
        for entry, schema in structs
        for member in schema.struct.members
        if isinstance(member.type, Bits)
        for name, _ in member.type.members
    }
    headers, lines = dict[str, str](), list[str]()
    for number, (entry, schema, name) in enumerate(cases.values()):
        (tmp_path / f"{number}.c").write_text(
            f"{c_header([entry])}\n#include <string.h>\nunsigned char bytes_{number}[{schema.size}];\n"
            f"void fill_{number}(void);\nvoid fill_{number}(void)\n{{\n"
            f"struct {_declared(entry, schema.size, name)} s;\nmemset(&s, 0, sizeof(s));\ns.{name} -= 1;\n"
            f"memcpy(bytes_{number}, &s, sizeof(s));\n}}\n"
        )
        headers[f"{number}.c"] = f"extern unsigned char bytes_{number}[]; void fill_{number}(void);"
        lines.append(f"fill_{number}(); for (int i = 0; i < {schema.size}; i++)"
                     f' printf("%02x", bytes_{number}[i]); puts("");')  # fmt: skip
    main = ["#include <stdio.h>", *headers.values(), "int main(void)", "{", *lines, "return 0;", "}"]
    (tmp_path / "main.c").write_text("\n".join(main))
    output = subprocess.run([program(tmp_path, [*headers, "main.c"])], check=True, capture_output=True, text=True)
    for (_, schema, name), found in zip(cases.values(), output.stdout.splitlines(), strict=True):
        values = schema.parse(bytes(schema.size))
        values["_bits"][name] = (1 << (schema.field(name).bit_width or 0)) - 1
        assert bytes.fromhex(found) == schema.build(values), (schema, name)


def _declared(entry: Layout, size: int, member: str) -> str:
    """The name of the struct of that size with that bit-field."""
    found = re.findall(r"struct (\w+) \{\n(.*?)\n\}", c_header([entry]), re.DOTALL)
    (name,) = {
        name
        for name, body in found
        if f" {member}:" in body and re.search(rf"STRUCT\(struct {name}, {size},", c_header([entry]))
    }
    return name


def test_a_struct_with_one_form_has_the_name_of_the_kernel() -> None:
    assert "struct pci_ser {" in c_header([known("pci-v2-u32")])


def test_forms_of_one_struct_are_flavors_with_the_name_of_their_layout() -> None:
    both = c_header([known("memfd-v1"), known("memfd-v2")])
    assert re.findall(r"struct (memfd_luo_ser\w*) \{", both) == ["memfd_luo_ser___memfd_v1", "memfd_luo_ser___memfd_v2"]
    assert len(re.findall(r"struct kho_vmalloc \{", both)) == 1


def test_a_comment_has_meaning_and_provenance() -> None:
    made = c_header([known("memfd-v2")])
    assert " * @seals: F_SEAL_* bits, within 0x3f\n" in made
    assert " * merged: 7.1..7.3; 48 bytes, packed, little-endian.\n * Layouts: memfd-v2.\n" in made


def test_named_bits_are_constants() -> None:
    assert "#define MEMFD_LUO_SER_SEALS_FUTURE_WRITE 0x10\n" in c_header([known("memfd-v2")])


def test_big_endian_members_are_marked() -> None:
    assert "\tuint32_t magic; /* big-endian */\n" in c_header([known("kho-v4")])


def test_lines_are_as_the_kernel_has_them() -> None:
    lines = ALL.splitlines()
    assert ALL.isascii() and [line for line in lines if len(line.expandtabs(8)) > 80 or line != line.rstrip()] == []
    assert [line for line in lines if " \t" in line or line.startswith("    ")] == []
    assert (
        ALL.count("/**") == len(re.findall(r"^ \*/$", ALL, re.MULTILINE)) - 1
    )  # the first comment is not for a struct
