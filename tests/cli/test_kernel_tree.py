# SPDX-License-Identifier: MIT
"""`luoser build --kernel-tree`: goldens of a state in the source of a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from luoser.writer.golden.tree import RUNS
from tests.conftest import Run
from tests.real import ROOT

HANDOVER, LIST = ROOT / "fixtures/specs/handover.toml", ROOT / "fixtures/specs/pci-cover-letter.toml"
TESTS = "kernel/liveupdate/tests"
SOURCE = {
    "include/linux/kho/abi/luo.h": "struct luo_ser {\nstruct luo_session_ser {\nstruct luo_file_ser {\n",
    "include/linux/kho/abi/memfd.h": "struct memfd_luo_ser {\n",
    "scripts/dtc/libfdt/fdt.h": "struct fdt_header {\nstruct fdt_reserve_entry {\n",
    "kernel/liveupdate/Makefile": "obj-$(CONFIG_LIVEUPDATE) += luo.o\n",
    "kernel/liveupdate/Kconfig": 'menu "Live Update"\n\nendmenu\n',
    "tools/testing/selftests/liveupdate/Makefile": "TEST_GEN_PROGS += liveupdate\n",
}


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """The source of a kernel that has some of the headers."""
    for path, text in SOURCE.items():
        (tmp_path / "linux" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "linux" / path).write_text(text)
    return tmp_path / "linux"


def suites(kernel: Path) -> list[str]:
    return sorted(place.name.removesuffix("_kunit.c") for place in (kernel / TESTS).glob("*.c"))


def test_all_of_a_state_that_the_kernel_has(luoser_command: Run, kernel: Path) -> None:
    result = luoser_command("build", HANDOVER, "--kernel-tree", kernel)
    assert result.returncode == 0
    assert suites(kernel) == ["kho_v4", "luo_file", "luo_session", "luo_v5", "memblock_v1", "memfd_v2"]
    said = result.stderr.decode()
    assert "left out: pci-lu-v2-03: this kernel declares no struct pci_ser, pci_dev_ser in a header\n" in said
    assert "left out: kho-block-sessions: this kernel declares no struct kho_block_header_ser in a header\n" in said
    assert f"11 files written to {kernel}: {TESTS}, kernel/liveupdate\n" in said
    assert said.endswith(f"luoser: to run: {RUNS['kunit']}\n")
    text = (kernel / TESTS / "luo_session_kunit.c").read_text()
    assert '.name = "vm-1"' in text and "Makefile:" not in text


def test_a_golden_that_is_there_is_replaced_only_by_force(luoser_command: Run, kernel: Path) -> None:
    command = ("build", HANDOVER, "--kernel-tree", kernel, "--blob", "luo")
    assert luoser_command(*command).returncode == 0
    assert luoser_command(*command).returncode == 0  # nothing changes
    place = kernel / TESTS / "luo_v5_kunit.c"
    text = place.read_text()
    place.write_text("mine")
    result = luoser_command(*command)
    assert (result.returncode, place.read_text()) == (2, "mine")
    assert f"{place}: exists; --force replaces it".encode() in result.stderr
    assert luoser_command(*command, "--force").returncode == 0
    assert place.read_text() == text


def test_a_link_to_a_file_of_another_kernel_is_not_followed(luoser_command: Run, kernel: Path, tmp_path: Path) -> None:
    place, other = kernel / "kernel/liveupdate/Makefile", tmp_path / "Makefile"
    place.rename(other)
    place.symlink_to(other)
    assert luoser_command("build", HANDOVER, "--kernel-tree", kernel).returncode == 0
    assert other.read_text() == SOURCE["kernel/liveupdate/Makefile"]
    assert place.read_text().endswith("obj-y += tests/\n")


def test_a_folder_that_is_a_link_out_of_the_source_is_not_written(
    luoser_command: Run, kernel: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (kernel / TESTS).symlink_to(tmp_path / "other")
    result = luoser_command("build", HANDOVER, "--kernel-tree", kernel, "--force")
    assert result.returncode == 2 and b"leads out of the source" in result.stderr
    assert not list((tmp_path / "other").iterdir())
    assert (kernel / "kernel/liveupdate/Makefile").read_text() == SOURCE["kernel/liveupdate/Makefile"]


def test_a_negative(luoser_command: Run, kernel: Path) -> None:
    result = luoser_command("build", HANDOVER, "--kernel-tree", kernel, "--mutate", "LUO002")
    assert result.returncode == 0
    assert suites(kernel) == ["luo_v5_bad_luo_version_unknown"]
    assert "NEGATIVE: breaks LUO002" in (kernel / TESTS / "luo_v5_bad_luo_version_unknown_kunit.c").read_text()


def test_a_kselftest(luoser_command: Run, kernel: Path) -> None:
    result = luoser_command("build", LIST, "--kernel-tree", kernel, "--format", "kselftest", "--name", "cover_letter")
    assert result.returncode == 0 and RUNS["kselftest"].encode() in result.stderr
    folder = kernel / "tools/testing/selftests/liveupdate"
    assert (folder / "Makefile").read_text() == "TEST_GEN_PROGS += liveupdate\nTEST_GEN_PROGS += cover_letter\n"
    assert "TEST_F(cover_letter, pci_ser)" in (folder / "cover_letter.c").read_text()


def test_a_patch_leaves_the_kernel_as_it_is(luoser_command: Run, kernel: Path) -> None:
    result = luoser_command("build", HANDOVER, "--kernel-tree", kernel, "--format", "patch", "-o", "-")
    assert result.returncode == 0
    assert b"\ndiff --git a/kernel/liveupdate/Kconfig b/kernel/liveupdate/Kconfig\n--- a/" in result.stdout
    assert all((kernel / path).read_text() == text for path, text in SOURCE.items())
    assert not (kernel / TESTS).exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--format", "elf"], "--kernel-tree: expected --format kunit, kselftest, patch, found elf"),
        (["--format", "patch"], "expected -o FILE with --format patch, and only with it"),
        (["-o", "x.c"], "expected -o FILE with --format patch, and only with it"),
        (["--all-mutations", "x"], "expected SPEC and -o FILE"),
        (["--name", "x"], "--name is for one blob, found "),
        (["--blob", "pci[0]"], "pci-lu-v2-03: this kernel declares no struct pci_ser"),
        (["--chosen", "x"], "--chosen is for a whole image"),
    ],
)
def test_what_does_not_fit(luoser_command: Run, kernel: Path, arguments: list[str], why: str) -> None:
    result = luoser_command("build", HANDOVER, "--kernel-tree", kernel, *arguments)
    assert result.returncode == 2 and why in result.stderr.decode()
    assert not (kernel / TESTS).exists()


def test_a_patch_needs_a_kernel(luoser_command: Run) -> None:
    result = luoser_command("build", HANDOVER, "--format", "patch", "-o", "-")
    assert result.returncode == 2 and b"needs --kernel-tree DIR" in result.stderr


@pytest.mark.parametrize("form", ["kunit", "kselftest"])
def test_a_folder_that_is_no_kernel(luoser_command: Run, tmp_path: Path, form: str) -> None:
    result = luoser_command("build", LIST, "--kernel-tree", tmp_path, "--format", form)
    assert result.returncode == 2 and b"expected the source of a kernel from 6.19 on" in result.stderr
