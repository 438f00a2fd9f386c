# SPDX-License-Identifier: MIT
"""A survey on disk: Parquet files in a folder, written so that a kill at any moment leaves a sound one.

Each part is a folder, `part-00001`, with a file for each table, `hosts.parquet`; queries read `*/hosts.parquet`. A part
gets its name when it is complete, and is not changed after that, but for rows of sources that were read again: these
are dropped before the new ones are added, so that no query sees both. What is not finished is one level deeper, where
no query looks, not even one whose `*` stands for hidden folders, too.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luoser.errors import UsageError
from luoser.survey.tables import NUMBER, TABLES, Column, Row, Rows, Table
from luoser.text import safe_text

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Dataset", "need_pyarrow"]

_MANIFEST = "survey.json"
_WORK, _FILE, _LOCK = _OWN = ".work", ".manifest-", ".lock"
_NEW, _OLD = "new-", "old-"
_OF_KEYS = ("hosts", "pairs")
"""Tables with a row for each source, and for each pair."""
_LARGEST = 1 << 64


def need_pyarrow() -> None:
    """Raise UsageError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError("survey: needs pyarrow; pip install 'luoser[survey]'") from None


def _schema(table: Table) -> pyarrow.Schema:
    import pyarrow as pa

    types = {"text": pa.string(), "bool": pa.bool_(), "number": pa.uint64(), "texts": pa.list_(pa.string())}
    fields = [pa.field(one.name, types[one.type], metadata={"doc": one.doc}) for one in table.columns]
    return pa.schema(fields, metadata={"doc": table.doc, "schema": f"luoser/survey/{NUMBER}"})


def _fitting(column: Column, value: Any) -> Any:
    """A value of a column. A number that has no room in it is null: a hostile dump can have any."""
    if column.type == "number":
        return value if value is None or 0 <= value < _LARGEST else None
    if column.type == "text":
        return value if value is None else safe_text(value, again=True)  # one that is not would end the whole survey
    return value


class Dataset:
    """A survey in a folder, to add to. Only one process may have it at a time.

    folder: a survey, or one that is empty or not there yet.
    rule:   naming rule of all its sources.
    """

    def __init__(self, folder: Path, rule: str) -> None:
        self.folder, self._rule = folder, rule
        self._work = folder / _WORK
        self._places = dict[tuple[str, ...], Path]()
        """The part that has the rows of a source, or of a pair."""

    @contextmanager
    def opened(self) -> Iterator[Dataset]:
        """Make it if it is not there, and mend what a kill left. Raises UsageError for a folder with something else."""
        self._need_folder()
        lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            self._take(lock)
            self._mend()
            self._write_manifest()
            for table in _OF_KEYS:
                self._places |= {_key(table, row): part for part, row in self.rows(table, TABLES[table].key)}
            yield self
        finally:
            with suppress(OSError):
                self._work.rmdir()
            os.close(lock)

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            shown = safe_text(str(self.folder))
            raise UsageError(f"{shown}: another survey writes here; wait for it, or give another folder") from None

    def _need_folder(self) -> None:
        shown = safe_text(str(self.folder))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise UsageError(f"{shown}: a file; give a folder for the survey") from None
        names = {entry.name for entry in self.folder.iterdir() if not entry.name.startswith(_OWN)}
        if _MANIFEST not in names:
            if names:
                raise UsageError(f"{shown}: not empty, and no survey: expected {_MANIFEST} in it; give another folder")
            return
        try:
            found = json.loads((self.folder / _MANIFEST).read_text())
            number, rule = found["schema"], found["name"]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{shown}: {_MANIFEST} is not one of a survey; give another folder") from None
        if number != f"luoser/survey/{NUMBER}":
            text = f"a survey of another form: expected luoser/survey/{NUMBER}, found {safe_text(str(number))}"
            raise UsageError(f"{shown}: {text}; give another folder")
        if rule != self._rule:
            was = f"its sources were named by {safe_text(str(rule))!r}, not {safe_text(self._rule)!r}"
            raise UsageError(f"{shown}: {was}; give the same --name, or another folder")

    def _mend(self) -> None:
        """Remove what was not finished. A part whose shorter form was about to take its place gets it."""
        for old in self._work.glob(f"{_OLD}*"):
            part = self.folder / old.name.removeprefix(_OLD)
            if not part.exists():
                old.rename(part)
        if self._work.exists():
            shutil.rmtree(self._work)  # never through a link
        for file in self.folder.glob(f"{_FILE}*"):
            file.unlink()

    def _write_manifest(self) -> None:
        """The names, types and meanings of all columns, for who finds the folder."""
        tables = {
            table.name: {"doc": table.doc, "columns": {one.name: [one.type, one.doc] for one in table.columns}}
            for table in TABLES.values()
        }
        document = {"schema": f"luoser/survey/{NUMBER}", "name": self._rule, "tables": tables}
        path = self.folder / _MANIFEST
        text = json.dumps(document, indent=1) + "\n"
        if path.exists() and path.read_text() == text:
            return
        with tempfile.NamedTemporaryFile("w", dir=self.folder, prefix=_FILE, delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    def parts(self) -> list[Path]:
        """The folders of its parts, the first one first."""
        return sorted(self.folder.glob("part-*"), key=_number)

    def rows(self, name: str, columns: tuple[str, ...]) -> Iterator[tuple[Path, Row]]:
        """(part, some columns) of each row of a table. Raises UsageError for a part that cannot be read."""
        for part in self.parts():
            for row in _table_of(part, name, columns).to_pylist():
                yield part, row

    def add(self, rows: Rows) -> None:
        """Add a part. Rows of its sources and pairs that are there already are dropped first."""
        keys = {_key(table, row) for table in _OF_KEYS for row in rows[table]}
        self.drop(keys)
        part = self.folder / f"part-{max(map(_number, self.parts()), default=0) + 1:05}"
        self._put(part, {name: self._table(name, rows[name]) for name in TABLES})
        self._places |= dict.fromkeys(keys, part)

    def _table(self, name: str, rows: list[Row]) -> pyarrow.Table:
        import pyarrow as pa

        columns = TABLES[name].columns
        data = {one.name: [_fitting(one, row.get(one.name)) for row in rows] for one in columns}
        return pa.table(data, schema=_schema(TABLES[name]))

    def _put(self, part: Path, tables: Mapping[str, pyarrow.Table]) -> None:
        """Write a part, or one in place of it."""
        import pyarrow.parquet as pq

        self._work.mkdir(exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=self._work, prefix=_NEW))
        try:
            new.chmod(0o755)
            for name, table in tables.items():
                pq.write_table(table, new / f"{name}.parquet", compression="zstd")
                _sync(new / f"{name}.parquet")
            _sync(new)
            self._replace(part, new)
        except BaseException as error:
            shutil.rmtree(new, ignore_errors=True)
            if isinstance(error, OSError):
                error.filename, error.strerror = str(self.folder), error.strerror or str(error)
            raise

    def _replace(self, part: Path, new: Path | None) -> None:
        """Give a part its name, or none any more. An earlier one of that name goes."""
        old = self._work / f"{_OLD if new else _NEW}{part.name}"
        if part.exists():
            part.rename(old)
        if new:
            new.rename(part)
        _sync(self.folder)
        if old.exists():
            shutil.rmtree(old)

    def drop(self, keys: Iterable[tuple[str, ...]]) -> None:
        """Drop the rows of some sources and pairs."""
        going = {key: self._places.pop(key) for key in keys if key in self._places}
        for part in sorted(set(going.values())):
            self._drop_of(part, {key for key, place in going.items() if place == part})

    def _drop_of(self, part: Path, keys: set[tuple[str, ...]]) -> None:
        import pyarrow as pa

        left = dict[str, pa.Table]()
        for name, table in TABLES.items():
            whole = _table_of(part, name, tuple(column.name for column in table.columns))
            stay = [_key(name, row) not in keys for row in whole.select(list(table.key)).to_pylist()]
            left[name] = whole.filter(pa.array(stay, pa.bool_()))
        if any(table.num_rows for table in left.values()):
            self._put(part, left)
        else:
            self._work.mkdir(exist_ok=True)
            self._replace(part, None)


def _key(table: str, row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in TABLES[table].key)


def _number(part: Path) -> int:
    number = part.name.removeprefix("part-")
    return int(number) if number.isdecimal() else 0


def _table_of(part: Path, name: str, columns: tuple[str, ...]) -> pyarrow.Table:
    """Some columns of a table of a part. Raises UsageError if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = part / f"{name}.parquet"
    try:
        table = pq.read_table(path, columns=list(columns))
        missing = set(columns) - set(table.column_names)
        why = f"expected a column {min(missing)}" if missing else ""
    except OSError as error:
        why = error.strerror or str(error)
    except pa.ArrowException as error:
        why = str(error)
    if why:
        what = f"remove {safe_text(part.name)}, and its sources are read again"
        raise UsageError(f"{safe_text(str(path))}: no table of a survey: {safe_text(why)}; {what}")
    return table


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
