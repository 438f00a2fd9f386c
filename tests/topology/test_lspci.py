# SPDX-License-Identifier: MIT
"""Text of lspci as people paste it: other options, other versions, damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from luoser.errors import SourceError
from luoser.topology import Device, Topology, read_topology
from luoser.topology.lspci import unpasted
from tests.topology.guest import bridge, config, dump_text, parents


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return Read(tmp_path / "text")


class Read:
    """read(text): its topology."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, text: str | bytes) -> Topology:
        self.place.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_topology(self.place)

    def one(self, text: str | bytes) -> Device:
        (device,) = self(text).devices.values()
        return device


RECORD = "Slot:\t{slot}\nClass:\t{kind}\nVendor:\t{vendor}\nDevice:\t{device}\n"
NAMED = {"slot": "0000:41:00.0", "kind": "Ethernet controller [0200]", "vendor": "Intel [8086]", "device": "NIC [10d3]"}


# -- lspci -vmm -------------------------------------------------------------------------------------------


def test_a_record_with_numbers_and_names(read: Read) -> None:
    device = read.one(RECORD.format(**NAMED) + "ProgIf:\t02\n")
    assert (device.name, device.class_code, device.vendor, device.device) == ("0000:41:00.0", 0x020002, 0x8086, 0x10D3)


def test_a_record_of_numbers(read: Read) -> None:
    device = read.one(RECORD.format(slot="10000:41:00.0", kind="0604", vendor="8086", device="10d3"))
    assert (device.domain, device.class_code, device.vendor, device.is_bridge) == (0x10000, 0x060400, 0x8086, True)


@pytest.mark.parametrize(
    "record",
    [
        NAMED | {"kind": "Unassigned class [ffff]", "vendor": "Red Hat, Inc.", "device": "Virtio balloon"},
        NAMED | {"kind": "Ethernet controller"},
        NAMED | {"device": "Device 10d3"},
        NAMED | {"vendor": "Fancy [cafe] Inc."},
    ],
)
def test_brackets_in_names_are_no_numbers(read: Read, record: dict[str, str]) -> None:
    device = read.one(RECORD.format(**record))
    assert (device.class_code, device.vendor, device.device) == (None, None, None)


def test_without_k_no_driver_is_known(read: Read) -> None:
    assert read.one(RECORD.format(**NAMED)).driver is None


@pytest.mark.parametrize("line", ["Driver:\te1000e", "Module:\te1000e"])
def test_with_k_a_device_without_a_driver_has_none(read: Read, line: str) -> None:
    other = RECORD.format(**NAMED | {"slot": "0000:42:00.0"})
    topology = read(RECORD.format(**NAMED) + f"{line}\n\n" + other)
    assert topology.devices[0, 0x4200].driver == ""
    assert topology.devices[0, 0x4100].driver == ("e1000e" if line.startswith("Driver") else "")


def test_records_without_a_blank_line_between(read: Read) -> None:
    other = RECORD.format(**NAMED | {"slot": "0000:42:00.0"})
    assert len(read(RECORD.format(**NAMED) + other).devices) == 2


def test_lines_that_end_as_on_windows_and_a_byte_order_mark(read: Read) -> None:
    text = RECORD.format(**NAMED).replace("\n", "\r\n")
    assert read.one(b"\xef\xbb\xbf" + text.encode()).vendor == 0x8086


def test_damaged_records_are_told_and_skipped(read: Read) -> None:
    text = "$ lspci -vmmnnD\n\n" + RECORD.format(**NAMED) + "\nSlot:\there\nClass:\t0604\n\nClass:\t0604\n"
    topology = read(text)
    assert list(topology.devices) == [(0, 0x4100)]
    assert [remark.split(":")[0] for remark in topology.remarks] == ["line 1", "line 8", "line 11"]


@pytest.mark.parametrize("prog_if", ["x", "123", ""])
def test_a_programming_interface_that_is_none_leaves_the_class_open(read: Read, prog_if: str) -> None:
    assert read.one(RECORD.format(**NAMED) + f"ProgIf:\t{prog_if}\n").class_code is None


# -- lspci -x ---------------------------------------------------------------------------------------------


def test_a_dump_without_domains_is_of_domain_0(read: Read) -> None:
    assert read.one(dump_text({"41:00.0": config()})).address == (0, 0x4100)


def test_ids_of_the_list_where_there_are_no_bytes(read: Read) -> None:
    for line in ("41:00.0 0200: 8086:10d3 (rev 02)", "41:00.0 Ethernet [0200]: Intel [Fancy] NIC [8086:10d3] (rev 02)"):
        device = read.one(line + "\n")
        assert (device.vendor, device.device) == (0x8086, 0x10D3)
        assert (device.class_code, device.busmaster) == (None, None)
    assert read.one("41:00.0 Ethernet: Intel NIC [cafe:0000] (rev 02)\n").vendor is None


def test_what_verbose_output_says_of_the_registers(read: Read) -> None:
    """Without root's rights and -x this is all that there is."""
    text = (
        "00:01.0 PCI bridge: Red Hat, Inc. QEMU PCIe Root port (prog-if 00 [Normal decode])\n"
        "\tControl: I/O+ Mem+ BusMaster+ SpecCycle- DisINTx+\n"
        "\tBus: primary=00, secondary=01, subordinate=02, sec-latency=0\n"
        "\tCapabilities: <access denied>\n\t\tControl: AttnInd Off, BusMaster-\n"
        "\tKernel driver in use: pcieport\n\n"
        "01:00.0 Ethernet controller: Intel NIC\n\tControl: I/O+ Mem+ BusMaster- SpecCycle- DisINTx+\n"
    )
    topology = read(text)
    above, device = topology.devices.values()
    assert (above.busmaster, above.driver, above.secondary_bus, above.subordinate_bus) == (True, "pcieport", 1, 2)
    assert (device.busmaster, device.driver, device.parent) == (False, "", above.address)


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:2] + lines[3:],  # a line is missing
        lambda lines: [*lines[:3], lines[1], *lines[3:]],  # one comes twice
        lambda lines: [*lines[:2], "10: 00 0x", *lines[3:]],
        lambda lines: [*lines[:2], "xyzzy", *lines[3:]],
    ],
)
def test_bytes_after_a_gap_are_not_used(read: Read, damage: object) -> None:
    assert callable(damage)
    lines = dump_text({"00:01.0": bridge(0, 1, 1)}).splitlines()
    topology = read("\n".join(damage(lines)) + "\n")
    assert topology.devices[0, 8].secondary_bus is None
    assert topology.devices[0, 8].busmaster is None
    assert all(remark.startswith("line ") for remark in topology.remarks) and topology.remarks


def test_a_dump_that_is_cut_inside_of_a_line(read: Read) -> None:
    text = dump_text({"00:01.0": bridge(0, 1, 1), "01:00.0": config(command=4)})
    topology = read(text[:-20])
    assert parents(topology) == {"0000:00:01.0": "", "0000:01:00.0": "0000:00:01.0"}
    assert topology.devices[0, 0x100].busmaster is None
    assert "01:00.0: configuration space of 58 bytes ignored" in topology.remarks[0]


def test_a_device_that_does_not_answer_is_told(read: Read) -> None:
    topology = read(dump_text({"00:01.0": b"\xff" * 64}))
    assert topology.devices[0, 8].is_vf is None
    assert "does not answer" in topology.remarks[0]


def test_more_bytes_than_a_device_has(read: Read) -> None:
    topology = read(dump_text({"00:01.0": config() + bytes(8192)}))
    assert topology.devices[0, 8].vendor == 0x8086
    assert topology.remarks


@pytest.mark.parametrize("line", ["00:20.0 no such slot", "00:01.0/00.0 of lspci -P", "00:01.8 no such function"])
def test_addresses_that_are_none_are_told_and_skipped(read: Read, line: str) -> None:
    topology = read(f"00:02.0 A device\n{line}\n")
    assert list(topology.devices) == [(0, 0x10)]
    assert "line 2" in topology.remarks[0]


def test_escape_sequences_in_skipped_lines_are_made_safe(read: Read) -> None:
    topology = read("00:02.0 A device\n\x1b[2J\x9b\n")
    assert topology.remarks and not any("\x1b" in remark for remark in topology.remarks)


def test_a_very_long_line_is_cut(read: Read) -> None:
    topology = read("00:02.0 " + "x" * (1 << 20) + "\n" + "\t" * (1 << 20) + "\n\tKernel driver in use: " + "d" * 9999)
    driver = topology.devices[0, 0x10].driver
    assert driver is not None and len(driver) <= 256


def test_a_text_without_a_usable_device_is_refused_with_what_was_wrong(read: Read) -> None:
    with pytest.raises(SourceError, match=r"recognised as lspci, but no PCI device.*line 1: .*00:20\.0"):
        read("00:20.0 no such slot\n")


# -- pastes -----------------------------------------------------------------------------------------------

VERBOSE = """00:01.0 PCI bridge [0604]: Intel Corporation Device [8086:3420] (rev 05)
\tControl: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr-
\tBus: primary=00, secondary=01, subordinate=02, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
\t\tControl: AttnInd Unknown, PwrInd Unknown, BusMaster- Interlock-
\tKernel driver in use: pcieport

01:00.0 Ethernet controller [0200]: Intel Corporation Device [8086:1572]
\tControl: I/O- Mem+ BusMaster- SpecCycle-
\tKernel driver in use: i40e
"""
RECORDS_TEXT = "".join(
    RECORD.format(slot=slot, kind=kind, vendor="8086", device="3420") + "Driver:\tpcieport\n\n"
    for slot, kind in (("00:01.0", "0604"), ("01:00.0", "0200"))
)
DUMP_TEXT = dump_text({"41:00.0": config()})


@pytest.mark.parametrize("text", [VERBOSE, RECORDS_TEXT, DUMP_TEXT], ids=["-vnn", "-vmm", "-x"])
@pytest.mark.parametrize(
    "pasted",
    [
        pytest.param(lambda text: text.replace("\t", "        "), id="tabs of 8 spaces"),
        pytest.param(lambda text: text.replace("\t", "  "), id="tabs of 2 spaces"),
        pytest.param(lambda text: "".join(f"    {line}" for line in text.splitlines(True)), id="indented"),
        pytest.param(lambda text: "".join(f"\t{line}" for line in text.splitlines(True)), id="indented by a tab"),
        pytest.param(lambda text: "".join(f"> {line}" for line in text.splitlines(True)), id="quoted"),
        pytest.param(lambda text: "".join(f">>> {line}" for line in text.splitlines(True)), id="quoted thrice"),
        pytest.param(lambda text: "".join(f">{line}" for line in text.splitlines(True)), id="quoted without a space"),
        pytest.param(
            lambda text: "On Monday somebody wrote:\n\n" + "".join(f"> {line}" for line in text.splitlines(True)),
            id="quoted in a mail",
        ),
        pytest.param(lambda text: "".join(f"> > {line}" for line in text.splitlines(True)), id="quoted twice"),
        pytest.param(
            lambda text: "".join(f"| {line}" for line in text.replace("\t", "    ").splitlines(True)),
            id="a bar, spaces",
        ),
        pytest.param(lambda text: text.replace("\n\n", "\n \n"), id="a blank line that is not empty"),
        pytest.param(
            lambda text: "".join(f"    {line}" for line in text.expandtabs().splitlines(True)),
            id="spaces before all lines",
        ),
        pytest.param(lambda text: text.replace("\t", "\u00a0" * 8), id="spaces that do not break"),
    ],
)
def test_what_was_pasted_reads_like_the_original(read: Read, text: str, pasted: Callable[[str], str]) -> None:
    whole, again = read(text), read(pasted(text))
    assert whole.devices and again.devices == whole.devices
    if text is VERBOSE:
        assert [device.busmaster for device in again.devices.values()] == [True, False]


def test_output_that_was_not_pasted_is_left_as_it_is() -> None:
    for text in (VERBOSE, RECORDS_TEXT, DUMP_TEXT):
        assert unpasted(text.encode()) == text.encode()
