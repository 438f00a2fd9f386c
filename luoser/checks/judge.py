# SPDX-License-Identifier: MIT
"""The verdict: from the findings of rules, from rules that passed, and from rules that could not be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from luoser.checks.model import (
    Finding,
    Found,
    Judged,
    NotApplicable,
    NotJudged,
    NotLookedAt,
    Report,
    Severity,
    Skipped,
    Unjudged,
    Verdict,
)
from luoser.checks.rule import Rule
from luoser.checks.view import View
from luoser.limits import LIMIT_CODES
from luoser.state import State

__all__ = ["Judgement"]

_ORDER = list(Severity)
_SOURCE_CODES = ("source", "truncated", "address-doubt")
_ROOT_LOST = "root-lost"
_ROOT_UNSEEN = {
    "root-unread": "KHO021",
    "no-root": "KHO021",
    "truncated": "KHO018",
    "source": "KHO018",
    **dict.fromkeys(LIMIT_CODES, "KHO024"),
}
"""Rule for each code of a problem that can be the reason why no root was found."""


@dataclass(slots=True)
class Judgement:
    """Collects the outcomes of rules.

    severity:      findings of this severity and above count against a handover.
    findings:      so far, in order, each once.
    skipped:       rules that do not apply.
    unjudged:      rules that could not be judged.
    not_looked_at: context that is not available, in words.
    handovers:     verdict of each.
    outcomes:      of each rule on own handovers, by id of the rule.
    counts:        pairs of rule and own handover, by outcome.
    """

    severity: Severity
    findings: dict[Finding, None] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    unjudged: dict[Unjudged, None] = field(default_factory=dict)
    not_looked_at: dict[str, None] = field(default_factory=dict)
    handovers: list[Judged] = field(default_factory=list)
    outcomes: dict[str, set[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def judge(self, view: View, rules: Sequence[Rule], gates: Sequence[Rule] = ()) -> None:
        """Apply rules to one handover.

        view:  the handover.
        rules: to apply.
        gates: further rules, of which only what they cannot judge counts.
        """
        handover = view.handover
        seen: dict[str, str] = {}
        doubt = next(view.source_problems("page-size-doubt", "address-doubt"), None)
        for rule in rules:
            outcome = self._put(rule, view) if doubt is None else self._doubt(rule, view, doubt.message)
            seen[rule.id] = outcome
            if handover.own:
                self.outcomes.setdefault(rule.id, set()).add(outcome)
                self.counts[outcome] += 1
        for gate in gates:
            self._pass(gate, view)
        if handover.own:
            self._need_each_structure(view, seen)
        self.handovers.append(
            Judged(
                root=handover.address,
                own=handover.own,
                direction=handover.direction.value,
                status=handover.preserved.status.value,
                verdict=self._verdict(handover.address),
            )
        )

    def judge_without_root(self, state: State, rules: Sequence[Rule]) -> None:
        """Report what shows that there was a root, and what keeps it from being seen.

        state: without handovers.
        rules: to apply.
        """
        chosen = {rule.id: rule for rule in rules}
        for problem in state.problems:
            rule = chosen.get("KHO021" if problem.code == _ROOT_LOST else _ROOT_UNSEEN.get(problem.code, ""))
            if rule is not None and problem.code == _ROOT_LOST:
                found = Found(problem.message, address=problem.address)
                self.findings.setdefault(_finding(rule, found, None))
            elif rule is not None:
                self.unjudged.setdefault(Unjudged(rule=rule.id, reason=problem.message, cause="missing"))
        if not self.findings and not self.unjudged and rules:
            reason = "no KHO root in what the source has"
            self.unjudged.setdefault(Unjudged(rule=rules[0].id, reason=reason, cause="missing"))

    def _put(self, rule: Rule, view: View) -> str:
        """The outcome of one rule: found, not_judged, passed or not_applicable."""
        root, own = view.handover.address, view.handover.own
        found, outcome = False, "passed"
        try:
            for item in _found(rule, view):
                found = True
                if own:
                    self.findings.setdefault(_finding(rule, item, root))
        except NotApplicable as reason:
            outcome = "not_applicable"
            self.skipped.append(Skipped(rule=rule.id, reason=str(reason), root=root))
        except NotLookedAt as reason:
            outcome = "not_applicable"
            self.not_looked_at.setdefault(str(reason))
            self.skipped.append(Skipped(rule=rule.id, reason=str(reason), root=root))
        except NotJudged as reason:
            outcome = "not_judged"
            if own:
                self._add_unjudged(rule, view, reason)
        return "found" if found else outcome

    def _pass(self, gate: Rule, view: View) -> None:
        try:
            for _ in gate.judge(view):
                pass
        except NotJudged as reason:
            if view.handover.own:
                self._add_unjudged(gate, view, reason)
        except (NotApplicable, NotLookedAt):
            pass

    def _add_unjudged(self, rule: Rule, view: View, reason: NotJudged) -> None:
        root = view.handover.address
        word = Unjudged(rule=rule.id, reason=str(reason), cause=reason.cause, root=root, about=reason.about)
        self.unjudged.setdefault(word)

    def _doubt(self, rule: Rule, view: View, reason: str) -> str:
        """The outcome of a rule with a page size that does not fit: everything may be read wrongly."""
        if view.handover.own:
            self.unjudged.setdefault(Unjudged(rule=rule.id, reason=reason, cause="open", root=view.handover.address))
        return "not_judged"

    def _need_each_structure(self, view: View, seen: dict[str, str]) -> None:
        """Add a rule that could not be judged for each structure that was meant, but that no rule could judge."""
        for name, path, families in view.structures():
            outcomes = {rule: outcome for rule, outcome in seen.items() if rule.startswith(families)}
            if outcomes and set(outcomes.values()) == {"not_applicable"}:
                reason = f"no rule could judge {name}"
                word = Unjudged(
                    rule=next(iter(outcomes)), reason=reason, cause="open", root=view.handover.address, about=path
                )
                self.unjudged.setdefault(word)

    def _verdict(self, root: int | None) -> Verdict:
        severities = [finding.severity for finding in self.findings if finding.root == root]
        if any(severity.is_at_least(self.severity) for severity in severities):
            return Verdict.FINDINGS
        return Verdict.INCONCLUSIVE if any(one.root == root for one in self.unjudged) else Verdict.SOUND

    def report(self, state: State, rules: Sequence[Rule]) -> Report:
        """The report, with the verdict over the handovers of this machine.

        state: that was checked.
        rules: that were applied.
        """
        passed = [rule.id for rule in rules if self.outcomes.get(rule.id, set()) & {"passed"}]
        passed = [name for name in passed if not self.outcomes[name] & {"found", "not_judged"}]
        return Report(
            findings=tuple(sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity))),
            skipped=tuple(self.skipped),
            passed=tuple(passed),
            unjudged=tuple(self.unjudged),
            not_looked_at=tuple(self.not_looked_at),
            handovers=tuple(self.handovers),
            remarks=(
                *state.source.left_out,
                *(problem.message for problem in state.problems if problem.code in _SOURCE_CODES),
            ),
            counts={name: self.counts[name] for name in ("passed", "found", "not_applicable", "not_judged")},
            verdict=self._worst(),
        )

    def _worst(self) -> Verdict:
        """The worst verdict of the own handovers. Inconclusive, too, if no rule passed or found something."""
        found = {judged.verdict for judged in self.handovers if judged.own}
        if not self.handovers:
            found = {self._verdict(None)}
        if Verdict.FINDINGS in found:
            return Verdict.FINDINGS
        is_sound = found == {Verdict.SOUND} and (self.counts["passed"] or self.counts["found"])
        return Verdict.SOUND if is_sound else Verdict.INCONCLUSIVE


def _found(rule: Rule, view: View) -> Iterator[Found]:
    """The findings of a rule. Raises NotJudged, too, if it saw only a part of what it asked for."""
    view.used.clear()
    try:
        yield from rule.judge(view)
    except NotApplicable:
        view.need_used()
        raise
    view.need_used()


def _finding(rule: Rule, item: Found, root: int | None) -> Finding:
    return Finding(
        rule=rule.id,
        slug=rule.slug,
        severity=item.severity or rule.severity,
        message=item.message,
        root=root,
        address=item.address,
        where=item.where,
        device=item.device,
        missing=item.missing,
        hint=item.hint,
    )
