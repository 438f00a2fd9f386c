# SPDX-License-Identifier: MIT
"""Guests read through a debugger stub: real QEMU, and a server in a thread that does what no QEMU should."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import MissingMemory, PageState, SourceError, UsageError
from luoser.limits import Limits, limited
from luoser.memory import gdb
from luoser.memory.gdb import ram_of
from luoser.memory.raw import Range
from luoser.state import to_document
from tests import real
from tests.conftest import Run
from tests.memory import test_qmp
from tests.memory.test_qmp import BLOB, MAGIC, place, spans
from tests.qemu import Guest, needs_qemu
from tests.test_audit import watched

__all__ = ["place"]

MIB = 1 << 20


class Stub(Guest):
    """A guest with a debugger stub on a UNIX socket. gdb: the source without QMP, both: with it."""

    def __init__(self, place: Path, *options: str, **more: Any) -> None:
        self.gdb = f"gdb:{place}/gdb.sock"
        super().__init__(place, "-gdb", f"unix:{place}/gdb.sock,server=on,wait=off", *options, **more)
        self.both = f"{self.gdb},qmp:{self.socket}"

    @property
    def mode(self) -> str:
        """Whether the stub reads physical addresses, asked of it on a connection of its own, which stops the guest."""
        with socket.socket(socket.AF_UNIX) as stub:
            stub.connect(self.gdb.removeprefix("gdb:"))
            stub.sendall(b"+" + framed("qqemu.PhyMemMode"))
            said = b""
            while (found := re.search(rb"\$([01])#", said)) is None:
                said += stub.recv(4096)
            return found[1].decode()


def framed(packet: str | bytes) -> bytes:
    body = packet.encode() if isinstance(packet, str) else packet
    return b"$" + body + b"#%02x" % (sum(body) & 255)


# -- real QEMU: the same as by QMP -------------------------------------------------------------------------


def frozen() -> dict[int, bytes]:
    """The memory of a real dump below 32 MiB, which has its metadata."""
    parts = [part for part in real.dump("7.3-a/frozen").segments if part.end <= 32 * MIB]
    return {part.start: real.dump("7.3-a/frozen").read(part.start, part.size) for part in parts}


@needs_qemu
def test_guest_has_the_same_state_by_its_stub_and_by_qmp(place: Path) -> None:
    documents = []
    with Stub(place, memory="32M", blobs=frozen()) as guest:
        for source in (guest.source, guest.both, guest.gdb):
            with luoser.open(source, pause=True) as memory:
                assert (memory.remarks, memory.aftermath) == ([], "")
                documents.append(to_document(luoser.read(memory, contents=True), full=True))
        assert (guest.status, guest.mode) == ("prelaunch", "0")
    wanted = documents[0]
    assert wanted["handovers"][0]["luo"]["sessions"] != []
    assert [found["source"]["format"] for found in documents] == ["qmp", "gdb", "gdb"]
    for found in documents[1:]:
        assert (found["handovers"], found["problems"]) == (wanted["handovers"], wanted["problems"])


@needs_qemu
@pytest.mark.parametrize("machine", ["pc", "q35", "microvm"])
def test_ram_is_where_qemus_own_dump_has_it(place: Path, machine: str) -> None:
    with Stub(place, "-vga" if machine != "microvm" else "-name", "std", machine=machine, memory="5G") as guest:
        found = []
        for source in (guest.source, guest.both, guest.gdb):
            with luoser.open(source, pause=True) as memory:
                found.append(spans(memory))
    assert found[0] == found[1] == found[2]
    assert found[0][-1][1] > 1 << 32


@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed")
def test_memory_of_an_arm64_machine_begins_at_1_gib(place: Path) -> None:
    options = {"program": "qemu-system-aarch64", "machine": "virt", "memory": "5G", "blobs": {0x17FFF0000: BLOB}}
    with Stub(place, "-cpu", "cortex-a57", **options) as guest, luoser.open(guest.gdb, pause=True) as memory:
        assert spans(memory) == [(0x40000000, 0x180000000)]
        assert memory.read(0x17FFF0000, len(BLOB)) == BLOB


@needs_qemu
def test_bytes_and_searches_are_those_of_qmp(place: Path) -> None:
    blobs = {0x2000000: BLOB, 0x10FF003: BLOB, 0x3FFFFF0: BLOB[1:17]}
    with Stub(place, blobs=blobs) as guest:
        with luoser.open(guest.source) as memory:
            whole = memory.read(0x1000000, 17 * MIB)
        with luoser.open(guest.gdb, pause=True) as memory:
            assert memory.read(0x1000000, 17 * MIB) == whole
            assert list(memory.find_pages(MAGIC)) == [0x2000000]
            assert list(memory.find_pages(BLOB[1:9], at=4)) == [0x10FF000]
            assert list(memory.find(BLOB[:40])) == [0x10FF003, 0x2000000]
            assert list(memory.find_pages(BLOB[1:9], at=0xFF0)) == [0x3FFF000]
            assert list(memory.find_pages(BLOB[1:17] + b"x", at=0xFF0)) == []  # it would end after the RAM
            assert memory.page_state(0x4000000) is PageState.ABSENT
            with pytest.raises(MissingMemory):
                memory.read(0x4000000, 1)


@needs_qemu
def test_stub_on_a_port_is_read(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        Guest(place, "-gdb", f"tcp:127.0.0.1:{port}", blobs={0x2000000: BLOB}),
        luoser.open(f"gdb:127.0.0.1:{port}", pause=True) as memory,
    ):
        assert memory.read(0x2000000, len(BLOB)) == BLOB


@needs_qemu
def test_commands_read_a_guest(place: Path, luoser_command: Run) -> None:
    with Stub(place, memory="32M", blobs=frozen()) as guest:
        result = luoser_command("hexdump", guest.gdb, "luo", "--pause", "--root", "0x5cd000")
        assert (result.returncode, result.stderr) == (0, b"")
        assert b"luo-v5" in result.stdout
        result = luoser_command("check", guest.gdb, "--pause", "--root", "0x5cd000")
        assert result.returncode == 4 and b"no search was made" in result.stdout
        result = luoser_command("check", guest.gdb, "--pause", "--root", "0x5cd000", "--search")
        assert b"no search was made" not in result.stdout
        result = luoser_command("inspect", guest.gdb, "--root", "0x5cd000")
        assert result.returncode == 2 and b"give --pause" in result.stderr


# -- real QEMU: the guest goes on as it was ----------------------------------------------------------------


@needs_qemu
def test_guest_that_ran_by_the_word_of_qmp_runs_afterwards(place: Path) -> None:
    with Stub(place, running=True) as guest:
        with luoser.open(guest.both, pause=True) as memory:
            assert memory.remarks == []
            assert guest.status == "paused"
        assert guest.status == "running"
        assert guest.mode == "0"


@needs_qemu
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("status", ["prelaunch", "paused"])
def test_guest_that_does_not_run_is_left_so(place: Path, status: str, pause: bool) -> None:
    with Stub(place, running=status == "paused") as guest:
        if status == "paused":
            guest.qmp("stop")
        luoser.open(guest.both, pause=pause).close()
        assert (guest.status, guest.mode) == (status, "0")
        assert "RESUME" not in guest.events


@needs_qemu
def test_guest_of_unknown_state_stays_stopped_and_that_is_said(place: Path) -> None:
    with Stub(place, running=True) as guest:
        with luoser.open(guest.gdb, pause=True) as memory:
            assert "stays stopped" in memory.aftermath and "`cont`" in memory.aftermath and not memory.remarks
        assert (guest.status, guest.mode) == ("paused", "0")


@needs_qemu
@pytest.mark.parametrize("words", [["pci", "--root", "0x5cd000"], ["check", "--root", "0x1000"]], ids=" ".join)
def test_every_command_says_that_a_guest_stays_stopped(place: Path, luoser_command: Run, words: list[str]) -> None:
    with Stub(place, running=True, memory="32M", blobs=frozen()) as guest:
        name, *rest = words
        assert b"it stays stopped, `cont`" in luoser_command(name, guest.gdb, "--pause", *rest).stderr


@needs_qemu
@pytest.mark.parametrize("source", ["gdb", "both"])
def test_running_guest_is_not_stopped_without_pause(place: Path, source: str) -> None:
    with Stub(place, running=True) as guest:
        with pytest.raises(SourceError, match=r"stops .* pause"):
            luoser.open(getattr(guest, source))
        assert guest.status == "running"
        assert "STOP" not in guest.events


@needs_qemu
def test_qmp_of_another_guest_is_refused_and_that_guest_runs_on(place: Path) -> None:
    for name in ("one", "other"):
        (place / name).mkdir()
    with Stub(place / "one") as one, Stub(place / "other", running=True) as other:
        assert "the QMP socket is of another guest" in refusal(f"{one.gdb},{other.source}")
        assert (one.status, one.mode, other.status, other.mode) == ("prelaunch", "0", "running", "0")


@needs_qemu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_guest_goes_on_after_a_signal(place: Path, number: signal.Signals) -> None:
    code = "import sys, time, luoser.reader; luoser.reader.read = lambda *_, **__: (print(flush=True), time.sleep(600))"
    code += "; from luoser.cli.main import main; main()"
    with Stub(place, running=True) as guest:
        command = [sys.executable, "-c", code, "inspect", "--pause", guest.both]
        with subprocess.Popen(command, cwd=real.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert guest.status == "paused"
            process.send_signal(number)
            process.communicate(timeout=600)
            assert process.returncode == 128 + number
        assert guest.status == "running"
        assert guest.mode == "0"


@needs_qemu
def test_reading_a_guest_opens_nothing_for_writing(place: Path) -> None:
    with Stub(place) as guest:
        ((code, seen),) = watched(["inspect", guest.gdb, "--pause", "--map", "0x100000:0x10000@0"])
        assert code == 3
        assert {event[0] for event in seen} == {"socket.__new__", "socket.connect"}


@needs_qemu
def test_second_client_is_told_of_the_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Stub(place) as guest, luoser.open(guest.gdb, pause=True), monkeypatch.context() as patch:
        patch.setattr(gdb, "_CONNECT", 0.3)
        assert "another client is connected" in refusal(guest.gdb)


# -- stubs that are not QEMU's -----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("gdbserver") is None, reason="gdbserver is not installed")
def test_gdbserver_is_refused(place: Path) -> None:
    with subprocess.Popen(["gdbserver", "127.0.0.1:0", "/bin/true"], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            port = next(found[1] for line in server.stderr if (found := re.search(r"port (\d+)", line)))
            assert "reads no physical addresses" in refusal(f"gdb:127.0.0.1:{port}")
        finally:
            server.kill()


# -- what is named -----------------------------------------------------------------------------------------


def refusal(source: str, *, kind: type[Exception] = SourceError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        luoser.open(source, **{"pause": True, **options})
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


@pytest.mark.parametrize("where", ["", ":", "host", "host:", "host:0", "host:65536", "host:1x", ":99999999999", "1:٣"])
def test_place_that_is_none(where: str) -> None:
    assert "expected gdb:HOST:PORT or gdb:/path/to/socket" in refusal(f"gdb:{where}", kind=UsageError)


def test_forms_of_a_place() -> None:
    for where, wanted in {
        "host:12": ("host", 12),
        "[::1]:12": ("::1", 12),
        ":12": ("localhost", 12),
        "12": ("localhost", 12),
        "/run/gdb": "/run/gdb",
        "./gdb:12": "./gdb:12",
    }.items():
        assert gdb._address("", where) == wanted


def test_socket_that_is_not_there(place: Path) -> None:
    assert "No such file or directory; start QEMU with -gdb" in refusal(f"gdb:{place}/none")
    assert "no such socket; start QEMU with -qmp" in refusal(f"gdb:{place}/none,qmp:{place}/none")


def test_a_name_is_shown_in_place_of_a_place(place: Path) -> None:
    for source in (f"gdb:{place}/none,as:host:1", f"gdb:{place}/none,qmp:{place}/none,as:host:1"):
        message = refusal(source)
        assert message.startswith("gdb:host:1: ") and str(place) not in message


def test_ranges_are_of_ram(place: Path) -> None:
    for part in (Range(0, None, 0), Range(0, 4096, 4096)):
        assert "ranges START:LENGTH@0" in refusal(f"gdb:{place}/x", kind=UsageError, ranges=[part])


# -- a server that does what no QEMU should ----------------------------------------------------------------

PAGES = test_qmp.PAGES
BASE = 0x100000
TREE = (
    'FlatView #0\r\n AS "I/O", root: io\r\n  0000000000000000-000000000000ffff (prio 0, ram): not memory\r\n\r\n'
    'FlatView #1\r\n AS "memory", root: system\r\n AS "cpu-memory-0", root: system\r\n Root memory region: system\r\n'
    "  0000000000100000-000000000010ffff (prio 0, ram): pc.ram KVM\r\n"
    "  0000000000110000-000000000011ffff (prio 1, rom): pc.rom @0000000000010000\r\n"
    "  0000000000200000-00000000002fffff (prio 1, i/o): device\r\n"
    "  0000000000300000-00000000003fffff (prio 1, ramd): vfio\r\n"
    "  0000000000400000-00000000004fffff (prio 1, nv-ram): pmem\r\n\r\n"
)
Answer = Callable[["Server", str], bytes | None]


class Server:
    """A stub over one piece of memory. answers: what to send for a packet instead, by its beginning; None closes.

    seen: the packets, in order. mode: as the last one set it.
    """

    def __init__(self, place: Path, answers: Mapping[str, Answer | bytes], status: str) -> None:
        self.answers, self.status, self.mode = answers, status, "0"
        self.seen: list[str] = []
        self.source = f"gdb:{place}/fake.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{place}/fake.sock")
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.connection, _ = self._listener.accept()
            except OSError:
                return
            with self.connection, suppress(OSError):
                self._talk()

    def _talk(self) -> None:
        pending = b""
        while data := self.connection.recv(65536):
            *packets, pending = re.split(rb"#[0-9a-f]{2}", pending + data)
            for packet in packets:
                text = packet.decode().lstrip("+").removeprefix("$")
                self.seen.append(text)
                said = self._said(text)
                if said is None:
                    return
                self.connection.sendall(said)

    def _said(self, packet: str) -> bytes | None:
        for start, answer in self.answers.items():
            if packet.startswith(start):
                return answer(self, packet) if callable(answer) else answer
        return self.answer(packet)

    def answer(self, packet: str) -> bytes:
        """What QEMU would send."""
        if packet.startswith("qSupported"):
            return b"+" + framed("PacketSize=1000;multiprocess+")
        if packet.startswith("Qqemu.PhyMemMode:"):
            self.mode = packet[-1]
            return framed("OK")
        if packet == "qqemu.PhyMemMode":
            return framed(self.mode)
        if packet.startswith("qRcmd,"):
            command = bytes.fromhex(packet[6:]).decode()
            text = TREE if command == "info mtree -f" else f"VM status: {self.status}\r\n"
            return framed("O" + text[:40].encode().hex()) + framed("O" + text[40:].encode().hex()) + framed("OK")
        address, size = (int(number, 16) for number in packet[1:].split(","))
        assert BASE <= address < address + size <= BASE + len(PAGES), packet
        return framed(PAGES[address - BASE :][:size].hex())

    def close(self) -> None:
        self._listener.close()


Serve = Callable[..., Server]


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    servers = []

    def make(answers: Mapping[str, Answer | bytes] | None = None, *, status: str = "paused (prelaunch)") -> Server:
        servers.append(Server(place, answers or {}, status))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def test_sound_stub_is_read(serve: Serve) -> None:
    server = serve()
    with luoser.open(server.source, pause=True) as memory:
        assert spans(memory) == [(BASE, 0x110000), (0x110000, BASE + len(PAGES))]
        assert (memory.format, memory.remarks, memory.aftermath, server.mode) == ("gdb", [], "", "1")
        assert memory.read(0x100FFE, 4) == b"\1\1\2\2"
        assert list(memory.find_pages(b"\4")) == [BASE + 3 * 4096]
        assert list(memory.find(b"\1\2")) == [0x100FFF]
        first = memory.read(BASE, 16)
        server.answers = {"m": framed("E14")}
        assert memory.read(BASE, 16) == first
    assert (server.seen[-1], server.mode) == ("Qqemu.PhyMemMode:0", "0")
    assert not [packet for packet in server.seen if packet[:1] in "GPMXZzcCsSDkvRQ" and "PhyMemMode" not in packet]


def test_ranges_of_the_user_come_first(serve: Serve) -> None:
    parts = [Range(BASE + 0x2000, 0x1000, 0), Range(BASE, 0x2000, 0)]
    with luoser.open(serve().source, pause=True, ranges=parts) as memory:
        assert spans(memory) == [(BASE, BASE + 0x2000), (BASE + 0x2000, BASE + 0x3000)]


def test_ram_is_what_qemu_calls_ram_or_rom() -> None:
    assert ram_of(TREE) == [(0x100000, 0x110000), (0x110000, 0x120000)]
    assert ram_of(TREE.replace("\r\n", "\n")) == ram_of(TREE)
    assert ram_of("") == ram_of("FlatView #0\n") == ram_of(TREE.replace('AS "memory"', 'AS "other"')) == []


@pytest.mark.parametrize("answer", [framed(""), framed("E01"), framed("O" + b"unknown command".hex()) + framed("OK")])
def test_stub_that_does_not_say_where_ram_is(serve: Serve, answer: bytes) -> None:
    assert "give it with ranges START:LENGTH@0" in refusal(serve({"qRcmd,": answer}).source)


REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "no mode": ({"qqemu": framed("")}, "reads no physical addresses; only that of QEMU"),
    "mode is no number": ({"qqemu": framed("2")}, "reads no physical addresses"),
    "mode is refused": ({"Qqemu.PhyMemMode:1": framed("E22")}, "refuses Qqemu.PhyMemMode:1"),
    "no packet size": ({"qSupported": framed("multiprocess+")}, "expected a PacketSize of at least 0x80"),
    "small packets": ({"qSupported": framed("PacketSize=7f")}, "expected a PacketSize of at least 0x80"),
    "odd size": ({"qSupported": framed("PacketSize=-5\x1b[31m")}, "expected a PacketSize of at least 0x80"),
    "run without a byte": ({"qSupported": framed("*~")}, "damaged packet"),
    "run without a number": ({"qSupported": framed("0*")}, "damaged packet"),
    "not a stub": ({"qSupported": b"HTTP/1.1 400 Bad Request\r\n"}, "no answer in 0.3 s: not a debugger stub"),
    "nothing": ({"qSupported": b""}, "no answer in 0.3 s: not a debugger stub"),
    "always wrong": ({"qSupported": b"$#01"}, "damaged answer to qSupported, 3 times"),
    "never understood": ({"qSupported": b"-"}, "damaged answer to qSupported, 3 times"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stub_that_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if "0.3 s" in REFUSED[name][1]:
        monkeypatch.setattr(gdb, "_CONNECT", 0.3)
    answers, words = REFUSED[name]
    server = serve(answers)
    said = refusal(server.source)
    assert words in said and said.endswith("what it debugs may be stopped now")
    assert server.mode == "0"


def test_huge_packets_are_not_asked_for(serve: Serve) -> None:
    server = serve({"qSupported": framed("PacketSize=ffffffffffffffff")})
    with luoser.open(server.source, pause=True) as memory:
        assert memory.read(BASE, 1) == b"\1"
    assert max(int(packet.split(",")[1], 16) for packet in server.seen if packet[0] == "m") == 16 << 10


def test_runs_and_escapes_are_unpacked(serve: Serve) -> None:
    """`0` and 97 more is `0*~`; a `}` stands before a byte that is changed in bit 5."""

    def packed(server: Server, packet: str) -> bytes:
        size = int(packet.split(",")[1], 16)
        runs, rest = divmod(2 * size - 2, 98)
        return framed(b"}" + bytes([ord("4") ^ 0x20]) + b"1" + b"0*~" * runs + b"0" * rest)

    with luoser.open(serve({"m": packed}).source, pause=True) as memory:
        assert memory.read(BASE, 4096) == (b"A" + bytes(2047)) * 2


def test_a_checksum_may_have_capital_letters(serve: Serve) -> None:
    def capital(server: Server, packet: str) -> bytes:
        body, _, check = server.answer(packet).rpartition(b"#")
        return body + b"#" + check.upper()

    server = serve({"m": capital})
    with luoser.open(server.source, pause=True) as memory:
        assert memory.read(BASE, len(PAGES)) == PAGES
    assert server.seen.count("m100000,800") == 1


def test_damaged_answers_are_asked_for_again(serve: Serve) -> None:
    damaged = {"m100800,800": [b"$00#01", b"-"], "m101000,800": [b"$" + b"00" * 2048 + b"#01"]}

    def sometimes(server: Server, packet: str) -> bytes:
        left = damaged.get(packet, [])
        return left.pop(0) if left else server.answer(packet)

    server = serve({"m": sometimes})
    with luoser.open(server.source, pause=True) as memory:
        assert memory.read(BASE, len(PAGES)) == PAGES
    assert (server.seen.count("m100800,800"), server.seen.count("m101000,800")) == (3, 2)
    assert server.seen.count("m100000,800") == 1


def test_answers_that_stay_damaged_are_an_error(serve: Serve) -> None:
    server = serve({"m100800,800": b"$00#01"})
    with (
        pytest.raises(SourceError, match=r"damaged answer to m100800,800, 3 times"),
        luoser.open(server.source, pause=True) as memory,
    ):
        memory.read(BASE, 1)
    assert server.seen.count("m100800,800") == 3


@pytest.mark.parametrize("answer", ["E14", "", "00", "00" * 4096, "zz" * 2048, "٣٣" * 512], ids=range(6))
def test_memory_of_another_length_is_an_error(serve: Serve, answer: str) -> None:
    server = serve({"m": framed(answer.encode())})
    with luoser.open(server.source, pause=True) as memory, pytest.raises(SourceError, match="expected 2048 bytes"):
        memory.read(BASE, 16)
    assert server.mode == "0"


@pytest.mark.parametrize("extra", [lambda said: said + said, lambda said: b"-" + said], ids=["twice", "refused"])
def test_an_answer_too_many_does_not_shift_the_others(serve: Serve, extra: Callable[[bytes], bytes]) -> None:
    """All of them have the same length."""
    server = serve({"m102000": lambda server, packet: extra(server.answer(packet))})
    words = r"expected the physical mode, 1, after \d+ answers, found [0-9a-f]{40}"
    with luoser.open(server.source, pause=True) as memory, pytest.raises(SourceError, match=words):
        memory.read(BASE, len(PAGES))


def test_a_mode_that_another_program_changes_is_noticed(serve: Serve) -> None:
    server = serve()
    with luoser.open(server.source, pause=True) as memory:
        server.mode = "0"
        with pytest.raises(SourceError, match="another program has changed the mode"):
            memory.read(BASE, 16)


def test_stops_and_texts_between_are_passed_over(serve: Serve) -> None:
    aside = framed("T02thread:01;") + b"+" + framed("O" + b"text".hex()) + framed("W00")

    def noisy(server: Server, packet: str) -> bytes:
        return aside + server.answer(packet)

    with luoser.open(serve({"qS": noisy, "qq": noisy, "Q": noisy, "m": noisy}).source, pause=True) as memory:
        assert memory.read(BASE, len(PAGES)) == PAGES


def test_packet_without_an_end_is_refused(serve: Serve) -> None:
    with limited(Limits(gdb_packet=1000)):
        source = serve({"qSupported": b"$" + b"x" * 2000}).source
        assert "a packet of more than 1000 bytes; limits=Limits(gdb_packet=N)" in refusal(source)


def test_run_is_bounded_when_unpacked(serve: Serve) -> None:
    with limited(Limits(gdb_packet=1000)):
        assert "a packet of more than 1000 bytes" in refusal(serve({"qSupported": framed("0*~*~*~" * 5)}).source)


def test_text_of_the_monitor_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdb, "_FAREWELL", 0.3)

    def endless(server: Server, packet: str) -> bytes | None:
        with suppress(OSError):
            while True:
                server.connection.sendall(framed("O" + "20" * 500) * 10)
        return None

    with limited(Limits(gdb_text=10_000)):
        assert "prints more than 10000 bytes; limits=Limits(gdb_text=N)" in refusal(serve({"qRcmd": endless}).source)


def test_damaged_text_of_the_monitor_is_an_error(serve: Serve) -> None:
    assert "damaged answer to `info status`" in refusal(serve({"qRcmd": b"$O20#00"}).source)


@pytest.mark.parametrize("answer", [framed("T05"), b"x" * 100, b"%Stop:T05#00"], ids=["stops", "noise", "notes"])
def test_endless_answers_of_no_use_end(serve: Serve, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    def endless(server: Server, packet: str) -> bytes | None:
        with suppress(OSError):
            while True:
                server.connection.sendall(answer * 100)
        return None

    monkeypatch.setattr(gdb, "_ANSWER", 0.3)
    assert "did not answer qqemu.PhyMemMode in time" in refusal(serve({"qqemu": endless}).source)


def test_slow_drip_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def dripping(server: Server, packet: str) -> bytes | None:
        with suppress(OSError):
            while True:
                server.connection.sendall(b"$0"[:1])
                time.sleep(0.01)
        return None

    monkeypatch.setattr(gdb, "_ANSWER", 0.3)
    assert "did not answer qqemu.PhyMemMode in time" in refusal(serve({"qqemu": dripping}).source)


@pytest.mark.parametrize("packet", ["qSupported", "qqemu", "qRcmd", "m"])
def test_stub_that_closes_is_an_error(serve: Serve, packet: str) -> None:
    server = serve({packet: lambda server, packet: None})
    with pytest.raises(SourceError, match="closed the connection"), luoser.open(server.source, pause=True) as memory:
        memory.read(BASE, 1)


def test_all_answers_together_have_one_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub that is in time for each packet may not keep luoser for ever."""
    now = time.monotonic
    with luoser.open(serve().source, pause=True) as memory:
        memory.read(BASE, 16)
        monkeypatch.setattr("luoser.memory.gdb.time.monotonic", lambda: now() + 4000)
        with pytest.raises(SourceError, match=r"took too long in all, during m110000,800; --limit gdb_seconds=N"):
            memory.read(BASE + 0x10000, 16)


def test_amount_of_memory_has_a_limit(serve: Serve) -> None:
    with limited(Limits(guest_size=100)):
        assert "at most 100 bytes; limits=Limits(guest_size=N)" in refusal(serve().source)


# -- a stub that does not get back -------------------------------------------------------------------------


@pytest.mark.parametrize("packet", ["qRcmd", "m"])
def test_mode_is_put_back_after_an_error(serve: Serve, monkeypatch: pytest.MonkeyPatch, packet: str) -> None:
    monkeypatch.setattr(gdb, "_ANSWER", 0.3)
    server = serve({packet: b""})
    with pytest.raises(SourceError, match="did not answer"), luoser.open(server.source, pause=True) as memory:
        memory.read(BASE, 1)
    assert (server.seen[-1], server.mode) == ("Qqemu.PhyMemMode:0", "0")


def test_mode_is_put_back_after_an_interrupt_between_answers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    memory = luoser.open(server.source, pause=True)
    with monkeypatch.context() as patch:
        patch.setattr(gdb._Stub, "_received", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            memory.read(BASE, 0x10000)
        with pytest.raises(KeyboardInterrupt):
            memory.close()  # a second one
    memory.close()
    assert (server.seen[-1], server.mode) == ("Qqemu.PhyMemMode:0", "0")


@pytest.mark.parametrize("answer", [framed("E22"), b"", None], ids=["refuses", "hangs", "closes"])
def test_mode_that_may_still_be_on_is_named(serve: Serve, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(gdb, "_FAREWELL", 0.3)
    memory = luoser.open(serve({"Qqemu.PhyMemMode:0": lambda server, packet: answer}).source, pause=True)
    with pytest.raises(SourceError, match=r"may still read physical addresses: `maint packet Qqemu.PhyMemMode:0`"):
        memory.close()
    memory.close()


def test_guest_is_let_go_although_the_stub_does_not_get_back(place: Path, serve: Serve) -> None:
    (place / "qmp").mkdir()
    core = test_qmp.core(*test_qmp.LOADS)
    answers: dict[str, test_qmp.Answer] = {"query-chardev": lambda server, _: {"return": [len(server.seen)]}}
    monitor = test_qmp.Server(place / "qmp", running=True, core=core, greeting=test_qmp.GREETING, answers=answers)
    stub = serve({"Qqemu.PhyMemMode:0": lambda server, packet: None})
    memory = luoser.open(f"{stub.source},{monitor.source}", pause=True)
    assert spans(memory) == [(0x100000, 0x120000), (0x80000000, 0x80020000)]
    with pytest.raises(SourceError, match="may still read physical addresses"):
        memory.close()
    assert monitor.seen.count("cont") == 1
    monitor.close()
