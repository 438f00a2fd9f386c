# SPDX-License-Identifier: MIT
"""Goldens in the source of a kernel. The source is a made one: its headers, its Makefiles and its Kconfig."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from luoser.abi.registry import layout
from luoser.errors import UsageError
from luoser.writer.golden.tree import Blob, patch, selftests, suites

SOURCE = {
    "include/linux/kho/abi/luo.h": "struct luo_ser {\n};\n",
    "include/linux/kho/abi/kexec_handover.h": "struct kho_radix_node {\n};\n",
    "arch/x86/include/uapi/asm/setup_data.h": "struct setup_data {\n};\n",
    "kernel/liveupdate/Makefile": "# SPDX-License-Identifier: GPL-2.0\n\nobj-$(CONFIG_LIVEUPDATE)\t\t+= luo.o\n",
    "kernel/liveupdate/Kconfig": 'menu "Live Update"\n\nconfig LIVEUPDATE\n\tbool "Live Update"\n\nendmenu\n',
    "tools/testing/selftests/liveupdate/Makefile": "TEST_GEN_PROGS += liveupdate\n\ninclude ../lib.mk\n",
}
TESTS = "kernel/liveupdate/tests"


def blob(name: str, size: int) -> Blob:
    found = layout(name)
    assert found is not None
    return Blob(name=name.replace("-", "_"), layout=found, data=bytes(size))


LUO, NODE = blob("luo-v5", 32), blob("kho-radix-node", 4096)


def made(*blobs: Blob, source: dict[str, str] = SOURCE) -> dict[str, str]:
    return suites(blobs, source="spec.toml", read=source.get)


def test_a_suite_stands_where_the_kernels_style_guide_wants_it() -> None:
    files = made(LUO)
    text = files[f"{TESTS}/luo_v5_kunit.c"]
    assert "#include <linux/kho/abi/luo.h>\n" in text and '.name = "luo_v5"' in text
    assert "Makefile:" not in text
    assert files[f"{TESTS}/Makefile"].splitlines()[1:] == ["obj-$(CONFIG_LUO_V5_KUNIT_TEST) += luo_v5_kunit.o"]
    assert files[f"{TESTS}/.kunitconfig"] == "CONFIG_KUNIT=y\nCONFIG_LUO_V5_KUNIT_TEST=y\n"
    assert "\nconfig LUO_V5_KUNIT_TEST\n\ttristate " in files[f"{TESTS}/Kconfig"]


def test_the_build_of_the_kernel_goes_there() -> None:
    files = made(LUO)
    before = SOURCE["kernel/liveupdate/Makefile"]
    assert files["kernel/liveupdate/Makefile"] == f"{before}obj-y += tests/\n"
    assert files["kernel/liveupdate/Kconfig"].endswith(
        '\tbool "Live Update"\n\nsource "kernel/liveupdate/tests/Kconfig"\n\nendmenu\n'
    )


def test_another_golden_is_added_and_the_same_one_is_not() -> None:
    once = {**SOURCE, **made(LUO)}
    assert {**once, **made(LUO, source=once)} == once
    both = made(NODE, source=once)
    lines = both[f"{TESTS}/Makefile"].splitlines()[1:]
    assert [line.partition(" += ")[2] for line in lines] == ["luo_v5_kunit.o", "kho_radix_node_kunit.o"]
    assert both[f"{TESTS}/Kconfig"].startswith(once[f"{TESTS}/Kconfig"])
    assert both["kernel/liveupdate/Makefile"] == once["kernel/liveupdate/Makefile"]


def test_a_struct_of_a_page_depends_on_the_size_of_a_page() -> None:
    assert "\tdepends on KUNIT && PAGE_SIZE_4KB\n" in made(NODE)[f"{TESTS}/Kconfig"]


def test_a_struct_of_one_machine_is_not_in_what_every_machine_runs() -> None:
    files = made(blob("setup-data", 16))
    assert files[f"{TESTS}/.kunitconfig"] == "CONFIG_KUNIT=y\n"
    assert "\tdepends on KUNIT && X86\n" in files[f"{TESTS}/Kconfig"]


@pytest.mark.parametrize(
    ("name", "size", "what"),
    [
        ("memfd-v2", 48, "memfd_luo_ser"),  # its header is not in this kernel
        ("luo-file", 64, "luo_file_ser"),  # its header does not have it
        ("pci-lu-v2-06", 8, "pci_ser"),  # no header ever had it
    ],
)
def test_a_struct_that_the_kernel_does_not_have_is_refused(name: str, size: int, what: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: this kernel declares no struct {what} in a header"):
        made(blob(name, size))


@pytest.mark.parametrize("path", ["kernel/liveupdate/Makefile", "kernel/liveupdate/Kconfig"])
def test_a_kernel_without_luo_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=f"{path}: not found; expected the source of a kernel from 6.19 on"):
        made(LUO, source={name: text for name, text in SOURCE.items() if name != path})


def test_a_kselftest_is_one_of_the_programs() -> None:
    files = selftests([LUO], source="spec.toml", read=SOURCE.get)
    folder = "tools/testing/selftests/liveupdate"
    assert set(files) == {f"{folder}/luo_v5.c", f"{folder}/Makefile"}
    assert "Makefile:" not in files[f"{folder}/luo_v5.c"]
    lines = ["TEST_GEN_PROGS += liveupdate", "TEST_GEN_PROGS += luo_v5", "", "include ../lib.mk", ""]
    assert files[f"{folder}/Makefile"].split("\n") == lines
    again = {**SOURCE, **files}
    assert {**again, **selftests([LUO], source="spec.toml", read=again.get)} == again


def test_a_makefile_without_programs_is_refused() -> None:
    source = {"tools/testing/selftests/liveupdate/Makefile": "include ../lib.mk\n"}
    with pytest.raises(UsageError, match="expected a line with TEST_GEN_PROGS, found none"):
        selftests([LUO], source="spec.toml", read=source.get)


def test_a_patch_without_changes_is_refused() -> None:
    source = {**SOURCE, **made(LUO)}
    with pytest.raises(UsageError, match="nothing is left to change"):
        patch(made(LUO, source=source), names=["luo-v5"], author="A B <a@b>", source="x", read=source.get)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_am_makes_the_same_files(tmp_path: Path) -> None:
    for path, text in SOURCE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    files = made(LUO, NODE)
    text = patch(files, names=["luo-v5", "kho-radix-node"], author="A B <a@b>", source="spec.toml", read=SOURCE.get)

    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false", *words]
        return subprocess.run(command, cwd=tmp_path, input=text, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "kernel")
    git("am", "--quiet")
    assert {path: (tmp_path / path).read_text() for path in files} == files
    assert git("log", "-1", "--format=%an %ae %s").strip() == "A B a@b liveupdate: Add KUnit tests of 2 layouts"
    assert git("status", "--porcelain") == ""
