# SPDX-License-Identifier: MIT
"""Memfds with their folio arrays, and the structs of other handlers."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from luoser.abi.registry import layouts
from luoser.errors import UsageError
from luoser.fdt import parse
from luoser.state import File, State, to_document
from luoser.writer import Image
from tests.golden import CATALOGUE
from tests.writer.helpers import built, compared, differences, reread

Json = dict[str, Any]
HANDLERS = [
    entry
    for entry in layouts()
    if entry.subject in ("hugetlb", "guest", "iommu", "vfio", "other") and entry.handler and entry.kind == "struct"
]


def file(values: Json, *, page_size: int = 4096, **luo: Any) -> tuple[File, State, Image]:
    document = {
        "source": {"page_size": page_size},
        "handovers": [{"luo": {**luo, "sessions": [{"name": "a", "files": [values]}]}}],
    }
    state, image = built(document)
    found = state.handovers[0].luo
    assert found is not None
    return found.sessions[0].files[0], state, image


def again(image: Image) -> File:
    found = reread(image).handovers[0].luo
    assert found is not None
    return found.sessions[0].files[0]


def order_at(state: State, address: int) -> int:
    found = state.handovers[0].preserved.map
    assert found is not None
    block = found.find(address)
    assert block is not None and block.address == address
    return block.order


# -- memfds ------------------------------------------------------------------------------------------------


def test_golden_bytes_of_memfd_v2() -> None:
    """The chain that the ABI description prints: descriptor, chunk, folio array."""
    folios = {
        "list": [[0, "0x1ac6f4000", 3], [1, "0x1ac6f5000", 3], [2, "0x1f1d28000", 3]],
        "chunks": ["0x10c000000"],
        "pages": ["0x10c001000"],
    }
    memfd = {"size": "0x3000", "position": "0x10", "seals": ["SEAL", "SHRINK", "GROW", "WRITE"], "folios": folios}
    _, _, image = file({"data": "0x10d000000", "token": "0x1234", "memfd": memfd})
    assert image.read(0x10D000000, 48) == CATALOGUE["memfd-ser.bin"]
    assert image.read(0x10C000000, 4096) == CATALOGUE["memfd-vmalloc-chunk.bin"]
    assert image.read(0x10C001000, 48) == CATALOGUE["memfd-folios.bin"]
    assert not any(image.read(0x10C001030, 4096 - 48))


def test_a_memfd_gets_a_page_for_each_page_of_its_size() -> None:
    found, state, _ = file({"memfd": {"size": 4096 * 2 + 1}})
    assert found.memfd is not None
    folios = found.memfd.folios
    assert (folios.count, folios.total_pages, folios.flags, folios.order) == (3, 1, 1, 0)
    assert [(folio.index, folio.flags) for folio in folios.list] == [(0, 3), (1, 3), (2, 3)]
    assert found.memfd.seals == 1  # F_SEAL_SEAL, as without MFD_ALLOW_SEALING
    places = [*[folio.address for folio in folios.list], *folios.chunks, *folios.pages, found.data]
    assert [order_at(state, place) for place in places] == [0] * 6  # each preserved by itself, none next to another


@pytest.mark.parametrize(("pages", "blocks", "chunks"), [(0, 0, 0), (256, 1, 1), (257, 2, 1), (256 * 511 + 1, 512, 2)])
def test_the_array_of_folios_grows_by_pages_and_chunks(pages: int, blocks: int, chunks: int) -> None:
    found, _, image = file({"memfd": {"size": pages * 4096, "position": 5}})
    assert found.memfd is not None
    folios = found.memfd.folios
    assert (len(folios.pages), len(folios.chunks), folios.total_pages) == (blocks, chunks, blocks)
    read = again(image).memfd
    assert read is not None and read.folios == folios


def test_memfd_v1_has_no_seals() -> None:
    found, _, image = file({"compatible": "memfd-v1", "memfd": {"size": 1}})
    assert found.memfd is not None and found.memfd.seals is None
    first = found.memfd.folios.chunks[0]
    assert image.read(found.data, 40) == struct.pack("<QQQQIHH", 0, 1, 1, first, 1, 1, 0)
    with pytest.raises(UsageError, match="memfd-v1 hands over no seals; leave them out, or take memfd-v2"):
        file({"compatible": "memfd-v1", "memfd": {"size": 1, "seals": ["GROW"]}})


def test_the_devicetree_before_the_merge_has_the_frame_above_the_flags() -> None:
    folios = {"list": [[0, "0x1ac6f4000", 3]]}
    found, _, image = file(
        {"compatible": "memfd-v1", "memfd": {"layout": "memfd-pre-merge", "size": 1, "folios": folios}}
    )
    root = parse(image.read(found.data, 4096)).root
    assert root.get("folios") == struct.pack("<QQ", 0x1AC6F4000 | 3, 0)
    assert (root.u64("size"), root.u64("pos")) == (1, 0)


def test_blocks_of_a_higher_order_hold_more_of_the_array() -> None:
    folios: Json = {"list": [[index, hex(0x40000000 + index * 4096), 3] for index in range(600)], "order": 2}
    folios |= {"total_pages": 4, "pages": ["0x50000000"], "chunks": ["0x50010000"]}
    found, _, image = file({"memfd": {"size": 600 * 4096, "folios": folios}})
    read = again(image).memfd
    assert found.memfd is not None and read is not None and read.folios == found.memfd.folios


def test_arrays_that_do_not_fit_are_refused() -> None:
    rows = [[index, hex(0x40000000 + index * 4096), 3] for index in range(600)]
    with pytest.raises(UsageError, match=r"files\[0\].memfd.folios.pages: 1 pages, 3 are needed"):
        file({"memfd": {"size": "4M", "folios": {"list": rows, "pages": ["0x50000000"]}}})
    with pytest.raises(UsageError, match="blocks of order 30, expected at most 20"):
        file({"memfd": {"size": "4M", "folios": {"list": rows, "order": 30, "pages": [], "chunks": []}}})


def test_files_too_large_to_be_laid_out_page_by_page_are_refused() -> None:
    with pytest.raises(UsageError, match=r"memfd.size: 0x10000000000: 268435456 pages are more than are laid out"):
        file({"memfd": {"size": "1T"}})


def test_contents_are_written_and_read() -> None:
    contents = [{"address": "0x40000000", "size": 4096, "bytes": b"hello".hex()}]
    memfd = {"size": 5, "folios": {"list": [[0, "0x40000000", 3]]}, "contents": contents}
    _, _, image = file({"memfd": memfd})
    read = again(image).memfd
    assert read is not None and read.contents[0].data == b"hello"


# -- other handlers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", HANDLERS, ids=lambda entry: entry.name)
def test_a_struct_of_a_handler_comes_back(entry: Any) -> None:
    numbers = {field.name: 1 for field in entry.schemas[0].fields if field.c_type == "u16" and "." not in field.name}
    fields = {"version": 1, **numbers} if entry.name == "iommu-liveupdate-1" else numbers
    detail = {"readings": [{"layout": entry.name, "fields": fields}]}
    _, state, image = file({"compatible": entry.handler, "detail": detail})
    read = reread(image, layouts=(entry.name,))
    said = compared(to_document(state, full=True))["handovers"][0]["luo"]["sessions"]
    found = compared(to_document(read, full=True))["handovers"][0]["luo"]["sessions"]
    del said[0]["files"][0]["detail"]["readings"]  # short: every member is in what was read
    readings = found[0]["files"][0]["detail"].pop("readings")
    assert not list(differences(said, found))
    assert [reading["layout"] for reading in readings] == [entry.name]
    assert {name: readings[0]["fields"][name] for name in fields} == fields


def test_the_first_of_several_readings_is_the_longest_and_holds_the_others() -> None:
    """A vfio record that several layouts fit: its bytes are those of the longest."""
    detail = {"readings": [{"layout": "vfio-pci-v1-domain32", "fields": {"domain": 0, "bdf": 0x4100}}]}
    _, _, image = file({"compatible": "vfio-pci-v1", "detail": detail})
    first = again(image).detail
    assert first is not None and len(first.readings) > 1
    names = [name for name, _ in first.readings]
    document = to_document(reread(image), full=True)
    _, second = built(document)
    found = again(second).detail
    assert found is not None and [name for name, _ in found.readings] == names
    assert second.read(first.address, 4096) == image.read(first.address, 4096)


def test_what_a_struct_leads_to_is_told() -> None:
    fields = {"nr_hwpts": 2}
    _, _, image = file(
        {"compatible": "iommufd-v1", "detail": {"readings": [{"layout": "iommufd-v1", "fields": fields}]}}
    )
    assert image.lacks == [
        "session a, file 0x0: the state does not hold the iommufd_hwpt_ser behind iommufd_ser; left out"
    ]


def test_a_handler_that_nobody_knows_is_told() -> None:
    found, state, image = file({"compatible": "x-v1", "token": 7})
    assert image.lacks == [f"session a, file 0x7: nothing says what x-v1 keeps at {found.data:#x}; left out"]
    assert order_at(state, found.data) == 0
    handle, state, _ = file({"compatible": "x-v1", "data": "0x42"})
    assert handle.data == 0x42
    assert state.handovers[0].preserved.map is not None and state.handovers[0].preserved.map.find(0x42) is None


def test_structs_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="no struct layout is named vfio-pci-v9"):
        file({"compatible": "x", "detail": {"readings": [{"layout": "vfio-pci-v9", "fields": {}}]}})
    with pytest.raises(UsageError, match="session a, file 0x0: unknown member bfd"):
        file({"compatible": "x", "detail": {"readings": [{"layout": "vfio-pci-v2", "fields": {"bfd": 1}}]}})
    with pytest.raises(UsageError, match="no memfd layout is named memfd-v9"):
        file({"memfd": {"layout": "memfd-v9"}})
