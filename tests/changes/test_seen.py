# SPDX-License-Identifier: MIT
"""`diff` of damaged and incomplete sources: damage is a difference, what was not seen is none, and never equal."""

from __future__ import annotations

import random

import pytest

import luoser
from luoser.changes import Comparison, Kind, Verdict, compare
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.state import Direction, Handover
from tests import real

LUO, MEMBLOCK, MAP = "LUO", "memblock", "map"


def outgoing(name: str) -> Handover:
    return next(one for one in real.read(name).handovers if one.direction is Direction.OUTGOING)


def page_of(name: str, what: str) -> int:
    """Address of the page of a sub-tree, or of the first page of the map, of the outgoing root."""
    found = outgoing(name)
    address = found.preserved.address if what == MAP else None
    return address or next(entry.address or 0 for entry in found.subtrees if entry.name == what)


def against(before: str, memory: Overlay) -> Comparison:
    return compare(real.read(before), luoser.read(memory))


# -- the next kernel's own handover, which the first source does not have ---------------------------------

CASES = [("7.3-a", LUO), ("7.3-a", MEMBLOCK), ("7.3-a", MAP), ("7.3-chain", LUO)]


@pytest.mark.parametrize(("case", "what"), CASES)
def test_a_damaged_handover_on_one_side_only_is_a_difference(case: str, what: str) -> None:
    memory, page = real.overlay(f"{case}/post"), page_of(f"{case}/post", what)
    memory.write(page, bytes(4096))
    found = against(f"{case}/frozen", memory)
    (change,) = (one for one in found.changes if one.kind is not Kind.PROGRESS)
    assert (change.before, change.after, found.verdict) == ("not there", "damaged", Verdict.DIFFERENT)
    assert f"{outgoing(f'{case}/post').address:#x}/damage/" in change.where


@pytest.mark.parametrize(("case", "what"), CASES)
def test_an_unseen_page_of_a_handover_on_one_side_only_is_not_compared(case: str, what: str) -> None:
    memory = real.overlay(f"{case}/post")
    memory.remove(page_of(f"{case}/post", what))
    found = against(f"{case}/frozen", memory)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert all(f"{outgoing(f'{case}/post').address:#x}/" in gap.where for gap in found.not_compared)


def test_a_root_that_is_lost_on_one_side_is_neither_removed_nor_added() -> None:
    whole, memory = real.read("7.3-a/post"), real.overlay("7.3-a/post")
    memory.remove(next(one.address or 0 for one in whole.handovers if one.is_consumed))
    for states in ((whole, luoser.read(memory)), (luoser.read(memory), whole)):
        found = compare(*states)
        assert (found.changes, found.verdict) == ((), Verdict.INCONCLUSIVE)


# -- damage before the jump --------------------------------------------------------------------------------


def pages_before() -> dict[str, int]:
    found = outgoing("7.3-a/frozen")
    assert found.luo is not None
    session = found.luo.sessions[0]
    return {
        "LUO": page_of("7.3-a/frozen", LUO),
        "FLBs": found.luo.flb_area or 0,
        "sessions": session.address or 0,
        "memfd": session.files[0].data,
        "device list": found.pci[0].address,
    }


@pytest.mark.parametrize("what", pages_before())
def test_damage_before_the_jump_is_no_progress_after_it(what: str) -> None:
    """What the next kernel freed says nothing of it."""
    memory = real.overlay("7.3-a/frozen")
    memory.write(pages_before()[what] & ~0xFFF, random.Random(2).randbytes(4096))
    found = compare(luoser.read(memory), real.read("7.3-a/post"))
    damage = [change for change in found.changes if change.where.startswith("damage/")]
    assert damage and all(change.before == "damaged" and change.after in ("sound", "freed") for change in damage)
    assert found.verdict is Verdict.DIFFERENT


# -- pages that are in one source only ---------------------------------------------------------------------


def folios_of() -> tuple[int, int]:
    found = outgoing("7.3-a/frozen")
    assert found.luo is not None and found.luo.sessions[0].files[0].memfd is not None
    folios = found.luo.sessions[0].files[0].memfd.folios
    return folios.chunks[0], folios.pages[0]


@pytest.mark.parametrize("place", [0, 1])
def test_folios_of_a_list_that_was_not_read_are_not_removed(place: int) -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(folios_of()[place])
    found = against("7.3-a/frozen", memory)
    assert (found.changes, found.verdict) == ((), Verdict.INCONCLUSIVE)
    assert found.not_compared[0].where == "luo/sessions/vm-web-01/files/0x1a/memfd/folios"


def test_sessions_that_were_not_read_are_not_removed() -> None:
    found = outgoing("6.19-a/pre")
    assert found.luo is not None and found.luo.session_area
    memory = real.overlay("6.19-a/pre")
    memory.remove(found.luo.session_area)
    compared = against("6.19-a/pre", memory)
    assert (compared.changes, compared.verdict) == ((), Verdict.INCONCLUSIVE)


# -- lists of addresses ------------------------------------------------------------------------------------


def test_a_further_chunk_of_a_list_of_folios_is_a_difference() -> None:
    """Its entries are not read: the count is reached before."""
    found = outgoing("7.3-chain/frozen2")
    assert found.luo is not None
    (file,) = (file for session in found.luo.sessions for file in session.files if file.token == (1 << 64) - 1)
    assert file.memfd is not None
    memory = real.overlay("7.3-chain/frozen2")
    memory.write(file.memfd.folios.chunks[0], (0x1000).to_bytes(8, "little"))
    (change,) = against("7.3-chain/frozen2", memory).changes
    assert change.where.endswith("/files/0xffffffffffffffff/memfd/folios/chunks[1]")
    assert (change.before, change.after, change.note) == ("none", "0x1000", "1 item before, 2 after")


def test_a_map_that_is_made_anew_before_the_jump_is_progress_also_after_it() -> None:
    assert against("6.19-a/pre", real.overlay("6.19-a/post")).is_equal


def test_another_map_after_the_jump_than_before_is_a_difference() -> None:
    found = compare(real.read("6.19-a/frozen"), real.read("6.19-a/post"))
    assert found.is_equal
    memory = real.overlay("6.19-a/frozen")
    root = outgoing("6.19-a/frozen")
    address = root.preserved.address or 0
    data = memory.read(root.address or 0, 4096)
    place = data.index(address.to_bytes(8, "little"))
    memory.write(root.address or 0, data[:place] + (address + 0x1000).to_bytes(8, "little") + data[place + 8 :])
    changes = compare(luoser.read(memory), real.read("6.19-a/post")).changes
    assert "preserved/address" in [change.where for change in changes]


def test_a_direction_that_needs_the_map_is_not_compared_without_it() -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(page_of("7.3-a/frozen", MAP), state=PageState.DAMAGED)
    found = against("7.3-a/frozen", memory)
    assert (found.changes, found.verdict) == ((), Verdict.INCONCLUSIVE)


# -- damage that only rules show ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [bytes(4096), b"drwxr-xr-x 2 root root 4096\n" * 146, b"\x6b" * 4096])
def test_a_damaged_list_of_folios_before_the_jump_is_no_progress(data: bytes) -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.write(folios_of()[1], data[:4096])
    found = compare(luoser.read(memory), real.read("7.3-a/post"))
    damage = [change for change in found.changes if change.kind is not Kind.PROGRESS]
    assert damage and found.verdict is Verdict.DIFFERENT
    for change in damage:
        assert (change.before, change.after) == ("damaged", "consumed")
        assert change.where.startswith("handovers/0x5cd000/damage/luo.sessions[0].files[0]")


def test_two_sources_without_a_root_are_not_equal() -> None:
    memory = real.overlay("6.19-a/frozen")
    memory.remove(outgoing("6.19-a/frozen").address or 0)
    state = luoser.read(memory)
    assert compare(state, state).verdict is Verdict.INCONCLUSIVE


def test_a_property_of_a_sub_tree_that_is_gone_is_a_difference() -> None:
    """Its value can be known otherwise: that of blob-size from the devicetree itself."""
    root = outgoing("7.3-a/frozen").address or 0
    memory = real.overlay("7.3-a/frozen")
    data = memory.read(root, 4096)
    memory.write(root + data.index(b"blob-size\0"), b"blob-sizf\0")
    changes = {change.where for change in against("7.3-a/frozen", memory).changes}
    assert {"subtrees/LUO/properties", "subtrees/kho_test/properties"} <= changes
