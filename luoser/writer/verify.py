# SPDX-License-Identifier: MIT
"""Differences between a description and what its bytes are read as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from luoser.abi.registry import schemas
from luoser.errors import MissingMemory
from luoser.memory.source import Memory
from luoser.state import Extent, PreservedMap
from luoser.state.from_json import Item, load_extents
from luoser.text import parse_bdf, parse_size, safe_text

__all__ = ["differences"]

_MOST = 32
_NOT_COMPARED = frozenset(
    (
        *("schema", "source", "evidence", "problems", "confidence", "candidates", "notes", "header", "flag_names"),
        "at_jump",
    )
)


def differences(said: Any, read: Any, memory: Memory | None = None) -> Iterator[str]:
    """A sentence for each value of a description that is read differently. Null and false in it match anything.

    said:   the description.
    read:   document of the same bytes.
    memory: the bytes, for contents that are larger than those that are read into a document. None: of a blob.

    Nothing in a flat image shows whether a kernel has taken over its handovers, and extents may be grouped otherwise:
    neither is a difference. The last sentence has the number of further differences, if there are more than 32.
    """
    found = _differences(said, read, "", memory)
    yield from islice(found, _MOST)
    if more := sum(1 for _ in found):
        yield f"{more} further differences omitted"


def _differences(said: Any, read: Any, path: str, memory: Memory | None) -> Iterator[str]:
    if isinstance(said, dict) and isinstance(read, dict):
        for name, value in said.items():
            where = f"{path}.{name}" if path else name
            if name == "contents" and memory is not None and isinstance(value, list):
                yield from _other_bytes(value, where, memory)
            elif name not in _NOT_COMPARED and value is not None and value is not False:
                yield from _differences(value, read.get(name), where, memory)
    elif path.endswith(("preserved.extents", "page_tree.extents")) and memory is not None and isinstance(read, list):
        size = memory.page_size or 4096
        if _grouped(said, size) != _grouped(read, size):
            yield f"{safe_text(path)}: expected {_short(said)}, found {_short(read)} of other memory"
    elif path.endswith("].direction") and said == "incoming":
        return
    elif isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        for index, (value, other) in enumerate(zip(said, read, strict=True)):
            yield from _differences(value, other, f"{path}[{index}]", memory)
    elif not _is_same(said, read, path):
        yield f"{safe_text(path)}: expected {_short(said)}, found {_short(read)}"


def _other_bytes(pieces: list[Any], path: str, memory: Memory) -> Iterator[str]:
    """A sentence for each piece of contents whose bytes are others, or not there."""
    for index, piece in enumerate(pieces):
        item = Item(piece, f"{path}[{index}]")
        address, size, data = item.number("address"), item.number("size"), item.data("bytes")
        try:
            found = memory.read(address, size)
        except MissingMemory as error:
            yield f"{safe_text(path)}[{index}]: {error}"
            continue
        if found != data.ljust(size, b"\0"):
            yield f"{safe_text(path)}[{index}]: other bytes at {address:#x}"


def _grouped(extents: list[Any], page_size: int) -> list[Extent]:
    """Extents, grouped as in a document of `inspect`."""
    found = load_extents(Item({"extents": extents}, ""), page_size)
    return list(PreservedMap.from_extents(found, page_size=page_size).extents())


@cache
def _bit_names() -> dict[str, Mapping[int, str]]:
    """Names of bits by bit value, by the name of a member with flags."""
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
    return "nothing" if value is None else safe_text(str(value))
