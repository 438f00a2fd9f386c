# SPDX-License-Identifier: MIT
"""luoser in the guest: what it reads of the machine on which it runs, against a dump of that machine."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luoser
from luoser.state import to_document
from tests.e2e.guest import initramfs
from tests.e2e.judge import Compared
from tests.e2e.kernels import Kernel, host
from tests.e2e.machine import Machine

__all__ = ["inside"]

Json = dict[str, Any]
_SOURCES = {
    "live:": "live:",
    "/proc/kcore": "/proc/kcore",
    "/dev/mem": "/dev/mem",
    "debugfs": "/sys/kernel/debug/kho",
}
"""What is read in the guest, by name."""
_UNNEEDED = re.compile(r"/(site-packages|test|tests|config-|idlelib|tkinter|lib2to3|ensurepip|turtledemo|__pycache__)")
_PACKAGES = ("click", "construct", "hexdump")


def inside(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """luoser in the guest before a jump and after it. Nothing on a machine whose Python is not this one's."""
    if kernel.machine != host():
        return
    words = "inside=1 sessions=2 files=3 kho_scratch=32M,64M,16M reserve_mem=1M:4096:labmem"
    image = initramfs(kernel, kexecs=1, more=_python())
    with Machine(place, kernel, image, words, memory="3G") as machine:
        for moment in ("pre", "post"):
            said = machine.wait(f"AT {moment}\n")
            with luoser.open(machine.dump(moment)) as memory:
                wanted = _told(to_document(luoser.read(memory), full=True))
            for name in _SOURCES:
                yield Compared("in the guest", f"{name} at {moment}", _fault(said, name, wanted))
            machine.go()


def _fault(said: str, name: str, wanted: Json) -> str:
    """What differs of a source in the guest. Empty: nothing."""
    match = re.search(rf"^INSIDE {re.escape(name)} (\d+) (\S*)$", said, re.MULTILINE)
    if match is None:
        return "no output"
    if match[1] not in ("0", "4"):
        return f"exit code {match[1]}: {base64.b64decode(match[2])[-200:]!r}"
    found = _told(json.loads(base64.b64decode(match[2])))
    if name == "debugfs":  # files without addresses, the root's cut at what it had when its file was made
        names = [[{entry for entry, _ in root["subtrees"]} for root in one["roots"]] for one in (found, wanted)]
        is_same = bool(names[0]) and all(any(part and part <= whole for whole in names[1]) for part in names[0])
        return "" if is_same else f"expected {names[1]}, found {names[0]}"
    return "" if found == wanted else f"expected {str(wanted)[:200]}, found {str(found)[:200]}"


def _told(document: Json) -> Json:
    """What does not change while the guest stands still: roots, sub-trees, sessions and files."""
    return {
        "roots": [
            {
                "address": root["address"],
                "compatible": root["compatible"],
                "subtrees": sorted((entry["name"], entry["address"]) for entry in root["subtrees"]),
                "sessions": [
                    (session["name"], [file["token"] for file in session["files"]])
                    for session in (root["luo"] or {"sessions": []})["sessions"]
                    if root["direction"] == "outgoing"  # else their memory is freed while luoser reads
                ],
            }
            for root in sorted(document["handovers"], key=lambda root: str(root["address"]))
        ]
    }


def _python() -> dict[str, tuple[int, bytes]]:
    """Python with its libraries, luoser and what it needs, by name in the root file system."""
    program, standard = Path(sys.executable).resolve(), Path(sysconfig.get_paths()["stdlib"])
    own = [file for file in standard.rglob("*") if file.is_file()]
    own = [file for file in own if not _UNNEEDED.search(str(file.relative_to(standard.parent)))]
    linked = [str(program), *(str(file) for file in own if file.suffix == ".so")]
    libraries = subprocess.run(["ldd", *linked], check=False, capture_output=True, text=True).stdout
    files = {"bin/python3": program} | {str(file).lstrip("/"): file for file in own}
    files |= {library.lstrip("/"): Path(library) for library in re.findall(r"(/\S+) \(0x", libraries)}
    site = Path(sysconfig.get_paths()["purelib"])
    for package in _PACKAGES:
        whole = [site / f"{package}.py"] if (site / f"{package}.py").exists() else (site / package).rglob("*.py")
        files |= {f"site/{file.relative_to(site)}": file for file in whole}
    root = Path(luoser.__file__).parent
    files |= {
        f"site/luoser/{file.relative_to(root)}": file for file in root.rglob("*") if file.suffix in (".py", ".json")
    }
    made: dict[str, tuple[int, bytes]] = {}
    for name, file in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            made.setdefault(str(parent), (0o040755, b""))
        made[name] = (0o100755, file.read_bytes())
    made["bin/luoser"] = (0o100755, _SCRIPT.format(home=sys.base_prefix).encode())
    return made


_SCRIPT = """#!/bin/sh
export PYTHONHOME={home} PYTHONPATH=/site LD_LIBRARY_PATH={home}/lib
exec /bin/python3 -c 'from luoser.cli.main import main; main()' "$@"
"""
