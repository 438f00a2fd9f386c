# SPDX-License-Identifier: MIT
"""Changes in LUO: its root object, sessions, files, FLBs and subsystems."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Hashable, Iterator, Sequence

from luoser.abi.luo import form as luo_form
from luoser.changes.handler import HANDLE_CODES, record_changes
from luoser.changes.memfd import memfd_changes
from luoser.changes.model import Change, Kind
from luoser.changes.sides import (
    NOT_THERE,
    UNREAD,
    Matches,
    Sides,
    member_changes,
    one_sided,
    paired,
    path_part,
    text_of,
    tuple_changes,
)
from luoser.state import File, Flb, Luo, Problem, Session
from luoser.text import counted, safe_text

__all__ = ["ROOT_CODES", "flb_signs", "luo_changes"]

ROOT_CODES = NOT_THERE | {"luo-reused", "no-fdt", "bad-fdt"}
"""Codes of problems: LUO's root object is gone."""
_SESSION_CODES = UNREAD | {"bad-session", "empty-session"}
_FILE_CODES = UNREAD | {"bad-file"}
_FLB_CODES = UNREAD | {"bad-flb"}


def luo_changes(sides: Sides) -> Iterator[Change]:
    """Changes in LUO. sides: the handover."""
    before, after = sides.before.luo, sides.after.luo
    if before is None and after is None:
        return
    if after is None:
        assert before is not None
        signs = sides.about_subtree("LUO", "luo", ROOT_CODES)
        yield sides.gone("luo", text_of(before.address) or "", "consumed, its page was reused", signs, subtree="LUO")
        return
    if before is None:
        yield sides.come("luo", text_of(after.address), "luo", subtree="LUO")
        return
    yield from member_changes("luo", before, after, ("layout", "compatible", "address", "number", "flb_area"))
    if not before.serialized and after.serialized and _has_any(after):
        yield Change(kind=Kind.PROGRESS, where="luo/serialized", before="not yet", after="serialised")
        return
    if before.serialized and not after.serialized:
        signs = [*sides.about("luo.sessions", _SESSION_CODES), *sides.about("luo.flbs", _FLB_CODES)]
        yield sides.gone("luo/serialized", "serialised", "no session or FLB can be read", signs)
        return
    # what was taken over may have been read in part
    yield from member_changes("luo", before, after, () if sides.consumed else ("session_area",))
    if not sides.consumed and not sides.is_unread("luo.sessions", "luo.sessions"):
        yield from tuple_changes("luo/session_blocks", before.session_blocks, after.session_blocks)
    yield from _sessions(sides, before, after)
    yield from _flbs(sides, before, after)
    for name, was, now in paired(before.subsystems, after.subsystems, lambda entry: entry.name):
        where = f"luo/subsystems/{path_part(name)}"
        if was is None or now is None:
            yield one_sided(where, was, now, lambda entry: text_of(entry.data))
        else:
            yield from member_changes(where, was, now, ("data",))


def _flbs(sides: Sides, before: Luo, after: Luo) -> Iterator[Change]:
    was_places = {id(flb): f"luo.flbs[{index}]" for index, flb in enumerate(before.flbs)}
    places = {id(flb): f"luo.flbs[{index}]" for index, flb in enumerate(after.flbs)}
    for name, old, new in paired(before.flbs, after.flbs, lambda flb: flb.name):
        where = f"luo/flbs/{path_part(name)}"
        if old is not None and new is None:
            yield sides.gone(where, text_of(old.data) or "", "consumed", flb_signs(sides, old))
        elif old is None and new is not None:
            yield sides.come(where, text_of(new.data), "luo.flbs")
        elif old is not None and new is not None:
            yield from member_changes(where, old, new, ("data", "count"))
            yield from record_changes(sides, where, places[id(new)], was_places[id(old)], old.detail, new.detail)


def _has_any(luo: Luo) -> bool:
    """Whether LUO has handed over anything that could be read."""
    return bool(luo.sessions or luo.flbs or any(entry.data for entry in luo.subsystems))


def flb_signs(sides: Sides, old: Flb) -> list[Problem]:
    """The problems that explain why an FLB is gone.

    sides: the handover.
    old:   the FLB before.
    """
    luo = sides.after.luo
    is_read = (luo is not None and bool(luo.flbs)) or not sides.about("luo.flbs", UNREAD)
    return entry_signs(sides, "luo.flbs", _FLB_CODES, "bad-flb", old.address, is_read=is_read)


def entry_signs(
    sides: Sides, path: str, codes: Collection[str], damaged: str, address: int | None, *, is_read: bool
) -> list[Problem]:
    """The problems that explain why an entry of an array is gone.

    sides:   the handover.
    path:    of the array.
    codes:   of problems that can be the reason.
    damaged: code of a problem of one entry.
    address: of the entry that is gone.
    is_read: whether the page of the entry could be read. Then only a problem of this entry explains it.
    """
    found = sides.about(path, codes)
    if is_read:
        return [problem for problem in found if problem.code == damaged and problem.address == address]
    return [problem for problem in found if problem.code != damaged]


def _sessions(sides: Sides, before: Luo, after: Luo) -> Iterator[Change]:
    places = {
        id(session): f"luo.sessions[{index}]"
        for luo in (before, after)
        for index, session in enumerate(luo.sessions)
    }  # fmt: skip
    left: list[Session] = []
    new_ones: list[Session] = []
    for _, old, new in paired(before.sessions, after.sessions, lambda session: session.name):
        if old is not None and new is not None:
            yield from _session(sides, (places[id(old)], places[id(new)]), old, new)
        elif old is not None:
            left.append(old)
        elif new is not None:
            new_ones.append(new)
    renamed, blocks = Matches(new_ones, _identities), sorted({*after.session_blocks})
    for old in left:
        where = f"luo/sessions/{path_part(old.name)}"
        same = renamed.take(old)
        if same is not None:
            yield Change(
                kind=Kind.CHANGED, where=f"{where}/name", before=safe_text(old.name), after=safe_text(same.name)
            )
            yield from _session(sides, (places[id(old)], places[id(same)]), old, same)
        else:
            form = luo_form(after.layout)
            span = form.session_span if form is not None else 1
            is_read = _is_read(sides, "luo.sessions", old.address, blocks, span)
            signs = entry_signs(sides, "luo.sessions", _SESSION_CODES, "bad-session", old.address, is_read=is_read)
            yield sides.gone(where, counted(len(old.files), "file"), "finished, or its page was reused", signs)
    for new in renamed.left():
        yield sides.come(f"luo/sessions/{path_part(new.name)}", counted(len(new.files), "file"), "luo.sessions")


def _identities(session: Session) -> Iterator[Hashable]:
    """What a session keeps when it is renamed: its entry, and its files."""
    yield session.address
    if session.files:
        yield tuple((file.token, file.data) for file in session.files)


def _is_read(sides: Sides, path: str, address: int | None, starts: Sequence[int], pages: int) -> bool:
    """Whether the page of an entry could be read after.

    path:   of the array.
    starts: addresses of its blocks, or of its only area, sorted.
    pages:  of a block, which was read if it is there, or of an area, which may have been read in part.
    """
    if address is None:
        return False
    near = starts[bisect_right(starts, address - pages * sides.page_size) : bisect_right(starts, address)]
    lost = [problem.address for problem in sides.about(path, NOT_THERE) if problem.address] if pages > 1 else []
    return any(not any(start <= gap <= address for gap in lost) for start in near)


def _session(sides: Sides, both: tuple[str, str], old: Session, new: Session) -> Iterator[Change]:
    """both: paths of the session before and after."""
    place_before, place = both
    places = {
        id(file): f"{path}.files[{index}]"
        for path, session in zip(both, (old, new), strict=True)
        for index, file in enumerate(session.files)
    }  # fmt: skip
    where = f"luo/sessions/{path_part(old.name)}"
    yield from member_changes(where, old, new, ("address", "count"))
    if not sides.consumed and not sides.is_unread(f"{place_before}.files", f"{place}.files"):
        yield from tuple_changes(f"{where}/blocks", old.blocks, new.blocks)
    left: list[File] = []
    new_ones: list[File] = []
    for _, was, now in paired(old.files, new.files, lambda file: file.token):
        if was is not None and now is not None:
            yield from _file(sides, f"{where}/files/{was.token:#x}", (places[id(was)], places[id(now)]), was, now)
        elif was is not None:
            left.append(was)
        elif now is not None:
            new_ones.append(now)
    moved, blocks = Matches(new_ones, lambda file: ((file.compatible, file.data),)), sorted({*new.blocks})
    for was in left:
        path = f"{where}/files/{was.token:#x}"
        same = moved.take(was)
        if same is not None:
            yield Change(kind=Kind.CHANGED, where=f"{path}/token", before=text_of(was.token), after=text_of(same.token))
            yield from _file(sides, path, (places[id(was)], places[id(same)]), was, same)
        else:
            form = luo_form(sides.after.luo.layout) if sides.after.luo is not None else None
            span = form.file_span if form is not None else 1
            is_read = _is_read(sides, f"{place}.files", was.address, blocks, span)
            signs = entry_signs(sides, f"{place}.files", _FILE_CODES, "bad-file", was.address, is_read=is_read)
            yield sides.gone(path, safe_text(was.compatible), "finished, or its page was reused", signs)
    for now in moved.left():
        yield sides.come(f"{where}/files/{now.token:#x}", safe_text(now.compatible), f"{place_before}.files")


def _file(sides: Sides, where: str, both: tuple[str, str], old: File, new: File) -> Iterator[Change]:
    """where: path of the change. both: paths of the file before and after."""
    place_before, place = both
    yield from member_changes(where, old, new, ("compatible", "data"))
    if old.memfd is not None and new.memfd is not None:
        is_unread = sides.is_unread(f"{place_before}.memfd.folios", f"{place}.memfd.folios")
        yield from memfd_changes(where, old.memfd, new.memfd, is_whole=not is_unread)
        for name in ("chunks", "pages") if not is_unread and not sides.consumed else ():
            was, now = getattr(old.memfd.folios, name), getattr(new.memfd.folios, name)
            yield from tuple_changes(f"{where}/memfd/folios/{name}", was, now)
    elif old.memfd is not None:
        signs = sides.about(place, HANDLE_CODES)
        yield sides.gone(f"{where}/memfd", f"{old.memfd.size:#x} bytes", "restored, its descriptor was freed", signs)
    elif new.memfd is not None:
        yield sides.come(f"{where}/memfd", f"{new.memfd.size:#x} bytes", place_before)
    yield from record_changes(sides, where, place, place_before, old.detail, new.detail)
