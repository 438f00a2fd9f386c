# SPDX-License-Identifier: MIT
"""JSON documents as text: indented, with innermost lists and objects (a device, an extent) on one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from json import JSONEncoder
from json.encoder import encode_basestring_ascii
from typing import Any

from luoser.state.to_json import Rows

__all__ = ["put_json"]

_NESTED = frozenset({dict, list, Rows})
_BATCH = 1024
"""Rows that are encoded at once."""
_FEW = 16
"""Lists below this length are faster without an encoder."""
_encode = JSONEncoder(ensure_ascii=True).encode
_encode_rows = JSONEncoder(ensure_ascii=True, separators=("\n", ": "), default=lambda _: [[]]).encode
"""Encodes with a newline, which no JSON string has, between members. `Rows` become brackets."""
_Put = Callable[[str], object]


def put_json(document: Any, put: _Put) -> None:
    """Write a JSON document in pieces, ASCII only, with a newline at the end.

    document: plain JSON values and `Rows`, of which only some are in memory at a time.
    put:      takes the next piece.
    """
    _put("", document, "\n", put)
    put("\n")


def _put(before: str, value: Any, newline: str, put: _Put) -> None:
    """Write a value. before: the text before it. newline: with the indentation of its last line."""
    if type(value) not in _NESTED or _is_flat(value):
        put(before + _flat(value))
    elif isinstance(value, dict):
        _put_object(before, value, newline, put)
    else:
        _put_list(before, value, newline, put)


def _is_flat(value: dict[str, Any] | list[Any] | Rows) -> bool:
    """Whether nothing is nested in it, so that it is on one line."""
    if isinstance(value, Rows):
        return False
    return _NESTED.isdisjoint(map(type, value.values() if isinstance(value, dict) else value))


def _flat(value: Any) -> str:
    """The text of a value on one line. Quicker for the usual small ones than an encoder is set up."""
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is int:
        return repr(value)
    if value is None:
        return "null"
    if kind is list and len(value) < _FEW:
        return f"[{', '.join(map(_flat, value))}]"
    return _encode(value)


@lru_cache
def _name(key: str) -> str:
    return f"{_encode(key)}: "


def _put_object(before: str, value: dict[str, Any], newline: str, put: _Put) -> None:
    inner = f"{newline} "
    before, comma = f"{before}{{{inner}", f",{inner}"
    for key, item in value.items():
        before += _name(key)
        if type(item) in _NESTED and not _is_flat(item):
            _put(before, item, inner, put)
            before = comma
        else:
            before += _flat(item) + comma
    put(f"{before[: -len(comma)]}{newline}}}")


def _put_list(before: str, value: list[Any] | Rows, newline: str, put: _Put) -> None:
    items, end = iter(value), f"{before}[]"
    before += f"[{newline} "
    while batch := list(islice(items, _BATCH)):
        text = _rows(batch, f",{newline} ")
        if text is not None:
            put(before + text)
        else:
            for item in batch:
                _put(before, item, f"{newline} ", put)
                before = f",{newline} "
        before, end = f",{newline} ", f"{newline}]"
    put(end)


def _rows(items: list[Any], separator: str) -> str | None:
    """The text of lists or objects, one a line, made with one call of the encoder. None: something in them is nested,
    or they are of both kinds, or a string in them has a bracket.
    """
    if not isinstance(items[0], dict | list) or not _is_flat(items[0]):
        return None
    text = _encode_rows(items)[1:-1]
    if text.count("{") + text.count("[") == len(items):
        for border in ("}\n{", "]\n["):
            if text.count(border) == len(items) - 1:
                joined = f"{border[0]}\0{border[-1]}"
                return text.replace(border, joined).replace("\n", ", ").replace("\0", separator)
    return None
