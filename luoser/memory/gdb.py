# SPDX-License-Identifier: MIT
"""Memory of a QEMU guest, read through its debugger stub: `gdb:HOST:PORT`, `gdb:/path/to/socket`.

QEMU's stub reads physical addresses after `Qqemu.PhyMemMode:1`. The mode outlives a connection, so it is put back to 0
whatever happens. Other stubs have virtual addresses only and are refused.

A connection stops the guest, and the end of one leaves it stopped. So its state has to be known before: by QMP
(`gdb:HOST:PORT,qmp:SOCKET`), which stops and continues the guest in place of the stub, or not at all, which takes
`pause`. After a connection, `info status` of the monitor behind the stub shows guests that surely did not run.

In this mode QEMU answers for every address: outside of RAM it reads device registers, which may change by that. So only
RAM is requested, and none is looked for by trial. QMP says where RAM is, else `info mtree -f`, else the user.

Packets are sent in batches without waiting for acknowledgements: QEMU takes the next packet as one, and has no mode
without them. A damaged answer is asked for again. 100 MiB come in a second over a UNIX socket; a search for pages
reads the first bytes of each.
"""

from __future__ import annotations

import re
import socket as sockets
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.ending import Ending
from luoser.memory.fetched import FetchedMemory
from luoser.memory.qmp import Monitor
from luoser.text import GDB_NAME, safe_text, without_secrets

__all__ = ["GdbMemory", "ram_of"]

_CONNECT, _ANSWER, _FAREWELL = 5, 60, 10
"""Seconds to wait for a connection and the first answer, for the answers to a batch, and for the last answer."""
_STEP, _BATCH, _PAGES = 16 << 10, 64 << 10, 256
"""Most bytes of one packet that are requested, bytes of a batch, and pages of a batch of a search."""
_TRIES = 3
"""Times that a packet is sent until its answer is whole."""
_MODE = "Qqemu.PhyMemMode"
_ASIDE = re.compile(rb"[TSWX][0-9a-f]{2}|O(?:[0-9a-f]{2})+$")
"""A stop or text of the monitor, which a stub sends on its own."""
_RAM = re.compile(r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:ram|rom)\)", re.MULTILINE)
_ESCAPE = re.compile(rb"\}(.)", re.DOTALL)
_STATUS = re.compile(r"VM status: paused(?: \((.+)\))?\s*$")


class GdbMemory(FetchedMemory):
    """Physical memory of a guest that is stopped, through QEMU's debugger stub."""

    format, is_slow = "gdb", True

    def __init__(self, path: str, place: str, *, pause: bool = False, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """A guest at a debugger stub.

        path:   as the user gave it.
        place:  `HOST:PORT`, or the path of a UNIX socket; with `,qmp:SOCKET` the path of one where QEMU serves QMP,
                and with `,as:NAME` at the end a name to show.
        pause:  stop the guest. One that ran according to QMP is continued at the end, others stay stopped.
        ranges: [start, end) of RAM. Empty: as QEMU says.

        Raises UsageError for a place that is none, SourceError if there is no stub of QEMU, or if it would stop a
        guest without `pause`.
        """
        super().__init__(without_secrets(path))
        self._shown = safe_text(self.path)
        where, _, monitor = place.partition(GDB_NAME)[0].partition(",qmp:")
        address = _address(self._shown, where)
        self._ending: Ending | None = None
        self._stub: _Stub | None = None
        self._stopped = False
        self._monitor = Monitor(self._shown, monitor) if monitor else None
        try:
            self._begin(address, pause, ranges)
        except SourceError as error:
            self._close_after(error)
        except BaseException:
            self.close()
            raise

    def _begin(self, address: str | tuple[str, int], pause: bool, ranges: Sequence[tuple[int, int]]) -> None:
        running = self._runs(pause)
        self._ending = Ending(self.close)
        if self._monitor is not None and running:
            self._stopped = True  # before the command: an interrupt can arrive during it
            self._monitor.run("stop")
        devices = self._monitor.devices() if self._monitor is not None else None
        self._stub = stub = _Stub(self._shown, address)
        stub.begin()
        if self._monitor is not None:
            if self._monitor.devices() == devices:
                self._fail("the QMP socket is of another guest: its stub has no client; this one may be stopped now")
            core = self._monitor.core()
            self.page_size, self.vmcoreinfo, self.info_note = core.page_size, core.vmcoreinfo, core.info_note
            ranges = ranges or [(part.start, part.end) for part in core.segments]
        else:
            status = _STATUS.search(stub.monitor("info status"))
            if status is None or status[1] is None:
                self.aftermath = (
                    "it is not known whether the guest ran before: it stays stopped, `cont` in its monitor continues "
                    "it; with gdb:…,qmp:SOCKET luoser does"
                )
        self._cover(_joined(ranges) or self._ram(stub))

    def _close_after(self, error: SourceError) -> NoReturn:
        """Close, and raise the error, with that of closing if there is one, too."""
        words = [str(error)]
        if self._stub is not None and self._monitor is None:
            words.append("what it debugs may be stopped now")
        try:
            self.close()
        except SourceError as other:
            words.append(str(other))
        raise SourceError("; ".join(words)) from None

    def _runs(self, pause: bool) -> bool | None:
        """Whether the guest runs. None: unknown. Raises SourceError if it would be stopped against the user's word."""
        if self._monitor is None:
            if not pause:
                self._fail(
                    "connecting to a debugger stub stops the guest, and whether it runs is not known: give --pause (it "
                    "then stays stopped), or a QMP socket, as in gdb:HOST:PORT,qmp:SOCKET"
                )
            return None
        running = self._monitor.is_running()
        if running and not pause:
            self._fail("the guest runs, and connecting to its debugger stub stops it: give --pause, or read qmp:SOCKET")
        return running

    def _ram(self, stub: _Stub) -> list[tuple[int, int]]:
        found = ram_of(stub.monitor("info mtree -f"))
        if not found:
            self._fail("QEMU's monitor does not say where RAM is (info mtree -f): give it with --map START:LENGTH@0")
        return found

    def _fail(self, message: str) -> NoReturn:
        raise SourceError(f"{self._shown}: {message}")

    def _fetch(self, address: int, size: int) -> bytes:
        if self._stub is None:
            self._fail("was closed; open it again")
        return b"".join(
            data
            for start in range(address, address + size, _BATCH)
            for data in self._stub.memory(_steps(start, min(address + size, start + _BATCH), self._stub.step))
        )

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        if not prefix or prefix[0] == 0 or self._stub is None or len(prefix) > self._stub.step:
            yield from super().find_pages(prefix, at=at)
            return
        total, done = sum(segment.size for segment in self._segments), 0
        for segment in self._segments:
            pages = range(segment.start + -segment.start % 4096, segment.end - at - len(prefix) + 1, 4096)
            for some in (pages[index : index + _PAGES] for index in range(0, len(pages), _PAGES)):
                found = self._stub.memory([(page + at, len(prefix)) for page in some])
                yield from (page for page, data in zip(some, found, strict=True) if data == prefix)
                self.report(done + some[-1] - segment.start, total)
            done += segment.size
        self.report(total, total)

    def close(self) -> None:
        """Put the stub's addresses back to virtual ones, and continue the guest if it was stopped here.

        Raises SourceError if one of both may have failed.
        """
        faults: list[SourceError] = []
        if self._stub is not None:
            try:
                self._stub.close()
            except SourceError as error:
                faults.append(error)
            self._stub = None  # not after an interrupt: then the ending calls close() again
        if self._monitor is not None:
            try:
                if self._stopped:
                    self._monitor.let_go()
            except SourceError as error:
                faults.append(error)
            self._monitor.close()
            self._monitor = None
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if faults:
            raise SourceError("; ".join(str(fault) for fault in faults))


def ram_of(text: str) -> list[tuple[int, int]]:
    """[start, end) of the RAM and ROM in what QEMU's `info mtree -f` says, sorted. Empty: none is found."""
    views = (view for view in text.split("FlatView #") if '\n AS "memory",' in view)
    return _joined((int(part[1], 16), int(part[2], 16) + 1) for part in _RAM.finditer(next(views, "")))


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges sorted, with those merged that overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif start < end:
            joined.append((start, end))
    return joined


def _address(shown: str, where: str) -> str | tuple[str, int]:
    """The path of a socket, or host and port. Raises UsageError."""
    if "/" in where:
        return where
    host, _, port = where.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise UsageError(f"{shown}: expected gdb:HOST:PORT or gdb:/path/to/socket, each also with ,qmp:SOCKET")
    return host.strip("[]") or "localhost", int(port)


def _steps(start: int, end: int, step: int) -> list[tuple[int, int]]:
    """(address, size) of the packets for [start, end)."""
    return [(place, min(step, end - place)) for place in range(start, end, step)]


def _from_hex(digits: bytes) -> bytes | None:
    try:
        return bytes.fromhex(digits.decode("ascii", "replace"))
    except ValueError:
        return None


def _checksum(body: bytes) -> int:
    """The sum of the bytes of a packet, modulo 256. Adler-32 has that of 256 bytes whole, and is ten times as fast."""
    return sum(zlib.adler32(body[place : place + 256], 0) & 0xFFFF for place in range(0, len(body), 256)) & 255


class _Stub:
    """One connection to a stub. Waits, packets and tries are bounded.

    step: bytes of memory that one packet asks for.
    """

    def __init__(self, shown: str, address: str | tuple[str, int]) -> None:
        self._shown = shown
        self._buffer = bytearray()
        self._end = time.monotonic() + LIMITS.gdb_seconds
        self._is_physical = False
        self.step = 0
        try:
            self._socket = self._connected(address)
        except TimeoutError:
            self._fail(f"no connection in {_CONNECT} s")
        except OSError as error:
            self._fail(f"{error.strerror or error}; start QEMU with -gdb tcp::PORT or unix:PATH,server=on,wait=off")

    @staticmethod
    def _connected(address: str | tuple[str, int]) -> sockets.socket:
        if isinstance(address, tuple):
            return sockets.create_connection(address, timeout=_CONNECT)
        found = sockets.socket(sockets.AF_UNIX)
        try:
            found.settimeout(_CONNECT)
            found.connect(address)
        except BaseException:
            found.close()
            raise
        return found

    def begin(self) -> None:
        """Find out what the stub can do, and let it read physical addresses. Raises SourceError."""
        try:
            supported = self._ask("qSupported", seconds=_CONNECT)
        except _Late:
            self._fail(
                f"no answer in {_CONNECT} s: not a debugger stub, or another client is connected; QEMU takes this "
                "connection when that one ends, which stops the guest"
            )
        size = re.search(rb"(?:^|;)PacketSize=([0-9a-fA-F]{1,16})(?:;|$)", supported)
        if self._ask(f"q{_MODE[1:]}") not in (b"0", b"1"):
            self._fail(
                "the stub reads no physical addresses; only that of QEMU 4.1 and later does. Of kgdb, paste what `md` "
                "or `x` prints to `luoser decode --hex`, or take a dump; of OpenOCD, read a raw image from dump_image"
            )
        self.step = min(_STEP, int(size[1], 16) // 2) if size else 0
        if self.step < 64:
            self._fail(f"expected a PacketSize of at least 0x80, found {safe_text(bytes(supported[:80]))}")
        self._is_physical = True  # before the command: an interrupt can arrive during it
        if self._ask(f"{_MODE}:1") != b"OK":
            self._fail(f"the stub refuses {_MODE}:1")

    def memory(self, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes at physical addresses. parts: (address, size), small enough for a packet. Raises SourceError.

        Answers do not say to which packet they belong: that of the mode, unlike any memory, has to be the last.
        """
        *answers, mode = self._ask_all([*(f"m{address:x},{size:x}" for address, size in parts), f"q{_MODE[1:]}"])
        if mode != b"1":
            text = safe_text(mode[:40].decode("latin-1"))
            self._fail(
                f"memory from {parts[0][0]:#x} on: expected the physical mode, 1, after {len(parts)} answers, "
                f"found {text}: an answer too many, or another program has changed the mode"
            )
        return [self._bytes(answer, *part) for answer, part in zip(answers, parts, strict=True)]

    def _bytes(self, answer: bytes, address: int, size: int) -> bytes:
        data = _from_hex(answer)
        if data is None or len(data) != size:
            text = f"{len(answer)} characters: {safe_text(answer[:40].decode('latin-1'))}"
            self._fail(f"memory at {address:#x}: expected {size} bytes in hex, found {text}")
        return data

    def monitor(self, command: str) -> str:
        """What QEMU's monitor prints for a command. Empty: the stub has none. Raises SourceError."""
        name = f"`{command}`"
        deadline = self._deadline(None, name)
        self._send([f"qRcmd,{command.encode().hex()}"], name, deadline)
        said = bytearray()
        while True:
            answer = self._packet(deadline, name)
            if answer is None:
                self._fail(f"damaged answer to {name}")
            if answer in (b"OK", b"") or re.fullmatch(rb"E\d\d", answer):
                return said.decode("utf-8", "replace")
            said += (answer[:1] == b"O" and _from_hex(answer[1:])) or b""
            if len(said) > LIMITS.gdb_text:
                self._fail(f"{name} prints more than {LIMITS.gdb_text} bytes; {how_to_raise('gdb_text')}")

    def _ask(self, packet: str, *, seconds: float | None = None) -> bytes:
        return self._ask_all([packet], seconds=seconds)[0]

    def _ask_all(self, packets: Sequence[str], *, seconds: float | None = None) -> list[bytes]:
        """The answers to packets, no two of which are alike. Raises SourceError."""
        name = packets[0]
        deadline = self._deadline(seconds, name)
        answers: dict[str, bytes] = {}
        left, tries = list(packets), 0
        while left:
            if tries == _TRIES:
                self._fail(f"damaged answer to {left[0]}, {tries} times: expected a packet of a debugger stub")
            tries += 1
            self._send(left, name, deadline)
            found = [(packet, self._answer(deadline, name)) for packet in left]
            answers.update((packet, answer) for packet, answer in found if answer is not None)
            left = [packet for packet, answer in found if answer is None]
            if left and left[-1] != packets[-1]:  # which shows that no answer was in the place of another
                left.append(packets[-1])
        return [answers[packet] for packet in packets]

    def _answer(self, deadline: float, name: str) -> bytes | None:
        while (answer := self._packet(deadline, name)) is not None and _ASIDE.match(answer):
            pass
        return answer

    def _packet(self, deadline: float, name: str) -> bytes | None:
        """The next packet. None: it is damaged, or the stub did not understand one of ours."""
        buffer = self._buffer
        while True:
            start = re.search(rb"[$-]", buffer)
            del buffer[: start.start() if start else len(buffer)]
            if buffer[:1] == b"-":
                del buffer[:1]
                return None
            end = buffer.find(b"#")
            if 0 <= end <= len(buffer) - 3:
                body, check = bytes(buffer[1:end]), bytes(buffer[end + 1 : end + 3])
                del buffer[: end + 3]
                return self._unpacked(body) if check.lower() == b"%02x" % _checksum(body) else None
            if len(buffer) > LIMITS.gdb_packet:
                self._fail(f"a packet of more than {LIMITS.gdb_packet} bytes; {how_to_raise('gdb_packet')}")
            buffer += self._received(deadline, name)

    def _unpacked(self, body: bytes) -> bytes:
        """The contents of a packet, without runs (`0*~`: 0 and 97 more) and escapes (`}` and a byte ^ 0x20)."""
        found, place = bytearray(), 0
        while (star := body.find(b"*", place)) >= 0:
            found += body[place:star]
            more = body[star + 1] - 29 if star + 1 < len(body) else 0
            if more < 1 or not found:
                self._fail("damaged packet: expected a byte and a number of repetitions around `*`")
            found += found[-1:] * more
            if len(found) > LIMITS.gdb_packet:
                self._fail(f"a packet of more than {LIMITS.gdb_packet} bytes; {how_to_raise('gdb_packet')}")
            place = star + 2
        found += body[place:]
        return bytes(_ESCAPE.sub(lambda escaped: bytes([escaped[1][0] ^ 0x20]), found) if b"}" in found else found)

    def _send(self, packets: Sequence[str], name: str, deadline: float) -> None:
        data = "".join(f"${packet}#{_checksum(packet.encode()):02x}" for packet in packets)
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(b"+" + data.encode())
        except TimeoutError:
            self._fail_late(name)
        except OSError:
            self._fail_closed(name)

    def _received(self, deadline: float, name: str) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            self._fail_late(name)
        try:
            self._socket.settimeout(left)
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            self._fail_late(name)
        except OSError:
            data = b""
        if not data:
            self._fail_closed(name)
        return data

    def _deadline(self, seconds: float | None, name: str) -> float:
        now = time.monotonic()
        if seconds is None and now >= self._end:  # also if it answers fast, without end
            self._fail_late(name)
        return now + seconds if seconds is not None else min(now + _ANSWER, self._end)

    def _fail_late(self, name: str) -> NoReturn:
        if time.monotonic() >= self._end:
            self._fail(f"the stub took too long in all, during {name}; {how_to_raise('gdb_seconds')}")
        raise _Late(f"{self._shown}: the stub did not answer {name} in time") from None

    def _fail_closed(self, name: str) -> NoReturn:
        self._fail(f"the stub closed the connection during {name}; QEMU may have ended, or this is not its stub")

    def _fail(self, message: str) -> NoReturn:
        raise SourceError(f"{self._shown}: {message}") from None

    def close(self) -> None:
        """End physical mode and the connection. Raises SourceError if the mode may still be on."""
        try:
            if self._is_physical:
                self._reset()
        except SourceError as error:
            self._socket.close()
            text = f"{error}; it may still read physical addresses: `maint packet {_MODE}:0` in gdb ends that"
            raise SourceError(text) from None
        self._socket.close()

    def _reset(self) -> None:
        name = f"{_MODE}:0"
        deadline = self._deadline(_FAREWELL, name)
        self._send([name], name, deadline)
        while self._packet(deadline, name) != b"OK":  # answers to what was interrupted come first
            pass
        self._is_physical = False


class _Late(SourceError):
    """No answer in time."""
