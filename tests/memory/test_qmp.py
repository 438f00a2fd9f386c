# SPDX-License-Identifier: MIT
"""Guests read through QMP: real QEMU, and a server in a thread that does what no QEMU should."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import MissingMemory, PageState, SourceError, UsageError
from luoser.limits import Limits, limited
from luoser.memory import qmp
from luoser.memory.qmp import QmpMemory
from luoser.memory.source import Memory
from luoser.state import to_document
from tests import real
from tests.conftest import Run
from tests.memory.images import Load, core, note
from tests.qemu import Guest, needs_qemu
from tests.test_audit import watched

MAGIC = b"\xd0\x0d\xfe\xed"
BLOB = MAGIC + random.Random(5).randbytes(9000)
GIB = 1 << 30


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="luoser-") as name:
        yield Path(name)


def spans(memory: Memory) -> list[tuple[int, int]]:
    return [(segment.start, segment.end) for segment in memory.segments]


# -- real QEMU: the right bytes at the right address -------------------------------------------------------

MACHINES = {
    ("pc", "64M"): [0x2000000],
    ("q35", "64M"): [0x2000000],
    ("microvm", "64M"): [0x2000000],
    ("pc", "5G"): [0x2000000, 0xBFFF0000, 0x100000000, 0x17FFF0000],  # the hole below 4 GiB starts at 3 GiB
    ("q35", "5G"): [0x2000000, 0x7FFF0000, 0x100000000, 0x1BFFF0000],  # at 2 GiB
}


@needs_qemu
@pytest.mark.parametrize(("machine", "memory"), MACHINES, ids="-".join)
def test_blobs_are_found_at_their_addresses(place: Path, machine: str, memory: str) -> None:
    wanted = MACHINES[machine, memory]
    blobs = dict.fromkeys(wanted, BLOB)
    with Guest(place, machine=machine, memory=memory, blobs=blobs) as guest, luoser.open(guest.source) as found:
        assert (found.format, found.path, found.remarks, found.ram) == ("qmp", guest.source, [], ())
        assert list(found.find_pages(MAGIC)) == wanted
        assert list(found.find(BLOB[100:140])) == [address + 100 for address in wanted]
        for address in wanted:
            assert found.read(address, len(BLOB)) == BLOB
            assert found.page_state(address) is PageState.PRESENT


@pytest.mark.skipif(shutil.which("qemu-system-aarch64") is None, reason="qemu-system-aarch64 is not installed")
def test_memory_of_an_arm64_machine_begins_at_1_gib(place: Path) -> None:
    blobs = {0x48000000: BLOB, 0x17FFF0000: BLOB}
    options = {"program": "qemu-system-aarch64", "machine": "virt", "memory": "5G", "blobs": blobs}
    with Guest(place, "-cpu", "cortex-a57", **options) as guest, luoser.open(guest.source) as memory:
        assert spans(memory) == [(0x40000000, 0x180000000)]
        assert list(memory.find_pages(MAGIC)) == [0x40000000, *blobs]  # QEMU's own devicetree comes first
        assert memory.read(0x17FFF0000, len(BLOB)) == BLOB


@needs_qemu
def test_map_and_bytes_are_those_of_qemus_own_dump(place: Path) -> None:
    with Guest(place, "-vga", "std", blobs={0x10FF003: BLOB}, running=True) as guest:
        time.sleep(0.5)  # the firmware runs and leaves traces
        guest.qmp("stop")
        with luoser.open(guest.source) as memory, luoser.open(guest.dump(place / "core")) as dump:
            assert spans(memory) == spans(dump)
            assert spans(memory)[0] == (0, 0xA0000)  # the VGA hole
            for start, end in spans(dump):
                assert memory.read(start, end - start) == dump.read(start, end - start)
            for pattern in (b"SeaBIOS", BLOB[:40]):
                assert list(memory.find(pattern)) == list(dump.find(pattern)) != []
            assert list(memory.find_pages(b"\x55\xaa")) == list(dump.find_pages(b"\x55\xaa"))
            assert list(memory.find_pages(BLOB[1:9], at=4)) == list(dump.find_pages(BLOB[1:9], at=4)) == [0x10FF000]


@needs_qemu
def test_addresses_without_memory_are_absent(place: Path) -> None:
    with Guest(place, memory="5G") as guest, luoser.open(guest.source) as memory:
        for address in (0x80000000, 0xB0000000, 0xFED00000, 0x1C0000000, 1 << 52):
            assert memory.page_state(address) is PageState.ABSENT
            with pytest.raises(MissingMemory):
                memory.read(address, 8)
        with pytest.raises(MissingMemory) as caught:
            memory.read(0x7FFFF000, 8192)
        assert (caught.value.address, caught.value.state) == (0x80000000, PageState.ABSENT)


@needs_qemu
@pytest.mark.parametrize("name", ["7.3-a/frozen", "7.3-chain/frozen2"])
def test_guest_with_the_memory_of_a_real_dump_gives_its_handovers(place: Path, name: str) -> None:
    """What the dump lacks is zeros in the guest: so compare with a raw image of the same."""
    parts = [part for part in real.dump(name).segments if part.end <= GIB]
    blobs = {part.start: real.dump(name).read(part.start, part.size) for part in parts}
    with (place / "raw").open("wb") as file:
        for start, data in blobs.items():
            file.seek(start)
            file.write(data)
        file.truncate(GIB)
    with Guest(place, memory="1G", blobs=blobs) as guest, luoser.open(guest.source) as memory:
        found = to_document(luoser.read(memory, contents=True), full=True)
        with luoser.open(place / "raw") as raw:
            wanted = to_document(luoser.read(raw, contents=True), full=True)
    assert found["source"] == {"path": guest.source, "format": "qmp", "page_size": 4096, "kernel": None}
    assert found["handovers"] == wanted["handovers"] != []
    assert found["problems"] == wanted["problems"]


BACKENDS = {
    "anonymous": "memory-backend-ram,id=ram,size=8G,reserve=off",
    "memfd": "memory-backend-memfd,id=ram,size=8G,share=on",
    "file": "memory-backend-file,id=ram,size=8G,share=on,mem-path=/dev/shm",
}


def resident(process: int) -> int:
    """KiB of anonymous and shared memory and of page tables."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem", "VmPTE")))


@needs_qemu
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_nobody_touched_is_not_touched_by_a_scan(place: Path, backend: str) -> None:
    blobs = {0x2000000: BLOB, 0x200000000: BLOB}
    with Guest(place, "-object", BACKENDS[backend], memory="8G", blobs=blobs) as guest:
        before = resident(guest.process.pid)
        with luoser.open(guest.source) as memory:
            assert list(memory.find_pages(MAGIC)) == list(blobs)
            assert list(memory.find(BLOB)) == list(blobs)
        assert resident(guest.process.pid) - before < 32 << 10


# -- real QEMU: the guest goes on as it was ----------------------------------------------------------------


@needs_qemu
@pytest.mark.parametrize("pause", [False, True])
def test_running_guest_runs_afterwards(place: Path, pause: bool) -> None:
    with Guest(place, running=True) as guest:
        with luoser.open(guest.source, pause=pause) as memory:
            assert guest.status == ("paused" if pause else "running")
            assert [("running guest" in remark, "--pause" in remark) for remark in memory.remarks] == (
                [] if pause else [(True, True)]
            )
            list(memory.find_pages(MAGIC))
            assert guest.status == ("paused" if pause else "running")
        assert guest.status == "running"
        assert guest.qmp("query-fdsets") == []


@needs_qemu
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("status", ["prelaunch", "paused"])
def test_guest_that_does_not_run_is_left_so(place: Path, status: str, pause: bool) -> None:
    with Guest(place, running=status == "paused") as guest:
        if status == "paused":
            guest.qmp("stop")
        with luoser.open(guest.source, pause=pause) as memory:
            assert memory.remarks == []
            memory.read(0x1000000, 16)
        assert guest.status == status
        assert "RESUME" not in guest.events


@needs_qemu
def test_held_guest_goes_on_after_an_error(place: Path) -> None:
    with Guest(place, running=True) as guest:
        with pytest.raises(MissingMemory), luoser.open(guest.source, pause=True) as memory:
            memory.read(1 << 40, 8)
        assert guest.status == "running"


@needs_qemu
def test_held_guest_goes_on_when_the_memory_is_never_closed(place: Path) -> None:
    with Guest(place, running=True) as guest:
        code = f"import luoser; memory = luoser.open({guest.source!r}, pause=True); raise SystemExit(7)"
        assert subprocess.run([sys.executable, "-c", code], cwd=real.ROOT, check=False).returncode == 7
        assert (guest.status, guest.events.count("RESUME")) == ("running", 1)


@needs_qemu
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_held_guest_goes_on_after_a_signal(place: Path, number: signal.Signals) -> None:
    code = "import time, luoser.reader; luoser.reader.read = lambda *_, **__: time.sleep(600)"
    code += "; from luoser.cli.main import main; main()"
    with Guest(place, running=True) as guest:
        command = [sys.executable, "-c", code, "inspect", "--pause", guest.source]
        with subprocess.Popen(command, cwd=real.ROOT, stderr=subprocess.PIPE) as process:
            guest.wait_for("STOP")
            while guest.status != "paused" or not guest.qmp("query-fdsets"):  # until it reads
                time.sleep(0.05)
            process.send_signal(number)
            said = b"luoser: interrupted\n" if number == signal.SIGINT else b""
            assert process.communicate(timeout=600)[1] == said
            assert process.returncode == 128 + number
        assert (guest.status, guest.events.count("RESUME")) == ("running", 1)


@needs_qemu
def test_signal_handlers_are_put_back(place: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with Guest(place, running=True) as guest, luoser.open(guest.source, pause=True):
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


# -- real QEMU: what can go wrong --------------------------------------------------------------------------


@needs_qemu
def test_qemu_that_ends_in_the_middle_is_an_error(place: Path) -> None:
    with Guest(place) as guest, luoser.open(guest.source) as memory:
        guest.end()
        with pytest.raises(SourceError, match="closed the connection during pmemsave"):
            memory.read(0x100000, 16)


@needs_qemu
def test_second_client_is_told_of_the_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Guest(place) as guest:
        with luoser.open(guest.source), monkeypatch.context() as patch:
            patch.setattr(qmp, "_GREETING", 0.3)
            with pytest.raises(SourceError, match="one client at a time"):
                luoser.open(guest.source)
        luoser.open(guest.source).close()


@needs_qemu
def test_human_monitor_is_no_qmp(place: Path) -> None:
    monitor = ["-monitor", f"unix:{place}/hmp.sock,server=on,wait=off"]
    with Guest(place, *monitor), pytest.raises(SourceError, match="human monitor"):
        luoser.open(f"qmp:{place}/hmp.sock")


@needs_qemu
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts QEMU as somebody else")
def test_qemu_of_another_user_can_write_what_luoser_reads(place: Path) -> None:
    with Guest(place, "-runas", "nobody", blobs={0x2000000: BLOB}) as guest, luoser.open(guest.source) as memory:
        assert "Uid:\t0\t" not in Path(f"/proc/{guest.process.pid}/status").read_text()
        assert memory.read(0x2000000, len(BLOB)) == BLOB


@needs_qemu
def test_reading_a_guest_opens_nothing_for_writing(place: Path) -> None:
    with Guest(place, running=True) as guest:
        ((code, seen),) = watched(["inspect", guest.source, "--pause"])
        assert code == 3
        assert {event[0] for event in seen} == {"socket.__new__", "socket.connect", "socket.sendmsg", "os.truncate"}
        assert all(event[1].isdigit() for event in seen if event[0] == "os.truncate")  # its own unnamed files
        assert next(event for event in seen if event[0] == "socket.connect")[2] == str(guest.socket)


@needs_qemu
def test_command_reads_a_guest(place: Path, luoser_command: Run) -> None:
    parts = [part for part in real.dump("7.3-a/frozen").segments if part.end <= GIB]
    blobs = {part.start: real.dump("7.3-a/frozen").read(part.start, part.size) for part in parts}
    with Guest(place, memory="1G", blobs=blobs) as guest:
        for command in (["inspect"], ["pci"], ["map"]):
            result = luoser_command(*command, "--pause", guest.source, "--format", "json")
            assert (result.returncode, result.stderr) == (0, b"")
            assert json.loads(result.stdout)["handovers"][0]["address"] == "0x5cd000"
        result = luoser_command("extract", "--pause", guest.source, "-o", place / "cut")
        assert (result.returncode, result.stderr) == (0, b"")
        assert luoser.read(luoser.open(place / "cut")).handovers[0].address == 0x5CD000


# -- what is named -----------------------------------------------------------------------------------------


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        luoser.open(source, **options)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600
    return message


def test_socket_that_is_not_there(place: Path) -> None:
    assert refusal(f"qmp:{place}/none") == (
        f"qmp:{place}/none: no such socket; start QEMU with -qmp unix:PATH,server=on,wait=off"
    )


def test_file_that_is_no_socket(place: Path) -> None:
    (place / "file").write_bytes(b"")
    assert "connection refused: not a socket" in refusal(f"qmp:{place}/file")


def test_socket_that_nobody_serves_any_more(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}/old")
    assert "connection refused: not a socket" in refusal(f"qmp:{place}/old")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to everything")
def test_socket_without_permission(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{place}/closed")
        server.listen()
        (place / "closed").chmod(0)
        assert "permission denied" in refusal(f"qmp:{place}/closed")


@pytest.mark.parametrize("path", ["", "x" * 200, "/dev/null", "/", "\x1b[31m"])
def test_path_that_is_no_socket(path: str) -> None:
    assert refusal(f"qmp:{path}")


def test_pause_is_for_guests(place: Path) -> None:
    with pytest.raises(UsageError, match="pause is for guests only"):
        luoser.open(real.path("7.3-a/frozen"), pause=True)
    with pytest.raises(UsageError, match="expected qmp:SOCKET or gdb:HOST:PORT as the only source"):
        luoser.open("qmp:a", "qmp:b")


# -- a server that does what no QEMU should ----------------------------------------------------------------

GREETING = b'{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}\r\n'
PAGES = b"".join(bytes([number]) * 4096 for number in range(1, 33))
LOADS = (Load(0x100000, PAGES), Load(0x80000000, MAGIC + PAGES[4:]))
INFO = note("VMCOREINFO", b"OSRELEASE=7.3.0\nPAGESIZE=4096\n")
Said = bytes | dict[str, Any] | None
Answer = Callable[["Server", dict[str, Any]], Said]


class Server:
    """QMP over two pieces of memory. answers: what to do with a command instead; None closes the connection.

    seen: the commands, in order.
    """

    def __init__(self, place: Path, *, running: bool, core: bytes, greeting: bytes, answers: Mapping[str, Answer]):
        self.running, self.core, self.greeting, self.answers = running, core, greeting, answers
        self.files: list[int] = []
        self.seen: list[str] = []
        self.source = f"qmp:{place}/fake.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{place}/fake.sock")
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self.connection, _ = self._listener.accept()
            except OSError:
                return
            with self.connection, suppress(OSError):
                self.connection.sendall(self.greeting)
                self._talk()

    def _talk(self) -> None:
        pending = b""
        while True:
            data, files, _, _ = socket.recv_fds(self.connection, 65536, 4)
            self.files += files
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                self.seen.append(request["execute"])
                said = self.answers.get(request["execute"], Server.answer)(self, request)
                if said is None:
                    return
                self.say(said, request)

    def say(self, said: bytes | dict[str, Any], request: dict[str, Any]) -> None:
        if isinstance(said, dict):
            said = json.dumps({**said, "id": request["id"]}).encode() + b"\r\n"
        self.connection.sendall(said)

    def answer(self, request: dict[str, Any]) -> Said:
        """What QEMU would do."""
        arguments = request["arguments"]
        match request["execute"]:
            case "query-status":
                return {"return": {"running": self.running, "status": "running" if self.running else "paused"}}
            case "dump-guest-memory":
                return self._dump()
            case "add-fd":
                return {"return": {"fdset-id": 3, "fd": self.files[-1]}}
            case "pmemsave":
                with Path(arguments["filename"]).open("wb") as file:
                    file.write(self.memory(arguments["val"], arguments["size"]))
            case "human-monitor-command":
                return refuse(self, request)
        return {"return": {}}

    def _dump(self) -> Said:
        try:
            done = 0
            while done < len(self.core):
                done += os.write(self.files[-1], self.core[done : done + 4096])
        except OSError as error:
            return {"error": {"class": "GenericError", "desc": f"dump: failed to save memory: {error.strerror}"}}
        return {"return": {}}

    def memory(self, address: int, size: int) -> bytes:
        for load in LOADS:
            if load.paddr <= address < load.paddr + len(load.data):
                return load.data[address - load.paddr :][:size]
        raise AssertionError(f"asked for {size:#x} bytes at {address:#x}, which is no memory")

    def close(self) -> None:
        self._listener.close()
        for file in self.files:
            os.close(file)


def refuse(server: Server, request: dict[str, Any]) -> Said:
    return {"error": {"class": "GenericError", "desc": "no \x1b[31mway\n"}}


def hang(server: Server, request: dict[str, Any]) -> Said:
    return b""


def hang_up(server: Server, request: dict[str, Any]) -> Said:
    return None


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def make(
        answers: Mapping[str, Answer] | None = None,
        *,
        running: bool = True,
        greeting: bytes = GREETING,
        core: bytes = core(*LOADS, notes=INFO),
    ) -> Server:
        servers.append(Server(place, running=running, core=core, greeting=greeting, answers=answers or {}))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


Serve = Callable[..., Server]


def test_sound_server_is_read(serve: Serve) -> None:
    server = serve()
    with luoser.open(server.source) as memory:
        assert spans(memory) == [(0x100000, 0x120000), (0x80000000, 0x80020000)]
        assert (memory.page_size, memory.vmcoreinfo["OSRELEASE"]) == (4096, "7.3.0")
        assert memory.read(0x100FFE, 4) == b"\1\1\2\2"
        assert memory.read(0x10FFFE, 4) == b"\x10\x10\x11\x11"
        assert list(memory.find_pages(MAGIC)) == [0x80000000]
        assert list(memory.find(b"\1\2")) == [0x100FFF, 0x80000FFF]
    assert server.seen[-1] == "remove-fd"
    assert "stop" not in server.seen


def test_what_was_read_stays_as_it_was_read(serve: Serve) -> None:
    server = serve()
    with luoser.open(server.source) as memory:
        first = memory.read(0x100000, 16)
        server.answers = {"pmemsave": refuse}
        assert memory.read(0x100000, 16) == first
        with pytest.raises(SourceError):
            memory.read(0x110000, 16)


SEAMS = {
    b"abcd": 0x10FFFE,
    b"\0ab": 0x10FFFD,
    b"cd\0": 0x110000,
    b"\0\0ef\0": 0x13FFFC,
    b"ef\0\0": 0x13FFFE,
}


def test_pattern_over_the_edges_of_blocks_is_found(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luoser.memory.fetched._BLOCK", 0x10000)
    data = bytes(0xFFFE) + b"ab" + b"cd" + bytes(0x2FFFC) + b"ef" + bytes(0x10000)
    wanted = core(Load(0x100000, data))
    server = serve({"pmemsave": lambda server, request: save(request, data)}, core=wanted)
    with luoser.open(server.source) as memory:
        for _ in range(2):  # the second time blocks of zeros are known
            for pattern, start in SEAMS.items():
                assert list(memory.find(pattern)) == [start], pattern
    assert server.seen.count("pmemsave") < 60


def save(request: dict[str, Any], data: bytes) -> Said:
    arguments = request["arguments"]
    start = arguments["val"] - 0x100000
    Path(arguments["filename"]).write_bytes(data[start : start + arguments["size"]])
    return {"return": {}}


@pytest.mark.parametrize("pattern", [b"", b"\0\0"])
def test_search_for_zeros_is_refused(serve: Serve, pattern: bytes) -> None:
    with luoser.open(serve().source) as memory:
        with pytest.raises(SourceError):
            next(memory.find_pages(pattern))
        with pytest.raises(SourceError):
            next(memory.find(pattern))


GREETINGS = {
    b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ": "human monitor",
    b"\x1b[31mlogin:\n": "not a QMP socket",
    b"[1, 2]\n": "not a QMP socket",
    b'{"event": "STOP"}\n': "expected a QMP greeting, found other JSON",
    b"[" * 100_000 + b"\n": "not a QMP socket",
    b'{"a": ' * 100_000 + b"\n": "not a QMP socket",
    b"9" * 100_000 + b"\n": "not a QMP socket",
    b"\xff\xfe\n": "not a QMP socket",
    b"x" * (2 << 20): "lines of at most 1048576 bytes",
    b"": "one client at a time",
    GREETING[:20]: "one client at a time",
}


@pytest.mark.parametrize("greeting", GREETINGS, ids=lambda data: data[:10].hex())
def test_what_is_no_greeting(serve: Serve, monkeypatch: pytest.MonkeyPatch, greeting: bytes) -> None:
    if GREETINGS[greeting] == "one client at a time":  # the others come, however late
        monkeypatch.setattr(qmp, "_GREETING", 0.3)
    assert GREETINGS[greeting] in refusal(serve(greeting=greeting).source)


def test_server_that_closes_at_once(serve: Serve) -> None:
    server = serve({"qmp_capabilities": hang_up})
    assert "closed the connection during qmp_capabilities" in refusal(server.source)


def test_client_behind_another_waits_a_bounded_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a connection that is never accepted nor one that does not get into the queue."""
    monkeypatch.setattr(qmp, "_GREETING", 0.3)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(f"{place}/busy")
        server.listen(0)
        first.connect(f"{place}/busy")
        for _ in range(2):
            assert "one client at a time" in refusal(f"qmp:{place}/busy")


def wait_little(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Give up one command soon. The others may take as long as a busy machine makes them."""
    run = qmp.Monitor.run

    def impatient(monitor: Any, name: str, arguments: Any = None, **options: Any) -> Any:
        return run(monitor, name, arguments, **(options | {"seconds": 0.3} if name == command else options))

    monkeypatch.setattr(qmp.Monitor, "run", impatient)


COMMANDS = ["qmp_capabilities", "query-status", "getfd", "dump-guest-memory", "add-fd"]


@pytest.mark.parametrize("command", COMMANDS)
def test_refused_command_is_an_error_in_one_line(serve: Serve, command: str) -> None:
    message = refusal(serve({command: refuse}).source)
    assert message.endswith(f"QEMU refuses {command}: no \\x1b[31mway\\x0a")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_without_an_answer_is_an_error_in_time(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    wait_little(monkeypatch, command)
    assert f"did not answer {command}" in refusal(serve({command: hang}).source)


@pytest.mark.parametrize("command", COMMANDS)
def test_events_between_command_and_answer_are_passed_over(serve: Serve, command: str) -> None:
    def noisy(server: Server, request: dict[str, Any]) -> Said:
        event = {"event": "STOP", "timestamp": {"seconds": 1}, "data": {"text": "x" * 5000}}
        server.connection.sendall((json.dumps(event) + "\r\n").encode() * 40 + b'{"return": {}, "id": "other"}\n')
        return server.answer(request)

    with luoser.open(serve({command: noisy}).source) as memory:
        assert memory.read(0x101000, 1) == b"\2"


def test_endless_line_is_refused(serve: Serve) -> None:
    def endless(server: Server, request: dict[str, Any]) -> Said:
        return b"x" * 2000

    with limited(Limits(qmp_line=1000)):
        assert "at most 1000 bytes; limits=Limits(qmp_line=N)" in refusal(serve({"query-status": endless}).source)


def test_endless_events_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_little(monkeypatch, "query-status")

    def endless(server: Server, request: dict[str, Any]) -> Said:
        while True:
            server.connection.sendall(b'{"event": "STOP"}\n' * 100)

    assert "did not answer query-status" in refusal(serve({"query-status": endless}).source)


ODD = [{"return": None}, {"return": []}, {"return": {"running": "yes", "fd": "1", "fdset-id": {}}}, {"error": "no"},
       {"error": {"desc": {"x": "\x1b"}}}, {"error": None}]  # fmt: skip


@pytest.mark.parametrize("said", ODD, ids=json.dumps)
@pytest.mark.parametrize("command", ["query-status", "add-fd"])
def test_odd_answers_are_errors(serve: Serve, command: str, said: dict[str, Any]) -> None:
    assert refusal(serve({command: lambda server, request: said}).source)


@pytest.mark.parametrize(
    "data",
    [b"\0", b"garbage" * 1000, core(*LOADS)[:50], core(*LOADS)[:150], core(*LOADS, bits=1), b"\x7fELF"],
    ids=lambda data: f"{data[:5].hex()}-{len(data)}",
)
def test_dump_that_is_no_core_is_an_error(serve: Serve, data: bytes) -> None:
    assert refusal(serve(core=data).source)


def test_notes_of_a_machine_with_many_processors_get_more_room(serve: Serve) -> None:
    many = b"".join(note("CORE", bytes(4000), 1) for _ in range(1000)) + INFO
    server = serve(core=core(*LOADS, notes=many))
    with luoser.open(server.source) as memory:
        assert memory.vmcoreinfo["OSRELEASE"] == "7.3.0"
        assert memory.read(0x101000, 1) == b"\2"
    assert server.seen.count("dump-guest-memory") == 2


def test_dump_cannot_grow_beyond_its_room(serve: Serve) -> None:
    sizes = []

    def greedy(server: Server, request: dict[str, Any]) -> Said:
        said = server.answer(request)
        with suppress(OSError):
            os.ftruncate(server.files[-1], 1 << 30)
        with suppress(OSError):
            os.pwrite(server.files[-1], b"x", 1 << 29)
        sizes.append(os.fstat(server.files[-1]).st_size)
        return said

    with luoser.open(serve({"dump-guest-memory": greedy}).source):
        assert sizes == [1 << 20]


def test_impossible_amount_of_memory_is_refused(serve: Serve) -> None:
    assert "guest memory: expected at most" in refusal(
        serve(core=core(Load(0, b"x", filesz=1 << 60, memsz=1 << 60))).source
    )


def test_amount_of_memory_has_a_limit(serve: Serve) -> None:
    with limited(Limits(guest_size=100)):
        assert "at most 100 bytes; limits=Limits(guest_size=N)" in refusal(serve().source)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "expected 65536 bytes, found 0$"), (b"x" * 100, "expected 65536 bytes, found 100$")],
    ids=["nothing", "less"],
)
def test_short_data_is_an_error(serve: Serve, data: bytes, words: str) -> None:
    def short(server: Server, request: dict[str, Any]) -> Said:
        Path(request["arguments"]["filename"]).write_bytes(data)
        return {"return": {}}

    with luoser.open(serve({"pmemsave": short}).source) as memory, pytest.raises(SourceError, match=words):
        memory.read(0x100000, 16)


@contextmanager
def untouched_memory() -> Iterator[Answer]:
    """An answer to gpa2hva that says that the guest's memory is some of this process that nobody touched."""
    memory = mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    holder = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(holder)

    def answer(server: Server, request: dict[str, Any]) -> Said:
        address = int(request["arguments"]["command-line"].split()[1], 16)
        return {"return": f"Host virtual address for {address:#x} (pc.ram) is {start + address % 0x100000:#x}\r\n"}

    yield answer
    del holder
    memory.close()


def test_memory_that_the_host_knows_to_be_untouched_is_not_fetched(serve: Serve) -> None:
    """The server is this very process, so it is believed."""
    with untouched_memory() as answer:
        server = serve({"human-monitor-command": answer})
        with luoser.open(server.source) as memory:
            assert list(memory.find_pages(MAGIC)) == []
            assert "pmemsave" not in server.seen
            assert memory.read(0x101000, 1) == b"\2"


def test_peer_that_does_not_hold_the_file_is_not_qemu_itself(serve: Serve) -> None:
    """A socket that another program made for QEMU: that program's memory says nothing."""

    def other_file(server: Server, request: dict[str, Any]) -> Said:
        server.files.append(os.open("/dev/null", os.O_RDONLY))
        return {"return": {"fdset-id": 3, "fd": server.files[-1]}}

    with untouched_memory() as answer:
        server = serve({"human-monitor-command": answer, "add-fd": other_file})
        luoser.open(server.source).close()
        assert "human-monitor-command" not in server.seen


# -- a server that does not let a guest go -----------------------------------------------------------------


@pytest.mark.parametrize("command", ["stop", "getfd", "dump-guest-memory", "add-fd"])
def test_guest_is_let_go_when_opening_fails(serve: Serve, command: str) -> None:
    server = serve({command: refuse})
    assert f"QEMU refuses {command}" in refusal(server.source, pause=True)
    assert server.seen[server.seen.index("stop") :].count("cont") == 1


def test_guest_is_let_go_after_a_command_that_hangs(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_little(monkeypatch, "pmemsave")
    server = serve({"pmemsave": hang})
    with pytest.raises(SourceError, match="did not answer"), luoser.open(server.source, pause=True) as memory:
        memory.read(0x100000, 16)
    assert server.seen[-2:] == ["cont", "remove-fd"]


@pytest.mark.parametrize(("answer", "word"), [(refuse, "refuses cont"), (hang_up, "closed"), (hang, "did not answer")])
def test_guest_that_may_still_be_held_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, answer: Answer, word: str
) -> None:
    if answer is hang:
        monkeypatch.setattr(qmp, "_FAREWELL", 0.3)
    memory = luoser.open(serve({"cont": answer}).source, pause=True)
    with pytest.raises(SourceError, match=f"{word}.*may still be.*`cont`"):
        memory.close()
    memory.close()


def test_guest_that_may_still_be_held_does_not_hide_the_error_of_a_block(serve: Serve) -> None:
    with (
        pytest.raises(SourceError, match="may still be") as caught,
        luoser.open(serve({"cont": refuse}).source, pause=True),
    ):
        raise KeyError("of the block")
    assert isinstance(caught.value.__context__, KeyError) and not caught.value.__suppress_context__


def test_guest_that_does_not_run_is_neither_stopped_nor_continued(serve: Serve) -> None:
    server = serve(running=False)
    luoser.open(server.source, pause=True).close()
    assert not {"stop", "cont"} & set(server.seen)


def test_interrupt_while_the_guest_is_let_go_leaves_it_to_the_exit(serve: Serve) -> None:
    server = serve()
    memory = luoser.open(server.source, pause=True)
    assert isinstance(memory, QmpMemory)
    run = memory._monitor.run

    def interrupted(command: str, *arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    memory._monitor.run = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        memory.close()
    memory._monitor.run = run  # type: ignore[method-assign]
    memory.close()
    assert server.seen.count("cont") == 1


def test_a_server_that_answers_fast_has_no_more_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with luoser.open(serve().source) as memory:
        memory.read(0x100000, 16)
        now = time.monotonic
        monkeypatch.setattr("luoser.memory.qmp.time.monotonic", lambda: now() + 4000)
        with pytest.raises(SourceError, match=r"QEMU took too long in all, during pmemsave.*qmp_seconds"):
            memory.read(0x110000, 16)


def test_what_was_never_touched_is_looked_for_in_that_time_only(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that claims much memory, which costs it nothing."""
    asked, now = list[int](), time.monotonic

    def untouched(_: int, spans: Iterator[tuple[int, int]]) -> Iterator[bool]:
        monkeypatch.setattr("luoser.memory.qmp.time.monotonic", lambda: now() + 4000)
        for start, _ in spans:
            asked.append(start)
            yield True

    def address(server: Server, request: dict[str, Any]) -> Said:
        return {"return": f"Host virtual address for it is {request['arguments']['command-line'].split()[1]}\r\n"}

    monkeypatch.setattr("luoser.memory.qmp.untouched", untouched)
    monkeypatch.setattr("luoser.memory.qmp.os.path.samestat", lambda *_: True)
    server = serve({"human-monitor-command": address}, core=core(Load(0, bytes(64), 64 << 30, 64 << 30)))
    with suppress(SourceError), luoser.open(server.source):
        pass
    assert len(asked) == 1


def test_all_answers_together_have_one_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is in time for each command may not keep luoser for ever."""
    now = time.monotonic

    def slow(server: Server, request: dict[str, Any]) -> Said:
        monkeypatch.setattr("luoser.memory.qmp.time.monotonic", lambda: now() + 4000)
        return Server.answer(server, request)

    server = serve({"query-status": slow, "query-commands": hang, "add-fd": hang, "dump-guest-memory": hang})
    with pytest.raises(SourceError, match=r"QEMU took too long in all, during .*limits=Limits\(qmp_seconds=N\)"):
        luoser.open(server.source)
