# SPDX-License-Identifier: MIT
"""What was described against what the made bytes read as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from luoser.abi.registry import schemas
from luoser.state.from_json import Item
from luoser.text import parse_bdf, parse_size, safe_text

__all__ = ["differences"]

_MOST = 32
_NOT_COMPARED = frozenset(
    {"schema", "source", "evidence", "problems", "confidence", "candidates", "notes", "header", "flag_names"}
)


def differences(said: Any, read: Any) -> Iterator[str]:
    """A sentence for each value of one document that is said and reads otherwise in another; null says nothing.

    After the first of many, how many more there are.
    """
    found = _differences(said, read, "")
    yield from islice(found, _MOST)
    if more := sum(1 for _ in found):
        yield f"and {more} more differences"


def _differences(said: Any, read: Any, path: str) -> Iterator[str]:
    if isinstance(said, dict) and isinstance(read, dict):
        for name, value in said.items():
            if name not in _NOT_COMPARED and value is not None and value is not False:
                yield from _differences(value, read.get(name), f"{path}.{name}" if path else name)
    elif isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        for index, (value, other) in enumerate(zip(said, read, strict=True)):
            yield from _differences(value, other, f"{path}[{index}]")
    elif not _is_same(said, read, path):
        yield f"{safe_text(path)} is {_short(said)}, but reads back as {_short(read)}"


@cache
def _bit_names() -> dict[str, Mapping[int, str]]:
    """Names of the bits of each member that is written as a list of names, by the member."""
    return {member.name: member.bit_names for schema in schemas() for member in schema.fields if member.bit_names}


def _is_same(said: Any, read: Any, path: str) -> bool:
    if said == read:
        return True
    if isinstance(said, list) and isinstance(read, int):
        names = _bit_names().get(path.rsplit(".", 1)[-1], {})
        return Item({"bits": said}, path).bits("bits", names) == read
    for parse in (parse_bdf, parse_size):
        try:
            if parse(str(said)) == parse(str(read)):
                return True
        except ValueError:
            continue
    return False


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return safe_text(str(value))
