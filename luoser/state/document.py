# SPDX-License-Identifier: MIT
"""A state document of `inspect --full --format json`, read from a file."""

from __future__ import annotations

from luoser.state.model import State

__all__ = ["read_document"]


def read_document(name: str) -> State | None:
    """The state in a file. None: it is not a JSON object. Raises UsageError if it is another document."""
    import os
    from pathlib import Path

    from luoser.errors import FormatError, UsageError
    from luoser.limits import LIMITS, how_to_raise
    from luoser.memory.file import refuse_endless
    from luoser.parse import decoded, parse_json
    from luoser.state.from_json import from_document
    from luoser.text import safe_text

    file = Path(name)
    if not file.is_file():
        return None
    refuse_endless(safe_text(name), name)
    with file.open("rb") as stream:
        if stream.read(64).lstrip()[:1] != b"{":
            return None
        size = os.fstat(stream.fileno()).st_size
        if size > LIMITS.spec_size:
            word = (
                f"file too large: expected at most {LIMITS.spec_size} bytes, found {size}; {how_to_raise('spec_size')}"
            )
            raise UsageError(f"{safe_text(name)}: {word}")
        stream.seek(0)
        data = stream.read(size)
    try:
        return from_document(parse_json(decoded(data)))
    except (FormatError, UsageError) as error:
        raise UsageError(f"{safe_text(name)}: {error}") from None
