# SPDX-License-Identifier: MIT
"""`luoser report`: which sources it takes, what it writes, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from luoser.state import to_document
from tests import real
from tests.chromium import Browser, needs_chromium
from tests.conftest import Run

FROZEN, POST = str(real.path("7.3-a/frozen")), str(real.path("7.3-a/post"))
TOPOLOGY = str(real.REAL / "7.3-a/topology.json")


def saved(page: str) -> list[bytes]:
    """The state documents inside of a page."""
    found = re.findall(r'href="data:application/gzip;base64,([^"]+)"', page)
    return [gzip.decompress(base64.b64decode(one.replace("&#43;", "+"))) for one in found]


def test_page_of_a_real_dump(tmp_path: Path, luoser_command: Run) -> None:
    place = tmp_path / "report.html"
    done = luoser_command("report", FROZEN, "--topology", TOPOLOGY, "-o", place)
    assert (done.returncode, done.stderr) == (0, b"")
    page = place.read_text()
    assert re.fullmatch(rf"{re.escape(str(place))}: \d+ KiB\n", done.stdout.decode())
    assert len(page) < 1 << 20
    for words in (
        "TOP003",
        "0000:41:00.0",
        "vm-web-01",
        "luo.sessions[0].files[0].memfd",
        "layout: the only",
        "off_dt_struct",
        "refcount",
    ):
        assert words in page, words


def test_state_inside_is_what_inspect_prints_and_every_command_reads_it(tmp_path: Path, luoser_command: Run) -> None:
    page = luoser_command("report", FROZEN, "-o", "-").stdout.decode()
    (document,) = saved(page)
    printed = luoser_command("inspect", FROZEN, "--full", "--contents", "--format", "json").stdout
    assert document == printed
    (tmp_path / "state.json").write_bytes(document)
    again = luoser_command("report", str(tmp_path / "state.json"), "-o", "-").stdout.decode()
    assert saved(again) == [document] and "has no bytes of memory" in again


def test_two_sources_have_their_changes(luoser_command: Run) -> None:
    done = luoser_command("report", FROZEN, POST, "-o", "-")
    page = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "the next kernel freed the map after reading it" in page
    assert len(page) < 1 << 20 and len(saved(page)) == 2


def test_standard_input_can_be_one_of_two(luoser_command: Run) -> None:
    done = luoser_command("report", "-", POST, "-o", "-", input=Path(FROZEN).read_bytes())
    assert done.returncode == 0 and b'id="changes"' in done.stdout


def test_limits_leave_things_out_and_the_page_says_so(luoser_command: Run) -> None:
    words = ("report_hex=10", "report_state=40000", "report_node=16")
    few = luoser_command("report", FROZEN, "-o", "-", *(f"--limit={word}" for word in words)).stdout.decode()
    assert "The bytes of further nodes are not in this page" in few and "The first 16 of" in few
    assert [json.loads(one) for one in saved(few)] == [to_document(real.read("7.3-a/frozen"))]
    assert "the whole of it is too large for this page" in few
    none = luoser_command("report", FROZEN, "-o", "-", "--limit=report_state=100").stdout.decode()
    assert saved(none) == [] and "The state document is too large for this page" in none


def test_what_is_refused(tmp_path: Path, luoser_command: Run) -> None:
    place = tmp_path / "report.html"
    place.write_text("mine")
    for arguments, words in (
        ((FROZEN, "-o", place), "exists; --force replaces it"),
        ((FROZEN, POST, FROZEN, "-o", "-"), "or one source, or two: BEFORE and AFTER; found 3 files"),
        ((FROZEN, "--next", "x", "-o", "-"), "'--next': expected a release"),
        ((FROZEN, "-o", FROZEN, "--force"), "output and input are the same file"),
        ((FROZEN, "--topology", place, "-o", "-"), "not a topology"),
        ((FROZEN, tmp_path / "none", "-o", "-"), "none: No such file"),
    ):
        done = luoser_command("report", *arguments)
        assert (done.returncode, done.stdout) == (2, b"") and words in done.stderr.decode(), arguments
    assert place.read_text() == "mine"
    assert luoser_command("report", FROZEN, "-o", place, "--force").returncode == 0
    assert place.read_text().startswith("<!doctype html>")


def test_source_without_a_root_is_no_report(tmp_path: Path, luoser_command: Run) -> None:
    (tmp_path / "zeros.raw").write_bytes(bytes(1 << 16))
    done = luoser_command("report", tmp_path / "zeros.raw", "--raw", "-o", tmp_path / "report.html")
    assert done.returncode == 3 and b"no KHO root" in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_without_jinja_the_extra_is_named(luoser_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = luoser_command("report", FROZEN, "-o", "-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"luoser: a report needs jinja2: pip install 'luoser[report]'\n"


def test_only_a_page_loads_jinja() -> None:
    code = "import luoser.cli.report, luoser.render.report, sys; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=real.ROOT).returncode == 0


@needs_chromium
@pytest.mark.parametrize(
    "names", [("7.3-a/frozen",), ("7.3-a/pre", "7.3-a/frozen"), ("7.3-chain/frozen2",), ("6.18-a/frozen",)]
)
def test_browser_has_nothing_to_complain_of(tmp_path: Path, luoser_command: Run, names: tuple[str, ...]) -> None:
    place = tmp_path / "report.html"
    machine = str(real.REAL / names[0].split("/")[0] / "topology.json")
    assert luoser_command("report", *map(real.path, names), "--topology", machine, "-o", place).returncode == 0
    with Browser() as browser:
        for width in (390, 1280):
            tab = browser.tab(width=width)
            tab.open(place)
            tab.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert tab.run("document.documentElement.scrollWidth <= innerWidth")
            assert tab.run("[...document.querySelectorAll('pre')].every((one) => one.offsetHeight > 0)")
            assert tab.complaints() == [] and len(tab.requests()) == 1
