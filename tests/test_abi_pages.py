# SPDX-License-Identifier: MIT
"""docs/abi says what the registry says, and its links and examples hold."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from luoser.abi import block, guest, iommu, memfd, pci, preserved, uapi
from luoser.abi.registry import layouts, schemas
from luoser.abi.release import RELEASES, release
from luoser.abi.schema import Schema
from luoser.cli.main import cli
from tests.abi_pages import GOLDEN, MARKER, all_anchors, anchors, made, marker, page_text, pages, prose, shown

_NOTHING = "\N{EN DASH}"
_HEAD = ("Written by", "Read by", "Since", "Changes with it", "Traps")

each_page = pytest.mark.parametrize("page", [page.name for page in pages()])


def _table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading that is not made; no head, no backticks and stars."""
    after = MARKER.sub("", page_text(page)).split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert lines is not None, heading
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines[0].splitlines()[2:]]
    return [[re.sub(r"[`*]", "", cell).strip() for cell in row] for row in rows]


def _number(text: str) -> int:
    return int(text.replace(",", ""), 0)


# -- what is made -----------------------------------------------------------------------------------------


@each_page
def test_page_is_what_the_generator_makes(page: str) -> None:
    assert page_text(page) == made(page_text(page)), "run `make docs`"


def test_every_struct_is_on_exactly_one_page() -> None:
    found = Counter(key for page in pages() for key in shown(page.read_text()))
    wanted = Counter(map(marker, schemas()))
    assert not wanted - found, "add these lines, and <!-- end -->, to the page of their subject"
    assert not found - wanted, "on two pages"


def _handlers() -> set[tuple[Schema, str]]:
    """(struct, name that it is found under)."""
    named = ((entry.schemas[0], name) for entry in layouts() if entry.schemas for name in entry.handler.split(", "))
    return {(schema, name) for schema, name in named if name and " " not in name}


def _with_lists(text: str) -> str:
    """A page without what is made, but with its tables of device lists."""
    return MARKER.sub(lambda match: match[0] if match[1] == "lists" else "", text)


def test_every_handler_and_flb_is_named_on_the_page_of_its_struct() -> None:
    """In prose, or in the table of lists."""
    texts = [page.read_text() for page in pages()]
    unnamed = [
        name
        for schema, name in _handlers()
        for text in texts
        if marker(schema) in shown(text) and not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", _with_lists(text))
    ]
    assert unnamed == []


def test_every_devicetree_of_the_registry_is_named() -> None:
    text = "".join(page_text(page.name) for page in pages())
    trees = [entry.name.removesuffix("-fdt") for entry in layouts() if entry.kind == "fdt"]
    assert [name for name in trees if name not in text] == []


# -- anchors and links ------------------------------------------------------------------------------------


@each_page
def test_every_anchor_is_unique_in_its_page(page: str) -> None:
    assert [name for name, count in Counter(all_anchors(page)).items() if count > 1] == []


def test_anchors_are_those_that_github_makes() -> None:
    assert {"root-devicetree-by-version", "kho-v1", "invariant-8"} <= anchors("kho.md")
    assert {"a-pciluo-2025", "b1-postings", "a-bug-1", "a-bug-16", "a-order-3"} <= anchors("pci.md")


def test_index_names_every_page() -> None:
    named = {row[0] for row in _table("README.md", "## Pages")}
    assert named == {f"[{page.name}]({page.name})" for page in pages() if page.name != "README.md"}


@each_page
def test_page_says_who_writes_it_and_what_changes_with_it(page: str) -> None:
    found = re.findall(r"^- \*\*(.+?):\*\* \S", page_text(page), re.MULTILINE)
    assert tuple(found) == (() if page == "README.md" else _HEAD)


@each_page
def test_module_says_what_changes_with_it(page: str) -> None:
    name = {"finding.md": "kho", "scratch.md": "kho", "others.md": "other"}.get(page, page.removesuffix(".md"))
    module = import_module(f"luoser.abi.{name}") if name != "README" else None
    assert module is None or "Changes with it: " in (module.__doc__ or "")


# -- facts in prose ---------------------------------------------------------------------------------------


@each_page
def test_sizes_in_prose_are_those_of_the_registry(page: str) -> None:
    """`struct_name` (N bytes)."""
    sizes = {(schema.name.split(" ")[0], schema.size) for schema in schemas()}
    said = re.findall(r"`(\w+)`\s\((\d+) bytes\)", prose(page))
    assert [claim for claim in said if (claim[0], int(claim[1])) not in sizes] == []


@each_page
def test_offsets_in_prose_are_those_of_the_registry(page: str) -> None:
    """`struct_name.member` at offset N."""
    places = {(f"{schema.name}.{field.name}", field.offset) for schema in schemas() for field in schema.fields}
    said = re.findall(r"`([\w.]+)`\sat\soffset\s(\d+)", prose(page))
    assert [claim for claim in said if (claim[0], int(claim[1])) not in places] == []


def test_prose_makes_claims_that_these_tests_look_at() -> None:
    text = "".join(prose(page.name) for page in pages())
    assert re.search(r"`kho_kexec_metadata` \(73 bytes\)", text)
    assert re.search(r"`kho_kexec_metadata.kexec_count` at offset 69", text)


def test_release_matrix() -> None:
    rows = {re.split(r"[ (]", row[0])[0]: row for row in _table("README.md", "## Release matrix")}
    assert set(rows) == {*RELEASES, "6.17.0", "6.17.9", "7.4"} - {"6.17"}
    for name, row in rows.items():
        if name == "7.4":
            continue
        form = release(name)
        assert row[1] == form.kho
        width = {512: "bitmaps of 512 bytes", None: "bitmaps of a page"}[form.bitmap_size]
        assert form.kho != "kho-v1" or width in row[2] or row[2] == "as 6.19"
        assert row[4].startswith((form.luo or _NOTHING).removesuffix("-flb"))
        assert ("luo-flb-v1" in row[4]) == (form.luo == "luo-v1-flb")
        assert row[5] == (form.memfd if form.luo else _NOTHING)


def test_examples_of_radix_keys() -> None:
    shape = preserved.RadixGeometry.of(4096)
    rows = _table("preserved.md", "### Example: keys")
    assert len(rows) == 8
    for address, order, key, indices, bit in rows:
        expected = shape.key(_number(address), _number(order))
        assert _number(key) == expected
        assert shape.decode(expected) == (_number(address), _number(order))
        shifts = [shape.leaf_bits + shape.table_bits * level for level in reversed(range(shape.levels))]
        assert [int(index) for index in indices.split(",")] == [expected >> shift & 511 for shift in shifts]
        assert _number(bit) == expected & 0x7FFF


def test_radix_geometry_of_64_kib_pages() -> None:
    shape = preserved.RadixGeometry.of(65536)
    said = f"64 KiB pages: {64 - 16 + 1}, {shape.table_bits}, {shape.leaf_bits}, depth {shape.levels + 1}."
    assert said in page_text("preserved.md")


def test_examples_of_bitmaps() -> None:
    after = page_text("preserved.md").split("| bitmap of a page: start, bit |\n")[1].splitlines()[1:4]
    for line in after:
        address, order, *forms = (cell.strip() for cell in line.strip("|").split("|"))
        for form, size in zip(forms, (preserved.SMALL_BITMAP, 4096), strict=True):
            start, bit = map(_number, form.split(", "))
            block_size = 4096 << int(order)
            assert start == _number(address) // (8 * size * block_size) * (8 * size * block_size)
            assert bit == (_number(address) - start) // block_size


def test_widths_of_bitmaps() -> None:
    for row, schema in zip(
        _table("preserved.md", "### Width of a bitmap"),
        (preserved.kho_mem_phys_bits_512, preserved.kho_mem_phys_bits_page),
        strict=True,
    ):
        assert (int(row[1]), int(row[2])) == (8 * schema.size, schema.size)
        assert row[3] == f"{8 * schema.size * 4096 >> 20} MiB << order"


def test_capacities_of_blocks() -> None:
    sizes = {(schema.name, schema.size) for schema in schemas()}
    for name, size, capacity, _ in _table("block.md", "## Header"):
        if name.endswith("_ser"):
            assert (name, int(size)) in sizes
            assert int(capacity) == block.capacity(4096, int(size))


def test_ioctl_numbers() -> None:
    rows = {int(row[0], 16): row[2] for row in _table("uapi.md", "## ioctls")}
    assert rows == {**uapi.DEVICE_IOCTLS, **uapi.SESSION_IOCTLS}
    assert {int(row[0], 16): row[1] for row in _table("uapi.md", "## ioctls of 2025")} == uapi.RFC_IOCTLS
    assert f"Type 0x{uapi.IOCTL_TYPE:X}" in page_text("uapi.md")


def test_states_of_2025() -> None:
    assert ", ".join(f"{name} {value}" for value, name in uapi.RFC_STATES.items()) in page_text("luo.md")


def test_flags() -> None:
    assert {int(row[1]): row[0] for row in _table("pci.md", "### A.3 Flags")} == pci.FLAG_NAMES
    text = page_text("memfd.md")
    small = ", ".join(f"{name} {bit if bit < 16 else hex(bit)}" for bit, name in memfd.SEALS.items())
    assert f"`seals`: {small};" in text
    assert ", ".join(f"{bit} {name}" for bit, name in memfd.FOLIO_FLAGS.items()) in text
    assert "Folio flag 1 is UPTODATE here" in page_text("guest.md")
    assert guest.GUEST_FOLIO_FLAGS == {1: "UPTODATE"}
    assert set(iommu.IOMMU_TYPES) == {0, 1, 2}


def test_number_of_layouts_called_vfio_pci_v1() -> None:
    assert sum(entry.handler == "vfio-pci-v1" for entry in layouts()) == 5
    assert "five layouts are called `vfio-pci-v1`" in page_text("vfio.md")


# -- example bytes ----------------------------------------------------------------------------------------

EXAMPLES = [
    (page.name, match[2], match[0])
    for page in pages()
    for match in MARKER.finditer(page.read_text())
    if match[1] == "bytes"
]


def _bytes_of(block_text: str) -> bytes:
    """What the rows of a page show; a row of zeros stands for as many as it says."""
    shown = bytearray()
    for row in re.findall(r"^0x[0-9a-f]{10}  (.+)$", block_text, re.MULTILINE):
        zeros = re.match(r"… (\d+) bytes of zeros", row)
        shown += bytes(int(zeros[1])) if zeros else bytes.fromhex(row.split("  |")[0])
    return bytes(shown)


@pytest.mark.parametrize(("page", "what", "text"), EXAMPLES, ids=[what for _, what, _ in EXAMPLES])
def test_example_is_the_golden_file_and_can_be_decoded(page: str, what: str, text: str, tmp_path: Path) -> None:
    file, _, name = what.split(",")[0].partition(" as ")
    golden = (GOLDEN / file).read_bytes()
    shown = _bytes_of(text)
    assert shown == golden[: len(shown)]
    assert not any(golden[len(shown) :]), "the page leaves out bytes that are not zero"
    blob = tmp_path / "blob"
    blob.write_bytes(shown.ljust(len(golden), b"\0"))
    result = CliRunner().invoke(cli, ["decode", str(blob), "--as", name, "--format", "json"])
    assert result.exit_code == 0, result.output


def test_every_struct_example_of_the_fixtures_is_shown() -> None:
    shown = {what.partition(" as ")[0] for _, what, _ in EXAMPLES}
    assert {path.name for path in GOLDEN.iterdir() if path.suffix in (".bin", ".dtb")} - shown == {"pci-stub-page.bin"}


def test_both_forms_of_a_memfd_folio() -> None:
    old, new = (bytes.fromhex(row[1]) for row in _table("memfd.md", "## memfd-v1 before the merge")[-2:])
    descriptor = memfd.memfd_luo_preserved_folio.parse(old)
    assert (descriptor.foliodesc >> 12, descriptor.foliodesc & 0xFFF, descriptor.index) == (0x1AC6F4, 3, 5)
    folio = memfd.memfd_luo_folio_ser.parse(new)
    assert (folio["_bits"].pfn, folio["_bits"].flags, folio.index) == (0x1AC6F4, 3, 5)
