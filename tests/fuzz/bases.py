# SPDX-License-Identifier: MIT
"""What the fuzzer damages: real dumps, goldens, one handover with every handler, and the files that people write.

Of each it is known where the members of structs are, by the registry, so that damage meets pointers, counts, flags
and texts, and not only bytes.
"""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import luoser
from luoser.abi.registry import Layout, layouts, schemas
from luoser.abi.schema import Schema
from luoser.extracts.core import write_core
from luoser.fdt import parse_header, tokens
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import to_document
from tests import golden_set, real
from tests.images import Image, name, u64
from tests.places import map_pages, places

__all__ = ["BASES", "PAGE", "Base", "Member", "base"]

PAGE = 4096
_FIXTURES = real.ROOT / "fixtures"
_KINDS = {"size": "number", "token": "number", "handle": "address", "struct": "bytes"}
"""Kinds of members that are damaged as another one is."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct. kind: `address`, `number`, `flags`, `text` or `bytes`. place: its address, or offset."""

    kind: str
    place: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Bytes that are sound.

    kind:    `dump`: memory, to be put into a container. `blob`: one struct or list. `file`: text, by what takes it.
    runs:    (address, bytes). Of a blob or a file one, at 0.
    members: of its structs.
    pages:   that a reader of the dump reads.
    layout:  of a blob.
    """

    name: str
    kind: str
    runs: tuple[tuple[int, bytes], ...]
    members: tuple[Member, ...] = ()
    pages: tuple[int, ...] = ()
    layout: str = ""

    @property
    def data(self) -> bytes:
        """The bytes of a blob or a file."""
        return self.runs[0][1]


# -- dumps ------------------------------------------------------------------------------------------------


@cache
def _kinds() -> dict[str, str]:
    """Kind by the name that `tests.places` gives a member."""
    found: dict[str, str] = {}
    for schema in schemas():
        for head in {schema.name.split(" ")[0], "pci header" if schema.name == "pci_ser" else "pci device"}:
            found |= {f"{head}.{field.name}": field.kind for field in schema.fields}
    return found


def _kind(label: str) -> str:
    """Kind of a member by its name in `tests.places`."""
    if label.startswith("tree: "):
        return "address" if "pointer" in label else "text" if label.endswith(("name", "label")) else "bytes"
    struct, _, member = label.partition(".")
    found = _kinds().get(f"{struct.split(' of ')[0]}.{member}", "number" if "count" in member else "bytes")
    return _KINDS.get(found, found)


def _members(memory: Memory) -> Iterator[Member]:
    for handover in luoser.read(memory, contents=True).handovers:
        if handover.address is None:
            continue
        for place in places(memory, handover):
            yield Member(_kind(place.name), place.address, place.size)
        for kind, page in map_pages(handover):
            yield from _words(memory, kind, page)


def _words(memory: Memory, kind: str, page: int) -> Iterator[Member]:
    """The words of a page of a map that are not zero."""
    if memory.page_state(page) != "present":
        return
    data = memory.read(page, PAGE)
    for at in range(0, PAGE, 8):
        if any(data[at : at + 8]):
            yield Member("address" if kind in ("table", "chunk") else "flags", page + at, 8)


def _dump(label: str, memory: Memory) -> Base:
    read: set[int] = set()

    class Spy(Overlay):
        def read(self, address: int, size: int) -> bytes:
            read.update(range(address & -PAGE, address + size, PAGE))
            return super().read(address, size)

    luoser.read(Spy(memory), contents=True)
    pages = tuple(sorted(page for page in read if memory.page_state(page) == "present"))
    runs = tuple((part.start, memory.read(part.start, part.size)) for part in memory.segments)
    return Base(name=label, kind="dump", runs=runs, members=tuple(_members(memory)), pages=pages)


def _real(label: str) -> Base:
    return _dump(label, real.dump(label))


def _golden_image(path: str) -> Base:
    with luoser.open(_FIXTURES / "golden" / f"{path}.elf.xz") as memory:
        return _dump(f"golden/{path}", memory)


def _handlers() -> Base:
    """A handover that has a file of every handler, an FLB of every name, and a sub-tree of each struct."""
    image = Image(pages=1024)
    files, flbs, trees = list[bytes](), list[bytes](), dict[str, tuple[int, int | None]]()
    for number, layout in enumerate(one for one in layouts() if one.kind == "struct" and one.handler):
        place = image.alloc(_struct(layout, image.alloc))
        files.append(name(layout.handler, 48) + u64(place) + u64(number))
        if len(flbs) < 60:
            flbs.append(name(layout.handler, 48) + u64(place) + u64(1))
        if layout.subject == "other":
            trees[layout.name] = place, layout.schemas[0].size
    session = name("vm", 64) + u64(image.blocks(files)) + u64(len(files))
    area = image.alloc(u64(1) + u64(len(flbs)) + b"".join(flbs))
    luo = image.alloc(b"luo-v5\0\0" + u64(1) + u64(image.blocks([session])) + u64(area))
    image.handover({"LUO": (luo, 32), **trees})
    with image.open() as memory:
        return _dump("handlers", _cut(memory))


def _cut(memory: Memory) -> Memory:
    from luoser.memory.elf import ElfMemory
    from luoser.memory.recorder import Recorder

    recorder, file = Recorder(memory), io.BytesIO()
    luoser.read(recorder, contents=True)
    write_core(file, memory, recorder.asked)
    return ElfMemory("handlers", file.getvalue())


# -- blobs ------------------------------------------------------------------------------------------------


def _struct(layout: Layout, alloc: Callable[[], int]) -> bytes:
    """Plausible bytes of a layout: pointers to pages of `alloc`, two records where it has a count of them."""
    head = _filled(layout.schemas[0], alloc, count=layout.count)
    records = _filled(layout.schemas[1], alloc) * 2 if layout.count else b""
    return head + records


def _filled(schema: Schema, alloc: Callable[[], int], count: str = "") -> bytes:
    made = bytearray(schema.size)
    for field in schema.fields:
        if field.padding or field.kind == "struct" or not field.size or field.bit_offset:
            continue
        if field.kind == "text":
            made[field.offset : field.offset + 2] = b"x\0"[: field.size]
        elif field.size <= 8:
            value = 2 if field.name == count else alloc() if field.kind in ("address", "handle") else 1
            made[field.offset : field.offset + field.size] = (value % (1 << 8 * field.size)).to_bytes(
                field.size, "little"
            )
    return bytes(made)


def _of_schema(schema: Schema, start: int) -> Iterator[Member]:
    for field in schema.fields:
        if field.size and field.kind != "struct":
            yield Member(_KINDS.get(field.kind, field.kind), start + field.offset, field.size)


def _blob(label: str, data: bytes, layout: Layout | None) -> Base:
    members: list[Member] = []
    if layout is not None and layout.schemas:
        head, *rest = layout.schemas
        members += _of_schema(head, 0)
        if rest and (layout.count or layout.kind == "list"):
            for start in range(head.size, min(len(data), 64 * PAGE), rest[0].size):
                members += _of_schema(rest[0], start)
    elif data.startswith(b"\xd0\x0d\xfe\xed"):
        members += _tree(data)
    members = [one for one in members if one.place + one.size <= len(data)]
    name_ = layout.name if layout is not None else ""
    return Base(name=label, kind="blob", runs=((0, data),), members=tuple(members), layout=name_)


def _tree(data: bytes) -> Iterator[Member]:
    """The numbers, names and values of a devicetree."""
    yield from (Member("number", at, 4) for at in range(4, 40, 4))
    assert parse_header(data)
    for token in tokens(data):
        if token.kind == "node":
            yield from (Member("number", token.offset, 4), Member("text", token.offset + 4, max(1, len(token.name))))
        elif token.kind == "property":
            yield from (Member("number", token.offset + at, 4) for at in (0, 4, 8))
            if token.value:
                yield Member("address" if len(token.value) == 8 else "bytes", token.offset + 12, len(token.value))
        elif token.kind == "string":
            yield Member("text", token.offset, token.size)


def _golden(path: str) -> Base:
    """A file of fixtures/golden, with the layout that its name or its folder has."""
    stem = Path(path).name.split(".")[0]
    folder = Path(path).parent.name
    known = {layout.name: layout for layout in layouts()}
    named = {"pci-folio": "pci-lu-v2-06", "luo-session-block": "kho-block-sessions", "luo-ser": "luo-v5"}
    named |= {"kexec-metadata": "kexec-metadata-v1", "memfd-ser": "memfd-v2", "memfd-file": "luo-file"}
    layout = known.get(folder) or known.get(named.get(stem, stem))
    return _blob(f"golden/{path}", golden_set.unpacked(path), layout)


def _made(layout: Layout) -> Base:
    return _blob(f"struct/{layout.name}", _struct(layout, lambda: 0x1000000), layout)


# -- files ------------------------------------------------------------------------------------------------


def _file(path: str) -> Base:
    place = _FIXTURES / path
    data = place.read_bytes()
    return Base(name=path, kind="file", runs=((0, lzma.decompress(data) if path.endswith(".xz") else data),))


def _document(label: str) -> Base:
    data = json.dumps(to_document(luoser.read(real.dump(label), contents=True), full=True), indent=1).encode()
    return Base(name=f"state/{label}.json", kind="file", runs=((0, data),))


def _hex(path: str) -> Base:
    data = golden_set.unpacked(path)
    rows = (f"{at:08x}: {data[at : at + 16].hex(' ', 2)}\n" for at in range(0, len(data), 16))
    return Base(name=f"hex/{path}.txt", kind="file", runs=((0, "".join(rows).encode()),))


# -- all --------------------------------------------------------------------------------------------------


def _names() -> Iterator[tuple[str, float, Callable[[], Base]]]:
    """(name, how often it is chosen, what makes it) of each. What is large is chosen less often."""
    for label in real.DUMPS:
        size = real.path(label).stat().st_size
        yield label, 8 if size < 8000 else 0.6, partial(_real, label)
    for path in _files("golden", "**/*.elf.xz"):
        label = path.removesuffix(".elf.xz")
        yield f"golden/{label}", 0.2, partial(_golden_image, label)
    yield "handlers", 3, _handlers
    blobs = [path.removesuffix(".xz") for path in (*_files("golden", "**/*.bin"), *_files("golden", "**/*.bin.xz"))]
    for path in (*blobs, *_files("golden", "*.dtb")):
        is_long = path.startswith("lists/") and path.split("/")[-1][:3] in ("051", "052", "255", "256")
        yield f"golden/{path}", 0.02 if is_long else 0.3, partial(_golden, path)
    for layout in layouts():
        if layout.kind == "struct":
            yield f"struct/{layout.name}", 0.25, partial(_made, layout)
    for folder, pattern in (("topology", "*.txt"), ("scenarios", "*.toml"), ("specs", "*.toml")):
        for path in _files(folder, pattern):
            yield f"{folder}/{path}", 1, partial(_file, f"{folder}/{path}")
    yield "real/7.3-a/topology.json", 1, partial(_file, "real/7.3-a/topology.json")
    for label in ("6.18-a/frozen", "7.3-a/pre"):
        yield f"state/{label}.json", 2, partial(_document, label)
    for path in ("pci/pci-lu-v2-06.bin", "luo-ser.bin"):
        yield f"hex/{path}.txt", 1, partial(_hex, path)


def _files(folder: str, pattern: str) -> list[str]:
    start = _FIXTURES / folder
    return sorted(path.relative_to(start).as_posix() for path in start.glob(pattern))


BASES: dict[str, float] = {label: often for label, often, _ in _names()}
"""How often each is chosen, by name."""
_MAKE = {label: make for label, _, make in _names()}


@cache
def base(label: str) -> Base:
    """The one of that name, made once."""
    return _MAKE[label]()
