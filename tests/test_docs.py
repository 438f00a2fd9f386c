# SPDX-License-Identifier: MIT
"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from tests import live_update_page
from tests.layout_table import page

ROOT = Path(__file__).parent.parent


def test_layout_table_is_current() -> None:
    assert (ROOT / "docs/layouts.md").read_text() == page(), "run `make docs`"


def test_traces_of_the_model_are_current() -> None:
    text = live_update_page.PAGE.read_text()
    assert text.count("$ luoser simulate") == 9
    assert text == live_update_page.page(), "run `make docs`"


def test_every_problem_code_is_explained() -> None:
    source = "".join(path.read_text() for path in (ROOT / "luoser").rglob("*.py"))
    used = set(re.findall(r"""(?:problem\(|damage\.append\(\s*\()\s*"([a-z-]+)\"""", source))
    used |= set(re.findall(r'code="([a-z-]+)"', source)) | {"missing", "excluded"}
    explained = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs/deciding.md").read_text().split("## Problem codes")[1]))
    assert used == explained


def test_readme_names_every_command() -> None:
    from luoser.cli.main import _COMMANDS

    readme = (ROOT / "README.md").read_text()
    assert [name for name in _COMMANDS if f"`luoser {name} " not in readme] == []
