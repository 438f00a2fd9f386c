# SPDX-License-Identifier: MIT
"""`luoser hexdump` on real dumps."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from luoser.cli.main import cli
from luoser.errors import UsageError
from tests import real
from tests.conftest import Run

FROZEN = str(real.REAL / "7.3-a/frozen.elf.xz")


def hexdump(*arguments: str, source: str = FROZEN) -> list[str]:
    result = CliRunner().invoke(cli, ["hexdump", source, *arguments])
    if isinstance(result.exception, UsageError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.mark.parametrize(
    ("where", "layout", "word"),
    [
        ("root", "kho-v4", 'compatible = "kho-v4"'),
        ("luo", "luo-v5", "liveupdate_num = 1"),
        ("luo.sessions[vm-web-01]", "luo-session", 'name = "vm-web-01"'),
        ("luo.sessions[0].files[0x1b]", "luo-file", "entries[0].token = 0x1b"),
        ("luo.sessions[0].files[0x1b].memfd", "memfd-v2", "pos = 0x1234"),
        ("luo.sessions[0].files[0x1b].memfd.folios.chunks[0]", "kho-vmalloc-chunk", "hdr.next = 0x0"),
        ("luo.sessions[0].files[0x1b].memfd.folios.pages[0]", "memfd-folio", "entries[0].flags = 3"),
        ("luo.session_blocks[0]", "kho-block-sessions", "count = 6"),
        ("luo.flb_area", "luo-flb-v1", "count = 5"),
        ("pci[1]", "pci-lu-v2-03", "devs[0].path = 0x4100  0000:41:00.0"),
        ("pci[1].devices[0].driver_data", "no layout", "  lab driver state"),
        ("kexec_metadata", "kexec-metadata-v1", "kexec_count = 1"),
        ("memblock", "memblock-v1", 'compatible = "reserve-mem-v1"'),
    ],
)
def test_nodes_by_their_path(where: str, layout: str, word: str) -> None:
    lines = hexdump(where)
    assert f"bytes, {layout} (" in lines[0]
    assert any(word in line for line in lines)


@pytest.mark.parametrize("dump", real.DUMPS)
def test_the_root_of_every_dump(dump: str) -> None:
    for handover in real.read(dump).handovers:
        lines = hexdump(f"{handover.address:#x}", "--length", "64", source=str(real.REAL / f"{dump}.elf.xz"))
        assert "magic = 0xd00dfeed" in lines[1]


def test_an_address_within_a_page_is_shown_up_to_the_end_of_its_folio() -> None:
    lines = hexdump("0x1adcfc0", "--as", "none")
    assert "64 bytes" in lines[0]


def test_another_layout_as_asked() -> None:
    assert any("nr_devices = 8" in line for line in hexdump("pci[1]", "--as", "pci-v1-nr", "--length", "16"))


def test_what_the_source_lacks_is_told() -> None:
    lines = hexdump("0x1adc000", "--length", "0x2000", "--as", "none")
    assert lines[-1] == (
        "0x0001add000  page 0x1add000 is absent (in no segment of the source): 4096 bytes are not shown"
    ), lines[-1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["0x1234"], "cannot read 0x1234: page 0x1000 is absent"),
        (["luo.sessions[9]"], "expected one item 9, found 0"),
        (["luo", "--as", "nonsense"], "unknown layout 'nonsense'"),
        (["0x1adcff8", "--as", "luo-v5"], "luo-v5: too short for struct luo_ser: expected 32 bytes"),
        (["luo", "--length", "0"], "--length"),
        (["luo", "--length", "0xffffffffff"], "--length"),
    ],
)
def test_what_cannot_be_shown(arguments: list[str], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        hexdump(*arguments)


def test_plain_rows_are_what_decode_reads(tmp_path: Path) -> None:
    lines = hexdump("pci[1]", "--plain")
    assert lines[0] == "0x0001a97000: 08 00 00 00 00 00 00 00  00 41 00 00 01 00 00 00  .........A......"
    (tmp_path / "pasted").write_text("\n".join(lines))
    result = CliRunner().invoke(cli, ["decode", "--hex", str(tmp_path / "pasted"), "--as", "pci-lu-v2-03"])
    assert result.exit_code == 0
    assert "0000:41:00.0  LU_BUSMASTER  driver_data 0x1a96000" in result.output


def test_plain_rows_have_no_layout() -> None:
    with pytest.raises(UsageError, match="either --plain or --as"):
        hexdump("pci[1]", "--plain", "--as", "pci-lu-v2-03")


@pytest.mark.parametrize(("arguments", "lacks"), [([], b"SOURCE and WHERE"), (["vmcore"], b"WHERE, too")])
def test_what_is_missing_is_named(luoser_command: Run, arguments: list[str], lacks: bytes) -> None:
    result = luoser_command("hexdump", *arguments)
    assert result.returncode == 2 and b"Expected " + lacks + b": an address, or a path" in result.stderr
