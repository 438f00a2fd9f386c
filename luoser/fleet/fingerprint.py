# SPDX-License-Identifier: MIT
"""What tells whether a source is one that was read before: SHA-256 of its files, or the versions that servers name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from luoser.errors import LuoserError
from luoser.limits import LIMITS
from luoser.text import is_url

__all__ = ["Fingerprint", "fingerprint"]


class Fingerprint(NamedTuple):
    """Of the files of a source.

    sha256: of the files one after the other, as they are, packed or not; in hex. None: one of them is no regular file
            or cannot be read, or together they are larger than the limit `hashed`.
    etag:   the ETags of files at URLs, or what their servers have in its place. None: a file is at no URL, or its
            server names no version.
    """

    sha256: str | None = None
    etag: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether another source with the same fingerprint has the same bytes."""
        return self.sha256 is not None or self.etag is not None


def fingerprint(names: Sequence[str]) -> Fingerprint:
    """The fingerprint of a source. names: of its files."""
    if not any(map(is_url, names)):
        return Fingerprint(sha256=_sha256(names))
    if not all(map(is_url, names)):
        return Fingerprint()
    from luoser.memory.remote import version_of

    try:
        versions = [version_of(name) for name in names]
    except (LuoserError, OSError):  # whoever reads it says so
        return Fingerprint()
    return Fingerprint(etag=" ".join(versions) if all(versions) else None)


def _sha256(names: Sequence[str]) -> str | None:
    digest, left = hashlib.sha256(), LIMITS.hashed
    try:
        for name in names:
            path = Path(name)
            if not path.is_file() or (left := left - path.stat().st_size) < 0:
                return None
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return digest.hexdigest()
