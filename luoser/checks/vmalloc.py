# SPDX-License-Identifier: MIT
"""Rules on the vmalloc areas of folio arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from luoser.abi.vmalloc import KNOWN_FLAGS, VM_ALLOC
from luoser.checks.block import BROKEN, UNREAD
from luoser.checks.memfd import LOST, each, memfds
from luoser.checks.model import Found, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import Memfd, Problem

__all__ = ["broken_areas"]


@register("MFD003", "vmalloc-chain-broken", Severity.ERROR, kernels="6.19 and later", source="vmalloc.md#invariants")
def memfd_array(view: View) -> Iterator[Found]:
    """The chunks of a folio array form a loop, have an address that is not that of a page, or have too few blocks.

    The array cannot be restored: retrieving the file fails and its memory is lost.
    """
    handles = {f"{where}.memfd.folios": file.data for where, _, file in memfds(view)}
    for array, problems in broken_areas(view, handles):
        problem = problems[0]
        yield Found(problem.message, address=problem.address or handles[array], where=array, hint=LOST)


def broken_areas(view: View, paths: Iterable[str]) -> Iterator[tuple[str, list[Problem]]]:
    """(path, what the reader met) of each area that is broken. Raises NotJudged at the end for one that was not read.

    view:  the handover.
    paths: of the areas to look at.
    """
    found, unread = view.subjects("short-list", *BROKEN), view.subjects(*UNREAD)
    skipped: Problem | None = None
    for path in paths:
        if path in unread:
            skipped = skipped or unread[path][0]
        elif path in found:
            yield path, found[path]
    if skipped is not None:
        raise NotJudged(skipped.message, cause=cause_of(skipped), about=skipped.about)


@register("MFD004", "vmalloc-shape", Severity.ERROR, kernels="6.19 and later", source="vmalloc.md#restore")
def memfd_array_shape(view: View) -> Iterator[Found]:
    """A folio array's kho_vmalloc has no flag 1, has others than 1 and 2, or a number of pages that its order does not
    divide.

    No kernel writes others, so the descriptor was changed later. A kernel drops flags that it does not know, and
    refuses a wrong number of pages: the file is lost.
    """

    def judge(memfd: Memfd) -> str | None:
        folios = memfd.folios
        if folios.flags & ~KNOWN_FLAGS or (folios.address and not folios.flags & VM_ALLOC):
            return f"vmalloc flags of the folio array: expected 1, or 1 and 2, found {folios.flags:#x}"
        if folios.order and folios.total_pages & ((1 << min(folios.order, 32)) - 1):
            return (
                f"folio array of {folios.total_pages} pages: expected a multiple of its blocks, 2^{folios.order} pages"
            )
        return None

    yield from each(view, judge, LOST, folios=False)
