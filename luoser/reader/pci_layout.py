# SPDX-License-Identifier: MIT
"""The layout of a PCI list, recognised by its shape: no string identifies it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from luoser.abi.pci import BRIDGE_TYPES, LAYOUTS, MAX_DOMAIN, PciLayout
from luoser.abi.schema import Schema
from luoser.bits import is_zero, used_size
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.state import Device, DeviceList, row_fields
from luoser.state.columns import columns

__all__ = ["BlockReader", "Fault", "Fit", "PciBlob", "best_fits", "fit_pci", "is_plausible", "read_pci"]

BlockReader = Callable[[int, Schema], tuple[bytes, tuple[int, ...], str | None]]
"""(address of the first block, struct of an entry) -> (bytes of entries, addresses of blocks, fault or None)."""
_DEVICES_JUDGED = 512
_LARGEST = 256 << 20
"""Bytes of the largest list that is plausible."""
_EMPTY = 1 << 16
"""Most empty records after the last device: a domain has no more functions. More are zeros, and no list."""


class Fault(NamedTuple):
    """Something that a layout does not allow, in words. code: of its problem."""

    text: str
    code: str = "pci-fault"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class PciBlob:
    """A blob, read as one layout, which may be the wrong one.

    layout:  that it was read as.
    header:  values by member name.
    devices: the records.
    buses:   of the later patches of v1.
    blocks:  addresses of the KHO blocks.
    size:    bytes that the layout covers.
    missing: bytes of records beyond the end of the blob.
    faults:  met while reading.
    """

    layout: PciLayout
    header: dict[str, int]
    devices: DeviceList
    buses: tuple[dict[str, Any], ...] = ()
    blocks: tuple[int, ...] = ()
    size: int = 0
    missing: int = 0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well a layout fits a blob.

    blob:   read as the layout.
    faults: what does not fit.
    exact:  whether the exact size of the blob is known, and fits.
    """

    blob: PciBlob
    faults: tuple[Fault, ...]
    exact: bool

    @property
    def name(self) -> str:
        """Name of the layout."""
        return self.blob.layout.name


def read_pci(layout: PciLayout, data: bytes, blocks: BlockReader | None = None) -> PciBlob | None:
    """A blob, read as one layout as far as its bytes go. None: shorter than the header.

    layout: to read it as.
    data:   the blob.
    blocks: reads a KHO block chain. None: a list in KHO blocks has no devices.
    """
    if len(data) < layout.header.size:
        return None
    header = layout.header.values(data)
    record, count = layout.record, header[layout.count]
    if layout.blocks is not None:
        return _read_blocks(layout, header, blocks)
    base, slots = layout.header.size, _slots(layout, header, len(data))
    holes = slots > count
    have = min(slots, (len(data) - base) // record.size)
    rows, end = bytes(data[base : base + have * record.size]), base + slots * record.size
    if holes and layout.is_sorted and _is_dense(rows[: count * record.size], record.size):
        end = base + count * record.size  # when one is removed, those after it move down
        rows = rows[: count * record.size].ljust(len(rows), b"\0")
    devices = DeviceList(record.record, columns(record), rows, holes=holes)
    buses: tuple[dict[str, Any], ...] = ()
    if layout.bus is not None and layout.bus_count is not None:
        bus_end = end + header[layout.bus_count] * layout.bus.size
        if bus_end <= len(data):
            names = columns(layout.bus)
            buses = tuple(row_fields(names, row) for row in layout.bus.record.iter_unpack(data[end:bus_end]))
        end = bus_end
    return PciBlob(
        layout=layout, header=header, devices=devices, buses=buses, size=end, missing=max(0, end - len(data))
    )


def _is_dense(rows: bytes, size: int) -> bool:
    """Whether there is no record of zeros."""
    return all(any(rows[place : place + size]) for place in range(0, len(rows), size))


def _read_blocks(layout: PciLayout, header: dict[str, int], blocks: BlockReader | None) -> PciBlob:
    assert layout.blocks is not None
    record, first = layout.record, header[layout.blocks]
    entries, pages, fault = b"", tuple[int, ...](), None
    if first and blocks is not None:
        entries, pages, fault = blocks(first, record)
    rows = entries[: len(entries) // record.size * record.size]
    devices = DeviceList(record.record, columns(record), rows, holes=header[layout.count] * record.size != len(rows))
    return PciBlob(
        layout=layout,
        header=header,
        devices=devices,
        blocks=pages,
        size=layout.header.size,
        faults=(Fault(fault, code="pci-impossible"),) if fault else (),
    )


def fit_pci(
    layout: PciLayout,
    data: bytes,
    *,
    size: int | None = None,
    flb: str | None = None,
    blocks: BlockReader | None = None,
    partial: bool = False,
    used: int | None = None,
) -> Fit | None:
    """How well a layout fits a blob. None: it cannot be the layout.

    layout:  to judge.
    data:    the blob, and the bytes after it up to the end of its folio, if known.
    size:    exact size of the blob in bytes (blob-size). None: unknown.
    flb:     name of the FLB that leads to the blob. Under a name of this layout, a list whose devices are all finished
             is accepted.
    blocks:  reads a KHO block chain. None: chains are not judged.
    partial: whether the end of the blob is known to be missing.
    used:    bytes of the blob up to the last one that is not zero. None: not counted yet.
    """
    used = used_size(data) if used is None else used
    is_named = flb in layout.flb_names
    if not _is_possible(layout, data, used=used, size=size, partial=partial):
        return None
    blob = read_pci(layout, data, blocks)
    if blob is None:
        return None
    devices = blob.devices[:_DEVICES_JUDGED]
    faults = [*blob.faults, *_header_faults(layout, blob, data, blocks), *_device_faults(layout, blob, devices)]
    if not (is_named and _is_finished(blob)):
        faults += _idle_faults(devices)
    if blob.missing:
        faults.append(Fault(f"{blob.missing} bytes of records are missing"))
    rest = data[blob.size : used if size is None else min(used, size)]
    if not is_zero(rest):
        if not blob.devices and layout.blocks is None and not (is_named and layout.is_sorted):
            return None  # an empty list is followed by zeros, except remains of finished devices
        if not _is_left_over(layout, blob, rest):
            faults.append(Fault("bytes after the list are not zero", code="pci-not-zero"))
    return Fit(blob=blob, faults=tuple(faults), exact=size is not None)


def _is_possible(layout: PciLayout, data: bytes, *, used: int, size: int | None, partial: bool) -> bool:
    """Whether the header of a blob allows a layout. No record is looked at. The parameters are those of `fit_pci`."""
    if len(data) < layout.header.size:
        return False
    header, record = layout.header.values(data), layout.record
    count = header[layout.count]
    capacity = header[layout.capacity] if layout.capacity is not None else count
    if capacity > _LARGEST // record.size or count > capacity:
        return False
    base, slots = layout.header.size, _slots(layout, header, len(data))
    end = _end(layout, header, len(data))
    if end > len(data) and not partial:
        return False
    if layout.blocks is not None:
        return size is None or size == end
    if slots - (used - base) // record.size > _EMPTY:
        return False
    # up to the last entry in use, or to the last allocated one
    inline = {base + number * record.size for number in (count, capacity) if number or layout.is_sorted}
    return size is None or size == end or (layout.bus is None and size in inline)


def _end(layout: PciLayout, header: Mapping[str, int], size: int) -> int:
    """Bytes that a list claims to have, its buses included. Pages of blocks do not count. size: of the blob."""
    end = layout.header.size
    if layout.blocks is None:
        end += _slots(layout, header, size) * layout.record.size
    if layout.bus is not None and layout.bus_count is not None:
        end += header[layout.bus_count] * layout.bus.size
    return end


def _slots(layout: PciLayout, header: Mapping[str, int], size: int) -> int:
    """Number of entries, the empty ones of unpreserved devices between others included. size: of the blob in bytes."""
    count = header[layout.count]
    if layout.capacity is None or not layout.has_refcounts:
        return count
    room = (size - layout.header.size) // layout.record.size
    return header[layout.capacity] if count < header[layout.capacity] <= room else count


def _is_left_over(layout: PciLayout, blob: PciBlob, rest: bytes) -> bool:
    """Whether the bytes after a sorted list are remains of removed devices.

    Removing a device moves those after it down, and the last slot keeps its bytes. So the remains continue the
    ascending order, in PCI domains of the list.
    """
    if not layout.is_sorted or blob.missing:
        return False
    size = layout.record.size
    used = -(-used_size(rest) // size) * size
    left = DeviceList(layout.record.record, columns(layout.record), rest[:used].ljust(used, b"\0"))
    keys = [
        layout.sort_key(device.domain << 16 | device.bdf) for device in (*blob.devices[-1:], *left[:_DEVICES_JUDGED])
    ]
    domains = {device.domain for device in blob.devices[:_DEVICES_JUDGED]} or range(MAX_DOMAIN + 1)
    return keys == sorted(keys) and all(
        device.domain in domains and device.domain <= MAX_DOMAIN for device in left[:_DEVICES_JUDGED]
    )


def _header_faults(layout: PciLayout, blob: PciBlob, data: bytes, blocks: BlockReader | None) -> Iterator[Fault]:
    for field in layout.header.fields:
        if field.padding and any(data[field.offset : field.offset + field.size]):
            yield Fault("padding of the header is not zero", code="pci-not-zero")
    if layout.has_refcounts and layout.blocks is None and not blob.missing:
        count, found = blob.header[layout.count], len(blob.devices)
        if count != found and count != (found := _in_use(blob)):
            yield Fault(f"{found} entries in use, expected {count} as in the header")
    if layout.version is not None and blob.header["version"] != layout.version:
        yield Fault(f"version is {blob.header['version']}, expected {layout.version}")
    if layout.capacity and blob.header[layout.capacity] > 65536:
        yield Fault(f"implausible capacity: {blob.header[layout.capacity]} entries")
    if layout.blocks is not None:
        pointer, count = blob.header[layout.blocks], blob.header[layout.count]
        if pointer % 4096 or pointer >= PHYSICAL_LIMIT or bool(pointer) < bool(count):
            yield Fault(f"block pointer {pointer:#x} is not a page address", code="pci-impossible")
        elif blocks is not None and count != (found := len(blob.devices)) and count != (found := _in_use(blob)):
            yield Fault(f"{found} devices in the blocks, expected {count} as in the header")


def _in_use(blob: PciBlob) -> int:
    """Number of entries that are not finished. A finished one has refcount 0, and keeps its address."""
    if not blob.layout.has_refcounts:
        return len(blob.devices)
    place = blob.layout.record.record_fields.index("refcount")
    return sum(1 for row in blob.devices.rows() if row[place])


def _is_finished(blob: PciBlob) -> bool:
    """Whether there are devices, all of them finished by the next kernel."""
    if not blob.layout.has_refcounts or not blob.devices:
        return False
    place = blob.layout.record.record_fields.index("refcount")
    return not any(row[place] for row in blob.devices.rows())


def _device_faults(layout: PciLayout, blob: PciBlob, devices: Sequence[Device]) -> Iterator[Fault]:
    """At most one fault of each kind. devices: the first of the list."""
    found: dict[str, Fault] = {}
    seen: set[tuple[int, int]] = set()
    last = -1 << 63
    pads = [(field.offset, field.size) for field in layout.record.fields if field.padding]
    for device in devices:
        place = (device.domain, device.bdf)
        if place in seen:
            found.setdefault("unique", Fault(f"{device.name} is in two entries"))
        seen.add(place)
        if device.domain > MAX_DOMAIN:
            found.setdefault("domain", Fault(f"implausible PCI domain: {device.domain:#x}"))
        key = layout.sort_key(device.domain << 16 | device.bdf)
        if layout.is_sorted and key < last:
            found.setdefault("sorted", Fault(f"{device.name} is out of order"))
        last = key
        for member, fault in _member_faults(layout, device):
            code = "pci-not-zero" if member == "reserved" else "pci-fault"
            found.setdefault(member, Fault(f"{device.name}: {fault}", code=code))
        start = device.index * layout.record.size
        if not all(is_zero(blob.devices.data[start + offset : start + offset + size]) for offset, size in pads):
            found.setdefault("padding", Fault(f"{device.name}: padding is not zero", code="pci-not-zero"))
    yield from found.values()
    asked = layout.asked  # None: there is no such member, and all did
    if devices and asked is not None and not any((device.number(asked) or 0) & 1 for device in devices):
        yield Fault("no device requested live update")
    if any(bus.get("bridge_type", 0) not in BRIDGE_TYPES for bus in blob.buses):
        yield Fault("unknown bridge type")


def _idle_faults(devices: Sequence[Device]) -> Iterator[Fault]:
    """A fault for an entry with refcount 0, unless its domain has entries that are in use: then it is finished."""
    idle = [device for device in devices if device.number("refcount") == 0]
    domains = {device.domain for device in devices if device.number("refcount")}
    stray = next((device for device in idle if device.domain not in domains), None)
    if stray is not None:
        yield Fault(f"{stray.name}: refcount is 0")


_FLIPPED = 2
"""So many wrong bits in a member are damage to what was there; more are something else."""


def is_plausible(layout: PciLayout, device: Device, *, is_listed: bool) -> bool:
    """Whether a record can be a device, one of a list also with damaged numbers.

    layout:    it was read as.
    device:    the record.
    is_listed: whether it is one of those that the list counts.
    """
    if device.domain > MAX_DOMAIN:
        return False
    for name, _ in _member_faults(layout, device):
        value = device.fields.get(name)
        if not isinstance(value, int):
            if value:
                return False
            continue
        known = sum(layout.record.field(name).bit_names) or (device.bdf & 0xFF if name == "devfn" else 1)
        wrong = value ^ known if name == "devfn" else value & ~known
        if not is_listed or wrong.bit_count() > _FLIPPED:
            return False
    return True


def _member_faults(layout: PciLayout, device: Device) -> Iterator[tuple[str, str]]:
    """(member, fault in words) of one device."""
    member = layout.record.flags
    flags = device.number(member.name) if member is not None else None
    is_needed = member is not None and layout.asked == member.name
    if member is not None and flags is not None and (flags & ~sum(member.bit_names) or (flags == 0 and is_needed)):
        yield member.name, f"illegal {member.name} {flags:#x}"
    requested = device.number("requested")
    if requested is not None and requested > 1:
        yield "requested", f"requested is {requested}, expected 0 or 1"
    if device.number("reserved"):
        yield "reserved", f"reserved is {device.number('reserved')}, expected 0"
    devfn = device.number("devfn")
    if devfn is not None and devfn != device.bdf & 0xFF:
        yield "devfn", f"devfn is {devfn:#x}, expected {device.bdf & 0xFF:#x} as in the path"
    name = device.fields.get("driver_name")
    if isinstance(name, str) and (not name or not name.isascii() or not name.isprintable() or len(name) > 62):
        yield "driver_name", "not a driver name"


def best_fits(
    data: bytes,
    *,
    size: int | None = None,
    flb: str | None = None,
    family: str | None = None,
    blocks: BlockReader | None = None,
    partial: bool = False,
) -> list[Fit]:
    """The layouts that fit a blob without faults, likeliest first. If there are none, the one with the fewest faults.

    data:    the blob, and the bytes after it up to the end of its folio, if known.
    size:    exact size of the blob in bytes. None: unknown.
    flb:     name of the FLB that leads to the blob. Its layouts are likelier; see `fit_pci`. None: not an FLB.
    family:  `A` or `B`, which is likelier. None: unknown.
    blocks:  reads a KHO block chain. None: chains are not judged.
    partial: whether the end of the blob is known to be missing.
    """

    def likelihood(fit: Fit) -> tuple[int, int, int, int, int, int]:
        layout = fit.blob.layout
        named = flb is not None and flb in layout.flb_names
        return (
            len(fit.faults),
            not fit.blob.devices and not named,
            layout.blocks is None and _is_finished(fit.blob),
            not named,
            family is not None and layout.family != family,
            not fit.blob.devices,
        )

    sound, best, used = list[Fit](), list[Fit](), used_size(data)
    for layout in LAYOUTS:  # of those with faults only the best is kept: each is a copy of the list
        fit = fit_pci(layout, data, size=size, flb=flb, blocks=blocks, partial=partial, used=used)
        if fit is not None and not fit.faults:
            sound.append(fit)
        elif fit is not None:
            best = [min((*best, fit), key=likelihood)]
    sound.sort(key=likelihood)
    if any(_has_records(fit.blob) for fit in sound):  # then the list is not empty; 0000:00:00.0 alone is a record
        return [fit for fit in sound if _has_records(fit.blob) or fit.blob.devices]
    return sound or best


def _has_records(blob: PciBlob) -> bool:
    """Whether a list has records that are not zeros, or blocks with records."""
    pointer = blob.header[blob.layout.blocks] if blob.layout.blocks is not None else 0
    return not is_zero(blob.devices.data) or bool(pointer)
