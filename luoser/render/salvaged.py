# SPDX-License-Identifier: MIT
"""What was salvaged, as trees of its own, apart from all handovers: what leads to a thing is above it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luoser.render.out import Part, Tree
from luoser.state import Confidence, Salvaged
from luoser.text import counted, rounded_size, safe_text

__all__ = ["salvaged_tree"]

_STYLE = {Confidence.HIGH: "good", Confidence.MEDIUM: "note", Confidence.LOW: "quiet"}
_NAMES = {
    "luo": "LUO",
    "sessions": "sessions",
    "files": "files",
    "flbs": "FLBs",
    "memfd": "memfd",
    "devices": "devices",
    "devicetree": "devicetree",
}
_MANY = 4
"""So many memfds below one block of files are one line."""
_FEW, _FIRST = 8, 3
"""Of more than so many files or devices, the first ones are shown."""
_SHOWN = 200
"""Most entries of one thing that are shown."""
_DEEPEST = 8
"""Most levels of things below each other. A dump may have a chain of any length: the rest of it is beside."""


def salvaged_tree(found: Sequence[Salvaged], *, folded: bool = True) -> Tree:
    """All that was salvaged, as one tree.

    found:  the surest first.
    folded: many memfds of one block of files are one line, and sure things have no evidence.
    """
    levels = Counter(one.confidence for one in found)
    count = ", ".join(f"{levels[level]} {level.value}" for level in Confidence if levels[level])
    head = f"  {counted(len(found), 'thing')}: {count}" if found else "  nothing"
    root = Tree((("Salvaged by shape", "name"), head))
    root.add(("no pointer of a handover leads here; it may be old, or a copy, and counts in no verdict", "quiet"))
    if any(one.unconfirmed for one in found):
        root.add(("names, tokens and other members stand at one place only: a wrong bit there is not seen", "quiet"))
    _Drawing(found, folded).draw(root)
    return root


class _Drawing:
    def __init__(self, found: Sequence[Salvaged], folded: bool) -> None:
        self.found, self.folded = {one.address: one for one in found}, folded
        self.done = set[int]()

    def draw(self, root: Tree) -> None:
        for one in self.found.values():
            if not any(place in self.found for place in one.led_from):
                self._thing(root, one)
        for one in self.found.values():  # those that only lead to each other
            self._thing(root, one)

    def _thing(self, branch: Tree, top: Salvaged) -> None:
        """Add a thing, and below it those that it leads to. Chains are long, so there is no recursion.

        Who prints or measures the tree goes down into it: so chains end at _DEEPEST.
        """
        todo = [(branch, top, 1)]
        while todo:
            place, one, depth = todo.pop()
            if one.address in self.done:
                continue
            self.done.add(one.address)
            leaf = place.add(*_head(one))
            if not self.folded or one.confidence is not Confidence.HIGH:
                for word in (*one.evidence, *_unconfirmed(one)):
                    leaf.add((safe_text(word, again=True), "quiet"))
            self._entries(leaf, one)
            below = [self.found[address] for address in one.leads_to if address in self.found]
            where, level = (leaf, depth + 1) if depth < _DEEPEST else (place, depth)
            todo += [(where, other, level) for other in reversed(self._folded(leaf, below))]

    def _entries(self, leaf: Tree, one: Salvaged) -> None:
        """Add the entries; of many files or devices only the first ones."""
        most = _FIRST if self.folded and one.kind != "sessions" and len(one.entries) > _FEW else _SHOWN
        for entry in one.entries[:most]:
            leaf.add(*_entry(entry))
        if len(one.entries) > most:
            where = "--all" if most < _SHOWN else "--format json"
            leaf.add((f"… {len(one.entries) - most} more of {len(one.entries)}; {where} shows them", "note"))

    def _folded(self, leaf: Tree, below: list[Salvaged]) -> list[Salvaged]:
        """What is to be drawn one by one; of many sure memfds a line is added."""
        sure = [
            one
            for one in below
            if one.kind == "memfd" and one.confidence is Confidence.HIGH and one.address not in self.done
        ]
        if not self.folded or len(sure) < _MANY:
            return below
        self.done |= {one.address for one in sure}
        size = rounded_size(sum(one.fields["size"] for one in sure))
        leaf.add(f"{len(sure)} memfds  ", ("high", "good"), f"  {size}, all folios listed; --all shows them")
        return [one for one in below if one not in sure]


def _unconfirmed(one: Salvaged) -> Iterator[str]:
    names = (name.removeprefix("fields.").removeprefix("entries.") for name in one.unconfirmed)
    if one.unconfirmed:
        yield f"nothing repeats {', '.join(names)}: a wrong bit there is not seen"


def _head(one: Salvaged) -> tuple[Part, ...]:
    what = ""
    if one.kind == "memfd":
        count = one.fields["nr_folios"]
        what = f"  {rounded_size(one.fields['size'])}, {counted(count, 'folio')}"
    elif one.entries:
        what = f"  {len(one.entries)}"
    return (
        (_NAMES[one.kind], "name"),
        f" {one.layout} at ",
        (f"{one.address:#x}", "address"),
        "  ",
        (one.confidence.value, _STYLE[one.confidence]),
        what,
    )


def _entry(entry: Mapping[str, Any]) -> tuple[Part, ...]:
    names = [key for key in ("bdf", "name", "compatible") if key in entry]
    name = safe_text(entry[names[0]]) if names else ""
    members = [part for key, value in entry.items() if key not in (*names, "address") for part in _member(key, value)]
    return (name, "name"), "".join(f"  {part}" for part in members)


def _member(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _member(name, inner)
    elif isinstance(value, bytes | list | tuple):
        return
    elif isinstance(value, str):
        yield f"{key} {safe_text(value)}"
    else:
        yield f"{key} {value}" if type(value) is int else f"{key} {value:#x}"
