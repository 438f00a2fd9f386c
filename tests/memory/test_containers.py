# SPDX-License-Identifier: MIT
"""Files that are no memory image are named, with what to do, and not read as a raw image."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import luoser
from luoser.errors import SourceError
from luoser.memory.containers import container
from tests.images import Image


def tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("vmcore")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("vmcore", data)
    return out.getvalue()


def partitioned(data: bytes) -> bytes:
    entry = struct.pack("<B3sB3sII", 0x80, b"", 0x83, b"", 2048, 4096)
    return bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa" + data


MADE: dict[str, Callable[[bytes], bytes]] = {
    "a tar archive": tar,
    "a zip archive": zipped,
    "a disk with partitions": partitioned,
    "a partition table": lambda data: bytes(512) + b"EFI PART" + data,
    "qcow2": lambda data: b"QFI\xfb\0\0\0\3" + data,
    "vmdk": lambda data: b"KDMV" + data,
    "packed with lz4": lambda data: b"\x04\x22\x4d\x18" + data,
    "packed with lz4 ": lambda data: b"\x02\x21\x4c\x18" + data,
    "packed twice": lambda data: gzip.compress(gzip.compress(data, 1), 1),
    "packed twice ": lambda data: gzip.compress(lzma.compress(data, preset=0), 1),
    "packed twice  ": lambda data: gzip.compress(bz2.compress(data, 1), 1),
    "a cpio archive": lambda data: b"070707" + data,
    "an ext file system": lambda data: bytes(1080) + b"\x53\xef\5\0" + data,
    "an NTFS file system": lambda data: b"\xeb\x52\x90NTFS    " + data,
    "an encrypted disk": lambda data: b"LUKS\xba\xbe\0\2" + data,
    "swap space": lambda data: bytes(4086) + b"SWAPSPACE2" + data,
    "a 7z archive": lambda data: b"7z\xbc\xaf\x27\x1c" + data,
    "an sadump file": lambda data: b"sadump\0\0" + data,
    "an LKCD dump": lambda data: b"\xed\x23\x8f\x61\x73\x01\x19\xa8" + data,
    "a packet capture (pcap)": lambda data: b"\xd4\xc3\xb2\xa1" + data,
    "a state document": lambda data: b'{\n "schema": "luoser/state/1",' + data,
    "a crash dump of Windows": lambda data: b"PAGEDU64" + data,
}


def image() -> bytes:
    """With a KHO root, which a shifted raw image would show."""
    made = Image()
    made.handover()
    return bytes(made.data)


@pytest.mark.parametrize("words", MADE)
@pytest.mark.parametrize("size", [100, 1 << 16, 32 << 20])
def test_container_is_named(words: str, size: int, tmp_path: Path) -> None:
    data = MADE[words](image().ljust(size, b"\0")[: max(size, 100)])
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(SourceError) as caught:
        luoser.open(tmp_path / "file")
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: {words.strip()}")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (["lz4", "-q", "in", "out"], "packed with lz4"),
        (["lzop", "-q", "-o", "out", "in"], "packed with lzop"),
        (["lzip", "-k", "-o", "out", "in"], "packed with lzip"),
        (["qemu-img", "convert", "-q", "-O", "qcow2", "in", "out"], "qcow2"),
        (["qemu-img", "convert", "-q", "-O", "vmdk", "in", "out"], "vmdk"),
        (["qemu-img", "convert", "-q", "-O", "vdi", "in", "out"], "vdi"),
        (["qemu-img", "convert", "-q", "-O", "vhdx", "in", "out"], "vhdx"),
        (["mke2fs", "-q", "-F", "out", "4M"], "an ext file system"),
        (["mksquashfs", "in", "out", "-quiet", "-no-progress"], "a squashfs file system"),
    ],
)
def test_what_other_programs_write_is_named(program: list[str], words: str, tmp_path: Path) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    (tmp_path / "in").write_bytes(image().ljust(1 << 20, b"\0"))
    subprocess.run(program, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    files = [path for path in tmp_path.iterdir() if path.name != "in"]
    with pytest.raises(SourceError, match=words):
        luoser.open(files[0])


def test_an_image_of_memory_is_no_container() -> None:
    assert container(image()) is None
    assert container(bytes(1 << 20)) is None
    boot_sector = bytes(510) + b"\x55\xaa" + image()  # left at 0x7c00 by the firmware, but here at 0
    assert container(boot_sector) is None


def test_given_addresses_outrank_the_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"QFI\xfb".ljust(1 << 16, b"\0"))
    assert luoser.open(tmp_path / "file", raw=True).format == "raw"
