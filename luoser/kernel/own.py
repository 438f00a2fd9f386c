# SPDX-License-Identifier: MIT
"""A struct of the registry with its members where a kernel has them."""

from __future__ import annotations

from luoser.abi.c_struct import structure
from luoser.abi.schema import Member, Schema, packed, raw
from luoser.kernel.types import Types, members_budget
from luoser.kernel.verify import Difference, differences

__all__ = ["own_schema"]

_LARGEST = 1 << 16
"""Bytes of the largest page. Each struct of the registry that is read by a kernel's own members is in one page."""


def own_schema(types: Types, schema: Schema) -> Schema | None:
    """A struct as a kernel has it: the same members, at the kernel's own places. New members are read as padding.

    types:  of the kernel.
    schema: of the registry.

    None: the kernel has no such struct, a member is gone, of another size or kind, or where another one is, or the
    struct is larger than any page, or has holes that no compiler makes. The schema itself, if both are equal. Raises
    TypesError.
    """
    number = types.struct(structure(schema).tag)
    found = list(differences(types, number, structure(schema), members_budget())) if number is not None else None
    if number is None or found is None or not all(map(_is_place, found)):
        return None
    if not found:
        return schema
    if not types.is_dense(number):
        return None
    there = dict(types.members(number))
    members = [member for member in schema.struct.members if member.name in there]
    placed = {there[member.name].offset: member for member in members}
    if len(placed) < len(members) or types.size(number) > _LARGEST:
        return None
    made, end = list[Member](), 0
    for offset, member in sorted(placed.items()):
        made += [f"_pad{end}" / raw(offset - end)] if offset > end else []
        made.append(member)
        end = offset + member.type.size
    if end > types.size(number) or sum(member.type.size for member in made) != end:
        return None
    made += [f"_pad{end}" / raw(types.size(number) - end)] if types.size(number) > end else []
    return Schema(
        schema.name,
        f"{schema.label}, of this kernel",
        packed(*made),
        status=schema.status,
        seen_in=schema.seen_in,
        meaning=schema.meaning,
    )


def _is_place(difference: Difference) -> bool:
    """Whether a difference only says where members are, not what they are: none of an inner struct."""
    if difference.member:
        return difference.what in ("moved", "new") and "." not in difference.member
    return difference.what == "size"
