# SPDX-License-Identifier: MIT
"""Device lists of every form, byte for byte what the ABI description gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.pci import layout
from luoser.errors import UsageError
from luoser.writer.spec import blob_bytes
from tests import golden, lists
from tests.golden import FORMS, Bus, Dev, Range
from tests.writer.helpers import built

each_form = pytest.mark.parametrize("name", FORMS)
inline = [name for name, form in FORMS.items() if not form.block]


def resource(entry: Range) -> dict[str, Any]:
    start, end, name, flags, desc = entry
    return {"start": hex(start), "end": end, "name": name.decode(), "flags": flags, "desc": desc}


def device(name: str, dev: Dev) -> dict[str, Any]:
    """A device as people write it; only members that the layout has."""
    form = layout(name)
    assert form is not None
    saved = [field.name for field in form.record.fields if field.bit_width is not None]
    known: dict[str, Any] = {
        "flags": dev.flags,
        "requested": dev.requested,
        "refcount": dev.refcount,
        "num_vfs": dev.num_vfs,
        "driver_name": dev.driver.decode(),
        "driver_data": dev.data,
        "devfn": dev.bdf & 0xFF,
        "current_state": dev.state,
        "pm_cap": dev.pm_cap,
        "resource": [resource(entry) for entry in dev.resources],
        **{bit: dev.saved >> place & 1 for place, bit in enumerate(saved)},
    }
    members = {field.name for field in form.record.fields}
    bdf = f"{dev.domain:04x}:{dev.bdf >> 8:02x}:{dev.bdf >> 3 & 31:02x}.{dev.bdf & 7}"
    return {"bdf": bdf, **{key: value for key, value in known.items() if key in members}}


def bus(name: str, entry: Bus) -> dict[str, Any]:
    made: dict[str, Any] = {"bus": f"{entry.domain:04x}:{entry.number:02x}"}
    if "22" in name:
        made |= {"parent_domain": entry.parent_domain, "parent_number": entry.parent, "bridge_type": entry.kind}
        made["resource"] = [resource(item) for item in entry.resources]
    return made


def spec(name: str, devices: list[Dev], buses: list[Bus] | tuple[Bus, ...] = (), **fields: int) -> dict[str, Any]:
    form = FORMS[name]
    made: dict[str, Any] = {"layout": name, "devices": [device(name, dev) for dev in form.order(devices)]}
    if form.bus is not None:
        made["buses"] = [bus(name, entry) for entry in buses]
    return {**made, "fields": fields} if fields else made


def test_the_cover_letter_of_september_2025() -> None:
    """The 168 bytes that the ABI description prints, from what its log says."""
    devices = [
        {"bdf": "0000:05:00.1", "flags": ["LU_BUSMASTER"], "driver_name": "pci-lu-stub", "driver_data": "0x1ac6f4000"},
        {"bdf": "0000:04:01.0", "flags": ["LU_BUSMASTER_BRIDGE"], "driver_name": "pcieport"},
    ]
    data = blob_bytes({"layout": "pci-lu-v2-06", "devices": devices})[1]
    assert len(data) == 168
    assert data == golden.CATALOGUE["pci-folio.bin"]


@pytest.mark.parametrize("name", inline)
@settings(max_examples=15)
@given(data=st.data())
def test_a_list_is_what_the_description_packs(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    devices = data.draw(lists.device_lists(form))
    buses = data.draw(lists.buses()) if form.bus is not None else []
    fields, room = {}, None
    if form.room:
        room = len(devices) + data.draw(st.integers(0, 3))
        fields = {"max_nr_devices": room}
    expected = form.blob(devices, buses, capacity=room)
    assert blob_bytes(spec(name, devices, buses, **fields))[1] == expected


@pytest.mark.parametrize("name", golden.BLOCK_FORMS)
def test_records_in_blocks(name: str) -> None:
    """The header of the description, and its one block, in an image."""
    form = FORMS[name]
    devices = golden.devices_of(form)
    entry = {"layout": name, "via": ["flb:pci"], "devices": [device(name, dev) for dev in devices]}
    entry["blocks"] = [hex(golden.FIRST_BLOCK)]
    state, image = built({"handovers": [{"pci": [entry]}]})
    assert state.handovers[0].pci[0].blocks == (golden.FIRST_BLOCK,)
    header = form.blob(devices, first=golden.FIRST_BLOCK)
    assert image.read(state.handovers[0].pci[0].address, 4096) == header.ljust(4096, b"\0")
    assert image.read(golden.FIRST_BLOCK, 4096) == form.block_page(devices)


@pytest.mark.parametrize(("count", "counts"), [(0, []), (1, [1]), (510, [510]), (511, [510, 1]), (1021, [510, 510, 1])])
def test_blocks_are_full_but_the_last(count: int, counts: list[int]) -> None:
    devices = [
        {"bdf": f"0000:{index >> 8:02x}:{index >> 3 & 31:02x}.{index & 7}", "refcount": 1} for index in range(count)
    ]
    state, image = built({"handovers": [{"pci": [{"layout": "pci-version-2", "devices": devices}]}]})
    found, place = [], int.from_bytes(image.read(state.handovers[0].pci[0].address + 8, 8), "little")
    while place:
        found.append(int.from_bytes(image.read(place + 8, 8), "little"))
        place = int.from_bytes(image.read(place, 8), "little")
    assert found == counts


def test_a_block_form_as_a_bare_blob_is_its_header() -> None:
    fields = {"version": 2, "nr_devices": 2, "devices": "0x1f1d29000"}
    data = blob_bytes({"layout": "pci-version-2", "fields": fields})[1]
    assert data == golden.CATALOGUE["pci-version-2.bin"]
    with pytest.raises(UsageError, match="lie in KHO blocks, not in this blob"):
        blob_bytes({"layout": "pci-version-2", "devices": [{"bdf": "0:1:0.0"}]})


def refused(word: str, **values: Any) -> None:
    with pytest.raises(UsageError) as caught:
        blob_bytes({"layout": "pci-lu-v2-06", **values})
    assert word in str(caught.value)


def test_what_a_list_cannot_hold_is_named() -> None:
    one = {"bdf": "0000:05:00.1", "flags": 1, "driver_name": "nvme"}
    refused("devices[1].bdf: 0000:05:00.1 is devices[0] already", devices=[one, {**one, "bdf": "05:00.1"}])
    refused(
        "devices[0].driver_name: too long: expected at most 62 bytes and a NUL, found 63",
        devices=[{**one, "driver_name": "x" * 63}],
    )
    refused("devices[0].driver_data: ", devices=[{**one, "driver_data": 1 << 64}])
    refused(
        "devices[0].bdf: expected a PCI address such as 0000:05:00.1, found '0000:05:20.0'",
        devices=[{"bdf": "0000:05:20.0"}],
    )
    refused("devices[0].bdf: missing", devices=[{}])
    refused("devices[0].drivername: unknown member of struct pci_dev_ser", devices=[{**one, "drivername": "a"}])
    refused("header.count is 3, but 1 are listed", devices=[one], fields={"count": 3})
    refused("unknown member counts", devices=[one], fields={"counts": 1})
    refused(
        "flags[0]: expected one of LU_BUSMASTER, LU_BUSMASTER_BRIDGE, found 'BUSMASTER'",
        devices=[{**one, "flags": ["BUSMASTER"]}],
    )


def test_what_newer_lists_cannot_hold_is_named() -> None:
    one = {"bdf": "0000:05:00.1", "refcount": 1}
    refused(
        "header.max_nr_devices is 1, but 2 entries are in use",
        layout="pci-v1-u32",
        devices=[{"bdf": "0:01:00.0"}, {"bdf": "0:02:00.0"}],
        fields={"max_nr_devices": 1},
    )
    refused(
        "devices[0].refcount: 65536 does not fit 2 bytes", layout="pci-v2-u32", devices=[{**one, "refcount": 65536}]
    )
    refused("devices[0].domain: 65536 does not fit 2 bytes", layout="pci-v1-nr", devices=[{"bdf": "10000:05:00.1"}])
    refused(
        "max_nr_devices: too many: 4294967295 entries of 8 bytes, expected at most",
        layout="pci-v2-u32",
        devices=[one],
        fields={"max_nr_devices": (1 << 32) - 1},
    )
    refused("max_nr_devices: ", layout="pci-v2-u32", devices=[one], fields={"max_nr_devices": 1 << 32})
    refused(
        "devices[0].pme_poll: 2 does not fit 1 bit",
        layout="pci-lu-v1-12",
        devices=[{"bdf": "0:01:00.0", "pme_poll": 2}],
    )
    refused(
        "resource: too many items: expected at most 11, found 12",
        layout="pci-lu-v1-resources",
        devices=[{"bdf": "0:01:00.0", "resource": [{}] * 12}],
    )
    refused(
        "name: too long: expected at most 63 bytes and a NUL, found 64",
        layout="pci-lu-v1-resources",
        devices=[{"bdf": "0:01:00.0", "resource": [{"name": "x" * 64}]}],
    )
    refused(
        "buses[0].bus: expected a PCI bus such as 0000:41, found '0000:4'",
        layout="pci-lu-v1-19",
        devices=[],
        buses=[{"bus": "0000:4"}],
    )
    refused("buses[0].number: 300 does not fit 1 byte", layout="pci-lu-v1-19", devices=[], buses=[{"number": 300}])


def test_a_bus_is_named_by_text_or_by_numbers() -> None:
    texts = blob_bytes({"layout": "pci-lu-v1-19", "buses": [{"bus": "0001:41"}]})[1]
    numbers = blob_bytes({"layout": "pci-lu-v1-19", "buses": [{"domain": 1, "number": 0x41}]})[1]
    assert texts == numbers == bytes.fromhex("00000000 01000000 0100 41 00")


@pytest.mark.parametrize(("count", "order"), [(0, 0), (1, 0), (51, 0), (52, 1), (102, 1), (103, 2), (255, 3), (256, 3)])
def test_the_folio_of_a_list_is_get_order_large(count: int, order: int) -> None:
    devices = [
        {"bdf": f"0000:{index >> 8:02x}:{index >> 3 & 31:02x}.{index & 7}", "flags": 1, "driver_name": "nvme"}
        for index in range(1, count + 1)
    ]
    state, image = built({"handovers": [{"pci": [{"layout": "pci-lu-v2-06", "devices": devices}]}]})
    handover = state.handovers[0]
    assert handover.preserved.map is not None
    block = handover.preserved.map.find(handover.pci[0].address)
    assert block is not None and (block.address, block.order) == (handover.pci[0].address, order)
    data = image.read(block.address, -(-(8 + 80 * count) // 4096) * 4096)
    assert not any(data[8 + 80 * count :])


def test_domains() -> None:
    """Family A keeps 16 bits of a domain, as the kernel's path does."""
    top = blob_bytes({"layout": "pci-lu-v2-03", "devices": [{"bdf": "ffff:41:00.0", "flags": 1}]})[1]
    assert top[8:12] == bytes.fromhex("0041ffff")
    cut = blob_bytes({"layout": "pci-lu-v2-03", "devices": [{"bdf": "10000:41:00.0", "flags": 1}]})[1]
    assert cut[8:12] == bytes.fromhex("00410000")
    wide = blob_bytes({"layout": "pci-v2-u32", "devices": [{"bdf": "10000:41:00.0", "refcount": 1}]})[1]
    assert wide[8:16] == bytes.fromhex("00000100 0041 0100")
