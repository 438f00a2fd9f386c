# SPDX-License-Identifier: MIT
"""Sources as rows of tables, for questions about a fleet: which hosts, which kernels, what was lost over an update.

    rows = luoser.survey.row("host1.before.elf")            # for Ray, Spark, Beam, or a data base of your own
    rows = luoser.survey.pair("host1.before.elf", "host1.after.elf")

Both give rows of each table of `luoser.survey.tables.TABLES`, as plain values, and raise nothing for what a source has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luoser import __version__
from luoser.errors import LuoserError, SourceError, UsageError
from luoser.fleet.fingerprint import Fingerprint, fingerprint
from luoser.limits import LIMITS, Limits, how_to_raise, limited
from luoser.survey.tables import TABLES, Row, Rows, Table, empty, whole
from luoser.text import safe_text, source_names

if TYPE_CHECKING:
    from luoser.state import State

__all__ = ["TABLES", "Row", "Rows", "Table", "pair", "row"]


def row(
    source: str | Sequence[str],
    *,
    host: str = "",
    moment: str = "",
    limits: Limits | None = None,
    mark: Fingerprint | None = None,
) -> Rows:
    """The rows of one source, all but those of `pairs` and `changes`.

    source: path or URL of a dump or a state document, or those of the files of one dump.
    host:   for the column of this name. Empty: the source.
    moment: for the column of this name.
    limits: bounds on the work. None: the defaults.
    mark:   its fingerprint, if it is known. None: it is taken.

    A source that cannot be read is a row of `hosts` with an error.
    """
    from luoser.state.document import read_document

    names = _names(source)
    shown = source_names(names)
    of = {"source": shown, "host": safe_text(host) or shown, "moment": safe_text(moment)}
    rows, about = empty(), Row(luoser=__version__)
    with limited(limits):
        about["sha256"], about["etag"] = mark or fingerprint(names)
        try:
            document = read_document(names[0]) if len(names) == 1 else None
            rows.update(_of_dump(names, of, about) if document is None else _judged(document, (), of, about))
        except (LuoserError, OSError, ValueError) as error:  # ValueError: a name that no file can have
            about["error"] = safe_text(str(error), again=True)
        rows["hosts"] = [whole("hosts", {**of, **about})]
        return _bounded(rows, of)


def _names(source: str | Sequence[str]) -> tuple[str, ...]:
    """The names of the files of a source. Raises UsageError if there is none."""
    names = (source,) if isinstance(source, str) else tuple(source)
    if not names:
        raise UsageError("expected the path or URL of a source, found none")
    return names


def _of_dump(names: Sequence[str], of: Row, about: Row) -> Rows:
    """The rows of what is in a dump. about: gets the columns of `hosts`. Raises SourceError if there is no state."""
    from luoser.checks import may_hide_root
    from luoser.memory.open import open_memory
    from luoser.memory.source import MACHINES
    from luoser.reader import read

    with open_memory(*names) as memory:
        about["format"], about["machine"] = memory.format, MACHINES.get(memory.machine or 0)
        state, ram = read(memory, contents=True), memory.known_ram
        about.update(_about(state), ram=sum(end - start for start, end in ram) or None)
        if not state.handovers and not (memory.remarks or memory.is_partial or may_hide_root(state)):
            raise SourceError("no KHO state" if not memory.is_guess else "unknown dump format, and no KHO state in it")
        rows = _judged(state, ram, of, about)
        about["bytes_read"] = memory.bytes_read if memory.traffic is None else memory.traffic.fetched
        about["remarks"] = [safe_text(remark, again=True) for remark in memory.remarks]
        return rows


def _judged(state: State, ram: Sequence[tuple[int, int]], of: Row, about: Row) -> Rows:
    """The rows of a state. about: gets the columns of `hosts`."""
    from luoser.checks import check
    from luoser.survey.rows import report_rows, state_rows

    about.update(_about(state))
    report = check(state, ram=tuple(ram))
    about["verdict"] = report.verdict.value
    verdicts = {judged.root: judged.verdict.value for judged in report.handovers}
    rows = state_rows(state, of)
    for handover in rows["handovers"]:
        handover["verdict"] = verdicts.get(handover["root"])
    return {**rows, **report_rows(report, of)}


def _about(state: State) -> Row:
    source = state.source
    kernel = source.kernel and safe_text(source.kernel)
    return {"format": safe_text(source.format), "kernel": kernel, "page_size": source.page_size}


def _bounded(rows: Rows, of: Row) -> Rows:
    """The rows, of each table no more than the limit, and a problem that says so."""
    for name, found in rows.items():
        if len(found) > LIMITS.survey_rows:
            del found[LIMITS.survey_rows :]
            text = f"only the first {LIMITS.survey_rows} rows of {name} are kept; {how_to_raise('survey_rows')}"
            rows["problems"].append({**of, "root": None, "code": "too-many", "about": "", "message": text})
    return rows


def pair(
    before: str | Sequence[str],
    after: str | Sequence[str],
    *,
    host: str = "",
    moments: tuple[str, str] = ("before", "after"),
    limits: Limits | None = None,
) -> Rows:
    """The rows of `pairs` and `changes` of two sources of one host.

    before, after: as `source` of `row`.
    host:          for the column of this name. Empty: the source before.
    moments:       for the columns of these names.
    limits:        bounds on the work. None: the defaults.

    Sources that cannot be read are a row of `pairs` with an error.
    """
    from luoser.api import load
    from luoser.changes import compare
    from luoser.survey.rows import comparison_rows

    sides = [_names(side) for side in (before, after)]
    old, new = (source_names(names) for names in sides)
    of = {"host": safe_text(host) or old, "before": old, "after": new}
    rows, about = empty(), Row(luoser=__version__)
    about["before_moment"], about["after_moment"] = map(safe_text, moments)
    with limited(limits):
        for moment, names in zip(("before", "after"), sides, strict=True):
            about[f"{moment}_sha256"], about[f"{moment}_etag"] = fingerprint(names)
        try:
            first, second = (load(*names) for names in sides)
            counts, rows["changes"] = comparison_rows(compare(first, second), of)
            about.update(counts)
        except (LuoserError, OSError, ValueError) as error:
            about["error"] = safe_text(str(error), again=True)
        rows["pairs"] = [whole("pairs", {**of, **about})]
        return _bounded(rows, {"source": f"{old} and {new}", "host": of["host"], "moment": ""})
