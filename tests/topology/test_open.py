# SPDX-License-Identifier: MIT
"""Which form it is, and what is none; damage at random."""

from __future__ import annotations

import gzip
import json
import lzma
import random
from pathlib import Path

import pytest

from luoser.errors import SourceError
from luoser.limits import Limits, limited
from luoser.topology import read_topology, to_document
from tests import real, schemas
from tests.topology.guest import GUEST

TEXTS = sorted(place.name for place in GUEST.glob("lspci-*"))


def text_of(name: str) -> bytes:
    data = (GUEST / name).read_bytes()
    return lzma.decompress(data) if name.endswith(".xz") else data


@pytest.mark.parametrize(
    "data", [b"\n", b"hello\n", b"\x7fELF" + bytes(9000), b"0: 00 00\n", b"-+-[0000:00]-+-00.0\n", bytes(5000)]
)
def test_what_is_no_topology_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(SourceError, match=r"file: not a topology: .*lspci -vmmnnD -k"):
        read_topology(tmp_path / "file")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError, match="empty"):
        read_topology(tmp_path / "file")


def test_names_of_files_are_made_safe(tmp_path: Path) -> None:
    for data in (b"hello", b"[", b"{}", b"[]"):
        (tmp_path / "\x1b[2J").write_bytes(data)
        with pytest.raises(SourceError) as caught:
            read_topology(tmp_path / "\x1b[2J")
        assert "\x1b" not in str(caught.value)


def test_packed_files(tmp_path: Path) -> None:
    plain = read_topology(real.REAL / "7.3-a/topology.json")
    data = (real.REAL / "7.3-a/topology.json").read_bytes()
    for packed in (gzip.compress(data), lzma.compress(data)):
        (tmp_path / "file").write_bytes(packed)
        assert read_topology(tmp_path / "file").devices == plain.devices


def test_a_text_of_rubbish_is_given_up_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"00:00.0 A device\n" + b"rubbish\n" * 70_000)
    with pytest.raises(SourceError, match="file: more than 65536 errors; the last one is line 65538"):
        read_topology(tmp_path / "file")


def test_a_text_that_is_too_large_is_refused(tmp_path: Path) -> None:
    for size, words in (
        (1001, "at most 1000 bytes, found 1001"),
        (501, "JSON too large: expected at most 500 bytes, found 501"),
    ):
        (tmp_path / "file").write_bytes(b"[" + b" " * (size - 1))
        small = limited(Limits(topology_size=1000, topology_json=500))
        with small, pytest.raises(SourceError, match=rf"{words}; --limit topology_\w+=N"):
            read_topology(tmp_path / "file")


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_text_gives_a_topology_or_a_clear_no(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    original = text_of(name)
    for _ in range(20):
        data = bytearray(original[: rng.randrange(1, len(original))] if rng.random() < 0.5 else original)
        for _ in range(rng.choice([1, 5, 50, 500])):
            place = rng.randrange(len(data))
            data[place] = rng.choice([rng.randrange(256), *b"0123456789abcdef:. \n\t["])
        (tmp_path / "file").write_bytes(data)
        try:
            topology = read_topology(tmp_path / "file")
        except SourceError:
            continue
        assert schemas.errors(to_document(topology)) == []
        assert all(remark.isprintable() for remark in topology.remarks)


def test_damaged_json_gives_a_topology_or_a_clear_no(tmp_path: Path) -> None:
    rng = random.Random(0)
    documents = [to_document(read_topology(GUEST / "lspci-xxxx.txt.xz")),
                 json.loads((real.REAL / "7.3-a/topology.json").read_text())]  # fmt: skip
    for round_ in range(100):
        data = bytearray(json.dumps(documents[round_ % 2]).encode())
        for _ in range(rng.choice([1, 3, 10])):
            data[rng.randrange(len(data))] = rng.choice(b'0123456789abcdef:."{}[]\x1b')
        (tmp_path / "file").write_bytes(data)
        try:
            topology = read_topology(tmp_path / "file")
        except SourceError:
            continue
        assert schemas.errors(to_document(topology)) == []
