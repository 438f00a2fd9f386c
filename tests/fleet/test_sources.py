# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from luoser.errors import SourceError, UsageError
from luoser.fleet.sources import found_sources, listed_names
from luoser.limits import Limits, limited, with_values
from tests import real
from tests.memory.trees import debugfs

DUMP = real.path("7.3-a/post")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two dumps in `hosts`, one below it, and what is beside dumps."""
    monkeypatch.chdir(tmp_path)
    for name in ("hosts/b.elf.xz", "hosts/a.elf.xz", "hosts/more/c.elf.xz"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DUMP, name)
    Path("hosts/topology.json").write_text('{"schema": "luoser/topology/1"}')
    Path("hosts/README").write_text("What these are: dumps, naïve ones\n")
    Path("hosts/.hidden").write_bytes(b"\0" * 100)
    return tmp_path


IN_HOSTS = [("hosts/a.elf.xz",), ("hosts/b.elf.xz",), ("hosts/more/c.elf.xz",)]


def test_the_sources_of_a_folder_are_its_dumps_by_name(folder: Path) -> None:
    assert found_sources(["hosts"]) == IN_HOSTS


def test_state_documents_in_a_folder_are_sources(folder: Path) -> None:
    Path("hosts/state.json").write_text('{"schema": "luoser/state/1", "source": {}}')
    assert ("hosts/state.json",) in found_sources(["hosts"])


@pytest.mark.parametrize("data", [b"", b"\0" * 8192, b"KDUMP   \1"])
def test_a_dump_that_may_be_broken_is_a_source_of_its_folder(folder: Path, data: bytes) -> None:
    Path("hosts/broken").write_bytes(data)
    assert ("hosts/broken",) in found_sources(["hosts"])


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    Path("hosts/loop").symlink_to(".")
    assert found_sources(["hosts"]) == IN_HOSTS


def test_a_link_to_a_folder_elsewhere_is_a_source_that_is_not_read(folder: Path) -> None:
    Path("elsewhere").mkdir()
    Path("hosts/other").symlink_to(Path("elsewhere").absolute())
    Path("hosts/again").symlink_to("more")
    assert [source for source in found_sources(["hosts"]) if source not in IN_HOSTS] == [("hosts/other",)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("hosts/*.xz", IN_HOSTS[:2]),
        ("hosts/[b]*", IN_HOSTS[1:2]),
        ("**/*.xz", IN_HOSTS),
    ],
)
def test_a_pattern_stands_for_the_files_that_fit(folder: Path, pattern: str, names: list[tuple[str]]) -> None:
    assert found_sources([pattern]) == names


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    for name in ("a*", "a,b", "[x]"):
        shutil.copy(DUMP, name)
        assert found_sources([name]) == [(name,)]


def test_what_of_a_folder_is_no_source_is_said(folder: Path) -> None:
    os.mkfifo("hosts/fifo")
    said = list[str]()
    assert found_sources(["hosts"], said.append) == IN_HOSTS
    assert said == ["hosts: not read: hosts/README and 2 more, text or no file"]


def test_what_is_named_as_a_dump_is_a_source_whatever_it_has(folder: Path) -> None:
    """Such as what a server said in place of the dump."""
    for name in ("vmcore", "host7.elf", "host8.zst"):
        Path("hosts", name).write_text("<Error>AccessDenied</Error>")
    assert len(found_sources(["hosts"])) == len(IN_HOSTS) + 3


def test_a_broken_link_in_a_folder_is_a_source(folder: Path) -> None:
    Path("hosts/z").symlink_to("gone")
    assert found_sources(["hosts"]) == [*IN_HOSTS, ("hosts/z",)]


def test_a_folder_in_a_folder_that_may_not_be_read_is_a_source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path == "hosts/more":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert found_sources(["hosts"]) == [*IN_HOSTS[:2], ("hosts/more",)]


def test_folders_in_folders_are_read_however_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["/".join("a" * depth) for depth in range(1, 1500)]
    for name in names:
        os.mkdir(name)  # noqa: PTH102 - pathlib does it by recursion
    Path(names[-1], "x").write_bytes(b"\0")
    try:
        assert found_sources(["a"]) == [(f"{names[-1]}/x",)]
    finally:
        Path(names[-1], "x").unlink()
        os.removedirs(names[-1])


@pytest.mark.parametrize("name", ["out", "in", "kho-out"])
def test_a_folder_named_as_one_of_debugfs_does_not_hide_the_others(folder: Path, name: str) -> None:
    Path("hosts", name).mkdir()
    assert found_sources(["hosts"]) == IN_HOSTS


def test_a_pattern_that_fits_nothing_is_an_error(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing/\*: no file has this name, or fits this pattern"):
        found_sources(["nothing/*"])


def test_what_is_not_there_is_a_source(folder: Path) -> None:
    """That it cannot be read is its result."""
    assert found_sources(["gone.elf"]) == [("gone.elf",)]


def test_a_source_that_is_named_twice_is_read_once(folder: Path) -> None:
    assert found_sources(["hosts/b.elf.xz", "hosts", "hosts/b.elf.xz"]) == [IN_HOSTS[1], IN_HOSTS[0], IN_HOSTS[2]]


@pytest.mark.parametrize("name", ["live:", "qmp:/run/a,b", "-"])
def test_what_is_no_file_stays_as_it_is(folder: Path, name: str) -> None:
    assert found_sources([name, "hosts/b.elf.xz"]) == [(name,), IN_HOSTS[1]]


def test_files_with_commas_between_them_are_one_source(folder: Path) -> None:
    assert found_sources(["x.1,x.2", "hosts/b.elf.xz"]) == [("x.1", "x.2"), IN_HOSTS[1]]


def test_a_part_of_a_split_dump_that_is_named_twice_is_one_part(folder: Path) -> None:
    parts = [str(real.ROOT / f"fixtures/formats/kdump-split-{number}.xz") for number in (1, 2)]
    assert found_sources([*parts, parts[0]]) == [tuple(parts)]


def test_a_copy_of_debugfs_is_one_source(folder: Path) -> None:
    debugfs(Path("copy"), "7.3-a/1")
    assert found_sources(["copy"]) == [("copy",)]
    shutil.move("copy", "hosts/copy")
    assert [source for source in found_sources(["hosts"]) if source not in IN_HOSTS] == [("hosts/copy",)]


def test_a_folder_without_sources_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    assert found_sources([str(tmp_path)]) == [(str(tmp_path),)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        found_sources([str(tmp_path)])


def test_there_are_not_endlessly_many(folder: Path) -> None:
    with limited(with_values(Limits(), {"sources": 2})), pytest.raises(UsageError, match="--limit sources=N"):
        found_sources(["hosts"])


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_has_a_name_a_line_or_ended_by_nul(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "list").write_bytes(end.join((b"a b", b"\xff", b"", b"#c")) + end)
    assert listed_names(str(tmp_path / "list")) == ["a b", "\udcff", "#c"]


def test_a_list_can_be_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo")))
    assert listed_names("-") == ["one", "two"]


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="list: No such file"):
        listed_names(str(tmp_path / "list"))


def test_a_list_is_not_endless(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"x" * 100)
    with limited(with_values(Limits(), {"list_size": 10})), pytest.raises(UsageError, match="--limit list_size=N"):
        listed_names(str(tmp_path / "list"))
