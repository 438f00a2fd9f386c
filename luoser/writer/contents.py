# SPDX-License-Identifier: MIT
"""Contents of memfds in a description: bytes, a text or a file, instead of bytes by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from luoser.errors import UsageError
from luoser.state.from_json import Item

__all__ = ["pieces_of", "with_contents"]

_FILE, _TEXT = "contents_file", "contents_text"
Json = dict[str, Any]


def with_contents(values: Json, read: Callable[[str], bytes]) -> Json:
    """A description in which each `contents_file` and `contents_text` of a memfd is bytes without an address.

    values: the description.
    read:   gives the bytes of a file by the name that the description has.

    Raises UsageError for a memfd that has both, or other contents, too.
    """
    if isinstance(values, dict):
        made: Json = {name: with_contents(item, read) for name, item in values.items() if name not in (_FILE, _TEXT)}
        given = [name for name in (_FILE, _TEXT) if name in values]
        if given:
            if len(given) > 1 or values.get("contents"):
                raise UsageError(f"{given[0]}: expected one of contents, {_FILE} and {_TEXT}")
            text = values[given[0]]
            if not isinstance(text, str):
                raise UsageError(f"{given[0]}: expected a text")
            made["contents"] = [{"bytes": (read(text) if given[0] == _FILE else text.encode()).hex()}]
        return made
    return cast(Json, [with_contents(item, read) for item in values]) if isinstance(values, list) else values


def pieces_of(item: Item, data: bytes, page_size: int) -> Iterator[Json]:
    """The contents of a memfd by address: bytes of its folios.

    item:      the memfd, with its folios, each of one page.
    data:      the bytes of the file.
    page_size: bytes.
    """
    folios = cast(Item, item.item("folios"))
    for index, address, _ in folios.rows("list", 3):
        piece = data[index * page_size : (index + 1) * page_size]
        yield {"address": f"{address:#x}", "size": f"{page_size:#x}", "bytes": piece.rstrip(b"\0").hex()}
