# SPDX-License-Identifier: MIT
"""The budgets, each beside its peers. Nothing here fails for being slow, only for giving a wrong result."""

from __future__ import annotations

import io
import json
import lzma
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser import fdt
from luoser.abi.pci import layout
from luoser.abi.schema import Schema
from luoser.changes.pci import device_changes
from luoser.render.jsontext import put_json
from luoser.state import Bitmap, DeviceList, PreservedMap
from luoser.state.columns import columns
from luoser.text import bdf_text
from luoser.writer.spec import blob_bytes, parse_spec
from tests import images, real
from tests.fleet import cuts
from tests.memory import writers
from tests.memory.images import Load, core
from tests.memory.servers import served

Compare = Callable[..., None]
Work = Callable[[], Any]
MIB, GIB, PAGE = 1 << 20, 1 << 30, 4096


# -- fleets -----------------------------------------------------------------------------------------------


def _checked(folder: Path, jobs: int) -> Work:
    """`luoser check` of a folder."""

    def work() -> None:
        command = [sys.executable, "-m", "luoser", "check", str(folder), "--jobs", str(jobs), "--format", "jsonl"]
        done = subprocess.run(command, capture_output=True, check=True, cwd=real.ROOT)
        assert done.stdout.count(b"\n") == len(list(folder.iterdir()))

    return work


@pytest.mark.parametrize("count", [200, 2000])
def test_many_cuts_on_two_cores(count: int, tmp_path: Path, compare: Compare) -> None:
    cuts.make(tmp_path, count)
    peers = {"one job": _checked(tmp_path, 1)}
    words = f"{count}, by the clock"
    compare(
        "check many cuts, two jobs",
        words,
        _checked(tmp_path, 2),
        peers,
        number=count,
        goal="at most 0.59",
        rounds=1,
        memory=False,
        wall=True,
    )


@pytest.mark.parametrize("count", [200, 2000])
def test_survey_of_many_cuts(count: int, tmp_path: Path, compare: Compare) -> None:
    files = cuts.make(tmp_path, count)

    def survey(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            words = ["survey", "--from-list", "-", "-o", folder, "--name", cuts.RULE, "--jobs", str(jobs)]
            words += ["--moments", ",".join(cuts.MOMENTS)]
            names = "\n".join(map(str, files)).encode()
            command = [sys.executable, "-m", "luoser", *words]
            subprocess.run(command, input=names, capture_output=True, check=True, cwd=real.ROOT)

    compare(
        "survey of many cuts, two jobs",
        f"{count}, by the clock",
        partial(survey, 2),
        {"one job": partial(survey, 1)},
        number=count,
        goal="at most 0.59",
        rounds=1,
        memory=False,
        wall=True,
    )


def test_many_cuts_and_a_shell_loop(tmp_path: Path, compare: Compare) -> None:
    files = cuts.make(tmp_path, 200)

    def loop() -> None:
        for file in files:
            command = [sys.executable, "-m", "luoser", "check", str(file), "--format", "json"]
            subprocess.run(command, capture_output=True, check=True, cwd=real.ROOT)

    peers = {"a process for each": loop}
    compare(
        "check many cuts, two jobs",
        "200, by the clock",
        _checked(tmp_path, 2),
        peers,
        goal="at most 0.125",
        rounds=1,
        memory=False,
        wall=True,
    )


# -- starts -----------------------------------------------------------------------------------------------

_BARE = """
import click
@click.group()
def cli(): 'A bare app.'
@cli.command()
def one(): 'One.'
cli()
"""
_LUOSER = "from luoser.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Process:
    """A Python process with compiled bytecode, without the finder of an editable installation (-S)."""

    code: str
    words: tuple[str, ...]

    def __call__(self) -> None:
        self._run(self.code)

    def dump_stats(self, place: Path) -> None:
        """Write the profile of such a process to a file."""
        start = "import cProfile, sys\nprofile = cProfile.Profile()"
        end = f"profile.dump_stats({str(place)!r})"
        self._run(f"{start}\ntry:\n    profile.runctx({self.code!r}, globals(), globals())\nfinally:\n    {end}")

    def _run(self, code: str) -> None:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        kept["PYTHONPATH"] = os.pathsep.join([str(real.ROOT), packages])
        command = [sys.executable, "-S", "-c", code, *self.words]
        subprocess.run(command, check=True, capture_output=True, cwd=real.ROOT, env=kept)


def process(code: str, *words: str) -> Work:
    """A Python process that runs a text. words: its arguments."""
    return Process(code, words)


@pytest.mark.parametrize(
    ("what", "words", "goal"),
    [
        ("luoser --help", ["--help"], "at most 1.3"),
        ("decode of a folio", ["decode", "fixtures/golden/pci-folio.bin"], "at most 2"),
        ("inspect of a small cut", ["inspect", str(real.path("7.3-a/frozen"))], ""),
    ],
)
def test_start(what: str, words: list[str], goal: str, compare: Compare) -> None:
    subprocess.run([sys.executable, "-m", "compileall", "-q", "luoser"], check=True, cwd=real.ROOT)
    peers: dict[str, Work | str] = {"bare click app": process(_BARE, "--help"), "import of drgn": "not installed"}
    if _has("drgn"):
        peers["import of drgn"] = process("import drgn")
    compare(f"start: {what}", "", process(_LUOSER, *words), peers, goal=goal, rounds=11, memory=False)


def _has(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


# -- scan -------------------------------------------------------------------------------------------------


def noise(place: Path, size: int, marks: tuple[int, ...]) -> Path:
    """An image without a hole, with the devicetree magic on some pages."""
    block = random.Random(1).randbytes(MIB).replace(b"\xd0", b"\xd1")
    with place.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        for mark in marks:
            file.seek(mark)
            file.write(fdt.MAGIC)
    return place


@pytest.mark.parametrize("size", [64, 128, 256])
def test_scan(size: int, tmp_path: Path, compare: Compare) -> None:
    marks = (0x1000, 0x5CD000, size * MIB - PAGE)
    place = noise(tmp_path / "raw", size * MIB, marks)
    memory = luoser.open(place)
    assert list(memory.find_pages(fdt.MAGIC)) == sorted(marks)
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:

        def every_byte() -> None:
            for start in range(0, size * MIB, 16 * MIB):
                bytes(memoryview(whole)[start : start + 16 * MIB])

        def grep() -> None:  # into a pipe: with /dev/null GNU grep stops at the first match
            command = ["grep", "-obUaP", r"\xd0\x0d\xfe\xed", str(place)]
            shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"})
            assert shown.stdout.count(b"\n") == len(marks)

        peers: dict[str, Work | str] = {"every byte read": every_byte, "grep -obUaP": "not installed"}
        if shutil.which("grep"):
            peers["grep -obUaP"] = grep
        work = "pages with a magic, raw image"
        compare(work, f"{size} MiB", lambda: list(memory.find_pages(fdt.MAGIC)), peers, number=size, goal="at most 2")


@pytest.mark.parametrize("size", [1, 4, 16])
def test_sparse(size: int, tmp_path: Path, compare: Compare) -> None:
    """An ELF core and a raw image with 2 MiB of data, all of which are searched."""
    head = core(Load(0, b""))[:64] + struct.pack("<IIQQQQQQ", 1, 0, MIB, 0, 0, size * GIB, size * GIB, 0)
    files = []
    for name, start in (("elf", MIB), ("raw", 0)):
        files.append(tmp_path / name)
        with files[-1].open("wb") as file:
            file.write(head if start else b"")
            file.seek(start + size * GIB // 2)
            file.write(fdt.MAGIC + b"x" * (2 * MIB - 4))
            file.truncate(start + size * GIB)
    elf, raw = map(luoser.open, files)
    assert list(elf.find_pages(fdt.MAGIC)) == list(raw.find_pages(fdt.MAGIC)) == [size * GIB // 2]
    peers = {"sparse raw image": lambda: list(raw.find(b"0KHO"))}
    compare("bytes in a sparse ELF core", f"{size} GiB", lambda: list(elf.find(b"0KHO")), peers, number=size, rounds=7)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_scan_of_kdump(size: int, tmp_path: Path, compare: Compare) -> None:
    """Pages of a real kernel's handover and memfds, each stamped so that no two are the same."""
    memory = real.dump("7.3-a/frozen")
    known = [segment for segment in memory.segments if segment.stored]
    some = [memory.read(at, PAGE) for one in known for at in range(one.start, one.start + one.stored, PAGE)]
    pages = {frame: b"\0" + some[frame % len(some)][1:-8] + struct.pack("<Q", frame) for frame in range(size * 256)}
    pages[4000] = fdt.MAGIC + pages[4000][4:]
    place = tmp_path / "kdump"
    place.write_bytes(writers.kdump(pages, pack="zlib"))
    packed = [zlib.compress(page) for page in pages.values()]
    dump = luoser.open(place)
    assert list(dump.find_pages(fdt.MAGIC)) == [4000 * PAGE]
    peers = {"zlib.decompress of every page": lambda: [zlib.decompress(stream) and None for stream in packed]}
    what = f"{size} MiB"
    work = lambda: list(dump.find_pages(fdt.MAGIC))  # noqa: E731
    compare("pages with a magic, kdump-zlib", what, work, peers, number=size, goal="at most 0.33")
    work = lambda: list(dump.find(b"\x0a\0\0\0\x20\0\0\0"))  # noqa: E731
    compare("bytes anywhere, kdump-zlib", what, work, peers, number=size)


# -- one root, and whole dumps ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dumps") / "cut"
    place.write_bytes(lzma.decompress(real.path("7.3-a/frozen").read_bytes()))
    return place


@pytest.mark.parametrize("size", [1, 2, 4])
def test_one_root(size: int, unpacked: Path, tmp_path: Path, compare: Compare) -> None:
    """A raw image without holes in its first GiB, with the pages of a real dump at their addresses."""
    place = noise(tmp_path / "image", GIB // 4, ())
    with luoser.open(unpacked) as memory, place.open("r+b") as file:
        for segment in memory.segments:
            if segment.stored and segment.end <= GIB:
                file.seek(segment.start)
                file.write(memory.read(segment.start, segment.stored))
        file.truncate(size * GIB)
    one_of_all(place, unpacked, f"{size} GiB", size, "raw image", compare)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_one_root_of_a_kdump(size: int, unpacked: Path, tmp_path: Path, compare: Compare) -> None:
    """Pages that are all stored on their own, with those of a real dump at their addresses."""
    chance, packed = random.Random(1), cache(writers.COMPRESSIONS["zlib"])
    others = [b"\x01" + chance.randbytes(63) + bytes(PAGE - 64) for _ in range(256)]
    pages = {frame: others[frame % len(others)] for frame in range(size * GIB // PAGE)}
    with luoser.open(unpacked) as memory:
        for segment in memory.segments:
            for address in range(segment.start, min(segment.start + segment.stored, GIB), PAGE):
                pages[address // PAGE] = memory.read(address, PAGE)
        info = memory.info_note
    place = tmp_path / "kdump"
    place.write_bytes(writers.kdump(pages, pack=packed, vmcoreinfo=info, share_zero=False))
    del pages
    one_of_all(place, unpacked, f"{size} GiB", size, "kdump", compare, rounds=1)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_one_root_elsewhere(size: int, unpacked: Path, tmp_path: Path, compare: Compare) -> None:
    """A raw image with holes behind an HTTP server of this process, whose time counts for both."""
    place = tmp_path / "image"
    with luoser.open(unpacked) as memory, place.open("wb") as file:
        (root,) = luoser.read(memory).handovers
        for segment in memory.segments:
            if segment.stored and segment.end <= size * GIB:
                file.seek(segment.start)
                file.write(memory.read(segment.start, segment.stored))
        file.truncate(size * GIB)
    with served() as server:
        url = server.url("image", place)

        def one() -> int:
            with luoser.open(url) as memory:
                (found,) = luoser.read(memory, root=root.address).handovers
                assert found.luo == root.luo and memory.traffic is not None
                return memory.traffic.fetched

        def whole() -> None:
            with urllib.request.urlopen(url) as answer, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                shutil.copyfileobj(answer, nowhere, MIB)

        words = f"{size} GiB, {one() / MIB:.1f} MiB fetched"
        work = "one root of a raw image behind HTTP, --root"
        compare(work, words, one, {"fetching the whole file": whole}, number=size, rounds=1, memory=False)


def one_of_all(place: Path, cut: Path, words: str, size: int, what: str, compare: Compare, *, rounds: int = 3) -> None:
    """Measure a reading of one root beside one of all that a search finds. cut: the dump that the root is of."""
    (root,) = luoser.read(luoser.open(cut)).handovers
    assert root.address is not None

    def one() -> None:
        with luoser.open(place) as memory:
            (found,) = luoser.read(memory, root=root.address, search=False).handovers
            assert found.luo == root.luo

    def whole() -> None:
        with luoser.open(place) as memory:
            luoser.read(memory)

    peers = {"all roots, by a search": whole}
    compare(f"one root of a {what}, --root", words, one, peers, number=size, rounds=rounds)


@pytest.mark.parametrize("count", [10, 40, 200])
def test_many_cuts_in_one_process(count: int, compare: Compare) -> None:
    packed = real.path("7.3-a/pre")

    def read() -> None:
        for _ in range(count):
            with luoser.open(packed) as memory:
                assert luoser.read(memory).handovers

    def unpack() -> None:
        for _ in range(count):
            lzma.decompress(packed.read_bytes())

    read()  # with the imports of the first one
    compare("cuts read in one process", f"{count}", read, {"unpacking them": unpack}, number=count, goal="at most 3")


# -- lists ------------------------------------------------------------------------------------------------


def parsers(schema: Schema, data: bytes, count: int) -> dict[str, Work | str]:
    """What parses the same records, by name; a word where it is not there."""
    import construct

    record = construct.Struct("path" / construct.Int32ul, "flags" / construct.Int32ul, "data" / construct.Int64ul)
    some = data[: 16 * min(count, 10_000)]  # of slow ones only so many
    interpreted = construct.Array(len(some) // 16, record)
    scale = count * 16 // len(some)
    peers: dict[str, Work | str] = {
        "struct.iter_unpack": lambda: list(schema.record.iter_unpack(data)),
        "dissect.cstruct": "not installed",
        "kaitaistruct": "not installed",
    }
    if scale == 1:
        peers["construct"] = lambda: interpreted.parse(some)
        compiled = interpreted.compile()
        peers["construct, compiled"] = lambda: compiled.parse(some)
        if _has("dissect.cstruct"):
            from dissect.cstruct import cstruct

            types = cstruct("struct dev { uint32 path; uint32 flags; uint64 data; };", endian="<")
            peers["dissect.cstruct"] = lambda: types.dev[count](io.BytesIO(some))
        if _has("kaitaistruct"):
            from kaitaistruct import KaitaiStream

            def kaitai() -> None:  # what its compiler makes for these members
                stream = KaitaiStream(io.BytesIO(some))
                for _ in range(count):
                    stream.read_u4le(), stream.read_u4le(), stream.read_u8le()

            peers["kaitaistruct"] = kaitai
    else:
        peers["dissect.cstruct"] = peers["kaitaistruct"] = "measured with 10^4"
    return peers


@pytest.mark.parametrize("count", [10_000, 100_000, 1_000_000])
def test_devices(count: int, compare: Compare) -> None:
    known = layout("pci-lu-v2-03")
    assert known is not None
    record = known.record.record
    data = b"".join(struct.pack("<IIQ", number, 1 + number % 3, number << 12) for number in range(count))
    devices = DeviceList(record, columns(known.record), data)
    assert list(devices.rows()) == list(record.iter_unpack(data))
    compare("device records to rows", f"{count}", lambda: list(devices.rows()), parsers(known.record, data, count),
            number=count, goal="at most 1.5")  # fmt: skip


@pytest.mark.parametrize("count", [10_000, 100_000, 1_000_000])
def test_diff(count: int, compare: Compare) -> None:
    known = layout("pci-lu-v2-03")
    assert known is not None
    record, chance = known.record.record, random.Random(3)
    rows = [struct.pack("<IIQ", number, 1, number << 12) for number in range(count)]
    inserted, shuffled = list(rows), list(rows)
    for number in range(100):
        inserted.insert(chance.randrange(len(inserted)), struct.pack("<IIQ", count + number, 1, 0))
    chance.shuffle(shuffled)
    before = DeviceList(record, columns(known.record), b"".join(rows))
    for what, others, changes in (("100 insertions", inserted, 100), ("shuffled", shuffled, 1)):
        after = DeviceList(record, columns(known.record), b"".join(others))

        def by_dictionary(after: DeviceList = after) -> int:
            old = {row[0]: row for row in before.rows()}
            return sum(1 for row in after.rows() if old.get(row[0]) != row)

        assert len(list(device_changes(before, after))) == changes
        compare(f"diff of devices, {what}", f"{count}", lambda after=after: list(device_changes(before, after)),
                {"a dictionary": by_dictionary}, number=count, rounds=1)  # fmt: skip


@pytest.mark.parametrize("count", [16, 64, 256])
def test_fragmented_maps(count: int, compare: Compare) -> None:
    """Bitmaps of order 0, each of 128 MiB in pages of 4 KiB: 8192 are 1 TiB."""
    chance = random.Random(3)
    kinds: dict[str, Callable[[], bytes]] = {
        "full": lambda: b"\xff" * PAGE,
        "random": lambda: chance.randbytes(PAGE),
        "every other page": lambda: b"\x55" * PAGE,
    }
    for what, make in kinds.items():
        bits = [bytes(bytearray(make())) for _ in range(count)]
        found = PreservedMap([Bitmap(0, number << 27, one) for number, one in enumerate(bits)], page_size=PAGE)
        peers = {"int.bit_count": lambda bits=bits: sum(int.from_bytes(one, "little").bit_count() for one in bits)}

        def extents(found: PreservedMap = found) -> int:
            return sum(pages for _, _, pages in found.extents())

        assert extents() == peers["int.bit_count"]()
        compare(f"extents of bitmaps, {what}", f"{count}", extents, peers, number=count, rounds=1)

        def again(found: PreservedMap = found) -> int:
            return PreservedMap(found.bitmaps, page_size=PAGE).pages

        compare(f"pages of bitmaps, {what}", f"{count}", again, peers, number=count, rounds=1)


@pytest.mark.parametrize("count", [10_000, 40_000, 160_000])
def test_json(count: int, compare: Compare) -> None:
    documents: dict[str, list[Any]] = {
        "devices": [
            {"index": n, "bdf": bdf_text(0, n & 0xFFFF), "flags": 3, "data": f"{n << 12:#x}", "flag_names": ["A"]}
            for n in range(count)
        ],
        "extents": [[f"{n << 13:#x}", 0, 1] for n in range(count)],
    }
    for what, items in documents.items():
        document, pieces = {what: items}, list[str]()
        put_json(document, pieces.append)
        assert json.loads("".join(pieces)) == document
        compare(f"JSON of {what}", f"{count}", lambda document=document: put_json(document, len),
                {"json.dumps": lambda document=document: json.dumps(document)}, number=count, goal="at most 4"
                )  # fmt: skip


@pytest.mark.parametrize("count", [1000, 3000, 10_000])
def test_devicetree(count: int, compare: Compare, tmp_path: Path) -> None:
    leaves = [images.Node(f"node{n}", {"reg": struct.pack(">Q", n), "status": b"okay\0"}) for n in range(99)]
    buses = [images.Node(f"bus{n}", {}, leaves) for n in range(count // 100)]
    blob = images.fdt(images.Node("", {"compatible": b"bench\0"}, buses))
    assert sum(1 for _ in fdt.parse(blob).root.walk()) == count + 1
    place = tmp_path / "tree.dtb"
    place.write_bytes(blob)
    command = ["dtc", "-q", "-I", "dtb", "-O", "dtb", "-o", os.devnull, str(place)]
    peers: dict[str, Work | str] = {"dtc": "not installed"}
    if shutil.which("dtc"):
        peers["dtc"] = lambda: subprocess.run(command, check=True, capture_output=True)
    compare("devicetree parsed, nodes", f"{count}", lambda: fdt.parse(blob), peers, number=count)


@pytest.mark.parametrize("count", [10_000, 40_000, 160_000])
def test_build(count: int, compare: Compare) -> None:
    """From the text of a description to the bytes of the list."""
    entry = '{"bdf": "%04x:%02x:%02x.0", "flags": 1, "driver_data": "%#x"}'
    devices = ",".join(entry % (n >> 13, n >> 5 & 0xFF, n & 31, n << 12) for n in range(count))
    text = f'{{"layout": "pci-lu-v2-03", "devices": [{devices}]}}'.encode()

    def by_hand() -> bytes:
        """What anybody would write who needs the bytes once, without any check."""
        out = bytearray()
        for device in json.loads(text)["devices"]:
            domain, bus, rest = device["bdf"].split(":")
            slot, function = rest.split(".")
            path = int(domain, 16) << 16 | int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
            out += struct.pack("<IIQ", path, device["flags"], int(device["driver_data"], 16))
        return bytes(out)

    assert blob_bytes(parse_spec(text, "bench"))[1][8:] == by_hand()
    compare("list built from JSON, devices", f"{count}", lambda: blob_bytes(parse_spec(text, "bench")),
            {"json and struct.pack": by_hand}, number=count, rounds=1)  # fmt: skip


@pytest.mark.parametrize("count", [300, 1000, 3000])
def test_build_of_sessions(count: int, tmp_path: Path, compare: Compare) -> None:
    """From a short description of sessions with a memfd each to an ELF core that is read again."""
    files = [{"compatible": "memfd-v1", "token": "0x1", "memfd": {"size": "8K"}}]
    sessions = [{"name": f"vm-{number}", "files": files} for number in range(count)]
    spec, core = {"handovers": [{"luo": {"sessions": sessions}}]}, tmp_path / "core"
    data = luoser.build(spec).data

    def image() -> None:
        assert not luoser.build(spec).differences

    compare("image built, sessions", f"{count}", image, {"its bytes written": lambda: core.write_bytes(data)},
            number=count, rounds=1)  # fmt: skip
