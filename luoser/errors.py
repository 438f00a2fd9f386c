# SPDX-License-Identifier: MIT
"""Error types. A message has the file or the physical address, what was expected and what was found."""

from __future__ import annotations

import copyreg
from enum import StrEnum
from typing import Any

__all__ = [
    "FormatError",
    "LimitError",
    "LuoserError",
    "MissingMemory",
    "PageState",
    "SourceError",
    "TooLargeError",
    "UsageError",
]


class PageState(StrEnum):
    """What a source knows about one page of physical memory.

    PRESENT:  the bytes are in the source.
    ZERO:     the dump tool left the page out because it held zeros.
    EXCLUDED: the dump tool left the page out; its contents are unknown.
    DAMAGED:  the page is in the dump, but cannot be unpacked.
    ABSENT:   no segment covers the page, or its bytes are lost.
    """

    PRESENT = "present"
    ZERO = "zero"
    EXCLUDED = "excluded"
    DAMAGED = "damaged"
    ABSENT = "absent"


_WHY = {PageState.EXCLUDED: "left out of the dump", PageState.DAMAGED: "stored, but it cannot be unpacked"}


class LuoserError(Exception):
    """Base of all errors that luoser raises on purpose."""


class SourceError(LuoserError):
    """A file that cannot be read: it is missing, empty, damaged, or of an unknown format."""


class FormatError(LuoserError):
    """Bytes that do not have the expected format, such as a broken flattened devicetree."""


class TooLargeError(FormatError):
    """Bytes that may have the expected format, but that meet a limit. The message says which one."""


class UsageError(LuoserError):
    """A request that cannot be carried out: an unknown layout name, an address that is not a number."""


class MissingMemory(LuoserError):
    """Bytes that are not in the source.

    address: the first physical address that could not be read.
    page:    physical address of its 4 KiB page.
    state:   `PageState.EXCLUDED` (a dump tool left the page out), `PageState.DAMAGED` (it is in the source, but
             cannot be unpacked) or `PageState.ABSENT`.
    why:     the reason in words; None for the usual reason of this state.
    """

    def __init__(self, address: int, state: PageState, why: str | None = None) -> None:
        self.address = address
        self.page = address // 4096 * 4096
        self.state = state
        if why is None:
            why = _WHY.get(state, "in no segment of the source")
        super().__init__(f"page {self.page:#x} is {state.value} ({why})")

    def __reduce__(self) -> tuple[Any, ...]:
        """How to copy or unpickle it: without `__init__`, whose arguments are not those of an exception."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class LimitError(MissingMemory):
    """Bytes that were not read because a limit was met. The message says which one.

    address: the first physical address that was not read.
    why:     in words.
    """

    def __init__(self, address: int, why: str) -> None:
        super().__init__(address, PageState.EXCLUDED)
        self.args = (f"page {self.page:#x} was {why}",)
