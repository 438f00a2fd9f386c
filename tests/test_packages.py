# SPDX-License-Identifier: MIT
"""What is shipped: the wheel has all that luoser reads, the sdist passes its own tests, Debian's files fit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import luoser
from luoser.cli.main import _COMMANDS
from tests.real import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOL = PROJECT["tool"]["setuptools"]
SLICE = ("tests/abi/test_struct_bytes.py", "tests/cli/test_limits.py", "tests/test_docs.py", "tests/test_packages.py")


def test_every_package_is_shipped() -> None:
    found = {".".join(place.parent.relative_to(ROOT).parts) for place in (ROOT / "luoser").rglob("__init__.py")}
    assert set(TOOL["packages"]) == found


def test_every_file_that_is_no_module_is_shipped() -> None:
    patterns = [Path(*package.split("."), name) for package, names in TOOL["package-data"].items() for name in names]
    shipped = {place for pattern in patterns for place in ROOT.glob(pattern.as_posix())}
    others = {place for place in (ROOT / "luoser").rglob("*.*") if place.suffix not in (".py", ".pyc")}
    assert others == shipped
    data = {place for names in TOOL["data-files"].values() for name in names for place in ROOT.glob(name)}
    folders = (ROOT / "share", ROOT / "scripts")
    assert data == {place for folder in folders for place in folder.rglob("*") if place.is_file()}


def test_extras_that_messages_name_exist() -> None:
    named = {
        name
        for place in (ROOT / "luoser").rglob("*.py")
        for name in re.findall(r"pip install 'luoser\[(\w+)\]'", place.read_text())
    }
    assert named == {"dask", "remote", "report", "snappy", "survey", "vmlinux", "zstd"}
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_files_of_debian_fit() -> None:
    first = (ROOT / "debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"luoser ({luoser.__version__}-")
    project = (ROOT / "pyproject.toml").read_text()
    patch = (ROOT / "debian/patches/old-setuptools.patch").read_text().partition("+++ ")[2]
    for part in re.split(r"(?m)^@@.*\n", patch)[1:]:
        before = "".join(line[1:] for line in part.splitlines(keepends=True) if line[0] in " -")
        assert before in project
    longest = max(
        len(line) for place in (ROOT / "luoser/render/report").glob("page.*") for line in place.read_text().splitlines()
    )
    assert longest < 512  # lintian takes a page with longer lines for a generated one


def test_the_sdist_has_what_its_tests_read() -> None:
    lines = (ROOT / "MANIFEST.in").read_text().splitlines()
    assert {f"graft {name}" for name in ("debian", "docs", "fixtures", "scripts", "share", "tests")} <= set(lines)
    files = next(line for line in lines if line.startswith("include ")).split()[1:]
    pages = {place.name for place in ROOT.glob("*.md")}
    assert pages | {"Makefile"} == {place.name for name in files for place in ROOT.glob(name)} - {
        ".pre-commit-config.yaml"
    }


@pytest.mark.slow
def test_the_sdist_passes_its_own_tests(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum("/data/share/man/man1/" in name for name in names) > len(_COMMANDS)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / sdist.name.removesuffix(".tar.gz")
    where = subprocess.run(
        [sys.executable, "-c", "import luoser; print(luoser.__file__)"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(folder))
    tests = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *SLICE]
    result = subprocess.run(tests, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.slow
def test_the_zipapp_runs(tmp_path: Path) -> None:
    target = tmp_path / "luoser.pyz"
    subprocess.run([sys.executable, "-m", "tests.zipapp", str(target)], check=True, cwd=ROOT, capture_output=True)
    for words in (["check"], ["report", "-o", str(tmp_path / "report.html")], ["hexdump", "--plain"]):
        more = ["pci[0]"] if words[0] == "hexdump" else []
        command = [
            sys.executable,
            "-I",
            "-S",
            str(target),
            *words,
            str(ROOT / "fixtures/real/6.18-a/frozen.elf.xz"),
            *more,
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, ""), words
