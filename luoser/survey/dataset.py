# SPDX-License-Identifier: MIT
"""A survey on disk: Parquet files in a folder, written so that a kill at any moment leaves a sound one.

Each part is a folder, `part-00001`, with a file for each table, `hosts.parquet`; queries read `*/hosts.parquet`. A part
gets its name when it is complete, and is not changed after that, but for rows of sources that were read again: these
are dropped from the earlier part.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luoser.errors import UsageError
from luoser.survey.tables import NUMBER, TABLES, Column, Row, Rows, Table
from luoser.text import safe_text

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Dataset", "need_pyarrow"]

_MANIFEST = "survey.json"
_NEW, _OLD, _FILE, _LOCK = _OWN = ".new-", ".old-", ".manifest-", ".lock"
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
    return None if column.type == "number" and value is not None and not 0 <= value < _LARGEST else value


class Dataset:
    """A survey in a folder, to add to. Only one process may have it at a time.

    folder: a survey, or one that is empty or not there yet.
    rule:   naming rule of all its sources.
    """

    def __init__(self, folder: Path, rule: str) -> None:
        self.folder, self._rule = folder, rule

    @contextmanager
    def opened(self) -> Iterator[Dataset]:
        """Make it if it is not there, and mend what a kill left. Raises UsageError for a folder with something else."""
        self._need_folder()
        with (self.folder / _LOCK).open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                shown = safe_text(str(self.folder))
                raise UsageError(f"{shown}: another survey writes here; wait for it, or give another folder") from None
            self._mend()
            self._write_manifest()
            yield self

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
        for old in self.folder.glob(f"{_OLD}*"):
            part = self.folder / old.name.removeprefix(_OLD)
            if not part.exists():
                old.rename(part)
            else:
                shutil.rmtree(old)
        for new in self.folder.glob(f"{_NEW}*"):
            shutil.rmtree(new)
        for file in self.folder.glob(f"{_FILE}*"):
            file.unlink()
        self.tidy()

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
        return sorted(self.folder.glob("part-*"))

    def rows(self, name: str, columns: tuple[str, ...]) -> Iterator[tuple[Path, Row]]:
        """(part, some columns) of each row of a table."""
        import pyarrow.parquet as pq

        for part in self.parts():
            for row in pq.read_table(part / f"{name}.parquet", columns=list(columns)).to_pylist():
                yield part, row

    def add(self, rows: Rows) -> None:
        """Add a part."""
        last = self.parts()[-1].name.rpartition("-")[2] if self.parts() else "0"
        self._put(self.folder / f"part-{int(last) + 1:05}", {name: self._table(name, rows[name]) for name in TABLES})

    def _table(self, name: str, rows: list[Row]) -> pyarrow.Table:
        import pyarrow as pa

        columns = TABLES[name].columns
        data = {one.name: [_fitting(one, row.get(one.name)) for row in rows] for one in columns}
        return pa.table(data, schema=_schema(TABLES[name]))

    def _put(self, part: Path, tables: Mapping[str, pyarrow.Table]) -> None:
        """Write a part, or one in place of it."""
        import pyarrow.parquet as pq

        new = Path(tempfile.mkdtemp(dir=self.folder, prefix=_NEW))
        try:
            new.chmod(0o755)
            for name, table in tables.items():
                pq.write_table(table, new / f"{name}.parquet", compression="zstd")
                _sync(new / f"{name}.parquet")
            _sync(new)
            if part.exists():
                old = self.folder / f"{_OLD}{part.name}"
                part.rename(old)
                new.rename(part)
                shutil.rmtree(old)
            else:
                new.rename(part)
            _sync(self.folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def tidy(self) -> None:
        """Drop the rows of sources and of pairs that a later part has, too."""
        last = dict[tuple[str, ...], Path]()
        for table in ("hosts", "pairs"):
            key = TABLES[table].key
            for part, row in self.rows(table, key):
                last[tuple(row[name] for name in key)] = part
        for part in self.parts():
            self._keep(part, {key for key, at in last.items() if at == part})

    def _keep(self, part: Path, keys: set[tuple[str, ...]]) -> None:
        """Keep only the rows of some sources and pairs in a part, if it has others."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found, is_changed = dict[str, pa.Table](), False
        for name, table in TABLES.items():
            rows = pq.read_table(part / f"{name}.parquet", columns=list(table.key))
            kept = [tuple(row[one] for one in table.key) in keys for row in rows.to_pylist()]
            if not all(kept):
                is_changed = True
            found[name] = kept
        if is_changed:
            self._put(
                part,
                {
                    name: pq.read_table(part / f"{name}.parquet").filter(pa.array(kept, pa.bool_()))
                    for name, kept in found.items()
                },
            )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
