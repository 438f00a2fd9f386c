# SPDX-License-Identifier: MIT
"""Rules on the running kernel's own word: what it will hand over, and its types."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.luo import is_test_flb
from luoser.abi.release import known_release
from luoser.checks.memfd import memfds
from luoser.checks.model import Found, NotApplicable, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import Direction, Luo, Pending
from luoser.text import safe_text

__all__: list[str] = []


def _pending(view: View) -> Pending:
    """What is pending. Raises NotApplicable without the kernel's own word, NotJudged if it was asked for."""
    found = view.handover.pending
    if found is not None:
        return found
    if view.pending_wanted and view.handover.direction is not Direction.INCOMING:
        reason = next((problem.message for problem in view.source_problems("pending-unknown")), "")
        raise NotJudged(
            reason or "the running kernel's own objects could not be read: its symbols or types are not known",
            cause="missing",
            about="pending",
        )
    damage = next(view.source_problems("symbols-unread", "types-unread"), None)
    if damage is not None and not any(one.pending is not None for one in view.state.handovers):
        raise NotJudged(damage.message, cause="damaged", about="pending")
    raise NotApplicable("the running kernel's symbols and types are not in this source")


def _outgoing(view: View) -> Pending:
    """What is pending of an outgoing handover. Raises as `_pending`."""
    if view.handover.direction is Direction.INCOMING:
        raise NotApplicable("handed to the running kernel, which hands over another root")
    return _pending(view)


def _whole(view: View, pending: Pending) -> None:
    """Raise NotJudged if not all of it was read."""
    if view.pending_moved:
        raise NotJudged("the kernel's lists changed while they were read", cause="open", about="pending")
    if pending.complete:
        return
    codes = ("pending-unread", "pending-broken", "missing", "excluded", "page-damaged")
    problem = next((one for one in view.problems(*codes) if one.about.startswith("pending")), None)
    said = problem.message if problem is not None else "not all of the kernel's own objects could be read"
    raise NotJudged(said, cause=cause_of(problem) if problem is not None else "missing", about="pending")


@register("PEN001", "pending-list-broken", Severity.ERROR, kernels="6.19 and later", source="luo.md#kernel-symbols")
def list_broken(view: View) -> Iterator[Found]:
    """A list of the running kernel contradicts itself: a link that does not lead back, or a count of other items.

    The kernel walks these lists when it serialises, and follows the wrong link. Something overwrote its objects.
    """
    pending = _pending(view)
    for problem in view.problems("pending-broken"):
        yield Found(
            problem.message,
            address=problem.address,
            where=problem.about,
            hint="do not update: find what overwrote the kernel's own memory",
        )
    _whole(view, pending)


@register("PEN002", "pending-lost", Severity.ERROR, kernels="6.19 and later", source="luo.md#who-writes-what-when")
def lost(view: View) -> Iterator[Found]:
    """A session, file or FLB of the running kernel is not in what it has serialised, or is another one there.

    The next kernel does not get it. Before LUO serialises, nothing is judged.
    """
    pending, luo = _outgoing(view), view.serialised()
    _whole(view, pending)
    there = {session.name: session for session in luo.sessions}
    yield from _lost_flbs(pending, luo)
    for name in there.keys() - {session.name for session in pending.sessions}:
        where = f"luo.sessions[{list(there).index(name)}]"
        yield Found(f"session {safe_text(name)} is serialised, but not in the kernel's list", where=where)
    for index, session in enumerate(pending.sessions):
        where, other = f"pending.sessions[{index}]", there.get(session.name)
        name = f"session {safe_text(session.name)}"
        if other is None:
            yield Found(f"{name} is not serialised", address=session.address, where=where)
            continue
        for token in {file.token for file in other.files} - {file.token for file in session.files}:
            yield Found(f"{name}, file {token:#x} is serialised, but not in the kernel's list", where=where)
        handles = {file.token: (file.data, file.compatible) for file in other.files}
        for file in session.files:
            if file.token not in handles:
                yield Found(f"{name}, file {file.token:#x} is not serialised", address=file.address, where=where)
            elif handles[file.token] != (file.data, file.compatible):
                data, handler = handles[file.token]
                yield Found(
                    f"{name}, file {file.token:#x}: serialised as {data:#x} of {safe_text(handler)}, "
                    f"the kernel has {file.data:#x} of {safe_text(file.compatible)}",
                    address=file.address,
                    where=where,
                )
    view.need_used()


def _lost_flbs(pending: Pending, luo: Luo) -> Iterator[Found]:
    there = {flb.name: (flb.count, flb.data) for flb in luo.flbs}
    for index, flb in enumerate(pending.flbs):
        said = there.get(flb.name)
        what, where = f"FLB {safe_text(flb.name)}", f"pending.flbs[{index}]"
        if flb.count and said is None:
            yield Found(f"{what}, of {flb.count} files, is not serialised", address=flb.address, where=where)
        elif said is not None and said != (flb.count, flb.data):
            yield Found(
                f"{what}: serialised with count {said[0]} and data {said[1]:#x}, the kernel has {flb.count} and "
                f"{flb.data:#x}",
                address=flb.address,
                where=where,
            )
    known = {flb.name for flb in pending.flbs}
    for index, name in enumerate(flb.name for flb in luo.flbs):
        if name not in known:
            yield Found(
                f"FLB {safe_text(name)} is serialised, but not in the kernel's list", where=f"luo.flbs[{index}]"
            )


@register("PEN003", "pending-unpreserved", Severity.ERROR, kernels="6.19 and later", source="README.md#release-matrix")
def unpreserved(view: View) -> Iterator[Found]:
    """What a handler or an FLB will hand over is not in preserved memory.

    The next kernel uses these pages for something else before anybody retrieves them. The self-test's FLBs hand over a
    number instead of an address.
    """
    pending = _outgoing(view)
    _whole(view, pending)
    known = view.known_map()
    for index, session in enumerate(pending.sessions):
        for number, file in enumerate(session.files):
            if file.compatible.startswith("memfd") and file.data and known.find(file.data) is None:
                name = f"session {safe_text(session.name)}, file {file.token:#x}"
                where = f"pending.sessions[{index}].files[{number}]"
                yield Found(f"{name}: data at {file.data:#x} is not preserved", address=file.data, where=where)
    for index, flb in enumerate(pending.flbs):
        is_address = flb.count and flb.data and not is_test_flb(flb.data) and flb.data % view.page_size == 0
        if is_address and known.find(flb.data) is None:
            text = f"FLB {safe_text(flb.name)}: data at {flb.data:#x} is not preserved"
            yield Found(text, address=flb.data, where=f"pending.flbs[{index}]")
    view.need_whole(known)


@register(
    "PEN004", "pending-refused", Severity.ERROR, kernels="6.19 to 7.3", source="luo.md#errors; README.md#release-matrix"
)
def refused(view: View) -> Iterator[Found]:
    """The next kernel does not have the handler of a file that will be handed over, or only in another version.

    The first open of /dev/liveupdate and all later ones return -EIO: no session can be retrieved. --handlers adds
    handlers to the merged ones.
    """
    name, release = view.next_kernel()
    pending = _outgoing(view)
    _whole(view, pending)
    taker = known_release(release)
    files = [file for session in pending.sessions for file in session.files]
    known = ({taker.memfd} if taker is not None and taker.luo is not None else set()) | view.handlers
    strange = dict.fromkeys(file.compatible for file in files if file.compatible not in known)
    if strange and taker is None:
        raise NotJudged(f"unknown handlers of kernel {name}", cause="unknown-form", about="pending")
    for handler in strange:
        first = next(file for file in files if file.compatible == handler)
        yield Found(
            f"kernel {name} has no handler {safe_text(handler)}, that of "
            f"{sum(file.compatible == handler for file in files)} files",
            address=first.address,
            where="pending.sessions",
            hint="boot a kernel that has it; --handlers adds handlers to the merged ones",
        )


@register("PEN005", "flb-count-saturated", Severity.WARNING, kernels="7.0 and later", source="luo.md#flbs")
def saturated(view: View) -> Iterator[Found]:
    """The reference count of an FLB is saturated: the kernel dropped a reference that it did not have.

    The FLB is never finished, and its memory never freed. Kernels up to 7.3 do this with an FLB that was not retrieved.
    """
    pending = _pending(view)
    for index, flb in enumerate(pending.flbs):
        if flb.is_saturated:
            yield Found(
                f"FLB {safe_text(flb.name)}: count {flb.count:#x} is saturated",
                address=flb.address,
                where=f"pending.flbs[{index}]",
            )
    _whole(view, pending)


@register(
    "PEN006", "layout-not-of-this-kernel", Severity.ERROR, kernels="6.16 and later", source="README.md#release-matrix"
)
def other_layout(view: View) -> Iterator[Found]:
    """A struct of the handover has another form in the running kernel's own types.

    Of an incoming handover: the kernel reads it by its own form, so otherwise than it was written. Of an outgoing one:
    the kernel wrote its own form, so what is shown and checked here is read wrongly, and is not judged. A warning, if
    only places differ: it was read by the kernel's own members, but a kernel with the released form reads it wrongly.
    """
    own = list(view.problems("layout-own"))
    for problem in own:
        yield Found(problem.message, where=problem.about, hint=_OTHER_FORM, severity=Severity.WARNING)
    problems = list(view.problems("layout-not-of-this-kernel"))
    if not problems and not own:
        _pending(view)
    for problem in problems:
        if view.handover.direction is not Direction.INCOMING:
            raise NotJudged(problem.message, cause="unknown-form", about=problem.about)
        yield Found(problem.message, where=problem.about, hint=_OTHER_FORM)


_OTHER_FORM = "boot a kernel whose structs have the form of the writer"


@register("PEN007", "pending-size", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def other_size(view: View) -> Iterator[Found]:
    """The descriptor of a memfd has another size or position than the running kernel's own file.

    The size is frozen when the file is preserved, so one of the two was overwritten. The next kernel makes the file as
    large as the descriptor says: the rest is lost, or zeros are added. Another position is a warning: it is written
    when LUO serialises, and a process that still runs may move on after that.
    """
    pending = _outgoing(view)
    known = {file.data: file for session in pending.sessions for file in session.files}
    zero = view.subjects("zero-memfd")
    is_written = view.handover.luo is not None and view.handover.luo.serialized
    for where, name, file in memfds(view):
        own = known.get(file.data)
        said = file.memfd.size if file.memfd is not None else 0 if where in zero else None
        if own is None or said is None:
            continue
        place = file.memfd.position if file.memfd is not None and is_written else own.position
        sides = (
            ("size", said, own.size, "has {:#x} bytes", _OVERWRITTEN, Severity.ERROR),
            ("position", place, own.position, "is at {:#x}", _MOVED, Severity.WARNING),
        )
        for what, ours, theirs, word, hint, severity in sides:
            if ours is not None and theirs is not None and ours != theirs:
                text = f"{name}: descriptor has {what} {ours:#x}, the kernel's own file {word.format(theirs)}"
                yield Found(text, address=file.data, where=where, hint=hint, severity=severity)
    _whole(view, pending)


_MOVED = "unless its process moved on, the descriptor was overwritten"
_OVERWRITTEN = "do not update: find what overwrote the page of the descriptor"
