# SPDX-License-Identifier: MIT
"""A guest in QEMU, of which the tests see the serial console; luoser sees its memory.

KERNEL and INITRD in the environment name a bzImage and an initrd. Its init writes `AT NAME` at each moment that is to
be looked at, and waits for a line.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

__all__ = ["INITRD", "KERNEL", "VM"]

KERNEL, INITRD = os.environ.get("KERNEL"), os.environ.get("INITRD")
WORDS = "console=ttyS0 kho=on liveupdate=on no_timer_check"


class VM:
    """A running guest. qmp: where luoser reads it. console: what it wrote so far."""

    def __init__(self, folder: Path) -> None:
        assert KERNEL and INITRD
        self.qmp, self.console = folder / "qmp", ""
        command = [
            "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1G", "-nographic",
            "-nodefaults", "-no-user-config", "-kernel", KERNEL, "-initrd", INITRD,
            "-append", f"{WORDS} {os.environ.get('WORDS', '')}", "-device", "vmcoreinfo",
            "-qmp", f"unix:{self.qmp},server=on,wait=off", "-serial", f"unix:{folder / 'serial'},server=on",
        ]  # fmt: skip
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._serial = socket.socket(socket.AF_UNIX)
        self._serial.settimeout(1)
        try:
            self._connect(folder / "serial")
        except BaseException:
            self._qemu.kill()
            raise

    def _connect(self, path: Path) -> None:
        while self._serial.connect_ex(str(path)):
            assert self._qemu.poll() is None, "QEMU has ended"
            time.sleep(0.05)

    def wait_for(self, moment: str, *, seconds: float = 300) -> None:
        """Wait until the guest is at a moment. It stays there until `go_on`."""
        end = time.monotonic() + seconds
        while f"AT {moment}\r\n" not in self.console:
            assert time.monotonic() < end, f"no AT {moment} on the console:\n{self.console[-2000:]}"
            try:
                data = self._serial.recv(1 << 16)
            except TimeoutError:
                continue
            assert data, f"the guest has ended:\n{self.console[-2000:]}"
            self.console += data.decode(errors="replace")

    def go_on(self) -> None:
        """Let the guest leave the moment."""
        self._serial.sendall(b"\n")

    def __enter__(self) -> VM:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._qemu.kill()
        self._qemu.wait()
        self._serial.close()
