# SPDX-License-Identifier: MIT
"""Contents of memfds that a description has as text or file."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

import luoser
import luoser.writer.complete as complete_module
from luoser.errors import UsageError
from luoser.writer.complete import complete
from luoser.writer.contents import with_contents
from tests.conftest import Run
from tests.writer.helpers import built

Json = dict[str, Any]


def described(*memfds: Json) -> Json:
    files = [{"token": token, "memfd": memfd} for token, memfd in enumerate(memfds)]
    return {"handovers": [{"luo": {"sessions": [{"name": "vm", "files": files}]}}]}


def memfds(image: Any) -> list[tuple[int, list[bytes]]]:
    (handover,) = luoser.read(image.memory(), contents=True).handovers
    assert handover.luo is not None
    found = [file.memfd for file in handover.luo.sessions[0].files]
    return [(memfd.size, [piece.data for piece in memfd.contents]) for memfd in found if memfd is not None]


def test_text_and_file_become_the_pages_of_a_memfd() -> None:
    values = described({"contents_text": "hello"}, {"contents_file": "big"}, {"contents_text": "a", "size": 5000})
    made = with_contents(values, {"big": b"x" * 4096 + b"y"}.__getitem__)
    _, image = built(made)
    assert memfds(image) == [(5, [b"hello"]), (4097, [b"x" * 4096, b"y"]), (5000, [b"a", b""])]


@pytest.mark.parametrize(
    ("memfd", "words"),
    [
        ({"contents_text": "a", "contents_file": "b"}, "expected one of"),
        ({"contents_text": "a", "contents": [{"bytes": "00"}]}, "expected one of"),
        ({"contents_text": 5}, "contents_text: expected a text"),
    ],
)
def test_contents_that_contradict_each_other(memfd: Json, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_contents(described(memfd), lambda _: b"")


def test_a_size_below_the_bytes_of_a_file() -> None:
    with pytest.raises(UsageError, match="expected at least 3"):
        complete(described({"size": 2, "contents": [{"bytes": "616263"}]}))


def test_a_file_is_beside_its_spec(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "ram.bin").write_bytes(b"guest memory")
    (tmp_path / "spec.json").write_text(json.dumps(described({"contents_file": "ram.bin"})))
    assert luoser_command("build", str(tmp_path / "spec.json"), "-o", str(tmp_path / "out")).returncode == 0
    with luoser.open(tmp_path / "out") as memory:
        assert b"guest memory" in b"".join(memory.read(part.start, part.size) for part in memory.segments)
    (tmp_path / "ram.bin").unlink()
    failed = luoser_command("build", str(tmp_path / "spec.json"), "-o", str(tmp_path / "other"))
    assert failed.returncode == 2 and b"ram.bin" in failed.stderr


def test_a_large_folio_gets_all_its_pages() -> None:
    memfd = {"contents_text": "a" * 4096 + "b" * 9000, "folios": {"list": [[0, "0x30000000", 3]]}}
    values = described(memfd)
    with pytest.raises(UsageError, match=r"folios\.list: expected a folio for byte 0x1000 of the contents, found none"):
        complete(with_contents(values, lambda _: b""))
    page = 4096
    values["handovers"][0]["preserved"] = {"extents": [["0x30000000", 2, 1]]}
    made = complete(with_contents(values, lambda _: b""))
    (piece,) = made["handovers"][0]["luo"]["sessions"][0]["files"][0]["memfd"]["contents"]
    assert bytes.fromhex(piece["bytes"]) == b"a" * page + b"b" * 9000 and piece["size"] == f"{4 * page:#x}"


def test_zeros_need_no_folio() -> None:
    memfd = {"contents_text": "a" + "\0" * 9000, "folios": {"list": [[0, "0x30000000", 3]]}}
    _, image = built(with_contents(described(memfd), lambda _: b""))
    assert memfds(image) == [(9001, [b"a"])]


@pytest.mark.parametrize("name", ["ram.gz", "ram.xz"])
def test_a_packed_file_is_taken_as_it_is(luoser_command: Run, tmp_path: Path, name: str) -> None:
    data = {"ram.gz": gzip.compress, "ram.xz": lzma.compress}[name](b"contents of a guest")
    (tmp_path / name).write_bytes(data)
    (tmp_path / "spec.json").write_text(json.dumps(described({"contents_file": name})))
    assert luoser_command("build", str(tmp_path / "spec.json"), "-o", str(tmp_path / "out")).returncode == 0
    with luoser.open(tmp_path / "out") as memory:
        (handover,) = luoser.read(memory, contents=True).handovers
    assert handover.luo is not None
    memfd = handover.luo.sessions[0].files[0].memfd
    assert memfd is not None and memfd.size == len(data) and memfd.contents[0].data == data.rstrip(b"\0")


def test_a_description_nested_too_deeply_is_refused() -> None:
    """The JSON parser of Python 3.12 and later reads thousands of levels."""
    values: dict[str, Any] = {}
    for _ in range(3000):
        values = {"a": values}
    with pytest.raises(UsageError, match="nested too deeply"):
        with_contents(values, lambda name: b"")


@pytest.mark.parametrize(("address", "size"), [(0x3000_0000, 2 * 4096), (0x3000_1000, 4096), (0x2FFF_F000, 2 * 4096)])
def test_contents_outside_of_the_folios_are_refused(address: int, size: int) -> None:
    memfd = {
        "size": 4096,
        "folios": {"list": [[0, "0x30000000", 3]]},
        "contents": [{"address": f"{address:#x}", "size": size, "bytes": "41" * size}],
    }
    with pytest.raises(UsageError, match=rf"contents\[0\]\.address: expected {size} bytes within the folios"):
        complete(described(memfd))
    values = described(memfd)
    values["handovers"][0]["preserved"] = {"extents": [["0x2fff8000", 3, 1], ["0x30000000", 0, 2]]}
    with pytest.raises(UsageError, match="within the folios"):
        complete(values)


def test_contents_may_go_over_adjacent_folios() -> None:
    memfd = {
        "size": 3 * 4096,
        "folios": {"list": [[0, "0x30000000", 3], [1, "0x30001000", 3]]},
        "contents": [{"address": "0x30000800", "size": 4096, "bytes": "41" * 4096}],
    }
    assert complete(described(memfd))


def test_a_given_map_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once more for each file: a dump has thousands."""
    calls, plain = list[Any](), complete_module.load_extents

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return plain(*arguments)

    def looks(count: int) -> int:
        pages = [f"{0x3000_0000 + number * 4096:#x}" for number in range(count)]
        pieces = [{"address": page, "size": 4096, "bytes": "41"} for page in pages]
        made = [
            {"size": 4096, "folios": {"list": [[0, page, 3]]}, "contents": [piece]}
            for page, piece in zip(pages, pieces, strict=True)
        ]
        values = described(*made)
        values["handovers"][0]["preserved"] = {"extents": [[pages[0], 0, count]]}
        calls.clear()
        complete(values)
        return len(calls)

    monkeypatch.setattr(complete_module, "load_extents", counted)
    assert looks(1) == looks(5) > 0


@pytest.mark.parametrize("name", ["../secret", "link", "fifo", "/etc/passwd", "a\0b"])
def test_a_file_elsewhere_is_not_taken(luoser_command: Run, tmp_path: Path, name: str) -> None:
    """Whoever writes a description cannot have any file of its reader in the output."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "fifo")
    (folder / "spec.json").write_text(json.dumps(described({"contents_file": name})))
    failed = luoser_command("build", str(folder / "spec.json"), "-o", str(tmp_path / "out"))
    assert failed.returncode == 2 and b"expected a file in the folder of spec.json" in failed.stderr


def test_the_files_of_a_description_have_a_limit_together(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "ram.bin").write_bytes(b"x" * 3000)
    (tmp_path / "spec.json").write_text(json.dumps(described(*[{"contents_file": "ram.bin"}] * 2)))
    command = ("build", str(tmp_path / "spec.json"), "-o", str(tmp_path / "out"), "--force", "--limit")
    assert luoser_command(*command, "spec_size=6000").returncode == 0
    failed = luoser_command(*command, "spec_size=5000")
    assert failed.returncode == 2 and b"--limit spec_size=N" in failed.stderr


def test_a_text_that_has_no_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="contents_text: expected a text of UTF-8"):
        with_contents(described({"contents_text": "\ud800"}), lambda _: b"")
    (session,) = with_contents(described({"contents_text": "\udc80"}), lambda _: b"")["handovers"][0]["luo"]["sessions"]
    assert session["files"][0]["memfd"]["contents"] == [{"bytes": "80"}]
