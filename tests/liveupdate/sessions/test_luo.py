# SPDX-License-Identifier: MIT
"""Sessions, files and FLBs: what is allocated and written when, and what is left when a step fails."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from luoser.checks import Severity, check
from luoser.errors import UsageError
from luoser.liveupdate import Failure, Panic, SessionMachine, load_scenario, simulate
from luoser.liveupdate.scenario import FileRequest
from luoser.liveupdate.sessions.blocks import BlockSet
from luoser.liveupdate.trace import Kind
from tests.liveupdate.images import image
from tests.liveupdate.machines import sessions
from tests.liveupdate.scenarios import scenarios

ONE, TWO, PLAIN = "0000:03:00.0", "0000:04:00.0", "0000:00:02.0"
KERNELS = ["7.0", "7.1", "7.2", "7.3"]
each_kernel = pytest.mark.parametrize("kernel", KERNELS)


def memfds(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"memfd": f"m{n}", "size": 4096, "token": n, **more} for n in range(count)]


def vm(files: list[dict[str, Any]], name: str = "vm") -> list[dict[str, Any]]:
    return [{"name": name, "files": files}]


def texts(machine: SessionMachine, kind: Kind) -> list[str]:
    return machine.trace.of(kind)


def owned(machine: SessionMachine) -> dict[str, int]:
    """Order of each folio that is not free, by whose it is."""
    return {folio.what: folio.order for folio in machine.pages.left()}


# -- pages


def test_what_a_kernel_hands_over_in_any_case() -> None:
    assert owned(sessions("prepare", sessions=[])) == {"LUO root": 0, "LUO FLBs": 0}
    assert owned(sessions("prepare", sessions=[], kernel="7.1")) == {"LUO root": 0, "LUO sessions": 4, "LUO FLBs": 0}


def test_pages_of_sessions_and_files_from_7_2_on() -> None:
    machine = sessions("prepare", sessions=[{"name": f"s{n}"} for n in range(52)])
    assert [what for what in owned(machine) if "session block" in what] == [
        "LUO session block 0",
        "LUO session block 1",
    ]
    machine.luo.close(machine.luo.session("s3"))
    assert "LUO session block 1" not in owned(machine)
    machine = sessions("prepare", sessions=vm(memfds(64)))
    assert [what for what in owned(machine) if "file block" in what] == ["file block of vm 0", "file block of vm 1"]


def test_files_of_a_session_up_to_7_1_are_128_at_most() -> None:
    machine = sessions("prepare", kernel="7.1", sessions=vm(memfds(129)))
    assert str(machine.error) == "-ENOSPC"
    machine = sessions("prepare", kernel="7.1", sessions=vm(memfds(128)))
    assert owned(machine)["files of vm"] == 1


def test_sessions_up_to_7_1_are_819_at_most() -> None:
    machine = sessions("prepare", kernel="7.1", sessions=[{"name": f"s{n}"} for n in range(820)])
    assert str(machine.error) == "-ENOMEM"


@each_kernel
def test_what_is_serialised_is_read_back(kernel: str) -> None:
    wanted = [*vm([{"device": PLAIN, "token": "0xffffffffffffffff"}, *memfds(2)]), {"name": "empty"}]
    machine = sessions("freeze", kernel=kernel, sessions=wanted)
    luo = image(machine).handovers[0].luo
    assert luo is not None
    assert [(session.name, len(session.files)) for session in luo.sessions] == [("vm", 3), ("empty", 0)]
    assert luo.sessions[0].files[0].token == 2**64 - 1
    assert [(flb.name, flb.count) for flb in luo.flbs] == [("pci", 1)]
    assert luo.number == 1


@each_kernel
def test_nothing_is_found_in_what_is_serialised(kernel: str) -> None:
    scenario = load_scenario(
        {**sessions_values(), "kernel": kernel, "sessions": vm([{"device": PLAIN, "token": 9}, *memfds(2)])}
    )
    report = check(image(as_sessions(scenario, "freeze")), topology=scenario.topology)
    assert [one for one in report.findings if one.severity is not Severity.INFO] == []


def sessions_values() -> dict[str, Any]:
    return {"series": "pci-core-v9", "devices": [{"bdf": PLAIN, "driver": "vfio-pci"}]}


def as_sessions(scenario: Any, until: str) -> SessionMachine:
    machine = simulate(scenario, until=until)
    assert isinstance(machine, SessionMachine)
    return machine


# -- the order of things


def test_the_order_of_preserving_and_serialising() -> None:
    machine = sessions("freeze", sessions=vm([{"device": PLAIN, "token": 5}]))
    lines = [event.text for event in machine.trace.events if event.kind in (Kind.CALL, Kind.MEMORY)]
    wanted = [
        "LUO: create session vm",
        "LUO session block 0: preserve",
        "file block of vm 0: preserve",
        "FLB pci preserve()",
        "vfio-pci-v1 preserve(0000:00:02.0)",
        "LUO session block: count = 1",
        "file block of vm: count = 1",
        "vfio-pci-v1 freeze(0000:00:02.0",
        "file: 0000:00:02.0 token 0x5",
        "session: vm 1 files",
        "LUO root: sessions_pa",
        "FLB: pci data",
        "LUO FLBs: count = 1",
        "devices are shut down",
    ]
    places = [next(index for index, line in enumerate(lines) if word in line) for word in wanted]
    assert places == sorted(places)


def test_closing_goes_backwards() -> None:
    machine = sessions("cancel", sessions=[*vm(memfds(2)), *vm([{"device": PLAIN}], "other")])
    calls = [text for text in texts(machine, Kind.CALL) if "unpreserve" in text or "close" in text]
    assert [call.split(", ")[0] for call in calls] == [
        "LUO: close session other",
        "vfio-pci-v1 unpreserve(0000:00:02.0",
        calls[2],
        "LUO: close session vm",
        "memfd-v2 unpreserve(m1",
        "memfd-v2 unpreserve(m0",
    ]
    assert calls[2].startswith("FLB pci unpreserve(")
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_the_flb_lives_as_long_as_files_depend_on_it() -> None:
    machine = sessions("prepare", sessions=[*vm([{"device": ONE}], "a"), *vm([{"device": TWO}], "b"), *vm(memfds(1))])
    (flb,) = machine.luo.flbs
    assert flb.count == 2
    machine.luo.close(machine.luo.session("a"))
    assert (flb.count, flb.data != 0) == (1, True)
    machine.luo.close(machine.luo.session("b"))
    assert (flb.count, flb.data) == (0, 0)


# -- what is refused


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ([{"name": "vm"}, {"name": "vm"}], "-EEXIST"),
        ([{"name": ""}], "-EINVAL"),
        ([{"name": "x" * 64}], "-EINVAL"),
        (vm([{"memfd": "a", "token": 1}, {"memfd": "b", "token": 1}]), "-EEXIST"),
        ([*vm([{"memfd": "a"}]), *vm([{"memfd": "a"}], "other")], "-EBUSY"),
        (vm([{"device": "0000:00:01.0"}]), "-ENOENT"),
    ],
)
@each_kernel
def test_user_space_is_refused(wanted: list[dict[str, Any]], error: str, kernel: str) -> None:
    machine = sessions("prepare", kernel=kernel, sessions=wanted)
    if (error, kernel) == ("-EBUSY", "7.0"):
        assert machine.error is None  # it looks for twins from 7.1 on only
        return
    assert str(machine.error) == error
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


@pytest.mark.parametrize("what", ["LUO session block 0", "file block of vm 0"])
@pytest.mark.parametrize("step", ["allocate", "preserve"])
def test_a_page_that_cannot_be_had_leaves_nothing(what: str, step: str) -> None:
    machine = sessions("prepare", sessions=vm(memfds(1)), faults=[{"at": step, "folio": what, "errno": "ENOMEM"}])
    assert str(machine.error) == "-ENOMEM"
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_nothing_changes_after_the_reboot_call() -> None:
    machine = sessions("freeze")
    for call in (
        lambda: machine.luo.create("other"),
        lambda: machine.luo.close(machine.luo.outgoing[0]),
        lambda: machine.luo.preserve(machine.luo.outgoing[0], FileRequest(token=9, device=PLAIN)),
        machine.luo.serialize,
    ):
        with pytest.raises(Failure, match="-EBUSY"):
            call()


def test_changes_of_user_space_on_the_way() -> None:
    changes = [
        {"before": "freeze", "create": "late"},
        {"before": "freeze", "create": "late"},
        {"before": "freeze", "preserve": PLAIN, "session": "late", "token": 7},
        {"before": "freeze", "close": "vm"},
        {"before": "freeze", "close": "none"},
    ]
    machine = sessions("freeze", changes=changes)
    luo = image(machine).handovers[0].luo
    assert luo is not None
    assert [(session.name, [file.token for file in session.files]) for session in luo.sessions] == [("late", [7])]
    calls = texts(machine, Kind.CALL)
    assert "create late fails: -EEXIST" in calls
    assert "close none fails: -ENOENT" in calls


# -- the reboot call fails


def test_a_freeze_that_fails_takes_everything_back() -> None:
    wanted = [*vm(memfds(1), "first"), *vm([{"device": PLAIN}, {"device": ONE}], "second")]
    machine = sessions("freeze", sessions=wanted, faults=[{"at": "freeze", "device": ONE, "errno": "EBUSY"}])
    assert str(machine.error) == "-EBUSY"
    calls = [text.split(", ")[0] for text in texts(machine, Kind.CALL) if "freeze(" in text]
    assert calls == [
        "memfd-v2 freeze(m0",
        "vfio-pci-v1 freeze(0000:00:02.0",
        "vfio-pci-v1 freeze(0000:03:00.0",
    ]
    assert not any("unfreeze" in text for text in calls)  # neither handler has that callback
    assert "luo: Freeze failed for token[0x2] handler[vfio-pci-v1] err[-EBUSY]" in texts(machine, Kind.LOG)
    luo = image(machine).handovers[0].luo
    assert luo is not None
    assert (luo.serialized, luo.sessions) == (False, ())
    machine.step("cancel")
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])


def test_sessions_before_the_one_that_fails_are_taken_back_last_first() -> None:
    wanted = [*vm(memfds(2), "a"), *vm([{"device": PLAIN}], "b"), *vm([{"device": ONE}], "c")]
    machine = sessions("freeze", sessions=wanted, faults=[{"at": "freeze", "device": ONE}])
    written = [text.split(": ", 1)[1] for text in texts(machine, Kind.MEMORY) if text.startswith("write")]
    assert [text for text in written if text.startswith("session:")][-2:] == ["session: b zeroed", "session: a zeroed"]


@each_kernel
def test_entries_are_zero_again_after_a_failed_freeze(kernel: str) -> None:
    wanted = [*vm(memfds(1), "first"), *vm([{"device": PLAIN}], "second")]
    machine = sessions("freeze", kernel=kernel, sessions=wanted, faults=[{"at": "freeze", "device": PLAIN}])
    first = machine.luo.blocks.blocks[0] + 16 if machine.luo.has_blocks else machine.luo.area + 8
    assert not any(machine.pages.read(first, 160))
    files = machine.luo.outgoing[0]
    place = files.blocks.blocks[0] + 8 if machine.luo.has_blocks else files.area
    assert not any(machine.pages.read(place, 64))


# -- the next kernel


@each_kernel
def test_after_the_last_finish_nothing_is_left(kernel: str) -> None:
    machine = sessions(kernel=kernel, sessions=[*vm([{"device": PLAIN, "token": 9}, *memfds(3)]), {"name": "empty"}])
    assert (machine.error, machine.leaks(), machine.pages.mistakes) == (None, [], [])


def test_the_root_is_freed_at_boot_from_7_2_on() -> None:
    assert "LUO root: free 0x2000000" in texts(sessions("restore"), Kind.MEMORY)
    assert "LUO root: free 0x2000000" not in texts(sessions(kernel="7.1"), Kind.MEMORY)


def test_a_session_that_is_refused_may_leave_a_block_that_the_next_kernel_panics_over() -> None:
    """With 51 sessions the chain has grown before the name is looked at, and nobody shrinks it."""
    wanted = [{"name": f"s{n}"} for n in range(51)]
    machine = sessions(sessions=wanted, changes=[{"before": "freeze", "create": "s0"}])
    assert isinstance(machine.error, Panic)
    assert "The incoming tree failed to initialize properly [-EINVAL], disabling live update" in str(machine.error)
    assert "luo: Block contains invalid entry count: 0" in texts(machine, Kind.LOG)
    assert sessions(sessions=wanted).error is None


def test_a_file_that_could_not_be_retrieved_cannot_be_later() -> None:
    machine = sessions("restore", faults=[{"at": "retrieve", "device": ONE, "errno": "ENOMEM"}])
    file = next(file for file in machine.luo.incoming[0].files if file.status)
    with pytest.raises(Failure, match="-ENOMEM"):
        machine.luo.retrieve(file)
    machine.luo.retrieve(next(file for file in machine.luo.incoming[0].files if file.status == 0))


def test_the_device_opens_with_eio_where_a_handler_is_missing() -> None:
    machine = sessions("kexec", sessions=vm(memfds(1)))
    machine.boot()
    machine.luo.handlers = []
    with pytest.raises(Failure, match="-EIO"):
        machine.restore()
    assert "luo: No registered handler for compatible 'memfd-v2'" in texts(machine, Kind.LOG)


def test_a_root_of_another_release_panics() -> None:
    machine = sessions("kexec", kernel="7.3")
    machine.kernel = "7.1"
    with pytest.raises(Panic, match="failed to initialize properly"):
        machine.step("restore")


def test_kexec_needs_the_reboot_call() -> None:
    machine = sessions("prepare")
    with pytest.raises(Failure, match="-EINVAL"):
        machine.step("kexec")


# -- blocks


def test_a_cycle_of_blocks_is_refused() -> None:
    machine = sessions("prepare", sessions=[])
    page = machine.pages.allocate(0, "a block")
    machine.pages.write(page, 0, page.to_bytes(8, "little") + (1).to_bytes(8, "little"), "itself")
    with pytest.raises(Failure, match="-EINVAL"):
        BlockSet(machine.pages, 80, "blocks").restore(page)


def test_growing_that_fails_half_way_gives_back_what_it_took() -> None:
    machine = sessions("prepare", sessions=[], faults=[{"at": "allocate", "folio": "blocks 2", "errno": "ENOMEM"}])
    blocks = BlockSet(machine.pages, 80, "blocks")
    blocks.grow(51)
    with pytest.raises(Failure, match="-ENOMEM"):
        blocks.grow(51 * 3)
    assert len(blocks.blocks) == 1
    assert machine.pages.read(blocks.head, 8) == bytes(8)


def test_a_chain_has_10000_blocks_at_most() -> None:
    machine = sessions("prepare", sessions=[])
    blocks = BlockSet(machine.pages, 4080, "blocks")  # one entry each
    blocks.grow(10_000)
    with pytest.raises(Failure, match="-ENOSPC"):
        blocks.grow(10_001)
    assert len(blocks.blocks) == 10_000


# -- what does not fit


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (
            {"changes": [{"before": "freeze", "unlink": ONE}]},
            "changes: pci-core-v9 does not have unlink: expected add, ",
        ),
        ({"faults": [{"at": "walk", "device": ONE}]}, "faults: pci-core-v9 does not have walk: expected allocate, "),
        ({"kernel": "6.19"}, "expected one of 7.0"),
        ({"next_series": "pci-lu-v2"}, "pci-lu-v2 needs another LUO than pci-core-v9"),
    ],
)
def test_what_belongs_to_the_other_orchestrator_is_refused(more: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        sessions(**more)


def test_a_session_whose_files_cannot_be_read_stays_without_any() -> None:
    wanted = [
        *vm(memfds(1), "first"),
        *vm([{"memfd": "n", "size": 4096, "token": 1}, {"device": PLAIN, "token": 9}], "second"),
    ]
    machine = sessions("restore", series="pci-core-v3", next_series="pci-core-v4", kernel="7.3", sessions=wanted)
    assert str(machine.error) == "-EIO"
    assert [(session.name, len(session.files)) for session in machine.luo.incoming] == [("first", 1), ("second", 0)]
    assert not any(folio.what == "file block of second 0" for folio in machine.pages.left())


def test_a_count_of_an_flb_that_nobody_asked_for_runs_below_zero() -> None:
    for kernel, word in (("7.0", False), ("7.1", True)):
        wanted = [{"name": "a", "files": [{"device": PLAIN}]}]
        machine = sessions(series="pci-core-v6", next_series="pci-core-v7", kernel=kernel, sessions=wanted)
        assert ("refcount_t: underflow; use-after-free." in texts(machine, Kind.LOG)) is word


def test_token_0_is_logged_without_a_prefix() -> None:
    machine = sessions(
        "freeze", sessions=vm([{"device": PLAIN, "token": 0}]), faults=[{"at": "freeze", "device": PLAIN}]
    )
    assert "luo: Freeze failed for token[0] handler[vfio-pci-v1] err[-EIO]" in texts(machine, Kind.LOG)


@settings(max_examples=100)
@given(values=scenarios())
def test_any_tree_goes_there_and_back_and_check_finds_nothing(values: dict[str, Any]) -> None:
    asked = [device["bdf"] for device in values["devices"] if device["driver"] == "vfio-pci"]
    scenario = load_scenario({**values, "series": "pci-core-v9", "requested": asked, "faults": []})
    machine = as_sessions(scenario, "freeze")
    assert machine.error is None
    found = check(image(machine), topology=scenario.topology).findings
    assert [one for one in found if one.severity is not Severity.INFO] == []
    for step in ("kexec", "restore", "finish"):
        machine.step(step)
    assert (machine.leaks(), machine.pages.mistakes) == ([], [])
