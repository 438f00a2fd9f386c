# SPDX-License-Identifier: MIT
"""What a kernel's own types say of the layouts: text, JSON, KTAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luoser.kernel.verify import Difference, KernelMember, Verified
from luoser.render.out import line, write

__all__ = ["print_verified", "verified_document", "verified_ktap"]

_ORDER = ("different", "unknown", "equal", "absent")


def print_verified(found: Sequence[Verified], where: str) -> None:
    """Print what differs with its members, then what is equal, then what the kernel does not have.

    where: the types are from.
    """
    for one in sorted(found, key=lambda one: _ORDER.index(one.result)):
        if one.result == "absent":
            continue
        head = f"{one.result:<10} ", (f"struct {one.name}", "name"), f", {one.size} bytes: "
        if one.result == "equal":
            line(*head, ", ".join(one.layouts))
        elif one.result == "different":
            line(*head, f"nearest to {', '.join(one.layouts)}")
            for difference in one.differences:
                line((_difference(difference), "problem"), first="  ", rest="    ")
            _print_struct(one)
        else:
            line(*head, ("no layout has this name", "note"))
            _print_struct(one)
    absent = [one for one in found if one.result == "absent"]
    merged = ", ".join(one.name for one in absent if one.status == "merged")
    line(f"absent     {len(absent)} structs, merged ones of other releases or machines: {merged or 'none'}")
    counts = {result: sum(one.result == result for one in found) for result in _ORDER}
    line(f"{where}: {', '.join(f'{count} {result}' for result, count in counts.items())}")


def _difference(difference: Difference) -> str:
    where = difference.member or "the struct"
    if difference.what == "moved":
        return f"{where} is at byte {difference.theirs}, expected {difference.ours}"
    if difference.what == "size":
        return f"{where} has {difference.theirs} bytes, expected {difference.ours}"
    if difference.what == "type":
        return f"{where} is {difference.theirs}, expected {difference.ours}"
    if difference.what == "renamed":
        return f"{where} is called {difference.theirs}"
    if difference.what == "gone":
        return f"{where} is gone, expected {difference.ours}"
    return f"{where} is new: {difference.theirs}"


def _print_struct(one: Verified) -> None:
    line(f"struct {one.name} {{", first="  ")
    for member in one.members:
        line(_member(member), first="  ", rest="      ")
    line(f"}}; /* size {one.size} */", first="  ")


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
    tested = [one for one in found if one.result != "unknown"]
    write(f"KTAP version 1\n1..{len(tested)}\n# {where}\n")
    for one in found:
        if one.result == "unknown":
            write(f"# struct {one.name}, {one.size} bytes: no layout has this name\n")
    for number, one in enumerate(tested, 1):
        for difference in one.differences:
            write(f"# {one.name}: {_difference(difference)}\n")
        skip = " # SKIP the kernel has no such struct" if one.result == "absent" else ""
        write(f"{'not ok' if one.result == 'different' else 'ok'} {number} {one.name}{skip}\n")
