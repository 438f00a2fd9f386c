# SPDX-License-Identifier: MIT
"""A scenario run: the machine that fits its series, after its steps."""

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
    """A machine after all steps up to `until`, or where it stopped.

    is_fixed: without the known bugs of the 2025 series. drivers: own Driver objects by device, for that series.
    Raises UsageError for what the series does not know.
    """
    kind = SessionMachine if scenario.is_session_series else SubsystemMachine
    machine = kind(scenario, is_fixed=is_fixed, own=drivers)
    machine.run(until=until)
    return machine
