# SPDX-License-Identifier: MIT
"""A QEMU machine under emulation with a kernel: its console, dumps of its memory, a stop at an address."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e.kernels import Kernel, NoKernel

__all__ = ["Machine", "MachineError", "program_of"]

_PROGRAMS = {"x86-64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
_BOARDS = {
    "x86-64": ["-machine", "q35", "-cpu", "max", "-smp", "2"],
    "arm64": ["-machine", "virt", "-cpu", "cortex-a76"],
}
"""The board and its processors: one on arm64, where a kexec has to switch off the others and these kernels cannot."""
CONSOLES = {"x86-64": "ttyS0", "arm64": "ttyAMA0"}
_SLOW = {"x86-64": "no_timer_check", "arm64": ""}
"""For machines under load: an emulated timer can be late, which a kernel of x86-64 takes for broken."""
"""The console of a machine on the command line of its kernel."""
_LONGEST = 900
"""Seconds after which a word that does not come on the console, or an answer of QEMU, is given up."""
_START = 60
"""Seconds in which QEMU has to answer at its start."""


def program_of(machine: str) -> str:
    """Name of the QEMU that emulates a machine. Raises NoKernel if it is not here."""
    program = _PROGRAMS[machine]
    if shutil.which(program) is None:
        raise NoKernel(f"{program} is not installed")
    return program


class MachineError(Exception):
    """The guest did not do what was expected. Its text has the end of the console."""


class NoAnswer(MachineError):
    """QEMU itself does not answer."""


@contextmanager
def _answered(command: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise NoAnswer(f"QEMU does not answer to {command}") from error


class Machine:
    """A running guest.

    place:   folder for the console, the sockets and the dumps.
    console: what the kernel and its user space wrote so far.
    """

    def __init__(
        self, place: Path, kernel: Kernel, initrd: bytes, words: str, *, memory: str = "1G", more: Sequence[str] = ()
    ) -> None:
        """place: folder that is made. words: of the command line. more: options of QEMU."""
        program = program_of(kernel.machine)
        place.mkdir(parents=True, exist_ok=True)
        self.place, self.console = place, ""
        (place / "initrd").write_bytes(initrd)
        self._log = (place / "console").open("w")
        self._sockets = {name: place / name for name in ("qmp", "serial", "gdb")}
        board = _BOARDS[kernel.machine]
        boot = [] if "-kernel" in more else ["-kernel", str(kernel.image)]
        words = f"{_SLOW[kernel.machine]} kho=on liveupdate=on {words}"
        command = [
            program, *board, "-accel", "tcg,thread=multi", "-m", memory, "-nographic", "-no-user-config",
            "-nodefaults", "-no-reboot", *boot, "-initrd", str(place / "initrd"),
            "-append", f"console={CONSOLES[kernel.machine]} {words}", "-device", "vmcoreinfo",
            "-serial", f"unix:{self._sockets['serial']},server=on,wait=off",
            "-qmp", f"unix:{self._sockets['qmp']},server=on,wait=off",
            "-gdb", f"unix:{self._sockets['gdb']},server=on,wait=off", *more,
        ]  # fmt: skip
        (place / "command").write_text("\n".join(command) + "\n")
        if not self._starts(command) and not self._starts(command):
            raise NoAnswer(f"QEMU did not answer for {_START} s, twice")
        self._unread = ""

    def _starts(self, command: Sequence[str]) -> bool:
        """Whether QEMU answers: one in some thousand hangs before it runs the guest, with threads that wait."""
        for path in self._sockets.values():
            path.unlink(missing_ok=True)
        log = (self.place / "qemu.log").open("w")
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            self._serial, monitor = self._connect("serial"), self._connect("qmp")
            self._qmp = monitor.makefile("rw")
            monitor.settimeout(_START)
            self.command("qmp_capabilities")
            monitor.settimeout(_LONGEST)
        except NoAnswer:
            self._process.kill()
            self._process.wait()
            return False
        except BaseException:
            self._process.kill()
            raise
        return True

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError, MachineError, ValueError):
            self.command("quit")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _connect(self, name: str) -> socket.socket:
        for _ in range(200):
            with suppress(OSError):
                found = socket.socket(socket.AF_UNIX)
                found.connect(str(self._sockets[name]))
                return found
            time.sleep(0.05)
        raise MachineError(f"QEMU did not start: {(self.place / 'qemu.log').read_text()}")

    def command(self, name: str, **arguments: object) -> Any:
        """What QEMU answers to a command of QMP."""
        self._qmp.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._qmp.flush()
        with _answered(name):
            for line in self._qmp:
                found = json.loads(line)
                if "error" in found:
                    raise MachineError(f"{name}: {found['error']['desc']}")
                if "return" in found:
                    return found["return"]
        raise MachineError(f"QEMU ended: {(self.place / 'qemu.log').read_text()}")

    # -- the console --

    def wait(self, *words: str, seconds: int = _LONGEST) -> str:
        """The console from the last wait up to the first of some words that comes.

        Raises MachineError if none comes, or the kernel panics first.
        """
        end = time.monotonic() + seconds
        self._serial.settimeout(5)
        while True:
            place = min((at for word in words if (at := self._unread.find(word)) >= 0), default=-1)
            if place >= 0:
                found = self._unread[:place]
                line = self._unread.find("\n", place)
                self._unread = self._unread[line + 1 :] if line >= 0 else ""
                return found
            if "end Kernel panic" in self._unread or time.monotonic() > end:
                raise MachineError(f"no {' or '.join(words)} on the console: {self._unread[-300:]!r}")
            with suppress(TimeoutError):
                raw = self._serial.recv(1 << 16)
                if not raw:
                    raise MachineError(f"the guest ended before {' or '.join(words)}: {self._unread[-300:]!r}")
                data = raw.decode("utf-8", "replace").replace("\r", "")
                self._log.write(data)
                self._log.flush()
                self.console += data
                self._unread += data

    def go(self) -> None:
        """Let the guest go on from where it waits for a line."""
        self._serial.sendall(b"\n")

    # -- memory --

    def formats(self) -> list[str]:
        """The formats of dump-guest-memory that this QEMU writes of Linux."""
        found = self.command("query-dump-guest-memory-capability")["formats"]
        return [form for form in found if form.startswith(("elf", "kdump"))]

    def dump(self, name: str, form: str = "elf") -> Path:
        """A dump of the memory. form: of dump-guest-memory."""
        path = self.place / f"{name}.{form}"
        path.unlink(missing_ok=True)
        is_running = self.command("query-status")["running"]
        self.command("stop")
        more = {} if form == "elf" else {"format": form}
        self.command("dump-guest-memory", paging=False, protocol=f"file:{path}", **more)
        if is_running:
            self.command("cont")
        return path

    def go_to(self, address: int) -> _Stopped:
        """Let the guest go on until it is at a virtual address, where it stays stopped."""
        stopped = _Stopped(self, self._connect("gdb"), address)
        self.go()
        stopped.wait()
        return stopped


class _Stopped:
    """A guest that is stopped by QEMU's debugger stub. At its end the guest goes on."""

    def __init__(self, machine: Machine, stub: socket.socket, address: int) -> None:
        self._machine, self._stub, self._buffer, self._address = machine, stub, b"", address
        self._stub.settimeout(_LONGEST)
        self._ask("?")
        self._until_ok(f"Z1,{address:x},1")
        self._send("c")

    def __enter__(self) -> _Stopped:
        return self

    def __exit__(self, *_: object) -> None:
        self._until_ok(f"z1,{self._address:x},1")
        self._ask("D")
        self._stub.close()
        with suppress(MachineError):
            self._machine.command("cont")

    def wait(self) -> None:
        """Wait for the stop."""
        self._receive()

    def _ask(self, text: str) -> bytes:
        self._send(text)
        return self._receive()

    def _until_ok(self, text: str) -> None:
        """Ask, and pass over the stops that the stub reports first."""
        answer = self._ask(text)
        while answer != b"OK":
            answer = self._receive()

    def _send(self, text: str) -> None:
        self._stub.sendall(b"$" + text.encode() + b"#%02x" % (sum(text.encode()) & 255))

    def _receive(self) -> bytes:
        while (found := re.search(rb"\$([^#]*)#[0-9a-f]{2}", self._buffer)) is None:
            data = self._stub.recv(4096)
            if not data:
                raise MachineError("the debugger stub ended")
            self._buffer += data
        self._buffer = self._buffer[found.end() :]
        self._stub.sendall(b"+")
        return found[1]
