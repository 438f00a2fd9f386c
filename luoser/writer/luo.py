# SPDX-License-Identifier: MIT
"""The Live Update Orchestrator's root object in every form, its sessions, files and FLBs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from luoser.abi import luo as abi
from luoser.abi.block import kho_block_header_ser
from luoser.abi.schema import Schema
from luoser.abi.values import struct_bytes
from luoser.errors import UsageError
from luoser.fdt import Fdt, Node, flatten, sequential
from luoser.state import File, Luo, Session
from luoser.text import encode_name, safe_text
from luoser.writer.image import Image
from luoser.writer.memfd import write_handle, write_record

__all__ = ["BLOCK_FORMS", "STRUCT_FORMS", "session_structs", "write_luo"]

STRUCT_FORMS: dict[str, Schema] = {
    "luo-v3": abi.luo_ser,
    "luo-v4": abi.luo_ser,
    "luo-v5": abi.luo_ser,
    "luo-composed": abi.luo_ser_composed,
    "luo-features": abi.luo_ser_features,
}
"""Forms whose root object is a struct; all others are devicetrees."""
BLOCK_FORMS = frozenset({"luo-v4", "luo-v5", "luo-composed", "luo-features"})
"""Forms whose sessions lie in KHO blocks; all others have one area of pages."""
_FILE_BLOCK_FORMS = frozenset({"luo-v5", "luo-composed", "luo-features"})
_ALL = 0b111


def session_structs(layout: str) -> tuple[Schema, Schema]:
    """(header, entry) of the session area of a form without blocks."""
    if layout == "luo-v1-session-v1":
        return abi.luo_session_header_ser_pgcnt, abi.luo_session_ser_pgcnt
    return abi.luo_session_header_ser, abi.luo_session_ser


def write_luo(image: Image, luo: Luo, tree: Fdt | None) -> None:
    """All of LUO's state. tree: the devicetree of the forms that have one, else None."""
    if luo.layout in STRUCT_FORMS:
        _write_root(image, luo, STRUCT_FORMS[luo.layout], luo.address)
    elif tree is None:
        raise UsageError(f"LUO at {luo.address:#x}: {luo.layout} is a devicetree; its sub-tree has none")
    elif luo.layout == "luo-v2":
        pointer = tree.root.u64("luo-abi-header")
        if pointer is None:
            raise UsageError(f"LUO at {luo.address:#x}: the devicetree of luo-v2 has no luo-abi-header")
        _write_root(image, luo, abi.luo_ser_v2, pointer)
    named = [session for session in luo.sessions if session.address is not None]
    if luo.layout in BLOCK_FORMS:
        _write_session_blocks(image, luo, named)
    elif luo.session_area:
        _write_session_area(image, luo, named)
    for session in luo.sessions:
        _write_files(image, luo, session)
    _write_flbs(image, luo)
    _write_file_descriptors(image, luo, tree)


def _write_root(image: Image, luo: Luo, schema: Schema, address: int) -> None:
    fields = {
        "compatible": luo.compatible,
        "liveupdate_num": luo.number or 0,
        "sessions_pa": luo.session_area or 0,
        "flbs_pa": luo.flb_area or 0,
        "features": {"supp": _ALL, "req": _ALL, "active": _ALL},
    }
    names = {field.name.split(".")[0] for field in schema.fields}
    what = f"LUO at {luo.address:#x}"
    data = struct_bytes(schema, {name: value for name, value in fields.items() if name in names}, what)
    image.put(address, data.ljust(image.page_size, b"\0"), "LUO")


# -- sessions ---------------------------------------------------------------------------------------------


def _session(luo: Luo, session: Session, entry: Schema) -> bytes:
    what = f"session {safe_text(session.name)}"
    files = session.blocks[0] if session.blocks else 0
    if entry is abi.luo_session_ser_pgcnt:
        pages = abi.FILES_PAGES if files else 0
        return struct_bytes(entry, {"name": session.name, "files": files, "pgcnt": pages, "count": session.count}, what)
    fields = {"name": session.name, "file_set_ser": {"files": files, "count": session.count}}
    return struct_bytes(entry, fields, what)


def _write_session_blocks(image: Image, luo: Luo, sessions: Sequence[Session]) -> None:
    entries = [(session.address or 0, _session(luo, session, abi.luo_session_ser)) for session in sessions]
    _write_blocks(image, luo.session_blocks, entries, abi.luo_session_ser.size, "LUO sessions")


def _write_blocks(
    image: Image, blocks: Sequence[int], entries: Iterable[tuple[int, bytes]], size: int, what: str
) -> None:
    """A chain of KHO blocks with entries at given addresses in them."""
    first = kho_block_header_ser.size
    slots: dict[int, dict[int, bytes]] = {block: {} for block in blocks}
    for address, data in entries:
        block = address - address % image.page_size
        slot, rest = divmod(address - block - first, size)
        if block not in slots or rest or slot < 0 or first + (slot + 1) * size > image.page_size:
            raise UsageError(f"{what}: {address:#x} is no place of an entry in one of its blocks")
        if slot in slots[block]:
            raise UsageError(f"{what}: two entries lie at {address:#x}")
        slots[block][slot] = data
    for index, block in enumerate(blocks):
        following = blocks[index + 1] if index + 1 < len(blocks) else 0
        count = max(slots[block], default=-1) + 1
        data = kho_block_header_ser.build({"next": following, "count": count})
        data += b"".join(slots[block].get(slot, bytes(size)) for slot in range(count))
        image.put(block, data.ljust(image.page_size, b"\0"), f"{what}, block")


def _write_session_area(image: Image, luo: Luo, sessions: Sequence[Session]) -> None:
    header, entry = session_structs(luo.layout)
    area = luo.session_area or 0
    room = abi.SESSION_PAGES * image.page_size
    data = bytearray(room)
    count = 0
    for session in sessions:
        slot, rest = divmod((session.address or 0) - area - header.size, entry.size)
        end = header.size + (slot + 1) * entry.size
        if rest or slot < 0 or end > room:
            raise UsageError(f"session {safe_text(session.name)}: {session.address:#x} is no place of an entry")
        if any(data[end - entry.size : end]):
            raise UsageError(f"session {safe_text(session.name)}: another one lies at {session.address:#x} as well")
        data[end - entry.size : end] = _session(luo, session, entry)
        count = max(count, slot + 1)
    data[: header.size] = struct_bytes(
        header,
        {"count": count, "pgcnt": abi.SESSION_PAGES} if "pgcnt" in header.record_fields else {"count": count},
        "LUO sessions",
    )
    image.put(area, bytes(data), "LUO sessions")


# -- files ------------------------------------------------------------------------------------------------


def _write_files(image: Image, luo: Luo, session: Session) -> None:
    what = f"session {safe_text(session.name)}"
    for file in session.files:
        write_handle(image, file, f"{what}, file {file.token:#x}")
    if session.address is None:
        return
    entries = [(file.address or 0, _file(file, what)) for file in session.files]
    size = abi.luo_file_ser.size
    if luo.layout in _FILE_BLOCK_FORMS:
        _write_blocks(image, session.blocks, entries, size, f"{what}, files")
    elif session.blocks:
        start, pages = session.blocks[0], abi.FILES_PAGES
        data = bytearray(pages * image.page_size)
        for address, raw in entries:
            place = address - start
            if place % size or not 0 <= place <= len(data) - size:
                raise UsageError(f"{what}: {address:#x} is no place of a file entry")
            if any(data[place : place + size]):
                raise UsageError(f"{what}: two file entries lie at {address:#x}")
            data[place : place + size] = raw
        image.put(start, bytes(data), f"{what}, files")


def _file(file: File, what: str) -> bytes:
    fields = {"compatible": file.compatible, "data": file.data, "token": file.token}
    return struct_bytes(abi.luo_file_ser, fields, f"{what}, file {file.token:#x}")


def _write_file_descriptors(image: Image, luo: Luo, tree: Fdt | None) -> None:
    """The files of the LUO of 2025 that have a devicetree of their own, named by a subsystem."""
    own = next((entry for entry in luo.subsystems if entry.name == abi.FILE_DESCRIPTORS_NODE and entry.data), None)
    if own is None or tree is None or tree.root.node(abi.FILE_DESCRIPTORS_NODE) is not None:
        return
    root = Node(b"", [(b"compatible", b"file-descriptors-v1\0")])
    for session in luo.sessions:
        for file in session.files if session.address is None else ():
            root.nodes.append(_descriptor(file))
    image.put(own.data, flatten(sequential(root)), "LUO file-descriptors")


def _descriptor(file: File) -> Node:
    properties = [(b"compatible", encode_name(file.compatible) + b"\0")]
    return Node(f"{file.token:x}".encode(), [*properties, (b"data", struct.pack("<Q", file.data))])


# -- FLBs -------------------------------------------------------------------------------------------------


def _write_flbs(image: Image, luo: Luo) -> None:
    if not luo.flb_area:
        return
    data = struct_bytes(abi.luo_flb_header_ser, {"pgcnt": 1, "count": len(luo.flbs)}, "LUO FLBs")
    for index, flb in enumerate(luo.flbs):
        place = luo.flb_area + abi.luo_flb_header_ser.size + index * abi.luo_flb_ser.size
        what = f"FLB {safe_text(flb.name)}"
        if flb.address != place:
            raise UsageError(f"{what}: its address is {flb.address:#x}, expected {place:#x}: FLBs lie side by side")
        data += struct_bytes(abi.luo_flb_ser, {"name": flb.name, "data": flb.data, "count": flb.count}, what)
        if flb.detail is not None:
            write_record(image, flb.detail, what)
    if len(data) > image.page_size:
        raise UsageError(f"LUO FLBs: {len(luo.flbs)} do not fit one page")
    image.put(luo.flb_area, data.ljust(image.page_size, b"\0"), "LUO FLBs")
