# SPDX-License-Identifier: MIT
"""/dev/mem within the System RAM of /proc/iomem: texts of real machines, a file in the device's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory.devmem import DEVICE, DevMemory, system_ram
from tests import real

MIB = 1 << 20


def iomem(tmp_path: Path, text: str) -> str:
    (tmp_path / "iomem").write_text(text)
    return str(tmp_path / "iomem")


def spans(tmp_path: Path, text: str) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in system_ram(iomem(tmp_path, text))]


@pytest.mark.parametrize("case", real.CASES)
def test_ram_of_a_real_machine(tmp_path: Path, case: str) -> None:
    for boot in real.truth(case):
        found = spans(tmp_path, "\n".join(boot["iomem"]) + "\n")
        assert found == [(0x1000, 0x9F000), (0x100000, 0x3FFD7000)]


def test_segments_are_at_their_own_addresses(tmp_path: Path) -> None:
    (segment,) = system_ram(iomem(tmp_path, "00001000-00002fff : System RAM\n"))
    assert (segment.offset, segment.stored) == (0x1000, 0x2000)


def test_only_whole_pages(tmp_path: Path) -> None:
    text = "00000800-00003bff : System RAM\n00005001-00005fff : System RAM\n00007000-00007ffe : System RAM\n"
    assert spans(tmp_path, text) == [(0x1000, 0x3000)]


def test_memory_that_a_driver_plugged_in_is_ram(tmp_path: Path) -> None:
    text = """\
100000000-1ffffffff : System RAM
200000000-2ffffffff : Persistent Memory
  200000000-2ffffffff : dax0.0
    200000000-2ffffffff : System RAM (kmem)
300000000-33fffffff : virtio0
  300000000-33fffffff : System RAM (virtio_mem)
"""
    assert spans(tmp_path, text) == [(0x1_0000_0000, 0x2_0000_0000), (0x2_0000_0000, 0x3_0000_0000),
                                     (0x3_0000_0000, 0x3_4000_0000)]  # fmt: skip


def test_other_lines_are_none(tmp_path: Path) -> None:
    text = "00001000-00001fff : System RAM\n  00001000-000010ff : Kernel code\n000a0000-000fffff : Reserved\n"
    text += "00100000-001fffff : System ROM\n00200000-002fffff : Not System RAM\n"
    assert spans(tmp_path, text) == [(0x1000, 0x2000)]


@pytest.mark.parametrize(
    "text",
    ["", "00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n", "\0\xff\n", "00001000-00001fff : RAM\n"],
)
def test_addresses_that_are_hidden_or_missing_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match="root only"):
        spans(tmp_path, text)


def test_iomem_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing: No such file"):
        list(system_ram(str(tmp_path / "nothing")))
    with pytest.raises(SourceError, match="the addresses of RAM are needed"):
        list(system_ram(str(tmp_path)))


@pytest.fixture
def device(tmp_path: Path) -> int:
    """A file with the number of the page at each page's start, 2 MiB."""
    (tmp_path / "mem").write_bytes(b"".join(page.to_bytes(8, "little").ljust(4096, b"\1") for page in range(512)))
    return os.open(tmp_path / "mem", os.O_RDONLY)


TEXT = "00001000-0009fbff : System RAM\n00100000-001fffff : System RAM\n40000000-4fffffff : System RAM\n"


def test_memory_is_read_at_its_address(tmp_path: Path, device: int) -> None:
    with DevMemory("/dev/mem", device, iomem=iomem(tmp_path, TEXT)) as memory:
        assert memory.read(0x12_3000, 8) == (0x123).to_bytes(8, "little")
        assert (memory.format, memory.live) == ("devmem", True)
        assert memory.ram == ((0x1000, 0x9F000), (MIB, 2 * MIB), (0x4000_0000, 0x5000_0000))
        assert any("running machine" in remark for remark in memory.remarks)
        assert memory.page_state(0xA_0000) is PageState.ABSENT
        with pytest.raises(MissingMemory) as caught:
            memory.read(0x4000_0000, 1)
        assert caught.value.state is PageState.EXCLUDED


def test_kernel_that_shows_zeros_below_1_mib_only_is_refused(tmp_path: Path) -> None:
    """CONFIG_STRICT_DEVMEM: the first MiB reads as zeros, what is above not at all."""
    (tmp_path / "mem").write_bytes(bytes(MIB))
    descriptor = os.open(tmp_path / "mem", os.O_RDONLY)
    with pytest.raises(SourceError, match="STRICT_DEVMEM"):
        DevMemory("/dev/mem", descriptor, iomem=iomem(tmp_path, TEXT))
    os.close(descriptor)


def test_probe_of_ram_that_crosses_1_mib_is_above_it(tmp_path: Path, device: int) -> None:
    os.truncate(tmp_path / "mem", MIB)
    with pytest.raises(SourceError, match="STRICT_DEVMEM"):
        DevMemory("/dev/mem", device, iomem=iomem(tmp_path, "00000000-001fffff : System RAM\n"))


def test_machine_without_ram_above_1_mib_is_refused(tmp_path: Path, device: int) -> None:
    with pytest.raises(SourceError, match="no System RAM above 1 MiB"):
        DevMemory("/dev/mem", device, iomem=iomem(tmp_path, "00001000-0009fbff : System RAM\n"))


def test_ranges_out_of_order_or_twice_are_read_all_the_same(tmp_path: Path, device: int) -> None:
    text = "00180000-001fffff : System RAM\n00100000-0018ffff : System RAM\n00001000-0009fbff : System RAM\n"
    memory = DevMemory("/dev/mem", device, iomem=iomem(tmp_path, text))
    assert memory.read(0x18_F000, 8) == (0x18F).to_bytes(8, "little")
    assert memory.read(0x10_0000, MIB)[:8] == (0x100).to_bytes(8, "little")
    assert [segment.start for segment in memory.segments] == sorted(segment.start for segment in memory.segments)


def test_number_of_the_device() -> None:
    assert (os.major(DEVICE), os.minor(DEVICE)) == (1, 1)
