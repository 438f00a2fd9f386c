# SPDX-License-Identifier: MIT
"""The forms of KHO, LUO and memfd that each kernel release writes.

Source: the release matrix of docs/abi/README.md.
"""

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
    "is_release",
    "kept_subtrees",
    "known_release",
    "release",
    "release_numbers",
    "writers_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one kernel release writes.

    kho:         version of the root.
    luo:         form of LUO. None: the release has no LUO.
    memfd:       handler of memfds, which is also the name of their form.
    bitmap_size: bytes of a kho-v1 bitmap. None: a page.
    metadata:    whether there is a sub-tree kexec-metadata.
    is_repacked: whether the root is packed again after each new sub-tree.
    has_vmalloc: whether the folio list of the KHO self-test is in a vmalloc area.
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
"""The last known release, as numbers."""

_NUMBERS = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?!\d)(?:\.(\d{1,9})(?!\d))?", re.ASCII)
"""Python makes no numbers of thousands of digits, and no release has them."""
_FULL = re.compile(r"\d+\.\d+\.\d+(?!.*[-.~]$)")
_NAME = re.compile(r"(\d+\.\d+)(?:\.(\d{1,9}))?(?!\d)", re.ASCII)


def release_numbers(kernel: str) -> tuple[int, int, int] | None:
    """(7, 3, 4) of a release such as 7.3.4-lab or v7.3.4; the third is 0 if there is none. None: not a release."""
    match = _NUMBERS.match(kernel)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match is not None else None


def is_release(kernel: str) -> bool:
    """Whether a text can be the release of a running kernel: printable ASCII that begins with three numbers."""
    return kernel.isascii() and kernel.isprintable() and _FULL.match(kernel) is not None


def release(kernel: str) -> Release:
    """What a kernel writes, by its version such as 7.3 or 6.17.9. Raises UsageError for an unknown release."""
    if not isinstance(kernel, str):  # 7.3 without its quotes
        raise UsageError(f"kernel: expected a text such as '7.3', found {kernel!r}")
    match = _NAME.match(kernel)
    found = RELEASES.get(match[1]) if match is not None else None
    if match is None or found is None:
        raise UsageError(f"unknown kernel {safe_text(kernel)}: expected one of {', '.join(RELEASES)}")
    if match[1] == "6.17" and int(match[2] or 0) >= 9:
        return replace(found, bitmap_size=None)
    return found


SUBTREES = {"memblock": "6.16", "kho_test": "6.17", "LUO": "6.19", "kexec-metadata": "7.1"}
"""First release that claims a sub-tree, by name of the sub-tree."""
TEST_FLBS = "liveupdate-test-flb-v"
"""Prefix of the names of the kernel's own test FLBs."""


def claimed_subtrees(numbers: tuple[int, ...]) -> frozenset[str]:
    """Names of the sub-trees that a release such as (7, 3, 4) claims."""
    return frozenset(name for name, first in SUBTREES.items() if tuple(map(int, first.split("."))) <= numbers[:2])


_FREES_LUO = (7, 2)
"""First release that frees LUO's page after it has read it."""


def kept_subtrees(kho: str) -> frozenset[str]:
    """Names of the sub-trees whose pages the next kernel reads and keeps, by version of the root."""
    writers = [tuple(map(int, name.split("."))) for name in writers_of(kho)]
    kept = {"memblock", "kexec-metadata"}
    return frozenset(kept | {"LUO"} if writers and max(writers) < _FREES_LUO else kept)


def known_release(numbers: tuple[int, ...]) -> Release | None:
    """What a version such as (7, 3, 4) writes and accepts. None: a release without KHO, or an unknown one."""
    found = RELEASES.get(".".join(map(str, numbers[:2])))
    return release(".".join(map(str, numbers))) if found is not None else None


def writers_of(form: str) -> tuple[str, ...]:
    """Names of the releases that write a form of KHO, LUO or memfd, oldest first. Empty: the form is in no release."""
    return tuple(name for name, found in RELEASES.items() if form in (found.kho, found.luo, found.luo and found.memfd))


def handlers_of(kho: str) -> frozenset[str]:
    """The memfd handlers of the releases with LUO that write this version of the root."""
    return frozenset(found.memfd for found in RELEASES.values() if found.kho == kho and found.luo is not None)
