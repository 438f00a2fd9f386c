# SPDX-License-Identifier: MIT
"""`import luoser` and nothing else: what it shows, what it does, and its types."""

from __future__ import annotations

import inspect
import os
import pkgutil
import pydoc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import FormatError, SourceError, UsageError
from luoser.topology import read_topology
from tests import real
from tests.conftest import Run
from tests.real import ROOT

FROZEN, POST = real.path("7.3-a/frozen"), real.path("7.3-a/post")
LIST = ROOT / "fixtures/specs/pci-cover-letter.toml"
SCRIPT = """
import luoser
from luoser.state import State

with luoser.open("{frozen}") as memory:
    state = luoser.read(memory)
    report = luoser.check(state, ram=memory.known_ram, select=["PCI"])
    words: str = luoser.extract(memory, "small.elf")
after: State = luoser.load("{post}")
for handover in state.handovers:
    for devices in handover.pci:
        for device in devices.devices:
            name: str = device.name
            flags: int | None = device.number("flags")
            driver: str | None = device.text("driver_name")
    if handover.luo is not None:
        for session in handover.luo.sessions:
            for file in session.files:
                size: int | None = file.memfd.size if file.memfd is not None else None
for finding in report.findings:
    where: tuple[str, str] = (finding.rule, finding.where)
verdict: str = report.verdict.value
changes: list[str] = [change.where for change in luoser.diff(state, after, ignore=["direction"]).changes]
made = luoser.build({{"layout": "pci-v2-u64", "devices": [{{"bdf": "0000:00:01.0", "refcount": 1}}]}})
blob = luoser.decode(made.data, made.layout)
kunit: str = made.source("kunit")
fails: list[str] = [clash.what for clash in luoser.compat("7.1", "7.2").clashes]
print(verdict, len(changes), blob.layout, *fails)
"""


def checked(script: Path) -> str:
    """What mypy says of it with the strict configuration of this project, whose cache it shares."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(script)]
    environment = {**os.environ, "MYPYPATH": "."}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False).stdout


def test_help_shows_every_function() -> None:
    text = pydoc.plain(pydoc.render_doc(luoser))
    for name in set(luoser.__all__) - {"__version__"}:
        assert f"    {name}" in text and inspect.getdoc(getattr(luoser, name)), name


def test_no_package_hides_a_function() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(luoser.__path__)}
    assert rooms >= {"changes", "clashes", "extracts"} and not rooms & set(luoser.__all__)


def test_a_script_is_typed_and_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(frozen=FROZEN, post=POST))
    assert checked(script) == ""
    (wrong := tmp_path / "wrong.py").write_text('import luoser\n\nnumber: int = luoser.load("dump").source.path\n')
    assert "Incompatible types" in checked(wrong)
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert run.stdout == "sound 4 pci-v2-u64 kho\n"
    assert (tmp_path / "small.elf").stat().st_size > 1 << 20


def test_load_is_open_and_read(luoser_command: Run, tmp_path: Path) -> None:
    assert luoser.load(FROZEN).handovers == real.read("7.3-a/frozen").handovers
    document = tmp_path / "state.json"
    document.write_bytes(luoser_command("inspect", FROZEN, "--full", "--contents", "--format", "json").stdout)
    assert luoser.load(document).handovers == luoser.load(FROZEN, contents=True).handovers


def test_build_makes_what_the_command_makes(luoser_command: Run, tmp_path: Path) -> None:
    made = luoser.build(LIST)
    luoser_command("build", LIST, "-o", tmp_path / "list.bin")
    assert made.data == (tmp_path / "list.bin").read_bytes()
    assert (made.layout, made.differences, made.image) == ("pci-lu-v2-06", (), None)
    assert "kunit_test_suite" in made.source("kunit")
    broken = luoser.build(LIST, mutate="flags-illegal")
    luoser_command("build", LIST, "-o", tmp_path / "bad.bin", "--mutate", "PCI003")
    assert broken.data == (tmp_path / "bad.bin").read_bytes() != made.data
    assert broken.breaks == "PCI003" and "NEGATIVE: breaks PCI003" in broken.source()


def test_build_makes_a_whole_image(luoser_command: Run, tmp_path: Path) -> None:
    made = luoser.build(ROOT / "fixtures/specs/handover.toml", kernel="7.2")
    target = tmp_path / "out.elf"
    luoser_command("build", "fixtures/specs/handover.toml", "-o", target, "--kernel", "7.2")
    assert made.data == target.read_bytes() and made.layout is None
    assert luoser.build(ROOT / "fixtures/specs/handover.toml", blob="pci[0]").layout == "pci-lu-v2-03"
    with pytest.raises(UsageError, match="C source is for one blob"):
        made.source()


def test_a_path_an_open_source_and_a_state_do_alike(tmp_path: Path) -> None:
    with luoser.open(FROZEN) as memory, luoser.open(POST) as after:
        state = luoser.read(memory, contents=True)
        new = luoser.read(after, contents=True)
        assert luoser.check(FROZEN) == luoser.check(memory) == luoser.check(state)
        told = luoser.diff(str(FROZEN), POST, contents=True)
        assert told == luoser.diff(memory, after, contents=True)
        assert told == luoser.diff(state, new, memories=(memory, after), contents=True)
        assert luoser.extract(FROZEN, tmp_path / "a") == luoser.extract(memory, tmp_path / "b")
        assert luoser.report(FROZEN) == luoser.report(memory)
        assert "has no bytes of memory" in luoser.report(state)
    with luoser.open(FROZEN) as memory:
        memory.ram = ((0, 64 << 20),)  # less than what is preserved
        assert luoser.check(memory) == luoser.check(state, ram=memory.ram) != luoser.check(state)
    topology = real.REAL / "7.3-a/topology.json"
    assert luoser.check(FROZEN, topology=topology) == luoser.check(FROZEN, topology=read_topology(topology))


Given = Callable[[Any], Any]
TAKERS: dict[str, Given] = {
    "check": luoser.check,
    "compat": lambda one: luoser.compat(one, "7.3"),
    "decode": luoser.decode,
    "diff": lambda one: luoser.diff(POST, one),
    "extract": lambda one: luoser.extract(one, "nowhere"),
    "load": luoser.load,
    "open": luoser.open,
    "report": luoser.report,
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_a_file_that_is_not_there_is_an_error_of_luoser(take: Given) -> None:
    for name in ("no-such-file", Path("no-such-file")):
        with pytest.raises(SourceError, match="no-such-file: No such file"):
            take(name)


@pytest.mark.parametrize("name", ["check", "diff", "extract", "report"])
def test_what_is_no_source_at_all_is_an_error_of_luoser(name: str) -> None:
    for wrong in (None, 7, b"vmcore"):
        with pytest.raises(
            UsageError, match=f"expected a path or a source of luoser.open.*found {type(wrong).__name__}"
        ):
            TAKERS[name](wrong)
    with pytest.raises(UsageError, match=r"expected a source of luoser\.open, found str; luoser\.load takes a path"):
        luoser.read("vmcore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("take", "word"),
    [
        (lambda: luoser.check(FROZEN, select=["weather"]), "unknown rule or family 'weather'"),
        (lambda: luoser.check(FROZEN, ignore=["flags-ilegal"]), "did you mean flags-illegal"),
        (lambda: luoser.check(FROZEN, select="PCI"), "select: expected names, found 'PCI'"),
        (lambda: luoser.check(FROZEN, handlers=[""]), "handlers: expected names, found an empty one"),
        (
            lambda: luoser.check(FROZEN, next_release="foo"),
            "next_release: expected a release such as 7.3.4, found 'foo'",
        ),
        (lambda: luoser.check(FROZEN, next_release=7.3), "next_release: expected a release such as 7.3.4, found 7.3"),  # type: ignore[arg-type]
        (
            lambda: luoser.check(FROZEN, severity="nope"),  # type: ignore[arg-type]
            "severity: expected error, warning, info, found 'nope'",
        ),
        (lambda: luoser.check(FROZEN, drivers=["nvme"]), "drivers is for topology"),
        (
            lambda: luoser.check(FROZEN, topology={}),  # type: ignore[arg-type]
            "topology: expected a path or a topology, found dict",
        ),
        (lambda: luoser.diff(FROZEN, FROZEN, roots=7), "roots: expected two addresses, found 7"),  # type: ignore[arg-type]
        (
            lambda: luoser.diff(FROZEN, FROZEN, roots=("0x1", "0x2")),  # type: ignore[arg-type]
            "roots: expected two addresses, found",
        ),
        (lambda: luoser.diff(FROZEN, FROZEN, ignore=["*"]), "ignore: nothing is left to compare"),
        (lambda: luoser.diff(FROZEN, FROZEN, ignore=["weather"]), "ignore weather: no such path"),
        (lambda: luoser.diff(FROZEN, FROZEN, ignore="pci"), "ignore: expected names, found 'pci'"),
        (lambda: luoser.diff(FROZEN, FROZEN, ignore=None), "ignore: expected names, found None"),  # type: ignore[arg-type]
        (lambda: luoser.diff(FROZEN, FROZEN, memories=(1, 2)), "memories: expected two sources"),  # type: ignore[arg-type]
        (lambda: luoser.check(FROZEN, select=None), "select: expected names, found None"),  # type: ignore[arg-type]
        (lambda: luoser.check(FROZEN, ram="all"), "ram: expected .start, end. of each range"),  # type: ignore[arg-type]
        (lambda: luoser.open(5), "expected a path, found int"),  # type: ignore[arg-type]
        (lambda: luoser.open("a\0b"), "expected a path, found a text with a NUL"),
        (lambda: luoser.load(None), "expected a path, found NoneType"),  # type: ignore[arg-type]
        (lambda: luoser.decode(5), "expected bytes or a path, found int"),  # type: ignore[arg-type]
        (lambda: luoser.decode(b"a", 5), "layout: expected names, found 5"),  # type: ignore[arg-type]
        (lambda: luoser.build(5), "expected a description or a path, found int"),  # type: ignore[arg-type]
        (lambda: luoser.extract(FROZEN, None), "expected a path, found NoneType"),  # type: ignore[arg-type]
        (lambda: luoser.extract(FROZEN, "x", hash_names=5), "hash_names: expected a text, found int"),  # type: ignore[arg-type]
    ],
)
def test_what_the_command_refuses_is_refused(take: Callable[[], object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        take()


def test_report_makes_what_the_command_makes(luoser_command: Run) -> None:
    made = luoser_command("report", FROZEN, POST, "--topology", real.REAL / "7.3-a/topology.json", "-o", "-")
    assert made.stdout.decode() == luoser.report(FROZEN, POST, topology=real.REAL / "7.3-a/topology.json")


def test_decode_is_about_one_blob(tmp_path: Path) -> None:
    data = luoser.build(LIST).data
    (tmp_path / "list").write_bytes(data)
    assert luoser.decode(data).layout == luoser.decode(tmp_path / "list").layout == "pci-lu-v2-06"
    with pytest.raises(UsageError, match="unknown layout"):
        luoser.decode(bytes(8), "no-such")
    with pytest.raises(FormatError):
        luoser.decode(bytes(3), "pci-v2-u64")


def test_compat_takes_what_the_command_takes(luoser_command: Run) -> None:
    found = luoser.compat(FROZEN, "6.19")
    said = luoser_command("compat", FROZEN, "6.19").stdout.decode()
    assert found.writer.name in said and all(one.text in said.replace("\n         ", " ") for one in found.clashes)
    assert (found.verdict, found.result) == ("fails", "refused") and luoser.compat("7.3", "7.3").clashes == ()
    with pytest.raises(UsageError, match="unknown kernel"):
        luoser.compat("9.9", "7.3")


def test_extract_writes_what_the_command_writes(luoser_command: Run, tmp_path: Path) -> None:
    with luoser.open(FROZEN) as memory:
        words = luoser.extract(memory, tmp_path / "one", memfd="vm-web-01/0x1b")
        luoser.extract(memory, tmp_path / "list", blob="pci[0]")
        with pytest.raises(UsageError, match="exclude each other"):
            luoser.extract(memory, tmp_path / "x", memfd="a/1", blob="luo")
        with pytest.raises(UsageError, match="exists"):
            luoser.extract(memory, tmp_path / "one", memfd="vm-web-01/0x1b")
    result = luoser_command("extract", FROZEN, "-o", tmp_path / "two", "--memfd", "vm-web-01/0x1b")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert words in result.stdout.decode()
    assert luoser.decode((tmp_path / "list").read_bytes()).layout == "pci-v2-u64"
