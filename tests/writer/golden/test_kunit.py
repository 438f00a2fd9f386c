# SPDX-License-Identifier: MIT
"""The KUnit suite: it compiles against the catalogue's structs and no others, and it sees every byte."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from luoser.abi.registry import Layout, layout
from luoser.errors import FormatError, UsageError
from luoser.writer.golden import kunit
from tests.writer.golden.compiler import KUNIT_DRIVER, compile_all, each_compiler, needs_gcc, program, write_kunit
from tests.writer.golden.subjects import GOLDEN, SUBJECTS, Subject, header

each_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
BY_NAME = {subject.name: subject for subject in SUBJECTS}


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


def suite(subject: Subject) -> str:
    include = (f"declared/{subject.name}.h",)
    return kunit(name=subject.name, layout=subject.layout, data=subject.data, source="spec.toml", include=include)


def declared(subject: Subject) -> str:
    return header(subject, re.findall(r"sizeof\(struct (\w+)\)", suite(subject)))


def write(place: Path, subject: Subject, declarations: str) -> str:
    (place / "declared").mkdir(exist_ok=True)
    (place / "declared" / f"{subject.name}.h").write_text(declarations)
    (place / f"{subject.name}.c").write_text(suite(subject))
    return f"{subject.name}.c"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suites of all subjects and what they include."""
    place = tmp_path_factory.mktemp("kunit")
    write_kunit(place)
    for subject in SUBJECTS:
        write(place, subject, declared(subject))
    return place


@pytest.fixture(scope="module")
def seen(tree: Path) -> dict[str, tuple[int, set[int]]]:
    """Of each suite: failures on the bytes as they are, and the bytes whose change it sees."""
    wrappers = []
    for subject in SUBJECTS:
        name = subject.name
        wrappers.append(f"run_{name}.c")
        (tree / wrappers[-1]).write_text(
            f'#include "{name}.c"\n'
            "void add_array(char *name, u8 *bytes, size_t size);\n"
            "static void __attribute__((constructor)) add(void)\n"
            f'{{ add_array("{name}", {name}, sizeof({name})); }}\n'
        )
    (tree / "driver.c").write_text(KUNIT_DRIVER)
    checks = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
    ran = subprocess.run(
        [program(tree, [*wrappers, "driver.c"], "-DWRITABLE", "-Wno-type-limits", *checks)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line.split() for line in ran.stdout.splitlines()]
    return {name: (int(failures), set(map(int, bytes_seen))) for name, failures, *bytes_seen in lines}


@each_compiler
def test_every_suite_compiles_against_the_catalogue(tree: Path, compiler: str) -> None:
    sources = [f"{subject.name}.c" for subject in SUBJECTS]
    result = compile_all(tree, sources, "-fsyntax-only", compiler=compiler)
    assert (result.returncode, result.stderr) == (0, "")


@needs_gcc
@each_subject
def test_a_suite_passes_on_its_bytes(subject: Subject, seen: dict[str, tuple[int, set[int]]]) -> None:
    assert seen[subject.name][0] == 0


@needs_gcc
@each_subject
def test_a_suite_fails_when_any_byte_of_a_member_changes(
    subject: Subject, seen: dict[str, tuple[int, set[int]]]
) -> None:
    assert seen[subject.name][1] == subject.covered


CHANGES = {
    "moved": ("pci_folio_bin", "int path;\n    unsigned int flags;", "int flags;\n    unsigned int path;"),
    "grown": ("pci_folio_bin", "unsigned int flags;", "unsigned long long flags;"),
    "grown into padding": ("pci_lu_v1_04", "unsigned char requested;", "unsigned short requested;"),
    "longer name": ("pci_folio_bin", "char driver_name[63];", "char driver_name[64];"),
    "renamed": ("pci_folio_bin", "driver_data;", "driver_cookie;"),
    "dropped": ("pci_version_2", "unsigned int version;", ""),
    "added": ("memfd_ser_bin", "unsigned int seals;", "unsigned int seals;\n    unsigned int more;"),
    "no longer packed": ("kexec_metadata_bin", "__attribute__((packed))", ""),
    "shorter array": ("memfd_vmalloc_chunk_bin", "phys[511];", "phys[510];"),
    "nested": ("luo_session_block_bin", "unsigned long long count; }", "unsigned int count; unsigned int more; }"),
}  # fmt: skip


@needs_gcc
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_struct_breaks_the_build(change: str, tmp_path: Path) -> None:
    name, old, new = CHANGES[change]
    subject = BY_NAME[name]
    right = declared(subject)
    wrong = right.replace(old, new)
    assert wrong != right
    write_kunit(tmp_path)
    result = compile_all(tmp_path, [write(tmp_path, subject, wrong)], "-fsyntax-only")
    assert result.returncode != 0
    assert re.search("static assertion failed|has no member named", result.stderr), result.stderr


@needs_gcc
@pytest.mark.parametrize("name", ["memfd_ser_bin", "memfd_vmalloc_chunk_bin", "kho_chunk_page_bin", "made_kvm_vm_v1"])
def test_addresses_may_be_unions_with_a_pointer(name: str, tmp_path: Path) -> None:
    subject = BY_NAME[name]
    union, count = re.subn(
        r"unsigned long long (first|next|bitmap|kho_folios);",
        r"union { unsigned long long phys; void *ptr; } \1;",
        declared(subject),
    )
    assert count
    write_kunit(tmp_path)
    result = compile_all(tmp_path, [write(tmp_path, subject, union)], "-fsyntax-only")
    assert (result.returncode, result.stderr) == (0, "")


def test_every_member_of_every_struct_is_asserted() -> None:
    text = kunit(name="golden", layout=known("luo-v5"), data=bytes(32), source="x")
    for name, offset, size in (
        ("compatible", 0, 8), ("liveupdate_num", 8, 8), ("sessions_pa", 16, 8), ("flbs_pa", 24, 8),
    ):  # fmt: skip
        assert f"static_assert(offsetof(struct luo_ser, {name}) == {offset});\n" in text
        assert f"static_assert(sizeof(((struct luo_ser *)0)->{name}) == {size});\n" in text
    assert "static_assert(sizeof(struct luo_ser) == 32);\n" in text


def test_bit_fields_have_no_place_to_assert() -> None:
    text = kunit(name="golden", layout=known("memfd-folio"), data=bytes(16), source="x")
    assert "offsetof(struct memfd_luo_folio_ser, index) == 8" in text
    assert "offsetof(struct memfd_luo_folio_ser, pfn)" not in text


@pytest.mark.parametrize(
    ("name", "size", "headers"),
    [
        ("luo-v5", 32, ["linux/kho/abi/luo.h"]),
        ("memfd-v2", 48, ["linux/kho/abi/memfd.h"]),
        ("kho-vmalloc", 16, ["linux/kho/abi/kexec_handover.h"]),
        ("kho-block-pci", 16, ["linux/kho/abi/block.h"]),
        ("pci-version-2", 16, ["linux/kho/abi/pci.h"]),
        ("kexec-metadata-v1", 73, ["linux/kho/abi/kexec_metadata.h"]),
        ("kho-data", 32, ["asm/setup_data.h"]),
        ("vfio-pci-v2", 11, ["linux/kho/abi/vfio_pci.h"]),
        ("pci-lu-v2-06", 8, []),
        ("kho-chunk", 4096, []),
    ],
)
def test_the_header_follows_from_the_struct(name: str, size: int, headers: list[str]) -> None:
    text = kunit(name="golden", layout=known(name), data=bytes(size), source="x")
    assert re.findall("#include <(.*)>", text) == ["kunit/test.h", *headers]
    assert ("include this file" in text) == (not headers)


def test_a_header_can_be_named() -> None:
    text = kunit(name="golden", layout=known("pci-lu-v2-06"), data=bytes(8), source="x", include=("linux/pci_lu.h",))
    assert re.findall("#include <(.*)>", text) == ["kunit/test.h", "linux/pci_lu.h"]
    assert "include this file" not in text


@pytest.mark.parametrize("header_name", ["a>\n#error", "a\\b", 'x"', "é.h", ""])
def test_a_header_that_is_none_is_refused(header_name: str) -> None:
    with pytest.raises(UsageError, match="header"):
        kunit(name="golden", layout=known("luo-v5"), data=bytes(32), source="x", include=(header_name,))


def test_the_suite_is_a_kernel_module() -> None:
    text = kunit(name="golden", layout=known("luo-v5"), data=bytes(32), source="x")
    assert text.startswith("// SPDX-License-Identifier: GPL-2.0-only OR MIT\n")
    assert '\t.name = "golden",\n' in text
    assert "\nkunit_test_suite(golden_suite);\n" in text
    assert '\nMODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");\n' in text
    assert text.endswith('\nMODULE_LICENSE("GPL");\n')


@pytest.mark.parametrize(("name", "size", "known_to_build"), [("luo-v5", 32, True), ("pci-lu-v2-06", 8, False)])
def test_the_build_of_a_kernel_is_told_how(name: str, size: int, known_to_build: bool) -> None:
    """Unless the structs are private to a file, which has to include this one."""
    text = kunit(name="golden", layout=known(name), data=bytes(size), source="x")
    assert (" * obj-$(CONFIG_GOLDEN_KUNIT_TEST) += golden_kunit.o\n" in text) == known_to_build
    assert (f' *\ttristate "KUnit test of {name}" if !KUNIT_ALL_TESTS\n' in text) == known_to_build
    assert "CONFIG_" not in kunit(name="golden", layout=known(name), data=bytes(size), source="x", in_tree=True)


def test_one_case_for_each_kind_of_struct() -> None:
    text = suite(next(subject for subject in GOLDEN if subject.name == "pci_lu_v1_22"))
    cases = ["pci_lu_v1_22_pci_ser", "pci_lu_v1_22_pci_dev_ser", "pci_lu_v1_22_pci_bus_ser"]
    assert re.findall(r"KUNIT_CASE\((\w+)\)", text) == cases


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FormatError, match="luo-v5: too short for struct luo_ser: expected 32 bytes"):
        kunit(name="golden", layout=known("luo-v5"), data=bytes(31), source="x")
