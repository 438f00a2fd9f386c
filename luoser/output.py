# SPDX-License-Identifier: MIT
"""Output files: made new, never through a symbolic link, replaced only on request and then in one step."""

from __future__ import annotations

import contextlib
import os
import stat
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

    Raises UsageError when the name is taken and `force` is not set, and for a name that is no place for a file:
    standard output, a device, a directory.
    """
    target = Path(path)
    _refuse(path, target, force=force)
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


def _refuse(path: str, target: Path, *, force: bool) -> None:
    place = Path(os.path.realpath(target.parent))  # resolve() may raise RuntimeError for a loop of links
    if path == "-" or place == Path("/dev") or place.is_relative_to("/proc"):
        raise UsageError(f"{safe_text(path)}: standard output and devices cannot be written to; name a file")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise UsageError(f"{safe_text(path)} exists and is no regular file; name another one")
    if not force:
        raise _taken(path)


def _taken(path: str) -> UsageError:
    return UsageError(f"{safe_text(path)} exists; --force replaces it")


def _take_name(name: str, target: Path) -> None:
    """Give a finished file its name, unless somebody else took the name meanwhile."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise _taken(str(target)) from None
    except OSError:  # a file system without hard links, such as vfat
        _take_name_by_rename(name, target)
    else:
        Path(name).unlink()


def _take_name_by_rename(name: str, target: Path) -> None:
    """A rename takes any name, so take it first with an empty file of our own."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise _taken(str(target)) from None
    try:
        Path(name).replace(target)
    except BaseException:
        target.unlink()
        raise
