# SPDX-License-Identifier: MIT
"""What happens in a model, step by step, and the two ways in which a step goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from luoser.errors import LuoserError

__all__ = ["Event", "Failure", "Faults", "Kind", "Panic", "Trace", "errno_name"]


def errno_name(code: int) -> str:
    """As the kernel calls it, with the minus that it returns: -EOPNOTSUPP."""
    return "-EOPNOTSUPP" if code == errno.EOPNOTSUPP else f"-{errno.errorcode.get(code, str(code))}"


class Failure(LuoserError):
    """A callback or an allocation that returns -errno."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(errno_name(code))


class Faults(dict[tuple[str, str], int]):
    """errno by (step, name). met: those that came up."""

    def __init__(self, values: Mapping[tuple[str, str], int]) -> None:
        super().__init__(values)
        self.met: set[tuple[str, str]] = set()

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        if found and isinstance(key, tuple):
            self.met.add(key)
        return found


class Panic(LuoserError):
    """The modelled kernel does not go on: it panics, follows a null pointer, or waits for itself."""


class Kind(StrEnum):
    """What an event is: a line that the kernel logs, a driver's callback, something done to memory, a known bug of
    the series showing, the end of the kernel."""

    LOG = "log"
    CALL = "call"
    MEMORY = "memory"
    BUG = "bug"
    PANIC = "panic"


@dataclass(frozen=True, slots=True)
class Event:
    """One step. bug: its number in the list of known bugs of the 2025 PCI series, None for one of another part."""

    kind: Kind
    text: str
    bug: int | None = None

    def __str__(self) -> str:
        if self.kind is Kind.LOG:
            return self.text
        if self.kind is Kind.BUG:
            return f"    ! {f'A.9 #{self.bug}: ' if self.bug is not None else ''}{self.text}"
        return f"    {'!' if self.kind is Kind.PANIC else '-'} {self.text}"


@dataclass(slots=True)
class Trace:
    """Events in order. Lines of the kernel's log are as the kernel prints them, all else is indented."""

    events: list[Event] = field(default_factory=list)

    def log(self, text: str) -> None:
        self.events.append(Event(Kind.LOG, text))

    def log_once(self, text: str) -> None:
        """A line that the kernel prints only the first time."""
        if text not in self.of(Kind.LOG):
            self.log(text)

    def call(self, text: str) -> None:
        self.events.append(Event(Kind.CALL, text))

    def memory(self, text: str) -> None:
        self.events.append(Event(Kind.MEMORY, text))

    def bug(self, number: int, text: str) -> None:
        self.events.append(Event(Kind.BUG, text, number))

    def flaw(self, text: str) -> None:
        """A known bug that has no number: not one of the 2025 PCI series itself."""
        self.events.append(Event(Kind.BUG, text))

    def panic(self, text: str) -> Panic:
        """Notes the end, and makes the exception to raise."""
        self.events.append(Event(Kind.PANIC, f"panic: {text}"))
        return Panic(text)

    @property
    def bugs(self) -> set[int]:
        """The numbers of the known bugs that showed."""
        return {event.bug for event in self.events if event.bug is not None}

    def of(self, kind: Kind) -> list[str]:
        return [event.text for event in self.events if event.kind is kind]

    def __str__(self) -> str:
        return "\n".join(map(str, self.events))
