# SPDX-License-Identifier: MIT
"""Declarations made of the schemas, against those of the catalogue, in one translation unit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luoser.abi.c_struct import structure
from luoser.abi.registry import layout, schemas
from luoser.abi.schema import Schema
from luoser.writer.golden import declarations
from tests.catalogue import INDEX, LAYOUTS, declare_struct, tag
from tests.writer.golden.compiler import compile_all, each_compiler

PREAMBLE = """\
#include <assert.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
"""


def numbered(number: int) -> str:
    return f"s{number}"


def placed(schema: Schema) -> str:
    """Assertions that the compiler lays a struct as declared here out as its schema says."""
    ours = f"struct {structure(schema).tag}"
    lines = [f'static_assert(sizeof({ours}) == {schema.size} && _Alignof({ours}) == {schema.align}, "{ours}");']
    for field in schema.fields:
        if field.bit_width is None and not field.padding and field.depth == 0:
            lines.append(f'static_assert(offsetof({ours}, {field.name}) == {field.offset}, "{ours} {field.name}");')
    return "\n".join(lines)


def same(schema: Schema) -> str:
    """Assertions that a struct as declared here is the one of the catalogue."""
    number = INDEX[schema.name, schema.label]
    ours, theirs = f"struct {tag(number)}", f"struct {numbered(number)}"
    lines = [
        f'static_assert(sizeof({ours}) == sizeof({theirs}), "{ours}");',
        f'static_assert(_Alignof({ours}) == _Alignof({theirs}), "{ours}");',
    ]
    for field in LAYOUTS[number]["fields"]:
        name = field["name"]
        if "bit_width" not in field:
            lines.append(f'static_assert(offsetof({ours}, {name}) == offsetof({theirs}, {name}), "{ours} {name}");')
        if field["size"] and "bit_width" not in field:
            sizes = (f"sizeof((({one} *)0)->{name})" for one in (ours, theirs))
            lines.append(f'static_assert({" == ".join(sizes)}, "{ours} {name}");')
    return "\n".join(lines)


@each_compiler
@pytest.mark.parametrize("uapi", [False, True])
def test_declarations_are_those_of_the_schemas_and_of_the_catalogue(uapi: bool, compiler: str, tmp_path: Path) -> None:
    lines = [PREAMBLE, *(declare_struct(number, numbered) for number in range(len(LAYOUTS)))]
    for index, schema in enumerate(schemas()):
        lines += [f"void scope_{index}(void);", f"void scope_{index}(void)", "{"]
        is_known = (schema.name, schema.label) in INDEX
        lines += [declarations([schema], uapi=uapi), placed(schema), same(schema) if is_known else "", "}"]
    (tmp_path / "all.c").write_text("\n".join(lines))
    result = compile_all(tmp_path, ["all.c"], "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


@each_compiler
def test_all_of_them_together_compile(compiler: str, tmp_path: Path) -> None:
    text = declarations(schemas(), uapi=True)
    names = re.findall(r"^struct (\w+) \{", text, re.MULTILINE)
    assert len(names) == len(set(names)) >= len(schemas())
    (tmp_path / "all.c").write_text(PREAMBLE + text)
    result = compile_all(tmp_path, ["all.c"], "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


def declared(name: str) -> str:
    found = layout(name)
    assert found is not None
    return declarations(found.schemas[:1])


def test_a_struct_reads_as_in_the_kernel() -> None:
    assert declared("memfd-v2") == (
        "struct kho_vmalloc {\n\tu64 first;\n\tu32 total_pages;\n\tu16 flags;\n\tu16 order;\n};\n"
        "\n"
        "struct memfd_luo_ser {\n"
        "\tu64 pos;\n\tu64 size;\n\tu32 seals;\n\tu32 flags;\n\tu64 nr_folios;\n\tstruct kho_vmalloc folios;\n"
        "} __packed;\n"
    )


def test_bit_fields_read_as_in_the_kernel() -> None:
    assert "\tu64 pfn:52;\n\tu64 flags:12;\n\tu64 index;\n} __packed;" in declared("memfd-folio")


def test_what_has_no_name_is_declared_in_place() -> None:
    assert "\tstruct {\n\t\tu32 token;\n\t} __packed iommufd_ser;\n" in declared("vfio-pci-v2")


def test_a_bitmap_is_aligned_as_longs_are() -> None:
    assert declared("kho-radix-leaf") == "struct kho_radix_leaf {\n\tu8 bitmap[4096];\n} __aligned(8);\n"


def test_a_second_form_gets_a_number() -> None:
    first, second = (found.schemas[0] for name in ("memfd-v1", "memfd-v2") if (found := layout(name)))
    text = declarations([first, second, first])
    assert re.findall(r"^struct (\w+) \{", text, re.MULTILINE) == ["kho_vmalloc", "memfd_luo_ser", "memfd_luo_ser_2"]
