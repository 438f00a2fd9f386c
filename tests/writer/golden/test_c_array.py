# SPDX-License-Identifier: MIT
"""The array of bytes: the blob's own, in the kernel's style, each field with its offset and name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luoser.abi.registry import Layout, layout
from luoser.errors import FormatError, UsageError
from luoser.writer.golden import c_array
from tests import golden
from tests.writer.golden.compiler import compile_all, each_compiler, needs_gcc, program
from tests.writer.golden.subjects import SUBJECTS

PREAMBLE = """\
#include <stdio.h>
#define __aligned(x) __attribute__((aligned(x)))
typedef unsigned char u8;
"""


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


def made(name: str, data: bytes, source: str = "spec.toml") -> str:
    return c_array(name="golden", layout=known(name), data=data, source=source)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("c_array")
    uses = []
    for subject in SUBJECTS:
        text = c_array(name=subject.name, layout=subject.layout, data=subject.data, source="spec.toml")
        (place / f"{subject.name}.c").write_text(text)
        uses.append(
            f'\tprintf("{subject.name} %d ", (int)((unsigned long){subject.name} % 8));\n'
            f"\tshow({subject.name}, sizeof({subject.name}));\n"
        )
    includes = "".join(f'#include "{subject.name}.c"\n' for subject in SUBJECTS)
    show = (
        "static void show(const u8 *bytes, size_t size)\n"
        '{\n\twhile (size--)\n\t\tprintf("%02x", *bytes++);\n\tprintf("\\n");\n}\n'
    )
    main = f"int main(void)\n{{\n{''.join(uses)}\treturn 0;\n}}\n"
    (place / "main.c").write_text(PREAMBLE + includes + show + main)
    return place


@each_compiler
def test_all_arrays_compile(tree: Path, compiler: str) -> None:
    result = compile_all(tree, ["main.c"], "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
def test_the_compiler_makes_the_bytes_of_the_blob(tree: Path) -> None:
    output = subprocess.run([program(tree, ["main.c"])], check=True, capture_output=True, text=True).stdout
    found = {
        name: (int(misaligned), bytes.fromhex(text)) for name, misaligned, text in map(str.split, output.splitlines())
    }
    assert found == {subject.name: (0, subject.data) for subject in SUBJECTS}


def test_the_cover_letter_of_september_2025() -> None:
    text = made("pci-lu-v2-06", golden.CATALOGUE["pci-folio.bin"])
    assert text.startswith(
        "// SPDX-License-Identifier: GPL-2.0-only OR MIT\n"
        "/*\n"
        " * golden: pci-lu-v2-06, 168 bytes\n"
        " * v2 patches 06 to 10: flags, driver name\n"
        " * Seen in: LUO: PCI subsystem (phase I) v2, 16 Sep 2025\n"
        ' * Made by luoser from "spec.toml"\n'
        " */\n"
        "#include <linux/types.h>\n"
        "\n"
        "static const u8 golden[168] __aligned(8) = {\n"
        "\t/* 0x000 struct pci_ser */\n"
        "\t0x02, 0x00, 0x00, 0x00,\t\t\t\t/* 0x000 count = 2 */\n"
        "\t0x00, 0x00, 0x00, 0x00,\t\t\t\t/* 0x004 padding */\n"
        "\t/* 0x008 struct pci_dev_ser devs[0] */\n"
        "\t0x01, 0x05, 0x00, 0x00,\t\t\t\t/* 0x008 path = 0x501 */\n"
        "\t0x01, 0x00, 0x00, 0x00,\t\t\t\t/* 0x00c flags = 1 */\n"
        '\t0x70, 0x63, 0x69, 0x2d, 0x6c, 0x75, 0x2d, 0x73,\t/* 0x010 driver_name = "pci-lu-stub" */\n'
    )
    assert text.endswith("\t0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,\t/* 0x0a0 driver_data = 0 */\n};\n")


def test_the_rest_of_a_folio_is_left_to_c() -> None:
    data = golden.CATALOGUE["pci-folio.bin"]
    page = made("pci-lu-v2-06", data.ljust(4096, b"\0"))
    assert "golden[4096] __aligned(8)" in page
    assert page.endswith("/* 0x00a0 driver_data = 0 */\n};\n")
    table = made("kho-radix-node", bytes(16) + b"\x01" + bytes(4079))
    assert table.endswith("/* 0x0010 table[2] = 1 */\n};\n")


def test_zeros_alone_still_make_an_array() -> None:
    assert made("kho-radix-node", bytes(4096)).count("0x00,") <= 8


def test_bytes_of_no_struct_are_there() -> None:
    text = made("kho-v4", golden.CATALOGUE["kho-v4-root.dtb"])
    assert "\t0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00,\t/* 0x038 */\n" in text


def test_bit_fields_share_a_line() -> None:
    text = made("memfd-folio", golden.CATALOGUE["memfd-folios.bin"])
    assert "/* 0x010 pfn = 0x1ac6f5, flags = 3 */" in text


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a b", "int", "x;", "é", "__init", "a" * 49, "a\n", "*/"])
def test_what_cannot_name_an_array_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name of a C array"):
        c_array(name=name, layout=known("luo-v5"), data=bytes(32), source="x")


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FormatError, match="expected 8 bytes"):
        made("pci-lu-v2-06", bytes(7))


def test_offsets_are_as_wide_as_the_blob_needs() -> None:
    assert "/* 0x00000 count" in made("luo-session-v2", bytes(65536))
    assert re.search(r"/\* 0x000 version = ", made("kexec-metadata-v1", bytes(73)))
