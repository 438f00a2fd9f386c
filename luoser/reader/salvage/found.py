# SPDX-License-Identifier: MIT
"""A thing that was found by its shape, while it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from luoser.state import DeviceList, Memfd

__all__ = ["Found", "Pointer"]


class Pointer(NamedTuple):
    """A pointer of a thing to another one.

    address: physical.
    kind:    of what has to be there.
    hint:    name of the handler or FLB that says what is there. Empty: none.
    entries: that have to be there. None: not said.
    owns:    whether one thing alone can point there, so that a second one is a copy.
    wanted:  whether it is a sign against the thing if something else is there.
    """

    address: int
    kind: str
    hint: str = ""
    entries: int | None = None
    owns: bool = True
    wanted: bool = True


@dataclass(slots=True, kw_only=True)
class Found:
    """A thing with what is for it, and what is against it.

    kind, layout, address: as of `Salvaged`.
    data:     its bytes in use.
    reasons:  constraints that hold, in words.
    against:  signs against it, in words.
    strength: number of independent constraints.
    pointers: to other things.
    inside:   addresses of its own further pages, which were read and fit.
    leads_to: addresses of the things that its pointers lead to and that fit.
    fits:     number of pointers, to them and inside of it, that lead to what fits.
    lost:     number of pointers that lead to something else.
    memfd:    of kind `memfd`.
    devices:  of kind `devices`.
    away:     number of pointers that lead to pages that are not in the source.
    count:    entries.
    settled:  number of entries that need no pointer: their own bytes say enough.
    keys:     of the entries, of which no two may be the same.
    is_whole: whether all pages of a memfd are known.
    is_preserved: whether a block of an intact map begins at it, so that it is no copy.
    has_blocks: whether the folios of a memfd are blocks of that map.
    """

    kind: str
    layout: str
    address: int
    data: bytes
    reasons: list[str]
    strength: int
    against: list[str] = field(default_factory=list)
    pointers: list[Pointer] = field(default_factory=list)
    inside: tuple[int, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    devices: DeviceList | None = None
    leads_to: list[int] = field(default_factory=list)
    led_from: list[int] = field(default_factory=list)
    copies: tuple[int, ...] = ()
    fits: int = 0
    lost: int = 0
    away: int = 0
    count: int = 0
    settled: int = 0
    keys: tuple[int | bytes, ...] = ()
    is_whole: bool = True
    is_preserved: bool = False
    has_blocks: bool = False
    memfd: Memfd | None = None

    @property
    def is_doubted(self) -> bool:
        """Whether nothing confirms what one of its entries leads to."""
        return len(self.leads_to) + self.settled < max(self.count + bool(self.following), len(self.pointers))

    @property
    def following(self) -> int:
        """Address of the next block of its chain. 0: none, or not a block."""
        return next((one.address for one in self.pointers if one.hint == self.layout), 0)
