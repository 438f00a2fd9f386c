# SPDX-License-Identifier: MIT
"""`python -m tests.zipapp TARGET` makes luoser, and the packages that it needs, one file that any Python runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipapp
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
_KEPT_OUT = ("bin", "share")
"""What pip installs beside the packages."""


def main() -> None:
    """Write the file. Compiled modules are left out: of what is needed all have a fallback in Python."""
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*install, "--target", folder, f"{ROOT}[report]"], check=True)
        for name in _KEPT_OUT:
            shutil.rmtree(Path(folder, name), ignore_errors=True)
        for compiled in Path(folder).rglob("*.so"):
            compiled.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(
            folder, target, interpreter="/usr/bin/env python3", main="luoser.__main__:main", compressed=True
        )
    print(f"{target}: {target.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
