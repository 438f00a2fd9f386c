# SPDX-License-Identifier: MIT
"""What a command says if it cannot do its work, and the exit code for it."""

from __future__ import annotations

import os

from luoser.errors import LuoserError
from luoser.text import without_secrets

__all__ = ["UNREADABLE", "failure"]

UNREADABLE = 2


def failure(error: Exception) -> str:
    """What to say of an error that an input, an output or the machine causes. Raises any other one, as it is a bug."""
    if isinstance(error, LuoserError):
        return str(error)
    if isinstance(error, OSError):
        if error.filename and error.strerror:
            return f"{without_secrets(os.fsdecode(error.filename))}: {error.strerror}"
        return error.strerror or str(error)
    if isinstance(error, MemoryError):
        return "out of memory"
    raise error
