# SPDX-License-Identifier: MIT
"""`luoser check`: is this handover sound, and does it fit the machine?"""

from __future__ import annotations

import click

from luoser.cli.common import NoState, Reading, echo_json, format_option, read_options

__all__ = ["command"]

_EXIT = {"sound": 0, "findings": 1, "inconclusive": 4}
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
@click.option("--handlers", multiple=True, metavar="NAME", help="A file handler that the next kernel has as well.")
@click.option("--flbs", multiple=True, metavar="NAME", help="An FLB or sub-tree that the next kernel claims as well.")
@click.option("--select", multiple=True, metavar="RULE", help="Only this rule or family: PCI004, flags-illegal, MAP.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Not this rule or family.")
@click.option(
    "--severity",
    type=click.Choice(_SEVERITIES),
    default="error",
    show_default=True,
    help="Findings of this severity and above give exit code 1.",
)
@click.option("-v", "--verbose", is_flag=True, help="List what does not apply, with the reason.")
def command(
    reading: Reading,
    output: str,
    machine: str | None,
    next_release: str | None,
    drivers: tuple[str, ...],
    handlers: tuple[str, ...],
    flbs: tuple[str, ...],
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    severity: str,
    verbose: bool,
) -> None:
    """Cross-check every handover of SOURCE: addresses, counts, flags, and with --topology the device lists.

    Exit code 0: sound. 1: findings of --severity or above. 4: inconclusive, something that the handover names could
    not be seen or understood; what would decide it is said. With --format ktap 4 means that all rules were skipped.
    """
    from luoser.checks import Severity, check, rules
    from luoser.checks.rule import known_names
    from luoser.errors import UsageError
    from luoser.render import findings as render
    from luoser.topology import read_topology

    for name in (*select, *ignore):
        if name not in known_names():
            raise UsageError(f"no rule or family is named {name!r}; `luoser rules` lists them")
    topology = read_topology(machine) if machine is not None else None
    with reading.open() as memory:
        try:
            state = reading.read(memory, contents=True)
        except NoState as error:
            if memory.remarks or memory.is_partial:  # what is not there may be what was lost
                error.show()
                raise SystemExit(_EXIT["inconclusive"]) from None
            raise
        ram, kernel = memory.known_ram, memory.vmcoreinfo.get("OSRELEASE")
    report = check(
        state,
        topology=topology,
        next_release=next_release,
        ram=ram,
        drivers=drivers,
        handlers=handlers,
        flbs=flbs,
        select=select,
        ignore=ignore,
        severity=Severity("error" if output == "ktap" else severity),
    )
    chosen = [rule for rule in rules() if rule.is_meant(select, ignore)]
    if output == "json":
        echo_json(render.findings_document(report, state.source, kernel=kernel))
    elif output == "sarif":
        echo_json(render.sarif(report, chosen, reading.source[0]))
    elif output == "ktap":
        click.echo(render.ktap(report, chosen), nl=False)
    else:
        render.print_report(report, state.source, kernel=kernel, verbose=verbose)
    code = _EXIT[report.verdict.value]
    if code:
        raise SystemExit(code)
