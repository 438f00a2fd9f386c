# SPDX-License-Identifier: MIT
"""Configuration space, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.topology.config import parse_config
from tests.topology.guest import bridge, config


def test_an_endpoint() -> None:
    found = parse_config(config(command=0b110, class_code=0x010802), 0)
    assert found is not None
    assert (found.vendor, found.device, found.class_code) == (0x8086, 0x1234, 0x010802)
    assert (found.is_bridge, found.busmaster, found.is_vf, found.secondary_bus) == (False, True, False, None)


def test_bus_mastering_is_bit_2_of_the_command() -> None:
    for command in range(16):
        found = parse_config(config(command=command), 0)
        assert found is not None and found.busmaster == (command in (4, 5, 6, 7, 12, 13, 14, 15))


def test_a_bridge() -> None:
    found = parse_config(bridge(0, 2, 5), 0)
    assert found is not None
    assert (found.is_bridge, found.secondary_bus, found.subordinate_bus) == (True, 2, 5)


def test_a_bridge_of_several_functions() -> None:
    data = bytearray(bridge(0, 2, 5))
    data[0x0E] |= 0x80
    found = parse_config(bytes(data), 0)
    assert found is not None and found.is_bridge


def test_a_cardbus_bridge_has_its_buses_at_the_same_place() -> None:
    found = parse_config(config(kind=2, buses=(1, 2, 5)), 0)
    assert found is not None
    assert (found.is_bridge, found.secondary_bus, found.subordinate_bus) == (True, 2, 5)


def test_an_unknown_header_type_leaves_open_what_the_device_is() -> None:
    found = parse_config(config(kind=0x55), 0)
    assert found is not None and found.is_bridge is None and found.secondary_bus is None


@pytest.mark.parametrize("data", [b"", bytes(63), b"\xff" * 64, b"\xff" * 4096])
def test_no_answer_is_no_configuration_space(data: bytes) -> None:
    assert parse_config(data, 0) is None


def test_a_vf_is_known_by_the_ids_that_it_does_not_have() -> None:
    found = parse_config(config(vendor=0xFFFF, device=0xFFFF), 0)
    assert found is not None and found.is_vf and found.vendor is None and found.device is None


@pytest.mark.parametrize("port", range(16))
def test_root_ports_and_what_the_root_complex_has_inside_show_a_root_bus(port: int) -> None:
    found = parse_config(config(port=port), 0)
    assert found is not None and found.on_root_bus == (port in (4, 9, 10))


def test_a_capability_behind_others() -> None:
    data = bytearray(config(port=4))
    data[0x34] = 0x80
    data[0x80:0x82] = b"\x05\x40"
    found = parse_config(bytes(data), 0)
    assert found is not None and found.on_root_bus


@pytest.mark.parametrize("pointer", [0x80, 0x40, 0x00, 0x3C, 0xFC])
def test_capabilities_in_a_loop_or_nowhere(pointer: int) -> None:
    data = bytearray(config(port=4))
    data[0x34], data[0x40] = 0x80, 0x05
    data[0x80:0x82] = bytes([0x05, pointer])
    found = parse_config(bytes(data), 0)
    assert found is not None and not found.on_root_bus


def test_no_capability_list_without_its_status_bit() -> None:
    data = bytearray(config(port=4))
    data[6] = 0
    found = parse_config(bytes(data), 0)
    assert found is not None and not found.on_root_bus


def test_virtual_functions() -> None:
    found = parse_config(config(sriov=(3, 0x180, 2)), 0x500)
    assert found is not None and list(found.vfs) == [0x680, 0x682, 0x684]


def test_a_capability_before_sriov() -> None:
    data = bytearray(config(sriov=(3, 0x80, 2)))
    data[0x200:0x240], data[0x100:0x104] = data[0x100:0x140], (0x200 << 20 | 0x0001_0001).to_bytes(4, "little")
    found = parse_config(bytes(data), 0)
    assert found is not None and list(found.vfs) == [0x80, 0x82, 0x84]


@pytest.mark.parametrize(
    ("bdf", "sriov", "expected"),
    [
        (0, (1, 8, 0), [8]),  # one VF needs no stride
        (0, (2, 8, 0), []),
        (0, (0, 8, 1), []),
        (0, (2, 0, 1), []),
        (0xFFF0, (2, 8, 1), [0xFFF8, 0xFFF9]),
        (0xFFF0, (2, 14, 1), [0xFFFE, 0xFFFF]),
        (0xFFF0, (3, 14, 1), []),
        (0xFFF0, (2, 8, 7), [0xFFF8, 0xFFFF]),
        (0xFFF0, (2, 8, 8), []),
    ],
)
def test_virtual_functions_that_cannot_be(bdf: int, sriov: tuple[int, int, int], expected: list[int]) -> None:
    found = parse_config(config(sriov=sriov), bdf)
    assert found is not None and list(found.vfs) == expected


def test_virtual_functions_that_are_not_enabled() -> None:
    data = bytearray(config(sriov=(3, 0x80, 2)))
    data[0x108] = 0
    found = parse_config(bytes(data), 0)
    assert found is not None and list(found.vfs) == []


@given(st.binary(min_size=64, max_size=300), st.integers(0, 0xFFFF), st.binary(max_size=64))
def test_any_bytes_give_an_answer(head: bytes, bdf: int, extended: bytes) -> None:
    for data in (head, (head + bytes(256))[:256] + extended + bytes(3840 - len(extended))):
        found = parse_config(data, bdf)
        assert found is None or (len(found.vfs) <= 0xFFFF and all(bdf < vf <= 0xFFFF for vf in found.vfs[:4]))
