# SPDX-License-Identifier: MIT
"""Debian's Python with luoser, makedumpfile, and drgn, as files of a guest's root file system."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import luoser
from tests.e2e.kernels import CACHE, Archive, NoKernel

__all__ = ["drgn", "programs"]

_ARCHITECTURES = {"x86-64": "amd64", "arm64": "arm64"}
_PYTHON = "3.13"
_PACKAGES = (
    *(f"python{_PYTHON}-minimal", f"libpython{_PYTHON}-minimal", f"libpython{_PYTHON}-stdlib", "makedumpfile"),
    *("libc6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libdw1t64", "libelf1t64", "liblzo2-2", "libzstd1"),
)
"""Debian's packages: the programs, and the libraries that they load here."""
_WANTED = re.compile(
    rf"usr/bin/(python{re.escape(_PYTHON)}|makedumpfile)$|usr/lib(64)?/[^/]*linux[^/]*(/[^/]*)?$"
    rf"|usr/lib/python{re.escape(_PYTHON)}/(?!test/|idlelib|tkinter|ensurepip|turtledemo|pydoc_data|config-|lib2to3)"
)
"""Which of their files."""
_OF_DRGN = ("libstdc++6", "libgcc-s1", "libreadline8t64", "libtinfo6", "libncursesw6")
_OURS = ("click", "construct", "hexdump")
_DIRECTORY, _LINK, _PROGRAM = 0o040755, 0o120777, 0o100755
_SCRIPT = """#!/bin/sh
export PYTHONPATH=/site PYTHONPYCACHEPREFIX=/tmp/cache HOME=/tmp
exec /usr/bin/python%s %s "$@"
"""
_METADATA = b"Metadata-Version: 2.1\nName: luoser\nVersion: 0\n"
_ENTRY_POINT = b"[drgn.plugins]\nluoser = luoser.drgn.plugin\n"


def programs(machine: str) -> dict[str, tuple[int, bytes]]:
    """(mode, bytes) of each file by its name; a folder comes before what is in it.

    machine: `x86-64` or `arm64`.
    """
    made: dict[str, tuple[int, bytes]] = {name: (_LINK, f"usr/{name}".encode()) for name in ("lib", "lib64")}
    for name, file in (*_files(_unpacked("programs", machine, _PACKAGES)), *_own_files()):
        made[name] = (_LINK, bytes(file.readlink())) if file.is_symlink() else (_PROGRAM, file.read_bytes())
    made["usr/bin/luoser"] = (_PROGRAM, _script("-c 'from luoser.cli.main import main; main()'"))
    return _with_folders(made)


def drgn() -> dict[str, tuple[int, bytes]]:
    """drgn and its libraries, and luoser as a plugin of it: further files for those of `programs("x86-64")`.

    It has the version of the one here. Raises NoKernel if its wheel cannot be had.
    """
    files = _files(_unpacked("libraries-of-drgn", "x86-64", _OF_DRGN))
    made = {name: (_PROGRAM, file.read_bytes()) for name, file in files}
    with zipfile.ZipFile(_wheel("drgn")) as wheel:
        made |= {f"site/{one.filename}": (_PROGRAM, wheel.read(one)) for one in wheel.infolist() if not one.is_dir()}
    for name, text in (("METADATA", _METADATA), ("entry_points.txt", _ENTRY_POINT)):
        made[f"site/luoser-0.dist-info/{name}"] = (_PROGRAM, text)
    made["usr/bin/drgn"] = (_PROGRAM, _script("-m drgn"))
    return _with_folders(made)


def _script(words: str) -> bytes:
    return (_SCRIPT % (_PYTHON, words)).encode()


def _with_folders(files: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    """Files, each with the folders it is in before it."""
    made: dict[str, tuple[int, bytes]] = {}
    for name, file in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            made.setdefault(str(parent), (_DIRECTORY, b""))
        made[name] = file
    return made


def _wheel(name: str) -> Path:
    """The wheel of a package for the guest's Python, in the version that is installed here."""
    wanted, place = version(name), CACHE / "wheels"
    pattern = f"{name}-{wanted}-cp{_PYTHON.replace('.', '')}-*.whl"
    if not any(place.glob(pattern)):
        words = ["download", "-q", "--only-binary=:all:", "--python-version", _PYTHON, "--no-deps", "-d", str(place)]
        command = [sys.executable, "-m", "pip", *words, f"{name}=={wanted}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoKernel(f"no wheel of {name} {wanted}: {done.stderr.strip()[-300:]}")
    return next(place.glob(pattern))


def _unpacked(name: str, machine: str, packages: Sequence[str]) -> Path:
    """A folder with packages, unpacked. name: of the folder."""
    place = CACHE / f"{name}-{machine}"
    if not place.exists():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        archive = Archive(_ARCHITECTURES[machine])
        for package in packages:
            archive.unpack(part, package)
        part.rename(place)
    return place


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """(name in the guest, file here) of unpacked packages."""
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if (file.is_symlink() or file.is_file()) and _WANTED.match(name):
            yield name, file


def _own_files() -> Iterator[tuple[str, Path]]:
    """(name in the guest, file here) of luoser and what it needs."""
    site = Path(sysconfig.get_paths()["purelib"])
    for package in _OURS:
        whole = [site / f"{package}.py"] if (site / f"{package}.py").exists() else (site / package).rglob("*.py")
        yield from ((f"site/{file.relative_to(site)}", file) for file in whole)
    own = Path(luoser.__file__).parent
    for file in own.rglob("*"):
        if file.suffix in (".py", ".json"):
            yield f"site/luoser/{file.relative_to(own)}", file
