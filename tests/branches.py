# SPDX-License-Identifier: MIT
"""Share of the branches that tests take in the rooms that meet hostile input: `make coverage`.

FILE is a JSON report of coverage.py.

    python -m tests.branches FILE

Exit code 1 if it is below 92 % in one of them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["LEAST", "ROOMS", "main", "shares"]

ROOMS = ("luoser/fdt.py", "luoser/memory/", "luoser/reader/", "luoser/state/")
LEAST = 92.0
"""Per cent."""


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Per cent of the branches that were taken, by room. report: of `coverage json`, with branches."""
    taken, there = Counter[str](), Counter[str]()
    for path, found in report["files"].items():
        for room in ROOMS:
            if path.startswith(room):
                taken[room] += found["summary"]["covered_branches"]
                there[room] += found["summary"]["num_branches"]
    return {room: 100 * taken[room] / there[room] if there[room] else 0.0 for room in ROOMS}


def main(words: list[str]) -> None:
    """Print the share of each room."""
    report = json.loads(Path(words[0]).read_text())
    found = shares(report)
    for room, share in found.items():
        print(f"{share:5.1f} % of the branches of {room}")
    sys.exit(any(share < LEAST for share in found.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
