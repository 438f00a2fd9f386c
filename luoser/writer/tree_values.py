# SPDX-License-Identifier: MIT
"""Values of devicetree properties as KHO writes them: native byte order, texts with a NUL."""

from __future__ import annotations

import struct

from luoser.state.from_json import Item
from luoser.text import encode_name

__all__ = ["text", "u32_of", "u64"]


def text(value: str) -> bytes:
    """Bytes of a text, with a NUL."""
    return encode_name(value) + b"\0"


def u64(value: int) -> bytes:
    """Bytes of a number: 8, little-endian."""
    return struct.pack("<Q", value)


def u32_of(item: Item, name: str) -> bytes:
    """Bytes of a number: 4, little-endian.

    item: object of a description.
    name: of its member.

    Raises UsageError if it is not a number, or too large.
    """
    value = item.number(name)
    if value >> 32:
        raise item.fail(name, f"{value:#x} does not fit 32 bits")
    return struct.pack("<I", value)
