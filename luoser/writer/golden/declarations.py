# SPDX-License-Identifier: MIT
"""C declarations of wire structs, and assertions on the layout that the compiler gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from luoser.abi.c_struct import Member, Struct, structure
from luoser.abi.schema import Schema

__all__ = ["assertions", "c_type", "declarations", "declare", "declare_member"]


def declarations(schemas: Iterable[Schema], *, uapi: bool = False) -> str:
    """C declarations of schemas, nested structs first.

    A second layout of a struct gets a number after its name: `struct pci_dev_ser_2`. The text needs `__packed` and
    `__aligned()`.

    uapi: use the types of user space, `__u32` for `u32`.
    """
    return "\n".join(declare(map(structure, schemas), uapi=uapi))


def declare(structs: Iterable[Struct], *, uapi: bool) -> list[str]:
    """The lines of `declarations` for structs, with an empty line after each struct."""
    names: dict[Struct, str] = {}
    lines: list[str] = []
    for struct in _holding_order(structs):
        name, number = struct.tag, 2
        while name in names.values():
            name, number = f"{struct.tag}_{number}", number + 1
        names[struct] = name
        lines += [f"struct {name} {{", *_body(struct, "\t", names, uapi), f"}}{_attributes(struct)};", ""]
    return lines


def _holding_order(structs: Iterable[Struct]) -> list[Struct]:
    """Every named struct once, after the structs that it contains."""
    found: dict[Struct, None] = {}

    def visit(struct: Struct) -> None:
        for member in struct.members:
            if member.struct is not None:
                visit(member.struct)
        if struct.tag:
            found.setdefault(struct)

    for struct in structs:
        visit(struct)
    return list(found)


def _body(struct: Struct, indent: str, names: Mapping[Struct, str], uapi: bool) -> list[str]:
    return [line for member in struct.members for line in declare_member(member, indent, names, uapi=uapi)]


def declare_member(member: Member, indent: str, names: Mapping[Struct, str], *, uapi: bool) -> list[str]:
    """C lines that declare one member.

    indent: of the lines.
    names:  name of each struct that is declared already. Other structs are declared inside.
    uapi:   use the types of user space, `__u32` for `u32`.
    """
    name = member.name if member.count is None else f"{member.name}[{member.count or ''}]"
    if member.first_bit is not None:
        name = f"{name}:{member.width}"
    if member.struct is None:
        return [f"{indent}{c_type(member, uapi=uapi)} {name};"]
    if member.struct in names:
        return [f"{indent}struct {names[member.struct]} {name};"]
    body = _body(member.struct, indent + "\t", names, uapi)
    return [f"{indent}struct {{", *body, f"{indent}}}{_attributes(member.struct)} {name};"]


def c_type(member: Member, *, uapi: bool) -> str:
    """The C type of an element of a member, which is not a struct. uapi: use the types of user space."""
    kind = "u64" if member.c_type == "phys" else member.c_type
    if kind in ("char", "bool"):
        return kind
    return f"__{kind}" if uapi or kind.startswith("be") else kind


def _attributes(struct: Struct) -> str:
    if struct.packed:
        return " __packed"
    natural = max((_align(member) for member in struct.members), default=1)
    return f" __aligned({struct.align})" if struct.align > natural else ""


def _align(member: Member) -> int:
    return member.struct.align if member.struct is not None else member.size


def assertions(structs: Iterable[Struct]) -> Iterator[str]:
    """static_assert lines for the size of structs, and for offset and size of every member that has them.

    In C a bit-field has neither offset nor size, and a flexible array has no size.
    """
    for struct in _holding_order(structs):
        yield f"static_assert(sizeof(struct {struct.tag}) == {struct.size});"
        yield from _places(struct, struct, "", 0)
        yield ""


def _places(outer: Struct, struct: Struct, path: str, base: int) -> Iterator[str]:
    for member in struct.members:
        name, at = path + member.name, base + member.offset
        if member.first_bit is not None:
            continue
        yield f"static_assert(offsetof(struct {outer.tag}, {name}) == {at});"
        if member.count != 0:
            yield f"static_assert(sizeof(((struct {outer.tag} *)0)->{name}) == {member.total});"
        if member.struct is not None and member.count is None:
            yield from _places(outer, member.struct, f"{name}.", at)
