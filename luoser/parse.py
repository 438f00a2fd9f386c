# SPDX-License-Identifier: MIT
"""JSON and TOML of users, read with bounds of our own: their parsers recurse, and their messages are about Python."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from luoser.errors import FormatError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import safe_text

__all__ = ["decoded", "parse_json", "parse_toml"]

_DIGITS = 1000
"""Digits of a number at most; no number here has more than 64 bits."""
_TOML = re.compile(
    r'"""(?:\\.?|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:\\.?|[^"\\\n])*+"?|\'[^\'\n]*+\'?'
    r'|#[^\n]*|[][{}.=,\n]|[0-9_]+|[^][{}.=,\n"\'#0-9_]+|.',
    re.DOTALL,
)
"""A string, a comment, a character that opens or ends something, digits, or other text.

A string that does not end is one, too: what is in it is not searched again.
"""
_NOT_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|[^][{}"]+', re.DOTALL)
"""What is no bracket in JSON: a string, or other text."""
_BRACES = str.maketrans("{}", "[]")


def decoded(data: bytes) -> str:
    """The text that some bytes are, without a byte order mark.

    Raises FormatError with the first byte that is not UTF-8.
    """
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place, byte = error.start, data[error.start]
        line, column = data.count(b"\n", 0, place) + 1, place - data.rfind(b"\n", 0, place)
        raise FormatError(f"line {line}, column {column}: expected UTF-8, found byte {byte:#04x}") from None


def parse_json(text: str, *, unique: bool = False) -> Any:
    """The values of a JSON document.

    text:   of it.
    unique: no object may have a name twice, as its readers differ in which one they take.

    Raises FormatError, with line and column where it has them.
    """
    _need_flat(text)
    try:
        return json.loads(
            text, parse_int=_number, parse_constant=_not_json, object_pairs_hook=_object if unique else None
        )
    except RecursionError:
        raise FormatError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"line {error.lineno}, column {error.colno}: invalid JSON: {error.msg}") from None
    except ValueError as error:  # of numbers
        raise FormatError(safe_text(str(error))) from None


def _need_flat(text: str) -> None:
    """Raise FormatError for JSON of too many levels: parsers and readers differ in how many they stand."""
    most = LIMITS.json_depth
    if text.count("[") + text.count("{") <= most:
        return
    left, depth = _NOT_BRACKETS.sub("", text).translate(_BRACES), 0
    while depth <= most and "[]" in left:
        left, depth = left.replace("[]", ""), depth + 1
    if max(depth, left.count("[")) > most:
        raise FormatError(f"nested too deeply: more than {most} levels; {how_to_raise('json_depth')}")


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} is there twice in one object")
    return made


_SHOWN = 64
"""Most characters of a name that are shown."""


def _number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"number of {len(digits)} digits: expected at most {_DIGITS}")
    return int(digits)


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises FormatError, with line and column where it has them.
    """
    import tomllib

    _need_shallow(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise FormatError("nested too deeply") from None
    except ValueError as error:
        raise FormatError(safe_text(str(error))) from None


def _need_shallow(text: str) -> None:
    """Raise FormatError for too many levels, or a number that is too long: tomllib takes quadratic time for them."""
    depth = parts = 0
    line = 1
    for match in _TOML.finditer(text):
        word = match[0]
        if word == ".":
            parts += 1
        elif word in ("[", "{"):
            depth, parts = depth + 1, 0
        elif word in ("]", "}"):
            depth, parts = max(0, depth - 1), 0
        elif word in ("=", ",", "\n"):
            parts = 0
        elif len(word) > _DIGITS and word[0].isdigit():
            raise FormatError(f"line {line}: number of {len(word)} digits: expected at most {_DIGITS}")
        if depth + parts >= LIMITS.spec_depth:
            raise FormatError(f"line {line}: nested too deeply; {how_to_raise('spec_depth')}")
        line += word.count("\n")
