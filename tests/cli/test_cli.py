# SPDX-License-Identifier: MIT
"""The command line: what comes out where, exit codes, and that nothing from a dump steers a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import luoser
from luoser.cli.main import cli
from luoser.errors import LuoserError
from luoser.extracts.core import write_core
from luoser.text import safe_text
from tests import golden, real, schemas
from tests.conftest import Run

FROZEN = str(real.path("7.3-a/frozen"))
FOLIO = str(golden.GOLDEN / "pci-folio.bin")
ENTRY = "from luoser.cli.main import main; main()"
each_dump = pytest.mark.parametrize("name", real.DUMPS)


def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin, catch_exceptions=False)


def out(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


# -- the group --------------------------------------------------------------------------------------------


def test_version() -> None:
    assert out("--version").strip() == f"luoser, version {luoser.__version__}"


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(option: str) -> None:
    shown = out(option)
    for command in ("abi", "decode", "inspect", "map", "pci"):
        assert re.search(rf"^  {command}  +\S", shown, re.MULTILINE)
        assert out(command, option).startswith("Usage:")
    assert "Exit codes" in shown


@pytest.mark.parametrize("group", [[], ["abi"]])
def test_what_a_command_is_for_is_never_cut(group: list[str]) -> None:
    listed = out(*group, "--help").partition("\nCommands:\n")[2]
    assert listed and "..." not in listed


def test_a_help_line_for_every_module() -> None:
    """Every command module is in the help, and every command in the help is there."""
    shown = out("--help")
    modules = {place.stem for place in (real.ROOT / "luoser/cli").glob("*.py")}
    helpers = {
        "__init__",
        "account",
        "common",
        "complete",
        "document",
        "embedded",
        "failures",
        "formatter",
        "group",
        "hints",
    }
    helpers |= {"kernel_tree", "main", "many"}
    for name in modules - helpers:
        assert re.search(rf"^  {name}  +\S", shown, re.MULTILINE), name


# -- formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["inspect", FROZEN], "state"),
        (["inspect", FROZEN, "--full"], "state"),
        (["inspect", FROZEN, "--contents"], "state"),
        (["pci", FROZEN], "pci"),
        (["map", FROZEN], "map"),
        (["decode", FOLIO], "decode"),
        (["abi", "list"], "abi"),
        (["abi", "list", "--subject", "pci"], "abi"),
        (["abi", "show", "luo-v5"], "abi"),
        (["abi", "detect", FOLIO], "detect"),
    ],
)
def test_json_of_every_command(arguments: list[str], kind: str) -> None:
    shown = out(*arguments, "--format", "json")
    document = json.loads(shown)
    assert document["schema"] == f"luoser/{kind}/1"
    assert schemas.errors(document) == []
    assert shown.isascii()


def test_contents_implies_full() -> None:
    document = json.loads(out("inspect", FROZEN, "--contents", "--format", "json"))
    assert document["handovers"][0]["preserved"]["extents"]
    assert document["handovers"][0]["pci"][1]["contents"]


# -- exit codes and messages ------------------------------------------------------------------------------


@pytest.fixture
def empty_image(tmp_path: Path) -> Path:
    place = tmp_path / "empty.raw"
    place.write_bytes(bytes(1 << 20))
    return place


@pytest.mark.parametrize("command", ["inspect", "pci", "map"])
def test_no_state_is_3(luoser_command: Run, empty_image: Path, command: str) -> None:
    result = luoser_command(command, empty_image, "--raw")
    assert (result.returncode, result.stdout) == (3, b"")
    assert b"no KHO root" in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect"], b"Missing argument"),
        (["inspect", "/nonexistent/dump"], b"No such file"),
        (["inspect", "docs/howto"], b"folder"),
        (["inspect", FOLIO], b"168 bytes"),
        (["inspect", str(golden.GOLDEN / "pci-luo.dtb")], b"devicetree"),
        (["inspect", FROZEN, "--root", "0x1000"], b"no KHO root at 0x1000"),
        (["inspect", FROZEN, "--root", "over there"], b"expected a number such as"),
        (["inspect", FROZEN, "--layout", "no-such-layout"], b"no-such-layout"),
        (["inspect", FROZEN, "--page-size", "4097"], b"4097"),
        (["inspect", FROZEN, "--format", "xml"], b"xml"),
        (["decode", FOLIO, "--as", "no-such-layout"], b"no-such-layout"),
        (["decode", FOLIO, "--offset", "0x1000"], b"offset 0x1000: expected less than its size"),
        (["decode", FOLIO, "--hex"], b"hex"),
        (["abi", "show", "no-such-layout"], b"no-such-layout"),
        (["abi", "list", "--subject", "weather"], b"weather"),
        (["no-such-command"], b"no-such-command"),
        (["abi", "detect", "/nonexistent"], b"No such file"),
    ],
)
def test_what_cannot_be_done_is_2(luoser_command: Run, arguments: list[str], words: bytes) -> None:
    result = luoser_command(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert words in result.stderr and b"Traceback" not in result.stderr


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\xfd7zXZ\0rubbish", b"\x1f\x8brubbish", b"KDUMP   " + bytes(99)]
)
def test_broken_files_are_2(luoser_process: Run, tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "broken"
    place.write_bytes(content)
    result = luoser_process("inspect", place)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.count(b"\n") == 1 and b"Traceback" not in result.stderr


def test_nothing_detected_is_1(luoser_process: Run) -> None:
    result = luoser_process("abi", "detect", golden.GOLDEN / "kho-chunk-512.bin")
    assert (result.returncode, result.stdout) == (1, b"")


def test_problems_do_not_change_the_exit_code(tmp_path: Path) -> None:
    with luoser.open(real.path("7.3-a/frozen")) as memory:
        luo = luoser.read(memory).handovers[0].luo
        assert luo is not None
        pages = {page for part in memory.segments for page in range(part.start, part.end, 4096)}
        with (tmp_path / "cut").open("wb") as file:
            write_core(file, memory, pages - set(luo.session_blocks))
    assert "Problems:" in out("inspect", str(tmp_path / "cut"))


def test_names_of_files_reach_no_terminal_raw(luoser_command: Run, tmp_path: Path) -> None:
    for name in ("\x1b[31mred", "a\nb", "\u202eevil"):
        place = tmp_path / name
        for content in (None, bytes(8192)):
            if content is not None:
                place.write_bytes(content)
            for command in ("inspect", "decode"):
                said = luoser_command(command, place, "--as" if command == "decode" else "--root", "0x1").stderr
                assert b"\x1b" not in said and "\u202e".encode() not in said
    missing = luoser_command("decode", tmp_path / "\x1b[2J", "--as", "\x1b[2J").stderr
    assert b"\x1b" not in missing


def test_a_layout_name_reaches_no_terminal_raw(luoser_command: Run) -> None:
    for arguments in (
        ["abi", "show", "\x1b[2J"],
        ["abi", "list", "--subject", "\x1b[2J"],
        ["decode", FOLIO, "--as", "\x1b[2J"],
        ["inspect", FROZEN, "--layout", "\x1b[2J"],
    ):
        assert b"\x1b" not in luoser_command(*arguments).stderr


# -- text -------------------------------------------------------------------------------------------------


def test_the_tree_of_a_frozen_kernel() -> None:
    shown = out("inspect", FROZEN)
    assert "0000:41:00.0  LU_BUSMASTER  driver_data 0x1a96000\n" in shown
    assert "0000:00:03.0, 0000:00:01.0  LU_BUSMASTER_BRIDGE each\n" in shown
    assert "KHO root 0x5cd000  kho-v4  outgoing  live update 1\n" in shown
    assert "0000:41:00.0  LU_BUSMASTER  driver_data 0x1a96000 (preserved, order 0)\n" in out("inspect", FROZEN, "--all")
    assert r"session weird name \x1b[31m/../" in shown
    assert "3 FLBs liveupdate-test-flb-v0 … v2 (magic of test FLBs)  64 files each\n" in shown
    assert "stale" not in shown and "not serialised yet" not in shown and "Problems" not in shown


@pytest.mark.parametrize("case", ["6.18-a", "6.19-a", "7.3-a"])
def test_the_tree_of_the_next_kernel_says_stale(case: str) -> None:
    shown = out("inspect", str(real.path(f"{case}/post")))
    assert re.search(r"preserved memory .* stale: ", shown)


@pytest.mark.parametrize("case", ["6.19-a", "7.3-a"])
def test_the_tree_before_the_reboot_says_not_serialised(case: str) -> None:
    shown = out("inspect", str(real.path(f"{case}/pre")))
    assert "not serialised yet" in shown
    assert "session " not in shown


@each_dump
def test_text_and_json_name_the_same_devices(name: str) -> None:
    shown = out("pci", str(real.path(name)))
    for handover in real.document(name)["handovers"]:
        for entry in handover["pci"]:
            assert entry["layout"] in shown
            assert all(device["bdf"] in shown for device in entry["devices"])


def test_one_root_by_its_address() -> None:
    name = str(real.path("7.3-chain/frozen2"))
    document = json.loads(out("inspect", name, "--root", "0xe55000", "--format", "json"))
    assert [handover["address"] for handover in document["handovers"]] == ["0xe55000"]


def test_map_lines_are_like_those_of_iomem() -> None:
    head, *lines = out("map", FROZEN).splitlines()
    assert head == "KHO root 0x5cd000  kho-v4  outgoing  map intact"
    pages = last = 0
    for line in lines:
        match = re.match(r"  ([0-9a-f]{12})-([0-9a-f]{12}) : ", line)
        if line.startswith("  total  "):
            break
        if line.startswith("    "):  # a part of the range above
            continue
        assert match, line
        assert int(match[1], 16) >= last
        last = int(match[2], 16)
        pages += (int(match[2], 16) + 1 - int(match[1], 16)) // 4096
    assert pages == real.document("7.3-a/frozen")["handovers"][0]["preserved"]["pages"]


def test_a_decoded_folio() -> None:
    assert out("decode", FOLIO).splitlines()[2:] == [
        "  0000:05:00.1  LU_BUSMASTER  driver_name pci-lu-stub  driver_data 0x1ac6f4000",
        "  0000:04:01.0  LU_BUSMASTER_BRIDGE  driver_name pcieport  driver_data 0x0",
    ]


def test_offset_and_hex(tmp_path: Path) -> None:
    place = tmp_path / "padded"
    place.write_bytes(b"\xa5" * 0x20 + golden.CATALOGUE["pci-folio.bin"])
    assert out("decode", str(place), "--offset", "0x20") == out("decode", FOLIO)
    place.write_text(golden.CATALOGUE["pci-folio.bin"].hex(" "))
    assert out("decode", str(place), "--hex") == out("decode", FOLIO)
    assert out("abi", "detect", str(place), "--hex") == out("abi", "detect", FOLIO)


# -- terminals and pipes ----------------------------------------------------------------------------------

COMMANDS = (["inspect"], ["inspect", "--full"], ["inspect", "--format", "json"], ["pci"], ["map"])


@each_dump
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_control_character_reaches_stdout(name: str, command: list[str]) -> None:
    shown = invoke(*command, str(real.path(name))).stdout_bytes
    assert shown
    assert {byte for byte in shown if byte < 0x20 or byte == 0x7F} <= {0x0A}
    assert not re.search("[\x80-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", shown.decode())


def test_no_control_character_of_a_blob_reaches_stdout(tmp_path: Path) -> None:
    place = tmp_path / "folio"
    hostile = b"\x1b[2J\x9b31m\xe2\x80\xae\n\r\\[bold]x"
    place.write_bytes(golden.FORMS["pci-lu-v2-06"].blob([golden.Dev(domain=0, bdf=1, driver=hostile)]))
    shown = invoke("decode", str(place), "--as", "pci-lu-v2-06").stdout_bytes
    assert rb"\x1b[2J\x9b31m\u202e\x0a\x0d\\[bold]x" in shown
    assert {byte for byte in shown if byte < 0x20} == {0x0A}
    page = tmp_path / "page"
    page.write_bytes(golden.CATALOGUE["luo-session-block.bin"].replace(b"vm0\0\0\0\0\0", b"\x1b]0;x\x07\0"))
    assert b"\x1b" not in invoke("decode", str(page), "--as", "kho-block-sessions").stdout_bytes


def test_pipes_get_no_colours(luoser_process: Run) -> None:
    for arguments in (["inspect", FROZEN], ["pci", FROZEN], ["decode", FOLIO], ["--help"]):
        result = luoser_process(*arguments, env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
        assert result.returncode == 0 and b"\x1b" not in result.stdout


def on_a_terminal(*arguments: str, **environment: str) -> bytes:
    keep = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    here, there = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", ENTRY, *arguments], cwd=real.ROOT, stdin=subprocess.DEVNULL,
                             stdout=there, stderr=subprocess.DEVNULL,
                             env={**keep, "TERM": "xterm-256color", **environment})  # fmt: skip
    os.close(there)
    shown = bytearray()
    while True:
        try:
            part = os.read(here, 1 << 16)
        except OSError:  # how a pty says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(here)
    assert child.wait(timeout=600) == 0
    return bytes(shown)


def test_terminals_get_colours_unless_no_color_is_set() -> None:
    assert b"\x1b[" in on_a_terminal("inspect", FROZEN)
    plain = on_a_terminal("inspect", FROZEN, NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9)[0-9][;m]", plain)


def test_colours_are_all_that_a_terminal_gets() -> None:
    shown = on_a_terminal("inspect", FROZEN)
    assert not re.search(rb"\x1b(?!\[[0-9;]*m)", shown)
    assert rb"weird name \x1b[31m" in re.sub(rb"\x1b\[[0-9;]*m", b"", shown)


PIPED = (["inspect", FROZEN], ["map", FROZEN], ["inspect", FROZEN, "--full", "--format", "json"], ["abi", "list"],
         ["decode", FOLIO], ["pci", FROZEN])  # fmt: skip


def into_a_closed_pipe(arguments: list[str]) -> tuple[int, bytes]:
    """As with `| head -1`: the reader goes away after a few bytes."""
    with subprocess.Popen([sys.executable, "-c", ENTRY, *arguments], cwd=real.ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        child.stdout.read(1)
        child.stdout.close()
        said = child.stderr.read()
        return child.wait(timeout=600), said


@pytest.mark.parametrize("arguments", PIPED, ids=" ".join)
def test_a_closed_pipe_is_no_accident(arguments: list[str]) -> None:
    code, said = into_a_closed_pipe(arguments)
    assert said == b""
    assert code in (0, 1, 141)


def test_a_closed_pipe_is_not_a_finding() -> None:
    code, _ = into_a_closed_pipe(["inspect", FROZEN, "--full", "--format", "json"])
    assert code != 1


def test_standard_input(luoser_process: Run) -> None:
    dump = Path(FROZEN).read_bytes()
    assert (
        luoser_process("decode", "-", input=golden.CATALOGUE["pci-folio.bin"]).stdout == out("decode", FOLIO).encode()
    )
    hexed = golden.CATALOGUE["pci-folio.bin"].hex().encode()
    assert luoser_process("decode", "-", "--hex", input=hexed).stdout == out("decode", FOLIO).encode()
    assert luoser_process("inspect", "-", input=b"").returncode == 2
    unpacked = luoser_process("pci", "-", input=_unpacked(dump))
    assert unpacked.returncode == 0 and b"0000:41:00.0" in unpacked.stdout


def _unpacked(data: bytes) -> bytes:
    import lzma

    return lzma.decompress(data)


def test_packed_standard_input(luoser_process: Run) -> None:
    assert luoser_process("pci", "-", input=Path(FROZEN).read_bytes()).returncode == 0


def test_every_error_is_a_luoser_error() -> None:
    """What main() turns into one line: CliRunner sees the exception itself."""
    with pytest.raises(LuoserError):
        CliRunner().invoke(cli, ["inspect", "/nonexistent"], catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize("name", real.DUMPS)
def test_inspect_begins_with_the_verdict_of_check(luoser_command: Run, name: str) -> None:
    first = [luoser_command(command, real.path(name)).stdout.splitlines()[:2] for command in ("inspect", "check")]
    assert first[0] == first[1] and first[0][1].startswith(b"verdict  ")


def test_totals_of_the_map_are_all_of_it() -> None:
    lines = out("map", FROZEN).splitlines()
    start = lines.index("  total  78.6 MiB in 17845 blocks")
    totals = dict(reversed(line.strip().split("  ", 1)) for line in lines[start + 1 :])
    assert totals["session vm-web-01"] == "68.4 MiB"
    assert totals["reserve_mem labmem"] == "1 MiB"
    assert totals["no known owner"] == "4 KiB"  # the second page of a small sub-tree
    early = out("map", str(real.path("7.3-a/pre")))  # the kernel's own lists are not in this cut
    assert "69.6 MiB  no known owner, 17810 blocks" in early


# -- first screen first -----------------------------------------------------------------------------------


def test_inspect_shows_devices_before_sessions_and_folds_like_ones() -> None:
    shown = out("inspect", FROZEN)
    assert shown.index("PCI  8 devices") < shown.index("LUO  luo-v5") < shown.index("preserved memory")
    assert "3 sessions vm-batch-000 … vm-batch-002" in shown
    assert "20 memfds of 8 KiB, tokens 0x1000-0x1013" in shown
    assert "serialised: 6 sessions, 64 files, 68.5 MiB" in shown
    assert len(shown.splitlines()) < 60


@each_dump
def test_all_shows_every_session_and_file(name: str) -> None:
    shown = out("inspect", str(real.path(name)), "--all")
    for handover in real.document(name)["handovers"]:
        for session in (handover["luo"] or {"sessions": []})["sessions"]:
            assert f"session {safe_text(session['name'])}  {session['address']}" in shown
            for file in session["files"]:
                place = f"{file['compatible']} at {file['address']}"
                assert f"file {file['token']}  {place}  data {file['data']}" in shown


@each_dump
def test_every_summary_has_at_most_ten_lines_a_root(name: str) -> None:
    shown = out("inspect", str(real.path(name)), "--summary").splitlines()
    roots = sum(line.startswith("KHO root") for line in shown)
    assert shown[1].startswith("verdict  ") and len(shown) <= 3 + 7 * roots
    assert roots == len(real.document(name)["handovers"])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_depth_counts_what_it_leaves_out(depth: int) -> None:
    whole, shown = (out("inspect", FROZEN, *more).splitlines() for more in ([], ["--depth", str(depth)]))
    hidden = sum(int(line.rsplit("… ", 1)[1].split()[0]) for line in shown if line.endswith(" below"))
    assert len(shown) + hidden == len(whole)
    assert not any(line.startswith("│   " * depth + "├") for line in shown)


def test_what_the_next_kernel_consumed_is_a_note() -> None:
    shown = out("inspect", str(real.path("7.3-a/post")))
    assert "Problems" not in shown and "Notes: 3" in shown


def test_bytes_that_a_cut_leaves_out_are_notes(luoser_command: Run, tmp_path: Path) -> None:
    """Of a memfd: nobody described them, and no verdict is about them."""
    luoser_command("build", real.ROOT / "fixtures/specs/handover.toml", "-o", tmp_path / "a.elf")
    shown = luoser_command("inspect", tmp_path / "a.elf").stdout.decode()
    assert "Problems" not in shown and "Notes: 16  missing 16 times (" in shown and "verdict  sound" in shown
    assert b"\n0 problems, 16 notes\n" in luoser_command("inspect", tmp_path / "a.elf", "--summary").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--summary", "--all"],
        ["--summary", "--depth", "1"],
        ["--all", "--format", "json"],
        ["--depth", "1", "--format", "json"],
    ],
)
def test_options_of_inspect_without_effect_are_refused(luoser_command: Run, arguments: list[str]) -> None:
    assert luoser_command("inspect", FROZEN, *arguments).returncode == 2
