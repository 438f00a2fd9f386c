# SPDX-License-Identifier: MIT
"""Each mutation of `luoser build --mutate` before a kernel: what it did, as data of the rules.

python -m tests.e2e.mutations --kernel 7.3 --machine x86-64 [RULE]...
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luoser.errors import UsageError
from luoser.state import State
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.complete import complete
from luoser.writer.image import write_image
from luoser.writer.mutate import Mutation, mutations
from luoser.writer.place import FIRST
from tests.e2e.boot import File, Outcome, boot
from tests.e2e.kernels import Kernel, NoKernel, kernel
from tests.e2e.machine import program_of
from tests.e2e.shapes import Shape, everything

__all__ = ["OUTCOMES", "built", "effect"]

OUTCOMES = Path(__file__).parents[2] / "luoser" / "checks" / "outcomes.json"
_WORDS = "reserve_mem=1M:4096:labmem"
_LINES = 6
"""Most lines of a log that are kept of one boot."""
Json = dict[str, Any]


def built(shape: Shape, kernel: Kernel) -> tuple[State, Image]:
    """The state and the image of a shape, for a kernel."""
    state = from_document(complete(shape.description, kernel=kernel.series, base=FIRST[kernel.machine]))
    return state, write(state, machine=kernel.machine)


def _booted(place: Path, kernel: Kernel, shape: Shape, broken: Mutation | None, *, fill: bool) -> Outcome:
    """What the kernel does with a shape, broken or not. fill: user space first writes to all free memory."""
    state, image = built(shape, kernel)
    if broken is not None:
        broken.apply(image, state)
    write_image(str(place / "image.elf"), image, "elf", force=True)
    words = f"{_WORDS} fill=1" if fill else _WORDS
    return boot(place, kernel, place / "image.elf", image.passed[0], shape.tokens, words=words, seconds=90)


def effect(good: Outcome, found: Outcome) -> Json:
    """How an outcome differs from that of the sound image: `ended`, and what is lost, new and wrong."""
    before, after = dict.fromkeys(map(_plain, good.log)), dict.fromkeys(map(_plain, found.log))
    was = dict.fromkeys(map(_plain, good.said))
    files = {key: _wrong(file, found.files.get(key)) for key, file in good.files.items()}
    made = {
        "ended": found.ended,
        "new": [line for line in after if line not in before][:_LINES],
        "lost": [line for line in before if line not in after and found.ended == "done"][:_LINES],
        "said": [line for line in dict.fromkeys(map(_plain, found.said)) if line not in was][:_LINES],
        "files": {f"{name} {token:#x}": word for (name, token), word in files.items() if word},
    }
    return {name: value for name, value in made.items() if value}


def _wrong(good: File, found: File | None) -> str:
    """What is wrong with a file, in words."""
    if found is None:
        return "not retrieved"
    names = [name for name, value in asdict(good).items() if asdict(found)[name] != value]
    return f"other {', '.join(names)}" if names else ""


def _plain(line: str) -> str:
    """A line of a log without what differs from boot to boot."""
    line = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b", "N", line)
    return re.sub(r"\bPID: \d+|CPU#?:? ?\d+|\bluo/\d+|\+N/N", "", line)[:160]


def main() -> int:
    """The command line: writes the outcomes of the rules beside the rules."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.mutations")
    parser.add_argument("rules", nargs="*", metavar="RULE")
    parser.add_argument("--kernel", default="7.3")
    parser.add_argument("--machine", default="x86-64", choices=("x86-64", "arm64"))
    given = parser.parse_args()
    try:
        found = kernel(given.kernel, given.machine)
        program_of(found.machine)
    except NoKernel as error:
        print(error, file=sys.stderr)
        return 2
    shape = everything(found)
    document: Json = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {"rules": {}}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        good = {fill: _booted(place, found, shape, None, fill=fill) for fill in (False, True)}
        assert all(dict(outcome.files) == shape.files for outcome in good.values()), "the sound image is not taken"
        for rule, broken in mutations().items():
            if given.rules and rule not in given.rules:
                continue
            try:
                made: Json = {"kernel": found.release}
                for fill, word in ((False, "boot"), (True, "filled")):
                    made[word] = effect(good[fill], _booted(place, found, shape, broken, fill=fill))
                    if made[word] != {"ended": "done"}:
                        break  # filling memory first cannot show more
            except UsageError as error:
                print(f"# {rule}: {error}", flush=True)
                continue
            document["rules"].setdefault(rule, {})[found.machine] = made
            print(rule, json.dumps(made), flush=True)
            OUTCOMES.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
