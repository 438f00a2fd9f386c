# SPDX-License-Identifier: MIT
"""A state document of `inspect --full --format json`, read from a file."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import BinaryIO

from luoser.errors import FormatError, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.file import refuse_endless
from luoser.state.model import State
from luoser.text import is_url, safe_text

__all__ = ["read_document"]


def read_document(name: str) -> State | None:
    """The state in a file, or at a URL. None: it is not a JSON object. Raises UsageError if it is another document."""
    if is_url(name):
        return _read_remote(name)
    if not os.path.isfile(name):
        return None
    refuse_endless(safe_text(name), name)
    with open(name, "rb") as stream:
        start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()  # some editors put a byte order mark there
        state = _read(stream, safe_text(name)) if start[:1] == b"{" else None
    return replace(state, source=replace(state.source, document=name)) if state is not None else None


def _read_remote(name: str) -> State | None:
    from luoser.memory.remote import peek

    remote = peek(name, b"{")
    if remote is None:
        return None
    _need_size(len(remote), remote.shown)
    state = _parsed(remote[:], remote.shown)
    return replace(state, source=replace(state.source, document=remote.shown))


def _read(stream: BinaryIO, shown: str) -> State:
    size = os.fstat(stream.fileno()).st_size
    _need_size(size, shown)
    stream.seek(0)
    return _parsed(stream.read(size), shown)


def _need_size(size: int, shown: str) -> None:
    """Raise UsageError for a document that is too large. size: in bytes."""
    if size > LIMITS.spec_size:
        word = f"expected at most {LIMITS.spec_size} bytes, found {size}; {how_to_raise('spec_size')}"
        raise UsageError(f"{shown}: file too large: {word}")


def _parsed(data: bytes, shown: str) -> State:
    from luoser.parse import decoded, parse_json  # late: other sources are read without them
    from luoser.state.from_json import from_document

    try:
        return from_document(parse_json(decoded(data)))
    except (FormatError, UsageError) as error:
        raise UsageError(f"{shown}: {error}") from None
