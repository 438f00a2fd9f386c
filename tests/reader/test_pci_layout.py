# SPDX-License-Identifier: MIT
"""Which layout a device list has: golden lists, real folios, random lists, and bytes that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luoser.abi.pci import LAYOUTS, layout
from luoser.abi.schema import Schema
from luoser.memory.source import Memory
from luoser.reader.pci_layout import Fit, best_fits, fit_pci, read_pci
from tests.golden import BLOCK_FORMS, CAPACITY, CATALOGUE, FORMS, GOLDEN, Dev, devices_of
from tests.lists import FIRST_BLOCKS, buses, device_lists

PAGE = 4096
each_form = pytest.mark.parametrize("name", FORMS)
some_lists = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def sound(fits: list[Fit]) -> list[str]:
    return [fit.name for fit in fits if not fit.faults]


def block_reader(page: bytes) -> Callable[[int, Schema], tuple[bytes, tuple[int, ...], str | None]]:
    """One block page, wherever the header says that it is."""

    def read(first: int, entry: Schema) -> tuple[bytes, tuple[int, ...], str | None]:
        (count,) = struct.unpack_from("<Q", page, 8)
        return page[16 : 16 + count * entry.size], (first,), None

    return read


def golden(name: str) -> bytes:
    return (GOLDEN / "pci" / name).read_bytes()


# -- golden lists -----------------------------------------------------------------------------------------

TWINS = {name: [name] for name in FORMS} | {name: ["pci-v2-block", "pci-v1-block"] for name in ("pci-v1-block", "pci-v2-block")}  # fmt: skip  # noqa: E501
"""The header of v7 is the same in both its forms, and a header alone does not hold the records."""


@each_form
def test_golden_lists_are_told_apart(name: str) -> None:
    assert sound(best_fits(golden(f"{name}.bin"))) == TWINS[name]


@each_form
def test_golden_lists_are_told_apart_in_a_zeroed_folio(name: str) -> None:
    data = golden(f"{name}.bin")
    assert sound(best_fits(data.ljust(-(-len(data) // PAGE) * PAGE, b"\0"))) == TWINS[name]


@each_form
def test_golden_lists_are_told_apart_with_their_exact_size(name: str) -> None:
    data = golden(f"{name}.bin")
    fits = best_fits(data, size=len(data))
    assert sound(fits) == TWINS[name]
    assert all(fit.exact for fit in fits)


@pytest.mark.parametrize("name", BLOCK_FORMS)
def test_block_forms_are_told_apart_with_their_blocks(name: str) -> None:
    fits = best_fits(golden(f"{name}.bin"), blocks=block_reader(golden(f"{name}.block.bin")))
    assert sound(fits) == [name]
    assert fits[0].blob.blocks == (0x1F1D29000,)


@each_form
def test_golden_lists_give_back_their_devices(name: str) -> None:
    form = FORMS[name]
    known = layout(name)
    assert known is not None
    blocks = block_reader(golden(f"{name}.block.bin")) if form.block else None
    blob = read_pci(known, golden(f"{name}.bin"), blocks)
    assert blob is not None and not blob.missing
    found = [device for device in blob.devices if device.number("refcount") != 0]
    want = form.order(devices_of(form))
    assert [(device.domain, device.bdf) for device in found] == [(dev.domain, dev.bdf) for dev in want]
    for device, dev in zip(found, want, strict=True):
        said = {
            "flags": dev.flags,
            "requested": dev.requested,
            "refcount": dev.refcount,
            "reserved": 0,
            "num_vfs": dev.num_vfs,
            "driver_name": dev.driver.decode(),
            "driver_data": dev.data,
            "devfn": dev.bdf & 0xFF,
            "current_state": dev.state,
            "pm_cap": dev.pm_cap,
            "pme_poll": dev.saved >> 1 & 1,
            "no_d3cold": dev.saved >> 2 & 1,
            "pref_64_window": dev.saved >> 8,
        }
        assert {key: said[key] for key in device.fields if key in said} == {
            key: value for key, value in device.fields.items() if key in said
        }
    assert len(blob.buses) == (3 if form.bus else 0)


def test_resources_and_buses_of_the_largest_form() -> None:
    known = layout("pci-lu-v1-22-iov")
    assert known is not None
    blob = read_pci(known, golden("pci-lu-v1-22-iov.bin"))
    assert blob is not None
    bars = blob.devices[1].fields["resource"]
    assert isinstance(bars, tuple) and len(bars) == 17
    assert bars[0] == {
        "start": 0xFE800000,
        "end": 0xFE803FFF,
        "name": "0000:41:00.0",
        "flags": 0x140204,
        "desc": 0,
    }
    assert [(bus["domain"], bus["number"], bus["bridge_type"]) for bus in blob.buses] == [
        (1, 0, 1),
        (0, 0x41, 2),
        (0, 0x40, 1),
    ]
    assert blob.buses[2]["resource"][0]["name"] == "PCI Bus 0000:40"


# -- real folios ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address", "size", "want"),
    [
        ("7.3-a/frozen", 0x1A97000, 136, "pci-lu-v2-03"),
        ("7.3-a/frozen", 0x1A97000, None, "pci-lu-v2-03"),
        ("7.3-a/frozen", 0x1AD9000, None, "pci-v2-u64"),
        ("6.18-a/frozen", 0x1358000, None, "pci-lu-v2-03"),
    ],
)
def test_real_folios(dump: Callable[[str], Memory], name: str, address: int, size: int | None, want: str) -> None:
    fits = best_fits(dump(name).read(address, PAGE), size=size)
    assert sound(fits) == [want]
    assert len(fits[0].blob.devices) == 8


@pytest.mark.parametrize("flb", ["pci", "pci-v1", "pci-v2", "pci-v3"])
def test_a_name_does_not_decide_against_the_bytes(flb: str) -> None:
    assert sound(best_fits(CATALOGUE["pci-folio.bin"], flb=flb)) == ["pci-lu-v2-06"]


def test_a_name_orders_what_the_bytes_leave_open() -> None:
    empty = bytes(PAGE)
    for flb in ("pci-v1", "pci-v2"):
        first = best_fits(empty, flb=flb)[0].blob.layout
        assert flb in first.flb_names


# -- random lists -----------------------------------------------------------------------------------------


@each_form
@some_lists
@given(data=st.data())
def test_a_list_is_never_taken_for_another(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    devices = data.draw(device_lists(form))
    room = data.draw(st.integers(len(devices), len(devices) + 5))
    blob = form.blob(devices, data.draw(buses()) if form.bus else (), capacity=room, first=data.draw(FIRST_BLOCKS))
    folio = blob.ljust(-(-len(blob) // PAGE) * PAGE, b"\0")
    assert name in sound(best_fits(blob))
    assert name in sound(best_fits(folio))
    assert name in sound(best_fits(folio, size=len(blob)))


@pytest.mark.parametrize("name", BLOCK_FORMS)
@some_lists
@given(data=st.data())
def test_a_block_list_is_never_taken_for_another(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    devices = data.draw(device_lists(form))
    page = form.block_page(devices, holes=data.draw(st.integers(0, 2)) if name != "pci-v1-block" else 0)
    header = form.blob(devices, first=data.draw(FIRST_BLOCKS)).ljust(PAGE, b"\0")
    assert name in sound(best_fits(header, blocks=block_reader(page)))


@each_form
@pytest.mark.parametrize("room", [0, 1, 2, CAPACITY])
def test_an_empty_list_is_named(name: str, room: int) -> None:
    form = FORMS[name]
    blob = form.blob([], capacity=room)
    assert name in sound(best_fits(blob))
    assert name in sound(best_fits(blob.ljust(PAGE, b"\0")))


@pytest.mark.parametrize("name", ["pci-v1-nr", "pci-v1-u32", "pci-v1-u64", "pci-v1-u64-wide"])
def test_a_list_of_the_host_bridge_alone_is_named(name: str) -> None:
    """Its record is all zeros in the forms that say nothing but the place."""
    blob = FORMS[name].blob([Dev(domain=0, bdf=0)], capacity=1)
    assert name in sound(best_fits(blob))


@pytest.mark.parametrize("name", ["pci-version-1", "pci-v1-block", "pci-v2-block"])
def test_a_block_at_4_gib_does_not_hide_its_header(name: str) -> None:
    """The lower half of such an address reads as PCI domain 0."""
    header = FORMS[name].blob(devices_of(FORMS[name])[:1], first=0x100000000)
    assert name in sound(best_fits(header.ljust(PAGE, b"\0")))


# -- bytes that are no list -------------------------------------------------------------------------------


@each_form
def test_a_list_that_breaks_off_is_not_whole(name: str) -> None:
    data = golden(f"{name}.bin")
    known = layout(name)
    assert known is not None
    for size in {0, 1, 3, known.header.size - 1, *(range(0, len(data), 7) if len(data) < 500 else ())}:
        blob = read_pci(known, data[:size])
        assert (blob is None) == (size < known.header.size)
        fit = fit_pci(known, data[:size])
        if blob is not None and blob.missing:
            assert fit is None
            partial = fit_pci(known, data[:size], partial=True)
            assert partial is not None and partial.faults
            assert blob.missing == blob.size - size


@each_form
@pytest.mark.parametrize("garbage", [b"x", b"\0" * 100 + b"\x01"])
def test_bytes_behind_the_list_count_against_it(name: str, garbage: bytes) -> None:
    data = golden(f"{name}.bin")
    known = layout(name)
    assert known is not None
    fit = fit_pci(known, data + garbage)
    assert fit is not None and any("after the list" in fault.text for fault in fit.faults)
    assert fit_pci(known, data + garbage, size=len(data)) is not None
    assert sound(best_fits(data + garbage, size=len(data))) == TWINS[name]


@each_form
def test_a_count_of_all_ones_costs_nothing(name: str) -> None:
    known = layout(name)
    assert known is not None
    width = 8 if name in ("pci-v2-u64", "pci-v1-u64-wide", "pci-v1-u64", "pci-v1-nr") else 4
    offset = known.header.offset(known.count)
    data = bytearray(golden(f"{name}.bin"))
    data[offset : offset + width] = b"\xff" * width
    blob = read_pci(known, bytes(data))
    assert blob is not None and len(blob.devices) <= len(data) // known.record.size
    assert known.blocks is not None or fit_pci(known, bytes(data)) is None
    assert fit_pci(known, bytes(data), size=len(data)) is None or known.blocks is not None


def test_every_kind_of_fault_is_found() -> None:
    """One member of a sound list set to what no kernel writes."""
    cases: list[tuple[str, int, bytes, str]] = [
        ("pci-lu-v2-03", 4, b"\x01", "padding of the header"),
        ("pci-lu-v2-03", 8 + 4, b"\x00", "flags 0x0"),
        ("pci-lu-v2-03", 8 + 4, b"\x10", "flags 0x10"),
        ("pci-lu-v2-06", 8 + 71, b"\x01", "padding is not zero"),
        ("pci-lu-v2-06", 8 + 8, b"\x00", "driver name"),
        ("pci-lu-v2-06", 8 + 8, b"\x07", "driver name"),
        ("pci-lu-v1-04", 8 + 4, b"\x02", "requested is 2"),
        ("pci-lu-v1-12", 4 + 78, b"\x01", "devfn"),
        ("pci-lu-v1-22", 8 + 3 * 1145 + 8, b"\x09", "bridge type"),
        ("pci-version-2", 0, b"\x03", "version is 3"),
        ("pci-version-2", 8, b"\x01", "not a page address"),
        ("pci-v2-block", 4, b"\x01", "not a page address"),
        ("pci-v2-u32", 8 + 6, b"\x00\x00", "refcount is 0"),
        ("pci-v1-u32", 8 + 6, b"\x01\x00", "reserved is 1"),
        ("pci-v2-u64", 16 + 5, b"\x50", "out of order"),
        ("pci-v2-u64", 16 + 3, b"\x7f", "implausible PCI domain"),
        ("pci-v1-u64", 16 + 2, b"\x00\x41", "in two entries"),
        ("pci-v1-nr", 8 + 3, b"\xff", "out of order"),
    ]
    for name, offset, value, word in cases:
        known = layout(name)
        assert known is not None
        data = bytearray(golden(f"{name}.bin"))
        data[offset : offset + len(value)] = value
        fit = fit_pci(known, bytes(data))
        assert fit is not None and any(word in fault.text for fault in fit.faults), (name, offset, word, fit)


@settings(max_examples=200)
@given(data=st.binary(max_size=300), size=st.none() | st.integers(0, 300), partial=st.booleans())
def test_random_bytes_never_raise(data: bytes, size: int | None, partial: bool) -> None:
    fits = best_fits(data, size=size, partial=partial)
    assert [fit.name for fit in fits] == list(dict.fromkeys(fit.name for fit in fits))
    for known in LAYOUTS:
        read_pci(known, data)


@settings(max_examples=100)
@given(name=st.sampled_from(sorted(FORMS)), changes=st.lists(st.tuples(st.integers(0, 7000), st.integers(0, 255))))
def test_changed_lists_never_raise(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(golden(f"{name}.bin"))
    for place, value in changes:
        data[place % len(data)] = value
    for fit in best_fits(bytes(data)):
        assert len(fit.blob.devices) * fit.blob.layout.record.size <= len(data)
