# SPDX-License-Identifier: MIT
"""docs/benchmarks.md, from the rows of a run."""

from __future__ import annotations

import math
import os
import platform
import pstats
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Row", "exponent", "is_missed", "most_time", "page"]

_HEAD = """# Benchmarks

`make bench` writes this page. Each work was measured beside its peers in one run, by turns: the times are medians of
processor time (children included), a ratio is the median of the ratios of pairs, below 1 where luoser is faster. Memory
is the peak of anonymous memory that the work needs, in a process of its own. The exponent is that of growth with size:
1 is linear. A goal is for the ratio to the first peer of a work. Times depend on the machine, ratios little. Below the
table is where the time goes of what misses its goal.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One work, one size, one peer.

    size:         in words.
    number:       the size as a number. 0: not for the exponent.
    seconds:      of luoser.
    memory:       MiB. None: not measured.
    peer_seconds: None: the peer is not there.
    ratio:        luoser's time by the peer's. None: the peer is not there.
    why:          why it is not there.
    goal:         for the ratio, in words.
    profile:      of a work that misses its goal, as `most_time` has it.
    """

    work: str
    size: str
    number: float
    seconds: float
    memory: float | None
    peer: str
    peer_seconds: float | None
    ratio: float | None
    why: str = ""
    goal: str = ""
    profile: tuple[tuple[float, str], ...] = ()

    def line(self, growth: str = "") -> str:
        """The row of a Markdown table. growth: the exponent, in words."""
        memory = "" if self.memory is None else f"{self.memory:.0f} MiB"
        theirs = f"{self.peer}: {self.why}" if self.peer_seconds is None else f"{self.peer} {_time(self.peer_seconds)}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        cells = (self.work, self.size, _time(self.seconds), memory, theirs, ratio, self.goal, growth)
        return f"| {' | '.join(cells)} |"


def is_missed(goal: str, ratio: float | None) -> bool:
    """Whether a ratio misses a goal in words, such as `at most 2`. Without one of them it does not."""
    found = re.search(r"\d+(\.\d+)?", goal)
    return found is not None and ratio is not None and ratio > float(found[0])


def most_time(stats: pstats.Stats, count: int = 5) -> tuple[tuple[float, str], ...]:
    """(share of the time, function) of the functions with the most time of their own, without paths of the machine."""
    spent = {place: row[2] for place, row in cast(Any, stats).stats.items()}
    total = sum(spent.values()) or 1.0
    ranked = sorted(spent, key=lambda place: -spent[place])[:count]
    return tuple((spent[place] / total, _function(*place)) for place in ranked)


def _function(file: str, line: int, name: str) -> str:
    if file == "~":  # built in: <built-in method posix.stat>, <method 'find' of 'bytes' objects>
        return re.sub(r" at 0x[0-9a-f]+", "", name.strip("<>"))
    parts = file.split("/")
    known = next((place for place in ("luoser", "tests", "site-packages", "click") if place in parts), None)
    if known is None:
        return f"{parts[-1]}: {name}"
    start = len(parts) - 1 - parts[::-1].index(known) + (known == "site-packages")
    return f"{'/'.join(parts[start:])}: {name}"


def _profiles(rows: Sequence[Row]) -> list[str]:
    missed = [row for row in rows if row.profile]
    if not missed:
        return []
    lines = [
        "",
        "## What misses its goal",
        "",
        "The functions with the most time of their own, in a run under cProfile.",
        "",
    ]
    lines += ["| work | size | ratio | goal | share | function |", "|---|---|---:|---|---:|---|"]
    for row in missed:
        head = f"{row.work} | {row.size} | {row.ratio or 0:.2f} | {row.goal}"
        for share, function in row.profile:
            lines.append(f"| {head} | {100 * share:.0f} % | `{function}` |")
            head = " | | |"
    return lines


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log(time) over log(size), by least squares. None: fewer than three sizes."""
    if len(points) < 3:
        return None
    logs = [(math.log(size), math.log(max(time, 1e-9))) for size, time in points]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def page(rows: Sequence[Row]) -> str:
    """The page. rows: in their order; those of one work are put together."""
    works = {row.work: [one for one in rows if one.work == row.work] for row in rows}
    lines = [
        "| work | size | luoser | memory | peer | ratio | goal | exponent |",
        "|---|---|---:|---:|---|---:|---|---:|",
    ]
    for same in works.values():
        growth = exponent([(row.number, row.seconds) for row in same if row.number])
        last = max((index for index, row in enumerate(same) if row.number), default=-1)
        for index, row in enumerate(same):
            lines.append(row.line(f"{growth:.2f}" if growth is not None and index == last else ""))
    where = f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors."
    return f"{_HEAD}{where}\n\n" + "\n".join([*lines, *_profiles(rows)]) + "\n"
