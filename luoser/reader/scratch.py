# SPDX-License-Identifier: MIT
"""The scratch areas of a root, and its messengers: setup_data nodes and devicetrees that point to root and array.

At the jump kexec puts the segments of the next kernel into scratch. So a messenger in a scratch area of its own array
was read by the running kernel; before the jump its copies are elsewhere, and the array is still zeros.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from luoser.abi.kho import kho_scratch
from luoser.errors import MissingMemory
from luoser.reader.locate import Root, SetupNode
from luoser.reader.walk import PHYSICAL_LIMIT, Walk
from luoser.state import Area

__all__ = ["Messenger", "messengers", "own_scratch", "report_lost_roots"]

_SCRATCH_AREAS = 4096


@dataclass(frozen=True, slots=True)
class Messenger:
    """What gives a kernel the addresses of the root and of its scratch array.

    what:    kind, in words.
    address: physical.
    size:    bytes.
    array:   (physical address, size in bytes) of the scratch array. None: it has no pointer to one.
    """

    what: str
    address: int
    size: int
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


def report_lost_roots(walk: Walk, roots: Iterable[Root], nodes: Iterable[SetupNode]) -> None:
    """Note a problem for each root that was handed over, as its messenger in scratch shows, but is not there.

    walk:  the source.
    roots: that were found.
    nodes: all setup_data nodes of the source.
    """
    found = {root.address for root in roots}
    for node in nodes:
        messenger = Messenger("setup_data node", node.address, node.size, (node.scratch_address, node.scratch_size))
        if node.root in found or not messenger.is_in_scratch(walk):
            continue
        text = f"the setup_data node at {node.address:#x} is in scratch and points to a root at {node.root:#x}"
        try:
            walk.memory.read(node.root, 1)
        except MissingMemory as error:
            walk.problem("root-unread", node.root, None, f"{text}, which is {error.state.value}")
        else:
            walk.problem("root-lost", node.root, None, f"{text}, but there is none")


def messengers(walk: Walk, root: Root, nodes: Iterable[SetupNode]) -> tuple[Messenger, ...]:
    """The messengers of a root: setup_data nodes, and devicetrees with a /chosen.

    walk:  the source.
    root:  that they point to.
    nodes: all setup_data nodes of the source.
    """
    return tuple(_messengers(walk, root, nodes))


def _messengers(walk: Walk, root: Root, nodes: Iterable[SetupNode]) -> Iterator[Messenger]:
    for chosen in root.chosen:
        yield Messenger("devicetree", chosen.address, chosen.size, chosen.scratch)
    for node in nodes:
        if node.root == root.address:
            array = (node.scratch_address, node.scratch_size)
            yield Messenger("setup_data node", node.address, node.size, array)


def own_scratch(walk: Walk, root: Root, found: Sequence[Messenger]) -> tuple[tuple[Area, ...] | None, list[str]]:
    """(scratch areas of a root, evidence in words). None: no sane array was found.

    walk:  the source.
    root:  whose areas these are. Arrays that the running kernel points to come first.
    found: messengers of the root.
    """
    for place, size, who in root.scratch:
        areas = _areas(walk, place, size)
        if areas is not None:
            return areas, [f"{who} points to the scratch array at {place:#x}"]
    for messenger in found:
        areas = messenger.areas(walk)
        if areas is not None and messenger.array is not None:
            where = f"the {messenger.what} at {messenger.address:#x}"
            return areas, [f"{where} points to it and to the scratch array at {messenger.array[0]:#x}"]
    return None, []


def _areas(walk: Walk, address: int, size: int) -> tuple[Area, ...] | None:
    """The areas of an array. None: not an array of scratch areas."""
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
