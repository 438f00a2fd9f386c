# SPDX-License-Identifier: MIT
"""`python -m tests.live_update_page` runs the commands of docs/liveupdate.md again and puts in what they print."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from luoser.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/liveupdate.md"
_BLOCK = re.compile(r"(?m)^```\n\$ luoser (.*)\n(?:.*\n)*?```$")


def page() -> str:
    """The page with fresh traces."""
    return _BLOCK.sub(lambda match: f"```\n$ luoser {match[1]}\n{_output(match[1])}```", PAGE.read_text())


def _output(command: str) -> str:
    words = [str(ROOT / word) if word.startswith("fixtures/") else word for word in command.split()]
    return CliRunner().invoke(cli, words).output


if __name__ == "__main__":
    PAGE.write_text(page())
