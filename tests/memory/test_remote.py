# SPDX-License-Identifier: MIT
"""Dumps that lie elsewhere: the same documents, few bytes, and an error for whatever goes wrong on the way."""

from __future__ import annotations

import json
import lzma
import random
import re
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import SourceError, UsageError
from luoser.fleet.sources import found_sources
from luoser.limits import Limits, limited
from luoser.memory.file import read_file
from luoser.memory.remote import Remote, Traffic, load_remote, version_of
from luoser.memory.source import Memory, SegmentedMemory
from luoser.state import Direction, State, to_document
from luoser.text import source_name, without_secrets
from tests import formats, real
from tests.conftest import Run
from tests.memory import writers
from tests.memory.images import note
from tests.memory.servers import Answer, Server, s3_bucket, served
from tests.test_floors import loaded

PAGE, MIB, GIB = 4096, 1 << 20, 1 << 30
KERNEL = real.ROOT / "fixtures" / "kernel" / "pre.elf.xz"
ROOT = 0x583000
"""Of the kernel's dump."""
FURTHER = 1200
"""Pages put behind it: a source of less than 4 MiB is searched in any case."""


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as made:
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are made again at once."""
    monkeypatch.setattr("luoser.memory.origin._PAUSES", (0.0, 0.0))


def text(state: State, name: str) -> str:
    """The whole document, without the name of the source."""
    document = json.dumps(to_document(state, full=True))
    assert document.count(json.dumps(name)) == 1
    return document.replace(json.dumps(name), "null")


def made(name: str) -> bytes:
    return lzma.decompress((formats.FORMATS / f"{name}.xz").read_bytes())


# -- the same documents -----------------------------------------------------------------------------------

SINGLE = sorted(file.stem for file in formats.FORMATS.glob("*.xz") if "split" not in file.stem)


@pytest.mark.parametrize("name", SINGLE)
def test_every_format_gives_the_document_of_the_local_file(name: str, server: Server, tmp_path: Path) -> None:
    place, url = tmp_path / name, server.url(name, made(name))
    place.write_bytes(made(name))
    assert text(luoser.load(url, contents=True), url) == text(luoser.load(place, contents=True), str(place))


@pytest.mark.parametrize("name", ["7.3-a/post", "6.18-a/1", "6.19-a/1", "7.3-a/finished"])
def test_a_packed_cut_gives_the_document_of_the_local_file(name: str, server: Server) -> None:
    if name not in real.DUMPS:
        name = next(one for one in real.DUMPS if one.startswith(name.partition("/")[0]))
    data = real.path(name).read_bytes()
    url = server.url("cut.xz", data)
    assert text(luoser.load(url, contents=True), url) == text(
        luoser.load(real.path(name), contents=True), str(real.path(name))
    )
    assert server.sent <= 2 * len(data)


def test_split_files_at_urls_are_one_dump(server: Server, tmp_path: Path) -> None:
    parts = [made(name) for name in formats.SETS["kdump-split"]]
    urls = [server.url(f"part-{number}", data) for number, data in enumerate(parts)]
    for number, data in enumerate(parts):
        (tmp_path / f"{number}").write_bytes(data)
    local = luoser.load(tmp_path / "0", tmp_path / "1")
    assert text(luoser.load(*urls), urls[0]) == text(local, str(tmp_path / "0"))
    with luoser.open(urls[0], tmp_path / "1") as memory:
        assert memory.traffic is not None and memory.traffic.size == len(parts[0])


def test_a_state_document_at_a_url_is_read(server: Server) -> None:
    document = json.dumps(to_document(real.read("7.3-a/frozen"), full=True)).encode()
    state = luoser.load(server.url("state.json", document))
    assert state.handovers == real.read("7.3-a/frozen").handovers
    server.files["state.json"], server.etag = document.replace(b"7.3.4", b"7.3.5"), '"2"'
    assert luoser.load(server.url("state.json")).source.kernel == "7.3.5"


def test_a_file_is_opened_once_for_the_look_at_its_start(server: Server) -> None:
    url = server.url("elf", made("elf"))
    luoser.load(url)
    assert [span for _, span in server.asked].count("bytes=0-65535") == 1
    assert len({span for _, span in server.asked}) == len(server.asked)


def test_a_raw_image_that_looks_packed_is_read_by_need(server: Server) -> None:
    data = b"\x1f\x8b\x08".ljust(PAGE, b"\1") * 4
    with luoser.open(server.url("raw", data), raw=True) as memory:
        assert memory.format == "raw" and memory.read(0, len(data)) == data


# -- what it costs ----------------------------------------------------------------------------------------


def kernel_pages() -> tuple[Memory, dict[int, bytes]]:
    """(a dump with kallsyms and types, its pages by address, that with the release of its kernel put in)."""
    memory = luoser.open(KERNEL)
    pages = {
        address: memory.read(address, PAGE)
        for part in memory.segments
        for address in range(part.start, part.start + part.stored, PAGE)
    }
    info = memory.vmcoreinfo
    names = int(info["SYMBOL(init_uts_ns)"], 16) + int(info["OFFSET(uts_namespace.name)"])
    place = names - 0xFFFF_FFFF_8000_0000 + int(info["NUMBER(phys_base)"]) + 2 * 65
    page = bytearray(pages.get(place & -PAGE, bytes(PAGE)))
    page[place % PAGE : place % PAGE + 65] = info["OSRELEASE"].encode().ljust(65, b"\0")
    pages[place & -PAGE] = bytes(page)
    pages |= {GIB + PAGE * number: b"\1" * PAGE for number in range(FURTHER)}
    return memory, pages


def sparse(place: Path, pages: dict[int, bytes], size: int, *, head: bytes = b"", start: int = 0) -> Path:
    """A file of `size` bytes of memory from byte `start` on, with holes. head: what it begins with."""
    with place.open("wb") as file:
        file.write(head)
        file.truncate(start + size)
        for address, page in pages.items():
            file.seek(start + address)
            file.write(page)
    return place


def sparse_core(place: Path, pages: dict[int, bytes], size: int, info: bytes) -> Path:
    """An ELF core with one segment of `size` bytes, with holes, and VMCOREINFO as of /proc/vmcore."""
    notes = note("CORE", bytes(336), 1) + note("VMCOREINFO", info)
    after = 64 + 2 * 56
    start = -(-(after + len(notes)) // PAGE) * PAGE
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1".ljust(16, b"\0"), 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    head += struct.pack("<IIQQQQQQ", 4, 0, after, 0, 0, len(notes), len(notes), 4)
    head += struct.pack("<IIQQQQQQ", 1, 7, start, 0, 0, size, size, 0)
    return sparse(place, pages, size, head=head + notes, start=start)


def test_a_raw_image_of_16_gib_costs_a_ten_thousandth_with_a_root(server: Server, tmp_path: Path) -> None:
    _, pages = kernel_pages()
    url = server.url("raw", sparse(tmp_path / "raw", pages, 16 * GIB))
    with luoser.open(url) as memory:
        state = luoser.read(memory, root=ROOT)
        assert memory.traffic is not None
        assert memory.traffic.fetched == server.sent < 16 * GIB / 10_000
        assert memory.traffic.requests == len(server.asked) < 30
    local = luoser.open(tmp_path / "raw", ranges=())
    assert text(state, url) == text(luoser.read(local, root=ROOT, search=False), str(tmp_path / "raw"))


def test_kallsyms_name_the_root_of_a_core_of_16_gib(server: Server, tmp_path: Path) -> None:
    memory, pages = kernel_pages()
    url = server.url("elf", sparse_core(tmp_path / "elf", pages, 16 * GIB, memory.info_note))
    state = luoser.load(url)
    assert [(one.address, one.direction) for one in state.handovers] == [(ROOT, Direction.OUTGOING)]
    assert [one.code for one in state.problems].count("not-searched") == 1
    assert server.sent < 16 * GIB / 1000
    root = luoser.open(tmp_path / "elf")
    assert text(state, url) == text(luoser.read(root, root=ROOT, search=False), str(tmp_path / "elf"))


def kdump(frames: int) -> bytes:
    """A kdump of the kernel's dump and the first so many page frames of 1 GiB, which are not packed."""
    memory, pages = kernel_pages()
    known = {address // PAGE: page for address, page in pages.items()}
    known |= {frame: bytes(PAGE) for frame in range(frames) if frame not in known}
    return writers.kdump(known, pack="plain", share_zero=False, ram=range(1 << 18), vmcoreinfo=memory.info_note)


def fetched_of_kdump(server: Server, frames: int, **how: Any) -> tuple[State, float]:
    """(the state of a kdump, share of it that was fetched)."""
    data = kdump(frames)
    state = luoser.load(server.url("kdump", data), limits=Limits(remote_bytes=16 * MIB), **how)
    return state, server.sent / len(data)


@pytest.mark.parametrize("how", [{"root": ROOT}, {}], ids=["root", "kallsyms"])
def test_a_kdump_is_read_by_its_tables(how: dict[str, Any], server: Server) -> None:
    state, share = fetched_of_kdump(server, 1 << 15, **how)
    assert [one.address for one in state.handovers] == [ROOT]
    assert share < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"root": ROOT}, {}], ids=["root", "kallsyms"])
def test_a_kdump_of_1_gib_costs_less_than_a_hundredth(how: dict[str, Any], server: Server) -> None:
    state, share = fetched_of_kdump(server, 1 << 18, **how)
    assert [one.address for one in state.handovers] == [ROOT]
    assert share < 0.01


def test_what_is_fetched_and_asked_for_is_counted(server: Server) -> None:
    with luoser.open(server.url("elf", made("elf"))) as memory:
        luoser.read(memory)
        assert memory.traffic is not None
        assert (memory.traffic.fetched, memory.traffic.requests) == (server.sent, len(server.asked))
        assert memory.traffic.size == len(made("elf"))
    assert real.dump("7.3-a/frozen").traffic is None


def test_segments_that_overlap_are_compared_in_places(server: Server) -> None:
    from tests.memory.images import Load, core

    data = random.Random(2).randbytes(8 * MIB)
    url = server.url("elf", core(Load(4096, data), Load(4096, data)))
    with luoser.open(url) as memory:
        assert memory.remarks == []
        assert server.sent < 4 * MIB


# -- what has to be agreed to -----------------------------------------------------------------------------

LITTLE = Limits(remote_bytes=128 << 10, remote_cache=128 << 10)


def test_a_search_is_refused_with_what_it_costs_and_what_avoids_it(server: Server) -> None:
    data = made("elf")
    with pytest.raises(
        SourceError, match=rf"{len(data)} bytes .*two to four times.*root.*symbols.*extract.*scan agrees"
    ):
        luoser.load(server.url("elf", data), limits=LITTLE, kallsyms=False)
    assert server.sent <= LITTLE.remote_bytes
    state = luoser.load(server.url("elf"), limits=LITTLE, kallsyms=False, scan=True)
    assert [one.address for one in state.handovers] == [one.address for one in real.read(formats.SOURCE).handovers]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("avml", "no table of contents"),
        ("kdump-flat", "no table of contents"),
        ("elf-flat", "no table of contents"),
    ],
)
def test_what_is_not_read_by_parts_is_refused(name: str, why: str, server: Server) -> None:
    with pytest.raises(SourceError, match=rf"{why}.*{len(made(name))} bytes.*scan agrees"):
        luoser.open(server.url(name, made(name)), limits=LITTLE)
    assert server.sent <= LITTLE.remote_bytes
    with luoser.open(server.url(name), limits=LITTLE, scan=True) as memory:
        assert memory.vmcoreinfo or name == "avml"


def test_a_large_packed_file_is_refused(server: Server) -> None:
    data = lzma.compress(random.Random(3).randbytes(MIB))
    with pytest.raises(SourceError, match=rf"packed.*{len(data)} bytes.*scan agrees"):
        luoser.open(server.url("xz", data), limits=LITTLE)


def test_a_packed_file_is_unpacked_as_it_comes(server: Server) -> None:
    data = random.Random(4).randbytes(MIB)
    with luoser.open(server.url("xz", lzma.compress(data)), raw=True, limits=LITTLE, scan=True) as memory:
        assert memory.read(0, len(data)) == data
        assert memory.may_search


def test_a_server_without_ranges_is_refused_and_a_scan_fetches_all(server: Server) -> None:
    server.ranges, data = False, made("elf")
    with pytest.raises(SourceError, match=rf"no ranges.*{len(data)} bytes.*scan agrees"):
        luoser.open(server.url("elf", data), limits=LITTLE)
    assert (
        luoser.load(server.url("elf"), limits=LITTLE, scan=True).handovers == luoser.load(server.url("elf")).handovers
    )


@pytest.mark.parametrize("name", ["elf", "kdump-zlib", "elf.xz"])
def test_a_small_file_of_a_server_without_ranges_is_fetched_unasked(name: str, server: Server) -> None:
    data = (formats.FORMATS / name).read_bytes() if name.endswith(".xz") else made(name)
    server.ranges = False
    with luoser.open(server.url(name, data)) as memory:
        assert luoser.read(memory).handovers == real.read(formats.SOURCE).handovers
        assert memory.traffic is not None
        assert (memory.traffic.fetched, memory.traffic.requests) == (len(data), len(server.asked))


def test_a_scan_of_a_cut_off_whole_file_is_an_error(server: Server) -> None:
    def fault(answer: Answer) -> None:
        answer.cut = 200_000 if answer.status == 200 else None

    server.ranges, server.fault = False, fault
    with pytest.raises(SourceError, match="cut off"):
        luoser.open(server.url("elf", made("elf")), scan=True)


def test_bytes_beyond_the_limit_are_not_fetched_unasked(server: Server) -> None:
    data = random.Random(5).randbytes(4 * MIB)
    with limited(Limits(remote_bytes=MIB)):
        memory = luoser.open(server.url("raw", data), raw=True)
        with pytest.raises(SourceError, match=r"scan agrees to it, or .*remote_bytes=N"):
            memory.read(0, len(data))
    assert server.sent <= MIB


def test_search_on_the_command_line_does_not_agree(server: Server, tmp_path: Path, luoser_command: Run) -> None:
    _, pages = kernel_pages()
    url = server.url("raw", sparse(tmp_path / "raw", pages, 2 * GIB))
    run = luoser_command("inspect", url, "--root", hex(ROOT), "--search")
    assert run.returncode == 2 and re.search("--search looks for all KHO roots.*--scan agrees", run.stderr.decode())
    run = luoser_command("inspect", url, "--root", hex(ROOT), "--format", "json")
    assert run.returncode == 0 and "of 2 GiB fetched in" in run.stderr.decode()


def test_the_command_agrees_with_scan(server: Server, luoser_command: Run) -> None:
    url = server.url("elf", made("elf"))
    given = ["check", url, "--no-symbols", "--limit", "remote_bytes=128K", "--limit", "remote_cache=128K"]
    run = luoser_command(*given)
    assert run.returncode == 2 and run.stdout == b""
    assert luoser_command(*given, "--scan").returncode in (0, 1, 4)


# -- blocks -----------------------------------------------------------------------------------------------


def remote(server: Server, data: bytes) -> Remote:
    file = load_remote(server.url("data", data), Traffic(agreed=True), raw=True)
    assert isinstance(file.buffer, Remote)
    return file.buffer


def test_slices_are_those_of_the_file(server: Server) -> None:
    chance = random.Random(6)
    data = chance.randbytes(MIB + 12345)
    with limited(Limits(remote_cache=256 << 10)):
        found = remote(server, data)
        assert len(found) == len(data) and found[:] == data
        for _ in range(200):
            start = chance.randrange(len(data) + 10)
            end = start + chance.choice((0, 1, 24, PAGE, 70_000, 300_000))
            assert found[start:end] == data[start:end]


def test_no_more_is_kept_than_the_limit(server: Server) -> None:
    data = random.Random(7).randbytes(2 * MIB)
    with limited(Limits(remote_cache=256 << 10)):
        found = remote(server, data)
        for start in range(0, len(data), PAGE):
            assert found[start : start + PAGE] == data[start : start + PAGE]
        before = server.sent
        assert found[:PAGE] == data[:PAGE] and server.sent > before
        before = server.sent
        assert found[:PAGE] == data[:PAGE] and server.sent == before


def test_blocks_side_by_side_are_one_request_and_runs_grow(server: Server) -> None:
    found = remote(server, bytes(8 * MIB))
    del server.asked[:]
    assert len(found[MIB : 2 * MIB]) == MIB
    assert len(server.asked) == 1
    found = remote(server, bytes(8 * MIB))
    del server.asked[:]
    for start in range(0, 8 * MIB, PAGE):
        assert found[start : start + PAGE] == bytes(PAGE)
    assert len(server.asked) < 12


def test_a_search_finds_what_crosses_pieces(server: Server) -> None:
    data = bytearray(MIB)
    for place in (0, 64 << 10, (128 << 10) - 3, 300_000, MIB - 8):
        data[place : place + 8] = b"KHO-FIND"
    with limited(Limits(remote_cache=256 << 10)):
        memory = luoser.open(server.url("raw", bytes(data)), raw=True, scan=True)
        assert isinstance(memory, SegmentedMemory)
        assert [*memory.find(b"KHO-FIND")] == [0, 64 << 10, (128 << 10) - 3, 300_000, MIB - 8]
        assert [*memory.find_pages(b"KHO-FIND")] == [0, 64 << 10]
        assert [*memory.find_pages(b"KHO", at=PAGE - 3)] == [(128 << 10) - PAGE]


def test_what_was_searched_for_is_not_fetched_again(server: Server) -> None:
    with limited(Limits(remote_cache=128 << 10)):
        memory = luoser.open(server.url("elf", made("elf")), scan=True)
        found = [*memory.find(b"luo-v5")], [*memory.find_pages(b"luo-v5")]
        before = server.sent
        assert ([*memory.find(b"luo-v5")], [*memory.find_pages(b"luo-v5")]) == found and all(found)
        assert server.sent == before


def test_a_search_that_has_begun_goes_on_to_its_end(server: Server) -> None:
    data = made("elf")
    limits = Limits(remote_cache=128 << 10, remote_bytes=4 * len(data) + (64 << 10))
    state = luoser.load(server.url("elf", data), kallsyms=False, limits=limits)
    assert state.handovers == luoser.load(server.url("elf"), kallsyms=False).handovers


# -- faults -----------------------------------------------------------------------------------------------


def later(change: Callable[[Answer], None], *, since: int = 3, until: int = 10**6) -> Callable[[Answer], None]:
    """A fault of the requests from one number on, up to another."""

    def fault(answer: Answer) -> None:
        if since <= answer.number < until:
            change(answer)

    return fault


def header(name: str, value: str | None) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        answer.headers.pop(name, None)
        if value is not None:
            answer.headers[name] = value

    return change


def status(number: int, **headers: str) -> Callable[[Answer], None]:
    def change(answer: Answer) -> None:
        answer.status, answer.end = number, answer.start
        answer.headers = {"Content-Length": "0", **headers}

    return change


def cut(answer: Answer) -> None:
    answer.cut = 100


def short(answer: Answer) -> None:
    answer.end -= 10
    answer.headers["Content-Length"] = str(answer.end - answer.start)


def long(answer: Answer) -> None:
    answer.body = bytes(answer.end - answer.start + 10)
    answer.headers["Content-Length"] = str(len(answer.body))


def shifted(answer: Answer) -> None:
    span, _, size = answer.headers["Content-Range"].partition("/")
    start, _, end = span.removeprefix("bytes ").partition("-")
    answer.headers["Content-Range"] = f"bytes {int(start) + 1}-{int(end) + 1}/{size}"


def grown(answer: Answer) -> None:
    answer.headers["Content-Range"] = answer.headers["Content-Range"].partition("/")[0] + "/99999999"


FAULTS: dict[str, tuple[Callable[[Answer], None], str]] = {
    "cut off": (cut, "cut off.*tried 3 times"),
    "too short": (short, "cut off.*tried 3 times"),
    "too long": (long, "wrong length"),
    "another range": (shifted, "expected bytes .*, the server sent bytes"),
    "no range said": (header("Content-Range", None), "Content-Range: expected bytes START-END/SIZE, found nothing"),
    "impossible size": (
        lambda answer: answer.headers.update({"Content-Range": "bytes 0-65535/9999999999999999999"}),
        "impossible size|changed while it was read",
    ),
    "odd range": (header("Content-Range", "bytes 0-1/*"), "Content-Range: expected"),
    "another ETag": (header("ETag", '"2"'), "changed while it was read"),
    "no ETag any more": (header("ETag", None), "changed while it was read"),
    "another size": (grown, "changed while it was read.*99999999 bytes"),
    "whole file for a range": (lambda answer: setattr(answer, "status", 200), "now the whole file"),
    "range not there": (status(416, **{"Content-Range": "bytes */10"}), "changed while it was read.*10"),
    "gone": (status(404), "no such file"),
    "forbidden": (status(403), "does not allow it: status 403; credentials"),
    "busy": (status(503), "status 503; tried 3 times"),
    "teapot": (status(418), "answers with status 418"),
    "loop": (status(302, Location="/elf"), "more than 5 redirects"),
    "elsewhere": (status(302, Location="file:///etc/passwd"), "redirected to what is not HTTP: file:"),
    "nowhere": (status(302, Location="http://"), "elf\\?\\*\\*\\*: "),
    "packed on the way": (header("Content-Encoding", "gzip"), "packs what it sends"),
}


LATER = ("another ETag", "no ETag any more", "another size", "whole file for a range", "range not there")
"""What is no fault of the first answer, or another one."""


@pytest.mark.parametrize(
    ("fault", "since"), [(fault, since) for fault in FAULTS for since in (1, 3) if since > 1 or fault not in LATER]
)
def test_a_fault_is_an_error_that_names_the_url_without_its_secrets(fault: str, since: int, server: Server) -> None:
    change, words = FAULTS[fault]
    server.files["elf"] = made("elf")
    server.fault = later(change, since=since)
    url = server.url("elf").replace("://", "://user:geheim@") + "?X-Signature=geheim"
    with pytest.raises(SourceError, match=words) as error:
        luoser.load(url)
    assert str(error.value).startswith(f"{server.base.replace('://', '://***@')}/elf?***: ")
    assert "geheim" not in str(error.value) and "user" not in str(error.value)
    assert len(server.asked) < 30


@pytest.mark.parametrize("seed", range(40))
def test_faults_at_random_give_the_document_or_an_error(seed: int, server: Server) -> None:
    chance = random.Random(seed)
    faults = [change for name, (change, _) in FAULTS.items() if name not in ("loop", "another range")]

    def fault(answer: Answer) -> None:
        if chance.random() < 0.25 and "Content-Range" in answer.headers:
            chance.choice(faults)(answer)

    server.fault = fault
    try:
        state = luoser.load(server.url("elf", made("elf")))
    except SourceError:
        return
    assert state.handovers == real.read(formats.SOURCE).handovers


@pytest.mark.parametrize("change", [cut, status(503), status(429), short], ids=["cut", "503", "429", "short"])
def test_a_fault_that_passes_is_none(change: Callable[[Answer], None], server: Server) -> None:
    server.fault = later(change, since=2, until=4)
    url = server.url("elf", made("elf"))
    with luoser.open(url) as memory:
        assert luoser.read(memory).handovers == real.read(formats.SOURCE).handovers
        assert memory.traffic is not None and memory.traffic.requests == len(server.asked)


def test_after_a_fault_nothing_is_given_any_more(server: Server) -> None:
    found = remote(server, bytes(MIB))
    server.fault = later(header("ETag", '"2"'), since=2, until=3)
    for _ in range(2):
        with pytest.raises(SourceError, match="changed while it was read"):
            found[MIB // 2 :]
    assert len(server.asked) == 2


def test_a_slow_server_has_so_many_seconds(server: Server) -> None:
    def slow(answer: Answer) -> None:
        answer.wait = 3

    server.fault = slow
    with pytest.raises(SourceError, match=r"no answer within 1 s; .*remote_seconds=N"):
        luoser.open(server.url("elf", made("elf")), limits=Limits(remote_seconds=1))


def test_the_time_of_the_command_holds(server: Server, luoser_command: Run) -> None:
    def slow(answer: Answer) -> None:
        answer.wait = 3

    server.fault = later(slow, since=2)
    run = luoser_command("inspect", f"{server.url('elf', made('elf'))}?geheim", "--timeout", "0.3")
    assert (
        run.returncode == 2 and "not read within 0.3 s" in run.stderr.decode() and "geheim" not in run.stderr.decode()
    )


@pytest.mark.parametrize("words", ["diff URL URL", "check URL", "compat 7.3 URL", "report URL -o OUT"])
def test_the_time_of_the_command_holds_for_the_first_request(
    words: str, server: Server, tmp_path: Path, luoser_command: Run
) -> None:
    def slow(answer: Answer) -> None:
        answer.wait = 3

    server.fault, begun = slow, time.monotonic()
    given = {"URL": server.url("elf", made("elf")), "OUT": str(tmp_path / "out")}
    run = luoser_command(*[given.get(word, word) for word in words.split()], "--timeout", "0.3")
    assert run.returncode == 2 and "not read within 0.3 s" in run.stderr.decode()
    assert time.monotonic() - begun < 2.5


def test_a_server_that_drips_has_so_many_seconds_for_each_piece(server: Server) -> None:
    def some(answer: Answer) -> None:
        answer.cut = 100

    server.ranges, server.drip, server.fault = False, 0.05, some
    with pytest.raises(SourceError, match=r"no answer within 1 s for each 4 MiB, after \d+ bytes; .*remote_seconds=N"):
        luoser.open(server.url("elf", made("elf")), limits=Limits(remote_seconds=1))


# -- redirects --------------------------------------------------------------------------------------------

PERSONAL = {"headers": {"X-Api-Key": "geheim"}, "client_kwargs": {"headers": {"X-Other-Key": "geheim"}}}


@pytest.fixture
def personal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests have keys of the user, as fsspec's configuration says."""
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "http", PERSONAL)


@pytest.mark.usefixtures("personal")
def test_another_host_gets_the_request_without_what_is_for_this_one(server: Server) -> None:
    with served() as other:
        place = other.url("elf", made("elf"))
        server.fault = status(302, Location=place)
        with luoser.open(server.url("elf").replace("://", "://user:geheim@")) as memory:
            assert luoser.read(memory).handovers == real.read(formats.SOURCE).handovers
            assert memory.traffic is not None
            assert memory.traffic.requests == len(server.asked) + len(other.asked) == 2 * len(other.asked)
        assert all({"X-Api-Key", "X-Other-Key", "Authorization"} <= head.keys() for head in server.heads)
        assert "geheim" not in str(other.heads) and not any("Authorization" in head for head in other.heads)


@pytest.mark.usefixtures("personal")
def test_another_place_of_the_same_host_gets_all_of_it(server: Server) -> None:
    def moved(answer: Answer) -> None:
        if server.asked[-1][0] == "/old":
            status(302, Location=server.url("elf"))(answer)

    server.files |= {"elf": made("elf"), "old": b""}
    server.fault = moved
    assert luoser.load(server.url("old").replace("://", "://user:geheim@")).handovers
    assert all({"X-Api-Key", "X-Other-Key", "Authorization"} <= head.keys() for head in server.heads)


def test_https_is_not_left_for_http() -> None:
    from yarl import URL

    from luoser.memory.origin import _Http

    found = object.__new__(_Http)
    found.shown = "https://host/elf"
    with pytest.raises(SourceError, match="https://host/elf: redirected from https to http, where"):
        found._next(URL("https://host/elf"), "http://host/elf")
    assert found._next(URL("http://host/a/elf"), "https://host/elf") == URL("https://host/elf")


def test_a_server_that_does_not_answer_is_an_error() -> None:
    with served() as gone:
        url = gone.url("elf")
    with pytest.raises(SourceError, match="tried 3 times"):
        luoser.open(url)


def test_an_empty_file_is_an_error(server: Server) -> None:
    for server.ranges in (True, False):
        with pytest.raises(SourceError, match="the file is empty"):
            luoser.open(server.url("empty", b""))


def test_a_server_without_versions_is_remarked(server: Server) -> None:
    server.etag = None
    with luoser.open(server.url("elf", made("elf"))) as memory:
        assert any("neither ETag nor Last-Modified" in remark for remark in memory.remarks)


def test_a_weak_etag_is_remarked_and_no_version(server: Server) -> None:
    """Other bytes can have the same."""
    server.etag = 'W/"1"'
    with luoser.open(server.url("elf", made("elf"))) as memory:
        assert any("weak ETag" in remark for remark in memory.remarks)
    assert version_of(server.url("elf")) == ""
    server.fault = later(header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT"), since=len(server.asked) + 2)
    with pytest.raises(SourceError, match="changed while it was read"):
        luoser.load(server.url("elf"))


def test_a_version_is_safe_text(server: Server) -> None:
    server.etag = '"\xff\x9b"'
    assert version_of(server.url("elf", made("elf"))) == '"\\xff\\x9b"'


def test_a_version_by_time_has_the_size_too(server: Server) -> None:
    server.etag = None
    server.fault = header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT")
    found = [version_of(server.url(f"elf{size}", made("elf")[:size])) for size in (PAGE, 2 * PAGE)]
    assert found == [f"Tue, 01 Dec 2026 00:00:00 GMT, {size} bytes" for size in (PAGE, 2 * PAGE)]


# -- names ------------------------------------------------------------------------------------------------


def test_secrets_of_a_url_are_not_shown() -> None:
    assert source_name("https://me:pass@host/a@b?sig=1#2") == "https://***@host/a@b?***"
    assert source_name("https://me:pa/ss@host/a") == "https://***@host/a"
    assert source_name("https://[::1]:80/a@b") == "https://[::1]:80/a@b"
    assert source_name("s3://bucket/a\n") == "s3://bucket/a\\x0a"
    assert without_secrets("./s3://a@b?c") == "./s3://a@b?c"
    assert without_secrets("qmp://a@b?c") == "qmp://a@b?c"


@pytest.mark.parametrize(
    "words",
    [
        "inspect URL",
        "inspect URL --format json",
        "inspect URL --format dot",
        "inspect URL --root 0x1000",
        "check URL",
        "check URL --format sarif",
        "check URL --format json",
        "check URL --format ktap",
        "pci URL",
        "map URL",
        "hexdump URL 0x5cd000",
        "hexdump URL 0x1",
        "diff URL URL",
        "diff URL nothing",
        "diff --against URL URL",
        "compat 7.3 URL",
        "report URL -o OUT",
        "report URL URL -o OUT",
        "extract URL -o OUT",
        "extract URL -o OUT --blob nothing",
        "extract URL URL -o URL",
        "extract URL -o URL",
        "report URL -o URL",
        "build nothing -o URL",
        "survey URL -o URL",
        "check URL --symbols URL",
        "check URL --topology URL",
        "simulate URL -o URL",
        "abi verify URL",
        "decode URL",
        "URL",
    ],
)
def test_no_command_shows_secrets_of_a_url(words: str, server: Server, tmp_path: Path, luoser_command: Run) -> None:
    url = server.url("elf", made("elf")).replace("://", "://user:geheim@") + "?X-Signature=geheim"
    given = [{"URL": url, "OUT": str(tmp_path / "out")}.get(word, word) for word in words.split()]
    run = luoser_command(*given)
    assert b"geheim" not in run.stdout + run.stderr
    assert not (tmp_path / "out").exists() or b"geheim" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    "words", ["extract DUMP -o URL", "extract DUMP DUMP -o URL/{name}", "report DUMP -o URL", "survey DUMP -o URL"]
)
def test_nothing_is_written_to_a_url(
    words: str, tmp_path: Path, luoser_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to a folder of its name."""
    if words.startswith("survey"):
        pytest.importorskip("pyarrow")
    dump = str(real.path("7.3-a/frozen"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "user:geheim@bucket").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    url = "s3://user:geheim@bucket/cut"
    run = luoser_command(*[word.replace("URL", url).replace("DUMP", dump) for word in words.split()])
    assert run.returncode == 2 and b"s3://***@bucket/cut" in run.stderr and b"geheim" not in run.stderr
    assert b"files are written on this machine only" in run.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_cuts_of_files_at_urls_are_named_without_secrets(server: Server, tmp_path: Path, luoser_command: Run) -> None:
    server.files |= dict.fromkeys(("a.xz", "b.xz"), real.path("7.3-a/frozen").read_bytes())
    urls = [f"{server.url(name)}?X-Signature=geheim/geheim" for name in ("a.xz", "b.xz")]
    run = luoser_command("extract", *urls, "-o", str(tmp_path / "{name}.elf"))
    assert run.returncode == 0 and b"geheim" not in run.stdout + run.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.elf", "b.elf"]


def test_a_star_in_a_url_of_http_is_no_pattern(server: Server) -> None:
    """A server could list what it likes, without an end; and signatures have stars."""
    url = server.url("elf", made("elf")) + "?token=acl=/*~hmac=1"
    assert found_sources([url]) == [(url,)]
    assert server.asked == []


def test_a_url_is_no_file_of_another_input(server: Server, tmp_path: Path, luoser_command: Run) -> None:
    url = server.url("elf", made("elf"))
    with pytest.raises(SourceError, match="a URL: only dumps and state documents"):
        read_file(url, limit="spec_size")
    spec = {"luo": {"sessions": [{"name": "a", "files": [{"token": 1, "memfd": {"contents_file": url}}]}]}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    run = luoser_command("build", str(tmp_path / "spec.json"), "-o", str(tmp_path / "out"))
    assert run.returncode == 2
    assert luoser_command("decode", url).returncode == 2
    document = to_document(real.read("7.3-a/frozen"), full=True)
    document["source"]["path"] = url
    (tmp_path / "state.json").write_text(json.dumps(document))
    assert luoser_command("check", str(tmp_path / "state.json")).returncode in (0, 1, 4)
    assert server.asked == []


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"pip install 'luoser\[remote\]'"):
        luoser.open("https://host/file")


@pytest.mark.parametrize("url", ["nothing://host/file", "simplecache::https://host/file", "generic://x", "dir://x"])
def test_a_scheme_that_opens_nothing_is_an_error(url: str) -> None:
    with pytest.raises((UsageError, SourceError)):
        luoser.open(url)


def test_local_files_load_nothing_of_this() -> None:
    names = loaded(f"import luoser\nluoser.load({str(real.path('7.3-a/frozen'))!r})")
    assert "luoser.memory.open" in names
    assert not names & {"fsspec", "aiohttp", "asyncio", "luoser.memory.remote", "luoser.memory.origin"}


# -- other file systems -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with s3_bucket() as client:
        yield client


@pytest.mark.parametrize("name", ["elf", "kdump-zlib", "elf-flat"])
def test_s3_gives_the_document_of_the_local_file(name: str, bucket: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(made(name))
    bucket.put_object(Bucket="dumps", Key=f"a b/{name}", Body=made(name))
    url = f"s3://dumps/a b/{name}"
    with luoser.open(url) as memory:
        state = luoser.read(memory, contents=True)
        assert memory.traffic is not None and 0 < memory.traffic.fetched <= len(made(name))
    assert text(state, url) == text(luoser.load(tmp_path / name, contents=True), str(tmp_path / name))


def test_an_object_that_changes_is_an_error(bucket: Any) -> None:
    data = made("elf")
    bucket.put_object(Bucket="dumps", Key="changing", Body=data)
    memory = luoser.open("s3://dumps/changing")
    bucket.put_object(Bucket="dumps", Key="changing", Body=data[:-1] + b"x")
    with pytest.raises(SourceError, match="s3://dumps/changing: changed while it was read"):
        luoser.read(memory)


def test_an_object_that_is_not_there_is_an_error(bucket: Any) -> None:
    with pytest.raises(SourceError, match="s3://dumps/nothing: no such file"):
        luoser.open("s3://dumps/nothing")
    with pytest.raises(SourceError):
        luoser.open("s3://no-such-bucket/nothing")


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """(URL of a file in a file system without conditional requests, the class of that file system)."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Shelf(MemoryFileSystem):  # type: ignore[misc]
        protocol = "shelf"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("shelf://").strip("/")

        store: dict[str, Any] = {}  # noqa: RUF012
        pseudo_dirs = [""]  # noqa: RUF012

    fsspec.register_implementation("shelf", Shelf, clobber=True)
    Shelf().pipe("/dump", made("elf"))
    yield "shelf://dump", Shelf
    Shelf.store.clear()


def test_any_file_system_gives_the_document(stored: tuple[str, Any]) -> None:
    state = luoser.load(stored[0])
    assert state.handovers == real.read(formats.SOURCE).handovers


def test_a_file_that_is_written_meanwhile_is_an_error(stored: tuple[str, Any]) -> None:
    memory = luoser.open(stored[0])
    stored[1]().pipe("/dump", made("elf")[:-PAGE] + bytes(PAGE))
    with pytest.raises(SourceError, match="shelf://dump: changed while it was read"):
        luoser.read(memory)


@pytest.mark.parametrize("error", [RuntimeError("shelf://user:geheim@x broke"), OSError(5, "gone"), KeyError("x")])
def test_any_error_of_a_file_system_is_a_source_error(
    error: Exception, stored: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    memory = luoser.open(stored[0])
    monkeypatch.setattr(stored[1], "info", broken)
    with pytest.raises(SourceError, match=r"shelf://dump: .*tried 3 times") as found:
        luoser.read(memory)
    assert "geheim" not in str(found.value)


def test_a_folder_is_not_a_dump(stored: tuple[str, Any]) -> None:
    stored[1]().pipe("/folder/file", b"x")
    with pytest.raises(SourceError, match=r"a folder|no such file"):
        luoser.open("shelf://folder")


def test_a_file_system_that_hangs_is_left_alone(stored: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    memory = luoser.open(stored[0])
    monkeypatch.setattr(stored[1], "info", lambda *_, **__: threading.Event().wait(5))
    with limited(Limits(remote_seconds=1)), pytest.raises(SourceError, match="no answer within 1 s"):
        luoser.read(memory)


def test_the_time_of_the_command_holds_for_any_file_system(
    stored: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, luoser_command: Run
) -> None:
    import threading

    monkeypatch.setattr(stored[1], "info", lambda *_, **__: threading.Event().wait(5))
    run = luoser_command("inspect", stored[0], "--timeout", "0.3")
    assert run.returncode == 2 and b"not read within 0.3 s" in run.stderr


def test_a_local_file_at_a_url_gives_the_document(tmp_path: Path) -> None:
    (tmp_path / "elf").write_bytes(made("elf"))
    assert luoser.load(f"file://{tmp_path}/elf").handovers == real.read(formats.SOURCE).handovers
