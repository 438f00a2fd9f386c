# SPDX-License-Identifier: MIT
"""`luoser diff` as it is run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

import luoser
from luoser.changes import PARTS, compare
from luoser.state import to_document
from tests import real
from tests.cli.test_cli import Run
from tests.golden import GOLDEN
from tests.schemas import errors

FROZEN, POST, FROZEN2 = (str(real.path(f"7.3-chain/{moment}")) for moment in ("frozen", "post", "frozen2"))


def test_progress_alone_is_0(luoser_command: Run) -> None:
    result = luoser_command("diff", FROZEN, POST)
    assert result.returncode == 0
    assert b"~ preserved/status  intact" in result.stdout and b"3 progress" in result.stdout


def test_a_difference_is_1(luoser_command: Run) -> None:
    result = luoser_command("diff", POST, FROZEN2, "--contents")
    assert result.returncode == 1
    assert b"+ handovers/0xe55000/preserved/" in result.stdout


def test_what_is_ignored_is_no_difference(luoser_command: Run) -> None:
    result = luoser_command("diff", POST, FROZEN2, "--ignore", "handovers/*")
    assert result.returncode == 0 and b"handovers/0xe55000" not in result.stdout


def test_json_is_valid(luoser_command: Run) -> None:
    result = luoser_command("diff", POST, FROZEN2, "--contents", "--format", "json")
    found = json.loads(result.stdout)
    assert errors(found) == []
    assert {change["kind"] for change in found["changes"]} >= {"added", "progress"}


def test_stat_counts(luoser_command: Run) -> None:
    assert b"+ handovers: 69 added" in luoser_command("diff", POST, FROZEN2, "--stat").stdout


def test_a_state_document_compares_with_its_dump(luoser_command: Run, tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    place.write_bytes(luoser_command("inspect", FROZEN, "--full", "--contents", "--format", "json").stdout)
    result = luoser_command("diff", place, FROZEN)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, b"equal: no difference")
    result = luoser_command("diff", place, FROZEN, "--contents")  # a document has the contents of small files only
    assert result.returncode == 4 and b"not compared: the bytes of" in result.stdout


def test_bare_folios(luoser_command: Run, tmp_path: Path) -> None:
    folio = GOLDEN / "pci-folio.bin"
    data = bytearray(folio.read_bytes())
    data[8 + 4] = 3
    (tmp_path / "other").write_bytes(data)
    result = luoser_command("diff", folio, tmp_path / "other")
    assert result.returncode == 1 and b"/flags" in result.stdout and b"1 changed" in result.stdout


def folio(place: Path, layout: str, *names: str) -> Path:
    flags = {"flags": 1} if layout.startswith("pci-lu") else {}
    place.write_bytes(luoser.build({"layout": layout, "devices": [{"bdf": name, **flags} for name in names]}).data)
    return place


def test_each_folio_has_its_own_layout(luoser_command: Run, tmp_path: Path) -> None:
    before = folio(tmp_path / "before", "pci-lu-v2-03", "0000:05:00.1", "0000:04:01.0")
    after = folio(tmp_path / "after", "pci-v2-u64", "0000:04:01.0", "0000:05:00.1")
    result = luoser_command("diff", before, after)
    lines = result.stdout.decode().splitlines()
    assert (result.returncode, lines[0]) == (1, "! layout  pci-lu-v2-03 → pci-v2-u64")
    assert not [line for line in lines if line.startswith(("+", "-"))], "both have the same devices"


def test_two_folios_have_one_layout_if_it_fits_both(luoser_command: Run, tmp_path: Path) -> None:
    full, empty = folio(tmp_path / "full", "pci-v2-u64", "0000:05:00.1"), tmp_path / "empty"
    empty.write_bytes(bytes(4096))
    result = luoser_command("diff", empty, full)
    assert (result.returncode, result.stderr) == (1, b"") and b"layout" not in result.stdout


def test_of_several_layouts_each_folio_has_the_one_that_fits(luoser_command: Run, tmp_path: Path) -> None:
    before = folio(tmp_path / "before", "pci-v2-u64", "0000:05:00.1")
    after = folio(tmp_path / "after", "pci-v2-u32", "0000:05:00.1")
    result = luoser_command("diff", before, after, "--layout", "pci-v2-u32", "--layout", "pci-v2-u64")
    lines = result.stdout.decode().splitlines()
    assert lines == ["! layout  pci-v2-u64 → pci-v2-u32", "different: 1 changed"]


def test_an_unknown_layout_is_named(luoser_command: Run, tmp_path: Path) -> None:
    one = folio(tmp_path / "one", "pci-v2-u64", "0000:05:00.1")
    result = luoser_command("diff", one, one, "--layout", "pci-v2-u63")
    assert result.returncode == 2 and b"did you mean pci-v2-u64" in result.stderr


@pytest.mark.parametrize("is_first", [False, True])
def test_a_layout_that_is_assumed_is_named(luoser_command: Run, tmp_path: Path, is_first: bool) -> None:
    sound, other = folio(tmp_path / "sound", "pci-lu-v2-03", "0000:05:00.1"), tmp_path / "other"
    other.write_bytes(b"\xff" + sound.read_bytes()[1:])
    result = luoser_command("diff", *((other, sound) if is_first else (sound, other)))
    assert (result.returncode, result.stdout.splitlines()[-1]) == (1, b"different: 1 changed"), "the count"
    assert f"{other}: no known layout fits; assuming pci-lu-v2-03, as of {sound}\n".encode() in result.stderr


def test_one_line_for_each_dump(luoser_command: Run) -> None:
    result = luoser_command("diff", "--against", POST, POST, FROZEN2)
    assert result.returncode == 1
    assert [line.rsplit(b": ")[-1] for line in result.stdout.splitlines()] == [
        b"no difference",
        b"69 added, 3 progress",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([FROZEN], b"BEFORE and AFTER, or --against BASELINE and sources, found 1 source\n"),
        ([FROZEN, "/nonexistent"], b"No such file"),
        ([FROZEN, str(GOLDEN / "pci-folio.bin")], b"bare folio"),
        ([FROZEN, POST, "--roots", "0x1000", "0x1000"], b"no KHO root at 0x1000"),
    ],
)
def test_what_cannot_be_compared_is_2(luoser_command: Run, arguments: list[str], words: bytes) -> None:
    result = luoser_command("diff", *arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert words in result.stderr and b"Traceback" not in result.stderr


def test_a_document_that_is_none_is_2(luoser_command: Run, tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    place.write_text('{"schema": "luoser/state/1", "handovers": [{"compatible": 7}]}')
    result = luoser_command("diff", place, FROZEN)
    assert result.returncode == 2 and b"handovers[0]" in result.stderr


def test_raw_images_without_evidence(luoser_command: Run, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\x1f\x8b\x08" + bytes(8189))
    assert b"packed file damaged" in luoser_command("diff", str(image), str(image)).stderr
    result = luoser_command("diff", "--raw", str(image), str(image))
    assert result.returncode == 3 and b"no KHO root in this raw source" in result.stderr


@pytest.mark.parametrize("pattern", ["nope", "pcy/*/driver_data", "luo.sessions[0]/files"])
def test_a_pattern_that_no_path_can_match_is_refused(luoser_command: Run, pattern: str) -> None:
    sources = [str(real.path(name)) for name in ("7.3-a/frozen", "7.3-a/post")]
    result = luoser_command("diff", *sources, "--ignore", pattern)
    assert (result.returncode, result.stdout) == (2, b"") and b"no such path" in result.stderr


@pytest.mark.parametrize(("pattern", "code"), [("fields/liveupdate_num", 0), ("fields", 0), ("liveupdate_num", 2)])
def test_paths_of_a_folio_that_is_no_list(luoser_command: Run, tmp_path: Path, pattern: str, code: int) -> None:
    for number in (1, 2):
        fields = {"compatible": "luo-v5", "liveupdate_num": number}
        (tmp_path / str(number)).write_bytes(luoser.build({"layout": "luo-v5", "fields": fields}).data)
    result = luoser_command("diff", tmp_path / "1", tmp_path / "2", "--ignore", pattern)
    assert result.returncode == code


@pytest.mark.parametrize(("pattern", "code"), [("0000:99:00.0", 0), ("0000:99:00.0/flags", 0), ("99:00.0", 2)])
def test_a_device_need_not_be_in_a_folio(luoser_command: Run, tmp_path: Path, pattern: str, code: int) -> None:
    one = folio(tmp_path / "one", "pci-lu-v2-03", "0000:05:00.1")
    result = luoser_command("diff", "--against", one, one, one, "--ignore", pattern)
    assert result.returncode == code


@pytest.mark.parametrize("pattern", ["pci/*/driver_data", "p*", "*/driver_data", "handovers", "pending/*"])
def test_a_pattern_that_a_path_can_match_is_not(luoser_command: Run, pattern: str) -> None:
    same = str(real.path("7.3-a/frozen"))
    assert luoser_command("diff", same, same, "--ignore", pattern).returncode == 0


def test_the_paths_of_changes_begin_with_known_parts() -> None:
    states = {name: luoser.read(real.dump(name)) for name in real.DUMPS}
    for before, after in itertools.permutations(states.values(), 2):
        for change in compare(before, after).changes:
            parts = change.where.split("/")
            assert parts[0] in PARTS, change.where
            assert parts[0] != "handovers" or len(parts) == 2 or parts[2] in PARTS, change.where


OF_DUMPS = ["--contents"], ["--roots", "1", "2"], ["--symbols", "x"], ["--page-size", "4096"]


@pytest.mark.parametrize("option", OF_DUMPS)
def test_options_without_effect_on_folios_are_refused(luoser_command: Run, option: list[str]) -> None:
    folio = str(GOLDEN / "pci-folio.bin")
    result = luoser_command("diff", folio, folio, *option)
    assert (result.returncode, result.stdout) == (2, b"") and b"are for dumps" in result.stderr


@pytest.mark.parametrize("option", [["--layout", "pci-v2-u64"], ["--symbols", "x"], ["--page-size", "4096"]])
def test_options_without_effect_on_documents_are_refused(
    luoser_command: Run, tmp_path: Path, option: list[str]
) -> None:
    place = tmp_path / "state.json"
    place.write_text(json.dumps(to_document(luoser.load(FROZEN), full=True)))
    result = luoser_command("diff", place, place, *option)
    assert (result.returncode, result.stdout) == (2, b"") and b"are for dumps" in result.stderr
    assert luoser_command("diff", place, place).returncode == 0


@pytest.mark.parametrize("option", [["--format", "json"], ["--against", FROZEN]])
def test_stat_is_for_the_text_of_one_comparison(luoser_command: Run, option: list[str]) -> None:
    result = luoser_command("diff", FROZEN, POST, "--stat", *option)
    assert (result.returncode, result.stdout) == (2, b"") and b"--stat is for" in result.stderr
