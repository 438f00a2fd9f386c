# SPDX-License-Identifier: MIT
"""`luoser build --kernel-tree`: goldens in the source of a kernel, or as a patch to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luoser.state import State
    from luoser.writer.golden.tree import Blob

__all__ = ["FORMS", "KernelTree", "paths"]

FORMS = ("kunit", "kselftest", "patch")
"""Formats of what goes into a kernel's source, the default first."""
_HEADS = ("root", "preserved", "luo", "luo.session_area", "luo.session_blocks[0]", "luo.flb_area")
_LISTS = ("pci[0]", "pci[0].blocks[0]")
_OF_SESSIONS = ("", ".blocks[0]")
_OF_FILES = ("", ".memfd", ".memfd.folios.chunks[0]", ".memfd.folios.pages[0]")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTree:
    """The source of a kernel.

    folder: its path.
    form:   one of FORMS.
    target: file for a patch. Empty: files of the source are written.
    """

    folder: str
    form: str
    target: str = ""

    def read(self, path: str) -> str | None:
        """The text of one of its files. None: there is none."""
        place = Path(self.folder) / path
        return place.read_text("utf-8", "surrogateescape") if place.is_file() else None

    def write(self, blobs: Sequence[Blob], *, source: str, force: bool) -> Iterator[str]:
        """Write goldens of these blobs. Yields what was left out, and what was done, in words.

        source: what the blobs were made from.
        force:  replace an existing golden.

        Raises UsageError if the folder is not the source of a kernel, if no blob can be compiled in it, or for an
        existing file.
        """
        from luoser.errors import UsageError
        from luoser.output import new_output
        from luoser.text import safe_text
        from luoser.writer.golden import tree

        if not (Path(self.folder) / "include/linux").is_dir():
            folder = safe_text(self.folder)
            raise UsageError(f"{folder}: no include/linux in it; expected the source of a kernel from 6.19 on")
        possible, why = list[tree.Blob](), list[str]()
        for blob in blobs:
            try:
                if self.form != "kselftest":
                    blob.headers(self.read)
                possible.append(blob)
            except UsageError as error:
                why.append(str(error))
        if not possible:
            raise UsageError("; ".join(why))
        yield from (f"left out: {word}" for word in why)
        make = tree.selftests if self.form == "kselftest" else tree.suites
        files = make(possible, source=source, read=self.read)
        if self.form == "patch":
            names = [blob.layout.name for blob in possible]
            text = tree.patch(files, names=names, author=_author(), source=source, read=self.read)
            with new_output(self.target, force=force, is_text=True) as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        else:
            yield from self._put(files, force=force)

    def _put(self, files: Mapping[str, str], *, force: bool) -> Iterator[str]:
        from luoser.errors import UsageError
        from luoser.output import new_file
        from luoser.text import safe_text
        from luoser.writer.golden.tree import RUNS

        changed = [path for path, text in files.items() if self.read(path) != text]
        top = os.path.realpath(self.folder)
        for path in changed:
            if not Path(os.path.realpath((Path(self.folder) / path).parent)).is_relative_to(top):
                raise UsageError(f"{safe_text(f'{self.folder}/{path}')}: a link in its path leads out of the source")
            if path.endswith(".c") and self.read(path) is not None and not force:
                raise UsageError(f"{safe_text(f'{self.folder}/{path}')}: exists; --force replaces it")
        for path in changed:
            place = Path(self.folder) / path
            place.parent.mkdir(exist_ok=True)
            with new_file(str(place), force=True) as file:
                file.write(files[path].encode("utf-8", "surrogateescape"))
        folders = ", ".join(dict.fromkeys(path.rpartition("/")[0] for path in changed))
        yield f"{len(changed)} files written to {safe_text(self.folder)}{f': {folders}' if folders else ''}"
        yield f"to run: {RUNS[self.form]}"


def _author() -> str:
    name, address = os.environ.get("GIT_AUTHOR_NAME", "luoser"), os.environ.get("GIT_AUTHOR_EMAIL", "luoser@localhost")
    return "".join(letter for letter in f"{name} <{address}>" if letter.isprintable())


def paths(state: State) -> Iterator[str]:
    """Paths of nodes of all kinds that a state can have; of files of a handler the first. Some do not exist."""
    for number, handover in enumerate(state.handovers):
        head = f"handovers[{number}]."
        yield from (head + name for name in _HEADS)
        yield from (f"{head}subtrees[{index}]" for index in range(len(handover.subtrees)))
        yield from (head + name for name in _LISTS)
        found = set[str]()
        for place, session in enumerate(handover.luo.sessions if handover.luo is not None else ()):
            one = f"{head}luo.sessions[{place}]"
            if place == 0 or (session.files and not found):
                yield from (one + rest for rest in _OF_SESSIONS)
            for index, file in enumerate(session.files):
                if file.compatible not in found:
                    found.add(file.compatible)
                    yield from (f"{one}.files[{index}]{rest}" for rest in _OF_FILES)
