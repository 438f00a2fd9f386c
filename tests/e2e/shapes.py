# SPDX-License-Identifier: MIT
"""Descriptions of handovers of many shapes for `luoser build`, and what user space has to find in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from luoser.writer.place import FIRST
from tests.e2e.boot import File
from tests.e2e.kernels import FIRST_LUO, Kernel

__all__ = ["SHAPES", "Shape", "shapes_of"]

Json = dict[str, Any]
_SEAL, _SHRINK, _GROW = 1, 2, 4
_FLBS = (7, 0)
"""The first kernel whose LUO has FLBs."""
_FLB_DATA = 0xFEEDF00DCAFEBEE0
"""Data of the first FLB of the LUO self-test. Source: lib/tests/liveupdate.c."""
_MOST = 200
"""Most files that are retrieved: a command line has 2048 bytes."""
_NEAR, _FAR = 128 << 20, 1280 << 20
"""Bytes from the first address of an image to a place that it does not use: after scratch of 64 MiB, or of 1 GiB."""


class Shape:
    """A handover to build.

    kernel: for which it is.
    page:   bytes of a page.
    files:  what user space has to find, by (session, token).
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.page = kernel, kernel.page_size
        self._has_seals = kernel.number >= (7, 1)
        self.files: dict[tuple[str, int], File] = {}
        self._sessions: list[Json] = []
        self._more: Json = {}

    @property
    def description(self) -> Json:
        """For `luoser build`."""
        if self.kernel.number < FIRST_LUO:
            return self._described({"direction": "incoming", "luo": False})
        luo: Json = {"liveupdate_number": 41, "sessions": self._sessions}
        handover: Json = {"direction": "incoming", "luo": luo}
        if self.kernel.number >= _FLBS and self.files:  # this kernel's handler of memfds has FLBs of its own
            luo["flbs"] = [{"name": f"liveupdate-test-flb-v{n}", "data": f"{_FLB_DATA + n:#x}"} for n in range(3)]
            devices = [{"bdf": f"0000:0{bus}:00.0", "refcount": 1} for bus in (1, 2)]
            handover["pci"] = [{"layout": "pci-v2-u64", "via": ["flb:pci-v2"], "devices": devices}]
        return self._described(handover)

    def _described(self, handover: Json) -> Json:
        return {"source": {"page_size": self.page}, "handovers": [handover | self._more]}

    @property
    def taken(self) -> list[str]:
        """What a kernel logs of the parts that it takes."""
        lines = {
            "luo": "luo: Retrieved live update data, liveupdate number: 41",
            "memblock": "Revived memory reservation 'labmem' from KHO",
            "kho_test": "test_kho: KHO restore succeeded",
        }
        (handover,) = self.description["handovers"]
        return [line for name, line in lines.items() if handover.get(name)]

    @property
    def shown(self) -> dict[tuple[str, int], File]:
        """The files to retrieve: all, or as many of them, evenly, as a command line can name."""
        keys = list(self.files)
        step = -(-len(keys) // _MOST) or 1
        return {key: self.files[key] for key in [*keys[: len(keys) - 1 : step], *keys[-1:]]}

    @property
    def tokens(self) -> dict[str, list[int]]:
        """The tokens to retrieve, by session; also of a session without files."""
        empty = [entry["name"] for entry in self._sessions if not entry["files"]]
        found: dict[str, list[int]] = {name: [] for name in empty[:1]}
        for name, token in self.shown:
            found.setdefault(name, []).append(token)
        return found

    def session(self, name: str, *files: Json) -> None:
        """Add a session."""
        self._sessions.append({"name": name, "files": list(files)})

    def file(
        self, session: str, token: int, data: bytes, *, position: int = 0, seals: int = _SEAL, size: int = 0
    ) -> Json:
        """A file of a session. size: with zeros after the data; 0: that of the data."""
        size = size or len(data)
        digest = hashlib.sha256(data.ljust(size, b"\0")).hexdigest()
        self.files[session, token] = File(size, position, seals if self._has_seals else _SEAL, digest)
        memfd: Json = {"position": position, "size": size} | ({"seals": seals} if self._has_seals else {})
        if size:
            memfd["contents"] = [{"bytes": data.hex()}]
        return {"token": token, "memfd": memfd}

    def more(self, **members: Any) -> None:
        """Add members of the handover."""
        self._more |= members


def _text(name: str, size: int) -> bytes:
    return b"".join(b"%s, line %06d of a memfd\n" % (name.encode(), line) for line in range(size // 20 + 1))[:size]


def several(kernel: Kernel) -> Shape:
    """Files of several sizes, seals and positions, an empty one, an empty session, memory of memblock."""
    page = kernel.page_size
    made = Shape(kernel)
    name = "several"
    made.session(
        name,
        made.file(name, 1, _text("plain", 64 << 10)),
        made.file(name, 2, _text("odd", 12345), position=0x1234, seals=_SHRINK | _GROW),
        made.file(name, 3, b""),
        made.file(name, (1 << 64) - 1, _text("large", 1 << 20), seals=15),
        made.file(name, 4, _text("zeros after", page), size=5 * page),
    )
    made.session("empty")
    made.more(memblock={"reservations": [{"name": "labmem", "size": "1M"}]})
    return made


def sparse(kernel: Kernel) -> Shape:
    """A file with holes: folios 0 and 5 of 9."""
    page = kernel.page_size
    made = Shape(kernel)
    first, second = _text("first", page), _text("second", page)
    data = first + bytes(4 * page) + second
    name = "sparse"
    entry = made.file(name, 1, data, size=9 * page)
    base = FIRST[kernel.machine] + (_FAR if page == 65536 else _NEAR)
    places = [base, base + page]
    entry["memfd"] |= {
        "folios": {"list": [[0, f"{places[0]:#x}", 3], [5, f"{places[1]:#x}", 3]]},
        "contents": [
            {"address": f"{place:#x}", "size": page, "bytes": piece.hex()}
            for place, piece in zip(places, (first, second), strict=True)
        ],
    }
    made.session(name, entry)
    return made


def many_files(kernel: Kernel) -> Shape:
    """More files than a block of a session holds."""
    page = kernel.page_size
    made, name = Shape(kernel), "many files"
    count = 3 * page // 64 + 8 if kernel.number >= (7, 2) else 100  # before, a session has no second block
    made.session(name, *(made.file(name, token, _text(f"file {token}", 100)) for token in range(count)))
    return made


def many_sessions(kernel: Kernel) -> Shape:
    """More sessions than a block holds."""
    page = kernel.page_size
    made = Shape(kernel)
    for number in range(min(2 * page // 80 + 20, 400)):
        name = f"s{number}"
        made.session(name, *([made.file(name, 7, _text(name, 200))] if number % 10 == 0 else []))
    return made


def names(kernel: Kernel) -> Shape:
    """Names that a terminal must not see."""
    made = Shape(kernel)
    for name in ('a \x1b[31m/../"', "x" * 63, "ü", "no UTF-8 \udcff\udc80"):
        made.session(name, made.file(name, 1, _text("name", 50)))
    return made


def everything(kernel: Kernel) -> Shape:
    """A part of each kind that the kernel has: what the mutations of rules need."""
    page = kernel.page_size
    made = Shape(kernel)
    name, base = "vm", FIRST[kernel.machine] + (_FAR if page == 65536 else _NEAR)
    if kernel.number >= FIRST_LUO:
        made.session(
            name,
            made.file(name, 0x1A, _text("first", 64 << 10)),
            made.file(name, 0x1B, _text("second", 12345), position=0x1234, seals=_SHRINK | _GROW),
        )
        made.session(
            "second", made.file("second", 1, _text("third", 2 * page)), made.file("second", 2, _text("f", 100))
        )
    folios, at = [(base, 0), (base + 4 * page, 2)], 0
    pieces = [_text(f"order {order}", page << order) for _, order in folios]
    for piece in pieces:
        at = checksum(piece, at, kernel.machine)
    made.more(
        memblock={"reservations": [{"name": "labmem", "size": "1M"}]},
        kho_test={
            "folios": [[f"{place:#x}", order] for place, order in folios],
            "checksum": f"{at:#x}",
            "contents": [
                {"address": f"{place:#x}", "size": len(piece), "bytes": piece.hex()}
                for (place, _), piece in zip(folios, pieces, strict=True)
            ],
        },
    )
    return made


def checksum(data: bytes, start: int, machine: str) -> int:
    """csum_partial() of the kernel, by which the KHO self-test knows its folios. start: of the bytes before.

    Source: arch/x86/lib/csum-partial_64.c; lib/checksum.c with arch/arm64/lib/csum.c.
    """
    words = sum(memoryview(data).cast("I"))
    if machine == "x86-64":
        return _folded(words + start, 32)
    return _folded(_folded(words, 16) + start, 32)


def _folded(number: int, bits: int) -> int:
    while number >> bits:
        number = (number & ((1 << bits) - 1)) + (number >> bits)
    return number


SHAPES = {shape.__name__: shape for shape in (several, sparse, many_files, many_sessions, names, everything)}
"""The shapes by name: each makes one for a size of pages in bytes."""


def shapes_of(kernel: Kernel) -> dict[str, Callable[[Kernel], Shape]]:
    """The shapes that a kernel can take: without LUO that of its other users of KHO."""
    return {name: shape for name, shape in SHAPES.items() if kernel.number >= FIRST_LUO or shape is everything}
