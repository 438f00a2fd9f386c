# SPDX-License-Identifier: MIT
"""Negatives: goldens in which one rule of `luoser check` is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.abi.registry import Layout
    from luoser.checks import Finding
    from luoser.state import State
    from luoser.writer import Image
    from luoser.writer.mutate import Mutation

__all__ = ["Golden", "array_name", "mutation_of", "node_at", "notes_of", "possible", "rules_of"]

Json = dict[str, Any]
_LONGEST_NAME = 48
_NODES = (
    *("root", "luo", "kexec_metadata", "subtrees[memblock]", "subtrees[kho_test]", "luo.flb_area", "luo.session_area"),
    *("luo.session_blocks[0]", "luo.sessions[0]", "luo.sessions[0].files[0]", "luo.sessions[0].blocks[0]", "pci[0]"),
    *("luo.sessions[0].files[0].memfd", "luo.sessions[0].files[0].memfd.folios.chunks[0]"),
    *("luo.sessions[0].files[0].memfd.folios.pages[0]", "preserved.nodes[0]", "preserved.nodes[1]", "pci[0].blocks[0]"),
)
"""Paths of the nodes of the sample, in which rules can be broken."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What is to be written.

    image, state: of the handovers.
    nodes:        (layout, physical address, size in bytes) of the nodes to write. Empty: the whole image.
    where:        path of the only node. Empty: there are others.
    """

    image: Image
    state: State
    nodes: tuple[tuple[Layout, int, int], ...] = ()
    where: str = ""

    def broken(self, mutation: Mutation) -> Image:
        """The image with one rule broken.

        Raises UsageError if what is to be written stays the same, or `check` has no other finding of the rule than
        in the unbroken image.
        """
        from luoser.errors import UsageError

        image = deepcopy(self.image)
        mutation.apply(image, self.state)
        if self._bytes(image) == self._bytes(self.image):
            about = (
                f"{self.where or 'SPEC'}: rule {mutation.rule} is not about this node"
                if self.nodes
                else "nothing changes"
            )
            raise UsageError(f"{about}; select another node with --blob, or build the whole handover")
        found = self._findings(mutation.rule, self._states(image))
        if not found:
            raise UsageError(f"{mutation.rule} has no finding after breaking it; describe more of the state in SPEC")
        if not found - self._findings(mutation.rule, self._sound):
            raise UsageError(
                f"{mutation.rule} has the same findings before and after breaking it; describe a state in SPEC that "
                "does not break it"
            )
        return image

    def asks_layouts(self, mutation: Mutation, image: Image) -> tuple[str, ...]:
        """Layouts of device lists that `check` has to be given to find a broken rule in an image. Empty: none."""
        if self.nodes or self._findings(mutation.rule, [_state_of(image, ())]):
            return ()
        return self._own_layouts

    @property
    def _own_layouts(self) -> tuple[str, ...]:
        return tuple(devices.layout for handover in self.state.handovers for devices in handover.pci)

    @cached_property
    def _sound(self) -> list[State]:
        """The states of the unbroken image."""
        return self._states(self.image)

    def _states(self, image: Image) -> list[State]:
        """An image as read: with the device lists as they look, and as of their own layouts.

        Broken bytes can fit another layout better; and some rules are broken by the bytes of another one.
        """
        return [_state_of(image, layouts) for layouts in ((), self._own_layouts)]

    def _findings(self, rule: str, states: Sequence[State]) -> set[tuple[int, Finding]]:
        """What `check` finds of a rule, with the index of the state."""
        from luoser.checks import check

        return {(index, one) for index, state in enumerate(states) for one in check(state, select=(rule,)).findings}

    def _bytes(self, image: Image) -> object:
        return [image.read(*node[1:]) for node in self.nodes] if self.nodes else image.pages

    def changed(self, image: Image) -> list[tuple[Layout, int, int]]:
        """The nodes that are not in this image as in the golden; all of them, of the golden itself."""
        if image is self.image:
            return list(self.nodes)
        return [node for node in self.nodes if image.read(*node[1:]) != self.image.read(*node[1:])]


def _state_of(image: Image, layouts: tuple[str, ...]) -> State:
    from luoser.reader import read

    return read(image.memory(), page_size=image.page_size, layouts=layouts, contents=True)


def notes_of(mutation: Mutation) -> tuple[str, ...]:
    """What a negative says of itself: the rule that it breaks, and what a kernel does with it."""
    from luoser.checks import rules
    from luoser.checks.outcome import outcomes

    rule = next(rule for rule in rules() if rule.id == mutation.rule)
    recorded = (f"Recorded of {outcome.words}" for outcome in outcomes(rule.id))
    return f"NEGATIVE: breaks {rule.id} {rule.slug}", f"Expected of a kernel: {mutation.answer}", *recorded


def array_name(name: str, mutation: Mutation) -> str:
    """The name of the array of a negative. name: that of the golden."""
    from luoser.checks import rules

    slug = next(rule.slug for rule in rules() if rule.id == mutation.rule).replace("-", "_")
    return f"{name}_bad_{slug}"[:_LONGEST_NAME]


def possible(golden: Golden) -> Iterator[tuple[Mutation, Image]]:
    """Each mutation that can be made in a golden, with the image."""
    from luoser.errors import LuoserError
    from luoser.writer.mutate import mutations

    for mutation in mutations().values():
        with suppress(LuoserError):
            yield mutation, golden.broken(mutation)


def rules_of(name: str) -> list[str]:
    """Ids of the rules that can be broken in a blob of a layout: a device list, or a node of a sample handover.

    Raises UsageError for an unknown layout.
    """
    from luoser.abi.registry import layout, unknown_layout

    if layout(name) is None:
        raise unknown_layout(name)
    found = {mutation.rule for golden in _samples(name) for mutation, _ in possible(golden)}
    return sorted(found)


def _samples(name: str) -> Iterator[Golden]:
    """Goldens of a layout, in a sample handover of a release that writes it."""
    from luoser.abi.pci import layout as pci_layout
    from luoser.abi.registry import layout
    from luoser.abi.release import RELEASES
    from luoser.errors import LuoserError
    from luoser.state.from_json import from_document
    from luoser.state.where import find_node
    from luoser.writer import write
    from luoser.writer.complete import complete

    wanted = layout(name)
    assert wanted is not None
    for kernel in reversed(RELEASES):
        found = False
        with suppress(LuoserError):
            document = complete(_sample(name if pci_layout(name) is not None else "pci-lu-v2-03"), kernel=kernel)
            state = from_document(document)
            image = write(state)
            for where in _NODES:
                with suppress(LuoserError):
                    node = find_node(state, where)
                    if _layout_at(image, node.address, node.layout) != name:
                        continue
                    found, size = True, node.size or _size(image, node.address, name)
                    yield Golden(image=image, state=state, nodes=((wanted, node.address, size),), where=where)
        if found:
            return


def _layout_at(image: Image, address: int, known: str | None) -> str | None:
    from luoser.reader.blob import candidates

    page = image.read(address, image.page_size - address % image.page_size)
    return known or next((name for name, _ in candidates(page)), None)


def _size(image: Image, address: int, name: str) -> int:
    from luoser.reader.blob import decode

    return decode(image.read(address, image.page_size - address % image.page_size), name).size


def _sample(devices: str) -> Json:
    """A handover with something of everything. devices: layout of its device list."""
    from luoser.abi.pci import layout as pci_layout

    form = pci_layout(devices)
    members = set(form.record.record_fields) if form is not None else set()
    functions = []
    for bdf, devfn, flags in (("0000:04:01.0", 8, 2), ("0000:05:00.1", 1, 1)):
        given: Json = {"flags": flags, "requested": flags & 1, "refcount": 1, "devfn": devfn, "driver_name": "pcieport"}
        given["driver_data"] = "0x1ac6f4000" if flags & 1 else 0
        functions.append({"bdf": bdf, **{name: value for name, value in given.items() if name in members}})
    if devices.startswith("pci-lu-"):  # PCI/LUO writes a device before the bridge above it
        functions.reverse()
    return {
        "handovers": [
            {
                "memblock": {"reservations": [{"name": "trace", "size": "1M"}]},
                "luo": {"sessions": [{"name": "vm", "files": [{"token": 1, "memfd": {"size": "64K"}}, {"token": 2}]}]},
                "pci": [{"layout": devices, "devices": functions}],
            }
        ]
    }


def mutation_of(name: str) -> Mutation:
    """The mutation that breaks a rule. name: id or slug. Raises UsageError if there is none."""
    from luoser.checks import rules
    from luoser.checks.rule import unknown_rule
    from luoser.errors import UsageError
    from luoser.writer.mutate import mutations

    rule = next((rule for rule in rules() if name in (rule.id, rule.slug)), None)
    if rule is None:
        raise unknown_rule(name, is_one=True)
    if rule.id not in mutations():
        raise UsageError(
            f"rule {rule.id} has no mutation: it depends on topology, next kernel or another list layout; "
            f"`luoser rules {rule.id}` describes it"
        )
    return mutations()[rule.id]


def node_at(image: Image, state: State, where: str) -> tuple[Layout, int, int]:
    """(layout, physical address, size in bytes) of a node of an image. Raises UsageError."""
    from luoser.abi.registry import layout
    from luoser.errors import MissingMemory, UsageError
    from luoser.reader.blob import candidates, decode
    from luoser.state.where import find_node

    node = find_node(state, where)
    try:
        page = image.read(node.address, image.page_size - node.address % image.page_size)
        names = (*([node.layout] if node.layout else []), *(name for name, _ in candidates(page)))
        form = next(filter(None, map(layout, names)), None)
        if form is None:
            raise UsageError(f"{where}: no known layout fits the bytes at {node.address:#x}")
        if form.page_size not in (None, image.page_size):
            raise UsageError(f"{where}: {form.name} is known for pages of 4 KiB only, found {image.page_size} bytes")
        return form, node.address, node.size if node.size is not None else decode(page, form.name).size
    except MissingMemory as error:
        raise UsageError(f"{where}: {error}") from None
