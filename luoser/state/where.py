# SPDX-License-Identifier: MIT
"""Paths into a state: `luo.sessions[0].files[2]` names what the state document has at that place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from luoser.abi.kho import kho_kexec_metadata
from luoser.abi.luo import luo_file_ser, luo_session_ser
from luoser.errors import UsageError
from luoser.state.model import (
    File,
    Flb,
    Handover,
    KexecMetadata,
    Luo,
    Memfd,
    PciList,
    Preserved,
    Session,
    State,
    Subtree,
)
from luoser.text import parse_number, safe_text

__all__ = ["Node", "find_node"]

_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[([^\[\]]+)\]")
_KEYS = ("name", "token", "address", "layout")


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
    node = _node(_walk(state, where))
    if node is None:
        raise UsageError(f"{safe_text(where)}: this part of the state has no address of its own")
    return node


def _walk(state: State, where: str) -> Any:
    here: Any = state
    place, done = 0, ""
    while place < len(where):
        match = _STEP.match(where, place)
        if match is None:
            raise UsageError(f"{safe_text(where)}: expected a path such as luo.sessions[0].files[2], or an address")
        if here is state and match[1] is not None and match[1] not in ("handovers", "source", "problems"):
            here = _only(state, where)
        here = _member(here, match[1], done or "the state") if match[1] is not None else _item(here, match[2], done)
        place, done = match.end(), where[: match.end()]
    return here


def _only(state: State, where: str) -> Handover:
    if len(state.handovers) != 1:
        raise UsageError(
            f"{safe_text(where)}: there are {len(state.handovers)} handovers: start with handovers[N], or give --root"
        )
    return state.handovers[0]


def _member(here: Any, name: str, done: str) -> Any:
    if name == "root" and isinstance(here, Handover):
        return here
    names = [field.name for field in fields(here)] if is_dataclass(here) else []
    value = getattr(here, name) if name in names else None
    if value is None:
        known = f"; it has {', '.join(names)}" if names and name not in names else ""
        raise UsageError(f"{safe_text(done)} has no {safe_text(name)}{known}")
    return value


def _item(here: Any, key: str, done: str) -> Any:
    if not isinstance(here, Sequence) or isinstance(here, str | bytes):
        raise UsageError(f"{safe_text(done)} is no list")
    number: int | None = None
    with contextlib.suppress(ValueError):
        number = parse_number(key)
    found = [item for item in here if any(_is(item, name, key, number) for name in _KEYS)]
    if number is not None and number < len(here) and not key.startswith("0x"):
        return here[number]
    if len(found) == 1:
        return found[0]
    which = f"{len(found)} items" if found else "no item"
    raise UsageError(f"{safe_text(done)} has {which} {safe_text(key)}; it has {len(here)} items in all")


def _is(item: Any, name: str, key: str, number: int | None) -> bool:
    value = item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)
    if isinstance(value, str):
        return value == key or safe_text(value) == key
    return value is not None and value == number


def _node(here: Any) -> Node | None:
    if isinstance(here, int):
        return Node(here, None)
    if isinstance(here, Handover) and here.address is not None:
        return Node(here.address, here.fdt.header.totalsize if here.fdt is not None else None)
    if isinstance(here, Subtree) and here.address is not None:
        return Node(here.address, here.size)
    if isinstance(here, Luo):
        return Node(here.address, here.fdt.header.totalsize if here.fdt is not None else None)
    if isinstance(here, Flb):
        return Node(here.data, None)
    if isinstance(here, File | Session) and here.address is not None:
        is_file = isinstance(here, File)
        return Node(here.address, (luo_file_ser if is_file else luo_session_ser).size, "luo-file" if is_file else None)
    if isinstance(here, KexecMetadata):
        return Node(here.address, kho_kexec_metadata.size, "kexec-metadata-v1")
    if isinstance(here, PciList | Memfd):
        return Node(here.address, None, here.layout)
    if isinstance(here, Preserved) or hasattr(here, "address"):
        address = here.address
        return Node(address, None) if isinstance(address, int) and address else None
    return None
