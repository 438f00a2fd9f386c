# SPDX-License-Identifier: MIT
"""The state of one source: plain frozen dataclasses in the kernel's terms.

Addresses are physical, sizes in bytes. The address of a thing is None if it has no memory of its own.
Names are text; bytes that are not UTF-8 are surrogate escapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from luoser.abi.release import kept_subtrees
from luoser.fdt import Fdt
from luoser.state.packed import DeviceList, FolioList
from luoser.state.preserved import PreservedMap
from luoser.state.salvaged import Salvaged

__all__ = [
    "HASHED_NAMES",
    "OWN_PREFIX",
    "Area",
    "Array",
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
    "Pending",
    "PendingFile",
    "PendingFlb",
    "PendingSession",
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


HASHED_NAMES = "names of sessions, unknown sub-trees and regions are hashes"
"""What a cut with hashed names says of them, before it names the key."""
OWN_PREFIX = "btf-"
"""Start of the name of a layout that is a struct of the running kernel's own types, and not of the registry."""


class Direction(StrEnum):
    """Direction of a root: handed to the running kernel, or by it to the next one."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    UNKNOWN = "unknown"


class MapStatus(StrEnum):
    """Status of a preserved map.

    absent:  the pointer is 0.
    missing: its first page is not in the source, or cannot be unpacked.
    unread:  a form that luoser does not decode.
    stale:   the next kernel freed its pages, and they were reused.
    damaged: a node is impossible. The rest is read as far as possible.
    intact:  all others, complete or not.

    Source: docs/deciding.md.
    """

    ABSENT = "absent"
    MISSING = "missing"
    UNREAD = "unread"
    STALE = "stale"
    DAMAGED = "damaged"
    INTACT = "intact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something broken, missing, stale or cyclic, which a reader met.

    code:    stable word for its kind.
    address: physical. None: no address.
    message: in words.
    root:    address of the KHO root. None: not below a root.
    about:   path of the thing, relative to the root, such as `luo.sessions[1].files`. Empty: the source.

    Source: docs/reference/problems.md.
    """

    code: str
    address: int | None
    message: str
    root: int | None = None
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of a state.

    path:      as the user gave it.
    format:    name of the dump format.
    page_size: of the kernel, in bytes.
    kernel:    release of the running kernel. None: unknown.
    left_out:  what a cut left out on purpose, in words.
    document:  path of the state document that says all this. Empty: the source itself was read.
    """

    path: str
    format: str
    page_size: int = 4096
    kernel: str | None = None
    left_out: tuple[str, ...] = ()
    document: str = field(default="", compare=False)

    @property
    def hashed_names(self) -> str:
        """How a cut has hashed the names that users chose, in words: the same for the same key. Empty: it has not."""
        return next((line for line in self.left_out if line.startswith(HASHED_NAMES)), "")

    @property
    def name(self) -> str:
        """Path of the file that was read: of the document, or of the source itself."""
        return self.document or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A scratch area: physical address, size in bytes."""

    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Bytes of preserved memory.

    address: physical.
    size:    bytes.
    data:    without the zeros at the end, so possibly shorter than `size`.
    """

    address: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array of a struct, in a preserved vmalloc area.

    member: of the struct that describes the area.
    order:  of each block.
    chunks: addresses of the chunks.
    pages:  addresses of the blocks.
    words:  the bytes as little-endian u64, as many as the struct counts, or without zeros at the end.
    complete: whether all of the area could be read.
    """

    member: str
    order: int
    chunks: tuple[int, ...]
    pages: tuple[int, ...]
    words: tuple[int, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A handler's struct that has no class here.

    address:    physical.
    readings:   (layout, values by member name) for each layout that fits the bytes.
    confidence: why these layouts, in words.
    arrays:     that the struct describes, if only one layout fits.
    """

    address: int
    readings: tuple[tuple[str, Mapping[str, Any]], ...]
    confidence: str
    arrays: tuple[Array, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preserved:
    """The preserved map.

    form:        `chunks` or `radix`. Of the tree of pages of a sub-tree: `orders` with keys as in the map, `frames`
                 with page frame numbers, `open` without a key that tells.
    address:     of its first page, 0 if absent.
    status:      see MapStatus.
    map:         as far as it was read. None: not intact or damaged.
    nodes:       addresses of the map's own pages, in the order of a walk.
    bitmap_size: bytes of a kho-v1 bitmap. None: a radix tree, or a map that was not read.
    bitmaps:     (address, order, start) of each bitmap. start: physical address of its first bit.
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
    """A child of the root.

    name:     of the node.
    address:  physical. None: the node has no usable address.
    size:     blob-size in bytes, else totalsize of the devicetree. None: neither is known.
    fdt:      None: not a devicetree, or not readable.
    detail:   struct of a known owner. None: an owner with a reader of its own, an unknown one, or not readable.
    page_tree: the tree of pages of its owner, in the format of the map. None: it has none.
    contents: of a blob of unknown kind, if contents were read.
    """

    name: str
    address: int | None
    size: int | None
    fdt: Fdt | None = None
    detail: Record | None = None
    page_tree: Preserved | None = None
    contents: tuple[Contents, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Folios:
    """The folio array of a file, and its vmalloc area.

    count:       of folios in the descriptor.
    address:     of the first vmalloc chunk, 0 for an empty file.
    list:        the folios that were read.
    total_pages: pages of the vmalloc area.
    flags:       of the vmalloc area.
    order:       of each of its blocks.
    chunks:      addresses of the chunks.
    pages:       addresses of the blocks.
    """

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
    """A preserved memfd.

    layout:   form, as in `luoser.abi.memfd`.
    address:  of the descriptor.
    size:     bytes.
    position: file position in bytes.
    seals:    F_SEAL_* bits. None: the form has no seals.
    flags:    of the descriptor, 0 as written.
    contents: of a small file, if contents were read.
    """

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
    """One preserved file of a session.

    compatible: string of the handler.
    data:       handle of the handler.
    token:      chosen by user space.
    address:    of its luo_file_ser. None: a node of a devicetree.
    memfd:      None: not a memfd, or not readable.
    detail:     struct of another known handler. None: unknown handler, or not readable.
    contents:   of the folio at `data`, for an unknown handler, if contents were read.
    """

    compatible: str
    data: int
    token: int
    address: int | None
    memfd: Memfd | None = None
    detail: Record | None = None
    contents: tuple[Contents, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One LUO session.

    name:    empty for the files of the LUO of 2025, which has no sessions.
    address: of its luo_session_ser. None: no such struct.
    files:   that were read.
    count:   of files in the entry.
    blocks:  addresses of the pages with its file entries.
    """

    name: str
    address: int | None
    files: tuple[File, ...] = ()
    count: int = 0
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flb:
    """File-lifecycle-bound global data.

    name:     compatible string.
    data:     handle of the owner.
    count:    of preserved files that depend on it.
    address:  of its luo_flb_ser.
    detail:   struct of a known owner. None: unknown owner, or not readable.
    contents: of the folio at `data`, for an unknown owner, if contents were read.
    """

    name: str
    data: int
    count: int
    address: int
    detail: Record | None = None
    contents: tuple[Contents, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsystem:
    """The u64 of a subsystem in the LUO of 2025."""

    name: str
    data: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Luo:
    """The state of the Live Update Orchestrator.

    layout:         form, as in `luoser.abi.luo`.
    compatible:     string of the root object. None: the form has no string.
    address:        of the root object.
    number:         of live updates, including the coming one. None: the form does not have it.
    serialized:     whether sessions, FLBs or subsystem values were written.
    subsystems:     of the LUO of 2025.
    session_area:   address of the first session block, or of the session area. None: no pointer.
    session_blocks: addresses of the pages with session entries.
    flb_area:       address of the FLB page. None: no pointer.
    fdt:            the root object of forms with a devicetree, else None.
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

    def with_files(self, change: Callable[[str, Session, File], File]) -> Luo:
        """The same with other files. change: of the path of a file, its session, and the file."""
        return replace(
            self,
            sessions=tuple(
                replace(
                    session,
                    files=tuple(
                        change(f"luo.sessions[{number}].files[{index}]", session, file)
                        for index, file in enumerate(session.files)
                    ),
                )
                for number, session in enumerate(self.sessions)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PciList:
    """One list of preserved devices.

    layout:     name in the registry.
    address:    physical.
    via:        what leads to it, such as `flb:pci` or `subtree:NAME`.
    confidence: why this layout, in words.
    devices:    the records.
    candidates: all layouts that fit, the chosen one first.
    header:     values of the head by member name.
    buses:      records of buses, in later patches of v1.
    blocks:     addresses of the KHO blocks. Empty: the records follow the header.
    contents:   pages at the addresses in driver_data, if contents were read.
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
    """A reserve_mem region: name, physical address, size in bytes."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memblock:
    """The sub-tree memblock: its address, and the reserve_mem regions."""

    address: int
    reservations: tuple[Reservation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KexecMetadata:
    """The sub-tree kexec-metadata.

    address:          physical.
    version:          1.
    previous_release: of the kernel that wrote it.
    kexec_count:      of KHO kexecs, including the coming one.
    """

    address: int
    version: int
    previous_release: str
    kexec_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KhoTest:
    """The sub-tree of the KHO self-test.

    address:  physical.
    magic:    0x4b484f21.
    count:    of folios in the devicetree.
    checksum: of the contents of the folios.
    folios:   (physical address, order) of each folio that was read.
    pages:    addresses of the vmalloc blocks with the array of folios. Empty: the array is in the devicetree.
    contents: of the folios that are in the source, if contents were read.
    """

    address: int
    magic: int
    count: int
    checksum: int
    folios: tuple[tuple[int, int], ...]
    pages: tuple[int, ...] = ()
    contents: tuple[Contents, ...] = ()


_SUBTREES = {"luo": "LUO", "kexec_metadata": "kexec-metadata"}
"""Names of the sub-trees, by path of what is read from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFile:
    """A file of a session, as the running kernel has it.

    compatible: string of its handler.
    token:      chosen by user space.
    data:       handle of the handler; 0 until it has preserved something.
    address:    of its struct luo_file.
    private:    address of the handler's private data. None: none, or not mapped.
    size:       of the file in bytes. None: the kernel has not opened it again.
    position:   file position in bytes. None: as for `size`.
    memfd:      what its handler has preserved so far; it writes size and position again at the reboot call. None: not
                a memfd, not readable, or handed to the running kernel, which frees it.
    """

    compatible: str
    token: int
    data: int
    address: int
    private: int | None = None
    size: int | None = None
    position: int | None = None
    memfd: Memfd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSession:
    """A session, as the running kernel has it.

    address:   of its struct luo_session.
    retrieved: whether user space has taken it back.
    blocks:    addresses of the pages that are kept for its file entries.
    """

    name: str
    address: int
    files: tuple[PendingFile, ...] = ()
    retrieved: bool = False
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingFlb:
    """A registered FLB.

    name:    compatible string.
    count:   of preserved files that depend on it, as its reference count.
    data:    handle of the owner, 0 until it has preserved something.
    address: of its struct liveupdate_flb.
    """

    name: str
    count: int
    data: int
    address: int

    @property
    def is_saturated(self) -> bool:
        """Whether the refcount_t lost a reference too many: REFCOUNT_SATURATED of include/linux/refcount.h."""
        return self.count >= 0xC000_0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What the running kernel will hand over, or was handed and has not finished: its own objects.

    sessions: in their order.
    flbs:     that are registered.
    lists:    of devices, which the FLBs have built.
    subtrees: names of the root's children.
    handlers: compatible strings of the registered file handlers.
    evidence: where this is from, in words.
    complete: whether all of it could be read.
    blocks:   addresses of the pages that are kept for the session entries.
    """

    sessions: tuple[PendingSession, ...] = ()
    flbs: tuple[PendingFlb, ...] = ()
    lists: tuple[PciList, ...] = ()
    subtrees: tuple[str, ...] = ()
    handlers: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    complete: bool = True
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Everything below one KHO root.

    address:    of the root. None: the root is a file of debugfs, whose address is unknown.
    compatible: string of the root.
    direction:  incoming, outgoing or unknown.
    evidence:   for the direction and the scratch areas, in words.
    scratch:    the scratch areas. None: their array was not found.
    scratch_array: address of their array. None: it was not found, or has no address.
    pending:    the running kernel's own objects. None: its symbols or types are not known.
    preserved:  the preserved map.
    subtrees:   the children of the root.
    luo:        None: no LUO, or not readable. So for memblock, kexec_metadata and kho_test.
    pci:        the lists of preserved devices.
    fdt:        devicetree of the root. None: the state is from a short document.
    own:        whether the root is of this machine: not of a guest, a copy, or left over from another boot.
    at_jump:    it was handed over, and no kernel has taken it over yet: an image to boot with.
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
    at_jump: bool = False
    scratch_array: int | None = None
    pending: Pending | None = None

    @property
    def is_consumed(self) -> bool:
        """Whether the next kernel has taken it over. It frees what was handed over step by step."""
        if self.direction is Direction.OUTGOING or self.at_jump:
            return False
        return self.is_taken or self.preserved.status is MapStatus.STALE

    @property
    def is_taken(self) -> bool:
        """Whether a kernel that runs got it from its predecessor."""
        return self.direction is Direction.INCOMING and not self.at_jump

    def may_be_freed(self, about: str) -> bool:
        """Whether the next kernel may have freed the page of a thing: it has taken over, and does not keep it.

        about: path of the thing.
        """
        if not self.is_consumed:
            return False
        part, kept = about.partition(".")[0].partition("[")[0], kept_subtrees(self.compatible)
        if part == "subtrees":
            names = {f"subtrees[{index}]": entry.name for index, entry in enumerate(self.subtrees)}
            return names.get(about, "") not in kept
        return part != "root" and _SUBTREES.get(about, part) not in kept


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of one source.

    handovers: by ascending address of the root.
    problems:  that the reader met.
    salvaged:  what was found by its shape alone, the surest first; no rule and no writer looks at it. None: it was not
               looked for.
    """

    source: Source
    handovers: tuple[Handover, ...]
    problems: tuple[Problem, ...] = ()
    salvaged: tuple[Salvaged, ...] | None = None
