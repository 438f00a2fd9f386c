# SPDX-License-Identifier: MIT
"""Which of many files are parts of one dump: those of a split kdump, and a .vmem with its state file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from luoser.errors import LuoserError
from luoser.memory import avml, elf, flattened, kdump, lime
from luoser.memory.packed import LONGEST, unpacked
from luoser.memory.vmware import MAGICS as STATE_MAGICS
from luoser.output import PACKED

__all__ = ["grouped"]

_HEAD = 2 * 65536
"""Bytes of a kdump that have both of its headers: the second one begins the block after the first, of up to 64 KiB."""
_MAGIC = 16
"""Bytes that name the format of a file."""
_DUMPS = (elf.MAGIC, lime.MAGIC, avml.MAGIC, flattened.MAGIC, *kdump.MAGICS)
"""What dumps begin with that need no state file."""


def grouped(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The files as sources: each alone, or with the others of its dump, in the order of the first of each.

    names: of files, or of anything else, which stays alone.
    """
    given = list(names)
    heads, parts = list[bytes](), dict[Hashable, list[tuple[int, kdump.SplitPart]]]()
    for number, name in enumerate(given):
        head = b"".join(_head(name))
        heads.append(head[:_MAGIC])
        if (part := _split_part(name, head)) is not None:
            parts.setdefault(part.dump, []).append((number, part))
    groups = {number: [number] for number in range(len(given))}
    for of_one_kind in parts.values():
        for dump in _split_dumps(given, of_one_kind):
            for number in dump:
                del groups[number]
            groups[dump[0]] = dump
    found = [[given[number] for number in groups[first]] for first in sorted(groups)]
    _join_states(found, dict(zip(given, heads, strict=True)))
    return [tuple(group) for group in found if group]


def _split_dumps(names: Sequence[str], parts: list[tuple[int, kdump.SplitPart]]) -> Iterator[list[int]]:
    """The numbers of the files of each dump, of the parts of dumps of one kind: hosts can be alike."""
    parts.sort(key=lambda pair: pair[1].seconds)
    begin = 0
    for end in range(1, len(parts) + 1):
        if end == len(parts) or parts[end][1].seconds - parts[end - 1][1].seconds > kdump.APART:
            yield from _of_one_time(names, parts[begin:end])
            begin = end


def _of_one_time(names: Sequence[str], parts: list[tuple[int, kdump.SplitPart]]) -> Iterator[list[int]]:
    """As `_split_dumps`, of parts of one time. There are as many dumps as files of one part: others go by name."""
    parts.sort(key=lambda pair: names[pair[0]])
    (most, _), *_ = Counter(part.start for _, part in parts).most_common(1)
    dumps = [{part.start: number} for number, part in parts if part.start == most]
    for number, part in parts:
        if part.start != most:
            fitting = [dump for dump in dumps if part.start not in dump]
            likest = max(fitting, key=lambda dump: len(os.path.commonprefix([names[dump[most]], names[number]])))  # noqa: RUF071 - of characters
            likest[part.start] = number
    for dump in dumps:
        yield sorted(dump.values())


def _join_states(groups: list[list[str]], heads: dict[str, bytes]) -> None:
    """Put state files of VMware to their memory: the .vmem of the same name, or the only other file.

    groups: of names; those of state files that were put elsewhere become empty.
    heads:  first bytes of each file.
    """
    memories = {_unpacked_name(group[0]): group for group in groups if len(group) == 1}
    for group in groups:
        if not heads[group[0]].startswith(STATE_MAGICS):
            continue
        memory = memories.get(f"{_unpacked_name(group[0]).rpartition('.')[0]}.vmem")
        if memory is None and len(groups) == 2:
            memory = next(other for other in groups if other is not group)
        if memory and len(memory) == 1 and not heads[memory[0]].startswith((*_DUMPS, *STATE_MAGICS)):
            memory += group
            group.clear()


def _unpacked_name(name: str) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - names stay as they are
    return stem if suffix in PACKED else name


def _split_part(name: str, head: bytes) -> kdump.SplitPart | None:
    if not head.startswith(kdump.MAGICS):
        return None
    try:
        return kdump.split_part(name, head)
    except LuoserError:
        return None


def _head(name: str) -> Iterator[bytes]:
    """The first bytes of a file, unpacked, of a kdump with both headers. Nothing of what cannot be read."""
    try:
        path = Path(name)
        if not path.is_file():
            return
        with path.open("rb") as file:
            start = file.read(LONGEST)
            file.seek(0)
            pieces, left = unpacked(file, start, []) or iter((file.read(_HEAD),)), _HEAD
            for piece in pieces:
                if left == _HEAD and not piece.startswith(kdump.MAGICS):
                    yield piece[:_MAGIC]
                    return
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return
    except (OSError, ValueError, LuoserError):
        return
