# SPDX-License-Identifier: MIT
"""How much work a source may still cause."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Budget"]


class Budget:
    """A number of bytes, pages or other units of work that decreases.

    What a source holds adds to it. That can cost much to find out, so it is asked for only when the rest is used up.
    """

    __slots__ = ("_left", "_more")

    def __init__(self, left: int, more: Callable[[], int]) -> None:
        """left: of any source. more: what is added for this one."""
        self._left = left
        self._more: Callable[[], int] | None = more

    def take(self, size: int) -> int:
        """Take up to `size` of what is left. Returns how much was taken."""
        if size > self._left and self._more is not None:
            self._left += self._more()
            self._more = None
        taken = min(size, self._left)
        self._left -= taken
        return taken

    @property
    def is_used_up(self) -> bool:
        """Whether more was asked for than was left."""
        return self._more is None and not self._left
