# SPDX-License-Identifier: MIT
"""What is looked for is what the registry has."""

from __future__ import annotations

import pytest

from luoser.abi import luo, memfd, pci
from luoser.abi.registry import layouts
from luoser.reader.salvage.forms import HANDLERS, TABLES, TREES, Table, shapes


def test_every_form_of_luo_has_its_tables() -> None:
    entries = {(one.kind, one.head and one.head.name, one.entry.label) for one in TABLES}
    for form in luo.FORMS:
        head = "kho_block_header_ser" if form.sessions == "blocks" else form.session_header and form.session_header.name
        if form.sessions != "none":
            assert ("sessions", head, form.session.label) in entries
        if form.files != "tree":
            block = "kho_block_header_ser" if form.files == "blocks" else None
            assert ("files", block, luo.luo_file_ser.label) in entries
    assert [one.layout for one in TABLES if one.kind == "flbs"] == ["luo-flb-v1"]


def test_every_handler_and_every_devicetree_is_known() -> None:
    assert {b"memfd-v1", b"memfd-v2", b"memfd", b"vfio-pci-v2", b"iommufd-v1"} <= HANDLERS
    assert not {b"LUO", b"pci", b"kexec-metadata"} & HANDLERS
    assert {one.name.removesuffix("-fdt").encode() for one in layouts() if one.kind == "fdt"} == set(TREES)


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_every_struct_has_a_shape_that_says_something(page_size: int) -> None:
    wanted = [one for one, _ in shapes(page_size)]
    assert {one for one in wanted if isinstance(one, Table)} == set(TABLES)
    assert [one for one in wanted if isinstance(one, pci.PciLayout)] == list(pci.LAYOUTS)
    described = [one for one in memfd.FORMS if one.descriptor is not None]
    assert [one for one in wanted if isinstance(one, memfd.MemfdForm)] == described
    assert all(len(shape.tables) >= 4 for _, shape in shapes(page_size))
