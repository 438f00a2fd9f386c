# SPDX-License-Identifier: MIT
"""Folders of debugfs blobs: those of real kernels, cut ones, single files, and folders that hold something else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import luoser
from luoser.cli.main import cli
from luoser.errors import PageState, SourceError
from luoser.limits import Limits, limited
from luoser.memory import debugfs as module
from luoser.memory.debugfs import DebugfsMemory
from luoser.memory.source import Memory
from luoser.state import Direction, Handover, MapStatus, State, to_document
from tests import real, schemas
from tests.images import Node, fdt, text, u64
from tests.memory.trees import boot_of, debugfs, write
from tests.reader.helpers import only, problems

AFTER = [f"{case}/{number}" for case in real.CASES for number in range(1, len(real.truth(case)))]
BEFORE = [f"{case}/0" for case in real.CASES]
SCRATCHED = 1 << 60


def moment(name: str) -> str:
    """The dump of the moment at which the blobs of `in` were read."""
    case, number = name.split("/")
    return f"{case}/{'post' if number == '1' else 'frozen2'}"


def remarks(state: State) -> str:
    return " ".join(problem.message for problem in problems(state, "source"))


# -- `in`: what a kernel was handed -------------------------------------------------------------------------


@pytest.mark.parametrize("name", AFTER)
def test_in_of_a_real_kernel_is_its_incoming_root(tmp_path: Path, name: str) -> None:
    handover = only(luoser.read(luoser.open(debugfs(tmp_path, name))))
    assert (handover.address, handover.direction) == (None, Direction.INCOMING)
    assert handover.evidence == ("certain: folder in points to it", "scratch areas as debugfs says")
    assert handover.preserved.status is MapStatus.MISSING
    blobs = {file[12:]: data for file, data in boot_of(name)["debugfs"].items() if file.startswith("in/sub_fdts/")}
    assert {subtree.name for subtree in handover.subtrees} == set(blobs)


@pytest.mark.parametrize("name", [name for name in AFTER if name.endswith("/1")])
def test_in_says_what_the_dump_of_that_moment_says(tmp_path: Path, name: str) -> None:
    found = only(luoser.read(luoser.open(debugfs(tmp_path, name) / "in")))
    dump = next(entry for entry in real.read(moment(name)).handovers if entry.direction is Direction.INCOMING)
    assert found.subtrees == dump.subtrees
    assert found.compatible == dump.compatible
    assert found.memblock == dump.memblock and found.kexec_metadata == dump.kexec_metadata
    assert {entry.layout for entry in found.pci} <= {entry.layout for entry in dump.pci}


@pytest.mark.parametrize("name", ["7.3-a/1", "7.3-chain/1", "7.3-chain/2"])
def test_blob_of_a_device_list_is_read_though_its_page_is_not_there(tmp_path: Path, name: str) -> None:
    (devices,) = only(luoser.read(luoser.open(debugfs(tmp_path, name)))).pci
    assert devices.layout == "pci-lu-v2-03" and devices.via == ("subtree:pci-luo-lab",)
    entries = [entry for boot in real.truth(name.split("/")[0]) for entry in boot["pci_entries"]]
    assert {device.name for device in devices.devices} == {entry["bdf"] for entry in entries}


def test_document_of_blobs_is_a_state_document(tmp_path: Path) -> None:
    document = to_document(luoser.read(luoser.open(debugfs(tmp_path, "7.3-a/1"))))
    assert schemas.errors(document) == []
    assert document["handovers"][0]["address"] is None
    assert f"{SCRATCHED:x}" not in json.dumps(document)


def test_sub_trees_lie_where_the_root_says(tmp_path: Path) -> None:
    memory = luoser.open(debugfs(tmp_path, "7.3-a/1"))
    blob = bytes.fromhex(boot_of("7.3-a/1")["debugfs"]["in/sub_fdts/pci-luo-lab"])
    assert memory.read(0x1A97000, len(blob)) == blob
    assert memory.page_state(0x1A97000 + len(blob)) is PageState.ABSENT


# -- `out`: what a kernel hands over, cut short up to 7.3 ------------------------------------------------------


@pytest.mark.parametrize("name", BEFORE)
def test_out_of_a_real_kernel_is_its_outgoing_root(tmp_path: Path, name: str) -> None:
    handover = only(luoser.read(luoser.open(debugfs(tmp_path, name))))
    case = name.split("/")[0]
    dump = only(real.read(f"{case}/pre" if f"{case}/pre" in real.DUMPS else f"{case}/frozen"))
    assert handover.direction is Direction.OUTGOING
    assert handover.compatible == dump.compatible
    assert handover.preserved.form == dump.preserved.form
    known = {subtree.name: subtree.address for subtree in dump.subtrees}
    told = {subtree.name: subtree.address for subtree in handover.subtrees if subtree.address is not None}
    assert told and told.items() <= known.items()


@pytest.mark.parametrize("name", ["6.19-a/0", "7.3-a/0", "7.3-chain/0"])
def test_cut_root_says_that_it_is_cut_and_what_is_left_out(tmp_path: Path, name: str) -> None:
    state = luoser.read(luoser.open(debugfs(tmp_path, name)))
    said = boot_of(name)["debugfs"]
    whole = int(said["out/fdt"][8:16], 16)
    have = len(said["out/fdt"]) // 2
    assert f"out: `fdt` is truncated: expected {whole} bytes, found {have}; its property names" in remarks(state)
    placed = {subtree.name for subtree in only(state).subtrees if subtree.address is not None}
    for file in said:
        if file.startswith("out/sub_fdts/") and file[13:] not in placed:
            assert f"{file}: not found in the truncated root" in remarks(state)
    assert problems(state, "bad-fdt")


@pytest.mark.parametrize("name", ["6.19-a/1", "7.3-a/1"])
def test_root_cut_anywhere_never_names_another_address(tmp_path: Path, name: str) -> None:
    """Nothing is made up of half a number: each sub-tree is where the whole root has it, or nowhere."""
    whole = bytes.fromhex(boot_of(name)["debugfs"]["in/fdt"])
    known = {subtree.name: subtree.address for subtree in only(luoser.read(DebugfsMemory("", whole))).subtrees}
    most = 0
    for size in range(0, len(whole), 3):
        write(tmp_path, {"in/fdt": whole[:size]})
        try:
            handover = only(luoser.read(luoser.open(tmp_path)))
        except SourceError as error:
            assert size < 100 and str(error).isprintable()
            continue
        told = {entry.name: entry.address for entry in handover.subtrees if entry.address is not None}
        assert told.items() <= known.items()
        assert handover.preserved.address in (0, only(luoser.read(DebugfsMemory("", whole))).preserved.address)
        most = max(most, len(told))
    assert most == len(known)


# -- folders and files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [".", "in", "in/", "in/../in"])
def test_folder_may_be_given_with_or_without_its_parent(tmp_path: Path, given: str) -> None:
    debugfs(tmp_path, "7.3-chain/1")
    assert only(luoser.read(luoser.open(f"{tmp_path}/{given}"))).direction is Direction.INCOMING


def test_folder_that_is_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(debugfs(tmp_path, "7.3-chain/1") / "in")
    assert only(luoser.read(luoser.open("."))).direction is Direction.INCOMING


def test_folder_of_another_name_says_nothing_of_the_direction(tmp_path: Path) -> None:
    (debugfs(tmp_path, "7.3-chain/1") / "in").rename(tmp_path / "copy")
    handover = only(luoser.read(luoser.open(tmp_path / "copy")))
    assert handover.direction is Direction.UNKNOWN
    assert handover.memblock is not None


def test_both_directions_side_by_side(tmp_path: Path) -> None:
    debugfs(tmp_path, "6.18-a/1")
    debugfs(tmp_path, "6.18-a/0", only="out")
    state = luoser.read(luoser.open(tmp_path))
    assert [handover.direction for handover in state.handovers] == [Direction.INCOMING, Direction.OUTGOING]
    assert [handover.address for handover in state.handovers] == [None, None]


@pytest.mark.parametrize("name", ["6.18-a/1", "7.3-a/1", "7.3-chain/2"])
def test_single_file_of_a_root(tmp_path: Path, name: str) -> None:
    state = luoser.read(luoser.open(debugfs(tmp_path, name) / "in" / "fdt"))
    handover = only(state)
    assert (handover.address, handover.direction) == (None, Direction.UNKNOWN)
    assert handover.evidence == ("direction unknown: its map is missing; --symbols or --direction decides",)
    assert {entry.name for entry in handover.subtrees} == {
        file[12:] for file in boot_of(name)["debugfs"] if file.startswith("in/sub_fdts/")
    }


def test_single_file_that_was_cut_short(tmp_path: Path) -> None:
    handover = only(luoser.read(luoser.open(debugfs(tmp_path, "7.3-a/0") / "out" / "fdt")))
    assert handover.compatible == "kho-v4" and len(handover.subtrees) == 3


def root_file(compatible: bytes = b"kho-v4\0", **subtrees: int) -> bytes:
    nodes = [Node(name, {"preserved-data": u64(address), "blob-size": u64(8)}) for name, address in subtrees.items()]
    return fdt(Node("", {"compatible": compatible, "preserved-memory-map": u64(0x5000)}, nodes))


NO_ROOTS = {
    "empty": {},
    "no fdt": {"in/sub_fdts/LUO": b"luo-v5"},
    "another tree": {"in/fdt": fdt(Node("", {"compatible": text("luo-v1")}))},
    "text": {"fdt": b"#!/bin/sh\n" * 100},
    "empty fdt": {"fdt": b""},
    "header only": {"out/fdt": root_file()[:40]},
    "half a header": {"out/fdt": root_file()[:20]},
    "too deep": {"a/b/c/d/e/f/g/in/fdt": root_file()},
}


@pytest.mark.parametrize("kind", NO_ROOTS)
def test_folder_without_a_root_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match="no `fdt` with a KHO root in this folder") as caught:
        luoser.open(write(tmp_path, NO_ROOTS[kind]))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("kho-in", Direction.INCOMING),
        ("kho_in", Direction.INCOMING),
        ("kho/in", Direction.INCOMING),
        ("host7.kho.out", Direction.OUTGOING),
        ("debug/kho/out", Direction.OUTGOING),
        ("outgoing", Direction.OUTGOING),
        ("window", Direction.UNKNOWN),
        ("route", Direction.UNKNOWN),
    ],
)
def test_folders_as_people_name_them(tmp_path: Path, name: str, direction: Direction) -> None:
    """The copy itself, and the folder in it."""
    write(tmp_path, {f"copy/{name}/fdt": root_file()})
    for place in (tmp_path / "copy", tmp_path / "copy" / name):
        (one,) = luoser.read(luoser.open(place)).handovers
        assert one.direction is direction


@pytest.mark.parametrize("names", [("scratch_phys", "scratch_len"), ("bootmem_phys", "bootmem_len")])
def test_scratch_areas_are_those_of_debugfs(tmp_path: Path, names: tuple[str, str]) -> None:
    said = boot_of("7.3-a/0")["debugfs"]
    debugfs(tmp_path, "7.3-a/0")
    for kind, name in zip(("scratch_phys", "scratch_len"), names, strict=True):
        (tmp_path / "out" / kind).rename(tmp_path / "out" / name)
    (one,) = luoser.read(luoser.open(tmp_path)).handovers
    starts, sizes = ([int(line, 0) for line in said[f"out/{kind}"].split()] for kind in ("scratch_phys", "scratch_len"))
    assert one.scratch is not None and len(starts) == 3
    assert [(area.address, area.size) for area in one.scratch] == list(zip(starts, sizes, strict=True))


def test_scratch_areas_of_a_kernel_that_shows_no_root_of_its_own(tmp_path: Path) -> None:
    """A kexec does not change them."""
    (one,) = luoser.read(luoser.open(debugfs(tmp_path, "7.3-a/1"))).handovers
    assert one.direction is Direction.INCOMING and one.scratch is not None and len(one.scratch) == 3


@pytest.mark.parametrize("wrong", ["0x1000", "0x1000 0x2000 0x3000 0x4000", "0x1000\nx\n0x2", "-1 -2 -3", ""])
def test_scratch_files_that_do_not_fit_are_not_used(tmp_path: Path, wrong: str) -> None:
    debugfs(tmp_path, "7.3-a/0")
    (tmp_path / "out" / "scratch_len").write_text(wrong)
    (one,) = luoser.read(luoser.open(tmp_path)).handovers
    assert one.scratch is None


@pytest.mark.parametrize("name", ["fdt", "sub_fdts/memblock"])
def test_link_out_of_the_copy_is_not_followed(tmp_path: Path, name: str) -> None:
    debugfs(tmp_path / "copy", "7.3-a/0")
    (tmp_path / "secret").write_bytes((tmp_path / "copy" / "out" / name).read_bytes())
    (tmp_path / "copy" / "out" / name).unlink()
    (tmp_path / "copy" / "out" / name).symlink_to(tmp_path / "secret")
    word = f"out/{name}: a link to a file outside of the folder; not read"
    if name == "fdt":
        with pytest.raises(SourceError, match=word):
            luoser.open(tmp_path / "copy")
        return
    state = luoser.read(luoser.open(tmp_path / "copy"))
    assert word in remarks(state) and state.handovers[0].memblock is None


def test_blobs_without_a_root_are_named(tmp_path: Path) -> None:
    """`out` of a kernel that was itself handed state."""
    state = luoser.read(luoser.open(debugfs(tmp_path, "7.3-a/1")))
    assert "out: no file `fdt`, so the addresses of LUO, kexec-metadata, memblock are unknown" in remarks(state)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link to nowhere", "device"])
def test_fdt_that_is_no_file(tmp_path: Path, kind: str) -> None:
    place = write(tmp_path, {"in/sub_fdts/LUO": b"x"}) / "in" / "fdt"
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to("/nonexistent" if kind == "link to nowhere" else "/dev/zero")
    with pytest.raises(SourceError):
        luoser.open(tmp_path)


def test_blob_that_is_no_file_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"in/fdt": root_file(a=0x7000, b=0x8000, c=0x9000), "in/sub_fdts/c": b"12345678"})
    os.mkfifo(tmp_path / "in/sub_fdts/a")
    (tmp_path / "in/sub_fdts/b").symlink_to("/dev/zero")
    memory = luoser.open(tmp_path)
    assert memory.read(0x9000, 8) == b"12345678"
    assert memory.page_state(0x7000) is memory.page_state(0x8000) is PageState.ABSENT


def test_endless_blob_is_bounded(tmp_path: Path) -> None:
    write(tmp_path, {"in/fdt": root_file(a=0x7000)})
    (tmp_path / "in/sub_fdts").mkdir()
    with (tmp_path / "in/sub_fdts/a").open("wb") as file:
        file.truncate(1 << 40)
    assert luoser.open(tmp_path).segments[0].size == 1 << 20


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "\u202eevil", "[bold]", "\udcff", "x" * 200])
def test_hostile_names_reach_nobody_raw(tmp_path: Path, name: str) -> None:
    files = {f"in/sub_fdts/{name}": b"12345678", "in/sub_fdts/loose \x1b[2J": b"x"}
    write(tmp_path, files | {"in/fdt": fdt(Node("", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}, [
        Node("ok", {"preserved-data": u64(0x7000)})]))})  # fmt: skip
    for option in ([], ["--format", "json"]):
        result = CliRunner().invoke(cli, ["inspect", str(tmp_path), *option], catch_exceptions=False)
        assert result.exit_code == 0
        assert {byte for byte in result.stdout_bytes if byte < 0x20} <= {0x0A}
        assert "\u202e".encode() not in result.stdout_bytes


def test_name_with_bytes_that_are_no_utf_8_finds_its_blob(tmp_path: Path) -> None:
    data = root_file(aXb=0x7000).replace(b"aXb", b"a\xffb")
    write(tmp_path, {"in/fdt": data, "in/sub_fdts/a\udcffb": b"12345678"})
    assert luoser.open(tmp_path).read(0x7000, 8) == b"12345678"


def test_blobs_that_claim_one_address(tmp_path: Path) -> None:
    write(
        tmp_path, {"in/fdt": root_file(a=0x7000, b=0x7004), "in/sub_fdts/a": b"aaaaaaaa", "in/sub_fdts/b": b"bbbbbbbb"}
    )
    memory = luoser.open(tmp_path)
    assert memory.read(0x7000, 12) == b"aaaaaaaabbbb"
    assert any("overlaps" in remark for remark in memory.remarks)


@pytest.mark.parametrize("address", [(1 << 64) - 4, 0, 1 << 60, 1 << 52])
def test_blob_at_an_address_that_cannot_be(tmp_path: Path, address: int) -> None:
    write(tmp_path, {"in/fdt": root_file(a=address), "in/sub_fdts/a": b"aaaaaaaa"})
    state = luoser.read(luoser.open(tmp_path))
    assert only(state).subtrees[0].address in (None, address)
    assert f"{SCRATCHED:x}" not in only(state).evidence[0]


def test_root_of_a_version_that_cannot_be_is_told_without_a_made_up_address(tmp_path: Path) -> None:
    write(tmp_path, {"in/fdt": root_file(b"kho-v4x\0")})
    state = luoser.read(luoser.open(tmp_path))
    assert state.handovers == ()
    (problem,) = problems(state, "no-root")
    assert problem.address is None and f"{SCRATCHED:x}" not in problem.message


def test_files_whose_size_is_said_to_be_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As debugfs says of every blob: the folder is read all the same, and so is the single file."""
    debugfs(tmp_path, "7.3-chain/1")
    wanted: Handover = only(luoser.read(luoser.open(tmp_path / "in" / "fdt")))
    true_fstat, number = os.fstat, (tmp_path / "in" / "fdt").stat().st_ino

    def without_size(descriptor: int) -> os.stat_result:
        found = true_fstat(descriptor)
        return os.stat_result((*found[:6], 0, *found[7:10])) if found.st_ino == number else found

    monkeypatch.setattr(os, "fstat", without_size)
    memory: Memory = luoser.open(tmp_path / "in" / "fdt")
    assert only(luoser.read(memory)).subtrees == wanted.subtrees


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (debugfs(tmp_path, "7.3-a/1") / "in" / "sub_fdts").chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        luoser.open(tmp_path)


@pytest.mark.parametrize("side", ["in", "out"])
def test_copies_of_two_machines_are_not_mixed(tmp_path: Path, side: str) -> None:
    for host in ("a", "b"):
        folder = tmp_path / host / "kho" / side
        folder.mkdir(parents=True)
        (folder / "fdt").write_bytes(root_file())
        with luoser.open(tmp_path / host) as memory:
            assert len(memory.known_roots) == 1
    with pytest.raises(SourceError, match=rf"several machines or boots, .*a/kho/{side} and .*b/kho/{side}; give one"):
        luoser.open(tmp_path)


@pytest.mark.parametrize("name", ["plug-in", "built-in", "check-out", "in-kernel-7.3-out"])
def test_a_word_of_another_name_says_nothing_of_the_direction(tmp_path: Path, name: str) -> None:
    assert module._side(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "side"), [("in", True), ("kho-in", True), ("KHO_out", False), ("host7.kho.out", False)]
)
def test_folders_that_are_named_for_a_direction(tmp_path: Path, name: str, side: bool) -> None:
    assert module._side(tmp_path / name) is side


def test_folder_of_blobs_that_is_a_link_out_of_the_copy_is_not_listed(tmp_path: Path) -> None:
    debugfs(tmp_path / "copy", "7.3-a/0")
    (tmp_path / "copy/out/sub_fdts").rename(tmp_path / "elsewhere")
    (tmp_path / "copy/out/sub_fdts").symlink_to(tmp_path / "elsewhere")
    state = luoser.read(luoser.open(tmp_path / "copy"))
    assert "out/sub_fdts: a link to a file outside of the folder; not read" in remarks(state)
    assert state.handovers[0].memblock is None


def test_files_beyond_the_limit_are_said(tmp_path: Path) -> None:
    write(tmp_path, {"in/fdt": root_file(a=0x7000, b=0x8000), "in/sub_fdts/a": b"a", "in/sub_fdts/b": b"b"})
    with limited(Limits(folder_files=1)):
        memory = luoser.open(tmp_path)
    assert any("in/sub_fdts: truncated: only the first 1 of 2 files are read" in remark for remark in memory.remarks)
    assert any("--limit folder_files=N" in remark for remark in memory.remarks)
    assert memory.read(0x7000, 1) == b"a" and memory.page_state(0x8000) is PageState.ABSENT


def test_folders_beyond_the_limit_are_said(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"", "in/fdt": root_file(a=0x7000)})
    with limited(Limits(folder_files=1)), pytest.raises(SourceError, match="folder_files=N"):
        luoser.open(tmp_path)


def test_blob_above_the_limit_is_cut_with_a_remark(tmp_path: Path) -> None:
    blob = debugfs(tmp_path, "7.3-a/1") / "in" / "sub_fdts" / "memblock"
    blob.write_bytes(blob.read_bytes() + bytes(600))
    with limited(Limits(blob_size=600)):
        state = luoser.read(luoser.open(tmp_path))
    assert "truncated: only the first 600 bytes are read; --limit blob_size=N" in remarks(state)


def test_links_to_one_large_file_are_not_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"in/fdt": root_file(a=0x7000), "in/blob": b"x" * 3000})
    (tmp_path / "in" / "sub_fdts").mkdir()
    names = ("a", "b", "c", "d", "e")
    for name in names:
        (tmp_path / "in" / "sub_fdts" / name).symlink_to("../blob")
    opened, plain = list[str](), Path.open

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path.name)
        return plain(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    with limited(Limits(folder_bytes=7000)):
        memory = luoser.open(tmp_path)
    assert [name for name in opened if name in names] == ["a", "b", "c"]
    (said,) = (remark for remark in memory.remarks if "folder_bytes" in remark)
    assert said.startswith("truncated: in/sub_fdts/c: not read, nor any after it") and "--limit folder_bytes=N" in said
    assert memory.read(0x7000, 3000) == b"x" * 3000
