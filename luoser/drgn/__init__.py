# SPDX-License-Identifier: MIT
"""In drgn: its memory as a source, its types and symbols, the command `%luo`, and objects for what is handed over.

    >>> %luo check
    >>> from luoser.drgn import *
    >>> for session in luo_sessions(prog): print(session.name)

Needs drgn (`luoser[drgn]`), which finds the command by itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.drgn.command import luo
    from luoser.drgn.objects import kho_preserved, luo_files, luo_memfd_pages, luo_sessions, state
    from luoser.drgn.source import memory

__all__ = ["kho_preserved", "luo", "luo_files", "luo_memfd_pages", "luo_sessions", "memory", "state"]

_PLACES = {"luo": "luoser.drgn.command", "memory": "luoser.drgn.source"}
"""Where a function is that is not in `luoser.drgn.objects`. They are imported on first use: drgn starts with this."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'luoser.drgn' has no attribute {name!r}")
    globals()[name] = getattr(import_module(_PLACES.get(name, "luoser.drgn.objects")), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
