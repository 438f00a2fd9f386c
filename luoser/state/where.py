# SPDX-License-Identifier: MIT
"""Paths into a state: `luo.sessions[0].files[2]` names what the state document has at that place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.luo import luo_file_ser, luo_session_ser
from luoser.errors import UsageError
from luoser.state.model import (
    Area,
    Contents,
    File,
    Flb,
    Handover,
    KexecMetadata,
    Luo,
    Memfd,
    PciList,
    Reservation,
    Session,
    State,
    Subsystem,
    Subtree,
)
from luoser.state.packed import Device
from luoser.text import parse_number, safe_text

__all__ = ["Node", "extent", "find_node"]

_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[(.+?)\](?=[.\[]|\Z)", re.DOTALL)
"""A member, or an item in brackets, whose name may have brackets in it."""
_KEYS = ("name", "token", "address", "layout")
_ADDRESSES = frozenset(
    (
        *("address", "data", "driver_data", "start", "session_area", "flb_area"),
        *("blocks", "session_blocks", "nodes", "chunks", "pages"),
    )
)
"""Members whose numbers are addresses, one or a list of them."""
_LAYOUTS = {"chunks": "kho-vmalloc-chunk", "pages": "memfd-folio", "flb_area": "luo-flb-v1"}
"""What lies at the addresses that such a member names, where that is one thing only."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place in memory. size: bytes that the node itself accounts for, layout: what they are; None if not said."""

    address: int
    size: int | None
    layout: str | None = None


def find_node(state: State, where: str) -> Node:
    """The node at a path, or at a physical address such as 0x617000.

    A path starts at `handovers[N]`, or below it where the state has one handover only: `root`, `luo`,
    `subtrees[NAME]`, `luo.sessions[NAME].files[TOKEN]`, `pci[0]`. An item is named by its index, or by its name,
    token or address. Raises UsageError where there is nothing, or nothing that has an address.
    """
    with contextlib.suppress(ValueError):
        return Node(parse_number(where), None)
    here, name = _walk(state, where)
    node = _node(here, name)
    if node is None or not node.address:
        raise UsageError(f"{safe_text(where)}: this part of the state has no address of its own")
    if isinstance(here, Session):
        forms = {handover.luo.layout for handover in state.handovers if handover.luo and here in handover.luo.sessions}
        return replace(node, layout=None if "luo-v1-session-v1" in forms else "luo-session")
    return node


def extent(state: State, node: Node) -> tuple[int, int, str]:
    """(address, bytes, why so many) of a node: as many as it says itself, else the whole folio that holds its address
    as an intact map has it, else the page."""
    if node.size:
        return node.address, node.size, "its own size"
    page = state.source.page_size
    for handover in state.handovers:
        block = handover.preserved.map.find(node.address) if handover.preserved.map is not None else None
        if block is not None:
            return block.address, page << block.order, f"the preserved folio of order {block.order}"
    return node.address // page * page, page, "one page: no intact map has more"


def _walk(state: State, where: str) -> tuple[Any, str]:
    """(what is at a path, the last member on the way)."""
    here: Any = state
    place, done, name = 0, "", ""
    while place < len(where):
        match = _STEP.match(where, place)
        if match is None:
            raise UsageError(f"{safe_text(where)}: expected a path such as luo.sessions[0].files[2], or an address")
        if here is state and match[1] is not None and match[1] not in ("handovers", "source", "problems"):
            here = _only(state, where)
        here = _member(here, match[1], done or "the state") if match[1] is not None else _item(here, match[2], done)
        place, done, name = match.end(), where[: match.end()], match[1] or name
    return here, name


def _only(state: State, where: str) -> Handover:
    if len(state.handovers) != 1:
        raise UsageError(
            f"{safe_text(where)}: there are {len(state.handovers)} handovers: start with handovers[N], or give --root"
        )
    return state.handovers[0]


def _member(here: Any, name: str, done: str) -> Any:
    if name == "root" and isinstance(here, Handover):
        return here
    known: dict[str, Any] = dict(here) if isinstance(here, Mapping) else {}
    if is_dataclass(here):
        known = {field.name: getattr(here, field.name) for field in fields(here)}
    if isinstance(here, Device):
        known |= here.fields
    if known.get(name) is None:
        names = f"; it has {', '.join(map(safe_text, known))}" if known and name not in known else ""
        raise UsageError(f"{safe_text(done)} has no {safe_text(name)}{names}")
    return known[name]


def _item(here: Any, key: str, done: str) -> Any:
    if not isinstance(here, Sequence) or isinstance(here, str | bytes):
        raise UsageError(f"{safe_text(done)} is no list")
    number: int | None = None
    with contextlib.suppress(ValueError):
        number = parse_number(key)
    if number is not None and number < len(here) and not key.lower().startswith("0x"):
        return here[number]
    found = [item for item in here if any(_is(item, name, key, number) for name in _KEYS)]
    if len(found) == 1:
        return found[0]
    which = f"{len(found)} items" if found else "no item"
    raise UsageError(f"{safe_text(done)} has {which} {safe_text(key)}; it has {len(here)} items in all")


def _is(item: Any, name: str, key: str, number: int | None) -> bool:
    value = item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    if isinstance(value, str):
        return value == key or safe_text(value) == key
    return value is not None and value == number


def _node(here: Any, name: str) -> Node | None:
    """The node that a part of the state is. name: of the member that it was found in."""
    if isinstance(here, int):
        return Node(here, None, _LAYOUTS.get(name)) if name in _ADDRESSES and not isinstance(here, bool) else None
    if isinstance(here, Handover | Luo) and here.address is not None:
        form = here.layout if isinstance(here, Luo) else None
        return Node(here.address, here.fdt.header.totalsize if here.fdt is not None else None, form)
    if isinstance(here, Subtree | Area | Contents) and here.address is not None:
        return Node(here.address, here.size or None)
    if isinstance(here, Reservation):
        return Node(here.start, here.size)
    if isinstance(here, Flb | Subsystem):
        return Node(here.data, None)
    if isinstance(here, File | Session) and here.address is not None:
        is_file = isinstance(here, File)
        return Node(here.address, (luo_file_ser if is_file else luo_session_ser).size, "luo-file" if is_file else None)
    if isinstance(here, KexecMetadata):
        return Node(here.address, kho_kexec_metadata.size, "kexec-metadata-v1")
    address = getattr(here, "address", None)
    form = here.layout if isinstance(here, PciList | Memfd) else None
    return Node(address, None, form) if isinstance(address, int) else None
