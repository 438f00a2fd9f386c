# SPDX-License-Identifier: MIT
"""Output files: made new, never through a symbolic link, replaced only on request and then in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from luoser.errors import UsageError
from luoser.text import safe_text

__all__ = ["new_file"]


@contextlib.contextmanager
def new_file(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file that has its name only when everything was written; nothing is left behind on an error.

    Raises UsageError when the name is taken and `force` is not set.
    """
    target = Path(path)
    if not force and (target.exists() or target.is_symlink()):
        raise UsageError(f"{safe_text(path)} exists; --force replaces it")
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".luoser-")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        if force:
            Path(name).replace(target)
        else:
            _take_name(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _take_name(name: str, target: Path) -> None:
    """Give a finished file its name, unless somebody else took the name meanwhile."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise UsageError(f"{safe_text(str(target))} exists; --force replaces it") from None
    Path(name).unlink()
