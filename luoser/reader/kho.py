# SPDX-License-Identifier: MIT
"""From a KHO root down: sub-trees, the map, LUO, the device lists; then which way each root goes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from luoser.abi.kho import MAP_PROPERTIES, SUBTREE_PROPERTIES, SUBTREE_SIZE, kho_scratch
from luoser.abi.luo import is_test_flb
from luoser.abi.pci import layout as pci_layout
from luoser.errors import MissingMemory, PageState
from luoser.fdt import MAGIC, Fdt, Node
from luoser.limits import LIMITS
from luoser.reader.handler import settled
from luoser.reader.locate import Root, setup_nodes
from luoser.reader.luo import read_luo
from luoser.reader.memblock import read_kexec_metadata, read_kho_test, read_memblock
from luoser.reader.pci import Lead, read_lists, with_contents
from luoser.reader.preserved import MapReading, judge, read_chunks, read_radix
from luoser.reader.walk import PHYSICAL_LIMIT, Walk
from luoser.state import (
    Area,
    Direction,
    Handover,
    KexecMetadata,
    KhoTest,
    Luo,
    MapStatus,
    Memblock,
    PciList,
    Preserved,
    PreservedMap,
    Subtree,
)
from luoser.text import decode_name, safe_text

__all__ = ["read_handovers"]

_LUO, _MEMBLOCK, _METADATA, _TEST = "LUO", "memblock", "kexec-metadata", "kho_test"
_SCRATCH_AREAS = 4096
_VERSIONS = (b"kho-v1", b"kho-v2", b"kho-v3", b"kho-v4")


@dataclass(slots=True)
class _Draft:
    """A root as read so far; the map is judged last, when the roots are known to each other."""

    root: Root
    subtrees: tuple[Subtree, ...]
    luo: Luo | None
    memblock: Memblock | None
    metadata: KexecMetadata | None
    test: KhoTest | None
    reading: MapReading | None


def read_handovers(walk: Walk, roots: list[Root], *, whole: bool = True) -> tuple[Handover, ...]:
    """Everything below each root; if whole, with the directions that they have towards each other, and scratch."""
    drafts = [_draft(walk, root) for root in _without_copies(walk, roots)]
    by_number = _directions_by_number(drafts)
    handovers = []
    for draft in drafts:
        walk.at_root(draft.root.address)
        consumed = None
        if draft.root.verdict is not None:
            if draft.root.verdict[0] is Direction.INCOMING:
                consumed = "the running kernel was handed this"
        elif by_number.get(draft.root.address, (Direction.UNKNOWN, ""))[0] is Direction.INCOMING:
            consumed = "the kernel that was handed this has a handover of its own by now"
        preserved = _map(walk, draft, consumed)
        lists = read_lists(walk, _leads(walk, draft), preserved.map)
        if walk.contents:
            lists = tuple(with_contents(walk, entry, preserved.map) for entry in lists)
        if draft.luo is not None:
            draft.luo = _settled(draft.luo, lists)
        handovers.append(_handover(walk, draft, preserved, lists))
    walk.at_root(None)
    return _with_directions(walk, drafts, handovers, by_number) if whole else tuple(handovers)


def _without_copies(walk: Walk, roots: list[Root]) -> list[Root]:
    """Without pages that are copies of a root (page cache, a read of debugfs): the map covers the true one only."""
    by_map: dict[int, list[Root]] = {}
    for root in roots:
        by_map.setdefault(_map_address(root) or -root.address, []).append(root)
    kept: list[Root] = []
    for same in by_map.values():
        reading = _read_map(walk, same[0]) if len(same) > 1 else None
        found = PreservedMap(reading.bitmaps, page_size=walk.page_size) if reading is not None else None
        true = [root for root in same if found is not None and found.find(root.address)]
        if len(true) == 1:
            for root in same:
                if root is not true[0]:
                    word = (
                        f"a copy of the KHO root at {true[0].address:#x}: same map, but not preserved itself; left out"
                    )
                    walk.problem("root-copy", root.address, word)
        kept += true if len(true) == 1 else same
    return sorted(kept, key=lambda root: root.address)


def _draft(walk: Walk, root: Root) -> _Draft:
    walk.begin_root(root.address)
    tree = root.tree
    if tree.fault:
        walk.problem("bad-fdt", root.address, f"KHO root: {tree.fault}")
    if not _is_known_version(root):
        named = safe_text(tree.root.text("compatible") or b"")
        walk.problem("kho-version", root.address, f"KHO root: {named} is not known; read as if it were kho-v4")
    subtrees = tuple(_subtrees(walk, root.address, tree))
    by_name = {subtree.name: subtree for subtree in subtrees}
    luo, metadata = by_name.get(_LUO), by_name.get(_METADATA)
    test, memblock = by_name.get(_TEST), by_name.get(_MEMBLOCK)
    return _Draft(
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
    )


def _subtrees(walk: Walk, root: int, tree: Fdt) -> Iterator[Subtree]:
    seen: set[bytes] = set()
    for node in tree.root.nodes:
        name = decode_name(node.name)
        if node.name in seen:
            walk.problem("bad-subtree", root, f"two sub-trees are called {safe_text(name)}; the last one is read")
        seen.add(node.name)
        address = next((value for name_ in SUBTREE_PROPERTIES if (value := node.u64(name_)) is not None), None)
        size = node.u64(SUBTREE_SIZE)
        if address is None:
            walk.problem("bad-subtree", root, f"sub-tree {safe_text(name)}: no 8-byte property with its address")
        elif not walk.is_page_address(address):
            walk.problem("bad-pointer", root, f"sub-tree {safe_text(name)}: {address:#x} is no page address")
            address = None
        yield _subtree(walk, name, address, size, node)


def _subtree(walk: Walk, name: str, address: int | None, size: int | None, node: Node) -> Subtree:
    """Sub-trees that are devicetrees by the kernel's word are read here; others by who knows them."""
    fdt = None
    if address is not None:
        is_tree = name in (_MEMBLOCK, _TEST) or (name != _LUO and node.get(SUBTREE_PROPERTIES[0]) is not None)
        if is_tree or _starts_as_fdt(walk, address):
            fdt = walk.fdt(address, f"sub-tree {safe_text(name)}", size=size)
    if size is None and fdt is not None:
        size = fdt.header.totalsize
    return Subtree(name=name, address=address, size=size, fdt=fdt)


def _starts_as_fdt(walk: Walk, address: int) -> bool:
    try:
        return walk.memory.read(address, 4) == MAGIC
    except MissingMemory:
        return False


# -- the map ----------------------------------------------------------------------------------------------


def _map_address(root: Root) -> int | None:
    return next((value for name in MAP_PROPERTIES if (value := root.tree.root.u64(name)) is not None), None)


def _read_map(walk: Walk, root: Root) -> MapReading | None:
    """The map as walked; None when the root has no pointer to one."""
    compatible, address = root.tree.root.text("compatible") or b"", _map_address(root)
    if address is None:
        walk.problem("no-map", root.address, "KHO root: no 8-byte property with the preserved map's address")
        return None
    is_chunks = compatible.split(b";")[0] == b"kho-v1"
    form = "chunks" if is_chunks else "radix"
    if address == 0:
        return MapReading(form, 0)
    if not walk.is_page_address(address):
        reading = MapReading(form, address)
        reading.impossible.append((root.address, f"the root names {address:#x}, which is no page address"))
        return reading
    return read_chunks(walk, address) if is_chunks else read_radix(walk, address)


def _map(walk: Walk, draft: _Draft, consumed: str | None) -> Preserved:
    reading = draft.reading
    if reading is None or reading.address == 0:
        form = reading.form if reading is not None else "chunks"
        return Preserved(form=form, address=0, status=MapStatus.ABSENT)
    return judge(walk, reading, _named(walk, draft), consumed=consumed)


def _named(walk: Walk, draft: _Draft) -> Iterator[tuple[int, int, str]]:
    """What a true map covers: the root itself and whatever the root names."""
    if walk.place(draft.root.address) is not None:
        yield draft.root.address, 1, "the KHO root itself"
    for subtree in draft.subtrees:
        if subtree.address is not None:
            yield subtree.address, min(subtree.size or 1, LIMITS.blob_size), f"sub-tree {safe_text(subtree.name)}"


# -- device lists -----------------------------------------------------------------------------------------


def _leads(walk: Walk, draft: _Draft) -> list[Lead]:
    leads: list[Lead] = []
    if draft.luo is not None:
        for flb in draft.luo.flbs:
            if flb.name.split("-")[0] == "pci" and not is_test_flb(flb.data):
                leads.append(Lead(via=f"flb:{flb.name}", address=flb.data, certain=True))
        for entry in draft.luo.subsystems:
            if entry.name == "pci" and entry.data:
                leads.append(Lead(via="subsystem:pci", address=entry.data, certain=True))
    known = (_LUO, _MEMBLOCK, _METADATA, _TEST)
    for subtree in draft.subtrees:
        if subtree.name not in known and subtree.address is not None and subtree.fdt is None and subtree.size:
            leads.append(Lead(via=f"subtree:{subtree.name}", address=subtree.address, size=subtree.size))
    return leads


def _settled(luo: Luo, lists: tuple[PciList, ...]) -> Luo:
    """The same, with vfio files read by the layout that names a device of these lists."""
    if not any(file.detail for session in luo.sessions for file in session.files):
        return luo
    devices = {(device.domain, device.bdf) for entry in lists for device in entry.devices}
    sessions = tuple(
        replace(
            session,
            files=tuple(
                replace(file, detail=settled(file.detail, devices))
                if file.detail is not None and file.compatible.startswith("vfio-pci")
                else file
                for file in session.files
            ),
        )
        for session in luo.sessions
    )
    return replace(luo, sessions=sessions)


def _handover(walk: Walk, draft: _Draft, preserved: Preserved, lists: tuple[PciList, ...]) -> Handover:
    compatible = draft.root.tree.root.text("compatible") or b""
    return Handover(
        address=walk.place(draft.root.address),
        compatible=compatible.decode("utf-8", "surrogateescape"),
        direction=Direction.UNKNOWN,
        evidence=(),
        scratch=None,
        preserved=preserved,
        subtrees=draft.subtrees,
        luo=draft.luo,
        pci=lists,
        memblock=draft.memblock,
        kexec_metadata=draft.metadata,
        kho_test=draft.test,
        fdt=draft.root.tree,
    )


# -- direction --------------------------------------------------------------------------------------------

_Verdict = tuple[Direction, str]


def _directions_by_number(drafts: list[_Draft]) -> dict[int, _Verdict]:
    """Of roots with different numbers the highest is outgoing, the one right below it incoming.

    Liveupdate numbers are compared with each other, kexec counts with each other, never one with the
    other: a kexec without LUO counts in one of them only.
    """
    numbers = {draft.root.address: draft.luo.number for draft in drafts if draft.luo and draft.luo.number is not None}
    counts = {draft.root.address: draft.metadata.kexec_count for draft in drafts if draft.metadata is not None}
    by_number = _ranked(numbers, "liveupdate number", len(drafts))
    by_count = _ranked(counts, "kexec count", len(drafts))
    verdicts = by_number if len(numbers) >= len(counts) else by_count
    for address in by_number.keys() & by_count.keys():
        if by_number[address][0] is not by_count[address][0]:
            word = f"{by_number[address][1]}, but {by_count[address][1]}"
            verdicts = {**verdicts, address: (Direction.UNKNOWN, word)}
    taken = {draft.root.verdict[0] for draft in drafts if draft.root.verdict is not None} - {Direction.UNKNOWN}
    for address, (direction, word) in verdicts.items():
        if direction in taken:
            word = f"{word}, but the running kernel itself names another root as {direction}"
            verdicts = {**verdicts, address: (Direction.UNKNOWN, word)}
    return verdicts


def _ranked(numbers: dict[int, int], what: str, roots: int) -> dict[int, _Verdict]:
    known = sorted(set(numbers.values()), reverse=True)
    if len(known) < 2:
        return {}
    verdicts: dict[int, _Verdict] = {}
    for address, number in numbers.items():
        if list(numbers.values()).count(number) > 1:
            continue
        if number == known[0]:
            verdicts[address] = (Direction.OUTGOING, f"{what} {number} is the highest of {roots} roots")
        elif number == known[1]:
            verdicts[address] = (Direction.INCOMING, f"{what} {number} is below the outgoing root's {known[0]}")
        else:
            word = f"{what} {number}: left over from before the incoming root's {known[1]}"
            verdicts[address] = (Direction.UNKNOWN, word)
    return verdicts


def _with_directions(
    walk: Walk, drafts: list[_Draft], handovers: list[Handover], by_number: dict[int, _Verdict]
) -> tuple[Handover, ...]:
    made = []
    for draft, handover in zip(drafts, handovers, strict=True):
        direction, evidence = _direction(walk, draft, handover, handovers, by_number)
        scratch, word = _scratch(walk, draft.root, search=direction is not Direction.OUTGOING)
        evidence = [*evidence, *word]
        made.append(replace(handover, direction=direction, evidence=tuple(evidence), scratch=scratch))
    return tuple(made)


def _direction(
    walk: Walk, draft: _Draft, handover: Handover, handovers: list[Handover], by_number: dict[int, _Verdict]
) -> tuple[Direction, list[str]]:
    status, alone = handover.preserved.status, len(handovers) == 1
    if draft.root.verdict is not None:
        return draft.root.verdict
    if draft.root.chosen:
        word = f"/chosen of the devicetree at {draft.root.chosen[0].address:#x} names it"
        if status is MapStatus.INTACT and alone:
            doubt = "its map is still intact: that devicetree may lie ready for the next kernel, not be this one's"
            return Direction.INCOMING, [word, doubt]
        return Direction.INCOMING, [f"certain: {word}"]
    if draft.root.address in by_number:
        direction, word = by_number[draft.root.address]
        return direction, [word]
    if not _is_known_version(draft.root):
        return Direction.UNKNOWN, ["its version is not known, so neither is what became of its map"]
    release = walk.memory.vmcoreinfo.get("OSRELEASE")
    if release and draft.metadata is not None and draft.metadata.previous_release != release:
        writer = safe_text(draft.metadata.previous_release)
        return Direction.INCOMING, [f"written by kernel {writer}, while the running one is {release} (VMCOREINFO)"]
    if _is_foreign(walk, draft):
        return Direction.UNKNOWN, ["nothing that this root names is at its address: a guest's root, or a shifted image"]
    if alone:
        return _direction_alone(draft, handover)
    hint = "; a consumed map is a sign of the incoming one" if status is MapStatus.STALE else ""
    return Direction.UNKNOWN, [f"no number tells it from the other roots; its map is {status.value}{hint}"]


def _direction_alone(draft: _Draft, handover: Handover) -> tuple[Direction, list[str]]:
    """Of the only root, by what became of what it names."""
    status = handover.preserved.status
    if status is MapStatus.STALE:
        return Direction.INCOMING, ["inferred: its map was consumed, its pages have been reused"]
    finished = next(filter(None, map(_finished, handover.pci)), None)
    if finished is not None:
        doubt = f"its map is {status.value}, as before the kexec, yet {finished}, as after it"
        return Direction.UNKNOWN, [f"nothing tells: {doubt}, or the list is damaged"]
    if status is MapStatus.INTACT:
        return Direction.OUTGOING, ["inferred: the only root, and its map is intact"]
    if status is MapStatus.ABSENT and draft.reading is not None:
        return Direction.OUTGOING, ["inferred: the only root, and it has no map yet, which no next kernel would accept"]
    return Direction.UNKNOWN, [f"nothing tells: its map is {status.value}"]


def _finished(entry: PciList) -> str:
    """In words, that devices of a list are finished: their entries have a refcount of 0, and keep the address."""
    form = pci_layout(entry.layout)
    if form is None or "refcount" not in form.record.record_fields:
        return ""
    place = form.record.record_fields.index("refcount")
    idle = sum(1 for row in entry.devices.rows() if any(row) and not row[place])
    return f"{idle} devices of the list at {entry.address:#x} are finished" if idle else ""


def _is_known_version(root: Root) -> bool:
    return (root.tree.root.text("compatible") or b"").split(b";")[0] in _VERSIONS


def _is_foreign(walk: Walk, draft: _Draft) -> bool:
    """Whether the source has the pages of all sub-trees of known kinds, and none of them holds its sub-tree."""
    known = [subtree for subtree in draft.subtrees if subtree.name in (_LUO, _MEMBLOCK, _METADATA) and subtree.address]
    if not known or draft.luo or draft.memblock or draft.metadata or draft.test:
        return False
    return all(walk.memory.page_state(subtree.address or 0) is PageState.PRESENT for subtree in known)


# -- scratch ----------------------------------------------------------------------------------------------


def _scratch(walk: Walk, root: Root, *, search: bool) -> tuple[tuple[Area, ...] | None, list[str]]:
    """The scratch areas that the running kernel names; with search also those of a /chosen or setup_data in memory."""
    for place, size, who in root.scratch:
        areas = _areas(walk, place, size)
        if areas is not None:
            return areas, [f"{who} names the scratch array at {place:#x}"]
    if not search:
        return None, []
    for place, size in (chosen.scratch for chosen in root.chosen if chosen.scratch is not None):
        areas = _areas(walk, place, size)
        if areas is not None:
            return areas, [f"the same /chosen names the scratch array at {place:#x}"]
    for node in setup_nodes(walk, root.address) if not walk.memory.live else ():
        areas = _areas(walk, node.scratch_address, node.scratch_size)
        if areas is not None:
            where = f"{node.scratch_address:#x}"
            return areas, [f"setup_data node at {node.address:#x} names it and the scratch array at {where}"]
    return None, []


def _areas(walk: Walk, address: int, size: int) -> tuple[Area, ...] | None:
    """The array, or None when these bytes cannot be one."""
    if not size or size % kho_scratch.size or size // kho_scratch.size > _SCRATCH_AREAS:
        return None
    try:
        data = walk.memory.read(address, size)
    except MissingMemory:
        return None
    areas = tuple(Area(address=start, size=length) for start, length in struct.iter_unpack("<QQ", data))
    sound = all(
        area.address % walk.page_size == 0
        and area.size % walk.page_size == 0
        and area.address + area.size <= PHYSICAL_LIMIT
        for area in areas
    )
    return areas if sound and any(area.size for area in areas) else None
