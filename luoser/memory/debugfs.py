# SPDX-License-Identifier: MIT
"""The blobs in /sys/kernel/debug/kho: a KHO root and its sub-trees, without other memory.

`kho/in` and `kho/out` each have `fdt`, the root, and `sub_fdts/NAME`. The physical address of the root is not known.
The addresses of the sub-trees are in the root. From 6.19 to 7.3 `out/fdt` is truncated before its property names,
and on a kernel that received state there is no `out/fdt` at all.
"""

from __future__ import annotations

import re
import struct
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
"""First placeholder address, for a blob whose physical address is unknown. It is beyond the 52-bit limit."""
_ADDRESSES = ("preserved-data", "fdt")
_COMPATIBLE = re.compile(rb"kho-v[0-9]")
_STRINGS = (
    b"preserved-memory-map\0compatible\0preserved-data\0blob-size\0",
    b"preserved-memory-map\0compatible\0fdt\0",
)
"""The strings blocks of a root, as kernels from 6.19 to 7.3 write them."""
_FILES = 4096


@dataclass(slots=True)
class _Blobs:
    """The bytes of all blobs in one buffer, and the physical address of each."""

    data: bytearray = field(default_factory=bytearray)
    segments: list[Segment] = field(default_factory=list)
    roots: list[KnownRoot] = field(default_factory=list)
    placeless: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)

    def add(self, address: int, blob: bytes) -> None:
        """Add a blob at a physical address. The rest of its last page is absent."""
        self.segments.append(Segment(address, len(blob), len(self.data), len(blob), PageState.ABSENT))
        self.data += blob

    def add_placeless(self, blob: bytes) -> int:
        """Add a blob whose physical address is unknown. Returns its placeholder address."""
        address = _NO_PLACE + (len(self.placeless) << 24)
        self.placeless.add(address)
        self.add(address, blob)
        return address


def is_root(data: bytes) -> bool:
    """Whether these bytes are the devicetree of a KHO root, complete or truncated."""
    try:
        tree = fdt.parse(_with_names(data), partial=True)
    except FormatError:
        return False
    return bool(_COMPATIBLE.match(tree.root.text("compatible") or b""))


def _with_names(data: bytes) -> bytes:
    """A root that was truncated before its property names, with the names added. Any other root unchanged."""
    header = fdt.parse_header(data)
    start, end = header.off_dt_struct, min(len(data), header.off_dt_struct + header.size_dt_struct)
    strings, size = header.off_dt_strings, header.size_dt_strings
    there = data[strings : strings + size]
    names = next((names for names in _STRINGS if len(names) == size and names.startswith(there)), None)
    if names is None or len(there) == size or not start < end <= strings:
        return data
    block = data[start : end - (end - start) % 4]
    total = start + len(block) + len(names)
    head = struct.pack(">4I", int.from_bytes(fdt.MAGIC), total, start, start + len(block)) + data[16:32]
    return head + struct.pack(">2I", len(names), len(block)) + data[40:start] + block + names


class DebugfsMemory(SegmentedMemory):
    """The memory in debugfs blobs: a file `fdt`, a folder `in` or `out`, or the folder of both."""

    format = "debugfs"

    def __init__(self, path: str, source: Path | bytes, *, incoming: KnownRoot | None = None) -> None:
        """Blobs at the addresses in their root.

        source:   a folder, or the bytes of a root.
        incoming: address of the root in `in`. None if it is not known.

        Raises SourceError for a folder that cannot be read or has no root.
        """
        blobs = _Blobs()
        try:
            if isinstance(source, bytes):
                blobs.add_placeless(_with_names(source))
            else:
                folders = [source / name for name in ("in", "out") if (source / name).is_dir()] or [source]
                for folder in folders:
                    _add_folder(blobs, folder, incoming)
        except OSError as error:
            name = safe_text(str(error.filename)) if error.filename is not None else path
            raise SourceError(f"{name}: {error.strerror or error}") from error
        if not isinstance(source, bytes) and not blobs.roots:
            raise SourceError(
                f"{path}: no `fdt` with a KHO root in this folder{''.join(f'; {word}' for word in blobs.remarks)}: "
                "expected a copy of /sys/kernel/debug/kho, or of its `in` or `out`"
            )
        super().__init__(path, bytes(blobs.data), blobs.segments)
        self.known_roots = tuple(blobs.roots)
        self.placeless = frozenset(blobs.placeless)
        self.remarks += blobs.remarks


def _add_folder(blobs: _Blobs, folder: Path, incoming: KnownRoot | None) -> None:
    name = folder.absolute().name
    shown = safe_text(name)
    loose = dict(_sub_blobs(folder / "sub_fdts"))
    root = _read(folder / "fdt")
    if root is None or not is_root(root):
        what = "no file `fdt`" if root is None else "`fdt` is not a KHO root"
        if loose:
            names = ", ".join(safe_text(entry) for entry in sorted(loose))
            what += f", so the addresses of {names} are unknown; try `luoser decode`"
        blobs.remarks.append(f"{shown}: {what}")
        return
    whole = _with_names(root)
    if whole is not root:
        size = fdt.parse_header(root).totalsize
        blobs.remarks.append(
            f"{shown}: `fdt` is truncated: expected {size} bytes, found {len(root)}; its property names were added"
        )
    if incoming is not None and name == "in":
        blobs.add(incoming.root, whole)
        blobs.roots.append(incoming)
    else:
        direction = {"in": True, "out": False}.get(name)
        evidence = "file fdt" if direction is None else f"folder {name}"
        blobs.roots.append(KnownRoot(root=blobs.add_placeless(whole), incoming=direction, evidence=evidence))
    for node in fdt.parse(whole, partial=True).root.nodes:
        entry = node.name.decode("utf-8", "surrogateescape")
        place = next((value for key in _ADDRESSES if (value := node.u64(key)) is not None), None)
        if place is not None and (blob := loose.pop(entry, None)):
            blobs.add(place, blob)
    left = "the truncated root" if whole is not root else "the root"
    for entry in sorted(loose):
        blobs.remarks.append(f"{shown}/sub_fdts/{safe_text(entry)}: not found in {left}; try `luoser decode`")


def _sub_blobs(folder: Path) -> Iterator[tuple[str, bytes]]:
    if folder.is_dir():
        for file in sorted(folder.iterdir())[:_FILES]:
            data = _read(file)
            if data is not None:
                yield file.name, data


def _read(file: Path) -> bytes | None:
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return stream.read(LIMITS.blob_size)
