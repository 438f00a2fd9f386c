# SPDX-License-Identifier: MIT
"""Output files: always new, never written through a symbolic link, replaced only on request and then atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from luoser.errors import UsageError
from luoser.text import is_url, safe_text, source_name

__all__ = ["PACKED", "need_local", "need_other", "new_file", "new_output", "packed_file"]

PACKED = (".xz", ".gz", ".bz2", ".zst")
"""Suffixes of packed files."""
_OTHER_PACKERS = (".7z", ".br", ".lz", ".lz4", ".lzma", ".lzo", ".rar", ".tgz", ".zip", ".Z")
"""Suffixes that a plain file would have wrongly."""
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors that can only be about the output."""


def need_local(path: str) -> None:
    """Raise UsageError if what is to be written is named by a URL: nothing is written elsewhere."""
    if is_url(path):
        text = "a URL: files are written on this machine only; give a path, and copy it there"
        raise UsageError(f"{source_name(path)}: {text}")


def need_other(path: str, inputs: Iterable[str]) -> None:
    """Raise UsageError if a file to write is one that is read, by whatever name, is there in a folder that is read, or
    is a URL.

    inputs: names; `-` is not one.
    """
    need_local(path)
    for name in inputs:
        with contextlib.suppress(OSError):
            if name != "-" and Path(name).samefile(path):
                raise UsageError(f"{safe_text(path)}: output and input are the same file; give another output")
            if Path(name).is_dir() and Path(path).exists() and _is_inside(path, name):
                raise UsageError(f"{safe_text(path)}: a file of the folder that is read; give another output")


def _is_inside(path: str, folder: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@contextlib.contextmanager
def _cleaned() -> Iterator[list[Path]]:
    """Files to remove if a signal ends or interrupts the block. Its handler does, as no place is safe from signals."""
    left = list[Path]()
    if threading.current_thread() is not threading.main_thread():
        yield left
        return
    found = {number: signal.getsignal(number) for number in _ENDS}
    before = {number: handler for number, handler in found.items() if handler is signal.SIG_DFL or callable(handler)}

    def end(number: int, _: object) -> None:
        for other in before:  # SIGHUP often follows SIGTERM: it would end the cleaning
            signal.signal(other, signal.SIG_IGN)
        for path in left:
            with contextlib.suppress(OSError):
                path.unlink()
        signal.signal(number, before[signal.Signals(number)])
        signal.raise_signal(number)

    try:
        for number in before:
            signal.signal(number, end)
        yield left
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Signals wait until a file that was made is also known as one to remove."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def new_file(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """A binary file to write, which gets its name after the block has ended. After an error nothing is left over.

    force: replace an existing file.

    Raises UsageError if the file exists and `force` is not set, and for standard output, a device or a directory.
    """
    target = Path(path)
    _refuse(path, target, force=force)
    with _cleaned() as left:
        yield from _written(target, path, left, force=force)


def _written(target: Path, path: str, left: list[Path], *, force: bool) -> Iterator[BinaryIO]:
    try:
        with _blocked():
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".luoser-")
            left.append(Path(name))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        if force:
            Path(name).replace(target)
        else:
            _take_name(name, target, left)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        if isinstance(error, OSError) and (error.filename == name or error.errno in _FULL):
            error.filename, error.filename2 = path, None  # never that of the temporary file
        raise


@contextlib.contextmanager
def packed_file(path: str, *, force: bool) -> Iterator[BinaryIO]:
    """As `new_file`, compressed if the name ends with .xz, .gz, .bz2 or .zst.

    Raises UsageError as `new_file` does, for .zst if zstandard is not installed, and for suffixes of other compressors.
    """
    suffix = Path(path).suffix
    if suffix in _OTHER_PACKERS:
        text = "expected a name that ends with .xz, .gz, .bz2 or .zst, or not like a packed file"
        raise UsageError(f"{safe_text(path)}: {text}")
    with new_file(path, force=force) as file:
        if suffix not in PACKED:
            yield file
            return
        with tempfile.TemporaryFile() as spool:
            yield spool
            spool.seek(0)
            with _packer(file, suffix) as packer:
                shutil.copyfileobj(spool, packer)


def _packer(file: BinaryIO, suffix: str) -> BinaryIO:
    """What compresses into a file. The result is the same for the same bytes."""
    if suffix == ".xz":
        import lzma

        return cast(BinaryIO, lzma.open(file, "wb"))
    if suffix == ".gz":
        import gzip

        return cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=file, mtime=0))
    if suffix == ".bz2":
        import bz2

        return cast(BinaryIO, bz2.open(file, "wb"))
    try:
        import zstandard
    except ImportError:
        raise UsageError(".zst: pip install 'luoser[zstd]', or give a name that ends with .xz") from None
    return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(file, closefd=False))


@contextlib.contextmanager
def new_output(path: str, *, force: bool, is_text: bool = False) -> Iterator[BinaryIO]:
    """As `packed_file`, or standard output for `-`, which gets the bytes after the block has ended.

    is_text: the bytes are text, which a terminal may get.

    Raises UsageError as `new_file` does, and for bytes on a terminal.
    """
    if path != "-":
        with packed_file(path, force=force) as file:
            yield file
        return
    if not is_text and sys.stdout.isatty():
        raise UsageError("-: standard output is a terminal; redirect it, or give the name of a file")
    with tempfile.TemporaryFile() as spool:
        yield spool
        spool.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(spool, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _refuse(path: str, target: Path, *, force: bool) -> None:
    need_local(path)
    place = Path(os.path.realpath(target.parent))  # resolve() may raise RuntimeError for a loop of links
    if path == "-" or place == Path("/dev") or place.is_relative_to("/proc"):
        raise UsageError(f"{safe_text(path)}: cannot write to standard output or a device; give the name of a file")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise UsageError(f"{safe_text(path)}: exists and is not a regular file; give another name")
    if not force:
        raise _taken(path)


def _taken(path: str) -> UsageError:
    return UsageError(f"{safe_text(path)}: exists; --force replaces it")


def _take_name(name: str, target: Path, left: list[Path]) -> None:
    """Give a finished file its name. left: files that a signal removes. Raises UsageError if the name exists."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise _taken(str(target)) from None
    except OSError:  # a file system without hard links, such as vfat
        _take_name_by_rename(name, target, left)
    else:
        Path(name).unlink()


def _take_name_by_rename(name: str, target: Path, left: list[Path]) -> None:
    """As `_take_name`. A rename replaces any file, so create an empty file of that name first, exclusively."""
    try:
        with _blocked():
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            left.append(target)
    except FileExistsError:
        raise _taken(str(target)) from None
    try:
        Path(name).replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
