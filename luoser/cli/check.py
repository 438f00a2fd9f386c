# SPDX-License-Identifier: MIT
"""`luoser check`: applies the rules to a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from luoser.cli import complete
from luoser.cli.account import note_judged
from luoser.cli.common import (
    NoState,
    Reading,
    echo_json,
    format_option,
    next_option,
    topology_option,
)
from luoser.cli.many import many_sources

if TYPE_CHECKING:
    from luoser.checks import Report, Rule, Severity
    from luoser.state import Pending, Source, State

__all__ = ["command"]

_EXIT = {"sound": 0, "findings": 1, "inconclusive": 4}
_SEVERITIES = ("error", "warning", "info")


_OF_LISTS = ("PCI", "TOP")
"""Families of the rules about device lists."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A source that was read.

    ram:     ranges of physical memory.
    machine: in words.
    moved:   a second reading found other objects of the running kernel.
    """

    state: State
    ram: tuple[tuple[int, int], ...] = ()
    machine: str = ""
    moved: bool = False


def _read(reading: Reading, *, pending: bool) -> _Read:
    from luoser.checks import may_hide_root
    from luoser.render.values import machine_text

    with reading.open() as memory:
        try:
            state = reading.read(memory, contents=True, pending=pending)
        except NoState as error:
            if not (memory.remarks or memory.is_partial or may_hide_root(error.state)):
                raise
            error.show()
            state = error.state  # what is not there may be what was lost
        is_running = memory.live or memory.format == "qmp"
        moved = pending and is_running and _pending(state) != _pending(reading.read(memory))
        return _Read(state, memory.known_ram, machine_text(memory), moved)


def _bare(reading: Reading, layout: str, select: tuple[str, ...]) -> tuple[State, tuple[str, ...]]:
    """(state with nothing but a bare device list, rules to apply to it)."""
    from luoser.checks import rules
    from luoser.errors import UsageError
    from luoser.memory.file import read_file
    from luoser.reader.bare import read_bare
    from luoser.text import safe_text

    name = reading.source[0]
    if reading != Reading.plain(name, page_size=reading.page_size):
        raise UsageError("--as LAYOUT: a bare list is one file without addresses or symbols; give only --page-size")
    for rule in rules():
        if select and rule.is_meant(select, ()) and rule.id[:3] not in _OF_LISTS:
            raise UsageError(
                f"--select: {rule.id} is about handovers: with --as expected rules of {' and '.join(_OF_LISTS)}"
            )
    data = read_file(name, limit="list_size")
    try:
        state = read_bare(data, None if layout == "auto" else layout, path=name, page_size=reading.page_size or 4096)
        return state, select or _OF_LISTS
    except UsageError as error:
        raise UsageError(f"{safe_text(name)}: {error}") from None


def _pending(state: State) -> list[Pending | None]:
    return [handover.pending for handover in state.handovers]


@click.command("check")
@format_option("text", "line", "json", "jsonl", "ktap", "junit", "github", "sarif")
@topology_option
@click.option(
    "--as",
    "blob",
    metavar="LAYOUT",
    shell_complete=complete.lists,
    help="SOURCE is a bare device list in this layout, or `auto`: check the list alone.",
)
@next_option
@click.option("--drivers", multiple=True, metavar="NAME", help="Treat this driver as able to live update.")
@click.option("--handlers", multiple=True, metavar="NAME", help="Treat this file handler as one of the next kernel.")
@click.option("--flbs", multiple=True, metavar="NAME", help="Treat this FLB or sub-tree as one of the next kernel.")
@click.option(
    "--select",
    multiple=True,
    metavar="RULE",
    shell_complete=complete.rules,
    help="Apply only this rule or family: PCI004, flags-illegal, MAP.",
)
@click.option(
    "--ignore", multiple=True, metavar="RULE", shell_complete=complete.rules, help="Skip this rule or family."
)
@click.option(
    "--severity",
    type=click.Choice(_SEVERITIES),
    default="error",
    show_default=True,
    help="Exit code 1 if there are findings of this severity or above.",
)
@click.option(
    "--pending",
    is_flag=True,
    help="Judge what the running kernel will hand over, by its own objects; inconclusive if these are not known.",
)
@click.option("-v", "--verbose", is_flag=True, help="List the rules that do not apply with the reasons.")
@many_sources()
def command(
    reading: Reading,
    output: str,
    topology_of: str | None,
    blob: str | None,
    next_release: str | None,
    drivers: tuple[str, ...],
    handlers: tuple[str, ...],
    flbs: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    severity: str,
    pending: bool,
    verbose: bool,
) -> None:
    """Check every handover of SOURCE: addresses, counts, flags, and with --topology the device lists.

    Exit code 0: sound. 1: there are findings of --severity or above. 4: inconclusive, because something that the
    handover refers to could not be seen or understood, or because no rule applies. Of several sources each is a line,
    and the exit code is the worst: 2, 1, 4, 3, 0. For CI, ktap (tests of a source are nested), junit, github
    (annotations) and sarif are one document about all sources. The exit code is the same in every format.

    \b
      luoser check vmcore --topology live: --next 7.3.4
      luoser check vmcore --select PCI --severity warning
      luoser check folio.bin --as pci-lu-v2-03
      luoser check hosts/ --format jsonl > checked.jsonl
    """
    from luoser.checks import Severity, check, rules
    from luoser.checks.rule import need_known, need_topology
    from luoser.errors import UsageError
    from luoser.render import findings as render
    from luoser.render.tested import shown_rules
    from luoser.render.together import FORMATS
    from luoser.topology import read_topology

    if verbose and output != "text":
        raise UsageError(f"--verbose is for text, of one source or with --format text: not for --format {output}")
    need_topology(drivers, is_known=topology_of is not None)
    need_known((*select, *ignore))
    if blob is not None and (next_release is not None or handlers or flbs or pending):
        raise UsageError("--next, --handlers, --flbs and --pending are for handovers: with --as SOURCE is a bare list")
    topology = read_topology(topology_of) if topology_of is not None else None
    if blob is not None:
        state, select = _bare(reading, blob, select)
        found = _Read(state)
    else:
        found = _read(reading, pending=pending)
    state = found.state
    report = check(
        state,
        topology=topology,
        next_release=next_release,
        ram=found.ram,
        drivers=drivers,
        handlers=handlers,
        flbs=flbs,
        pending=pending,
        pending_moved=found.moved,
        select=select,
        ignore=ignore,
        severity=Severity(severity),
    )
    note_judged(report.verdict.value)
    if output == "line":
        render.print_line(report, state.source)
    elif output in ("json", "jsonl"):
        echo_json(render.findings_document(report, state.source))
    elif output in FORMATS:
        chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
        _print_tests(output, report, state.source, shown_rules(report, chosen, rules()), Severity(severity))
    else:
        render.print_report(report, state.source, machine=found.machine, verbose=verbose)
    code = _EXIT[report.verdict.value]
    if code:
        raise SystemExit(code)


def _print_tests(output: str, report: Report, source: Source, rules: list[Rule], severity: Severity) -> None:
    """Print the report in one of the formats of `luoser.render.together`."""
    from luoser.render import github, junit, ktap, sarif
    from luoser.render.out import write

    if output == "sarif":
        echo_json(sarif.sarif(report, rules, source.name))
    elif output == "junit":
        write(junit.suite(report, source, rules, severity=severity))
    elif output == "github":
        write(github.annotated(report, source.name, rules, severity=severity))
    else:
        write(ktap.ktap(report, rules, severity=severity))
