# SPDX-License-Identifier: MIT
"""The PCI part of the state schema is what the layouts are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from luoser.abi import pci
from luoser.abi.schema import Schema, natural, token, u32, u64
from tests import state_schema


def test_the_file_is_what_the_layouts_make() -> None:
    shipped = state_schema.FILE.read_text()
    assert state_schema.text(state_schema.made(json.loads(shipped))) + "\n" == shipped, "run `make docs`"


def test_a_layout_that_is_new_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    con = natural("domain" / u32 * "", "bdf" / u32 * "", "ticket" / token(u64) * "")
    record = Schema("pci_dev_ser", "invented", con, status="posted", seen_in="nowhere", meaning="")
    invented = replace(pci.LAYOUTS[-1], name="pci-invented", record=record)
    monkeypatch.setattr(state_schema, "LAYOUTS", (*pci.LAYOUTS, invented))
    defs = state_schema.made(json.loads(state_schema.FILE.read_text()))["$defs"]
    assert defs["device_pci-invented"]["properties"]["ticket"] == {"$ref": "#/$defs/hex"}
    assert "pci-invented" in defs["pci_layout"]["enum"]
