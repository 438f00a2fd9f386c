# SPDX-License-Identifier: MIT
"""Rules on the pages with sessions, FLBs and files: KHO blocks, or areas in older forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from luoser.checks.model import Found, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import Problem

__all__ = ["BROKEN", "FROZEN_OUT", "PANIC", "UNREAD", "need_chains"]


UNREAD = ("missing", "excluded", "page-damaged", "too-many", "shared-page")
"""Codes of problems: something is not in the source, or was not read."""
BROKEN = ("bad-pointer", "loop")
PANIC = "the next kernel's LUO refuses it, and the kernel panics, as preserved memory would leak"
FROZEN_OUT = "the first open of /dev/liveupdate and all later ones return -EIO, so no session can be retrieved"
_CHAIN = re.compile(r"luo\.(sessions|flbs|sessions\[\d+\]\.files)")
"""Paths of the chain of sessions, the FLB page, and the chain of files of each session."""


def _chain_problems(view: View, codes: Iterable[str]) -> list[Problem]:
    """Problems of a chain itself, not of what its entries point to."""
    return [problem for problem in view.problems(*codes) if _CHAIN.fullmatch(problem.about)]


def need_chains(view: View, codes: Iterable[str]) -> None:
    """Raise NotJudged if the reader met a problem in any chain.

    view:  the handover.
    codes: of the problems.
    """
    for problem in _chain_problems(view, codes):
        raise NotJudged(f"not all of it can be read: {problem.message}", cause=cause_of(problem), about=problem.about)


def _faults(view: View, codes: Iterable[str]) -> Iterator[Found]:
    """A finding for each problem of some codes. Raises NotJudged at the end if pages could not be read."""
    view.need_unconsumed()
    view.luo()
    for problem in _chain_problems(view, codes):
        hint = FROZEN_OUT if problem.about.endswith(".files") else PANIC
        yield Found(problem.message, address=problem.address, where=problem.about, hint=hint)
    need_chains(view, UNREAD)


@register(
    "LUO008",
    "block-chain-broken",
    Severity.ERROR,
    kernels="6.19 and later",
    source="block.md#what-the-next-kernel-verifies; luo.md#errors",
)
def luo_chain(view: View) -> Iterator[Found]:
    """The pages with sessions, FLBs or files of a session form a loop, or have an address that is not that of a page.

    Blocks are checked as a set before they are read. In the session chain this makes LUO refuse and the kernel panic;
    in a file chain it makes the first open of /dev/liveupdate and all later ones fail.
    """
    yield from _faults(view, BROKEN)


@register(
    "LUO009",
    "block-count-illegal",
    Severity.ERROR,
    kernels="6.19 and later",
    source="block.md#what-the-next-kernel-verifies; luo.md#flbs; luo.md#the-session-area",
)
def luo_block_count(view: View) -> Iterator[Found]:
    """The count of a block or area of sessions, files or FLBs is larger than what fits (FLBs: one page), that of an
    area smaller than its entries, or that of a block 0.

    The kernel refuses a large count with -EINVAL: a panic for sessions and FLBs, an unusable /dev/liveupdate for files.
    With a small one it does not find the last entries: what they hand over is lost.
    7.2 and 7.3 make a block with count 0 themselves: if all blocks of sessions are full (51 each), and another session
    is requested under a name that is in use.
    """
    yield from _faults(view, ["bad-count", "left-over"])
