# SPDX-License-Identifier: MIT
"""Contents of memfds in a description: bytes, a text or a file, instead of bytes by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from luoser.errors import UsageError
from luoser.state.from_json import Item
from luoser.text import encode_name

__all__ = ["pieces_of", "with_contents"]

_FILE, _TEXT = "contents_file", "contents_text"
Json = dict[str, Any]


def with_contents(values: Json, read: Callable[[str], bytes]) -> Json:
    """A description in which each `contents_file` and `contents_text` of a memfd is bytes without an address.

    values: the description.
    read:   gives the bytes of a file by the name that the description has.

    Raises UsageError for a memfd that has both, or other contents, too, and for a description nested too deeply, which
    the JSON parser of Python 3.12 and later reads.
    """
    try:
        return _with_contents(values, read)
    except RecursionError:
        raise UsageError("nested too deeply") from None


def _with_contents(values: Json, read: Callable[[str], bytes]) -> Json:
    if isinstance(values, dict):
        made: Json = {name: _with_contents(item, read) for name, item in values.items() if name not in (_FILE, _TEXT)}
        given = [name for name in (_FILE, _TEXT) if name in values]
        if given:
            if len(given) > 1 or values.get("contents"):
                raise UsageError(f"{given[0]}: expected one of contents, {_FILE} and {_TEXT}")
            text = Item(values, "").text(given[0])
            made["contents"] = [{"bytes": (read(text) if given[0] == _FILE else encode_name(text)).hex()}]
        return made
    return cast(Json, [_with_contents(item, read) for item in values]) if isinstance(values, list) else values


def pieces_of(item: Item, data: bytes, page_size: int, orders: Mapping[int, int]) -> Iterator[Json]:
    """The contents of a memfd by address: bytes of its folios.

    item:      the memfd, with its folios.
    data:      the bytes of the file.
    page_size: bytes.
    orders:    of preserved blocks by address; a folio that is none has one page.

    Raises UsageError for bytes, other than zeros, that are in no folio.
    """
    folios, left = cast(Item, item.item("folios")), bytearray(data)
    for index, address, _ in folios.rows("list", 3):
        start, size = index * page_size, page_size << orders.get(address, 0)
        piece = data[start : start + size]
        left[start : start + size] = bytes(len(piece))
        yield {"address": f"{address:#x}", "size": f"{size:#x}", "bytes": piece.rstrip(b"\0").hex()}
    if any(left):
        place = next(place for place, byte in enumerate(left) if byte)
        raise item.fail("folios.list", f"expected a folio for byte {place:#x} of the contents, found none")
