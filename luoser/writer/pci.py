# SPDX-License-Identifier: MIT
"""Device lists in all layouts: the header, the records after it or in KHO blocks, the buses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luoser.abi.block import capacity
from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as layout_named
from luoser.abi.struct_bytes import struct_bytes
from luoser.errors import UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.state import DeviceList, PciList
from luoser.state.columns import columns, record_bytes
from luoser.writer.block import write_chain
from luoser.writer.image import Image

__all__ = ["header_values", "list_bytes", "list_header", "write_list"]


def list_header(
    form: PciLayout, devices: DeviceList, buses: Sequence[Mapping[str, Any]] = (), *, blocks: Sequence[int] = ()
) -> dict[str, int]:
    """Values of the header by member name, as a kernel writes them.

    form:    layout of the list.
    devices: of the list.
    buses:   of the list.
    blocks:  addresses of its KHO blocks.
    """
    return header_values(form, len(devices), devices.slots, len(buses), blocks)


def header_values(form: PciLayout, count: int, slots: int, buses: int, blocks: Sequence[int]) -> dict[str, int]:
    """Values of the header by member name, as a kernel writes them.

    form:   layout of the list.
    count:  number of devices.
    slots:  number of slots.
    buses:  number of buses.
    blocks: addresses of the KHO blocks.
    """
    header = {field.name: 0 for field in form.header.fields if field.size and not field.padding}
    header[form.count] = count
    if form.capacity is not None:
        header[form.capacity] = slots
    if form.version is not None:
        header["version"] = form.version
    if form.blocks is not None:
        header[form.blocks] = blocks[0] if blocks else 0
    if form.bus_count is not None:
        header[form.bus_count] = buses
    return header


def list_bytes(
    form: PciLayout,
    devices: DeviceList,
    buses: Sequence[Mapping[str, Any]] = (),
    *,
    header: Mapping[str, int],
    blocks: Sequence[int] = (),
) -> bytes:
    """Bytes of the list in its folio, without zeros after it, and without records in KHO blocks.

    form:    layout of the list.
    devices: of the list.
    buses:   of the list.
    header:  values that replace those of `list_header`, by member name.
    blocks:  addresses of its KHO blocks.

    Raises UsageError if a count in the header is not the number of devices or buses, or if the capacity is too small or
    too large.
    """
    expected = list_header(form, devices, buses, blocks=blocks)
    what = f"device list {form.name}"
    counts = (form.count,) if form.blocks is None or devices.slots else ()  # a bare header has no devices
    for name in (*counts, *((form.bus_count,) if form.bus_count else ())):
        said = header.get(name, expected[name])
        if said != expected[name] and said != expected[name] - _finished(devices):
            word = f"header.{name}: expected {expected[name]}, found {header[name]}"
            raise UsageError(f"{what}: {word}; leave it out to use the number of entries")
    data = struct_bytes(form.header, {**expected, **header}, f"{what}, header")
    if form.blocks is not None:
        return data
    room = header.get(form.capacity, devices.slots) if form.capacity is not None else devices.slots
    if room < devices.slots:
        raise UsageError(f"{what}: header.{form.capacity}: expected at least {devices.slots}, found {room}")
    if room * form.record.size > LIMITS.list_size:
        word = (
            f"too many: {room} entries of {form.record.size} bytes, expected at most {LIMITS.list_size:#x} bytes in all"
        )
        raise UsageError(f"{what}: header.{form.capacity}: {word}; {how_to_raise('list_size')}")
    data += devices.data.ljust(room * form.record.size, b"\0")
    if form.bus is not None:
        wanted = columns(form.bus)
        data += b"".join(record_bytes(form.bus, wanted, bus) for bus in buses)
    return data


def _finished(devices: DeviceList) -> int:
    """Number of entries that the next kernel has finished. Some forms do not count them."""
    return sum(device.number("refcount") == 0 for device in devices)


def write_list(image: Image, entry: PciList) -> None:
    """Write the folio of a list, its blocks, and the pages of its drivers.

    image: to write to.
    entry: the list.

    Raises UsageError as `list_bytes`, and if there are too few blocks.
    """
    form = layout_named(entry.layout)
    if form is None:
        raise UsageError(f"unknown device list layout {entry.layout!r}")
    what = f"device list {entry.layout}"
    header = {name: int(value) for name, value in entry.header.items()}
    data = list_bytes(form, entry.devices, entry.buses, header=header, blocks=entry.blocks)
    if form.blocks is not None:
        _write_blocks(image, form, entry, what)
    image.put(entry.address, data.ljust(-(-len(data) // image.page_size) * image.page_size, b"\0"), what)
    for piece in entry.contents:
        image.put(piece.address, piece.data.ljust(piece.size, b"\0"), "page of a driver")


def _write_blocks(image: Image, form: PciLayout, entry: PciList, what: str) -> None:
    size, data = form.record.size, entry.devices.data
    most = capacity(image.page_size, size)
    needed = -(-len(data) // (most * size))
    if len(entry.blocks) < needed:
        raise UsageError(f"{what}: expected at least {needed} blocks, found {len(entry.blocks)}")
    if len(entry.blocks) > needed:
        image.lacks.append(f"{what}: {len(entry.blocks) - needed} of its blocks have no entries; left out")
    pages = [data[place : place + most * size] for place in range(0, len(data), most * size)]
    write_chain(image, entry.blocks[:needed], pages, size, f"block of the {what}")
