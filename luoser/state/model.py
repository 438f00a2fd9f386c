# SPDX-License-Identifier: MIT
"""The state of one source: plain frozen dataclasses in the kernel's terms.

Integers are integers; addresses are physical and in bytes, None where a thing has no place of its own.
Names are text with bytes that are no UTF-8 kept as surrogate escapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from luoser.fdt import Fdt
from luoser.state.packed import DeviceList, FolioList
from luoser.state.preserved import PreservedMap

__all__ = [
    "Area",
    "Blob",
    "Contents",
    "Direction",
    "File",
    "Flb",
    "Folios",
    "Handover",
    "KexecMetadata",
    "KhoTest",
    "Luo",
    "MapStatus",
    "Memblock",
    "Memfd",
    "PciList",
    "Preserved",
    "Problem",
    "Record",
    "Reservation",
    "Session",
    "Source",
    "State",
    "Subsystem",
    "Subtree",
]


class Direction(StrEnum):
    """Which way a root goes, seen from the kernel that the source shows running."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    UNKNOWN = "unknown"


class MapStatus(StrEnum):
    """What became of a preserved map.

    absent: the pointer is 0. missing: its root page is not in the source, or cannot be unpacked. unread: a form that
    luoser does not decode. stale: the next kernel freed its pages, and they hold other things. damaged: a node of it
    is impossible, or is not a node; it is read as far as that goes. intact: the rest, complete or not.
    """

    ABSENT = "absent"
    MISSING = "missing"
    UNREAD = "unread"
    STALE = "stale"
    DAMAGED = "damaged"
    INTACT = "intact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something broken, missing, stale or cyclic. code: stable word. address: where, if there is a where.

    root: address of the KHO root below which it was met, None for what belongs to none. about: path of the thing
    relative to that root, such as `luo.sessions[1].files`; empty for the source itself.
    """

    code: str
    address: int | None
    message: str
    root: int | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a state was read from. page_size: bytes. kernel: release of the running kernel, None where not said."""

    path: str
    format: str
    page_size: int = 4096
    kernel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A scratch area in bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Bytes of preserved memory, with the zeros at the end cut off; size counts them."""

    address: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A handler's struct that has no class of its own.

    readings: (layout, members) for each layout that the bytes fit; one where they decide, more where they
    do not. confidence: why, in words.
    """

    address: int
    readings: tuple[tuple[str, Mapping[str, Any]], ...]
    confidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preserved:
    """The preserved map. form: `chunks` or `radix`. map: what could be read of an intact or damaged one, else None.

    nodes: the map's own pages.

    bitmaps: (address, order, start) of each: where it lies, and the order and address that its first bit is for.
    """

    form: str
    address: int
    status: MapStatus
    map: PreservedMap | None = None
    nodes: tuple[int, ...] = ()
    bitmap_size: int | None = None
    bitmaps: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtree:
    """A child of the root. size: blob-size in bytes, or the totalsize of an FDT; None where neither is known."""

    name: str
    address: int | None
    size: int | None
    fdt: Fdt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folios:
    """The folio array of a file. address: first vmalloc chunk. chunks, pages: where the array lies."""

    count: int
    address: int
    list: FolioList
    total_pages: int = 0
    flags: int = 0
    order: int = 0
    chunks: tuple[int, ...] = ()
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memfd:
    """A preserved memfd. size, position: bytes. seals: None where the form has none."""

    layout: str
    address: int
    size: int
    position: int
    seals: int | None
    folios: Folios
    flags: int = 0
    contents: tuple[Contents, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One preserved file of a session. data: the handler's handle. address: of its luo_file_ser."""

    compatible: str
    data: int
    token: int
    address: int | None
    memfd: Memfd | None = None
    detail: Record | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One LUO session. blocks: pages that hold its files."""

    name: str
    address: int | None
    files: tuple[File, ...] = ()
    count: int = 0
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flb:
    """File-lifecycle-bound global data. count: files that depend on it."""

    name: str
    data: int
    count: int
    address: int
    detail: Record | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsystem:
    """A subsystem's value in the LUO of 2025."""

    name: str
    data: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Luo:
    """The orchestrator's state. number: live updates so far as the next kernel will see them.

    compatible: None where the form has no string.
    """

    layout: str
    compatible: str | None
    address: int
    number: int | None
    serialized: bool
    sessions: tuple[Session, ...] = ()
    flbs: tuple[Flb, ...] = ()
    subsystems: tuple[Subsystem, ...] = ()
    session_area: int | None = None
    session_blocks: tuple[int, ...] = ()
    flb_area: int | None = None
    fdt: Fdt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PciList:
    """One list of preserved devices.

    layout: registry name. candidates: further layouts that the bytes fit as well. via: the ways that led
    here. confidence: how sure the layout is, in words. header: members of the head. blocks: KHO
    block pages where the records do not follow the header. contents: pages that driver_data names.
    """

    layout: str
    address: int
    via: tuple[str, ...]
    confidence: str
    devices: DeviceList
    candidates: tuple[str, ...] = ()
    header: Mapping[str, int] = field(default_factory=dict)
    buses: tuple[Mapping[str, Any], ...] = ()
    blocks: tuple[int, ...] = ()
    contents: tuple[Contents, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A reserve_mem area in bytes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memblock:
    """Sub-tree memblock."""

    address: int
    reservations: tuple[Reservation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KexecMetadata:
    """Sub-tree kexec-metadata. kexec_count: KHO kexecs so far as the next kernel will see them."""

    address: int
    version: int
    previous_release: str
    kexec_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KhoTest:
    """Sub-tree of the KHO self-test. folios: (physical address, order) of each. pages: where their array lies."""

    address: int
    magic: int
    count: int
    checksum: int
    folios: tuple[tuple[int, int], ...]
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Everything below one KHO root. page size as in the source. scratch: None where it cannot be found.

    address: None for a root that was read from a file of debugfs, which does not say where it lies. own: whether the
    root is this machine's, and not a guest's, a copy, or left over from another boot.
    """

    address: int | None
    compatible: str
    direction: Direction
    evidence: tuple[str, ...]
    scratch: tuple[Area, ...] | None
    preserved: Preserved
    subtrees: tuple[Subtree, ...]
    luo: Luo | None = None
    pci: tuple[PciList, ...] = ()
    memblock: Memblock | None = None
    kexec_metadata: KexecMetadata | None = None
    kho_test: KhoTest | None = None
    fdt: Fdt | None = None
    own: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A bare blob as one layout. candidates: all layouts that fit. size: bytes that the layout accounts for.

    fields: members of the head. devices, buses: of a PCI list. records: of other arrays. notes: what speaks
    against it, and what lies elsewhere.
    """

    layout: str
    candidates: tuple[str, ...]
    confidence: str
    size: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    devices: DeviceList | None = None
    buses: tuple[Mapping[str, Any], ...] = ()
    records: tuple[Mapping[str, Any], ...] = ()
    fdt: Fdt | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What one source says: its handovers, by address, and what was wrong on the way."""

    source: Source
    handovers: tuple[Handover, ...]
    problems: tuple[Problem, ...] = ()
