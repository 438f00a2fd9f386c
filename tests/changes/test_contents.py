# SPDX-License-Identifier: MIT
"""Bytes of preserved pages: one of them changed."""

from __future__ import annotations

import json
import struct

import pytest

import luoser
from luoser.changes import Change, Verdict, compare
from luoser.changes import contents as module
from luoser.changes.contents import Bytes
from luoser.memory.overlay import Overlay
from luoser.state import Contents, to_document
from luoser.state.from_json import from_document
from tests import real
from tests.changes.helpers import FROZEN, document, session
from tests.images import Image, name, u64
from tests.posted import posted
from tests.writer.helpers import built_luo


def with_byte(address: int) -> tuple[Change, ...]:
    """What is told when one byte of memory is another."""
    memory = real.overlay(FROZEN)
    memory.write(address, bytes([memory.read(address, 1)[0] ^ 0xFF]))
    before, after = luoser.read(real.dump(FROZEN), contents=True), luoser.read(memory, contents=True)
    return compare(before, after, memories=(real.dump(FROZEN), memory), contents=True).changes


def test_a_byte_of_a_driver_page() -> None:
    (change,) = with_byte(0x1A96000 + 5)
    assert change.where == "pci/0000:41:00.0/driver_data/contents"
    assert "first differing byte 0x5" in change.note


def test_a_byte_that_is_higher_or_lower() -> None:
    memory = real.overlay(FROZEN)
    memory.write(0x1A96000, b"\x40")
    memory.write(0x1A96000 + 4095, b"\x40")
    for offset, byte in ((0, b"\x3f"), (0, b"\x41"), (4095, b"\x3f"), (4095, b"\x41")):
        other = Overlay(memory)
        other.write(0x1A96000 + offset, byte)
        states = luoser.read(memory, contents=True), luoser.read(other, contents=True)
        (change,) = compare(*states, memories=(memory, other), contents=True).changes
        assert change.note == f"first differing byte {offset:#x} of 0x1000 at 0x1a96000"


def test_a_byte_of_a_folio() -> None:
    (change,) = with_byte(0x1D69000 + 0x10)
    assert change.where == "luo/sessions/vm-web-01/files/0x1b/folios/1/contents"
    assert change.before is not None and change.before.startswith("sha256 ")


def test_a_folio_that_two_paths_lead_to_is_one_change_that_names_both() -> None:
    values = document()
    memfd = session(values)["files"][1]["memfd"]
    memfd["folios"]["list"][2][1] = memfd["folios"]["list"][1][1]
    after = json.loads(json.dumps(values))
    session(after)["files"][1]["memfd"]["contents"][1]["bytes"] = "ff"
    (change,) = compare(from_document(values), from_document(after), contents=True).changes
    assert change.where.endswith("folios/1/contents")
    assert [path.endswith("folios/2/contents") for path in change.also] == [True]


def test_bytes_that_are_on_one_side_only_are_not_compared() -> None:
    """More of them than are read with the state."""
    luo, _, image = built_luo({"sessions": [{"name": "vm", "files": [{"memfd": {"size": 600 * 4096}}]}]})
    memfd = luo.sessions[0].files[0].memfd
    assert memfd is not None
    for folio in memfd.folios.list:
        image.patch(folio.address, b"A" * 4096)
    memory = Overlay(image.memory())
    for folio in list(memfd.folios.list)[1:]:
        memory.remove(folio.address)
    before, after = luoser.read(image.memory(), contents=True), luoser.read(memory, contents=True)
    found = compare(before, after, contents=True, memories=(image.memory(), memory))
    assert found.verdict is Verdict.INCONCLUSIVE
    (gap,) = [gap for gap in found.not_compared if gap.where == "luo/sessions/vm/files/0x0/contents"]
    assert gap.reason.startswith("the bytes of 599 folios are not in both sources, the first at 0x")


def test_two_sessions_of_one_name_are_compared_each_with_itself() -> None:
    files = [{"memfd": {"size": 4096}}]
    luo, _, image = built_luo({"sessions": [{"name": name, "files": files} for name in ("vm", "vx")]})
    for letter, session_ in zip(b"AB", luo.sessions, strict=True):
        memfd = session_.files[0].memfd
        assert memfd is not None
        image.patch(memfd.folios.list[0].address, bytes([letter]) * 4096)
    image.patch(luo.sessions[1].address or 0, b"vm")
    state = luoser.read(image.memory())
    found = compare(state, state, contents=True, memories=(image.memory(), image.memory()))
    assert (found.changes, found.verdict) == ((), Verdict.EQUAL)


@pytest.mark.parametrize(
    ("piece", "offset"), [(512, 0), (512, 511), (512, 512), (1000, 999), (1000, 1000), (1000, 4095)]
)
def test_a_folio_is_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch, piece: int, offset: int) -> None:
    (whole,) = with_byte(0x1D69000 + offset)
    monkeypatch.setattr(module, "_PIECE", piece)
    (change,) = with_byte(0x1D69000 + offset)
    assert change == whole
    assert change.note == f"first differing byte {offset:#x} of 0x1000 at 0x1d69000"


@pytest.mark.parametrize(
    ("size", "data", "wanted", "found"),
    [
        (8, b"abc", 8, b"abc\0\0\0\0\0"),
        (8, b"abcdefgh", 4, b"abcd"),
        (8, b"abc", 9, None),
        (8, b"", 1, b"\0"),
    ],
)
def test_bytes_of_a_document(size: int, data: bytes, wanted: int, found: bytes | None) -> None:
    known = {0x1000: Contents(address=0x1000, size=size, data=data)}
    assert Bytes(None, known).read(0x1000, wanted) == found
    assert Bytes(None, known).read(0x2000, 1) is None


def test_bytes_that_the_document_lacks_are_those_of_the_source() -> None:
    known = {0x1D69000: Contents(address=0x1D69000, size=4, data=b"abcd")}
    memory = real.dump(FROZEN)
    assert Bytes(memory, known).read(0x1D69000, 4) == b"abcd"
    assert Bytes(memory, known).read(0x1D69000, 5) == memory.read(0x1D69000, 5)
    assert Bytes(memory, known).read(1 << 50, 1) is None


LARGE = 16
"""Pages of a folio of order 4."""


def large_folio() -> Image:
    """A file of 60 KiB in one folio of order 4."""
    made = Image()
    page = made.alloc(b"".join(bytes([number]) * 4096 for number in range(LARGE)), order=4)
    array = made.alloc(struct.pack("<QQ", 3 << 52 | page // 4096, 0))
    chunk = made.alloc(struct.pack("<QQ", 0, array))
    blob = struct.pack("<QQIIQQIHH", 0, 60 << 10, 0, 0, 1, chunk, 1, 1, 0)
    files = made.blocks([name("memfd-v2", 48) + struct.pack("<QQ", made.alloc(blob), 7)])
    sessions = made.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    made.handover({"LUO": (made.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, made.alloc(u64(1)))), 32)})
    return made


def test_all_pages_of_a_large_folio_are_contents() -> None:
    state = luoser.read(large_folio().open(), contents=True)
    luo = state.handovers[0].luo
    assert luo is not None and luo.sessions[0].files[0].memfd is not None
    (piece,) = luo.sessions[0].files[0].memfd.contents
    assert piece.size == 15 * 4096  # up to the end of the file
    assert [piece.data[4096 * page] for page in range(1, 15)] == list(range(1, 15))


@pytest.mark.parametrize("page", [0, 1, 14])
def test_a_byte_of_each_page_of_a_large_folio(page: int) -> None:
    image = large_folio()
    memory = Overlay(image.open())
    before = luoser.read(image.open(), contents=True)
    luo = before.handovers[0].luo
    assert luo is not None and luo.sessions[0].files[0].memfd is not None
    place = luo.sessions[0].files[0].memfd.folios.list[0].address + 4096 * page + 77
    memory.write(place, b"\xaa")
    states = before, luoser.read(memory, contents=True)
    (change,) = compare(*states, memories=(image.open(), memory), contents=True).changes
    assert change.where == "luo/sessions/vm/files/0x7/folios/0/contents"
    assert f"first differing byte {4096 * page + 77:#x} of 0x10000" in change.note


def test_documents_have_all_of_a_large_folio() -> None:
    """So that they show a difference in its last page, too."""
    image = large_folio()
    document = to_document(luoser.read(image.open(), contents=True), full=True)
    other = json.loads(json.dumps(document))
    piece = other["handovers"][0]["luo"]["sessions"][0]["files"][0]["memfd"]["contents"][0]
    data = bytearray(bytes.fromhex(piece["bytes"]))
    data[14 * 4096] ^= 1
    piece["bytes"] = data.hex()
    found = compare(from_document(document), from_document(other), contents=True)
    assert [change.where for change in found.changes] == ["luo/sessions/vm/files/0x7/folios/0/contents"]


@pytest.mark.parametrize(
    ("what", "where"),
    [
        ("blob", "subtrees/unknown-tree/contents"),
        ("flb", "luo/flbs/unknown-flb/contents"),
        ("file", "luo/sessions/vm/files/0x1/contents"),
    ],
)
def test_bytes_of_unknown_things(what: str, where: str) -> None:
    image, places = posted()
    memory = Overlay(image.open())
    at = getattr(places, what) + (4 * 4096 if what == "blob" else 0) + 5
    memory.write(at, b"?")
    states = luoser.read(image.open(), contents=True), luoser.read(memory, contents=True)
    (change,) = compare(*states, memories=(image.open(), memory), contents=True).changes
    assert change.where == where
    assert f"first differing byte {at - getattr(places, what):#x} of" in change.note
    (change,) = compare(*states, contents=True).changes
    assert change.where == where


def test_members_of_a_struct_of_a_sub_tree() -> None:
    (image, _), (other, _) = posted(), posted(count=2)
    (change,) = compare(luoser.read(image.open()), luoser.read(other.open())).changes
    assert (change.where, change.before, change.after) == ("subtrees/hwpoison/detail/count", "0x3", "0x2")


def test_entries_of_an_array_of_a_struct() -> None:
    image, places = posted()
    memory = Overlay(image.open())
    memory.write(places.page + 8, b"\x01")
    (change,) = compare(luoser.read(image.open()), luoser.read(memory)).changes
    assert (change.where, change.before, change.after) == ("subtrees/hwpoison/detail/pfns/words[1]", "0x200", "0x201")


def test_what_is_not_there_of_an_array_is_not_removed() -> None:
    image, places = posted()
    memory = Overlay(image.open())
    memory.remove(places.page)
    result = compare(luoser.read(image.open()), luoser.read(memory))
    assert result.changes == () and result.verdict is Verdict.INCONCLUSIVE
