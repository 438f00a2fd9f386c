# SPDX-License-Identifier: MIT
"""Damages every real dump and golden at random, and runs every command on them: `make fuzz`.

    python -m tests.fuzz [--runs N | --minutes M] [--seed S] [--jobs N] [--keep FOLDER] [--page FILE]
    python -m tests.fuzz --replay FILE...

What is wrong is kept as one small file for each kind, which --replay runs again. Moved to tests/fuzz/found it is a
test. The same seed gives the same cases. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.cases import load
from tests.fuzz.driver import LONGEST, Log, attempt, fuzz, keep, shrunk

__all__ = ["main", "page"]

_EVERY = 30
"""Seconds between two lines on stderr."""


def _lines(log: Log) -> list[str]:
    kinds = [f"fault   {count:6} times: {kind}" for kind, count in log.counts.most_common()]
    slow = [f"slowest {seconds:6.2f} s    case {number}: {words}" for seconds, number, words in log.slowest]
    large = [f"largest {grown / (1 << 20):6.1f} MiB  case {number}: {words}" for grown, number, words in log.largest]
    mean = f"{1000 * log.seconds / max(1, log.runs):.1f} ms of processor time each"
    return [
        f"seed {log.seed}: {log.cases} cases, {log.runs} runs, {mean}, {len(log.counts)} kinds of faults",
        "exit codes " + ", ".join(f"{code}: {count}" for code, count in sorted(log.codes.items())),
        *slow,
        *large,
        *kinds,
    ]


def page(log: Log) -> str:
    """The page docs/fuzzing.md."""
    ends = ("no end", "the worker")
    hung = sum(count for kind, count in log.counts.items() if kind.startswith(ends))
    raised = sum(count for kind, count in log.counts.items() if " in " in kind and not kind.startswith(ends))
    rows = [
        ("seed", str(log.seed)),
        ("cases", f"{log.cases:,}"),
        ("runs", f"{log.runs:,}"),
        ("tracebacks", str(raised)),
        ("time-outs, and ends by a signal", str(hung)),
        ("other faults", str(sum(log.counts.values()) - raised - hung)),
        ("mean processor time of a run", f"{1000 * log.seconds / max(1, log.runs):.1f} ms"),
        ("exit codes", ", ".join(f"{code}: {count:,}" for code, count in sorted(log.codes.items()))),
        *(("slowest run", f"{one[0]:.2f} s, case {one[1]}: `{one[2]}`") for one in log.slowest[:1]),
        *(
            ("most memory of a run", f"{one[0] / (1 << 20):.0f} MiB, case {one[1]}: `{one[2]}`")
            for one in log.largest[:1]
        ),
    ]
    made = [f"| {name} | {value} |" for name, value in rows]
    ran = [f"| `{name}` | {count:,} |" for name, count in sorted(log.commands.items())]
    held = [f"| {name} | {count:,} |" for name, count in sorted(log.containers.items())]
    tables = {"figures": made, "commands": ran, "containers": held}
    texts = {name: "\n".join(rows) for name, rows in tables.items()}
    return _PAGE.format(seed=log.seed, runs=log.runs, longest=LONGEST, **texts)


_PAGE = """# Fuzzing

`make fuzz` damages every real dump, golden, and file that people write, runs every command and renderer on the
result, and says what is wrong. This page has the figures of the run that wrote it:
`make fuzz RUNS={runs} JOBS=2 SEED={seed} PAGE=docs/fuzzing.md`.

| | |
|---|---|
{figures}

A *case* is damage to one base in one container; a *run* is one command on it. Damage goes by member (each pointer,
count, flag and text of each struct of the registry gets a value that its kind makes interesting), by page (swapped,
copied, filled, dropped), by structure (pointers to themselves, one child many times, chains), and by the bytes of the
container or of the text.

A run is at fault when it raises, takes more than {longest} s of processor time or 1 GiB of memory, ends with an exit
code that its command does not have, leaves a file after a failure, prints a control character, a bidirectional mark,
bytes that are not UTF-8 or words of Python, or JSON that does not parse or does not fit its schema.

| command | runs |
|---|---:|
{commands}

| container | cases |
|---|---:|
{containers}

## To run it

```sh
make fuzz MINUTES=60 SEED=20261130     # every night, with another seed
.venv/bin/python -m tests.fuzz --replay build/fuzz/*.json
```

The same seed gives the same cases. Each kind of fault is kept once, in `build/fuzz`, with only the damage that it
needs. Moved to `tests/fuzz/found` the file is a test that fails until the fault is mended.
"""


def _replay(files: Sequence[Path]) -> bool:
    wrong = False
    for place in files:
        for fault in attempt(load(place)):
            wrong = True
            print(f"{place}: {fault.kind}\n{fault.detail}")
    return wrong


def _search(words: argparse.Namespace) -> bool:
    told = time.monotonic()

    def tell(log: Log) -> None:
        nonlocal told
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            print(_lines(log)[0], file=sys.stderr, flush=True)

    runs = words.runs if words.runs or words.minutes else 10_000
    seconds = 60 * words.minutes if words.minutes else None
    log = fuzz(words.seed, runs=runs, seconds=seconds, jobs=words.jobs, tell=tell)
    print("\n".join(_lines(log)), flush=True)
    for kind, (case, detail) in log.found.items():
        print(f"kept    {keep(words.keep, kind, shrunk(case, kind), detail)}", flush=True)
    if words.page:
        words.page.write_text(page(log))
    return bool(log.counts)


def main(words: Sequence[str] = sys.argv[1:]) -> None:
    """Search, or run kept cases again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, metavar="N", help="end after so many (default 10000)")
    parser.add_argument("--minutes", type=float, metavar="M", help="end after so long")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="another one gives other cases (default 0)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="workers at a time (default 1)")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), metavar="FOLDER", help="for what is wrong")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page docs/fuzzing.md")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], metavar="FILE", help="run kept cases again")
    options = parser.parse_args(words)
    sys.exit(_replay(options.replay) if options.replay else _search(options))


if __name__ == "__main__":
    main()
