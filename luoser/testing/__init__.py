# SPDX-License-Identifier: MIT
"""For tests of kernels: assertions about sources, goldens, a guest to look at, and fixtures for pytest.

    from luoser.testing import assert_same_state, assert_sound

    def test_live_update(luoser_guest):
        with luoser_guest("/tmp/vm.qmp") as guest:
            assert_sound(guest.memory)
            before = guest.state()

An assertion raises AssertionError with what `luoser check` or `luoser diff` prints. Without pytest it does so, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

from luoser.testing.goldens import golden, golden_names
from luoser.testing.guest import Guest

if TYPE_CHECKING:
    from luoser.api.sources import Path
    from luoser.changes import Comparison
    from luoser.checks import Report
    from luoser.limits import Limits
    from luoser.memory.source import Memory
    from luoser.state import State
    from luoser.topology import Topology

__all__ = ["Guest", "assert_same_state", "assert_sound", "golden", "golden_names"]

LINES = 200
"""Most lines of findings or changes in a message."""

# What is imported here is imported in each run of pytest that finds the plugin: all else is imported when it is used.


def assert_sound(
    source: State | Memory | Path,
    *,
    topology: Topology | Path | None = None,
    next_release: str | None = None,
    severity: Literal["error", "warning", "info"] = "error",
    drivers: Collection[str] = (),
    handlers: Collection[str] = (),
    flbs: Collection[str] = (),
    pending: bool = False,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    limits: Limits | None = None,
) -> Report:
    """Assert that every handover of a source is sound. The message has the findings, and what was not judged.

    An inconclusive verdict fails: with what would decide it. So does a source without a KHO root. The parameters are
    those of `luoser.check`; severity: findings of this severity and above fail.

    Returns the report: findings below the severity are in it. Raises AssertionError, and as `luoser.check` does.
    """
    __tracebackhide__ = True
    import luoser
    from luoser.render.findings import print_judgements, verdict_text

    report = luoser.check(
        source,
        topology=topology,
        next_release=next_release,
        drivers=drivers,
        handlers=handlers,
        flbs=flbs,
        pending=pending,
        select=select,
        ignore=ignore,
        severity=severity,
        limits=limits,
    )
    if report.verdict.value != "sound":
        said = _printed(lambda: print_judgements(report), "check")
        raise AssertionError(f"{_name(source)}: {verdict_text(report)}\n{said}")
    return report


def assert_same_state(
    before: State | Memory | Path,
    after: State | Memory | Path,
    *,
    ignore: Collection[str] = (),
    allow_progress: bool = False,
    contents: bool = False,
    roots: tuple[int, int] | None = None,
) -> Comparison:
    """Assert that two sources hand over the same. The message has the changes.

    A comparison with parts that were not compared is inconclusive, and fails.

    before, after:   as of `luoser.diff`, as are the others.
    allow_progress:  accept what the next kernel has consumed or done.

    Returns the comparison. Raises AssertionError, and as `luoser.diff` does.
    """
    __tracebackhide__ = True
    import luoser
    from luoser.render.changes import print_changes

    found = luoser.diff(before, after, ignore=ignore, contents=contents, roots=roots)
    if found.verdict.value not in (("equal", "progress") if allow_progress else ("equal",)):
        said = _printed(lambda: print_changes(found), "diff")
        hint = "\n→ allow_progress=True accepts it" if found.verdict.value == "progress" else ""
        raise AssertionError(f"{_name(before)}, {_name(after)}: {found.verdict.value}\n{said}{hint}")
    return found


def _name(source: State | Memory | Path) -> str:
    from luoser.state import State
    from luoser.text import safe_text, source_name

    if isinstance(source, State):
        return safe_text(source.source.name) or "a state"
    return source_name(os.fspath(source) if isinstance(source, str | os.PathLike) else source.path)


def _printed(put: Callable[[], None], command: str) -> str:
    """The first lines of what a function prints, as it does where there is no terminal. command: that prints all."""
    import io
    from contextlib import redirect_stdout

    from luoser.render.out import Screen, written_for

    with redirect_stdout(io.StringIO()) as out, written_for(Screen(None, False)):
        put()
    lines = out.getvalue().rstrip().split("\n")
    more = [f"… {len(lines) - LINES} more lines; `luoser {command}` prints all"] if len(lines) > LINES else []
    return "\n".join(lines[:LINES] + more)
