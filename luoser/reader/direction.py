# SPDX-License-Identifier: MIT
"""Direction of each root: incoming, handed to the running kernel, or outgoing, handed by it to the next one."""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.pci import layout as pci_layout
from luoser.errors import PageState
from luoser.reader.locate import Root
from luoser.reader.preserved import MapReading
from luoser.reader.walk import Walk
from luoser.state import Direction, Handover, KexecMetadata, KhoTest, Luo, MapStatus, Memblock, PciList, Subtree
from luoser.text import safe_text

__all__ = ["Draft", "Verdict", "direction_of", "directions_by_number"]

_LUO, _MEMBLOCK, _METADATA = "LUO", "memblock", "kexec-metadata"


@dataclass(slots=True)
class Draft:
    """A root before its map is judged, which depends on all roots.

    root:     as found.
    subtrees: its children.
    luo:      None: no LUO, or not readable. So for memblock, metadata and test.
    reading:  of the map. None: the root has no pointer to one.
    """

    root: Root
    subtrees: tuple[Subtree, ...]
    luo: Luo | None
    memblock: Memblock | None
    metadata: KexecMetadata | None
    test: KhoTest | None
    reading: MapReading | None


# -- direction --------------------------------------------------------------------------------------------

Verdict = tuple[Direction, str]
"""A direction, and its evidence in words."""


def directions_by_number(drafts: list[Draft]) -> dict[int, Verdict]:
    """Directions from liveupdate numbers and kexec counts, by address of the root. Not all roots have one.

    The root with the highest number is outgoing, the next lower one incoming. Numbers are compared with numbers and
    counts with counts: a kexec without LUO only adds to the count.
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
            word = f"{word}, but another root is certainly {direction}"
            verdicts = {**verdicts, address: (Direction.UNKNOWN, word)}
    return verdicts


def _ranked(numbers: dict[int, int], what: str, roots: int) -> dict[int, Verdict]:
    known = sorted(set(numbers.values()), reverse=True)
    if len(known) < 2:
        return {}
    verdicts: dict[int, Verdict] = {}
    for address, number in numbers.items():
        if list(numbers.values()).count(number) > 1:
            continue
        if number == known[0]:
            verdicts[address] = (Direction.OUTGOING, f"{what} {number} is the highest of {roots} roots")
        elif number == known[1]:
            verdicts[address] = (Direction.INCOMING, f"{what} {number} is below the outgoing root's {known[0]}")
        else:
            word = f"{what} {number}: left over, as it is below the incoming root's {known[1]}"
            verdicts[address] = (Direction.UNKNOWN, word)
    return verdicts


def direction_of(
    walk: Walk, draft: Draft, handover: Handover, handovers: list[Handover], by_number: dict[int, Verdict]
) -> tuple[Direction, list[str]]:
    """(direction of a root, evidence in words).

    walk:      the source.
    draft:     the root.
    handover:  the same root, with its map judged.
    handovers: all of the source.
    by_number: verdicts of `directions_by_number`.

    Source: docs/deciding.md.
    """
    status, alone = handover.preserved.status, len(handovers) == 1
    if draft.root.verdict is not None:
        return draft.root.verdict
    if draft.root.chosen:
        word = f"/chosen of the devicetree at {draft.root.chosen[0].address:#x} points to it"
        if status is MapStatus.INTACT and alone:
            doubt = "its map is still intact, so that devicetree may be that of the next kernel"
            return Direction.INCOMING, [word, doubt]
        return Direction.INCOMING, [f"certain: {word}"]
    if draft.root.address in by_number:
        direction, word = by_number[draft.root.address]
        return direction, [word]
    if draft.root.form is None:
        return Direction.UNKNOWN, ["unknown version, so the status of its map is unknown"]
    release = walk.memory.vmcoreinfo.get("OSRELEASE")
    if release and draft.metadata is not None and draft.metadata.previous_release != release:
        writer = safe_text(draft.metadata.previous_release)
        return Direction.INCOMING, [f"written by kernel {writer}, the running kernel is {release} (VMCOREINFO)"]
    if _is_foreign(walk, draft):
        return Direction.UNKNOWN, ["none of its sub-trees is at its address: root of a guest, or a shifted image"]
    if alone:
        return _direction_alone(draft, handover)
    hint = "; a consumed map is evidence for incoming" if status is MapStatus.STALE else ""
    return Direction.UNKNOWN, [
        f"direction unknown: no number distinguishes it from the other roots; its map is {status.value}{hint}"
    ]


def _direction_alone(draft: Draft, handover: Handover) -> tuple[Direction, list[str]]:
    """(direction, evidence) of the only root, by the status of its map and by finished devices."""
    status = handover.preserved.status
    if status is MapStatus.STALE:
        return Direction.INCOMING, ["inferred: its map was consumed, and its pages were reused"]
    finished = next(filter(None, map(_finished, handover.pci)), None)
    if finished is not None:
        doubt = f"an {status.value} map means before the kexec, finished devices mean after it ({finished})"
        return Direction.UNKNOWN, [f"direction unknown: {doubt}; or the list is damaged"]
    if status is MapStatus.INTACT:
        return Direction.OUTGOING, ["inferred: the only root, and its map is intact"]
    if status is MapStatus.ABSENT and draft.reading is not None:
        return Direction.OUTGOING, [
            "inferred: the only root, and it has no map yet, so no kernel would have accepted it"
        ]
    return Direction.UNKNOWN, [f"direction unknown: its map is {status.value}"]


def _finished(entry: PciList) -> str:
    """The number of finished devices in a list, in words: entries with refcount 0 and an address. Empty: none."""
    form = pci_layout(entry.layout)
    if form is None or not form.has_refcounts:
        return ""
    place = form.record.record_fields.index("refcount")
    idle = sum(1 for row in entry.devices.rows() if any(row) and not row[place])
    return f"{idle} devices of the list at {entry.address:#x} are finished" if idle else ""


def _is_foreign(walk: Walk, draft: Draft) -> bool:
    """Whether the source has the pages of all known sub-trees, but none of the pages has its sub-tree."""
    known = [subtree for subtree in draft.subtrees if subtree.name in (_LUO, _MEMBLOCK, _METADATA) and subtree.address]
    if not known or draft.luo or draft.memblock or draft.metadata or draft.test:
        return False
    return all(walk.memory.page_state(subtree.address or 0) is PageState.PRESENT for subtree in known)
