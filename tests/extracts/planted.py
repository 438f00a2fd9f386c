# SPDX-License-Identifier: MIT
"""Real dumps with recognisable bytes wherever a cut without contents must have none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import luoser
from luoser.errors import PageState
from luoser.kernel.space import START_KERNEL_MAP, hex_number, info_number
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import State, to_document

__all__ = ["leaks", "planted"]

SECRET = b"S3cr3t#!"
_PIECES = [(2 * SECRET)[start : start + 4] for start in range(8)]
_PAGE = 4096
_MARGIN, _RUN = 64, 512
"""Zeros of a kernel's page are not all unused: of long runs only the middle is."""


def leaks(data: bytes) -> list[bytes]:
    """The pieces of what was planted that are in a file."""
    return [piece for piece in _PIECES if piece in data]


def planted(memory: Memory) -> Overlay:
    """A dump with secrets: in pages of users and drivers, in what is left of pages with structures, beside them."""
    state, made = luoser.read(memory), Overlay(memory)
    users = {page // _PAGE * _PAGE for page in _pages_of_users(state)}
    size = state.source.page_size
    nodes = {
        page
        for handover in state.handovers
        for node in handover.preserved.nodes
        for page in range(node, node + size, _PAGE)
    }
    known = {address // _PAGE * _PAGE for address in _addresses(to_document(state, full=True))}
    for part in memory.segments:
        for page in range(part.start, part.end, _PAGE):
            data = memory.read(page, _PAGE)
            if page in nodes:
                continue
            if page in users:
                made.write(page, SECRET * (_PAGE // 8))
            elif not any(data):
                continue
            elif page in known:
                used = len(data.rstrip(b"\0")) + 15 & -8
                made.write(page + used, (SECRET * (_PAGE // 8))[: max(0, _PAGE - used)])
            else:
                for run in re.finditer(rb"\0{%d,}" % _RUN, data):
                    start, size = run.start() + _MARGIN, run.end() - run.start() - 2 * _MARGIN
                    made.write(page + start, (SECRET * (_PAGE // 8))[:size])
    _plant_host_name(made)
    return made


def _plant_host_name(made: Overlay) -> None:
    """The name of the machine is beside the release, which is read."""
    info = made.vmcoreinfo
    names, offset = hex_number(info, "SYMBOL(init_uts_ns)"), info_number(info, "OFFSET(uts_namespace.name)")
    base = info_number(info, "NUMBER(phys_base)")
    if names is not None and offset is not None and base is not None:
        place = names - START_KERNEL_MAP + base + offset + 65
        if made.page_state(place) is PageState.PRESENT:
            made.write(place, SECRET * 4)


def _pages_of_users(state: State) -> Iterator[int]:
    for handover in state.handovers:
        for session in handover.luo.sessions if handover.luo is not None else ():
            for file in session.files:
                yield from (folio.address for folio in file.memfd.folios.list) if file.memfd is not None else ()
        for found in handover.pci:
            yield from (device.number("driver_data") or 0 for device in found.devices)
        for address, order in handover.kho_test.folios if handover.kho_test is not None else ():
            yield from range(address, address + (state.source.page_size << order), _PAGE)


def _addresses(value: Any) -> Iterator[int]:
    """All hex numbers of a document."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _addresses(inner)
    elif isinstance(value, str) and re.fullmatch("0x[0-9a-f]+", value):
        yield int(value, 16)
