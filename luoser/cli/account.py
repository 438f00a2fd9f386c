# SPDX-License-Identifier: MIT
"""What a command had to do with its source, for the result of one of many. Without an account nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import Source

__all__ = ["Account", "is_kept", "kept", "note_begun", "note_judged", "note_opened", "note_read"]


@dataclass(slots=True)
class Account:
    """Of one run of a command; of two sources that it read, the second one.

    memory:  the source that was opened. None: none could be, or a document was read.
    source:  what was read. None: nothing was.
    verdict: on it. None: none was asked for.
    """

    memory: Memory | None = None
    source: Source | None = None
    verdict: str | None = None


_account: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def kept() -> Iterator[Account]:
    """Keep an account inside the block."""
    account = Account()
    token = _account.set(account)
    try:
        yield account
    finally:
        _account.reset(token)


def is_kept() -> bool:
    """Whether there is an account: what it has need not be said."""
    return _account.get() is not None


def note_begun() -> None:
    """A source is about to be opened: what is kept of one before is not of it."""
    if (account := _account.get()) is not None:
        account.memory = account.source = None


def note_opened(memory: Memory) -> None:
    """A source was opened."""
    if (account := _account.get()) is not None:
        account.memory = memory


def note_read(source: Source) -> None:
    """The state of a source was read."""
    if (account := _account.get()) is not None:
        account.source = source


def note_judged(verdict: str) -> None:
    """A verdict was given."""
    if (account := _account.get()) is not None:
        account.verdict = verdict
