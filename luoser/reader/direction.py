# SPDX-License-Identifier: MIT
"""Direction of each root: incoming, handed to the running kernel, or outgoing, handed by it to the next one.

Source: docs/deciding.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from luoser.abi.pci import layout as pci_layout
from luoser.abi.release import is_release
from luoser.reader.locate import Root
from luoser.reader.preserved import MapReading
from luoser.reader.scratch import Messenger
from luoser.reader.status import kernel_text
from luoser.reader.walk import Subject, Walk
from luoser.state import (
    Direction,
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
from luoser.text import counted, one_bit_off, safe_text

__all__ = ["Draft", "Numbers", "direction_of", "is_left_over", "numbers_of", "outside_signs"]


@dataclass(slots=True)
class Draft:
    """A root and what is below it, until its direction is known, which depends on all roots.

    root:       as found.
    subtrees:   its children.
    luo:        None: no LUO, or not readable. So for memblock, metadata and test.
    reading:    of the map. None: the root has no pointer to a map.
    is_reused:  whether LUO's page holds something else.
    messengers: setup_data nodes and devicetrees that point to the root.
    is_foreign: whether the root is of another machine, or a copy.
    preserved:  the map. None: not judged yet.
    lists:      of preserved devices.
    notes:      further evidence, in words.
    """

    root: Root
    subtrees: tuple[Subtree, ...]
    luo: Luo | None
    memblock: Memblock | None
    metadata: KexecMetadata | None
    test: KhoTest | None
    reading: MapReading | None
    is_reused: bool = False
    messengers: Sequence[Messenger] = ()
    is_foreign: bool = False
    preserved: Preserved | None = None
    lists: tuple[PciList, ...] = ()

    @property
    def status(self) -> MapStatus:
        """Status of its map."""
        assert self.preserved is not None
        return self.preserved.status

    @property
    def is_serialised(self) -> bool:
        """Whether LUO has written its sessions."""
        return self.luo is not None and self.luo.serialized


@dataclass(frozen=True, slots=True)
class Numbers:
    """Two roots with consecutive numbers.

    higher: address of the root with the higher number.
    lower:  address of the other root.
    text:   the numbers in words.
    """

    higher: int
    lower: int
    text: str


# -- numbers ----------------------------------------------------------------------------------------------


def numbers_of(walk: Walk, drafts: Sequence[Draft]) -> Numbers | None:
    """The two roots with consecutive liveupdate numbers or kexec counts, the highest such pair. None: no such pair.

    walk:   the source.
    drafts: all its roots.

    0 does not count as a number. If both roots have both kinds of number, both have to be consecutive.
    """
    ours = [draft for draft in drafts if not draft.is_foreign]
    pairs = [
        pair for what, number in (("liveupdate number", _update), ("kexec count", _count))
        for pair in _neighbours(walk, ours, what, number)
    ]  # fmt: skip
    by_address = {draft.root.address: draft for draft in ours}
    sound = [pair for _, pair in sorted(pairs, key=lambda item: -item[0]) if _agrees(by_address, pair)]
    return sound[0] if sound else None


def _update(draft: Draft) -> int | None:
    return draft.luo.number if draft.luo is not None else None


def _count(draft: Draft) -> int | None:
    return draft.metadata.kexec_count if draft.metadata is not None else None


def _neighbours(
    walk: Walk, drafts: Sequence[Draft], what: str, number: Callable[[Draft], int | None]
) -> Iterator[tuple[int, Numbers]]:
    """(the higher number, the pair) of roots with consecutive numbers of a kind.

    A pair is left out if the map of a root with a higher number covers the root: that root may be the real successor,
    with a damaged number.
    """
    by_number: dict[int, list[Draft]] = {}
    for draft in drafts:
        if found := number(draft):
            by_number.setdefault(found, []).append(draft)
    alone = sorted(found for found, those in by_number.items() if len(those) == 1)
    for low, high in pairwise(alone):
        above = (draft for found, those in by_number.items() if found > high for draft in those)
        if high == low + 1 and not any(_covers_itself(walk, draft) for draft in above):
            pair = by_number[high][0].root.address, by_number[low][0].root.address
            yield high, Numbers(*pair, f"{what}s {low} and {high}")


def _covers_itself(walk: Walk, draft: Draft) -> bool:
    """Whether the map of a root covers the root, which a reused map does not."""
    bitmaps = draft.reading.bitmaps if draft.reading is not None else ()
    return PreservedMap(bitmaps, page_size=walk.page_size).find(draft.root.address) is not None


def _agrees(drafts: Mapping[int, Draft], pair: Numbers) -> bool:
    """Whether both kinds of number, if both roots have them, are consecutive."""
    higher, lower = drafts[pair.higher], drafts[pair.lower]
    for number in (_update, _count):
        high, low = number(higher), number(lower)
        if high and low and high != low + 1:
            return False
    return True


# -- evidence that the next kernel runs -------------------------------------------------------------------


def outside_signs(walk: Walk, draft: Draft, numbers: Numbers | None) -> list[str]:
    """Evidence that a root was handed to the running kernel, apart from the bits of its map: a text per kind.

    walk:    the source.
    draft:   the root.
    numbers: of `numbers_of`. None: no pair.
    """
    signs = []
    if draft.is_reused:
        signs.append("LUO's page holds something else")
    if (text := _other_release(walk, draft)) is not None:
        signs.append(text)
    if numbers is not None and numbers.lower == draft.root.address:
        signs.append(f"the root at {numbers.higher:#x} has the next number")
    if _says_incoming(draft):
        signs.append("it was handed to the running kernel")
    elif (messenger := _in_scratch(walk, draft)) is not None:
        signs.append(messenger.words)
        place, areas = kernel_text(walk), messenger.areas(walk) or ()
        if place is not None and any(area.address <= place < area.address + area.size for area in areas):
            signs.append(f"the running kernel, with its text at {place:#x}, is in a scratch area of the root")
    return signs


def _says_incoming(draft: Draft) -> bool:
    return draft.root.verdict is not None and draft.root.verdict[0] is Direction.INCOMING


def _in_scratch(walk: Walk, draft: Draft) -> Messenger | None:
    """A messenger in a scratch area of its own array, where kexec puts segments at the jump. None: there is none."""
    return next((messenger for messenger in draft.messengers if messenger.is_in_scratch(walk)), None)


def _other_release(walk: Walk, draft: Draft) -> str | None:
    """That another kernel wrote the root, in words. None: no evidence.

    A release that differs by one bit, or is not one, may be damaged.
    """
    release = walk.memory.vmcoreinfo.get("OSRELEASE")
    if not release or draft.metadata is None or draft.metadata.previous_release == release:
        return None
    writer = draft.metadata.previous_release
    if _is_damaged(writer, release):
        return None
    return f"written by kernel {safe_text(writer)}, the running kernel is {safe_text(release)} (VMCOREINFO)"


def _is_damaged(writer: str, release: str) -> bool:
    """Whether the release in kexec-metadata may be damaged: it is not one, or one bit off the running one."""
    return not is_release(writer) or one_bit_off(writer, [release]) is not None


def _notes(walk: Walk, draft: Draft) -> Iterator[str]:
    """Notes that are not evidence, in words."""
    release = walk.memory.vmcoreinfo.get("OSRELEASE")
    if release and draft.metadata is not None and draft.metadata.previous_release != release:
        writer = draft.metadata.previous_release
        if _is_damaged(writer, release):
            how = "no release" if not is_release(writer) else "one bit off the running kernel"
            yield f"kexec-metadata has {safe_text(writer)}, {how}; VMCOREINFO has {safe_text(release)}"


# -- direction --------------------------------------------------------------------------------------------


def direction_of(
    walk: Walk, draft: Draft, drafts: Sequence[Draft], numbers: Numbers | None
) -> tuple[Direction, tuple[str, ...]]:
    """(direction of a root, evidence in words, the strongest first).

    walk:    the source.
    draft:   the root.
    drafts:  all roots of the source.
    numbers: of `numbers_of`. None: no pair.

    Source: docs/deciding.md.
    """
    direction, words = _decided(walk, draft, drafts, numbers)
    return direction, (*words, *_notes(walk, draft))


def _decided(walk: Walk, draft: Draft, drafts: Sequence[Draft], numbers: Numbers | None) -> tuple[Direction, list[str]]:
    address = draft.root.address
    if address in walk.directions:
        return walk.directions[address], ["given: --direction"]
    if draft.root.verdict is not None:
        return _by_kernel(walk, draft, numbers, *draft.root.verdict)
    if draft.is_foreign:
        return Direction.UNKNOWN, ["nothing of it is at its address: root of a guest, or a copy"]
    if numbers is not None:
        by_number = _by_number(walk, draft, drafts, numbers)
        if by_number is not None:
            return by_number
    if draft.root.form is None:
        return Direction.UNKNOWN, ["unknown version, so the status of its map is unknown"]
    if (text := _other_release(walk, draft)) is not None:
        return Direction.INCOMING, [text]
    if (messenger := _in_scratch(walk, draft)) is not None:
        return Direction.INCOMING, [f"inferred: {messenger.words}"]
    others = [other for other in drafts if other is not draft and not other.is_foreign]
    return _alone(walk, draft) if not others else _among_others(draft, others)


def _by_kernel(
    walk: Walk, draft: Draft, numbers: Numbers | None, direction: Direction, words: list[str]
) -> tuple[Direction, list[str]]:
    """(direction, evidence) by the variables of a kernel. One that was found in memory may be that before the jump."""
    wrong = {Direction.OUTGOING: numbers.lower, Direction.INCOMING: numbers.higher} if numbers is not None else {}
    if draft.root.is_doubtful and numbers is not None and wrong.get(direction) == draft.root.address:
        text = f"but the roots at {numbers.lower:#x} and {numbers.higher:#x} have {numbers.text}"
        return Direction.UNKNOWN, [*words, f"{text}: another kernel may be running; {_DECIDES}"]
    messenger = _in_scratch(walk, draft) if draft.root.is_doubtful and direction is Direction.OUTGOING else None
    if messenger is None:
        return direction, words
    text = f"but {messenger.words}: the next kernel may be running, early in its boot; {_DECIDES}"
    return Direction.UNKNOWN, [*words, text]


def _by_number(
    walk: Walk, draft: Draft, drafts: Sequence[Draft], numbers: Numbers
) -> tuple[Direction, list[str]] | None:
    """(direction, evidence) by consecutive numbers. None: the root has no number."""
    by_address = {other.root.address: other for other in drafts}
    higher, lower = by_address[numbers.higher], by_address[numbers.lower]
    if draft not in (higher, lower):
        if not is_left_over(draft, numbers):
            return None
        pair = f"the roots at {numbers.lower:#x} and {numbers.higher:#x} have {numbers.text}"
        return Direction.UNKNOWN, [f"left over from another boot: {pair}"]
    for side, wanted in ((higher, Direction.OUTGOING), (lower, Direction.INCOMING)):
        if walk.directions.get(side.root.address, wanted) is not wanted:
            word = f"{side.root.address:#x} is {walk.directions[side.root.address].value} by --direction"
            return Direction.UNKNOWN, [f"{numbers.text}, but {word}"]
        if side.root.verdict is not None and side.root.verdict[0] is not wanted:
            word = f"{side.root.address:#x} is {side.root.verdict[0].value} by the running kernel"
            return Direction.UNKNOWN, [f"{numbers.text}, but {word}"]
    if higher.status is MapStatus.STALE:
        return Direction.UNKNOWN, [f"{numbers.text}, but the map of the higher root, {numbers.higher:#x}, is stale"]
    if lower.status is MapStatus.INTACT and higher.is_serialised:
        word = f"the map of the lower root, {numbers.lower:#x}, is intact although the higher one is serialised"
        return Direction.UNKNOWN, [f"{numbers.text}, but {word}"]
    if draft is higher:
        return Direction.OUTGOING, [f"{numbers.text}: the higher is the running kernel's"]
    return Direction.INCOMING, [f"{numbers.text}: the lower is the previous kernel's"]


def is_left_over(draft: Draft, numbers: Numbers | None) -> bool:
    """Whether a root is left over from another boot: the running kernel names others, or two others have consecutive
    numbers, and it has one.

    draft:   the root.
    numbers: of `numbers_of`. None: no pair, so never left over.
    """
    if draft.root.is_left_over:
        return True
    if numbers is None or draft.root.verdict is not None or draft.root.address in (numbers.higher, numbers.lower):
        return False
    return bool(_update(draft) or _count(draft))


def _alone(walk: Walk, draft: Draft) -> tuple[Direction, list[str]]:
    """(direction, evidence) of the only root, by the status of its map."""
    status = draft.status
    if status is MapStatus.STALE:
        text = "its map alone shows that it was handed over: it is stale; damage of several pages could look the same"
        walk.problem("direction-by-map", draft.root.address, Subject("KHO root", "direction"), f"{text}; {_DECIDES}")
        return Direction.INCOMING, ["inferred: its map was consumed, and its pages were reused"]
    if status in (MapStatus.INTACT, MapStatus.DAMAGED) and _release_in_doubt(walk, draft):
        doubt = f"the release in kexec-metadata may be damaged, and the map is {status.value}"
        return Direction.UNKNOWN, [f"direction unknown: {doubt}; {_DECIDES}"]
    if status in (MapStatus.INTACT, MapStatus.DAMAGED):
        finished = next(filter(None, map(_finished, draft.lists)), None)
        if finished is not None:
            doubt = f"a map that is {status.value} means before the kexec, finished devices mean after it ({finished})"
            return Direction.UNKNOWN, [f"direction unknown: {doubt}, or the list is damaged; {_DECIDES}"]
        return Direction.OUTGOING, [f"inferred: the only root, and its map is {status.value}"]
    if status is MapStatus.ABSENT and draft.reading is not None:
        return Direction.OUTGOING, [
            "inferred: the only root, and it has no map yet, so no kernel would have accepted it"
        ]
    return Direction.UNKNOWN, [f"direction unknown: its map is {status.value}; {_DECIDES}"]


def _release_in_doubt(walk: Walk, draft: Draft) -> bool:
    release = walk.memory.vmcoreinfo.get("OSRELEASE")
    if not release or draft.metadata is None or draft.metadata.previous_release == release:
        return False
    return _is_damaged(draft.metadata.previous_release, release)


_DECIDES = "--symbols or --direction decides"


def _among_others(draft: Draft, others: Sequence[Draft]) -> tuple[Direction, list[str]]:
    places = ", ".join(f"{other.root.address:#x}" for other in others[:4])
    hint = "; a consumed map is evidence for incoming" if draft.status is MapStatus.STALE else ""
    text = f"no consecutive numbers with {places}; its map is {draft.status.value}{hint}"
    return Direction.UNKNOWN, [f"direction unknown: {text}; {_DECIDES}"]


def _finished(entry: PciList) -> str:
    """The number of finished devices in a list, in words: entries with refcount 0 and an address. Empty: none."""
    form = pci_layout(entry.layout)
    if form is None or not form.has_refcounts:
        return ""
    place = form.record.record_fields.index("refcount")
    idle = sum(1 for row in entry.devices.rows() if any(row) and not row[place])
    if not idle:
        return ""
    return f"{counted(idle, 'device')} of the list at {entry.address:#x} {'is' if idle == 1 else 'are'} finished"
