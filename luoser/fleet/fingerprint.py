# SPDX-License-Identifier: MIT
"""SHA-256 of the files of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from luoser.limits import LIMITS

__all__ = ["sha256_of"]


def sha256_of(names: Iterable[str]) -> str | None:
    """The SHA-256 of the files of a source, one after the other, as they are, packed or not; in hex.

    None: one of them is no regular file or cannot be read, or together they are larger than the limit `hashed`.
    """
    digest, left = hashlib.sha256(), LIMITS.hashed
    try:
        for name in names:
            path = Path(name)
            if not path.is_file() or (left := left - path.stat().st_size) < 0:
                return None
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()
