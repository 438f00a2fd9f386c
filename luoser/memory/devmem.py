# SPDX-License-Identifier: MIT
"""/dev/mem: physical memory of the running machine, within the System RAM of /proc/iomem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from luoser.errors import SourceError
from luoser.memory.device import DeviceMemory
from luoser.memory.source import Segment, swept

__all__ = ["DEVICE", "DevMemory", "system_ram"]

DEVICE = os.makedev(1, 1)
_LINE = re.compile(r"^ *([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM(?: \(\w+\))?$", re.MULTILINE)
"""Memory that a driver added is indented and has the driver's name: `System RAM (kmem)`."""
_LOW = 1 << 20
"""Below 1 MiB a kernel with STRICT_DEVMEM returns zeros instead of the memory."""
_REFUSED = (
    "the kernel does not allow reading memory through /dev/mem (CONFIG_STRICT_DEVMEM or lockdown); "
    "use /proc/kcore, `live:`, or a dump made by kdump or the hypervisor"
)


class DevMemory(DeviceMemory):
    """The memory of this machine through /dev/mem."""

    format = "devmem"

    def __init__(self, path: str, descriptor: int, *, iomem: str = "/proc/iomem") -> None:
        """The System RAM of this machine.

        descriptor: of /dev/mem; `close` closes it.
        iomem:      path of /proc/iomem.

        Raises SourceError if the kernel does not allow reading it, or hides the addresses of RAM.
        """
        super().__init__(path, descriptor)
        self._segments = tuple(swept(list(system_ram(iomem))))
        self.ram = tuple((segment.start, segment.end) for segment in self._segments)
        probe = next((segment for segment in self._segments if segment.end > _LOW), None)
        if probe is None:
            raise SourceError(f"{path}: {iomem} lists no System RAM above 1 MiB")
        if not self._fetch(probe, max(0, _LOW - probe.start), 1):
            raise SourceError(f"{path}: {_REFUSED}")
        self.remarks.append("read from a running machine: parts that changed in the meantime may be inconsistent")


def system_ram(iomem: str) -> Iterator[Segment]:
    """The System RAM ranges of /proc/iomem as segments, cut to whole 4 KiB pages. Offsets are physical addresses.

    iomem: path of the file.

    Raises SourceError if it cannot be read, or hides the addresses because the reader is not root.
    """
    try:
        text = Path(iomem).read_text("ascii", "replace")
    except OSError as error:
        raise SourceError(f"{iomem}: {error.strerror or error}; the addresses of RAM are needed from it") from error
    spans = [(int(low, 16), int(high, 16) + 1) for low, high in _LINE.findall(text)]
    if not any(low for low, _ in spans) and all(high <= 1 for _, high in spans):
        raise SourceError(f"{iomem}: no addresses of System RAM: the kernel shows them to root only; read it as root")
    for low, high in spans:
        start, end = -(-low // 4096) * 4096, high // 4096 * 4096
        if start < end:
            yield Segment(start, end - start, start, end - start)
