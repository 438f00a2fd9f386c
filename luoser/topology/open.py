# SPDX-License-Identifier: MIT
"""Reads a topology. The kind of input is recognised by content."""

from __future__ import annotations

import os
from pathlib import Path

from luoser.errors import FormatError, SourceError, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.device import LIVE
from luoser.memory.file import read_file
from luoser.parse import parse_json
from luoser.text import source_name
from luoser.topology.build import Remarks, build
from luoser.topology.document import from_document, from_list
from luoser.topology.lspci import DUMP, RECORDS, read_dump, read_records, unpasted
from luoser.topology.model import Topology
from luoser.topology.sysfs import SYSFS, read_sysfs

__all__ = ["SYSFS", "read_topology"]

_BOM = b"\xef\xbb\xbf"


def read_topology(source: str | os.PathLike[str] = SYSFS) -> Topology:
    """The PCI topology of a machine.

    source: `live:` for the running machine; a folder with sysfs or a copy of it (/sys, /sys/bus/pci/devices,
            /sys/devices); or a file, `-` for standard input, with the output of `lspci -vmmnnD -k` or
            `lspci -xxxx` (also -x, -xxx, -v, -k), or JSON (luoser's snapshot, a list of {bdf, sysfs, driver, class}).
            A file can be .xz or .gz.

    Raises SourceError for any other input, and for one without a device.
    """
    name = SYSFS if source == LIVE else os.fspath(source)
    shown = "standard input" if name == "-" else source_name(name)
    try:
        topology = _sysfs(name) if Path(name).is_dir() else _file(name, shown)
    except (FormatError, UsageError) as error:
        raise SourceError(f"{shown}: {error}") from None
    if not topology.devices:
        why = "".join(f"; {remark}" for remark in topology.remarks[:3])
        raise SourceError(f"{shown}: recognised as {topology.form}, but no PCI device in it{why}")
    return topology


def _sysfs(name: str) -> Topology:
    remarks = Remarks()
    return build(read_sysfs(Path(name), remarks), source=name, form="sysfs", remarks=remarks)


def _file(name: str, shown: str) -> Topology:
    data = read_file(name, limit="topology_size").removeprefix(_BOM)
    remarks = Remarks()
    if data.lstrip()[:1] in (b"[", b"{"):
        return _json(data, name, shown)
    data = unpasted(data)
    if RECORDS.search(data):
        return build(read_records(data, remarks), source=name, form="lspci -vmm", remarks=remarks)
    if DUMP.search(data):
        return build(read_dump(data, remarks), source=name, form="lspci", remarks=remarks)
    raise SourceError(
        f"{shown}: not a topology: expected the output of `lspci -vmmnnD -k` or `lspci -D -xxxx`, JSON of "
        "`luoser topology -o`, or a folder with a copy of /sys"
    )


def _json(data: bytes, name: str, shown: str) -> Topology:
    if len(data) > LIMITS.topology_json:
        text = f"expected at most {LIMITS.topology_json} bytes, found {len(data)}; {how_to_raise('topology_json')}"
        raise SourceError(f"{shown}: JSON too large: {text}")
    try:
        document = parse_json(data.decode("utf-8", "surrogateescape"))
    except FormatError as error:
        raise SourceError(f"{shown}: {error}") from None
    if isinstance(document, list):
        return from_list(document, source=name)
    return from_document(document)
