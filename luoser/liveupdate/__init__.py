# SPDX-License-Identifier: MIT
"""The life of a live update as a model: what is called, what is written, what is left when something fails."""

from luoser.liveupdate.drivers import Driver
from luoser.liveupdate.scenario import Scenario, load_scenario
from luoser.liveupdate.simulate import Machine, simulate
from luoser.liveupdate.today import CoreMachine
from luoser.liveupdate.trace import Failure, Panic

__all__ = ["CoreMachine", "Driver", "Failure", "Machine", "Panic", "Scenario", "load_scenario", "simulate"]
