# SPDX-License-Identifier: MIT
"""Memory to state: finds the KHO roots of a source, and reads everything below them.

A name is imported on first use: a bare blob needs `luoser.reader.blob` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.reader.kernel import SYMBOLS
    from luoser.reader.reading import read
    from luoser.reader.salvage import memfd_at

__all__ = ["SYMBOLS", "memfd_at", "read"]


def __getattr__(name: str) -> Any:
    if name == "SYMBOLS":
        from luoser.reader.kernel import SYMBOLS

        return SYMBOLS
    if name == "read":
        from luoser.reader.reading import read

        return read
    if name == "memfd_at":
        from luoser.reader.salvage import memfd_at

        return memfd_at
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
