# SPDX-License-Identifier: MIT
"""Every bound on time and memory that hostile input could otherwise exceed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds. A reader that reaches one records a problem and stops there."""

    fdt_size: int = 16 << 20  # bytes of one flattened devicetree; the largest KHO one is 1 MiB
    fdt_depth: int = 64
    fdt_nodes: int = 1 << 17
    fdt_name: int = 256  # bytes of a property name, the tail of which others may use; the specification allows 31
    map_nodes: int = 1 << 18  # pages of one preserved map: 2^18 leaves cover 32 TiB of 4 KiB pages
    chain: int = 10_000  # blocks of one chain: KHO_MAX_BLOCKS of kernel/liveupdate/kho_block.c
    vmalloc_chunks: int = 1 << 16
    list_size: int = 256 << 20  # bytes of one preserved list: PCI devices, folios, sessions
    blob_size: int = 1 << 20  # bytes read of a sub-tree blob of unknown kind
    contents_size: int = 64 << 10  # bytes of a file or a driver page that --contents shows
    elf_headers: int = 1 << 20  # program headers of one core
    notes: int = 1 << 16  # ELF notes of one core
    note_size: int = 16 << 20  # bytes read of one ELF note
    kdump_bitmap: int = 4 << 30  # bytes of one bitmap of a kdump: 128 TiB in pages of 4 KiB
    kdump_segments: int = 1 << 17  # runs of RAM read from a bitmap
    kdump_descriptors: int = 1 << 20  # page descriptors up to which all are checked when a kdump is opened
    decompressed: int = 1 << 40  # bytes unpacked from .xz or .gz
    roots: int = 16  # KHO roots read from one source
    root_candidates: int = 1024  # pages that look like a root, of which the likeliest are read
    setup_nodes: int = 64  # setup_data nodes of KHO that point to a root, and as many that do not
    boot_tree_size: int = 2 << 20  # bytes of one devicetree searched for /chosen
    boot_tree_bytes: int = 32 << 20  # bytes of all devicetrees searched for /chosen
    fdt_bytes: int = 64 << 20  # bytes of all devicetrees that the roots of one source refer to
    kho_test_folios: int = 1 << 16
    overlap_remarks: int = 16
    overlap_bytes: int = 256 << 20  # bytes compared to find out whether overlapping segments are copies
    boot_tree_strings: int = 128 << 10  # bytes of the strings block of a boot devicetree
    entries: int = 1 << 20  # sessions and files read from one source
    array_bytes: int = 256 << 20  # bytes of vmalloc arrays read from one source, in addition to the source's own size
    problems: int = 10_000
    spec_size: int = 1 << 30  # bytes of a description to build from
    qmp_line: int = 1 << 20  # bytes of one message of a QMP socket
    guest_size: int = 1 << 46  # bytes of memory of a QEMU guest
    pci_devices: int = 1 << 16  # devices of one topology
    topology_size: int = 128 << 20  # bytes of the text of lspci: -xxxx takes 14 KiB a device
    topology_json: int = 32 << 20  # bytes of a topology in JSON
    topology_remarks: int = 100
    topology_errors: int = 1 << 16  # stop after this many malformed lines
    sysfs_entries: int = 1 << 20  # names read in a copy of sysfs
    kallsyms: int = 1 << 22  # symbols of one kernel: distributions have 200 000
    types: int = 1 << 21  # types of one kernel or module: distributions have 150 000
    type_bytes: int = 64 << 20  # bytes of BTF: distributions have 6 MiB


LIMITS = Limits()
