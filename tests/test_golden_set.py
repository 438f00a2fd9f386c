# SPDX-License-Identifier: MIT
"""The shipped goldens are what `luoser build` makes, and read as they were described."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import luoser
from luoser.abi.pci import LAYOUTS
from luoser.abi.pci import layout as pci_layout
from luoser.reader.blob import decode
from luoser.testing import goldens
from luoser.writer.place import order_of
from tests import golden_set
from tests.golden import GOLDEN


@cache
def made() -> dict[str, bytes]:
    return dict(golden_set.files())


def test_made_again_they_are_the_same() -> None:
    assert [path for path, data in made().items() if golden_set.unpacked(path) != data] == []


def test_there_are_no_others() -> None:
    shipped = {
        str(place.relative_to(GOLDEN)).removesuffix(".xz")
        for folder in ("lists", "luo")
        for place in (GOLDEN / folder).rglob("*")
        if place.is_file()
    }
    assert shipped == set(made())


@pytest.mark.parametrize("form", LAYOUTS, ids=lambda form: form.name)
def test_a_list_reads_as_it_was_described(form: object) -> None:
    for path, data in made().items():
        folder, name = path.split("/")[-2:]
        if folder != getattr(form, "name", None) or not name.endswith(".bin"):
            continue
        known = pci_layout(folder)
        assert known is not None
        devices = decode(data, folder).devices
        described = dict(goldens.lists(known))[name.removesuffix(".bin")]
        names = [entry["bdf"].replace("10000:", "0000:") for entry in described]  # the kernel truncates the path
        assert devices is not None and [device.name for device in devices] == names


@pytest.mark.parametrize(("size", "order"), [(0, 0), (1, 0), (4096, 0), (4097, 1), (8192, 1), (8193, 2), (16385, 3)])
def test_a_folio_is_of_the_order_that_get_order_gives(size: int, order: int) -> None:
    assert order_of(size, 4096) == order


@pytest.mark.parametrize("name", goldens.LUO)
def test_luo_at_the_edges_of_its_blocks(name: str, tmp_path: Path) -> None:
    _, sessions, count = goldens.LUO[name]
    place = tmp_path / "image.elf"
    place.write_bytes(made()[f"luo/{name}.elf"])
    with luoser.open(place) as memory:
        (handover,) = luoser.read(memory).handovers
    assert handover.luo is not None
    assert [len(handover.luo.sessions), len(handover.luo.sessions[0].files)] == [sessions, count]
    blocks = {"sessions-51": 1, "sessions-52": 2}.get(name)
    assert blocks is None or len(handover.luo.session_blocks) == blocks
    pages = {"files-63": 1, "files-64": 2}.get(name)
    assert pages is None or len(handover.luo.sessions[0].blocks) == pages
