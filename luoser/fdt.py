# SPDX-License-Identifier: MIT
"""Flattened devicetrees (version 17): read in one bounded pass, written byte for byte as libfdt does.

Tokens and headers are big-endian. Property values stay raw bytes, because KHO and LUO write theirs in the byte
order of the machine. The format is chapter 5 of the Devicetree Specification.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from luoser.errors import FormatError, TooLargeError
from luoser.limits import LIMITS, how_to_raise, in_force

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
_RESERVED = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed header of a blob, struct fdt_header. Sizes and offsets are in bytes."""

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
    """A node of a tree.

    name:       without the path.
    properties: (name, value), in the order of the blob.
    nodes:      child nodes, in the order of the blob.
    """

    name: bytes
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)

    def get(self, name: str) -> bytes | None:
        """Value of the first property with this name. None if there is none."""
        wanted = name.encode()
        return next((value for found, value in self.properties if found == wanted), None)

    def node(self, name: str) -> Node | None:
        """The first child with this name. None if there is none."""
        wanted = name.encode()
        return next((child for child in self.nodes if child.name == wanted), None)

    def u64(self, name: str) -> int | None:
        """A property as a little-endian number. None if there is none, or it does not have exactly eight bytes."""
        value = self.get(name)
        return int.from_bytes(value, "little") if value is not None and len(value) == 8 else None

    def u32(self, name: str) -> int | None:
        """A property as a little-endian number. None if there is none, or it does not have exactly four bytes."""
        value = self.get(name)
        return int.from_bytes(value, "little") if value is not None and len(value) == 4 else None

    def text(self, name: str) -> bytes | None:
        """A property up to its first NUL. None if there is none."""
        value = self.get(name)
        return None if value is None else value.split(b"\0", 1)[0]

    def walk(self) -> Iterator[Node]:
        """This node and all nodes below it, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.nodes))


@dataclass(frozen=True, slots=True)
class Fdt:
    """A tree with the header and the strings block of its blob.

    fault:    where and why reading stopped early; None if the whole blob was read.
    is_cut:   whether reading stopped because of a limit.
    reserved: (address, size in bytes) of the entries of the reserve map. Kernels write none for KHO.
    """

    header: Header
    root: Node
    strings: bytes
    fault: str | None = None
    reserved: tuple[tuple[int, int], ...] = ()
    is_cut: bool = False


def parse_header(data: bytes) -> Header:
    """The header of a blob. `data` may end before the blob does.

    Raises FormatError if these bytes are not a devicetree header of a known version with sane bounds.
    """
    if len(data) < HEADER_SIZE:
        raise FormatError(f"devicetree header: expected {HEADER_SIZE} bytes, found {len(data)}")
    header = Header(*_HEADER.unpack_from(data))
    if data[:4] != MAGIC:
        raise FormatError(f"expected devicetree magic d00dfeed, found {data[:4].hex()}")
    if header.version < 16 or header.last_comp_version > 17:
        how = f"expected 17, found {header.version} (compatible with {header.last_comp_version})"
        hint = "; `dtc -I dtb -O dtb` converts old ones" if 0 < header.version < 16 else ""
        raise FormatError(f"devicetree version: {how}{hint}")
    if header.totalsize > LIMITS.fdt_size:
        raise TooLargeError(f"devicetree totalsize: found {header.totalsize} bytes; {how_to_raise('fdt_size')}")
    if header.totalsize < HEADER_SIZE:
        raise FormatError(f"devicetree totalsize: expected at least {HEADER_SIZE} bytes, found {header.totalsize}")
    for name, offset, size in (
        ("structure", header.off_dt_struct, header.size_dt_struct),
        ("strings", header.off_dt_strings, header.size_dt_strings),
        ("reserve map", header.off_mem_rsvmap, 16),
    ):
        if offset < HEADER_SIZE or offset + size > header.totalsize:
            raise FormatError(
                f"devicetree {name} block at {offset:#x} of {size:#x} bytes: expected it after the header and inside "
                f"the totalsize of {header.totalsize:#x} bytes"
            )
    if header.off_dt_struct % 4 or header.size_dt_struct % 4:
        raise FormatError(f"devicetree structure block at {header.off_dt_struct:#x} is not aligned to 4 bytes")
    return header


def parse(data: bytes, *, partial: bool = False) -> Fdt:
    """The tree of a devicetree blob. Bytes after its totalsize are ignored.

    partial: return the nodes before the first error of a blob that is truncated or damaged; `fault` has the error.

    Raises FormatError for a broken header and, without `partial`, for any other error.
    """
    header = parse_header(data)
    if len(data) < header.totalsize and not partial:
        raise FormatError(f"truncated devicetree: expected {header.totalsize} bytes, found {len(data)}")
    strings = data[header.off_dt_strings : header.off_dt_strings + header.size_dt_strings]
    block = data[header.off_dt_struct : header.off_dt_struct + header.size_dt_struct]
    root, reserved = Node(b""), list[tuple[int, int]]()
    try:
        _Walker(block, strings).run(root)
        reserved += _reserved(data, header)
    except FormatError as error:
        if not partial:
            raise
        return Fdt(header, root, strings, str(error), is_cut=isinstance(error, TooLargeError))
    return Fdt(header, root, strings, reserved=tuple(reserved))


def _reserved(data: bytes, header: Header) -> Iterator[tuple[int, int]]:
    """The entries of the reserve map, up to one of zeros. Raises FormatError if there is none before another block."""
    start = header.off_mem_rsvmap
    ends = (header.off_dt_struct, header.off_dt_strings, header.totalsize)
    end = min(place for place in ends if place > start)
    for place in range(start, end - _RESERVED.size + 1, _RESERVED.size):
        entry = _RESERVED.unpack_from(data[place : place + _RESERVED.size].ljust(_RESERVED.size, b"\0"))
        if entry == (0, 0):
            return
        yield entry
    raise FormatError(f"devicetree reserve map at {start:#x} has no end: expected an entry of zeros before {end:#x}")


class _Walker:
    """One pass over the structure block. The position only grows, so the time is linear."""

    def __init__(self, block: bytes, strings: bytes) -> None:
        self.block, self.strings = block, strings
        self.words = array("I", block[: len(block) // 4 * 4])
        if sys.byteorder == "little":
            self.words.byteswap()
        self.names: dict[int, bytes] = {}
        self.properties = 0
        self.limits = in_force()

    def run(self, root: Node) -> None:
        words, position, count, limits = self.words, 0, 0, self.limits
        stack: list[Node] = []
        while position < len(words):
            token = words[position]
            position += 1
            if token == _PROPERTY:
                position = self._property(position, stack)
            elif token == _BEGIN_NODE:
                count += 1
                if count > limits.fdt_nodes or len(stack) >= limits.fdt_depth:
                    name = "fdt_nodes" if count > limits.fdt_nodes else "fdt_depth"
                    raise TooLargeError(f"devicetree with too many nodes or levels; {how_to_raise(name)}")
                position = self._begin(position, stack, root, first=count == 1)
            elif token == _END_NODE:
                if not stack:
                    raise FormatError(
                        f"end of a node without its begin, at {4 * position - 4:#x} of the structure block"
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
            raise FormatError(f"node name at {start:#x} of the structure block is not terminated")
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
            raise FormatError(f"property outside any node, at {4 * position - 4:#x} of the structure block")
        if position + 2 > len(self.words):
            raise FormatError("devicetree structure block ends inside a property")
        size, name_offset = self.words[position], self.words[position + 1]
        start = 4 * (position + 2)
        if start + size > len(self.block):
            raise FormatError(f"property value of {size:#x} bytes at {start:#x} exceeds the structure block")
        self.properties += 1
        if self.properties > self.limits.fdt_properties:
            raise TooLargeError(f"devicetree with too many properties; {how_to_raise('fdt_properties')}")
        stack[-1].properties.append((self._name(name_offset), self.block[start : start + size]))
        return position + 2 + (size + 3) // 4

    def _name(self, offset: int) -> bytes:
        name = self.names.get(offset)
        if name is None:
            name = self.names[offset] = _name_at(self.strings, offset)
        return name


def _name_at(strings: bytes, offset: int) -> bytes:
    """The property name at an offset of the strings block.

    Raises FormatError for an offset outside the block, and for a name that is too long or not terminated.
    """
    end = strings.find(b"\0", offset, offset + LIMITS.fdt_name + 1)
    if end >= 0:
        return strings[offset:end]
    if offset + LIMITS.fdt_name < len(strings):
        raise TooLargeError(f"property name at {offset:#x} is too long; {how_to_raise('fdt_name')}")
    raise FormatError(f"property name at {offset:#x} is outside the strings block or not terminated")


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the structure block, or one name of the strings block.

    offset: in bytes from the start of the blob.
    size:   in bytes, padding included.
    kind:   `node`, `property`, `end` (of a node), `nop`, `last` (end of the block) or `string`.
    name:   of the node or property, or the string itself; empty for other kinds.
    value:  of a property; empty for other kinds.
    """

    offset: int
    size: int
    kind: str
    name: bytes = b""
    value: bytes = b""


def tokens(data: bytes) -> Iterator[Token]:
    """The tokens of the structure block up to the first invalid one, then the names of the strings block.

    Raises FormatError for a broken header.
    """
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
    """The token at an offset. None if there is no valid token that ends by `end`."""
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
    """The blob of a tree, with the offsets of its header and with its strings block, byte for byte.

    Raises FormatError if the tree does not fit its header. `sequential` and `repacked` make a new header.
    """
    header = tree.header
    block = _structure(tree.root, _names(tree.root, tree.strings))
    for name, claimed, have in (
        ("structure", header.size_dt_struct, len(block)),
        ("strings", header.size_dt_strings, len(tree.strings)),
    ):
        if claimed != have:
            raise FormatError(
                f"devicetree {name} block has {have} bytes, header claims {claimed}; omit the header to get a new one"
            )
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
            raise FormatError(f"devicetree blocks overlap at {offset:#x}; omit the header to get a new one")
        end = offset + len(data)
    if end > header.totalsize:
        raise FormatError(f"devicetree blocks end at {end:#x}, the header claims a totalsize of {header.totalsize:#x}")
    try:
        blob = bytearray(_HEADER.pack(*(getattr(header, name) for name in header.__slots__)))
    except struct.error:
        raise FormatError("devicetree header: expected members of at most 32 bits") from None
    for offset, data in pieces:
        blob += bytes(offset - len(blob)) + data
    return bytes(blob).ljust(header.totalsize, b"\0")


def sequential(root: Node) -> Fdt:
    """A tree with the header that libfdt's sequential writer gives it. A new property name precedes the older ones.

    Source: libfdt/fdt_sw.c.
    """
    names = _Names()
    for node in root.walk():
        names.add(node, is_in_front=True)
    return _laid_out(root, names, reserve_map=48)


def repacked(root: Node, *, room: int | None = None) -> Fdt:
    """A tree with the header of one that was written sequentially, opened, given children, and packed again.

    KHO writes its root like this from 6.19 on.

    libfdt puts each new child and each new property in front of the older ones, but appends new property names.

    room: size in bytes of the buffer that the tree was opened in, if it was not packed again. None if it was.

    Source: libfdt/fdt_rw.c.
    """
    made = _laid_out(root, _repacked_names(root), reserve_map=40)
    return made if room is None else replace(made, header=replace(made.header, totalsize=room))


class _Names:
    """A strings block under construction, and the offset that each property got when it was set."""

    def __init__(self, strings: bytes = b"") -> None:
        self.strings, self._in_front = strings, 0
        self._places: dict[tuple[int, int], int] = {}

    def add(self, node: Node, *, is_in_front: bool) -> None:
        """Add the property names of a node.

        is_in_front: the writer prepends names, and sets the first property first. Otherwise it appends names, and
        sets the last property first.
        """
        order = range(len(node.properties))
        for index in order if is_in_front else reversed(order):
            name = node.properties[index][0] + b"\0"
            if name not in self.strings:
                self.strings = name + self.strings if is_in_front else self.strings + name
                self._in_front += len(name) if is_in_front else 0
            self._places[id(node), index] = self.strings.find(name) - self._in_front

    def place(self, node: Node, index: int) -> int:
        """Offset of a property's name in the finished block. Names prepended later have moved it."""
        return self._places[id(node), index] + self._in_front


def _repacked_names(root: Node) -> _Names:
    names = _Names()
    names.add(root, is_in_front=True)
    for node in reversed(root.nodes):
        for below in node.walk():
            names.add(below, is_in_front=False)
    return names


def _names(root: Node, strings: bytes) -> _Names:
    """The offset of each property name of a tree in a given strings block.

    A block can hold a name twice, for example as the tail of another name. Which one the writer used depends on
    the writer. If neither of KHO's writers makes this block, the first one is used.

    Raises FormatError for a name that is not in the block.
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
    """The structure block of a tree. Raises FormatError for a name that contains a NUL or is too long."""
    block = bytearray()
    stack: list[Node | None] = [root]
    while stack:
        node = stack.pop()
        if node is None:
            block += struct.pack(">I", _END_NODE)
            continue
        if b"\0" in node.name or any(b"\0" in name for name, _ in node.properties):
            raise FormatError(f"devicetree node {node.name!r}: a node or property name contains a NUL")
        if any(len(name) > LIMITS.fdt_name for name, _ in node.properties):
            raise FormatError(f"devicetree node {node.name!r}: a property name is too long; {how_to_raise('fdt_name')}")
        block += struct.pack(">I", _BEGIN_NODE) + node.name + b"\0"
        block += bytes(-len(block) % 4)
        for index, (_, value) in enumerate(node.properties):
            block += struct.pack(">III", _PROPERTY, len(value), names.place(node, index)) + value
            block += bytes(-len(block) % 4)
        stack.append(None)
        stack.extend(reversed(node.nodes))
    return bytes(block + struct.pack(">I", _END))
