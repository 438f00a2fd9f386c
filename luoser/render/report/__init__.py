# SPDX-License-Identifier: MIT
"""A state, or two with their changes, as one HTML page without any other file."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from typing import Any

from luoser import __version__
from luoser.changes import Comparison
from luoser.checks import Finding, Report, Rule, rules
from luoser.checks.outcome import outcomes
from luoser.errors import UsageError
from luoser.limits import LIMITS
from luoser.render.changes import folded_changes, summary
from luoser.render.findings import source_text, unjudged_by_reason, verdict_text
from luoser.render.out import Tree
from luoser.render.pending import draw_pending
from luoser.render.report.devices import DeviceTree, device_tree, list_name
from luoser.render.report.memory_map import MemoryMap, memory_map
from luoser.render.report.nodes import Dump, Dumps, nodes
from luoser.render.tree import handover_tree, is_expected, summary_trees
from luoser.render.values import memfd_text, place_text, preserved_note, record_text
from luoser.state import File, Handover, PreservedMap, Session, State
from luoser.text import counted, rounded_size, safe_text
from luoser.topology import Topology

__all__ = ["Dump", "Dumps", "Reported", "Saved", "need_jinja", "nodes", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The state document inside of a page. data: packed with gzip; None: left out. what: of it, in words."""

    data: bytes | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One source of a page.

    report:   of `check`.
    machine:  and its RAM, in words. Empty: unknown.
    ram:      [start, end) ranges of physical memory. Empty: unknown.
    topology: PCI devices of the machine. None: unknown.
    dumps:    bytes of its nodes.
    saved:    the state document.
    """

    state: State
    report: Report
    machine: str
    ram: tuple[tuple[int, int], ...]
    topology: Topology | None
    dumps: Dumps
    saved: Saved


def need_jinja() -> None:
    """Raises UsageError if jinja2 is not installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError("a report needs jinja2: pip install 'luoser[report]'") from None


def page(sources: Sequence[Reported], comparison: Comparison | None = None) -> str:
    """The page, as HTML. The same for the same input.

    sources:    one, or two: before and after.
    comparison: of the two. None: of one source.

    Raises UsageError if jinja2 is not installed.
    """
    need_jinja()
    import jinja2
    from markupsafe import Markup

    def safe(value: Any) -> Any:
        """All that is not markup of the template itself: one line, without control and bidi characters."""
        return value if isinstance(value, Markup) else safe_text(str(value), again=True)

    here = files("luoser.render.report")
    style, script, text = (here.joinpath(f"page.{end}").read_text("utf-8") for end in ("css", "js", "html"))
    environment = jinja2.Environment(
        autoescape=True, finalize=safe, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    labels = ("before", "after") if len(sources) > 1 else ("",)
    return environment.from_string(text).render(
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        title=" → ".join(safe_text(one.state.source.name) for one in sources),
        sources=[_Source(one, label) for one, label in zip(sources, labels, strict=True)],
        diff=_Diff(comparison) if comparison is not None else None,
    )


def _policy(style: str, script: str) -> str:
    """The content-security policy: nothing but this style and this script."""
    first, second = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; style-src 'sha256-{first}'; script-src 'sha256-{second}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


class _Source:
    """What the template shows of a source. label: before, after, or empty."""

    def __init__(self, given: Reported, label: str) -> None:
        state, report = given.state, given.report
        self.label, self.id = label, label or "source"
        self.path = safe_text(state.source.name)
        self.facts = source_text(state.source, machine=given.machine)
        self.verdict, self.verdict_text = report.verdict.value, verdict_text(report)
        self.remarks, self.not_looked_at = report.remarks, report.not_looked_at
        self.summary = list(summary_trees(state))
        known = {rule.id: rule for rule in rules()}
        self.findings = [
            _Found(one, known[one.rule], number) for number, one in enumerate(report.findings[: LIMITS.report_rows], 1)
        ]
        self.findings_more = len(report.findings) - len(self.findings)
        unjudged = unjudged_by_reason(report)
        self.unjudged = [(why, ", ".join(names)) for why, names in islice(unjudged.items(), LIMITS.report_rows)]
        self.unjudged_more = len(unjudged) - len(self.unjudged)
        self.passed = [f"{name} {known[name].slug}" for name in report.passed]
        self.handovers = [_Handover(one, given) for one in state.handovers]
        notes = [problem for problem in state.problems if is_expected(problem, state)]
        problems = [problem for problem in state.problems if not is_expected(problem, state)]
        self.problems = [
            ("Problems", problems[: LIMITS.report_rows], len(problems)),
            ("Notes", notes[: LIMITS.report_rows], len(notes)),
        ]
        self.dumps = given.dumps
        self.saved_as = f"luoser-state{f'-{label}' if label else ''}.json"
        self.saved_what = given.saved.what
        self.saved = base64.b64encode(given.saved.data).decode() if given.saved.data is not None else None


class _Found:
    """A finding with the explanation of its rule."""

    def __init__(self, finding: Finding, rule: Rule, number: int) -> None:
        self.number, self.rule, self.slug = number, finding.rule, finding.slug
        self.severity, self.message, self.hint = finding.severity.value, finding.message, finding.hint
        self.where = safe_text(finding.where)
        self.address = f"{finding.address:#x}" if finding.address is not None else ""
        self.doc = [" ".join(paragraph.split()) for paragraph in rule.doc.split("\n\n")]
        self.kernels, self.sources = rule.kernels, ", ".join(rule.sources)
        self.booted = [outcome.words for outcome in outcomes(rule.id)]


class _Handover:
    """What the template shows of one handover."""

    def __init__(self, handover: Handover, given: Reported) -> None:
        self.name = place_text(handover.address)
        self.direction, self.own = handover.direction.value, handover.own
        self.facts, self.evidence = list(_facts(handover, given)), handover.evidence
        self.map: MemoryMap | None = memory_map(handover, given.ram, given.state.source.page_size)
        self.status = handover.preserved.status.value
        has_devices = handover.pci or any(one.missing for one in given.report.findings)
        self.devices: DeviceTree | None = (
            device_tree(handover, given.topology, given.report.findings) if has_devices else None
        )
        self.lists = [
            f"{list_name(one)}: {counted(len(one.devices), 'device')}, {one.layout} at {one.address:#x} "
            f"({safe_text(one.confidence, again=True)})"
            for one in handover.pci
        ]
        self.has_luo, self.serialized = handover.luo is not None, handover.luo is not None and handover.luo.serialized
        self.sessions, self.sessions_note = _sessions(handover)
        flbs = handover.luo.flbs if handover.luo is not None else ()
        self.flbs = [
            (safe_text(flb.name), f"{flb.data:#x}", counted(flb.count, "file")) for flb in flbs[: LIMITS.report_rows]
        ]
        self.flbs_note = (
            f"{len(self.flbs)} of {counted(len(flbs), 'FLB')} are in this page; luoser inspect --all shows all, or "
            "--limit report_rows=N"
            if len(self.flbs) < len(flbs)
            else ""
        )
        pending = Tree(())
        draw_pending(pending, handover, folded=False)
        self.pending = _Nested(pending.children)
        self.tree = _Nested([handover_tree(handover, given.state, folded=False)])


def _facts(handover: Handover, given: Reported) -> Iterator[tuple[str, str]]:
    """(number, of what) of the most important things."""
    sessions = handover.luo.sessions if handover.luo is not None else ()
    memory = [file.memfd.size for session in sessions for file in session.files if file.memfd is not None]
    devices = {path for one in handover.pci for path in one.devices.used_paths()}
    yield str(len(devices)), "PCI device" if len(devices) == 1 else "PCI devices"
    yield str(len(sessions)), "session" if len(sessions) == 1 else "sessions"
    yield str(sum(len(session.files) for session in sessions)), "files"
    if memory:
        yield rounded_size(sum(memory)), "in memfds"
    found = handover.preserved.map
    if found is not None:
        yield rounded_size(found.pages * given.state.source.page_size), f"preserved, map {handover.preserved.status}"
    else:
        yield handover.preserved.status.value, "preserved map"


@dataclass(frozen=True, slots=True)
class _FileRow:
    token: str
    handler: str
    data: str
    what: str


@dataclass(frozen=True, slots=True)
class _SessionRow:
    """A session and those of its files that are shown."""

    name: str
    address: str
    count: str
    files: tuple[_FileRow, ...]


def _sessions(handover: Handover) -> tuple[list[_SessionRow], str]:
    """(rows, what is not shown, in words)."""
    sessions = handover.luo.sessions if handover.luo is not None else ()
    left, rows = LIMITS.report_rows, list[_SessionRow]()
    for session in sessions[: LIMITS.report_rows]:
        shown = tuple(_file(file, handover.preserved.map) for file in session.files[:left])
        left -= len(shown)
        rows.append(_session(session, shown))
    total, files_shown = sum(len(session.files) for session in sessions), LIMITS.report_rows - left
    note = ""
    if len(rows) < len(sessions) or files_shown < total:
        note = (
            f"{len(rows)} of {counted(len(sessions), 'session')} and {files_shown} of {counted(total, 'file')} are in "
            "this page; luoser inspect --all shows all, or --limit report_rows=N"
        )
    return rows, note


def _session(session: Session, files_shown: tuple[_FileRow, ...]) -> _SessionRow:
    size = sum(file.memfd.size for file in session.files if file.memfd is not None)
    return _SessionRow(
        name=safe_text(session.name) or "(no session)",
        address=f"{session.address:#x}" if session.address is not None else "",
        count=counted(len(session.files), "file") + (f", {rounded_size(size)}" if size else ""),
        files=files_shown,
    )


def _file(file: File, found: PreservedMap | None) -> _FileRow:
    if file.memfd is not None:
        what = memfd_text(file.memfd)
    else:
        detail = f"  {record_text(file.detail)}" if file.detail is not None else ""
        what = f"{preserved_note(found, file.data)}{detail}"
    return _FileRow(f"{file.token:#x}", safe_text(file.compatible), f"{file.data:#x}", what)


class _Nested:
    """Trees as nested lists.

    events: (open, ()), (item, its (text, style) pairs), (end, ()), (close, ()). hidden: number of items left out.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self.hidden = 0
        self.events = list(self._walk(trees)) if trees else []

    def _walk(self, trees: Sequence[Tree]) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        left: list[Tree | str] = ["close", *reversed(trees), "open"]
        room = LIMITS.report_rows
        while left:
            one = left.pop()
            if isinstance(one, str):
                yield one, ()
            elif not room:
                self.hidden += 1 + one.size
            else:
                room -= 1
                yield "item", tuple((part, "") if isinstance(part, str) else part for part in one.parts)
                left.append("end")
                if one.children:
                    left += ["close", *reversed(one.children), "open"]


@dataclass(frozen=True, slots=True)
class _ChangeRow:
    """A change. sign: of its kind. kind: in words."""

    kind: str
    where: str
    before: str
    after: str
    note: str


class _Diff:
    """What the template shows of a comparison."""

    def __init__(self, found: Comparison) -> None:
        self.verdict, self.summary = found.verdict.value, summary(found.changes)
        self.pairing = found.pairing
        self.rows = list(islice(_changes(found), LIMITS.report_rows))
        self.gaps = Counter(f"{gap.where}: {gap.reason}" for gap in found.not_compared[: LIMITS.report_rows])
        more = max(0, len(found.not_compared) - LIMITS.report_rows)
        notes = [f"{counted(more, 'thing')} more not compared"] if more else []
        if len(self.rows) == LIMITS.report_rows:
            notes.append(f"the first {len(self.rows)} changes are shown; luoser diff --all shows all")
        self.note = "; ".join(notes)


def _changes(found: Comparison) -> Iterator[_ChangeRow]:
    kinds = {"+": "added", "-": "removed", "!": "changed", "~": "progress"}
    for change in folded_changes(found.changes):
        if isinstance(change, str):
            sign, _, text = change.partition(" ")
            yield _ChangeRow(
                kinds[sign], text.removesuffix("; --all lists them"), "", "", "luoser diff --all lists them"
            )
            continue
        where = " = ".join((change.where, *change.also))
        yield _ChangeRow(change.kind.value, where, change.before or "", change.after or "", change.note)
