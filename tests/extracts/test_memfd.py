# SPDX-License-Identifier: MIT
"""A preserved memfd as a file again."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

import luoser
from luoser.errors import PageState, UsageError
from luoser.extracts import memfd as module
from luoser.extracts.memfd import memfd_address, write_memfd
from luoser.extracts.parts import write_part
from luoser.limits import Limits, limited
from luoser.memory.avml import AvmlMemory
from luoser.memory.elf import ElfMemory
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.reader import memfd_at
from luoser.state import File, State
from tests import real
from tests.images import Image, name
from tests.memory import writers
from tests.memory.images import Load, core
from tests.work import Counted, steps

PAGE = 4096
SEALED = b"".join((b"memfd sealed offset %x" % offset).ljust(PAGE, b"\0") for offset in range(0, 65536, PAGE))
"""What user space wrote before the live update; the offsets are in hexadecimal."""


def made(
    folios: Mapping[int, bytes],
    size: int,
    *,
    holes: tuple[int, ...] = (),
    elsewhere: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    keep: bool = True,
) -> Image:
    """An image of session `s` with one memfd, token 1. folios: index to bytes, as large as the folio is.

    holes: indices with an entry that names no folio. elsewhere: index to (address, order) of a folio that is
    preserved and not written here. keep: whether the folios are preserved.
    """
    image = Image(pages=2048, first=1 << 20)
    entries = []
    for index, data in folios.items():
        order = (len(data) // PAGE - 1).bit_length() if len(data) > PAGE else 0
        entries.append((index, image.alloc(data, order=order, keep=keep) // PAGE))
    entries += [(index, 0) for index in holes] + [(index, place // PAGE) for index, (place, _) in elsewhere.items()]
    image.kept += sorted(set(elsewhere.values()))
    array = b"".join(struct.pack("<QQ", frame | 3 << 52 if frame else 0, index) for index, frame in sorted(entries))
    descriptor = image.vmalloc(array) if array else bytes(16)
    blob = struct.pack("<QQIIQ", 0, size, 0, 0, len(entries)) + descriptor
    record = name("memfd-v2", 48) + struct.pack("<QQ", image.alloc(blob), 1)
    record = name("s", 64) + struct.pack("<QQ", image.blocks([record]), 1)
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, image.blocks([record]), 0)), 32)})
    return image


def put_together(tmp_path: Path, memory: Memory, wanted: str, state: State | None = None) -> tuple[bytes, str, Path]:
    path = tmp_path / "out"
    with path.open("w+b") as file:
        report = write_memfd(file, memory, state or luoser.read(memory), wanted)
    return path.read_bytes(), report, path


def session_files(state: State) -> tuple[File, ...]:
    luo = state.handovers[0].luo
    assert luo is not None
    return luo.sessions[0].files


def refused(memory: Memory, wanted: str) -> str:
    with pytest.raises(UsageError) as caught, tempfile.TemporaryFile() as file:
        write_memfd(file, memory, luoser.read(memory), wanted)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- real dumps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dump", ["6.19-a/frozen", "7.3-a/frozen", "7.3-chain/frozen"])
def test_sealed_comes_out_with_its_contents(tmp_path: Path, dump: str) -> None:
    data, report, _ = put_together(tmp_path, real.dump(dump), "vm-web-01/0x1b")
    assert data == SEALED
    assert "65536 bytes" in report
    assert hashlib.sha256(SEALED).hexdigest() in report


def test_sealed_of_the_second_live_update(tmp_path: Path) -> None:
    data, _, _ = put_together(tmp_path, real.dump("7.3-chain/frozen2"), "vm-web-01-second/0x1b")
    assert len(data) == 65536
    assert all(data[at:].startswith(b"memfd sealed offset %x\0" % at) for at in range(0, 65536, PAGE))


def test_a_stale_map_is_told(tmp_path: Path) -> None:
    data, report, _ = put_together(tmp_path, real.dump("7.3-chain/post"), "vm-web-01/0x1b")
    assert len(data) == 65536
    assert "the map is stale" in report


def test_size_beyond_the_limit_is_refused() -> None:
    with limited(Limits(memfd_size=65535)):
        assert "--limit memfd_size=N" in refused(real.dump("7.3-a/frozen"), "vm-web-01/0x1b")


def test_file_whose_folios_are_not_in_the_cut_is_refused() -> None:
    assert "offset 0x" in refused(real.dump("7.3-a/frozen"), "vm-web-01/0x1a")


@pytest.mark.parametrize("state", [PageState.EXCLUDED, PageState.ABSENT])
def test_missing_folio_is_named(state: PageState) -> None:
    memory = real.overlay("7.3-a/frozen")
    luo = real.read("7.3-a/frozen").handovers[0].luo
    assert luo is not None and luo.sessions[0].files[1].memfd is not None
    folio = luo.sessions[0].files[1].memfd.folios.list[5]
    memory.remove(folio.address, state=state)
    reason = refused(memory, "vm-web-01/0x1b")
    assert f"{folio.address:#x}" in reason and "0x5000" in reason and state.value in reason


@pytest.mark.parametrize("token", ["0x1b", "27", "0x1B", "0x0_1b"])
def test_token_may_be_written_as_numbers_are(tmp_path: Path, token: str) -> None:
    assert put_together(tmp_path, real.dump("7.3-a/frozen"), f"vm-web-01/{token}")[0] == SEALED


@pytest.mark.parametrize(
    "wanted",
    ["vm-web-01", "vm-web-01/", "vm-web-01/x", "/0x1b", "", "/", "vm-web-01/0x1d", "vm-web-02/0x1b", "vm-web-01/-1",
     "vm-web-01/0x1b/", "vm\x1b[31m/0x1b", "vm-web-01/\x1b[31m"],
)  # fmt: skip
def test_name_of_nothing_is_refused(wanted: str) -> None:
    refused(real.dump("7.3-a/frozen"), wanted)


def odd_session() -> str:
    luo = real.read("7.3-a/frozen").handovers[0].luo
    assert luo is not None
    return next(session.name for session in luo.sessions if "\x1b" in session.name)


def test_name_with_escape_characters_can_be_given_as_it_is_shown(tmp_path: Path) -> None:
    """It has a slash and a quote as well: `weird name \\x1b[31m/../"x`."""
    from luoser.text import safe_text

    raw, shown = odd_session(), safe_text(odd_session())
    assert raw != shown and shown.isprintable() and "/" in shown
    first = put_together(tmp_path, real.dump("7.3-a/frozen"), f"{shown}/0xffffffffffffffff")
    second = put_together(tmp_path, real.dump("7.3-a/frozen"), f"{raw}/0xffffffffffffffff")
    assert first[:2] == second[:2]
    assert len(first[0]) == 4096 and any(first[0])


def test_file_in_two_handovers_has_to_be_told_apart(tmp_path: Path) -> None:
    """The second kernel hands on a session of the same name."""
    memory = real.dump("7.3-chain/frozen2")
    reason = refused(memory, "vm-batch-000/0x1000")
    state = luoser.read(memory)
    assert all(f"{handover.address:#x}" in reason for handover in state.handovers)
    assert "--root" in reason
    outgoing = next(handover for handover in state.handovers if handover.direction == "outgoing")
    one = luoser.read(memory, root=outgoing.address)
    assert len(put_together(tmp_path, memory, "vm-batch-000/0x1000", one)[0]) == 8192


def test_token_of_two_files_of_one_session_is_refused() -> None:
    image = Image()
    record = name("memfd-v2", 48) + struct.pack("<QQ", image.alloc(struct.pack("<QQIIQQQ", 0, 5, 0, 0, 0, 0, 0)), 1)
    session = name("s", 64) + struct.pack("<QQ", image.blocks([record, record]), 2)
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, image.blocks([session]), 0)), 32)})
    assert "2 files" in refused(image.open(), "s/1")


# -- made machines -----------------------------------------------------------------------------------------


def test_sparse_file_keeps_its_holes_and_its_size(tmp_path: Path) -> None:
    size = (64 << 20) + 123
    folios = {3: b"three" + bytes(PAGE - 5), 9000: b"far" * 100}
    data, report, path = put_together(tmp_path, made(folios, size, holes=(5, 6)).open(), "s/1")
    wanted = bytearray(size)
    wanted[3 * PAGE : 3 * PAGE + 5] = b"three"
    wanted[9000 * PAGE : 9000 * PAGE + 300] = b"far" * 100
    assert data == wanted
    assert path.stat().st_blocks * 512 < 1 << 20, "holes stay holes"
    assert f"{size} bytes, {2 * PAGE} of them from folios" in report
    assert hashlib.sha256(wanted).hexdigest() in report


def test_last_folio_is_cut_at_the_end_of_the_file(tmp_path: Path) -> None:
    data, _, _ = put_together(tmp_path, made({0: b"a" * PAGE, 1: b"b" * PAGE}, PAGE + 10).open(), "s/1")
    assert data == b"a" * PAGE + b"b" * 10


def test_large_folios_are_as_large_as_the_map_says(tmp_path: Path) -> None:
    big = b"".join(bytes([number]) * PAGE for number in range(1, 17))
    data, report, _ = put_together(tmp_path, made({0: b"x" * PAGE, 16: big, 32: big[:8192]}, 40 * PAGE).open(), "s/1")
    assert data == (b"x" * PAGE).ljust(16 * PAGE, b"\0") + big + big[:8192].ljust(8 * PAGE, b"\0")
    assert "map is not" not in report


def test_folio_beyond_the_end_of_the_file_is_nothing(tmp_path: Path) -> None:
    data, _, _ = put_together(tmp_path, made({0: b"a" * PAGE, 7: b"b" * PAGE}, 2 * PAGE).open(), "s/1")
    assert data == b"a" * PAGE + bytes(PAGE)


def test_empty_file(tmp_path: Path) -> None:
    memory = made({}, 0).open()
    if luoser.read(memory).problems:  # zeros are no descriptor
        assert refused(memory, "s/1")
    else:
        assert put_together(tmp_path, memory, "s/1")[0] == b""


def test_list_that_is_not_whole_is_refused() -> None:
    memory: Overlay = real.overlay("7.3-a/frozen")
    luo = real.read("7.3-a/frozen").handovers[0].luo
    assert luo is not None and luo.sessions[0].files[0].memfd is not None
    memory.remove(luo.sessions[0].files[0].memfd.folios.pages[2])
    assert "incomplete list of folios: expected 1024, found 512" in refused(memory, "vm-web-01/0x1a")


def test_file_that_is_no_memfd_is_refused() -> None:
    image = Image()
    entry = name("vfio-pci", 48) + struct.pack("<QQ", image.alloc(b"\1"), 1)
    session = name("s", 64) + struct.pack("<QQ", image.blocks([entry]), 1)
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, image.blocks([session]), 0)), 32)})
    assert "vfio-pci" in refused(image.open(), "s/1")


def test_folio_that_an_intact_map_does_not_have_is_told(tmp_path: Path) -> None:
    data, report, _ = put_together(tmp_path, made({0: b"a" * PAGE, 5: b"b" * PAGE}, 6 * PAGE, keep=False).open(), "s/1")
    assert data == b"a" * PAGE + bytes(4 * PAGE) + b"b" * PAGE
    assert "no block of the map begins at 2 of the folios" in report and "0x0, 0x5000" in report


def test_folio_inside_of_a_block_is_told(tmp_path: Path) -> None:
    image = made({0: b"a" * 4 * PAGE}, 8 * PAGE)
    inner = image.kept[0][0] + PAGE
    place = image.data.index(struct.pack("<QQ", (inner - PAGE) // PAGE | 3 << 52, 0))
    image.put(place, struct.pack("<QQ", inner // PAGE | 3 << 52, 1))
    data, report, _ = put_together(tmp_path, image.open(), "s/1")
    assert data == bytes(PAGE) + b"a" * PAGE + bytes(6 * PAGE)
    assert "assuming one page each: at offset 0x1000" in report


def test_many_such_folios_are_not_all_named(tmp_path: Path) -> None:
    memory = made(dict.fromkeys(range(100), b"a" * PAGE), 100 * PAGE, keep=False).open()
    _, report, _ = put_together(tmp_path, memory, "s/1")
    assert "100 of the folios" in report and "..." in report and len(report) < 400


def test_large_folios_are_copied_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 3 * PAGE)
    big = b"".join(bytes([number]) * PAGE for number in range(1, 65))
    image = made({0: big, 64: big}, 100 * PAGE + 5)
    sizes = list[int]()

    class Spy(Overlay):
        def read(self, address: int, size: int) -> bytes:
            sizes.append(size)
            return super().read(address, size)

    memory = Spy(image.open())
    state = luoser.read(memory)
    sizes.clear()
    data, _, _ = put_together(tmp_path, memory, "s/1", state)
    assert data == (big + big)[: 100 * PAGE + 5]
    assert max(sizes) == 3 * PAGE and sum(sizes) == len(data)


def test_folios_that_follow_each_other_are_read_at_once(tmp_path: Path) -> None:
    """In two runs: of the first 40 folios, and of those behind a hole of the file."""
    pages = {index + 10 * (index >= 40): bytes([index + 1]) * PAGE for index in range(64)}
    memory = Counted(made(pages, 80 * PAGE).open())
    state = luoser.read(memory)
    reads = memory.reads
    data, _, _ = put_together(tmp_path, memory, "s/1", state)
    assert data == b"".join(pages.get(index, bytes(PAGE)) for index in range(80))
    assert memory.reads - reads == 2


def test_folios_that_overlap_in_the_file_are_refused() -> None:
    big = b"a" * 4 * PAGE
    assert "overlap" in refused(made({0: big, 2: big}, 40 * PAGE).open(), "s/1")
    image = made({0: big, 8: big}, 40 * PAGE)
    place = image.data.index(
        struct.pack("<Q", 8), image.data.index(struct.pack("<Q", image.kept[0][0] // PAGE | 3 << 52))
    )
    image.put(place, struct.pack("<Q", 0))
    assert "offset 0x0" in refused(image.open(), "s/1")


def test_one_folio_many_times_is_refused() -> None:
    """A few bytes of list would else fill a disk."""
    image = made({}, 64 << 21, elsewhere={index * 512: (0x400000, 9) for index in range(64)})
    image.put(0x400000, b"a")
    assert "some of its folios are the same" in refused(image.open(), "s/1")


def test_memory_known_to_be_zero_stays_a_hole(tmp_path: Path) -> None:
    """A folio of 1 GiB that an ELF core has as p_memsz only, but for a page that was rewritten: all that is read."""
    folio = 1 << 30
    image = made({}, 2 << 30, elsewhere={0: (folio, 18)})
    file = core(Load(0, bytes(image.data)), Load(folio, b"", memsz=1 << 30))
    memory = Counted(ElfMemory("x", file))
    memory.write(folio + (600 << 20) + 5, b"written")
    path = tmp_path / "out"
    with path.open("w+b") as out:
        report = write_memfd(out, memory, luoser.read(memory), "s/1")
        assert out.seek(0, os.SEEK_END) == 2 << 30
        out.seek(600 << 20)
        assert out.read(PAGE) == b"\0\0\0\0\0written".ljust(PAGE, b"\0")
    assert f"{1 << 30} of them from folios" in report
    assert path.stat().st_blocks * 512 < 1 << 20
    assert 0 < memory.bytes < 1 << 20
    memory.remove(folio + (700 << 20), state=PageState.EXCLUDED)
    assert "0x2bc00000-0x2bc00fff" in refused(memory, "s/1")


@pytest.mark.parametrize("state", [PageState.EXCLUDED, PageState.ABSENT])
def test_every_part_that_is_not_there_is_named(state: PageState) -> None:
    image = made({0: b"a" * 16 * PAGE, 16: b"b" * PAGE, 20: b"c" * PAGE}, 20 * PAGE + 100)
    memory = Overlay(image.open())
    (big, _), (second, _), (third, _) = image.kept[:3]
    memory.remove(big + 3 * PAGE, 2 * PAGE, state=state)
    memory.remove(big + 15 * PAGE, state=state)
    memory.remove(second, state=state)
    memory.remove(third, state=state)
    reason = refused(memory, "s/1")
    assert "at offset 0x3000-0x4fff, 0xf000-0x10fff, 0x14000-0x14063: page 0x103000" in reason
    assert f"page {big + 3 * PAGE:#x} is {state.value}" in reason
    assert f"{4 * PAGE + 100} bytes of it" in reason


def test_avml_may_have_left_out_zeros() -> None:
    """It is not known, so the file is not made; but it is said, and of no other state or format."""
    image = made({0: b"a" * PAGE, 1: bytes(PAGE)}, 2 * PAGE)
    pages = range(0, len(image.data), PAGE)
    spans = [(page, bytes(image.data[page : page + PAGE])) for page in pages if page != image.kept[1][0]]
    memory = AvmlMemory("x", writers.avml(spans))
    assert "blocks of zeros" in refused(memory, "s/1")
    overlay = Overlay(image.open())
    overlay.remove(image.kept[1][0])
    assert "blocks of zeros" not in refused(overlay, "s/1")


def test_what_is_not_there_is_named_in_bounds() -> None:
    image = made(dict.fromkeys(range(100), b"a" * PAGE), 100 * PAGE)
    memory = Overlay(image.open())
    for address, _ in image.kept[:100:2]:
        memory.remove(address)
    reason = refused(memory, "s/1")
    assert "at least" in reason and "..." in reason and len(reason) < 400


def test_damaged_page_is_named(tmp_path: Path) -> None:
    """Its state shows only when it is read."""
    image = made({0: b"abcd" * 1024, 1: b"efgh" * 1024}, 2 * PAGE)
    data = bytearray(
        writers.avml([(start, bytes(image.data[start : start + PAGE])) for start in range(0, len(image.data), PAGE)])
    )
    place = data.index(b"efgh")
    data[place] ^= 1
    reason = refused(AvmlMemory("x", bytes(data)), "s/1")
    assert "offset 0x1000-0x1fff" in reason and "damaged" in reason


def test_a_sparse_file_of_a_tib_is_made_in_no_time(tmp_path: Path) -> None:
    """Nothing is done for each page of a hole, nor is it hashed."""
    path = tmp_path / "out"
    memory = made({0: b"a" * PAGE, (1 << 28) - 1: b"z" * PAGE}, 1 << 40).open()
    with path.open("w+b") as file, steps(30_000):
        report = write_memfd(file, memory, luoser.read(memory), "s/1")
        file.seek((1 << 40) - PAGE)
        assert file.read() == b"z" * PAGE
    assert "sha256 not computed" in report


@pytest.mark.parametrize("size", [1 << 36, (1 << 40) + 1, (1 << 63) - 1])
def test_hostile_size_is_refused_or_quick(tmp_path: Path, size: int) -> None:
    """68 GB of holes are not hashed, which would be 262,144 pieces and a minute; 2^63 - 1 is an OSError."""
    memory = made({0: b"a" * PAGE}, size).open()
    with steps(30_000):
        put_together_quietly(tmp_path, memory)


def put_together_quietly(tmp_path: Path, memory: Memory) -> None:
    with (tmp_path / "out").open("w+b") as file:
        try:
            write_memfd(file, memory, luoser.read(memory), "s/1")
        except UsageError:
            return


def by_address(memory: Memory, address: int) -> tuple[bytes, str]:
    """The file of a descriptor that nothing has to lead to, and what is said of it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "file")
        said = write_part(
            str(target), memory, lambda one, **_: luoser.read(one), memfd=f"@{address:#x}", blob=None,
            memfd_at=memfd_at, force=False,
        )  # fmt: skip
        return target.read_bytes(), said


def test_a_memfd_by_its_address_is_that_of_its_session() -> None:
    memory = real.dump("7.3-a/frozen")
    data, said = by_address(memory, 0x1A98000)
    assert data == SEALED
    assert "salvaged" not in said  # the map that preserves it has the sizes


def test_a_descriptor_in_the_bytes_of_a_preserved_file_is_said_to_be_led_to_by_nothing() -> None:
    image = made({0: b"a" * PAGE, 1: b"b" * PAGE}, 2 * PAGE)
    memory = Overlay(image.open())
    luo = luoser.read(memory).handovers[0].luo
    assert luo is not None
    (file,) = luo.sessions[0].files
    assert file.memfd is not None
    _, copy = file.memfd.folios.list.addresses()
    memory.write(copy, memory.read(file.data, PAGE))
    assert "no pointer of a handover leads to this descriptor" in by_address(memory, copy)[1]
    assert "salvaged" not in by_address(memory, file.data)[1]


def test_a_sign_against_a_file_that_a_handover_leads_to_is_part_of_the_line(tmp_path: Path) -> None:
    memory = made({0: b"a" * PAGE}, 100).open()  # bytes after its end
    data, said = by_address(memory, session_files(luoser.read(memory))[0].data)
    by_name, line, _ = put_together(tmp_path, memory, "s/1")
    assert data == by_name and said.startswith(f"{line}; ") and "after" in said


def test_an_empty_file_by_its_address_is_that_of_its_session() -> None:
    image = made({}, 0)
    memory = Overlay(image.open())
    address = session_files(luoser.read(memory))[0].data
    memory.write(address, struct.pack("<Q", 5))  # its position
    assert by_address(memory, address) == (
        b"",
        f"0 bytes, 0 of them from folios, sha256 {hashlib.sha256().hexdigest()}",
    )


@pytest.mark.parametrize("part", ["root", "leaf"])
def test_without_its_map_a_file_has_the_same_bytes_by_name_and_by_address(tmp_path: Path, part: str) -> None:
    pieces = {0: b"a" * PAGE, 1: b"b" * PAGE, 2: b"c" * 2 * PAGE, 4: b"d" * 4 * PAGE}
    memory = Overlay(made(pieces, 8 * PAGE - 5).open())
    state = luoser.read(memory)
    preserved = state.handovers[0].preserved
    for address in preserved.nodes[:1] if part == "root" else [place for place, order, _ in preserved.bitmaps if order]:
        memory.remove(address)
    data, said, _ = put_together(tmp_path, memory, "s/1")
    assert data == b"".join(pieces.values())[:-5]
    assert "ends where the next one begins (if it cannot: one page)" in said
    again, line = by_address(memory, session_files(state)[0].data)
    assert again == data and line.startswith(said)


def test_without_its_map_a_folio_that_cannot_reach_to_the_next_one_is_a_page(tmp_path: Path) -> None:
    memory = Overlay(made({0: b"a" * PAGE, 3: b"b" * PAGE}, 4 * PAGE).open())
    memory.remove(luoser.read(memory).handovers[0].preserved.address)
    assert put_together(tmp_path, memory, "s/1")[0] == b"a" * PAGE + bytes(2 * PAGE) + b"b" * PAGE


def test_without_a_map_a_folio_reaches_to_the_next_one() -> None:
    pieces = {0: b"a" * PAGE, 1: b"b" * PAGE, 2: b"c" * 2 * PAGE, 4: b"d" * 4 * PAGE}
    image = made(pieces, 8 * PAGE - 5)
    memory = Overlay(image.open())
    state = luoser.read(memory)
    luo = state.handovers[0].luo
    assert luo is not None
    (file,) = luo.sessions[0].files
    for address in (state.handovers[0].address, state.handovers[0].preserved.address):
        assert address is not None
        memory.remove(address)
    assert luoser.read(memory).handovers == ()
    data, said = by_address(memory, file.data)
    assert data == b"".join(pieces.values())[:-5]
    assert "no map confirms its folios, assuming that each ends where the next one begins" in said


def test_a_folio_that_cannot_reach_to_the_next_one_is_refused() -> None:
    image = made({0: b"a" * PAGE, 3: b"b" * PAGE}, 4 * PAGE)
    memory = Overlay(image.open())
    state = luoser.read(memory)
    luo = state.handovers[0].luo
    assert luo is not None and state.handovers[0].address is not None
    memory.remove(state.handovers[0].address)
    with pytest.raises(UsageError, match="its folio 0 would have 3 pages, which is no power of two; its bytes are not"):
        by_address(memory, luo.sessions[0].files[0].data)


@pytest.mark.parametrize(
    ("name", "address"), [("@0x1000", 0x1000), ("0x1000", 0x1000), ("4096", 4096), ("vm/0x1a", None), ("@1/2", None)]
)
def test_a_name_without_a_slash_is_an_address(name: str, address: int | None) -> None:
    assert memfd_address(name) == address


def test_a_name_that_is_neither_is_refused() -> None:
    with pytest.raises(UsageError, match="expected SESSION/TOKEN such as vm-web-01/0x1b, or @ADDRESS"):
        memfd_address("@over there")
