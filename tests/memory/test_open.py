# SPDX-License-Identifier: MIT
"""Opening files of every kind, through the library and through the command."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import luoser
from luoser.errors import SourceError, UsageError
from luoser.memory.source import Memory
from tests import real
from tests.conftest import Run
from tests.images import Image
from tests.memory.trees import debugfs
from tests.reader.messengers import setup_node

NAME = "7.3-a/frozen"
ELF = lzma.decompress(real.path(NAME).read_bytes())


def raw_image() -> bytes:
    """The same memory as a flat image, as far as it is small."""
    end = 32 << 20
    image = bytearray(end)
    for segment in real.dump(NAME).segments:
        if segment.end <= end:
            image[segment.start : segment.end] = real.dump(NAME).read(segment.start, segment.size)
    return bytes(image)


def same_memory(memory: Memory) -> bool:
    return all(
        memory.read(segment.start, segment.size) == real.dump(NAME).read(segment.start, segment.size)
        for segment in real.dump(NAME).segments
    )


# -- what can be read --

READABLE = {
    "core.elf": ELF,
    "core.elf.xz": lzma.compress(ELF, preset=0),
    "core.elf.gz": gzip.compress(ELF, 1),
    "two-streams.xz": lzma.compress(ELF[:4096], preset=0) + lzma.compress(ELF[4096:], preset=0),
}


@pytest.mark.parametrize("file", READABLE)
def test_packed_and_plain_files_hold_the_same_memory(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(READABLE[file])
    memory = luoser.open(tmp_path / file)
    assert memory.format == "elf"
    assert same_memory(memory)
    assert memory.path == str(tmp_path / file)


@pytest.mark.parametrize("file", READABLE)
def test_format_is_known_by_content_and_not_by_name(tmp_path: Path, file: str) -> None:
    (tmp_path / "x.txt").write_bytes(READABLE[file])
    assert luoser.open(tmp_path / "x.txt").format == "elf"


def test_raw_image_of_a_real_machine(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(raw_image())
    memory = luoser.open(tmp_path / "image")
    assert memory.format == "raw"
    (handover,) = luoser.read(memory).handovers
    assert f"{handover.address:#x}" == real.document(NAME)["handovers"][0]["address"]


def test_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(ELF)
    assert luoser.open(str(tmp_path / "core")).path == str(tmp_path / "core")


def test_opening_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "core.xz"
    file.write_bytes(READABLE["core.elf.xz"])
    file.chmod(0o400)
    before = file.stat().st_mtime_ns
    luoser.read(luoser.open(file))
    assert file.stat().st_mtime_ns == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["core.xz"]


def roots_of(result: subprocess.CompletedProcess[bytes]) -> list[str]:
    assert (result.returncode, result.stderr) == (0, b"")
    return [handover["address"] for handover in json.loads(result.stdout)["handovers"]]


ROOTS = [handover["address"] for handover in real.document(NAME)["handovers"]]


@pytest.mark.parametrize("file", READABLE)
def test_command_reads_packed_and_plain_files(tmp_path: Path, luoser_command: Run, file: str) -> None:
    (tmp_path / file).write_bytes(READABLE[file])
    assert roots_of(luoser_command("inspect", tmp_path / file, "--format", "json")) == ROOTS


def test_command_reads_standard_input(luoser_process: Run) -> None:
    result = luoser_process("inspect", "-", "--format", "json", input=ELF)
    assert roots_of(result) == ROOTS
    assert json.loads(result.stdout)["source"]["path"] == "-"


@pytest.mark.parametrize("file", ["core.elf.xz", "core.elf.gz"])
def test_command_unpacks_standard_input(luoser_process: Run, file: str) -> None:
    assert roots_of(luoser_process("inspect", "-", "--format", "json", input=READABLE[file])) == ROOTS


@contextmanager
def fifo(tmp_path: Path, data: bytes, delay: float) -> Iterator[Path]:
    """A FIFO that another process writes data to."""
    (tmp_path / "data").write_bytes(data)
    path = tmp_path / "fifo"
    os.mkfifo(path)
    script = f"import time; time.sleep({delay}); data = open('data', 'rb').read(); open('fifo', 'wb').write(data)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL) as writer:
        try:
            yield path
        finally:
            writer.kill()


def test_fifo_whose_writer_comes_later_is_read(tmp_path: Path) -> None:
    with fifo(tmp_path, ELF, 0.5) as path:
        assert same_memory(luoser.open(path))


def test_pipe_by_its_name_is_read(tmp_path: Path, luoser_process: Run) -> None:
    """What a shell's <(...) gives."""
    (tmp_path / "data").write_bytes(ELF)
    with subprocess.Popen(["cat", str(tmp_path / "data")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        number = writer.stdout.fileno()
        result = luoser_process("inspect", f"/dev/fd/{number}", "--format", "json", pass_fds=[number])
    assert roots_of(result) == ROOTS


# -- what cannot --

XZ, GZ = READABLE["core.elf.xz"], READABLE["core.elf.gz"]
UNREADABLE = {
    "empty": (b"", "empty"),
    "header-only.xz": (XZ[:6], "truncated: the packed file ends early, after 0x0 unpacked bytes"),
    "flipped.xz": (XZ[:2000] + bytes([XZ[2000] ^ 0xFF]) + XZ[2001:], "packed file damaged"),
    "flipped.gz": (GZ[:2000] + bytes([GZ[2000] ^ 0xFF]) + GZ[2001:], "packed file damaged"),
    "empty.xz": (lzma.compress(b""), "empty"),
    "text.txt": (b"just some text\n" * 100, "unknown dump format"),
    "odd-size": (bytes(4096 * 4 + 1), "unknown dump format"),
    "one-page": (bytes(4096), "unknown dump format"),
    # a magic, but then not what the format requires
    "kdump": (b"KDUMP   ".ljust(16384, b"\0"), ""),
    "flattened": (b"makedumpfile".ljust(16384, b"\0"), ""),
    "lime": (b"EMiL".ljust(16384, b"\0"), ""),
    "avml": (b"AVML".ljust(16384, b"\0"), ""),
    "migration": (b"QEVM".ljust(16384, b"\0"), "dump-guest-memory"),
    "virsh-save": (b"LibvirtQemudSave".ljust(16384, b"\0"), "virsh dump --memory-only"),
    "dtb": (b"\xd0\x0d\xfe\xed".ljust(16384, b"\0"), "devicetree"),
    "escape\x1b[31m": (b"", "empty"),
    "elf-header": (ELF[:32], "ELF"),
    "elf32": (b"\x7fELF\1\1\1" + ELF[7:], "32-bit"),
    "elf-big-endian": (b"\x7fELF\2\2\1" + ELF[7:], "big-endian"),
}


@pytest.mark.parametrize("file", UNREADABLE)
def test_file_that_is_no_memory_is_refused_in_one_line(tmp_path: Path, file: str) -> None:
    data, word = UNREADABLE[file]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(SourceError) as caught:
        luoser.open(tmp_path / file)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()


def assert_refused(result: subprocess.CompletedProcess[bytes], code: int = 2) -> str:
    """One line on stderr that starts with luoser:, nothing on stdout."""
    stderr = result.stderr.decode()
    assert (result.returncode, result.stdout) == (code, b""), stderr
    assert stderr.startswith("luoser: ")
    assert stderr.endswith("\n") and stderr[:-1].isprintable()
    return stderr


@pytest.mark.parametrize(
    "file", ["empty", "header-only.xz", "flipped.gz", "text.txt", "escape\x1b[31m", "elf32", "kdump", "lime"]
)
def test_command_refuses_a_file_in_one_line(tmp_path: Path, luoser_command: Run, file: str) -> None:
    data, word = UNREADABLE[file]
    (tmp_path / file).write_bytes(data)
    assert word in assert_refused(luoser_command("inspect", tmp_path / file))


def test_command_refuses_a_folder_without_debugfs_blobs(tmp_path: Path, luoser_command: Run) -> None:
    assert "expected a copy of /sys/kernel/debug/kho" in assert_refused(luoser_command("inspect", tmp_path))


def test_command_refuses_a_missing_file(tmp_path: Path, luoser_process: Run) -> None:
    assert "No such file" in assert_refused(luoser_process("inspect", tmp_path / "nothing"))


def test_command_refuses_an_empty_path(luoser_command: Run) -> None:
    assert_refused(luoser_command("inspect", ""))


def test_command_refuses_empty_standard_input(luoser_process: Run) -> None:
    assert "standard input" in assert_refused(luoser_process("inspect", "-", input=b""))


def test_command_refuses_text_on_standard_input(luoser_command: Run) -> None:
    assert "unknown dump format" in assert_refused(luoser_command("inspect", "-", input=b"text\n" * 10))


def test_command_refuses_closed_standard_input(luoser_process: Run) -> None:
    assert_refused(luoser_process("inspect", "-", stdin=None, preexec_fn=lambda: os.close(0)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_command_refuses_a_file_without_permission(tmp_path: Path, luoser_process: Run) -> None:
    (tmp_path / "secret").write_bytes(ELF)
    (tmp_path / "secret").chmod(0)
    assert "Permission denied" in assert_refused(luoser_process("inspect", tmp_path / "secret"))


@pytest.mark.parametrize("command", ["inspect", "pci", "map"])
def test_image_of_zeros_has_no_state_and_exits_3(tmp_path: Path, luoser_command: Run, command: str) -> None:
    """If it is called an image of memory; else nothing shows that it is one."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(64 << 20)
    assert "unknown dump format" in assert_refused(luoser_command(command, tmp_path / "zeros"))
    for options in (["--raw"], ["--base", "0x100000000"], ["--map", "0:0x1000000@0"], ["--pc-hole", "0x1000000"]):
        assert "no KHO root" in assert_refused(luoser_command(command, tmp_path / "zeros", *options), 3)


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_setup_data_shows_that_a_file_is_an_image_of_memory(tmp_path: Path, luoser_command: Run, command: str) -> None:
    image = Image()
    image.alloc(bytes(0xD0) + setup_node(image.alloc(bytes(4096)), image.alloc(bytes(4096)), 48))
    (tmp_path / "image").write_bytes(bytes(image.data))
    result = luoser_command(command, tmp_path / "image")
    assert result.returncode == {"inspect": 3, "check": 4}[command]
    assert b"expected a KHO root" in result.stderr and b"no KHO root in this raw source" in result.stderr


def test_any_file_is_a_raw_image_if_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(ELF[:5000])
    with luoser.open(tmp_path / "image", raw=True) as memory:
        assert (memory.format, memory.read(0, 4)) == ("raw", b"\x7fELF")
    with pytest.raises(UsageError, match="raw is for a file, not for a debugfs source"):
        luoser.open(debugfs(tmp_path, "7.3-a/0"), raw=True)
    with pytest.raises(UsageError, match="raw is for a single file"):
        luoser.open(tmp_path / "image", tmp_path / "image", raw=True)


def test_command_refuses_a_root_that_is_none(luoser_command: Run) -> None:
    assert "0x1000" in assert_refused(luoser_command("inspect", real.path(NAME), "--root", "0x1000"))


def test_command_refuses_an_unknown_layout(luoser_command: Run) -> None:
    assert "no-such" in assert_refused(luoser_command("inspect", real.path(NAME), "--layout", "no-such"))


@pytest.mark.parametrize("kind", ["raw", "elf"])
def test_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "dump"
    place.write_bytes(raw_image() if kind == "raw" else ELF)
    with luoser.open(place) as memory:
        start = memory.segments[0].start
        memory.read(start, 4096)
        os.truncate(place, 4096)
        for look in (
            lambda: memory.read(start, 4096),
            lambda: list(memory.find(b"kho-v")),
            lambda: list(memory.find_pages(b"\xd0\x0d\xfe\xed")),
            lambda: luoser.read(memory),
        ):
            with pytest.raises(SourceError, match=r"dump: became shorter while it was read: expected .* found 4096"):
                look()
