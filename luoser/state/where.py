# SPDX-License-Identifier: MIT
"""Paths into a state, such as `luo.sessions[0].files[2]`, with the names of the state document."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.luo import form as luo_form
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
    Preserved,
    Reservation,
    Session,
    State,
    Subsystem,
    Subtree,
)
from luoser.state.packed import Device
from luoser.text import counted, did_you_mean, parse_number, parse_size, safe_text

__all__ = ["Node", "extent", "find_node"]

_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[(.+?)\](?=[.\[]|\Z)", re.DOTALL)
"""A member, or an item in brackets. The name of an item may have brackets."""
_KEYS = ("name", "token", "address", "layout")
_ADDRESSES = frozenset(
    (
        *("address", "data", "driver_data", "start", "session_area", "flb_area"),
        *("blocks", "session_blocks", "nodes", "chunks", "pages"),
    )
)
"""Members that are an address or a list of addresses."""
_MAPS = {"chunks": "kho-chunk", **dict.fromkeys(("radix", "orders", "frames", "open"), "kho-radix-node")}
"""Layout of the first page of a map."""
_LAYOUTS = {"chunks": "kho-vmalloc-chunk", "pages": "memfd-folio", "flb_area": "luo-flb-v1"}
"""Layout of the bytes at the addresses in such a member, if there is only one."""


@dataclass(frozen=True, slots=True)
class Node:
    """A place in memory.

    address: physical.
    size:    bytes. None: unknown.
    layout:  name in the registry. None: unknown.
    """

    address: int
    size: int | None
    layout: str | None = None


def find_node(state: State, where: str) -> Node:
    """The node at a path, or at a physical address such as 0x617000 or 3G.

    state: to search.
    where: a path from `handovers[N]` on, or, if the state has only one handover, from below it: `root`, `luo`,
           `subtrees[NAME]`, `luo.sessions[NAME].files[TOKEN]`, `pci[0]`. The key of an item is its index, name,
           token or address.

    Raises UsageError if there is nothing at the path, or no address.
    """
    with contextlib.suppress(ValueError):
        return Node(parse_size(where), None)
    here, name = _walk(state, where)
    node = _node(here, name)
    if node is None or not node.address:
        raise UsageError(f"{safe_text(where)}: this part of the state has no address of its own")
    if isinstance(here, Session):
        found = [luo_form(one.luo.layout) for one in state.handovers if one.luo and here in one.luo.sessions]
        is_merged = all(form is not None and form.session is luo_session_ser for form in found)
        return replace(node, layout="luo-session" if is_merged else None)
    return node


def extent(state: State, node: Node) -> tuple[int, int, str]:
    """(physical address, size in bytes, reason for the size) of the memory of a node.

    state: whose intact maps are used.
    node:  without a size: the preserved folio that holds its address, else the page.
    """
    if node.size:
        return node.address, node.size, "its own size"
    page = state.source.page_size
    for handover in state.handovers:
        block = handover.preserved.map.find(node.address) if handover.preserved.map is not None else None
        if block is not None:
            return block.address, page << block.order, f"the preserved folio of order {block.order}"
    return node.address // page * page, page, "one page (not in any intact map)"


def _walk(state: State, where: str) -> tuple[Any, str]:
    """(value at a path, name of the last member of the path)."""
    here: Any = state
    place, done, name = 0, "", ""
    while place < len(where) or not where:
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
            f"{safe_text(where)}: found {len(state.handovers)} handovers; start with handovers[N], or give --root"
        )
    return state.handovers[0]


def _member(here: Any, name: str, done: str) -> Any:
    if name == "root" and isinstance(here, Handover):
        return here
    if isinstance(here, Sequence) and not isinstance(here, str | bytes):
        shown = safe_text(done)
        raise UsageError(f"{shown} is a list: expected an item of it, such as {shown}[0] or {shown}[NAME]")
    known: dict[str, Any] = dict(here) if isinstance(here, Mapping) else {}
    if is_dataclass(here):
        known = {field.name: getattr(here, field.name) for field in fields(here)}
    if isinstance(here, Device):
        known |= here.fields
    if known.get(name) is None:
        near = did_you_mean(name, list(known)) if name not in known else ""
        names = f"{near}; it has {', '.join(map(safe_text, known))}" if known and name not in known else ""
        raise UsageError(f"{safe_text(done)} has no {safe_text(name)}{names}")
    return known[name]


def _item(here: Any, key: str, done: str) -> Any:
    if not isinstance(here, Sequence) or isinstance(here, str | bytes):
        raise UsageError(f"{safe_text(done)} is not a list")
    number: int | None = None
    with contextlib.suppress(ValueError):
        number = parse_number(key)
    if number is not None and number < len(here) and not key.lower().startswith("0x"):
        return here[number]
    found = [item for item in here if any(_is(item, name, key, number) for name in _KEYS)]
    if len(found) == 1:
        return found[0]
    names = [text for item in here if isinstance(text := _name_of(item), str)]
    near = did_you_mean(safe_text(key), names) if not found else ""
    has = f"it has {counted(len(here), 'item')}"
    raise UsageError(f"{safe_text(done)}: expected one item {safe_text(key)}, found {len(found)}{near}; {has}")


def _name_of(item: Any) -> Any:
    """The name of an item, safe to print. None: it has none."""
    name = item.get("name") if isinstance(item, Mapping) else getattr(item, "name", None)
    return safe_text(name) if isinstance(name, str) else None


def _is(item: Any, name: str, key: str, number: int | None) -> bool:
    value = item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    if isinstance(value, str):
        return value == key or safe_text(value) == key
    return value is not None and value == number


def _node(here: Any, name: str) -> Node | None:
    """The node of a part of the state. name: of the member that holds it. None: it has no address."""
    if isinstance(here, int):
        return Node(here, None, _LAYOUTS.get(name)) if name in _ADDRESSES and not isinstance(here, bool) else None
    if isinstance(here, Handover | Luo) and here.address is not None:
        form = here.layout if isinstance(here, Luo) else None
        return Node(here.address, here.fdt.header.totalsize if here.fdt is not None else None, form)
    if isinstance(here, Subtree | Area | Contents) and here.address is not None:
        return Node(here.address, here.size or None)
    if isinstance(here, Preserved):
        return Node(here.address, None, _MAPS.get(here.form))
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
