# SPDX-License-Identifier: MIT
"""User space at random: sessions, files, faults, the reboot call and the next kernel, in every posting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from luoser.checks import Severity, check
from luoser.liveupdate import Failure, Panic, SessionMachine, load_scenario
from luoser.liveupdate.scenario import FileRequest
from luoser.liveupdate.sessions.luo import Session
from luoser.liveupdate.sessions.series import SERIES
from luoser.liveupdate.tree import PciDevice
from luoser.state import State
from tests.liveupdate.images import image
from tests.liveupdate.machines import vmm
from tests.liveupdate.scenarios import scenarios

NAMES = ["a", "b", "c"]
FUNCTIONS = ["0000:00:02.0", "0000:03:00.0", "0000:04:00.0"]
FOLIOS = ["pci_ser", "pci block 0", "LUO session block 0", "file block of a 0", "memfd m1", "memfd m1 array 0"]


class Life(RuleBasedStateMachine):
    """One machine. faults come and go between calls; the reboot call comes after so many others."""

    patience = 0

    @initialize(
        values=scenarios(),
        series=st.sampled_from(sorted(SERIES)),
        kernel=st.sampled_from(["", "7.1", "7.3"]),
        patience=st.integers(0, 15),
    )
    def boot(self, values: dict[str, Any], series: str, kernel: str, patience: int) -> None:
        self.patience = patience
        self.boot_with(values, series, kernel)

    def boot_with(self, values: dict[str, Any], series: str, kernel: str) -> None:
        for device in values["devices"]:
            if device["driver"] != "pcieport":
                device["driver"] = "vfio-pci"
        del values["requested"]
        scenario = load_scenario({**values, "series": series, "kernel": kernel, "sessions": [], "faults": []})
        self.machine = SessionMachine(scenario)
        self.devices = [device.name for device in self.machine.tree.enumerate()]
        self.is_over = False
        for name in NAMES[:2]:
            self.machine.luo.create(name)

    def call(self, function: Any, *arguments: Any) -> bool:
        self.patience -= 1
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
        request = FileRequest(token=token, memfd=memfd or "", size=5000) if memfd else None
        request = request or FileRequest(token=token, device=data.draw(st.sampled_from(self.devices)))
        self.open(session, request)

    def open(self, session: Session, request: FileRequest) -> None:
        """vfio-pci of v1 and v2 takes twins, of which the list has one entry: user space knows better."""
        luo = self.machine.luo
        if request.memfd or self.machine.core.series.vfio.honours_core_error or request.name not in luo.known_files():
            self.call(luo.preserve, session, request)

    @precondition(lambda self: self.machine.luo.outgoing)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.call(self.machine.luo.close, data.draw(st.sampled_from(self.machine.luo.outgoing)))

    @rule(what=st.sampled_from(FOLIOS), step=st.sampled_from(["allocate", "preserve"]), is_there=st.booleans())
    def fault(self, what: str, step: str, is_there: bool) -> None:
        self.machine.pages.faults = {(step, what): 12} if is_there else {}

    @precondition(lambda self: any(session.files for session in self.machine.luo.outgoing))
    @rule(data=st.data())
    def freeze_fails(self, data: st.DataObject) -> None:
        files = [file for session in self.machine.luo.outgoing for file in session.files]
        file = data.draw(st.sampled_from(files))
        file.handler.faults = {("freeze", file.name): 5}  # type: ignore[attr-defined]
        assert not self.call(self.machine.luo.serialize)
        file.handler.faults = {}  # type: ignore[attr-defined]

    @precondition(lambda self: self.patience <= 0 and not self.machine.is_new)
    @rule()
    def reboot(self) -> None:
        self.machine.pages.faults = {}
        assert self.call(self.machine.step, "freeze")
        state = image(self.machine, has_old_bytes=True)
        luo = state.handovers[0].luo
        assert luo is not None
        ours = [(session.name, [file.token for file in session.files]) for session in self.machine.luo.outgoing]
        assert [(session.name, [file.token for file in session.files]) for session in luo.sessions] == ours
        self.check_list(state)
        self.machine.step("kexec")
        try:
            self.machine.step("restore")
        except Panic:
            assert self.has_empty_block
            self.is_over = True

    @property
    def has_empty_block(self) -> bool:
        return any("for the session that is refused" in event.text for event in self.machine.trace.events)

    def check_list(self, state: State) -> None:
        """The list that is read names what files preserve, and nothing is wrong with it nor with what is around."""
        assert state.problems == ()
        lists = state.handovers[0].pci
        read = [(device.name, device.number("refcount")) for found in lists for device in found.devices]
        has_counts = "refcount" in self.machine.core.series.form.record.record_fields
        wanted = {device.name: count if has_counts else None for device, count in self.preserved().items()}
        assert sorted(read) == sorted(wanted.items())
        errors = {one.rule for one in check(state).findings if one.severity is Severity.ERROR}
        assert errors <= ({"LUO009"} if self.has_empty_block else set())

    @precondition(lambda self: self.machine.is_new and not self.is_over)
    @rule()
    def finish(self) -> None:
        assert self.call(self.machine.step, "finish")
        self.is_over = True
        left = [folio.what for folio in self.machine.leaks()]
        assert left == [] or (self.machine.core.series.leaks_bridges and left == ["pci_ser"])
        assert self.machine.luo.incoming == []

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
        wanted = {(device.domain, device.bdf): count for device, count in self.preserved().items()}
        assert rows == (wanted if series.path != "none" else dict.fromkeys(wanted, 1))
        if series.form.is_sorted:
            assert list(rows) == sorted(rows)

    def preserved(self) -> Counter[PciDevice]:
        """How many files are of each device, or of what is below it where the series has bridges."""
        has_bridges = self.machine.core.series.path != "none"
        files = [file for session in self.machine.luo.outgoing for file in session.files]
        devices = [self.machine.tree.find(file.name) for file in files if file.handler.compatible.startswith("vfio")]
        return Counter(one for device in devices for one in (device, *(device.above if has_bridges else ())))


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("series", SERIES)
@settings(max_examples=12, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from([*FUNCTIONS, ""])), min_size=3, max_size=10, unique=True
    )
)
def test_the_list_that_is_read_is_what_files_preserve(series: str, calls: list[tuple[str, str]]) -> None:
    """calls: a session and a device that it preserves, or "" to close and create it again."""
    life = Life()
    values = vmm(requested=[])
    values["devices"] = [device for device in values["devices"] if "physfn" not in device]
    life.boot_with(values, series, "")
    life.machine.luo.create(NAMES[2])
    for token, (name, device) in enumerate(calls):
        session = life.machine.luo.session(name)
        if device:
            life.open(session, FileRequest(token=token, device=device))
        else:
            life.machine.luo.close(session)
            life.machine.luo.create(name)
    life.reboot()
