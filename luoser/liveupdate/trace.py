# SPDX-License-Identifier: MIT
"""Events of a simulation, and the two kinds of errors of a modelled kernel."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from luoser.errors import LuoserError

__all__ = ["Event", "Failure", "Faults", "Kind", "Panic", "Trace", "errno_name"]


def errno_name(code: int) -> str:
    """The name of an errno as the kernel prints it, with a minus: -EOPNOTSUPP."""
    return "-EOPNOTSUPP" if code == errno.EOPNOTSUPP else f"-{errno.errorcode.get(code, str(code))}"


class Failure(LuoserError):
    """A callback or an allocation returned -errno. code: the errno, positive."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(errno_name(code))


class Faults(dict[tuple[str, str], int]):
    """errno by (step, name). met: keys that were looked up with `in`, so that their fault occurred."""

    def __init__(self, values: Mapping[tuple[str, str], int]) -> None:
        super().__init__(values)
        self.met: set[tuple[str, str]] = set()

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        if found and isinstance(key, tuple):
            self.met.add(key)
        return found


class Panic(LuoserError):
    """The modelled kernel stopped: a panic, a null pointer, a use after free, or a deadlock."""


class Kind(StrEnum):
    """Kind of an event.

    LOG:    a line that the kernel logs.
    CALL:   a callback, or another action.
    MEMORY: an allocation, or a write to memory.
    BUG:    a known bug of the series occurred.
    PANIC:  the kernel stopped.
    """

    LOG = "log"
    CALL = "call"
    MEMORY = "memory"
    BUG = "bug"
    PANIC = "panic"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. bug: its number in the list of known bugs of the 2025 PCI series. None if it is not in there."""

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
    """Events in order. As text, lines of the kernel's log are not indented, all other events are."""

    events: list[Event] = field(default_factory=list)

    def log(self, text: str) -> None:
        """Add a line that the kernel logs, as the kernel prints it."""
        self.events.append(Event(Kind.LOG, text))

    def log_once(self, text: str) -> None:
        """Add a line that the kernel logs, unless it was logged before."""
        if text not in self.of(Kind.LOG):
            self.log(text)

    def call(self, text: str) -> None:
        """Add a callback or another action."""
        self.events.append(Event(Kind.CALL, text))

    def memory(self, text: str) -> None:
        """Add an allocation or a write to memory."""
        self.events.append(Event(Kind.MEMORY, text))

    def bug(self, number: int, text: str) -> None:
        """Add a known bug of the 2025 PCI series that occurred. number: in the list A.9 of docs/liveupdate.md."""
        self.events.append(Event(Kind.BUG, text, number))

    def flaw(self, text: str) -> None:
        """Add a known bug of another part, which has no number."""
        self.events.append(Event(Kind.BUG, text))

    def panic(self, text: str) -> Panic:
        """Add the end of the kernel. Returns the exception to raise."""
        self.events.append(Event(Kind.PANIC, f"panic: {text}"))
        return Panic(text)

    @property
    def bugs(self) -> set[int]:
        """Numbers of the known bugs that occurred."""
        return {event.bug for event in self.events if event.bug is not None}

    def of(self, kind: Kind) -> list[str]:
        """Texts of the events of one kind."""
        return [event.text for event in self.events if event.kind is kind]

    def __str__(self) -> str:
        return "\n".join(map(str, self.events))
