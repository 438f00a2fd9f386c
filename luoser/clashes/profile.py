# SPDX-License-Identifier: MIT
"""What a kernel writes and accepts: a release by the catalogue, a vmlinux by its strings, a dump as it runs."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luoser.abi.luo import form
from luoser.abi.registry import layouts
from luoser.abi.release import claimed_subtrees, is_release, known_release, release_numbers
from luoser.errors import SourceError, UsageError
from luoser.kernel.files import read_types
from luoser.kernel.types import Types
from luoser.memory.source import MACHINES
from luoser.state import Handover, State
from luoser.text import safe_text

__all__ = ["Profile", "of_file", "of_release", "of_state"]

_BITMAP_OF_512 = (6, 17, 9)
"""First release whose kho-v1 bitmaps have the size of a page; before it, 512 bytes."""
_HANDLERS = frozenset(
    entry.handler for entry in layouts() if entry.kind == "struct" and re.search(r"[-_]v\d+$", entry.handler)
)
"""Versioned names of handlers and FLBs of the registry."""
_STARTS = tuple(sorted(map(str.encode, {"kho-v", "luo-v", "luo-flb-v", "memfd-v", *_HANDLERS})))
_TEXT = re.compile(rb"(?<![!-~])[!-~]{1,64}(?=\0)")
_NUMBERED = re.compile(r"(kho|luo|luo-flb|memfd)-v\d{1,3}")
_RELEASE = re.compile(rb"Linux version (\d+\.\d+\.\d+[!-~]*) ")
_EHDR = struct.Struct("<40xQ10xHH2x")
"""Of the head of an ELF file: offset of section headers, their size and number."""
_CHUNK, _OVERLAP = 1 << 24, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one kernel writes and accepts. None, where it is not known.

    name:      as it was given, safe to print.
    numbers:   of the release, such as (7, 3, 4).
    kho:       version of the root. Empty: no KHO.
    bitmap:    bytes of a kho-v1 bitmap, 0 for a page.
    luo:       string of LUO. Empty: no LUO.
    flb_node:  whether LUO's devicetree has a node for FLBs. None also for later forms.
    handlers:  of files.
    flbs:      that are registered.
    handed:    FLBs in the list that it hands over: not those that are registered without a file of theirs.
    subtrees:  that are claimed.
    page_size: bytes.
    machine:   `x86-64` or `arm64`.
    types:     its own.
    damage:    of its own symbols or types in memory, in words: what they would say is not known. Empty: none.
    """

    name: str
    numbers: tuple[int, int, int] | None = None
    kho: str | None = None
    bitmap: int | None = None
    luo: str | None = None
    flb_node: bool | None = None
    handlers: frozenset[str] | None = None
    flbs: frozenset[str] | None = None
    handed: frozenset[str] = frozenset()
    subtrees: frozenset[str] | None = None
    page_size: int | None = None
    machine: str | None = None
    types: Types | None = None
    damage: str = ""


def of_release(text: str) -> Profile:
    """The profile of a release such as 7.3 or 6.17.9. Raises UsageError for an unknown release."""
    numbers = release_numbers(text)
    known = known_release(numbers) if numbers is not None else None
    if numbers is None or known is None:
        raise UsageError(f"unknown kernel {safe_text(text)}: expected a release such as 7.3, a vmlinux or a dump")
    luo = form(known.luo) if known.luo is not None else None
    return Profile(
        name=safe_text(text),
        numbers=numbers,
        kho=known.kho,
        bitmap=_bitmap(known.kho, numbers),
        luo=(luo.compatible or luo.name) if luo is not None else "",
        flb_node=_flb_node(known.luo),
        handlers=frozenset({known.memfd} if known.luo is not None else ()),
        subtrees=claimed_subtrees(numbers),
    )


def _bitmap(kho: str | None, numbers: tuple[int, int, int] | None) -> int | None:
    if kho != "kho-v1" or numbers is None:
        return None
    return 512 if numbers < _BITMAP_OF_512 else 0


def _flb_node(luo: str | None) -> bool | None:
    found = form(luo) if luo is not None else None
    return found.flbs == "boot" if found is not None and found.is_tree else None


def of_file(path: str | os.PathLike[str]) -> Profile:
    """The profile of a vmlinux: its strings, and its types if it has any.

    Raises SourceError if it cannot be read, is cut short, or has no `Linux version`.
    """
    shown = safe_text(os.fspath(path))
    try:
        release, strings, machine = _scan(Path(path))
    except OSError as error:
        raise SourceError(f"{shown}: {error.strerror or error}") from error
    if release is None:
        raise SourceError(f"{shown}: expected a vmlinux, found no text `Linux version`")
    numbers = release_numbers(release)
    kho, luo = _newest(strings, "kho-v"), _newest(strings, "luo-v")
    try:
        types = read_types(path)
    except SourceError:  # without types the strings are compared all the same
        types = None
    return Profile(
        name=f"{shown} ({safe_text(release)})",
        numbers=numbers,
        kho=kho,
        bitmap=_bitmap(kho, numbers),
        luo=luo,
        flb_node=("luo-flb-v1" in strings) if luo == "luo-v1" else None,
        handlers=frozenset(text for text in strings if text.startswith("memfd-v") or text in _HANDLERS),
        subtrees=claimed_subtrees(numbers) if numbers is not None else None,
        machine=machine,
        types=types,
    )


def _newest(strings: set[str], prefix: str) -> str:
    """The string with the highest number of a prefix. Empty: there is none."""
    found = [text for text in strings if text.startswith(prefix)]
    return max(found, key=lambda text: int(text.removeprefix(prefix)), default="")


def _texts(data: bytes) -> Iterator[str]:
    """The strings of KHO, LUO and handlers in some bytes, each between other characters than printable ones."""
    for start in _STARTS:
        place = data.find(start)
        while place >= 0:
            text = _TEXT.match(data, place)
            if text is not None:
                name = text[0].decode()
                if name in _HANDLERS or _NUMBERED.fullmatch(name):
                    yield name
            place = data.find(start, place + 1)


def _scan(path: Path) -> tuple[str | None, set[str], str | None]:
    """(release, strings, machine) of a file."""
    release: str | None = None
    strings, before = set[str](), b""
    with path.open("rb") as file:
        head, size = file.read(_EHDR.size), os.fstat(file.fileno()).st_size
        is_elf = head.startswith(b"\x7fELF")
        machine = MACHINES.get(int.from_bytes(head[18:20], "little")) if is_elf else None
        if is_elf and len(head) == _EHDR.size:
            sections, each, count = _EHDR.unpack(head)
            if sections + each * count > size:  # the last part of a vmlinux
                raise SourceError(
                    f"{safe_text(os.fspath(path))}: cut short: sections end at {sections + each * count} of {size}"
                )
        file.seek(0)
        while chunk := file.read(_CHUNK):
            data = before + chunk
            strings |= set(_texts(data))
            found = _RELEASE.search(data) if release is None else None
            release = found[1].decode("ascii", "replace") if found is not None else release
            before = data[-_OVERLAP:]
    return release, strings, machine


def of_state(state: State, *, machine: int | None, types: Types | None) -> Profile:
    """The profile of the kernel that runs in a dump, or on this machine.

    state:   of the source.
    machine: e_machine of the source. None: not known.
    types:   of its kernel. None: not known.

    Raises SourceError if the source does not say which kernel runs in it.
    """
    release = state.source.kernel
    if release is None or not is_release(release):
        raise SourceError(f"{safe_text(state.source.name)}: the release of the running kernel is not in this source")
    base = of_release(release) if known_release(release_numbers(release) or (0, 0, 0)) else Profile(name="")
    own = next((one for one in state.handovers if one.own and one.direction == "outgoing"), None)
    pending = next((one.pending for one in state.handovers if one.own and one.pending is not None), None)
    luo = own.luo if own is not None else None
    damage = (one.message for one in state.problems if one.code in ("symbols-unread", "types-unread"))
    form_of_luo = safe_text(luo.compatible or luo.layout) if luo is not None else base.luo
    handlers = base.handlers if form_of_luo == base.luo else None  # a LUO that the release does not have is patched in
    flbs: frozenset[str] | None = None
    if pending is not None:  # of lists that were not read to their ends nothing is known
        names = pending.handlers, tuple(flb.name for flb in pending.flbs)
        handlers, flbs = (frozenset(map(safe_text, each)) if pending.complete else None for each in names)
    return Profile(
        name=f"{safe_text(state.source.name)} ({safe_text(release)})",
        numbers=release_numbers(release),
        kho=safe_text(own.compatible) if own is not None else base.kho,
        bitmap=base.bitmap,
        luo=form_of_luo,
        flb_node=_flb_node(luo.layout) if luo is not None else base.flb_node,
        handlers=handlers,
        flbs=flbs,
        handed=frozenset(safe_text(flb.name) for flb in luo.flbs) if luo is not None else frozenset(),
        subtrees=_subtrees(base, own),
        page_size=state.source.page_size,
        machine=MACHINES.get(machine) if machine is not None else None,
        types=types,
        damage=next(damage, ""),
    )


def _subtrees(base: Profile, own: Handover | None) -> frozenset[str] | None:
    """Those of the release, and what the kernel hands over besides."""
    if base.subtrees is None or own is None:
        return base.subtrees
    return base.subtrees | {safe_text(subtree.name) for subtree in own.subtrees}
