# SPDX-License-Identifier: MIT
from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import real
from tests.conftest import Run
from tests.fleet import cuts

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A folder with a host before and after an update, and one whose dump is broken."""
    folder = tmp_path / "cuts"
    folder.mkdir()
    for moment, name in (("before", "frozen"), ("after", "post")):
        shutil.copy(real.path(f"7.3-a/{name}"), folder / f"web1.{moment}.elf.xz")
    (folder / "web2.before.elf").write_bytes(b"\x7fELF\2\1\1")
    return folder


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in sorted(folder.glob("part-*")):
        found += pq.read_table(part / f"{name}.parquet").to_pylist()
    return found


def test_a_survey_has_hosts_and_their_updates(luoser_command: Run, hosts: Path, tmp_path: Path) -> None:
    words = ["survey", hosts, "-o", tmp_path / "fleet", "--name", cuts.RULE]
    result = luoser_command(*words)
    said = f"{tmp_path}/fleet: 3 sources; 1 not read, 2 sound; 1 pair; 1 progress\n".encode()
    assert (result.returncode, result.stdout, result.stderr) == (0, said, b"")
    found = {(row["host"], row["moment"]): row["verdict"] for row in table(tmp_path / "fleet", "hosts")}
    assert found == {("web1", "before"): "sound", ("web1", "after"): "sound", ("web2", "before"): None}
    (pair,) = table(tmp_path / "fleet", "pairs")
    assert (pair["host"], pair["verdict"]) == ("web1", "progress")
    again = luoser_command(*words).stdout
    assert (
        again == f"{tmp_path}/fleet: 3 sources; 1 not read; 2 not read again; 1 pair; 1 not compared again\n".encode()
    )


def test_lists_and_moments(luoser_command: Run, hosts: Path, tmp_path: Path) -> None:
    names = "\n".join(str(path) for path in hosts.iterdir())
    words = ["--from-list", "-", "--name", cuts.RULE, "--moments", "after,before", "-j", "1"]
    assert luoser_command("survey", "-o", tmp_path / "fleet", *words, input=names.encode()).returncode == 0
    (pair,) = table(tmp_path / "fleet", "pairs")
    assert (pair["before_moment"], pair["after_moment"]) == ("after", "before")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--name", "{time}"], b"--name: expected {host} once"),
        (["--moments", "a,a"], b"--moments: expected different ones"),
        (["--engine", "spark:x"], b"--engine: expected dask:ADDRESS"),
        (["--engine", "dask:tcp://x", "--jobs", "2"], b"--jobs is for this machine"),
        ([], b""),
    ],
)
def test_what_does_not_fit_is_refused(
    luoser_command: Run, hosts: Path, tmp_path: Path, options: list[str], word: bytes
) -> None:
    result = luoser_command("survey", hosts, "-o", tmp_path / "fleet", *options)
    assert result.returncode == (2 if options else 0) and word in result.stderr


def test_without_a_source_there_is_nothing_to_do(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("survey", "-o", tmp_path / "fleet")
    assert result.returncode == 2 and b"Missing argument SOURCE" in result.stderr
    assert not (tmp_path / "fleet").exists()


def test_standard_input_is_no_source(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("survey", "-", "-o", tmp_path / "fleet", input=real.path("7.3-a/post").read_bytes())
    assert result.returncode == 2 and b"standard input is no source of a survey" in result.stderr


def test_names_that_do_not_fit_are_said(luoser_command: Run, hosts: Path, tmp_path: Path) -> None:
    result = luoser_command("survey", hosts, "-o", tmp_path / "fleet", "--name", "{host}_{moment}.elf")
    assert result.stdout.endswith(b": 3 sources; 1 not read, 2 sound\n")
    assert b"web1.after.elf.xz and 2 other sources, compared with no other" in result.stderr


def test_a_survey_in_a_folder_that_is_read_is_no_source(luoser_command: Run, hosts: Path) -> None:
    for _ in range(2):
        result = luoser_command("survey", hosts, "-o", hosts / "fleet")
        assert b": 3 sources; " in result.stdout


def test_what_it_needs_is_named(
    luoser_command: Run, hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = builtins.__import__

    def absent(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] in ("pyarrow", "distributed"):
            raise ImportError(name)
        return actual(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", absent)
        result = luoser_command("survey", hosts, "-o", tmp_path / "fleet")
    assert result.returncode == 2 and b"pip install 'luoser[survey]'" in result.stderr


def test_names_of_sources_are_safe_in_all_tables(luoser_command: Run, hosts: Path, tmp_path: Path) -> None:
    evil = "'; DROP TABLE hosts; --\x1b[31m\n\udcff.before.elf.xz"
    shutil.copy(real.path("7.3-a/frozen"), hosts / evil)
    assert luoser_command("survey", hosts, "-o", tmp_path / "fleet", "--name", cuts.RULE).returncode == 0
    (row,) = [row for row in table(tmp_path / "fleet", "hosts") if "DROP" in row["host"]]
    assert row["host"] == "'; DROP TABLE hosts; --\\x1b[31m\\x0a\\xff" and row["verdict"] == "sound"
