# SPDX-License-Identifier: MIT
"""What the branches of a tree have in common: how much they show, notes on addresses, devicetrees of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from luoser.errors import FormatError
from luoser.fdt import MAGIC, Node, parse
from luoser.render.out import Tree
from luoser.render.values import in_brackets, preserved_note, property_text
from luoser.state import Contents, Handover, PreservedMap
from luoser.text import safe_text

__all__ = ["SHOWN", "Drawing"]

SHOWN = 200
"""Most items of one list in the tree. --full and JSON have all."""
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Drawing:
    """How a handover is drawn.

    handover:  any.
    page_size: of the kernel, in bytes.
    full:      show all items of long lists.
    folded:    show like things as one line, and no facts that are as usual.
    """

    handover: Handover
    page_size: int
    full: bool
    folded: bool

    @property
    def map(self) -> PreservedMap | None:
        """The preserved map. None: it cannot be read."""
        return self.handover.preserved.map

    def note(self, address: int) -> str:
        """` (whether an address is preserved)`. Empty, if it goes without saying."""
        return in_brackets(preserved_note(self.map, address, brief=self.folded))

    def some(self, items: Sequence[_Item], branch: Tree) -> Sequence[_Item]:
        """All items with --full. Otherwise the first ones, after a line with the number of items."""
        if self.full or len(items) <= SHOWN:
            return items
        branch.add((f"the first {SHOWN} of {len(items)} follow; --full shows all", "note"))
        return items[:SHOWN]

    def devicetree(self, branch: Tree, root: Node) -> None:
        """Add the properties and nodes of a devicetree of unknown kind. Numbers that are preserved addresses say so."""
        size = sum(1 + len(node.properties) for node in root.walk()) - 1
        if not self.full and size > SHOWN:
            branch.add((f"the first {SHOWN} of {size} lines follow; --full shows all", "note"))
            size = SHOWN
        self._lines(branch, root, size)

    def _lines(self, branch: Tree, node: Node, left: int) -> int:
        """Draw the lines of a node, at most so many. Returns how many are left."""
        for name, value in node.properties[:left]:
            number = int.from_bytes(value, "little") if len(value) == 8 else 0
            block = self.map.find(number) if self.map is not None and number else None
            note = f"  ({preserved_note(self.map, number)})" if block is not None else ""
            branch.add(f"{safe_text(name)} = {property_text(value)}{note}")
        left -= len(node.properties[:left])
        for child in node.nodes:
            if left <= 0:
                break
            left = self._lines(branch.add((safe_text(child.name), "name")), child, left - 1)
        return left

    def foreign(self, branch: Tree, contents: tuple[Contents, ...]) -> None:
        """Add the devicetree in the bytes of an unknown handler or FLB, if they are one."""
        if contents and contents[0].data.startswith(MAGIC):
            with suppress(FormatError):
                self.devicetree(branch, parse(contents[0].data.ljust(contents[0].size, b"\0"), partial=True).root)
