# SPDX-License-Identifier: MIT
"""Golden C of `luoser build`, compiled in the source of a kernel: KUnit in user-mode Linux, kselftests in a guest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.guest import initramfs
from tests.e2e.judge import Compared
from tests.e2e.kernels import CACHE, Kernel, need_tools
from tests.e2e.machine import Machine, MachineError

__all__ = ["golden"]

_SPEC = """\
[[handovers]]
memblock.reservations = [{ name = "trace", size = "1M" }]

[[handovers.luo.sessions]]
name = "vm"
files = [{ token = 1, memfd = { size = "64K" } }]
"""
_CONFIG = """\
CONFIG_64BIT=y
CONFIG_PRINTK=y
CONFIG_STDERR_CONSOLE=y
CONFIG_KUNIT_DEFAULT_ENABLED=y
CONFIG_KUNIT_AUTORUN_ENABLED=y
"""
_SUITES, _SELFTESTS = "kernel/liveupdate/tests", "tools/testing/selftests/liveupdate"
_WRONG = "changed"
"""Name of a golden in which the first byte is another one: what compares it has to fail."""
_LONGEST = 300


def golden(ran: Kernel, place: Path) -> Iterator[Compared]:
    """Each suite and each test, on this machine."""
    need_tools(ran.machine)
    tree = _tree(ran, place)
    suites = _names(tree / _SUITES, "_kunit.c")
    yield from _compared("KUnit", suites, _ran_kunit(tree))
    before = set(_names(CACHE / ran.series / "source" / _SELFTESTS, ".c"))
    tests = [name for name in _names(tree / _SELFTESTS, ".c") if name not in before]
    yield from _compared("kselftest", tests, _ran_selftests(ran, tree, tests, place))


def _compared(kind: str, names: Sequence[str], passed: dict[str, bool]) -> Iterator[Compared]:
    for name in names:
        wanted, found = name != _WRONG, passed.get(name)
        word = "" if found == wanted else "did not run" if found is None else "passes" if found else "fails"
        yield Compared("golden", f"{kind} {name}", word)


# -- the source -------------------------------------------------------------------------------------------


def _tree(ran: Kernel, place: Path) -> Path:
    """A copy of the kernel's source with goldens. Its files are links: luoser writes new ones and never into one."""
    tree = CACHE / ran.series / "um-kunit" / "source"
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-al", str(CACHE / ran.series / "source"), str(tree)], check=True)
    spec = place / "spec.toml"
    spec.write_text(_SPEC)
    for form, path in (("kunit", f"{_SUITES}/{_WRONG}_kunit.c"), ("kselftest", f"{_SELFTESTS}/{_WRONG}.c")):
        command = [sys.executable, "-m", "luoser", "build", str(spec), "--kernel", ran.series]
        command += ["--kernel-tree", str(tree), "--format", form]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run([*command, "--blob", "luo.sessions[0]", "--name", _WRONG], check=True, capture_output=True)
        text = (tree / path).read_text()
        changed = re.sub(r"(\[\d+\] __aligned\(8\) = \{\n.*\n\t)0x..", r"\g<1>0xee", text, count=1)
        assert changed != text
        (tree / path).write_text(changed)
    return tree


def _names(folder: Path, suffix: str) -> list[str]:
    return sorted(file.name.removesuffix(suffix) for file in folder.glob(f"*{suffix}"))


def _make(tree: Path, out: Path, arch: str, *words: str) -> None:
    command = ["make", "-s", f"O={out}", f"ARCH={arch}", f"-j{os.cpu_count()}", *words]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)


# -- runs -------------------------------------------------------------------------------------------------


def _ran_kunit(tree: Path) -> dict[str, bool]:
    """Whether each suite passed, by name."""
    out = tree.parent / "out"
    out.mkdir(exist_ok=True)
    fragment = tree.parent / "fragment"
    fragment.write_text(_CONFIG + (tree / _SUITES / ".kunitconfig").read_text())
    _make(tree, out, "um", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
    _make(tree, out, "um", "vmlinux")
    command = [str(out / "vmlinux"), "mem=256M", "kunit_shutdown=halt"]
    try:
        ran = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_LONGEST)
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"user-mode Linux did not end in {_LONGEST} seconds") from error
    said = (ran.stdout + ran.stderr).decode("utf-8", "replace").replace("\r", "")
    return {found[2]: not found[1] for found in re.finditer(r"^(not )?ok \d+ (\w+)", said, re.MULTILINE)}


def _ran_selftests(ran: Kernel, tree: Path, names: Sequence[str], place: Path) -> dict[str, bool]:
    """Whether each test passed in a guest, by name."""
    out, headers = place / "selftests", tree.parent / "headers"
    out.mkdir()
    headers.mkdir(exist_ok=True)
    _make(tree, headers, "x86_64" if ran.machine == "x86-64" else ran.machine, "headers")
    include = f"KHDR_INCLUDES=-isystem {headers}/usr/include"
    command = ["make", "-s", "-C", str(tree / _SELFTESTS), f"OUTPUT={out}", include, "USERLDFLAGS=-static"]
    subprocess.run([*command, *(f"{out}/{name}" for name in names)], check=True, capture_output=True)
    more = {"selftests": (0o040755, b"")}
    more |= {f"selftests/{name}": (0o100755, (out / name).read_bytes()) for name in names}
    with Machine(place / "guest", ran, initramfs(ran, more=more), "stage=selftests") as machine:
        said = machine.wait("DONE selftests")
    return {found[1]: found[2] == "0" for found in re.finditer(r"^SELFTEST (\w+) (\d+)$", said, re.MULTILINE)}
