# SPDX-License-Identifier: MIT
"""The kselftest: it compares every field as the catalogue has it, by the harness that the kernel's selftests have."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luoser.writer.golden import kselftest
from tests.catalogue import tag, values
from tests.writer.golden.compiler import compile_all, each_compiler, needs_gcc, program, write_harness
from tests.writer.golden.subjects import GOLDEN, SUBJECTS, Subject

each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
NUMBERED = r"\[\d+\]"
BY_NAME = {subject.name: subject for subject in SUBJECTS}


def text_of(subject: Subject) -> str:
    return kselftest(name=subject.name, layout=subject.layout, data=subject.data, source="spec.toml")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kselftest")
    write_harness(place)
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


@each_compiler
def test_it_compiles_as_it_is(tree: Path, compiler: str) -> None:
    sources = [f"{subject.name}.c" for subject in GOLDEN]
    result = compile_all(tree, sources, "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
@each_subject
def test_it_passes(subject: Subject, said: dict[str, list[str]]) -> None:
    lines = said[subject.name]
    assert lines[-1] == "exit 0" and not any(line.startswith("not ") for line in lines)
    cases = re.findall(r"^TEST_F\((\w+), (\w+)\)", text_of(subject), re.MULTILINE)
    assert cases and [line for line in lines if line[0] == "#"] == [f"# {suite}.{case}" for suite, case in cases]


def plain(expression: str) -> str:
    """The member in an expression of C: without conversions, and without the number of an element."""
    return re.sub(r"^(?:be\d+toh\(|\(__u\d+\))?got\.(.*?)\)?$", r"\1", expression)


def shown(value: int | bytes) -> str:
    """A value as the harness of the tests says it."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{value & 2**64 - 1:#x}" if value else "0"


@needs_gcc
@each_subject
def test_it_compares_every_field_as_the_catalogue_has_it(subject: Subject, said: dict[str, list[str]]) -> None:
    """Texts and raw space as bytes, of which only the number is said; numbers with their value."""
    expected = [
        (at, f"{tag(number)}.{re.sub(NUMBERED, '[j]', name)}", shown(value))
        for at, number in subject.places
        for _, name, value in values(number, subject.data, at)
    ]
    found = []
    for line in said[subject.name]:
        if raw := re.fullmatch(r"memcmp\(&?got\.(\S+), &?want->\1, (\d+)\) = 0 \| struct (\w+) at (\w+)", line):
            found.append((int(raw[4], 16), f"{raw[3]}.{raw[1]}", f"{raw[2]} bytes"))
        elif one := re.fullmatch(r"(\S+) = (\S+) \| struct (\w+) at (\w+)", line):
            found.append((int(one[4], 16), f"{one[3]}.{plain(one[1])}", one[2]))
    assert found == expected


@needs_gcc
def test_the_cover_letter_of_september_2025(said: dict[str, list[str]]) -> None:
    assert said["pci_folio_bin"] == [
        "# pci_folio_bin.pci_ser",
        "got.count = 0x2 | struct pci_ser at 0x0",
        "# pci_folio_bin.pci_dev_ser",
        "got.path = 0x501 | struct pci_dev_ser at 0x8",
        "got.flags = 0x1 | struct pci_dev_ser at 0x8",
        "memcmp(got.driver_name, want->driver_name, 63) = 0 | struct pci_dev_ser at 0x8",
        "got.driver_data = 0x1ac6f4000 | struct pci_dev_ser at 0x8",
        "got.path = 0x408 | struct pci_dev_ser at 0x58",
        "got.flags = 0x2 | struct pci_dev_ser at 0x58",
        "memcmp(got.driver_name, want->driver_name, 63) = 0 | struct pci_dev_ser at 0x58",
        "got.driver_data = 0 | struct pci_dev_ser at 0x58",
        "exit 0",
    ]


@needs_gcc
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("0x058 path", "not got.path = 0x4ee | struct pci_dev_ser at 0x58"),
        ("0x060 driver_name", "not memcmp(got.driver_name, want->driver_name, 63) = "),
    ],
)
def test_another_byte_fails(line: str, found: str, tmp_path: Path) -> None:
    text, count = re.subn(rf"\t0x..(.*/\* {re.escape(line)})", r"\t0xee\1", text_of(BY_NAME["pci_folio_bin"]))
    assert count == 1
    (tmp_path / "golden.c").write_text(text)
    write_harness(tmp_path)
    ran = subprocess.run([program(tmp_path, ["golden.c"])], check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    (wrong,) = [line for line in ran.stdout.splitlines() if line.startswith("not ")]
    assert wrong.startswith(found)


def test_each_test_has_bytes_of_its_own() -> None:
    text = text_of(BY_NAME["pci_folio_bin"])
    for part in ("FIXTURE(pci_folio_bin) {", "FIXTURE_SETUP(pci_folio_bin)", "FIXTURE_TEARDOWN(pci_folio_bin)"):
        assert f"\n{part}\n" in text
    assert "\n * Makefile: TEST_GEN_PROGS += pci_folio_bin\n */\n" in text
    assert text.endswith("\nTEST_HARNESS_MAIN\n") and text.count('#include "kselftest_harness.h"') == 1
