# SPDX-License-Identifier: MIT
"""What the running kernel's own objects say, as a branch of the tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from luoser.abi.luo import is_test_flb
from luoser.render.out import text
from luoser.state import Direction, Handover, Pending, PendingFile
from luoser.text import human_size, safe_text

if TYPE_CHECKING:
    from rich.tree import Tree

__all__ = ["draw_pending"]

_SATURATED = 0xC000_0000
"""refcount_t of which one reference too many was dropped: REFCOUNT_SATURATED."""


def draw_pending(tree: Tree, handover: Handover, some: Callable[[Any, Any], Any]) -> None:
    """Add the branch, if there is something.

    tree:     of the handover.
    handover: any.
    some:     gives the items of a list to show, and adds a line to a branch if these are not all.
    """
    pending = handover.pending
    if pending is None:
        return
    what = "to be handed over" if handover.direction is Direction.OUTGOING else "handed over, not finished"
    least = "" if pending.complete else "at least "
    files = sum(len(session.files) for session in pending.sessions)
    branch = tree.add(
        text(("pending ", "bold"), f" {what}: {least}{len(pending.sessions)} sessions, {least}{files} files")
    )
    for word in pending.evidence:
        branch.add(text(("evidence: ", "dim"), (safe_text(word, again=True), "dim")))
    for session in some(pending.sessions, branch):
        taken = "  retrieved" if session.retrieved else ""
        name = safe_text(session.name) or "(no name)"
        leaf = branch.add(
            text("session ", (name, "bold"), f"  {session.address:#x}  {len(session.files)} files{taken}")
        )
        for file in some(session.files, leaf):
            leaf.add(_file(file))
    _globals(branch, pending)


def _file(file: PendingFile) -> Any:
    size = f"  {human_size(file.size)}" if file.size is not None else ""
    position = f", position {file.position:#x}" if file.position else ""
    return text(
        f"file {file.token:#x}  ", (safe_text(file.compatible), "bold"), f"  data {file.data:#x}{size}{position}"
    )


def _globals(branch: Tree, pending: Pending) -> None:
    for flb in pending.flbs:
        data = f"data {flb.data:#x}{' (magic of a test FLB)' if is_test_flb(flb.data) else ''}"
        count = "count saturated" if flb.count >= _SATURATED else f"{flb.count} files"
        branch.add(text("FLB ", (safe_text(flb.name), "bold"), f"  {data}  {count}"))
    for devices in pending.lists:
        names = ", ".join(device.name for device in devices.devices[:8])
        more = f" and {len(devices.devices) - 8} more" if len(devices.devices) > 8 else ""
        branch.add(text(("PCI ", "bold"), f" {devices.layout} at {devices.address:#x}: {names}{more}"))
    if pending.handlers:
        branch.add(text("registered handlers  ", safe_text(", ".join(pending.handlers))))
