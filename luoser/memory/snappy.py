# SPDX-License-Identifier: MIT
"""Snappy data, bounded by the size that the caller expects: raw blocks, and chunks of the framing format."""

from __future__ import annotations

from typing import Any

from luoser.errors import FormatError, SourceError

__all__ = ["CHUNK", "decompress", "decompress_chunk", "uncompressed_size"]

CHUNK = 65536
"""Bytes that one chunk of the framing format holds at most."""
_IDENTIFIER = b"\xff\x06\0\0sNaPpY"


def uncompressed_size(data: bytes) -> int:
    """The size that a raw block announces, -1 when its number is broken."""
    size = 0
    for shift, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return size
    return -1


def decompress(data: bytes, limit: int) -> bytes:
    """A raw block of at most `limit` bytes. Raises FormatError for a corrupt one, SourceError without cramjam."""
    size = uncompressed_size(data)
    if not 0 <= size <= limit:
        raise FormatError(f"snappy block of {size} bytes, expected at most {limit}")
    cramjam = _cramjam()
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise FormatError(f"corrupt snappy data: {error}") from None


def decompress_chunk(chunk: bytes) -> bytes:
    """What one data chunk with its header and checksum holds, at most CHUNK bytes: the library looks at both.

    Raises FormatError for a corrupt one, SourceError without cramjam.
    """
    cramjam = _cramjam()
    try:
        return bytes(cramjam.snappy.decompress(_IDENTIFIER + chunk))
    except cramjam.DecompressionError as error:
        raise FormatError(str(error)) from None


def _cramjam() -> Any:
    try:
        import cramjam
    except ImportError:
        raise SourceError("this dump is compressed with snappy: pip install 'luoser[snappy]'") from None
    return cramjam
