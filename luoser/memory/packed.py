# SPDX-License-Identifier: MIT
"""Packed files: .xz, .gz, .bz2 and .zst, recognised by content and unpacked as far as they go."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from luoser.errors import SourceError

__all__ = ["LONGEST", "DamagedError", "Reader", "is_packed", "unpacked"]

_PIECE = 4096
"""Bytes that are unpacked together: each can give thousands of times as many."""


class Reader(Protocol):
    """What can be read from its start on, such as a file."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none only at the end."""


class DamagedError(SourceError):
    """A packed file that cannot be unpacked to its end. size: unpacked bytes before the damage. why: in words."""

    def __init__(self, size: int, why: object) -> None:
        super().__init__(f"packed file damaged after {size:#x} unpacked bytes: {why}")


class _Stream(Protocol):
    """What unpacks one stream (member, frame) of a file."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Packing:
    """A kind of packed file.

    magics: that a stream can begin with.
    stream: makes what unpacks one stream.
    """

    magics: tuple[bytes, ...]
    stream: Callable[[], _Stream]


def _zstd() -> _Stream:
    try:
        import zstandard
    except ImportError:
        raise SourceError("packed with zstd; pip install 'luoser[zstd]', or unpack it first with `zstd -d`") from None
    return cast(_Stream, zstandard.ZstdDecompressor().decompressobj())


_SKIPPABLE = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""Frames of .zst without data, which pzstd writes first."""
_PACKINGS = (
    _Packing((b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    _Packing((b"\x1f\x8b\x08",), lambda: cast(_Stream, zlib.decompressobj(16 + zlib.MAX_WBITS))),
    _Packing((b"BZh",), bz2.BZ2Decompressor),
    _Packing((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), _zstd),
)
LONGEST = max(len(magic) for packing in _PACKINGS for magic in packing.magics)
"""Bytes of the longest magic number."""


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is packed. head: its first LONGEST bytes."""
    return any(head.startswith(one.magics) for one in _PACKINGS)


def unpacked(file: Reader, head: bytes, remarks: list[str]) -> Iterator[bytes] | None:
    """The unpacked contents of a file, in pieces. None: it is not packed.

    file:    to read from its current place on.
    head:    its first LONGEST bytes.
    remarks: gets one if the file is cut off, so that its end is missing, or has other bytes after its end.

    The iterator raises DamagedError, or SourceError for what cannot be unpacked here.
    """
    packing = next((one for one in _PACKINGS if head.startswith(one.magics)), None)
    return _pieces(file, packing, remarks) if packing is not None else None


def _pieces(file: Reader, packing: _Packing, remarks: list[str]) -> Iterator[bytes]:
    size, left = 0, b""
    while True:
        left = _padding_skipped(file, left)
        if not left:
            return
        if not left.startswith(packing.magics):
            if any(_is_near(left, magic) for magic in packing.magics):
                raise DamagedError(size, "the head of its next stream")
            remarks.append(f"bytes after the end of the packed file, of {size:#x} unpacked bytes, are not read")
            return
        stream = packing.stream()
        while not stream.eof:
            piece, left = left or file.read(_PIECE), b""
            if not piece:
                remarks.append(f"truncated: the packed file ends early, after {size:#x} unpacked bytes")
                return
            data = _decompressed(stream, piece, size)
            size += len(data)
            if data:
                yield data
        left = stream.unused_data


def _padding_skipped(file: Reader, left: bytes) -> bytes:
    """The bytes after a stream from the first nonzero one on, at least LONGEST of them if there are so many.

    left: bytes that were read already. The next ones are those of the file.
    """
    left = left.lstrip(b"\0")
    while len(left) < LONGEST and (piece := file.read(_PIECE)):
        left = (left + piece).lstrip(b"\0")
    return left


def _is_near(head: bytes, magic: bytes) -> bool:
    """Whether a stream may begin here, with damage in its magic number: at most two wrong bits."""
    wrong = int.from_bytes(head[: len(magic)], "big") ^ int.from_bytes(magic, "big")
    return len(head) >= len(magic) and wrong.bit_count() <= 2


def _decompressed(stream: _Stream, piece: bytes, size: int) -> bytes:
    """The bytes that a piece gives. size: bytes before it. Raises DamagedError or SourceError."""
    try:
        return stream.decompress(piece)
    except (lzma.LZMAError, OSError, zlib.error) as error:
        raise DamagedError(size, error) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        if "too much memory" in str(error):
            text = "packed with a window of more than 128 MiB; unpack it first with `zstd -d --long=31`"
            raise SourceError(text) from error
        raise DamagedError(size, error) from error
