# SPDX-License-Identifier: MIT
"""Snappy decompression with a bound on the output: raw blocks, and chunks of the framing format."""

from __future__ import annotations

from typing import Any

from luoser.errors import FormatError, SourceError

__all__ = ["CHUNK", "decompress", "decompress_chunk", "uncompressed_size"]

CHUNK = 65536
"""Maximum size in bytes of a chunk of the framing format, decompressed."""
_IDENTIFIER = b"\xff\x06\0\0sNaPpY"


def uncompressed_size(data: bytes) -> int:
    """The size in bytes that a raw block claims to have decompressed. -1 if that number is damaged."""
    size = 0
    for shift, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return size
    return -1


def decompress(data: bytes, limit: int) -> bytes:
    """A raw block, decompressed.

    limit: maximum size in bytes, decompressed.

    Raises FormatError for a block that is corrupt or larger, SourceError if cramjam is not installed.
    """
    size = uncompressed_size(data)
    if not 0 <= size <= limit:
        raise FormatError(f"snappy block: expected at most {limit} bytes, found {size}")
    cramjam = _cramjam()
    try:
        return bytes(cramjam.snappy.decompress_raw(data))
    except cramjam.DecompressionError as error:
        raise FormatError(f"corrupt snappy data: {error}") from None


def decompress_chunk(chunk: bytes) -> bytes:
    """A data chunk of the framing format, decompressed: at most CHUNK bytes.

    chunk: with its header and its checksum, which the library verifies.

    Raises FormatError for a corrupt chunk, SourceError if cramjam is not installed.
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
        raise SourceError("the dump is compressed with snappy; pip install 'luoser[snappy]'") from None
    return cramjam
