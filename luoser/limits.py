# SPDX-License-Identifier: MIT
"""Every bound on time and memory that hostile input could otherwise exceed, and the bounds that are in force.

Bounds come in two kinds: most of one thing, and what is allowed in addition to the bytes that a source really holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from luoser.errors import UsageError

__all__ = ["LIMITS", "LIMIT_CODES", "Limits", "how_to_raise", "in_force", "limited", "meanings", "with_values"]

LIMIT_CODES = ("too-many", "map-too-large", "too-many-candidates")
"""Codes of the problems of what met a limit, and may hide something. Roots beyond the likeliest hide nothing."""


def _limit(default: int, meaning: str) -> Any:
    """A limit. meaning: in words, with the unit."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Limits:
    """Upper bounds. A reader that reaches one records a problem and stops there."""

    read_bytes: int = _limit(256 << 20, "bytes read from one source, in addition to 16 times what it holds")
    fdt_size: int = _limit(16 << 20, "bytes of one flattened devicetree; the largest KHO one is 1 MiB")
    fdt_bytes: int = _limit(16 << 20, "bytes of all devicetrees that the roots of one source refer to")
    fdt_depth: int = _limit(64, "levels of nodes of one devicetree")
    fdt_nodes: int = _limit(1 << 17, "nodes of one devicetree")
    fdt_properties: int = _limit(1 << 17, "properties of one devicetree")
    fdt_name: int = _limit(256, "bytes of a property name, the tail of which others may use; the specification has 31")
    map_nodes: int = _limit(1 << 18, "pages of one preserved map: 2^18 leaves cover 32 TiB of 4 KiB pages")
    map_pages: int = _limit(1 << 12, "pages read of all maps of one source, in addition to twice what it holds")
    chain: int = _limit(10_000, "blocks of one chain: KHO_MAX_BLOCKS of kernel/liveupdate/kho_block.c")
    vmalloc_chunks: int = _limit(1 << 16, "chunks of one preserved vmalloc area")
    list_size: int = _limit(256 << 20, "bytes of one list or blob: PCI devices, a file to decode, a node to extract")
    list_bytes: int = _limit(4 << 20, "bytes read of all device lists of one source, in addition to what it holds")
    blob_size: int = _limit(1 << 20, "bytes read of a file of debugfs, and of a blob that the map has to cover")
    contents_size: int = _limit(64 << 10, "bytes of a file or a driver page that --contents shows")
    hex_size: int = _limit(16 << 20, "bytes that hex text stands for")
    elf_headers: int = _limit(1 << 20, "program headers of one core")
    notes: int = _limit(1 << 16, "ELF notes of one core")
    note_size: int = _limit(16 << 20, "bytes read of one ELF note")
    note_ranges: int = _limit(1 << 17, "ranges of memory in one note of a cut")
    kdump_bitmap: int = _limit(4 << 30, "bytes of one bitmap of a kdump: 128 TiB in pages of 4 KiB")
    kdump_segments: int = _limit(1 << 17, "runs of RAM read from a bitmap")
    kdump_checked: int = _limit(
        1 << 16, "page descriptors up to which all are checked when a kdump is opened; of more, a sample is"
    )
    kdump_descriptors: int = _limit(1 << 20, "page descriptors of a kdump up to which those that share bytes are told")
    unpacked: int = _limit(1 << 40, "bytes of a packed file, unpacked, and of a pipe")
    memfd_size: int = _limit(1 << 40, "bytes of a preserved memfd that is put together")
    unpacked_ratio: int = _limit(1 << 14, "bytes that a byte of a packed file may give, above the first 64 MiB")
    disk_left: int = _limit(64 << 20, "bytes left free in the folder of temporary files when a file is unpacked")
    remote_cache: int = _limit(64 << 20, "bytes of one remote file that are kept in memory")
    remote_bytes: int = _limit(256 << 20, "bytes fetched of a remote source without --scan")
    remote_seconds: int = _limit(
        60, "seconds for the answer to one request of a remote source, and as many for each 4 MiB of it"
    )
    vmware_tags: int = _limit(1 << 16, "tags on memory of a VMware state file: three for each region")
    roots: int = _limit(16, "KHO roots read from one source")
    root_candidates: int = _limit(1024, "pages that look like a root, of which the likeliest are read")
    false_roots: int = _limit(1024, "different pages that start as a root does, but are none")
    scratch_areas: int = _limit(4096, "areas of one array of scratch areas")
    setup_nodes: int = _limit(64, "setup_data nodes of KHO that point to a root, and as many that do not")
    boot_tree_size: int = _limit(2 << 20, "bytes of one devicetree searched for /chosen")
    boot_tree_bytes: int = _limit(32 << 20, "bytes of all devicetrees searched for /chosen")
    boot_tree_strings: int = _limit(128 << 10, "bytes of the strings block of a boot devicetree")
    kho_test_folios: int = _limit(1 << 16, "folios of the KHO self-test")
    kho_test_bytes: int = _limit(
        64 << 20, "bytes of folios of the KHO self-test in --contents, in addition to what the source holds"
    )
    overlap_remarks: int = _limit(16, "remarks of one kind on a dump file")
    overlap_bytes: int = _limit(256 << 20, "bytes compared to find out whether overlapping segments are copies")
    entries: int = _limit(1 << 20, "sessions and files read from one source")
    array_bytes: int = _limit(4 << 20, "bytes of vmalloc arrays read from one source, in addition to what it holds")
    problems: int = _limit(10_000, "problems of one source")
    spec_size: int = _limit(1 << 30, "bytes of a description to build from")
    json_depth: int = _limit(256, "levels of a JSON document: lists and objects in others")
    spec_depth: int = _limit(64, "levels of a description: tables in tables, and parts of a dotted key")
    qmp_line: int = _limit(1 << 20, "bytes of one message of a QMP socket")
    qmp_seconds: int = _limit(3600, "seconds for all that is asked of a QMP socket")
    gdb_packet: int = _limit(1 << 16, "bytes of one packet of a debugger stub, with its runs unpacked")
    gdb_text: int = _limit(4 << 20, "bytes that the monitor behind a debugger stub prints for one command")
    gdb_seconds: int = _limit(3600, "seconds for all that is asked of a debugger stub")
    guest_size: int = _limit(1 << 46, "bytes of memory of a QEMU guest")
    pci_devices: int = _limit(1 << 16, "devices of one topology")
    topology_size: int = _limit(128 << 20, "bytes of the text of lspci: -xxxx takes 14 KiB a device")
    topology_json: int = _limit(32 << 20, "bytes of a topology in JSON")
    topology_remarks: int = _limit(100, "remarks on one topology")
    topology_errors: int = _limit(1 << 16, "malformed lines of a topology before it is given up")
    sysfs_entries: int = _limit(1 << 20, "names read in a copy of sysfs")
    sources: int = _limit(1 << 20, "sources of one command, in folders and lists")
    hashed: int = _limit(4 << 30, "bytes of the files of a source up to which their SHA-256 is told")
    survey_rows: int = _limit(1 << 18, "rows of one source in one table of a survey")
    folder_files: int = _limit(4096, "files read in a folder of debugfs blobs")
    folder_bytes: int = _limit(64 << 20, "bytes read of all files of a copy of debugfs, in which links repeat files")
    report_state: int = _limit(512 << 10, "bytes of the packed state in a report; of a larger one, a shorter document")
    report_hex: int = _limit(320 << 10, "characters of rows of bytes in a report")
    report_extents: int = _limit(1 << 20, "ranges of preserved memory that a report draws")
    report_node: int = _limit(2048, "bytes of one node in a report")
    report_rows: int = _limit(1000, "rows of one table in a report, and files of all sessions")
    user_space: int = _limit(256, "sessions of one handover whose words of user space are decoded")
    pending: int = _limit(1 << 16, "sessions and files read of the running kernel's own lists")
    symbol_bytes: int = _limit(64 << 20, "bytes of a System.map or a copy of kallsyms: distributions have 10 MiB")
    kernels: int = _limit(16, "kernels looked for in one source")
    kernel_places: int = _limit(
        4096, "pages that start as VMCOREINFO does, and places that look like kallsyms, of one source"
    )
    kallsyms: int = _limit(1 << 22, "symbols of one kernel: distributions have 200 000")
    types: int = _limit(1 << 21, "types of one kernel or module: distributions have 150 000")
    compared_members: int = _limit(
        1 << 15, "members of a kernel's structs, those of inner ones included, that one comparison of types looks at"
    )
    type_bytes: int = _limit(64 << 20, "bytes of BTF: distributions have 6 MiB")
    section_bytes: int = _limit(
        64 << 20, "bytes of symbols and debug info of a vmlinux, unpacked, in addition to 16 times its size"
    )
    debug_entries: int = _limit(1 << 23, "entries of DWARF and their attributes, read of one vmlinux")
    salvage_bytes: int = _limit(1 << 40, "bytes of one source that --salvage searches")
    salvage_candidates: int = _limit(1 << 20, "pages of one source that --salvage judges")
    salvage_judged: int = _limit(
        64 << 20, "bytes of these pages that --salvage reads, in addition to what the source holds"
    )
    salvage_found: int = _limit(1 << 15, "things of one source that --salvage finds")
    salvage_lists: int = _limit(1 << 12, "pages of one source that --salvage tries as a device list, after their ends")


_in_force: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - frozen


class _InForce:
    """The attributes of the limits in force."""

    def __getattr__(self, name: str) -> int:
        found: int = getattr(_in_force.get(), name)
        return found


LIMITS: Limits = cast(Limits, _InForce())
"""The limits in force: those given to `open`, `read` or `check`, inside of them; else the defaults."""


def in_force() -> Limits:
    """The limits in force, as they are now."""
    return _in_force.get()


@contextmanager
def limited(limits: Limits | None) -> Iterator[None]:
    """Put limits in force inside the block. None: those that are in force already."""
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits: expected luoser.limits.Limits, found {type(limits).__name__}")
    token = _in_force.set(limits if limits is not None else _in_force.get())
    try:
        yield
    finally:
        _in_force.reset(token)


def how_to_raise(name: str) -> str:
    """What a problem says about the limit that it met. name: of the limit."""
    return f"--limit {name}=N raises this limit, now {getattr(LIMITS, name)}"


def meanings() -> Mapping[str, tuple[int, str]]:
    """(default, meaning in words) of each limit, by name."""
    return {one.name: (cast(int, one.default), str(one.metadata["meaning"])) for one in fields(Limits)}


def with_values(limits: Limits, values: Mapping[str, int]) -> Limits:
    """The limits, with other values.

    values: by name.

    Raises UsageError for an unknown name.
    """
    for name in values:
        if name not in meanings():
            raise UsageError(f"unknown limit {name!r}; `luoser limits` lists all")
    return replace(limits, **values)
