# SPDX-License-Identifier: MIT
"""What to do with a file that a command does not take: which command does."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from luoser.text import is_url, without_secrets

__all__ = ["blob_hint", "command_for", "dump_hint", "read_spec"]


def command_for(source: str) -> str:
    """`; to see ...: luoser COMMAND SOURCE` for a source that was given in place of a command."""
    shown = shlex.quote(without_secrets(source))
    place = Path(source)
    if ":" in source and not place.exists():
        return f"; is it a source? luoser inspect {shown}"
    if not place.exists():
        return "; there is no such file, either"
    if place.suffix in (".toml", ".json"):
        return f"; to make what it describes: luoser build {shown} -o OUT"
    return blob_hint(source) or f"; to see what it hands over: luoser inspect {shown}"


def blob_hint(source: str) -> str:
    """`; as a bare blob ...` for a file that is not a dump, but a blob of some layout. Empty: it is not."""
    from luoser.abi import pci

    found = _layouts(source)
    if not found:
        return ""
    shown = shlex.quote(source)
    form = pci.layout(found[0])
    checked = f", or luoser check --as {found[0]} {shown}" if form is not None and form.is_whole else ""
    return f"; as a bare blob it can be {found[0]}: luoser decode {shown}{checked}"


def dump_hint(source: str) -> str:
    """`; it is a dump ...` for a file that is not a blob, but a dump or a state document. Empty: it is neither."""
    from luoser.errors import LuoserError
    from luoser.memory.open import open_memory
    from luoser.state.document import read_document

    if is_url(source):  # it was not given as a source
        return ""
    try:
        if read_document(source) is not None:
            return f"; it is a state document: luoser inspect {shlex.quote(source)}"
        with open_memory(source) as memory:
            if memory.is_guess:
                return ""
            return f"; it is a dump ({memory.format}): luoser inspect {shlex.quote(source)}"
    except (LuoserError, OSError):
        return ""


def read_spec(name: str, shown: str) -> dict[str, Any]:
    """The values in a file of JSON or TOML. shown: its name in errors.

    Raises UsageError, which says what to do with a file of another kind.
    """
    from luoser.errors import UsageError
    from luoser.memory.file import read_file
    from luoser.writer.spec import parse_spec

    data = read_file(name, limit="spec_size")
    try:
        return parse_spec(data, shown)
    except UsageError as error:
        raise UsageError(f"{error}{dump_hint(name) or blob_hint(name)}") from None


def _layouts(source: str) -> list[str]:
    """Names of the layouts that fit a file as a whole."""
    from luoser.errors import LuoserError
    from luoser.limits import LIMITS
    from luoser.memory.file import read_file
    from luoser.reader.blob import candidates

    place = Path(source)
    try:
        if not place.is_file() or not 0 < place.stat().st_size <= LIMITS.blob_size or dump_hint(source):
            return []
        return [name for name, _ in candidates(read_file(source, limit="blob_size"))]
    except (LuoserError, OSError):
        return []
