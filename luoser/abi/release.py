# SPDX-License-Identifier: MIT
"""What each kernel release writes: its forms of KHO, LUO and memfds, from the ABI's release matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from luoser.abi.preserved import SMALL_BITMAP
from luoser.errors import UsageError
from luoser.text import safe_text

__all__ = [
    "LAST",
    "RELEASES",
    "SUBTREES",
    "TEST_FLBS",
    "Release",
    "claimed_subtrees",
    "handlers_of",
    "known_release",
    "release",
    "writers_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one kernel release writes. luo: None without the orchestrator. bitmap_size: bytes, None for a page.

    is_repacked: the root is packed again after each new sub-tree. has_vmalloc: the self-test's folios are in a
    vmalloc area.
    """

    kho: str
    luo: str | None
    memfd: str = "memfd-v2"
    bitmap_size: int | None = None
    metadata: bool = False
    is_repacked: bool = True
    has_vmalloc: bool = True


_OLD = Release(kho="kho-v1", luo=None, bitmap_size=SMALL_BITMAP, is_repacked=False, has_vmalloc=False)
RELEASES = {
    "6.16": _OLD,
    "6.17": _OLD,
    "6.18": Release(kho="kho-v1", luo=None, is_repacked=False),
    "6.19": Release(kho="kho-v1", luo="luo-v1", memfd="memfd-v1"),
    "7.0": Release(kho="kho-v1", luo="luo-v1-flb", memfd="memfd-v1"),
    "7.1": Release(kho="kho-v3", luo="luo-v1-flb", metadata=True),
    "7.2": Release(kho="kho-v4", luo="luo-v5", metadata=True),
    "7.3": Release(kho="kho-v4", luo="luo-v5", metadata=True),
}
LAST = tuple(map(int, next(reversed(RELEASES)).split(".")))
"""The last release of which it is known what it writes and accepts, as numbers."""

_NAME = re.compile(r"(\d+\.\d+)(?:\.(\d+))?(?!\d)")


def release(kernel: str) -> Release:
    """The forms of a kernel by its version, such as 7.3 or 6.17.9. Raises UsageError for one that is not known."""
    match = _NAME.match(kernel)
    found = RELEASES.get(match[1]) if match is not None else None
    if match is None or found is None:
        raise UsageError(f"kernel {safe_text(kernel)}: expected one of {', '.join(RELEASES)}")
    if match[1] == "6.17" and int(match[2] or 0) >= 9:
        return replace(found, bitmap_size=None)
    return found


SUBTREES = {"memblock": "6.16", "kho_test": "6.17", "LUO": "6.19", "kexec-metadata": "7.1"}
"""Sub-trees that merged code claims, by the first release that does."""
TEST_FLBS = "liveupdate-test-flb-v"
"""How the names of the kernel's own test FLBs begin."""


def claimed_subtrees(numbers: tuple[int, ...]) -> frozenset[str]:
    """Sub-trees that a release such as (7, 3, 4) claims."""
    return frozenset(name for name, first in SUBTREES.items() if tuple(map(int, first.split("."))) <= numbers[:2])


def known_release(numbers: tuple[int, ...]) -> Release | None:
    """What the release of a version such as (7, 3, 4) writes and accepts; None where KHO or our knowledge ends."""
    found = RELEASES.get(".".join(map(str, numbers[:2])))
    return release(".".join(map(str, numbers))) if found is not None else None


def writers_of(form: str) -> tuple[str, ...]:
    """The releases that write a form of KHO, LUO or memfd, oldest first; none for forms that were only posted."""
    return tuple(name for name, found in RELEASES.items() if form in (found.kho, found.luo, found.luo and found.memfd))


def handlers_of(kho: str) -> frozenset[str]:
    """The memfd handlers of the releases that write a version of the root and have LUO."""
    return frozenset(found.memfd for found in RELEASES.values() if found.kho == kho and found.luo is not None)
