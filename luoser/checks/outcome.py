# SPDX-License-Identifier: MIT
"""What kernels did when they booted an image with the mutation of a rule, as tests/e2e/mutations.py recorded it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Outcome", "outcomes"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one kernel did.

    kernel:  its release. machine: `x86-64` or `arm64`.
    effect:  in words, worst first. None: as with a sound image.
    silence: what no effect means, in words.
    """

    kernel: str
    machine: str
    effect: str | None
    silence: str = "no effect in one boot, nor in one with most of the free memory written to before"

    @property
    def words(self) -> str:
        """In a line."""
        found = self.effect or self.silence
        return f"{self.kernel} on {self.machine}: {found}"


def outcomes(rule: str) -> tuple[Outcome, ...]:
    """The outcomes of a rule's mutation, by machine. Empty: it was not booted. rule: id."""
    found = _recorded()["rules"].get(rule, {})
    more = {"silence": _UNREAD} if rule.startswith("PCI") else {}
    return tuple(
        Outcome(kernel=boots["kernel"], machine=machine, effect=_effect(boots), **more)
        for machine, boots in found.items()
    )


_UNREAD = "not shown: no released kernel looks into a list of devices"


@cache
def _recorded() -> Json:
    found: Json = json.loads((files("luoser.checks") / "outcomes.json").read_text())
    return found


def _effect(boots: Json) -> str | None:
    """The effect of the first boot that shows one."""
    for name in ("boot", "filled"):
        parts = list(_parts(boots.get(name, {})))
        if parts:
            return "; ".join(([] if name == "boot" else ["after all free memory was written to"]) + parts)
    return None


def _parts(boot: Json) -> list[str]:
    """The parts of an effect: a crash, what the kernel logs, what user space gets, files."""
    new, lost, files_of = boot.get("new", []), boot.get("lost", []), boot.get("files", {})
    panic = next((line for line in new if line.startswith("Kernel panic")), "")
    crash = next((line for line in new if line.startswith(("RIP: 0010:", "pc : "))), "")
    is_early = boot.get("ended") == "panic" and not panic  # before there is an Oops
    kind = "early exception" if is_early else "Oops"
    oops = f"{kind} in {re.split(r'[:+ ]+', crash)[-1]}" if crash else kind
    parts = []
    if boot.get("ended") == "panic":
        parts.append(f"{oops}, panic" if crash else f"panic: {panic.partition(': ')[2]}" if panic else "panic")
    elif boot.get("ended") == "oops":
        parts.append(oops)
    elif boot.get("ended") == "silent":
        parts.append("hangs")
    warned = dict.fromkeys(re.findall(r"WARNING: \S+ at (\w+)", "\n".join(new)))
    if warned:
        parts.append(f"WARNING in {', '.join(warned)}")
    logged = [line for line in new if not re.match(r"WARNING|RIP|pc :|Kernel panic|Oops|BUG|Unable|Internal", line)]
    parts += [f'logs "{line}"' for line in logged[:2]]
    parts += [f'no longer logs "{line}"' for line in lost[:1] if not logged and "WARNING" not in line]
    parts += [f"user space: {line}" for line in boot.get("said", [])[:2]]
    gone = sum(word == "not retrieved" for word in files_of.values())
    if gone and boot.get("ended") == "done":
        parts.append(f"{gone} file{'s' if gone > 1 else ''} not retrieved")
    others = sorted({word for word in files_of.values() if word != "not retrieved"})
    return parts + [f"a file has {word}" for word in others]
