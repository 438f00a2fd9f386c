# SPDX-License-Identifier: MIT
"""The command `limits`."""

from __future__ import annotations

import json

from click.testing import CliRunner

from luoser.cli.main import cli
from luoser.limits import meanings
from tests.schemas import errors


def test_all_limits_are_listed() -> None:
    lines = CliRunner().invoke(cli, ["limits"]).output.splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [
        [name, str(default), word] for name, (default, word) in meanings().items()
    ]


def test_json() -> None:
    document = json.loads(CliRunner().invoke(cli, ["limits", "--format", "json"]).output)
    assert document["schema"] == "luoser/limits/1"
    assert errors(document) == []
    assert {row["name"]: (row["default"], row["meaning"]) for row in document["limits"]} == meanings()
