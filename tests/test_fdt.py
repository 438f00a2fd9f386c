# SPDX-License-Identifier: MIT
"""Devicetree blobs: real ones, made ones, broken ones, and dtc as an oracle."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import time
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luoser import fdt
from luoser.errors import FormatError
from luoser.fdt import Fdt
from tests import images, real
from tests.images import Node, text, u32, u64

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


DTC = shutil.which("dtc")


def dts_of(data: bytes) -> str:
    assert DTC
    result = subprocess.run(
        [DTC, "-q", "-I", "dtb", "-O", "dts"], input=data, capture_output=True, check=True, timeout=20
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


def test_flood_of_nops_is_linear() -> None:
    start = time.monotonic()
    fdt.parse(blob(words(BEGIN, 0) + words(NOP) * (1 << 20) + words(END, STOP)))
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_nesting_beyond_the_limit_is_refused(depth: int) -> None:
    start = time.monotonic()
    with pytest.raises(FormatError, match="levels"):
        fdt.parse(blob(words(BEGIN, 0) * depth + words(END) * depth + words(STOP)))
    assert time.monotonic() - start < 1


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
    start = time.monotonic()
    for partial in (False, True):
        try:
            tree = fdt.parse(data, partial=partial)
        except FormatError as error:
            assert str(error).isprintable()
        else:
            held = sum(len(node.name) + sum(len(value) for _, value in node.properties) for node in tree.root.walk())
            assert held <= len(data)
    assert time.monotonic() - start < 1


@given(st.binary(max_size=400))
@example(b"")
def test_any_bytes_raise_format_error_only(data: bytes) -> None:
    parses_or_refuses(data)


@given(st.binary(max_size=400))
def test_any_structure_block_raises_format_error_only(data: bytes) -> None:
    parses_or_refuses(blob(data[: len(data) // 4 * 4]))


tokens = st.one_of(st.sampled_from([BEGIN, END, PROPERTY, NOP, STOP, 0, 4, 8, 0x61000000]), st.integers(0, 0xFFFFFFFF))


@given(st.lists(tokens, max_size=60))
def test_any_tokens_raise_format_error_only(block: list[int]) -> None:
    parses_or_refuses(blob(words(BEGIN, 0, *block)))


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
