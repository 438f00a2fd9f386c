# SPDX-License-Identifier: MIT
"""/proc/kcore as an ELF core: what has a physical address, and files that break off."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

import luoser
from luoser.errors import PageState, SourceError
from luoser.memory.kcore import KcoreMemory
from tests import real
from tests.memory.images import note

MIB = 1 << 20
NOWHERE = (1 << 64) - 1
Part = tuple[int, bytes]
"""p_paddr and bytes."""


def kcore(*parts: Part, info: bytes = b"OSRELEASE=7.3.4\nPAGESIZE=4096\n", filesz: int | None = None) -> bytes:
    """Headers, notes and parts as the kernel lays them out: notes first, memory from a page on."""
    notes = note("CORE", bytes(16), 1) + note("VMCOREINFO", info)
    count = len(parts) + 1
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1".ljust(16, b"\0"), 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    headers = struct.pack("<IIQQQQQQ", 4, 0, 64 + 56 * count, 0, 0, len(notes), 0, 0)
    place, body = 0x3000, b""
    for physical, data in parts:
        size = len(data) if filesz is None else filesz
        headers += struct.pack("<IIQQQQQQ", 1, 7, place, 0xFFFF_8880_0000_0000, physical, size, len(data), 4096)
        place += len(data)
        body += data
    return (head + headers + notes).ljust(0x3000, b"\0") + body


def opened(tmp_path: Path, data: bytes) -> KcoreMemory:
    (tmp_path / "kcore").write_bytes(data)
    descriptor = os.open(tmp_path / "kcore", os.O_RDONLY)
    try:
        return KcoreMemory("kcore", descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def filled(byte: int, size: int = 0x4000) -> bytes:
    return bytes([byte]) * size


def test_only_what_has_a_physical_address_is_memory(tmp_path: Path) -> None:
    parts = (NOWHERE, filled(1)), (0x1000, filled(2)), (NOWHERE, filled(3)), (0x10_0000, filled(4))
    with opened(tmp_path, kcore(*parts)) as memory:
        assert [(segment.start, segment.end) for segment in memory.segments] == [
            (0x1000, 0x5000),
            (0x10_0000, 0x10_4000),
        ]
        assert memory.read(0x1000, 0x4000) == filled(2)
        assert memory.page_state(0x5000) is PageState.ABSENT
        assert list(memory.find_pages(b"\4")) == [0x10_0000 + page for page in range(0, 0x4000, 0x1000)]
        assert (memory.format, memory.live, memory.page_size) == ("kcore", True, 4096)
        assert memory.vmcoreinfo["OSRELEASE"] == "7.3.4"
        assert any("running machine" in remark for remark in memory.remarks)


def test_text_that_is_mapped_twice_is_taken_from_the_direct_map(tmp_path: Path) -> None:
    """KCORE_TEXT has a physical address as well."""
    memory = opened(tmp_path, kcore((0x2000, filled(9, 0x1000)), (0, filled(2, 0x8000)), (0x7000, filled(8, 0x2000))))
    assert memory.read(0, 0x8000) == filled(2, 0x8000)
    assert memory.read(0x8000, 0x1000) == filled(8, 0x1000)


def test_of_what_is_mapped_twice_zeros_are_taken_for_not_mapped(tmp_path: Path) -> None:
    """A kernel of 7.3 on arm64: its data is only in the mapping of the image, freed memory only in the direct map."""
    direct, image = filled(2, 0x1000) + bytes(0x1000) + filled(3, 0x2000), filled(4, 0x2000) + bytes(0x1000)
    memory = opened(tmp_path, kcore((0x1000, image), (0x1000, direct)))
    assert memory.read(0x1000, 0x4000) == filled(2, 0x1000) + filled(4, 0x1000) + filled(3, 0x2000)
    assert memory.read(0x2FF8, 16) == filled(4, 8) + filled(3, 8)
    assert list(memory.find_pages(b"\4")) == [0x2000] and list(memory.find(filled(4, 0x1000))) == [0x2000]


def test_handover_of_a_real_machine(tmp_path: Path) -> None:
    dump = real.dump("7.3-a/frozen")
    info = "".join(f"{key}={value}\n" for key, value in dump.vmcoreinfo.items()).encode()
    parts = [(segment.start, dump.read(segment.start, segment.size)) for segment in dump.segments]
    memory = opened(tmp_path, kcore((NOWHERE, filled(1)), *parts, info=info))
    found, wanted = luoser.read(memory), real.read("7.3-a/frozen")
    assert found.handovers == wanted.handovers
    assert memory.vmcoreinfo == dump.vmcoreinfo


def test_no_direct_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no segment has a physical address"):
        opened(tmp_path, kcore((NOWHERE, filled(1))))
    with pytest.raises(SourceError, match="no segment has a physical address"):
        opened(tmp_path, kcore())


@pytest.mark.parametrize("size", [0, 1, 63, 64, 64 + 55, 64 + 56 + 10])
def test_file_that_breaks_off_in_its_headers_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(
        SourceError, match=r"ends inside its headers|no segment|truncated ELF header: expected 64 bytes"
    ):
        opened(tmp_path, kcore((0x1000, filled(2)))[:size])


def test_file_that_breaks_off_in_its_memory_has_less(tmp_path: Path) -> None:
    memory = opened(tmp_path, kcore((0x1000, filled(2)))[:0x5000])
    assert memory.read(0x1000, 0x2000) == filled(2, 0x2000)
    assert memory.page_state(0x3000) is PageState.EXCLUDED


@pytest.mark.parametrize("filesz", [0, 0x1000])
def test_memory_that_is_not_in_the_file_is_not_made_up(tmp_path: Path, filesz: int) -> None:
    """p_filesz below p_memsz: a kernel never writes that, and the bytes behind are another segment's."""
    data = kcore((0x1000, filled(2)), (0x8000, filled(3)), filesz=filesz)
    if not filesz:
        with pytest.raises(SourceError):
            opened(tmp_path, data)
        return
    memory = opened(tmp_path, data)
    assert [(segment.start, segment.end) for segment in memory.segments] == [(0x1000, 0x2000), (0x8000, 0x9000)]


@pytest.mark.parametrize(
    ("place", "data", "word"),
    [
        (4, b"\1", "32-bit"),
        (5, b"\2", "big-endian"),
        (54, b"\x20\0", "program header size: expected 56 bytes, found 32"),
    ],
)
def test_other_elf_files_are_refused(tmp_path: Path, place: int, data: bytes, word: str) -> None:
    whole = bytearray(kcore((0x1000, filled(2))))
    whole[place : place + len(data)] = data
    with pytest.raises(SourceError, match=word):
        opened(tmp_path, bytes(whole))


def test_note_that_claims_much_costs_little(tmp_path: Path) -> None:
    whole = bytearray(kcore((0x1000, filled(2))))
    whole[64 + 32 : 64 + 40] = (1 << 60).to_bytes(8, "little")
    assert opened(tmp_path, bytes(whole)).vmcoreinfo["PAGESIZE"] == "4096"


@pytest.mark.parametrize("size", ["4096", "65536", "0x1000", "", "x", "99999999999"])
def test_page_size(tmp_path: Path, size: str) -> None:
    memory = opened(tmp_path, kcore((0x1000, filled(2)), info=f"PAGESIZE={size}\n".encode()))
    assert memory.page_size == (int(size) if size in ("4096", "65536") else None)


def test_error_of_the_kernel_is_a_source_error(tmp_path: Path) -> None:
    """Such as lockdown, which lets the file be opened and not be read; here a folder's descriptor."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SourceError, match="kcore: "):
        KcoreMemory("kcore", descriptor)
    os.close(descriptor)
