# SPDX-License-Identifier: MIT
"""Layouts as a C header for C11: structs of <stdint.h> types, and static assertions of every offset and size.

The same header serves in the kernel. A struct has the name of the kernel. Where the header has several forms of one
struct, each is called NAME___LAYOUT, which CO-RE takes for flavors of one type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from luoser.abi.kho import fdt_header, fdt_property_record, fdt_reserve_entry
from luoser.abi.registry import Layout
from luoser.abi.schema import Array, Bits, CStruct, Flex, Member, Raw, Schema, Type
from luoser.writer.golden.source import call

__all__ = ["c_header"]

_GUARD = "LUOSER_ABI_H"
_HEAD = f"""\
/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What Linux hands over by kexec (KHO, LUO), made by luoser: `luoser abi export
 * --as c`. All numbers are little-endian unless marked otherwise.
 */
#ifndef {_GUARD}
#define {_GUARD}

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifndef __packed
#define __packed __attribute__((packed))
#endif
#ifndef __aligned
#define __aligned(x) __attribute__((aligned(x)))
#endif
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "these structs are those of little-endian kernels"
#endif

#ifdef __cplusplus
#define LUOSER_ALIGNOF(type) alignof(type)
#else
#define LUOSER_ALIGNOF(type) _Alignof(type)
#endif
#define LUOSER_STRUCT(type, size, align) \\
\tstatic_assert(sizeof(type) == (size) && \\
\t\t      LUOSER_ALIGNOF(type) == (align), #type)
#define LUOSER_MEMBER(type, member, offset, size) \\
\tstatic_assert(offsetof(type, member) == (offset) && \\
\t\t      sizeof(((type *)0)->member) == (size), #type "." #member)
#define LUOSER_FLEX(type, member, offset) \\
\tstatic_assert(offsetof(type, member) == (offset), #type "." #member)
"""
_WIDE = """
static_assert(LUOSER_ALIGNOF(uint64_t) == 8,
\t      "these structs are those of 64-bit kernels, unlike -m32");
"""
_TYPES = {"phys": "uint64_t", "bool": "bool", "char": "char"}
_TREE = (fdt_header, fdt_reserve_entry, fdt_property_record)
_Names = Mapping[CStruct, str]


def c_header(entries: Sequence[Layout]) -> str:
    """The C header of layouts. Of a devicetree, it has the structs of the container."""
    schemas = _schemas(entries)
    names = _names(schemas)
    blocks = (_declared(schema, used, names) for schema, used in schemas.items())
    wide = _WIDE if any(schema.struct.align == 8 for schema in schemas) else ""
    return "\n".join([_HEAD + wide, *("\n".join(block) + "\n" for block in blocks), f"#endif /* {_GUARD} */\n"])


def _schemas(entries: Iterable[Layout]) -> dict[Schema, list[Layout]]:
    """Every struct once, after those that it contains, with the layouts that have it."""
    found: dict[Schema, list[Layout]] = {}
    for entry in entries:
        for schema in (*entry.schemas, *(_TREE if entry.kind == "fdt" else ())):
            for own in (*_inside(schema.struct), schema):
                used = found.setdefault(own, [])
                if entry not in used:
                    used.append(entry)
    return found


def _inside(struct: CStruct) -> Iterator[Schema]:
    """The named structs that a struct contains, innermost first."""
    for own in (_element(member.type) for member in struct.members):
        if isinstance(own, CStruct):
            yield from _inside(own)
            if own.schema is not None:
                yield own.schema


def _element(own: Type) -> Type:
    return own.of if isinstance(own, Array | Flex) else own


def _tag(schema: Schema) -> str:
    found = re.match(r"\w+", schema.name)  # text after the name distinguishes forms
    assert found is not None
    return found[0]


def _names(schemas: Mapping[Schema, Sequence[Layout]]) -> dict[CStruct, str]:
    tags = [_tag(schema) for schema in schemas]
    names: dict[CStruct, str] = {}
    for schema, used in schemas.items():
        tag = _tag(schema)
        # The layout that the form is best known by: that of the struct itself, or of a list of it.
        best = min(used, key=lambda entry: (schema not in entry.schemas[:1], entry.kind != "list"))
        first = tag if tags.count(tag) == 1 else f"{tag}___{best.name.replace('-', '_')}"
        name, number = first, 2
        while name in names.values():
            name, number = f"{first}_{number}", number + 1
        names[schema.struct] = name
    return names


def _declared(schema: Schema, used: Sequence[Layout], names: _Names) -> Iterator[str]:
    struct, name = schema.struct, names[schema.struct]
    yield from _comment(schema, used, name)
    is_inner = all(schema not in entry.schemas for entry in used)
    yield f"struct {name} {{"
    yield from _body(struct, "\t", names, is_inner=is_inner)
    yield f"}}{_attributes(struct)};"
    yield ""
    yield from _flags(schema, name)
    yield from call("", "LUOSER_STRUCT(", [f"struct {name}", str(struct.size), str(struct.align)])
    for path, at, size in _places(struct, is_inner=is_inner):
        yield from call(
            "",
            f"LUOSER_{'MEMBER' if size else 'FLEX'}(",
            [f"struct {name}", path, str(at), *([str(size)] if size else [])],
        )


def _comment(schema: Schema, used: Sequence[Layout], name: str) -> Iterator[str]:
    """A comment for kernel-doc."""
    yield "/**"
    yield from _wrapped(f"struct {name} - {schema.meaning}")
    for names, meaning in _meanings(schema.struct):
        for member in names:
            yield from _wrapped(f"@{member}: {meaning}")
    yield " *"
    yield from _wrapped(f"{schema.status}: {schema.seen_in}; {schema.size} bytes, {schema.layout}.", "")
    yield from _wrapped(f"Layouts: {', '.join(entry.name for entry in used)}.", "")
    yield " */"


def _meanings(struct: CStruct) -> Iterator[tuple[tuple[str, ...], str]]:
    for member in struct.members:
        if isinstance(member.type, Bits):
            yield tuple(name for name, _ in member.type.members), member.meaning
        elif not member.is_padding:
            yield (member.name,), member.meaning


def _wrapped(text: str, indent: str = "    ") -> Iterator[str]:
    for line in wrap(text, 76, subsequent_indent=indent, break_on_hyphens=False):
        yield f" * {line}"


def _body(struct: CStruct, indent: str, names: _Names, *, is_inner: bool = False) -> Iterator[str]:
    """The members. is_inner: of a struct that is only in others, as ISO C has no flexible array in there."""
    for member in struct.members:
        own = member.type
        if isinstance(own, Bits):
            yield from _bit_fields(own, indent)
        elif isinstance(own, Flex) and is_inner:
            yield f"{indent}/* {member.name}[] begins here */"
        elif not member.is_padding:
            yield from _member(member, indent, names)


def _bit_fields(own: Bits, indent: str) -> Iterator[str]:
    kind = f"uint{8 * own.size}_t"
    left = 8 * own.size - sum(width for _, width in own.members)
    for name, width in own.members:
        yield f"{indent}{kind} {name}:{width};"
    if left:
        yield f"{indent}{kind} :{left};"


def _member(member: Member, indent: str, names: _Names) -> Iterator[str]:
    own, element = member.type, _element(member.type)
    bound = ""
    if isinstance(own, Array | Raw):
        bound = f"[{own.count if isinstance(own, Array) else own.size}]"
    elif isinstance(own, Flex):
        bound = "[]"
    if isinstance(element, CStruct) and element not in names:
        yield f"{indent}struct {{"
        yield from _body(element, indent + "\t", names)
        yield f"{indent}}}{_attributes(element)} {member.name}{bound};"
    elif isinstance(element, CStruct):
        yield f"{indent}struct {names[element]} {member.name}{bound};"
    else:
        big = " /* big-endian */" if element.c_type.startswith("be") else ""
        yield f"{indent}{_c_type(element)} {member.name}{bound};{big}"


def _c_type(own: Type) -> str:
    kind = own.c_type.partition("[")[0]
    if kind in _TYPES:
        return _TYPES[kind]
    return f"{'int' if kind.startswith('s') else 'uint'}{kind.lstrip('usbe')}_t"


def _attributes(struct: CStruct) -> str:
    if struct.is_packed:
        return " __packed"
    natural = max((member.type.align for member in struct.members), default=1)
    return f" __aligned({struct.align})" if struct.align > natural else ""


def _flags(schema: Schema, name: str) -> Iterator[str]:
    found = [field for field in schema.fields if field.bit_names and field.depth == 0]
    for field in found:
        for bit, word in field.bit_names.items():
            suffix = "" if bit < 1 << 31 else "ULL"
            made = re.sub(r"\W+", "_", f"{name}_{field.name}_{word}").upper()
            yield f"#define {made} {bit:#x}{suffix}"
    if found:
        yield ""


def _places(
    struct: CStruct, path: str = "", base: int = 0, *, is_inner: bool = False
) -> Iterator[tuple[str, int, int]]:
    """(member, offset, size) of all members that have an offset in C: bit-fields have none. Size 0: flexible."""
    at = base
    for member in struct.members:
        own, name = member.type, path + member.name
        is_comment = is_inner and isinstance(own, Flex)
        if not isinstance(own, Bits) and not member.is_padding and not is_comment:
            yield name, at, own.size
            if isinstance(own, CStruct):
                yield from _places(own, f"{name}.", at, is_inner=True)
        at += own.size
