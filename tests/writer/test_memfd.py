# SPDX-License-Identifier: MIT
"""Memfds with their folio arrays, and the structs of other handlers."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.fdt import parse
from tests.golden import CATALOGUE
from tests.writer.helpers import built_file, order_at, read_file

Json = dict[str, Any]
# -- memfds ------------------------------------------------------------------------------------------------


def test_golden_bytes_of_memfd_v2() -> None:
    """The chain that the ABI description prints: descriptor, chunk, folio array."""
    folios = {
        "list": [[0, "0x1ac6f4000", 3], [1, "0x1ac6f5000", 3], [2, "0x1f1d28000", 3]],
        "chunks": ["0x10c000000"],
        "pages": ["0x10c001000"],
    }
    memfd = {"size": "0x3000", "position": "0x10", "seals": ["SEAL", "SHRINK", "GROW", "WRITE"], "folios": folios}
    _, _, image = built_file({"data": "0x10d000000", "token": "0x1234", "memfd": memfd})
    assert image.read(0x10D000000, 48) == CATALOGUE["memfd-ser.bin"]
    assert image.read(0x10C000000, 4096) == CATALOGUE["memfd-vmalloc-chunk.bin"]
    assert image.read(0x10C001000, 48) == CATALOGUE["memfd-folios.bin"]
    assert not any(image.read(0x10C001030, 4096 - 48))


def test_a_memfd_gets_a_page_for_each_page_of_its_size() -> None:
    found, state, _ = built_file({"memfd": {"size": 4096 * 2 + 1}})
    assert found.memfd is not None
    folios = found.memfd.folios
    assert (folios.count, folios.total_pages, folios.flags, folios.order) == (3, 1, 1, 0)
    assert [(folio.index, folio.flags) for folio in folios.list] == [(0, 3), (1, 3), (2, 3)]
    assert found.memfd.seals == 1  # F_SEAL_SEAL, as without MFD_ALLOW_SEALING
    places = [*[folio.address for folio in folios.list], *folios.chunks, *folios.pages, found.data]
    assert [order_at(state, place) for place in places] == [0] * 6  # each preserved by itself, none next to another


def test_memfd_v1_has_no_seals() -> None:
    found, _, image = built_file({"compatible": "memfd-v1", "memfd": {"size": 1}})
    assert found.memfd is not None and found.memfd.seals is None
    first = found.memfd.folios.chunks[0]
    assert image.read(found.data, 40) == struct.pack("<QQQQIHH", 0, 1, 1, first, 1, 1, 0)
    with pytest.raises(UsageError, match="memfd-v1 hands over no seals; leave them out, or take memfd-v2"):
        built_file({"compatible": "memfd-v1", "memfd": {"size": 1, "seals": ["GROW"]}})


def test_the_devicetree_before_the_merge_has_the_frame_above_the_flags() -> None:
    folios = {"list": [[0, "0x1ac6f4000", 3]]}
    found, _, image = built_file(
        {"compatible": "memfd-v1", "memfd": {"layout": "memfd-pre-merge", "size": 1, "folios": folios}}
    )
    root = parse(image.read(found.data, 4096)).root
    assert root.get("folios") == struct.pack("<QQ", 0x1AC6F4000 | 3, 0)
    assert (root.u64("size"), root.u64("pos")) == (1, 0)


def test_files_too_large_to_be_laid_out_page_by_page_are_refused() -> None:
    with pytest.raises(UsageError, match=r"memfd.size: 0x10000000000: 268435456 pages are more than are laid out"):
        built_file({"memfd": {"size": "1T"}})


def test_contents_are_written_and_read() -> None:
    contents = [{"address": "0x40000000", "size": 4096, "bytes": b"hello".hex()}]
    memfd = {"size": 5, "folios": {"list": [[0, "0x40000000", 3]]}, "contents": contents}
    _, _, image = built_file({"memfd": memfd})
    read = read_file(image).memfd
    assert read is not None and read.contents[0].data == b"hello"


# -- other handlers ----------------------------------------------------------------------------------------
