# SPDX-License-Identifier: MIT
"""`python -m tests.console` runs the commands that pages show, and puts in what they print.

```console           blocks are run in order, in a folder of the page's own, on a terminal of 80 columns.
$ luoser … > FILE    what is written to FILE. Of one command several may be joined by `|`.
$ cat FILE           the file. `echo $?`: the exit code of the command before.
…                    a line in the place of others: as many lines before it and after it stay as there are.

<!-- files: NAME=PATH …  -->   a path of this tree under another name, such as vmcore; debugfs:BOOT: its blobs.
<!-- file: NAME -->            the block after it is a file.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from luoser.cli.main import main as luoser
from luoser.render import out
from tests.memory.trees import debugfs

__all__ = ["PAGES", "main", "page"]

ROOT = Path(__file__).resolve().parents[1]
_PART = re.compile(
    r"(?ms)^<!-- files: (?P<files>[^>]+) -->$|^<!-- file: (?P<file>\S+) -->\n+```\w*\n(?P<text>.*?)^```$|"
    r"^```console\n(?P<console>.*?)^```$"
)
PAGES = tuple(
    place
    for pattern in ("README.md", "docs/**/*.md")
    for place in sorted(ROOT.glob(pattern))
    if re.search(r"(?m)^```console$", place.read_text())
)
WIDTH = 80


@dataclass(slots=True)
class _Shell:
    """Runs the commands of a page. code: exit code of the last one."""

    code: int = 0
    commands: int = field(default=0)

    def run(self, line: str) -> str:
        """What a command line prints."""
        self.commands += 1
        line, _, target = line.partition(" > ")
        shown = io.BytesIO()
        data, parts = b"", line.split(" | ")
        for number, part in enumerate(parts):
            written = io.BytesIO() if number + 1 < len(parts) or target else shown
            self._one(shlex.split(part), data, written, shown)
            data = written.getvalue()
        if target:
            Path(target.strip()).write_bytes(data)
        return shown.getvalue().decode()

    def _one(self, words: list[str], data: bytes, to: io.BytesIO, errors: io.BytesIO) -> None:
        name, *rest = words
        if name == "luoser":
            self.code = _luoser(rest, data, to, errors)
        elif words == ["echo", "$?"]:
            to.write(f"{self.code}\n".encode())
        elif name == "cat":
            to.write(b"".join(Path(file).read_bytes() for file in rest))
        else:
            raise ValueError(f"{shlex.join(words)}: expected luoser, cat FILE or echo $?")


def _luoser(words: list[str], data: bytes, to: io.BytesIO, errors: io.BytesIO) -> int:
    streams = {
        "argv": ["luoser", *words],
        "stdin": io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"),
        "stdout": (written := io.TextIOWrapper(to, encoding="utf-8", write_through=True)),
        "stderr": (said := io.TextIOWrapper(errors, encoding="utf-8", write_through=True)),
    }
    try:
        with (
            patch.multiple(sys, **streams),
            patch.object(out, "_width", lambda *_: WIDTH),
            patch.object(out, "_is_coloured", lambda: False),
        ):
            try:
                luoser()
            except SystemExit as done:
                return int(done.code or 0)
            return 0
    finally:
        said.detach()
        if not written.closed:
            written.detach()


def page(text: str) -> str:
    """The text of a page with what its commands print now."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), patch.dict(os.environ, {"COLUMNS": str(WIDTH)}):
        Path("fixtures").symlink_to(ROOT / "fixtures")
        shell = _Shell()
        return _PART.sub(lambda part: _fresh(part, shell), text)


def _fresh(part: re.Match[str], shell: _Shell) -> str:
    if part["files"] is not None:
        for pair in part["files"].split():
            name, _, path = pair.partition("=")
            if path.startswith("debugfs:"):
                debugfs(Path(name), path.removeprefix("debugfs:"))
            else:
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).symlink_to(ROOT / path)
    elif part["file"] is not None:
        Path(part["file"]).write_text(part["text"])
    else:
        return "```console\n" + "".join(_block(part["console"], shell)) + "```"
    return part[0]


def _block(text: str, shell: _Shell) -> Iterator[str]:
    for entry in re.findall(r"(?ms)^\$ .*?(?=^\$ |\Z)", text):
        command, _, old = entry.partition("\n")
        yield f"{command}\n"
        new = shell.run(command.removeprefix("$ ")).splitlines(keepends=True)
        yield from _cut(old.splitlines(), new)


def _cut(old: list[str], new: list[str]) -> list[str]:
    """The new lines, with as many left out as the old ones leave out."""
    if "…" not in old:
        return new
    before = old.index("…")
    after = len(old) - before - 1
    return [*new[:before], "…\n", *new[len(new) - after :]] if len(new) > before + after else new


def main() -> None:
    """Write the pages anew, or those that the command line names."""
    for place in map(Path, sys.argv[1:]) if sys.argv[1:] else PAGES:
        place.write_text(page(place.read_text()))


if __name__ == "__main__":
    main()
