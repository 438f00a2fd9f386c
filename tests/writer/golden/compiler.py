# SPDX-License-Identifier: MIT
"""gcc for the host and for arm64, and a KUnit that runs in user space."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["KUNIT_DRIVER", "STRICT", "compile_all", "each_compiler", "needs_gcc", "program", "write_kunit"]

GCC, ARM64 = shutil.which("gcc"), shutil.which("aarch64-linux-gnu-gcc")
STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")
needs_gcc = pytest.mark.skipif(
    GCC is None or sys.maxsize < 2**63 - 1 or sys.byteorder != "little",
    reason="gcc on a 64-bit little-endian host is needed",
)
each_compiler = pytest.mark.parametrize(
    "compiler",
    [
        pytest.param(GCC, id="host", marks=needs_gcc),
        pytest.param(
            ARM64, id="arm64", marks=pytest.mark.skipif(ARM64 is None, reason="gcc-aarch64-linux-gnu is not installed")
        ),
    ],
)


def compile_all(
    place: Path, sources: Sequence[str], *options: str, compiler: str | None = None
) -> subprocess.CompletedProcess[str]:
    """One run of a compiler over files of a directory, which is also where headers are looked for."""
    command = [str(compiler or GCC), *STRICT, "-I.", *options, *sources]
    return subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)


def program(place: Path, sources: Sequence[str], *options: str) -> Path:
    """A program for the host."""
    result = compile_all(place, sources, *options, "-o", "program")
    assert result.returncode == 0, result.stderr[:4000]
    return place / "program"


_KUNIT = """\
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef u32 __be32;
typedef u64 __be64;
#define be32_to_cpu(x) __builtin_bswap32(x)
#define be64_to_cpu(x) __builtin_bswap64(x)

struct kunit { int failures; char last[256]; };
struct kunit_case { void (*run_case)(struct kunit *test); const char *name; };
struct kunit_suite { const char *name; struct kunit_case *test_cases; };
void add_suite(struct kunit_suite *suite);

#define KUNIT_CASE(function) { .run_case = function, .name = #function }
#define KUNIT_EXPECT_EQ_MSG(test, left, right, fmt, ...) do { \\
	const __typeof__(left) __left = (left); \\
	const __typeof__(right) __right = (right); \\
	if (!(__left == __right)) { \\
		(test)->failures++; \\
		snprintf((test)->last, sizeof((test)->last), "%s " fmt, #left, ##__VA_ARGS__); \\
	} \\
} while (0)
#define kunit_test_suite(suite) \\
	static void __attribute__((constructor)) add_##suite(void) { add_suite(&suite); } \\
	static_assert(1, "")
#define MODULE_LICENSE(text) static_assert(sizeof(text) > 1, "")
#define MODULE_DESCRIPTION(text) static_assert(sizeof(text) > 1, "")
#ifdef WRITABLE
#define const
#endif
"""

KUNIT_DRIVER = """\

#include <kunit/test.h>
static struct kunit_suite *suites[1000];
static struct { char *name; u8 *bytes; size_t size; } arrays[1000];
static size_t nr_suites, nr_arrays;
void add_array(char *name, u8 *bytes, size_t size);
void add_suite(struct kunit_suite *suite) { suites[nr_suites++] = suite; }
void add_array(char *name, u8 *bytes, size_t size)
{
	arrays[nr_arrays].name = name;
	arrays[nr_arrays].bytes = bytes;
	arrays[nr_arrays++].size = size;
}
static int failures(struct kunit_suite *suite)
{
	struct kunit test = { 0 };

	for (struct kunit_case *one = suite->test_cases; one->run_case; one++)
		one->run_case(&test);
	return test.failures;
}
int main(void)
{
	for (size_t i = 0; i < nr_suites; i++) {
		printf("%s %d", suites[i]->name, failures(suites[i]));
		for (size_t a = 0; a < nr_arrays; a++) {
			if (strcmp(arrays[a].name, suites[i]->name))
				continue;
			for (size_t at = 0; at < arrays[a].size; at++) {
				arrays[a].bytes[at] ^= 0xff;
				if (failures(suites[i]))
					printf(" %zu", at);
				arrays[a].bytes[at] ^= 0xff;
			}
		}
		printf("\\n");
	}
	return 0;
}
"""
"""Runs every suite: its name, its failures, then each byte that makes it fail when it is another one."""


def write_kunit(place: Path) -> None:
    """<kunit/test.h> for user space. With WRITABLE nothing is const, and so any byte can be changed."""
    (place / "kunit").mkdir()
    (place / "kunit" / "test.h").write_text(_KUNIT)
