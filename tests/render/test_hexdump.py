# SPDX-License-Identifier: MIT
"""Annotated bytes: every byte is shown once, and beside it what it is."""

from __future__ import annotations

import re

import hexdump
from hypothesis import given
from hypothesis import strategies as st

from luoser.abi.registry import Layout, layout, layouts
from luoser.errors import FormatError
from luoser.hextext import parse_hex
from luoser.render.hexdump import plain_rows, rows
from tests.golden import GOLDEN

NAMES = [form.name for form in layouts()]
_ROW = re.compile(r"(0x[0-9a-f]{10,})  (?:((?:[0-9a-f]{2} ?)+?) +\|(.{1,16})\||… (\d+) bytes of zeros)")


def known(name: str) -> Layout:
    found = layout(name)
    assert found is not None
    return found


def shown(lines: list[str], address: int) -> bytes:
    """The bytes that rows show; each has to begin where the one before it ended."""
    data = bytearray()
    for line in lines:
        match = _ROW.match(line)
        assert match is not None, line
        assert int(match[1], 16) == address + len(data), line
        data += bytes.fromhex(match[2]) if match[2] else bytes(int(match[4]))
    return bytes(data)


@given(data=st.binary(min_size=1, max_size=300), name=st.sampled_from(NAMES))
def test_every_byte_is_shown_once(data: bytes, name: str) -> None:
    try:
        lines = list(rows(data, 0x1000, known(name)))
    except FormatError:
        return
    assert shown(lines, 0x1000) == data
    assert all((line.isprintable() and line.isascii()) or "…" in line for line in lines)


@given(zeros=st.integers(1, 9000))
def test_runs_of_zeros_are_one_line(zeros: int) -> None:
    data = (GOLDEN / "pci-folio.bin").read_bytes() + bytes(zeros)
    lines = list(rows(data, 0, known("pci-lu-v2-06")))
    assert shown(lines, 0) == data
    assert len(lines) <= 30


@given(data=st.binary(min_size=1, max_size=300), address=st.integers(0, 1 << 40))
def test_bytes_without_a_layout_are_the_rows_of_the_package(data: bytes, address: int) -> None:
    lines = list(rows(data, address, None))
    theirs = hexdump.hexdump(data, result="return").splitlines()
    for line in lines:
        place, _, rest = line.partition(":")
        if line != "*" and rest:
            assert theirs[(int(place, 16) - address) // 16].partition(":")[2] == rest


@given(data=st.binary(min_size=1, max_size=100), zeros=st.integers(0, 9000), address=st.integers(0, 1 << 40))
def test_plain_rows_are_read_again(data: bytes, zeros: int, address: int) -> None:
    lines = list(plain_rows(data + bytes(zeros), address))
    assert parse_hex("\n".join(lines).encode()) == data + bytes(zeros)
    assert len(lines) <= len(data) // 16 + 6


@given(data=st.binary(min_size=1, max_size=100))
def test_plain_rows_are_restored_by_the_package(data: bytes) -> None:
    lines = [line for line in plain_rows(bytes(range(16)) + data, 0x1A97000) if line != "*"]
    assert hexdump.restore("\n".join(lines[:2])) == bytes(range(16)) + data[:16]


def test_a_device_list() -> None:
    data = (GOLDEN / "pci-folio.bin").read_bytes().ljust(4096, b"\0")
    text = "\n".join(rows(data, 0x1F1D28000, known("pci-lu-v2-06")))
    for word in (
        "0x01f1d28000  02 00 00 00                                      |....|              count = 2",
        "(padding)",
        "devs[0].path = 0x501  0000:05:00.1",
        "devs[1].flags = 2  LU_BUSMASTER_BRIDGE",
        'devs[0].driver_name = "pci-lu-stub"',
        "devs[0].driver_data = 0x1ac6f4000",
        "0x01f1d280a8  … 3928 bytes of zeros",
    ):
        assert word in text


def test_a_devicetree() -> None:
    tree = (GOLDEN / "pci-luo.dtb").read_bytes()
    text = "\n".join(rows(tree, 0, known("luo-v1")))
    for word in ("node subsystems", "pci = <0x1f1d28000>", 'compatible = "luo-v1"', "end of the tree", 'string "pci"'):
        assert word in text


def test_what_stands_behind_the_end_of_a_name_is_told() -> None:
    page = b"memfd-v2\0stale".ljust(64, b"\0")
    text = "\n".join(rows(page, 0, known("luo-file")))
    assert 'compatible = "memfd-v2", non-zero bytes after the NUL: "stale"' in text


def test_names_do_not_reach_the_terminal_raw() -> None:
    page = b"\x1b[31mred\xc2\x9b".ljust(64, b"\0")
    assert all(line.isprintable() for line in rows(page, 0, known("luo-file")))


def test_elements_that_are_zero_are_one_line() -> None:
    page = bytes(8) + (0x5000).to_bytes(8, "little") + bytes(4080)
    lines = list(rows(page, 0, known("kho-vmalloc-chunk")))
    assert len(lines) == 3
    assert lines[2].endswith("phys[1] … phys[510] = 0")
