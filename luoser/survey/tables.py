# SPDX-License-Identifier: MIT
"""The tables of a survey: names, types and meanings of their columns. A name or type, once published, stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["NUMBER", "TABLES", "Column", "Row", "Rows", "Table", "empty", "whole"]

NUMBER = 1
"""Of this form of the tables. A column may be added under the same number."""
Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""Rows of each table, by its name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    type: text, bool, number (unsigned, 64 bits: addresses, tokens, sizes, counts), or texts (a list).
    doc:  what it means, and in which unit. Any value may be null if it is not known.
    """

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. key: columns that say of which source, or of which pair of sources, a row is."""

    name: str
    doc: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


_SOURCE = (
    Column(
        "source",
        "text",
        "path, or URL without user, password and query; of several files of one dump, all of them with commas",
    ),
    Column("host", "text", "by the naming rule; without one, the name of the file"),
    Column("moment", "text", "by the naming rule: before, after, …; empty without one"),
)
_ROOT = (*_SOURCE, Column("root", "number", "physical address of the KHO root; null: a file of debugfs"))
_PAIR = (
    Column("host", "text", "of both sources"),
    Column("before", "text", "source of the state before"),
    Column("after", "text", "source of the state after"),
)


def _of_source(name: str, doc: str, *columns: Column, root: bool = True) -> Table:
    return Table(name, doc, ("source",), (*(_ROOT if root else _SOURCE), *columns))


_ALL = (
    _of_source(
        "hosts",
        "a row for each source",
        Column("sha256", "text", "of its files; null: no regular files, or too large"),
        Column("etag", "text", "of files at URLs: what names the version that was read"),
        Column("format", "text", "of the dump"),
        Column("machine", "text", "x86-64, arm64"),
        Column("kernel", "text", "release of the running kernel"),
        Column("page_size", "number", "of the kernel, in bytes"),
        Column("verdict", "text", "of check: sound, findings, inconclusive; null: not read, or without KHO state"),
        Column("error", "text", "why it was not read, or that it has no KHO state; null: it was read"),
        Column("remarks", "texts", "on the file: truncated, damaged"),
        Column("ram", "number", "bytes of RAM of the machine, if the source has all of it"),
        Column("bytes_read", "number", "bytes that came from servers; else bytes of memory that were asked for"),
        Column("luoser", "text", "version that read it"),
        root=False,
    ),
    _of_source(
        "handovers",
        "a row for each KHO root",
        Column("compatible", "text", "of the root"),
        Column("own", "bool", "of this machine; others are of guests, copies, or left over"),
        Column("direction", "text", "incoming, outgoing, unknown"),
        Column("status", "text", "of the preserved map: intact, damaged, stale, absent, missing, unread"),
        Column("complete", "bool", "all of the map was read"),
        Column("verdict", "text", "on this handover"),
        Column("entries", "number", "preserved blocks"),
        Column("preserved", "number", "bytes of preserved memory"),
        Column("scratch", "number", "bytes of scratch areas"),
        Column("luo", "text", "compatible of the LUO; null: none, or not readable"),
        Column("serialized", "bool", "sessions and FLBs were written"),
        Column("liveupdate_number", "number", "of live updates, the coming one included"),
        Column("previous_release", "text", "of kexec-metadata"),
        Column("kexec_count", "number", "of kexec-metadata"),
        Column("sessions", "number", "of the LUO"),
        Column("files", "number", "of all sessions"),
        Column("devices", "number", "of all device lists"),
    ),
    _of_source(
        "sessions",
        "a row for each LUO session",
        Column("session", "text", "name, printable"),
        Column("address", "number", "of its luo_session_ser"),
        Column("files", "number", "that were read"),
        Column("count", "number", "of files in the entry"),
    ),
    _of_source(
        "files",
        "a row for each preserved file of a session",
        Column("session", "text", "name, printable"),
        Column("token", "number", "chosen by user space"),
        Column("compatible", "text", "of the handler"),
        Column("data", "number", "handle of the handler"),
        Column("address", "number", "of its luo_file_ser"),
        Column("layout", "text", "form of the memfd; null: no memfd, or not readable"),
        Column("size", "number", "of the memfd in bytes"),
        Column("position", "number", "of the memfd in bytes"),
        Column("seals", "number", "F_SEAL_* bits of the memfd"),
        Column("folios", "number", "of the memfd"),
    ),
    _of_source(
        "folio_runs",
        "a row for each run of folios of a memfd whose indices and addresses follow each other",
        Column("session", "text", "name, printable"),
        Column("token", "number", "of the file"),
        Column("index", "number", "of the first folio, in pages of the file"),
        Column("address", "number", "of the first folio"),
        Column("folios", "number", "of the run"),
        Column("step", "number", "from one folio to the next, in bytes; 0: a single folio"),
        Column("flags", "number", "of each folio"),
    ),
    _of_source(
        "devices",
        "a row for each preserved PCI device of each list",
        Column("layout", "text", "of the list"),
        Column("list", "number", "address of the list"),
        Column("via", "texts", "what leads to the list"),
        Column("index", "number", "in the list"),
        Column("bdf", "text", "DDDD:BB:SS.F"),
        Column("flags", "number", "of the device"),
        Column("driver", "text", "name of the driver, printable"),
        Column("driver_data", "number", "handle of the driver"),
        Column("refcount", "number", "of the device"),
    ),
    _of_source(
        "findings",
        "a row for each finding of check",
        Column("rule", "text", "id, such as MAP003"),
        Column("slug", "text", "of the rule"),
        Column("severity", "text", "error, warning, info"),
        Column("address", "number", "of the thing"),
        Column("about", "text", "path of the thing, relative to the root"),
        Column("device", "text", "DDDD:BB:SS.F"),
        Column("message", "text", "what is wrong"),
        Column("hint", "text", "what to do, or the effect"),
    ),
    _of_source(
        "unjudged",
        "a row for each rule that could not be judged",
        Column("rule", "text", "id"),
        Column("cause", "text", "missing, excluded, damaged, unread, unknown-form, limit, open"),
        Column("about", "text", "path of the thing, relative to the root"),
        Column("reason", "text", "in words, with what would decide it"),
    ),
    _of_source(
        "problems",
        "a row for each problem that the reader met",
        Column("code", "text", "see problems.md"),
        Column("address", "number", "of the thing"),
        Column("about", "text", "path of the thing, relative to the root"),
        Column("message", "text", "in words"),
    ),
    Table(
        "pairs",
        "a row for each pair of one host's sources that were compared",
        ("before", "after"),
        (
            *_PAIR,
            Column("before_moment", "text", "by the naming rule"),
            Column("after_moment", "text", "by the naming rule"),
            Column("before_sha256", "text", "of the files that were compared"),
            Column("after_sha256", "text", "of the files that were compared"),
            Column("before_etag", "text", "of files at URLs"),
            Column("after_etag", "text", "of files at URLs"),
            Column("verdict", "text", "of diff: equal, progress, different, inconclusive; null: not compared"),
            Column("error", "text", "why they were not compared; null: they were"),
            Column("added", "number", "changes of this kind"),
            Column("removed", "number", "changes of this kind"),
            Column("changed", "number", "changes of this kind"),
            Column("progress", "number", "changes of this kind: what the next kernel has consumed"),
            Column("not_compared", "number", "things that one of the sources does not hold"),
            Column("luoser", "text", "version that compared them"),
        ),
    ),
    Table(
        "changes",
        "a row for each change between the sources of a pair",
        ("before", "after"),
        (
            *_PAIR,
            Column("kind", "text", "added, removed, changed, progress"),
            Column("about", "text", "path by names, such as pci/0000:41:00.0/driver_data"),
            Column("old", "text", "value before; null: none"),
            Column("new", "text", "value after; null: none"),
            Column("note", "text", "more, in words"),
        ),
    ),
)
TABLES: Mapping[str, Table] = {table.name: table for table in _ALL}
"""All tables by name."""


def whole(name: str, row: Row) -> Row:
    """A row of a table with all of its columns."""
    return {column.name: row.get(column.name) for column in TABLES[name].columns}


def empty() -> Rows:
    """No rows of each table."""
    return {name: [] for name in TABLES}
