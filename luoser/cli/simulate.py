# SPDX-License-Identifier: MIT
"""`luoser simulate`: simulates a live update of PCI devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from luoser.cli.common import beside, limit_option

if TYPE_CHECKING:
    from luoser.liveupdate import Machine, Scenario

__all__ = ["command"]

_STEPS = ("prepare", "cancel", "freeze", "kexec", "restore", "finish")
_STOPPED = 1


@click.command("simulate")
@click.argument("scenario", type=click.Path())
@click.option("--topology", type=click.Path(), help="PCI devices of the machine, if they are not in SCENARIO.")
@click.option(
    "--until",
    type=click.Choice(_STEPS),
    default="finish",
    show_default=True,
    help="Last step. cancel ends a prepared live update.",
)
@click.option("--fixed", is_flag=True, help="Simulate without the known bugs of the 2025 series.")
@click.option("--log", "only_log", is_flag=True, help="Of the trace, show only the lines that the kernel logs.")
@click.option("-o", "--output", "target", type=click.Path(), help="ELF core to write, with what is handed over.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@limit_option
def command(
    scenario: str,
    topology: str | None,
    until: str,
    fixed: bool,
    only_log: bool,
    target: str | None,
    force: bool,
) -> None:
    """Simulate a live update of PCI devices: callbacks, writes to memory, and what is left over.

    SCENARIO is TOML or JSON: the series to simulate, devices or a topology, drivers, requests or preserved files,
    faults, and changes between the steps. Lines without indent are those that the kernel logs. Indented lines are
    callbacks, writes to memory, and known bugs (!). Exit code 0 if the last step was done, 1 if a step failed.

    \b
      luoser simulate scenario.toml
      luoser simulate scenario.toml --until freeze -o handover.elf
    """
    from luoser.cli.hints import read_spec
    from luoser.errors import UsageError
    from luoser.render.out import line
    from luoser.render.simulation import lines
    from luoser.text import safe_text

    if force and target is None:
        raise UsageError("--force replaces the file of -o: give one")
    shown = "standard input" if scenario == "-" else safe_text(scenario)
    values = read_spec(scenario, shown)
    try:
        machine = _run(_load(values, scenario, topology, target), until, fixed)
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from error
    for row in lines(machine, only_log=only_log):
        indent = row[: len(row) - len(row.lstrip())]
        line(row.lstrip(), first=indent, rest=f"{indent}    ")
    if target is not None:
        _write(machine, target, force)
    if machine.error is not None:
        raise SystemExit(_STOPPED)


def _run(scenario: Scenario, until: str, fixed: bool) -> Machine:
    from luoser.liveupdate import simulate

    return simulate(scenario, until=until, is_fixed=fixed)


def _load(values: Mapping[str, Any], scenario: str, topology: str | None, target: str | None) -> Scenario:
    """The scenario that a file has. Raises UsageError if the file to write is one that it is read from."""
    from luoser.liveupdate import load_scenario
    from luoser.output import need_other
    from luoser.topology import read_topology

    named = values.get("topology")
    if topology is None and isinstance(named, str):
        topology = beside(scenario, named)
    if target is not None:
        need_other(target, [scenario] if topology is None else [scenario, topology])
    return load_scenario(values, read_topology(topology) if topology is not None else None)


def _write(machine: Machine, target: str, force: bool) -> None:
    from luoser.errors import UsageError
    from luoser.liveupdate import image_of
    from luoser.writer.image import write_image

    if target == "-":
        raise UsageError("-: standard output has the trace; give the name of a file")
    write_image(target, image_of(machine), "elf", force=force)
