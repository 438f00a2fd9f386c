# SPDX-License-Identifier: MIT
"""Blobs to make C of, and what the ABI catalogue says of their bytes: where structs lie is counted here by hand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from luoser.abi import pci
from luoser.abi.registry import Layout, layout, layouts
from tests import golden
from tests.catalogue import INDEX, LAYOUTS, declare_struct, tag, values

__all__ = ["GOLDEN", "MADE", "SUBJECTS", "Subject", "header"]

Place = tuple[int, int]
"""(offset, number in the catalogue) of a struct in a blob."""


@dataclass(frozen=True)
class Subject:
    """A blob of a layout, and the structs in it by the catalogue."""

    name: str
    layout: Layout
    data: bytes
    places: tuple[Place, ...]

    @cached_property
    def fields(self) -> list[tuple[int, str, int | bytes]]:
        """(offset, member with its struct, value) of every scalar."""
        return [
            (at, f"{tag(number)}.{name}", value)
            for offset, number in self.places
            for at, name, value in values(number, self.data, offset)
        ]

    @cached_property
    def covered(self) -> set[int]:
        """Offsets of the bytes that belong to a member; all others are padding or no struct's."""
        return {
            offset + field["offset"] + byte
            for offset, number in self.places
            for field in LAYOUTS[number]["fields"]
            for byte in range(field["size"])
        }


def _run(number: int, start: int, count: int) -> list[Place]:
    return [(start + index * LAYOUTS[number]["size"], number) for index in range(count)]


def _known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


def _number(name: str, label: str) -> int:
    return INDEX[name, label]


_HEADER = _number("kho_block_header_ser", "kho-v4 block")
_REFCOUNT = _number("pci_dev_ser", "pci-v2, pci-v3, pci version 1/2 (refcount)")
_LUO_FILE = _number("luo_file_ser", "luo-v1..luo-v5")
_PCI_HEAD = _number("pci_ser", "pci-lu-v2-06 (patches 06-10/10)")
_PCI_DEV = _number("pci_dev_ser", "pci-lu-v2-06 (patches 06-10/10)")
_FDT = _number("fdt_header", "devicetree v17"), _number("fdt_reserve_entry", "devicetree v17")
_CHUNK = _number("khoser_mem_chunk", "kho-v1")

_FILES: dict[str, tuple[str, list[Place]]] = {
    "pci-folio.bin": ("pci-lu-v2-06", [(0, _PCI_HEAD), (8, _PCI_DEV), (88, _PCI_DEV)]),
    "pci-luo.dtb": ("luo-v1", [(0, _FDT[0]), (40, _FDT[1])]),
    "luo-ser.bin": ("luo-v5", [(0, _number("luo_ser", "luo-v5 (also luo-v3, luo-v4 of the 7.2-cycle series)"))]),
    "memfd-file.bin": ("luo-file", [(0, _LUO_FILE)]),
    "memfd-ser.bin": ("memfd-v2", [(0, _number("memfd_luo_ser", "memfd-v2"))]),
    "memfd-folios.bin": ("memfd-folio", _run(_number("memfd_luo_folio_ser", "memfd-v1, memfd-v2"), 0, 3)),
    "kexec-metadata.bin": ("kexec-metadata-v1", [(0, _number("kho_kexec_metadata", "kexec-metadata version 1"))]),
    "kho-v4-root.dtb": ("kho-v4", [(0, _FDT[0]), (40, _FDT[1])]),
    "pci-stub-page.bin": ("pci-lu-stub", [(0, _number("pci_lu_stub_ser", "pci-lu-stub"))]),
    "pci-version-2.block.bin": ("kho-block-pci", [(0, _HEADER), *_run(_REFCOUNT, 16, 2)]),
    "luo-session-block.bin": (
        "kho-block-sessions", [(0, _HEADER), (16, _number("luo_session_ser", "luo-session-v2, luo-v5"))],
    ),
    "luo-flb-page.bin": (
        "luo-flb-v1",
        [(0, _number("luo_flb_header_ser", "luo-flb-v1, luo-v5")), (16, _number("luo_flb_ser", "luo-flb-v1, luo-v5"))],
    ),
    "memfd-vmalloc-chunk.bin": ("kho-vmalloc-chunk", [(0, _number("kho_vmalloc_chunk", "kho_vmalloc"))]),
    "kho-chunk-page.bin": ("kho-chunk", [(0, _CHUNK)]),
}  # fmt: skip


def _c_name(text: str) -> str:
    return re.sub(r"\W", "_", text)


def _goldens() -> Iterator[Subject]:
    files = golden.files()
    for file, (name, places) in _FILES.items():
        yield Subject(_c_name(file), _known(name), files[file], tuple(places))
    for form in filter(None, map(pci.layout, golden.FORMS)):
        head, dev = _number("pci_ser", form.header.label), _number("pci_dev_ser", form.record.label)
        places = [(0, head)]
        if form.blocks is None:
            start = LAYOUTS[head]["size"]
            places += _run(dev, start, 3)
            if form.bus is not None:
                places += _run(_number("pci_bus_ser", form.bus.label), start + 3 * LAYOUTS[dev]["size"], 3)
        yield Subject(_c_name(form.name), _known(form.name), files[f"pci/{form.name}.bin"], tuple(places))
    hole = files["pci/pci-version-2.block.bin"]  # three devices and the hole of a fourth
    yield Subject("block_with_hole", _known("kho-block-pci"), hole, ((0, _HEADER), *_run(_REFCOUNT, 16, 4)))


def _made() -> Iterator[Subject]:
    """Every layout of structs of the catalogue, full of bytes of no meaning; two records behind a head that counts."""
    for entry in layouts():
        numbers = [INDEX.get((schema.name, schema.label), -1) for schema in entry.schemas[: 2 if entry.count else 1]]
        if entry.kind != "struct" or -1 in numbers:  # the catalogue does not have all of them yet
            continue
        noise = random.Random(entry.name)
        places = [(0, numbers[0])]
        data = noise.randbytes(LAYOUTS[numbers[0]]["size"])
        if entry.count:
            field = next(field for field in LAYOUTS[numbers[0]]["fields"] if field["name"] == entry.count)
            data = (
                data[: field["offset"]]
                + (2).to_bytes(field["size"], "little")
                + data[field["offset"] + field["size"] :]
            )
            places += _run(numbers[1], len(data), 2)
            data += noise.randbytes(2 * LAYOUTS[numbers[1]]["size"])
        yield Subject("made_" + _c_name(entry.name), entry, data, tuple(places))


GOLDEN = list(_goldens())
MADE = list(_made())
SUBJECTS = GOLDEN + MADE


def header(subject: Subject, tags: Iterable[str]) -> str:
    """C declarations of the subject's structs and of the other tags, from the catalogue, under the kernel's names."""
    own = {tag(number): number for _, number in subject.places}
    before = max(own.values())
    for name in tags:
        near = [number for number in range(len(LAYOUTS)) if tag(number) == name]
        own.setdefault(name, max((number for number in near if number < before), default=near[0]))
    return "\n".join(declare_struct(number, tag) for number in _held_first(set(own.values())))


def _held_first(numbers: set[int]) -> list[int]:
    """An order in which each struct comes behind those that its members name."""
    left, made = set(numbers), list[int]()
    names = {tag(number): number for number in numbers}
    while left:
        ready = [number for number in sorted(left) if not _needs(number, names) & left]
        assert ready, left
        made += ready
        left -= set(ready)
    return made


def _needs(number: int, names: dict[str, int]) -> set[int]:
    words = {re.split(r"\W", field["type"])[0] for field in LAYOUTS[number]["fields"]}
    return {names[word] for word in words & set(names)}
