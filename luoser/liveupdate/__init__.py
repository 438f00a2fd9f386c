# SPDX-License-Identifier: MIT
"""A model of a live update: the callbacks, the writes to memory, and what is left over after a failure.

docs/liveupdate.md describes it.
"""

from luoser.liveupdate.drivers import Driver
from luoser.liveupdate.image import image_of
from luoser.liveupdate.machine import Machine
from luoser.liveupdate.scenario import Scenario, load_scenario
from luoser.liveupdate.sessions.machine import SessionMachine
from luoser.liveupdate.simulate import simulate
from luoser.liveupdate.subsystems.machine import SubsystemMachine
from luoser.liveupdate.trace import Failure, Panic

__all__ = [
    "Driver",
    "Failure",
    "Machine",
    "Panic",
    "Scenario",
    "SessionMachine",
    "SubsystemMachine",
    "image_of",
    "load_scenario",
    "simulate",
]
