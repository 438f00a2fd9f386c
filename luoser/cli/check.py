# SPDX-License-Identifier: MIT
"""`luoser check`: applies the rules to a source."""

from __future__ import annotations

import click

from luoser.cli.common import Reading, echo_json, format_option, read_options

__all__ = ["command"]

_FINDINGS, _ALL_SKIPPED = 1, 4
_SEVERITIES = ("error", "warning", "info")


@click.command("check")
@read_options
@format_option("text", "json", "ktap", "sarif")
@click.option(
    "--topology",
    "machine",
    type=click.Path(readable=False),
    metavar="T",
    help="PCI devices of the machine: sysfs, live or a copy, output of lspci, or JSON; see `luoser topology`.",
)
@click.option("--next", "next_release", metavar="RELEASE", help="Release of the next kernel, such as 7.3.4.")
@click.option("--drivers", multiple=True, metavar="NAME", help="Treat this driver as able to live update.")
@click.option(
    "--select", multiple=True, metavar="RULE", help="Apply only this rule or family: PCI004, flags-illegal, MAP."
)
@click.option("--ignore", multiple=True, metavar="RULE", help="Skip this rule or family.")
@click.option(
    "--severity",
    type=click.Choice(_SEVERITIES),
    default="error",
    show_default=True,
    help="Exit code 1 if there are findings of this severity or above.",
)
@click.option("-v", "--verbose", is_flag=True, help="List the skipped rules with the reasons.")
def command(
    reading: Reading,
    output: str,
    machine: str | None,
    next_release: str | None,
    drivers: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    severity: str,
    verbose: bool,
) -> None:
    """Check every handover of SOURCE: addresses, counts, flags, and with --topology the device lists.

    A rule is skipped, with the reason, if what it needs is excluded, stale or not serialised yet. Exit code 1 if
    there are findings of --severity. With --format ktap the exit code is 0, 1 or 4 (all skipped), as in kselftest.
    """
    from luoser.checks import check, rules
    from luoser.checks.model import known_names
    from luoser.errors import UsageError
    from luoser.render import findings as render
    from luoser.topology import read_topology

    for name in (*select, *ignore):
        if name not in known_names():
            raise UsageError(f"unknown rule or family {name!r}; `luoser rules` lists all")
    topology = read_topology(machine) if machine is not None else None
    with reading.open() as memory:
        state = reading.read(memory, contents=True)
        ram = memory.known_ram
    report = check(
        state, topology=topology, next_release=next_release, ram=ram, drivers=drivers, select=select, ignore=ignore
    )
    chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
    if output == "json":
        echo_json(render.findings_document(report))
    elif output == "sarif":
        echo_json(render.sarif(report, chosen, reading.source[0]))
    elif output == "ktap":
        click.echo(render.ktap(report, chosen), nl=False)
        if not report.passed and not report.findings:
            raise SystemExit(_ALL_SKIPPED)
    else:
        render.print_report(report, verbose=verbose)
    wanted = _SEVERITIES[: _SEVERITIES.index("error" if output == "ktap" else severity) + 1]
    if any(finding.severity in wanted for finding in report.findings):
        raise SystemExit(_FINDINGS)
