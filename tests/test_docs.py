# SPDX-License-Identifier: MIT
"""The documentation says what the code does."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import luoser
from luoser.state.problems import PROBLEMS
from tests import architecture_page, console, live_update_page, real, reference_pages
from tests.abi_pages import anchors_in, without_code
from tests.layout_table import page
from tests.schemas import KINDS, schema
from tests.test_floors import FLOORS

ROOT = Path(__file__).parent.parent
PAGES = [
    place.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "fixtures/**/*.md")
    for place in sorted(ROOT.glob(pattern))
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_layout_table_is_current() -> None:
    assert (ROOT / "docs/layouts.md").read_text() == page(), "run `make docs`"


def test_reference_is_current() -> None:
    made = reference_pages.pages()
    assert {place.name for place in reference_pages.FOLDER.glob("*.md")} == set(made)
    assert [name for name, text in made.items() if (reference_pages.FOLDER / name).read_text() != text] == [], (
        "run `make pages`"
    )


@pytest.mark.parametrize("place", console.PAGES, ids=lambda place: place.name)
def test_commands_print_what_the_pages_show(place: Path) -> None:
    text = place.read_text()
    assert "\n$ luoser " in text
    assert console.page(text) == text, "run `make pages`"


@pytest.mark.skipif(shutil.which("jq") is None, reason="no jq")
def test_the_script_for_many_hosts_takes_only_what_check_wrote(tmp_path: Path) -> None:
    (script,) = re.findall(r"(?ms)^```sh\n(.*?)^```$", (ROOT / "docs/howto/hosts.md").read_text())
    (tmp_path / "hosts").mkdir()
    shutil.copy(real.path("7.3-a/frozen"), tmp_path / "hosts/host1.elf")
    shutil.copy(real.REAL / "7.3-a/topology.json", tmp_path / "hosts/host1.json")  # as the page says
    (tmp_path / "hosts/host2.elf").write_bytes(b"\x7fELF\2\1\1")
    script = f'luoser() {{ PYTHONPATH="{ROOT}" "{sys.executable}" -m luoser "$@"; }}\n{script}'
    result = subprocess.run(["sh", "-c", script], capture_output=True, cwd=tmp_path, check=False)
    name, verdict, error = result.stdout.decode().split("\t")
    assert (name, verdict) == ("hosts/host2.elf", "") and "host2.elf: " in error
    assert result.stderr == b"luoser: hosts: not read: hosts/host1.json, text or no file\n"


@pytest.mark.parametrize(("code", "of_kselftest"), [(0, 0), (1, 1), (2, 1), (3, 4), (4, 1), (130, 1)])
def test_the_script_for_kselftest_passes_only_what_is_sound(tmp_path: Path, code: int, of_kselftest: int) -> None:
    """Codes of kselftest: 0 passes, 2 is an expected failure, which passes, too, 4 is skipped."""
    scripts = re.findall(r"(?ms)^```sh\n(#!/bin/sh\n.*?)^```$", (ROOT / "docs/howto/ci.md").read_text())
    (tmp_path / "luoser").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "luoser").chmod(0o755)
    for path, expected in ((f"{tmp_path}:{os.environ['PATH']}", of_kselftest), (str(tmp_path / "none"), 4)):
        result = subprocess.run(["/bin/sh", "-c", scripts[0]], env={"PATH": path}, capture_output=True, check=False)
        assert result.returncode == expected


def test_jobs_of_the_page_about_ci_are_yaml() -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (ROOT / "docs/howto/ci.md").read_text())
    steps, jobs = map(yaml.safe_load, blocks)
    assert steps[0]["run"].endswith("--format github") and jobs["handovers"]["artifacts"]["reports"]["junit"]


def test_traces_of_the_model_are_current() -> None:
    text = live_update_page.PAGE.read_text()
    assert text.count("$ luoser simulate") == 9
    assert text == live_update_page.page(), "run `make docs`"


def test_every_problem_code_is_explained() -> None:
    source = "".join(path.read_text() for path in (ROOT / "luoser").rglob("*.py"))
    used = set(re.findall(r"""(?:problem\(|damage\.append\(\s*\()\s*"([a-z-]+)\"""", source))
    used |= set(re.findall(r'code(?:: str )?= ?"([a-z-]+)"', source)) | {"missing", "excluded"}
    used |= set(re.findall(r'faults\.append\(\("([a-z-]+)"', source)) | set(
        re.findall(r'else "(page-size-[a-z]+)"', source)
    )
    assert used == {code for codes in PROBLEMS.values() for code in codes}


def test_readme_names_every_command() -> None:
    from luoser.cli.main import _COMMANDS

    readme = (ROOT / "README.md").read_text()
    assert [name for name in _COMMANDS if f"`luoser {name} " not in readme] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Files and headings of this repository; nothing is fetched."""
    place, broken = ROOT / name, []
    for link in _LINK.findall(without_code(place.read_text())):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (place.parent / file).resolve() if file else place
        if not target.exists() or (anchor and anchor not in anchors_in(target.read_text())):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        place = left.pop()
        if place in reached or place.suffix != ".md" or not place.is_file():
            continue
        reached.add(place)
        links = _LINK.findall(without_code(place.read_text()))
        left += [(place.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link]
    assert [name for name in PAGES if not name.startswith("fixtures/") and ROOT / name not in reached] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    index = (ROOT / "docs/index.md").read_text()
    pages = [place.relative_to(ROOT / "docs").as_posix() for place in (ROOT / "docs").rglob("*.md")]
    assert [
        page for page in pages if page != "index.md" and not page.startswith("abi/") and f"({page})" not in index
    ] == []


def test_tables_of_the_architecture_are_current() -> None:
    assert architecture_page.PAGE.read_text() == architecture_page.page(), "run `make docs`"
    assert {"kho", "luo", "memfd", "pci", "preserved"} <= set(architecture_page.subjects())


def test_tree_of_the_readme_has_every_package() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    packages = {name for rooms in FLOORS for name in rooms if (ROOT / "luoser" / name).is_dir()}
    assert {name for name in packages if f"\nluoser/{name}/ " not in tree} == set()


# -- the compatibility statement ---------------------------------------------------------------------------


def _compatibility(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without backticks."""
    text = (ROOT / "docs/compatibility.md").read_text().split(f"\n## {heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines is not None
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[0].splitlines()[2:]]


def test_public_modules_say_what_is_public() -> None:
    modules = [importlib.import_module(row[0]) for row in _compatibility("Python")]
    assert luoser in modules
    assert [name for module in modules for name in module.__all__ if not hasattr(module, name)] == []


def test_numbers_of_the_json_documents() -> None:
    shipped = {schema(kind)["properties"]["schema"]["const"] for kind in KINDS}
    assert {row[0] for row in _compatibility("JSON")} == shipped
