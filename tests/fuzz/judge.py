# SPDX-License-Identifier: MIT
"""Runs a command of luoser in this process, and says what is wrong with how it ended and with what it wrote."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

from luoser.cli.main import main
from tests import ktap, real
from tests.fuzz.cases import Case, files_of, sound_file
from tests.schemas import KINDS, schema

__all__ = ["CODES", "Fault", "Folder", "faults", "run"]

CODES = {
    "inspect": {0, 2, 3},
    "pci": {0, 2, 3},
    "map": {0, 2, 3},
    "check": {0, 1, 2, 3, 4},
    "diff": {0, 1, 2, 3, 4},
    "report": {0, 2, 3},
    "extract": {0, 2, 3},
    "hexdump": {0, 2, 3},
    "decode": {0, 2},
    "abi": {0, 1, 2, 3, 4},
    "compat": {0, 1, 2, 3, 4},
    "build": {0, 1, 2},
    "topology": {0, 2},
    "simulate": {0, 1, 2},
}
"""The exit codes that docs/compatibility.md and the help of each command name."""
_RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
"""Characters that no output may have: a terminal obeys or hides them."""
_PYTHON = re.compile(
    r"Traceback|recursion depth|set_int_max|has no attribute|codec can't|NoneType|unhashable|<luoser\.|out of memory"
    r"|list index|not subscriptable|unsupported operand|struct\.error|unpack requires|StreamError|construct\."
)
"""Words of Python, which are not for users."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong. kind: what makes two faults the same one. detail: in words."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. code: None, and the words of Python, where it did not end by itself."""

    code: int | None
    out: bytes
    err: bytes
    error: BaseException | None = None


class Folder:
    """Files for one case, in memory where the machine has that. codes: how often a command ended with each."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")
        self.path = Path(tempfile.mkdtemp(prefix="luoser-fuzz-", dir=shared if os.access(shared, os.W_OK) else None))
        self._number, self.codes = 0, Counter[str]()
        self._put("topology", (real.REAL / "7.3-a" / "topology.json").read_bytes())
        self._put("scenario", (real.ROOT / "fixtures" / "scenarios" / "vfio.toml").read_bytes())
        self._put("dump", sound_file("6.18-a/frozen"))

    def _put(self, name: str, data: bytes) -> str:
        (self.path / name).write_bytes(data)
        return str(self.path / name)

    def fill(self, case: Case) -> dict[str, list[str]]:
        """The words that stand for the files of a case, after its files were written.

        The name of a file is never used again: what reads it may have kept the old one mapped.
        """
        self.clear()
        self._number += 1
        data, more = files_of(case)
        place = self._put(f"in{self._number}", data)
        words = {"@in": [place], "@out": [str(self.path / "out")]}
        if more:
            words["@in"] = [self._put(f"in{self._number}.vmem", more), place]
        if any("@sound" in run for run in case.runs):
            words["@sound"] = [self._put(f"sound{self._number}", sound_file(case.base))]
        return words | {f"@{name}": [str(self.path / name)] for name in ("topology", "scenario", "dump")}

    def clear(self) -> None:
        """Remove the files of a case."""
        for place in self.path.iterdir():
            if place.name not in ("topology", "scenario", "dump"):
                place.unlink()

    def close(self) -> None:
        """Remove all."""
        for place in self.path.iterdir():
            place.unlink()
        self.path.rmdir()


def run(words: Sequence[str]) -> Ended:
    """What `luoser` does with some words, in this process."""
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["luoser", *words]
    sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace")
    code, error = 0, None
    try:
        main()
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0
    except BaseException as found:
        error = found
    finally:
        with suppress(ValueError, UnicodeError):
            sys.stdout.flush()
        sys.stderr.flush()
        written = out.getvalue(), err.getvalue()  # the streams close these when they go
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before
    return Ended(None if error is not None else code, *written, error)


def faults(case: Case, folder: Folder, words: Sequence[str], places: dict[str, list[str]]) -> Iterator[Fault]:
    """What is wrong with one run of a case. places: as `Folder.fill` gives them."""
    if "@in.json" in words:
        yield from _through_json(case, folder, words, places)
        return
    yield from _judged(words, run(_filled(words, places)), folder)


def _filled(words: Sequence[str], places: dict[str, list[str]]) -> list[str]:
    return [part for word in words for part in places.get(word, [word])]


def _through_json(case: Case, folder: Folder, words: Sequence[str], places: dict[str, list[str]]) -> Iterator[Fault]:
    """The document of a damaged source is what the next command takes."""
    first = (
        ["inspect", "@in", "--full", "--contents", "--format", "json"]
        if case.container
        else ["decode", "@in", "--format", "json"]
    )
    ended = run(_filled(first, places))
    yield from _judged(first, ended, folder)
    if ended.code == 0:
        place = folder.path / "in.json"
        place.write_bytes(ended.out)
        yield from _judged(words, run(_filled(words, {**places, "@in.json": [str(place)]})), folder)


def _judged(words: Sequence[str], ended: Ended, folder: Folder) -> Iterator[Fault]:
    name = words[0]
    if ended.error is not None:
        yield _raised(ended.error)
        return
    folder.codes[str(ended.code)] += 1
    if ended.code not in CODES[name]:
        yield Fault(f"code {ended.code} of {name}", ended.err.decode(errors="replace")[-300:])
    written = folder.path / "out"
    texts = {"stdout": ended.out, "stderr": ended.err}
    if written.exists():
        if ended.code == 2:
            yield Fault(f"{name} failed and left a file", ended.err.decode(errors="replace")[-300:])
        if name in ("report", "topology") or "kunit" in words or "kselftest" in words or "c" in words:
            texts["file"] = written.read_bytes()
        written.unlink()
    for where, data in texts.items():
        yield from _text_faults(name, where, data)
    if ended.code == 2 and not ended.err.startswith((b"luoser: ", b"Usage: ")):
        yield Fault(f"{name} fails without a word", repr(ended.err[:300]))
    if ended.code in (0, 1, 4) and "--format" in words and (ended.out or ended.code != 4):
        yield from _format_faults(words[words.index("--format") + 1], name, ended.out)


def _raised(error: BaseException) -> Fault:
    rows = traceback.extract_tb(error.__traceback__)
    own = [row for row in rows if f"{os.sep}luoser{os.sep}" in row.filename]
    place = own[-1] if own else rows[-1]
    where = f"{Path(place.filename).name}:{place.name}"
    return Fault(f"{type(error).__name__} in {where}", "".join(traceback.format_exception(error))[-3000:])


def _text_faults(name: str, where: str, data: bytes) -> Iterator[Fault]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        yield Fault(f"{name}: {where} is not UTF-8", str(error))
        return
    tabs = text.replace("\t", "") if where == "file" else text  # C is indented with them
    if found := _RAW.search(tabs):
        yield Fault(
            f"{name}: raw {ord(found[0]):#x} on {where}", repr(tabs[max(0, found.start() - 80) : found.end() + 40])
        )
    if where != "file" and (found := _PYTHON.search(text)):
        yield Fault(f"{name}: {found[0]!r} on {where}", text[max(0, found.start() - 200) : found.end() + 200])


def _of_github(text: str) -> None:
    for line in text.splitlines():
        if "##" in line or not line.startswith(("::error file=", "::warning file=", "::notice file=", "luoser: ")):
            raise ValueError(f"a line that a runner may obey: {line[:100]!r}")


def _of_junit(text: str) -> None:
    try:
        Tree.fromstring(text.encode())
    except Tree.ParseError as error:
        raise ValueError(str(error)) from None


_READERS: dict[str, Callable[[str], object]] = {"ktap": ktap.read, "junit": _of_junit, "github": _of_github}
"""Formats with what raises ValueError for a text that is none of it."""


@cache
def _validators() -> dict[str, Any]:
    from jsonschema_rs import Registry, validator_for

    registry = Registry([(schema(name)["$id"], schema(name)) for name in KINDS])
    return {name: validator_for(schema(name), registry=registry) for name in KINDS}


def _format_faults(form: str, name: str, out: bytes) -> Iterator[Fault]:
    if form in _READERS:
        try:
            _READERS[form](out.decode())
        except ValueError as error:
            yield Fault(f"check: no {form}", f"{error}: {out[:200]!r}")
    if form not in ("json", "sarif"):
        return
    try:
        document = json.loads(out, parse_constant=_refused)
    except ValueError as error:
        yield Fault(f"{name}: {form} does not parse", f"{error}: {out[:200]!r}")
        return
    if form == "sarif":
        if document.get("version") != "2.1.0":
            yield Fault("check: no SARIF", repr(out[:200]))
        return
    kind = document["schema"].split("/")[1]
    for wrong in _validators()[kind].iter_errors(document):
        place = re.sub(r"\d+", "N", "/".join(map(str, wrong.instance_path)))
        yield Fault(f"{name}: {kind}: {place[:80]} is not valid", wrong.message[:400])
        break


def _refused(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
