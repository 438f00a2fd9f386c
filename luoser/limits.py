# SPDX-License-Identifier: MIT
"""Every bound that keeps hostile input from costing more than the bytes it brought."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds; a walker that meets one records a Problem and stops there."""

    fdt_size: int = 16 << 20  # bytes of one flattened devicetree; the largest KHO one is 1 MiB
    fdt_depth: int = 64
    fdt_nodes: int = 1 << 17
    fdt_name: int = 256  # bytes of the name of a property, which others may share; the specification allows 31
    map_nodes: int = 1 << 18  # pages of one preserved map: 2^18 leaves cover 32 TiB of 4 KiB pages
    chain: int = 10_000  # blocks of one chain, the kernel's own bound
    vmalloc_chunks: int = 1 << 16
    list_size: int = 256 << 20  # bytes of one preserved list: PCI devices, folios, sessions
    blob_size: int = 1 << 20  # bytes read of a sub-tree blob of unknown kind
    contents_size: int = 64 << 10  # bytes of a file or a driver page that --contents shows
    elf_headers: int = 1 << 20  # program headers of one core
    note_size: int = 16 << 20  # bytes of one ELF note segment
    kdump_bitmap: int = 4 << 30  # bytes of one bitmap of a kdump: 128 TiB in pages of 4 KiB
    kdump_segments: int = 1 << 20  # runs of RAM taken from a bitmap
    kdump_descriptors: int = 1 << 20  # page descriptors that are all looked at when a kdump is opened
    decompressed: int = 1 << 40  # bytes unpacked from .xz or .gz
    roots: int = 16  # KHO roots taken from one source
    root_candidates: int = 1024  # pages that look like a root, of which the likeliest are taken
    setup_nodes: int = 64  # setup_data nodes of KHO that name a root, and as many that name none
    boot_tree_size: int = 2 << 20  # bytes of one devicetree looked into for /chosen
    boot_tree_bytes: int = 32 << 20  # bytes of all of them
    fdt_bytes: int = 64 << 20  # bytes of all devicetrees that one source's roots name
    kho_test_folios: int = 1 << 16
    overlap_remarks: int = 16
    overlap_bytes: int = 256 << 20  # bytes compared to tell copies of the same memory from other contents
    boot_tree_strings: int = 128 << 10  # bytes of the strings block of a boot devicetree
    entries: int = 1 << 20  # sessions and files taken from one source
    array_bytes: int = 256 << 20  # bytes of vmalloc arrays read from a small source; a larger one adds its own size
    problems: int = 10_000
    spec_size: int = 1 << 30  # bytes of a description to build from
    qmp_line: int = 1 << 20  # bytes of one message of a QMP socket
    guest_size: int = 1 << 46  # bytes of memory of a QEMU guest
    pci_devices: int = 1 << 16  # devices of one topology
    topology_size: int = 128 << 20  # bytes of the text of lspci: -xxxx takes 14 KiB a device
    topology_json: int = 32 << 20  # bytes of a topology in JSON
    topology_remarks: int = 100
    topology_oddities: int = 1 << 16  # after so many an input is given up
    sysfs_entries: int = 1 << 20  # names looked at in a copy of sysfs


LIMITS = Limits()
