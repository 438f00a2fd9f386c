# SPDX-License-Identifier: MIT
"""What the worst file of each format costs: at three sizes, the work grows no faster than the bytes of the file.

Work is lines of Python, and bytes that are taken out of the file. `test_costs` is about what is inside of memory.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser import fdt
from luoser.hextext import parse_hex
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import find_kallsyms
from luoser.kernel.space import AddressSpace
from luoser.kernel.types import described
from luoser.memory.avml import AvmlMemory
from luoser.memory.elf import ElfMemory
from luoser.memory.file import load
from luoser.memory.flattened import Flattened
from luoser.memory.kdump import KdumpMemory
from luoser.memory.lime import LimeMemory
from luoser.memory.source import Memory
from luoser.parse import parse_json, parse_toml
from luoser.state import to_document
from luoser.state.from_json import from_document
from luoser.symbols import read_symbols
from luoser.topology import read_topology
from tests.images import Image, name, u64
from tests.kernel.made import IMAGE, Blob, Tables, kallsyms_memory
from tests.memory import writers
from tests.reader.helpers import luo_ser
from tests.work import steps

PAGE = 4096
UNIT = 64
"""Bytes that are taken out of a file for the price of a line."""
MOST = 100
"""Work for a byte of the file."""


class Counted(bytes):
    """The bytes of a file, which count what is taken out of them."""

    taken = 0

    def __getitem__(self, part: Any) -> Any:
        found = super().__getitem__(part)
        self.taken += len(found) if isinstance(part, slice) else 1
        return found


def use(memory: Memory) -> None:
    """Search it, and read it."""
    list(memory.find_pages(fdt.MAGIC))
    list(memory.find(b"\x0a\0\0\0\x20\0\0\0"))
    luoser.read(memory)


# -- dumps: the bytes of one, and what reads it ------------------------------------------------------------


def elf(headers: Sequence[tuple[int, ...]], data: bytes) -> bytes:
    """A core with these (kind, offset in the data, physical address, size in the file, in memory)."""
    start = 64 + 56 * len(headers) + 64
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, start - 64, 0, 64, 56, 0xFFFF, 64, 1, 0)
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind, 0, start + offset, 0, address, size, span, 8)
        for kind, offset, address, size, span in headers
    )
    return head + table + struct.pack("<44xI16x", len(headers)) + data


def segments_inside_of_each_other(size: int) -> bytes:
    count = 120 * size
    return elf([(1, n, n << 12, count - n, (2 * count - 2 * n) << 12) for n in range(count)], bytes(count))


def kdump(places: Sequence[int], length: int, data: bytes, *, flags: int = 0, step: int = 1) -> bytes:
    """A dump of pages of one length at these offsets of the data. step: between their frames."""
    frames = range(0, step * len(places), step)
    whole = writers.kdump(dict.fromkeys(frames, bytes(PAGE)), pack="plain")
    start, table = len(whole) - PAGE, 24 * len(places)
    made = b"".join(struct.pack("<qIIQ", start + place, length, flags, 0) for place in places)
    return whole[: start - table] + made + data


def pages_with_the_same_bytes(size: int) -> bytes:
    return kdump([0] * (256 * size), PAGE, bytes(range(256)) * 16, step=2)


def pages_that_overlap(size: int) -> bytes:
    return kdump(range(512 * size), PAGE, bytes(512 * size + PAGE))


def damaged_pages_that_overlap(size: int) -> bytes:
    return kdump(range(512 * size, 0, -1), 2 * PAGE, bytes(512 * size + 2 * PAGE), flags=1)


def flat(*pieces: tuple[int, bytes]) -> bytes:
    records = b"".join(struct.pack(">qq", place, len(data)) + data for place, data in pieces)
    return writers.FLAT_HEADER.ljust(4096, b"\0") + records + struct.pack(">qq", -1, -1)


def pages_over_tiny_pieces(size: int) -> bytes:
    """As many as are not put together once: 60 in 4 KiB."""
    count = 128 * size
    whole = kdump(range(count), 2 * PAGE, b"", flags=1)
    return flat((0, whole), *((len(whole) + 68 * n, b"x") for n in range(count)))


def segments_over_tiny_pieces(size: int) -> bytes:
    count = 15 * size
    whole = elf([(1, n, n << 32, count, count) for n in range(count)], b"")
    return flat((0, whole), *((len(whole) + n, b"x") for n in range(2 * count)))


def pieces_over_each_other(size: int) -> bytes:
    whole = kdump([0] * 64, PAGE, bytes(PAGE))
    return flat((0, whole), *((len(whole) - n, b"x" * n) for n in range(1, 64 * size)))


def ranges_that_overlap(size: int) -> bytes:
    return writers.lime([(20 * n, bytes(50)) for n in range(200 * size)])


def ranges_one_by_one(size: int) -> bytes:
    return writers.lime([(0x2000 * n, b"x") for n in range(200 * size, 0, -1)])


def chunks_of_a_byte(size: int) -> bytes:
    return writers.avml([(0x2000 * n, b"x") for n in range(150 * size)])


DUMPS: list[tuple[Callable[[int], bytes], Callable[[bytes], Memory]]] = [
    (segments_inside_of_each_other, lambda data: ElfMemory("x", data)),
    (pages_with_the_same_bytes, lambda data: KdumpMemory("x", [("x", data)])),
    (pages_that_overlap, lambda data: KdumpMemory("x", [("x", data)])),
    (damaged_pages_that_overlap, lambda data: KdumpMemory("x", [("x", data)])),
    (pages_over_tiny_pieces, lambda data: KdumpMemory("x", [("x", Flattened("x", data))])),
    (segments_over_tiny_pieces, lambda data: ElfMemory("x", data, Flattened("x", data))),
    (pieces_over_each_other, lambda data: KdumpMemory("x", [("x", Flattened("x", data))])),
    (ranges_that_overlap, lambda data: LimeMemory("x", data)),
    (ranges_one_by_one, lambda data: LimeMemory("x", data)),
    (chunks_of_a_byte, lambda data: AvmlMemory("x", data)),
]


@pytest.mark.parametrize(("build", "opened"), [pytest.param(*row, id=row[0].__name__) for row in DUMPS])
def test_work_on_a_dump_grows_with_its_bytes(build: Callable[[int], bytes], opened: Callable[[bytes], Memory]) -> None:
    def work(data: bytes) -> None:
        use(opened(data))

    assert_linear(build, work)


def assert_linear(build: Callable[[int], bytes], work: Callable[[bytes], object]) -> None:
    """Work on files of three sizes: what the larger half of the largest one adds is no more than what it has."""
    work(build(1))  # what happens once in a process
    costs = []
    for size in (1, 2, 4):
        data = Counted(build(size))
        with steps(20_000_000) as taken:
            work(data)
            costs.append(taken() + data.taken // UNIT)
    small, middle, large = costs
    assert large < MOST * len(data)
    assert large - middle < 2.5 * max(0, middle - small) + 20_000


# -- texts, and what is packed -----------------------------------------------------------------------------


def rows_of_hex(size: int) -> bytes:
    """Every second one stands for zeros."""
    words = " ".join(["00"] * 8)
    rows = (f"{64 * n:08x}  {words}  {words}\n*\n" for n in range(150 * size))
    return ("".join(rows) + f"{64 * 150 * size:08x}\n").encode()


def sessions_of_a_document(size: int) -> bytes:
    image = Image()
    entry = name("s", 64) + u64(image.blocks([name("x", 48) + u64(0) + u64(1)])) + u64(1)
    image.handover({"LUO": (image.alloc(luo_ser(1, image.blocks([entry]))), 32)})
    document = to_document(image.read(), full=True)
    luo = document["handovers"][0]["luo"]
    luo["sessions"] = [{**luo["sessions"][0], "name": f"s{number}"} for number in range(20 * size)]
    return json.dumps(document).encode()


def dotted_keys(size: int) -> bytes:
    return "".join(f"a.b.c{n}.d = [{{x.y = 1}}]\n" for n in range(100 * size)).encode()


def tables_in_arrays(size: int) -> bytes:
    return "".join(f"[[a]]\n[[a.b]]\n[a.b.c{n}]\nx = 1\n" for n in range(100 * size)).encode()


def records_of_lspci(size: int) -> bytes:
    """Every second one of the same device."""
    rows = (f"Slot:\t{n >> 8:02x}:{n >> 3 & 31:02x}.{n & 6}\nClass:\t0604\nx:\n\n" for n in range(250 * size))
    return "".join(rows).encode()


def paths_of_lspci(size: int) -> bytes:
    """A bridge below another one, hundreds of levels deep."""
    rows = (f"00:00.0{'/01:00.0' * 200}/{n:02x}:00.0 0604: 1af4:0001\n" for n in range(12 * size))
    return "".join(rows).encode()


def chain_of_bridges(size: int) -> bytes:
    names = [f"0000:{n >> 8:02x}:{n >> 3 & 31:02x}.{n & 7}" for n in range(200 * size + 1)]
    return json.dumps([{"bdf": one, "parent": above} for one, above in pairwise(names)]).encode()


def symbols_of_one_place(size: int) -> bytes:
    return b"".join(b"ffffffff81000000 T kho_in\nffffffff%08x t a\n" % n for n in range(400 * size, 0, -1))


def properties_of_one_long_name(size: int) -> bytes:
    block = [1, 0, *(word for n in range(300 * size) for word in (3, 0, n % 200, 4, 4)), 2, 9]
    return tree(struct.pack(f">{len(block)}I", *block), b"a" * 255 + b"\0")


def nodes_of_one_name(size: int) -> bytes:
    block = [1, 0, *(1, 0x61000000, 2) * (300 * size), 2, 9]
    return tree(struct.pack(f">{len(block)}I", *block), b"")


def tree(block: bytes, strings: bytes) -> bytes:
    size = 56 + len(block) + len(strings)
    head = (0xD00DFEED, size, 56, 56 + len(block), 40, 17, 16, 0, len(strings), len(block))
    return struct.pack(">10I16x", *head) + block + strings


def structs_in_structs(size: int) -> bytes:
    """Anonymous ones, twice on each level, and typedefs of typedefs."""
    blob = Blob()
    number = blob.structure(b"", 4, (b"m", blob.integer(b"u", 4), 0))
    for _ in range(3):
        number = blob.structure(b"", 4, (b"", number, 0), (b"", number, 0))
        for _ in range(5):
            number = blob.add(8, b"t", number)
    for count in range(60 * size):
        blob.structure(b"s%d" % count, 4, (b"", number, 0))
    return blob.data()


@cache
def kernel(count: int) -> AddressSpace:
    """With as many symbols, and two that VMCOREINFO has."""
    names = [b"_stext", *(b"name_of_a_symbol_%d" % number for number in range(count)), b"init_uts_ns"]
    symbols = [(IMAGE + 16 * number, "T", name) for number, name in enumerate(names)]
    return kallsyms_memory(Tables(symbols=symbols))[1]


def names_of_symbols(size: int) -> bytes:
    """As many bytes as they take, which are in memory."""
    kernel(100 * size)
    return bytes(20 * 100 * size)


def streams(packed: bytes, count: int) -> Callable[[int], bytes]:
    def build(size: int) -> bytes:
        return packed * (count * size)

    return build


def read_fdt(data: bytes) -> None:
    fdt.parse(data, partial=True)
    list(fdt.tokens(data))


def read_btf(data: bytes) -> None:
    types = Btf(data)
    for number, _ in types.structs():
        for _, place in types.members(number):
            described(types, place.type)
            types.size(place.type)


def read_kallsyms(data: bytes) -> None:
    list(find_kallsyms(kernel(len(data) // 20)))


TEXTS: list[tuple[str, Callable[[int], bytes], Callable[[bytes], object]]] = [
    ("hex", rows_of_hex, parse_hex),
    ("json", sessions_of_a_document, lambda data: from_document(parse_json(data.decode()))),
    ("toml", dotted_keys, lambda data: parse_toml(data.decode())),
    ("toml", tables_in_arrays, lambda data: parse_toml(data.decode())),
    ("fdt", properties_of_one_long_name, read_fdt),
    ("fdt", nodes_of_one_name, read_fdt),
    ("btf", structs_in_structs, read_btf),
    ("kallsyms", names_of_symbols, read_kallsyms),
]
FILES: list[tuple[str, Callable[[int], bytes], Callable[[Path], object]]] = [
    ("lspci -vmm", records_of_lspci, read_topology),
    ("lspci -PP", paths_of_lspci, read_topology),
    ("topology", chain_of_bridges, read_topology),
    ("System.map", symbols_of_one_place, lambda path: read_symbols(path, frozenset({"kho_in"}))),
    ("gz", streams(gzip.compress(b"x"), 100), load),
    ("bz2", streams(bz2.compress(b"x"), 100), load),
    ("xz", streams(lzma.compress(b"x"), 50), load),
]


@pytest.mark.parametrize(("build", "work"), [pytest.param(*row[1:], id=f"{row[0]}-{row[1].__name__}") for row in TEXTS])
def test_work_on_a_text_grows_with_its_bytes(build: Callable[[int], bytes], work: Callable[[bytes], object]) -> None:
    assert_linear(build, work)


@pytest.mark.parametrize(("build", "work"), [pytest.param(*row[1:], id=f"{row[0]}-{row[1].__name__}") for row in FILES])
def test_work_on_a_file_grows_with_its_bytes(
    build: Callable[[int], bytes], work: Callable[[Path], object], tmp_path: Path
) -> None:
    def of_file(data: bytes) -> None:
        (tmp_path / str(len(data))).write_bytes(data)
        work(tmp_path / str(len(data)))

    assert_linear(build, of_file)
