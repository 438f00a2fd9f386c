# SPDX-License-Identifier: MIT
"""A blob as a test program for user space, with kselftest_harness.h or without."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.abi.registry import Layout
from luoser.writer.golden.blob import Group, groups, table
from luoser.writer.golden.c_array import array_lines
from luoser.writer.golden.compare import Place, Write, address, comparisons, indices
from luoser.writer.golden.declarations import assertions, declare
from luoser.writer.golden.source import assignment, call, head

__all__ = ["kselftest"]

_INCLUDES = """\
#include <assert.h>
#include <endian.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#if defined(USE_HARNESS) || __has_include("kselftest_harness.h")
#include "kselftest_harness.h"
#endif

#ifndef __packed
#define __packed __attribute__((__packed__))
#endif
#ifndef __aligned
#define __aligned(x) __attribute__((__aligned__(x)))
#endif
"""

_NUMBERS = """\
static unsigned int differs(size_t at, const char *what, __u64 got, __u64 want)
{
	printf("# 0x%zx %s = 0x%llx", at, what, (unsigned long long)got);
	if (got != want)
		printf(", expected 0x%llx", (unsigned long long)want);
	printf("\\n");
	return got != want;
}
"""

_BYTES = """\
static void print_bytes(const unsigned char *bytes, size_t size)
{
	size_t i;

	while (size && !bytes[size - 1])
		size--;
	printf("\\"");
	for (i = 0; i < size; i++) {
		if (bytes[i] < ' ' || bytes[i] > '~' || strchr("\\"\\\\", bytes[i]))
			printf("\\\\x%02x", bytes[i]);
		else
			printf("%c", bytes[i]);
	}
	printf("\\"");
}

static unsigned int
bytes_differ(size_t at, const char *what, const void *got, const void *want, size_t size)
{
	unsigned int differ = memcmp(got, want, size) != 0;

	printf("# 0x%zx %s = ", at, what);
	print_bytes(got, size);
	if (differ) {
		printf(", expected ");
		print_bytes(want, size);
	}
	printf("\\n");
	return differ;
}
"""

_MAIN = """\
int main(void)
{
	const size_t count = COUNT;
	size_t i, failed = 0;

	printf("TAP version 13\\n1..%zu\\n", count);
	for (i = 0; i < count; i++) {
		int ok = !tests[i].differences();

		printf("%s %zu %s\\n", ok ? "ok" : "not ok", i + 1, tests[i].name);
		failed += !ok;
	}
	printf("# Totals: pass:%zu fail:%zu ", count - failed, failed);
	printf("xfail:0 xpass:0 skip:0 error:0\\n");
	return failed ? 1 : 0;
}
"""


def kselftest(*, name: str, layout: Layout, data: bytes, source: str, notes: Sequence[str] = ()) -> str:
    """A C program that prints and compares every member of the structs in the array. Its exit status is 0 or 1.

    It declares the structs itself. Parameters and errors are those of `c_array`.
    """
    found = groups(layout, data)
    structs = [group.struct for group in found]
    checks = [line for group in found for line in (*table(group, data, uapi=True), "", *_check(name, group), "")]
    text = "\n".join(checks)
    lines = [*head(name, layout, data, source, notes), _INCLUDES, *declare(structs, uapi=True)]
    lines += [*array_lines(name, layout, data, u8="__u8"), "", *assertions(structs)]
    lines += [helper for use, helper in ((" differs(", _NUMBERS), (" bytes_differ(", _BYTES)) if use in text]
    return "\n".join([*lines, text, *_cases(found)])


def _check(name: str, group: Group) -> list[str]:
    """C lines of the function that compares one group and returns the number of differences."""
    struct, one = group.struct, group.count == 1
    indent = "\t" if one else "\t\t"
    at, row = group.each
    place = [
        f"{indent}const size_t at = {at};",
        *assignment(indent, f"const struct {group.symbol}_want *want", row),
    ]
    body = call(indent, "memcpy(", ["&got", f"{name} + at", "sizeof(got)"])
    body += comparisons(group, _differs(struct.tag), indent)
    start = ["\tunsigned int found = 0;", f"\tstruct {struct.tag} got;"]
    counters = [*([] if one else ["i"]), *indices(group)]
    if counters:
        start.append(f"\tsize_t {', '.join(counters)};")
    if one:
        lines = [*place, *start, "", *body]
    else:
        lines = [*start, "", f"\tfor (i = 0; i < {group.count}; i++) {{", *place, "", *body, "\t}"]
    return [f"static unsigned int check_{group.symbol}(void)", "{", *lines, "\treturn found;", "}"]


def _differs(tag: str) -> Write:
    """A function for `comparisons` on a struct with this tag."""

    def write(place: Place, indent: str) -> list[str]:
        member, got, want = place.member, f"got.{place.path}", f"want->{place.path}"
        what = [f"at + {place.offset}", f'"{tag}.{place.path}"']
        if place.as_bytes:
            return call(
                indent,
                "found += bytes_differ(",
                [*what, address(member, got), address(member, want), str(member.total)],
            )
        if member.c_type in ("be32", "be64"):
            got = f"{member.c_type}toh({got})"
        return call(indent, "found += differs(", [*what, got, want])

    return write


def _cases(found: Sequence[Group]) -> list[str]:
    lines = ["#ifdef TEST_HARNESS_MAIN"]
    for group in found:
        lines += [f"TEST({group.symbol})", "{", f"\tEXPECT_EQ(0U, check_{group.symbol}());", "}", ""]
    lines += ["TEST_HARNESS_MAIN", "#else"]
    lines += ["static const struct {", "\tconst char *name;", "\tunsigned int (*differences)(void);", "} tests[] = {"]
    lines += [f'\t{{ "{group.symbol}", check_{group.symbol} }},' for group in found]
    return [*lines, "};", "", _MAIN.replace("COUNT", str(len(found))) + "#endif", ""]
