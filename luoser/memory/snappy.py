# SPDX-License-Identifier: MIT
"""Raw snappy blocks, bounded by the size that the caller expects."""

from __future__ import annotations

from luoser.errors import FormatError, SourceError

__all__ = ["decompress", "uncompressed_size"]


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
    try:
        import cramjam
    except ImportError:
        raise SourceError("this dump is compressed with snappy: pip install 'luoser[snappy]'") from None
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise FormatError(f"corrupt snappy data: {error}") from None
