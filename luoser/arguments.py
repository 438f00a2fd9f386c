# SPDX-License-Identifier: MIT
"""Checks of the arguments of public functions, for what a type checker would have told."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from luoser.errors import UsageError

__all__ = ["need_names", "need_path"]


def need_names(**options: Collection[str]) -> None:
    """Raise UsageError for what is no collection of names, as a text, and for an item that is none.

    options: values by the name of the argument.
    """
    for option, names in options.items():
        if isinstance(names, str | bytes) or not isinstance(names, Collection):
            raise UsageError(f"--{option}: expected names, found {names!r}")
        for name in names:
            if not isinstance(name, str) or not name:
                raise UsageError(f"--{option}: expected names, found {'an empty one' if name == '' else repr(name)}")


def need_path(given: Any, expected: str = "a path") -> str:
    """A path as text. Raises UsageError for anything else, and for a NUL, which no path has.

    given:    the argument.
    expected: what is, in words.
    """
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(name, str):
        raise UsageError(f"expected {expected}, found {type(given).__name__}")
    if "\0" in name:
        raise UsageError(f"expected {expected}, found a text with a NUL")
    return name
