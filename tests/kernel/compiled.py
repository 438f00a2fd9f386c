# SPDX-License-Identifier: MIT
"""Types made by the real tools: gcc writes DWARF, pahole makes BTF of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["FILE", "FILE_SER", "btf", "dwarf"]

FILE_SER = "struct luo_file_ser {\n\tchar compatible[48];\n\tu64 data;\n\tu64 token;\n} __attribute__((packed));\n"
FILE = f"""typedef unsigned long long u64;
typedef unsigned int u32;
{FILE_SER}
struct luo_file_ser file;
"""


def dwarf(folder: Path, text: str, *options: str, name: str = "kernel/liveupdate/luo_file.c") -> Path:
    """An object with DWARF. name: of the source file, as the compiler is given it."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source = folder / name
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    subprocess.run(["gcc", "-g", *options, "-c", name, "-o", "made.o"], check=True, cwd=folder)
    return folder / "made.o"


def btf(folder: Path, text: str) -> Path:
    """The same with BTF."""
    if shutil.which("pahole") is None:
        pytest.skip("pahole is not installed")
    made = dwarf(folder, text)
    subprocess.run(["pahole", "-J", made], check=True)
    return made
