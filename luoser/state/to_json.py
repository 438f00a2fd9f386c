# SPDX-License-Identifier: MIT
"""The JSON form of a state: the document that `inspect` prints and `build` takes.

Addresses, tokens, handles, sizes in bytes and file positions are hex strings; counts, numbers, orders,
flags, seals and reference counts are numbers; a missing thing is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from luoser.abi.schema import set_bits
from luoser.fdt import Fdt, Node
from luoser.state.blob import Blob
from luoser.state.model import (
    Contents,
    File,
    Flb,
    Folios,
    Handover,
    KexecMetadata,
    KhoTest,
    Luo,
    Memblock,
    Memfd,
    PciList,
    Pending,
    PendingFile,
    PendingSession,
    Preserved,
    Record,
    Session,
    Source,
    State,
    Subtree,
)
from luoser.state.packed import Column, Device, DeviceList, Hex
from luoser.state.salvaged import Salvaged
from luoser.state.user_space import user_space
from luoser.text import bdf_text

__all__ = ["BLOB_SCHEMA", "SCHEMA", "Rows", "blob_document", "fdt_document", "source_document", "to_document"]

SCHEMA = "luoser/state/1"
BLOB_SCHEMA = "luoser/decode/1"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A long list of a document, whose items (lists or objects) are made when it is iterated, each time anew."""

    make: Callable[[], Iterable[Any]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.make())


@dataclass(frozen=True, slots=True)
class _Form:
    """full: with all that `build` needs. streamed: long lists are `Rows`."""

    full: bool
    streamed: bool

    def rows(self, make: Callable[[], Iterable[Any]]) -> list[Any] | Rows:
        """A long list. make: makes its items."""
        return Rows(make) if self.streamed else list(make())


def to_document(state: State, *, full: bool = False, streamed: bool = False) -> Json:
    """The document of a state, as plain JSON values.

    state:    any.
    full:     with all that `build` needs to make the same image.
    streamed: long lists are `Rows`, to write them without having all of them in memory.
    """
    source, form = state.source, _Form(full, streamed)
    salvaged = {} if state.salvaged is None else {"salvaged": [_salvaged(one) for one in state.salvaged]}
    return {
        "schema": SCHEMA,
        "source": source_document(source),
        "handovers": [_handover(handover, form) for handover in state.handovers],
        **salvaged,
        "problems": [
            {
                "code": problem.code,
                "address": _hex(problem.address),
                "message": problem.message,
                "root": _hex(problem.root),
                "about": problem.about,
            }
            for problem in state.problems
        ],
    }


def source_document(source: Source) -> Json:
    """What documents say of a source, as plain JSON values."""
    return {
        "path": source.path,
        "format": source.format,
        "page_size": source.page_size,
        "kernel": source.kernel,
        **({"left_out": list(source.left_out)} if source.left_out else {}),
    }


def _salvaged(one: Salvaged) -> Json:
    return {
        "kind": one.kind,
        "layout": one.layout,
        "address": _hex(one.address),
        "size": _hex(one.size),
        "confidence": one.confidence.value,
        "evidence": list(one.evidence),
        "fields": _plain(one.fields),
        "entries": [_plain(entry) for entry in one.entries],
        "leads_to": [_hex(address) for address in one.leads_to],
        "led_from": [_hex(address) for address in one.led_from],
        "copies": [_hex(address) for address in one.copies],
        "unconfirmed": list(one.unconfirmed),
    }


def blob_document(blob: Blob, *, path: str, streamed: bool = False) -> Json:
    """The document of a decoded blob, as plain JSON values.

    blob:     any.
    path:     of its source.
    streamed: as of `to_document`.
    """
    form, devices = _Form(False, streamed), blob.devices
    return {
        "schema": BLOB_SCHEMA,
        "source": {"path": path},
        "layout": blob.layout,
        "candidates": list(blob.candidates),
        "confidence": blob.confidence,
        "size": _hex(blob.size),
        "fields": {name: _plain(value) for name, value in blob.fields.items()},
        "devices": None if devices is None else _devices(devices, form),
        "buses": [_bus(bus) for bus in blob.buses],
        "records": [{name: _plain(value) for name, value in record.items()} for record in blob.records],
        "fdt": blob.fdt and fdt_document(blob.fdt),
        "notes": list(blob.notes),
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def _handover(handover: Handover, form: _Form) -> Json:
    document: Json = {
        "address": _hex(handover.address),
        "compatible": handover.compatible,
        "own": handover.own,
        "direction": handover.direction.value,
        "at_jump": handover.at_jump,
        "evidence": list(handover.evidence),
        "scratch": None
        if handover.scratch is None
        else [{"address": _hex(area.address), "size": _hex(area.size)} for area in handover.scratch],
        "scratch_array": _hex(handover.scratch_array),
        "preserved": _preserved(handover.preserved, form),
        "subtrees": [_subtree(subtree, form) for subtree in handover.subtrees],
        "luo": handover.luo and _luo(handover.luo, form),
        "pending": handover.pending and _pending(handover.pending, form),
        "pci": [_pci(devices, form) for devices in handover.pci],
        "memblock": handover.memblock and _memblock(handover.memblock),
        "kexec_metadata": handover.kexec_metadata and _kexec_metadata(handover.kexec_metadata),
        "kho_test": handover.kho_test and _kho_test(handover.kho_test, form),
    }
    if form.full:
        document["fdt"] = handover.fdt and fdt_document(handover.fdt)
    return document


def _preserved(preserved: Preserved, form: _Form) -> Json:
    found = preserved.map
    document: Json = {
        "form": preserved.form,
        "address": _hex(preserved.address),
        "status": preserved.status.value,
        "entries": None if found is None else found.entries,
        "pages": None if found is None else found.pages,
        "complete": None if found is None else found.complete,
    }
    if form.full:
        document["bitmap_size"] = preserved.bitmap_size
        document["nodes"] = [_hex(node) for node in preserved.nodes]
        document["bitmaps"] = [[_hex(address), order, _hex(start)] for address, order, start in preserved.bitmaps]
        document["extents"] = (
            None
            if found is None
            else form.rows(lambda: ([_hex(at), order, count] for at, order, count in found.extents()))
        )
    return document


def _subtree(subtree: Subtree, form: _Form) -> Json:
    document: Json = {"name": subtree.name, "address": _hex(subtree.address), "size": _hex(subtree.size)}
    document["detail"] = subtree.detail and _record(subtree.detail)
    document["page_tree"] = subtree.page_tree and _preserved(subtree.page_tree, form)
    if form.full:
        document["contents"] = [_contents(piece) for piece in subtree.contents]
        document["fdt"] = subtree.fdt and fdt_document(subtree.fdt)
    return document


def _luo(luo: Luo, form: _Form) -> Json:
    document: Json = {
        "layout": luo.layout,
        "compatible": luo.compatible,
        "address": _hex(luo.address),
        "liveupdate_number": luo.number,
        "serialized": luo.serialized,
        "sessions": _sessions(luo, form),
        "flbs": [_flb(flb, form) for flb in luo.flbs],
        "subsystems": [{"name": entry.name, "data": _hex(entry.data)} for entry in luo.subsystems],
    }
    if form.full:
        document["session_area"] = _hex(luo.session_area)
        document["session_blocks"] = [_hex(block) for block in luo.session_blocks]
        document["flb_area"] = _hex(luo.flb_area)
    return document


def _sessions(luo: Luo, form: _Form) -> list[Json]:
    made, said = [_session(session, form) for session in luo.sessions], user_space(luo)
    for index, words in said.items():
        made[index]["user_space"] = {
            "scheme": words.scheme.name,
            "by": words.by,
            "facts": list(words.facts),
            "entries": [
                {"what": entry.what, "token": _hex(entry.token), "session": entry.session} for entry in words.entries
            ],
            "notes": list(words.notes),
        }
    return made


def _session(session: Session, form: _Form) -> Json:
    document: Json = {
        "name": session.name,
        "address": _hex(session.address),
        "files": [_file(file, form) for file in session.files],
    }
    if form.full:
        document["count"] = session.count
        document["blocks"] = [_hex(block) for block in session.blocks]
    return document


def _file(file: File, form: _Form) -> Json:
    more = {"contents": [_contents(piece) for piece in file.contents]} if form.full else {}
    return {
        "compatible": file.compatible,
        "data": _hex(file.data),
        "token": _hex(file.token),
        "address": _hex(file.address),
        "memfd": file.memfd and _memfd(file.memfd, form),
        "detail": file.detail and _record(file.detail),
        **more,
    }


def _flb(flb: Flb, form: _Form) -> Json:
    more = {"contents": [_contents(piece) for piece in flb.contents]} if form.full else {}
    return {
        "name": flb.name,
        "data": _hex(flb.data),
        "count": flb.count,
        "address": _hex(flb.address),
        "detail": flb.detail and _record(flb.detail),
        **more,
    }


def _pending(pending: Pending, form: _Form) -> Json:
    document: Json = {
        "complete": pending.complete,
        "sessions": [_pending_session(session, form) for session in pending.sessions],
        "flbs": [
            {"name": flb.name, "count": flb.count, "data": _hex(flb.data), "address": _hex(flb.address)}
            for flb in pending.flbs
        ],
        "devices": [_pci(devices, form) for devices in pending.lists],
        "subtrees": list(pending.subtrees),
        "handlers": list(pending.handlers),
        "evidence": list(pending.evidence),
    }
    if form.full:
        document["blocks"] = [_hex(block) for block in pending.blocks]
    return document


def _pending_session(session: PendingSession, form: _Form) -> Json:
    document: Json = {
        "name": session.name,
        "address": _hex(session.address),
        "retrieved": session.retrieved,
        "files": [_pending_file(file, form) for file in session.files],
    }
    if form.full:
        document["blocks"] = [_hex(block) for block in session.blocks]
    return document


def _pending_file(file: PendingFile, form: _Form) -> Json:
    return {
        "compatible": file.compatible,
        "token": _hex(file.token),
        "data": _hex(file.data),
        "address": _hex(file.address),
        "private": _hex(file.private),
        "size": _hex(file.size),
        "position": _hex(file.position),
        "memfd": file.memfd and _memfd(file.memfd, form),
    }


def _memfd(memfd: Memfd, form: _Form) -> Json:
    document: Json = {
        "layout": memfd.layout,
        "address": _hex(memfd.address),
        "size": _hex(memfd.size),
        "position": _hex(memfd.position),
        "seals": memfd.seals,
        "folios": _folios(memfd.folios, form),
    }
    if form.full:
        document["flags"] = memfd.flags
        document["contents"] = [_contents(piece) for piece in memfd.contents]
    return document


def _folios(folios: Folios, form: _Form) -> Json:
    document: Json = {"count": folios.count, "address": _hex(folios.address)}
    if form.full:
        document |= {
            "total_pages": folios.total_pages,
            "flags": folios.flags,
            "order": folios.order,
            "chunks": [_hex(chunk) for chunk in folios.chunks],
            "pages": [_hex(page) for page in folios.pages],
            "list": form.rows(lambda: ([index, _hex(at), flags] for index, at, flags in folios.list.rows())),
        }
    return document


def _contents(piece: Contents) -> Json:
    return {"address": _hex(piece.address), "size": _hex(piece.size), "bytes": piece.data.hex()}


def _record(record: Record) -> Json:
    return {
        "address": _hex(record.address),
        "confidence": record.confidence,
        "readings": [
            {"layout": layout, "fields": {name: _plain(value) for name, value in fields.items()}}
            for layout, fields in record.readings
        ],
        "arrays": [
            {
                "member": array.member,
                "order": array.order,
                "chunks": [_hex(chunk) for chunk in array.chunks],
                "pages": [_hex(page) for page in array.pages],
                "words": [_hex(word) for word in array.words],
                "complete": array.complete,
            }
            for array in record.arrays
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Hex):
        return _hex(value)
    return value.hex() if isinstance(value, bytes) else value


def _pci(devices: PciList, form: _Form) -> Json:
    document: Json = {
        "layout": devices.layout,
        "candidates": list(devices.candidates),
        "address": _hex(devices.address),
        "via": list(devices.via),
        "confidence": devices.confidence,
        "devices": _devices(devices.devices, form),
    }
    if devices.buses:
        document["buses"] = [_bus(bus) for bus in devices.buses]
    if form.full:
        document["header"] = {name: _plain(value) for name, value in devices.header.items()}
        document["blocks"] = [_hex(block) for block in devices.blocks]
        document["slots"] = devices.devices.slots
        document["contents"] = [_contents(piece) for piece in devices.contents]
    return document


def _devices(devices: DeviceList, form: _Form) -> list[Json] | Rows:
    columns = {column.name: column for column in devices.columns}
    return form.rows(lambda: (_device(device, columns) for device in devices))


def _device(device: Device, columns: Mapping[str, Column]) -> Json:
    document: Json = {"index": device.index, "bdf": device.name}
    for name, value in device.fields.items():
        if name == "path":
            continue
        column = columns.get(name)
        if column is not None and column.kind == "records" and isinstance(value, tuple):
            document[name] = [_resource(item) for item in value]
        elif column is not None and column.is_hex and isinstance(value, int):
            document[name] = _hex(value)
        else:
            document[name] = value
        if column is not None and column.kind == "flags" and isinstance(value, int):
            document["flag_names"] = set_bits(value, column.bit_names)
    return document


def _resource(item: Mapping[str, Any]) -> Json:
    return {name: _hex(value) if isinstance(value, int) else value for name, value in item.items()}


def _bus(bus: Mapping[str, Any]) -> Json:
    document: Json = {"bus": bdf_text(bus["domain"], bus["number"] << 8)[:7]}
    for name, value in bus.items():
        document[name] = [_resource(item) for item in value] if name == "resource" else value
    return document


def _memblock(memblock: Memblock) -> Json:
    return {
        "address": _hex(memblock.address),
        "reservations": [
            {"name": entry.name, "start": _hex(entry.start), "size": _hex(entry.size)}
            for entry in memblock.reservations
        ],
    }


def _kexec_metadata(metadata: KexecMetadata) -> Json:
    return {
        "address": _hex(metadata.address),
        "version": metadata.version,
        "previous_release": metadata.previous_release,
        "kexec_count": metadata.kexec_count,
    }


def _kho_test(test: KhoTest, form: _Form) -> Json:
    document: Json = {
        "address": _hex(test.address),
        "magic": _hex(test.magic),
        "nr_folios": test.count,
        "checksum": _hex(test.checksum),
    }
    if form.full:
        document["folios"] = [[_hex(address), order] for address, order in test.folios]
        document["pages"] = [_hex(page) for page in test.pages]
        document["contents"] = [_contents(piece) for piece in test.contents]
    return document


def fdt_document(fdt: Fdt) -> Json:
    """A devicetree as plain JSON values, with header and strings block, so that it can be made again byte by byte."""
    header = fdt.header
    return {
        "totalsize": header.totalsize,
        "off_dt_struct": header.off_dt_struct,
        "off_dt_strings": header.off_dt_strings,
        "off_mem_rsvmap": header.off_mem_rsvmap,
        "size_dt_struct": header.size_dt_struct,
        "size_dt_strings": header.size_dt_strings,
        "strings": fdt.strings.hex(),
        "root": _node(fdt.root),
    }


def _node(node: Node) -> Json:
    return {
        "name": node.name.decode("utf-8", "surrogateescape"),
        "properties": [[name.decode("utf-8", "surrogateescape"), value.hex()] for name, value in node.properties],
        "nodes": [_node(child) for child in node.nodes],
    }
