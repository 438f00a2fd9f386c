# SPDX-License-Identifier: MIT
"""Hex text as people paste it: the output of hexdump -C, xxd or od, or plain digits."""

from __future__ import annotations

import re

from luoser.errors import FormatError
from luoser.limits import LIMITS, how_to_raise

__all__ = ["parse_hex"]

_OFFSET = re.compile(r"\s*([0-9a-fA-F]{4,16})(:|\s{2,})(.*)")
_PAIRS = re.compile(r"(?:[0-9a-fA-F]{2})+")
_OD = re.compile(r"\s*([0-9a-fA-F]{6,16})((?: [0-9a-fA-F]{2})+)(?:\s.*)?")
"""A line of od -Ax -tx1: one space after the offset."""
_END = re.compile(r"[0-9a-fA-F]{5,16}")
_DIGITS = re.compile(r"[0-9a-fA-F]+")
_LINE = 16


def parse_hex(text: bytes) -> bytes:
    """The bytes of a hex text.

    Lines may start with an offset and end with a comment or the ASCII column. A `*` line repeats the previous
    line up to the next offset, as hexdump and od print it.

    Raises FormatError, with the line number, for a line without hex digits, for half a byte, and for an offset
    that differs from the number of bytes before it.
    """
    data = bytearray()
    repeat = has_offsets = False
    for number, line in enumerate(text.decode("ascii", "replace").splitlines(), 1):
        if line.strip() == "*":
            repeat = True
        elif line.strip():
            try:
                offset, found = _line(line, ends=has_offsets)
                _fill(data, offset, repeat=repeat)
            except ValueError as error:
                raise FormatError(f"hex text line {number}: {error}") from None
            has_offsets, repeat = has_offsets or offset is not None, False
            if not found and offset is None:
                raise FormatError(f"hex text line {number} has no hex digits")
            data += found
    if repeat:
        raise FormatError("hex text ends with a `*` line: expected an offset after it")
    if not data:
        raise FormatError("hex text has no bytes")
    return bytes(data)


def _fill(data: bytearray, offset: int | None, *, repeat: bool) -> None:
    """Extend the bytes to an offset after a `*` line, by repeating the last line. Raises ValueError."""
    if repeat:
        if offset is None or len(data) < _LINE or not len(data) <= offset:
            raise ValueError("expected an offset up to which the `*` line before it repeats")
        if offset > LIMITS.hex_size:
            raise ValueError(f"`*` stands for too many bytes, up to offset {offset:#x}; {how_to_raise('hex_size')}")
        data += bytes(data[-_LINE:]) * ((offset - len(data)) // _LINE)
    if offset is not None and offset != len(data):
        raise ValueError(f"expected offset {len(data):#x}, found offset {offset:#x}")


def _line(line: str, *, ends: bool) -> tuple[int | None, bytes]:
    """(offset or None, bytes) of one line.

    ends: the line may be an offset alone, as after the last line of hexdump.
    """
    if ends and _END.fullmatch(line.strip()):
        return int(line, 16), b""
    od = _OD.fullmatch(line)
    if od is not None:
        return int(od[1], 16), _pairs(od[2])
    match = _OFFSET.match(line)
    if match is None:
        return None, _pairs(line)
    offset, mark, rest = match.groups()
    if mark == ":":  # xxd: two spaces before the ASCII column
        rest = rest.strip().split("  ")[0]
    return int(offset, 16), _pairs(rest)[:_LINE]


def _pairs(text: str) -> bytes:
    found = bytearray()
    for word in text.split("|")[0].split():
        word = word.removeprefix("0x").removesuffix(",")
        if not _PAIRS.fullmatch(word):
            if _DIGITS.fullmatch(word) and len(found) < _LINE:
                raise ValueError(f"half a byte in {word[:40]!r}")
            break
        found += bytes.fromhex(word)
    return bytes(found)
