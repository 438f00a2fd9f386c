# SPDX-License-Identifier: MIT
"""What a rule is, and the register that the rules enter themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from luoser.checks.model import Found, Severity
from luoser.checks.view import View

__all__ = ["Rule", "known_names", "register", "registered"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    id: family and number. slug: in words. kernels: which ones it concerns. source: headings of docs/abi where it is
    written, such as `luo.md#files`, with `; ` between them. doc: what it looks at and why it matters. judge: yields
    what is wrong with one handover, or raises NotApplicable, NotLookedAt or NotJudged, after
    what it found.
    """

    id: str
    slug: str
    severity: Severity
    kernels: str
    source: str
    doc: str
    judge: Callable[[View], Iterator[Found]]

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the rule is written: headings of the pages under docs/abi of the repository."""
        return tuple(f"docs/abi/{place}" for place in self.source.split("; "))

    def is_meant(self, select: Collection[str], ignore: Collection[str]) -> bool:
        """Whether ids, slugs or families choose this rule; an empty `select` chooses all."""
        names = {self.id, self.slug, self.id[:3]}
        return names.isdisjoint(ignore) and (not select or not names.isdisjoint(select))


_RULES: dict[str, Rule] = {}
_Judge = Callable[[View], Iterator[Found]]


def register(rule_id: str, slug: str, severity: Severity, *, kernels: str, source: str) -> Callable[[_Judge], _Judge]:
    """Make a function the rule of that id; its docstring says what it looks at and why."""

    def enter(judge: _Judge) -> _Judge:
        assert rule_id not in _RULES, rule_id
        assert judge.__doc__, rule_id
        doc = "\n".join(line.strip() for line in judge.__doc__.strip().splitlines())
        _RULES[rule_id] = Rule(rule_id, slug, severity, kernels, source, doc, judge)
        return judge

    return enter


def registered() -> tuple[Rule, ...]:
    """The rules so far, by family in the order of the layers, then by number."""
    families = ("KHO", "MAP", "LUO", "MFD", "PCI", "TOP")
    return tuple(sorted(_RULES.values(), key=lambda rule: (families.index(rule.id[:3]), rule.id)))


def known_names() -> frozenset[str]:
    """Everything that chooses rules: ids, slugs, families."""
    return frozenset(name for rule in _RULES.values() for name in (rule.id, rule.slug, rule.id[:3]))
