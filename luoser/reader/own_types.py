# SPDX-License-Identifier: MIT
"""The layouts of what was read against the running kernel's own types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from luoser.abi.registry import layout
from luoser.kernel.types import Types, TypesError
from luoser.kernel.verify import Verified, verify_layout
from luoser.reader.kernel import Kernel
from luoser.reader.walk import Subject, Walk
from luoser.state import Handover, PciList, Record

__all__ = ["with_own_types"]

_SESSIONS = ("luo-session", "luo-file", "luo-flb-v1")
"""Layouts of what LUO's root object leads to, from 6.19 on."""


def with_own_types(walk: Walk, kernel: Kernel | None, handovers: tuple[Handover, ...]) -> tuple[Handover, ...]:
    """The handovers, with what the running kernel's types say of their layouts as confidence and as problems.

    walk:      the source.
    kernel:    the running one. None, or without types: nothing is said.
    handovers: all of the source.
    """
    if kernel is None or kernel.types is None:
        return handovers
    made = []
    for one in handovers:
        if one.own:
            walk.at_root(one.address)
            judge = _Judge(walk, kernel.types, kernel.symbols.path)
            one = replace(one, pci=tuple(judge.list(entry, f"pci[{index}]") for index, entry in enumerate(one.pci)))
            for name, path in _used(one):
                judge.say(name, path)
            walk.at_root(None)
        made.append(one)
    return tuple(made)


def _used(handover: Handover) -> Iterator[tuple[str, str]]:
    """(layout, path of the first thing with it) of what LUO hands over."""
    luo = handover.luo
    if luo is None:
        return
    yield luo.layout, "luo"
    if luo.serialized:
        yield from ((name, "luo.sessions") for name in _SESSIONS)
    seen = set[str]()
    for number, session in enumerate(luo.sessions):
        for index, file in enumerate(session.files):
            name = file.memfd.layout if file.memfd is not None else _only(file.detail)
            if name and name not in seen:
                seen.add(name)
                yield name, f"luo.sessions[{number}].files[{index}]"


def _only(detail: Record | None) -> str:
    return detail.readings[0][0] if detail is not None and len(detail.readings) == 1 else ""


class _Judge:
    def __init__(self, walk: Walk, types: Types, who: str) -> None:
        self.walk, self.types, self.who = walk, types, who

    def verified(self, name: str) -> list[Verified]:
        known = layout(name)
        try:
            return verify_layout(self.types, known) if known is not None else []
        except TypesError:  # said already where the types were read
            return []

    def say(self, name: str, path: str) -> bool:
        """Whether a layout is the kernel's own. A problem if its structs are others in the kernel."""
        found = self.verified(name)
        for one in found:
            if one.result == "different":
                first = one.differences[0]
                what = f"{first.what} {first.member or 'struct'}".strip()
                text = f"layout {name}: struct {one.name} of {self.who} has another form ({what}, {one.size} bytes)"
                self.walk.problem("layout-not-of-this-kernel", None, Subject(path, path), text)
        return bool(found) and all(one.result == "equal" for one in found)

    def list(self, entry: PciList, path: str) -> PciList:
        if not self.say(entry.layout, path):
            return entry
        return replace(entry, confidence=f"certain: {self.who}'s own type; {entry.confidence}")
