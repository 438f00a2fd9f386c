# SPDX-License-Identifier: MIT
"""`python -m tests.pictures` makes docs/pictures again: a report in Chromium, light and dark, wide and on a phone."""

from __future__ import annotations

import tempfile
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

from luoser.cli.main import cli
from tests import real
from tests.chromium import Browser

__all__ = ["FOLDER", "main"]

FOLDER = Path(__file__).resolve().parents[1] / "docs/pictures"
_MEMORY = "document.querySelector('#source-memory').scrollIntoView({behavior: 'instant'})"
_SIZES = {"desktop": (1200, 900), "phone": (390, 844)}


def main() -> None:
    """Write the pictures anew. Each shows the top of the page, of a dump with the devices of its machine."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chdir(folder), Browser() as browser:
        page = Path("report.html")
        Path("vmcore").symlink_to(real.path("7.3-a/frozen"))
        topology = str(real.REAL / "7.3-a/topology.json")
        assert CliRunner().invoke(cli, ["report", "vmcore", "--topology", topology, "-o", str(page)]).exit_code == 0
        for name, (width, height) in _SIZES.items():
            for dark in (False, True):
                tab = browser.tab(width=width, height=height, dark=dark)
                tab.open(page)
                tab.picture(FOLDER / f"report-{name}-{'dark' if dark else 'light'}.png")
        tab = browser.tab(width=_SIZES["desktop"][0], height=640)
        tab.open(page)
        tab.run(_MEMORY)
        tab.picture(FOLDER / "report-memory.png")


if __name__ == "__main__":
    main()
