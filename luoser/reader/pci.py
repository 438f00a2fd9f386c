# SPDX-License-Identifier: MIT
"""The lists of preserved devices: found through an FLB, a subsystem or a sub-tree, recognised by shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luoser.abi.block import kho_block_header_ser
from luoser.abi.pci import PciLayout
from luoser.abi.pci import layout as layout_named
from luoser.abi.schema import Schema
from luoser.errors import MissingMemory
from luoser.limits import LIMITS
from luoser.reader.block import read_blocks
from luoser.reader.kept import keep_all_but_texts, keep_items, keep_struct
from luoser.reader.pci_layout import BlockReader, Fault, Fit, PciBlob, best_fits, fit_pci, is_plausible, read_pci
from luoser.reader.plausible import is_name
from luoser.reader.walk import Subject, Walk
from luoser.state import Contents, DeviceList, PciList, PreservedMap
from luoser.state.columns import columns
from luoser.state.struct_values import marked

__all__ = ["Lead", "chosen_layout", "read_lists", "with_contents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """A pointer to something that may be a device list.

    via:     value for `pci[].via`, such as `flb:pci`.
    address: physical, of the possible list.
    path:    of the structure with the pointer, relative to the root.
    size:    exact size in bytes. None: unknown.
    certain: whether it can only be a device list. Then a list with faults is shown, with its faults.
    """

    via: str
    address: int
    path: str
    size: int | None = None
    certain: bool = False


def read_lists(walk: Walk, leads: list[Lead], preserved: PreservedMap | None) -> tuple[PciList, ...]:
    """The lists, each with all leads to it. Leads to something else are dropped.

    walk:      the source.
    leads:     of one root.
    preserved: map of the root, for the sizes of the folios. None: not available.
    """
    ways: dict[int, list[Lead]] = {}
    for lead in leads:
        ways.setdefault(lead.address, []).append(lead)
    lists: list[PciList] = []
    for address, found in ways.items():
        entry = _read(walk, address, found, preserved, f"pci[{len(lists)}]")
        if entry is not None:
            _keep(walk, entry, f"pci[{len(lists)}]")
            lists.append(entry)
    return tuple(lists)


def _keep(walk: Walk, entry: PciList, path: str) -> None:
    """Keep a list: its head, and its records after it or in blocks."""
    form, subject = layout_named(entry.layout), Subject("PCI device list", path)
    if form is None or not walk.keeps:
        return
    keep_struct(walk, entry.address, form.header, subject)
    for block in entry.blocks:
        _keep_block(walk, block, form, subject)
    if form.blocks is None:
        place, size = entry.address + form.header.size, len(entry.devices.data)
        walk.need(place, min(size, entry.header[form.count] * form.record.size), subject)
        if form.is_sorted:  # in the rest of its last page there may be remains of removed devices
            size += (-(place + size) % walk.page_size) // form.record.size * form.record.size
        _keep_records(walk, place, form, walk.read_some(place, size, subject), entry.header[form.count], subject)
        if form.bus is not None:
            walk.keep(place + len(entry.devices.data), len(entry.buses) * form.bus.size, subject)


def _keep_block(walk: Walk, address: int, form: PciLayout, subject: Subject) -> None:
    """Keep a block of records: its header, and the records that can be devices."""
    schema = walk.form(kho_block_header_ser)
    count = schema.parse(walk.memory.read(address, schema.size)).count
    place = address + schema.size
    keep_struct(walk, address, schema, subject)
    _keep_records(walk, place, form, walk.memory.read(place, count * form.record.size), count, subject)


def _keep_records(walk: Walk, address: int, form: PciLayout, data: bytes, listed: int, subject: Subject) -> None:
    """Keep the records that can be devices. address: of the first one. data: of all. listed: number of the list's."""
    record = form.record
    devices = DeviceList(record.record, columns(record), data)
    kept = [is_plausible(form, device, is_listed=index < listed) for index, device in enumerate(devices)]
    while kept and not kept[-1]:  # what is after the list
        kept.pop()
    texts = [(one.offset, one.size) for one in record.fields if one.kind == "text"]
    for index in range(len(kept)) if texts else ():
        start = index * record.size
        if kept[index] and any(not is_name(data[start + low :][:size], empty=True) for low, size in texts):
            kept[index] = False
            keep_all_but_texts(walk, address + start, record.size, texts, subject)
    keep_items(walk, address, record.size, kept, subject)


def chosen_layout(walk: Walk) -> PciLayout | None:
    """The list layout that the user selected; it overrides detection. None: not selected."""
    named = (layout_named(name) for name in walk.layouts)
    return next((layout for layout in named if layout is not None), None)


def _read(walk: Walk, address: int, leads: list[Lead], preserved: PreservedMap | None, path: str) -> PciList | None:
    """The list at an address. None, with a problem if certain: not a list. path: of the list."""
    certain = any(lead.certain for lead in leads)
    name = f"PCI device list ({', '.join(lead.via for lead in leads)})"
    way = Subject(name, next((lead.path for lead in leads if lead.certain), leads[0].path))
    if not walk.is_page_address(address):
        if certain and address:
            walk.problem("bad-pointer", address, way, f"{address:#x} is not a page address")
        return None
    size = next((lead.size for lead in leads if lead.size is not None), None)
    flb = next((lead.via[4:] for lead in leads if lead.via.startswith("flb:")), None)
    data = _folio(walk, address, size, preserved, way if certain else None)
    if data is None:
        return None
    chosen = chosen_layout(walk)
    if chosen is not None and certain:
        return _as_chosen(walk, address, leads, chosen, data, Subject(name, path), flb)
    family = "A" if any(lead.via.startswith("subsystem:") for lead in leads) else None
    block = preserved.find(address) if preserved is not None else None
    partial = certain and block is not None and len(data) < walk.page_size << block.order
    fits = _fits(walk, data, size=size, flb=flb, family=family, partial=partial)
    if family is not None:  # only family A is a subsystem
        fits = [fit for fit in fits if fit.blob.layout.family == family]
    if not fits or (fits[0].faults and not certain):
        if certain:
            text = "no known layout fits; reused memory? If not, select a layout with --layout"
            walk.problem("pci-unknown-layout", address, way, text)
        return None
    if fits[0].faults and not _is_close(fits[0]):
        text = f"no known layout fits; closest is {fits[0].name}: {_words(fits[0].faults)}"
        walk.problem("pci-unknown-layout", address, way, text)
        return None
    return _entry(walk, address, leads, fits, Subject(name, path))


def _fits(
    walk: Walk,
    data: bytes,
    *,
    size: int | None = None,
    flb: str | None = None,
    family: str | None = None,
    partial: bool = False,
    chains: bool = True,
) -> list[Fit]:
    """As `best_fits`. Several roots may lead to one list: equal bytes are judged once. chains: judge them, too."""
    key = (data, size, flb, family, partial, chains)
    found: list[Fit] | None = walk.judged.get(key)
    if found is None:
        blocks = _block_reader(walk) if chains else None
        found = best_fits(data, size=size, flb=flb, family=family, blocks=blocks, partial=partial)
        walk.judged[key] = found
    return found


def _words(faults: tuple[Fault, ...]) -> str:
    return "; ".join(map(str, faults))


def _is_close(fit: Fit) -> bool:
    """Whether a list with faults is still shown as one: it has devices, and only one kind of fault."""
    return len(fit.blob.devices) > 0 and len(fit.faults) == 1


def _folio(
    walk: Walk, address: int, size: int | None, preserved: PreservedMap | None, subject: Subject | None
) -> bytes | None:
    """The folio of a list. Its size is that in the map, else that of the blob, else it follows from its head."""
    block = preserved.find(address) if preserved is not None else None
    if block is not None and block.address == address:
        wanted = walk.page_size << block.order
    elif size is not None:
        wanted = -(-size // walk.page_size) * walk.page_size
    else:
        wanted = 0
    if not wanted:
        return _grow(walk, address, subject)
    way = subject or Subject("possible PCI device list", "pci")
    data = _read_upto(walk, address, walk.take_bytes("list_bytes", wanted, way), subject)
    if data is None and size is not None:  # a source of debugfs has only the blob, not its page
        data = _read_upto(walk, address, walk.take_bytes("list_bytes", size, way), None)
    return data


def _read_upto(walk: Walk, address: int, size: int, subject: Subject | None) -> bytes | None:
    if subject is not None:
        return walk.read_some(address, size, subject, kind=_is_list) or None
    try:
        return walk.memory.read(address, size)
    except MissingMemory:
        return None


def _is_list(page: bytes) -> bool:
    """Whether a page can be the first of a list with devices, of any layout."""
    return any(not fit.faults and len(fit.blob.devices) > 0 for fit in best_fits(page))


def _grow(walk: Walk, address: int, subject: Subject | None) -> bytes | None:
    """Without a map: one page, then doubled until a layout fits, up to 1 MiB."""
    way = subject or Subject("possible PCI device list", "pci")
    if walk.take_bytes("list_bytes", walk.page_size, way) < walk.page_size:
        return None
    data = _read_upto(walk, address, walk.page_size, subject)
    while data is not None and len(data) <= 1 << 20:
        fits = _fits(walk, data, chains=False)
        if fits and not fits[0].faults:
            return data
        if walk.take_bytes("list_bytes", len(data), way) < len(data):
            return data
        try:
            data += walk.memory.read(address + len(data), len(data))
        except MissingMemory:
            return data
    return data


def _block_reader(walk: Walk) -> BlockReader:
    """A reader of block chains for the shape test. Problems of the chain are only faults of the shape."""

    def read(first: int, entry: Schema) -> tuple[bytes, tuple[int, ...], str | None]:
        probe = Walk(walk.memory, walk.page_size)
        subject = Subject("PCI device blocks", "")
        pages = list(read_blocks(probe, first, entry, subject)) if walk.is_page_address(first) else []
        entries = b"".join(page.entries for page in pages)
        fault = next((problem.message for problem in probe.problems), None)
        return entries, tuple(page.address for page in pages), fault

    return read


def _entry(walk: Walk, address: int, leads: list[Lead], fits: list[Fit], subject: Subject) -> PciList:
    best, others = fits[0], tuple(fit.name for fit in fits[1:])
    _note(walk, address, best.faults, subject)
    return replace(
        _list(address, leads, best.blob, confidence=_confidence(best, others)), candidates=(best.name, *others)
    )


def _note(walk: Walk, address: int, faults: tuple[Fault, ...], subject: Subject) -> None:
    """Note a problem for each fault."""
    for fault in faults:
        walk.problem(fault.code, address, subject, fault.text)


def _confidence(best: Fit, others: tuple[str, ...]) -> str:
    size = " and the blob's exact size" if best.exact else ""
    if best.faults:
        return f"closest by shape, with faults: {_words(best.faults)}"
    if not others:
        return f"the only layout that fits, by shape{size}"
    if not best.blob.devices:
        return f"an empty list, the same in {len(others)} other layouts"
    return f"by shape{size}; {', '.join(others)} fit, too"


def _list(address: int, leads: list[Lead], blob: PciBlob, *, confidence: str) -> PciList:
    return PciList(
        layout=blob.layout.name,
        address=address,
        via=tuple(dict.fromkeys(lead.via for lead in leads)),
        confidence=confidence,
        devices=blob.devices,
        header=marked(blob.layout.header, blob.header),
        buses=blob.buses,
        blocks=blob.blocks,
    )


def _as_chosen(
    walk: Walk, address: int, leads: list[Lead], layout: PciLayout, data: bytes, subject: Subject, flb: str | None
) -> PciList | None:
    blob = read_pci(layout, data, _block_reader(walk))
    if blob is None:
        walk.problem(
            "short-list",
            address,
            subject,
            f"too short for {layout.name}: expected at least {layout.header.size} bytes, found {len(data)}",
        )
        return None
    if blob.missing:
        walk.problem(
            "short-list", address, subject, f"too short for {layout.name}: {blob.missing} bytes of records are missing"
        )
    fit = fit_pci(layout, data, flb=flb, blocks=_block_reader(walk))
    faults = fit.faults if fit is not None else ()
    _note(walk, address, faults, subject)
    confidence = "chosen by --layout" + (f"; {_words(faults)}" if faults else "")
    return _list(address, leads, blob, confidence=confidence)


def with_contents(walk: Walk, entry: PciList, preserved: PreservedMap | None, path: str) -> PciList:
    """The list with the contents of the pages at its driver_data.

    walk:      the source.
    entry:     the list.
    preserved: map of the root; only preserved pages are read. None: not available.
    path:      of the list.
    """
    pieces: dict[int, Contents] = {}
    for device in entry.devices:
        address = device.number("driver_data") or 0
        block = preserved.find(address) if preserved is not None and walk.is_page_address(address) else None
        if block is None or address in pieces:
            continue
        size = min(walk.page_size << block.order, LIMITS.contents_size)
        with walk.memory.exactly():
            data = walk.read(address, size, Subject(f"driver_data of {device.name}", f"{path}.contents"))
        if data is None:  # unknown contents, not zeros
            continue
        pieces[address] = Contents(address=address, size=size, data=data.rstrip(b"\0"))
    return replace(entry, contents=tuple(pieces.values()))
