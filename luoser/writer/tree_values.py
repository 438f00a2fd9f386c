# SPDX-License-Identifier: MIT
"""Values of devicetree properties as KHO writes them: native byte order, texts with their NUL."""

from __future__ import annotations

import struct

from luoser.state.from_json import Item
from luoser.text import encode_name

__all__ = ["text", "u32_of", "u64"]


def text(value: str) -> bytes:
    """A text and its NUL."""
    return encode_name(value) + b"\0"


def u64(value: int) -> bytes:
    """A little-endian number of 8 bytes."""
    return struct.pack("<Q", value)


def u32_of(item: Item, name: str) -> bytes:
    """A number of a description as 4 little-endian bytes. Raises UsageError where it does not fit."""
    value = item.number(name)
    if value >> 32:
        raise item.fail(name, f"{value:#x} does not fit 32 bits")
    return struct.pack("<I", value)
