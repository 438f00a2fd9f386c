# SPDX-License-Identifier: MIT
"""Random trees, drivers, wishes and faults through random steps."""

from __future__ import annotations

import errno
from typing import Any

import hypothesis.strategies as st
from hypothesis import assume, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from luoser.errors import UsageError
from luoser.liveupdate import Failure, Panic, SubsystemMachine, load_scenario, simulate
from luoser.liveupdate.memory import Place
from luoser.liveupdate.scenario import STEPS
from luoser.liveupdate.subsystems.luo import LuoState
from luoser.render.simulation import lines
from tests.liveupdate.scenarios import DRIVERS, scenarios


@settings(max_examples=300)
@given(values=scenarios(), data=st.data(), until=st.sampled_from(STEPS), fixed=st.booleans())
def test_whatever_changes_on_the_way_the_model_ends_as_it_should(
    values: dict[str, Any], data: st.DataObject, until: str, fixed: bool
) -> None:
    names = st.sampled_from([device["bdf"] for device in values["devices"]])
    what = st.sampled_from(["add", "bind", "remove", "unbind", "unlink"])
    driver = st.sampled_from(DRIVERS)
    rows = data.draw(st.lists(st.tuples(st.sampled_from(STEPS), what, names, driver), max_size=4))
    values["changes"] = [
        {"before": step, kind: name, **({"driver": driver} if kind in ("add", "bind") else {})}
        for step, kind, name, driver in rows
    ]
    try:
        machine = simulate(load_scenario(values), until=until, is_fixed=fixed)
    except UsageError:
        return
    assert machine.error is None or isinstance(machine.error, Failure | Panic)
    assert list(lines(machine))
    if fixed:
        assert not isinstance(machine.error, Panic)


WHOLE = [
    *(f"pci-lu-v1-{patch:02}" for patch in range(8, 26)),
    *(f"pci-lu-v2-{patch:02}" for patch in range(7, 11)),
    "lab",
]
"""The patch states in which all of a live update works."""


class Life(RuleBasedStateMachine):
    """Steps in any order that the state allows."""

    is_fixed = False

    @initialize(values=scenarios(), series=st.sampled_from(WHOLE))
    def boot(self, values: dict[str, Any], series: str) -> None:
        self.machine = SubsystemMachine(load_scenario({**values, "series": series}), is_fixed=self.is_fixed)
        self.is_dead = False

    def step(self, name: str) -> bool:
        assume(not self.is_dead)
        before = self.machine.luo.state
        try:
            self.machine.step(name)
        except Panic:
            self.is_dead = True
            return False
        except Failure as failure:
            assert failure.code in (errno.EBUSY, errno.ENOENT, errno.EPERM)
            return False
        except UsageError:
            assert self.machine.luo.state is before
            assume(False)
        return True

    @rule()
    def rest(self) -> None:
        """Always possible, even for a kernel that panicked."""

    @precondition(lambda self: self.machine.luo.state is LuoState.NORMAL)
    @rule()
    def prepare(self) -> None:
        if self.step("prepare"):
            assert self.machine.pci.outgoing.folio is not None
            listed = [device.path for device in self.machine.pci.outgoing.preserved]
            entries = self.machine.pci.outgoing.folio.entries()
            assert [entry["path"] for entry in entries] == listed
            assert all(entry.get("flags", 1 + entry.get("requested", 0)) in (1, 2, 3) for entry in entries)
            assert any(device.flags & 1 for device in self.machine.pci.outgoing.preserved) or not listed
            self.check_order(listed)
        elif not self.is_dead:
            self.check_clean()

    def check_order(self, listed: list[int]) -> None:
        """Children come before the bridges above them."""
        places = {path: index for index, path in enumerate(listed)}
        for device in self.machine.tree.enumerate():
            for bridge in device.above:
                if device.path in places and bridge.path in places:
                    assert places[device.path] < places[bridge.path]
                if (self.is_fixed or self.machine.series.marks_all) and device.path in places:
                    assert bridge.path in places

    @precondition(lambda self: self.machine.luo.state in (LuoState.PREPARED, LuoState.FROZEN))
    @rule()
    def cancel(self) -> None:
        if self.step("cancel"):
            assert self.machine.luo.fdt == 0
            self.check_clean()

    @precondition(lambda self: self.machine.luo.state is LuoState.PREPARED)
    @rule()
    def freeze(self) -> None:
        if not self.step("freeze") and not self.is_dead and self.is_fixed:
            self.check_clean()

    @precondition(lambda self: self.machine.luo.state is LuoState.FROZEN)
    @rule()
    def kexec(self) -> None:
        self.step("kexec")
        self.step("restore")

    @precondition(lambda self: self.machine.luo.state is LuoState.UPDATED)
    @rule()
    def finish(self) -> None:
        self.step("finish")

    def check_clean(self) -> None:
        """Nothing stays preserved, no flag is left, but where the list of known bugs says so."""
        bugs = self.machine.trace.bugs
        known = {folio.what for folio in self.machine.leaks()} - (set() if self.is_fixed else {"LUO tree"})
        if self.is_fixed:
            assert (known, self.machine.flags_left(), bugs - {7}) == (set(), [], set())
        if not bugs & {5}:
            assert "pci folio" not in known
        if not bugs & {16}:
            assert not any(what.startswith("pci-lu-stub") for what in known)
        assert not any(what.startswith("lab") for what in known)
        left = [text for text in self.machine.flags_left() if not text.startswith("pci")]
        assert {text.split()[1] for text in left if not text.startswith("bus")} <= ({"1"} if 11 in bugs else set())
        assert not any(text.startswith("bus") for text in left) or 5 in bugs

    @invariant()
    def only_known_bugs(self) -> None:
        if hasattr(self, "machine"):
            assert self.machine.trace.bugs <= {1, 2, 4, 5, 7, 8, 9, 11, 16}
            if self.is_fixed:
                assert not self.is_dead
                assert self.machine.pages.mistakes == []
            if self.machine.luo.state in (LuoState.PREPARED, LuoState.FROZEN):
                assert self.machine.pci.outgoing.folio is not None
                assert self.machine.pages.folios[self.machine.pci.outgoing.folio.address].place is Place.PRESERVED


class FixedLife(Life):
    is_fixed = True


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=12, deadline=None)
TestFixedLife = FixedLife.TestCase
TestFixedLife.settings = settings(max_examples=150, stateful_step_count=12, deadline=None)
