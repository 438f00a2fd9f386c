# SPDX-License-Identifier: MIT
"""What a running kernel will hand over, out of its own lists: against another reader, in cuts, and damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.abi.luo import luo_ser
from luoser.abi.memfd import PFN_BITS, memfd_luo_ser_v2
from luoser.checks import check
from luoser.errors import PageState
from luoser.kernel.answers import Answers
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import Kallsyms, KernelSymbol, find_kallsyms
from luoser.kernel.objects import Object, list_items
from luoser.kernel.space import AddressSpace
from luoser.limits import Limits
from luoser.memory.overlay import Overlay
from luoser.render.extents import owned_blocks, owners
from luoser.state import Direction, Pending, Problem, State, to_document
from tests.conftest import Run
from tests.kernel import real

SIDES = {"pre": ("outgoing", Direction.OUTGOING), "finished": ("incoming", Direction.INCOMING)}


def pending(state: State, direction: Direction) -> Pending:
    (found,) = [one.pending for one in state.handovers if one.direction is direction]
    assert found is not None
    return found


def sessions(moment: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = real.walked(moment)[SIDES[moment][0]]["sessions"]
    return found


@pytest.mark.parametrize("moment", SIDES)
def test_sessions_and_files_equal_those_of_another_reader(moment: str) -> None:
    found = pending(real.read(moment), SIDES[moment][1])
    assert found.complete
    assert [(one.name, [(file.token, file.data, file.compatible) for file in one.files]) for one in found.sessions] == [
        (one["name"], [(int(file["token"], 16), int(file["data"], 16), file["compatible"]) for file in one["files"]])
        for one in sessions(moment)
    ]


def test_sizes_and_positions_equal_those_of_another_reader() -> None:
    found = [file for one in pending(real.read("pre"), Direction.OUTGOING).sessions for file in one.files]
    walked = [file for one in sessions("pre") for file in one["files"]]
    assert [(file.size, file.position) for file in found] == [
        (int(file["inode_size"], 16), int(file["pos"], 16)) for file in walked
    ]
    assert {file.size for file in found} >= {4 << 20, 64 << 10, 64 << 20}


@pytest.mark.parametrize("moment", SIDES)
def test_flbs_and_handlers_equal_those_of_another_reader(moment: str) -> None:
    side, direction = SIDES[moment]
    found = pending(real.read(moment), direction)
    walked = real.walked(moment)
    assert [(flb.name, flb.count, flb.data) for flb in found.flbs] == [
        (flb["name"], flb[side]["count"], int(flb[side]["data"], 16)) for flb in walked["flbs"]
    ]
    assert list(found.handlers) == walked["handlers"]


def test_a_cut_with_the_tables_and_one_with_the_answers_say_the_same(tmp_path: Path, luoser_command: Run) -> None:
    cut = tmp_path / "cut.elf"
    assert luoser_command("extract", real.FIXTURES / "pre.elf.xz", "-o", cut).returncode == 0
    with luoser.open(cut) as memory:
        assert memory.answers
        ours, theirs = to_document(luoser.read(memory)), to_document(real.read("pre"))
    assert {**ours, "source": None} == {**theirs, "source": None}


def test_the_lists_before_the_jump_are_what_was_serialised() -> None:
    (frozen,) = [one for one in real.read("frozen").handovers if one.direction is Direction.OUTGOING]
    assert frozen.pending is not None and frozen.luo is not None
    assert [(one.name, [file.token for file in one.files]) for one in frozen.pending.sessions] == [
        (one.name, [file.token for file in one.files]) for one in frozen.luo.sessions
    ]
    before = pending(real.read("pre"), Direction.OUTGOING)
    assert [one.files for one in before.sessions] == [  # that cut does not have what the handlers have preserved
        tuple(replace(file, memfd=None) for file in one.files) for one in frozen.pending.sessions
    ]


def test_without_its_own_symbols_nothing_is_pending() -> None:
    assert [one.pending for one in luoser.read(real.memory("pre"), kallsyms=False).handovers] == [None]


# -- damage ------------------------------------------------------------------------------------------------


def header(path: str = "outgoing.list") -> Object:
    kernel = real.running("pre")
    assert kernel.types is not None
    address, number = kernel.address("luo_session_global"), kernel.types.struct("luo_session_global")
    assert address is not None and number is not None
    return Object(kernel.space, kernel.types, address, number).member(path)


@pytest.mark.parametrize(
    ("path", "value", "code", "message", "left"),
    [
        ("outgoing.list.next", 0x10, "pending-broken", "item 0 at 0x10", 0),
        ("outgoing.list.next", 0xDEAD_0000_0000_0100, "pending-broken", "item 0 at 0xdead000000000100", 0),
        ("outgoing.count", 7, "pending-broken", "count is 7, the list has 6 sessions", 6),
    ],
)
def test_lists_that_are_damaged(path: str, value: int, code: str, message: str, left: int) -> None:
    memory = Overlay(real.memory("pre"))
    memory.write(header(path).physical, value.to_bytes(8, "little"))
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert not found.complete and len(found.sessions) == left
    assert any(problem.code == code and message in problem.message for problem in state.problems)


def test_a_session_whose_page_is_lost() -> None:
    memory = Overlay(real.memory("pre"))
    memory.remove(pending(real.read("pre"), Direction.OUTGOING).sessions[2].address // 4096 * 4096)
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert not found.complete and len(found.sessions) < 6
    assert not [one for one in state.problems if one.code == "pending-broken"]  # nothing is wrong but the source
    report = check(state)
    assert report.verdict == "inconclusive" and not [one for one in report.findings if one.severity == "error"]


def member(address: int, struct: str, path: str) -> int:
    """Physical address of a member of an object of the running kernel of pre, at a physical address."""
    types = real.running("pre").types
    assert types is not None
    number = types.struct(struct)
    place = types.find(number, path) if number is not None else None
    assert place is not None
    return address + place.offset


def wrong(session: int, file: int | None, struct: str, path: str, value: bytes) -> list[str]:
    """Messages about broken objects, after a member was overwritten."""
    memory = Overlay(real.memory("pre"))
    one = pending(real.read("pre"), Direction.OUTGOING).sessions[session]
    memory.write(member(one.address if file is None else one.files[file].address, struct, path), value)
    state = luoser.read(memory)
    assert check(state).verdict == "findings"
    return [problem.message for problem in state.problems if problem.code == "pending-broken"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fh", bytes(8), "its handler at 0x0 is not in the list of registered ones"),
        ("file", bytes(8), "it has no struct file"),
        ("serialized_data", bytes(8), "its handler has preserved nothing"),
        ("token", (0x1000).to_bytes(8, "little"), "token 0x1000 is that of another file of the session"),
    ],
)
def test_a_file_that_is_damaged(path: str, value: bytes, message: str) -> None:
    assert any(message in text for text in wrong(1, 1, "luo_file", path, value))


def test_a_struct_file_of_two_files() -> None:
    memory = Overlay(real.memory("pre"))
    first, second = pending(real.read("pre"), Direction.OUTGOING).sessions[1].files[:2]
    pointer = memory.read(member(first.address, "luo_file", "file"), 8)
    memory.write(member(second.address, "luo_file", "file"), pointer)
    state = luoser.read(memory)
    (said,) = [one for one in state.problems if one.code == "pending-broken"]
    assert said.about == "pending.sessions[1].files[1]" and "is that of another file" in said.message
    assert check(state).verdict == "findings"


def test_kernels_before_7_1_preserve_a_file_twice() -> None:
    memory = Overlay(real.memory("frozen"))
    answers = Answers.unpack(memory.answers)
    assert answers is not None and "luo_preserved_files" not in answers.symbols  # as their kallsyms
    first, second = pending(real.read("frozen"), Direction.OUTGOING).sessions[1].files[:2]
    pointer = memory.read(member(first.address, "luo_file", "file"), 8)
    memory.write(member(second.address, "luo_file", "file"), pointer)
    assert not [one for one in luoser.read(memory).problems if one.code == "pending-broken"]


def test_an_flb_that_no_file_depends_on_and_that_has_data() -> None:
    memory, whole = Overlay(real.memory("pre")), pending(real.read("pre"), Direction.OUTGOING)
    index = next(index for index, flb in enumerate(whole.flbs) if flb.count and flb.data)
    types = real.running("pre").types
    assert types is not None
    private = types.find(types.struct("liveupdate_flb") or 0, "private")
    assert private is not None
    address = whole.flbs[index].address + private.offset
    memory.write(member(address, "luo_flb_private", "outgoing.count"), bytes(4))
    state = luoser.read(memory)
    (said,) = [one for one in state.problems if one.code == "pending-broken"]
    assert said.about == f"pending.flbs[{index}]" and "count is 0, and its data 0x" in said.message
    assert not pending(state, Direction.OUTGOING).complete and check(state).verdict == "findings"


def test_a_size_is_not_negative() -> None:
    kernel, memory = real.running("frozen"), Overlay(real.memory("frozen"))
    assert kernel.types is not None
    entry = pending(real.read("frozen"), Direction.OUTGOING).sessions[0].files[0].address
    file = int.from_bytes(memory.read(member(entry, "luo_file", "file"), 8), "little")
    inode = int.from_bytes(memory.read(member(kernel.space.physical(file), "file", "f_inode"), 8), "little")
    memory.write(member(kernel.space.physical(inode), "inode", "i_size") + 7, b"\x80")
    state = luoser.read(memory)
    assert pending(state, Direction.OUTGOING).sessions[0].files[0].size == 0x8000_0000_0040_0000
    assert "PEN007" in {one.rule for one in check(state).findings}


def test_a_struct_file_of_zeros_is_not_a_file_of_unknown_size() -> None:
    kernel, memory = real.running("frozen"), Overlay(real.memory("frozen"))
    assert kernel.types is not None
    entry = pending(real.read("frozen"), Direction.OUTGOING).sessions[0].files[0].address
    pointer = int.from_bytes(memory.read(member(entry, "luo_file", "file"), 8), "little")
    memory.write(kernel.space.physical(pointer) // 4096 * 4096, bytes(4096))
    state = luoser.read(memory)
    assert not pending(state, Direction.OUTGOING).complete and check(state).verdict == "findings"
    said = [one.message for one in state.problems if one.code == "pending-broken"]
    assert said and all("its struct file at 0x" in text and "has no inode" in text for text in said)


@pytest.mark.parametrize("name", [bytes(64), b"vm-batch-000".ljust(64, b"\0")])
def test_a_session_whose_name_is_damaged(name: bytes) -> None:
    assert any("is empty, or that of another session" in text for text in wrong(2, None, "luo_session", "name", name))


@pytest.mark.parametrize("value", [1, 2, 0xFF])
def test_a_session_to_hand_over_is_not_retrieved(value: int) -> None:
    found = wrong(2, None, "luo_session", "retrieved", bytes([value]))
    assert found == [f"pending session 2: retrieved is {value}, expected 0"]


def test_a_count_of_files_that_is_wrong() -> None:
    found = wrong(1, None, "luo_session", "file_set.count", (7).to_bytes(8, "little"))
    assert any("count is 7, the list has 20 files" in text for text in found)


def test_a_head_that_does_not_lead_back() -> None:
    found = wrong(1, None, "luo_session", "file_set.files_list.prev", (0xDEAD).to_bytes(8, "little"))
    assert any("prev of its head is 0xdead" in text for text in found)


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_handlers_that_were_not_read_accuse_no_file(state: PageState) -> None:
    """A handler of a module is registered first, on a page that the dump does not have."""
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    assert kernel.types is not None
    address, number = kernel.address("luo_file_handler_list"), kernel.types.struct("list_head")
    assert address is not None and number is not None and kernel.space.page_offset is not None
    head = Object(kernel.space, kernel.types, address, number)
    (handler,) = list_items(head, "liveupdate_file_handler", "list", 9)
    link, page = handler.member("list"), 0x3000_0000
    memory.write(page, struct.pack("<QQ", link.address, head.address))
    for place in (head.physical, link.physical + 8):
        memory.write(place, (kernel.space.page_offset + page).to_bytes(8, "little"))
    memory.remove(page, state=state)
    found = luoser.read(memory)
    assert not pending(found, Direction.OUTGOING).complete
    report = check(found, pending=True)
    assert report.verdict == "inconclusive" and not [one for one in report.findings if one.severity == "error"]
    assert "PEN001" in {one.rule for one in report.unjudged}


def test_lists_longer_than_the_limit_are_said_to_be() -> None:
    state = luoser.read(real.memory("pre"), limits=Limits(pending=10))
    assert [one for one in state.problems if one.code == "too-many"] and not pending(state, Direction.OUTGOING).complete
    assert check(state).verdict == "inconclusive"


def test_the_limit_is_of_all_lists_together() -> None:
    whole = pending(real.read("pre"), Direction.OUTGOING)
    longest = max(len(whole.sessions), *(len(one.files) for one in whole.sessions))
    with_all = sum(1 + len(one.files) for one in whole.sessions) + len(whole.flbs) + len(whole.handlers)
    for limit, expected in ((with_all, True), (with_all - 1, False), (longest, False)):
        state = luoser.read(real.memory("pre"), limits=Limits(pending=limit))
        assert pending(state, Direction.OUTGOING).complete is expected


def test_a_count_of_flbs_that_is_wrong() -> None:
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    address = kernel.address("luo_flb_global")
    assert address is not None
    memory.write(member(kernel.space.physical(address), "luo_flb_global", "count"), (3).to_bytes(8, "little"))
    state = luoser.read(memory)
    assert any("count is 3, the list has 5 FLBs" in one.message for one in state.problems)
    assert not pending(state, Direction.OUTGOING).complete


def test_the_users_own_direction_keeps_what_is_pending() -> None:
    root = real.read("pre").handovers[0].address
    assert root is not None
    state = luoser.read(real.memory("pre"), directions={root: Direction.OUTGOING})
    assert pending(state, Direction.OUTGOING) == pending(real.read("pre"), Direction.OUTGOING)


def test_a_loop_of_files() -> None:
    kernel = real.running("pre")
    assert kernel.types is not None
    memory = Overlay(real.memory("pre"))
    first = pending(real.read("pre"), Direction.OUTGOING).sessions[1].files[3]
    number = kernel.types.struct("luo_file")
    place = kernel.types.find(number, "list.next") if number is not None else None
    assert place is not None
    own = int.from_bytes(memory.read(first.address + place.offset, 8), "little")
    before = int.from_bytes(memory.read(first.address + place.offset + 8, 8), "little")
    assert own != before
    memory.write(first.address + place.offset, before.to_bytes(8, "little"))
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert not found.complete and len(found.sessions[1].files) == 4
    assert any("prev of item 4 is" in problem.message for problem in state.problems)


@pytest.mark.parametrize(
    ("name", "shift", "size"),
    [("luo_session_global", 0, 128), ("luo_session_global", 4, 0x1000), ("luo_file_handler_list", 0, 8)],
)
def test_a_symbol_without_room_for_its_variable_is_not_believed(name: str, shift: int, size: int) -> None:
    memory = Overlay(real.memory("frozen"))
    answers = Answers.unpack(memory.answers)
    assert answers is not None
    place = (answers.symbols[name][0] + shift, size)
    memory.answers = replace(answers, symbols={**answers.symbols, name: place}).pack()
    state = luoser.read(memory)
    assert any(f"{name} cannot be at" in one.message for one in state.problems if one.code == "pending-unread")
    report = check(state)
    assert report.verdict == "inconclusive" and not [one for one in report.findings if one.severity == "error"]


def with_links(left_out: int | None = None) -> Overlay:
    """The memory of a real kernel with its handler's list of FLBs, which its cut does not have.

    left_out: number of the FLB that is not in it. None: all are.
    """
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    address = kernel.address("luo_file_handler_list")
    assert kernel.types is not None and address is not None
    head = Object(kernel.space, kernel.types, address, kernel.types.struct("list_head") or 0)
    (handler,) = list_items(head, "liveupdate_file_handler", "list", 2)
    own, link = handler.member("flb_list"), kernel.types.find(kernel.types.struct("luo_flb_link") or 0, "list")
    place = kernel.types.find(kernel.types.struct("luo_flb_link") or 0, "flb")
    assert link is not None and place is not None and kernel.space.page_offset is not None
    page = kernel.space.page_offset + 0x30_0000  # one that the cut does not have
    flbs = [
        flb.address for index, flb in enumerate(pending(real.read("pre"), Direction.OUTGOING).flbs) if index != left_out
    ]
    chain = [own.address, *(page + 64 * index + link.offset for index in range(len(flbs))), own.address]
    data = bytearray(4096)
    for index, (before, after, flb) in enumerate(zip(chain, chain[2:], flbs, strict=False)):
        struct.pack_into("<QQ", data, 64 * index + link.offset, after, before)
        struct.pack_into("<Q", data, 64 * index + place.offset, virtual(flb))
    memory.write(page - kernel.space.page_offset, bytes(data))
    memory.write(own.physical, struct.pack("<QQ", chain[1], chain[-2]))
    return memory


def virtual(flb: int) -> int:
    """Virtual address of an FLB: those of the self-test are in the kernel image, of modules elsewhere."""
    kernel = real.running("pre")
    assert kernel.types is not None
    address, number = kernel.address("luo_flb_global"), kernel.types.struct("luo_flb_global")
    assert address is not None and number is not None
    head = Object(kernel.space, kernel.types, address, number).member("list")
    owners = [item.of("liveupdate_flb", "private") for item in list_items(head, "luo_flb_private", "list", 9)]
    return next(owner.address for owner in owners if owner.physical == flb)


@pytest.mark.parametrize(
    ("count", "left_out", "code", "verdict"),
    [
        (None, None, "", ""),
        (63, None, "pending-broken", "findings"),
        (65, None, "pending-unread", "inconclusive"),
        (None, 3, "pending-unread", "inconclusive"),
    ],
)
def test_the_count_of_an_flb_is_that_of_the_files_of_its_handlers(
    count: int | None, left_out: int | None, code: str, verdict: str
) -> None:
    memory, index = with_links(left_out), 3
    flb = pending(real.read("pre"), Direction.OUTGOING).flbs[index]
    assert flb.count == 64
    if count is not None:
        private = member(flb.address, "liveupdate_flb", "private")
        memory.write(member(private, "luo_flb_private", "outgoing.count"), count.to_bytes(4, "little"))
    state = luoser.read(memory)
    said = [one for one in state.problems if one.about == f"pending.flbs[{index}]" and "depend on it" in one.message]
    assert [one.code for one in said] == ([code] if code else [])
    assert pending(state, Direction.OUTGOING).complete == (not code)
    report = check(state)
    assert {one.rule for one in report.findings if one.severity == "error"} == ({"PEN001"} if count == 63 else set())
    assert not code or report.verdict == verdict


@pytest.mark.parametrize("count", [1, 63, 65, 128])
def test_the_count_of_an_flb_without_the_lists_of_its_one_handler(count: int) -> None:
    memory = Overlay(real.memory("pre"))
    flb = pending(real.read("pre"), Direction.OUTGOING).flbs[3]
    private = member(flb.address, "liveupdate_flb", "private")
    memory.write(member(private, "luo_flb_private", "outgoing.count"), count.to_bytes(4, "little"))
    state = luoser.read(memory)
    assert not pending(state, Direction.OUTGOING).complete and check(state).verdict == "inconclusive"
    assert any(f"count is {count}, 64 files depend on it" in one.message for one in state.problems)


def test_an_flb_that_files_depend_on_while_there_is_no_file() -> None:
    """The list of sessions reads as an empty one: the counts of FLBs say that it is not."""
    memory = Overlay(real.memory("pre"))
    head = header("outgoing.list")
    memory.write(head.physical, head.address.to_bytes(8, "little") * 2)
    memory.write(header("outgoing.count").physical, bytes(8))
    state = luoser.read(memory)
    found = pending(state, Direction.OUTGOING)
    assert found.sessions == () and not found.complete
    said = [one.message for one in state.problems if one.code == "pending-unread"]
    assert len(said) == sum(flb.count > 0 for flb in found.flbs) > 1
    assert all("count is 64, 0 files depend on it" in text for text in said)
    report = check(state)
    assert report.verdict == "inconclusive" and not [one for one in report.findings if one.severity == "error"]


def test_types_whose_members_overlap_are_not_used() -> None:
    """One bit in the offset of luo_file.token: tokens would be what serialized_data is."""
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    types, start = kernel.types, kernel.address("__start_BTF")
    assert isinstance(types, Btf) and start is not None
    number = types.struct("luo_file")
    assert number is not None
    index = [one.name for one in types.type(number).members].index("token")
    place = kernel.space.physical(start + types._places[number - types._first] + 12 + 12 * index + 8)
    memory.write(place, bytes([memory.read(place, 1)[0] ^ 0x80]))
    state = luoser.read(memory, pending=True)
    assert [one.pending for one in state.handovers] == [None]
    assert any(one.code == "types-unread" and "luo_file.token overlaps" in one.message for one in state.problems)
    assert check(state, pending=True).verdict == "inconclusive"


def test_flbs_whose_type_is_lost_are_not_said_to_be_none() -> None:
    memory = Overlay(real.memory("frozen"))
    answers = Answers.unpack(memory.answers)
    assert answers is not None and b"luo_flb_global\0" in answers.btf
    memory.answers = replace(answers, btf=answers.btf.replace(b"luo_flb_global\0", b"luo_flb_globel\0")).pack()
    state = luoser.read(memory)
    assert not pending(state, Direction.OUTGOING).complete and check(state).verdict == "inconclusive"


# -- the memory that is preserved already ------------------------------------------------------------------


def before_it_serialises(moment: str = "frozen") -> Overlay:
    """The memory at the jump, with a LUO that has not serialised its sessions and FLBs yet."""
    memory = Overlay(real.memory(moment))
    (one,) = [one for one in real.read(moment).handovers if one.direction is Direction.OUTGOING]
    assert one.luo is not None and one.luo.address is not None
    memory.write(one.luo.address + luo_ser.offset("sessions_pa"), bytes(16))
    return memory


def test_before_the_jump_files_have_what_is_serialised_later() -> None:
    (later,) = [one.luo for one in real.read("frozen").handovers if one.luo is not None]
    state = luoser.read(before_it_serialises())
    found = pending(state, Direction.OUTGOING)
    assert state.handovers[0].luo is not None and not state.handovers[0].luo.serialized
    assert [[file.memfd for file in one.files] for one in found.sessions] == [
        [file.memfd for file in one.files] for one in later.sessions
    ]


def test_rules_of_files_judge_before_the_jump() -> None:
    report = check(luoser.read(before_it_serialises()))
    assert {"MFD001", "MFD010", "MFD011", "MAP009", "MAP010", "MAP012"} <= set(report.passed)


def test_a_folio_that_is_not_preserved_is_found_before_the_jump() -> None:
    memory = before_it_serialises()
    folios = pending(luoser.read(memory), Direction.OUTGOING).sessions[0].files[2].memfd
    assert folios is not None
    place, wrong = folios.folios.pages[0], 0x17C00  # of scratch, which nobody preserves
    word = int.from_bytes(memory.read(place, 8), "little")
    memory.write(place, (word & ~((1 << PFN_BITS) - 1) | wrong).to_bytes(8, "little"))
    found = [one for one in check(luoser.read(memory)).findings if one.rule == "MAP010"]
    assert [one.where for one in found] == ["pending.sessions[0].files[2].memfd.folios"]


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("size", [0, 0x3FF000])
def test_a_descriptor_of_another_size_than_the_file_is_overwritten(size: int, is_early: bool) -> None:
    """The kernel's own inode has the size, which it froze when the file was preserved."""
    memory = before_it_serialises() if is_early else Overlay(real.memory("frozen"))
    assert "PEN007" in check(luoser.read(memory)).passed
    file = pending(luoser.read(memory), Direction.OUTGOING).sessions[0].files[0]
    if size:
        memory.write(file.data + memfd_luo_ser_v2.offset("size"), size.to_bytes(8, "little"))
    else:
        memory.write(file.data, bytes(4096))  # all of it was cleared, as that of an empty file
    report = check(luoser.read(memory))
    (found,) = [one for one in report.findings if one.rule == "PEN007"]
    assert report.verdict == "findings" and found.address == file.data
    assert found.message.endswith(f"descriptor has size {size:#x}, the kernel's own file has 0x400000 bytes")


@pytest.mark.parametrize(("is_early", "expected"), [(True, set()), (False, {"PEN007"})])
def test_a_position_is_compared_once_it_is_serialised(is_early: bool, expected: set[str]) -> None:
    """The kernel writes it when it freezes the file: before, user space may have moved on."""
    memory = before_it_serialises() if is_early else Overlay(real.memory("frozen"))
    file = pending(luoser.read(memory), Direction.OUTGOING).sessions[0].files[1]
    assert file.position == 0x1234
    memory.write(file.data + memfd_luo_ser_v2.offset("pos"), (0x1235).to_bytes(8, "little"))
    found = [one for one in check(luoser.read(memory)).findings if one.rule.startswith("PEN")]
    assert {one.rule for one in found} == expected and {one.severity for one in found} <= {"warning"}
    assert all("position 0x1235, the kernel's own file is at 0x1234" in one.message for one in found)


def test_memory_has_the_owners_before_the_jump_that_it_has_after_it() -> None:
    kinds = []
    for memory in (real.memory("frozen"), before_it_serialises()):
        (one,) = [one for one in luoser.read(memory).handovers if one.direction is Direction.OUTGOING]
        assert one.preserved.map is not None
        owned = owned_blocks(one.preserved.map, sorted(owners(one)), 4096)
        assert len(owned) > one.preserved.map.entries - 8  # this cut does not have the pages for entries
        kinds.append({address: kind for address, (kind, _) in owned.items() if "LUO" not in kind})
    assert kinds[1].items() <= kinds[0].items()


@pytest.mark.parametrize("value", [0, 1])
def test_a_session_that_was_handed_over_may_be_retrieved(value: int) -> None:
    assert incoming_session("retrieved", bytes([value])) == []


def test_a_session_that_was_handed_over_is_retrieved_or_not() -> None:
    assert incoming_session("retrieved", b"\2") == ["pending session 0: retrieved is 2, expected 0 or 1"]


def test_files_that_were_handed_over_have_a_struct_file_once_they_are_retrieved() -> None:
    """Unlike those to be handed over, and what their handlers had preserved is freed then."""
    found = pending(real.read("finished"), Direction.INCOMING)
    assert found.complete and any(one.files for one in found.sessions)
    assert all(file.size is None and file.memfd is None for one in found.sessions for file in one.files)
    assert not [one for one in real.read("finished").problems if one.code == "pending-broken"]


def incoming_session(path: str, value: bytes) -> list[str]:
    """Messages about broken objects, after a member of the first session that was handed over was overwritten."""
    kernel, memory = real.running("finished"), Overlay(real.memory("finished"))
    first = pending(real.read("finished"), Direction.INCOMING).sessions[0]
    place = kernel.types.find(kernel.types.struct("luo_session") or 0, path) if kernel.types is not None else None
    assert place is not None
    memory.write(first.address + place.offset, value)
    return [one.message for one in luoser.read(memory).problems if one.code == "pending-broken"]


# -- symbols and variables that are damaged ----------------------------------------------------------------


def unjudged(state: State, family: str) -> set[str]:
    return {one.rule for one in check(state).unjudged if one.rule.startswith(family)}


@pytest.mark.parametrize("name", ["kho_out", "luo_session_global", "__start_BTF"])
def test_symbols_that_are_damaged_are_not_symbols_that_are_not_there(name: str) -> None:
    """One bit: the direction is inferred then, and what is pending is not known. That is never sound."""
    found, memory = find_kallsyms(real.space("pre")), Overlay(real.memory("pre"))
    (index,) = found._indices([name])[name]
    place = real.space("pre").physical(found._places.offsets + 4 * index + 3)
    memory.write(place, bytes([memory.read(place, 1)[0] ^ 0x10]))
    state = luoser.read(memory)
    assert "symbols-unread" in {one.code for one in state.problems}
    assert state.handovers[0].pending is None and state.handovers[0].evidence[0].startswith("inferred")
    assert unjudged(state, "PEN") >= {"PEN001", "PEN002", "PEN006"} and check(state).verdict == "inconclusive"
    assert not unjudged(luoser.read(memory, kallsyms=False), "PEN")


@pytest.mark.parametrize("name", ["kho_out", "luo_file_handler_list", "luo_global", "__stop_BTF"])
def test_a_symbol_whose_family_is_there_is_not_absent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of a packed name: the kernel's table has all symbols but this one."""
    whole = Kallsyms.get

    def get(self: Kallsyms, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
        return {key: places for key, places in whole(self, names).items() if key != name}

    assert "symbols-unread" not in {one.code for one in real.read("pre").problems}
    monkeypatch.setattr(Kallsyms, "get", get)
    state = luoser.read(real.memory("pre"))
    assert [one.message for one in state.problems if one.code == "symbols-unread" and f"no {name} in" in one.message]


def test_a_table_by_name_that_is_damaged_is_said_as_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Kallsyms.get

    def get(self: Kallsyms, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
        self.damage = "not in order"
        return whole(self, names)

    monkeypatch.setattr(Kallsyms, "get", get)
    state = luoser.read(real.memory("pre"))
    assert [one.code for one in state.problems if "not in order" in one.message] == ["symbols-unread"]


def test_the_note_of_a_cut_that_is_damaged_is_not_a_note_that_is_not_there() -> None:
    memory = Overlay(real.memory("frozen"))
    assert check(luoser.read(memory)).verdict == "sound"
    memory.answers = memory.answers[:-5]
    state = luoser.read(memory)
    assert any("the note of this cut" in one.message for one in state.problems if one.code == "symbols-unread")
    assert "PEN001" in unjudged(state, "PEN") and check(state).verdict == "inconclusive"
    memory.answers = b""
    assert not unjudged(luoser.read(memory), "PEN")


def test_the_note_says_which_of_two_kernels_ran() -> None:
    """VMCOREINFO of a hypervisor's dump is of the kernel before; that of the kernel that ran is in memory."""
    memory, before = Overlay(real.memory("frozen")), real.memory("finished").vmcoreinfo
    memory.write(0x30_0000, memory.info_note.ljust(4096, b"\0"))
    memory.write(utsname("frozen"), b"7.3.4\0")
    memory.vmcoreinfo = before
    state = luoser.read(memory)
    assert pending(state, Direction.OUTGOING) == pending(real.read("frozen"), Direction.OUTGOING)
    assert not any("the note of this cut" in one.message for one in state.problems)


@pytest.mark.parametrize("key", ["NUMBER(phys_base)", "SYMBOL(_stext)", "BUILD-ID"])
def test_a_note_that_is_not_of_the_kernel_of_vmcoreinfo_is_said(key: str) -> None:
    """One bit in VMCOREINFO of a cut: its kernel is then not in the source, and the note of no kernel."""
    memory = Overlay(real.memory("frozen"))
    said = memory.vmcoreinfo[key]
    memory.vmcoreinfo = {**memory.vmcoreinfo, key: f"{said[:-1]}{chr(ord(said[-1]) ^ 1)}"}
    state = luoser.read(memory)
    assert any("the note of this cut is of a kernel with" in one.message for one in state.problems)
    assert "PEN001" in unjudged(state, "PEN") and check(state).verdict == "inconclusive"


def test_a_name_of_two_symbols_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """As names of static variables can be: which one is the kernel's is not known."""
    whole = Kallsyms.get

    def get(self: Kallsyms, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
        found = whole(self, names)
        (one,) = found["luo_session_global"]
        return found | {"luo_session_global": [one, replace(one, address=one.address + 0x1000)]}

    monkeypatch.setattr(Kallsyms, "get", get)
    (found,) = luoser.read(real.memory("pre"), pending=True).handovers
    assert found.pending is None and found.direction is Direction.OUTGOING
    assert found.evidence[0].startswith("certain: kho_out")


@pytest.mark.parametrize(
    ("variable", "path", "moment"),
    [("kho_in", "fdt_phys", "finished"), ("kho_out", "fdt", "frozen"), ("page_offset_base", "", "frozen")],
)
@pytest.mark.parametrize("is_own", [True, False])
def test_a_root_is_not_left_over_because_the_variable_that_names_it_is_damaged(
    variable: str, path: str, moment: str, is_own: bool
) -> None:
    kernel, memory = real.running(moment), Overlay(real.memory(moment))
    address, number = kernel.address(variable), kernel.types.struct(variable) if kernel.types is not None else None
    assert address is not None and kernel.types is not None
    place = kernel.types.find(number, path) if number is not None else None
    start = kernel.space.physical(address + (place.offset if place is not None else 0)) + 2
    memory.write(start, bytes([memory.read(start, 1)[0] ^ 1 << 4]))
    memory.is_own_info = is_own
    state = luoser.read(memory)
    said = [one for one in state.problems if f" of {kernel.symbols.path} is 0x" in one.message]
    assert {one.code for one in said} & ({"root-lost", "root-unread"} if is_own else {"no-root"})
    assert all("left over" not in word for one in state.handovers for word in one.evidence)
    assert check(state).verdict == ("findings" if any(one.code == "root-lost" for one in said) else "inconclusive")


def test_a_pointer_that_cannot_be_followed_is_no_lost_root() -> None:
    """The page with the start of the direct map is not in the source."""
    kernel, memory = real.running("frozen"), Overlay(real.memory("frozen"))
    address = kernel.address("page_offset_base")
    assert address is not None
    memory.remove(kernel.space.physical(address))
    memory.is_own_info = True
    state = luoser.read(memory)
    (said,) = [one for one in state.problems if "the start of the direct map is not known" in one.message]
    assert said.code == "root-unread" and check(state).verdict == "inconclusive"


@pytest.mark.parametrize("name", ["kho_in", "luo_session_global", "luo_flb_global"])
def test_a_variable_without_a_symbol_is_damage_if_the_types_have_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit in a token can hide all names that begin with it."""
    whole = Kallsyms.get

    def get(self: Kallsyms, names: Iterable[str]) -> dict[str, list[KernelSymbol]]:
        return {key: found for key, found in whole(self, names).items() if key[:4] != name[:4]}

    monkeypatch.setattr(Kallsyms, "get", get)
    state = luoser.read(real.memory("pre"))
    said = [one.message for one in state.problems if one.code == "symbols-unread"]
    assert any(f"no {name} in its symbols, although its types have it" in text for text in said)
    assert "PEN001" in unjudged(state, "PEN")


@pytest.mark.parametrize("name", ["kho_in", "kho_out"])
def test_a_variable_without_a_type_is_damage_if_the_types_have_others(name: str) -> None:
    """One bit in the name of a struct: each word of the variable is then tried, and a lost root is none."""
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    start, end = map(kernel.address, ("__start_BTF", "__stop_BTF"))
    assert start is not None and end is not None
    at = start + kernel.space.read(start, end - start).index(b"\0%s\0" % name.encode()) + 1
    memory.write(kernel.space.physical(at), b"j")
    said = [one.message for one in luoser.read(memory).problems if one.code == "types-unread"]
    assert any(f"no {name} in its types, although its symbols have it" in text for text in said)


def test_damage_of_another_kernel_does_not_matter() -> None:
    damage = Problem(code="symbols-unread", address=None, message="kernel 7.1: damaged")
    state = real.read("pre")
    assert unjudged(replace(state, problems=(*state.problems, damage)), "PEN") == unjudged(state, "PEN")


def test_vmcoreinfo_of_a_kernel_that_is_gone_does_not_hide_the_one_that_runs() -> None:
    """The note of a hypervisor: the kernel that runs has its own VMCOREINFO in memory."""
    memory, gone = Overlay(real.memory("pre")), real.memory("finished").vmcoreinfo
    memory.write(0x30_0000, real.memory("pre").info_note.ljust(4096, b"\0"))
    memory.write(utsname("pre"), b"7.3.4\0")
    memory.write(utsname("finished"), bytes(65))
    memory.vmcoreinfo = gone
    state = luoser.read(memory)
    assert pending(state, Direction.OUTGOING).sessions == pending(real.read("pre"), Direction.OUTGOING).sessions
    assert [one.code for one in state.problems if "is not where it says" in one.message] == ["symbols"]


def utsname(moment: str) -> int:
    """Physical address of the release in a kernel's utsname."""
    info = real.memory(moment).vmcoreinfo
    start = int(info["SYMBOL(init_uts_ns)"], 16) + int(info["OFFSET(uts_namespace.name)"]) + 2 * 65
    place = AddressSpace(real.memory(moment), info).image(start)
    assert place is not None
    return place


@pytest.mark.parametrize(
    ("release", "is_own", "code"),
    [
        (b"7.3.5", False, "symbols-unread"),  # one bit off
        (b"6.1.9", True, "symbols-unread"),  # the note is of the kernel that ran
        (b"6.1.9", False, "symbols"),  # that of a hypervisor can be of a kernel before
    ],
)
def test_vmcoreinfo_of_a_kernel_that_is_not_there_is_said(release: bytes, is_own: bool, code: str) -> None:
    memory = Overlay(real.memory("pre"))
    assert not memory.is_own_info
    memory.write(utsname("pre"), release + bytes(65 - len(release)))
    memory.is_own_info = is_own
    state = luoser.read(memory)
    (said,) = [one.code for one in state.problems if "7.3.4 of VMCOREINFO is not where it says" in one.message]
    assert said == code and state.handovers[0].pending is None
    assert ("PEN001" in unjudged(state, "PEN")) == (code == "symbols-unread")


def test_the_next_release_at_the_same_place_is_no_damage() -> None:
    """7.3.5 is one bit off 7.3.4. Its own VMCOREINFO is in memory, beside a hypervisor's of the kernel before."""
    memory = Overlay(real.memory("pre"))
    note = memory.info_note.replace(b"OSRELEASE=7.3.4\n", b"OSRELEASE=7.3.5\n")
    assert note != memory.info_note
    memory.write(0x30_0000, note.ljust(4096, b"\0"))
    memory.write(utsname("pre"), b"7.3.5\0")
    state = luoser.read(memory)
    assert pending(state, Direction.OUTGOING).sessions == pending(real.read("pre"), Direction.OUTGOING).sessions
    assert [one.code for one in state.problems if "is not where it says" in one.message] == ["symbols"]
    assert not any(one.code == "symbols-unread" for one in state.problems)


@pytest.mark.parametrize(
    "key", ["NUMBER(phys_base)", "SYMBOL(swapper_pg_dir)", "SYMBOL(_stext)", "SYMBOL(init_uts_ns)"]
)
@pytest.mark.parametrize("is_named", [False, True])
def test_what_each_vmcoreinfo_has_is_damaged_where_it_is_missing(key: str, *, is_named: bool) -> None:
    """One bit in its name, or one that makes it no number."""
    memory = Overlay(real.memory("pre"))
    info = dict(memory.vmcoreinfo)
    said = info.pop(key)
    memory.vmcoreinfo = info | ({key: said[:-1] + "p"} if is_named else {})
    state = luoser.read(memory)
    word = "phys_base and kimage_voffset" if "phys_base" in key else key[7:-1]
    assert [one.code for one in state.problems if f"VMCOREINFO has no {word}" in one.message] == ["symbols-unread"]
    assert (state.handovers[0].pending is None) == ("phys_base" in key) == ("PEN001" in unjudged(state, "PEN"))


@pytest.mark.parametrize(
    ("name", "bit"),
    [*(("kho_scratch", bit) for bit in range(0, 64, 3)), *(("kho_scratch_cnt", bit) for bit in (1, 2, 3, 9, 31))],
)
def test_no_bit_of_kho_scratch_gives_other_areas_in_silence(name: str, bit: int) -> None:
    kernel, memory = real.running("pre"), Overlay(real.memory("pre"))
    address = kernel.address(name)
    assert address is not None and real.read("pre").handovers[0].scratch is not None
    place = kernel.space.physical(address) + bit // 8
    memory.write(place, bytes([memory.read(place, 1)[0] ^ 1 << bit % 8]))
    state = luoser.read(memory)
    report = check(state)
    assert "KHO016" in {one.rule for one in (*report.findings, *report.unjudged)}
    assert report.verdict == "inconclusive" or state.handovers[0].scratch != real.read("pre").handovers[0].scratch


def test_a_symbol_of_kho_scratch_that_is_damaged_is_not_believed() -> None:
    memory = Overlay(real.memory("frozen"))
    answers = Answers.unpack(memory.answers)
    assert answers is not None and real.read("frozen").handovers[0].scratch is not None
    for shift in (-16, -8, 4, 8):
        address, size = answers.symbols["kho_scratch"]
        memory.answers = replace(answers, symbols={**answers.symbols, "kho_scratch": (address + shift, size)}).pack()
        state = luoser.read(memory)
        assert "scratch-unread" in {one.code for one in state.problems} and unjudged(state, "KHO") >= {"KHO016"}
