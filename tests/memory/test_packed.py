# SPDX-License-Identifier: MIT
"""Packed dumps: read whole, as far as they go, and not at all if they are damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import luoser
from luoser.checks import Verdict, check
from luoser.errors import SourceError
from luoser.limits import Limits, limited
from luoser.memory.file import read_file
from tests import real

DATA = lzma.decompress(real.path("7.3-a/frozen").read_bytes())
PACK: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=0),
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": lambda data: bz2.compress(data, 1),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def zst_of_a_pipe(data: bytes) -> bytes:
    """Without its size, which `zstd` does not know of a pipe."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


PACK["zst of a pipe"] = zst_of_a_pipe


@pytest.mark.parametrize("kind", PACK)
def test_packed_dump(kind: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(PACK[kind](DATA))
    with luoser.open(tmp_path / "dump") as memory:
        assert (memory.format, memory.remarks) == ("elf", [])
        assert check(luoser.read(memory)).verdict is Verdict.SOUND


@pytest.mark.parametrize("kind", PACK)
def test_two_streams_are_one_dump(kind: str, tmp_path: Path) -> None:
    half = len(DATA) // 2
    (tmp_path / "dump").write_bytes(PACK[kind](DATA[:half]) + PACK[kind](DATA[half:]))
    assert read_file(tmp_path / "dump", limit="list_size") == DATA


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_cut_off_dump_is_read_as_far_as_it_goes(kind: str, part: float, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(1 << 20)  # more than one block of each kind
    packed = PACK[kind](DATA + noise + DATA)
    (tmp_path / "dump").write_bytes(packed[: int(len(packed) * part)])
    with luoser.open(tmp_path / "dump") as memory:
        assert memory.remarks[0].startswith("truncated: the packed file ends early, after 0x")
        size = int(memory.remarks[0].split()[-3], 0)
        assert size > len(DATA) * part / 2
        assert check(luoser.read(memory)).verdict is Verdict.INCONCLUSIVE
    with pytest.raises(SourceError, match="truncated: the packed file ends early"):
        read_file(tmp_path / "dump", limit="list_size")


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("padding", [4, 512, 5000])
def test_padding_between_streams_and_behind_them(kind: str, padding: int, tmp_path: Path) -> None:
    half = len(DATA) // 2
    parts = [PACK[kind](DATA[:half]), PACK[kind](DATA[half:])]
    (tmp_path / "dump").write_bytes(b"".join(part + bytes(padding) for part in parts))
    assert read_file(tmp_path / "dump", limit="list_size") == DATA


@pytest.mark.parametrize("kind", PACK)
def test_a_damaged_head_of_a_later_stream_is_damage(kind: str, tmp_path: Path) -> None:
    first, second = PACK[kind](DATA), bytearray(PACK[kind](DATA))
    second[1] ^= 0x10
    (tmp_path / "dump").write_bytes(first + second)
    with pytest.raises(SourceError, match=f"packed file damaged after {len(DATA):#x} unpacked bytes"):
        luoser.open(tmp_path / "dump")


def test_zst_with_frames_that_are_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    (tmp_path / "dump").write_bytes(skipped + PACK["zst"](DATA) + skipped)
    assert read_file(tmp_path / "dump", limit="list_size") == DATA


@pytest.mark.parametrize("kind", PACK)
def test_junk_behind_the_end(kind: str, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(PACK[kind](DATA) + b"signature of a download\n")
    with luoser.open(tmp_path / "dump") as memory:
        (remark,) = memory.remarks
        assert remark.startswith(
            f"bytes after the end of the packed file, of {len(DATA):#x} unpacked bytes, are not read"
        )
        assert [one.address for one in luoser.read(memory).handovers] == [0x5CD000]


@pytest.mark.parametrize("kind", ["xz", "gz", "bz2", "zst"])
def test_damaged_dump_is_refused(kind: str, tmp_path: Path) -> None:
    packed = bytearray(PACK[kind](DATA))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "dump").write_bytes(packed)
    with pytest.raises(SourceError, match="dump: packed file damaged after 0x"):
        luoser.open(tmp_path / "dump")


def test_zst_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dump").write_bytes(PACK["zst"](DATA))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(SourceError, match=r"dump: packed with zstd; pip install 'luoser\[zstd\]'"):
        luoser.open(tmp_path / "dump")


@pytest.mark.parametrize("kind", ["gz", "bz2", "zst"])
def test_what_unpacks_to_much_is_given_up_early(kind: str, tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(PACK[kind](bytes(64 << 20)))
    with limited(Limits(list_size=1 << 20)), pytest.raises(SourceError, match="at most 1048576 bytes, unpacked"):
        read_file(tmp_path / "bomb", limit="list_size")


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"])
def test_raw_image_that_begins_as_a_packed_file(magic: bytes, tmp_path: Path) -> None:
    data = magic + b"?" * 8190
    (tmp_path / "dump").write_bytes(data[:8192])
    with luoser.open(tmp_path / "dump", raw=True) as memory:
        assert memory.format == "raw" and memory.read(0, 4096) == data[:4096]
    with pytest.raises(SourceError, match="packed file damaged"):
        luoser.open(tmp_path / "dump")
