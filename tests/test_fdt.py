# SPDX-License-Identifier: MIT
"""Devicetree blobs: real ones, made ones, broken ones, and dtc as an oracle."""

from __future__ import annotations

import ctypes
import ctypes.util
import dataclasses
import re
import shutil
import struct
import subprocess
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luoser import fdt
from luoser.errors import FormatError, TooLargeError
from luoser.fdt import Fdt
from luoser.limits import LIMITS, Limits, limited
from tests import images, real
from tests.images import Node, text, u32, u64
from tests.work import held, processor_time, steps

BEGIN, END, PROPERTY, NOP, STOP = 1, 2, 3, 4, 9


@cache
def real_blobs() -> dict[str, bytes]:
    """Every whole devicetree that a kernel gave out through debugfs."""
    found = {}
    for case in real.CASES:
        for number, boot in enumerate(real.truth(case)):
            for file, content in boot["debugfs"].items():
                data = bytes.fromhex(content) if "scratch" not in file else b""
                if data.startswith(fdt.MAGIC) and int.from_bytes(data[4:8], "big") <= len(data):
                    found[f"{case}-{number}-{file}"] = data
    return found


each_blob = pytest.mark.parametrize("name", real_blobs())


def blob(block: bytes, strings: bytes = b"name\0", **header: int) -> bytes:
    """A blob around a structure block, with header fields as one likes."""
    fields = {
        "magic": 0xD00DFEED, "totalsize": 56 + len(block) + len(strings), "off_dt_struct": 56,
        "off_dt_strings": 56 + len(block), "off_mem_rsvmap": 40, "version": 17, "last_comp_version": 16,
        "boot_cpuid_phys": 0, "size_dt_strings": len(strings), "size_dt_struct": len(block), **header,
    }  # fmt: skip
    return struct.pack(">10I", *fields.values()) + bytes(16) + block + strings


def words(*tokens: int) -> bytes:
    return struct.pack(f">{len(tokens)}I", *tokens)


MINIMAL = words(BEGIN, 0, END, STOP)


def flat(tree: Fdt) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    return [(node.name, node.properties) for node in tree.root.walk()]


# -- real trees --


@each_blob
def test_real_trees_are_sound(name: str) -> None:
    tree = fdt.parse(real_blobs()[name])
    assert tree.fault is None
    assert (tree.header.version, tree.header.last_comp_version) == (17, 16)
    assert tree.root.name == b""
    assert re.fullmatch(rb"(kho|luo|memblock|kho-test)-v\d", tree.root.text("compatible") or b"")


def test_there_are_real_trees() -> None:
    assert len(real_blobs()) > 15


@each_blob
def test_bytes_behind_totalsize_are_ignored(name: str) -> None:
    data = real_blobs()[name]
    assert flat(fdt.parse(data + b"\xff" * 100)) == flat(fdt.parse(data))


@each_blob
def test_tokens_of_real_trees_are_their_bytes(name: str) -> None:
    data = real_blobs()[name]
    tree = fdt.parse(data)
    found = [token for token in fdt.tokens(data) if token.kind != "string"]
    place = tree.header.off_dt_struct
    for token in found:
        assert token.offset == place
        place += token.size
    assert (found[-1].kind, place) == ("last", tree.header.off_dt_struct + tree.header.size_dt_struct)
    assert [token.name for token in found if token.kind == "node"] == [node.name for node in tree.root.walk()]
    properties = [(token.name, token.value) for token in found if token.kind == "property"]
    assert sorted(properties) == sorted(each for node in tree.root.walk() for each in node.properties)
    names = b"".join(token.name + b"\0" for token in fdt.tokens(data) if token.kind == "string")
    assert names == tree.strings


DTC = shutil.which("dtc")


def dts_of(data: bytes) -> str:
    assert DTC
    result = subprocess.run(
        [DTC, "-q", "-I", "dtb", "-O", "dts"], input=data, capture_output=True, check=True, timeout=600
    )
    return result.stdout.decode()


def values(source: str) -> bytes:
    """The bytes of a property as dtc prints it."""
    out = b""
    for cells, octets, string in re.findall(r'<([^>]*)>|\[([^\]]*)\]|"((?:[^"\\]|\\.)*)"', source):
        if cells:
            out += b"".join(int(cell, 16).to_bytes(4, "big") for cell in cells.split())
        elif octets:
            out += bytes.fromhex(octets)
        else:
            out += string.encode().decode("unicode_escape").encode("latin-1") + b"\0"
    return out


def of_dts(source: str) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """Nodes, parents first, with their properties, from dtc's text."""
    found: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
    stack: list[list[tuple[bytes, bytes]]] = []
    for line in map(str.strip, source.splitlines()):
        if line.endswith("{"):
            properties: list[tuple[bytes, bytes]] = []
            found.append((line[:-1].strip().replace("/", "").encode(), properties))
            stack.append(properties)
        elif line == "};":
            stack.pop()
        elif line.endswith(";") and stack:
            label, _, value = line[:-1].partition(" = ")
            stack[-1].append((label.encode(), values(value)))
    return found


@pytest.mark.skipif(DTC is None, reason="dtc is not installed")
@each_blob
def test_real_trees_are_as_dtc_reads_them(name: str) -> None:
    data = real_blobs()[name]
    ours = sorted((node, sorted(properties)) for node, properties in flat(fdt.parse(data)))
    assert ours == sorted((node, sorted(properties)) for node, properties in of_dts(dts_of(data)))


names = st.from_regex(r"[a-z][a-z0-9,._+-]{0,14}", fullmatch=True)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> Node:
    properties = draw(st.dictionaries(names, st.binary(max_size=20), max_size=4))
    children = draw(st.dictionaries(names, trees(depth - 1), max_size=3)) if depth else {}
    nodes = [Node(label, child.properties, child.nodes) for label, child in children.items()]
    return Node("", properties, nodes)


def listed(node: Node) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    own = (node.name.encode(), [(key.encode(), value) for key, value in node.properties.items()])
    return [own, *(entry for child in node.nodes for entry in listed(child))]


@settings(max_examples=50)
@given(tree=trees())
def test_any_tree_is_read_back(tree: Node) -> None:
    assert flat(fdt.parse(images.fdt(tree))) == listed(tree)


# -- values --

TREE = fdt.parse(
    images.fdt(Node("", {"a": u64(0x617000), "b": u32(7), "c": text("kho-v4"), "d": b""}, [Node("x")]))
).root


def test_numbers_are_those_of_the_machine_and_of_their_exact_width() -> None:
    assert (TREE.u64("a"), TREE.u32("b")) == (0x617000, 7)
    assert (TREE.u32("a"), TREE.u64("b"), TREE.u64("d"), TREE.u64("none")) == (None, None, None, None)


def test_text_ends_at_its_nul() -> None:
    assert (TREE.text("c"), TREE.text("d"), TREE.text("none")) == (b"kho-v4", b"", None)


def test_children_by_name() -> None:
    found = TREE.node("x")
    assert found is not None and found.name == b"x"
    assert TREE.node("y") is None


def test_first_of_two_properties_of_a_name_counts() -> None:
    block = words(BEGIN, 0, PROPERTY, 4, 0, 1, PROPERTY, 4, 0, 2, END, STOP)
    assert fdt.parse(blob(block)).root.get("name") == words(1)


GOLDEN = bytes.fromhex(
    """
    d0 0d fe ed 00 00 00 dd 00 00 00 38 00 00 00 a4
    00 00 00 28 00 00 00 11 00 00 00 10 00 00 00 00
    00 00 00 39 00 00 00 6c 00 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00
    00 00 00 03 00 00 00 07 00 00 00 00 6b 68 6f 2d
    76 34 00 00 00 00 00 03 00 00 00 08 00 00 00 0b
    00 40 23 01 01 00 00 00 00 00 00 01 4c 55 4f 00
    00 00 00 03 00 00 00 08 00 00 00 20 00 80 67 05
    01 00 00 00 00 00 00 03 00 00 00 08 00 00 00 2f
    20 00 00 00 00 00 00 00 00 00 00 02 00 00 00 02
    00 00 00 09 63 6f 6d 70 61 74 69 62 6c 65 00 70
    72 65 73 65 72 76 65 64 2d 6d 65 6d 6f 72 79 2d
    6d 61 70 00 70 72 65 73 65 72 76 65 64 2d 64 61
    74 61 00 62 6c 6f 62 2d 73 69 7a 65 00
    """
)


def test_golden_root_of_the_catalogue() -> None:
    """221 bytes built by independent code; the tests' own writer makes the same."""
    luo = Node("LUO", {"preserved-data": u64(0x105678000), "blob-size": u64(32)})
    data = images.fdt(Node("", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0x101234000)}, [luo]))
    assert data == GOLDEN
    root = fdt.parse(data).root
    assert (root.text("compatible"), root.u64("preserved-memory-map")) == (b"kho-v4", 0x101234000)
    child = root.node("LUO")
    assert child is not None and (child.u64("preserved-data"), child.u64("blob-size")) == (0x105678000, 32)


# -- NOPs, nesting, what breaks off --


def test_nops_are_skipped_everywhere() -> None:
    block = words(NOP, NOP, BEGIN, 0, NOP, PROPERTY, 4, 0, 5, NOP, BEGIN, 0x61000000, NOP, END, NOP, END, NOP, STOP)
    assert flat(fdt.parse(blob(block))) == [(b"", [(b"name", words(5))]), (b"a", [])]


@pytest.mark.parametrize("tokens", [[NOP], [BEGIN, 0, END], [PROPERTY, 0, 0]], ids=["nops", "nodes", "properties"])
def test_flood_of_tokens_is_linear(tokens: list[int]) -> None:
    """16 times as many cost 16 times as much; 256 times where what was read is cut off or gone over for each."""
    few, many = (blob(words(BEGIN, 0) + words(*tokens) * count + words(END, STOP)) for count in (1 << 11, 1 << 15))
    assert processor_time(lambda: fdt.parse(many)) < 64 * processor_time(lambda: fdt.parse(few))


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_nesting_beyond_the_limit_is_refused(depth: int) -> None:
    """When it is met: no node beyond it is made."""
    data = blob(words(BEGIN, 0) * depth + words(END) * depth + words(STOP))
    with steps(5000), pytest.raises(FormatError, match="levels"):
        fdt.parse(data)


@pytest.mark.parametrize(("size", "is_read"), [(256, True), (257, False)])
def test_names_of_properties_have_a_limit(size: int, is_read: bool) -> None:
    data = blob(words(BEGIN, 0, PROPERTY, 0, 0, END, STOP), b"a" * size + b"\0")
    assert (fdt.parse(data, partial=True).fault is None) is is_read
    assert any(token.kind == "property" for token in fdt.tokens(data)) is is_read
    if not is_read:
        with pytest.raises(FormatError, match="is too long; --limit fdt_name=N"):
            fdt.parse(data)


@pytest.mark.parametrize(("limit", "value"), [("fdt_size", 100), ("fdt_depth", 2), ("fdt_nodes", 2)])
def test_a_limit_that_is_met_is_named(limit: str, value: int) -> None:
    data = blob(words(BEGIN, 0) * 3 + words(END) * 3 + words(STOP)).ljust(101, b"\0")
    fdt.parse(data)
    with limited(Limits(**{limit: value})), pytest.raises(FormatError, match=f"--limit {limit}=N"):
        fdt.parse(data)


def test_names_that_share_a_long_string_cost_what_they_brought() -> None:
    """10,000 names, each the rest of one string of 64 KiB, would be 600 MB; of a tree of 16 MiB, terabytes."""
    block = words(BEGIN, 0) + b"".join(words(PROPERTY, 0, offset) for offset in range(10_000)) + words(END, STOP)
    data = blob(block, b"a" * (64 << 10) + b"\0")
    with held(4 << 20):
        parses_or_refuses(data)
        assert sum(1 for _ in fdt.tokens(data)) == 2


def test_nesting_up_to_the_limit_is_read() -> None:
    assert len(flat(fdt.parse(blob(words(BEGIN, 0) * 64 + words(END) * 64 + words(STOP))))) == 64


def test_too_many_nodes_are_refused() -> None:
    children = words(BEGIN, 0x61000000, END) * 140_000
    with pytest.raises(FormatError, match="nodes"):
        fdt.parse(blob(words(BEGIN, 0) + children + words(END, STOP)))


BROKEN = {
    "unterminated node name": blob(words(BEGIN, 0x61616161, 0x61616161)),
    "unterminated property name": blob(words(BEGIN, 0, PROPERTY, 0, 0, END, STOP), strings=b"name"),
    "property name outside": blob(words(BEGIN, 0, PROPERTY, 0, 5, END, STOP)),
    "property name far outside": blob(words(BEGIN, 0, PROPERTY, 0, 0xFFFFFFFF, END, STOP)),
    "value leaves the block": blob(words(BEGIN, 0, PROPERTY, 100, 0, END, STOP)),
    "value of 4 GiB": blob(words(BEGIN, 0, PROPERTY, 0xFFFFFFFF, 0, END, STOP)),
    "property cut in two": blob(words(BEGIN, 0, PROPERTY, 0)),
    "property before the root": blob(words(PROPERTY, 0, 0, BEGIN, 0, END, STOP)),
    "no end token": blob(words(BEGIN, 0, END)),
    "ends inside a node": blob(words(BEGIN, 0, STOP)),
    "too many ends": blob(words(BEGIN, 0, END, END, STOP)),
    "two roots": blob(words(BEGIN, 0, END, BEGIN, 0, END, STOP)),
    "no root": blob(words(STOP)),
    "empty block": blob(b""),
    "unknown token": blob(words(BEGIN, 0, 7, END, STOP)),
    "totalsize beyond data": blob(MINIMAL, totalsize=4096),
    "totalsize of 4 GiB": blob(MINIMAL, totalsize=0xFFFFFFFF),
    "totalsize below the header": blob(MINIMAL, totalsize=39),
    "structure outside": blob(MINIMAL, off_dt_struct=4096),
    "structure inside the header": blob(MINIMAL, off_dt_struct=8),
    "structure unaligned": blob(MINIMAL, off_dt_struct=57, size_dt_struct=12),
    "strings outside": blob(MINIMAL, off_dt_strings=0xFFFFFFF0),
    "strings too long": blob(MINIMAL, size_dt_strings=0xFFFFFFFF),
    "reserve map outside": blob(MINIMAL, off_mem_rsvmap=4000),
    "version 15": blob(MINIMAL, version=15),
    "compatible with version 18": blob(MINIMAL, version=18, last_comp_version=18),
    "other magic": blob(MINIMAL, magic=0xEDFE0DD0),
    "header cut": blob(MINIMAL)[:39],
    "nothing": b"",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_blob_is_a_format_error(what: str) -> None:
    with pytest.raises(FormatError) as caught:
        fdt.parse(BROKEN[what])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", [what for what in BROKEN if len(BROKEN[what]) > 60])
def test_broken_blob_read_in_part_has_a_fault_or_is_refused(what: str) -> None:
    try:
        tree = fdt.parse(BROKEN[what], partial=True)
    except FormatError:
        return
    assert tree.fault or what == "totalsize beyond data"


def test_partial_tree_has_what_came_before_the_fault() -> None:
    block = words(BEGIN, 0, PROPERTY, 4, 0, 5, BEGIN, 0x61000000, END, 7, END, STOP)
    tree = fdt.parse(blob(block), partial=True)
    assert flat(tree) == [(b"", [(b"name", words(5))]), (b"a", [])]
    assert tree.fault and "0x24" in tree.fault


def test_sound_minimal_tree() -> None:
    assert flat(fdt.parse(blob(MINIMAL))) == [(b"", [])]


# -- anything at all --


def parses_or_refuses(data: bytes) -> None:
    """And ends: at a line of Python for each byte, and some."""
    for partial in (False, True):
        try:
            with steps(1000 + 4 * len(data)):
                tree = fdt.parse(data, partial=partial)
        except FormatError as error:
            assert str(error).isprintable()
        else:
            size = sum(len(node.name) + sum(len(value) for _, value in node.properties) for node in tree.root.walk())
            assert size <= len(data)


@given(st.binary(max_size=400))
@example(b"")
def test_any_bytes_raise_format_error_only(data: bytes) -> None:
    parses_or_refuses(data)


@given(st.binary(max_size=400))
def test_any_structure_block_raises_format_error_only(data: bytes) -> None:
    parses_or_refuses(blob(data[: len(data) // 4 * 4]))


any_token = st.one_of(
    st.sampled_from([BEGIN, END, PROPERTY, NOP, STOP, 0, 4, 8, 0x61000000]), st.integers(0, 0xFFFFFFFF)
)


@given(st.lists(any_token, max_size=60))
def test_any_tokens_raise_format_error_only(block: list[int]) -> None:
    parses_or_refuses(blob(words(BEGIN, 0, *block)))


@given(st.lists(any_token, max_size=60))
def test_any_tokens_are_told_once_each_and_in_order(block: list[int]) -> None:
    data = blob(words(BEGIN, 0, *block))
    place = 0
    for token in fdt.tokens(data):
        assert place <= token.offset
        assert token.size > 0
        place = token.offset + token.size
        assert place <= len(data)


@settings(max_examples=300)
@given(
    data=st.sampled_from(sorted(real_blobs().values())),
    edits=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 4096),
)
def test_mutated_real_trees_raise_format_error_only(data: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    changed = bytearray(data)
    for place, value in edits:
        changed[place % len(changed)] = value
    parses_or_refuses(bytes(changed))
    parses_or_refuses(bytes(changed[:cut]))


# -- written --


@cache
def dumped_trees() -> dict[str, tuple[bytes, Fdt]]:
    """Every devicetree below a root of a real dump: its bytes in memory, and what was read."""
    found = {}
    for name in real.DUMPS:
        for handover in real.read(name).handovers:
            trees = [("root", handover.address, handover.fdt)]
            trees += [(subtree.name, subtree.address, subtree.fdt) for subtree in handover.subtrees]
            for what, address, tree in trees:
                if tree is not None and address is not None:
                    found[f"{name}-{what}-{address:x}"] = real.dump(name).read(address, tree.header.totalsize), tree
    return found


def kinds(data: bytes) -> list[str]:
    """Which of the two writers makes these bytes of its own tree."""
    tree = fdt.parse(data)
    writers = {"sequential": fdt.sequential, "repacked": fdt.repacked}
    return [kind for kind, write in writers.items() if fdt.flatten(write(tree.root)) == data]


def test_every_tree_of_the_dumps_is_written_as_it_lies_in_memory() -> None:
    assert len(dumped_trees()) > 30
    for name, (data, tree) in dumped_trees().items():
        assert fdt.flatten(tree) == data, name


@each_blob
def test_every_tree_of_debugfs_is_written_as_it_came(name: str) -> None:
    data = real_blobs()[name]
    tree = fdt.parse(data)
    assert fdt.flatten(tree) == data[: tree.header.totalsize]


def test_kernels_write_in_two_ways() -> None:
    """Roots since 6.19 are packed again after every sub-tree; all other trees are written from start to end."""
    for name, (data, tree) in dumped_trees().items():
        is_new_root = tree.header.off_mem_rsvmap == 40
        assert kinds(data) == (["repacked"] if is_new_root else ["sequential"]), name
        assert is_new_root == ("-root-" in name and not name.startswith("6.18"))


names_of_properties = st.sampled_from([b"reg", b"a-reg", b"g", b"compatible", b"data", b"preserved-data", b"x"])
made_nodes = st.recursive(
    st.builds(
        fdt.Node,
        st.sampled_from([b"a", b"bb", b"node@1", b"LUO"]),
        st.lists(st.tuples(names_of_properties, st.binary(max_size=9)), max_size=4, unique_by=lambda pair: pair[0]),
    ),
    lambda below: st.builds(
        fdt.Node,
        st.sampled_from([b"a", b"bb", b"c"]),
        st.lists(st.tuples(names_of_properties, st.binary(max_size=9)), max_size=4, unique_by=lambda pair: pair[0]),
        st.lists(below, max_size=3, unique_by=lambda node: node.name),
    ),
    max_leaves=6,
).map(lambda node: fdt.Node(b"", node.properties, node.nodes))


@cache
def libfdt() -> ctypes.CDLL | None:
    found = ctypes.util.find_library("fdt")
    return ctypes.CDLL(found) if found else None


needs_libfdt = pytest.mark.skipif(libfdt() is None, reason="no libfdt on this machine")


def by_libfdt(root: fdt.Node, *, is_repacked: bool) -> bytes:
    """The tree as libfdt writes it: from start to end, or root first and then child by child, packed each time."""
    lib = libfdt()
    assert lib is not None
    space = ctypes.create_string_buffer(1 << 16)

    def call(name: str, *arguments: object) -> int:
        result = int(getattr(lib, name)(space, *arguments))
        assert result >= 0, f"{name}: {result}"
        return result

    def write(node: fdt.Node, *, below: bool) -> None:
        call("fdt_begin_node", node.name)
        for name, value in node.properties:
            call("fdt_property", name, value, len(value))
        for child in node.nodes if below else ():
            write(child, below=True)
        call("fdt_end_node")

    def add(parent: int, node: fdt.Node) -> None:
        place = call("fdt_add_subnode", parent, node.name)
        for name, value in reversed(node.properties):
            call("fdt_setprop", place, name, value, len(value))
        for child in reversed(node.nodes):
            add(call("fdt_subnode_offset", parent, node.name), child)

    call("fdt_create", len(space))
    call("fdt_finish_reservemap")
    write(root, below=not is_repacked)
    call("fdt_finish")
    for node in reversed(root.nodes) if is_repacked else ():
        call("fdt_open_into", space, len(space))
        add(0, node)
        call("fdt_pack")
    return space.raw[: int.from_bytes(space.raw[4:8], "big")]


@needs_libfdt
@given(made_nodes)
def test_libfdt_writes_the_same_from_start_to_end(root: fdt.Node) -> None:
    assert fdt.flatten(fdt.sequential(root)) == by_libfdt(root, is_repacked=False)


@needs_libfdt
@given(made_nodes)
def test_libfdt_writes_the_same_child_by_child(root: fdt.Node) -> None:
    """Children without children, as KHO's root has them; whole words, as libfdt leaves old bytes behind others."""
    root.nodes = [
        fdt.Node(node.name, [(name, value[: len(value) & ~3]) for name, value in node.properties])
        for node in root.nodes
    ]
    if root.nodes:
        assert fdt.flatten(fdt.repacked(root)) == by_libfdt(root, is_repacked=True)


@given(made_nodes, st.booleans())
def test_a_written_tree_reads_as_it_was_and_is_written_again(root: fdt.Node, is_repacked: bool) -> None:
    data = fdt.flatten(fdt.repacked(root) if is_repacked else fdt.sequential(root))
    tree = fdt.parse(data)
    assert tree.root == root
    assert fdt.flatten(tree) == data


@pytest.mark.skipif(DTC is None, reason="no dtc on this machine")
def test_dtc_reads_what_was_written() -> None:
    root = fdt.Node(b"", [(b"reg", bytes(4))], [fdt.Node(b"a", [(b"a-reg", b"\1\2"), (b"reg", bytes(8))])])
    for tree in (fdt.sequential(root), fdt.repacked(root)):
        assert of_dts(dts_of(fdt.flatten(tree))) == flat(tree)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size_dt_struct": 0}, "structure block has"),
        ({"size_dt_strings": 1}, "strings block has"),
        ({"off_dt_strings": 60}, "overlap"),
        ({"off_dt_strings": 1 << 40}, "blocks end at"),
        ({"off_mem_rsvmap": 1 << 40}, "blocks end at"),
        ({"totalsize": 1 << 40}, "32 bits"),
        ({"totalsize": 57}, "blocks end at"),
    ],
)
def test_a_tree_that_does_not_fit_its_header_is_refused(change: dict[str, int], word: str) -> None:
    tree = fdt.sequential(fdt.Node(b"", [(b"reg", bytes(4))]))
    with pytest.raises(FormatError, match=word):
        fdt.flatten(dataclasses.replace(tree, header=dataclasses.replace(tree.header, **change)))


def test_names_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(FormatError, match="NUL"):
        fdt.sequential(fdt.Node(b"a\0b"))
    with pytest.raises(FormatError, match="NUL"):
        fdt.sequential(fdt.Node(b"", [(b"a\0b", b"")]))
    with pytest.raises(FormatError, match="is too long; --limit fdt_name=N"):
        fdt.sequential(fdt.Node(b"", [(b"a" * 257, b"")]))
    tree = fdt.sequential(fdt.Node(b"", [(b"reg", bytes(4))]))
    tree.root.properties.append((b"other", b""))
    with pytest.raises(FormatError, match="not in the strings block"):
        fdt.flatten(tree)


# -- the reserve map --


def with_reserved(*entries: tuple[int, int], end: bool = True) -> bytes:
    """A tree with these entries in its reserve map."""
    plain = fdt.flatten(fdt.sequential(fdt.Node(b"", [(b"compatible", b"x\0")])))
    header = list(struct.unpack(">10I", plain[:40]))
    more = b"".join(struct.pack(">QQ", *entry) for entry in entries) + (bytes(16) if end else b"")
    shift = len(more) - 16
    header[1:4] = [header[1] + shift, header[2] + shift, header[3] + shift]
    start = header[4]
    return struct.pack(">10I", *header) + plain[40:start] + more + plain[start + 16 :]


def test_entries_of_the_reserve_map_are_read() -> None:
    tree = fdt.parse(with_reserved((0x1000, 0x2000), (0x8000, 1)))
    assert (tree.reserved, tree.fault) == (((0x1000, 0x2000), (0x8000, 1)), None)
    assert tree.root.text("compatible") == b"x"
    assert fdt.parse(with_reserved()).reserved == ()


def test_reserve_map_without_an_end_is_told() -> None:
    data = with_reserved((0x1000, 0x2000), end=False)
    with pytest.raises(FormatError, match="reserve map at 0x30 has no end: expected an entry of zeros before 0x40"):
        fdt.parse(data)
    tree = fdt.parse(data, partial=True)
    assert "reserve map" in (tree.fault or "") and tree.root.text("compatible") == b"x"


@pytest.mark.parametrize("version", [1, 3, 15])
def test_old_versions_are_refused_with_what_to_do(version: int) -> None:
    data = bytearray(with_reserved())
    data[20:24] = version.to_bytes(4, "big")
    with pytest.raises(FormatError, match=rf"expected 17, found {version} .*dtc -I dtb -O dtb"):
        fdt.parse(bytes(data))


def test_properties_are_bounded() -> None:
    root = fdt.Node(b"", [(b"a", b"")] * 100)
    blob = fdt.flatten(fdt.sequential(root))
    with limited(Limits(fdt_properties=99)):
        with pytest.raises(TooLargeError, match="--limit fdt_properties=N raises this limit, now 99"):
            fdt.parse(blob)
        tree = fdt.parse(blob, partial=True)
    assert tree.is_cut and len(tree.root.properties) == 99
    assert not fdt.parse(blob).is_cut


def test_large_tree_takes_a_few_times_its_size() -> None:
    block = struct.pack(">II", 1, 0) + struct.pack(">III", 3, 0, 0) * 1_300_000
    head = struct.pack(">10I", 0xD00DFEED, 56 + len(block) + 2, 56, 56 + len(block), 40, 17, 16, 0, 2, len(block))
    blob = head + bytes(16) + block + b"a\0"
    with held(4 * len(blob)):
        tree = fdt.parse(blob, partial=True)
    assert tree.is_cut and len(tree.root.properties) == LIMITS.fdt_properties
