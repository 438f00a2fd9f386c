# SPDX-License-Identifier: MIT
"""The model writes what real kernels wrote for these machines."""

from __future__ import annotations

import pytest

from luoser.liveupdate import SubsystemMachine, simulate
from luoser.liveupdate.scenario import Scenario
from luoser.topology import read_topology
from tests import real

CASES = ["6.18-a", "7.3-a", "7.3-chain"]
DUMPS = [("6.18-a/frozen", 0x1358000), ("7.3-a/frozen", 0x1A97000), ("7.3-chain/frozen", 0x2142000)]


def model(dump: str, address: int, **more: int) -> SubsystemMachine:
    """The machine of a dump, given the addresses of the folio, of the drivers' pages, and more."""
    found = next(one for handover in real.read(dump).handovers for one in handover.pci if one.address == address)
    asked = {device.name: device.fields["driver_data"] for device in found.devices if device.fields["flags"] & 1}
    places = {f"lab {name}": data for name, data in asked.items()} | {"pci folio": address} | more
    topology = read_topology(real.REAL / dump.split("/")[0] / "topology.json")
    scenario = Scenario(
        topology=topology,
        series="lab",
        requested=tuple(asked),
        drivers=dict.fromkeys(asked, "lab"),
        places=places,
    )
    return simulate(scenario, until="freeze")  # type: ignore[return-value]


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_the_folio_has_the_bytes_of_the_kernels(dump: str, address: int) -> None:
    machine = model(dump, address)
    assert bytes(machine.pages.folios[address].data) == real.dump(dump).read(address, 4096)


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_the_drivers_pages_have_the_bytes_of_the_kernels(dump: str, address: int) -> None:
    machine = model(dump, address)
    known = {address, machine.luo.fdt}
    pages = [folio for folio in machine.pages.preserved() if folio.address not in known]
    assert len(pages) == 4
    for folio in pages:
        assert bytes(folio.data) == real.dump(dump).read(folio.address, 4096)


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_list_order_and_flags_are_what_the_kernel_logged(dump: str, address: int) -> None:
    logged = real.truth(dump.split("/")[0])[0]["pci_entries"]
    names = ("path", "flags", "driver_data")
    entries = model(dump, address).handed_list.entries()
    assert [[entry[name] for name in names] for entry in entries] == [
        [entry[name] for name in names] for entry in logged
    ]


def test_the_orchestrators_tree_has_the_bytes_of_the_kernels() -> None:
    dump, address = DUMPS[0]
    (handover,) = real.read(dump).handovers
    machine = model(dump, address, **{"LUO tree": handover.luo.address})
    page = bytes(machine.pages.folios[handover.luo.address].data)
    size = int.from_bytes(page[4:8], "big")  # what lies behind the tree is old
    assert machine.luo.fdt == handover.luo.address
    assert page[:size] == real.dump(dump).read(handover.luo.address, size)
