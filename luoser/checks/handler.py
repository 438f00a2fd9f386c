# SPDX-License-Identifier: MIT
"""Rules on the handlers of files, and on what the next kernel claims."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping

from luoser.abi.memfd import form_of_handler
from luoser.abi.other import POISONED, POISONED_TREE, TREES, TreeForm, kho_hwpoison_metadata
from luoser.abi.registry import layouts
from luoser.abi.release import RELEASES, TEST_FLBS, claimed_subtrees, handlers_of, known_release
from luoser.abi.vmalloc import KNOWN_FLAGS, VM_ALLOC, kho_vmalloc
from luoser.checks.block import BROKEN, FROZEN_OUT, UNREAD
from luoser.checks.model import Found, NotApplicable, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.checks.vmalloc import broken_areas
from luoser.fdt import Node
from luoser.state import Array, MapStatus, Preserved, PreservedMap, Problem, Record, Subtree
from luoser.state.trees import tree_addresses, tree_nodes
from luoser.text import one_bit_off, safe_text

__all__: list[str] = []


_RELEASED = frozenset(found.memfd for found in RELEASES.values() if found.luo is not None)
"""memfd handlers of all releases."""


@register("LUO017", "handler-unknown", Severity.WARNING, kernels="6.19 and later", source="luo.md#errors")
def luo_handler(view: View) -> Iterator[Found]:
    """A file's handler is not a merged or posted one.

    If the next kernel does not have a handler of that name either, the first open of /dev/liveupdate and all later
    ones fail. One finding for each name. A name that is one bit off a known one may be damaged: it is not judged.
    """
    view.serialised()
    known = {entry.handler for entry in layouts() if entry.handler} | view.handlers
    strange: dict[str, list[tuple[str, int | None]]] = {}
    for where, _, file in view.files():
        if file.compatible not in known:
            strange.setdefault(file.compatible, []).append((where, file.address))
    for name, places in strange.items():
        where, address = places[0]
        yield Found(
            f"unknown handler {safe_text(name)}, {_times(len(places))}",
            address=address,
            where=where,
            hint="make sure that the next kernel has it, with all its modules",
        )
    for name, places in strange.items():
        near = one_bit_off(name, known)
        if near is not None:
            reason = (
                f"handler {safe_text(name)} is unknown, and one bit off {near}; give it with --handlers if it exists"
            )
            raise NotJudged(reason, cause="unknown-form", about=places[0][0])


def _times(files: int) -> str:
    return "of one file" if files == 1 else f"of {files} files, this is the first"


@register(
    "LUO018",
    "handler-generation",
    Severity.ERROR,
    kernels="6.19 and later",
    source="README.md#release-matrix; luo.md#errors",
)
def luo_handler_generation(view: View) -> Iterator[Found]:
    """A memfd has the form of another generation of kernels than the root: memfd-v1 belongs to kho-v1, memfd-v2 to
    later ones.

    A kernel that accepts this root has only the other handler: the first open of /dev/liveupdate and all later ones
    return -EIO.
    """
    view.serialised()
    right, root = handlers_of(view.handover.compatible), safe_text(view.handover.compatible)
    for where, session, file in view.files() if right else ():
        if file.compatible in _RELEASED and file.compatible not in right:
            yield Found(
                f"{view.name_of(session, file)}: {root} expects {' or '.join(sorted(right))}, found {file.compatible}",
                address=file.address,
                where=where,
                hint=FROZEN_OUT,
            )


@register(
    "LUO024",
    "handler-area-broken",
    Severity.ERROR,
    kernels="postings of 2026",
    source="vmalloc.md#invariants; others.md#sub-trees",
)
def handler_area(view: View) -> Iterator[Found]:
    """A vmalloc area that the struct of a handler, FLB or sub-tree has is a loop, has an address that is not that of a
    page, too few blocks, or flags that no kernel writes.

    Its owner in the next kernel cannot restore it, and what it has is lost. A struct that no known layout fits is not
    judged: its version, counts or sizes can be wrong, or newer than what is known.
    """
    view.need_unconsumed()
    strange, lost = list(view.subjects("bad-handler-data")), _lost_structs(view)
    details = [entry.detail for entry in view.handover.subtrees] + [flb.detail for flb in view.flb_entries()]
    if not any((*strange, *lost, *details, *(file.detail for _, _, file in view.files()))):
        raise NotApplicable("no struct of a handler, FLB or sub-tree")
    paths = [path for path in view.subjects("short-list", *BROKEN, *UNREAD) if _AREA.fullmatch(path)]
    for path, problems in broken_areas(view, paths):
        for problem in problems:
            yield Found(problem.message, address=problem.address, where=path, hint="find what overwrote the struct")
    for where, what, record in view.records():
        for name, area in _areas(record):
            flags = area["flags"]
            if flags & ~KNOWN_FLAGS or (area["first"] and not flags & VM_ALLOC):
                word = f"{what}: vmalloc flags of {name}: expected 1, or 1 and 2, found {flags:#x}"
                yield Found(word, address=record.address, where=where, hint="find what overwrote the struct")
    for path, problem in lost.items():
        raise NotJudged(problem.message, cause=cause_of(problem), about=path)
    if strange:
        raise NotJudged("no known layout fits the struct of its owner", cause="unknown-form", about=strange[0])


def _areas(record: Record) -> Iterator[tuple[str, Mapping[str, int]]]:
    """(member, values) of the vmalloc areas of a struct, if only one layout fits it."""
    for name, value in record.readings[0][1].items() if len(record.readings) == 1 else ():
        if isinstance(value, Mapping) and {"first", "total_pages", "flags"} <= value.keys():
            yield name, value


def _lost_structs(view: View) -> dict[str, Problem]:
    """Problems with structs of known owners that are not in the source, by path. Memfds have rules of their own."""
    owners = {entry.handler for entry in layouts() if entry.kind == "struct" and entry.handler}
    names = {f"subtrees[{index}]": entry.name for index, entry in enumerate(view.handover.subtrees)}
    names |= {f"luo.flbs[{index}]": flb.name for index, flb in enumerate(view.flb_entries())}
    names |= {where: file.compatible for where, _, file in view.files() if form_of_handler(file.compatible) is None}
    return {path: found[0] for path, found in view.subjects(*UNREAD).items() if names.get(path) in owners}


_AREA = re.compile(r"(subtrees|luo\.flbs|luo\.sessions\[\d+\]\.files)\[\d+\]\.(?!memfd|contents|page_tree)\w+")
"""Paths of the areas of such structs."""


# -- sub-trees of postings --------------------------------------------------------------------------------


@register("KHO025", "subtree-incomplete", Severity.ERROR, kernels="postings of 2026", source="others.md#sub-trees")
def incomplete(view: View) -> Iterator[Found]:
    """The devicetree of a posted user lacks a property that its owner needs, or counts more than a page holds; or the
    blob-size of hwpoison is less than that of its struct.

    The next kernel ignores what it carries. Without the pages of the hypervisor (mshv_prsv_pt) it panics. A devicetree
    with another compatible string is not judged.
    """
    view.need_unconsumed()
    trees = {where: (form, tree.root) for where, form, tree in view.trees()}
    lists = list(_list_faults(view))
    if not trees and not _poisoned(view) and not _strange_trees(view) and not lists:
        raise NotApplicable("no sub-tree of such a user")
    for where, (form, root) in trees.items():
        for node in tree_nodes(form, root):
            for fault, effect in _faults(form, node, view.page_size):
                name = f"sub-tree {form.subtree}" + (f", {safe_text(node.name)}" if form.below else "")
                yield Found(f"{name}: {fault}", where=where, hint=f"{effect}; find what overwrote the devicetree")
    for where, fault in lists:
        yield Found(f"sub-tree {POISONED}: {fault}", where=where, hint=_IGNORED)
    for where, subtree, record in _poisoned(view):
        if record.readings[0][0] == POISONED and subtree.size is not None and subtree.size < kho_hwpoison_metadata.size:
            word = f"sub-tree hwpoison: blob-size: expected {kho_hwpoison_metadata.size} bytes, found {subtree.size}"
            yield Found(word, address=record.address, where=where, hint=_IGNORED)
    for where, word in _strange_trees(view).items():
        raise NotJudged(word, cause="unknown-form", about=where)


def _faults(form: TreeForm, node: Node, page_size: int) -> Iterator[tuple[str, str]]:
    """(what is wrong with a property of a node, what its owner does), in words."""
    first, last = form.pages[0], form.pages[-1]
    for name in form.pages:
        value = node.get(name)
        effect = form.answer if name == first else _OTHER
        if value is None and name == first:
            yield f"no {name}", effect
        elif value is not None and len(value) != 8:
            yield f"{name}: expected 8 bytes, found {len(value)}", effect
    if form.counted and node.get(last) is not None:
        count = node.u32(form.counted)
        if count is None or count > page_size // 8:
            yield f"{form.counted}: expected a u32 of at most {page_size // 8}, found {count}", _OTHER


def _list_faults(view: View) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of the properties of a list of pages with errors in its earlier form."""
    for index, subtree in enumerate(view.handover.subtrees):
        root = subtree.fdt.root if subtree.fdt is not None and subtree.name == POISONED else None
        if root is None or root.text("compatible") != POISONED_TREE.encode():
            continue
        for name, size in (("count", 8), ("pfns", kho_vmalloc.size)):
            value = root.get(name)
            if value is None or len(value) != size:
                fault = f"no {name}" if value is None else f"{name}: expected {size} bytes, found {len(value)}"
                yield f"subtrees[{index}]", fault


_OTHER = "its owner refuses the list"
_IGNORED = "the next kernel ignores the list, and allocates the pages with errors"


def _strange_trees(view: View) -> dict[str, str]:
    """What is under the name of a posted user and is neither its devicetree nor a struct: by path, in words."""
    known, made = {form.subtree: form.compatible for form in TREES} | {POISONED: POISONED_TREE}, dict[str, str]()
    structs = {entry.handler for entry in layouts() if entry.kind == "struct"}
    for index, subtree in enumerate(view.handover.subtrees):
        expected = known.get(subtree.name)
        is_struct = subtree.name in structs and subtree.fdt is None  # read, or not judged, as a struct
        if expected is None or subtree.detail is not None or is_struct:
            continue
        found = subtree.fdt.root.text("compatible") or b"" if subtree.fdt is not None else None
        if found != expected.encode():
            shown = f"'{safe_text(found)}'" if found is not None else "no devicetree that can be read"
            made[f"subtrees[{index}]"] = f"sub-tree {safe_text(subtree.name)}: expected {expected}, found {shown}"
    return made


def _poisoned(view: View) -> list[tuple[str, Subtree, Record]]:
    """(path, sub-tree, struct) of each list of pages with memory errors."""
    return [
        (f"subtrees[{index}]", subtree, subtree.detail)
        for index, subtree in enumerate(view.handover.subtrees)
        if subtree.detail is not None and subtree.detail.readings[0][0] in (POISONED, POISONED_TREE)
    ]


@register(
    "MAP021", "subtree-page-not-preserved", Severity.ERROR, kernels="postings of 2026", source="others.md#sub-trees"
)
def tree_pages(view: View) -> Iterator[Found]:
    """An address in the devicetree of a posted user is not that of a page, or the page is not preserved; or a page in
    the tree of the hypervisor's pages, or a node of this tree, is not preserved as a block of its own.

    The next kernel has used the page again when the owner reads it. For the pages of the hypervisor it panics: it
    restores each by itself. A tree that cannot be read to its end is not judged.
    """
    view.need_unconsumed()
    trees = list(view.trees())
    if not trees:
        raise NotApplicable("no devicetree of such a user")
    found = view.map()
    for where, form, tree in trees:
        for name, address in tree_addresses(form, tree.root):
            what = f"sub-tree {form.subtree}: {name}"
            effect = form.answer if name == form.pages[0] else "its owner reads memory that is used again"
            if address % view.page_size or not 0 < address < 1 << 52:
                word = f"{what}: expected the address of a page, found {address:#x}"
                yield Found(word, where=where, hint=f"{effect}; find what overwrote the devicetree")
            elif found.find(address) is None:
                yield Found(
                    f"{what} at {address:#x} is not preserved",
                    address=address,
                    where=where,
                    hint=f"{effect}; find what freed this memory, or cleared its bit in the map",
                )
    named = {address for _, form, tree in trees for _, address in tree_addresses(form, tree.root)}
    for what, where, pages in view.page_trees():
        yield from _lost_pages(found, what, where, pages, named)
    for what, where, pages in view.page_trees():
        _need_all(view, what, where, pages)


def _lost_pages(found: PreservedMap, what: str, where: str, tree: Preserved, named: Container[int]) -> Iterator[Found]:
    """Pages and nodes of a tree that are not in the map as blocks of the same order.

    named: addresses that were looked at as those of the devicetree.
    """
    nodes = [(node, 0, 1) for node in tree.nodes if node not in named or found.find(node) is not None]
    for kind, wanted in (("node", PreservedMap.from_extents(nodes, page_size=found.page_size)), ("page", tree.map)):
        lost = wanted.without(found) if wanted is not None else None
        if lost is None or not lost.entries:
            continue
        address, order, _ = next(lost.extents())
        count, block = lost.entries, found.find(address)
        fault = "not preserved" if block is None else f"preserved only in a block of order {block.order}"
        more = f", and {count - 1} more" if count > 1 else ""
        yield Found(
            f"{kind} {address:#x} of {what} is {fault}{more}: expected a block of order {order}",
            address=address,
            where=where,
            hint="the next kernel panics, as it cannot restore it; find what freed it, or cleared its bit in the map",
        )


def _need_all(view: View, what: str, where: str, tree: Preserved) -> None:
    """Raise NotJudged if a tree of pages was not read to its end."""
    problem = next(view.problems(*_TREE_PROBLEMS, about=where), None)
    if problem is not None:
        raise NotJudged(problem.message, cause=cause_of(problem), about=where)
    if tree.status is not MapStatus.INTACT or tree.map is None or not tree.map.complete:
        raise NotJudged(f"{what} cannot be read to its end", cause="damaged", about=where)


_TREE_PROBLEMS = (*UNREAD, "map-too-large", "map-garbage", "map-node-broken", "map-unread")


@register(
    "MAP022", "poisoned-page-preserved", Severity.WARNING, kernels="postings of 2026", source="others.md#hwpoison"
)
def poisoned(view: View) -> Iterator[Found]:
    """A page in the list of pages with memory errors is in the preserved map.

    The list is for pages that nobody uses: the next kernel takes them out of use late in its boot. One that is
    preserved belongs to somebody, who restores it, with the error. Entries after the count are left over, and are not
    looked at.
    """
    view.need_unconsumed()
    lists = _poisoned(view)
    if not lists:
        raise NotApplicable("no list of pages with memory errors")
    found = view.map()
    for where, _, record in lists:
        count = record.readings[0][1]["count"]
        array = next((one for one in record.arrays if one.member == "pfns"), None)
        words = array.words[:count] if array is not None else ()
        taken = [word * view.page_size for word in words if found.find(word * view.page_size) is not None]
        if taken:
            more = f", and {len(taken) - 1} more of {count}" if len(taken) > 1 else ""
            yield Found(
                f"page with a memory error at {taken[0]:#x} is preserved{more}",
                address=taken[0],
                where=where,
                hint="`luoser map` names its owner: move its data to another page before the kexec",
            )
        if len(words) < count:
            _need_entries(view, where, count, array)


def _need_entries(view: View, where: str, count: int, array: Array | None) -> None:
    """Raise NotJudged for a list of which not all entries were read. where: of its sub-tree."""
    about, have = f"{where}.pfns", len(array.words) if array is not None else 0
    problem = next(view.problems(*UNREAD, about=about), None)
    if problem is not None:
        word = f"only {have} of {count} entries of the list were read: {problem.message}"
        raise NotJudged(word, cause=cause_of(problem), about=where)
    raise NotJudged(f"the count is {count}, but the array has {have} entries", cause="damaged", about=where)


# -- the next kernel --------------------------------------------------------------------------------------


@register(
    "LUO021", "handler-refused", Severity.ERROR, kernels="6.19 to 7.3", source="luo.md#errors; README.md#release-matrix"
)
def handler_refused(view: View) -> Iterator[Found]:
    """The next kernel does not have the handler of a preserved file, or only in another version.

    The first open of /dev/liveupdate and all later ones return -EIO: no session can be retrieved. --handlers adds
    handlers to the merged ones. One finding for each name.
    """
    name, release = view.next_kernel()
    view.serialised()
    strange: dict[str, tuple[int, str, int | None]] = {}
    taker = known_release(release)
    known = ({taker.memfd} if taker is not None and taker.luo is not None else set()) | view.handlers
    for where, _, file in view.files():
        if file.compatible not in known:
            count, first, address = strange.get(file.compatible, (0, where, file.address))
            strange[file.compatible] = count + 1, first, address
    if strange and taker is None:
        raise NotJudged(f"unknown handlers of kernel {name}", cause="unknown-form", about="luo.sessions")
    for handler, (count, where, address) in strange.items():
        yield Found(
            f"kernel {name} has no handler {safe_text(handler)}, {_times(count)}",
            address=address,
            where=where,
            hint="boot a kernel that has it; --handlers adds handlers to the merged ones",
        )


@register("LUO022", "flb-unclaimed", Severity.WARNING, kernels="6.16 to 7.3", source="luo.md#flbs; kho.md#invariants")
def unclaimed(view: View) -> Iterator[Found]:
    """The next kernel does not claim an FLB or a sub-tree.

    Its memory stays preserved, and is never freed. --flbs adds names to the merged ones.
    """
    name, release = view.next_kernel()
    if known_release(release) is None:
        raise NotJudged(f"unknown FLBs and sub-trees of kernel {name}", cause="unknown-form", about="luo.flbs")
    hint = "its memory stays reserved in the next kernel; --flbs adds names to the merged ones"
    for index, flb in enumerate(view.flb_entries()):
        if flb.name not in view.flbs and not flb.name.startswith(TEST_FLBS):
            word = f"kernel {name} has no FLB {safe_text(flb.name)}"
            yield Found(word, address=flb.address, where=f"luo.flbs[{index}]", hint=hint)
    for index, subtree in enumerate(view.handover.subtrees):
        if subtree.name not in claimed_subtrees(release) | view.flbs:
            word = f"kernel {name} does not claim sub-tree {safe_text(subtree.name)}"
            yield Found(word, address=subtree.address, where=f"subtrees[{index}]", hint=hint)
