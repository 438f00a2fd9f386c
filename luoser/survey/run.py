# SPDX-License-Identifier: MIT
"""Makes a survey, or goes on with one: what it has already, of the same bytes and version, is not read again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from luoser import __version__
from luoser.errors import UsageError
from luoser.fleet.fingerprint import Fingerprint, fingerprint
from luoser.fleet.task import Engine, Task, in_order
from luoser.limits import Limits, limited
from luoser.survey import pair, row
from luoser.survey.dataset import Dataset
from luoser.survey.naming import Named, Naming
from luoser.survey.tables import Rows, empty, whole
from luoser.text import safe_text, source_name, source_names

__all__ = ["Survey", "survey"]

_SOURCES = 256
_ROWS = 1 << 17
_SECONDS = 30.0
"""A part is written after so many sources, rows or seconds: a kill costs no more than that."""


_Key = tuple[str, ...]


@dataclass(slots=True)
class Survey:
    """What a run did.

    verdicts, pairs: how many sources, and pairs, that were read have which.
    kept:            sources and pairs that were not read again.
    remarks:         lines on names.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many sources and pairs were read."""
        return self.verdicts.total() + self.pairs.total()


def survey(
    sources: Sequence[tuple[str, ...]],
    dataset: Dataset,
    engine: Engine,
    *,
    naming: Naming,
    limits: Limits,
    seconds: float | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> Survey:
    """Add sources to a survey that is open, and the pairs of them.

    sources: the names of the files of each.
    engine:  what reads them.
    limits:  in force where they are read.
    seconds: after which a source is given up. None: no bound.
    on_done: called with how many are done, and how many there are.

    Raises UsageError for two sources that would be one in the tables.
    """
    named = [naming.named(source) for source in sources]
    _need_names(sources)
    pairs = list(naming.pairs(named))
    dataset.drop([*_grown(dataset, sources), *_outdated(dataset, named, pairs)])
    total, found = len(named) + len(pairs), Survey(remarks=list(naming.unpaired(named)))
    parts = _Parts(dataset)
    for done, rows in enumerate(_all_rows(named, pairs, dataset, engine, limits, seconds), 1):
        if rows is None:
            found.kept["sources" if done <= len(named) else "pairs"] += 1
        else:
            found.verdicts.update(one["verdict"] or "not read" for one in rows["hosts"])
            found.pairs.update(one["verdict"] or "not compared" for one in rows["pairs"])
            parts.add(rows)
        if on_done is not None:
            on_done(done, total)
    parts.write()
    return found


def _need_names(sources: Iterable[tuple[str, ...]]) -> None:
    """Raise UsageError for two sources with one name, such as URLs that differ in their queries only."""
    known = set[str]()
    for source in sources:
        name = source_names(source)
        if name in known:
            raise UsageError(f"{name}: two sources have this name in the tables; put them into two surveys")
        known.add(name)


def _grown(dataset: Dataset, sources: Sequence[_Key]) -> Iterator[_Key]:
    """The sources of the survey, and pairs of them, whose files are now those of one source, with others maybe."""
    now = set(map(source_names, sources))
    dumps = {source_name(file): source for source in sources if len(source) > 1 for file in source}

    def is_part(name: str) -> bool:
        files = name.split(",")
        return name not in now and set(files) <= set(map(source_name, dumps.get(files[0], ())))

    for table, names in (("hosts", ("source",)), ("pairs", ("before", "after"))):
        for _, one in dataset.rows(table, names):
            key = tuple(one[name] for name in names)
            if any(map(is_part, key)):
                yield key


def _outdated(dataset: Dataset, named: Iterable[Named], pairs: Iterable[tuple[Named, Named]]) -> Iterator[_Key]:
    """The pairs of the survey that are none any more: there are other moments between, or of other names."""
    sources = {source_names(one.source) for one in named}
    now = {_of_pair(old, new) for old, new in pairs}
    befores, afters = {old for old, _ in now}, {new for _, new in now}
    for _, one in dataset.rows("pairs", ("before", "after")):
        key = old, new = one["before"], one["after"]
        if key not in now and ({old, new} <= sources or old in befores or new in afters):
            yield key


def _all_rows(
    named: Sequence[Named],
    pairs: Sequence[tuple[Named, Named]],
    dataset: Dataset,
    engine: Engine,
    limits: Limits,
    seconds: float | None,
) -> Iterator[Rows | None]:
    """The rows of each source, then of each pair. None: the survey has them."""
    known = {
        one["source"]: Fingerprint(one["sha256"], one["etag"])
        for _, one in dataset.rows("hosts", _KNOWN)
        if one["luoser"] == __version__ and one["error"] is None
    }
    tasks = [Task(_source_rows, (one, known.get(source_names(one.source)), limits), seconds) for one in named]
    for one, done in zip(named, in_order(engine, tasks), strict=True):
        yield _lost(one, done.lost) if done.lost else done.value
    compared = {
        (one["before"], one["after"]): tuple(
            Fingerprint(one[f"{side}_sha256"], one[f"{side}_etag"]) for side in ("before", "after")
        )
        for _, one in dataset.rows("pairs", _COMPARED)
        if one["luoser"] == __version__ and one["error"] is None
    }
    tasks = [Task(_pair_rows, (old, new, compared.get(_of_pair(old, new)), limits), seconds) for old, new in pairs]
    for (old, new), done in zip(pairs, in_order(engine, tasks), strict=True):
        yield _lost_pair(old, new, done.lost) if done.lost else done.value


_KNOWN = ("source", "sha256", "etag", "error", "luoser")
_COMPARED = ("before", "after", *(f"{side}_{name}" for side in ("before", "after") for name in ("sha256", "etag")))
_COMPARED += ("error", "luoser")


def _of_pair(old: Named, new: Named) -> tuple[str, str]:
    """What a pair is called in the tables."""
    return source_names(old.source), source_names(new.source)


def _source_rows(one: Named, known: Fingerprint | None, limits: Limits) -> Rows | None:
    """The rows of a source. None: it is known, with the same bytes. known: its fingerprint when it was read."""
    with limited(limits):
        mark = fingerprint(one.source)
    if mark.is_known and mark == known:
        return None
    return row(one.source, host=one.host, moment=one.moment, limits=limits, mark=mark)


def _pair_rows(old: Named, new: Named, known: tuple[Fingerprint, ...] | None, limits: Limits) -> Rows | None:
    """The rows of a pair. None: it is known, with the same bytes. known: both fingerprints when it was compared."""
    with limited(limits):
        marks = fingerprint(old.source), fingerprint(new.source)
    if all(mark.is_known for mark in marks) and marks == known:
        return None
    moments = old.moment, new.moment
    return pair(old.source, new.source, host=old.host, moments=moments, limits=limits)


def _lost(one: Named, why: str) -> Rows:
    """The rows of a source that was given up."""
    rows, shown = empty(), source_names(one.source)
    of = {"source": shown, "host": safe_text(one.host), "moment": safe_text(one.moment)}
    rows["hosts"] = [whole("hosts", {**of, "error": why, "luoser": __version__})]
    return rows


def _lost_pair(old: Named, new: Named, why: str) -> Rows:
    """The rows of a pair that was given up."""
    rows = empty()
    of = {"host": safe_text(old.host), "before": source_names(old.source), "after": source_names(new.source)}
    rows["pairs"] = [whole("pairs", {**of, "error": why, "luoser": __version__})]
    return rows


class _Parts:
    """Rows that wait for enough others to be a part."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._begin()

    def _begin(self) -> None:
        self._rows, self._sources, self._count, self._began = empty(), 0, 0, time.monotonic()

    def add(self, rows: Rows) -> None:
        """Add the rows of a source or a pair."""
        for name, some in rows.items():
            self._rows[name] += some
            self._count += len(some)
        self._sources += 1
        is_late = time.monotonic() - self._began > _SECONDS
        if self._sources >= _SOURCES or self._count >= _ROWS or is_late:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        if self._sources:
            self._dataset.add(self._rows)
        self._begin()
