# SPDX-License-Identifier: MIT
"""Changes between two states: before and after a kexec, or of two machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from luoser.changes.blob import blob_changes
from luoser.changes.contents import content_changes
from luoser.changes.gaps import not_compared
from luoser.changes.kho import damage_changes, damaged_alike, handover_changes
from luoser.changes.model import PARTS, SOURCE, Change, Kind, NotCompared, Verdict, need_paths, without
from luoser.errors import UsageError
from luoser.memory.source import Memory
from luoser.state import Direction, Handover, Problem, Source, State
from luoser.text import safe_text

__all__ = [
    "PARTS",
    "Change",
    "Comparison",
    "Kind",
    "NotCompared",
    "Verdict",
    "blob_changes",
    "compare",
    "need_paths",
]

_UNSEEN = (
    "truncated", "page-size-doubt", "address-doubt", "no-own-root", "root-lost", "root-unread", "too-many-candidates",
)  # fmt: skip
"""Codes of problems of a source: a handover may not have been seen, or not as it is."""
_Pair = tuple[Handover | None, Handover | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    changes:      all differences, and progress.
    pairing:      which handovers were compared, and why these, in words.
    not_compared: what is not in one of the sources, or could not be read.
    sources:      the two that were compared. None: they have no name.
    """

    changes: tuple[Change, ...]
    pairing: tuple[str, ...]
    not_compared: tuple[NotCompared, ...] = ()
    sources: tuple[Source, Source] | None = None

    @property
    def is_equal(self) -> bool:
        """Whether there is no change, or only progress."""
        return all(change.kind is Kind.PROGRESS for change in self.changes)

    @property
    def verdict(self) -> Verdict:
        """different if there are differences, else inconclusive if something was not compared."""
        if not self.is_equal:
            return Verdict.DIFFERENT
        if self.not_compared:
            return Verdict.INCONCLUSIVE
        return Verdict.PROGRESS if self.changes else Verdict.EQUAL

    def without(self, patterns: Collection[str]) -> Comparison:
        """The same of all but some paths, whether they differ or could not be compared.

        patterns: of paths, as of `--ignore`.
        """
        left = without(self.changes, patterns), without(self.not_compared, patterns)
        return replace(self, changes=left[0], not_compared=left[1])


def compare(
    before: State,
    after: State,
    *,
    roots: tuple[int, int] | None = None,
    memories: tuple[Memory | None, Memory | None] = (None, None),
    contents: bool = False,
) -> Comparison:
    """The comparison of two states.

    before:   first state.
    after:    second state.
    roots:    addresses of the two handovers to compare. None: pair all handovers.
    memories: the sources of the states, for `contents`. None: not available.
    contents: compare the bytes of driver pages and memfd folios, too.

    Raises UsageError if there is no handover at an address in `roots`, and for cuts of which only one has hashed names,
    or another key: what they name cannot be paired.
    """
    if before.source.hashed_names != after.source.hashed_names:
        said = "; ".join(
            safe_text(f"{one.source.name}: {one.source.hashed_names or 'names are as they were'}", again=True)
            for one in (before, after)
        )
        raise UsageError(f"{said}: names cannot be compared; extract both with the same --hash-names KEY")
    pairs, words = _by_roots(before, after, roots) if roots is not None else _pairs(before, after)
    both = sum(old is not None and new is not None for old, new in pairs)
    changes: list[Change] = []
    gaps: list[NotCompared] = []
    for old, new in pairs:
        lost: list[NotCompared] = []
        if old is None or new is None:
            found = list(_alone(old, new, pairs, (before, after)))
        else:
            lost = list(damaged_alike((old, before), (new, after)))
            found = list(handover_changes(old, new, (before, after)))
            if contents:
                found += content_changes(old, new, memories, page_size=before.source.page_size)
        prefix = f"handovers/{_name(old or new)}" if both > 1 or None in (old, new) else ""
        found = [change.below(prefix) if prefix else change for change in found]
        changes += [change for change in found if change.kind is not Kind.UNREAD]
        gaps += [NotCompared(where=one.where, reason=one.note) for one in found if one.kind is Kind.UNREAD]
        gaps += [replace(one, where=f"{prefix}/{one.where}") if prefix else one for one in lost]
        for handover, state in ((old, before), (new, after)):
            if handover is not None:
                gaps += not_compared(handover, state, prefix=prefix, contents=contents)
    if changes and all(change.kind is Kind.PROGRESS for change in changes):
        from luoser.changes.damage import rule_changes  # imported late: it needs all rules, most comparisons none

        changes += rule_changes(before, after)
    if not pairs:
        gaps.append(NotCompared(where=SOURCE, reason="no KHO root in either source"))
    for state in (before, after):
        gaps += [
            NotCompared(where=SOURCE, reason=problem.message)
            for problem in state.problems
            if problem.root is None and problem.code in _UNSEEN
        ]
    return Comparison(
        changes=tuple(changes),
        pairing=tuple(words),
        not_compared=tuple(dict.fromkeys(gaps)),
        sources=(before.source, after.source),
    )


def _name(handover: Handover | None) -> str:
    return "?" if handover is None or handover.address is None else f"{handover.address:#x}"


def _by_roots(before: State, after: State, roots: tuple[int, int]) -> tuple[list[_Pair], list[str]]:
    if not isinstance(roots, Sequence) or len(roots) != 2 or not all(isinstance(root, int) for root in roots):
        raise UsageError(f"--roots: expected two addresses, found {roots!r}")
    found = []
    for state, root in zip((before, after), roots, strict=True):
        handover = next((one for one in state.handovers if one.address == root), None)
        if handover is None:
            there = ", ".join(map(_name, state.handovers)) or "none"
            raise UsageError(f"{state.source.name}: no KHO root at {root:#x}: expected one of {there}")
        found.append(handover)
    return [(found[0], found[1])], [f"{roots[0]:#x} and {roots[1]:#x}: selected by --roots"]


def _pairs(before: State, after: State) -> tuple[list[_Pair], list[str]]:
    """(pairs of handovers, reasons in words): by address, which a kexec keeps, by direction, or the only ones."""
    left, pairs, words = [one for one in after.handovers if one.own], list[_Pair](), list[str]()
    olds = [one for one in before.handovers if one.own]
    others = len(olds) != 1 or len(left) != 1
    ways: tuple[tuple[str, Callable[[Handover, Handover], bool]], ...] = (
        ("the same root", lambda old, new: _is_same_root(old, new, before)),
        ("the same direction", lambda old, new: old.direction is new.direction is not Direction.UNKNOWN),
        ("handed on", lambda old, new: (old.direction, new.direction) == (Direction.OUTGOING, Direction.INCOMING)),
        ("the only ones", lambda old, new: not others),
    )
    for why, matches in ways:
        for old in list(olds):
            new = next((one for one in left if matches(old, one)), None)
            if new is not None:
                olds.remove(old)
                left.remove(new)
                pairs.append((old, new))
                words.append(f"{_name(old)} ({old.direction.value}) and {_name(new)} ({new.direction.value}): {why}")
    pairs += [(old, None) for old in olds]
    pairs += [(None, new) for new in left]
    return pairs, words


def _is_same_root(old: Handover, new: Handover, before: State) -> bool:
    """Whether two roots at one address are the same, and the second is not one that a later kernel made in that page:
    an outgoing one, whose number is above all that were there before.
    """
    if old.address is None or old.address != new.address:
        return False
    if (old.direction, new.direction) != (Direction.INCOMING, Direction.OUTGOING) or new.luo is None:
        return True
    numbers = [one.luo.number for one in before.handovers if one.luo is not None and one.luo.number is not None]
    return new.luo.number is None or not numbers or new.luo.number <= max(numbers)


def _alone(
    old: Handover | None, new: Handover | None, pairs: list[_Pair], states: tuple[State, State]
) -> Iterator[Change]:
    """The changes for a handover on one side only: that it is, and its damage. Their paths are relative to it."""
    one = old or new
    assert one is not None
    where, text = "", f"{one.compatible} {one.direction.value}"
    moved_on = any(
        was is not None
        and now is not None
        and (was.direction, now.direction) == (Direction.OUTGOING, Direction.INCOMING)
        for was, now in pairs
    )
    if any(_is_lost(one, problem) for problem in states[new is None].problems):
        pass  # which is reported as not compared
    elif new is not None:
        if moved_on and new.direction is Direction.OUTGOING:
            is_serialised = new.luo is not None and new.luo.serialized
            note = (
                f"the next kernel has its own handover now, {'serialised' if is_serialised else 'not serialised yet'}"
            )
            yield Change(kind=Kind.PROGRESS, where=where, after=text, note=note)
        else:
            yield Change(kind=Kind.ADDED, where=where, after=text)
    elif moved_on and one.direction is Direction.INCOMING:
        note = "it was handed to a kernel that has itself handed over since"
        yield Change(kind=Kind.PROGRESS, where=where, before=text, note=note)
    else:
        yield Change(kind=Kind.REMOVED, where=where, before=text)
    was, now = ((side, state) if side is not None else None for side, state in zip((old, new), states, strict=True))
    yield from damage_changes(was, now)


def _is_lost(handover: Handover, problem: Problem) -> bool:
    """Whether a problem of a source is that this root is not in it, or cannot be read."""
    return problem.code in ("root-lost", "root-unread") and problem.address == handover.address
