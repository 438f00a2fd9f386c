# SPDX-License-Identifier: MIT
"""`luoser extract`: cuts that inspect alike, memfds put together, and files that nobody loses."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from elftools.elf.elffile import ELFFile

import luoser
from luoser.cli.main import cli
from luoser.errors import UsageError
from luoser.extracts.core import write_core
from luoser.text import safe_text
from tests import real, salvage
from tests.conftest import Run
from tests.extracts.test_memfd import SEALED
from tests.memory import writers

FROZEN = "7.3-a/frozen"
each_dump = pytest.mark.parametrize("name", real.DUMPS)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [os.fspath(entry) for entry in arguments], catch_exceptions=False)


def extract(*arguments: str | Path) -> str:
    result = invoke("extract", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def inspected(path: Path, *options: str) -> dict[str, Any]:
    result = invoke("inspect", path, "--full", "--contents", "--format", "json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    del found["source"]
    return found


def names(place: Path) -> list[str]:
    return sorted(entry.name for entry in place.iterdir())


# -- cuts --------------------------------------------------------------------------------------------------


@each_dump
def test_cut_inspects_like_the_original(tmp_path: Path, name: str) -> None:
    target = tmp_path / "small.elf"
    said = extract(real.path(name), "-o", target)
    assert str(target) in said and "pages" in said
    assert target.stat().st_size < 4 << 20
    assert inspected(target) == inspected(real.path(name))
    elf: Any = ELFFile(io.BytesIO(target.read_bytes()))
    assert elf["e_type"] == "ET_CORE"
    assert names(tmp_path) == ["small.elf"]


@pytest.mark.parametrize("command", ["pci", "map", "inspect"])
def test_other_commands_say_the_same_of_a_cut(tmp_path: Path, command: str) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "cut")
    first, second = invoke(command, real.path(FROZEN)), invoke(command, tmp_path / "cut")
    assert first.output.replace(str(real.path(FROZEN)), "X") == second.output.replace(str(tmp_path / "cut"), "X")


@pytest.mark.parametrize("kind", ["kdump", "lime", "avml"])
def test_cut_of_other_formats(tmp_path: Path, kind: str) -> None:
    memory = real.dump(FROZEN)
    spans = [(part.start, memory.read(part.start, part.size)) for part in memory.segments]
    pages = {start // 4096 + at: data[at * 4096 :][:4096] for start, data in spans for at in range(len(data) // 4096)}
    data = {
        "kdump": lambda: writers.kdump(pages),
        "lime": lambda: writers.lime(spans),
        "avml": lambda: writers.avml(spans),
    }
    (tmp_path / "dump").write_bytes(data[kind]())
    extract(tmp_path / "dump", "-o", tmp_path / "cut")
    assert inspected(tmp_path / "cut") == inspected(tmp_path / "dump")


def test_cut_of_split_files(tmp_path: Path) -> None:
    memory = real.dump(FROZEN)
    pages = {
        address // 4096: memory.read(address, 4096)
        for part in memory.segments
        for address in range(part.start, part.end, 4096)
    }
    for number, data in enumerate(writers.kdump_set(pages, [0, 0x1800, 0x40000])):
        (tmp_path / f"part-{number}").write_bytes(data)
    extract(tmp_path / "part-1", tmp_path / "part-0", "-o", tmp_path / "cut")
    found = inspected(tmp_path / "cut")
    assert found["handovers"] == inspected(real.path(FROZEN))["handovers"]


def test_one_root_of_two(tmp_path: Path) -> None:
    name = "7.3-chain/frozen2"
    for handover in real.document(name)["handovers"]:
        target, root = tmp_path / handover["address"], ("--root", handover["address"])
        extract(real.path(name), "-o", target, *root)
        assert inspected(target, *root) == inspected(real.path(name), *root)


def test_truncated_dump_is_cut_as_far_as_it_goes(tmp_path: Path) -> None:
    import lzma

    whole = lzma.decompress(real.path(FROZEN).read_bytes())
    (tmp_path / "dump").write_bytes(whole[: len(whole) * 2 // 3 // 4096 * 4096])
    extract(tmp_path / "dump", "-o", tmp_path / "cut")
    assert inspected(tmp_path / "cut")["handovers"] == inspected(tmp_path / "dump")["handovers"]


# -- memfds ------------------------------------------------------------------------------------------------


def test_memfd_comes_out(tmp_path: Path) -> None:
    said = extract(real.path(FROZEN), "-o", tmp_path / "sealed", "--memfd", "vm-web-01/0x1b")
    data = (tmp_path / "sealed").read_bytes()
    assert data == SEALED and len(data) == 64 << 10
    assert "sha256" in said
    assert (tmp_path / "sealed").stat().st_mode & 0o111 == 0


def test_name_with_escape_characters_by_its_shown_form(tmp_path: Path) -> None:
    luo = real.read(FROZEN).handovers[0].luo
    assert luo is not None
    shown = next(safe_text(session.name) for session in luo.sessions if "\x1b" in session.name)
    assert shown in invoke("inspect", real.path(FROZEN)).output.replace("\n", " ")
    said = extract(real.path(FROZEN), "-o", tmp_path / "out", "--memfd", f"{shown}/0xffffffffffffffff")
    assert said.rstrip("\n").isprintable()
    assert names(tmp_path) == ["out"], "the name of the session is no path"
    assert (tmp_path / "out").stat().st_size == 4096


@pytest.mark.parametrize("wanted", ["vm-web-01/0x1a", "vm-web-01/0x99", "nobody/0x1b", "vm-web-01", "x\x1b[31m/1"])
def test_memfd_that_cannot_be_made_leaves_no_file(tmp_path: Path, luoser_command: Run, wanted: str) -> None:
    """0x1a: its folios are not in the cut dump."""
    result = luoser_command("extract", real.path(FROZEN), "-o", tmp_path / "out", "--memfd", wanted)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"luoser: ") and result.stderr.decode()[:-1].isprintable()
    assert names(tmp_path) == []


def test_missing_folio_keeps_the_file_that_was_there(tmp_path: Path, luoser_command: Run) -> None:
    (tmp_path / "out").write_bytes(b"old")
    result = luoser_command(
        "extract", real.path(FROZEN), "-o", tmp_path / "out", "--memfd", "vm-web-01/0x1a", "--force"
    )
    assert result.returncode == 2
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


# -- blobs -------------------------------------------------------------------------------------------------


def test_blob_of_a_node_comes_out(tmp_path: Path) -> None:
    said = extract(real.path(FROZEN), "-o", tmp_path / "folio", "--blob", "pci[0]")
    assert (tmp_path / "folio").stat().st_size == 4096
    assert said.startswith(f"{tmp_path}/folio: 4096 bytes at 0x") and "sha256" in said
    assert (tmp_path / "folio").stat().st_mode & 0o111 == 0


def test_blob_is_what_decode_takes(tmp_path: Path) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "blob", "--blob", "subtrees[pci-luo-lab]")
    assert "0000:41:00.0" in invoke("decode", tmp_path / "blob").output


@pytest.mark.parametrize(
    "where",
    ["pci[99]", "luo.sessions[\x1b[31m]", "nonsense", "0x1000", "luo.number", "../../etc/passwd", "", "0x" + "f" * 99],
)
def test_blob_that_is_not_there_leaves_no_file(tmp_path: Path, luoser_command: Run, where: str) -> None:
    result = luoser_command("extract", real.path(FROZEN), "-o", tmp_path / "out", "--blob", where)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"luoser: ") and result.stderr.decode()[:-1].isprintable()
    assert names(tmp_path) == []


def test_blob_and_memfd_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--memfd and --blob exclude each other"):
        invoke("extract", real.path(FROZEN), "-o", tmp_path / "out", "--blob", "luo", "--memfd", "vm-web-01/0x1b")
    assert names(tmp_path) == []


def test_blob_of_one_root_of_two(tmp_path: Path) -> None:
    name = real.path("7.3-chain/frozen2")
    for handover in real.document("7.3-chain/frozen2")["handovers"]:
        place = handover["address"]
        extract(name, "-o", tmp_path / place, "--root", place, "--blob", "root")
        data = (tmp_path / place).read_bytes()
        extract(name, "-o", tmp_path / "again", "--force", "--blob", f"handovers[{place}]")
        assert (tmp_path / "again").read_bytes() == data and data.startswith(b"\xd0\x0d\xfe\xed")


# -- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--memfd", "vm-web-01/0x1b"], ["--blob", "preserved"]])
def test_existing_file_is_replaced_on_request_only(tmp_path: Path, luoser_command: Run, options: list[str]) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    result = luoser_command("extract", real.path(FROZEN), "-o", target, *options)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"--force" in result.stderr
    assert target.read_bytes() == b"old"
    extract(real.path(FROZEN), "-o", target, "--force", *options)
    assert target.stat().st_size >= 4096
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_symbolic_link_is_not_followed(tmp_path: Path, luoser_command: Run, force: list[str]) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "out").symlink_to("precious")
    result = luoser_command("extract", real.path(FROZEN), "-o", tmp_path / "out", *force)
    assert result.returncode == (0 if force else 2)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "out").is_symlink() is not bool(force)


def small_dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump"
    path.write_bytes(real.path(FROZEN).read_bytes())
    return path


def test_input_is_not_overwritten(tmp_path: Path, luoser_command: Run) -> None:
    path = small_dump(tmp_path)
    before = path.read_bytes()
    assert luoser_command("extract", path, "-o", path).returncode == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["same name", "other name", "hard link"])
def test_input_is_not_overwritten_by_force(tmp_path: Path, luoser_command: Run, how: str) -> None:
    path = small_dump(tmp_path)
    before, target = path.read_bytes(), path
    if how == "other name":
        target = tmp_path / "." / ".." / tmp_path.name / "dump"
    elif how == "hard link":
        target = tmp_path / "link"
        os.link(path, target)
    assert luoser_command("extract", path, "-o", target, "--force").returncode == 2
    assert target.read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--memfd", "vm-web-01/0x1b"]])
def test_failed_write_leaves_nothing_behind(tmp_path: Path, luoser_process: Run, options: list[str]) -> None:
    """A limit on the size of files stands for a full disk."""

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    (tmp_path / "place").mkdir()
    import lzma

    (tmp_path / "dump").write_bytes(lzma.decompress(real.path(FROZEN).read_bytes()))
    result = luoser_process("extract", tmp_path / "dump", "-o", tmp_path / "place" / "out", *options, preexec_fn=limit)
    assert result.returncode == 2
    assert result.stderr.startswith(b"luoser: ") and result.stderr.count(b"\n") == 1
    assert names(tmp_path / "place") == []


def test_directory_that_is_not_there(tmp_path: Path, luoser_command: Run) -> None:
    result = luoser_command("extract", real.path(FROZEN), "-o", tmp_path / "no" / "out")
    assert result.returncode == 2
    assert result.stderr.startswith(b"luoser: ") and result.stderr.count(b"\n") == 1


def test_source_without_a_root_makes_no_file(tmp_path: Path, luoser_process: Run) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    result = luoser_process("extract", "--raw", tmp_path / "zeros", "-o", tmp_path / "out")
    assert (result.returncode, result.stdout) == (3, b"")
    assert names(tmp_path) == ["zeros"]


def test_output_has_to_be_named(luoser_command: Run) -> None:
    assert luoser_command("extract", real.path(FROZEN)).returncode == 2


def test_target_is_shown_safely(tmp_path: Path) -> None:
    said = extract(real.path(FROZEN), "-o", tmp_path / "a\x1b[31m")
    assert said[:-1].isprintable()
    assert names(tmp_path) == ["a\x1b[31m"]


def test_unknown_layout_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        invoke("extract", real.path(FROZEN), "-o", tmp_path / "out", "--layout", "no-such")
    assert names(tmp_path) == []


def test_a_cut_of_a_cut_is_that_cut_and_takes_its_pages_for_no_ram(tmp_path: Path) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "once")
    extract(tmp_path / "once", "-o", tmp_path / "twice")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()
    with luoser.open(tmp_path / "once") as memory:
        assert memory.ram == memory.known_ram == ()


@pytest.mark.parametrize(
    ("suffix", "unpack"), [("xz", lzma.decompress), ("gz", gzip.decompress), ("bz2", bz2.decompress)]
)
def test_core_is_compressed_as_its_name_says(tmp_path: Path, suffix: str, unpack: Callable[[bytes], bytes]) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "x.elf")
    extract(real.path(FROZEN), "-o", tmp_path / f"x.elf.{suffix}")
    packed = (tmp_path / f"x.elf.{suffix}").read_bytes()
    assert unpack(packed) == (tmp_path / "x.elf").read_bytes()
    extract(real.path(FROZEN), "-o", tmp_path / f"y.elf.{suffix}")
    assert (tmp_path / f"y.elf.{suffix}").read_bytes() == packed


def test_large_folios_of_the_self_test_are_left_out(tmp_path: Path) -> None:
    """A kernel with 64 KiB pages makes folios of 128 MiB."""
    folios = [("0x5000000", 1, "61" * 8192), ("0x6000000", 5, "62" * (4096 << 5))]
    test = {
        "folios": [[address, order] for address, order, _ in folios],
        "contents": [{"address": a, "size": hex(4096 << order), "bytes": data} for a, order, data in folios],
    }
    (tmp_path / "spec.json").write_text(json.dumps({"handovers": [{"kho_test": test}]}))
    assert invoke("build", tmp_path / "spec.json", "-o", tmp_path / "whole.elf").exit_code == 0
    extract(tmp_path / "whole.elf", "-o", tmp_path / "cut.elf")
    luoser.extract(tmp_path / "whole.elf", tmp_path / "same.elf")
    assert (tmp_path / "same.elf").read_bytes() == (tmp_path / "cut.elf").read_bytes()
    kept = []
    for name in ("whole.elf", "cut.elf"):
        with luoser.open(tmp_path / name) as memory:
            (handover,) = luoser.read(memory, contents=True).handovers
            assert handover.kho_test is not None and len(handover.kho_test.folios) == 2
            kept.append([(piece.address, piece.data) for piece in handover.kho_test.contents])
    assert [address for address, _ in kept[0]] == [0x5000000, 0x6000000]
    assert kept[1] == kept[0][:1]


# -- without contents --------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(b"a long random key \xff\n")
    return path


def test_the_key_of_names_is_in_a_file(tmp_path: Path, key: Path) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "one", "--hash-names", key)
    luoser.extract(real.path(FROZEN), tmp_path / "two", hash_names="a long random key \udcff")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_cut_says_that_it_has_no_contents_and_no_names(tmp_path: Path, key: Path) -> None:
    said = extract(real.path(FROZEN), "-o", tmp_path / "cut.elf.xz", "--hash-names", key)
    assert "without contents" in said and "names of sessions" in said
    head = invoke("inspect", tmp_path / "cut.elf.xz", "--summary").output.splitlines()[:4]
    assert [line.split()[0] for line in head[1:]] == ["remark", "remark", "verdict"]
    assert "without contents" in head[1] and "are hashes" in head[2]
    found = invoke("inspect", tmp_path / "cut.elf.xz", "--format", "json")
    assert len(json.loads(found.stdout)["source"]["left_out"]) == 2
    checked = invoke("check", tmp_path / "cut.elf.xz", "--format", "json")
    assert checked.exit_code == 0 and len(json.loads(checked.stdout)["remarks"]) == 2


def test_without_contents_by_the_command_and_by_the_function(tmp_path: Path) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "one", "--no-contents")
    luoser.extract(real.path(FROZEN), tmp_path / "two", no_contents=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("part", [["--memfd", "vm-web-01/0x1b"], ["--blob", "luo"]])
@pytest.mark.parametrize("option", ["--no-contents", "--hash-names"])
def test_only_a_core_can_be_without_contents(tmp_path: Path, part: list[str], option: str, key: Path) -> None:
    options = [option, key] if option == "--hash-names" else [option]
    with pytest.raises(UsageError, match="are for a core"):
        invoke("extract", real.path(FROZEN), "-o", tmp_path / "out", *part, *options)
    assert names(tmp_path) == []


def test_an_empty_key_is_refused(tmp_path: Path, key: Path) -> None:
    key.write_text("\n")
    with pytest.raises(UsageError, match=r"the key can be guessed.*found 0"):
        invoke("extract", real.path(FROZEN), "-o", tmp_path / "out", "--hash-names", key)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "part", [["--memfd", "vm-web-01/0x1b"], ["--blob", "0x0"], ["--blob", "pci[0].devices[0].driver_data"]]
)
def test_contents_do_not_come_out_of_a_cut_without_them(tmp_path: Path, part: list[str]) -> None:
    extract(real.path(FROZEN), "-o", tmp_path / "cut", "--no-contents")
    with pytest.raises(UsageError):
        invoke("extract", tmp_path / "cut", "-o", tmp_path / "out", *part)
    assert names(tmp_path) == ["cut"]


def test_a_memfd_by_its_address_needs_no_root(tmp_path: Path) -> None:
    said = extract(salvage.SALVAGED / "7.3-whole" / "post.elf.xz", "-o", tmp_path / "file", "--memfd", "@0x44e0000")
    assert "5000 bytes" in said
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() in said.replace("\n", "")
    memory = salvage.damaged("7.3-a", "frozen", "zeros")
    pages = [page for one in memory.segments for page in range(one.start, one.start + one.stored, 4096)]
    with (tmp_path / "core").open("wb") as file:
        write_core(file, memory, pages)
    extract(tmp_path / "core", "-o", tmp_path / "sealed", "--memfd", "0x1a98000")
    assert (tmp_path / "sealed").read_bytes() == SEALED
    result = invoke("extract", tmp_path / "core", "-o", tmp_path / "none", "--memfd", "vm-web-01/0x1b")
    assert result.exit_code == 3
