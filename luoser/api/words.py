# SPDX-License-Identifier: MIT
"""The words of errors for users of Python: keywords instead of the options of the command line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from luoser.errors import LuoserError

__all__ = ["COMMANDS_ONLY", "in_python", "with_keywords"]

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
COMMANDS_ONLY = frozenset({"engine", "from-list", "full", "hex", "jobs", "moments", "name", "word"})
"""Options that no function has. A message keeps them."""
_KEYWORDS = {"as": "layout", "base": "ranges", "direction": "directions", "map": "ranges", "next": "next_release"}
"""Keywords that are called otherwise than their option."""
_PART = re.compile(r"(?P<command>`[^`]*`)|--limit (?P<limit>\w+=\w+)|(?<![\w-])--(?P<option>[a-z][a-z-]*)")


def with_keywords(message: str) -> str:
    """A message, with `limits=Limits(NAME=N)` for `--limit NAME=N` and `page_size` for `--page-size`.

    Commands, which are in backquotes, stay as they are.
    """

    def keyword(part: re.Match[str]) -> str:
        if part["limit"] is not None:
            return f"limits=Limits({part['limit']})"
        name = part["option"]
        if name is None or name in COMMANDS_ONLY:
            return part[0]
        return _KEYWORDS.get(name, name.replace("-", "_"))

    return _PART.sub(keyword, message)


def in_python(name: str, function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """The same function, whose errors name keywords. name: of it in the package luoser, by which it is pickled."""

    @functools.wraps(function)
    def call(*args: _Given.args, **keywords: _Given.kwargs) -> _Result:
        try:
            return function(*args, **keywords)
        except LuoserError as error:
            error.args = (with_keywords(str(error)),)
            raise

    call.__module__, call.__name__, call.__qualname__ = "luoser", name, name
    return call
