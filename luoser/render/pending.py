# SPDX-License-Identifier: MIT
"""What the running kernel's own objects say, as a branch of the tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from luoser.abi.luo import is_test_flb
from luoser.render.out import Part, Tree
from luoser.render.runs import ranges_text
from luoser.state import Direction, Handover, Pending, PendingFile
from luoser.text import counted, human_size, safe_text

__all__ = ["draw_pending"]

_FEWEST = 3
"""Like files that are one line."""
_DEVICES = 8


def draw_pending(root: Tree, handover: Handover, *, folded: bool) -> None:
    """Add the branch, if there is something.

    root:     of the handover.
    handover: any.
    folded:   show like files of a session as one line.
    """
    pending = handover.pending
    if pending is None:
        return
    is_to_come = handover.direction is Direction.OUTGOING
    what = "to be handed over" if is_to_come else "handed over, not finished"
    least = "" if pending.complete else "at least "
    files = sum(len(session.files) for session in pending.sessions)
    count = f"{least}{counted(len(pending.sessions), 'session')}, {least}{counted(files, 'file')}"
    branch = root.add(("pending", "name"), f"  {what}: {count}")
    for word in pending.evidence:
        branch.add((f"evidence: {safe_text(word, again=True)}", "quiet"))
    for session in pending.sessions:
        name = (safe_text(session.name) or "(no name)", "name")
        taken = "  retrieved" if session.retrieved else ""
        where = (f"{session.address:#x}", "address")
        leaf = branch.add("session ", name, "  ", where, f"  {counted(len(session.files), 'file')}{taken}")
        for run in _runs(session.files) if folded else [(file,) for file in session.files]:
            leaf.add(*_files(run))
    _globals(branch, pending)


def _runs(files: Sequence[PendingFile]) -> Iterator[tuple[PendingFile, ...]]:
    """Files in a row that are alike but for token and address, together; others alone."""
    for _, group in groupby(files, lambda file: (file.compatible, file.size, file.position)):
        run = tuple(group)
        yield from [run] if len(run) >= _FEWEST else [(file,) for file in run]


def _files(run: Sequence[PendingFile]) -> tuple[Part, ...]:
    first = run[0]
    position = f", position {first.position:#x}" if first.position else ""
    size = f"  {human_size(first.size)}{position}" if first.size is not None else ""
    handler = (safe_text(first.compatible), "name")
    if len(run) > 1:
        each = f"{size} each" if size else ""
        return f"{len(run)} files, tokens {ranges_text([file.token for file in run])}  ", handler, each
    return f"file {first.token:#x}  ", handler, f"  data {first.data:#x}{size}"


def _globals(branch: Tree, pending: Pending) -> None:
    for flb in pending.flbs:
        data = f"data {flb.data:#x}{' (magic of a test FLB)' if is_test_flb(flb.data) else ''}"
        count = "count saturated" if flb.is_saturated else counted(flb.count, "file")
        branch.add("FLB ", (safe_text(flb.name), "name"), f"  {data}  {count}")
    for devices in pending.lists:
        names = ", ".join(device.name for device in devices.devices[:_DEVICES])
        more = f" and {len(devices.devices) - _DEVICES} more" if len(devices.devices) > _DEVICES else ""
        place = (f"{devices.address:#x}", "address")
        branch.add(("PCI", "name"), f"  {devices.layout} at ", place, f": {names}{more}")
    if pending.handlers:
        branch.add("registered handlers  ", safe_text(", ".join(pending.handlers)))
