# SPDX-License-Identifier: MIT
"""Assertions about sources: what they refuse, and in which words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import luoser
from luoser.errors import UsageError
from luoser.state.from_json import from_document
from luoser.testing import LINES, assert_same_state, assert_sound, golden, golden_names
from luoser.testing.plugin import ImageMaker
from luoser.writer.complete import complete
from tests import golden_set, real
from tests.conftest import Run
from tests.judged import cut, hostile

FROZEN, POST, PRE = (real.path(f"7.3-a/{name}") for name in ("frozen", "post", "pre"))
TOPOLOGY = real.REAL / "7.3-a/topology.json"


def failed(caught: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    """Lines of the message. pytest does not show the function that raised."""
    assert caught.traceback[-1].locals["__tracebackhide__"]
    return str(caught.value).splitlines()


# -- sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [FROZEN, str(FROZEN), real.dump("7.3-a/frozen"), real.read("7.3-a/frozen")])
def test_a_sound_source_passes(source: Path) -> None:
    report = assert_sound(source)
    assert report.verdict.value == "sound" and [finding.rule for finding in report.findings] == ["MAP020"]


def test_a_finding_fails_with_the_words_of_check(luoser_command: Run) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_sound(FROZEN, topology=TOPOLOGY)
    first, *rest = failed(caught)
    assert first.startswith(f"{FROZEN}: 1 error, 3 info: ")
    printed = luoser_command("check", FROZEN, "--topology", TOPOLOGY).stdout.decode().splitlines()
    assert rest == printed[-len(rest) :] and rest[0].startswith("error TOP003 bridge-chain-incomplete at ")


def test_the_severity_decides() -> None:
    assert_sound(FROZEN, topology=TOPOLOGY, ignore=["TOP003"])
    with pytest.raises(AssertionError, match="MAP020"):
        assert_sound(FROZEN, severity="info")
    with pytest.raises(AssertionError, match=r"error KHO012"):
        assert_sound(FROZEN, next_release="6.17")


def test_what_was_not_judged_fails_with_what_decides(tmp_path: Path) -> None:
    (tmp_path / "cut.elf").write_bytes(cut())
    with pytest.raises(AssertionError, match="inconclusive") as caught:
        assert_sound(tmp_path / "cut.elf", select=["LUO"])
    assert "not judged  KHO018" in failed(caught) and "the complete file decides" in str(caught.value)


def test_a_severity_that_there_is_not_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="severity: expected error, warning, info, found 'nope'"):
        assert_sound(FROZEN, severity="nope")  # type: ignore[arg-type]


def test_nothing_to_judge_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="inconclusive: 0 rules passed"):
        assert_sound(FROZEN, select=["TOP"])
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    with pytest.raises(AssertionError, match="no KHO root"):
        assert_sound(luoser.load(tmp_path / "zeros", raw=True))


def test_a_source_that_cannot_be_read_is_an_error_and_no_failure(tmp_path: Path) -> None:
    with pytest.raises(luoser.errors.SourceError):
        assert_sound(tmp_path / "absent")


def test_names_of_a_dump_are_safe_in_a_message(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[31m\n.elf"
    place.write_bytes(hostile())
    with pytest.raises(AssertionError, match="LUO014") as caught:
        assert_sound(place)
    assert all(line.isprintable() for line in failed(caught))


# -- the same state ---------------------------------------------------------------------------------------------------


def test_the_same_state_passes() -> None:
    assert assert_same_state(FROZEN, FROZEN).verdict.value == "equal"
    assert assert_same_state(real.read("7.3-a/frozen"), FROZEN).changes == ()


def test_progress_is_a_difference_unless_it_is_allowed() -> None:
    assert assert_same_state(FROZEN, POST, allow_progress=True).verdict.value == "progress"
    with pytest.raises(AssertionError) as caught:
        assert_same_state(FROZEN, POST)
    first, *rest, hint = failed(caught)
    assert first == f"{FROZEN}, {POST}: progress" and hint == "→ allow_progress=True accepts it"
    assert sum(line.startswith("~ ") for line in rest) == 5


def test_a_difference_fails_with_the_words_of_diff(luoser_command: Run) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_same_state(FROZEN, PRE, allow_progress=True)
    first, *rest = failed(caught)
    assert first == f"{FROZEN}, {PRE}: different"
    assert rest == luoser_command("diff", FROZEN, PRE).stdout.decode().splitlines()


def test_what_is_ignored_may_differ(luoser_image: ImageMaker) -> None:
    first, second = (luoser_image({"handovers": [{"luo": {"sessions": [{"name": name}]}}]}) for name in "ab")
    with pytest.raises(AssertionError, match=r"luo/sessions/a"):
        assert_same_state(first, second, ignore=["preserved"])
    assert_same_state(first, second, ignore=["luo", "preserved"])


def test_a_long_message_is_cut() -> None:
    sessions = [{"name": "the same"}] * LINES
    state = from_document(complete({"handovers": [{"luo": {"sessions": sessions}}]}, kernel="7.3"))
    with pytest.raises(AssertionError, match=r"^a state: \d+ errors") as caught:
        assert_sound(state)
    lines = failed(caught)
    assert len(lines) == LINES + 2 and re.fullmatch(r"… \d+ more lines; `luoser check` prints all", lines[-1])


def test_bytes_that_a_source_lacks_are_not_the_same() -> None:
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_same_state(FROZEN, FROZEN, contents=True)


def test_what_was_not_compared_fails(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    empty = luoser.load(tmp_path / "zeros", raw=True)
    with pytest.raises(AssertionError, match="inconclusive") as caught:
        assert_same_state(empty, empty, allow_progress=True)
    assert any("not compared: no KHO root" in line for line in failed(caught))


def test_two_pages_of_garbage_are_not_the_same_state() -> None:
    """In place of LUO's root object: no session is read on either side."""
    states = []
    for byte in (b"\xaa", b"\xbb"):
        image = luoser.build({"handovers": [{"luo": {"sessions": [{"name": "vm-1"}]}}]}).image
        assert image is not None
        (handover,) = luoser.read(image.memory()).handovers
        assert handover.luo is not None and handover.luo.address is not None
        image.patch(handover.luo.address, byte * 4096)
        states.append(luoser.read(image.memory()))
    with pytest.raises(AssertionError, match=r"inconclusive\n(.*\n)*\? luo: not compared: damaged in both: "):
        assert_same_state(*states)


# -- goldens ----------------------------------------------------------------------------------------------------------


def test_a_golden_is_the_file_of_the_source_tree() -> None:
    """All of them: tests/test_golden_set.py."""
    assert golden("lists/pci-v2-u64/052.bin") == golden_set.unpacked("lists/pci-v2-u64/052.bin")
    assert golden(Path("luo/files-63.elf")) == golden("luo/files-63.elf")
    assert len(golden_names()) == len(set(golden_names())) > 200


@pytest.mark.parametrize("name", ["lists/pci-v2-u64/53.bin", "lists/pci-v2-u64/053.bin", "", "../x", "luo/files-64"])
def test_a_name_that_no_golden_has(name: str) -> None:
    with pytest.raises(UsageError, match="no such name"):
        golden(name)


# -- what it costs others ---------------------------------------------------------------------------------------------


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder, with the plugin alone."""
    command = [sys.executable, "-m", "pytest", "-p", "luoser.testing.plugin", "-p", "no:cacheprovider", *words]
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(real.ROOT), **variables}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=variables)


OTHERS = """
import json, sys

def test_of_others():
    json.dump(sorted(name for name in sys.modules if name.split(".")[0] in ("luoser", "construct", "click")),
              open("loaded", "w"))
"""


def test_a_run_of_others_loads_nothing_but_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_others.py").write_text(OTHERS)
    assert run(tmp_path).returncode == 0
    names = ["luoser", "luoser.testing", *(f"luoser.testing.{name}" for name in ("goldens", "guest", "plugin"))]
    assert json.loads((tmp_path / "loaded").read_text()) == names


def test_its_fixtures_are_named_like_it(tmp_path: Path) -> None:
    """So that they never replace one of others."""
    (tmp_path / "test_others.py").write_text(OTHERS)
    (_, own) = run(tmp_path, "--fixtures").stdout.split("fixtures defined from luoser.testing.plugin")
    names = [line.split(" -- ")[0].split(" [")[0] for line in own.splitlines() if " -- " in line]
    assert names == ["luoser_image", "luoser_guest"]
