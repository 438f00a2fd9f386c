# SPDX-License-Identifier: MIT
"""The sources that a person names: files, the files of folders, those that a pattern fits, and lists of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from glob import has_magic, iglob
from itertools import islice
from pathlib import Path

from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.debugfs import is_copy
from luoser.memory.together import grouped
from luoser.output import PACKED
from luoser.text import is_url, safe_text, source_name

__all__ = ["found_sources", "listed_names"]

_HEAD = 512
_OF_DUMPS = (".core", ".dmp", ".dump", ".elf", ".kdump", ".lime", ".mem", ".raw", ".vmem", *PACKED)
"""Suffixes of dumps."""
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
Source = tuple[str, ...]
"""The names of the files of one source."""


def found_sources(names: Iterable[str], on_left_out: Callable[[str], None] = lambda _: None) -> list[Source]:
    """The sources that some names stand for, each once, in the order of the names; those of a folder by name.

    names: of a file; of a folder, whose files but those of text are sources if it is no copy of debugfs; a pattern such
           as `*/vmcore` that no file has as its name; `a,b,c` for the files of one dump; or what is no file.

    The files of one dump are recognised, too: see `luoser.memory.together`.

    on_left_out: gets a line on what of a folder is no source.

    Raises UsageError for a pattern that fits nothing, and if there are more sources than the limit allows.
    """
    found, alone = dict[Source, None](), dict[str, None]()

    def settle() -> None:
        found.update(dict.fromkeys(grouped(alone)))
        alone.clear()

    for name in islice(_expanded(names, on_left_out), LIMITS.sources + 1):
        if isinstance(name, str):
            alone[name] = None  # once: a part that is named twice is no other part
            continue
        settle()
        found[name] = None
    settle()
    if len(found) > LIMITS.sources:
        raise UsageError(f"expected at most {LIMITS.sources} sources, found more; {how_to_raise('sources')}")
    return list(found)


def _expanded(names: Iterable[str], on_left_out: Callable[[str], None]) -> Iterator[str | Source]:
    """Names of files, which may belong together, and sources of which that is known."""
    for name in names:
        if is_url(name):
            yield from _at_url(name)
        elif Path(name).is_dir():
            yield from _of_folder(Path(name), on_left_out)
        elif _is_there(name) or name.partition(":")[0] in ("live", "qmp", "gdb"):
            yield name
        elif "," in name:
            yield tuple(part for part in name.split(",") if part)
        elif has_magic(name):
            yield from _of_pattern(name)
        else:
            yield name


def _at_url(name: str) -> Iterator[str | Source]:
    """A URL, several with commas between them, which are one dump, or those that one with `*` fits.

    HTTP has no list of files, and its signatures can have a `*`.
    """
    parts = tuple(name.split(","))
    if len(parts) > 1 and all(map(is_url, parts)):
        yield parts
        return
    if "*" not in name or name.lower().startswith(("http:", "https:")):
        yield name
        return
    from luoser.memory.origin import fitting_urls

    found = fitting_urls(name, LIMITS.sources + 1)
    if not found:
        raise UsageError(f"{source_name(name)}: no file there fits this pattern")
    yield from found


def _is_there(name: str) -> bool:
    return os.path.lexists(name)


def _of_pattern(pattern: str) -> Iterator[str]:
    fitting = iglob(pattern, recursive=True)  # noqa: PTH207 - Path.glob() takes no absolute pattern
    files = sorted(name for name in fitting if not Path(name).is_dir())
    if not files:
        raise UsageError(f"{safe_text(pattern)}: no file has this name, or fits this pattern")
    yield from files


def _of_folder(folder: Path, on_left_out: Callable[[str], None]) -> Iterator[str]:
    """The sources in a folder. The folder itself, if it has nothing but one copy of debugfs, or none at all."""
    left_out = list[str]()
    found = list(islice(_in_folder(folder, left_out), LIMITS.sources + 1))
    copies = [name for name, is_file in found if not is_file]
    if not found or found == [(name, False) for name in copies[:1]]:
        found = [(str(folder), False)]
    if left_out:
        more = f" and {len(left_out) - 1} more" if left_out[1:] else ""
        on_left_out(f"{safe_text(str(folder))}: not read: {safe_text(min(left_out))}{more}, text or no file")
    yield from (name for name, _ in found)


def _in_folder(folder: Path, left_out: list[str]) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a file) of the sources in a folder and the folders in it, by name.

    What is hidden, surveys, and text that is not named as a dump do not count. left_out: gets names of what is not
    hidden.

    A folder in it, or a link, that cannot be read is a source: that is its result. So is a link to a folder elsewhere.
    """
    waiting = [(str(folder), True)]
    while waiting:
        name, is_folder = waiting.pop()
        if not is_folder:
            yield name, True
        elif is_copy(Path(name)):
            yield name, False
        elif not _is_survey(Path(name)):
            try:
                entries = sorted(os.scandir(name), key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                if name == str(folder):
                    raise SourceError(f"{safe_text(name)}: {error.strerror or error}") from error
                yield name, True
                continue
            waiting += _entries(entries, Path(os.path.realpath(folder)), left_out)


def _entries(entries: Iterable[os.DirEntry[str]], base: Path, left_out: list[str]) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of what may be sources, or have them, in a folder.

    base: the outermost folder, without links. A link to a folder in it is not followed, as that is read by its name.
    """
    for entry in entries:
        if entry.name.startswith("."):
            continue
        is_folder, is_link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
        is_broken = is_link and not os.path.exists(entry.path)  # noqa: PTH110 - of a bad name, too
        if is_link and entry.is_dir():
            if not Path(os.path.realpath(entry.path)).is_relative_to(base):
                yield entry.path, False  # that it is not read is its result
        elif is_folder or is_broken or (entry.is_file() and not _is_text(Path(entry.path))):
            yield entry.path, is_folder
        else:
            left_out.append(entry.path)


def _is_survey(folder: Path) -> bool:
    """Whether a folder has the tables of a survey, which are no dumps."""
    try:
        with (folder / "survey.json").open("rb") as file:
            return b"luoser/survey/" in file.read(_HEAD)
    except OSError:
        return False


def _is_text(path: Path) -> bool:
    """Whether a file is text, but no state document: a log, a topology, a list of symbols beside the dumps.

    A file that is named as a dump is none: it can be what a server said in place of the dump.
    """
    if path.suffix in _OF_DUMPS or path.name.startswith("vmcore"):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False  # that it cannot be read is its result
    return bool(head) and not _BINARY.search(head) and b"luoser/state/" not in head


def listed_names(name: str) -> list[str]:
    """The names in a list: one a line, or ended by NUL, as `find -print0` does.

    name: of the file; `-` is standard input.

    Raises SourceError for a list that cannot be read, UsageError for one that is too large.
    """
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            data = file.read(LIMITS.list_size + 1)
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    if len(data) > LIMITS.list_size:
        raise UsageError(f"{shown}: expected at most {LIMITS.list_size} bytes of names; {how_to_raise('list_size')}")
    end = b"\0" if b"\0" in data else b"\n"
    return [os.fsdecode(line) for line in data.split(end) if line]
