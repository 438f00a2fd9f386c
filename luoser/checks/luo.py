# SPDX-License-Identifier: MIT
"""Rules on the Live Update Orchestrator: its root object, sessions, files and FLBs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from luoser.abi.luo import luo_ser
from luoser.abi.registry import layouts
from luoser.checks.model import Found, Severity, Skip, register
from luoser.checks.view import View
from luoser.fdt import Node
from luoser.state import Direction, Luo, Problem, Session
from luoser.text import safe_text

__all__: list[str] = []

_RELEASED = frozenset({"luo-v5"})
_POSTED = frozenset({"luo-v3", "luo-v4", "luo-v5;block-v1"})
_SESSION_NODES, _FLB_NODES = frozenset({b"luo-session-v2", b"luo-session-v1"}), frozenset({b"luo-flb-v1"})
_STRUCTS = frozenset({"luo-v3", "luo-v4", "luo-v5", "luo-composed", "luo-features"})
"""Forms whose root object is a struct; all others are devicetrees."""
_WITH_BOOT_FLBS = frozenset({"luo-v5", "luo-v1-flb"})
"""Forms whose kernels make the FLB page at boot."""
_FILE_BLOCKS = frozenset({"luo-v5", "luo-composed", "luo-features"})
"""Forms whose files lie in blocks of one page; in the others they lie in two pages."""
_UNREAD = ("missing", "excluded", "too-many", "shared-page")
_BROKEN = ("bad-pointer", "loop")
_SESSIONS, _FLBS = "LUO sessions", "LUO FLBs"
_PANIC = "the next kernel's LUO refuses it, and the kernel panics rather than leak what was preserved"
_FROZEN_OUT = "the first open of /dev/liveupdate and all later ones return -EIO, so no session can be retrieved"


# -- the root object --------------------------------------------------------------------------------------


@register("LUO001", "luo-unreadable", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.5")
def luo_unreadable(view: View) -> Iterator[Found]:
    """The sub-tree LUO of an outgoing root holds no LUO root object: neither a known string nor a whole devicetree.

    The next kernel's LUO refuses to start, and the path for failed restores panics on purpose.
    """
    tree = next((entry for entry in view.handover.subtrees if entry.name == "LUO"), None)
    if tree is None or tree.address is None:
        raise Skip("the root names no LUO")
    view.need_unconsumed()
    if view.handover.direction is not Direction.OUTGOING:
        raise Skip("this root may be another machine's, and its addresses mean nothing here")
    found = view.problems_about("luo-reused", "no-fdt", "bad-fdt").get("sub-tree LUO", [])
    for problem in found:
        yield Found(
            problem.message, address=problem.address, where="luo", hint=f"{_PANIC}; look for what wrote over this page"
        )
    if not found and view.handover.luo is None:
        raise Skip("the page of LUO's root object is not in the source")


@register("LUO002", "luo-version-unknown", Severity.ERROR, kernels="6.19 and later", source="luo.md 1, 2, 2.5")
def luo_version(view: View) -> Iterator[Found]:
    """LUO's version string, or that of its session or FLB node, is none that was released or posted.

    Kernels compare the strings exactly; with another one LUO is disabled and the boot ends in a panic.
    """
    luo = view.luo()
    trees = [entry.fdt for entry in view.handover.subtrees if entry.name == "LUO" and entry.fdt is not None]
    wrong = [text for tree in trees for text in _strange_nodes(tree.root)]
    known = _RELEASED | _POSTED if luo.layout in _STRUCTS else {"luo-v1", "luo-v2"}
    if luo.compatible is not None and luo.compatible not in known:
        wrong.insert(0, safe_text(luo.compatible))
    for text in wrong:
        yield Found(
            f"LUO says {text}, which no kernel is known to accept",
            address=luo.address,
            where="luo",
            hint="boot the next kernel from the same source, or look for what wrote over this page",
        )


def _strange_nodes(root: Node) -> list[str]:
    """Version strings of the sub-nodes of LUO's devicetree that are not known."""
    wrong = []
    for name, known in (("luo-session", _SESSION_NODES), ("luo-flb", _FLB_NODES)):
        node = root.node(name)
        said = node.text("compatible") if node is not None else None
        if node is not None and said not in known:
            wrong.append(f"{safe_text(said or b'nothing')} in {name}")
    return wrong


@register("LUO003", "luo-blob-too-small", Severity.ERROR, kernels="7.2 and later", source="luo.md 2")
def luo_blob_size(view: View) -> Iterator[Found]:
    """The root gives LUO's root object fewer than the 32 bytes of luo_ser.

    The next kernel's LUO looks at blob-size before it looks at the bytes: it is disabled and the boot ends in a panic.
    """
    luo = view.luo()
    if luo.layout not in _STRUCTS:
        raise Skip("LUO is a devicetree in this form, and has no blob-size to compare with")
    for index, tree in enumerate(view.handover.subtrees):
        if tree.name == "LUO" and tree.size is not None and tree.size < luo_ser.size:
            yield Found(
                f"blob-size of LUO is {tree.size}, expected at least {luo_ser.size}",
                address=luo.address,
                where=f"subtrees[{index}]",
                hint=_PANIC,
            )


@register("LUO004", "liveupdate-number-missing", Severity.ERROR, kernels="6.19 to 7.1", source="luo.md 3.1")
def luo_number_missing(view: View) -> Iterator[Found]:
    """LUO's devicetree has no liveupdate-number of 8 bytes.

    The next kernel gives -EINVAL for LUO and panics.
    """
    luo = view.luo()
    if luo.layout not in ("luo-v1", "luo-v1-flb"):
        raise Skip("no devicetree of LUO as 6.19 to 7.1 write it")
    if luo.number is None:
        yield Found("LUO has no liveupdate-number of 8 bytes", address=luo.address, where="luo", hint=_PANIC)


@register("LUO005", "liveupdate-number-zero", Severity.WARNING, kernels="6.19 and later", source="luo.md 2, 9(2)")
def luo_number_zero(view: View) -> Iterator[Found]:
    """The number of live updates is 0.

    Even the first kernel writes 1, so something else wrote this number, and what stands next to it is in doubt.
    """
    luo = view.luo()
    if luo.number == 0:
        yield Found(
            "the liveupdate number is 0, expected 1 or more",
            address=luo.address,
            where="luo",
            hint="look for what wrote over this page",
        )


@register("LUO006", "flb-area-missing", Severity.ERROR, kernels="7.0 and later", source="luo.md 2, 3.1")
def luo_flb_area(view: View) -> Iterator[Found]:
    """LUO names no FLB page. The page is made at boot and always there.

    The next kernel reads the FLB header before anything else of LUO; without it LUO refuses and the boot ends in a
    panic, and the FLBs' data (PCI, IOMMU) are lost.
    """
    luo = view.luo()
    if luo.layout not in _WITH_BOOT_FLBS:
        raise Skip("this form of LUO need not have FLBs")
    if not luo.flb_area:
        yield Found("LUO names no FLB page, expected its address", address=luo.address, where="luo", hint=_PANIC)


@register("LUO007", "flb-node-missing", Severity.ERROR, kernels="6.19 to 7.1", source="luo.md 3.1")
def luo_flb_node(view: View) -> Iterator[Found]:
    """LUO's devicetree has no node luo-flb, and the next kernel is a 7.0 or 7.1.

    A step from 6.19 to 7.0 passes every version string; then the node is not found, which is -ENOENT and a panic.
    """
    luo = view.luo()
    if luo.layout != "luo-v1":
        raise Skip("no LUO as 6.19 writes it")
    wanted = "7.0" if view.handover.compatible == "kho-v1" else "7.1"
    release = re.match(r"\d+\.\d+", view.target())
    if release is not None and release[0] == wanted:
        yield Found(
            f"no node luo-flb in LUO's devicetree, which {wanted} requires",
            address=luo.address,
            where="luo",
            hint=f"every version string fits, yet the next kernel panics: do not go from 6.19 to {wanted} in one step",
        )


# -- chains and counts ------------------------------------------------------------------------------------


def _chains(view: View) -> Iterator[tuple[str, str]]:
    """(where, what the reader calls it): the session chain, the FLB page, then each session's file chain."""
    yield "luo", _SESSIONS
    yield "luo.flbs", _FLBS
    for where, session in view.sessions():
        yield where, _files_of(session)


def _files_of(session: Session) -> str:
    return f"session {safe_text(session.name)}, files"


def _chain_faults(view: View, codes: Iterable[str]) -> Iterator[tuple[str, str, Problem]]:
    """(where, name of the chain, problem) for each problem of these kinds; with none, a Skip if pages are not there."""
    found = view.problems_about(*codes)
    faults = [(where, what, problem) for where, what in _chains(view) for problem in found.get(what, ())]
    if not faults:
        _need_chains(view, _UNREAD)
    yield from faults


def _need_chains(view: View, codes: Iterable[str]) -> None:
    """Skip when the reader met one of these in any chain."""
    found = view.problems_about(*codes)
    for _, what in _chains(view):
        if what in found:
            raise Skip(f"not all of it can be read: {found[what][0].message}")


def _answer(what: str) -> str:
    return _PANIC if what in (_SESSIONS, _FLBS) else _FROZEN_OUT


@register("LUO008", "block-chain-broken", Severity.ERROR, kernels="6.19 and later", source="kho.md 5; luo.md 2.5")
def luo_chain(view: View) -> Iterator[Found]:
    """The pages that hold sessions, FLBs or a session's files loop, or lead to what is no page.

    Blocks are checked as a set before they are read. In the session chain this makes LUO refuse and the kernel panic;
    in a file chain it makes the first open of /dev/liveupdate and all later ones fail.
    """
    view.need_unconsumed()
    view.luo()
    for where, what, problem in _chain_faults(view, _BROKEN):
        yield Found(problem.message, address=problem.address, where=where, hint=_answer(what))


@register("LUO009", "block-count-illegal", Severity.ERROR, kernels="6.19 and later", source="kho.md 5; luo.md 2.3, 3.2")
def luo_block_count(view: View) -> Iterator[Found]:
    """A block or area of sessions, files or FLBs counts more entries than fit, or a block none; FLBs fill one page.

    The kernel refuses such a count with -EINVAL: a panic for sessions and FLBs, an unusable /dev/liveupdate for files.
    7.2 and 7.3 make a block with none themselves: when all blocks of sessions are full (51 fill one), and one more is
    asked for under a name that is taken.
    """
    view.need_unconsumed()
    view.luo()
    for where, what, problem in _chain_faults(view, ["bad-count"]):
        yield Found(problem.message, address=problem.address, where=where, hint=_answer(what))


@register("LUO010", "file-count-mismatch", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.2, 2.5")
def luo_file_count(view: View) -> Iterator[Found]:
    """A session's count of files is not the number of entries in its blocks.

    The session cannot be rebuilt: the first open of /dev/liveupdate and all later ones return -EIO.
    """
    view.need_unconsumed()
    luo = view.serialised()
    unread, damaged = view.problems_about(*_UNREAD, *_BROKEN, "bad-count"), _pages_with_bad_files(view)
    skipped, found = "", False
    for where, session in view.sessions():
        if len(session.files) == session.count or not damaged.isdisjoint(_file_pages(view, luo, session)):
            continue
        if _files_of(session) in unread:
            skipped = skipped or unread[_files_of(session)][0].message
            continue
        found = True
        yield Found(
            f"session {safe_text(session.name)} counts {session.count} files, its blocks hold {len(session.files)}",
            address=session.address,
            where=where,
            hint=_FROZEN_OUT,
        )
    if skipped and not found:
        raise Skip(f"not all files can be read: {skipped}")


def _pages_with_bad_files(view: View) -> set[int]:
    """Pages with entries that LUO015 reports; they count as files here."""
    return {(problem.address or 0) // view.page_size for problem in view.problems("bad-file")}


def _file_pages(view: View, luo: Luo, session: Session) -> set[int]:
    pages = {block // view.page_size for block in session.blocks}
    return pages if luo.layout in _FILE_BLOCKS else pages | {page + 1 for page in pages}


@register("LUO012", "sessions-lost", Severity.ERROR, kernels="7.0 and later", source="luo.md 2.4")
def luo_sessions_lost(view: View) -> Iterator[Found]:
    """There are FLBs, which exist only as long as files depend on them, but no session has a file.

    FLBs are written last. So there were sessions, and the next kernel will not find one of them: every guest in them
    is lost, and the FLBs are never finished.
    """
    view.need_unconsumed()
    luo = view.serialised()
    _need_chains(view, (*_UNREAD, *_BROKEN, "bad-count", "bad-session"))
    if any(flb.count for flb in luo.flbs) and not any(session.count for session in luo.sessions):
        area = "names no sessions" if not luo.session_area else "has no session with a file"
        yield Found(
            f"LUO {area}, but {len(luo.flbs)} FLBs count files that depend on them",
            address=luo.address,
            where="luo",
            hint="do not boot the next kernel: the sessions' memory would be lost; find what cleared this pointer",
        )


# -- sessions and files -----------------------------------------------------------------------------------


@register("LUO013", "session-name-bad", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.1, 2.4, 5.3")
def luo_session_name(view: View) -> Iterator[Found]:
    """A session has no name, a name without its NUL, or an entry of zeros.

    Sessions are retrieved by name, so nobody can ask for this one and its files are lost. A kernel writes the name
    last: an empty one also tells of a dump taken while it was serialising.
    """
    view.need_unconsumed()
    view.serialised()
    places = {session.address: where for where, session in view.sessions()}
    for problem in view.problems("bad-session", "unnamed-session", "empty-session"):
        yield Found(
            problem.message,
            address=problem.address,
            where=places.get(problem.address, "luo"),
            hint="its files cannot be retrieved; if the kernel was still serialising, take the dump later",
        )


@register("LUO014", "session-name-duplicate", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.5, 9(3)")
def luo_session_duplicate(view: View) -> Iterator[Found]:
    """Two sessions have one name, which the kernel refuses at creation.

    Only one of them can be retrieved; the files of the other are lost.
    """
    view.serialised()
    first: dict[str, str] = {}
    for where, session in view.sessions():
        other = first.setdefault(session.name, where)
        if session.name and other != where:
            yield Found(
                f"session {safe_text(session.name)} has the name of {other}",
                address=session.address,
                where=where,
                hint="only one of the two can be retrieved; look for what wrote over the entry",
            )


@register("LUO015", "file-entry-bad", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.2, 2.5, 9(5)")
def luo_file_entry(view: View) -> Iterator[Found]:
    """A file entry's handler is empty, has no NUL, has bytes behind it, or is not printable ASCII.

    No kernel has a handler of that name: the first open of /dev/liveupdate and all later ones return -EIO.
    """
    view.need_unconsumed()
    luo = view.serialised()
    blocks = {block: where for where, session in view.sessions() for block in session.blocks}
    for problem in view.problems("bad-file"):
        page = (problem.address or 0) // view.page_size * view.page_size
        where = blocks.get(page) or blocks.get(page - view.page_size) or "luo"
        yield Found(problem.message, address=problem.address, where=where, hint=_FROZEN_OUT)
    for where, session, file in view.files():
        if not (file.compatible.isascii() and file.compatible.isprintable()):
            yield Found(
                f"{view.name_of(session, file)}: handler {safe_text(file.compatible)} is not printable ASCII",
                address=file.address or luo.address,
                where=where,
                hint=_FROZEN_OUT,
            )


@register("LUO016", "token-duplicate", Severity.ERROR, kernels="6.19 and later", source="luo.md 2.2, 2.5")
def luo_token_duplicate(view: View) -> Iterator[Found]:
    """Two files of one session have the same token, which the kernel refuses when a file is preserved.

    A file is retrieved by its token: only one of the two can be, the other is lost. The same token in two sessions is
    normal.
    """
    view.serialised()
    for place, session in view.sessions():
        first: dict[int, int] = {}
        for index, file in enumerate(session.files):
            other = first.setdefault(file.token, index)
            if other != index:
                yield Found(
                    f"{view.name_of(session, file)}: {place}.files[{other}] has the same token",
                    address=file.address,
                    where=f"{place}.files[{index}]",
                    hint="only one of the two can be retrieved; look for what wrote over the entry",
                )


@register("LUO017", "handler-unknown", Severity.WARNING, kernels="6.19 and later", source="luo.md 2.5")
def luo_handler(view: View) -> Iterator[Found]:
    """A file's handler is none that was merged or posted.

    If the next kernel has no handler of that name either, the first open of /dev/liveupdate and all later ones fail.
    One finding for each name.
    """
    view.serialised()
    known = {entry.handler for entry in layouts()}
    strange: dict[str, list[tuple[str, int | None]]] = {}
    for where, _, file in view.files():
        if file.compatible not in known:
            strange.setdefault(file.compatible, []).append((where, file.address))
    for name, places in strange.items():
        where, address = places[0]
        yield Found(
            f"handler {safe_text(name)} is not known; {_times(len(places))}",
            address=address,
            where=where,
            hint="make sure that the next kernel has it, with all of its modules",
        )


def _times(files: int) -> str:
    return "one file has it" if files == 1 else f"{files} files have it, this is the first"


@register("LUO018", "handler-generation", Severity.ERROR, kernels="6.19 and later", source="abi README; luo.md 2.5")
def luo_handler_generation(view: View) -> Iterator[Found]:
    """A memfd is in the form of another generation of kernels than the root: memfd-v1 goes with kho-v1, v2 with later.

    Each kernel that accepts this root knows the other string only: the first open of /dev/liveupdate and all later ones
    return -EIO.
    """
    view.serialised()
    wrong = {"kho-v1": "memfd-v2", "kho-v3": "memfd-v1", "kho-v4": "memfd-v1"}.get(view.handover.compatible)
    for where, session, file in view.files() if wrong is not None else ():
        if file.compatible == wrong:
            yield Found(
                f"{view.name_of(session, file)}: {wrong} below a root of {safe_text(view.handover.compatible)}",
                address=file.address,
                where=where,
                hint=_FROZEN_OUT,
            )


# -- FLBs -------------------------------------------------------------------------------------------------


@register("LUO019", "flb-count-wrong", Severity.WARNING, kernels="7.0 and later", source="luo.md 2.3, 9(7)")
def luo_flb_files(view: View) -> Iterator[Found]:
    """An FLB counts no file, or more files than there are in all sessions.

    The count goes down by one for each file that is finished. One that is too high never comes to 0: the FLB is never
    finished and its memory leaks. Which handlers depend on an FLB is not in the bytes, so this is an upper bound.
    """
    view.need_unconsumed()
    luo = view.serialised()
    _need_chains(view, (*_UNREAD, *_BROKEN, "bad-count", "bad-session"))
    files = sum(session.count for session in luo.sessions)
    if luo.flbs and not files:
        raise Skip("no session has a file; LUO012 speaks of that")
    for index, flb in enumerate(luo.flbs):
        if not 1 <= flb.count <= files:
            yield Found(
                f"FLB {safe_text(flb.name)} counts {flb.count} files, expected 1 to {files}, as many as there are",
                address=flb.address,
                where=f"luo.flbs[{index}]",
                hint="the next kernel will not finish it when its files are finished",
            )


@register("LUO020", "flb-name-bad", Severity.ERROR, kernels="7.0 and later", source="luo.md 2.3, 2.5, 9(7)")
def luo_flb_name(view: View) -> Iterator[Found]:
    """An FLB has no proper name, or two have the same, which the kernel refuses at registration.

    An FLB is found by its name: the data of this one, or of one of the two, are lost.
    """
    luo = view.serialised()
    for problem in view.problems("bad-flb") if not view.consumed else ():
        yield Found(problem.message, address=problem.address, where="luo.flbs", hint="its data will not be found")
    yield from _same_names(luo)


def _same_names(luo: Luo) -> Iterator[Found]:
    first: dict[str, int] = {}
    for index, flb in enumerate(luo.flbs):
        other = first.setdefault(flb.name, index)
        if other != index:
            yield Found(
                f"FLB {safe_text(flb.name)} has the name of luo.flbs[{other}]",
                address=flb.address,
                where=f"luo.flbs[{index}]",
                hint="only one of the two will be found",
            )
