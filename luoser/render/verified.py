# SPDX-License-Identifier: MIT
"""What a kernel's own types say of the layouts: text, JSON, KTAP."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from luoser.kernel.verify import Difference, KernelMember, Verified

__all__ = ["print_verified", "verified_document", "verified_ktap"]

_ORDER = ("different", "unknown", "equal", "absent")


def print_verified(found: Sequence[Verified], where: str) -> None:
    """Print what differs with its members, then what is equal, then what the kernel does not have.

    where: the types are from.
    """
    write = sys.stdout.write
    for one in sorted(found, key=lambda one: _ORDER.index(one.result)):
        if one.result == "absent":
            continue
        size = f"{one.size} bytes"
        if one.result == "equal":
            write(f"equal      struct {one.name}, {size}: {', '.join(one.layouts)}\n")
        elif one.result == "different":
            write(f"different  struct {one.name}, {size}: nearest to {', '.join(one.layouts)}\n")
            write("".join(f"  {_difference(difference)}\n" for difference in one.differences))
            write("".join(_struct(one)))
        else:
            write(f"unknown    struct {one.name}, {size}: no layout has this name\n")
            write("".join(_struct(one)))
    absent = [one for one in found if one.result == "absent"]
    merged = ", ".join(one.name for one in absent if one.status == "merged")
    write(f"absent     {len(absent)} structs, merged ones of other releases or machines: {merged or 'none'}\n")
    counts = {result: sum(one.result == result for one in found) for result in _ORDER}
    write(f"{where}: {', '.join(f'{count} {result}' for result, count in counts.items())}\n")


def _difference(difference: Difference) -> str:
    where = difference.member or "the struct"
    if difference.what == "moved":
        return f"{where} is at byte {difference.theirs}, expected {difference.ours}"
    if difference.what == "size":
        return f"{where} has {difference.theirs} bytes, expected {difference.ours}"
    if difference.what == "renamed":
        return f"{where} is called {difference.theirs}"
    if difference.what == "gone":
        return f"{where} is gone, expected {difference.ours}"
    return f"{where} is new: {difference.theirs}"


def _struct(one: Verified) -> Iterator[str]:
    yield f"  struct {one.name} {{\n"
    for member in one.members:
        yield f"  {_member(member)}\n"
    yield f"  }}; /* size {one.size} */\n"


def _member(member: KernelMember) -> str:
    kind, bracket, count = member.c_type.partition("[")
    depth, name = member.name.count("."), member.name.rsplit(".", 1)[-1]
    star = "" if kind.endswith("*") else " "
    bits = f":{member.bits}" if member.bits else ""
    text = f"{'    ' * (depth + 1)}{kind}{star}{name}{bracket}{count}{bits};"
    return f"{text:<48} /* {member.offset:>5} {member.size:>5} */"


def verified_document(found: Sequence[Verified], where: str) -> dict[str, Any]:
    """The JSON document luoser/verify/1. where: the types are from."""
    return {
        "schema": "luoser/verify/1",
        "types": where,
        "structs": [
            {
                "name": one.name,
                "result": one.result,
                "layouts": list(one.layouts),
                "status": one.status or None,
                "size": one.size if one.result != "absent" else None,
                "differences": [
                    {
                        "what": difference.what,
                        "member": difference.member,
                        "expected": difference.ours or None,
                        "found": difference.theirs or None,
                    }
                    for difference in one.differences
                ],
                "members": [
                    {
                        "name": member.name,
                        "type": member.c_type,
                        "offset": member.offset,
                        "size": member.size,
                        "bits": member.bits,
                    }
                    for member in one.members
                ],
            }
            for one in found
        ],
    }


def verified_ktap(found: Sequence[Verified], where: str) -> None:
    """Print KTAP: a test for each struct of the registry; a struct that the kernel does not have is skipped.

    where: the types are from.
    """
    write = sys.stdout.write
    tested = [one for one in found if one.result != "unknown"]
    write(f"KTAP version 1\n# {where}\n1..{len(tested)}\n")
    for one in found:
        if one.result == "unknown":
            write(f"# struct {one.name}, {one.size} bytes: no layout has this name\n")
    for number, one in enumerate(tested, 1):
        for difference in one.differences:
            write(f"# {one.name}: {_difference(difference)}\n")
        skip = " # SKIP the kernel has no such struct" if one.result == "absent" else ""
        write(f"{'not ok' if one.result == 'different' else 'ok'} {number} {one.name}{skip}\n")
