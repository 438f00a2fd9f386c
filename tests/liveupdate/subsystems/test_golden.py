# SPDX-License-Identifier: MIT
"""The facts of the v2 cover letter's log come out of a scenario."""

from __future__ import annotations

from luoser.liveupdate.trace import Kind
from tests import golden
from tests.liveupdate.machines import FOLIO, VF, run


def test_the_folio_is_the_golden_one() -> None:
    data = bytes(run("freeze").pages.folios[FOLIO].data)
    assert data[:168] == (golden.GOLDEN / "pci-folio.bin").read_bytes()
    assert not any(data[168:])


def test_the_stub_page_is_the_golden_one() -> None:
    assert bytes(run("freeze").pages.folios[0x1AC6F4000].data) == (golden.GOLDEN / "pci-stub-page.bin").read_bytes()


STUB, PCI = f"pci-lu-stub {VF}:", "PCI liveupdate:"


def test_the_log_is_that_of_the_cover_letter() -> None:
    """But for the lines of freeze, which came too late for that log, and the probe of the stub."""
    assert run().trace.of(Kind.LOG) == [
        f"{STUB} Marking device liveupdate busmaster",
        f"{STUB} {PCI} collect liveupdate device: flags 1",
        f"pcieport 0000:04:01.0: {PCI} collect liveupdate device: flags 2",
        f"{STUB} pci_lu_stub_prepare(): data: 0x1ac6f4000",
        f"{PCI} prepare data[1f1d28000]",
        "luo_core: Switched from [normal] to [prepared] state",
        f"{PCI} freeze data[1f1d28000]",
        f"{STUB} pci_lu_stub_freeze(): data: 0x1ac6f4000",
        "luo_core: Switched from [prepared] to [frozen] state",
        f"pci 0000:04:01.0: {PCI} liveupdate restore flags 2 driver: pcieport data: [0]",
        f"pci 0000:05:00.1: {PCI} liveupdate restore flags 1 driver: pci-lu-stub data: [1ac6f4000]",
        f"{STUB} pci_lu_stub_probe(): data: 0x1ac6f4000",
        f"{PCI} finish data[1f1d28000]",
        f"{STUB} pci_lu_stub_finish(): data: 0x1ac6f4000",
        "luo_core: Switched from [updated] to [normal] state",
    ]


def test_nothing_is_left_but_what_the_known_bugs_leave() -> None:
    machine = run()
    assert machine.error is None
    assert [folio.what for folio in machine.leaks()] == ["LUO tree"]  # which LUO itself never frees
    assert machine.trace.bugs == {1, 8, 11}
    assert machine.flags_left() == ["0000:05:00.1 1"]


def test_without_the_known_bugs_all_bridges_are_kept_and_nothing_is_left() -> None:
    machine = run("freeze", fixed=True)
    assert [entry["path"] for entry in machine.handed_list.entries()] == [0x501, 0x408, 0x300, 0x8]
    machine = run(fixed=True)
    assert (machine.error, machine.leaks(), machine.flags_left(), machine.pages.mistakes) == (None, [], [], [])
    assert machine.trace.bugs == set()
