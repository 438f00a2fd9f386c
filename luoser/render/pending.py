# SPDX-License-Identifier: MIT
"""What the running kernel's own objects say, as a branch of the tree."""

from __future__ import annotations

from collections.abc import Sequence

from luoser.abi.luo import is_test_flb
from luoser.render.luo import flb_names
from luoser.render.out import Part, Tree
from luoser.render.runs import flb_runs, grouped, ranges_text
from luoser.state import Direction, File, Handover, Luo, Pending, PendingFile, PendingSession, Session
from luoser.text import counted, human_size, safe_text

__all__ = ["draw_pending"]

_FEWEST = 3
"""Like files that are one line."""
_DEVICES = 8


def draw_pending(root: Tree, handover: Handover, *, folded: bool) -> None:
    """Add the branch, if there is something.

    root:     of the handover.
    handover: any.
    folded:   show like files and sessions as one line, and nothing that LUO has serialised just so.
    """
    pending = handover.pending
    if pending is None:
        return
    is_to_come = handover.direction is Direction.OUTGOING
    what = "to be handed over" if is_to_come else "handed over, not finished"
    least = "" if pending.complete else "at least "
    files = sum(len(session.files) for session in pending.sessions)
    count = f"{least}{counted(len(pending.sessions), 'session')}, {least}{counted(files, 'file')}"
    is_same = folded and _is_serialised(pending, handover.luo)
    branch = root.add(("pending", "name"), f"  {what}: {count}{', the same as serialised' if is_same else ''}")
    for word in pending.evidence:
        branch.add((f"evidence: {safe_text(word, again=True)}", "quiet"))
    if not is_same:
        for sessions in grouped(pending.sessions, _session_key) if folded else [(one,) for one in pending.sessions]:
            _sessions(branch, sessions, folded=folded)
    _globals(branch, pending, handover, folded=folded)


def _is_serialised(pending: Pending, luo: Luo | None) -> bool:
    """Whether LUO has serialised the same sessions with the same files, of which none was retrieved."""
    if luo is None or not pending.sessions or any(session.retrieved for session in pending.sessions):
        return False
    return [_facts(session) for session in pending.sessions] == [_facts(session) for session in luo.sessions]


def _facts(session: PendingSession | Session) -> object:
    return session.name, [(file.compatible, file.token, file.data, _extent(file)) for file in session.files]


def _extent(file: PendingFile | File) -> tuple[int | None, int | None] | None:
    """(size, position) of a memfd: of the kernel's own file, or in its descriptor. None: no memfd."""
    if file.memfd is None:
        return None
    return (file.size, file.position) if isinstance(file, PendingFile) else (file.memfd.size, file.memfd.position)


def _session_key(session: PendingSession) -> object:
    if not session.files or not session.name:
        return None
    return session.retrieved, tuple((file.token, *_file_key(file)) for file in session.files)


def _sessions(branch: Tree, run: Sequence[PendingSession], *, folded: bool) -> None:
    """One session, or several in a row whose files are alike."""
    first, last = run[0], run[-1]
    name: list[Part] = ["session ", (safe_text(first.name) or "(no name)", "name"), "  "]
    name.append((f"{first.address:#x}", "address"))
    if len(run) > 1:
        name = [f"{len(run)} sessions ", (safe_text(first.name), "name"), " … ", (safe_text(last.name), "name")]
    each = " each" if len(run) > 1 else ""
    taken = "  retrieved" if first.retrieved else ""
    leaf = branch.add(*name, f"  {counted(len(first.files), 'file')}{each}{taken}")
    for files in grouped(first.files, _file_key, fewest=_FEWEST) if folded else [(file,) for file in first.files]:
        leaf.add(*_files(files))


def _file_key(file: PendingFile) -> tuple[object, ...]:
    return file.compatible, file.size, file.position


def _files(run: Sequence[PendingFile]) -> tuple[Part, ...]:
    first = run[0]
    position = f", position {first.position:#x}" if first.position else ""
    size = f"  {human_size(first.size)}{position}" if first.size is not None else ""
    handler = (safe_text(first.compatible), "name")
    if len(run) > 1:
        each = f"{size} each" if size else ""
        return f"{len(run)} files, tokens {ranges_text([file.token for file in run])}  ", handler, each
    return f"file {first.token:#x}  ", handler, f"  data {first.data:#x}{size}"


def _globals(branch: Tree, pending: Pending, handover: Handover, *, folded: bool) -> None:
    """Add FLBs, device lists and handlers. folded: without those that LUO has serialised just so."""
    written = handover.luo.flbs if handover.luo is not None else ()
    known = {(flb.name, flb.data, flb.count) for flb in written} if folded else set()
    registered = {flb.name for flb in pending.flbs}
    lacking = [name for name in (flb.name for flb in written) if name not in registered]
    if lacking and pending.complete:
        style = "problem" if handover.direction is Direction.OUTGOING else "note"
        branch.add("FLBs serialised, but ", ("not in the kernel's list", style), "  ", safe_text(", ".join(lacking)))
    flbs = [flb for flb in pending.flbs if (flb.name, flb.data, flb.count) not in known]
    idle = [flb for flb in flbs if not (flb.data or flb.count)] if folded else []
    if len(idle) > 1:
        branch.add("FLBs without files  ", safe_text(", ".join(flb.name for flb in idle)))
        flbs = [flb for flb in flbs if flb not in idle]
    for run in flb_runs(flbs) if folded else [(flb,) for flb in flbs]:
        count = "count saturated" if run[0].is_saturated else counted(run[0].count, "file")
        if len(run) > 1:
            branch.add(*flb_names(run), f"  {count} each")
            continue
        data = f"data {run[0].data:#x}{' (magic of a test FLB)' if is_test_flb(run[0].data) else ''}"
        branch.add("FLB ", (safe_text(run[0].name), "name"), f"  {data}  {count}")
    places = {devices.address for devices in handover.pci} if folded else set()
    for devices in pending.lists:
        if devices.address in places:
            continue
        names = ", ".join(device.name for device in devices.devices[:_DEVICES])
        more = f" and {len(devices.devices) - _DEVICES} more" if len(devices.devices) > _DEVICES else ""
        place = (f"{devices.address:#x}", "address")
        branch.add(("PCI", "name"), f"  {devices.layout} at ", place, f": {names}{more}")
    if pending.handlers:
        branch.add("registered handlers  ", safe_text(", ".join(pending.handlers)))
