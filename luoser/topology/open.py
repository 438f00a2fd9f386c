# SPDX-License-Identifier: MIT
"""Reads a topology in whatever form it comes: the form is recognised by content."""

from __future__ import annotations

import json
import os
from pathlib import Path

from luoser.errors import FormatError, SourceError, UsageError
from luoser.limits import LIMITS
from luoser.memory import live
from luoser.memory.open import read_file
from luoser.text import safe_text
from luoser.topology.build import Remarks, build
from luoser.topology.document import from_document, from_list
from luoser.topology.lspci import DUMP, RECORDS, read_dump, read_records
from luoser.topology.model import Topology
from luoser.topology.sysfs import SYSFS, read_sysfs

__all__ = ["SYSFS", "read_topology"]

_BOM = b"\xef\xbb\xbf"


def read_topology(source: str | os.PathLike[str] = SYSFS) -> Topology:
    """The topology of a folder or file, `-` for standard input; `live:` or nothing is the running machine.

    Reads sysfs and copies of it (/sys, /sys/bus/pci/devices, /sys/devices), text of `lspci -vmmnnD -k` and of
    `lspci -xxxx` (-x, -xxx, -v, -k), JSON (luoser's own, a list of {bdf, sysfs, driver, class}); files also inside
    .xz or .gz. Raises SourceError for what is none of these, or has no device in it.
    """
    name = SYSFS if source == live.NAME else os.fspath(source)
    shown = "standard input" if name == "-" else safe_text(name)
    try:
        topology = _sysfs(name) if Path(name).is_dir() else _file(name, shown)
    except (FormatError, UsageError) as error:
        raise SourceError(f"{shown}: {error}") from None
    if not topology.devices:
        why = "".join(f"; {remark}" for remark in topology.remarks[:3])
        raise SourceError(f"{shown}: no PCI device in what looks like {topology.form}{why}")
    return topology


def _sysfs(name: str) -> Topology:
    remarks = Remarks()
    return build(read_sysfs(Path(name), remarks), source=name, form="sysfs", remarks=remarks)


def _file(name: str, shown: str) -> Topology:
    data = read_file(name, limit=LIMITS.topology_size).removeprefix(_BOM)
    remarks = Remarks()
    if data.lstrip()[:1] in (b"[", b"{"):
        return _json(data, name, shown)
    if RECORDS.search(data):
        return build(read_records(data, remarks), source=name, form="lspci -vmm", remarks=remarks)
    if DUMP.search(data):
        return build(read_dump(data, remarks), source=name, form="lspci", remarks=remarks)
    raise SourceError(
        f"{shown}: line 1 and on: no topology; expected text of `lspci -vmmnnD -k` or `lspci -D -xxxx`, JSON of "
        "`luoser topology -o`, or a folder: a copy of /sys"
    )


def _json(data: bytes, name: str, shown: str) -> Topology:
    if len(data) > LIMITS.topology_json:
        raise SourceError(f"{shown}: {len(data)} bytes of JSON; no more than {LIMITS.topology_json} are read here")
    try:
        document = json.loads(data.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise SourceError(f"{shown}: line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nesting without end
        raise SourceError(f"{shown}: JSON that is no topology: {safe_text(str(error))}") from None
    if isinstance(document, list):
        return from_list(document, source=name)
    return from_document(document)
