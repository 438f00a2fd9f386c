# SPDX-License-Identifier: MIT
"""`luoser inspect --salvage`: a part of its own, also of a source without a root."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import luoser
from luoser.cli.main import cli
from luoser.extracts.core import write_core
from tests import salvage
from tests.images import Image
from tests.schemas import errors

WHOLE = salvage.SALVAGED / "7.3-whole" / "post.elf.xz"


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def rootless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump whose root pages were overwritten."""
    memory, place = salvage.damaged("7.3-a", "frozen", "zeros"), tmp_path_factory.mktemp("salvage") / "core"
    pages = [page for one in memory.segments for page in range(one.start, one.start + one.stored, 4096)]
    with place.open("wb") as file:
        write_core(file, memory, pages)
    return place


def test_what_is_salvaged_is_apart_in_tree_and_document() -> None:
    plain, shown = inspect(WHOLE).stdout, inspect(WHOLE, "--salvage").stdout
    assert "Salvaged" not in plain
    assert shown.replace(shown[shown.index("Salvaged") : shown.index("Notes:")], "") == plain
    document = json.loads(inspect(WHOLE, "--salvage", "--format", "json").stdout)
    assert errors(document, "state") == []
    assert {one["confidence"] for one in document["salvaged"]} == {"high", "medium"}
    (sessions,) = (one for one in document["salvaged"] if one["kind"] == "sessions")
    assert sessions["entries"][1] == {
        "address": "0x26b8060", "name": "many files", "file_set_ser": {"files": "0x448e000", "count": 20},
    }  # fmt: skip
    del document["salvaged"]
    assert document == json.loads(inspect(WHOLE, "--format", "json").stdout)


def test_a_source_without_a_root_is_shown_if_something_was_salvaged(rootless: Path) -> None:
    assert inspect(rootless).exit_code == 3
    result = inspect(rootless, "--salvage")
    assert result.exit_code == 0
    assert "verdict  inconclusive" in result.stdout
    assert "weird name \\x1b[31m" in result.stdout
    document = json.loads(inspect(rootless, "--salvage", "--format", "json").stdout)
    assert errors(document, "state") == []
    assert document["handovers"] == []


def test_a_source_without_a_root_and_without_anything_else_is_none(tmp_path: Path) -> None:
    place = tmp_path / "core"
    place.write_bytes(Image().core())
    assert inspect(place, "--salvage").exit_code == 3


@pytest.mark.parametrize("form", ["dot", "mermaid", "markdown"])
def test_graphs_have_it_and_the_summary_counts_it(form: str) -> None:
    assert "kho-block-sessions" in inspect(WHOLE, "--salvage", "--format", form).stdout
    assert "Salvaged by shape  34 things: 32 high, 2 medium" in inspect(WHOLE, "--salvage", "--summary").stdout


def test_a_document_has_no_memory_to_search_and_what_it_says_is_not_read_back(tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    place.write_text(inspect(WHOLE, "--salvage", "--full", "--format", "json").stdout)
    result = CliRunner().invoke(cli, ["inspect", str(place), "--salvage"])
    assert "--salvage searches memory, and a state document has none" in str(result.exception)
    assert luoser.load(place).salvaged is None
    plain = tmp_path / "plain.json"
    plain.write_text(inspect(WHOLE, "--full", "--format", "json").stdout)
    assert luoser.load(place) == luoser.load(plain)
