# SPDX-License-Identifier: MIT
"""Packed files: .xz, .gz, .bz2 and .zst, recognised by content and unpacked as far as they go."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from luoser.errors import SourceError

__all__ = ["LONGEST", "unpacked"]

_CHUNK = 1 << 20
_PIECE = 4096
"""Bytes of a .zst file that are unpacked together: a block of 4 bytes can give 128 KiB."""
_JUNK = "Not a gzipped file"


class _Reader(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Zstd:
    """A .zst file. The library's own reader does not show that the end of a frame is missing."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise SourceError(
                "packed with zstd; pip install 'luoser[zstd]', or unpack it first with `zstd -d`"
            ) from None
        self._file, self._zstd = file, zstandard
        self._frame: Any = None
        self._left = b""

    def read1(self, size: int, /) -> bytes:
        """The next unpacked bytes; empty at the end. Raises EOFError if the last frame is cut off."""
        while piece := self._left or self._file.read(_PIECE):
            if self._frame is None:
                self._frame = self._zstd.ZstdDecompressor().decompressobj()
            try:
                data: bytes = self._frame.decompress(piece)
            except self._zstd.ZstdError as error:
                raise lzma.LZMAError(str(error)) from None
            self._left = b""
            if self._frame.eof:
                self._left, self._frame = self._frame.unused_data, None
            if data:
                return data
        if self._frame is not None:
            raise EOFError("the file ends inside a frame")
        return b""


_PACKINGS: dict[bytes, Callable[[BinaryIO], _Reader]] = {
    b"\xfd7zXZ\0": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _Zstd,
}
LONGEST = max(map(len, _PACKINGS))
"""Bytes of the longest magic number."""


def unpacked(file: BinaryIO, head: bytes, remarks: list[str]) -> Iterator[bytes] | None:
    """The unpacked contents of a file, in pieces. None: it is not packed.

    file:    to read from its current place on.
    head:    its first LONGEST bytes.
    remarks: gets one if the file is cut off, so that its end is missing, or goes on with something else.

    The iterator raises SourceError for data that are damaged.
    """
    for magic, packing in _PACKINGS.items():
        if head.startswith(magic):
            return _pieces(packing(file), remarks)
    return None


def _pieces(reader: _Reader, remarks: list[str]) -> Iterator[bytes]:
    size = 0
    try:
        while piece := reader.read1(_CHUNK):
            size += len(piece)
            yield piece
    except EOFError:
        remarks.append(f"truncated: the packed file ends early, after {size:#x} unpacked bytes")
    except (lzma.LZMAError, OSError, zlib.error) as error:
        if not (size and isinstance(error, gzip.BadGzipFile) and str(error).startswith(_JUNK)):
            raise SourceError(f"packed file damaged after {size:#x} unpacked bytes: {error}") from error
        remarks.append(f"the packed file goes on behind its end, after {size:#x} unpacked bytes; that was not read")
