# SPDX-License-Identifier: MIT
"""Copies of /proc, /sys and /dev of a machine in live update, made from what real kernels said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import real

__all__ = ["boot_of", "debugfs", "parameters", "write"]


def write(base: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, data in files.items():
        place = base / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
    return base


def boot_of(name: str) -> dict[str, Any]:
    """boot_of("7.3-a/1"): what the kernel of the second boot said of itself."""
    case, number = name.split("/")
    return real.truth(case)[int(number)]


def debugfs(base: Path, name: str, *, only: str = "") -> Path:
    """/sys/kernel/debug/kho as a kernel showed it; files with numbers as text."""
    for file, said in boot_of(name)["debugfs"].items():
        if file.startswith(only):
            write(base, {file: said if "scratch" in file else bytes.fromhex(said)})
    return base


def parameters(base: Path, name: str) -> Path:
    """/sys/kernel/boot_params/setup_data of a boot."""
    for number, node in enumerate(boot_of(name).get("setup_data", ())):
        folder = f"sys/kernel/boot_params/setup_data/{number}"
        write(base, {f"{folder}/type": f"{node['type']:#x}\n", f"{folder}/data": bytes.fromhex(node["data"])})
    return base
