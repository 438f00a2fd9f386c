# SPDX-License-Identifier: MIT
"""Flattened devicetrees (version 17), read in one bounded pass, and written as libfdt lays them out.

Tokens and headers are big-endian; property values are raw bytes, because KHO and LUO write theirs in the
byte order of the machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from luoser.errors import FormatError
from luoser.limits import LIMITS

__all__ = [
    "HEADER_SIZE",
    "MAGIC",
    "Fdt",
    "Header",
    "Node",
    "Token",
    "flatten",
    "parse",
    "parse_header",
    "repacked",
    "sequential",
    "tokens",
]

MAGIC = b"\xd0\x0d\xfe\xed"
HEADER_SIZE = 40
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_HEADER = struct.Struct(">10I")


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed header; all members are numbers of bytes or offsets in bytes but for the versions."""

    magic: int
    totalsize: int
    off_dt_struct: int
    off_dt_strings: int
    off_mem_rsvmap: int
    version: int
    last_comp_version: int
    boot_cpuid_phys: int
    size_dt_strings: int
    size_dt_struct: int


@dataclass(slots=True)
class Node:
    """A node: name without its path, properties and children in the order of the blob."""

    name: bytes
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def get(self, name: str) -> bytes | None:
        """Value of the first property of that name, or None."""
        wanted = name.encode()
        return next((value for found, value in self.properties if found == wanted), None)

    def node(self, name: str) -> Node | None:
        """The first child of that name, or None."""
        wanted = name.encode()
        return next((child for child in self.nodes if child.name == wanted), None)

    def u64(self, name: str) -> int | None:
        """A property of exactly eight bytes as a native-endian (little-endian) number, else None."""
        value = self.get(name)
        return int.from_bytes(value, "little") if value is not None and len(value) == 8 else None

    def u32(self, name: str) -> int | None:
        """A property of exactly four bytes as a native-endian (little-endian) number, else None."""
        value = self.get(name)
        return int.from_bytes(value, "little") if value is not None and len(value) == 4 else None

    def text(self, name: str) -> bytes | None:
        """A property up to its first NUL."""
        value = self.get(name)
        return None if value is None else value.split(b"\0", 1)[0]

    def walk(self) -> Iterator[Node]:
        """This node and all below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.nodes))


@dataclass(frozen=True, slots=True)
class Fdt:
    """A whole tree. fault: where and why reading stopped early, None for a sound blob."""

    header: Header
    root: Node
    strings: bytes
    fault: str | None = None


def parse_header(data: bytes) -> Header:
    """The header of a blob that may continue beyond `data`. Raises FormatError when it cannot be one."""
    if len(data) < HEADER_SIZE:
        raise FormatError(f"a devicetree header has {HEADER_SIZE} bytes, there are only {len(data)}")
    header = Header(*_HEADER.unpack_from(data))
    if data[:4] != MAGIC:
        raise FormatError(f"expected devicetree magic d00dfeed, found {data[:4].hex()}")
    if header.version < 16 or header.last_comp_version > 17:
        raise FormatError(
            f"devicetree version {header.version} (compatible with {header.last_comp_version}), expected 17"
        )
    if not HEADER_SIZE <= header.totalsize <= LIMITS.fdt_size:
        raise FormatError(f"devicetree totalsize {header.totalsize:#x} is out of bounds")
    for name, offset, size in (
        ("structure", header.off_dt_struct, header.size_dt_struct),
        ("strings", header.off_dt_strings, header.size_dt_strings),
        ("reserve map", header.off_mem_rsvmap, 16),
    ):
        if offset < HEADER_SIZE or offset + size > header.totalsize:
            raise FormatError(
                f"devicetree {name} block at {offset:#x} of {size:#x} bytes leaves the blob's {header.totalsize:#x}"
            )
    if header.off_dt_struct % 4 or header.size_dt_struct % 4:
        raise FormatError(f"devicetree structure block at {header.off_dt_struct:#x} is not aligned to 4 bytes")
    return header


def parse(data: bytes, *, partial: bool = False) -> Fdt:
    """A devicetree blob. Bytes behind its totalsize are ignored.

    With `partial`, a blob that breaks off or is damaged inside gives what came before, and `fault` says
    where and why; otherwise that raises FormatError. A broken header always raises FormatError.
    """
    header = parse_header(data)
    if len(data) < header.totalsize and not partial:
        raise FormatError(f"devicetree of {header.totalsize} bytes breaks off after {len(data)}")
    strings = data[header.off_dt_strings : header.off_dt_strings + header.size_dt_strings]
    block = data[header.off_dt_struct : header.off_dt_struct + header.size_dt_struct]
    root = Node(b"")
    try:
        _Walker(block, strings).run(root)
    except FormatError as error:
        if not partial:
            raise
        return Fdt(header, root, strings, str(error))
    return Fdt(header, root, strings)


class _Walker:
    """One pass over the structure block; the position only ever grows."""

    def __init__(self, block: bytes, strings: bytes) -> None:
        self.block, self.strings = block, strings
        self.words: tuple[int, ...] = struct.unpack(f">{len(block) // 4}I", block[: len(block) // 4 * 4])
        self.names: dict[int, bytes] = {}

    def run(self, root: Node) -> None:
        words, position, count = self.words, 0, 0
        stack: list[Node] = []
        while position < len(words):
            token = words[position]
            position += 1
            if token == _PROPERTY:
                position = self._property(position, stack)
            elif token == _BEGIN_NODE:
                count += 1
                if count > LIMITS.fdt_nodes or len(stack) >= LIMITS.fdt_depth:
                    raise FormatError(
                        f"devicetree with more than {LIMITS.fdt_nodes} nodes or {LIMITS.fdt_depth} levels"
                    )
                position = self._begin(position, stack, root, first=count == 1)
            elif token == _END_NODE:
                if not stack:
                    raise FormatError(
                        f"end of a node that never began, at {4 * position - 4:#x} of the structure block"
                    )
                stack.pop()
            elif token == _END:
                if stack or not count:
                    raise FormatError("devicetree ends inside a node" if stack else "devicetree without a root node")
                return
            elif token != _NOP:
                raise FormatError(
                    f"unknown devicetree token {token:#x} at {4 * position - 4:#x} of the structure block"
                )
        raise FormatError("devicetree structure block has no end token")

    def _begin(self, position: int, stack: list[Node], root: Node, *, first: bool) -> int:
        start = 4 * position
        end = self.block.find(b"\0", start)
        if end < 0:
            raise FormatError(f"node name at {start:#x} of the structure block has no end")
        name = self.block[start:end]
        if stack:
            node = Node(name)
            stack[-1].nodes.append(node)
        elif first:
            node = root
            node.name = name
        else:
            raise FormatError("devicetree with two root nodes")
        stack.append(node)
        return end // 4 + 1

    def _property(self, position: int, stack: list[Node]) -> int:
        if not stack:
            raise FormatError(f"property outside of a node at {4 * position - 4:#x} of the structure block")
        if position + 2 > len(self.words):
            raise FormatError("devicetree breaks off inside a property")
        size, name_offset = self.words[position], self.words[position + 1]
        start = 4 * (position + 2)
        if start + size > len(self.block):
            raise FormatError(f"property value of {size:#x} bytes at {start:#x} leaves the structure block")
        stack[-1].properties.append((self._name(name_offset), self.block[start : start + size]))
        return position + 2 + (size + 3) // 4

    def _name(self, offset: int) -> bytes:
        name = self.names.get(offset)
        if name is None:
            name = self.names[offset] = _name_at(self.strings, offset)
        return name


def _name_at(strings: bytes, offset: int) -> bytes:
    """The name of a property. Raises FormatError for one that is not in the strings block, or too long."""
    end = strings.find(b"\0", offset, offset + LIMITS.fdt_name + 1)
    if end >= 0:
        return strings[offset:end]
    if offset + LIMITS.fdt_name < len(strings):
        raise FormatError(f"property name at {offset:#x} has more than {LIMITS.fdt_name} bytes")
    raise FormatError(f"property name at {offset:#x} is outside of the strings block or has no end")


@dataclass(frozen=True, slots=True)
class Token:
    """Bytes of a blob that are one token of the structure block, or one name of the strings block.

    kind: `node`, `property` with its value, `end` of a node, `nop`, `last`, `string`. name: of what it is.
    """

    offset: int
    size: int
    kind: str
    name: bytes = b""
    value: bytes = b""


def tokens(data: bytes) -> Iterator[Token]:
    """The structure block and the strings block token by token, up to what cannot be one. Raises FormatError for a
    header that cannot be."""
    header = parse_header(data)
    strings = data[header.off_dt_strings : header.off_dt_strings + header.size_dt_strings]
    place, end = header.off_dt_struct, min(header.off_dt_struct + header.size_dt_struct, len(data))
    while place + 4 <= end:
        token = _token(data, place, end, strings)
        if token is None:
            break
        yield token
        place += token.size
        if token.kind == "last":
            break
    place = header.off_dt_strings
    for name in strings.split(b"\0")[:-1]:
        yield Token(place, len(name) + 1, "string", name)
        place += len(name) + 1


_PLAIN_TOKENS = {_END_NODE: "end", _NOP: "nop", _END: "last"}


def _token(data: bytes, place: int, end: int, strings: bytes) -> Token | None:
    """The token at a place, None where there is none that ends before `end`."""
    (word,) = struct.unpack_from(">I", data, place)
    if word in _PLAIN_TOKENS:
        return Token(place, 4, _PLAIN_TOKENS[word])
    if word == _BEGIN_NODE:
        stop = data.find(b"\0", place + 4, end)
        return Token(place, (stop - place) // 4 * 4 + 4, "node", data[place + 4 : stop]) if stop >= 0 else None
    if word != _PROPERTY or place + 12 > end:
        return None
    size, offset = struct.unpack_from(">II", data, place + 4)
    if place + 12 + size > end:
        return None
    try:
        name = _name_at(strings, offset)
    except FormatError:
        return None
    return Token(place, 12 + -(-size // 4) * 4, "property", name, data[place + 12 : place + 12 + size])


# -- writing ----------------------------------------------------------------------------------------------


def flatten(tree: Fdt) -> bytes:
    """The blob of a tree, byte for byte with the offsets of its header and its strings block.

    Raises FormatError when the tree does not fit its own header: an edited tree needs a new one.
    """
    header = tree.header
    block = _structure(tree.root, _names(tree.root, tree.strings))
    for name, said, have in (
        ("structure", header.size_dt_struct, len(block)),
        ("strings", header.size_dt_strings, len(tree.strings)),
    ):
        if said != have:
            raise FormatError(f"devicetree {name} block has {have} bytes, its header says {said}; leave the header out")
    pieces = sorted(
        (
            (header.off_mem_rsvmap, bytes(16)),
            (header.off_dt_struct, block),
            (header.off_dt_strings, tree.strings),
        )
    )
    end = HEADER_SIZE
    for offset, data in pieces:
        if offset < end:
            raise FormatError(f"devicetree blocks overlap at {offset:#x}; leave the header out")
        end = offset + len(data)
    if end > header.totalsize:
        raise FormatError(f"devicetree blocks end at {end:#x}, its header says {header.totalsize:#x} in all")
    try:
        blob = bytearray(_HEADER.pack(*(getattr(header, name) for name in header.__slots__)))
    except struct.error:
        raise FormatError("a member of the devicetree header does not fit 32 bits") from None
    for offset, data in pieces:
        blob += bytes(offset - len(blob)) + data
    return bytes(blob).ljust(header.totalsize, b"\0")


def sequential(root: Node) -> Fdt:
    """A tree as libfdt's sequential writer lays it out: each new property name goes before the older ones."""
    names = _Names()
    for node in root.walk():
        names.add(node, is_in_front=True)
    return _laid_out(root, names, reserve_map=48)


def repacked(root: Node, *, room: int | None = None) -> Fdt:
    """A tree whose root node was written sequentially, opened, given its children one by one, and packed again.

    Children and their properties are each put in front of those before; names of properties go to the end. room:
    size in bytes of the buffer that the tree was opened in and not packed again.
    """
    made = _laid_out(root, _repacked_names(root), reserve_map=40)
    return made if room is None else replace(made, header=replace(made.header, totalsize=room))


class _Names:
    """A strings block that grows, and where each property found its name at the time when it was set."""

    def __init__(self, strings: bytes = b"") -> None:
        self.strings, self._in_front = strings, 0
        self._places: dict[tuple[int, int], int] = {}

    def add(self, node: Node, *, is_in_front: bool) -> None:
        """Take in the properties of a node, in the order in which they are set: the last one first for `False`."""
        order = range(len(node.properties))
        for index in order if is_in_front else reversed(order):
            name = node.properties[index][0] + b"\0"
            if name not in self.strings:
                self.strings = name + self.strings if is_in_front else self.strings + name
                self._in_front += len(name) if is_in_front else 0
            self._places[id(node), index] = self.strings.find(name) - self._in_front

    def place(self, node: Node, index: int) -> int:
        """Offset of a name in the whole block. Later names may have been put in front of it."""
        return self._places[id(node), index] + self._in_front


def _repacked_names(root: Node) -> _Names:
    names = _Names()
    names.add(root, is_in_front=True)
    for node in reversed(root.nodes):
        for below in node.walk():
            names.add(below, is_in_front=False)
    return names


def _names(root: Node, strings: bytes) -> _Names:
    """Where the properties of a tree find their names in its strings block.

    A name can stand there twice, be it as the end of another. Which place is meant depends on who wrote the
    tree; a block that neither of KHO's writers makes is searched from its start. Raises FormatError.
    """
    written = _Names()
    for node in root.walk():
        written.add(node, is_in_front=True)
    for names in (written, _repacked_names(root)):
        if names.strings == strings:
            return names
    given = _Names(strings)
    for node in root.walk():
        given.add(node, is_in_front=False)
        if given.strings != strings:
            name = given.strings[len(strings) : -1]
            raise FormatError(f"devicetree property name {name!r} is not in the strings block")
    return given


def _laid_out(root: Node, names: _Names, *, reserve_map: int) -> Fdt:
    block = len(_structure(root, names))
    start = reserve_map + 16
    header = Header(
        magic=int.from_bytes(MAGIC, "big"),
        totalsize=start + block + len(names.strings),
        off_dt_struct=start,
        off_dt_strings=start + block,
        off_mem_rsvmap=reserve_map,
        version=17,
        last_comp_version=16,
        boot_cpuid_phys=0,
        size_dt_strings=len(names.strings),
        size_dt_struct=block,
    )
    return Fdt(header, root, names.strings)


def _structure(root: Node, names: _Names) -> bytes:
    """The structure block. Raises FormatError for a name that ends before it ends."""
    block = bytearray()
    stack: list[Node | None] = [root]
    while stack:
        node = stack.pop()
        if node is None:
            block += struct.pack(">I", _END_NODE)
            continue
        if b"\0" in node.name or any(b"\0" in name for name, _ in node.properties):
            raise FormatError(f"devicetree node {node.name!r}: a name with a NUL inside")
        if any(len(name) > LIMITS.fdt_name for name, _ in node.properties):
            raise FormatError(f"devicetree node {node.name!r}: a property name of more than {LIMITS.fdt_name} bytes")
        block += struct.pack(">I", _BEGIN_NODE) + node.name + b"\0"
        block += bytes(-len(block) % 4)
        for index, (_, value) in enumerate(node.properties):
            block += struct.pack(">III", _PROPERTY, len(value), names.place(node, index)) + value
            block += bytes(-len(block) % 4)
        stack.append(None)
        stack.extend(reversed(node.nodes))
    return bytes(block + struct.pack(">I", _END))
