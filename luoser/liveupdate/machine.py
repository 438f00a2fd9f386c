# SPDX-License-Identifier: MIT
"""The base of modelled machines: runs a live update step by step."""

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
    """A machine during a live update, over the kexec.

    error:   what stopped it. None: nothing.
    kernels: number of kernels that have booted.
    tree:    PCI devices of the running kernel.
    trace:   events so far.
    pages:   memory.
    FAULTS:  steps of faults that the series has.
    CHANGES: kinds of changes that the series has.
    """

    FAULTS: ClassVar[frozenset[str]]
    CHANGES: ClassVar[frozenset[str]]

    tree: Tree

    def __init__(self, scenario: Scenario, *, is_fixed: bool = False, own: Mapping[str, Driver] | None = None) -> None:
        """A machine with the first kernel booted.

        is_fixed: without the known bugs of the series.
        own:      drivers by name of the device, instead of those of the scenario. None: no such drivers.

        Raises UsageError for a scenario that does not fit the series.
        """
        for kind, asked, known in (
            ("faults", {step for step, _ in scenario.faults}, self.FAULTS),
            ("changes", {change.what for change in scenario.changes}, self.CHANGES),
        ):
            if not asked <= known:
                names, word = ", ".join(sorted(asked - known)), ", ".join(sorted(known))
                raise UsageError(f"{kind}: {scenario.series} does not have {names}: expected {word}")
        self.scenario, self.is_fixed, self.own = scenario, is_fixed, dict(own or {})
        self.trace = Trace()
        self.error: Failure | Panic | None = None
        self.kernels = 0
        self.faults = Faults(scenario.faults)
        self.pages = Pages(self.trace, scenario.places, self.faults)

    def run(self, *, until: str = "finish") -> None:
        """Run all steps up to `until`, or up to the first one that fails; `error` has the failure.

        `cancel` is run only if it is the last step.
        """
        steps = ("prepare", "cancel") if until == "cancel" else tuple(step for step in STEPS if step != "cancel")
        for step in steps[: steps.index(until) + 1]:
            try:
                self.step(step)
            except (Failure, Panic) as error:
                self.error = error
                return

    def step(self, step: str) -> None:
        """Run one step, after the changes before it.

        Raises Failure or Panic, and UsageError for a step that the current state does not allow.
        """
        if step == "restore":
            self.boot()
        for change in self.scenario.changes:
            if change.before == step:
                self.change(change)
        getattr(self, step)()

    def boot(self) -> None:
        """Boot a kernel: a new tree without flags, and its drivers."""
        self.kernels += 1
        self.tree = from_topology(self.scenario.topology)
        for change in self.scenario.changes if self.kernels > 1 else ():
            if change.what == "add" and STEPS.index(change.before) < STEPS.index("restore"):
                self._hot_add(change)  # a device that was added before the kexec is still there
        for device in self.tree.enumerate():
            if device.driver is not None:
                continue
            known = self.scenario.topology.device(device.domain, device.bdf)
            name = self.scenario.drivers.get(device.name, (known.driver if known is not None else "") or "")
            device.driver = self.driver(device.name, name)
            self.scenario.traits.get(device.name, Traits()).apply(device)

    def driver(self, device: str, name: str) -> Driver | None:
        """The driver for a device, by the name of both. None for an empty name."""
        found = self.own.get(device) or (self.driver_named(name) if name else None)
        if found is not None:
            found.pages = self.pages
        return found

    def change(self, change: Change) -> None:
        """Apply a change. Raises Panic, and UsageError for a device that does not exist."""
        self.trace.call(f"{change.what} {change.name} {change.driver}".rstrip())
        if change.what == "add":
            device = self._hot_add(change)
            if change.before != "restore":  # otherwise the enumeration finds it
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
        """Add a device on an existing bus. It replaces a device with the same address."""
        domain, bdf = parse_bdf(change.name)
        bus = next((bus for bus in self.tree.buses() if (bus.domain, bus.number) == (domain, bdf >> 8)), None)
        if bus is None:
            raise UsageError(f"cannot add {change.name}: there is no bus {bdf_text(domain, bdf)[:-5]}")
        parent = bus.bridge or self.tree.hosts.get((bus.domain, bus.number))
        if parent is None:
            raise UsageError(f"cannot add {change.name}: its bus is for virtual functions only")
        device = PciDevice(domain, bdf, bus, parent, driver=self.driver(change.name, change.driver))
        self.tree.add(device)
        return device

    def driver_named(self, name: str) -> Driver:
        """The built-in driver of this name, as the series has it."""
        return driver_named(name, is_fixed=self.is_fixed)

    # -- the steps --

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the live update. Raises Failure or Panic."""

    @abstractmethod
    def cancel(self) -> None:
        """Undo `prepare`. Raises Failure or Panic."""

    @abstractmethod
    def freeze(self) -> None:
        """The last step of the first kernel before the jump. Raises Failure or Panic."""

    @abstractmethod
    def kexec(self) -> None:
        """Jump to the next kernel. Raises Failure."""

    @abstractmethod
    def restore(self) -> None:
        """Take over in the next kernel, after it has booted. Raises Failure or Panic."""

    @abstractmethod
    def finish(self) -> None:
        """End the live update in the next kernel. Raises Failure or Panic."""

    @abstractmethod
    def added(self, device: PciDevice) -> None:
        """What the series does after a device was hot-added. Raises Panic."""

    @abstractmethod
    def removed(self, device: PciDevice, *, unlink: bool) -> None:
        """Remove a device from the tree, and do what the series does then. unlink: also remove it from its list."""

    # -- the result --

    @abstractmethod
    def carried(self) -> list[Folio]:
        """The folios in the preserved map, with their current bytes, even if they were freed since."""

    @abstractmethod
    def leaks(self) -> list[Folio]:
        """Folios that will never be freed. Empty during a live update."""

    def unused(self) -> list[str]:
        """Faults and places of the scenario that had no effect, in words: misspelt, or the step was not reached."""
        faults = [f"fault {step} of {name}" for step, name in self.faults if (step, name) not in self.faults.met]
        return faults + [f"place of {what}" for what in self.scenario.places if what not in self.pages.placed]

    def flags_left(self) -> list[str]:
        """Flags of devices that will never be cleared, in words."""
        return []

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """What is handed over, as a state document for `luoser.writer`. Raises UsageError if nothing is."""
