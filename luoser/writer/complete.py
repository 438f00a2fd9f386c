# SPDX-License-Identifier: MIT
"""What a description leaves out: addresses, counts, devicetrees, and the forms of a kernel release.

A full document comes out as it went in. Of a short one only what somebody wants to say needs to be there; the
rest is what the kernel of that release writes, and every page of it is in the preserved map.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luoser.abi import luo as luo_abi
from luoser.abi.block import capacity, kho_block_header_ser
from luoser.abi.kho import SUBTREE_SIZE, kho_kexec_metadata
from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as pci_layout
from luoser.abi.vmalloc import chunk_capacity, kho_vmalloc
from luoser.errors import UsageError
from luoser.fdt import Fdt, Node, repacked, sequential
from luoser.state.document import fdt_document
from luoser.state.load import Item
from luoser.state.preserved import PreservedMap
from luoser.text import encode_name
from luoser.writer.luo import BLOCK_FORMS, STRUCT_FORMS, session_structs
from luoser.writer.place import Placer, order_of
from luoser.writer.preserved import map_pages

__all__ = ["KERNELS", "Forms", "complete"]

Json = dict[str, Any]
_LUO_COMPATIBLE = {"luo-v3": "luo-v3", "luo-v4": "luo-v4", "luo-v5": "luo-v5", "luo-composed": "luo-v5;block-v1"}
_MEMFD_FORMS = {"memfd-v1": "memfd-v1", "memfd-v2": "memfd-v2", "memfd": "memfd-features"}
_DIRTY, _UPTODATE, _F_SEAL_SEAL, _VM_ALLOC = 1, 2, 1, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """What one kernel release writes. luo: None without the orchestrator. bitmap_size: of kho-v1, in bytes."""

    kho: str
    luo: str | None
    memfd: str = "memfd-v2"
    bitmap_size: int | None = None
    metadata: bool = False
    is_repacked: bool = True


KERNELS = {
    "6.16": Forms(kho="kho-v1", luo=None, bitmap_size=512, is_repacked=False),
    "6.17": Forms(kho="kho-v1", luo=None, bitmap_size=512, is_repacked=False),
    "6.18": Forms(kho="kho-v1", luo=None, bitmap_size=4096, is_repacked=False),
    "6.19": Forms(kho="kho-v1", luo="luo-v1", memfd="memfd-v1", bitmap_size=4096),
    "7.0": Forms(kho="kho-v1", luo="luo-v1-flb", memfd="memfd-v1", bitmap_size=4096),
    "7.1": Forms(kho="kho-v3", luo="luo-v1-flb", metadata=True),
    "7.2": Forms(kho="kho-v4", luo="luo-v5", metadata=True),
    "7.3": Forms(kho="kho-v4", luo="luo-v5", metadata=True),
}
"""By release, from the ABI's release matrix; 6.17 stands for 6.17.0 to 6.17.8."""


def complete(document: Json, *, kernel: str = "7.3") -> Json:
    """The full document of a short one. Raises UsageError with the path of what cannot be completed."""
    forms = KERNELS.get(".".join(kernel.split(".")[:2]))
    if forms is None:
        raise UsageError(f"kernel {kernel!r}: expected one of {', '.join(KERNELS)}")
    made = copy.deepcopy(document)
    made.setdefault("schema", "luoser/state/1")
    source = made.setdefault("source", {})
    source.setdefault("path", "")
    source.setdefault("format", "")
    page_size = Item(source, "source").number("page_size", 4096)
    source["page_size"] = page_size
    made.setdefault("problems", [])
    handovers = made.get("handovers")
    if not isinstance(handovers, list) or not handovers:
        raise UsageError("handovers: missing; expected a list with at least one handover")
    placer = Placer(page_size, made)
    for index, values in enumerate(handovers):
        if not isinstance(values, dict):
            raise UsageError(f"handovers[{index}]: expected an object")
        placer.preserved = {}
        _Handover(values, f"handovers[{index}]", forms, kernel, placer).fill()
    return made


def _hex(value: int) -> str:
    return f"{value:#x}"


def _text(value: str) -> bytes:
    return encode_name(value) + b"\0"


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value)


class _Handover:
    """One handover on its way to completeness."""

    def __init__(self, values: Json, path: str, forms: Forms, kernel: str, placer: Placer) -> None:
        self.values, self.path, self.forms, self.kernel, self.placer = values, path, forms, kernel, placer
        self.page = placer.page_size

    def fill(self) -> None:
        values = self.values
        values.setdefault("compatible", self.forms.kho)
        values.setdefault("direction", "outgoing")
        values.setdefault("evidence", [])
        values.setdefault("scratch", None)
        self._address(values, self.page)
        if "luo" not in values:
            values["luo"] = {} if self.forms.luo is not None and "subtrees" not in values else None
        values["luo"] = values["luo"] if isinstance(values["luo"], dict) else None
        self._pci()
        if values["luo"] is not None:
            self._luo(Item(values["luo"], f"{self.path}.luo"), values["luo"])
        self._plain_subtrees()
        if "subtrees" not in values:
            values["subtrees"] = list(self._subtrees())
        if values.get("fdt") is None:
            self._map_address()
            values["fdt"] = fdt_document(self._root())
        self._preserved()

    def _item(self, values: Json, name: str) -> Item:
        return Item(values, f"{self.path}.{name}")

    def _address(self, values: Json, size: int, name: str = "address", *, order: int | None = None) -> int:
        """The address that is given, or free pages; preserved in both cases."""
        if values.get(name) is None:
            values[name] = _hex(self.placer.take(size, order=order))
        address = Item(values, self.path).number(name)
        self.placer.preserve(address, size)
        return address

    def _addresses(self, values: Json, name: str, count: int) -> list[int]:
        """So many pages: those that are given, or free ones."""
        given = Item(values, self.path).numbers(name)
        if not given:
            given = tuple(self.placer.take(self.page) for _ in range(count))
            values[name] = [_hex(page) for page in given]
        elif len(given) < count:
            raise UsageError(f"{self.path}: {name} has {len(given)} pages, {count} are needed")
        for page in given:
            self.placer.preserve(page, self.page)
        return list(given)

    # -- device lists --

    def _pci(self) -> None:
        lists = self.values.setdefault("pci", [])
        for index, values in enumerate(lists):
            item = self._item(values, f"pci[{index}]")
            form = pci_layout(item.text("layout"))
            if form is None:
                raise item.fail(
                    "layout", f"no device list layout is named {item.text('layout')!r}; see `luoser abi list`"
                )
            self._list(item, values, form)

    def _list(self, item: Item, values: Json, form: PciLayout) -> None:
        devices = item.array("devices")
        values["devices"] = devices
        values.setdefault("via", ["subsystem:pci" if self.forms.luo is None else "flb:pci"])
        values.setdefault("candidates", [form.name])
        values.setdefault("confidence", "")
        for place, device in enumerate(devices):
            if isinstance(device, dict):
                device.setdefault("index", place)
        count = max((device.get("index", 0) for device in devices if isinstance(device, dict)), default=-1) + 1
        header = values.setdefault("header", {})
        if form.capacity is not None and form.capacity in header:
            count = max(count, self._item(header, "header").number(form.capacity))
        size = form.header.size + (0 if form.blocks is not None else count * form.record.size)
        if form.bus is not None:
            size += len(item.array("buses")) * form.bus.size
        if form.blocks is not None:
            needed = -(-count // capacity(self.page, form.record.size))
            self._addresses(values, "blocks", needed)
        self._address(values, self.page << order_of(size, self.page))
        for piece in item.items("contents"):
            self.placer.preserve(piece.number("address"), piece.number("size"))
        for device in item.items("devices"):
            if "driver_data" in device.values and device.number("driver_data") % self.page == 0:
                data = device.number("driver_data")
                if 0 < data < 1 << 52:
                    self.placer.preserve(data, self.page)

    # -- LUO --

    def _luo(self, item: Item, luo: Json) -> None:
        luo.setdefault("layout", self.forms.luo or "luo-v1-subsystems")
        layout = item.text("layout")
        luo.setdefault("compatible", _LUO_COMPATIBLE.get(layout, "luo-v1" if "-v1" in layout else None))
        self._address(luo, self.page)
        luo.setdefault("sessions", [])
        luo.setdefault("flbs", [])
        luo.setdefault("subsystems", [])
        is_old = layout == "luo-v1-subsystems"
        luo.setdefault("liveupdate_number", None if is_old else 1)
        for via, address in self._ways("subsystem:"):
            if not any(entry.get("name") == via for entry in luo["subsystems"]):
                luo["subsystems"].append({"name": via, "data": _hex(address)})
        self._sessions(item, luo, layout)
        self._flbs(item, luo, layout)
        luo.setdefault(
            "serialized", bool(luo["sessions"] or luo["flbs"] or any(entry.get("data") for entry in luo["subsystems"]))
        )

    def _ways(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(name, address) of the device lists that are reached in one way."""
        for values in self.values["pci"]:
            for via in values["via"]:
                if str(via).startswith(prefix):
                    yield str(via).removeprefix(prefix), Item(values, f"{self.path}.pci").number("address")

    def _sessions(self, item: Item, luo: Json, layout: str) -> None:
        sessions = luo["sessions"]
        for index, values in enumerate(sessions):
            session = item._item(values, f"sessions[{index}]")
            session.text("name")
            self._files(session, values, layout)
        blocks = luo.setdefault("session_blocks", [])
        if layout in BLOCK_FORMS:
            most, entry = capacity(self.page, luo_abi.luo_session_ser.size), luo_abi.luo_session_ser.size
            if sessions or blocks:
                blocks = self._addresses(luo, "session_blocks", -(-len(sessions) // most))
                self._entry_addresses(sessions, blocks, entry, most, kho_block_header_ser.size)
            luo.setdefault("session_area", _hex(blocks[0]) if blocks else None)
        elif layout == "luo-v1-subsystems":
            luo.setdefault("session_area", None)
        else:
            header, form = session_structs(layout)
            room = luo_abi.SESSION_PAGES * self.page
            area = self._address(luo, room, "session_area")
            most = (room - header.size) // form.size
            if len(sessions) > most:
                raise item.fail(
                    "sessions", f"{len(sessions)} sessions, at most {most} fit the {room:#x} bytes of their area"
                )
            luo["session_blocks"] = [_hex(area)]
            self._entry_addresses(sessions, [area], form.size, most, header.size)

    def _entry_addresses(self, entries: list[Json], blocks: list[int], size: int, most: int, first: int) -> None:
        for index, values in enumerate(entries):
            if values.get("address") is None:
                values["address"] = _hex(blocks[index // most] + first + index % most * size)

    def _files(self, session: Item, values: Json, layout: str) -> None:
        files = values.setdefault("files", [])
        for index, file in enumerate(session.items("files")):
            self._file(file, files[index], index)
        values.setdefault("count", len(files))
        size = luo_abi.luo_file_ser.size
        if layout in ("luo-v5", "luo-composed", "luo-features"):
            most, first = capacity(self.page, size), kho_block_header_ser.size
            blocks = self._addresses(values, "blocks", -(-len(files) // most))
        elif layout == "luo-v1-subsystems":
            values.setdefault("address", None)
            values.setdefault("blocks", [])
            return
        else:
            room = luo_abi.FILES_PAGES * self.page
            most, first, blocks = room // size, 0, list(session.numbers("blocks"))
            if len(files) > most:
                raise session.fail(
                    "files", f"{len(files)} files, at most {most} fit the {room:#x} bytes of their pages"
                )
            if files and not blocks:
                blocks = [self.placer.take(room)]
                values["blocks"] = [_hex(blocks[0])]
            for block in blocks:
                self.placer.preserve(block, room)
            values.setdefault("blocks", [])
        self._entry_addresses(files, blocks, size, most, first)

    def _file(self, item: Item, values: Json, index: int) -> None:
        values.setdefault("compatible", self.forms.memfd)
        values.setdefault("token", _hex(index))
        compatible = item.text("compatible")
        if compatible in _MEMFD_FORMS and values.get("memfd") is None and values.get("data") is None:
            values["memfd"] = {}
        memfd = item.item("memfd")
        if memfd is not None:
            if values.get("data") is not None:
                values["memfd"].setdefault("address", values["data"])
            values["data"] = _hex(self._memfd(memfd, values["memfd"], _MEMFD_FORMS.get(compatible, "memfd-pre-merge")))
        elif item.item("detail") is not None:
            values["data"] = _hex(self._address(values["detail"], self.page))
            values["detail"].setdefault("confidence", "")
        else:
            self._address(values, self.page, "data")
        values.setdefault("memfd", None)
        values.setdefault("detail", None)

    def _memfd(self, item: Item, memfd: Json, layout: str) -> int:
        memfd.setdefault("layout", layout)
        address = self._address(memfd, self.page)
        memfd["size"] = _hex(item.number("size", 0))
        memfd["position"] = _hex(item.number("position", 0))
        memfd.setdefault("seals", _F_SEAL_SEAL if memfd["layout"] not in ("memfd-v1", "memfd-pre-merge") else None)
        memfd.setdefault("flags", 0)
        memfd.setdefault("contents", [])
        folios = memfd.setdefault("folios", {})
        entry = item.item("folios") or Item({}, item.at("folios"))
        if "list" not in folios:
            count = -(-item.number("size") // self.page)
            if count > 1 << 24:
                raise item.fail("size", f"{item.get('size')!r}: {count} pages are more than are laid out one by one")
            start = self.placer.take(count * self.page, order=0) if count else 0
            flags = _DIRTY | _UPTODATE
            folios["list"] = [[index, _hex(start + index * self.page), flags] for index in range(count)]
        rows = entry.rows("list", 3)
        for _, place, _ in rows:
            if place and place not in self.placer.preserved:
                self.placer.preserve(place, self.page)
        self._area(folios, len(rows), memfd["layout"], address)
        return address

    def _area(self, folios: Json, count: int, layout: str, address: int) -> None:
        """Where the folio array lies: nowhere for an empty file, in the devicetree before the merge."""
        folios.setdefault("count", count)
        pages = -(-count * 16 // self.page)
        if layout == "memfd-pre-merge":
            pages = 0
            folios.setdefault("address", _hex(address))
        folios.setdefault("total_pages", pages)
        folios.setdefault("flags", _VM_ALLOC if pages else 0)
        folios.setdefault("order", 0)
        self._addresses(folios, "pages", pages)
        chunks = self._addresses(folios, "chunks", -(-pages // chunk_capacity(self.page)))
        folios.setdefault("address", _hex(chunks[0]) if chunks else "0x0")

    def _flbs(self, item: Item, luo: Json, layout: str) -> None:
        flbs = luo["flbs"]
        for name, address in self._ways("flb:"):
            if not any(values.get("name") == name for values in flbs):
                flbs.append({"name": name, "data": _hex(address)})
        has_page = layout in STRUCT_FORMS or layout in ("luo-v1-flb", "luo-v2")
        if not has_page and not flbs:
            luo.setdefault("flb_area", None)
            return
        area = self._address(luo, self.page, "flb_area")
        files = sum(len(values["files"]) for values in luo["sessions"])
        header, entry = luo_abi.luo_flb_header_ser.size, luo_abi.luo_flb_ser.size
        most = (self.page - header) // entry
        if len(flbs) > most:
            raise item.fail("flbs", f"{len(flbs)} FLBs, at most {most} fit their page")
        for index, values in enumerate(flbs):
            flb = item._item(values, f"flbs[{index}]")
            values.setdefault("count", files)
            values.setdefault("address", _hex(area + header + index * entry))
            values.setdefault("detail", None)
            if values["detail"] is not None:
                values["detail"].setdefault("confidence", "")
                values["data"] = _hex(self._address(values["detail"], self.page))
            elif values.get("data") is None:
                way = dict(self._ways("flb:")).get(flb.text("name"))
                values["data"] = _hex(way if way is not None else 0)

    # -- plain users of KHO --

    def _plain_subtrees(self) -> None:
        values = self.values
        for name in ("memblock", "kho_test"):
            values.setdefault(name, None)
        if "kexec_metadata" not in values:
            values["kexec_metadata"] = {} if self.forms.metadata and "subtrees" not in values else None
        if isinstance(values["kexec_metadata"], dict):
            metadata = values["kexec_metadata"]
            self._address(metadata, self.page)
            metadata.setdefault("version", 1)
            metadata.setdefault("previous_release", self.kernel if self.kernel.count(".") > 1 else f"{self.kernel}.0")
            metadata.setdefault("kexec_count", 1)
        if isinstance(values["memblock"], dict):
            self._memblock(values["memblock"])
        if isinstance(values["kho_test"], dict):
            self._kho_test(values["kho_test"])

    def _memblock(self, memblock: Json) -> None:
        self._address(memblock, self.page)
        item = self._item(memblock, "memblock")
        for index, entry in enumerate(item.items("reservations")):
            values = memblock["reservations"][index]
            values["size"] = _hex(entry.number("size"))
            self._address(values, entry.number("size"), "start", order=0)

    def _kho_test(self, test: Json) -> None:
        self._address(test, self.page)
        folios = self._item(test, "kho_test").rows("folios", 2)
        test.setdefault("folios", [])
        test.setdefault("magic", "0x4b484f21")
        test.setdefault("nr_folios", len(folios))
        test.setdefault("checksum", "0x0")
        if "pages" not in test:
            self._addresses(test, "pages", -(-len(folios) * 8 // self.page))
        for address, order in folios:
            self.placer.preserve(address, self.page << order)

    # -- the trees --

    def _subtrees(self) -> Iterator[Json]:
        """In the order of the root's nodes: the last one added comes first."""
        luo, memblock = self.values["luo"], self.values["memblock"]
        metadata, test = self.values["kexec_metadata"], self.values["kho_test"]
        for name, address in self._ways("subtree:"):
            yield self._subtree(name, _hex(address), self._list_size(address), None)
        if memblock is not None:
            yield self._with_tree("memblock", memblock["address"], _memblock_tree(memblock))
        if luo is not None:
            tree = None if luo["layout"] in STRUCT_FORMS else self._luo_tree(luo)
            if tree is not None:
                yield self._with_tree("LUO", luo["address"], tree)
            else:
                yield self._subtree("LUO", luo["address"], STRUCT_FORMS[luo["layout"]].size, None)
        if test is not None:
            chunk = self.placer.take(self.page)
            self.placer.preserve(chunk, self.page)
            yield self._with_tree("kho_test", test["address"], _test_tree(test, chunk))
        if metadata is not None:
            yield self._subtree("kexec-metadata", metadata["address"], kho_kexec_metadata.size, None)

    def _list_size(self, address: int) -> int:
        for values in self.values["pci"]:
            if Item(values, "").number("address") == address:
                form = pci_layout(values["layout"])
                assert form is not None
                inline = 0 if form.blocks is not None else len(values["devices"]) * form.record.size
                return form.header.size + inline
        return 0

    def _with_tree(self, name: str, address: str, root: Node) -> Json:
        tree = sequential(root)
        return self._subtree(name, address, tree.header.totalsize, fdt_document(tree))

    def _subtree(self, name: str, address: str, size: int, tree: Json | None) -> Json:
        return {"name": name, "address": address, "size": _hex(size), "fdt": tree}

    def _luo_tree(self, luo: Json) -> Node:
        item, layout = self._item(luo, "luo"), luo["layout"]
        root = Node(b"", [(b"compatible", _text("luo-v1"))])
        if luo["liveupdate_number"] is not None:
            root.properties.append((b"liveupdate-number", _u64(item.number("liveupdate_number"))))
        if layout == "luo-v2":
            pointer = self.placer.take(self.page)
            self.placer.preserve(pointer, self.page)
            return Node(b"", [(b"compatible", _text("luo-v2")), (b"luo-abi-header", _u64(pointer))])
        if layout == "luo-v1-subsystems":
            node = Node(b"subsystems", [(b"compatible", _text("subsystems-v1"))])
            node.properties += [
                (encode_name(entry.text("name")), _u64(entry.number("data", 0))) for entry in item.items("subsystems")
            ]
            root.nodes.append(node)
            return root
        version = "luo-session-v1" if layout == "luo-v1-session-v1" else "luo-session-v2"
        area = _u64(item.number("session_area", 0))
        root.nodes.append(Node(b"luo-session", [(b"compatible", _text(version)), (b"luo-session-header", area)]))
        if luo["flb_area"] is not None:
            area = _u64(item.number("flb_area", 0))
            root.nodes.append(Node(b"luo-flb", [(b"compatible", _text("luo-flb-v1")), (b"luo-flb-header", area)]))
        return root

    def _root(self) -> Fdt:
        item = Item(self.values, self.path)
        compatible = item.text("compatible")
        address = (item.item("preserved") or Item({}, "")).number("address", 0)
        root = Node(b"", [(b"compatible", _text(compatible)), (b"preserved-memory-map", _u64(address))])
        for subtree in item.items("subtrees"):
            if subtree.maybe("address") is None:
                raise subtree.fail("address", "missing; expected where the sub-tree lies")
            place, size = _u64(subtree.number("address")), _u64(subtree.number("size", 0))
            if compatible == "kho-v1":
                properties = [(b"fdt", place)]
            elif compatible == "kho-v2":
                properties = [(b"preserved-data", place)]
            else:
                properties = [(SUBTREE_SIZE.encode(), size), (b"preserved-data", place)]
            root.nodes.append(Node(encode_name(subtree.text("name")), properties))
        return repacked(root) if self.forms.is_repacked else sequential(root)

    # -- the map --

    def _map_address(self) -> None:
        preserved = self.values.setdefault("preserved", {})
        preserved.setdefault("status", "intact")
        if preserved["status"] == "absent":
            preserved["address"] = "0x0"
        elif preserved.get("address") is None:
            nodes = preserved.get("nodes") or [_hex(self.placer.take(self.page))]
            preserved["address"] = nodes[0]

    def _preserved(self) -> None:
        self._map_address()
        preserved, is_chunks = self.values["preserved"], self.values["compatible"].startswith("kho-v1")
        preserved.setdefault("form", "chunks" if is_chunks else "radix")
        preserved.setdefault("bitmap_size", (self.forms.bitmap_size or self.page) if is_chunks else None)
        preserved.setdefault("nodes", [])
        if preserved["status"] != "intact":
            return
        item = self._item(preserved, "preserved")
        if preserved.get("extents") is None:
            preserved["extents"] = self.placer.extents()
        rows = item.rows("extents", 3)
        found = PreservedMap.from_extents(((row[0], row[1], row[2]) for row in rows), page_size=self.page)
        bitmaps = [(row[0], row[1], row[2]) for row in item.rows("bitmaps", 3)]
        needed = map_pages(found, preserved["form"], bitmap_size=item.maybe("bitmap_size"), bitmaps=bitmaps)
        nodes = list(item.numbers("nodes")) or [item.number("address")]
        nodes += [self.placer.take(self.page) for _ in range(needed - len(nodes))]
        preserved["nodes"] = [_hex(node) for node in nodes]
        preserved.setdefault("entries", found.entries)
        preserved.setdefault("pages", found.pages)
        preserved.setdefault("complete", True)


def _memblock_tree(memblock: Json) -> Node:
    root = Node(b"", [(b"compatible", _text("memblock-v1"))])
    for entry in Item(memblock, "memblock").items("reservations"):
        words = [(b"start", _u64(entry.number("start"))), (b"size", _u64(entry.number("size")))]
        root.nodes.append(Node(encode_name(entry.text("name")), [(b"compatible", _text("reserve-mem-v1")), *words]))
    return root


def _test_tree(test: Json, chunk: int) -> Node:
    item = Item(test, "kho_test")
    pages = item.numbers("pages")
    fields = {"first": chunk, "total_pages": len(pages), "flags": _VM_ALLOC, "order": 0}
    data = Node(
        b"data",
        [
            (b"nr_folios", struct.pack("<I", item.number("nr_folios"))),
            (b"folios_info", kho_vmalloc.build(fields)),
            (b"csum", struct.pack("<I", item.number("checksum"))),
        ],
    )
    magic = struct.pack("<I", item.number("magic"))
    return Node(b"", [(b"compatible", _text("kho-test-v1")), (b"magic", magic)], [data])
