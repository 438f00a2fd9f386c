# SPDX-License-Identifier: MIT
"""Device lists: one thing changed in a real one or in a made one."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.abi.pci import layout
from luoser.changes import Kind, Verdict, compare
from luoser.changes.pci import device_changes
from luoser.state import Column, DeviceList, PciList, State
from luoser.state.columns import columns
from tests import real
from tests.changes.helpers import FROZEN, later, lists_of, luo_of, problem, sound, told
from tests.checks.device_lists import a_list
from tests.checks.mutants import changed
from tests.golden import Dev

ENDPOINT, OTHER = Dev(domain=0, bdf=0x4100), Dev(domain=0, bdf=0x0500)


def with_lists(*lists: PciList) -> State:
    """The real handover with other device lists."""
    return changed(sound(), pci=lists)


# -- devices ----------------------------------------------------------------------------------------------

_PLACES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=12)


def made(rows: list[tuple[int, int]], *, holes: bool) -> DeviceList:
    """rows: (path, flags). Path 0 and flags 0 is a hole, if there are any."""
    return DeviceList(struct.Struct("<II"), (Column("path"), Column("flags")),
                      b"".join(struct.pack("<II", *row) for row in rows), holes=holes)  # fmt: skip


def plainly(before: DeviceList, after: DeviceList) -> list[tuple[str, str, str | None, str | None]]:
    """The changes of all devices by name, the first of a name counts."""
    was, now = ({device.name: device for device in reversed(side)} for side in (before, after))
    olds, news = (sorted(side.values(), key=lambda device: device.index) for side in (was, now))
    found = [("removed", one.name, f"flags {one.number('flags'):#x}", None) for one in olds if one.name not in now]
    found += [("added", one.name, None, f"flags {one.number('flags'):#x}") for one in news if one.name not in was]
    for one in olds:
        flags = [f"{side[one.name].number('flags'):#x}" for side in (was, now) if one.name in side]
        if len(set(flags)) > 1:
            found.append(("changed", f"{one.name}/flags", *flags))
    common = [[one.name for one in side if one.name in was and one.name in now] for side in (olds, news)]
    for name, other in zip(*common, strict=True):
        if name != other:
            return [*found, ("changed", "order", str(was[name].index), str(now[name].index))]
    return found


@given(before=_PLACES, after=_PLACES, holes=st.booleans())
def test_changes_are_those_of_all_devices_by_name(
    before: list[tuple[int, int]], after: list[tuple[int, int]], holes: bool
) -> None:
    rows = [list(dict(side).items()) for side in (before, after)]
    old, new = (made(side, holes=holes) for side in rows)
    found = [(change.kind.value, change.where, change.before, change.after) for change in device_changes(old, new)]
    assert found == plainly(old, new)


def test_of_a_device_that_is_in_a_list_twice_the_first_counts() -> None:
    twice, once = made([(1, 0), (2, 0), (1, 1)], holes=False), made([(2, 0), (1, 1)], holes=False)
    assert [change.where for change in device_changes(twice, once)] == ["0000:00:00.1/flags", "order"]


# -- counts of the head -----------------------------------------------------------------------------------


def test_a_count_of_the_head_alone() -> None:
    memory = real.overlay(FROZEN)
    memory.write(0x1AD9000, (11).to_bytes(8, "little"))  # max_nr_devices of the list of family B
    found = compare(luoser.read(real.dump(FROZEN)), luoser.read(memory)).changes
    assert [change.where for change in found] == ["pci/flb:pci-v2/header/max_nr_devices"]


def test_counts_of_the_head_follow_from_devices_that_came_or_went() -> None:
    one = with_lists(a_list("pci-v2-u32", [ENDPOINT], max_nr_devices=12, nr_devices=1))
    two = with_lists(a_list("pci-v2-u32", [ENDPOINT, OTHER], max_nr_devices=12, nr_devices=2))
    assert told(one, two) == {"pci/0000:05:00.0": Kind.ADDED}
    assert told(two, one) == {"pci/0000:05:00.0": Kind.REMOVED}


def test_a_member_of_the_head_that_is_no_count_is_compared_with_other_devices() -> None:
    one = with_lists(a_list("pci-v2-u32", [ENDPOINT], max_nr_devices=12, nr_devices=1))
    two = with_lists(a_list("pci-v2-u32", [ENDPOINT, OTHER], max_nr_devices=13, nr_devices=2))
    assert told(one, two) == {"pci/0000:05:00.0": Kind.ADDED, "pci/flb:pci/header/max_nr_devices": Kind.CHANGED}


def test_counts_of_the_head_do_not_follow_from_devices_that_changed() -> None:
    one = with_lists(a_list("pci-v2-u32", [ENDPOINT], nr_devices=1))
    other = with_lists(a_list("pci-v2-u32", [replace(ENDPOINT, refcount=2)], nr_devices=9))
    kinds = {"pci/0000:41:00.0/refcount": Kind.CHANGED, "pci/flb:pci/header/nr_devices": Kind.CHANGED}
    assert told(one, other) == kinds


def test_heads_of_two_layouts_are_not_compared() -> None:
    one = with_lists(a_list("pci-v2-u32", [ENDPOINT], nr_devices=1))
    other = with_lists(a_list("pci-v2-u64", [ENDPOINT], nr_devices=2))
    assert told(one, other) == {"pci/flb:pci/layout": Kind.CHANGED}


# -- lists that are gone ----------------------------------------------------------------------------------


def test_a_list_that_is_gone_without_a_sign_is_removed() -> None:
    refcounts, flags = lists_of()
    assert told(sound(), later(pci=(refcounts,))) == {"pci/flb:pci": Kind.REMOVED}
    assert told(sound(), later(pci=(flags,))) == {"pci/flb:pci-v2": Kind.REMOVED}


@pytest.mark.parametrize("about", ["luo.flbs[3]", "luo.flbs[4]", "subtrees[0]", "luo.flbs", "pci[1]"])
@pytest.mark.parametrize("code", ["missing", "pci-unknown-layout", "bad-memfd"])
def test_only_a_problem_in_the_place_of_a_list_explains_that_it_is_gone(about: str, code: str) -> None:
    """The list of family A is named by luo.flbs[4] and by subtrees[0]."""
    after = later(problem(code, about), pci=lists_of()[:1])
    explained = about in ("luo.flbs[4]", "subtrees[0]") and code != "bad-memfd"
    kind = Kind.PROGRESS if explained else Kind.REMOVED
    assert told(sound(), after) == ({} if explained and code == "missing" else {"pci/flb:pci": kind})


def test_a_list_whose_flb_cannot_be_read_was_consumed_if_the_page_of_flbs_is_gone() -> None:
    for left, code, kind in (
        (4, "missing", Kind.REMOVED),  # others are there, so the page was read
        (0, "bad-count", Kind.PROGRESS),
        (0, "missing", None),  # not compared
        (0, "bad-flb", Kind.REMOVED),  # of another FLB
    ):
        luo = replace(luo_of(), flbs=luo_of().flbs[:left])
        found = told(sound(), later(problem(code, "luo.flbs"), luo=luo, pci=lists_of()[:1]))
        assert found.get("pci/flb:pci") is kind


def test_a_list_went_with_luo_if_its_page_is_gone() -> None:
    for code, kind in (("luo-reused", Kind.PROGRESS), ("bad-flb", Kind.REMOVED)):
        found = told(sound(), later(problem(code, "luo"), luo=None, pci=lists_of()[:1]))
        assert found["pci/flb:pci"] is kind


def test_a_list_that_is_gone_before_the_kexec_is_removed() -> None:
    state = sound()
    assert told(state, changed(state, pci=lists_of()[:1])) == {"pci/flb:pci": Kind.REMOVED}


def test_a_list_that_is_not_in_the_source_is_not_compared() -> None:
    state = sound()
    after = replace(changed(state, pci=lists_of()[:1]), problems=(problem("missing", "luo.flbs[4]"),))
    found = compare(state, after)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "pci/flb:pci" in [gap.where for gap in found.not_compared]


# -- lists that came --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ways", "was_serialised", "is_serialised", "kind"),
    [
        (("flb:pci",), False, True, Kind.PROGRESS),
        (("flb:pci", "flb:pci-v2"), False, True, Kind.PROGRESS),
        (("flb:pci", "subtree:x"), False, True, Kind.ADDED),
        (("subtree:x",), False, True, Kind.ADDED),
        (("flb:pci",), True, True, Kind.ADDED),
        (("flb:pci",), False, False, Kind.ADDED),
        (("flb:pci",), True, False, Kind.ADDED),
    ],
)
def test_a_list_of_an_flb_comes_with_serialising(
    ways: tuple[str, ...], was_serialised: bool, is_serialised: bool, kind: Kind
) -> None:
    made = replace(a_list("pci-v2-u32", [ENDPOINT]), via=ways)
    before = changed(sound(), pci=(), luo=replace(luo_of(), serialized=was_serialised))
    after = changed(sound(), pci=(made,), luo=replace(luo_of(), serialized=is_serialised))
    assert told(before, after)[f"pci/{ways[0]}"] is kind


def test_a_list_without_luo_came() -> None:
    after = changed(sound(), luo=None, pci=(a_list("pci-v2-u32", [ENDPOINT]),))
    assert told(changed(sound(), luo=None, pci=()), after) == {"pci/flb:pci": Kind.ADDED}


# -- devices and buses ------------------------------------------------------------------------------------


def test_layouts_and_addresses_of_a_list() -> None:
    one = a_list("pci-v2-u32", [ENDPOINT])
    for address in (one.address - 0x1000, one.address + 0x1000):
        after = with_lists(replace(one, address=address))
        assert told(with_lists(one), after) == {"pci/flb:pci/address": Kind.CHANGED}
    moved = replace(one, via=("flb:x",))
    assert told(with_lists(one), with_lists(moved)) == {}  # the same address
    other = replace(moved, address=0x5000)
    assert told(with_lists(one), with_lists(other)) == {"pci/flb:pci": Kind.REMOVED, "pci/flb:x": Kind.ADDED}


def test_buses_of_a_list() -> None:
    both = a_list("pci-lu-v1-22", [ENDPOINT, OTHER])
    one = replace(both, buses=both.buses[:1])
    assert told(with_lists(both), with_lists(one)) == {"pci/bus/0000:05": Kind.REMOVED}
    assert told(with_lists(one), with_lists(both)) == {"pci/bus/0000:05": Kind.ADDED}
    changed_bus = replace(one, buses=({**one.buses[0], "bridge_type": 9},))
    assert told(with_lists(one), with_lists(changed_bus)) == {"pci/bus/0000:41/bridge_type": Kind.CHANGED}


@pytest.mark.parametrize(("domain", "bus", "where"), [(0, 0, "0000:00"), (0, 0x41, "0000:41"), (2, 0, "0002:00"),
                                                      (0x1234, 0xFF, "1234:ff")])  # fmt: skip
def test_a_bus_is_named_by_its_domain_and_number(domain: int, bus: int, where: str) -> None:
    both = a_list("pci-lu-v1-22", [OTHER, Dev(domain=domain, bdf=bus << 8)])
    one = replace(both, buses=both.buses[:1])
    assert told(with_lists(both), with_lists(one)) == {f"pci/bus/{where}": Kind.REMOVED}


def places(*names: int, **members: int) -> DeviceList:
    return a_list("pci-lu-v2-03", [Dev(domain=0, bdf=name, **members) for name in names]).devices


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ((1, 2, 3), (1, 2, 3), {}),
        ((1, 2, 3), (1, 3), {"0000:00:00.2": Kind.REMOVED}),
        ((1, 3), (1, 2, 3), {"0000:00:00.2": Kind.ADDED}),
        ((1, 2, 3), (2, 1, 3), {"order": Kind.CHANGED}),
        ((1, 2, 3), (3, 1), {"0000:00:00.2": Kind.REMOVED, "order": Kind.CHANGED}),
        ((1, 2), (3, 4, 5), {"0000:00:00.1": Kind.REMOVED, "0000:00:00.2": Kind.REMOVED, "0000:00:00.3": Kind.ADDED,
                             "0000:00:00.4": Kind.ADDED, "0000:00:00.5": Kind.ADDED}),
        ((), (1,), {"0000:00:00.1": Kind.ADDED}),
    ],
)  # fmt: skip
def test_devices_by_address(before: tuple[int, ...], after: tuple[int, ...], kinds: dict[str, Kind]) -> None:
    found = device_changes(places(*before), places(*after))
    assert {change.where: change.kind for change in found} == kinds


def test_what_is_told_of_devices() -> None:
    (change,) = device_changes(places(1, 2, 3), places(3, 1, 2))
    assert (change.where, change.before, change.after) == ("order", "0", "1")
    assert change.note == "0000:00:00.1 is the first at another position"
    (change,) = device_changes(places(1, 2, data=0x1000), places(1, data=0x1000))
    assert (change.before, change.after) == ("flags 0x1, driver_data 0x1000", None)
    one, other = (change for change in device_changes(places(1), places(1, 2, flags=3)))
    assert (one.before, one.after) == (None, "flags 0x3, driver_data 0x0")
    assert (other.where, other.before, other.after) == ("0000:00:00.1/flags", "0x1", "0x3")


def test_members_of_devices_that_both_layouts_have() -> None:
    one, other = places(1, 2, data=0x1000), places(1, 2, data=0x2000)
    assert {change.where for change in device_changes(one, other)} == {
        "0000:00:00.1/driver_data", "0000:00:00.2/driver_data",
    }  # fmt: skip
    wide = a_list("pci-version-2", [Dev(domain=0, bdf=name) for name in (1, 2)]).devices
    assert list(device_changes(one, wide)) == list(device_changes(wide, one)) == []


def with_resource(form: str, place: int, start: int) -> DeviceList:
    entry = layout(form)
    assert entry is not None
    data = bytearray(a_list(form, [ENDPOINT]).devices.data)
    at = len(data) - 96 * {"pci-lu-v1-22": 11, "pci-lu-v1-22-iov": 17}[form] + 96 * place
    data[at : at + 8] = start.to_bytes(8, "little")
    return DeviceList(entry.record.record, columns(entry.record), bytes(data))


def test_resources_by_their_place() -> None:
    narrow, wide = "pci-lu-v1-22", "pci-lu-v1-22-iov"
    (found,) = device_changes(with_resource(narrow, 2, 0x1000), with_resource(narrow, 2, 0x2000))
    assert (found.where, found.before, found.after) == ("0000:41:00.0/resource[2]/start", "0x1000", "0x2000")
    assert list(device_changes(with_resource(narrow, 2, 1), with_resource(wide, 2, 1))) == [], "the others are empty"
    (found,) = device_changes(with_resource(narrow, 2, 0), with_resource(wide, 16, 0x1000))
    assert (found.kind, found.where) == (Kind.ADDED, "0000:41:00.0/resource[16]")
