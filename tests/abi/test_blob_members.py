# SPDX-License-Identifier: MIT
"""Members of blobs with their bytes: each byte is a member's or padding, and values are those of the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from luoser.abi.blob_members import fields
from luoser.abi.blob_structs import parts
from luoser.abi.registry import Layout, layout, layouts

GOLDEN = Path(__file__).resolve().parents[2] / "fixtures/golden"
STRUCTS = [entry for entry in layouts() if entry.kind == "struct"]


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


@pytest.mark.parametrize("form", STRUCTS, ids=lambda form: form.name)
def test_members_are_where_the_catalogue_has_them(form: Layout) -> None:
    head = form.schemas[0]
    data = bytes(index % 251 for index in range(head.size))
    found = [field for field in fields(form, data) if not field.name.startswith(("entries[1]", "data."))]
    covered = bytearray(head.size)
    for field in found:
        if field.end <= head.size:
            assert not any(covered[field.offset : field.end]), field
            covered[field.offset : field.end] = b"\1" * field.size
    padded = {
        offset + index for offset, size in ((one.offset, one.size) for one in head.fields if one.padding)
        for index in range(size)
    }  # fmt: skip
    padded |= set(range(head.body, head.size))  # a flexible array begins there
    assert {offset for offset, is_covered in enumerate(covered) if not is_covered} == padded


@pytest.mark.parametrize("place", sorted((GOLDEN / "pci").glob("*.bin")), ids=lambda place: place.stem)
def test_the_members_of_every_device_list(place: Path) -> None:
    form = layout(place.stem)
    if form is None or form.kind != "list":
        pytest.skip("blocks of a list, or a page that one names")
    data = place.read_bytes()
    found = {field.name: field.value for field in fields(form, data)}
    for part in parts(form, data):
        prefix = "" if part.index is None else f"{part.name}[{part.index}]."
        for name, value in part.schema.parse(data[part.offset :]).items():
            if isinstance(value, int) and not name.startswith("_"):
                assert found[prefix + name] == value


def test_bit_fields_share_their_bytes() -> None:
    entry = bytes.fromhex("f4c61a00000030000500000000000000")
    first, second = fields(known("memfd-folio"), entry)
    assert (first.offset, first.size) == (0, 8)
    assert first.bits == (("entries[0].pfn", 0x1AC6F4), ("entries[0].flags", 3))
    assert (second.name, second.value) == ("entries[0].index", 5)


def test_big_endian_members() -> None:
    tree = (GOLDEN / "kho-v4-root.dtb").read_bytes()
    assert next(iter(fields(known("kho-v4"), tree))).value == 0xD00DFEED
