# SPDX-License-Identifier: MIT
"""The scratch areas of a root, and its messengers: setup_data nodes and devicetrees that point to root and array.

At the jump kexec puts the segments of the next kernel into scratch. So a messenger in a scratch area of its own array
was read by the running kernel; before the jump its copies are elsewhere, and the array is still zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luoser.abi.kho import kho_scratch
from luoser.errors import MissingMemory
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.locate import OWN_SCRATCH, Chosen, Root, SetupNode, is_root
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.walk import Walk
from luoser.state import Area

__all__ = ["Messenger", "messengers", "own_scratch", "report_lost_array", "report_lost_roots"]

_ALIGNMENT = 4096
"""Of the array that a kernel's own variable points to: it was allocated with PAGE_SIZE, or is a segment of kexec."""


@dataclass(frozen=True, slots=True)
class Messenger:
    """What gives a kernel the addresses of the root and of its scratch array.

    what:    kind, in words.
    address: physical.
    size:    bytes.
    root:    physical address of the root.
    array:   (physical address, size in bytes) of the scratch array. None: it has no pointer to one.
    """

    what: str
    address: int
    size: int
    root: int
    array: tuple[int, int] | None

    def areas(self, walk: Walk) -> tuple[Area, ...] | None:
        """The areas of its array. None: not an array of scratch areas."""
        return _areas(walk, *self.array) if self.array is not None else None

    def is_in_scratch(self, walk: Walk) -> bool:
        """Whether it is in one of the areas of its own array."""
        return any(
            area.address <= self.address and self.address + self.size <= area.address + area.size
            for area in self.areas(walk) or ()
        )

    @property
    def words(self) -> str:
        """That it is in scratch, in words."""
        return f"the {self.what} at {self.address:#x} that points to it is in scratch, where kexec puts it at the jump"


def report_lost_roots(walk: Walk, found: Iterable[Messenger]) -> None:
    """Note a problem for each messenger whose root is not there.

    walk:  the source.
    found: messengers of the source; those of roots that were found may be left out.

    One in scratch shows that a root was handed over. Any other one may be left over, so a root of it that is not in the
    source is not reported.
    """
    for messenger in found:
        missing = walk.gap(messenger.root)
        if missing is None and is_root(walk, messenger.root):
            continue
        text = f"the {messenger.what} at {messenger.address:#x}"
        if messenger.is_in_scratch(walk):
            text = f"{text} is in scratch and points to a root at {messenger.root:#x}"
            if missing is None:
                walk.problem("root-lost", messenger.root, None, f"{text}, but there is none")
            else:
                walk.problem("root-unread", messenger.root, None, f"{text}, which is {missing.value}")
        elif missing is None:
            text = f"{text}: expected a KHO root at {messenger.root:#x}, found none"
            walk.problem("no-root", messenger.root, None, f"{text}; a kernel reports an invalid handover FDT")


def messengers(chosen: Iterable[Chosen], nodes: Iterable[SetupNode]) -> tuple[Messenger, ...]:
    """Devicetrees with a /chosen and setup_data nodes as messengers.

    chosen: of the devicetrees.
    nodes:  of setup_data.
    """
    return (
        *(Messenger("devicetree", one.address, one.size, one.root, one.scratch) for one in chosen),
        *(
            Messenger("setup_data node", one.address, one.size, one.root, (one.scratch_address, one.scratch_size))
            for one in nodes
        ),
    )


def own_scratch(
    walk: Walk, root: Root, found: Sequence[Messenger]
) -> tuple[tuple[Area, ...] | None, int | None, list[str]]:
    """(scratch areas of a root, address of their array, evidence in words). None: no sane array was found.

    walk:  the source.
    root:  whose areas these are. Arrays that the running kernel points to come first.
    found: messengers of the root.
    """
    for place, size, who in root.scratch:
        areas = _areas(walk, place, size)
        if who == OWN_SCRATCH:
            areas = _own_areas(walk, place, size, areas, found)
        if areas is not None:
            has_place = walk.place(place) is not None
            if not has_place:
                return areas, None, ["scratch areas as debugfs says"]
            return areas, place, [f"{who} points to the scratch array at {place:#x}"]
    for messenger in found:
        areas = messenger.areas(walk)
        if areas is not None and messenger.array is not None:
            where = f"the {messenger.what} at {messenger.address:#x}"
            array = messenger.array[0]
            return areas, array, [f"{where} points to it and to the scratch array at {array:#x}"]
    return None, None, []


def report_lost_array(walk: Walk, found: Sequence[Messenger]) -> None:
    """Note a problem for an image to boot with that has no array of scratch areas: a kernel boots with no other memory.

    walk:  the source, at the root.
    found: messengers of the root.
    """
    wanted = "expected an array of scratch areas"
    for messenger in found:
        place, size = messenger.array or (0, 0)
        text = f"the {messenger.what} at {messenger.address:#x} points to the root: {wanted}"
        walk.problem("scratch-unread", place or None, None, f"{text} in {size:#x} bytes at {place:#x}, found none")
    if not found:
        text = f"an image to boot with: {wanted}, found nothing that points to the root and to one"
        walk.problem("scratch-unread", None, None, text)


def _own_areas(
    walk: Walk, place: int, size: int, areas: tuple[Area, ...] | None, found: Iterable[Messenger]
) -> tuple[Area, ...] | None:
    """The areas of the array that the kernel's own variable points to, with a problem if they cannot be right."""
    count = size // kho_scratch.size
    if areas is None or place % _ALIGNMENT:
        text = f"{OWN_SCRATCH} points to {place:#x}: expected an array of {count} scratch areas, found none"
        walk.problem("scratch-unread", place, None, text)
        return None
    other = next((one for one in found if one.array is not None and one.array[1] != size), None)
    if other is not None and other.array is not None:
        text = (
            f"{OWN_SCRATCH} has {count} areas, the {other.what} at {other.address:#x} {other.array[1]:#x} bytes of them"
        )
        walk.problem("scratch-unread", place, None, text)
    return areas


def _areas(walk: Walk, address: int, size: int) -> tuple[Area, ...] | None:
    """The areas of an array. None: not an array of scratch areas."""
    if not size or size % kho_scratch.size:
        return None
    if size // kho_scratch.size > LIMITS.scratch_areas:
        text = f"too many scratch areas: the array at {address:#x} of {size:#x} bytes is not read"
        walk.problem("too-many", address, None, f"{text}; {how_to_raise('scratch_areas')}")
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
    if not sound or not any(area.size for area in areas):
        return None
    walk.memory.keep(address, size)
    return areas
