# SPDX-License-Identifier: MIT
"""User space at random: sessions, files, faults, the reboot call and the next kernel, in every posting."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import assume, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from luoser.liveupdate import Failure, Panic, SessionMachine, load_scenario
from luoser.liveupdate.scenario import FileWish
from luoser.liveupdate.sessions.series import SERIES
from luoser.liveupdate.tree import PciDevice
from tests.liveupdate.images import image
from tests.liveupdate.scenarios import scenarios

NAMES = ["a", "b", "c"]
FOLIOS = ["pci_ser", "pci block 0", "LUO session block 0", "file block of a 0", "memfd m1", "memfd m1 array 0"]


class Life(RuleBasedStateMachine):
    """One machine. faults come and go between calls."""

    @initialize(values=scenarios(), series=st.sampled_from(sorted(SERIES)), kernel=st.sampled_from(["", "7.1", "7.3"]))
    def boot(self, values: dict[str, Any], series: str, kernel: str) -> None:
        for device in values["devices"]:
            if device["driver"] != "pcieport":
                device["driver"] = "vfio-pci"
        del values["requested"]
        scenario = load_scenario({**values, "series": series, "kernel": kernel, "sessions": [], "faults": []})
        self.machine = SessionMachine(scenario)
        self.devices = [device.name for device in self.machine.tree.enumerate()]
        self.is_over = False

    def call(self, function: Any, *arguments: Any) -> bool:
        assume(not self.is_over)
        try:
            function(*arguments)
        except Failure:
            return False
        return True

    @precondition(lambda self: not self.machine.is_new)
    @rule(name=st.sampled_from(NAMES))
    def create(self, name: str) -> None:
        self.call(self.machine.luo.create, name)

    @precondition(lambda self: self.machine.luo.outgoing)
    @rule(data=st.data(), token=st.integers(0, 4), memfd=st.none() | st.sampled_from(["m1", "m2"]))
    def preserve(self, data: st.DataObject, token: int, memfd: str | None) -> None:
        session = data.draw(st.sampled_from(self.machine.luo.outgoing))
        wish = FileWish(token=token, memfd=memfd or "", size=5000) if memfd else None
        wish = wish or FileWish(token=token, device=data.draw(st.sampled_from(self.devices)))
        self.call(self.machine.luo.preserve, session, wish)

    @precondition(lambda self: self.machine.luo.outgoing)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.call(self.machine.luo.close, data.draw(st.sampled_from(self.machine.luo.outgoing)))

    @rule(what=st.sampled_from(FOLIOS), step=st.sampled_from(["allocate", "preserve"]), is_there=st.booleans())
    def fault(self, what: str, step: str, is_there: bool) -> None:
        self.machine.pages.faults = {(step, what): 12} if is_there else {}

    @precondition(lambda self: not self.machine.luo.is_serialized and not self.machine.is_new)
    @rule(data=st.data())
    def freeze_fails(self, data: st.DataObject) -> None:
        files = [file for session in self.machine.luo.outgoing for file in session.files]
        assume(files)
        file = data.draw(st.sampled_from(files))
        file.handler.faults = {("freeze", file.name): 5}  # type: ignore[attr-defined]
        assert not self.call(self.machine.luo.serialize)
        file.handler.faults = {}  # type: ignore[attr-defined]

    @precondition(lambda self: not self.machine.luo.is_serialized and not self.machine.is_new)
    @rule()
    def reboot(self) -> None:
        self.machine.pages.faults = {}
        assert self.call(self.machine.step, "freeze")
        state = image(self.machine, has_old_bytes=True)
        luo = state.handovers[0].luo
        assert luo is not None
        ours = [(session.name, [file.token for file in session.files]) for session in self.machine.luo.outgoing]
        assert [(session.name, [file.token for file in session.files]) for session in luo.sessions] == ours
        self.machine.step("kexec")
        had_empty_block = any("for the session that is refused" in event.text for event in self.machine.trace.events)
        try:
            self.machine.step("restore")
        except Panic:
            assert had_empty_block
            self.is_over = True

    @precondition(lambda self: self.machine.is_new)
    @rule()
    def finish(self) -> None:
        assert self.call(self.machine.step, "finish")
        self.is_over = True
        assert (self.machine.leaks(), self.machine.luo.incoming) == ([], [])

    # -- what always holds

    @invariant()
    def nothing_is_left_of_what_is_closed(self) -> None:
        if hasattr(self, "machine") and not self.is_over:
            assert self.machine.pages.mistakes == []
            assert self.machine.leaks() == []

    @invariant()
    def the_flb_counts_files_of_devices(self) -> None:
        if hasattr(self, "machine") and not self.machine.is_new:
            files = [file for session in self.machine.luo.outgoing for file in session.files]
            (flb,) = self.machine.luo.flbs
            assert flb.count == sum(file.handler.compatible.startswith("vfio") for file in files)
            assert (self.machine.core.table is None) is (flb.count == 0)

    @invariant()
    def entries_count_what_is_preserved_at_or_below_them(self) -> None:
        if not hasattr(self, "machine") or self.machine.is_new or self.machine.core.table is None:
            return
        table, series = self.machine.core.table, self.machine.core.series
        rows = {row[:2]: row[2] for row in table.rows() if row[2]}
        assert table.count == len(rows)
        wanted: dict[tuple[int, int], int] = {}
        for session in self.machine.luo.outgoing:
            for file in session.files:
                if file.handler.compatible.startswith("vfio"):
                    for one in self.path(self.machine.tree.find(file.name), series.path != "none"):
                        wanted[one.domain, one.bdf] = wanted.get((one.domain, one.bdf), 0) + 1
        assert rows == (wanted if series.path != "none" else dict.fromkeys(wanted, 1))
        if series.form.is_sorted:
            assert list(rows) == sorted(rows)

    @staticmethod
    def path(device: PciDevice, has_bridges: bool) -> tuple[PciDevice, ...]:
        return (device, *device.above) if has_bridges else (device,)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
