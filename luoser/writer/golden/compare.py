# SPDX-License-Identifier: MIT
"""C statements that compare a struct in memory with its row of the table, member by member."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from luoser.abi.c_struct import Member, Struct
from luoser.writer.golden.blob import Group

__all__ = ["Place", "Write", "address", "comparisons", "indices"]

_INDICES = "jkl"


@dataclass(frozen=True, slots=True)
class Place:
    """One member in the generated statements.

    path:   C expression of the member: `resource[j].start`.
    offset: C expression of its offset in the outer struct: `17 + 96 * j`.
    holder: tag of the struct that declares it.
    """

    member: Member
    path: str
    offset: str
    holder: str

    @property
    def as_bytes(self) -> bool:
        """Whether to compare bytes instead of a number: a text, raw space, or a bool (which can contain any byte)."""
        return self.member.is_bytes or self.member.c_type == "bool"


Write = Callable[[Place, str], list[str]]
"""Returns the lines that compare one member. Parameters: the member, the indent."""


def comparisons(group: Group, write: Write, indent: str) -> list[str]:
    """C lines that compare `got` with `want` for every member of a group's struct.

    write:  makes the lines of one member.
    indent: of the lines.
    """
    return list(_struct(group.struct, write, indent, "", (0, ""), _INDICES))


def indices(group: Group) -> list[str]:
    """Names of the loop variables in the statements of `comparisons`."""
    return list(_INDICES[: _depth(group.struct)])


def _depth(struct: Struct) -> int:
    return max(map(_loops, struct.members), default=0)


def _loops(member: Member) -> int:
    if member.count == 0:
        return 0
    inner = _depth(member.struct) if member.struct is not None else 0
    return inner + (member.count is not None and not member.is_bytes)


def _struct(struct: Struct, write: Write, indent: str, path: str, base: tuple[int, str], left: str) -> Iterator[str]:
    for member in struct.members:
        if member.count == 0:
            continue
        place = path + member.name
        at = (base[0] + member.offset, base[1])
        if member.count is None or member.is_bytes:
            yield from _one(struct, member, write, indent, place, at, left)
            continue
        index, more = left[0], left[1:]
        each = (at[0], f"{at[1]} + {member.size} * {index}")
        element = replace(member, count=None)
        body = list(_one(struct, element, write, indent + "\t", f"{place}[{index}]", each, more))
        braces = len(body) > 1
        yield f"{indent}for ({index} = 0; {index} < {member.count}; {index}++){' {' if braces else ''}"
        yield from body
        if braces:
            yield f"{indent}}}"


def _one(
    struct: Struct, member: Member, write: Write, indent: str, path: str, at: tuple[int, str], left: str
) -> Iterator[str]:
    if member.struct is not None:
        yield from _struct(member.struct, write, indent, f"{path}.", at, left)
    else:
        yield from write(Place(member, path, f"{at[0]}{at[1]}", struct.tag), indent)


def address(member: Member, path: str) -> str:
    """C expression of the address of a member, for memcmp(). A raw member can be a union or a bitmap in the kernel."""
    return path if member.c_type == "char" else f"&{path}"
