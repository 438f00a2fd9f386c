# SPDX-License-Identifier: MIT
"""Memory of a running QEMU guest, read through QMP: `qmp:/path/to/socket`.

The map comes from the head of an ELF core. `dump-guest-memory` is handed a sealed file of one MiB, writes its headers
and notes (where RAM is, VMCOREINFO) and gives up at the seal. So the map is the one of QEMU's own dumps, right for
every machine type, and a running guest stands still for a millisecond and what flushing its disks takes.

The bytes come from `pmemsave`, block by block, into one unnamed file in memory that is used again for each. QEMU is
handed it with `add-fd` and opens it as /proc/self/fd/N: no path has to be writable for QEMU's user or visible in its
namespace, and nothing comes to lie on a disk. `pmemsave` does not stop the guest, it keeps QEMU's main loop busy for
the time of a block; and as it is asked for the map's RAM only, it reads no device registers. Blocks that no one ever
touched are not asked for, where the host's kernel tells which they are (`untouched`).

Not used: `dump-guest-memory` for the bytes is twice as fast, but stops and starts a running guest for every block.
`xp` and `info mtree` answer in prose that changes between versions. QMP does not say which part of a shared memory
file is at which address.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import re
import signal
import socket as sockets
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.elf import ElfMemory
from luoser.memory.source import Memory, Segment
from luoser.memory.untouched import untouched
from luoser.text import safe_text

__all__ = ["QmpMemory"]

_GREETING, _ANSWER, _FAREWELL = 5, 60, 10
"""Seconds to wait for a greeting, for an answer, and for the answers to the last commands."""
_HEADS = (1 << 20, 64 << 20)
"""Bytes for a core's headers and notes; only machines with thousands of processors need the second."""
_BLOCK, _WINDOW, _WINDOWS = 8 << 20, 64 << 10, 1024
"""Bytes asked for at a time by a scan and by a read; how many of the latter are kept."""
_HOST_ADDRESS = re.compile(r" is (0x[0-9a-f]{1,16})\s*$")
_NAME = "luoser"
_SAID = 300
"""Characters shown of what QEMU says."""


class QmpMemory(Memory):
    """Physical memory of a QEMU guest. socket: path of a UNIX socket that speaks QMP.

    pause: stop the guest until `close`, if it is running; otherwise it runs on, and what is read may be of several
    moments. A window of 64 KiB that was read once stays as it was read, a block that a scan found to be zero is not
    looked at by a later scan: open the guest anew to see it anew.
    """

    format = "qmp"

    def __init__(self, path: str, socket: str, *, pause: bool = False) -> None:
        super().__init__(path)
        self._shown = safe_text(path)
        self._held = False
        self._signals: dict[int, Any] = {}
        self._file, self._set = -1, -1
        self._zeros = bytes(_BLOCK)
        self._zero: set[int] = set()
        self._windows = lru_cache(maxsize=_WINDOWS)(self._fetch)
        self._monitor = _Monitor(self._shown, socket)
        try:
            self._begin(pause)
        except BaseException:
            self.close()
            raise

    def _begin(self, pause: bool) -> None:
        running = self._monitor.field(self._monitor.run("query-status"), "running", bool)
        if running and pause:
            self._hold()
        elif running:
            self.remarks.append("read from a running guest, page by page as it changed; --pause holds it meanwhile")
        core = self._core()
        self.page_size, self.vmcoreinfo = core.page_size, core.vmcoreinfo
        self._segments = tuple(Segment(part.start, part.size, 0, part.size) for part in core.segments)
        self._starts = [segment.start for segment in self._segments]
        if sum(segment.size for segment in self._segments) > LIMITS.guest_size:
            raise SourceError(f"{self._shown}: more than {LIMITS.guest_size} bytes of memory, no machine has that")
        self._file = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        added = self._monitor.run("add-fd", {"opaque": _NAME}, descriptor=self._file)
        self._set = self._monitor.field(added, "fdset-id", int)
        self._target = f"/proc/self/fd/{self._monitor.field(added, 'fd', int)}"
        with suppress(OSError, _Refused):
            self._skip_untouched(self._monitor.peer())

    def _hold(self) -> None:
        """Stop the guest. Whatever ends luoser from here on lets it go on, but for SIGKILL and SIGQUIT."""
        atexit.register(self.close)
        if threading.current_thread() is threading.main_thread():
            ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
            self._signals = {number: signal.signal(number, _end) for number in ends}
        self._held = True  # before the command: an interrupt may come while it is under way
        self._monitor.run("stop")

    def _core(self) -> ElfMemory:
        """The head of an ELF core, with as much memory as there is room for behind it."""
        fault = SourceError(f"{self._shown}: QEMU wrote no dump")
        for size in _HEADS:
            file = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            try:
                os.ftruncate(file, size)
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
                refusal = self._dump(file)
                data = os.pread(file, min(size, os.lseek(file, 0, os.SEEK_CUR)), 0)
            finally:
                os.close(file)
            if not data:
                raise refusal or fault
            try:
                return ElfMemory(self._shown, data)  # whole up to the first bytes of memory, or refused
            except SourceError as error:
                fault = error
        raise fault

    def _dump(self, file: int) -> _Refused | None:
        """Have a core written to a file; what QEMU says when it could not write all of it."""
        self._monitor.run("getfd", {"fdname": _NAME}, descriptor=file)
        try:
            self._monitor.run("dump-guest-memory", {"paging": False, "protocol": f"fd:{_NAME}"})
        except _Refused as refusal:
            with suppress(_Refused):  # it is QEMU's to close once the dump has begun
                self._monitor.run("closefd", {"fdname": _NAME})
            return refusal
        return None

    def _skip_untouched(self, process: int) -> None:
        """Take blocks for zero that the host's kernel says nobody touched; OSError where it does not say."""
        its_file = Path(self._target.replace("self", str(process)))
        if not os.path.samestat(its_file.stat(), os.fstat(self._file)):
            return  # the peer is not QEMU itself
        for segment in self._segments:
            host = self._host_address(segment.start)
            if host is None or self._host_address(segment.end - 1) != host + segment.size - 1:
                continue
            places = ((host + start - segment.start, end - start) for start, end in _spans(segment))
            known = zip(_spans(segment), untouched(process, places), strict=True)
            self._zero.update(start for (start, _), zero in known if zero)

    def _host_address(self, address: int) -> int | None:
        """Where a byte of the guest is in QEMU's own memory."""
        said = self._monitor.run("human-monitor-command", {"command-line": f"gpa2hva {address:#x}"})
        found = _HOST_ADDRESS.search(str(said))
        return int(found[1], 16) if found else None

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments

    def _segment_at(self, address: int) -> Segment | None:
        index = bisect_right(self._starts, address) - 1
        return self._segments[index] if index >= 0 and address < self._segments[index].end else None

    def page_state(self, address: int) -> PageState:
        return PageState.PRESENT if self._segment_at(address) else PageState.ABSENT

    def read(self, address: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            segment = self._segment_at(address)
            if segment is None:
                raise MissingMemory(address, PageState.ABSENT)
            first = address - address % _WINDOW
            start, end = max(segment.start, first), min(segment.end, first + _WINDOW)
            take = min(size, end - address)
            parts.append(self._windows(start, end - start)[address - start : address - start + take])
            address, size = address + take, size - take
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fetch(self, address: int, size: int) -> bytes:
        """Bytes that are in one segment, as they are now."""
        self._monitor.run("pmemsave", {"val": address, "size": size, "filename": self._target})
        data = os.pread(self._file, size, 0)
        if len(data) < size:
            raise SourceError(f"{self._shown}: QEMU wrote {len(data)} of the {size} bytes at {address:#x}")
        return data

    def _blocks(self, segment: Segment) -> Iterator[tuple[int, int, bytes]]:
        """Start, end and bytes of each block; no bytes for one of zeros, which is fetched once at most."""
        for start, end in _spans(segment):
            data = b"" if start in self._zero else self._fetch(start, end - start)
            if self._zeros.startswith(data):
                self._zero.add(start)
                data = b""
            yield start, end, data

    def find_pages(self, prefix: bytes, *, at: int = 0) -> Iterator[int]:
        if not prefix or prefix[0] == 0:
            raise SourceError(f"cannot look for pages that start with {prefix!r}: the first byte has to tell")
        for segment in self._segments:
            for start, _, data in self._blocks(segment):
                first = -start % 4096 + at
                marks = data[first::4096]
                index = marks.find(prefix[0])
                while index >= 0:
                    place = first + 4096 * index
                    if data.startswith(prefix, place):
                        yield start + place - at
                    index = marks.find(prefix[0], index + 1)

    def find(self, pattern: bytes) -> Iterator[int]:
        if not any(pattern):
            raise SourceError(f"cannot look for {pattern!r}: a byte of it has to tell")
        search, reach = re.compile(re.escape(pattern), re.DOTALL), len(pattern) - 1
        for segment in self._segments:
            seam = b""
            for start, end, data in self._blocks(segment):
                data = seam + (data or bytes(min(end - start, reach)))
                for match in search.finditer(data):
                    yield start - len(seam) + match.start()
                seam = data[max(0, len(data) - reach) :]

    def close(self) -> None:
        """Let the guest go on if it was held, and QEMU forget the file."""
        fault = None
        if self._held:
            try:
                self._monitor.run("cont", seconds=_FAREWELL)
            except SourceError as error:
                fault = SourceError(
                    f"{error}; the guest was held and may still be: `cont` in its monitor lets it go on"
                )
            self._release()  # not after an interrupt: then the exit closes once more
        if self._set >= 0:
            with suppress(SourceError):
                self._monitor.run("remove-fd", {"fdset-id": self._set}, seconds=_FAREWELL)
        if self._file >= 0:
            os.ftruncate(self._file, 0)  # QEMU keeps the file until the guest runs again
            os.close(self._file)
        self._set = self._file = -1
        self._monitor.close()
        if fault:
            raise fault

    def _release(self) -> None:
        self._held = False
        atexit.unregister(self.close)
        with suppress(ValueError):  # not the main thread
            for number, handler in self._signals.items():
                signal.signal(number, handler)


def _spans(segment: Segment) -> Iterator[tuple[int, int]]:
    """[start, end) of the blocks that a scan fetches."""
    start = segment.start
    while start < segment.end:
        end = min(segment.end, start - start % _BLOCK + _BLOCK)
        yield start, end
        start = end


class _Refused(SourceError):
    """QEMU answers a command with an error."""


class _Monitor:
    """One QMP connection: a command at a time, each wait and each line bounded, events passed over."""

    def __init__(self, shown: str, path: str) -> None:
        self._shown = shown
        self._pending = bytearray()
        self._number = 0
        self._socket = sockets.socket(sockets.AF_UNIX)
        try:
            self._connect(path)
            self.run("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str) -> None:
        deadline = time.monotonic() + _GREETING
        try:
            self._socket.settimeout(_GREETING)
            self._socket.connect(path)
            if "QMP" not in self._receive(deadline):
                self._fail("not a QMP socket: it sends JSON, but no QMP greeting")
        except (TimeoutError, BlockingIOError):
            self._fail(
                f"no QMP greeting in {_GREETING} s: QMP serves one client at a time, is another one connected? "
                "Give QEMU a further socket with -qmp unix:PATH,server=on,wait=off"
            )
        except FileNotFoundError:
            self._fail("no such socket; start QEMU with -qmp unix:PATH,server=on,wait=off")
        except PermissionError:
            self._fail("permission denied; read the guest as QEMU's user or as root")
        except ConnectionRefusedError:
            self._fail("nobody listens there: no socket, or one of a QEMU that has ended")
        except ConnectionResetError:
            self._fail("not a QMP socket: it closes the connection without a greeting")
        except OSError as error:
            self._fail(error.strerror or str(error))

    def run(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        descriptor: int | None = None,
        seconds: float | None = None,
    ) -> Any:
        """What QEMU returns. descriptor: a file to hand over. Raises SourceError, _Refused where QEMU says no."""
        seconds = seconds or _ANSWER
        deadline = time.monotonic() + seconds
        self._number += 1
        line = json.dumps({"execute": command, "arguments": arguments or {}, "id": self._number}).encode() + b"\n"
        try:
            self._socket.settimeout(seconds)
            sockets.send_fds(self._socket, [line], [] if descriptor is None else [descriptor])
            answer = self._answer(deadline)
        except TimeoutError:
            self._fail(f"QEMU did not answer {command} in {seconds:g} s")
        except OSError:
            self._fail(f"QEMU closed the connection at {command}; it may have ended")
        if "error" in answer:
            error = answer["error"]
            said = error.get("desc") if isinstance(error, dict) else error
            raise _Refused(f"{self._shown}: QEMU refuses {command}: {safe_text(str(said)[:_SAID])}")
        return answer["return"]

    def _answer(self, deadline: float) -> dict[str, Any]:
        """The answer to the last command; events and answers to commands that were given up are passed over."""
        while True:
            message = self._receive(deadline)
            if ("return" in message or "error" in message) and message.get("id", self._number) == self._number:
                return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message. Raises TimeoutError and other OSErrors, SourceError for what is no message."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            line, end, rest = self._pending.partition(b"\n")
            if end:
                self._pending = rest
                return self._message(bytes(line))
            if len(line) > LIMITS.qmp_line:
                self._fail(f"not a QMP socket: more than {LIMITS.qmp_line} bytes without an end of line")
            self._socket.settimeout(left)
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._pending += data

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            hint = "; the human monitor? It takes -qmp, not -monitor" if line.startswith(b"QEMU ") else ""
            self._fail(f"not a QMP socket: expected a JSON object, found: {safe_text(line[:40].strip())}{hint}")
        return message

    def peer(self) -> int:
        """The process that made the socket."""
        return int(struct.unpack("3i", self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12))[0])

    def field(self, answer: Any, name: str, kind: type) -> Any:
        """A field of an answer, made sure of."""
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            self._fail(f"not a QMP socket: expected an answer with {name}")
        return value

    def _fail(self, message: str) -> NoReturn:
        raise SourceError(f"{self._shown}: {message}") from None

    def close(self) -> None:
        self._socket.close()


def _end(number: int, frame: object) -> NoReturn:
    """End luoser by way of every `finally`, with the exit code that the signal would give."""
    raise SystemExit(128 + number)
