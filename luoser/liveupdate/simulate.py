# SPDX-License-Identifier: MIT
"""Runs a scenario."""

from __future__ import annotations

from collections.abc import Mapping

from luoser.liveupdate.drivers import Driver
from luoser.liveupdate.machine import Machine
from luoser.liveupdate.scenario import Scenario
from luoser.liveupdate.sessions.machine import SessionMachine
from luoser.liveupdate.subsystems.machine import SubsystemMachine

__all__ = ["simulate"]


def simulate(
    scenario: Scenario,
    *,
    until: str = "finish",
    is_fixed: bool = False,
    drivers: Mapping[str, Driver] | None = None,
) -> Machine:
    """The machine after all steps up to `until`, or after the first one that failed.

    until:    prepare, cancel, freeze, kexec, restore or finish.
    is_fixed: without the known bugs of the 2025 series.
    drivers:  own drivers by name of the device, for the 2025 series. None: those of the scenario.

    Raises UsageError for a scenario that does not fit its series.
    """
    kind = SessionMachine if scenario.is_session_series else SubsystemMachine
    machine = kind(scenario, is_fixed=is_fixed, own=drivers)
    machine.run(until=until)
    return machine
