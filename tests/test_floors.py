# SPDX-License-Identifier: MIT
"""The house rules: what may import what, and what a start costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import real
from tests.real import ROOT

PACKAGE = ROOT / "luoser"
MODULES = {
    ".".join(place.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): place
    for place in sorted(PACKAGE.rglob("*.py"))
}
each_module = pytest.mark.parametrize("name", MODULES)

# Lowest first. Rooms on one floor share it without importing each other.
FLOORS: list[set[str]] = [
    {"errors", "arguments", "limits", "text", "hextext", "parse", "bits", "output", "budget", "ranges"},
    {"fdt", "abi", "vmlinux"},
    {"symbols"},
    {"memory"},
    {"kernel", "fleet"},
    {"state"},
    {"reader", "writer", "extracts", "checks", "clashes", "changes", "liveupdate", "topology"},
    {"render"},
    {"api"},
    {"survey", "testing"},
    {"cli"},
    {"drgn", "__main__"},
]
MAY_NOT = {("render", "reader"), ("render", "writer"), ("reader", "writer"), ("writer", "reader")}
SAME_FLOOR = {
    ("writer", "extracts"),
    ("changes", "checks"),
    ("checks", "topology"),
    ("liveupdate", "topology"),
    ("liveupdate", "writer"),
}


def room(module: str) -> str:
    """The package or module right below luoser, "" for luoser itself."""
    return ([*module.split("."), ""])[1]


def floor(name: str) -> int:
    return next((index for index, rooms in enumerate(FLOORS) if name in rooms), -1)


def imports(source: str) -> Iterator[str]:
    """The modules that a source text imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


def faults(name: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    found = []
    here = room(name)
    for module in imports(source):
        top, there = module.split(".")[0], room(module)
        if top == "construct" and here != "abi":
            found.append(f"{name}: construct belongs in abi")
        if top == "click" and here != "cli":
            found.append(f"{name}: click belongs in cli")
        if top == "pytest" and here != "testing":
            found.append(f"{name}: pytest belongs in testing")
        if top != "luoser" or here == "" or there in ("", here):
            continue
        if floor(there) > floor(here):
            found.append(f"{name}: {module} is above it")
        elif floor(there) == floor(here) > 0 and (here, there) not in SAME_FLOOR:
            found.append(f"{name}: {module} is next door")
        elif (here, there) in MAY_NOT:
            found.append(f"{name}: {module} is none of its business")
    return found


@each_module
def test_nothing_imports_upward(name: str) -> None:
    assert faults(name, MODULES[name].read_text()) == []


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in MODULES} - {""} <= set().union(*FLOORS)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("luoser.abi.x", "from luoser.state import State"),
        ("luoser.abi.x", "def f():\n    from luoser.cli import main"),
        ("luoser.fdt", "from luoser import memory"),
        ("luoser.text", "import luoser.fdt"),
        ("luoser.reader.x", "import construct"),
        ("luoser.state.x", "from luoser.reader.pci_layout import columns"),
        ("luoser.reader.x", "from luoser.writer import kho"),
        ("luoser.writer.x", "from luoser.reader import kho"),
        ("luoser.render.x", "from luoser.reader import read"),
        ("luoser.reader.x", "import click"),
        ("luoser.reader.x", "import pytest"),
    ],
)
def test_the_rules_see_a_breach(name: str, source: str) -> None:
    assert faults(name, source) != []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("luoser.render.x", "from luoser.abi.pci import flag_names\nfrom luoser.state import State"),
        ("luoser.cli.x", "import click\nfrom luoser.reader import read"),
        ("luoser.abi.x", "import construct"),
        ("luoser.reader.x", "from luoser import fdt\nfrom luoser.errors import FormatError"),
        ("luoser.state.x", "from luoser.abi.pci import flag_names"),
    ],
)
def test_the_rules_see_no_breach_where_there_is_none(name: str, source: str) -> None:
    assert faults(name, source) == []


@pytest.mark.parametrize("folder", ["luoser", "tests"])
def test_every_file_names_its_licence(folder: str) -> None:
    for place in (ROOT / folder).rglob("*.py"):
        first = place.read_text().splitlines()[:2]
        assert "# SPDX-License-Identifier: MIT" in first, place


def loaded(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return set(result.stdout.split())


def test_a_start_loads_no_construct() -> None:
    modules = loaded("import luoser.cli.main")
    assert {"luoser.cli.main", "click"} <= modules
    assert not modules & {"construct", "hexdump", "luoser.reader", "luoser.abi", "luoser.state", "luoser.memory"}


@pytest.mark.parametrize("command", ["inspect", "pci", "map", "decode", "abi", "topology", "simulate"])
def test_help_loads_no_construct(command: str) -> None:
    code = "from click.testing import CliRunner\nfrom luoser.cli.main import cli"
    modules = loaded(f"{code}\nCliRunner().invoke(cli, ['{command}', '-h'])")
    assert f"luoser.cli.{command}" in modules
    assert not modules & {"construct", "hexdump"}


def test_importing_the_library_loads_nothing_of_it() -> None:
    modules = loaded("import luoser")
    assert [name for name in modules if name.startswith("luoser")] == ["luoser"]
    assert "luoser.reader" in loaded("import luoser\nluoser.read")


def test_nothing_keeps_a_path_of_a_machine() -> None:
    for place in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.json")]:
        assert "/work/" not in Path(place).read_text(), place


def test_a_blob_is_decoded_without_what_reads_a_whole_source() -> None:
    names = loaded("import luoser.reader.blob")
    assert "luoser.reader.pci_layout" in names
    assert not names & {f"luoser.reader.{name}" for name in ("calibrate", "kernel", "kho", "locate", "luo", "pending")}


def test_a_folio_is_decoded_without_construct() -> None:
    code = "from luoser.memory.file import read_file\nfrom luoser.reader.blob import decode"
    modules = loaded(f"{code}\nassert decode(read_file('fixtures/golden/pci-folio.bin', limit='list_size')).devices")
    assert not modules & {"construct", "luoser.memory.open", "luoser.state.model"}


def test_the_command_decodes_a_folio_without_the_classes_of_a_state() -> None:
    code = "from click.testing import CliRunner\nfrom luoser.cli.main import cli"
    modules = loaded(f"{code}\nCliRunner().invoke(cli, ['decode', 'fixtures/golden/pci-folio.bin'])")
    assert "luoser.render.values" in modules and not modules & {"construct", "luoser.state.model"}


def test_a_cut_is_inspected_without_what_other_sources_need() -> None:
    code = "from click.testing import CliRunner\nfrom luoser.cli.main import cli\ninvoke = CliRunner().invoke"
    modules = loaded(f"{code}\nassert not invoke(cli, ['inspect', '{real.path('7.3-a/frozen')}']).exit_code")
    assert {"luoser.memory.elf", "luoser.reader.luo", "luoser.checks.memfd", "luoser.render.tree"} <= modules
    others = {f"luoser.memory.{name}" for name in ("debugfs", "devmem", "gdb", "kcore", "live", "qmp", "vmware")}
    assert not modules & {"construct", "json", "luoser.state.from_json", "luoser.kernel.verify", *others}


@pytest.mark.parametrize("package", ["luoser", "luoser.reader", "luoser.state"])
def test_names_that_are_imported_on_first_use_are_there(package: str) -> None:
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in module.__all__)
