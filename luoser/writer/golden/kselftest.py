# SPDX-License-Identifier: MIT
"""A blob as a kselftest, which compares each member of structs that it declares itself."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.abi.registry import Layout
from luoser.writer.golden.blob import Group, groups, table
from luoser.writer.golden.c_array import array_lines
from luoser.writer.golden.compare import Place, Write, address, comparisons, indices
from luoser.writer.golden.declarations import assertions, c_type, declare
from luoser.writer.golden.source import assignment, call, head
from luoser.writer.golden.stanzas import program

__all__ = ["kselftest"]

_INCLUDES = """\
#include <assert.h>
#include <endian.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "kselftest_harness.h"

#ifndef __packed
#define __packed __attribute__((__packed__))
#endif
#ifndef __aligned
#define __aligned(x) __attribute__((__aligned__(x)))
#endif
"""


def kselftest(
    *, name: str, layout: Layout, data: bytes, source: str, notes: Sequence[str] = (), in_tree: bool = False
) -> str:
    """A C program for the harness of the kernel's selftests. Each test gets a copy of the array to work on.

    in_tree: the kernel's build knows the file. If not, a comment has the line for its Makefile.

    It declares the structs itself, and needs tools/testing/selftests in the include path. The other parameters and the
    errors are those of `c_array`.
    """
    found = groups(layout, data)
    structs = [group.struct for group in found]
    more = [] if in_tree else [f"Makefile: {program(name)}"]
    lines = [*head(name, layout, data, source, notes, more), _INCLUDES, *declare(structs, uapi=True)]
    lines += [*array_lines(name, layout, data, u8="__u8"), "", *assertions(structs), *_fixture(name), ""]
    for group in found:
        lines += [*table(group, data, uapi=True), "", *_test(name, group), ""]
    return "\n".join([*lines, "TEST_HARNESS_MAIN", ""])


def _fixture(name: str) -> list[str]:
    """C lines of the fixture: a copy of the array."""
    copy = call("\t", "memcpy(", ["self->bytes", name, f"sizeof({name})"])
    return [
        f"FIXTURE({name}) {{", "\t__u8 *bytes;", "};", "",
        f"FIXTURE_SETUP({name})", "{", f"\tself->bytes = malloc(sizeof({name}));",
        "\tASSERT_NE(NULL, self->bytes);", *copy, "}", "",
        f"FIXTURE_TEARDOWN({name})", "{", "\tfree(self->bytes);", "}",
    ]  # fmt: skip


def _test(name: str, group: Group) -> list[str]:
    """C lines of the test of one group."""
    struct, one = group.struct, group.count == 1
    indent = "\t" if one else "\t\t"
    at, row = group.each
    place = [
        f"{indent}const size_t at = {at};",
        *assignment(indent, f"const struct {group.symbol}_want *want", row),
    ]
    body = call(indent, "memcpy(", ["&got", "self->bytes + at", "sizeof(got)"])
    body += comparisons(group, _expect(struct.tag), indent)
    start = [f"\tstruct {struct.tag} got;"]
    counters = [*([] if one else ["i"]), *indices(group)]
    if counters:
        start.append(f"\tsize_t {', '.join(counters)};")
    if one:
        lines = [*place, *start, "", *body]
    else:
        lines = [*start, "", f"\tfor (i = 0; i < {group.count}; i++) {{", *place, "", *body, "\t}"]
    return [f"TEST_F({name}, {group.symbol})", "{", *lines, "}"]


def _expect(tag: str) -> Write:
    """A function for `comparisons` on a struct with this tag."""

    def write(place: Place, indent: str) -> list[str]:
        member, got, want = place.member, f"got.{place.path}", f"want->{place.path}"
        if place.as_bytes:
            same = ("memcmp(", [address(member, got), address(member, want), str(member.total)])
            lines = call(indent, "EXPECT_EQ(", ["0", same], ")")
        else:
            if member.first_bit is not None:  # typeof() does not accept a bit-field
                got = f"({c_type(member, uapi=True)}){got}"
            elif member.c_type in ("be32", "be64"):
                got = f"{member.c_type}toh({got})"
            lines = call(indent, "EXPECT_EQ(", [want, got], ")")
        lines[-1] += " {"
        return [*lines, f'{indent}\tTH_LOG("struct {tag} at 0x%zx", at);', f"{indent}}}"]

    return write
