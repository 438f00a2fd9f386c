# SPDX-License-Identifier: MIT
"""The blobs in /sys/kernel/debug/kho: a KHO root and its sub-trees, without other memory.

`kho/in` and `kho/out` each have `fdt`, the root, and `sub_fdts/NAME`. The physical address of the root is not known.
The addresses of the sub-trees are in the root. From 6.19 to 7.3 `out/fdt` is truncated before its property names,
and on a kernel that received state there is no `out/fdt` at all. `out/scratch_phys` and `out/scratch_len` have the
scratch areas, a line for each; from 7.4 on they may be called bootmem. Copies have other names: `kho-in`, `kho_out`.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luoser import fdt
from luoser.budget import Budget
from luoser.errors import FormatError, PageState, SourceError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.source import KnownRoot, Segment, SegmentedMemory
from luoser.text import safe_text

__all__ = ["DebugfsMemory", "is_copy", "is_root"]

_NO_PLACE = 1 << 60
"""First placeholder address, for a blob whose physical address is unknown. It is beyond the 52-bit limit."""
_ADDRESSES = ("preserved-data", "fdt")
_COMPATIBLE = re.compile(rb"kho-v[0-9]")
_STRINGS = (
    b"preserved-memory-map\0compatible\0preserved-data\0blob-size\0",
    b"preserved-memory-map\0compatible\0fdt\0",
)
"""The strings blocks of a root, as kernels from 6.19 to 7.3 write them."""
_SIDES = {"in": True, "incoming": True, "out": False, "outgoing": False}
"""Whether the root in a folder was handed to the running kernel, by a word of the folder's name."""
_BESIDE = frozenset(("kho", "luo", "debugfs"))
"""Words next to it in a longer name: kho-in, but not plug-in."""
_AREAS = (("scratch_phys", "scratch_len"), ("bootmem_phys", "bootmem_len"))
"""Names of the files with the addresses and the sizes of the scratch areas."""
_DEPTH = 6
"""Levels of folders in which a copy is searched."""


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


def is_copy(folder: Path) -> bool:
    """Whether a folder is a copy of debugfs's `kho`, or of its `in` or `out`: their names alone are too common."""
    try:
        return (folder / "fdt").is_file() or any(
            _side(child) is not None and (child / "fdt").is_file() for child in folder.iterdir()
        )
    except OSError:
        return False


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
                places = _folders(source, _DEPTH, blobs.remarks) or [source]
                budget = Budget(LIMITS.folder_bytes, lambda: 0)
                folders = [_Folder(source, place, blobs.remarks, budget) for place in places]
                _need_one_machine(path, folders)
                areas = next(filter(None, (folder.areas() for folder in folders)), b"")
                array = (blobs.add_placeless(areas), len(areas)) if areas else None
                for folder in folders:
                    _add_folder(blobs, folder, incoming, array)
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


def _need_one_machine(shown: str, folders: list[_Folder]) -> None:
    """Raise SourceError if two folders have the root of the same side: their addresses are of different machines."""
    first: dict[bool, Path] = {}
    for folder in folders:
        side = _side(folder.path)
        if side is None or not (folder.path / "fdt").is_file():
            continue
        other = first.setdefault(side, folder.path)
        if other is not folder.path:
            two = " and ".join(safe_text(str(one)) for one in (other, folder.path))
            raise SourceError(f"{shown}: copies of several machines or boots, {two}; give one of them")


def _side(folder: Path) -> bool | None:
    """Whether the root in a folder was handed to the running kernel, by the folder's name. None: unknown."""
    words = [word for word in re.split(r"[^a-z]+", folder.absolute().name.lower()) if word]
    places = [place for place, word in enumerate(words) if word in _SIDES]
    if len(places) != 1:
        return None
    (place,) = places
    is_named = len(words) == 1 or _BESIDE & set(words[max(0, place - 1) : place + 2])
    return _SIDES[words[place]] if is_named else None


def _folders(folder: Path, depth: int, remarks: list[str]) -> list[Path]:
    """The folders with a root, or named like one: a folder itself, or those in it. Links to folders do not count."""
    if (folder / "fdt").is_file():
        return [folder]
    found = list[Path]()
    for child in _listed(folder, safe_text(folder.name), remarks) if depth else ():
        if child.is_dir() and not child.is_symlink():
            found += _folders(child, depth - 1, remarks) or ([child] if _side(child) is not None else [])
    return found


def _listed(folder: Path, shown: str, remarks: list[str]) -> list[Path]:
    """The first files of a folder by name. Adds a remark if there are more."""
    files, most = sorted(folder.iterdir()), LIMITS.folder_files
    if len(files) > most:
        text = f"only the first {most} of {len(files)} files are read"
        remarks.append(f"{shown}: truncated: {text}; {how_to_raise('folder_files')}")
    return files[:most]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of blobs.

    base:    that of the whole copy.
    remarks: gets one for each link that leads out of it.
    budget:  of bytes to read, of the whole copy.
    """

    base: Path
    path: Path
    remarks: list[str]
    budget: Budget

    @property
    def shown(self) -> str:
        """Its name, safe to print."""
        return safe_text(self.path.absolute().name)

    def read(self, name: str) -> bytes | None:
        """The first bytes of a file. None, for a link out of the copy with a remark: there is no such file, or too much
        was read of others.
        """
        file = self.path / name
        if self.budget.is_used_up or not file.is_file() or not self._is_inside(name):
            return None
        with file.open("rb") as stream:
            data = stream.read(LIMITS.blob_size + 1)
        if len(data) > LIMITS.blob_size:
            text = f"only the first {LIMITS.blob_size} bytes are read; {how_to_raise('blob_size')}"
            self.remarks.append(f"{self.shown}/{safe_text(name)}: truncated: {text}")
        return self._within_budget(name, data[: LIMITS.blob_size])

    def _within_budget(self, name: str, data: bytes) -> bytes | None:
        """The bytes of a file. None, with a remark: of all files too much was read."""
        if self.budget.take(len(data)) == len(data):
            return data
        text = f"not read, nor any after it: the files of this copy have more than {LIMITS.folder_bytes} bytes"
        self.remarks.append(f"truncated: {self.shown}/{safe_text(name)}: {text}; {how_to_raise('folder_bytes')}")
        return None

    def _is_inside(self, name: str) -> bool:
        """Whether a file or folder is in the copy. A remark if it is not."""
        place = Path(os.path.realpath(self.path / name))  # resolve() may raise RuntimeError for a loop of links
        if place.is_relative_to(os.path.realpath(self.base)):
            return True
        self.remarks.append(f"{self.shown}/{safe_text(name)}: a link to a file outside of the folder; not read")
        return False

    def sub_blobs(self) -> Iterator[tuple[str, bytes]]:
        """(name, bytes) of each blob of a sub-tree."""
        inner = self.path / "sub_fdts"
        if not inner.is_dir() or not self._is_inside("sub_fdts"):
            return
        for file in _listed(inner, f"{self.shown}/sub_fdts", self.remarks):
            data = self.read(f"sub_fdts/{file.name}")
            if data is not None:
                yield file.name, data

    def areas(self) -> bytes:
        """The scratch areas, as an array of kho_scratch. Empty: there are none, or their files do not fit."""
        for names in _AREAS:
            numbers = [_numbers(data) for name in names if (data := self.read(name)) is not None]
            if len(numbers) == len(names) and None not in numbers:
                starts, sizes = (found or [] for found in numbers)
                if len(starts) == len(sizes):
                    return b"".join(struct.pack("<QQ", *pair) for pair in zip(starts, sizes, strict=True))
        return b""


def _numbers(data: bytes) -> list[int] | None:
    """The number in each line of a text. None: something else is in it."""
    try:
        found = [int(line, 0) for line in data.decode("ascii").split()]
    except ValueError:
        return None
    return found if all(0 <= number < 1 << 64 for number in found) else None


def _add_folder(blobs: _Blobs, folder: _Folder, incoming: KnownRoot | None, array: tuple[int, int] | None) -> None:
    """Add the root of a folder and its sub-trees. array: (address, size) of the scratch array. None: not known."""
    shown, side = folder.shown, _side(folder.path)
    root = folder.read("fdt")  # first: nothing may leave too little for it
    loose = dict(folder.sub_blobs())
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
    if incoming is not None and side:
        blobs.add(incoming.root, whole)
        blobs.roots.append(incoming)
    else:
        evidence = "file fdt" if side is None else f"folder {shown}"
        root_place = blobs.add_placeless(whole)
        blobs.roots.append(KnownRoot(root=root_place, incoming=side, scratch=array, evidence=evidence))
    for node in fdt.parse(whole, partial=True).root.nodes:
        entry = node.name.decode("utf-8", "surrogateescape")
        place = next((value for key in _ADDRESSES if (value := node.u64(key)) is not None), None)
        if place is not None and (blob := loose.pop(entry, None)):
            blobs.add(place, blob)
    left = "the truncated root" if whole is not root else "the root"
    for entry in sorted(loose):
        blobs.remarks.append(f"{shown}/sub_fdts/{safe_text(entry)}: not found in {left}; try `luoser decode`")
