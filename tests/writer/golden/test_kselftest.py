# SPDX-License-Identifier: MIT
"""The test of user space: it says every field as the catalogue has it, and ends as kselftest wants."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luoser.writer.golden import kselftest
from tests.writer.golden.compiler import compile_all, each_compiler, needs_gcc, program
from tests.writer.golden.subjects import GOLDEN, SUBJECTS, Subject

each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
BY_NAME = {subject.name: subject for subject in SUBJECTS}


def text_of(subject: Subject) -> str:
    return kselftest(name=subject.name, layout=subject.layout, data=subject.data, source="spec.toml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kselftest")
    for subject in SUBJECTS:
        (place / f"{subject.name}.c").write_text(text_of(subject))
    return place


@pytest.fixture(scope="module")
def said(tree: Path) -> dict[str, list[str]]:
    """What each test prints, and its exit status as the last line; all of them in one program."""
    names = [subject.name for subject in SUBJECTS]
    for name in names:
        (tree / f"run_{name}.c").write_text(f'int main_{name}(void);\n#define main main_{name}\n#include "{name}.c"\n')
    calls = "\n".join(
        f"int main_{name}(void);\nstatic int at_{name}(void) {{ return main_{name}(); }}" for name in names
    )
    body = "\n".join(f'printf("== {name}\\n"); printf("exit %d\\n", at_{name}());' for name in names)
    (tree / "driver.c").write_text(f"#include <stdio.h>\n{calls}\nint main(void)\n{{\n{body}\nreturn 0;\n}}\n")
    sources = [*(f"run_{name}.c" for name in names), "driver.c"]
    output = subprocess.run([program(tree, sources)], check=True, capture_output=True, text=True).stdout
    parts = output.split("== ")[1:]
    return {part.split("\n", 1)[0]: part.splitlines()[1:] for part in parts}


def quoted(value: bytes) -> str:
    text = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in '"\\' else f"\\x{byte:02x}"
        for byte in value.rstrip(b"\0")
    )
    return f'"{text}"'


@each_compiler
def test_it_compiles_as_it_is(tree: Path, compiler: str) -> None:
    sources = [f"{subject.name}.c" for subject in GOLDEN]
    result = compile_all(tree, sources, "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
@each_subject
def test_it_passes_in_ktap(subject: Subject, said: dict[str, list[str]]) -> None:
    lines = said[subject.name]
    results = [line for line in lines if not line.startswith("#")]
    count = int(lines[1].removeprefix("1.."))
    assert results[:2] == ["TAP version 13", f"1..{count}"] and count > 0
    assert [line.rsplit(" ", 1)[0] for line in results[2:-1]] == [f"ok {number}" for number in range(1, count + 1)]
    assert f"# Totals: pass:{count} fail:0 xfail:0 xpass:0 skip:0 error:0" in lines
    assert results[-1] == "exit 0"


@needs_gcc
@each_subject
def test_it_says_every_field_as_the_catalogue_has_it(subject: Subject, said: dict[str, list[str]]) -> None:
    expected = [
        (at, re.sub(r"\[\d+\]", "[j]", name), quoted(value) if isinstance(value, bytes) else f"{value & 2**64 - 1:#x}")
        for at, name, value in subject.fields
    ]
    found = [re.fullmatch(r"# 0x([0-9a-f]+) (\S+) = (.*)", line) for line in said[subject.name]]
    assert [(int(one[1], 16), one[2], one[3]) for one in found if one] == expected


@needs_gcc
def test_the_cover_letter_of_september_2025(said: dict[str, list[str]]) -> None:
    assert [line.removeprefix("# ") for line in said["pci_folio_bin"] if " = " in line] == [
        "0x0 pci_ser.count = 0x2",
        "0x8 pci_dev_ser.path = 0x501",
        "0xc pci_dev_ser.flags = 0x1",
        '0x10 pci_dev_ser.driver_name = "pci-lu-stub"',
        "0x50 pci_dev_ser.driver_data = 0x1ac6f4000",
        "0x58 pci_dev_ser.path = 0x408",
        "0x5c pci_dev_ser.flags = 0x2",
        '0x60 pci_dev_ser.driver_name = "pcieport"',
        "0xa0 pci_dev_ser.driver_data = 0x0",
    ]


def changed(subject: Subject, line: str) -> str:
    """The test with another first byte on the line that has this comment."""
    text, count = re.subn(rf"\t0x..(.*/\* {re.escape(line)})", r"\t0xee\1", text_of(subject))
    assert count == 1
    return text


@needs_gcc
def test_another_byte_fails(tmp_path: Path) -> None:
    (tmp_path / "golden.c").write_text(changed(BY_NAME["pci_folio_bin"], "0x058 path"))
    ran = subprocess.run([program(tmp_path, ["golden.c"])], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "# 0x58 pci_dev_ser.path = 0x4ee, expected 0x408\n" in ran.stdout
    assert [line for line in ran.stdout.splitlines() if " pci_" in line and line[0] != "#"] == [
        "ok 1 pci_ser", "not ok 2 pci_dev_ser",
    ]  # fmt: skip
    assert "# Totals: pass:1 fail:1 " in ran.stdout


@needs_gcc
def test_another_name_fails(tmp_path: Path) -> None:
    (tmp_path / "golden.c").write_text(changed(BY_NAME["pci_folio_bin"], "0x060 driver_name"))
    ran = subprocess.run([program(tmp_path, ["golden.c"])], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert '# 0x60 pci_dev_ser.driver_name = "\\xeecieport", expected "pcieport"\n' in ran.stdout


HARNESS = """\
#include <stdio.h>
static int failed;
static void (*tests[16])(void);
static int nr_tests;
#define TEST(name) \\
	static void name(void); \\
	static void __attribute__((constructor)) add_##name(void) { tests[nr_tests++] = name; } \\
	static void name(void)
#define EXPECT_EQ(expected, seen) do { \\
	__typeof__(expected) __exp = (expected); \\
	__typeof__(seen) __seen = (seen); \\
	failed += __exp != __seen; \\
} while (0)
#define TEST_HARNESS_MAIN \\
	int main(void) \\
	{ \\
		for (int i = 0; i < nr_tests; i++) \\
			tests[i](); \\
		printf("harness: %d tests, %d failed\\n", nr_tests, failed); \\
		return failed != 0; \\
	}
"""


@needs_gcc
@pytest.mark.parametrize(("line", "failed"), [(None, 0), ("0x058 path", 1)])
def test_where_there_is_a_harness_it_runs_over_it(line: str | None, failed: int, tmp_path: Path) -> None:
    subject = BY_NAME["pci_folio_bin"]
    (tmp_path / "kselftest_harness.h").write_text(HARNESS)
    (tmp_path / "golden.c").write_text(changed(subject, line) if line else text_of(subject))
    ran = subprocess.run([program(tmp_path, ["golden.c"])], check=False, capture_output=True, text=True)
    assert ran.returncode == failed
    assert f"harness: 2 tests, {failed} failed" in ran.stdout
    assert "TAP" not in ran.stdout


@needs_gcc
def test_a_harness_can_be_demanded(tmp_path: Path) -> None:
    (tmp_path / "golden.c").write_text(text_of(BY_NAME["pci_folio_bin"]))
    result = compile_all(tmp_path, ["golden.c"], "-DUSE_HARNESS", "-fsyntax-only")
    assert result.returncode != 0 and "kselftest_harness.h" in result.stderr
