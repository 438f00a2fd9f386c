# SPDX-License-Identifier: MIT
"""The budgets of the design. Every test prints a row: work, what was measured, its peer, the ratio, the budget.

Nothing here fails for being slow, only for giving a wrong result.
"""

from __future__ import annotations

import json
import lzma
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser import fdt
from luoser.abi.pci import layout
from luoser.diff.pci import device_changes
from luoser.render.jsontext import put_json
from luoser.state import Bitmap, DeviceList, PreservedMap
from luoser.state.columns import columns
from luoser.text import bdf_text
from luoser.writer.spec import blob_bytes, parse_spec
from tests import images, real
from tests.bench.conftest import best
from tests.memory import writers

Row = Callable[..., None]
MIB = 1 << 20
PAGE = 4096


def milli(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


# -- scan -------------------------------------------------------------------------------------------------

SCAN = 256 * MIB
MARKS = (0x1000, 0x5CD000, 0xFFF_F000, 0x800_0000)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 MiB without a hole: noise, with the devicetree magic on four pages."""
    place = tmp_path_factory.mktemp("bench") / "raw"
    block = bytearray(random.Random(1).randbytes(MIB).replace(b"\xd0", b"\xd1"))
    with place.open("wb") as file:
        for _ in range(SCAN // MIB):
            file.write(block)
        for mark in MARKS:
            file.seek(mark)
            file.write(fdt.MAGIC)
    return place


def test_scan(image: Path, row: Row) -> None:
    memory = luoser.open(image)
    found: list[int] = []

    def scan() -> None:
        found[:] = memory.find_pages(fdt.MAGIC)

    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:

        def every_byte() -> None:
            for start in range(0, SCAN, 16 * MIB):
                bytes(memoryview(whole)[start : start + 16 * MIB])

        every_byte()  # warm
        peer, mine = best(every_byte), best(scan)
    assert found == sorted(MARKS)
    row("scan 256 MiB raw", milli(mine), f"every byte read {milli(peer)}", f"{peer / mine:.1f} x", "at least 0.5 x")
    if shutil.which("grep"):
        command = ["grep", "-obUaP", r"\xd0\x0d\xfe\xed", str(image)]
        environment = {**os.environ, "LC_ALL": "C"}

        def grep() -> None:  # into a pipe: with /dev/null GNU grep stops at the first match
            shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
            assert shown.count(b"\n") == len(MARKS)

        peer = best(grep, rounds=2)
        row("scan 256 MiB raw", milli(mine), f"grep -obUaP {milli(peer)}", f"{peer / mine:.1f} x", "at least 1 x")


def test_scan_of_kdump(tmp_path: Path, row: Row) -> None:
    """Pages of a real kernel's handover and memfds, each stamped so that no two are the same."""
    memory = real.dump("7.3-a/frozen")
    known = [segment for segment in memory.segments if segment.stored]
    some = [
        memory.read(place, PAGE)
        for segment in known
        for place in range(segment.start, segment.start + segment.stored, PAGE)
    ]
    pages = {
        frame: some[frame % len(some)][: PAGE - 8] + frame.to_bytes(8, "little") for frame in range(64 * MIB // PAGE)
    }
    pages = {frame: b"\0" + page[1:] for frame, page in pages.items()}
    pages[4096] = fdt.MAGIC + pages[4096][4:]
    place = tmp_path / "kdump"
    data = writers.kdump(pages, pack="zlib")
    place.write_bytes(data)
    found: list[int] = []

    def scan() -> None:
        with luoser.open(place) as memory:
            found[:] = memory.find_pages(fdt.MAGIC)

    packed = [zlib.compress(page) for page in pages.values()]

    def every_page() -> None:
        for stream in packed:
            zlib.decompress(stream)

    peer, mine = best(every_page), best(scan)
    assert found == [4096 * PAGE]
    row("scan 64 MiB kdump-zlib", milli(mine), f"inflate all {milli(peer)}", f"{peer / mine:.1f} x", "at least 3 x")


# -- lists ------------------------------------------------------------------------------------------------


def test_a_million_devices(row: Row) -> None:
    known = layout("pci-lu-v2-03")
    assert known is not None
    record, count = known.record.record, 1_000_000
    data = b"".join(struct.pack("<IIQ", number, 1 + number % 3, number << 12) for number in range(count))
    devices = DeviceList(record, columns(known.record), data)
    assert list(devices.rows()) == list(record.iter_unpack(data))
    mine = best(lambda: list(devices.rows()), rounds=3)
    peer = best(lambda: list(record.iter_unpack(data)), rounds=3)
    row("10^6 records to rows", milli(mine), f"iter_unpack {milli(peer)}", f"{mine / peer:.2f} x", "at most 1.5 x")
    mine = best(lambda: sum(1 for _ in devices), rounds=1)
    row("10^6 records to devices", milli(mine), f"iter_unpack {milli(peer)}", f"{mine / peer:.1f} x", "-")

    def peak(work: Callable[[], object]) -> float:
        tracemalloc.start()
        work()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / MIB

    walked = peak(lambda: sum(1 for _ in DeviceList(record, columns(known.record), bytes(bytearray(data))).rows()))
    rows, peer = peak(lambda: list(devices.rows())), peak(lambda: list(record.iter_unpack(data)))
    cells = f"copied and walked {walked:.0f} MiB, list of rows {rows:.0f} MiB", f"list of iter_unpack {peer:.0f} MiB"
    row("10^6 records, peak memory", *cells, f"{rows / peer:.2f} x", "at most 64 MiB")


@pytest.mark.parametrize("count", [10_000, 100_000, 1_000_000])
def test_diff(count: int, row: Row) -> None:
    known = layout("pci-lu-v2-03")
    assert known is not None
    record, noise = known.record.record, random.Random(3)
    rows = [struct.pack("<IIQ", number, 1, number << 12) for number in range(count)]
    fresh = [struct.pack("<IIQ", count + number, 1, 0) for number in range(100)]
    changed, inserted, shuffled = list(rows), list(rows), list(rows)
    for number in noise.sample(range(count), 100):
        changed[number] = struct.pack("<IIQ", number, 3, number << 12)
    for one in fresh:
        inserted.insert(noise.randrange(len(inserted)), one)
    noise.shuffle(shuffled)
    before = DeviceList(record, columns(known.record), b"".join(rows))
    kinds = {
        "100 changes": (changed, 100, "at most 0.05 s"),
        "one in front": ([fresh[0], *rows], 1, "at most 0.5 s"),
        "100 insertions": (inserted, 100, "at most 0.5 s"),
        "shuffled": (shuffled, 1, "-"),
    }
    for what, (others, changes, budget) in kinds.items():
        after = DeviceList(record, columns(known.record), b"".join(others))

        def by_dictionary(after: DeviceList = after) -> int:
            old = {row[0]: row for row in before.rows()}
            return sum(1 for row in after.rows() if old.get(row[0]) != row)

        assert len(list(device_changes(before, after))) == changes
        mine = best(lambda after=after: list(device_changes(before, after)), rounds=2)
        peer = best(by_dictionary, rounds=1)
        row(f"diff of {count} devices, {what}", milli(mine), f"dict {milli(peer)}", f"{mine / peer:.2f} x", budget)


def test_extents_of_a_terabyte(row: Row) -> None:
    """8192 page bitmaps of order 0: 268 M pages. Each bitmap has bytes of its own; half-full ones are a sample."""
    noise = random.Random(3)
    kinds: dict[str, tuple[int, Callable[[], bytes], str]] = {
        "full": (8192, lambda: bytes(bytearray(b"\xff" * PAGE)), "at most 2 s"),
        "half full, runs of 8": (256, lambda: bytes(bytearray(b"\xff\0" * (PAGE // 2))), "at most 40 s"),
        "half full, random": (256, lambda: noise.randbytes(PAGE), "at most 40 s"),
        "half full, every other": (256, lambda: bytes(bytearray(b"\x55" * PAGE)), "at most 40 s"),
    }
    for what, (some, make, budget) in kinds.items():
        found = PreservedMap([Bitmap(0, number << 27, make()) for number in range(some)], page_size=PAGE)
        pages: list[int] = []

        def extents(found: PreservedMap = found, pages: list[int] = pages) -> None:
            pages[:] = [sum(count for _, _, count in found.extents())]

        def popcount(found: PreservedMap = found) -> int:
            return sum(int.from_bytes(bitmap.bits, "little").bit_count() for bitmap in found.bitmaps)

        mine, peer = best(extents, rounds=2), best(popcount, rounds=2)
        assert pages == [popcount()]
        shown = f"{mine * 8192 / some:.2f} s" + ("" if some == 8192 else f" (scaled up from {some} bitmaps)")
        row(f"extents of 8192 bitmaps, {what}", shown, f"counting bits {milli(peer * 8192 / some)}",
            f"{mine / peer:.1f} x", budget)  # fmt: skip


def test_json(row: Row) -> None:
    """Each document beside json.dumps of the same values on one line."""
    files = [
        {"compatible": "memfd-v1", "token": f"{token:#x}", "memfd": {"folios": {"count": 1, "address": "0x617000"}}}
        for token in range(4)
    ]
    documents: dict[str, list[Any]] = {
        "devices": [
            {
                "index": n,
                "bdf": bdf_text(0, n & 0xFFFF),
                "flags": 3,
                "driver_data": f"{n << 12:#x}",
                "flag_names": ["A"],
            }
            for n in range(100_000)
        ],
        "sessions": [{"name": f"vm-{n}", "address": f"{n << 12:#x}", "files": files} for n in range(10_000)],
        "extents": [[f"{n << 13:#x}", 0, 1] for n in range(200_000)],
    }
    for what, items in documents.items():
        for part in (len(items) // 16, len(items) // 4, len(items)):
            document = {what: items[:part]}
            pieces: list[str] = []

            def put(document: Any = document, pieces: list[str] = pieces) -> None:
                pieces.clear()
                put_json(document, pieces.append)

            mine, peer = best(put, rounds=3), best(lambda document=document: json.dumps(document), rounds=3)
            assert json.loads("".join(pieces)) == document
            row(f"JSON of {part} {what}", milli(mine), f"json.dumps {milli(peer)}", f"{mine / peer:.1f} x",
                "at most 4 x")  # fmt: skip


def test_a_devicetree_of_10000_nodes(row: Row, tmp_path: Path) -> None:
    leaves = [
        images.Node(f"node{number}", {"reg": struct.pack(">Q", number), "status": b"okay\0"}) for number in range(100)
    ]
    root = images.Node("", {"compatible": b"bench\0"}, [images.Node(f"bus{i}", {}, leaves) for i in range(99)])
    blob = images.fdt(root)
    tree = fdt.parse(blob)
    assert sum(1 for _ in tree.root.walk()) == 10_000
    mine = best(lambda: fdt.parse(blob))
    peer = best(lambda: struct.unpack(f">{len(blob) // 4}I", blob[: len(blob) // 4 * 4]))
    row(
        "10 000-node devicetree",
        milli(mine),
        f"its words unpacked {milli(peer)}",
        f"{mine / peer:.0f} x",
        "at most 50 ms",
    )
    if shutil.which("dtc"):
        place = tmp_path / "tree.dtb"
        place.write_bytes(blob)
        command = ["dtc", "-q", "-I", "dtb", "-O", "dtb", "-o", os.devnull, str(place)]
        peer = best(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
        row("10 000-node devicetree", milli(mine), f"dtc {milli(peer)}", f"{peer / mine:.0f} x faster", "-")


# -- processes --------------------------------------------------------------------------------------------

_BARE = """
import click
@click.group()
def cli(): 'A bare app.'
@cli.command()
def one(): 'One.'
cli()
"""
_LUOSER = "from luoser.cli.main import main; main()"


def test_start(row: Row) -> None:
    """Small jobs, with compiled bytecode, as an installed package has it."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", "luoser"], check=True, cwd=real.ROOT)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(code: str, *words: str) -> Callable[[], object]:
        command = [sys.executable, "-c", code, *words]
        return lambda: subprocess.run(command, check=True, capture_output=True, cwd=real.ROOT, env=kept)

    folio, dump = "fixtures/golden/pci-folio.bin", str(real.path("7.3-a/frozen"))
    jobs = {
        "luoser --help": (run(_LUOSER, "--help"), "at most 1.3 x"),
        "decode of a folio": (run(_LUOSER, "decode", folio), "at most 2 x"),
        "inspect of a small cut": (run(_LUOSER, "inspect", dump), "-"),
    }
    peer, mine = float("inf"), dict.fromkeys(jobs, float("inf"))
    for _ in range(15):  # by turns, so that all see the same machine
        peer = min(peer, best(run(_BARE, "--help"), rounds=1))
        for what, (work, _budget) in jobs.items():
            mine[what] = min(mine[what], best(work, rounds=1))
    for what, (_work, budget) in jobs.items():
        row(what, milli(mine[what]), f"bare click app {milli(peer)}", f"{mine[what] / peer:.2f} x", budget)


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A raw image of 1 GiB with the pages of a real dump at their addresses: with holes, and without."""
    folder = tmp_path_factory.mktemp("gigabyte")
    dump = folder / "dump.elf"
    dump.write_bytes(lzma.decompress(real.path("7.3-a/frozen").read_bytes()))
    sparse, dense = folder / "sparse", folder / "dense"
    with luoser.open(dump) as memory, sparse.open("wb") as file:
        for segment in memory.segments:
            if segment.end <= 1 << 30:
                file.seek(segment.start)
                file.write(memory.read(segment.start, segment.size))
        file.truncate(1 << 30)
    if shutil.disk_usage(folder).free > 4 << 30:
        block = random.Random(2).randbytes(MIB)
        with sparse.open("rb") as source, dense.open("wb") as file:
            while part := source.read(MIB):
                file.write(part if part.strip(b"\0") else block)
    return sparse, dense


_MEASURED = """
import re, resource, sys, threading
def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])
most, done = [0], threading.Event()
def watch():
    while not done.wait(0.002):
        most[0] = max(most[0], anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
from luoser.cli.main import cli
try:
    cli.main(args=sys.argv[1:], prog_name="luoser")
except SystemExit as end:
    assert not end.code, end.code
sys.stdout.flush()
done.set()
watcher.join()
print(anonymous(), max(most[0], anonymous()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_inspect_a_gigabyte(gigabyte: tuple[Path, Path], kind: str, row: Row) -> None:
    """Time of the whole process with the image in the page cache; memory from a run of its own, sampled."""
    place = gigabyte[kind == "dense"]
    if not place.exists():
        pytest.skip("no room for a dense image")

    def run(code: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", code, "inspect", str(place)]
        return subprocess.run(command, check=True, capture_output=True, cwd=real.ROOT)

    peer = best(lambda: subprocess.run(["cat", place], check=True, stdout=subprocess.DEVNULL), rounds=2)
    seconds = best(lambda: run(_LUOSER), rounds=3)
    result = run(_MEASURED)
    assert b"0000:41:00.0  LU_BUSMASTER  driver_data 0x1a96000" in result.stdout
    end, most, resident = (int(word) / 1024 for word in result.stderr.split()[-3:])
    memory = f"RssAnon {end:.0f} MiB at exit, {most:.0f} MiB at most (ru_maxrss {resident:.0f} MiB with mapped pages)"
    row(f"inspect 1 GiB raw, {kind}", f"{seconds:.2f} s, {memory}", f"cat {milli(peer)}", f"{seconds / peer:.1f} x",
        "at most 0.5 s, 60 MiB")  # fmt: skip


def test_a_million_devices_are_built(row: Row) -> None:
    """From the text of a description to the bytes of the list."""
    known = layout("pci-lu-v2-03")
    assert known is not None
    count, entry = 1_000_000, '{"bdf": "%04x:%02x:%02x.0", "flags": 1, "driver_data": "%#x"}'
    devices = ",".join(entry % (n >> 13, n >> 5 & 0xFF, n & 31, n << 12) for n in range(count))
    text = f'{{"layout": "pci-lu-v2-03", "devices": [{devices}]}}'.encode()
    made: list[bytes] = []

    def build() -> None:
        made[:] = [blob_bytes(parse_spec(text, "bench"))[1]]

    def by_hand() -> bytes:
        """What anybody would write who needs the bytes once, without any check."""
        out = bytearray()
        for device in json.loads(text)["devices"]:
            domain, bus, rest = device["bdf"].split(":")
            slot, function = rest.split(".")
            path = int(domain, 16) << 16 | int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
            out += struct.pack("<IIQ", path, device["flags"], int(device["driver_data"], 16))
        return bytes(out)

    mine, peer = best(build, rounds=1), best(by_hand, rounds=1)
    assert made[0][8:] == by_hand()
    row("build 10^6 devices from JSON", milli(mine), f"json and struct.pack {milli(peer)}", f"{mine / peer:.1f} x", "-")
