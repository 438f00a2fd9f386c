# SPDX-License-Identifier: MIT
"""Rules on the Live Update Orchestrator: its root object, sessions, files and FLBs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from luoser.abi.luo import FLB_VERSIONS, FORMS, OLD_VERSIONS, SUBSYSTEMS_NODE, LuoForm, form
from luoser.abi.release import RELEASES, writers_of
from luoser.checks.block import BROKEN, FROZEN_OUT, PANIC, UNREAD, need_chains
from luoser.checks.model import Found, NotApplicable, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.fdt import Node
from luoser.state import Problem
from luoser.text import decode_name, one_bit_off, safe_text

__all__: list[str] = []

_NODES = {
    "luo-session": frozenset(form.session_version.encode() for form in FORMS if form.session_version is not None),
    "luo-flb": frozenset(version.encode() for version in FLB_VERSIONS),
    **{name: frozenset((version.encode(),)) for name, version in OLD_VERSIONS.items()},
}
"""Known compatible strings of the nodes of LUO's devicetree."""
_POINTERS = {"luo-session": ("luo-session-header", "luo-session-head"), "luo-flb": ("luo-flb-header",)}
"""Names of the property with an address that such a node needs."""


# -- the root object --------------------------------------------------------------------------------------


def _form(view: View) -> LuoForm:
    """The form of LUO. Raises NotJudged for an unknown form, else as `View.luo`."""
    found = form(view.luo().layout)
    if found is None:
        raise NotJudged("unknown form of LUO", cause="unknown-form", about="luo")
    return found


@register("LUO001", "luo-unreadable", Severity.ERROR, kernels="6.19 and later", source="luo.md#errors")
def luo_unreadable(view: View) -> Iterator[Found]:
    """The sub-tree LUO does not have a LUO root object: a known string, or a complete devicetree.

    The next kernel's LUO refuses to start, and panics deliberately, as after any failed restore.
    """
    tree = next((entry for entry in view.handover.subtrees if entry.name == "LUO"), None)
    if tree is None or tree.address is None:
        raise NotApplicable("the root has no sub-tree LUO")
    view.need_kept("luo")
    place = f"subtrees[{view.handover.subtrees.index(tree)}]"
    found = [*view.problems("luo-reused", "no-fdt", "bad-fdt", about="luo"), *view.problems("bad-fdt", about=place)]
    for problem in found:
        yield Found(
            problem.message, address=problem.address, where="luo", hint=f"{PANIC}; find what overwrote this page"
        )
    if not found:
        view.luo()


@register(
    "LUO002",
    "luo-version-unknown",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#versions; luo.md#root-object; luo.md#errors",
)
def luo_version(view: View) -> Iterator[Found]:
    """LUO's version string was never released or posted, or a node of its devicetree, its string or its pointer.

    Kernels accept only exactly the same string, and need each pointer. With anything else LUO is disabled, and the boot
    ends in a panic.
    """
    luo, form = view.luo(), _form(view)
    trees = [entry.fdt for entry in view.handover.subtrees if entry.name == "LUO" and entry.fdt is not None]
    wrong = [text for tree in trees for text in _strange_nodes(tree.root)]
    known = {other.compatible for other in FORMS if other.is_tree == form.is_tree}
    if luo.compatible is not None and luo.compatible not in known:
        wrong.insert(0, safe_text(luo.compatible))
    for text in wrong:
        yield Found(
            f"LUO: {text}, which no known kernel accepts",
            address=luo.address,
            where="luo",
            hint="boot the next kernel from the same source, or find what overwrote this page",
        )
    for problem in view.problems("luo-bad-string"):
        yield Found(problem.message, address=problem.address, where="luo", hint="find what overwrote this page")
    released = {other.compatible or "" for other in FORMS if view.handover.compatible in _roots_of(other)}
    near = one_bit_off(luo.compatible or "", released) if luo.compatible not in released else None
    if near is not None and not wrong:
        word = f"LUO is {safe_text(luo.compatible or '')}, a posted form and one bit off {near} of released kernels"
        raise NotJudged(f"{word}; the source of the kernel decides", cause="unknown-form", about="luo")


def _roots_of(form: LuoForm) -> set[str]:
    """Versions of the root that released kernels with a form of LUO write."""
    return {RELEASES[name].kho for name in writers_of(form.name)}


def _strange_nodes(root: Node) -> list[str]:
    """What kernels do not write into the nodes of LUO's devicetree: unknown strings, values of another size."""
    wrong = []
    for name, known in _NODES.items():
        node = root.node(name)
        said = node.text("compatible") if node is not None else None
        if node is not None and said not in known:
            wrong.append(f"{safe_text(said or b'nothing')} in {name}")
    for name, needed in _POINTERS.items():
        node = root.node(name)
        if node is not None and not any(node.u64(key) is not None for key in needed):
            wrong.append(f"no {needed[0]} of 8 bytes in {name}")
    node = root.node(SUBSYSTEMS_NODE)
    wrong += [
        f"property {safe_text(name)} of {len(value)} bytes, expected 8, in {SUBSYSTEMS_NODE}"
        for name, value in (node.properties if node is not None else ())
        if name != b"compatible" and len(value) != 8
    ]
    wrong += [
        f"unknown node {safe_text(node.name)}"
        for node in root.nodes
        if decode_name(node.name) not in (*_NODES, "sessions")
    ]
    return wrong


@register("LUO003", "luo-blob-too-small", Severity.ERROR, kernels="7.2 and later", source="luo.md#root-object")
def luo_blob_size(view: View) -> Iterator[Found]:
    """blob-size of LUO's root object is less than its struct: 32 bytes of luo_ser in released kernels.

    The next kernel's LUO checks blob-size first: LUO is disabled, and the boot ends in a panic.
    """
    luo, form = view.luo(), _form(view)
    if form.root is None:
        raise NotApplicable("LUO is a devicetree in this form, without a blob-size")
    for index, tree in enumerate(view.handover.subtrees):
        if tree.name == "LUO" and tree.size is not None and tree.size < form.root.size:
            yield Found(
                f"blob-size of LUO is {tree.size}, expected at least {form.root.size} bytes",
                address=luo.address,
                where=f"subtrees[{index}]",
                hint=PANIC,
            )


@register("LUO004", "liveupdate-number-missing", Severity.ERROR, kernels="6.19 to 7.1", source="luo.md#the-devicetree")
def luo_number_missing(view: View) -> Iterator[Found]:
    """LUO's devicetree has no liveupdate-number of 8 bytes.

    LUO of the next kernel fails with -EINVAL, and the kernel panics.
    """
    luo = view.luo()
    if not _form(view).is_tree or not writers_of(luo.layout):
        raise NotApplicable("not a devicetree of LUO as in 6.19 to 7.1")
    if luo.number is None:
        yield Found("LUO has no liveupdate-number of 8 bytes", address=luo.address, where="luo", hint=PANIC)


@register(
    "LUO005",
    "liveupdate-number-zero",
    Severity.WARNING,
    kernels="6.19 and later",
    source="luo.md#root-object; luo.md#invariant-2",
)
def luo_number_zero(view: View) -> Iterator[Found]:
    """The number of live updates is 0.

    Already the first kernel writes 1. So something else wrote this number, and the members next to it are in doubt.
    """
    luo = view.luo()
    if luo.number == 0:
        yield Found(
            "the liveupdate number is 0, expected 1 or more",
            address=luo.address,
            where="luo",
            hint="find what overwrote this page",
        )


@register(
    "LUO006",
    "flb-area-missing",
    Severity.ERROR,
    kernels="7.0 and later",
    source="luo.md#root-object; luo.md#the-devicetree",
)
def luo_flb_area(view: View) -> Iterator[Found]:
    """LUO does not have the address of the FLB page, which is made at boot and always exists.

    A kernel with luo-v5 accepts 0 and finds no FLB: the data of the FLBs (PCI, IOMMU) are lost, and their memory leaks.
    LUO of 7.0 and 7.1 refuses to start, and the kernel panics.
    """
    luo = view.luo()
    if _form(view).flbs != "boot":
        raise NotApplicable("FLBs are optional in this form of LUO")
    if not luo.flb_area:
        yield Found(
            "LUO has no address of the FLB page",
            address=luo.address,
            where="luo",
            hint=PANIC if _form(view).is_tree else "what FLBs handed over is lost; find what overwrote this page",
        )


@register("LUO007", "flb-node-missing", Severity.ERROR, kernels="6.19 to 7.1", source="luo.md#the-devicetree")
def luo_flb_node(view: View) -> Iterator[Found]:
    """LUO's devicetree has no node luo-flb, and the next kernel is 7.0 or 7.1.

    All version strings match between 6.19 and 7.0. But the node is not found: LUO fails with -ENOENT, and the kernel
    panics.
    """
    luo = view.luo()
    if _form(view).flbs != "none" or not writers_of(luo.layout):
        raise NotApplicable("not LUO as in 6.19")
    release = re.match(r"\d+\.\d+", view.target())
    taker = RELEASES.get(release[0]) if release is not None else None
    own = form(taker.luo) if taker is not None and taker.luo is not None else None
    needs_node = own is not None and own.is_tree and own.flbs == "boot"
    if taker is not None and needs_node and taker.kho == view.handover.compatible:
        yield Found(
            f"no node luo-flb in LUO's devicetree, which {view.target()} requires",
            address=luo.address,
            where="luo",
            hint="all version strings match, but the next kernel panics: do not update from 6.19 to it in one step",
        )


# -- counts -----------------------------------------------------------------------------------------------


@register(
    "LUO010", "file-count-mismatch", Severity.ERROR, kernels="6.19 and later", source="luo.md#files; luo.md#errors"
)
def luo_file_count(view: View) -> Iterator[Found]:
    """A session's count of files is not the number of entries in its blocks.

    The session cannot be restored: the first open of /dev/liveupdate and all later ones return -EIO.
    """
    view.need_unconsumed()
    view.serialised()
    unread, damaged = view.subjects(*UNREAD, *BROKEN, "bad-count"), view.subjects("bad-file")
    skipped: Problem | None = None
    for where, session in view.sessions():
        files = f"{where}.files"
        if len(session.files) + len(damaged.get(files, ())) == session.count:  # LUO015 reports the damaged entries
            continue
        if files in unread:
            skipped = skipped or unread[files][0]
            continue
        yield Found(
            f"session {safe_text(session.name)}: count is {session.count} files, its blocks have {len(session.files)}",
            address=session.address,
            where=where,
            hint=FROZEN_OUT,
        )
    if skipped is not None:
        reason = f"not all files can be read: {skipped.message}"
        raise NotJudged(reason, cause=cause_of(skipped), about=skipped.about)


@register("LUO012", "sessions-lost", Severity.ERROR, kernels="7.0 and later", source="luo.md#who-writes-what-when")
def luo_sessions_lost(view: View) -> Iterator[Found]:
    """There are FLBs, which exist only while files depend on them, but no session has a file.

    FLBs are written last. So there were sessions, and the next kernel will not find any of them: their guests are lost,
    and the FLBs are never finished.
    """
    view.need_unconsumed()
    luo = view.serialised()
    need_chains(view, (*UNREAD, *BROKEN, "bad-count", "bad-session"))
    if any(flb.count for flb in view.flb_entries()) and not any(session.count for session in luo.sessions):
        area = "has no address of sessions" if not luo.session_area else "has no session with a file"
        yield Found(
            f"LUO {area}, but {len(view.flb_entries())} FLBs have files that depend on them",
            address=luo.address,
            where="luo",
            hint="do not boot the next kernel: memory of sessions would be lost; find what cleared this pointer",
        )


# -- sessions and files -----------------------------------------------------------------------------------


@register(
    "LUO013",
    "session-name-bad",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#sessions; luo.md#who-writes-what-when; luo.md#v4",
)
def luo_session_name(view: View) -> Iterator[Found]:
    """A session has no name, a name without a NUL, or an entry of zeros.

    Sessions are retrieved by name. So this one cannot be retrieved, and its files are lost. A kernel writes the name
    last: it is also empty if the dump was taken while LUO was serialising.
    """
    view.need_unconsumed()
    view.serialised()
    for problem in view.problems("bad-session", "unnamed-session", "empty-session"):
        yield Found(
            problem.message,
            address=problem.address,
            where=problem.about,
            hint="its files cannot be retrieved; if the kernel was still serialising, take the dump later",
        )
    need_chains(view, (*UNREAD, *BROKEN, "bad-count"))


@register(
    "LUO014",
    "session-name-duplicate",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#errors; luo.md#invariant-3",
)
def luo_session_duplicate(view: View) -> Iterator[Found]:
    """Two sessions have the same name, which the kernel refuses when a session is created.

    The next kernel refuses the second one: the first open of /dev/liveupdate and all later ones return -EIO.
    """
    view.serialised()
    first: dict[str, str] = {}
    for where, session in view.sessions():
        other = first.setdefault(session.name, where)
        if session.name and other != where:
            yield Found(
                f"session {safe_text(session.name)}: duplicate name, also of {other}",
                address=session.address,
                where=where,
                hint="only one of the two can be retrieved; find what overwrote the entry",
            )


@register(
    "LUO015",
    "file-entry-bad",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#files; luo.md#errors; luo.md#invariant-5",
)
def luo_file_entry(view: View) -> Iterator[Found]:
    """The handler in a file entry is empty, has no NUL or bytes after the NUL, or is not printable ASCII.

    No kernel has such a handler: the first open of /dev/liveupdate and all later ones return -EIO.
    """
    view.need_unconsumed()
    luo = view.serialised()
    for problem in view.problems("bad-file"):
        yield Found(problem.message, address=problem.address, where=problem.about, hint=FROZEN_OUT)
    for where, session, file in view.files():
        if not (file.compatible.isascii() and file.compatible.isprintable()):
            yield Found(
                f"{view.name_of(session, file)}: handler {safe_text(file.compatible)} is not printable ASCII",
                address=file.address or luo.address,
                where=where,
                hint=FROZEN_OUT,
            )


@register("LUO016", "token-duplicate", Severity.ERROR, kernels="6.19 and later", source="luo.md#files; luo.md#errors")
def luo_token_duplicate(view: View) -> Iterator[Found]:
    """Two files of one session have the same token, which the kernel refuses when a file is preserved.

    Files are retrieved by token. So only one of the two can be retrieved, and the other is lost. The same token in two
    sessions is normal.
    """
    view.serialised()
    for place, session in view.sessions():
        first: dict[int, int] = {}
        for index, file in enumerate(session.files):
            other = first.setdefault(file.token, index)
            if other != index:
                yield Found(
                    f"{view.name_of(session, file)}: duplicate token, also of {place}.files[{other}]",
                    address=file.address,
                    where=f"{place}.files[{index}]",
                    hint="only one of the two can be retrieved; find what overwrote the entry",
                )


# -- FLBs -------------------------------------------------------------------------------------------------


@register(
    "LUO019", "flb-count-wrong", Severity.ERROR, kernels="7.0 and later", source="luo.md#flbs; luo.md#invariant-7"
)
def luo_flb_files(view: View) -> Iterator[Found]:
    """The count of an FLB is not the number of files of the handlers that depend on it.

    Each file that is finished decrements the count. If it is too high it never becomes 0: the FLB is never finished,
    and its memory leaks; if it is too low, the FLB is finished while files need it. The bytes do not show which
    handlers depend on an FLB, but all files of a handler do, or none.
    """
    view.need_unconsumed()
    luo = view.serialised()
    need_chains(view, (*UNREAD, *BROKEN, "bad-count", "bad-session"))
    files = sum(session.count for session in luo.sessions)
    if view.flb_entries() and not files:
        raise NotApplicable("no session has a file, which LUO012 reports")
    handlers = Counter(file.compatible for _, _, file in view.files())
    possible = _sums(handlers.values()) if handlers.total() == files else range(1, files + 1)
    for index, flb in enumerate(view.flb_entries()):
        if not 1 <= flb.count <= files or flb.count not in possible:
            expected = ", ".join(map(str, possible[:_SUMS])) + (", ..." if len(possible) > _SUMS else "")
            yield Found(
                f"FLB {safe_text(flb.name)}: count is {flb.count}, expected the number of files of some handlers: "
                f"{expected}",
                address=flb.address,
                where=f"luo.flbs[{index}]",
                hint="the next kernel will not finish it when its files are finished",
            )


_SUMS, _MOST_HANDLERS = 8, 12
"""Numbers that a message lists, and handlers of which all sums are made."""


def _sums(counts: Collection[int]) -> Sequence[int]:
    """The sums of all choices of at least one of these numbers, ascending. Of many numbers all up to their sum."""
    if len(counts) > _MOST_HANDLERS:
        return range(1, sum(counts) + 1)
    sums = {0}
    for count in counts:
        sums |= {before + count for before in sums}
    return sorted(sums - {0})


@register(
    "LUO020",
    "flb-name-bad",
    Severity.ERROR,
    kernels="7.0 and later",
    source="luo.md#flbs; luo.md#errors; luo.md#invariant-7",
)
def luo_flb_name(view: View) -> Iterator[Found]:
    """An FLB has an invalid name, or two have the same, which the kernel refuses at registration.

    An FLB is found by its name. So the data of this one, or of one of the two, are lost.
    """
    view.serialised()
    for problem in view.problems("bad-flb") if not view.consumed else ():
        yield Found(
            problem.message, address=problem.address, where=problem.about, hint="the next kernel does not find its data"
        )
    yield from _same_names(view)


def _same_names(view: View) -> Iterator[Found]:
    first: dict[str, int] = {}
    for index, flb in enumerate(view.flb_entries()):
        other = first.setdefault(flb.name, index)
        if other != index:
            yield Found(
                f"FLB {safe_text(flb.name)}: duplicate name, also of luo.flbs[{other}]",
                address=flb.address,
                where=f"luo.flbs[{index}]",
                hint="the next kernel finds only one of the two",
            )


@register("LUO023", "flb-page-zero", Severity.WARNING, kernels="7.0 and later", source="luo.md#flbs; luo.md#invariants")
def luo_flb_page(view: View) -> Iterator[Found]:
    """The page of an FLB that files depend on is all zeros.

    An owner without data may leave it so. Otherwise something cleared it, and its contents are lost.
    """
    view.need_unconsumed()
    view.serialised()
    for problem in view.problems("zero-flb"):
        yield Found(problem.message, address=problem.address, where=problem.about, hint="find what cleared it")
