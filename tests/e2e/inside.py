# SPDX-License-Identifier: MIT
"""luoser in the guest: what it reads of the machine on which it runs, and of one that crashed, against dumps."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import luoser
from luoser.state import to_document
from tests.e2e.guest import initramfs
from tests.e2e.judge import Compared
from tests.e2e.kernels import Kernel
from tests.e2e.machine import Machine
from tests.e2e.programs import programs

__all__ = ["crashed", "inside"]

Json = dict[str, Any]
_SOURCES = {
    "live:": "live:",
    "/proc/kcore": "/proc/kcore",
    "/dev/mem": "/dev/mem",
    "debugfs": "/sys/kernel/debug/kho",
}
"""What is read in the guest, by name."""
_SIZES = {"4K": ("3G", "32M,64M,16M"), "16K": ("3G", "64M,64M,32M"), "64K": ("5G", "512M,512M,512M")}
"""(memory, scratch areas) by size of a page."""


def inside(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """luoser in the guest before a jump and after it."""
    memory, scratch = _SIZES[kernel.pages]
    words = f"inside=1 sessions=2 files=3 kho_scratch={scratch} reserve_mem=1M:4096:labmem"
    image = initramfs(kernel, kexecs=1, more=programs(kernel.machine))
    with Machine(place, kernel, image, words, memory=memory) as machine:
        for moment in ("pre", "post"):
            said = machine.wait(f"AT {moment}\n")
            with luoser.open(machine.dump(moment)) as dump:
                wanted = _told(to_document(luoser.read(dump), full=True))
            for name in _SOURCES:
                told = wanted if name != "/dev/mem" or kernel.machine == "x86-64" else _without_data(wanted)
                yield Compared("in the guest", f"{name} at {moment}", _fault(said, name, told))
            machine.go()


def _without_data(told: Json) -> Json:
    """What is left without the kernel's own variables. Kernels of arm64 have no direct map of them (7.3), which
    /dev/mem reads.
    """
    return {"roots": [root | {"pending": []} for root in told["roots"]]}


def crashed(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """luoser in a crash kernel: on /proc/vmcore, and on what makedumpfile leaves of it, of a crash before a jump."""
    _, scratch = _SIZES[kernel.pages]
    memory, reserved = {"4K": ("1280M", "384M"), "16K": ("1536M", "448M"), "64K": ("8G", "3G")}[kernel.pages]
    words = (
        f"crash=1 sessions=2 files=3 crashkernel={reserved} kho_scratch={scratch} reserve_mem=1M:4096:labmem panic=1"
    )
    image = initramfs(kernel, kexecs=1, more=programs(kernel.machine))
    with Machine(place, kernel, image, words, memory=memory) as machine:
        machine.wait("AT pre\n")
        path = machine.dump("pre")
        machine.go()
        said = machine.wait("AT crash\n", seconds=3600)
    with luoser.open(path) as dump:
        wanted = _told(to_document(luoser.read(dump), full=True))
    yield Compared("crash", "/proc/vmcore", _fault(said, "/proc/vmcore", wanted))
    yield Compared("crash", "check of /proc/vmcore", _verdict(said, "/proc/vmcore"))
    yield Compared("crash", "check of makedumpfile -d 31", _verdict(said, "/tmp/kdump", is_cut=True))


def _verdict(said: str, name: str, *, is_cut: bool = False) -> str:
    """What is wrong with a verdict in the guest. Empty: it is sound.

    is_cut: pages were left out: it may be inconclusive if it names one. makedumpfile 1.7.8 leaves out pages of zeros,
    and slabs of kernels of the day, such as those of the inodes of memfds.
    """
    match = re.search(rf"^CHECK {re.escape(name)} (\d+) (\S*)$", said, re.MULTILINE)
    if match is None:
        return "no output"
    text = base64.b64decode(match[2])
    if match[1] not in ("0", "1", "4"):
        return f"exit code {match[1]}: {text[-200:]!r}"
    report = json.loads(text)
    words = [f"{one['rule']} {one['message']}" for one in report["findings"] if one["severity"] != "info"]
    reasons = [f"{one['rule']} {one['reason']}" for one in report["not_judged"]]
    if is_cut and not words and re.search(r"page 0x[0-9a-f]+ is excluded", "".join(reasons)):
        return ""
    return "" if match[1] == "0" else "; ".join(words + reasons)[:600]


def _fault(said: str, name: str, wanted: Json) -> str:
    """What differs of a source in the guest. Empty: nothing."""
    match = re.search(rf"^INSIDE {re.escape(name)} (\d+) (\S*)$", said, re.MULTILINE)
    if match is None:
        return "no output"
    if not wanted["roots"]:
        return "no root in the dump to compare with"
    if match[1] not in ("0", "4"):
        return f"exit code {match[1]}: {base64.b64decode(match[2])[-200:]!r}"
    found = _told(json.loads(base64.b64decode(match[2])))
    if name == "debugfs":  # files without addresses, the root's cut at what it had when its file was made
        names = [[{entry for entry, _ in root["subtrees"]} for root in one["roots"]] for one in (found, wanted)]
        is_same = bool(names[0]) and all(any(part and part <= whole for whole in names[1]) for part in names[0])
        return "" if is_same else f"expected {names[1]}, found {names[0]}"
    pairs = zip_longest(wanted["roots"], found["roots"], fillvalue={})
    differ = [(key, one.get(key), other.get(key)) for one, other in pairs for key in one | other]
    words = [f"{key}: expected {one}, found {other}" for key, one, other in differ if one != other]
    return "; ".join(words)[:600]


def _named(luo: Json | None) -> list[tuple[str, list[str]]]:
    """Names of sessions with the tokens of their files."""
    return [(one["name"], [file["token"] for file in one["files"]]) for one in (luo or {"sessions": []})["sessions"]]


def _told(document: Json) -> Json:
    """What does not change while the guest stands still: roots, sub-trees, sessions and files.

    Not the sessions of an incoming root: their memory is freed while luoser reads.
    """
    return {
        "roots": [
            {
                "address": root["address"],
                "compatible": root["compatible"],
                "subtrees": sorted((entry["name"], entry["address"]) for entry in root["subtrees"]),
                "sessions": _named(root["luo"] if root["direction"] == "outgoing" else None),
                "pending": _named(root["pending"] if root["direction"] == "outgoing" else None),
            }
            for root in sorted(document["handovers"], key=lambda root: str(root["address"]))
        ]
    }
