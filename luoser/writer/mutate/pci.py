# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/pci.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as layout_named
from luoser.state import DeviceList, PciList, State
from luoser.state.columns import columns, row_of
from luoser.writer.image import Image
from luoser.writer.mutate.model import Cannot, first_handover, mutation
from luoser.writer.pci import list_bytes, list_header

__all__: list[str] = []

_Wanted = Callable[[PciLayout, PciList], bool]


def _list(state: State, what: str, wanted: _Wanted) -> tuple[PciList, PciLayout]:
    """The first device list that is as wanted, with its records right after its header. Raises Cannot."""
    for entry in first_handover(state).pci:
        form = layout_named(entry.layout)
        if form is not None and form.blocks is None and wanted(form, entry):
            return entry, form
    raise Cannot(f"expected a device list {what}")


def _family_a(state: State, *, devices: int = 1) -> tuple[PciList, PciLayout]:
    what = f"of PCI/LUO v2 with {devices} devices or more"
    return _list(state, what, lambda form, entry: form.asked == "flags" and len(entry.devices) >= devices)


def _refcounts(state: State) -> tuple[PciList, PciLayout]:
    return _list(state, "with refcounts", lambda form, entry: form.has_refcounts)


def _patch(image: Image, entry: PciList, form: PciLayout, slot: int, member: str, value: int) -> None:
    field = next(field for field in form.record.fields if field.name == member)
    place = entry.address + form.header.size + slot * form.record.size + field.offset
    image.patch(place, value.to_bytes(field.size, "little"))


def _patch_head(image: Image, entry: PciList, form: PciLayout, member: str, value: int) -> None:
    field = next(field for field in form.header.fields if field.name == member)
    image.patch(entry.address + field.offset, value.to_bytes(field.size, "little"))


def _as_form(image: Image, entry: PciList, name: str, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Write the same devices in another layout, each changed by a function of its index."""
    form = layout_named(name)
    assert form is not None
    wanted, rows = columns(form.record), b""
    for index, device in enumerate(entry.devices):
        flags = device.number("flags") or 0
        member: dict[str, Any] = {"path": device.domain << 16 | device.bdf, "flags": flags, "requested": flags & 1}
        member |= {"driver_data": device.number("driver_data") or 0, "devfn": device.bdf & 0xFF}
        member["driver_name"] = "pcieport" if flags == 2 else "e1000e"
        change(index, member)
        rows += form.record.record.pack(*row_of(wanted, member))
    devices = DeviceList(form.record.record, wanted, rows)
    data = list_bytes(form, devices, header=list_header(form, devices))
    if len(data) > image.page_size:
        raise Cannot(f"expected a device list that fits a page as {name}")
    if any(via.startswith("subtree:") for via in entry.via):
        raise Cannot("expected a device list that is not also a sub-tree, whose size identifies the layout")
    image.patch(entry.address, data.ljust(image.page_size, b"\0"))


def _set(**members: Any) -> Callable[[int, dict[str, Any]], None]:
    """A function that changes the first device."""

    def change(index: int, member: dict[str, Any]) -> None:
        if index == 0:
            member |= members

    return change


@mutation(
    "PCI001", "nothing unless the owner retrieves the list: PCI/LUO then searches beyond the folio, the PCI core panics"
)
def list_unreadable(image: Image, state: State) -> None:
    """The count in the head becomes larger than what fits the folio, or than the capacity."""
    entry, form = _list(state, "", lambda form, entry: any(via[:4] in ("flb:", "subs") for via in entry.via))
    _patch_head(image, entry, form, form.count, 0xFFFF)


@mutation("PCI002", "nothing until the FLB is finished: the second entry is never matched, and the PCI core panics")
def path_duplicate(image: Image, state: State) -> None:
    """The second device gets the address of the first."""
    entry, form = _list(state, "of two devices or more", lambda form, entry: len(entry.devices) > 1)
    first, second = entry.devices[:2]
    for member in ("path", "domain", "bdf"):
        if member in form.record.record_fields:
            value = {"path": first.domain << 16 | first.bdf, "domain": first.domain, "bdf": first.bdf}[member]
            _patch(image, entry, form, second.index, member, value)


@mutation("PCI003", "the device keeps unknown flags")
def flags_illegal(image: Image, state: State) -> None:
    """An unknown bit is set in the flags of the first device."""
    entry, form = _family_a(state)
    _patch(image, entry, form, 0, "flags", (entry.devices[0].number("flags") or 0) | 4)


@mutation("PCI004", "no device keeps working")
def none_requested(image: Image, state: State) -> None:
    """All flags become LU_BUSMASTER_BRIDGE."""
    entry, form = _family_a(state)
    for device in entry.devices:
        _patch(image, entry, form, device.index, "flags", 2)


@mutation("PCI006", "none: no kernel reads padding")
def padding_not_zero(image: Image, state: State) -> None:
    """A byte of padding in the head becomes 1."""
    entry, form = _family_a(state)
    padding = next(field for field in form.header.fields if field.padding)
    image.patch(entry.address + padding.offset, b"\1")


@mutation("PCI007", "none at restore; an earlier cancel mixes up the drivers' data")
def order_unusual(image: Image, state: State) -> None:
    """The last two devices are swapped."""
    entry, form = _family_a(state, devices=2)
    size, count = form.record.size, len(entry.devices)
    data = entry.devices.data
    one, other = data[(count - 2) * size : (count - 1) * size], data[(count - 1) * size : count * size]
    image.patch(entry.address + form.header.size + (count - 2) * size, other + one)


@mutation("PCI008", "panic while the device is added: its driver cannot be set")
def driver_name_bad(image: Image, state: State) -> None:
    """The list gets the layout with driver names; the first one is empty."""
    _as_form(image, _family_a(state)[0], "pci-lu-v2-06", _set(driver_name=""))


@mutation("PCI010", "probe of the stub fails, then panic at finish")
def stub_page(image: Image, state: State) -> None:
    """The list gets the layout with driver names; a device has pci-lu-stub, whose page has another bdf."""
    entry, _ = _family_a(state)
    pages = {piece.address: piece for piece in entry.contents}
    device = next((device for device in entry.devices if device.number("driver_data") in pages), None)
    if device is None:
        raise Cannot("expected a device with a page of its driver")
    wanted = device.index
    image.patch(int(device.number("driver_data") or 0), (device.bdf ^ 1).to_bytes(2, "little"))
    _as_form(image, entry, "pci-lu-v2-06", lambda index, member: _name_stub(member) if index == wanted else None)


def _name_stub(member: dict[str, Any]) -> None:
    member["driver_name"] = "pci-lu-stub"


@mutation("PCI011", "the driver restores a page of another owner")
def driver_data_preserved(image: Image, state: State) -> None:
    """driver_data of the first device becomes the address of a page that is not preserved."""
    entry, form = _family_a(state)
    preserved = first_handover(state).preserved.map
    if preserved is None:
        raise Cannot("expected a preserved map")
    free = next(page for page in range(1 << 20, 1 << 52, image.page_size) if preserved.find(page) is None)
    _patch(image, entry, form, 0, "driver_data", free)


@mutation("PCI012", "the second driver finds nothing at its address")
def driver_data_shared(image: Image, state: State) -> None:
    """A device gets the driver_data of another."""
    entry, form = _family_a(state, devices=2)
    named = [device for device in entry.devices if (device.number("driver_data") or 0) >= 1 << 20]
    if not named:
        raise Cannot("expected a device with driver_data")
    slot = next(device.index for device in entry.devices if device.index != named[0].index)
    _patch(image, entry, form, slot, "driver_data", int(named[0].number("driver_data") or 0))


@mutation("PCI013", "the state of another device is restored on it")
def saved_state(image: Image, state: State) -> None:
    """The list gets the layout with saved state; the first device has another devfn."""

    def change(index: int, member: dict[str, Any]) -> None:
        member["devfn"] ^= index == 0

    _as_form(image, _family_a(state)[0], "pci-lu-v1-12", change)


@mutation("PCI015", "nothing unless the owner retrieves the list: some devices are not found and lose their state")
def list_unsorted(image: Image, state: State) -> None:
    """The first two devices are swapped."""
    entry, form = _list(state, "of a sorted form", lambda form, entry: form.is_sorted and len(entry.devices) > 1)
    size, data = form.record.size, entry.devices.data
    image.patch(entry.address + form.header.size, data[size : 2 * size] + data[:size])


@mutation("PCI018", "nothing at the jump; a kernel that adds a device up to this number writes beyond the folio")
def capacity_beyond_folio(image: Image, state: State) -> None:
    """max_nr_devices becomes a million."""
    entry, form = _list(state, "with a capacity", lambda form, entry: form.capacity is not None)
    assert form.capacity is not None
    _patch_head(image, entry, form, form.capacity, 1_000_000)


@mutation("PCI016", "nothing until the FLB is finished: nr_devices does not become 0, and the PCI core panics")
def nr_mismatch(image: Image, state: State) -> None:
    """nr_devices is incremented."""
    entry, form = _refcounts(state)
    _patch_head(image, entry, form, form.count, len(entry.devices) + 1)
