# SPDX-License-Identifier: MIT
"""The preserved devices: lists found through an FLB, a subsystem or a sub-tree, each by its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as layout_named
from luoser.abi.schema import Schema
from luoser.errors import MissingMemory
from luoser.limits import LIMITS
from luoser.reader.handler import with_hex
from luoser.reader.shape import BlockReader, Fit, PciBlob, best_fits, fit_pci, read_pci
from luoser.reader.walk import Walk
from luoser.state import Contents, PciList, PreservedMap

__all__ = ["Lead", "chosen_layout", "read_lists", "with_contents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """A way to something that may be a device list.

    via: as the document names it. size: exact bytes where known. certain: whether this place holds a
    device list and nothing else, so that one that fits badly is shown with its faults.
    """

    via: str
    address: int
    size: int | None = None
    certain: bool = False


def read_lists(walk: Walk, leads: list[Lead], preserved: PreservedMap | None) -> tuple[PciList, ...]:
    """One entry for each list, with every way that led to it; leads that hold no list give none."""
    ways: dict[int, list[Lead]] = {}
    for lead in leads:
        ways.setdefault(lead.address, []).append(lead)
    lists = (_read(walk, address, found, preserved) for address, found in ways.items())
    return tuple(entry for entry in lists if entry is not None)


def chosen_layout(walk: Walk) -> PciLayout | None:
    """The list layout that the user named, the last word on the matter."""
    named = (layout_named(name) for name in walk.layouts)
    return next((layout for layout in named if layout is not None), None)


def _read(walk: Walk, address: int, leads: list[Lead], preserved: PreservedMap | None) -> PciList | None:
    certain = any(lead.certain for lead in leads)
    what = f"PCI device list ({', '.join(lead.via for lead in leads)})"
    if not walk.is_page_address(address):
        if certain and address:
            walk.problem("bad-pointer", address, f"{what}: {address:#x} is no page address")
        return None
    size = next((lead.size for lead in leads if lead.size is not None), None)
    flb = next((lead.via[4:] for lead in leads if lead.via.startswith("flb:")), None)
    data = _folio(walk, address, size, preserved, what if certain else None)
    if data is None:
        return None
    chosen = chosen_layout(walk)
    if chosen is not None and certain:
        return _as_chosen(walk, address, leads, chosen, data, what, flb)
    family = "A" if any(lead.via.startswith("subsystem:") for lead in leads) else None
    block = preserved.find(address) if preserved is not None else None
    partial = certain and block is not None and len(data) < walk.page_size << block.order
    fits = best_fits(data, size=size, flb=flb, family=family, blocks=_block_reader(walk), partial=partial)
    if family is not None:  # the way there proves the family
        fits = [fit for fit in fits if fit.blob.layout.family == family]
    if not fits or (fits[0].faults and not certain):
        if certain:
            walk.problem(
                "pci-unknown-layout", address, f"{what}: fits no known layout; reused memory, or name one with --layout"
            )
        return None
    if fits[0].faults and not _is_close(fits[0]):
        walk.problem(
            "pci-unknown-layout", address, f"{what}: closest is {fits[0].name}, but {'; '.join(fits[0].faults)}"
        )
        return None
    return _entry(walk, address, leads, fits, what)


def _is_close(fit: Fit) -> bool:
    """Whether a list with faults is still more a list than not: devices, and one kind of fault only."""
    return len(fit.blob.devices) > 0 and len(fit.faults) == 1


def _folio(
    walk: Walk, address: int, size: int | None, preserved: PreservedMap | None, what: str | None
) -> bytes | None:
    """The folio that holds a list: as the map says, else as many pages as a count in its head could ask for."""
    block = preserved.find(address) if preserved is not None else None
    if block is not None and block.address == address:
        wanted = walk.page_size << block.order
    elif size is not None:
        wanted = -(-size // walk.page_size) * walk.page_size
    else:
        wanted = 0
    if not wanted:
        return _grow(walk, address, what)
    data = _read_upto(walk, address, min(wanted, LIMITS.list_size), what)
    if data is None and size is not None:  # a blob of debugfs is all that its source has of the page
        data = _read_upto(walk, address, min(size, LIMITS.list_size), None)
    return data


def _read_upto(walk: Walk, address: int, size: int, what: str | None) -> bytes | None:
    if what is not None:
        return walk.read_some(address, size, what) or None
    try:
        return walk.memory.read(address, size)
    except MissingMemory:
        return None


def _grow(walk: Walk, address: int, what: str | None) -> bytes | None:
    """Without a map: one page, then twice as many, while a layout asks for more than was read."""
    data = _read_upto(walk, address, walk.page_size, what)
    while data is not None and len(data) < LIMITS.list_size:
        fits = best_fits(data)
        if fits and not fits[0].faults:
            return data
        try:
            data += walk.memory.read(address + len(data), len(data))
        except MissingMemory:
            return data
        if len(data) > 1 << 20:
            return data
    return data


def _block_reader(walk: Walk) -> BlockReader:
    """Reads block chains for the shape test; what is wrong there is a fault of the shape, not a problem yet."""

    def read(first: int, entry: Schema) -> tuple[bytes, tuple[int, ...], str | None]:
        probe = Walk(walk.memory, walk.page_size)
        pages = list(probe.blocks(first, entry, "PCI device blocks")) if walk.is_page_address(first) else []
        entries = b"".join(page.entries for page in pages)
        fault = probe.problems[0].message if probe.problems else None
        return entries, tuple(page.address for page in pages), fault

    return read


def _entry(walk: Walk, address: int, leads: list[Lead], fits: list[Fit], what: str) -> PciList:
    best, others = fits[0], tuple(fit.name for fit in fits[1:])
    for fault in best.faults:
        walk.problem("pci-fault", address, f"{what}: {fault}")
    return replace(
        _list(address, leads, best.blob, confidence=_confidence(best, others)), candidates=(best.name, *others)
    )


def _confidence(best: Fit, others: tuple[str, ...]) -> str:
    size = " and the blob's exact size" if best.exact else ""
    if best.faults:
        return f"closest by shape, not certain: {'; '.join(best.faults)}"
    if not others:
        return f"the only layout that fits, by shape{size}"
    if not best.blob.devices:
        return f"an empty list, which {len(others)} other layouts write alike"
    return f"by shape{size} also {', '.join(others)}: these bytes do not tell them apart"


def _list(address: int, leads: list[Lead], blob: PciBlob, *, confidence: str) -> PciList:
    return PciList(
        layout=blob.layout.name,
        address=address,
        via=tuple(dict.fromkeys(lead.via for lead in leads)),
        confidence=confidence,
        devices=blob.devices,
        header=with_hex(blob.layout.header, blob.header),
        buses=blob.buses,
        blocks=blob.blocks,
    )


def _as_chosen(
    walk: Walk, address: int, leads: list[Lead], layout: PciLayout, data: bytes, what: str, flb: str | None
) -> PciList | None:
    blob = read_pci(layout, data, _block_reader(walk))
    if blob is None:
        walk.problem("short-list", address, f"{what}: {len(data)} bytes, too few for the header of {layout.name}")
        return None
    if blob.missing:
        walk.problem("short-list", address, f"{what}: {blob.missing} bytes of records are not there as {layout.name}")
    fit = fit_pci(layout, data, flb=flb, blocks=_block_reader(walk))
    faults = fit.faults if fit is not None else ()
    for fault in faults:
        walk.problem("pci-fault", address, f"{what}: {fault}")
    confidence = "chosen by --layout" + (f"; {'; '.join(faults)}" if faults else "")
    return _list(address, leads, blob, confidence=confidence)


def with_contents(walk: Walk, entry: PciList, preserved: PreservedMap | None) -> PciList:
    """The list with the bytes of every page that a driver_data names and the map covers."""
    pieces: dict[int, Contents] = {}
    for device in entry.devices:
        address = device.number("driver_data") or 0
        block = preserved.find(address) if preserved is not None and walk.is_page_address(address) else None
        if block is None or address in pieces:
            continue
        size = min(walk.page_size << block.order, LIMITS.contents_size)
        data = walk.read(address, size, f"driver_data of {device.name}")
        if data is None:  # nothing is not a page of zeros
            continue
        pieces[address] = Contents(address=address, size=size, data=data.rstrip(b"\0"))
    return replace(entry, contents=tuple(pieces.values()))
