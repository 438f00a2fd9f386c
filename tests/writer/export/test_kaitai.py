# SPDX-License-Identifier: MIT
"""Kaitai descriptions of the layouts: their objects against Schema.parse, on all goldens and on random bytes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import luoser
from luoser import fdt
from luoser.abi import pci
from luoser.abi.blob_structs import ARRAYS, parts
from luoser.abi.registry import Layout, layout, layouts
from luoser.abi.schema import Array, Bits, CStruct, Flex, Raw, Schema, Type
from luoser.writer.export.kaitai import document, identifier, kaitai, type_names
from tests import golden, golden_set
from tests.writer.export import ksy

ALL = document(layouts())
TEXT = kaitai(layouts())
PAGES = {
    "kexec-metadata.bin": "kexec-metadata-v1",
    "kho-chunk-512.bin": "kho-chunk",
    "kho-chunk-page.bin": "kho-chunk",
    "kho-v4-root.dtb": "kho-v4",
    "luo-flb-page.bin": "luo-flb-v1",
    "luo-ser.bin": "luo-v5",
    "luo-session-block.bin": "kho-block-sessions",
    "memfd-file.bin": "luo-file",
    "memfd-folios.bin": "memfd-folio",
    "memfd-ser.bin": "memfd-v2",
    "memfd-vmalloc-chunk.bin": "kho-vmalloc-chunk",
    "pci-folio.bin": "pci-lu-v2-06",
    "pci-luo.dtb": "luo-v1",
    "pci-stub-page.bin": "pci-lu-stub",
    "pci-version-2.bin": "pci-version-2",
    "pci-version-2.block.bin": "kho-block-pci",
}


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["compiled", "interpreted"])
def parse(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ksy.Parse:
    if request.param == "interpreted":
        return ksy.interpreted(ALL)
    if reason := ksy.why_not():
        pytest.skip(reason)
    return ksy.compiled(TEXT, ALL, tmp_path_factory.mktemp("kaitai"))


# -- goldens ----------------------------------------------------------------------------------------------


def goldens() -> Iterator[tuple[str, str, bytes]]:
    """(name, layout, bytes) of all goldens; of an image, of each page of it that has a layout."""
    for name, data in golden.files().items():
        stem = name.removeprefix("pci/").removesuffix(".bin")
        yield name, PAGES.get(name) or ("kho-block-pci" if stem.endswith(".block") else stem), data
    for place in sorted(golden.GOLDEN.glob("lists/*/*")) + sorted(golden.GOLDEN.glob("luo/*")):
        name = place.relative_to(golden.GOLDEN).as_posix().removesuffix(".xz")
        if name.endswith(".bin"):
            yield name, place.parent.name, golden_set.unpacked(name)
        else:
            yield from ((f"{name} {what}", what, data) for what, data in _of_image(place))


def _of_image(place: Path) -> Iterator[tuple[str, bytes]]:
    with luoser.open(place) as memory:
        (handover,) = luoser.read(memory).handovers
        pages: list[tuple[str, int | None]] = []
        for entry in handover.pci:
            pages += [(str(entry.layout), entry.address), *(("kho-block-pci", block) for block in entry.blocks)]
        assert handover.luo is not None
        own = handover.luo.layout == "luo-v5"
        pages += [("kho-block-sessions", block) for block in handover.luo.session_blocks if own]
        pages += [("kho-block-files", block) for one in handover.luo.sessions for block in one.blocks if own]
        pages += [("luo-v5" if own else "luo-v1", handover.luo.address)]
        pages += [("kho-v4" if own else "kho-v3", handover.address)]
        for what, address in pages:
            assert address is not None
            yield what, memory.read(address, 4096)


@cache
def all_goldens() -> tuple[tuple[str, str, bytes], ...]:
    return tuple(goldens())


def test_no_golden_is_left_out() -> None:
    shipped = {str(place.relative_to(golden.GOLDEN)) for place in golden.GOLDEN.rglob("*.*") if place.suffix != ".md"}
    assert {name.split()[0] for name, *_ in all_goldens()} == {name.removesuffix(".xz") for name in shipped}


def test_every_golden_is_as_schemas_parse_it(parse: ksy.Parse) -> None:
    for name, what, data in all_goldens():
        entry = known(what)
        compare_parts(entry, data, parse(identifier(what), data), name)


def compare_parts(entry: Layout, data: bytes, found: Any, where: str) -> None:
    """All structs of a blob: the head's members are those of the object itself."""
    counted: dict[str, int] = {}
    for part in parts(entry, data):
        own = found
        if entry.kind == "fdt" and part.name:
            own = found.reserved[part.index]
        elif part.name:
            own = getattr(found, part.name)[part.index]
            counted[part.name] = counted.get(part.name, 0) + 1
        compare(part.schema.struct, data[part.offset :], own, f"{where} {part.name}[{part.index}]")
    form = pci.layout(entry.name)
    if entry.name not in ARRAYS and (form is None or form.capacity is None):  # these have unused slots at the end
        assert counted == {name: len(getattr(found, name)) for name in counted}


def compare(struct: CStruct, data: bytes, found: Any, where: str) -> None:
    assert struct.schema is not None
    same(struct, struct.schema.parse(data), found, where)


def same(struct: CStruct, values: Any, found: Any, where: str) -> None:
    for member in struct.members:
        own, place = member.type, f"{where}.{member.name}"
        if isinstance(own, Bits):
            for name, _ in own.members:
                assert int(getattr(found, name)) == values[member.name][name], place
        elif not isinstance(own, Flex) and not member.is_padding:
            same_value(own, values[member.name], getattr(found, member.name), place)


def same_value(own: Type, value: Any, found: Any, where: str) -> None:
    if isinstance(own, CStruct):
        same(own, value, found, where)
    elif isinstance(own, Array):
        assert len(value) == len(found) == own.count
        for index, (one, other) in enumerate(zip(value, found, strict=True)):
            same_value(own.of, one, other, f"{where}[{index}]")
    elif isinstance(own, Raw):
        assert found == (value.split(b"\0")[0].decode("latin-1") if own.kind == "text" else value), where
    elif isinstance(found, bytes):  # the magic of a devicetree
        assert int.from_bytes(found, "big") == value, where
    else:
        assert found == value, where


# -- every layout -----------------------------------------------------------------------------------------


def image(schema: Schema, chance: random.Random, numbers: dict[str, int]) -> bytes:
    """A struct of random bytes, with some members as given."""
    values = schema.parse(chance.randbytes(schema.size))
    return schema.build({**values, **{name: value for name, value in numbers.items() if name in values}})


def blob(entry: Layout, chance: random.Random) -> bytes:
    """Random bytes of a layout with two records of each kind."""
    form = pci.layout(entry.name)
    counts = (form.count, form.capacity, form.bus_count) if form is not None else (entry.count,)
    numbers = {"len": 8, "nr": 1, "nr_pages": 1, "is_contiguous": 0, "size": 8}
    data = image(entry.schemas[0], chance, {**numbers, **{name: 2 for name in counts if name}})
    records = [form.record, *([form.bus] if form.bus else [])] if form is not None else entry.schemas[1:2]
    if (form is None or form.blocks is None) and (form is not None or entry.count):
        data += b"".join(image(schema, chance, {}) for schema in records for _ in range(2))
    elif entry.name not in ARRAYS:
        data += chance.randbytes(8)
    return data


def test_random_bytes_of_every_layout(parse: ksy.Parse) -> None:
    chance = random.Random(21)
    for entry in layouts():
        if entry.kind != "fdt":
            data = blob(entry, chance)
            compare_parts(entry, data, parse(identifier(entry.name), data), entry.name)


def test_random_bytes_of_every_struct_that_a_layout_leads_to(parse: ksy.Parse) -> None:
    chance = random.Random(22)
    for entry in layouts():
        for struct, name in type_names(entry).items() if entry.schemas else ():
            if name in ALL["types"][identifier(entry.name)].get("types", {}) and struct.schema is not None:
                data = image(struct.schema, chance, {"len": 8, "nr": 1, "size": 8, "nr_hwpts": 0}) + chance.randbytes(
                    64
                )
                compare(struct, data, parse(f"{identifier(entry.name)}.{name}", data), f"{entry.name} {name}")


def test_a_list_with_a_hole_has_all_slots(parse: ksy.Parse) -> None:
    device = (1).to_bytes(4, "little") + (5).to_bytes(2, "little") + (1).to_bytes(2, "little")
    data = (4).to_bytes(4, "little") + (2).to_bytes(4, "little") + device + bytes(8) + device
    found = parse("pci_v2_u32", data + bytes(5))
    assert [one.refcount for one in found.devices] == [1, 0, 1]
    assert not getattr(parse("pci_v2_u32", bytes(8)), "devices", None)


def with_reserved(tree: bytes) -> bytes:
    """A devicetree with one more entry in its reserve map, at 40."""
    head = [int.from_bytes(tree[at : at + 4], "big") for at in range(0, 40, 4)]
    moved = [head[0], head[1] + 16, head[2] + 16, head[3] + 16, *head[4:]]
    entry = (0x1000).to_bytes(8, "big") + (0x2000).to_bytes(8, "big")
    return b"".join(word.to_bytes(4, "big") for word in moved) + entry + tree[40:]


def test_every_devicetree_has_its_nodes_and_properties(parse: ksy.Parse) -> None:
    for entry in layouts():
        for name in ("kho-v4-root.dtb", "pci-luo.dtb") if entry.kind == "fdt" else ():
            data = with_reserved(golden.CATALOGUE[name])
            found = parse(identifier(entry.name), data)
            compare_parts(entry, data, found, entry.name)
            assert [(one.address, one.size) for one in found.reserved] == [(0x1000, 0x2000), (0, 0)]
            compare_tokens(data, found)


def compare_tokens(data: bytes, found: Any) -> None:
    tokens = [one for one in fdt.tokens(data) if one.kind != "string"]
    assert [one.tag for one in found.structure.tokens] == [NUMBERS[one.kind] for one in tokens]
    for one, other in zip(tokens, found.structure.tokens, strict=True):
        if one.kind == "node":
            assert other.node.name.encode() == one.name
        elif one.kind == "property":
            assert found.strings.names[other.property.nameoff :].split(b"\0")[0] == one.name
            assert other.property.value == one.value


NUMBERS = {"node": 1, "end": 2, "property": 3, "nop": 4, "last": 9}


def test_a_flexible_array_has_what_its_struct_counts(parse: ksy.Parse) -> None:
    node = bytes(8) + (10).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    assert list(parse("setup_data", node).data) == list(b"abc")
    head = bytes(8) + (2).to_bytes(8, "little")
    assert list(parse("dma_alloc", head + b"\0\0" + bytes(16)).page_phys) == [0, 0]
    assert list(parse("dma_alloc", head + b"\0\1" + bytes(8)).page_phys) == [0]
    folios = parse("kvm_vm_v1.kvm_kho_folios_ser", (2).to_bytes(8, "little") + bytes(32))
    assert list(folios.pa) == [0, 0]
    saved = parse("vfio_pci_rfc_saved.pci_cap_saved_ser", b"\1\0\0" + (8).to_bytes(4, "little") + bytes(12))
    assert list(saved.data) == [0, 0]


def test_bits_with_a_name_are_instances(parse: ksy.Parse) -> None:
    schema = known("memfd-v2").schemas[0]
    values = schema.parse(bytes(schema.size))
    found = parse("memfd_v2", schema.build({**values, "seals": 0x12}))
    assert (found.is_seals_seal, found.is_seals_shrink, found.is_seals_future_write) == (False, True, True)


def test_names_of_any_bytes_are_read(parse: ksy.Parse) -> None:
    assert parse("luo_file", b"\xff\x80".ljust(64, b"\0")).entries[0].compatible == "\xff\x80"


def test_fewer_bytes_than_the_head_are_an_error(parse: ksy.Parse) -> None:
    for name in ("luo_v5", "pci_v2_u32", "memfd_v2"):
        with pytest.raises(EOFError):
            parse(name, bytes(7))


# -- the text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [kaitai, lambda entries: kaitai(entries[:1]), lambda entries: kaitai(entries[-1:])])
def test_the_text_is_the_document(made: Callable[[tuple[Layout, ...]], str]) -> None:
    text = made(layouts())
    read = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    name = read["meta"]["id"]
    entries = [entry for entry in layouts() if name in ("luoser_abi", identifier(entry.name))]
    assert read == document(entries) and text.isascii()


@pytest.mark.parametrize("name", ["pci-lu-v1-22", "kho-v4", "kho-mem"])
def test_one_layout_alone_is_the_description(name: str, tmp_path: Path) -> None:
    if reason := ksy.why_not():
        pytest.skip(reason)
    entry, chance = known(name), random.Random(23)
    data = golden.CATALOGUE["kho-v4-root.dtb"] if entry.kind == "fdt" else blob(entry, chance)
    found = ksy.compiled(kaitai([entry]), document([entry]), tmp_path)("", data)
    compare_parts(entry, data, found, name)


def test_provenance_is_in_the_description() -> None:
    doc = document([known("pci-version-2")])["doc"]
    assert "queued (linux-next)" in doc and "v8/v9, Aug-Sep 2026" in doc and "Found under pci." in doc


def test_second_forms_of_one_struct_are_numbered() -> None:
    types = document([known("iommu-liveupdate-1")])["types"]
    assert {"iommu_device_ser", "iommu_device_ser_2"} <= set(types)


def test_structs_that_are_not_used_are_not_repeated() -> None:
    assert "luo_ser" not in document([known("luo-v5")]).get("types", {})
