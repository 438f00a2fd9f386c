# SPDX-License-Identifier: MIT
"""What `luoser compat` takes for a kernel: a release, a vmlinux, a dump, or a machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from luoser.clashes import Profile, of_file, of_release, of_state

if TYPE_CHECKING:
    from luoser.memory.source import Memory
    from luoser.state import State

__all__ = ["profile_of"]

_RELEASE = re.compile(r"v?\d+\.\d+(\.\d+)?([-+~].*)?")
_ELF, _ET_CORE = b"\x7fELF", 4


def profile_of(name: str, opened: Callable[[str], AbstractContextManager[tuple[State, Memory | None]]]) -> Profile:
    """The profile of a kernel.

    name:   a release such as 7.3, or the path of a vmlinux or a source.
    opened: opens and reads a source, as `luoser.api.sources.opened` does.

    Raises UsageError for an unknown release, SourceError for a file that does not say which kernel it is of.
    """
    from luoser.reader.own_types import types_of

    if _RELEASE.fullmatch(name) and not Path(name).exists():
        return of_release(name)
    if _is_vmlinux(name):
        return of_file(name)
    with opened(name) as (state, memory):
        types = types_of(memory)[0] if memory is not None else None
        return of_state(state, machine=memory.machine if memory is not None else None, types=types)


def _is_vmlinux(name: str) -> bool:
    if not Path(name).is_file():  # a pipe can be read once only
        return False
    try:
        with Path(name).open("rb") as file:
            head = file.read(18)
    except OSError:  # a dump that cannot be read says so itself
        return False
    return head.startswith(_ELF) and int.from_bytes(head[16:18], "little") != _ET_CORE
