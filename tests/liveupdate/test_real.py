# SPDX-License-Identifier: MIT
"""The model writes what real kernels wrote for these machines."""

from __future__ import annotations

import pytest

from luoser.liveupdate import Machine, simulate
from luoser.liveupdate.pci import SERIES
from luoser.liveupdate.scenario import Scenario
from luoser.topology import read_topology
from tests import real

CASES = ["6.18-a", "7.3-a", "7.3-chain"]
DUMPS = [("6.18-a/frozen", 0x1358000), ("7.3-a/frozen", 0x1A97000), ("7.3-chain/frozen", 0x2142000)]


def model(dump: str, address: int) -> Machine:
    """The machine of a dump, given the addresses of the folio and of the drivers' pages."""
    found = next(one for handover in real.read(dump).handovers for one in handover.pci if one.address == address)
    asked = {device.name: device.fields["driver_data"] for device in found.devices if device.fields["flags"] & 1}
    places = {f"lab {name}": data for name, data in asked.items()} | {"pci folio": address}
    topology = read_topology(real.REAL / dump.split("/")[0] / "topology.json")
    scenario = Scenario(
        topology=topology,
        series=SERIES["lab"],
        requested=tuple(asked),
        drivers=dict.fromkeys(asked, "lab"),
        places=places,
    )
    return simulate(scenario, until="freeze")


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_the_folio_has_the_bytes_of_the_kernels(dump: str, address: int) -> None:
    machine = model(dump, address)
    assert bytes(machine.pages.folios[address].data) == real.dump(dump).read(address, 4096)


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_the_drivers_pages_have_the_bytes_of_the_kernels(dump: str, address: int) -> None:
    machine = model(dump, address)
    pages = [folio for folio in machine.pages.preserved() if folio.address != address]
    assert len(pages) == 4
    for folio in pages:
        assert bytes(folio.data) == real.dump(dump).read(folio.address, 4096)


@pytest.mark.parametrize(("dump", "address"), DUMPS)
def test_list_order_and_flags_are_what_the_kernel_logged(dump: str, address: int) -> None:
    logged = real.truth(dump.split("/")[0])[0]["pci_entries"]
    found = [(entry.path, entry.flags, entry.driver_data) for entry in model(dump, address).pci.entries(address)]
    assert found == [(entry["path"], entry["flags"], entry["driver_data"]) for entry in logged]
