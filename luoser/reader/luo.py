# SPDX-License-Identifier: MIT
"""The Live Update Orchestrator: its root object in every form, sessions, files, FLBs, subsystems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from luoser.abi import luo as abi
from luoser.abi.luo import LuoForm
from luoser.abi.schema import Schema
from luoser.bits import is_zero
from luoser.errors import MissingMemory
from luoser.fdt import MAGIC, Fdt, Node
from luoser.limits import LIMITS
from luoser.reader.block import read_blocks
from luoser.reader.handler import read_detail, read_flb_detail
from luoser.reader.kept import keep_struct, keep_tree, values_of
from luoser.reader.memfd import is_memfd, read_memfd
from luoser.reader.plausible import is_name
from luoser.reader.walk import Subject, Walk
from luoser.state import File, Flb, Luo, Session, Subsystem
from luoser.text import bytes_text, decode_name, safe_text

__all__ = ["read_luo"]

_LUO = Subject("sub-tree LUO", "luo")
_SESSIONS = Subject("LUO sessions", "luo.sessions")
_FLBS = Subject("LUO FLBs", "luo.flbs")
_STRUCT_PREFIX = b"luo-v"
_MOST_PAGES = 1 << 12
"""Largest plausible session area, in pages."""


def read_luo(walk: Walk, address: int, size: int | None) -> Luo | None:
    """LUO's state, from its root object. None, with a problem: no root object at the address.

    walk:    the source.
    address: of the root object.
    size:    blob-size in bytes. None: the root does not have it.

    Source: kernel/liveupdate/luo_core.c; docs/abi/luo.md.
    """
    if not walk.is_page_address(address):
        walk.problem("bad-pointer", address, _LUO, f"{address:#x} is not a page address")
        return None
    least, whole = abi.luo_ser.size, abi.luo_ser_features.size
    wanted = size if size and least <= size < whole else whole
    head = walk.read(address, wanted, _LUO, kind=lambda page: page.startswith((_STRUCT_PREFIX, MAGIC)))
    if head is None:
        return None
    if head[:4] == MAGIC:
        tree = walk.fdt(address, _LUO, keep=_Kept(walk, _LUO))
        return None if tree is None else _tree_luo(walk, address, tree)
    form = _struct_form(head, size)
    if form is None:
        text = f"expected luo-v5 or a devicetree, found '{safe_text(head[:16])}'"
        walk.problem("luo-reused", address, _LUO, f"{text}; the next kernel frees this page after reading it")
        return None
    assert form.root is not None
    if len(head) < form.root.size:  # blob-size is too small, which says nothing about the memory
        head = walk.read(address, form.root.size, _LUO)
    return None if head is None else _struct_luo(walk, address, form, head)


_OF_LUO = values_of()


class _Kept:
    """Notes that a devicetree of LUO is kept: strings that say what it is, and numbers."""

    def __init__(self, walk: Walk, subject: Subject) -> None:
        self.walk, self.subject = walk, subject

    def __call__(self, address: int, data: bytes, tree: Fdt) -> None:
        keep_tree(self.walk, address, data, tree, self.subject, self.is_kept)

    @staticmethod
    def is_kept(name: bytes, value: bytes) -> bool:
        """Whether the value of a property is kept."""
        return len(value) == 8 or _OF_LUO(name, value)


def _struct_form(head: bytes, size: int | None) -> LuoForm | None:
    """The form of a root object that is a struct; luo-v5 for an unknown version. None: not a root object."""
    name = head[:16].split(b"\0", 1)[0]
    if name.startswith(_STRUCT_PREFIX) and name.isascii():
        if b";" in name and is_name(head[:16]):
            return abi.form("luo-composed")
        short = abi.form(head[:8].split(b"\0", 1)[0].decode())
        return short if short is not None and short.root is abi.luo_ser else abi.form("luo-v5")
    if size == abi.luo_ser_features.size:
        header = abi.luo_feature_hdr.parse(head)
        unknown = (header.req | header.active) & ~header.supp
        if header.supp and not unknown and not any(header.reserved):
            return abi.form("luo-features")
    return None


def _tree_form(root: Node) -> LuoForm | None:
    """The form of a root object that is a devicetree."""
    session = root.node("luo-session")
    if root.node(abi.SUBSYSTEMS_NODE) is not None or root.node(abi.FILE_DESCRIPTORS_NODE) is not None:
        return abi.form("luo-v1-subsystems")
    if session is not None and session.text("compatible") == b"luo-session-v1":
        return abi.form("luo-v1-session-v1")
    return abi.form("luo-v1-flb" if root.node("luo-flb") is not None else "luo-v1")


@dataclass(slots=True)
class _Found:
    """Sessions as read. blocks: addresses of pages. said: whether a pointer or count shows that there are some."""

    sessions: list[Session]
    blocks: list[int]
    said: bool = False


def _struct_luo(walk: Walk, address: int, form: LuoForm, head: bytes) -> Luo:
    assert form.root is not None
    ser = form.root.parse(head)
    keep_struct(walk, address, form.root, _LUO)
    compatible = decode_name(ser.compatible) if "compatible" in ser else None
    if "compatible" in ser and not is_name(ser.compatible):
        text = f"compatible: expected a string and zeros, found {bytes_text(ser.compatible)}"
        walk.problem("luo-bad-string", address, _LUO, text)
    return _Reader(walk, form).root_object(address, compatible, ser)


def _tree_luo(walk: Walk, address: int, tree: Fdt) -> Luo | None:
    compatible = (tree.root.text("compatible") or b"").decode("utf-8", "surrogateescape")
    if not compatible.startswith(_STRUCT_PREFIX.decode()):
        text = f"devicetree: expected compatible luo-v1, found '{safe_text(compatible)}'"
        walk.problem("luo-reused", address, _LUO, text)
        return None
    pointer = tree.root.u64("luo-abi-header")
    if pointer is not None:
        return _pointed_luo(walk, address, compatible, pointer, tree)
    form = _tree_form(tree.root)
    assert form is not None
    return _Reader(walk, form).tree(address, compatible, tree)


def _pointed_luo(walk: Walk, address: int, compatible: str, pointer: int, tree: Fdt) -> Luo | None:
    """luo-v2: the devicetree has the address of a struct."""
    form = abi.form("luo-v2")
    assert form is not None and form.pointed is not None
    data = walk.read(pointer, form.pointed.size, _LUO) if walk.is_page_address(pointer) else None
    if data is None:
        walk.problem("bad-pointer", pointer, _LUO, f"luo-v2 header at {pointer:#x} cannot be read")
        return None
    keep_struct(walk, pointer, form.pointed, _LUO)
    return replace(_Reader(walk, form).root_object(address, compatible, form.pointed.parse(data)), fdt=tree)


class _Reader:
    """Reads one LUO of one form."""

    def __init__(self, walk: Walk, form: LuoForm) -> None:
        self.walk, self.form = walk, form
        self.session, self.file = walk.form(form.session), walk.form(abi.luo_file_ser)
        self.said_flbs = False

    # -- root objects --

    def root_object(self, address: int, compatible: str | None, ser: Any) -> Luo:
        """From the struct of the root object."""
        found = self._sessions(ser.sessions_pa)
        return self._luo(address, compatible, ser.liveupdate_num, found, self._flbs(ser.flbs_pa), flb_area=ser.flbs_pa,
                         session_area=ser.sessions_pa or None)  # fmt: skip

    def tree(self, address: int, compatible: str, tree: Fdt) -> Luo:
        """From the devicetree that is the root object."""
        root = tree.root
        node = root.node("luo-session") or root.node("sessions")
        area = _property(node, "luo-session-header") or _property(node, "luo-session-head")
        is_first = node is not None and node.text("compatible") == b"luo-session-v1"
        found = self._session_area(area or 0, abi.form("luo-v1-session-v1") if is_first else self.form)
        flb_area = _property(root.node("luo-flb"), "luo-flb-header")
        subsystems = tuple(_subsystems(root))
        files = tuple(self._file_descriptors(root, subsystems, Subject("LUO file-descriptors", _at(found.sessions))))
        if files:
            found.sessions.append(Session(name="", address=None, files=files, count=len(files)))
        number = root.u64("liveupdate-number")
        if number is None and root.node(abi.SUBSYSTEMS_NODE) is None:
            self.walk.problem("luo-no-number", address, _LUO, "no 8-byte liveupdate-number")
        flbs = self._flbs(flb_area) if flb_area else ()
        return self._luo(address, compatible, number, found, flbs, subsystems=subsystems, session_area=area,
                         flb_area=flb_area, fdt=tree)  # fmt: skip

    def _luo(self, address: int, compatible: str | None, number: int | None, found: _Found, flbs: tuple[Flb, ...],
             *, subsystems: tuple[Subsystem, ...] = (), session_area: int | None = None,
             flb_area: int | None = None, fdt: Fdt | None = None) -> Luo:  # fmt: skip
        return Luo(
            layout=self.form.name,
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

    def _sessions(self, pointer: int) -> _Found:
        if self.form.sessions == "blocks":
            return self._session_blocks(pointer)
        return self._session_area(pointer, self.form)

    def _session_area(self, address: int, form: LuoForm | None) -> _Found:
        """A header with a count, then entries in contiguous pages."""
        found = _Found([], [])
        if not address or form is None or form.session_header is None:
            return found
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, _SESSIONS, f"{address:#x} is not a page address")
            return found
        header, entry = self.walk.form(form.session_header), self.walk.form(form.session)
        size = entry.size
        head = self.walk.read(address, header.size, _SESSIONS, kind=lambda page: _is_area(page, header, entry))
        if head is None:
            return found
        ser = header.parse(head)
        keep_struct(self.walk, address, header, _SESSIONS)
        found.said = form.has_sessions(address, ser.count)
        pages = ser.get("pgcnt") or form.session_pages
        most = (min(pages, _MOST_PAGES) * self.walk.page_size - header.size) // size
        if ser.count > most:
            text = f"count in the header: expected at most {most}, found {ser.count}; reused memory?"
            self.walk.problem("bad-count", address, _SESSIONS, text)
            return found
        data = self.walk.read_some(address + header.size, ser.count * size, _SESSIONS)
        self._need_zeros(address + len(head) + len(data), size, address + pages * self.walk.page_size, _SESSIONS)
        found.blocks.append(address)
        self._session_entries(found, address + header.size, data, form)
        return found

    def _session_blocks(self, address: int) -> _Found:
        found = _Found([], [], said=self.form.has_sessions(address, 0))
        for page in read_blocks(self.walk, address, self.session, _SESSIONS):
            found.blocks.append(page.address)
            self.walk.keep(page.address, page.first - page.address, _SESSIONS)
            self._session_entries(found, page.first, page.entries, self.form)
        return found

    def _session_entries(self, found: _Found, address: int, data: bytes, form: LuoForm) -> None:
        schema = self.walk.form(form.session)
        size = schema.size
        for place in range(0, self.walk.take_entries(len(data) // size, _SESSIONS) * size, size):
            raw, where = data[place : place + size], address + place
            ser = schema.parse(raw)
            if not any(raw):
                if form.session is abi.luo_session_ser:  # before the merge a released session is all zeros
                    self.walk.problem("empty-session", where, _SESSIONS, "expected a session, found an entry of zeros")
            elif not is_name(ser.name, empty=True):
                text = f"not a session name at {where:#x}; reused memory?"
                self.walk.problem("bad-session", where, _SESSIONS, text)
            else:
                keep_struct(self.walk, where, schema, Subject(_SESSIONS.name, _at(found.sessions)), name="name")
                found.sessions.append(self._session(where, ser, _at(found.sessions)))

    def _session(self, where: int, ser: Any, path: str) -> Session:
        name = decode_name(ser.name)
        subject = Subject(f"session {safe_text(name)}", path)
        if not name:
            self.walk.problem("unnamed-session", where, subject, "no name; was the dump taken while LUO serialised?")
        set_ser = ser.get("file_set_ser") or ser
        blocks: list[int] = []
        files = tuple(self._files(subject, set_ser.files, set_ser.count, ser.get("pgcnt"), blocks))
        if len(files) != set_ser.count:
            text = f"expected {set_ser.count} files as in the entry, found {len(files)}"
            self.walk.problem("file-count", where, subject, text)
        return Session(name=name, address=where, files=files, count=set_ser.count, blocks=tuple(blocks))

    # -- files --

    def _files(
        self, session: Subject, address: int, count: int, pages: int | None, blocks: list[int]
    ) -> Iterator[File]:
        subject = session.part("files", ".files")
        if not address:
            return
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, subject, f"{address:#x} is not a page address")
            return
        made: list[File] = []
        if self.form.files == "blocks":
            for page in read_blocks(self.walk, address, self.file, subject):
                blocks.append(page.address)
                self.walk.keep(page.address, page.first - page.address, subject)
                self._file_entries(made, session, page.first, page.entries)
            yield from made
            return
        size = self.file.size
        most = (pages or self.form.file_pages) * self.walk.page_size // size
        if count > most:
            self.walk.problem(
                "bad-count",
                address,
                subject,
                f"count in the entry: expected at most {most}, found {count}; reused memory?",
            )
            return
        if not self.walk.claim(address, subject):
            return
        blocks.append(address)
        if not count:  # no kernel writes an address without files: what is there?
            self.walk.read(address, size, subject)
        whole = min(count * size, LIMITS.list_size)
        data = self.walk.read_some(address, whole, subject, kind=lambda page: _has_name(self.file, page))
        self._need_zeros(address + count * size, size, address + most * size, subject)
        self._file_entries(made, session, address, data)
        yield from made

    def _need_zeros(self, place: int, size: int, end: int, subject: Subject) -> None:
        """Note a problem if the array has something after the last entry: its count is too small, or it is damaged.

        place: physical address of the entry after the last one.
        size:  of an entry in bytes.
        end:   physical address of the end of the array.
        """
        page = self.walk.page_size
        starts = [place, *range(place - place % page + page, end, page)]
        for start, stop in zip(starts, [*starts[1:], end], strict=True):
            try:
                rest = self.walk.memory.read(start, stop - start) if start < stop else b""
            except MissingMemory as error:
                self.walk.missing(error, subject)
                return
            if not is_zero(rest):
                found = start + len(rest) - len(rest.lstrip(b"\0"))
                what = "another one" if found < place + size else "other bytes"
                text = f"expected zeros after the last entry that the count includes, found {what} at {found:#x}"
                self.walk.problem("left-over", found, subject, text)
                return

    def _file_entries(self, made: list[File], session: Subject, address: int, data: bytes) -> None:
        size, subject = self.file.size, session.part("files", ".files")
        count = self.walk.take_entries(len(data) // size, subject)
        order = [self.file.record_fields.index(name) for name in ("compatible", "data", "token")]
        for number, row in enumerate(self.file.record.iter_unpack(data[: count * size])):
            raw, handle, token = (row[place] for place in order)
            where = address + number * size
            if is_name(raw):
                keep_struct(self.walk, where, self.file, subject)
                made.append(self._file(session, len(made), decode_name(raw), handle, token, where))
            else:
                self.walk.problem("bad-file", where, subject, f"not a file entry at {where:#x}; reused memory?")

    def _file(self, session: Subject, index: int, compatible: str, handle: int, token: int, where: int | None) -> File:
        subject = session.part(f"file {token:#x}", f".files[{index}]")
        memfd = read_memfd(self.walk, compatible, handle, subject) if is_memfd(compatible) else None
        detail = None if is_memfd(compatible) else read_detail(self.walk, compatible, handle, subject)
        return File(compatible=compatible, data=handle, token=token, address=where, memfd=memfd, detail=detail)

    def _file_descriptors(self, root: Node, subsystems: tuple[Subsystem, ...], subject: Subject) -> Iterator[File]:
        """Files of the LUO of 2025: nodes of the root (RFC v2), or of a separate devicetree (v2, v3)."""
        node = root.node(abi.FILE_DESCRIPTORS_NODE)
        if node is None:
            own = next((entry for entry in subsystems if entry.name == abi.FILE_DESCRIPTORS_NODE and entry.data), None)
            if own is None or not self.walk.is_page_address(own.data):
                return
            tree = self.walk.fdt(own.data, subject, keep=_Kept(self.walk, subject))
            if tree is None:
                return
            node = tree.root
        session, index = Subject("session ", subject.path), 0
        for child in node.nodes:
            compatible, data = child.text("compatible"), child.u64("data")
            try:
                token = int(child.name, 16)
            except ValueError:
                token = -1
            if compatible is None or data is None or not 0 <= token < 1 << 64:
                text = f"node {safe_text(child.name)} is not a preserved file"
                self.walk.problem("bad-file", None, subject.part("files", ".files"), text)
            elif data:  # 0 is a placeholder until LUO writes the values
                yield self._file(session, index, decode_name(compatible), data, token, None)
                index += 1

    # -- FLBs --

    def _flbs(self, address: int) -> tuple[Flb, ...]:
        if not address:
            return ()
        if not self.walk.is_page_address(address):
            self.walk.problem("bad-pointer", address, _FLBS, f"{address:#x} is not a page address")
            return ()
        schemas = header, entry = self.walk.form(abi.luo_flb_header_ser), self.walk.form(abi.luo_flb_ser)
        head = self.walk.read(address, schemas[0].size, _FLBS, kind=lambda page: _is_area(page, *schemas))
        if head is None:
            return ()
        ser, size = header.parse(head), entry.size
        keep_struct(self.walk, address, header, _FLBS)
        most = (self.walk.page_size - len(head)) // size
        if ser.pgcnt != 1 or ser.count > most:
            text = f"expected at most {most} in 1 page, found {ser.count} in {ser.pgcnt} pages; reused memory?"
            self.walk.problem("bad-count", address, _FLBS, text)
            return ()
        self.said_flbs = ser.count > 0
        data = self.walk.read(address + len(head), ser.count * size, _FLBS) or b""
        self._need_zeros(address + len(head) + ser.count * size, size, address + self.walk.page_size, _FLBS)
        return tuple(self._flb_entries(address + len(head), entry, data))

    def _flb_entries(self, address: int, schema: Schema, data: bytes) -> Iterator[Flb]:
        index = 0
        order = [schema.record_fields.index(name) for name in ("name", "data", "count")]
        for number, row in enumerate(schema.record.iter_unpack(data)):
            raw, handle, count = (row[place] for place in order)
            where = address + number * schema.size
            if not is_name(raw):
                self.walk.problem("bad-flb", where, _FLBS, f"not an FLB entry at {where:#x}; reused memory?")
                continue
            keep_struct(self.walk, where, schema, _FLBS)
            name = decode_name(raw)
            subject = Subject(f"FLB {safe_text(name)}", f"luo.flbs[{index}]")
            index += 1
            detail = read_flb_detail(self.walk, name, handle, subject)
            if count and not abi.is_test_flb(handle) and self.walk.is_zero_page(handle):
                self.walk.problem(
                    "zero-flb", handle, subject, f"page {handle:#x} is all zeros; files that depend on it: {count}"
                )
            yield Flb(name=name, data=handle, count=count, address=where, detail=detail)


def _is_area(page: bytes, header: Schema, entry: Schema) -> bool:
    """Whether a page can be the first of an area: a count, and as many entries with names, followed by zeros."""
    count, most = header.parse(page).count, (len(page) - header.size) // entry.size
    end = header.size + min(count, most) * entry.size
    entries = (page[start : start + entry.size] for start in range(header.size, end, entry.size))
    return any(page) and (count > most or not any(page[end:])) and all(_has_name(entry, raw) for raw in entries)


def _has_name(entry: Schema, raw: bytes) -> bool:
    """Whether an entry starts with a name. raw: its bytes, or more."""
    name = next(field for field in entry.fields if field.kind == "text")
    return is_name(raw[name.offset : name.offset + name.size])


def _at(sessions: list[Session]) -> str:
    """Path of the next session."""
    return f"luo.sessions[{len(sessions)}]"


def _property(node: Node | None, name: str) -> int | None:
    return node.u64(name) if node is not None else None


def _subsystems(root: Node) -> Iterator[Subsystem]:
    node = root.node(abi.SUBSYSTEMS_NODE)
    for name, value in node.properties if node is not None else ():
        if name != b"compatible" and len(value) == 8:
            yield Subsystem(name=decode_name(name), data=int.from_bytes(value, "little"))
