# SPDX-License-Identifier: MIT
"""Files that are not memory images, or in a form that luoser does not read, by the bytes that they begin with."""

from __future__ import annotations

from typing import NamedTuple

from luoser.memory.source import ByteSource

__all__ = ["container"]


class _Container(NamedTuple):
    """magic: bytes at an offset. words: what it is, and what to do."""

    magic: bytes
    words: str
    offset: int = 0


_UNPACK = "unpack it first"
_DISK = "the image of a disk, not of memory; use dump-guest-memory or `virsh dump --memory-only` instead"
_CONVERT = "luoser reads kdump and ELF; convert it with makedumpfile or crash"
_KNOWN = (
    _Container(b"QEVM", "a QEMU migration stream; use dump-guest-memory or `virsh dump --memory-only` instead"),
    _Container(b"LibvirtQemud", "a guest saved by libvirt; use `virsh dump --memory-only` instead"),
    *(
        _Container(magic, f"packed twice; {_UNPACK}, once")
        for magic in (b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
    ),
    _Container(b"1AY&SY", f"packed twice; {_UNPACK}, once", 4),
    _Container(b"\x02\x21\x4c\x18", f"packed with lz4; {_UNPACK} with `lz4 -d`"),
    _Container(b"\x04\x22\x4d\x18", f"packed with lz4; {_UNPACK} with `lz4 -d`"),
    _Container(b"\x89LZO\0\r\n\x1a\n", f"packed with lzop; {_UNPACK} with `lzop -d`"),
    _Container(b"\x5d\0\0\x80\0", f"packed with lzma; {_UNPACK} with `xz -d --format=lzma`"),
    _Container(b"LZIP", f"packed with lzip; {_UNPACK} with `lzip -d`"),
    _Container(b"\x1f\x9d", f"packed with compress; {_UNPACK} with `gzip -d`"),
    _Container(b"PK\x03\x04", f"a zip archive; {_UNPACK} with `unzip`"),
    _Container(b"PK\x05\x06", "an empty zip archive"),
    _Container(b"PK\x07\x08", f"a part of a zip archive; {_UNPACK} with `unzip`"),
    _Container(b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK} with `7z x`"),
    _Container(b"Rar!\x1a\x07", f"a rar archive; {_UNPACK} with `unrar x`"),
    _Container(b"ustar", f"a tar archive; {_UNPACK} with `tar -x`", 257),
    *(_Container(b"07070" + kind, f"a cpio archive; {_UNPACK} with `cpio -i`") for kind in (b"1", b"2", b"7")),
    _Container(b"!<arch>\n", f"an ar archive; {_UNPACK} with `ar x`"),
    _Container(b"sadump\0\0", f"an sadump file; {_CONVERT}"),
    _Container(b"sadump\0\0", f"an sadump file; {_CONVERT}", 4096),
    _Container(b"\xed\x23\x8f\x61\x73\x01\x19\xa8", f"an LKCD dump; {_CONVERT}"),
    _Container(b"\xa8\x19\x01\x73\x61\x8f\x23\xed", f"an LKCD dump; {_CONVERT}"),
    _Container(b"S390DUMP", "an s390 dump; KHO does not exist on that machine"),
    _Container(b"PAGEDU64", "a crash dump of Windows"),
    _Container(b"PAGEDUMP", "a crash dump of Windows"),
    _Container(b"hibr", "a hibernation file of Windows"),
    _Container(b"QFI\xfb", f"qcow2: {_DISK}"),
    _Container(b"KDMV", f"vmdk: {_DISK}"),
    _Container(b"# Disk DescriptorFile", f"vmdk: {_DISK}"),
    _Container(b"vhdxfile", f"vhdx: {_DISK}"),
    _Container(b"conectix", f"vhd: {_DISK}"),
    _Container(b"\x7f\x10\xda\xbe", f"vdi: {_DISK}", 64),
    _Container(b"EFI PART", f"a partition table: {_DISK}", 512),
    _Container(b"EFI PART", f"a partition table: {_DISK}", 4096),
    *(_Container(bytes([0x53, 0xEF, state, 0]), f"an ext file system: {_DISK}", 1080) for state in range(8)),
    _Container(b"NTFS    ", f"an NTFS file system: {_DISK}", 3),
    _Container(b"LUKS\xba\xbe", f"an encrypted disk (LUKS): {_DISK}"),
    _Container(b"SWAPSPACE2", f"swap space: {_DISK}", 4086),
    _Container(b"VMA\0", "a backup of Proxmox (vma); extract it with `vma extract`"),
    _Container(b"XFSB", f"an xfs file system: {_DISK}"),
    _Container(b"_BHRfS_M", f"a btrfs file system: {_DISK}", 0x10040),
    _Container(b"hsqs", f"a squashfs file system: {_DISK}"),
    _Container(b"CD001", f"an ISO 9660 file system: {_DISK}", 0x8001),
    _Container(b"\xd4\xc3\xb2\xa1", "a packet capture (pcap)"),
    _Container(b"\xa1\xb2\xc3\xd4", "a packet capture (pcap)"),
    _Container(b"\x4d\x3c\xb2\xa1", "a packet capture (pcap)"),
    _Container(b"\x0a\x0d\x0d\x0a", "a packet capture (pcapng)"),
    *(
        _Container(start + b'"schema": "luoser/state/', "a state document: save it as a plain file, and give that")
        for start in (b"{", b"{\n ", b"{\n  ", b"{\r\n ", b"{\r\n  ")
    ),
    _Container(b"%PDF", "a PDF document"),
    _Container(b"\x89PNG", "a picture"),
    _Container(b"\xff\xd8\xff", "a picture"),
)
_LONGEST = max(one.offset + len(one.magic) for one in _KNOWN)
_PARTITIONS, _ENTRY = 446, 16


def container(data: ByteSource) -> str | None:
    """What a file is, and what to do, in words. None: none of the known ones, so it may be a raw image.

    data: the file.
    """
    head = bytes(data[:_LONGEST])
    for one in _KNOWN:
        if head[one.offset :].startswith(one.magic):
            return one.words
    return f"a disk with partitions: {_DISK}" if _is_partitioned(head[:512]) else None


def _is_partitioned(sector: bytes) -> bool:
    """Whether a sector is a master boot record: its signature, and four entries, at least one of them in use."""
    entries = [sector[start : start + _ENTRY] for start in range(_PARTITIONS, _PARTITIONS + 4 * _ENTRY, _ENTRY)]
    return (
        sector[510:] == b"\x55\xaa"
        and all(entry[:1] in (b"\0", b"\x80") for entry in entries)
        and any(entry[4:5] != b"\0" and any(entry[12:]) for entry in entries)
    )
