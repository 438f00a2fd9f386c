# SPDX-License-Identifier: MIT
"""Like files of a session, and like sessions and FLBs in a row, which are shown as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from luoser.abi.luo import is_test_flb
from luoser.state import File, Flb, PendingFlb, Session

__all__ = ["file_runs", "flb_runs", "grouped", "ranges_text", "session_runs"]

_FEWEST_FILES = 3
_RANGES = 4
_Item = TypeVar("_Item")
_AnyFlb = TypeVar("_AnyFlb", Flb, PendingFlb)


def file_runs(files: Iterable[File], is_odd: Callable[[File], object]) -> Iterator[tuple[File, ...]]:
    """The files by the first of each run: memfds that are alike but for token and address together, others alone.

    is_odd: whether a file is shown alone in any case.
    """
    alike: dict[object, list[File]] = {}
    for index, file in enumerate(files):
        key = _file_key(file, is_odd)
        alike.setdefault(index if key is None else key, []).append(file)
    for run in alike.values():
        yield from ((file,) for file in run) if len(run) < _FEWEST_FILES else (tuple(run),)


def grouped(items: Iterable[_Item], key: Callable[[_Item], object], *, fewest: int = 1) -> Iterator[tuple[_Item, ...]]:
    """The items in their order: those in a row with one key together, if there are as many; others alone.

    key:    of an item. None: it stays alone.
    fewest: items of a run.
    """
    for shared, group in groupby(items, key):
        run = tuple(group)
        yield from [run] if shared is not None and len(run) >= fewest else [(item,) for item in run]


def session_runs(
    sessions: Iterable[Session],
    is_odd: Callable[[File], object],
    is_alone: Callable[[Session], object] = lambda _: False,
) -> Iterator[tuple[Session, ...]]:
    """The sessions in their order: those in a row with like files together.

    is_odd:   as of `file_runs`.
    is_alone: whether a session is shown alone in any case.
    """
    return grouped(sessions, lambda session: None if is_alone(session) else _session_key(session, is_odd))


def flb_runs(flbs: Iterable[_AnyFlb]) -> Iterator[tuple[_AnyFlb, ...]]:
    """The FLBs in their order: those of the kernel's self-test in a row together, if they have as many files."""
    return grouped(flbs, lambda flb: (flb.count, _stem(flb.name)) if is_test_flb(flb.data) else None)


def _stem(name: str) -> str:
    """A name without its last part, which is often a version."""
    return name.rpartition("-")[0]


def _file_key(file: File, is_odd: Callable[[File], object]) -> object:
    """What like files have in common. None: the file is shown alone."""
    memfd = file.memfd
    if memfd is None or memfd.position or file.detail is not None or file.contents or is_odd(file):
        return None
    return file.compatible, memfd.layout, memfd.size, memfd.seals, memfd.folios.count, len(memfd.folios.list)


def _session_key(session: Session, is_odd: Callable[[File], object]) -> object:
    """What like sessions have in common. None: the session is shown alone."""
    keys = [_file_key(file, is_odd) for file in session.files]
    if not keys or None in keys or not session.name:
        return None
    return tuple(file.token for file in session.files), tuple(keys)


def ranges_text(numbers: Sequence[int]) -> str:
    """Numbers in hex, those that follow each other as a range; of many ranges only the first ones."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [f"{first:#x}" if first == last else f"{first:#x}-{last:#x}" for first, last in ranges[:_RANGES]]
    left = len(ranges) - _RANGES
    more = f" and {left} more range{'s' if left > 1 else ''}" if left > 0 else ""
    return ", ".join(shown) + more
