# SPDX-License-Identifier: MIT
"""What a running kernel will hand over, out of its own lists: against another reader, in cuts, and damaged."""

from __future__ import annotations

import struct
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
from luoser.kernel.objects import Object, list_items
from luoser.limits import Limits
from luoser.memory.overlay import Overlay
from luoser.render.extents import owned_blocks, owners
from luoser.state import Direction, Pending, State, to_document
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
    assert all("count is 64, no session has a file" in text for text in said)
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
    assert any(one.code == "types" and "luo_file.token overlaps" in one.message for one in state.problems)
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
