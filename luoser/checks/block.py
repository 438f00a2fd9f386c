# SPDX-License-Identifier: MIT
"""Rules on the pages that hold sessions, FLBs and files: KHO blocks, or the areas before them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from luoser.checks.model import Found, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import Problem

__all__ = ["BROKEN", "FROZEN_OUT", "PANIC", "UNREAD", "need_chains"]


UNREAD = ("missing", "excluded", "page-damaged", "too-many", "shared-page")
"""Codes of problems that say that something is not in the source, or was not read."""
BROKEN = ("bad-pointer", "loop")
PANIC = "the next kernel's LUO refuses it, and the kernel panics rather than leak what was preserved"
FROZEN_OUT = "the first open of /dev/liveupdate and all later ones return -EIO, so no session can be retrieved"
_CHAIN = re.compile(r"luo\.(sessions|flbs|sessions\[\d+\]\.files)")
"""Paths of the session chain, the FLB page, and each session's file chain."""


def _chain_problems(view: View, codes: Iterable[str]) -> list[Problem]:
    """What the reader met in a chain as such, not in what its entries name."""
    return [problem for problem in view.problems(*codes) if _CHAIN.fullmatch(problem.about)]


def need_chains(view: View, codes: Iterable[str]) -> None:
    """Raises NotJudged when the reader met a problem of these codes in any chain."""
    for problem in _chain_problems(view, codes):
        raise NotJudged(f"not all of it can be read: {problem.message}", cause=cause_of(problem), about=problem.about)


def _faults(view: View, codes: Iterable[str]) -> Iterator[Found]:
    """A finding for each problem of these kinds; NotJudged if pages are not there."""
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
    """The pages that hold sessions, FLBs or a session's files loop, or lead to what is no page.

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
    """A block or area of sessions, files or FLBs counts more entries than fit, or a block none; FLBs fill one page.

    The kernel refuses such a count with -EINVAL: a panic for sessions and FLBs, an unusable /dev/liveupdate for files.
    7.2 and 7.3 make a block with none themselves: when all blocks of sessions are full (51 fill one), and one more is
    asked for under a name that is taken.
    """
    yield from _faults(view, ["bad-count"])
