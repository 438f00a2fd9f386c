# SPDX-License-Identifier: MIT
"""What was found by its shape alone, where no pointer leads to it. It is never part of a handover."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, overload

__all__ = ["Confidence", "Entries", "Salvaged"]


class Confidence(StrEnum):
    """How sure it is that a thing is what its shape says.

    high:   several independent constraints hold, one of them a pointer to or from another thing that fits; its place
            is confirmed by a pointer to it or by an intact map; nothing contradicts.
    medium: several constraints hold; nothing confirms its place, or one other sign is against it.
    low:    its shape fits, and more than one other sign is against it.

    Source: docs/howto/salvage.md.
    """

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Entries(Sequence[Mapping[str, Any]]):
    """The members of each entry, made when it is asked for: a hostile source has a great many.

    count: of entries.
    make:  the members of one, by its number.
    """

    __slots__ = ("_count", "_make")

    def __init__(self, count: int, make: Callable[[int], Mapping[str, Any]]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        places = range(self._count)[index]
        return self._make(places) if isinstance(places, int) else [self._make(place) for place in places]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """One thing that was found by its shape.

    kind:       `luo`, `sessions`, `files`, `flbs`, `memfd`, `devices` or `devicetree`.
    layout:     name of its layout in the registry.
    address:    physical.
    size:       bytes that are in use, from the address on.
    confidence: high, medium or low.
    evidence:   why, and what is against it, in words; the last one is where it lies.
    fields:     members of its head, by name.
    entries:    members of each entry, by name.
    leads_to:   addresses of the things that fit to which it points.
    led_from:   addresses of the things that point to it.
    copies:     addresses of others with the same bytes.
    unconfirmed: members that nothing else in the source says, as paths below `fields`, `entries` and each `folio` of a
                memfd: one wrong bit of them is not seen, and the confidence says nothing of them.
    """

    kind: str
    layout: str
    address: int
    size: int
    confidence: Confidence
    evidence: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    entries: Sequence[Mapping[str, Any]] = ()
    leads_to: tuple[int, ...] = ()
    led_from: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    unconfirmed: tuple[str, ...] = ()
