# SPDX-License-Identifier: MIT
"""Error types. Every message names the file or the physical address, what was expected, what was found."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FormatError", "LuoserError", "MissingMemory", "PageState", "SourceError", "UsageError"]


class PageState(StrEnum):
    """What a source knows of one page of physical memory."""

    PRESENT = "present"
    ZERO = "zero"
    EXCLUDED = "excluded"
    DAMAGED = "damaged"
    ABSENT = "absent"


_WHY = {PageState.EXCLUDED: "left out of the dump", PageState.DAMAGED: "stored, but it cannot be unpacked"}


class LuoserError(Exception):
    """Base of everything luoser raises on purpose."""


class SourceError(LuoserError):
    """A file that cannot be read as memory: absent, empty, of an unknown or refused format."""


class FormatError(LuoserError):
    """Bytes that are not what their place promises, such as a broken flattened devicetree."""


class UsageError(LuoserError):
    """A request that makes no sense: an unknown layout name, an address that is no number."""


class MissingMemory(LuoserError):
    """Bytes that the source does not hold.

    address: the first physical address that could not be read.
    page:    the 4 KiB page that it is in.
    state:   why: `PageState.EXCLUDED` (a dump tool left the page out), `PageState.DAMAGED` (it is stored, but cannot
             be unpacked) or `PageState.ABSENT`.
    why:     the reason in words, where the source knows more than the state says.
    """

    def __init__(self, address: int, state: PageState, why: str | None = None) -> None:
        self.address = address
        self.page = address // 4096 * 4096
        self.state = state
        if why is None:
            why = _WHY.get(state, "in no segment of the source")
        super().__init__(f"page {self.page:#x} is {state.value} ({why})")
