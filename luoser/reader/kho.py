# SPDX-License-Identifier: MIT
"""Everything below a KHO root: sub-trees, the map, LUO, the device lists; then the direction of each root."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from luoser.abi.kho import FORMS, MAP_PROPERTIES, SUBTREE_PROPERTIES, SUBTREE_SIZE, UNREAD_MAPS
from luoser.abi.luo import is_test_flb
from luoser.abi.other import POISONED, TREES, TreeForm
from luoser.abi.pci import is_flb_name
from luoser.abi.release import release_numbers, writers_of
from luoser.abi.vmalloc import kho_vmalloc
from luoser.errors import MissingMemory
from luoser.fdt import MAGIC, Fdt, Node
from luoser.kernel.types import Types
from luoser.limits import LIMITS
from luoser.reader.direction import Draft, Numbers, direction_of, is_left_over, numbers_of, outside_signs
from luoser.reader.foreign import mark_foreign
from luoser.reader.handler import read_detail, read_poisoned, settled
from luoser.reader.kept import Values, keep_tree, values_of
from luoser.reader.kexec_metadata import read_kexec_metadata
from luoser.reader.kho_test import read_kho_test
from luoser.reader.locate import INCOMING_POINTER, Root, Search, find_setup_nodes
from luoser.reader.luo import read_luo
from luoser.reader.memblock import read_memblock
from luoser.reader.memfd import with_file_contents
from luoser.reader.pci import Lead, read_lists, with_contents
from luoser.reader.pending import read_pending
from luoser.reader.preserved import Broken, MapReading, read_chunks, read_page_tree, read_radix
from luoser.reader.scratch import Messenger, messengers, own_scratch, report_lost_array, report_lost_roots
from luoser.reader.status import judge, judge_page_tree
from luoser.reader.unknown import with_unknown_contents
from luoser.reader.walk import KeepTree, Subject, Walk
from luoser.state import (
    Area,
    Direction,
    File,
    Handover,
    Luo,
    MapStatus,
    PciList,
    Preserved,
    PreservedMap,
    Session,
    Subtree,
)
from luoser.text import decode_name, safe_text

__all__ = ["read_handovers"]

_LUO, _MEMBLOCK, _METADATA, _TEST = "LUO", "memblock", "kexec-metadata", "kho_test"
_ROOT = Subject("KHO root", "root")
_OWN_ROOT = (6, 19, 0)
"""First release that makes its own root at boot."""


def read_handovers(walk: Walk, search: Search, *, whole: bool = True) -> tuple[Handover, ...]:
    """The handovers: those of this machine by address, then foreign and left-over ones by address.

    walk:   the source.
    search: its roots.
    whole:  with directions and scratch areas, which may need another search.
    """
    roots = search.roots
    found: tuple[Messenger, ...] = ()
    if whole and search.is_whole and not walk.memory.live:
        nodes = find_setup_nodes(walk, [root.address for root in roots]) if _need_messengers(search) else ()
        found = messengers([*(one for root in roots for one in root.chosen), *search.strays], nodes)
        known = {root.address for root in roots}
        report_lost_roots(walk, (one for one in found if one.root not in known))
    kept = _without_copies(walk, roots, {one.root for one in found}, search.wanted)
    types = search.kernel.types if search.kernel is not None else None
    drafts = [_draft(walk, root, types if root.is_named else None) for root in kept]
    for draft in drafts:
        draft.messengers = [one for one in found if one.root == draft.root.address]
    mark_foreign(walk, drafts)
    numbers = numbers_of(walk, drafts) if search.is_whole or all(root.is_named for root in kept) else None
    for draft in drafts:
        walk.at_root(draft.root.address)
        at_jump = draft.root.address in walk.memory.at_jump
        draft.preserved = _map(walk, draft, None if at_jump else outside_signs(walk, draft, numbers))
        draft.lists = read_lists(walk, _leads(walk, draft), draft.preserved.map)
        if draft.luo is not None:
            draft.luo = _settled(draft.luo, draft.lists)
    made = [_handover(walk, draft, drafts, numbers, whole=whole) for draft in drafts]
    for one, draft in zip(made, drafts, strict=True) if whole and search.is_whole else ():
        if one.scratch is None and draft.root.address in walk.memory.at_jump:
            walk.at_root(draft.root.address)
            report_lost_array(walk, draft.messengers)
    walk.at_root(None)
    if whole and search.is_whole and not walk.memory.known_roots:
        _need_own_root(walk, made, drafts)
    ordered = tuple(sorted(_inherit(made), key=lambda one: (not one.own, one.address or 0)))
    if whole:
        named = frozenset(root.address for root in roots if root.is_named)
        ordered = read_pending(walk, search.kernel, ordered, named)
        if types is not None:
            from luoser.reader.own_types import with_own_types  # late: of most dumps the types are not known

            ordered = with_own_types(walk, search.kernel, ordered, named)
    walk.end()
    return ordered


def _need_own_root(walk: Walk, handovers: list[Handover], drafts: list[Draft]) -> None:
    """Note a problem if the only root is incoming, and its kernel makes one of its own at boot (6.19 and later)."""
    own = [(one, draft) for one, draft in zip(handovers, drafts, strict=True) if one.own]
    if len(own) != 1 or not own[0][0].is_taken:
        return
    form, luo = own[0][1].root.form, own[0][0].luo
    release = release_numbers(walk.memory.vmcoreinfo.get("OSRELEASE", ""))
    if release is not None:
        has_own = release >= _OWN_ROOT
    else:
        has_own = (form is not None and form.map == "radix") or (luo is not None and bool(writers_of(luo.layout)))
    if has_own:
        text = "found no KHO root of the running kernel, which makes one at boot; is it damaged, or not in the source?"
        walk.problem("no-own-root", None, None, text)


def _need_messengers(search: Search) -> bool:
    """Whether the direction or the scratch areas of some root are not known from the running kernel, or it was handed a
    root that was not found.
    """
    roots, kernel = search.roots, search.kernel
    if not roots or any(root.verdict is None or not root.scratch or root.is_doubtful for root in roots):
        return True
    if kernel is None or any(root.verdict is not None and root.verdict[0] is Direction.INCOMING for root in roots):
        return False
    return bool(kernel.pointers(*INCOMING_POINTER))


def _inherit(handovers: list[Handover]) -> Iterator[Handover]:
    """Give an outgoing root without scratch areas those of the incoming one: a kexec does not change them."""
    known = [one for one in handovers if one.direction is Direction.INCOMING and one.scratch is not None]
    for one in handovers:
        if one.scratch is None and one.direction is Direction.OUTGOING and len(known) == 1:
            where = f"{known[0].address:#x}" if known[0].address is not None else "the incoming root"
            one = replace(one, scratch=known[0].scratch, evidence=(*one.evidence, f"scratch areas of {where}"))
        yield one


def _without_copies(walk: Walk, roots: list[Root], named: Collection[int], wanted: int | None) -> list[Root]:
    """The roots without copies (page cache, a read of debugfs): of several with one map only the preserved one.

    If the map does not show which that is, because it is consumed, it is the one that has a messenger or a verdict.

    named:  addresses of the roots that messengers point to.
    wanted: address of a root that is kept, as the user asked for it. None: no such root.
    """
    by_map: dict[int, list[Root]] = {}
    for root in roots:
        by_map.setdefault(_map_address(root) or -root.address, []).append(root)
    kept: list[Root] = []
    for same in by_map.values():
        reading = _read_map(walk, same[0]) if len(same) > 1 else None
        found = PreservedMap(reading.bitmaps, page_size=walk.page_size) if reading is not None else None
        true = [root for root in same if found is not None and found.find(root.address)]
        if len(true) != 1:
            true = [root for root in same if root.verdict is not None or root.address in named]
        if len(true) == 1:
            for root in same:
                if root is not true[0]:
                    word = f"copy of the KHO root at {true[0].address:#x}, with the same map; ignored"
                    walk.problem("root-copy", root.address, None, word)
        kept += [one for one in same if one is true[0] or one.address == wanted] if len(true) == 1 else same
    return sorted(kept, key=lambda root: root.address)


def _draft(walk: Walk, root: Root, types: Types | None) -> Draft:
    """types: of the kernel that has the root. None: not known."""
    walk.begin_root(root.address, types)
    tree = root.tree
    if tree.fault:
        walk.problem("bad-fdt", root.address, _ROOT, tree.fault)
    if root.form is None:
        named = safe_text(tree.root.text("compatible") or b"")
        walk.problem("kho-version", root.address, _ROOT, f"unknown version {named}; assuming {FORMS[-1].name}")
    subtrees = tuple(_subtrees(walk, root.address, tree))
    by_name = {subtree.name: subtree for subtree in reversed(subtrees)}  # a kernel finds the first one of a name
    luo, metadata = by_name.get(_LUO), by_name.get(_METADATA)
    test, memblock = by_name.get(_TEST), by_name.get(_MEMBLOCK)
    return Draft(
        root=root,
        subtrees=subtrees,
        luo=read_luo(walk, luo.address, luo.size) if luo is not None and luo.address else None,
        memblock=read_memblock(walk, memblock.address, memblock.fdt)
        if memblock is not None and memblock.address and memblock.fdt
        else None,
        metadata=read_kexec_metadata(walk, metadata.address, metadata.size)
        if metadata is not None and metadata.address
        else None,
        test=read_kho_test(walk, test.address, test.fdt) if test is not None and test.address and test.fdt else None,
        reading=_read_map(walk, root),
        is_reused=any(
            problem.code in ("luo-reused", "no-fdt", "bad-fdt") and problem.about == "luo"
            for problem in walk.problems
            if problem.root == walk.place(root.address)
        ),
    )


def _subtrees(walk: Walk, root: int, tree: Fdt) -> Iterator[Subtree]:
    seen: set[bytes] = set()
    for index, node in enumerate(tree.root.nodes):
        name = decode_name(node.name)
        subject = Subject(f"sub-tree {safe_text(name)}", f"subtrees[{index}]")
        if node.name in seen:
            walk.problem("bad-subtree", root, subject, "duplicate name; only the first sub-tree of this name is read")
        seen.add(node.name)
        address = next((value for name_ in SUBTREE_PROPERTIES if (value := node.u64(name_)) is not None), None)
        size = node.u64(SUBTREE_SIZE)
        if address is None:
            walk.problem("bad-subtree", root, subject, "no 8-byte property with its address")
        elif not walk.is_page_address(address):
            walk.problem("bad-pointer", root, subject, f"{address:#x} is not a page address")
            address = None
        yield _subtree(walk, subject, name, address, size, node)


def _subtree(walk: Walk, subject: Subject, name: str, address: int | None, size: int | None, node: Node) -> Subtree:
    """A sub-tree, with its devicetree if it is one. Other kinds are read by the modules of their subjects."""
    fdt = detail = pages = None
    if address is not None:
        is_tree = name in (_MEMBLOCK, _TEST) or (name != _LUO and node.get(SUBTREE_PROPERTIES[0]) is not None)
        if is_tree or _starts_as_fdt(walk, address):
            fdt = walk.fdt(address, subject, size=size, keep=_kept(walk, name, subject))
            if fdt is not None and not fdt.root.properties and not fdt.root.nodes and not fdt.strings:
                size, fdt = size or fdt.header.totalsize, None  # not in a cut without contents
            if fdt is not None and name == POISONED:
                detail = read_poisoned(walk, address, fdt, subject)
            pages = _page_tree(walk, name, fdt, subject.part("page tree", ".page_tree")) if fdt is not None else None
        elif name not in (_LUO, _METADATA):  # those are read for themselves
            walk.read_some(address, min(size or 1, _LARGEST), subject)
            detail = read_detail(walk, name, address, subject, size=size)
    if size is None and fdt is not None:
        size = fdt.header.totalsize
    return Subtree(name=name, address=address, size=size, fdt=fdt, detail=detail, page_tree=pages)


def _page_tree(walk: Walk, name: str, tree: Fdt, subject: Subject) -> Preserved | None:
    """The tree of pages that the devicetree of a posted user names. None: it has none, or no address of it."""
    for form in TREES:
        is_form = form.subtree == name and tree.root.text("compatible") == form.compatible.encode()
        address = tree.root.u64(form.page_tree) if is_form and form.page_tree else None
        if address is not None and walk.is_page_address(address):
            return judge_page_tree(walk, read_page_tree(walk, address), subject)
    return None


_OF_TEST = values_of(magic=4, csum=4)


def _of_test(name: bytes, value: bytes) -> bool:
    """Whether the value of a property of the self-test is kept; these two names have a `_`."""
    return _OF_TEST(name, value) or (name == b"nr_folios" and len(value) == 4) or name == b"folios_info"


def _of_form(form: TreeForm) -> Values:
    """Which values of a devicetree of a posted user are kept: addresses, and their number. These names have a `_`."""
    sizes = {b"compatible": len(form.compatible) + 1, form.counted.encode(): 4}
    sizes |= {name.encode(): 8 for name in form.pages}
    return lambda name, value: len(value) <= sizes.get(name, -1)


_OF_TREES: dict[str, Values] = {
    _MEMBLOCK: values_of(start=8, size=8),
    _TEST: _of_test,
    POISONED: values_of(count=8, pfns=kho_vmalloc.size),
    **{form.subtree: _of_form(form) for form in TREES},
}
"""Properties of the devicetrees that are read, by the name of the sub-tree."""


def _kept(walk: Walk, name: str, subject: Subject) -> KeepTree | None:
    """Notes what is kept of the devicetree of a sub-tree. None: nothing, as its owner is not known."""
    known = _OF_TREES.get(name)
    if known is None:
        return None

    def keep(address: int, data: bytes, tree: Fdt) -> None:
        is_region = name == _MEMBLOCK
        keep_tree(walk, address, data, tree, subject, known, lambda _, level: is_region and level == 1)

    return keep


_LARGEST = 4 << 20
"""Bytes of a blob that are read, so that what of it is not there becomes a problem: the largest that KHO preserves."""


def _starts_as_fdt(walk: Walk, address: int) -> bool:
    try:
        return walk.memory.read(address, 4) == MAGIC
    except MissingMemory:
        return False


# -- the map ----------------------------------------------------------------------------------------------


def _map_address(root: Root) -> int | None:
    return next((value for name in MAP_PROPERTIES if (value := root.tree.root.u64(name)) is not None), None)


def _read_map(walk: Walk, root: Root) -> MapReading | None:
    """The map before it is judged. None: the root has no pointer to a map."""
    address = _map_address(root)
    for name, unread in UNREAD_MAPS.items() if address is None else ():
        if (table := root.tree.root.u64(name)) is not None:
            return MapReading("chunks", table, unread=unread)
    if address is None:
        walk.problem("no-map", root.address, _ROOT, "no 8-byte property with the preserved map's address")
        return None
    form = root.form or FORMS[-1]
    if address == 0:
        return MapReading(form.map, 0)
    if not walk.is_page_address(address):
        reading = MapReading(form.map, address, is_nowhere=True)
        text = f"the root's pointer to the map, {address:#x}, is not a page address"
        reading.broken.append(Broken(root.address, text))
        return reading
    return read_chunks(walk, address) if form.map == "chunks" else read_radix(walk, address)


def _map(walk: Walk, draft: Draft, outside: list[str] | None) -> Preserved:
    reading = draft.reading
    if reading is None or (reading.address == 0 and not reading.unread):
        form = reading.form if reading is not None else "chunks"
        return Preserved(form=form, address=0, status=MapStatus.ABSENT)
    return judge(walk, reading, _named(walk, draft), outside=outside)


def _named(walk: Walk, draft: Draft) -> Iterator[tuple[int, int, str]]:
    """(address, size, what) of memory that a real map covers: the root, and its sub-trees.

    LUO's page is left out if it has something else: a damaged pointer to it explains both.
    """
    if walk.place(draft.root.address) is not None:
        yield draft.root.address, 1, "the KHO root itself"
    for subtree in draft.subtrees:
        if subtree.address is not None and not (draft.is_reused and subtree.name == _LUO):
            yield subtree.address, min(subtree.size or 1, LIMITS.blob_size), f"sub-tree {safe_text(subtree.name)}"


# -- device lists -----------------------------------------------------------------------------------------


def _leads(walk: Walk, draft: Draft) -> list[Lead]:
    leads: list[Lead] = []
    if draft.luo is not None:
        for index, flb in enumerate(draft.luo.flbs):
            if is_flb_name(flb.name) and not is_test_flb(flb.data):
                path = f"luo.flbs[{index}]"
                leads.append(Lead(via=f"flb:{flb.name}", address=flb.data, path=path, certain=True))
        for index, entry in enumerate(draft.luo.subsystems):
            if entry.name == "pci" and entry.data:
                path = f"luo.subsystems[{index}]"
                leads.append(Lead(via="subsystem:pci", address=entry.data, path=path, certain=True))
    known = (_LUO, _MEMBLOCK, _METADATA, _TEST)
    for index, subtree in enumerate(draft.subtrees):
        if subtree.name not in known and subtree.address is not None and subtree.fdt is None and subtree.size:
            via, path = f"subtree:{subtree.name}", f"subtrees[{index}]"
            leads.append(Lead(via=via, address=subtree.address, path=path, size=subtree.size))
    return leads


def _settled(luo: Luo, lists: tuple[PciList, ...]) -> Luo:
    """The same, with vfio files read in the layout whose device is in these lists."""
    if not any(file.detail for session in luo.sessions for file in session.files):
        return luo
    devices = {(device.domain, device.bdf) for entry in lists for device in entry.devices}

    def with_device(_: str, __: Session, file: File) -> File:
        if file.detail is None or not file.compatible.startswith("vfio-pci"):
            return file
        return replace(file, detail=settled(file.detail, devices))

    return luo.with_files(with_device)


def _handover(walk: Walk, draft: Draft, drafts: list[Draft], numbers: Numbers | None, *, whole: bool) -> Handover:
    assert draft.preserved is not None
    walk.at_root(draft.root.address)
    compatible, lists = draft.root.tree.root.text("compatible") or b"", draft.lists
    luo = draft.luo
    if walk.contents:
        luo = with_file_contents(walk, luo, draft.preserved.map) if luo is not None else None
        lists = tuple(
            with_contents(walk, entry, draft.preserved.map, f"pci[{index}]") for index, entry in enumerate(lists)
        )
    direction, evidence = Direction.UNKNOWN, tuple[str, ...]()
    scratch: tuple[Area, ...] | None = None
    array: int | None = None
    if whole:
        direction, evidence = direction_of(walk, draft, drafts, numbers)
        scratch, array, words = own_scratch(walk, draft.root, draft.messengers)
        evidence = (*evidence, *words)
    at_jump = direction is Direction.INCOMING and draft.root.address in walk.memory.at_jump
    if at_jump:
        evidence = (*evidence, "at the jump: an image to boot with, which no kernel has taken over yet")
    made = Handover(
        address=walk.place(draft.root.address),
        compatible=compatible.decode("utf-8", "surrogateescape"),
        own=not draft.is_foreign and not is_left_over(draft, numbers),
        direction=direction,
        at_jump=at_jump,
        evidence=evidence,
        scratch=scratch,
        scratch_array=array,
        preserved=draft.preserved,
        subtrees=draft.subtrees,
        luo=luo,
        pci=lists,
        memblock=draft.memblock,
        kexec_metadata=draft.metadata,
        kho_test=draft.test,
        fdt=draft.root.tree,
    )
    return with_unknown_contents(walk, made) if walk.contents else made
