# SPDX-License-Identifier: MIT
"""`luoser check`: is this handover sound, and does it fit the machine?"""

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
    help="The machine's PCI devices: a copied or the live sysfs, text of lspci, or JSON; see `luoser topology`.",
)
@click.option("--next", "next_release", metavar="RELEASE", help="Kernel that is to take over, such as 7.3.4.")
@click.option("--drivers", multiple=True, metavar="NAME", help="A driver that takes part in live update, too.")
@click.option("--select", multiple=True, metavar="RULE", help="Only this rule or family: PCI004, flags-illegal, MAP.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Not this rule or family.")
@click.option(
    "--severity",
    type=click.Choice(_SEVERITIES),
    default="error",
    show_default=True,
    help="Findings of this severity and above give exit code 1.",
)
@click.option("-v", "--verbose", is_flag=True, help="List what was skipped, with the reason.")
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
    """Cross-check every handover of SOURCE: addresses, counts, flags, and with --topology the device lists.

    A rule whose evidence is excluded, stale or not serialised yet is skipped with the reason. Exit code 1 when
    there are findings of --severity; with --format ktap 0, 1 or 4 (all skipped), as kselftest has it.
    """
    from luoser.checks import check, rules
    from luoser.checks.rule import known_names
    from luoser.errors import UsageError
    from luoser.render import findings as render
    from luoser.topology import read_topology

    for name in (*select, *ignore):
        if name not in known_names():
            raise UsageError(f"no rule or family is named {name!r}; `luoser rules` lists them")
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
