# SPDX-License-Identifier: MIT
"""The memory of a drgn program as a source.

A core file is read by luoser itself. drgn reads pages that makedumpfile left out of an ELF core as zeros (0.3.0), and
does not know which they are; so does a search by way of drgn cost more. The memory of a guest (`drgn --qemu`), or what
a user has added to a program, comes from drgn. Where RAM is, the kernel's own `iomem_resource` says.

Source: drgn 0.3.0, libdrgn/program.c (zerofill), libdrgn/qemu_machine_protocol.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from luoser.errors import MissingMemory, PageState, SourceError
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import NoKallsyms, find_kallsyms
from luoser.kernel.objects import NoMember, Object
from luoser.kernel.space import AddressSpace, Unmapped
from luoser.kernel.types import TypesError
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.elf import parse_vmcoreinfo
from luoser.memory.fetched import FetchedMemory
from luoser.memory.open import open_memory
from luoser.memory.raw import Range
from luoser.memory.source import MACHINES, Memory, Segment

if TYPE_CHECKING:
    import drgn

__all__ = ["NAME", "DrgnMemory", "memory", "name_of"]

NAME = "drgn:"
"""Path of a program's memory that is in no file."""
_PAGE = 4096
_EVERYWHERE = 1 << 52
"""No machine has physical addresses from here on."""
_SYSTEM_RAM = 0x0100_0000
"""IORESOURCE_SYSRAM of include/linux/ioport.h."""
_ARCHITECTURES = {"X86_64": 62, "AARCH64": 183}
_LEFT_OUT = ("not saved in core dump", "xcluded")
"""What drgn and libkdumpfile say of a page that a dump tool left out."""


class DrgnMemory(FetchedMemory):
    """Physical memory that drgn reads. What it cannot read is absent.

    Only RAM is asked for: outside of it QEMU reads device registers. Nothing is cached, as drgn is quick.
    """

    format = "drgn"

    def __init__(self, prog: drgn.Program, *, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """prog: of a kernel. ranges: [start, end) of RAM. Empty: as the kernel says.

        Raises SourceError for what is not a kernel of a 64-bit little-endian machine, or if no RAM is known.
        """
        super().__init__(NAME)
        del self._windows  # a cycle, which would keep the program and its connection until garbage is collected
        from drgn import FaultError, PlatformFlags, ProgramFlags

        self._prog, self._fault = prog, FaultError
        wanted = PlatformFlags.IS_64_BIT | PlatformFlags.IS_LITTLE_ENDIAN
        if not prog.flags & ProgramFlags.IS_LINUX_KERNEL:
            hint = "a guest of QEMU is one over a UNIX socket, with -device vmcoreinfo"
            raise SourceError(f"{NAME} expected the memory of a Linux kernel, but drgn knows of none here; {hint}")
        if prog.platform is None or prog.platform.flags & wanted != wanted:
            raise SourceError(f"{NAME} expected a 64-bit little-endian machine")
        self.machine = _ARCHITECTURES.get(prog.platform.arch.name)
        self.info_note = _info(prog)
        self.vmcoreinfo = parse_vmcoreinfo(self.info_note)
        size = self.vmcoreinfo.get("PAGESIZE", "")
        self.page_size = int(size) if size.isascii() and size.isdigit() and len(size) <= 7 else None
        if prog.flags & ProgramFlags.IS_LIVE:
            self.live = True
            self.remarks.append("read from a running machine: parts that changed in the meantime may be inconsistent")
        self._cover(ranges or self._ram())

    # -- where RAM is -------------------------------------------------------------------------------------

    def _ram(self) -> list[tuple[int, int]]:
        """[start, end) of RAM, sorted: System RAM of the kernel's own list of resources. Raises SourceError."""
        everywhere = Segment(0, _EVERYWHERE, 0, _EVERYWHERE)
        self._segments, self._starts = (everywhere,), [0]
        try:
            found = sorted(self._resources(AddressSpace(self, self.vmcoreinfo)))
        except (NoKallsyms, Unmapped, MissingMemory, NoMember, TypesError, KeyError, ValueError) as error:
            text = "where RAM is: expected debug info, or kallsyms and BTF of the kernel in its memory"
            raise SourceError(f"{NAME} {text}, found neither ({error}); say it with --map START:LENGTH@0") from None
        finally:
            self._cover([])
        ends = [0, *(end for _, end in found)]
        if not found or any(start < end for (start, _), end in zip(found, ends, strict=False)):
            raise SourceError(f"{NAME} iomem_resource: no System RAM, or it overlaps; say it with --map START:LENGTH@0")
        return found

    def _resources(self, space: AddressSpace) -> Iterator[tuple[int, int]]:
        """RAM, wherever it is in the tree: that of a device is below the device."""
        todo, left = [_resource(self._prog, space).follow("child", "resource")], LIMITS.note_ranges
        while todo:
            item = todo.pop()
            if item is None:
                continue
            if not left:
                raise ValueError(f"more than {LIMITS.note_ranges} resources; {how_to_raise('note_ranges')}")
            left -= 1
            start, end = item.number("start"), item.number("end") + 1
            is_ram = bool(item.number("flags") & _SYSTEM_RAM)
            if is_ram and start < end <= _EVERYWHERE:
                yield start, end
            todo.append(item.follow("sibling", "resource"))
            todo.append(None if is_ram else item.follow("child", "resource"))

    # -- bytes --------------------------------------------------------------------------------------------

    def read(self, address: int, size: int) -> bytes:
        self._need_ram(address, size)
        try:
            return bytes(self._prog.read(address, size, True)) if size > 0 else b""
        except self._fault as error:
            page, last = address, error
            while page < address + size:  # which page it is
                take = min(address + size, page - page % _PAGE + _PAGE) - page
                try:
                    self._prog.read(page, take, True)
                except self._fault as error:
                    last = error
                    break
                page += take
            raise MissingMemory(min(page, address + size - 1), _state(last)) from None
        except (OSError, ValueError, OverflowError) as error:
            raise self._failed(address, error) from None

    def _need_ram(self, address: int, size: int) -> None:
        while size > 0:
            segment = self._segment_at(address)
            if segment is None:
                raise MissingMemory(address, PageState.ABSENT)
            address, size = segment.end, size - (segment.end - address)

    def page_state(self, address: int) -> PageState:
        try:
            self.read(address, 1)
        except MissingMemory as error:
            return error.state
        return PageState.PRESENT

    def _fetch(self, address: int, size: int) -> bytes:
        """Bytes for a search: what is missing is zeros there, which no search finds."""
        try:
            return bytes(self._prog.read(address, size, True))
        except self._fault:
            second = address - address % _PAGE + _PAGE
            if address + size <= second:
                return bytes(size)
            half = max(second, (address + size // 2) // _PAGE * _PAGE) - address
            return self._fetch(address, half) + self._fetch(address + half, size - half)
        except (OSError, ValueError, OverflowError) as error:
            raise self._failed(address, error) from None

    def _failed(self, address: int, error: Exception) -> SourceError:
        return SourceError(f"{NAME} drgn cannot read at {address:#x}: {error}")


def _state(error: Exception) -> PageState:
    text = str(error)
    return PageState.EXCLUDED if any(words in text for words in _LEFT_OUT) else PageState.ABSENT


def _info(prog: drgn.Program) -> bytes:
    """VMCOREINFO as drgn has it. Empty: it has none."""
    try:
        return bytes(prog["VMCOREINFO"].string_())
    except LookupError:
        return b""


def _resource(prog: drgn.Program, space: AddressSpace) -> Object:
    """`iomem_resource`, by the debug info of drgn, else by the kernel's own symbols and types."""
    from luoser.drgn.debug_info import DrgnTypes

    if "iomem_resource" in prog:
        types = DrgnTypes(prog, ("resource",))
        return Object(space, types, prog["iomem_resource"].address_ or 0, types.named("resource")[0])
    found = find_kallsyms(space).get(frozenset(("iomem_resource", "__start_BTF", "__stop_BTF", "page_offset_base")))
    ((root,), (start,), (end,)) = (found[name] for name in ("iomem_resource", "__start_BTF", "__stop_BTF"))
    if not 0 < end.address - start.address <= LIMITS.type_bytes:
        raise ValueError(f"BTF of {end.address - start.address} bytes; {how_to_raise('type_bytes')}")
    own = Btf(space.read(start.address, end.address - start.address))
    number = own.struct("resource")
    if number is None:
        raise KeyError("struct resource")
    return Object(space, own, root.address, number)


def name_of(prog: drgn.Program) -> str:
    """Path of the core file of a program. `drgn:`: its memory is in no file that was dumped."""
    from drgn import ProgramFlags

    is_file = prog.core_dump_path is not None and not prog.flags & ProgramFlags.IS_LIVE
    return prog.core_dump_path or NAME if is_file else NAME


def memory(prog: drgn.Program, *, ranges: Sequence[Range] = ()) -> Memory:
    """The memory of a program: of its core file, this machine, or what drgn reads.

    prog:   a drgn program of a Linux kernel, with debug info or without. With it, the kernel's types and symbols come
            from drgn where its memory has none.
    ranges: of a raw core file, or, where drgn reads: where RAM is.

    Raises SourceError for what is not the memory of a kernel, or cannot be read.
    """
    from drgn import ProgramFlags

    from luoser.drgn.debug_info import answers

    name = name_of(prog)
    if name != NAME:
        found = open_memory(name, ranges=ranges)
        _with_info(found, prog)
    elif prog.flags & ProgramFlags.IS_LOCAL and not ranges and os.access("/proc/kcore", os.R_OK):
        found = open_memory("live:")
    else:
        found = DrgnMemory(prog, ranges=[(one.start, one.start + one.size) for one in ranges if one.size is not None])
    if found.machine in (None, *MACHINES):
        said = answers(prog, found)
        if said:
            found.answers, found.answers_from = said, "debug info of drgn"
    return found


def _with_info(found: Memory, prog: drgn.Program) -> None:
    """Use the VMCOREINFO that a user has given to drgn, if it is not that of the file."""
    note = _info(prog)
    said = parse_vmcoreinfo(note)
    if said and said != dict(found.vmcoreinfo):
        found.remarks.append("VMCOREINFO is that of drgn, which differs from that in the file")
        found.vmcoreinfo, found.info_note, found.is_own_info = said, note, False
