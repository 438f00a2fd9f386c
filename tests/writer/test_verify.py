# SPDX-License-Identifier: MIT
"""What was written, against its description: every difference, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import luoser
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import to_document
from luoser.writer.verify import differences
from tests.writer.helpers import built

Json = dict[str, Any]
PAGE = 16384
SPEC: Json = {
    "source": {"page_size": PAGE},
    "handovers": [
        {
            "luo": {"sessions": [{"name": "vm", "files": [{"token": 1, "memfd": {"size": "96K"}}]}]},
            "pci": [{"layout": "pci-lu-v2-03", "devices": [{"bdf": "0000:05:00.1", "flags": 1}]}],
        }
    ],
}


def made() -> tuple[Json, Memory]:
    """The document of a handover, and its memory."""
    _, image = built(copy.deepcopy(SPEC))
    memory = image.memory()
    document: Json = to_document(luoser.read(memory, contents=True), full=True)
    return document, memory


def said(document: Json, memory: Memory) -> list[str]:
    return list(differences(document, to_document(luoser.read(memory, contents=True), full=True), memory))


def memfd(document: Json) -> Json:
    found: Json = document["handovers"][0]["luo"]["sessions"][0]["files"][0]["memfd"]
    return found


def test_a_document_is_what_its_bytes_are_read_as() -> None:
    assert said(*made()) == []


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
def test_an_image_does_not_show_that_a_kernel_took_it_over(direction: str) -> None:
    document, memory = made()
    document["handovers"][0]["direction"] = direction
    assert said(document, memory) == []


def test_what_is_read_nowhere_is_nothing() -> None:
    assert list(differences({"count": 9}, {})) == ["count: expected 9, found nothing"]


def test_another_direction_is_a_difference() -> None:
    document, memory = made()
    read = copy.deepcopy(document)
    read["handovers"][0]["direction"] = "incoming"
    assert list(differences(document, read, memory)) == ["handovers[0].direction: expected outgoing, found incoming"]


def test_extents_that_are_grouped_otherwise_are_the_same() -> None:
    document, memory = made()
    extents = document["handovers"][0]["preserved"]["extents"]
    single = [
        [f"{int(address, 0) + number * (PAGE << order):#x}", order, 1]
        for address, order, count in extents
        for number in range(count)
    ]
    assert len(single) > len(extents)
    document["handovers"][0]["preserved"]["extents"] = single[::-1]
    assert said(document, memory) == []
    document["handovers"][0]["preserved"]["extents"] = single[1:]
    (word,) = said(document, memory)
    assert word.startswith("handovers[0].preserved.extents: expected a list of ") and word.endswith("of other memory")


@pytest.mark.parametrize("page", [0, 1, 5])
def test_contents_of_a_file_that_is_too_large_for_a_document(page: int) -> None:
    document, memory = made()
    assert memfd(document)["size"] == "0x18000" and memfd(document).get("contents", []) == []
    first = int(memfd(document)["folios"]["list"][0][1], 0)
    memfd(document)["contents"] = [{"address": f"{first:#x}", "size": f"{6 * PAGE:#x}", "bytes": "aabb"}]
    memory = built(copy.deepcopy(document))[1].memory()
    assert said(document, memory) == []
    other = Overlay(memory)
    other.page_size = memory.page_size
    other.write(first + page * PAGE + 77, b"!")
    (word,) = said(document, other)
    assert word.endswith(f"memfd.contents[0]: other bytes at {first:#x}")


def test_contents_that_are_not_in_the_image() -> None:
    document, memory = made()
    memfd(document)["contents"] = [{"address": "0x7ff0000", "size": "0x1000", "bytes": ""}]
    (word,) = said(document, memory)
    assert word.endswith("memfd.contents[0]: page 0x7ff0000 is absent (in no segment of the source)")
