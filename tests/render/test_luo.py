# SPDX-License-Identifier: MIT
"""LUO's branch of the tree: what user space says, apart from what the kernel says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.checks import check
from luoser.memory.overlay import Overlay
from luoser.state import State, to_document
from luoser.writer import write
from tests.conftest import Run
from tests.render.test_out import shown
from tests.schemas import errors

HOSTILE = "a\x1b[31m\u202e.service"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handover with systemd's session, in which one token is missing, and with two sessions that are alike."""
    stores = {HOSTILE: {"fdstore": [{"type": "fd", "name": "state", "token": 1}]}}
    stores |= {
        f"b{number}.service": {"fdstore": [{"type": "fd", "name": "x", "token": 2 + number}]} for number in range(9)
    }
    mapping = json.dumps({"version": 1, "units": stores})
    files: list[dict[str, Any]] = [{"token": token, "memfd": {"size": "0x1000"}} for token in range(1, 10)]
    files.append({"token": 0, "memfd": {"contents_text": mapping}})
    test = {"token": 0x1A, "memfd": {"size": "0x1000"}}
    sessions = [
        {"name": "systemd", "files": files},
        *({"name": name, "files": [test]} for name in ("one", "two", "test-session")),
    ]
    place = tmp_path_factory.mktemp("image")
    (place / "spec.json").write_text(json.dumps({"handovers": [{"luo": {"sessions": sessions}}]}))
    command = [sys.executable, "-m", "luoser", "build", "spec.json", "--kernel", "7.3", "-o", "image.elf"]
    subprocess.run(command, cwd=place, check=True)
    return place / "image.elf"


def state(image: Path) -> State:
    with luoser.open(image) as memory:
        return luoser.read(memory, contents=True)


def test_the_first_screen_has_the_first_lines_and_all_the_rest(image: Path) -> None:
    first, whole = shown(200, "inspect", str(image)), shown(200, "inspect", str(image), "--all")
    head = "user space says  systemd fd store, mapping version 1, 10 units  (by the session's name and its mapping)"
    assert head in first and head in whole
    assert "… 3 more lines; --all has them" in first and "note: in the mapping" not in first
    assert "note: in the mapping, but not in the session: token 0xa" in whole
    assert 'token 0x9: b7.service, fd "x"' in whole and "more lines" not in whole


def test_names_of_user_space_are_made_safe(image: Path) -> None:
    said = shown(200, "inspect", str(image))
    assert 'token 0x1: a\\x1b[31m\\u202e.service, fd "state"' in said and HOSTILE not in said


def test_a_session_that_user_space_says_something_of_is_shown_alone(image: Path) -> None:
    said = shown(200, "inspect", str(image))
    assert "2 sessions one … two" in said and "session test-session" in said
    assert "user space says  kernel selftest luo_kexec_simple  (by the session's name)" in said


def test_the_document_has_it_apart_and_is_valid(image: Path) -> None:
    document = to_document(state(image), full=True)
    assert errors(document) == []
    sessions = document["handovers"][0]["luo"]["sessions"]
    assert [entry["name"] for entry in sessions if "user_space" in entry] == ["systemd", "test-session"]
    first = sessions[0]["user_space"]["entries"][0]
    assert first == {"what": f'{HOSTILE}, fd "state"', "token": "0x1", "session": None}


def test_a_document_with_it_builds_the_same_image(image: Path, luoser_command: Run, tmp_path: Path) -> None:
    done = luoser_command("inspect", image, "--full", "--contents", "--format", "json")
    (tmp_path / "state.json").write_bytes(done.stdout)
    built = luoser_command("build", tmp_path / "state.json", "-o", tmp_path / "again.elf")
    assert built.returncode == 0, built.stderr
    assert state(tmp_path / "again.elf").handovers == state(image).handovers


@pytest.mark.parametrize("other", [b"{" * 400, b"\xff" * 400, b'{"version":1,"units":{}}', b'{"version":9}'])
def test_no_word_of_user_space_changes_a_verdict(image: Path, other: bytes) -> None:
    with luoser.open(image) as memory:
        before = luoser.read(memory, contents=True)
        luo = before.handovers[0].luo
        assert luo is not None
        mapping = next(file.memfd for file in luo.sessions[0].files if file.token == 0)
        assert mapping is not None
        changed = Overlay(memory)
        changed.write(mapping.folios.list[0].address, other)
        after = luoser.read(changed, contents=True)
    assert after.problems == before.problems and check(after) == check(before)
    assert to_document(after)["handovers"][0]["luo"] != to_document(before)["handovers"][0]["luo"]


def test_a_state_that_is_written_and_read_says_the_same(image: Path) -> None:
    before = state(image)
    again = luoser.read(write(before).memory(), contents=True)
    assert again.handovers[0].luo == before.handovers[0].luo
