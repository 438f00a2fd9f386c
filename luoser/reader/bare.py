# SPDX-License-Identifier: MIT
"""A bare device list as a state, so that rules can be applied to it."""

from __future__ import annotations

from dataclasses import replace

from luoser.abi.pci import layout as pci_layout
from luoser.errors import PageState, UsageError
from luoser.memory.source import Segment, SegmentedMemory
from luoser.reader.pci import Lead, read_lists
from luoser.reader.walk import Walk
from luoser.state import Direction, Handover, MapStatus, Preserved, Source, State

__all__ = ["read_bare"]

_PLACE = 1 << 51
"""Address of the list while it is read. In the state it is 0: addresses of findings are offsets in the blob."""


def read_bare(data: bytes, layout: str | None, *, path: str, page_size: int = 4096) -> State:
    """A state whose only handover has a device list at an unknown address, and nothing else.

    data:      the list, with or without the rest of its folio.
    layout:    of the list. None: the one that fits.
    path:      of its file.
    page_size: in bytes.

    Raises UsageError for a layout that is not one of a device list, or whose records are in KHO blocks, and if no
    layout fits or the list has no whole head.
    """
    form = pci_layout(layout) if layout is not None else None
    if layout is not None and (form is None or not form.is_whole):
        what = "not a device list" if form is None else "a list whose devices are in KHO blocks"
        raise UsageError(f"{layout} is {what}; check the dump that the blob is from")
    memory = SegmentedMemory(path, data, [Segment(_PLACE, len(data), 0, len(data), PageState.ABSENT)])
    memory.format = "blob"
    walk = Walk(memory, page_size, layouts=(layout,) if layout is not None else ())
    size = len(data) if len(data) % page_size else None  # a whole page: a list and the rest of its folio
    lists = read_lists(walk, [Lead(via="bare blob", address=_PLACE, path="pci", size=size, certain=True)], None)
    problems = [replace(one, address=None) for one in walk.problems if one.code != "missing"]  # what is after the blob
    if not lists:
        why = "; ".join(problem.message for problem in problems)
        raise UsageError(f"expected a device list; {why}")
    handover = Handover(
        address=None,
        compatible="bare blob",
        direction=Direction.OUTGOING,
        evidence=("only a device list was given, assumed to be as it is before the kexec",),
        scratch=None,
        preserved=Preserved(form="radix", address=0, status=MapStatus.ABSENT),
        subtrees=(),
        pci=tuple(replace(entry, address=0) for entry in lists),
    )
    source = Source(path=path, format="blob", page_size=page_size)
    return State(source=source, handovers=(handover,), problems=tuple(problems))
