# SPDX-License-Identifier: MIT
from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from luoser.memory.together import grouped
from tests import real

FORMATS = real.ROOT / "fixtures" / "formats"
PARTS = [str(FORMATS / f"kdump-split-{number}.xz") for number in (1, 2)]
OTHER = str(FORMATS / "kdump-zlib.xz")
STATE = b"\xd2\xbe\xd2\xbe" + bytes(100)


def test_files_of_one_split_dump_are_one_source() -> None:
    assert grouped(PARTS) == [tuple(PARTS)]


def test_others_between_them_are_sources_of_their_own() -> None:
    assert grouped([PARTS[1], OTHER, PARTS[0]]) == [(PARTS[1], PARTS[0]), (OTHER,)]


def test_two_split_dumps_are_two_sources(tmp_path: Path) -> None:
    """Of machines with other names."""
    files = list[str]()
    for part in PARTS:
        data = bytearray(lzma.decompress(Path(part).read_bytes()))
        data[12 + 65 : 12 + 65 + 5] = b"other"  # the node name of utsname
        files.append(str(tmp_path / Path(part).stem))
        Path(files[-1]).write_bytes(data)
    assert grouped([PARTS[0], files[0], PARTS[1], files[1]]) == [tuple(PARTS), tuple(files)]


def test_whole_dumps_stay_alone(tmp_path: Path) -> None:
    """Even two of one machine, at different times."""
    again = tmp_path / "again"
    again.write_bytes(Path(OTHER).read_bytes())
    assert grouped([OTHER, str(again)]) == [(OTHER,), (str(again),)]


def _later(part: str, target: Path, seconds: int) -> str:
    """A part, as it is of the same host so much later."""
    data = bytearray(lzma.decompress(Path(part).read_bytes()))
    (before,) = struct.unpack_from("<Q", data, 12 + 6 * 65 + 6)
    struct.pack_into("<Q", data, 12 + 6 * 65 + 6, before + seconds)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    return str(target)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 0, 2, 1)])
def test_split_dumps_of_one_host_at_two_times_are_two_sources(tmp_path: Path, order: tuple[int, ...]) -> None:
    after = [_later(part, tmp_path / f"after.{number}", 3600) for number, part in enumerate(PARTS)]
    files = [*PARTS, *after]
    found = grouped([files[number] for number in order])
    assert sorted(map(sorted, found)) == sorted(map(sorted, (PARTS, after)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 0, 2, 1), (0, 2, 3), (2, 1, 3)])
def test_split_dumps_that_are_alike_are_told_apart_by_their_names(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Of hosts without names, that crashed at the same time; also if a file of one is not there."""
    files = [_later(part, tmp_path / host / part[-4:], 0) for host in ("h1", "h2") for part in PARTS]
    found = grouped([files[number] for number in order])
    assert sorted(len({Path(name).parent for name in source}) for source in found) == [1, 1]


@pytest.mark.parametrize("order", [("a.vmem", "a.vmss", "b.vmem"), ("a.vmss", "b.vmem", "a.vmem")])
def test_a_state_file_belongs_to_the_memory_of_its_name(tmp_path: Path, order: tuple[str, ...]) -> None:
    for name in order:
        (tmp_path / name).write_bytes(STATE if name.endswith(".vmss") else bytes(8192))
    found = grouped([str(tmp_path / name) for name in order])
    names = sorted(tuple(Path(name).name for name in source) for source in found)
    assert names == [("a.vmem", "a.vmss"), ("b.vmem",)]


@pytest.mark.parametrize("packed", [("a.vmem.xz", "a.vmss"), ("a.vmem", "a.vmss.xz"), ("a.vmem.xz", "a.vmss.xz")])
def test_a_state_file_belongs_to_its_memory_if_they_are_packed(tmp_path: Path, packed: tuple[str, str]) -> None:
    for name in (*packed, "b.vmem"):
        data = STATE if "vmss" in name else bytes(8192)
        (tmp_path / name).write_bytes(lzma.compress(data) if name.endswith(".xz") else data)
    memory, state, other = (str(tmp_path / name) for name in (*packed, "b.vmem"))
    assert grouped([memory, state, other]) == [(memory, state), (other,)]


def test_a_state_file_of_another_name_belongs_to_the_only_other_file(tmp_path: Path) -> None:
    (tmp_path / "memory").write_bytes(bytes(8192))
    (tmp_path / "Snapshot1.vmsn").write_bytes(STATE)
    names = [str(tmp_path / name) for name in ("memory", "Snapshot1.vmsn")]
    assert grouped(names) == [tuple(names)]
    assert grouped([*names, OTHER]) == [(names[0],), (names[1],), (OTHER,)]


@pytest.mark.parametrize("other", [OTHER, str(real.path("7.3-a/post"))])
def test_a_state_file_does_not_belong_to_a_dump_of_another_format(tmp_path: Path, other: str) -> None:
    (tmp_path / "host2.vmss").write_bytes(STATE)
    assert grouped([other, str(tmp_path / "host2.vmss")]) == [(other,), (str(tmp_path / "host2.vmss"),)]


def test_a_state_file_alone_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "a.vmss").write_bytes(STATE)
    assert grouped([str(tmp_path / "a.vmss")]) == [(str(tmp_path / "a.vmss"),)]


def test_the_same_file_twice_is_no_split_dump() -> None:
    assert grouped([OTHER, OTHER]) == [(OTHER,), (OTHER,)]


@pytest.mark.parametrize("data", [b"", b"KDUMP   ", b"KDUMP   " + b"\xff" * 70000, b"\xfd7zXZ\0", b"\x1f\x8b\x08"])
def test_what_is_broken_stays_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert grouped([str(tmp_path / "a"), OTHER]) == [(str(tmp_path / "a"),), (OTHER,)]


def test_what_cannot_be_opened_stays_alone(tmp_path: Path) -> None:
    names = [str(tmp_path / "gone"), str(tmp_path), "/dev/zero", "live:", "a\0b"]
    assert grouped(names) == [(name,) for name in names]


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.xz").write_bytes(lzma.compress(b"KDUMP   " + bytes(256 << 20), preset=0))
    assert len(grouped([str(tmp_path / "bomb.xz")])) == 1
