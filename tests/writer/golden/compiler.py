# SPDX-License-Identifier: MIT
"""gcc for the host and for arm64, and a KUnit that runs in user space."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = [
    "KUNIT_DRIVER",
    "STRICT",
    "compile_all",
    "each_compiler",
    "needs_gcc",
    "program",
    "write_harness",
    "write_kunit",
]

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
#define KUNIT_EXPECT_MEMEQ_MSG(test, left, right, size, fmt, ...) \\
	KUNIT_EXPECT_EQ_MSG(test, memcmp(left, right, size), 0, fmt, ##__VA_ARGS__)
#define kunit_test_suite(suite) \\
	static void __attribute__((constructor)) add_##suite(void) { add_suite(&suite); } \\
	static_assert(1, "")
#define MODULE_LICENSE(text) static_assert(sizeof(text) > 1, "")
#define MODULE_DESCRIPTION(text) static_assert(sizeof(text) > 1, "")
#define MODULE_IMPORT_NS(text) static_assert(sizeof(text) > 1, "")
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


_HARNESS = """\
#include <stdio.h>

static struct { const char *name; void (*run)(void); } tests[16];
static int nr_tests, failed;

#define FIXTURE(name) struct _test_data_##name
#define FIXTURE_SETUP(name) static void name##_setup(struct _test_data_##name *self)
#define FIXTURE_TEARDOWN(name) static void name##_teardown(struct _test_data_##name *self)
#define TEST_F(fixture, test) \\
	static void fixture##_##test(struct _test_data_##fixture *self); \\
	static void run_##test(void) \\
	{ \\
		struct _test_data_##fixture self; \\
		fixture##_setup(&self); \\
		fixture##_##test(&self); \\
		fixture##_teardown(&self); \\
	} \\
	static void __attribute__((constructor)) add_##test(void) \\
	{ \\
		tests[nr_tests].name = #fixture "." #test; \\
		tests[nr_tests++].run = run_##test; \\
	} \\
	static void fixture##_##test(struct _test_data_##fixture *self)
#define ASSERT_NE(expected, seen) do { if ((expected) == (seen)) __builtin_trap(); } while (0)
/* What follows in braces always runs, and so says where the value is from. */
#define EXPECT_EQ(expected, seen) \\
	do { \\
		__typeof__(expected) __exp = (expected); \\
		__typeof__(seen) __seen = (seen); \\
		printf("%s%s = %#llx | ", __exp == __seen ? "" : "not ", #seen, (unsigned long long)__seen); \\
		failed += __exp != __seen; \\
	} while (0); \\
	for (int once = 1; once; once--)
#define TH_LOG(fmt, ...) printf(fmt "\\n", ##__VA_ARGS__)
#define TEST_HARNESS_MAIN \\
	int main(void) \\
	{ \\
		for (int i = 0; i < nr_tests; i++) { \\
			printf("# %s\\n", tests[i].name); \\
			tests[i].run(); \\
		} \\
		return failed != 0; \\
	}
"""


def write_harness(place: Path) -> None:
    """A kselftest_harness.h without processes, which says every value that is compared, and where it is from."""
    (place / "kselftest_harness.h").write_text(_HARNESS)
