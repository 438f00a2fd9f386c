# SPDX-License-Identifier: MIT
"""A rule, and the register of all rules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from luoser.checks.model import Found, Severity
from luoser.checks.view import View
from luoser.errors import UsageError
from luoser.text import did_you_mean

__all__ = ["Rule", "known_names", "need_known", "register", "registered", "unknown_rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    id:       family and number, such as LUO010.
    slug:     in words, such as file-count-mismatch.
    severity: of its findings.
    kernels:  that it concerns, in words.
    source:   headings of docs/abi, such as `luo.md#files`, separated by `; `.
    doc:      what it checks, and why it matters.
    is_gate:  judges the source and the direction, which every verdict depends on: it cannot be ignored.
    judge:    yields findings on one handover; may raise NotApplicable, NotLookedAt or NotJudged, also after findings.
    """

    id: str
    slug: str
    severity: Severity
    kernels: str
    source: str
    doc: str
    judge: Callable[[View], Iterator[Found]]
    is_gate: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, as paths in the repository with the heading: `docs/abi/luo.md#files`."""
        return tuple(f"docs/abi/{place}" for place in self.source.split("; "))

    def is_meant(self, select: Collection[str], ignore: Collection[str]) -> bool:
        """Whether the rule is to be applied.

        select: ids, slugs or families to apply. Empty: all.
        ignore: ids, slugs or families to skip.
        """
        names = {self.id, self.slug, self.id[:3]}
        return names.isdisjoint(ignore) and (not select or not names.isdisjoint(select))


_RULES: dict[str, Rule] = {}
_Judge = Callable[[View], Iterator[Found]]


def register(
    rule_id: str, slug: str, severity: Severity, *, kernels: str, source: str, is_gate: bool = False
) -> Callable[[_Judge], _Judge]:
    """A decorator that registers a function as a rule. Its docstring says what it checks, and why it matters.

    rule_id:  family and number, unique.
    slug:     in words.
    severity: of its findings.
    kernels:  that it concerns, in words.
    source:   headings of docs/abi, separated by `; `.
    is_gate:  as in Rule.
    """

    def enter(judge: _Judge) -> _Judge:
        assert rule_id not in _RULES, rule_id
        assert judge.__doc__, rule_id
        doc = "\n".join(line.strip() for line in judge.__doc__.strip().splitlines())
        _RULES[rule_id] = Rule(rule_id, slug, severity, kernels, source, doc, judge, is_gate)
        return judge

    return enter


def registered() -> tuple[Rule, ...]:
    """All registered rules, by family in the order of the layers, then by number."""
    families = ("KHO", "MAP", "LUO", "MFD", "PCI", "TOP", "PEN")
    return tuple(sorted(_RULES.values(), key=lambda rule: (families.index(rule.id[:3]), rule.id)))


def unknown_rule(name: str, *, is_one: bool = False) -> UsageError:
    """The error for a name that no rule has. is_one: nor is a family of rules accepted."""
    families = {rule.id[:3] for rule in _RULES.values()} if is_one else set[str]()
    near, what = did_you_mean(name, sorted(known_names() - families)), "rule" if is_one else "rule or family"
    if name in families:
        return UsageError(f"{name} is a family of rules: expected one of them; `luoser rules {name}` lists them")
    return UsageError(f"unknown {what} {name!r}{near}; `luoser rules` lists all")


def need_known(names: Collection[str]) -> None:
    """Raise UsageError for a name that no rule and no family has."""
    for name in names:
        if name not in known_names():
            raise unknown_rule(name)


def need_topology(drivers: Collection[str], *, is_known: bool) -> None:
    """Raise UsageError for drivers without the topology that has the drivers of the devices. is_known: it was given."""
    if drivers and not is_known:
        raise UsageError("--drivers is for --topology, which has the drivers of the devices")


def known_names() -> frozenset[str]:
    """All ids, slugs and families of rules."""
    return frozenset(name for rule in _RULES.values() for name in (rule.id, rule.slug, rule.id[:3]))
