# SPDX-License-Identifier: MIT
"""LZO1X decompression with a bound on the output.

Our own code, because the existing Python bindings do not build or have another licence. The format is described in
the kernel: Documentation/staging/lzo.rst.
"""

from __future__ import annotations

from luoser.errors import FormatError

__all__ = ["decompress"]


def decompress(data: bytes, limit: int) -> bytes:
    """The decompressed LZO1X stream, cut after `limit` bytes. Raises FormatError for a corrupt stream."""
    try:
        return bytes(_run(data, limit)[:limit])
    except IndexError:
        raise FormatError("LZO stream is truncated or refers to bytes before its start") from None


def _run(data: bytes, limit: int) -> bytearray:
    out = bytearray()
    place = 0
    # state: literals copied by the last instruction (0 to 3), 4 after a long run of literals
    state = 0
    if data[0] > 17:
        count = data[0] - 17
        out += _literals(data, 1, count)
        place, state = 1 + count, min(count, 4)
    while len(out) < limit:
        code = data[place]
        place += 1
        if code < 16 and state == 0:
            count, place = _length(data, place, code, 15, 3)
            out += _literals(data, place, count)
            place, state = place + count, 4
            continue
        count, distance, place, last = _match(data, place, code, state)
        if distance == 0:
            return out
        _copy(out, distance, count, limit)
        state = last & 3
        out += _literals(data, place, state)
        place += state
    return out


def _match(data: bytes, place: int, code: int, state: int) -> tuple[int, int, int, int]:
    """(length, distance, next place, byte whose low two bits are the number of literals that follow).

    Distance 0 ends the stream.
    """
    if code >= 64:
        return (code >> 5) + 1, (data[place] << 3) + (code >> 2 & 7) + 1, place + 1, code
    if code >= 32:
        count, place = _length(data, place, code & 31, 31, 2)
        low = data[place]
        return count, (low >> 2) + (data[place + 1] << 6) + 1, place + 2, low
    if code >= 16:
        count, place = _length(data, place, code & 7, 7, 2)
        low = data[place]
        distance = ((code & 8) << 11) + (low >> 2) + (data[place + 1] << 6)
        return count, distance + 0x4000 if distance else 0, place + 2, low
    if state == 4:
        return 3, (data[place] << 2) + (code >> 2) + 0x801, place + 1, code
    return 2, (data[place] << 2) + (code >> 2) + 1, place + 1, code


def _length(data: bytes, place: int, short: int, mask: int, base: int) -> tuple[int, int]:
    """(length, next place). If its short form is 0, the length continues in bytes: each zero byte adds 255."""
    if short:
        return short + base, place
    count = mask
    while data[place] == 0:
        count += 255
        place += 1
    return count + data[place] + base, place + 1


def _literals(data: bytes, place: int, count: int) -> bytes:
    found = data[place : place + count]
    if len(found) < count:
        raise IndexError
    return found


def _copy(out: bytearray, distance: int, count: int, limit: int) -> None:
    start = len(out) - distance
    if start < 0:
        raise IndexError
    count = min(count, limit - len(out))
    while count > 0:
        piece = out[start : start + min(count, distance)]
        out += piece
        count -= len(piece)
        start += len(piece)
