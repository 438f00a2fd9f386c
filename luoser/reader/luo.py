# SPDX-License-Identifier: MIT
"""The Live Update Orchestrator: its root object in every form, sessions, files, FLBs, subsystems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luoser.abi import luo as abi
from luoser.abi.schema import Schema
from luoser.fdt import MAGIC, Fdt, Node
from luoser.limits import LIMITS
from luoser.reader.handler import read_detail, read_flb_detail
from luoser.reader.memfd import is_memfd, read_memfd
from luoser.reader.walk import Walk, is_name
from luoser.state import File, Flb, Luo, Session, Subsystem
from luoser.text import decode_name, safe_text

__all__ = ["read_luo"]


def read_luo(walk: Walk, address: int, size: int | None) -> Luo | None:
    """The LUO root object at an address; None and a problem when the page holds something else.

    size: blob-size in bytes where the root gives one.
    """
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, f"sub-tree LUO: {address:#x} is no page address")
        return None
    whole = abi.luo_ser_features.size
    head = walk.read(address, size if size and abi.luo_ser.size <= size < whole else whole, "sub-tree LUO")
    if head is None:
        return None
    if head[:4] == MAGIC:
        tree = walk.fdt(address, "sub-tree LUO")
        return None if tree is None else _Reader(walk, "").fdt_form(address, tree)
    return _struct_form(walk, address, head, size)


def _struct_form(walk: Walk, address: int, head: bytes, size: int | None) -> Luo | None:
    layout, schema = _struct_layout(head, size)
    if schema is None:
        walk.problem(
            "luo-reused",
            address,
            f"sub-tree LUO: expected luo-v5 or a devicetree, found '{safe_text(head[:16])}'; "
            "the next kernel frees this page once it has read it",
        )
        return None
    ser = schema.parse(head)
    compatible = decode_name(ser.compatible) if "compatible" in ser else None
    return _Reader(walk, layout).struct(address, compatible, ser)


def _struct_layout(head: bytes, size: int | None) -> tuple[str, Schema | None]:
    name = head[:16].split(b"\0", 1)[0]
    if name.startswith(b"luo-v") and name.isascii():
        text = name.decode()
        if ";" in text and is_name(head[:16]):
            return "luo-composed", abi.luo_ser_composed
        short = head[:8].split(b"\0", 1)[0].decode()
        return (short if short in ("luo-v3", "luo-v4", "luo-v5") else "luo-v5"), abi.luo_ser
    if size == abi.luo_ser_features.size:
        header = abi.luo_feature_hdr.parse(head)
        if (
            not any(header.reserved)
            and header.supp
            and not header.req & ~header.supp
            and not header.active & ~header.supp
        ):
            return "luo-features", abi.luo_ser_features
    return "", None


@dataclass(slots=True)
class _Found:
    """Sessions as read. blocks: the pages they came from. said: whether a pointer or count says that there are some."""

    sessions: list[Session]
    blocks: list[int]
    said: bool = False


class _Reader:
    """One LUO instance. layout: luo-v1 for FDT forms, else the struct form's name."""

    def __init__(self, walk: Walk, layout: str) -> None:
        self.walk, self.layout = walk, layout
        self.said_flbs = False

    # -- root objects --

    def struct(self, address: int, compatible: str | None, ser: Any) -> Luo:
        if self.layout == "luo-v3":
            found = self._session_area(ser.sessions_pa, abi.luo_session_header_ser, abi.luo_session_ser)
        else:
            found = self._session_blocks(ser.sessions_pa)
        return self._luo(address, compatible, ser.liveupdate_num, found, self._flbs(ser.flbs_pa), flb_area=ser.flbs_pa,
                         session_area=ser.sessions_pa or None)  # fmt: skip

    def fdt_form(self, address: int, tree: Fdt) -> Luo | None:
        compatible = (tree.root.text("compatible") or b"").decode("utf-8", "surrogateescape")
        if not compatible.startswith("luo-v"):
            self.walk.problem(
                "luo-reused",
                address,
                f"sub-tree LUO: devicetree with compatible '{safe_text(compatible)}', expected luo-v1",
            )
            return None
        pointer = tree.root.u64("luo-abi-header")
        if pointer is not None:
            return self._v2(address, compatible, pointer, tree)
        root = tree.root
        found, area = self._fdt_sessions(root)
        flb_area = self._property(root.node("luo-flb"), "luo-flb-header")
        self.layout = self._fdt_layout(root)
        subsystems = tuple(self._subsystems(root))
        handlers = tuple(self._file_descriptors(root, subsystems))
        if handlers:
            found.sessions.append(Session(name="", address=None, files=handlers, count=len(handlers)))
        number = root.u64("liveupdate-number")
        if number is None and root.node(abi.SUBSYSTEMS_NODE) is None:
            self.walk.problem("luo-no-number", address, "sub-tree LUO: no 8-byte liveupdate-number")
        flbs = self._flbs(flb_area) if flb_area else ()
        return self._luo(address, compatible, number, found, flbs, subsystems=subsystems, session_area=area,
                         flb_area=flb_area, fdt=tree)  # fmt: skip

    def _v2(self, address: int, compatible: str, pointer: int, tree: Fdt) -> Luo | None:
        data = (
            self.walk.read(pointer, abi.luo_ser_v2.size, "luo-v2 header")
            if self.walk.is_page_address(pointer)
            else None
        )
        if data is None:
            self.walk.problem("bad-pointer", pointer, f"luo-v2 header at {pointer:#x} cannot be read")
            return None
        ser = abi.luo_ser_v2.parse(data)
        self.layout = "luo-v2"
        found = self._session_area(ser.sessions_pa, abi.luo_session_header_ser, abi.luo_session_ser)
        return self._luo(address, compatible, ser.liveupdate_num, found, self._flbs(ser.flbs_pa),
                         session_area=ser.sessions_pa, flb_area=ser.flbs_pa, fdt=tree)  # fmt: skip

    def _luo(self, address: int, compatible: str | None, number: int | None, found: _Found, flbs: tuple[Flb, ...],
             *, subsystems: tuple[Subsystem, ...] = (), session_area: int | None = None,
             flb_area: int | None = None, fdt: Fdt | None = None) -> Luo:  # fmt: skip
        return Luo(
            layout=self.layout,
            compatible=compatible,
            address=address,
            number=number,
            serialized=bool(
                found.sessions or found.said or self.said_flbs or flbs or any(entry.data for entry in subsystems)
            ),
            sessions=tuple(found.sessions),
            flbs=flbs,
            subsystems=subsystems,
            session_area=session_area,
            session_blocks=tuple(found.blocks),
            flb_area=flb_area,
            fdt=fdt,
        )

    # -- sessions --

    def _fdt_layout(self, root: Node) -> str:
        if root.node(abi.SUBSYSTEMS_NODE) is not None or root.node(abi.FILE_DESCRIPTORS_NODE) is not None:
            return "luo-v1-subsystems"
        session = root.node("luo-session")
        if session is not None and session.text("compatible") == b"luo-session-v1":
            return "luo-v1-session-v1"
        return "luo-v1-flb" if root.node("luo-flb") is not None else "luo-v1"

    def _fdt_sessions(self, root: Node) -> tuple[_Found, int | None]:
        node = root.node("luo-session") or root.node("sessions")
        area = self._property(node, "luo-session-header") or self._property(node, "luo-session-head")
        if node is None or not area:
            return _Found([], []), area
        if node.text("compatible") == b"luo-session-v1":
            return self._session_area(area, abi.luo_session_header_ser_pgcnt, abi.luo_session_ser_pgcnt), area
        return self._session_area(area, abi.luo_session_header_ser, abi.luo_session_ser), area

    def _property(self, node: Node | None, name: str) -> int | None:
        return node.u64(name) if node is not None else None

    def _session_area(self, address: int, header: Schema, entry: Schema) -> _Found:
        """A header with a count, then entries in contiguous pages."""
        found = _Found([], [])
        if not address:
            return found
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, f"LUO sessions: {address:#x} is no page address")
            return found
        head = self.walk.read(address, header.size, "LUO sessions")
        if head is None:
            return found
        ser = header.parse(head)
        found.said = ser.count > 0
        pages = ser.get("pgcnt") or abi.SESSION_PAGES
        most = (min(pages, 1 << 12) * self.walk.page_size - header.size) // entry.size
        if ser.count > most:
            self.walk.problem(
                "bad-count", address, f"LUO sessions: {ser.count} in the header, at most {most} fit; reused memory?"
            )
            return found
        data = self.walk.read_some(address + header.size, ser.count * entry.size, "LUO sessions")
        found.blocks.append(address)
        self._sessions(found, address + header.size, data, entry)
        return found

    def _session_blocks(self, address: int) -> _Found:
        found = _Found([], [], said=address != 0)
        for page in self.walk.blocks(address, abi.luo_session_ser, "LUO sessions"):
            found.blocks.append(page.address)
            self._sessions(found, page.address + 16, page.entries, abi.luo_session_ser)
        return found

    def _sessions(self, found: _Found, address: int, data: bytes, entry: Schema) -> None:
        for place in range(0, self.walk.take_entries(len(data) // entry.size, "LUO sessions") * entry.size, entry.size):
            raw = data[place : place + entry.size]
            ser = entry.parse(raw)
            where = address + place
            if not any(raw):
                if entry is abi.luo_session_ser:
                    self.walk.problem("empty-session", where, "LUO sessions: an entry of zeros, expected a session")
                continue
            if not is_name(ser.name, empty=True):
                self.walk.problem("bad-session", where, f"LUO sessions: no session name at {where:#x}; reused memory?")
                continue
            if not ser.name[0]:
                self.walk.problem(
                    "unnamed-session", where, "LUO session without a name: caught while it was serialised?"
                )
            found.sessions.append(self._session(where, ser))

    def _session(self, where: int, ser: Any) -> Session:
        name = decode_name(ser.name)
        set_ser = ser.get("file_set_ser") or ser
        blocks: list[int] = []
        files = tuple(self._files(name, set_ser.files, set_ser.count, ser.get("pgcnt"), blocks))
        if len(files) != set_ser.count:
            self.walk.problem(
                "file-count",
                where,
                f"session {safe_text(name)}: {set_ser.count} files in the entry, {len(files)} could be read",
            )
        return Session(name=name, address=where, files=files, count=set_ser.count, blocks=tuple(blocks))

    # -- files --

    def _files(self, session: str, address: int, count: int, pages: int | None, blocks: list[int]) -> Iterator[File]:
        what = f"session {safe_text(session)}, files"
        if not address or not count:
            return
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, f"{what}: {address:#x} is no page address")
            return
        if self.layout in ("luo-v5", "luo-composed", "luo-features"):
            for page in self.walk.blocks(address, abi.luo_file_ser, what):
                blocks.append(page.address)
                yield from self._file_entries(session, page.address + 16, page.entries)
            return
        most = (pages or abi.FILES_PAGES) * self.walk.page_size // abi.luo_file_ser.size
        if count > most:
            self.walk.problem("bad-count", address, f"{what}: {count} files, at most {most} fit; reused memory?")
            return
        if not self.walk.claim(address, what):
            return
        blocks.append(address)
        data = self.walk.read_some(address, min(count * abi.luo_file_ser.size, LIMITS.list_size), what)
        yield from self._file_entries(session, address, data)

    def _file_entries(self, session: str, address: int, data: bytes) -> Iterator[File]:
        size = abi.luo_file_ser.size
        count = self.walk.take_entries(len(data) // size, "LUO files")
        for number, row in enumerate(abi.luo_file_ser.record.iter_unpack(data[: count * size])):
            raw, handle, token = row
            where = address + number * size
            if not is_name(raw):
                self.walk.problem(
                    "bad-file", where, f"session {safe_text(session)}: no file entry at {where:#x}; reused memory?"
                )
                continue
            yield self._file(session, decode_name(raw), handle, token, where)

    def _file(self, session: str, compatible: str, handle: int, token: int, where: int | None) -> File:
        what = f"session {safe_text(session)}, file {token:#x}"
        memfd = read_memfd(self.walk, compatible, handle, what) if is_memfd(compatible) else None
        detail = None if is_memfd(compatible) else read_detail(self.walk, compatible, handle, what)
        return File(compatible=compatible, data=handle, token=token, address=where, memfd=memfd, detail=detail)

    def _file_descriptors(self, root: Node, subsystems: tuple[Subsystem, ...]) -> Iterator[File]:
        """Files of the LUO of 2025: nodes of the root (RFC v2) or of a devicetree of their own (v2, v3)."""
        node = root.node(abi.FILE_DESCRIPTORS_NODE)
        if node is None:
            own = next((entry for entry in subsystems if entry.name == abi.FILE_DESCRIPTORS_NODE and entry.data), None)
            if own is None or not self.walk.is_page_address(own.data):
                return
            tree = self.walk.fdt(own.data, "LUO file-descriptors")
            if tree is None:
                return
            node = tree.root
        for child in node.nodes:
            compatible, data = child.text("compatible"), child.u64("data")
            try:
                token = int(child.name, 16)
            except ValueError:
                token = -1
            if compatible is None or data is None or not 0 <= token < 1 << 64:
                self.walk.problem(
                    "bad-file", None, f"LUO file-descriptors: node {safe_text(child.name)} is no preserved file"
                )
                continue
            if data:  # 0 is the placeholder that stands there until LUO writes the values
                yield self._file("", decode_name(compatible), data, token, None)

    # -- FLBs and subsystems --

    def _flbs(self, address: int) -> tuple[Flb, ...]:
        what = "LUO FLBs"
        if not address:
            return ()
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, f"{what}: {address:#x} is no page address")
            return ()
        head = self.walk.read(address, abi.luo_flb_header_ser.size, what)
        if head is None:
            return ()
        ser, size = abi.luo_flb_header_ser.parse(head), abi.luo_flb_ser.size
        most = (self.walk.page_size - len(head)) // size
        if ser.pgcnt != 1 or ser.count > most:
            self.walk.problem(
                "bad-count", address, f"{what}: {ser.count} in {ser.pgcnt} pages, at most {most} in one; reused memory?"
            )
            return ()
        self.said_flbs = ser.count > 0
        data = self.walk.read(address + len(head), ser.count * size, what) or b""
        return tuple(self._flb_entries(address + len(head), data))

    def _flb_entries(self, address: int, data: bytes) -> Iterator[Flb]:
        for number, (raw, handle, count) in enumerate(abi.luo_flb_ser.record.iter_unpack(data)):
            where = address + number * abi.luo_flb_ser.size
            if not is_name(raw):
                self.walk.problem("bad-flb", where, f"LUO FLBs: no FLB entry at {where:#x}; reused memory?")
                continue
            name = decode_name(raw)
            detail = read_flb_detail(self.walk, name, handle, f"FLB {safe_text(name)}")
            yield Flb(name=name, data=handle, count=count, address=where, detail=detail)

    def _subsystems(self, root: Node) -> Iterator[Subsystem]:
        node = root.node(abi.SUBSYSTEMS_NODE)
        for name, value in node.properties if node is not None else ():
            if name != b"compatible" and len(value) == 8:
                yield Subsystem(name=decode_name(name), data=int.from_bytes(value, "little"))
