# SPDX-License-Identifier: MIT
"""Debian's Python with luoser, and makedumpfile, as files of a guest's root file system."""

from __future__ import annotations

import re
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import luoser
from tests.e2e.kernels import CACHE, Archive

__all__ = ["programs"]

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
_OURS = ("click", "construct", "hexdump")
_DIRECTORY, _LINK, _PROGRAM = 0o040755, 0o120777, 0o100755
_SCRIPT = f"""#!/bin/sh
export PYTHONPATH=/site PYTHONPYCACHEPREFIX=/tmp/cache
exec /usr/bin/python{_PYTHON} -c 'from luoser.cli.main import main; main()' "$@"
"""


def programs(machine: str) -> dict[str, tuple[int, bytes]]:
    """(mode, bytes) of each file by its name; a folder comes before what is in it.

    machine: `x86-64` or `arm64`.
    """
    made: dict[str, tuple[int, bytes]] = {name: (_LINK, f"usr/{name}".encode()) for name in ("lib", "lib64")}
    for name, file in _files(_unpacked(machine)):
        for parent in reversed(Path(name).parents[:-1]):
            made.setdefault(str(parent), (_DIRECTORY, b""))
        made[name] = (_LINK, bytes(file.readlink())) if file.is_symlink() else (_PROGRAM, file.read_bytes())
    made["usr/bin/luoser"] = (_PROGRAM, _SCRIPT.encode())
    return made


def _unpacked(machine: str) -> Path:
    """A folder with the unpacked packages."""
    place = CACHE / f"programs-{machine}"
    if not place.exists():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        archive = Archive(_ARCHITECTURES[machine])
        for package in _PACKAGES:
            archive.unpack(part, package)
        part.rename(place)
    return place


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """(name in the guest, file here)."""
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if (file.is_symlink() or file.is_file()) and _WANTED.match(name):
            yield name, file
    site = Path(sysconfig.get_paths()["purelib"])
    for package in _OURS:
        whole = [site / f"{package}.py"] if (site / f"{package}.py").exists() else (site / package).rglob("*.py")
        yield from ((f"site/{file.relative_to(site)}", file) for file in whole)
    own = Path(luoser.__file__).parent
    for file in own.rglob("*"):
        if file.suffix in (".py", ".json"):
            yield f"site/luoser/{file.relative_to(own)}", file
