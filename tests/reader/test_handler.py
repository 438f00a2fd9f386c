# SPDX-License-Identifier: MIT
"""Structs of other handlers: which of several layouts one has."""

from __future__ import annotations

import struct

from luoser.state import File, State
from tests.images import Image, name
from tests.reader.helpers import pci_entry


def vfio_state(blob: bytes, devices: bytes) -> State:
    image = Image()
    data = image.alloc(blob)
    files = image.blocks([name("vfio-pci-v1", 48) + struct.pack("<QQ", data, 7)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    page = image.alloc(struct.pack("<QQ", 1, 1) + name("pci-v2", 48) + struct.pack("<QQ", image.alloc(devices), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, page)), 32)})
    return image.read()


def only_file(state: State) -> File:
    luo = state.handovers[0].luo
    assert luo is not None
    return luo.sessions[0].files[0]


def test_vfio_device_is_read_by_the_layout_that_names_a_preserved_one() -> None:
    devices = struct.pack("<II", 1, 1) + pci_entry(0x501)
    detail = only_file(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None
    assert [layout for layout, _ in detail.readings] == ["vfio-pci-v1-domain32-reset"]
    assert detail.readings[0][1]["bdf"] == 0x501


def test_undecided_vfio_device_has_no_headline() -> None:
    devices = struct.pack("<II", 1, 1) + pci_entry(0x900)
    detail = only_file(vfio_state(struct.pack("<IHB", 0, 0x501, 1), devices)).detail
    assert detail is not None and len(detail.readings) > 1
    assert "layouts fit these bytes" in detail.confidence
