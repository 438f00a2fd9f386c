# SPDX-License-Identifier: MIT
"""Real QEMU guests with two QMP sockets: one for luoser, one for the test to look on."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

__all__ = ["Guest", "needs_qemu"]

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"
)


class Guest:
    """A guest without a kernel, stopped before its first instruction unless told otherwise.

    place: a short directory for sockets. blobs: bytes by physical address. events: what QEMU said meanwhile.
    """

    def __init__(
        self,
        place: Path,
        *options: str,
        program: str = "qemu-system-x86_64",
        machine: str = "q35",
        memory: str = "64M",
        blobs: dict[int, bytes] | None = None,
        running: bool = False,
    ) -> None:
        self.socket = place / "luoser.sock"
        self.source = f"qmp:{self.socket}"
        self.events: list[str] = []
        ram = ["-object", f"memory-backend-ram,id=ram,size={memory},reserve=off"]
        own = [] if any("id=ram" in option for option in options) else ram
        command = [
            program, "-machine", f"{machine},memory-backend=ram", "-m", memory, *own, "-accel", "tcg",
            "-display", "none", "-nodefaults", "-no-user-config", *([] if running else ["-S"]),
            "-qmp", f"unix:{place}/test.sock,server=on,wait=off", "-qmp", f"unix:{self.socket},server=on,wait=off",
            *self._loaders(place, blobs or {}), *options,
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=(place / "qemu.log").open("w"))
        try:
            self._connect(place / "test.sock")
        except BaseException:
            self.end()
            raise

    @staticmethod
    def _loaders(place: Path, blobs: dict[int, bytes]) -> Sequence[str]:
        options = []
        for address, data in blobs.items():
            file = place / f"blob-{address:x}"
            file.write_bytes(data)
            options += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
        return options

    def _connect(self, path: Path) -> None:
        for _ in range(200):
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                assert self.process.poll() is None, (path.parent / "qemu.log").read_text()
                time.sleep(0.05)
        self._socket.settimeout(600)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, command: str, **arguments: Any) -> Any:
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            message = json.loads(self._file.readline())
            if "event" not in message:
                assert "return" in message, message
                return message["return"]
            self.events.append(message["event"])

    def wait_for(self, event: str) -> None:
        while event not in self.events:
            message = json.loads(self._file.readline())
            self.events.append(message["event"])

    @property
    def status(self) -> str:
        return str(self.qmp("query-status")["status"])

    def dump(self, file: Path) -> Path:
        """The guest's memory as an ELF core by QEMU."""
        self.qmp("dump-guest-memory", paging=False, protocol=f"file:{file}")
        return file

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()
        self.end()
