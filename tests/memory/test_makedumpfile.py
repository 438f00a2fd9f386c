# SPDX-License-Identifier: MIT
"""Dumps that makedumpfile itself wrote, from cores made here: each page must be read as it was in the core.

Needs makedumpfile (apt-get install makedumpfile). It follows the page tables of a kernel to its version and its
page structs, so the core of `kernel` has as much of a kernel of 5.10 as it needs to leave pages out.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest

import luoser
from luoser.errors import MissingMemory, PageState
from luoser.memory.source import Memory
from tests import real
from tests.memory.conftest import Opened
from tests.memory.images import Load, core, note
from tests.memory.writers import PAGE, flattened, lzo

PROGRAM = shutil.which("makedumpfile")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="makedumpfile is not installed")
Change = Mapping[str, Callable[[bytes], bytes]]
PRESENT, EXCLUDED, DAMAGED, ABSENT = PageState.PRESENT, PageState.EXCLUDED, PageState.DAMAGED, PageState.ABSENT

RAM = (range(1500), range(1600, 2600))
CACHE, USER, FREE = range(700, 1000), range(1000, 1300), range(2048, 2048 + 512)
"""Page frames of the page cache, of user space, and free ones. The kernel below says so in its page structs."""
_KERNEL, _DIRECT = 0xFFFFFFFF80000000, 0xFFFF888000000000
_TABLES, _NAMES, _MAP = (0x100000, 0x101000, 0x102000), 0x103000, 0x110000
_LRU, _SWAPBACKED, _FREE_MARK = 1 << 5, 1 << 17, -129
_INFO = f"""OSRELEASE=5.10.0
PAGESIZE=4096
SYMBOL(init_uts_ns)={_KERNEL + _NAMES:x}
OFFSET(uts_namespace.name)=0
SYMBOL(init_top_pgt)={_KERNEL + _TABLES[0]:x}
SYMBOL(swapper_pg_dir)={_KERNEL + _TABLES[0]:x}
SYMBOL(_stext)={_KERNEL + 0x1000000:x}
SYMBOL(mem_map)={_KERNEL + _NAMES + 0x800:x}
SYMBOL(page_offset_base)={_KERNEL + _NAMES + 0x808:x}
SYMBOL(vmap_area_list)={_KERNEL + _NAMES + 0x810:x}
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page.lru)=8
OFFSET(page.mapping)=24
OFFSET(page.private)=40
OFFSET(page._mapcount)=48
OFFSET(page._refcount)=52
SIZE(list_head)=16
NUMBER(PG_lru)=5
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=17
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)={_FREE_MARK}
NUMBER(NR_FREE_PAGES)=0
NUMBER(phys_base)=0
NUMBER(KERNEL_IMAGE_SIZE)=1073741824
NUMBER(pgtable_l5_enabled)=0
NUMBER(sme_mask)=0
KERNELOFFSET=0
"""
_NOTES = note("CORE", bytes(336), 1)


def _page_struct(frame: int) -> bytes:
    flags, mapping, mapcount = (_LRU, 0x1000, -1) if frame in CACHE else (0, 0, -1)
    if frame in USER:
        flags, mapping = _LRU | _SWAPBACKED, 0x1001
    order = 9 if frame == FREE.start else 0
    if order:
        mapcount = _FREE_MARK
    return struct.pack("<QQQQQQiiQ", flags, 0, 0, mapping, 0, order, mapcount, 1, 0)


@cache
def kernel() -> dict[int, bytes]:
    """The page frames of a machine: every fifth is of zeros, every fifth does not compress."""
    dice = random.Random(11)
    memory = bytearray()
    for frame in range(RAM[-1].stop):
        plain = (b"page frame %d " % frame * 400)[:PAGE]
        memory += [bytes(PAGE), dice.randbytes(PAGE), plain, plain, plain][frame % 5]
    for place in _TABLES:
        memory[place : place + PAGE] = bytes(PAGE)
    for table, index, entry in (
        (0, _KERNEL >> 39 & 511, _TABLES[1] | 7),
        (0, _DIRECT >> 39 & 511, _TABLES[2] | 7),
        (1, _KERNEL >> 30 & 511, 0x83),  # one page of 1 GiB
        (2, 0, 0x83),
    ):
        struct.pack_into("<Q", memory, _TABLES[table] + 8 * index, entry)
    names = (b"Linux", b"lab", b"5.10.0", b"#1", b"x86_64", b"(none)")
    page = b"".join(name.ljust(65, b"\0") for name in names).ljust(0x800, b"\0")
    page += struct.pack("<QQQ", _DIRECT + _MAP, _DIRECT, 0)
    memory[_NAMES : _NAMES + PAGE] = page.ljust(PAGE, b"\0")
    structs = b"".join(map(_page_struct, range(RAM[-1].stop)))
    memory[_MAP : _MAP + len(structs)] = structs
    return {frame: bytes(memory[frame * PAGE : frame * PAGE + PAGE]) for ram in RAM for frame in ram}


@cache
def kernel_core(*, info: bool = True) -> bytes:
    """The core of that machine. info: with VMCOREINFO. makedumpfile then knows how to leave out more than zeros."""
    pages = kernel()
    loads = [Load(ram.start * PAGE, b"".join(pages[frame] for frame in ram)) for ram in RAM]
    return core(*loads, notes=_NOTES + (note("VMCOREINFO", _INFO.encode()) if info else b""))


@cache
def cut_pages() -> dict[int, bytes]:
    """The pages of a cut of a real dump."""
    memory = real.dump("7.3-a/frozen")
    places = (place for part in memory.segments for place in range(part.start, part.end, PAGE))
    return {place // PAGE: memory.read(place, PAGE) for place in places}


@cache
def cut_core() -> bytes:
    """That cut as a core without VMCOREINFO: makedumpfile would miss the page tables."""
    memory = real.dump("7.3-a/frozen")
    return core(*(Load(part.start, memory.read(part.start, part.size)) for part in memory.segments), notes=_NOTES)


@cache
def made(source: bytes, *options: str, files: int = 1) -> tuple[bytes, ...]:
    """The files that makedumpfile makes of a core. With -F it writes to standard output."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "core").write_bytes(source)
        outs = [Path(folder) / f"out-{number}" for number in range(0 if "-F" in options else files)]
        command = [PROGRAM, "--message-level", "4", *options, "core", *(out.name for out in outs)]
        # its threads end with a library that glibc opens only then, which fails at times
        own = os.environ | {"LD_PRELOAD": "libgcc_s.so.1"}
        done = subprocess.run(command, cwd=folder, env=own, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return tuple(out.read_bytes() for out in outs) if outs else (done.stdout,)


@cache
def enabled() -> str:
    done = subprocess.run([PROGRAM or "false", "-v"], capture_output=True, check=False, text=True)
    return done.stdout + done.stderr


def packs() -> Iterator[str]:
    """The compressions that this makedumpfile has. An unknown one is silently none."""
    yield from ("", "-c")
    for option, name in (("-l", "lzo"), ("-p", "snappy"), ("-z", "zstd")):
        if any(line.split() == [name, "enabled"] for line in enabled().splitlines()):
            yield option


@cache
def zeros() -> set[int]:
    return {frame for frame, page in kernel().items() if page == bytes(PAGE)}


def left_out(level: int) -> set[int]:
    """The page frames that a dump level leaves out. In a kdump, those of zeros share one page, so they are in it."""
    out: set[int] = set()
    for bit, frames in ((2, CACHE), (8, USER), (16, FREE)):
        out |= set(frames) if level & bit else set()
    return out


each_pack = pytest.mark.parametrize("pack", list(packs()) if PROGRAM else [""])
each_form = pytest.mark.parametrize("form", ["", "-F"])
each_level = pytest.mark.parametrize(
    "level", [0, 31, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2, 8, 16))]
)


def options(*given: str) -> list[str]:
    return [option for option in given if option]


def assert_reads(memory: Memory, out: Iterable[int] = (), pages: Mapping[int, bytes] | None = None) -> None:
    """Every page is read as it is in the core, but for those that were left out."""
    pages, out = kernel() if pages is None else pages, set(out)
    wrong = [frame for frame in pages if frame not in out and memory.read(frame * PAGE, PAGE) != pages[frame]]
    assert wrong == []
    states = {frame: memory.page_state(frame * PAGE) for frame in pages}
    assert {frame for frame, state in states.items() if state is not PRESENT} == out
    assert {states[frame] for frame in out} <= {EXCLUDED}
    assert memory.remarks == []


def missing(memory: Memory, frame: int) -> PageState:
    with pytest.raises(MissingMemory) as caught:
        memory.read(frame * PAGE, PAGE)
    assert caught.value.page == frame * PAGE
    return caught.value.state


# -- one file ----------------------------------------------------------------------------------------------


@each_form
@each_pack
@each_level
def test_kdump(open_files: Opened, level: int, pack: str, form: str) -> None:
    memory = open_files(*made(kernel_core(), *options(pack, form, "-d", str(level))))
    assert_reads(memory, left_out(level))
    assert (memory.format, memory.page_size, memory.machine) == ("kdump", PAGE, 62)
    assert "".join(f"{key}={value}\n" for key, value in memory.vmcoreinfo.items()) == _INFO
    assert [missing(memory, frame) for frame in sorted(left_out(level))] == [EXCLUDED] * len(left_out(level))
    assert [missing(memory, frame) for frame in (1500, 1599, 2600)] == [ABSENT] * 3
    assert [(part.start, part.end) for part in memory.segments] == [(r.start * PAGE, r.stop * PAGE) for r in RAM]


@each_form
@each_level
def test_elf(open_files: Opened, level: int, form: str) -> None:
    """makedumpfile leaves only long runs out of an ELF file, and zeros only as a part of these."""
    memory = open_files(*made(kernel_core(), *options("-E", form, "-d", str(level))))
    may = left_out(level) | (zeros() if level & 1 else set())
    out = {frame for frame in may if memory.page_state(frame * PAGE) is not PRESENT}
    assert_reads(memory, out)
    assert (memory.format, memory.page_size, memory.machine) == ("elf", PAGE, 62)
    long = [set(frames) for bit, frames in ((2, CACHE), (8, USER), (16, FREE)) if level & bit]
    assert len(out) >= 0.8 * sum(map(len, long))
    assert {missing(memory, frame) for frame in out} <= {EXCLUDED}


@each_form
@each_pack
@pytest.mark.parametrize("level", [0, 1])
def test_kdump_of_a_real_cut(open_files: Opened, level: int, pack: str, form: str) -> None:
    memory = open_files(*made(cut_core(), *options(pack, form, "-d", str(level))))
    assert_reads(memory, (), cut_pages())


@each_form
@pytest.mark.parametrize("level", [0, 1])
def test_elf_of_a_real_cut(open_files: Opened, level: int, form: str) -> None:
    """Without VMCOREINFO only pages of zeros can have been left out."""
    memory = open_files(*made(cut_core(), *options("-E", form, "-d", str(level))))
    assert {frame: memory.read(frame * PAGE, PAGE) for frame in cut_pages()} == cut_pages()
    assert memory.remarks == []


@each_pack
@pytest.mark.parametrize("level", [0, 31])
def test_threads(open_files: Opened, level: int, pack: str) -> None:
    memory = open_files(*made(kernel_core(), *options(pack, "--num-threads", "2", "-d", str(level))))
    assert_reads(memory, left_out(level))


@each_pack
def test_a_kdump_filtered_again(open_files: Opened, pack: str) -> None:
    first = made(kernel_core(), *options(pack, "-d", "1"))[0]
    assert_reads(open_files(*made(first, *options(pack, "-d", "31"))), left_out(31))


@each_pack
def test_rearranged(open_files: Opened, pack: str, tmp_path: Path) -> None:
    """What makedumpfile makes of its own flattened file."""
    flat = made(kernel_core(), *options(pack, "-F", "-d", "31"))[0]
    subprocess.run([PROGRAM or "", "-R", "out"], input=flat, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert_reads(open_files((tmp_path / "out").read_bytes()), left_out(31))


# -- split dumps -------------------------------------------------------------------------------------------

each_split_level = pytest.mark.parametrize("level", [0, 31])


def split(level: int, pack: str = "-c", files: int = 3) -> tuple[bytes, ...]:
    """Parts of a third each. Without --splitblock-size, a part has at least 1 GiB and the rest is empty."""
    return made(kernel_core(), *options(pack, "--split", "--splitblock-size", "64", "-d", str(level)), files=files)


@each_pack
@each_split_level
def test_split(open_files: Opened, level: int, pack: str) -> None:
    for files in permutations(split(level, pack)):
        assert_reads(open_files(*files), left_out(level))


@each_split_level
def test_split_into_many(open_files: Opened, level: int) -> None:
    assert_reads(open_files(*split(level, files=9)), left_out(level))


def test_split_with_empty_parts(open_files: Opened) -> None:
    assert_reads(open_files(*made(kernel_core(), "-c", "--split", "-d", "31", files=3)), left_out(31))


def test_split_of_a_real_cut(open_files: Opened) -> None:
    assert_reads(
        open_files(*made(cut_core(), "-c", "--split", "--splitblock-size", "64", "-d", "0", files=4)),
        (),
        cut_pages(),
    )


@each_pack
def test_a_part_is_missing(open_files: Opened, pack: str) -> None:
    files, pages = split(31, pack), kernel()
    memory = open_files(files[0], files[2])
    assert len(memory.remarks) == 1 and "some page frames are in none of the 2 files" in memory.remarks[0]
    kept = [frame for frame in pages if memory.page_state(frame * PAGE) is PRESENT]
    assert {frame: memory.read(frame * PAGE, PAGE) for frame in kept} == {frame: pages[frame] for frame in kept}
    lost = {frame for frame in pages if memory.page_state(frame * PAGE) is ABSENT}
    whole = open_files(*files)
    assert PRESENT in {whole.page_state(frame * PAGE) for frame in lost}


@pytest.mark.parametrize("flat", [{0, 1, 2}, {0}, {1}, {1, 2}])
@each_split_level
def test_split_with_flattened_parts(open_files: Opened, level: int, flat: set[int]) -> None:
    """Parts that went through a pipe. makedumpfile itself refuses --split with -F, other tools do not."""
    files = [flattened(part, seed=3) if number in flat else part for number, part in enumerate(split(level))]
    assert_reads(open_files(*files), left_out(level))


@each_split_level
def test_split_with_time_stamps_microseconds_apart(open_files: Opened, level: int) -> None:
    """Each writer of a part looks at the clock. makedumpfile writes zeros, libkdumpfile's own writer does look."""
    files = []
    for number, part in enumerate(split(level)):
        time = struct.pack("<QQ", *divmod(1_700_000_000_999_997 + 2 * number, 1_000_000))
        files.append(part[:408] + time + part[424:])
    assert_reads(open_files(*files), left_out(level))


@each_pack
def test_reassembled(open_files: Opened, pack: str, tmp_path: Path) -> None:
    """What makedumpfile makes of its own parts."""
    names = [f"part-{number}" for number in range(3)]
    for name, data in zip(names, split(31, pack), strict=True):
        (tmp_path / name).write_bytes(data)
    command = [PROGRAM or "", "--reassemble", *names, "out"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert_reads(open_files((tmp_path / "out").read_bytes()), left_out(31))


# -- damage ------------------------------------------------------------------------------------------------

VICTIM = 1702
"""A page frame of text, which every compression makes smaller."""
_SIZES = struct.Struct("<qIIQ")


def descriptor(data: bytes | bytearray, frame: int, pages: Iterable[int] | None = None) -> int:
    """Offset of the descriptor of a page frame in a kdump of level 0, which has all of them."""
    block, sub, bitmaps = struct.unpack_from("<iiI", data, 428)
    before = sum(other < frame for other in (kernel() if pages is None else pages))
    return int(1 + sub + bitmaps) * int(block) + _SIZES.size * before


def with_descriptor(data: bytes, frame: int, *, flags: int) -> bytes:
    place = descriptor(data, frame)
    offset, size, _, rest = _SIZES.unpack_from(data, place)
    return data[:place] + _SIZES.pack(offset, size, flags, rest) + data[place + _SIZES.size :]


def with_stored(data: bytes, frame: int, stored: bytes) -> bytes:
    """A kdump in which other bytes are stored for a page frame, at the end of the file."""
    place = descriptor(data, frame)
    flags, rest = _SIZES.unpack_from(data, place)[2:]
    return data[:place] + _SIZES.pack(len(data), len(stored), flags, rest) + data[place + _SIZES.size :] + stored


def assert_damaged(memory: Memory) -> None:
    """The victim cannot be read, and every other page can be."""
    pages = kernel()
    assert missing(memory, VICTIM) is DAMAGED
    others = [frame for frame in pages if frame != VICTIM]
    assert [frame for frame in others if memory.read(frame * PAGE, PAGE) != pages[frame]] == []


@each_form
@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_of_zlib_data_is_not_read_as_data(open_files: Opened, seed: int, form: str) -> None:
    """One bit of each page is flipped. zlib has a checksum, so a page reads as it was, or as damaged."""
    dice, pages = random.Random(seed), cut_pages()
    broken = bytearray(made(cut_core(), "-c", "-d", "0")[0])
    spans = set[tuple[int, int]]()
    for frame in pages:
        offset, size, flags, _ = _SIZES.unpack_from(broken, descriptor(broken, frame, pages))
        if flags == 1:
            spans.add((offset, size))
    for offset, size in sorted(spans):
        broken[dice.randrange(offset, offset + size)] ^= 1 << dice.randrange(8)
    memory = open_files(flattened(bytes(broken)) if form else bytes(broken))
    wrong, damaged = [], 0
    for frame, page in pages.items():
        try:
            if memory.read(frame * PAGE, PAGE) != page:
                wrong.append(frame)
        except MissingMemory as error:
            assert error.state is DAMAGED
            damaged += 1
    assert damaged > len(pages) // 2
    assert wrong == []


LONGER: Change = {
    "": lambda page: page + page,
    "-c": lambda page: zlib.compress(page + b"more"),
    "-l": lambda page: lzo(page + b"more of it"),
}
SHORTER: Change = {
    "": lambda page: page[:-1],
    "-c": lambda page: zlib.compress(page[:-1]),
    "-l": lambda page: lzo(page[:-1]),
}


@pytest.mark.parametrize("pack", LONGER)
@pytest.mark.parametrize("change", [LONGER, SHORTER])
def test_stored_data_of_another_size_than_a_page(open_files: Opened, change: Change, pack: str) -> None:
    data = made(kernel_core(), *options(pack, "-d", "0"))[0]
    assert_damaged(open_files(with_stored(data, VICTIM, change[pack](kernel()[VICTIM]))))


@pytest.mark.parametrize("pack", ["-c", "-l"])
def test_stored_data_without_its_last_bytes(open_files: Opened, pack: str) -> None:
    """The checksum of zlib, the end mark of LZO."""
    data = made(kernel_core(), pack, "-d", "0")[0]
    offset, size, _, _ = _SIZES.unpack_from(data, descriptor(data, VICTIM))
    assert_damaged(open_files(with_stored(data, VICTIM, data[offset : offset + size - 3])))


@each_pack
def test_data_of_noise_damages_only_its_page(open_files: Opened, pack: str) -> None:
    data = bytearray(made(kernel_core(), *options(pack, "-d", "0"))[0])
    offset, size, flags, _ = _SIZES.unpack_from(data, descriptor(bytes(data), VICTIM))
    if not flags:
        pytest.skip("plain pages have nothing that could tell")
    data[offset : offset + size] = b"\xff" * size
    assert_damaged(open_files(bytes(data)))


@pytest.mark.parametrize("flags", [0x40, 0x80, 0x100, 0x80000000, 3, 5, 0x21])
@each_pack
def test_an_unknown_compression(open_files: Opened, pack: str, flags: int) -> None:
    data = made(kernel_core(), *options(pack, "-d", "0"))[0]
    memory = open_files(with_descriptor(data, VICTIM, flags=flags))
    assert_damaged(memory)
    with pytest.raises(MissingMemory, match=f"unknown flags {flags:#x}"):
        memory.read(VICTIM * PAGE, 1)


@each_pack
def test_a_search_remarks_on_pages_that_cannot_be_unpacked(open_files: Opened, pack: str) -> None:
    data = made(kernel_core(), *options(pack, "-d", "0"))[0]
    memory = open_files(with_descriptor(data, VICTIM, flags=0x40))
    assert memory.remarks == []
    assert list(memory.find_pages(b"page frame 1703 ")) == [1703 * PAGE]
    assert list(memory.find_pages(b"page frame 1702 ")) == []
    assert [remark for remark in memory.remarks if remark.startswith("damaged: 1 stored page cannot")]


@pytest.mark.parametrize("flags", [0x40, 1])
def test_damage_that_a_read_finds_is_remarked_on(open_files: Opened, flags: int) -> None:
    """Not only damage that a search finds: a search looks only at the first bytes of a page."""
    data = with_descriptor(made(kernel_core(), "-l", "-d", "0")[0], VICTIM, flags=flags)
    memory = open_files(data)
    assert missing(memory, VICTIM) is DAMAGED
    assert len(memory.remarks) == 1 and memory.remarks[0].startswith("damaged: 1 stored page cannot be unpacked")
    assert memory.is_partial


def test_a_damaged_root_page_is_not_no_root(open_files: Opened) -> None:
    """The search for a root sees the first bytes of its page, which are sound; the rest cannot be unpacked."""
    root, pages = real.read("7.3-a/frozen").handovers[0].address, cut_pages()
    assert root is not None
    data = bytearray(made(cut_core(), "-c", "-d", "0")[0])
    offset, size, flags, _ = _SIZES.unpack_from(data, descriptor(data, root // PAGE, pages))
    assert flags == 1 and size > 100
    data[offset + size // 2] ^= 0xFF
    data[offset + size // 2 + 1] ^= 0xFF
    memory = open_files(bytes(data))
    assert missing(memory, root // PAGE) is DAMAGED
    again = open_files(bytes(data))
    assert root in again.find_pages(b"\xd0\x0d\xfe\xed")
    luoser.read(again)
    assert any(remark.startswith("damaged: 1 stored page") for remark in again.remarks)
