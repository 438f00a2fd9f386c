# SPDX-License-Identifier: MIT
"""The Live Update Orchestrator's root object in every form, its sessions, files and FLBs."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from luoser.abi import luo as abi
from luoser.abi.luo import LuoForm
from luoser.abi.schema import Schema
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import UsageError
from luoser.fdt import Fdt, Node, flatten, sequential
from luoser.state import File, Luo, Session
from luoser.state.from_json import Item
from luoser.text import encode_name, safe_text
from luoser.writer.block import write_blocks
from luoser.writer.handler import write_contents, write_handle, write_record
from luoser.writer.image import Image
from luoser.writer.tree_values import text, u64

__all__ = ["luo_tree", "write_luo"]

_ALL = 0b111


def write_luo(image: Image, luo: Luo, tree: Fdt | None) -> None:
    """Write LUO's state.

    image: to write to.
    luo:   the state.
    tree:  devicetree of LUO. None: a form without one.

    Raises UsageError if the state is inconsistent.
    """
    form = abi.form(luo.layout)
    if form is None:
        raise UsageError(f"LUO at {luo.address:#x}: unknown form {safe_text(luo.layout)}")
    if form.root is not None:
        _write_root(image, luo, form.root, luo.address)
    elif tree is None:
        raise UsageError(
            f"LUO at {luo.address:#x}: expected a devicetree in its sub-tree, as of {luo.layout}, found none"
        )
    elif form.pointed is not None:
        pointer = tree.root.u64("luo-abi-header")
        if pointer is None:
            raise UsageError(
                f"LUO at {luo.address:#x}: expected luo-abi-header in the devicetree of {form.name}, found none"
            )
        _write_root(image, luo, form.pointed, pointer)
    named = [session for session in luo.sessions if session.address is not None]
    if form.sessions == "blocks":
        _write_session_blocks(image, luo, form, named)
    elif luo.session_area and form.session_header is not None:
        _write_session_area(image, luo, form, form.session_header, named)
    for session in luo.sessions:
        _write_files(image, form, session)
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


def _session(session: Session, form: LuoForm) -> bytes:
    entry = form.session
    what = f"session {safe_text(session.name)}"
    files = session.blocks[0] if session.blocks else 0
    if entry is abi.luo_session_ser_pgcnt:
        pages = form.file_pages if files else 0
        return struct_bytes(entry, {"name": session.name, "files": files, "pgcnt": pages, "count": session.count}, what)
    fields = {"name": session.name, "file_set_ser": {"files": files, "count": session.count}}
    return struct_bytes(entry, fields, what)


def _write_session_blocks(image: Image, luo: Luo, form: LuoForm, sessions: Sequence[Session]) -> None:
    entries = [(session.address or 0, _session(session, form)) for session in sessions]
    write_blocks(image, luo.session_blocks, entries, form.session.size, "LUO sessions")


def _write_session_area(image: Image, luo: Luo, form: LuoForm, header: Schema, sessions: Sequence[Session]) -> None:
    entry, area = form.session, luo.session_area or 0
    room = form.session_pages * image.page_size
    data = bytearray(room)
    count = 0
    for session in sessions:
        slot, rest = divmod((session.address or 0) - area - header.size, entry.size)
        end = header.size + (slot + 1) * entry.size
        if rest or slot < 0 or end > room:
            raise UsageError(f"session {safe_text(session.name)}: {session.address:#x} is not the address of an entry")
        if any(data[end - entry.size : end]):
            raise UsageError(
                f"session {safe_text(session.name)}: another one has the address {session.address:#x}, too"
            )
        data[end - entry.size : end] = _session(session, form)
        count = max(count, slot + 1)
    data[: header.size] = struct_bytes(
        header,
        {"count": count, "pgcnt": form.session_pages} if "pgcnt" in header.record_fields else {"count": count},
        "LUO sessions",
    )
    image.put(area, bytes(data), "LUO sessions")


# -- files ------------------------------------------------------------------------------------------------


def _write_files(image: Image, form: LuoForm, session: Session) -> None:
    what = f"session {safe_text(session.name)}"
    for file in session.files:
        write_handle(image, file, f"{what}, file {file.token:#x}")
    if session.address is None:
        return
    entries = [(file.address or 0, _file(file, what)) for file in session.files]
    size = abi.luo_file_ser.size
    if form.files == "blocks":
        write_blocks(image, session.blocks, entries, size, f"{what}, files")
    elif session.blocks:
        start, pages = session.blocks[0], form.file_pages
        data = bytearray(pages * image.page_size)
        for address, raw in entries:
            place = address - start
            if place % size or not 0 <= place <= len(data) - size:
                raise UsageError(f"{what}: {address:#x} is not the address of a file entry")
            if any(data[place : place + size]):
                raise UsageError(f"{what}: two file entries have the address {address:#x}")
            data[place : place + size] = raw
        image.put(start, bytes(data), f"{what}, files")


def _file(file: File, what: str) -> bytes:
    fields = {"compatible": file.compatible, "data": file.data, "token": file.token}
    return struct_bytes(abi.luo_file_ser, fields, f"{what}, file {file.token:#x}")


def _write_file_descriptors(image: Image, luo: Luo, tree: Fdt | None) -> None:
    """Write the files of the LUO of 2025 in a separate devicetree, whose address is that of a subsystem."""
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
            raise UsageError(
                f"{what}: expected address {place:#x}, right after the previous FLB, found {flb.address:#x}"
            )
        data += struct_bytes(abi.luo_flb_ser, {"name": flb.name, "data": flb.data, "count": flb.count}, what)
        if flb.detail is not None:
            write_record(image, flb.detail, what)
            write_contents(image, flb.contents, what)
        elif flb.contents:
            write_contents(image, flb.contents, what)
    if len(data) > image.page_size:
        raise UsageError(f"LUO FLBs: {len(luo.flbs)} do not fit one page")
    image.put(luo.flb_area, data.ljust(image.page_size, b"\0"), "LUO FLBs")


# -- the devicetree ---------------------------------------------------------------------------------------


def luo_tree(luo: Item, form: LuoForm, pointer: int) -> Node:
    """The devicetree of LUO's root object, in forms that have one.

    luo:     a description.
    form:    of LUO.
    pointer: physical address of the struct that luo-v2 has, else unused.

    Source: kernel/liveupdate/luo_core.c; docs/abi/luo.md.
    """
    root = Node(b"", [(b"compatible", text(form.compatible or ""))])
    if form.pointed is not None:
        root.properties.append((b"luo-abi-header", u64(pointer)))
        return root
    number = luo.maybe("liveupdate_number")
    if number is not None:
        root.properties.append((b"liveupdate-number", u64(number)))
    if form.session_version is None:
        node = Node(b"subsystems", [(b"compatible", text("subsystems-v1"))])
        entries = luo.items("subsystems")
        node.properties += [(encode_name(entry.text("name")), u64(entry.number("data", 0))) for entry in entries]
        root.nodes.append(node)
        return root
    area = u64(luo.number("session_area", 0))
    root.nodes.append(
        Node(b"luo-session", [(b"compatible", text(form.session_version)), (b"luo-session-header", area)])
    )
    flbs = luo.maybe("flb_area")
    if flbs is not None:
        root.nodes.append(
            Node(b"luo-flb", [(b"compatible", text(abi.FLB_VERSIONS[0])), (b"luo-flb-header", u64(flbs))])
        )
    return root
