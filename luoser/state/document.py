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
from luoser.text import safe_text

__all__ = ["read_document"]


def read_document(name: str) -> State | None:
    """The state in a file. None: it is not a JSON object. Raises UsageError if it is another document."""
    if not os.path.isfile(name):
        return None
    refuse_endless(safe_text(name), name)
    with open(name, "rb") as stream:
        start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()  # some editors put a byte order mark there
        state = _read(stream, safe_text(name)) if start[:1] == b"{" else None
    return replace(state, source=replace(state.source, document=name)) if state is not None else None


def _read(stream: BinaryIO, shown: str) -> State:
    from luoser.parse import decoded, parse_json  # late: other sources are read without them
    from luoser.state.from_json import from_document

    size = os.fstat(stream.fileno()).st_size
    if size > LIMITS.spec_size:
        word = f"expected at most {LIMITS.spec_size} bytes, found {size}; {how_to_raise('spec_size')}"
        raise UsageError(f"{shown}: file too large: {word}")
    stream.seek(0)
    try:
        return from_document(parse_json(decoded(stream.read(size))))
    except (FormatError, UsageError) as error:
        raise UsageError(f"{shown}: {error}") from None
