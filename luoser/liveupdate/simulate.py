# SPDX-License-Identifier: MIT
"""A machine that goes through a live update, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from luoser.errors import UsageError
from luoser.liveupdate.drivers import Driver, driver_named
from luoser.liveupdate.luo import Luo, LuoState
from luoser.liveupdate.memory import Folio, Pages, Place
from luoser.liveupdate.pci import LU_BUSMASTER, LU_BUSMASTER_BRIDGE, PciSubsystem
from luoser.liveupdate.scenario import STEPS, Change, Scenario
from luoser.liveupdate.trace import Failure, Panic, Trace
from luoser.liveupdate.tree import PciDevice, Tree, from_topology
from luoser.text import bdf_text, parse_bdf

__all__ = ["Machine", "simulate"]


@dataclass(slots=True)
class Machine:
    """One machine over a kexec.

    error: what stopped it. kernels: how many have booted. drivers: own ones by device, over those of the scenario.
    """

    scenario: Scenario
    is_fixed: bool = False
    drivers: dict[str, Driver] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)
    error: Failure | Panic | None = None
    kernels: int = 0
    pages: Pages = field(init=False)
    luo: Luo = field(init=False)
    tree: Tree = field(init=False)
    pci: PciSubsystem = field(init=False)

    def __post_init__(self) -> None:
        self.pages = Pages(self.trace, self.scenario.places, self.scenario.faults)
        self.luo = Luo(self.trace)
        self._boot()
        for name in self.scenario.requested:
            self.tree.find(name).flags |= LU_BUSMASTER

    def _boot(self) -> None:
        """A kernel comes up: a tree without marks, drivers waiting, the PCI core registered."""
        self.kernels += 1
        self.tree = from_topology(self.scenario.topology)
        self.luo.subsystems = []
        for device in self.tree.enumerate():
            known = self.scenario.topology.device(device.domain, device.bdf)
            name = self.scenario.drivers.get(device.name, (known.driver if known is not None else "") or "")
            device.driver = self._driver(device.name, name)
        self.pci = PciSubsystem(
            trace=self.trace,
            pages=self.pages,
            luo=self.luo,
            tree=self.tree,
            series=self.scenario.series,
            is_fixed=self.is_fixed,
            faults=self.scenario.faults,
        )

    def _driver(self, device: str, name: str) -> Driver | None:
        found = self.drivers.get(device) or (driver_named(name, is_fixed=self.is_fixed) if name else None)
        if found is not None:
            found.pages = self.pages
        return found

    def run(self, *, until: str = "finish") -> None:
        """All steps up to one. `cancel` is not on the way to the others: it ends a prepared update."""
        steps = ("prepare", "cancel") if until == "cancel" else tuple(step for step in STEPS if step != "cancel")
        self.pci.register()
        for step in steps[: steps.index(until) + 1]:
            try:
                self.step(step)
            except (Failure, Panic) as error:
                self.error = error
                return

    def step(self, step: str) -> None:
        """Raises Failure or Panic, and UsageError for a step that this state does not allow."""
        if step == "restore":
            self._boot()
        for change in self.scenario.changes:
            if change.before == step:
                self._change(change)
        if step == "kexec":
            self.luo.kexec()
            self.pages.kexec()
        elif step == "restore":
            self.pci.register()
            self.pci.restore()
        else:
            getattr(self.luo, step)()

    def _change(self, change: Change) -> None:
        self.trace.call(f"{change.what} {change.device} {change.driver}".rstrip())
        if change.what == "add":
            device = self._hot_add(change)
            if change.before != "restore":  # what is there before enumeration is enumerated
                self.pci.add(device)
            return
        device = self.tree.find(change.device)
        if change.what == "bind":
            self.drivers.pop(change.device, None)
            device.driver = self._driver(change.device, change.driver)
        elif change.what == "unbind":
            device.driver = None
        else:
            self.pci.remove(device, unlink=change.what == "unlink")

    def _hot_add(self, change: Change) -> PciDevice:
        """A device appears on a bus that is there; one that had the address before is gone by then."""
        domain, bdf = parse_bdf(change.device)
        bus = next((bus for bus in self.tree.buses() if (bus.domain, bus.number) == (domain, bdf >> 8)), None)
        if bus is None:
            raise UsageError(f"{change.device} cannot be added: there is no bus {bdf_text(domain, bdf)[:-5]}")
        parent = bus.bridge or self.tree.hosts.get((bus.domain, bus.number))
        if parent is None:
            raise UsageError(f"{change.device} cannot be added: its bus has virtual functions only")
        device = PciDevice(domain, bdf, bus, parent, driver=self._driver(change.device, change.driver))
        bus.devices = [one for one in bus.devices if one.bdf != bdf]
        bus.devices.append(device)
        return device

    # -- what came of it --

    def leaks(self) -> list[Folio]:
        """Folios that nobody will free: those still there in state normal, when no update is under way."""
        return self.pages.left() if self.luo.state is LuoState.NORMAL else []

    def flags_left(self) -> list[str]:
        """Marks that stay in state normal. A device's own LU_BUSMASTER is its driver's wish until it was met."""
        if self.luo.state is not LuoState.NORMAL:
            return []
        own = LU_BUSMASTER_BRIDGE if self.kernels == 1 else LU_BUSMASTER_BRIDGE | LU_BUSMASTER
        found = [f"{device.name} {device.flags & own:x}" for device in self.tree.enumerate() if device.flags & own]
        return found + [f"{host.name} {host.flags:x}" for host in self.tree.hosts.values() if host.flags]

    def document(self) -> dict[str, Any]:
        """What is handed over, as a state document for the writer. Raises UsageError where nothing is."""
        tree = self.luo.tree if self.luo.tree is not None else self.luo.incoming
        if not tree:
            raise UsageError(f"nothing is handed over in state {self.luo.state}, so there is no image")
        luo = {
            "layout": "luo-v1-subsystems",
            "subsystems": [{"name": name, "data": f"{value:#x}"} for name, value in tree.items()],
        }
        address = tree.get(self.pci.name, 0)
        lists = [self._list(address)] if address in self.pages.folios else []
        direction = "incoming" if self.luo.state is LuoState.UPDATED else "outgoing"
        return {"handovers": [{"compatible": "kho-v1", "direction": direction, "luo": luo, "pci": lists}]}

    def _list(self, address: int) -> dict[str, Any]:
        devices = []
        for entry in self.pci.entries(address):
            name = {"driver_name": entry.driver_name} if self.scenario.series.has_names else {}
            bdf = bdf_text(entry.path >> 16, entry.path & 0xFFFF)
            devices.append({"bdf": bdf, "flags": entry.flags, **name, "driver_data": f"{entry.driver_data:#x}"})
        pages = [folio for folio in self.pages.left() if folio.address != address and self._is_carried(folio)]
        contents = [
            {"address": f"{folio.address:#x}", "size": f"{len(folio.data):#x}", "bytes": bytes(folio.data).hex()}
            for folio in pages
        ]
        return {
            "layout": self.scenario.series.layout,
            "address": f"{address:#x}",
            "via": [f"subsystem:{self.pci.name}"],
            "devices": devices,
            "contents": contents,
        }

    def _is_carried(self, folio: Folio) -> bool:
        return folio.place is not Place.ALLOCATED or self.luo.state is LuoState.UPDATED


def simulate(
    scenario: Scenario, *, until: str = "finish", is_fixed: bool = False, drivers: dict[str, Driver] | None = None
) -> Machine:
    """A machine after all steps up to `until`, or where it stopped.

    is_fixed: without the known bugs of the series. drivers: own Driver objects by device.
    """
    machine = Machine(scenario, is_fixed=is_fixed, drivers=drivers or {})
    machine.run(until=until)
    return machine
