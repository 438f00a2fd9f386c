# SPDX-License-Identifier: MIT
"""The blobs of /sys/kernel/debug/kho: a root without the memory around it, and its sub-trees beside it.

`kho/in` and `kho/out` each hold `fdt`, the root, and `sub_fdts/NAME`. Nothing tells where the root itself
lies; each sub-tree lies where the root says. Up to 7.3 `out/fdt` is cut short, and `out` has none at all on a
kernel that was itself handed state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luoser import fdt
from luoser.errors import FormatError, PageState, SourceError
from luoser.limits import LIMITS
from luoser.memory.source import KnownRoot, Segment, SegmentedMemory
from luoser.text import safe_text

__all__ = ["DebugfsMemory", "is_root"]

_NO_PLACE = 1 << 60
"""Where a root is put whose place is not known: no machine has such an address."""
_NAMES = ("preserved-data", "fdt")
_COMPATIBLE = re.compile(rb"kho-v[0-9]")


@dataclass(slots=True)
class _Blobs:
    """The bytes of all blobs, one behind the other, and where in memory each belongs."""

    data: bytearray = field(default_factory=bytearray)
    segments: list[Segment] = field(default_factory=list)
    roots: list[KnownRoot] = field(default_factory=list)
    placeless: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)

    def add(self, address: int, blob: bytes) -> None:
        """rest of the page: not known."""
        self.segments.append(Segment(address, len(blob), len(self.data), len(blob), PageState.ABSENT))
        self.data += blob


def is_root(data: bytes) -> bool:
    """Whether a devicetree, maybe cut short, is a KHO root."""
    try:
        tree = fdt.parse(data, partial=True)
    except FormatError:
        return False
    return bool(_COMPATIBLE.match(tree.root.text("compatible") or b""))


class DebugfsMemory(SegmentedMemory):
    """The memory that debugfs blobs show: a file `fdt`, a folder `in` or `out`, or the folder of both."""

    format = "debugfs"

    def __init__(self, path: str, source: Path | bytes) -> None:
        """source: a folder, or the bytes of a root. Raises SourceError for a folder without any blob."""
        blobs = _Blobs()
        if isinstance(source, bytes):
            _add_root(blobs, source)
        else:
            folders = [source / name for name in ("in", "out") if (source / name).is_dir()] or [source]
            for folder in folders:
                _add_folder(blobs, folder)
            if not blobs.roots:
                raise SourceError(
                    f"{path}: no `fdt` with a KHO root in this folder{''.join(f'; {word}' for word in blobs.remarks)}; "
                    "expected a copy of /sys/kernel/debug/kho, or of its `in` or `out`"
                )
        super().__init__(path, bytes(blobs.data), blobs.segments)
        self.known_roots = tuple(blobs.roots)
        self.placeless = frozenset(blobs.placeless)
        self.remarks += blobs.remarks


def _add_root(blobs: _Blobs, data: bytes) -> int:
    address = _NO_PLACE + (len(blobs.placeless) << 24)
    blobs.placeless.add(address)
    blobs.add(address, data)
    return address


def _add_folder(blobs: _Blobs, folder: Path) -> None:
    shown = safe_text(folder.name)
    loose = dict(_sub_blobs(folder / "sub_fdts"))
    root = _read(folder / "fdt")
    if root is None or not is_root(root):
        what = "no file `fdt`" if root is None else "`fdt` is no KHO root"
        if loose:
            names = ", ".join(safe_text(name) for name in sorted(loose))
            what += f", so nothing tells where {names} belong; try `luoser decode`"
        blobs.remarks.append(f"{shown}: {what}")
        return
    address = _add_root(blobs, root)
    for node in fdt.parse(root, partial=True).root.nodes:
        blob = loose.pop(node.name.decode("utf-8", "surrogateescape"), None)
        place = next((value for name in _NAMES if (value := node.u64(name)) is not None), None)
        if blob and place is not None:
            blobs.add(place, blob)
    for name in sorted(loose):
        blobs.remarks.append(f"{shown}/sub_fdts/{safe_text(name)}: not named in the root; try `luoser decode`")
    if folder.name in ("in", "out"):
        blobs.roots.append(KnownRoot(root=address, incoming=folder.name == "in", evidence=f"folder {folder.name}"))
    else:
        blobs.roots.append(KnownRoot(root=address, incoming=None, evidence="file fdt"))


def _sub_blobs(folder: Path) -> Iterator[tuple[str, bytes]]:
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            data = _read(file)
            if data is not None:
                yield file.name, data


def _read(file: Path) -> bytes | None:
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            return stream.read(LIMITS.blob_size)
    except OSError as error:
        raise SourceError(f"{safe_text(str(file))}: {error.strerror or error}") from error
