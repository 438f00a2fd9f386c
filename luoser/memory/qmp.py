# SPDX-License-Identifier: MIT
"""Memory of a running QEMU guest, read through QMP: `qmp:/path/to/socket`.

The memory map comes from the head of an ELF core. `dump-guest-memory` writes into a sealed file of one MiB: the headers
and notes (addresses of RAM, VMCOREINFO) fit, then it fails at the seal. The map is therefore that of QEMU's own dumps,
for every machine type. A running guest is stopped for a millisecond, plus the time to flush its disks.

The bytes come from `pmemsave`, block by block, through one unnamed file in memory. QEMU gets it with `add-fd` and opens
it as /proc/self/fd/N. So QEMU's user needs no writable path, the file need not be visible in its namespace, and no
guest memory is written to a disk. `pmemsave` does not stop the guest, but blocks QEMU's main loop for the time of a
block. Only addresses of RAM are requested, so no device register is read. Blocks that were never touched according to
the host's kernel (`untouched`) are not requested.

Alternatives: `dump-guest-memory` for the bytes is twice as fast, but stops and starts a running guest for every block.
The output of `xp` and `info mtree` changes between versions. QMP does not report which part of a shared memory file is
at which address.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket as sockets
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from luoser.errors import FormatError, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.elf import ElfMemory
from luoser.memory.ending import Ending
from luoser.memory.fetched import FetchedMemory, spans
from luoser.memory.untouched import untouched
from luoser.parse import parse_json
from luoser.text import safe_text

__all__ = ["Monitor", "QmpMemory"]

_GREETING, _ANSWER, _FAREWELL = 5, 60, 10
"""Seconds to wait for a greeting, for an answer, and for the answers to the last commands."""
_HEADS = (1 << 20, 64 << 20)
"""Bytes for a core's headers and notes. Only machines with thousands of processors need the second size."""
_HOST_ADDRESS = re.compile(r" is (0x[0-9a-f]{1,16})\s*$")
_NAME = "luoser"
_ERROR_SIZE = 300
"""Characters of an error of QEMU that are shown."""


class QmpMemory(FetchedMemory):
    """Physical memory of a QEMU guest."""

    format = "qmp"

    def __init__(self, path: str, socket: str, *, pause: bool = False) -> None:
        """A guest at a QMP socket.

        path:   as the user gave it.
        socket: path of a UNIX socket where QEMU serves QMP.
        pause:  stop the guest, if it is running, until `close`. Otherwise pages are read at different times.

        Raises SourceError if there is no QMP server, or it refuses a command.
        """
        super().__init__(path)
        self._shown = safe_text(path)
        self._ending: Ending | None = None
        self._file, self._set = -1, -1
        self._monitor = Monitor(self._shown, socket)
        try:
            self._begin(pause)
        except BaseException:
            self.close()
            raise

    def _begin(self, pause: bool) -> None:
        running = self._monitor.is_running()
        if running and pause:
            self._ending = Ending(self.close)  # before the command: an interrupt can arrive during it
            self._monitor.run("stop")
        elif running:
            self.remarks.append(
                "read from a running guest: parts that changed in the meantime may be inconsistent; --pause stops it"
            )
        core = self._monitor.core()
        self.page_size, self.vmcoreinfo, self.info_note = core.page_size, core.vmcoreinfo, core.info_note
        self._cover((part.start, part.end) for part in core.segments)
        self._file = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        added = self._monitor.run("add-fd", {"opaque": _NAME}, descriptor=self._file)
        self._set = self._monitor.field(added, "fdset-id", int)
        self._target = f"/proc/self/fd/{self._monitor.field(added, 'fd', int)}"
        with suppress(OSError, Refused):
            self._skip_untouched(self._monitor.peer())

    def _skip_untouched(self, process: int) -> None:
        """Mark blocks as zero that were never touched according to the host's kernel. Raises OSError."""
        its_file = Path(self._target.replace("self", str(process)))
        if not os.path.samestat(its_file.stat(), os.fstat(self._file)):
            return  # the peer is not QEMU itself
        for segment in self._segments:
            host = self._host_address(segment.start)
            if host is None or self._host_address(segment.end - 1) != host + segment.size - 1:
                continue
            places = ((host + start - segment.start, end - start) for start, end in spans(segment))
            known = zip(spans(segment), untouched(process, places), strict=True)
            for (start, _), zero in known:
                if self._monitor.is_late:  # which the next command says
                    return
                if zero:
                    self._zero.add(start)

    def _host_address(self, address: int) -> int | None:
        """Address of a byte of the guest in QEMU's own address space. None if it has none."""
        said = self._monitor.run("human-monitor-command", {"command-line": f"gpa2hva {address:#x}"})
        found = _HOST_ADDRESS.search(str(said))
        return int(found[1], 16) if found else None

    def _fetch(self, address: int, size: int) -> bytes:
        """Bytes of one segment, read now."""
        if self._file < 0:
            raise SourceError(f"{self._shown}: was closed; open it again")
        self._monitor.run("pmemsave", {"val": address, "size": size, "filename": self._target})
        data = os.pread(self._file, size, 0)
        if len(data) < size:
            raise SourceError(f"{self._shown}: pmemsave at {address:#x}: expected {size} bytes, found {len(data)}")
        return data

    def close(self) -> None:
        """Continue the guest if it was stopped here, and remove the file from QEMU.

        Raises SourceError if the guest may still be stopped.
        """
        fault = None
        if self._ending is not None:
            try:
                self._monitor.let_go()
            except SourceError as error:
                fault = error
            self._ending.cancel()  # not after an interrupt: then it calls close() again
            self._ending = None
        if self._set >= 0:
            with suppress(SourceError):
                self._monitor.run("remove-fd", {"fdset-id": self._set}, seconds=_FAREWELL)
        if self._file >= 0:
            os.ftruncate(self._file, 0)  # QEMU keeps the file open until the guest runs again
            os.close(self._file)
        self._set = self._file = -1
        self._monitor.close()
        if fault:
            raise SourceError(str(fault))  # a new one: it shows what a block that ends had raised, too


class Refused(SourceError):
    """QEMU answered a command with an error."""


class Monitor:
    """One QMP connection. One command at a time; waits and lines are bounded; events are ignored."""

    def __init__(self, shown: str, path: str) -> None:
        self._shown = shown
        self._pending = bytearray()
        self._number = 0
        self._end = time.monotonic() + LIMITS.qmp_seconds
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
                self._fail("not a QMP socket: expected a QMP greeting, found other JSON")
        except (TimeoutError, BlockingIOError):
            self._fail(
                f"no QMP greeting in {_GREETING} s: QMP serves one client at a time, maybe another one is connected; "
                "start QEMU with a further socket, -qmp unix:PATH,server=on,wait=off"
            )
        except FileNotFoundError:
            self._fail("no such socket; start QEMU with -qmp unix:PATH,server=on,wait=off")
        except PermissionError:
            self._fail("permission denied; run luoser as QEMU's user or as root")
        except ConnectionRefusedError:
            self._fail("connection refused: not a socket, or QEMU has ended")
        except ConnectionResetError:
            self._fail("not a QMP socket: expected a QMP greeting, but the connection was closed")
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
        """QEMU's answer to a command.

        descriptor: of a file to send along. None: no file.
        seconds:    to wait for the answer. None: the default.

        Raises Refused if QEMU answers with an error, SourceError if there is no answer.
        """
        if seconds is None:
            if self.is_late:  # also if it answers fast, without end
                self._fail_late(command)
            seconds = max(0.001, min(_ANSWER, self._end - time.monotonic()))
        deadline = time.monotonic() + seconds
        self._number += 1
        line = json.dumps({"execute": command, "arguments": arguments or {}, "id": self._number}).encode() + b"\n"
        try:
            self._socket.settimeout(seconds)
            sockets.send_fds(self._socket, [line], [] if descriptor is None else [descriptor])
            answer = self._answer(deadline)
        except TimeoutError:
            if self.is_late:
                self._fail_late(command)
            self._fail(f"QEMU did not answer {command} in {seconds:g} s")
        except OSError:
            self._fail(f"QEMU closed the connection during {command}; it may have ended")
        if "error" in answer:
            error = answer["error"]
            said = error.get("desc") if isinstance(error, dict) else error
            raise Refused(f"{self._shown}: QEMU refuses {command}: {safe_text(str(said)[:_ERROR_SIZE])}")
        return answer["return"]

    def _answer(self, deadline: float) -> dict[str, Any]:
        """The answer to the last command. Ignores events, and late answers to commands that timed out."""
        while True:
            message = self._receive(deadline)
            if ("return" in message or "error" in message) and message.get("id", self._number) == self._number:
                return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message. Raises OSError (TimeoutError included), and SourceError for bytes that are not QMP."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            line, end, rest = self._pending.partition(b"\n")
            if end:
                self._pending = rest
                return self._message(bytes(line))
            if len(line) > LIMITS.qmp_line:
                self._fail(
                    f"not a QMP socket: expected lines of at most {LIMITS.qmp_line} bytes; {how_to_raise('qmp_line')}"
                )
            self._socket.settimeout(left)
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._pending += data

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = parse_json(line.decode())
        except (ValueError, FormatError):
            message = None
        if not isinstance(message, dict):
            hint = (
                "; this is the human monitor: use the socket of -qmp, not -monitor" if line.startswith(b"QEMU ") else ""
            )
            self._fail(f"not a QMP socket: expected a JSON object, found: {safe_text(line[:40].strip())}{hint}")
        return message

    def is_running(self) -> bool:
        """Whether the guest runs."""
        return bool(self.field(self.run("query-status"), "running", bool))

    def devices(self) -> Any:
        """The character devices of the guest: a stub is one, and its `filename` changes when a client connects."""
        return self.run("query-chardev")

    def let_go(self) -> None:
        """Continue a guest that was stopped here. Raises SourceError if it may still be stopped."""
        try:
            self.run("cont", seconds=_FAREWELL)
        except SourceError as error:
            text = f"{error}; the guest was stopped and may still be: `cont` in its monitor continues it"
            raise SourceError(text) from None

    def core(self) -> ElfMemory:
        """The head of an ELF core: headers, notes, and as much memory as fits after them. Raises SourceError."""
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
                return ElfMemory(self._shown, data)  # raises unless all headers and notes are there
            except SourceError as error:
                fault = error
        raise fault

    def _dump(self, file: int) -> Refused | None:
        """Let QEMU write a core to a file. Returns QEMU's error if it could not write all of it."""
        self.run("getfd", {"fdname": _NAME}, descriptor=file)
        try:
            self.run("dump-guest-memory", {"paging": False, "protocol": f"fd:{_NAME}"})
        except Refused as refusal:
            with suppress(Refused):  # QEMU closes the file itself once the dump has begun
                self.run("closefd", {"fdname": _NAME})
            return refusal
        return None

    def peer(self) -> int:
        """Process id of the server."""
        return int(struct.unpack("3i", self._socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12))[0])

    def field(self, answer: Any, name: str, kind: type) -> Any:
        """A field of an answer. Raises SourceError if it is missing or has another type."""
        value = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            self._fail(f"not a QMP socket: expected an answer with {name}")
        return value

    @property
    def is_late(self) -> bool:
        """Whether the time for all commands is over."""
        return time.monotonic() >= self._end

    def _fail_late(self, command: str) -> NoReturn:
        self._fail(f"QEMU took too long in all, during {command}; {how_to_raise('qmp_seconds')}")

    def _fail(self, message: str) -> NoReturn:
        raise SourceError(f"{self._shown}: {message}") from None

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
