# SPDX-License-Identifier: MIT
"""The layouts of what was read against the running kernel's own types."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import replace
from functools import lru_cache

from luoser.abi.c_struct import structure
from luoser.abi.memfd import FORMS
from luoser.abi.registry import layout, layouts
from luoser.errors import MissingMemory
from luoser.kernel.own import own_schema
from luoser.kernel.types import Types, TypesError
from luoser.kernel.values import values_of
from luoser.kernel.verify import Verified, verify_layout
from luoser.memory.source import Memory
from luoser.reader.kernel import Kernel, find_kernels
from luoser.reader.locate import find_roots
from luoser.reader.walk import Subject, Walk
from luoser.state import OWN_PREFIX, File, Handover, PciList, Record, Session
from luoser.text import safe_text

__all__ = ["types_of", "with_own_types"]

_VERSION = re.compile(r"[-_]v\d+$")
_SESSIONS = ("luo-session", "luo-file", "luo-flb-v1")
"""Layouts of what LUO's root object leads to, from 6.19 on."""
_ADAPTED = frozenset((*_SESSIONS, *(form.name for form in FORMS if form.descriptor is not None)))
"""Layouts that are read with their members where the kernel has them."""


def with_own_types(
    walk: Walk, kernel: Kernel | None, handovers: tuple[Handover, ...], named: Container[int]
) -> tuple[Handover, ...]:
    """The handovers, with what the running kernel's types say of their layouts as confidence and as problems.

    walk:      the source.
    kernel:    the running one. None, or without types: nothing is said.
    handovers: all of the source.
    named:     addresses of the roots that the kernel's own variables name: they were read by its own members.
    """
    if kernel is None or kernel.types is None:
        return handovers
    made = []
    for one in handovers:
        if one.own:
            walk.at_root(one.address)
            judge = _Judge(walk, kernel.types, kernel.symbols.path, adapts=one.address in named)
            one = replace(one, pci=tuple(judge.list(entry, f"pci[{index}]") for index, entry in enumerate(one.pci)))
            for name, path in _used(one):
                judge.say(name, path)
            if one.luo is not None:
                one = replace(one, luo=one.luo.with_files(judge.file))
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


@lru_cache(maxsize=256)
def _tags(compatible: str) -> tuple[str, ...]:
    """Names of the structs of handlers of the same kind: of memfd-v3 those that memfd-v1 and memfd-v2 have."""
    kind = _VERSION.sub("", compatible)
    heads = [entry.schemas[0] for entry in layouts() if entry.schemas and _VERSION.sub("", entry.handler) == kind]
    return tuple(dict.fromkeys(structure(head).tag for head in heads if kind))


class _Judge:
    def __init__(self, walk: Walk, types: Types, who: str, *, adapts: bool) -> None:
        """adapts: what was read has its members where the kernel has them, as far as it has them all."""
        self.walk, self.types, self.who, self.adapts = walk, types, who, adapts

    def verified(self, name: str, path: str) -> list[Verified]:
        known = layout(name)
        try:
            return verify_layout(self.types, known) if known is not None else []
        except TypesError as error:  # others were said where the types were read
            self.walk.many_members(error, Subject(path, path))
            return []

    def say(self, name: str, path: str) -> bool:
        """Whether a layout is the kernel's own. A problem if its structs are others in the kernel."""
        found = self.verified(name, path)
        for one in found:
            if one.result == "different":
                first = one.differences[0]
                what = f"{first.what} {first.member or 'struct'}".strip()
                text = f"layout {name}: struct {one.name} of {self.who} has another form ({what}, {one.size} bytes)"
                if self.is_adapted(name, one.name):
                    text = f"{text}; read by the kernel's own members"
                    self.walk.problem("layout-own", None, Subject(path, path), text)
                else:
                    self.walk.problem("layout-not-of-this-kernel", None, Subject(path, path), text)
        return bool(found) and all(one.result == "equal" for one in found)

    def is_adapted(self, name: str, tag: str) -> bool:
        """Whether a struct of a layout was read with its members where the kernel has them."""
        known = layout(name) if self.adapts and name in _ADAPTED else None
        schemas = known.schemas if known is not None else ()
        return any(own_schema(self.types, one) is not None for one in schemas if structure(one).tag == tag)

    def file(self, path: str, _: Session, file: File) -> File:
        """A file of a handler that no layout fits, with the struct that the kernel has for this kind of handler."""
        if file.memfd is not None or file.detail is not None or not self.walk.is_page_address(file.data):
            return file
        own = [entry for entry in layouts() if entry.handler == file.compatible and entry.kind == "struct"]
        if any(one.result == "equal" for entry in own for one in self.verified(entry.name, path)[:1]):
            return file  # its layout is known, and the kernel's: what is wrong are the bytes
        for tag in _tags(file.compatible):
            number = self.types.struct(tag)
            try:
                page = self.walk.memory.read(file.data, self.walk.page_size)
                budget = self.walk.members_budget
                fields = values_of(self.types, number, page, budget) if number is not None else None
            except MissingMemory:  # said when its reader met it
                continue
            except TypesError as error:
                self.walk.many_members(error, Subject(path, path))
                continue
            if fields is not None and number is not None:
                self.walk.keep(file.data, self.types.size(number), Subject(path, path))
                record = Record(
                    address=file.data,
                    readings=((f"{OWN_PREFIX}{tag.replace('_', '-')}", fields),),
                    confidence=f"struct {tag} of {self.who}: no layout has the form of {safe_text(file.compatible)}",
                )
                return replace(file, detail=record)
        return file

    def list(self, entry: PciList, path: str) -> PciList:
        if not self.say(entry.layout, path):
            return entry
        return replace(entry, confidence=f"certain: {self.who}'s own type; {entry.confidence}")


def types_of(memory: Memory) -> tuple[Types | None, str]:
    """(types of the running kernel of a source, why there are none)."""
    walk = Walk(memory, memory.page_size or 4096)
    running = find_roots(walk, kallsyms=True).kernel if memory.may_search else None
    kernels = [running] if running is not None else find_kernels(walk, None, search=memory.may_search)
    found = kernels[0].types if len(kernels) == 1 else None
    said = "; ".join(problem.message for problem in walk.problems)
    if kernels and not said:
        said = f"{kernels[0].symbols.path} has no BTF (CONFIG_DEBUG_INFO_BTF), or it is not in this source"
    name = safe_text(memory.path)
    return found, f"{name}: {said or 'the symbols of the kernel (kallsyms) are not in this source'}; give --btf FILE"
