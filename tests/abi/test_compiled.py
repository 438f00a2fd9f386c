# SPDX-License-Identifier: MIT
"""Every schema of the catalogue against what gcc makes of the same struct.

The C declarations come from the catalogue's layouts and not from the schemas. They contain no offsets, so
that every offset is the compiler's own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pytest

from luoser.abi.registry import schemas
from luoser.abi.schema import Field, Schema
from tests.catalogue import INDEX, LAYOUTS, declare_struct

GCC = shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(GCC is None, reason="gcc is not installed"),
    pytest.mark.skipif(sys.maxsize < 2**63 - 1 or sys.byteorder != "little", reason="not a 64-bit little-endian host"),
]

PREAMBLE = """
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void show_bytes(const void *object, size_t size)
{
    for (size_t at = 0; at < size; at++)
        printf("%02x", ((const unsigned char *)object)[at]);
    printf("\\n");
}
"""


def numbered(number: int) -> str:
    return f"s{number}"


def report_struct(number: int) -> str:
    """Statements that print the struct's size, its members' places, and what a filled bit-field looks like."""
    struct = f"struct s{number}"
    lines = [f'printf("S {number} %zu %zu\\n", sizeof({struct}), _Alignof({struct}));']
    for field in LAYOUTS[number]["fields"]:
        name = field["name"]
        if "bit_width" in field:
            lines.append(f"{{ {struct} s; memset(&s, 0, sizeof s); s.{name} = ~0ULL;")
            lines.append(f'  printf("B {number} {name} "); show_bytes(&s, sizeof s); }}')
        else:
            size = f"sizeof((({struct} *)0)->{name})" if field["size"] else "(size_t)0"
            lines.append(f'printf("F {number} {name} %zu %zu\\n", offsetof({struct}, {name}), {size});')
    return "\n".join(f"    {line}" for line in lines)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The lines that the compiled program prints, split into words."""
    place = tmp_path_factory.mktemp("compiled")
    numbers = range(len(LAYOUTS))
    reports = "\n".join(report_struct(number) for number in numbers)
    source = PREAMBLE + "\n".join(declare_struct(number, numbered) for number in numbers)
    (place / "layouts.c").write_text(f"{source}\nint main(void)\n{{\n{reports}\n    return 0;\n}}\n")
    subprocess.run(
        [str(GCC), "-std=gnu11", "-Wall", "-Werror", "-Wno-overflow", "-o", "layouts", "layouts.c"],
        cwd=place,
        check=True,
    )
    output = subprocess.run([str(place / "layouts")], check=True, capture_output=True, text=True).stdout
    return [line.split() for line in output.splitlines()]


def of_kind(reported: list[list[str]], kind: str, number: int) -> list[list[str]]:
    return [words[2:] for words in reported if words[:2] == [kind, str(number)]]


def filled(schema: Schema, name: str) -> bytes:
    """A zero struct with one bit-field set to all ones."""
    values = schema.parse(bytes(schema.size))
    width = member(schema, name).bit_width
    assert width is not None
    values["_bits"][name] = (1 << width) - 1
    return schema.build(values)


def member(schema: Schema, name: str) -> Field:
    return next(field for field in schema.fields if field.name == name)


KNOWN = [schema for schema in schemas() if (schema.name, schema.label) in INDEX]
each_schema = pytest.mark.parametrize("schema", KNOWN, ids=[f"{s.name}-{s.label}" for s in KNOWN])


@each_schema
def test_compiler_agrees_on_size_and_alignment(schema: Schema, reported: list[list[str]]) -> None:
    words = of_kind(reported, "S", INDEX[schema.name, schema.label])
    assert words == [[str(schema.size), str(schema.align)]]


@each_schema
def test_compiler_agrees_on_offsets_and_sizes(schema: Schema, reported: list[list[str]]) -> None:
    found = {name: (int(at), int(size)) for name, at, size in of_kind(reported, "F", INDEX[schema.name, schema.label])}
    ours = {name: (member(schema, name).offset, member(schema, name).size) for name in found}
    assert found == ours


def bit_field_cases() -> list[Any]:
    cases = [(schema, field) for schema in KNOWN for field in schema.fields]
    own = [(schema, field.name) for schema, field in cases if field.bit_width is not None and field.depth == 0]
    return [pytest.param(schema, name, id=f"{schema.name}-{schema.label}-{name}") for schema, name in own]


@pytest.mark.parametrize(("schema", "name"), bit_field_cases())
def test_compiler_agrees_on_bit_fields(schema: Schema, name: str, reported: list[list[str]]) -> None:
    found = dict(of_kind(reported, "B", INDEX[schema.name, schema.label]))
    assert bytes.fromhex(found[name]) == filled(schema, name)


def test_all_bit_fields_of_the_catalogue_are_compared(reported: list[list[str]]) -> None:
    compared = {(schema.name, schema.label, name) for schema, name in (case.values for case in bit_field_cases())}
    numbers = ((LAYOUTS[int(words[1])], words[2]) for words in reported if words[0] == "B")
    assert {(layout["name"], layout["abi"], name) for layout, name in numbers} == compared
