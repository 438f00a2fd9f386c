# SPDX-License-Identifier: MIT
"""A machine that goes through a live update, step by step, whatever the series that it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from luoser.errors import UsageError
from luoser.liveupdate.drivers import Driver, driver_named
from luoser.liveupdate.memory import Folio, Pages
from luoser.liveupdate.scenario import STEPS, Change, Scenario, Traits
from luoser.liveupdate.trace import Failure, Faults, Panic, Trace
from luoser.liveupdate.tree import PciDevice, Tree, from_topology
from luoser.text import bdf_text, parse_bdf

__all__ = ["Machine"]


class Machine(ABC):
    """One machine over a kexec.

    is_fixed: without the known bugs of the series. own: Driver objects by device, over those of the scenario.
    error: what stopped it. kernels: how many have booted. tree: the PCI devices as the running kernel has them.
    """

    FAULTS: ClassVar[frozenset[str]]
    CHANGES: ClassVar[frozenset[str]]
    """What of a scenario's faults and changes the series knows."""

    tree: Tree

    def __init__(self, scenario: Scenario, *, is_fixed: bool = False, own: Mapping[str, Driver] | None = None) -> None:
        for kind, asked, known in (
            ("faults", {step for step, _ in scenario.faults}, self.FAULTS),
            ("changes", {change.what for change in scenario.changes}, self.CHANGES),
        ):
            if not asked <= known:
                names, word = ", ".join(sorted(asked - known)), ", ".join(sorted(known))
                raise UsageError(f"{kind}: {names}: {scenario.series} knows {word}")
        self.scenario, self.is_fixed, self.own = scenario, is_fixed, dict(own or {})
        self.trace = Trace()
        self.error: Failure | Panic | None = None
        self.kernels = 0
        self.faults = Faults(scenario.faults)
        self.pages = Pages(self.trace, scenario.places, self.faults)

    def run(self, *, until: str = "finish") -> None:
        """All steps up to one, or to the first that fails. `cancel` is on the way to no other: it ends a prepared
        update."""
        steps = ("prepare", "cancel") if until == "cancel" else tuple(step for step in STEPS if step != "cancel")
        for step in steps[: steps.index(until) + 1]:
            try:
                self.step(step)
            except (Failure, Panic) as error:
                self.error = error
                return

    def step(self, step: str) -> None:
        """Raises Failure or Panic, and UsageError for a step that this state does not allow."""
        if step == "restore":
            self.boot()
        for change in self.scenario.changes:
            if change.before == step:
                self.change(change)
        getattr(self, step)()

    def boot(self) -> None:
        """A kernel comes up: a tree without marks, drivers waiting."""
        self.kernels += 1
        self.tree = from_topology(self.scenario.topology)
        for change in self.scenario.changes if self.kernels > 1 else ():
            if change.what == "add" and STEPS.index(change.before) < STEPS.index("restore"):
                self._hot_add(change)  # what was plugged in stays so
        for device in self.tree.enumerate():
            if device.driver is not None:
                continue
            known = self.scenario.topology.device(device.domain, device.bdf)
            name = self.scenario.drivers.get(device.name, (known.driver if known is not None else "") or "")
            device.driver = self.driver(device.name, name)
            self.scenario.traits.get(device.name, Traits()).give(device)

    def driver(self, device: str, name: str) -> Driver | None:
        found = self.own.get(device) or (self.driver_named(name) if name else None)
        if found is not None:
            found.pages = self.pages
        return found

    def change(self, change: Change) -> None:
        """Something happens to a device. Raises Panic, and UsageError for a device that is not there."""
        self.trace.call(f"{change.what} {change.name} {change.driver}".rstrip())
        if change.what == "add":
            device = self._hot_add(change)
            if change.before != "restore":  # what is there before enumeration is enumerated
                self.added(device)
            return
        device = self.tree.find(change.name)
        if change.what == "bind":
            self.own.pop(change.name, None)
            device.driver = self.driver(change.name, change.driver)
        elif change.what == "unbind":
            device.driver = None
        else:
            self.removed(device, unlink=change.what == "unlink")

    def _hot_add(self, change: Change) -> PciDevice:
        """A device appears on a bus that is there; one that had the address before is gone by then."""
        domain, bdf = parse_bdf(change.name)
        bus = next((bus for bus in self.tree.buses() if (bus.domain, bus.number) == (domain, bdf >> 8)), None)
        if bus is None:
            raise UsageError(f"{change.name} cannot be added: there is no bus {bdf_text(domain, bdf)[:-5]}")
        parent = bus.bridge or self.tree.hosts.get((bus.domain, bus.number))
        if parent is None:
            raise UsageError(f"{change.name} cannot be added: its bus has virtual functions only")
        device = PciDevice(domain, bdf, bus, parent, driver=self.driver(change.name, change.driver))
        bus.devices = [one for one in bus.devices if one.bdf != bdf]
        bus.devices.append(device)
        return device

    def driver_named(self, name: str) -> Driver:
        """The ready driver of that name."""
        return driver_named(name, is_fixed=self.is_fixed)

    # -- what a series does --

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def cancel(self) -> None: ...

    @abstractmethod
    def freeze(self) -> None: ...

    @abstractmethod
    def kexec(self) -> None: ...

    @abstractmethod
    def restore(self) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    @abstractmethod
    def added(self, device: PciDevice) -> None:
        """A device was plugged in."""

    @abstractmethod
    def removed(self, device: PciDevice, *, unlink: bool) -> None:
        """A device goes. unlink: it is also taken off the series' list."""

    # -- what came of it --

    @abstractmethod
    def carried(self) -> list[Folio]:
        """What the map in memory names, as it lies there by now, be it freed since."""

    @abstractmethod
    def leaks(self) -> list[Folio]:
        """Folios that nobody will free any more; none as long as an update is under way."""

    def unused(self) -> list[str]:
        """What the scenario asked for that never came up, in words: misspelt, or the machine did not get there."""
        faults = [f"fault {step} of {name}" for step, name in self.faults if (step, name) not in self.faults.met]
        return faults + [f"place of {what}" for what in self.scenario.places if what not in self.pages.placed]

    def flags_left(self) -> list[str]:
        """Marks on devices that nobody will clear any more."""
        return []

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """What is handed over, as a state document for the writer. Raises UsageError where nothing is."""
