# SPDX-License-Identifier: MIT
"""LUO's root, sessions, files and FLBs in every form: golden bytes, edges of what holds them, what cannot be."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.state import State, to_document
from luoser.writer import write
from tests.golden import CATALOGUE
from tests.writer.helpers import built, built_luo, compared, differences, order_at, reread, sessions
from tests.writer.specs import LUO_FORMS

Json = dict[str, Any]


# -- golden bytes ------------------------------------------------------------------------------------------


def test_golden_bytes_of_luo_v5() -> None:
    luo = {
        "session_area": "0x10abc0000",
        "session_blocks": ["0x10abc0000"],
        "flb_area": "0x10abd0000",
        "sessions": [{"name": "vm0", "files": [{"compatible": "memfd-v2", "data": "0x10d000000", "token": 0x1234}],
                      "blocks": ["0x10abc5000"]}],
        "flbs": [{"name": "pci", "data": "0x1f1d2a000", "count": 2}],
    }  # fmt: skip
    found, _, image = built_luo(luo)
    assert image.read(found.address, 32) == CATALOGUE["luo-ser.bin"]
    assert image.read(0x10ABC0000, 4096) == CATALOGUE["luo-session-block.bin"]
    assert image.read(0x10ABD0000, 4096) == CATALOGUE["luo-flb-page.bin"]
    assert image.read(0x10ABC5000, 4096) == (struct.pack("<QQ", 0, 1) + CATALOGUE["memfd-file.bin"]).ljust(4096, b"\0")


def test_roots_of_the_other_forms() -> None:
    composed, _, image = built_luo({"layout": "luo-composed"})
    assert image.read(composed.address, 24) == b"luo-v5;block-v1\0" + struct.pack("<Q", 1)
    features, _, image = built_luo({"layout": "luo-features", "liveupdate_number": 9})
    assert image.read(features.address, 136) == struct.pack("<3Q", 7, 7, 7) + bytes(104) + struct.pack("<Q", 9)
    second, state, image = built_luo({"layout": "luo-v2", "liveupdate_number": 3})
    tree = next(subtree.fdt for subtree in state.handovers[0].subtrees if subtree.name == "LUO")
    assert tree is not None
    pointer = tree.root.u64("luo-abi-header")
    assert pointer is not None and order_at(state, pointer) == 0
    assert image.read(pointer, 16) == struct.pack("<QQ", 3, second.session_area or 0)


def test_the_session_form_of_november_2025() -> None:
    """16 bytes of header with a page count, 56 bytes of name, a page count for the files."""
    luo, _, image = built_luo({"layout": "luo-v1-session-v1", "sessions": sessions(1, 1)})
    area = luo.session_area
    assert area is not None
    assert image.read(area, 16) == struct.pack("<QQ", 16, 1)
    assert image.read(area + 16, 80) == struct.pack("<56sQQQ", b"s0", luo.sessions[0].blocks[0], 2, 1)


def test_a_session_without_files_has_no_pages_of_files() -> None:
    luo, _, image = built_luo({"layout": "luo-v1-session-v1", "sessions": sessions(1)})
    assert luo.session_area is not None
    assert image.read(luo.session_area + 16, 80) == struct.pack("<56sQQQ", b"s0", 0, 0, 0)


# -- edges -------------------------------------------------------------------------------------------------


def test_819_sessions_in_the_area_of_16_pages() -> None:
    luo, state, image = built_luo({"layout": "luo-v1-flb", "sessions": sessions(819)})
    assert luo.session_area is not None and order_at(state, luo.session_area) == 4
    assert image.read(luo.session_area, 8) == struct.pack("<Q", 819)
    last = image.read(luo.session_area + 8 + 80 * 818, 80)
    assert last == b"s818".ljust(80, b"\0")
    assert [session.name for session in reread(image).handovers[0].luo.sessions][818] == "s818"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="sessions: 820, at most 819 fit"):
        built_luo({"layout": "luo-v1-flb", "sessions": sessions(820)})


def test_128_files_in_two_pages() -> None:
    luo, state, image = built_luo({"layout": "luo-v1", "sessions": sessions(1, 128)}, kernel="6.19")
    (block,) = luo.sessions[0].blocks
    assert order_at(state, block) == 1
    assert image.read(block + 64 * 127, 64) == struct.pack("<48sQQ", b"x-v1", luo.sessions[0].files[127].data, 127)
    with pytest.raises(UsageError, match=r"sessions\[0\].files: 129, at most 128 fit"):
        built_luo({"layout": "luo-v1", "sessions": sessions(1, 129)}, kernel="6.19")


def test_63_flbs_in_a_page() -> None:
    flbs = [{"name": f"f{number}", "count": 1} for number in range(63)]
    luo, state, image = built_luo({"flbs": flbs})
    assert luo.flb_area is not None and order_at(state, luo.flb_area) == 0
    assert image.read(luo.flb_area, 16) == struct.pack("<QQ", 1, 63)
    assert len(reread(image).handovers[0].luo.flbs) == 63  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="flbs: 64, at most 63 fit"):
        built_luo({"flbs": [*flbs, {"name": "more"}]})


def test_names_up_to_the_end_of_their_fields() -> None:
    longest = {"name": "s" * 63, "files": [{"compatible": "c" * 47}]}
    _, _, image = built_luo({"sessions": [longest], "flbs": [{"name": "f" * 47}]})
    again = reread(image).handovers[0].luo
    assert again is not None and again.sessions[0].files[0].compatible == "c" * 47
    for luo, word in (
        ({"sessions": [{"name": "s" * 64}]}, "name: too long: expected at most 63 bytes and a NUL, found 64"),
        ({"sessions": [{"name": "a\0b"}]}, "name: NUL inside the name"),
        ({"sessions": [{"name": "a", "files": [{"compatible": "c" * 48}]}]}, "compatible: too long: .* found 48"),
        ({"flbs": [{"name": "f" * 48}]}, "FLB f+, name: too long: .* found 48"),
        (
            {"layout": "luo-v1-session-v1", "sessions": [{"name": "s" * 56}]},
            "name: too long: expected at most 55 bytes and a NUL, found 56",
        ),
        (
            {"layout": "luo-v5", "compatible": "luo-v555"},
            "compatible: too long: expected at most 7 bytes and a NUL, found 8",
        ),
    ):
        with pytest.raises(UsageError, match=word):
            built_luo(luo)


def test_a_session_of_eighteen_quintillion_kexecs() -> None:
    _, _, image = built_luo(
        {"liveupdate_number": (1 << 64) - 1, "sessions": [{"name": "a", "files": [{"token": "0xffffffffffffffff"}]}]}
    )
    again = reread(image).handovers[0].luo
    assert again is not None and again.number == (1 << 64) - 1 and again.sessions[0].files[0].token == (1 << 64) - 1


# -- every form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LUO_FORMS)
@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_what_every_form_can_say_comes_back(layout: str, page_size: int) -> None:
    luo: Json = {"layout": layout, "subsystems": [{"name": "s", "data": "0x123"}]}
    if layout != "luo-v1-subsystems":
        luo = {"layout": layout, "sessions": [*sessions(60, 3), {"name": "m", "files": [{"memfd": {"size": "12K"}}]}]}
    state, image = built({"source": {"page_size": page_size}, "handovers": [{"luo": luo}]})
    said, read = to_document(state, full=True), to_document(reread(image), full=True)
    assert not list(differences(compared(said), compared(read)))
    found = read["handovers"][0]["luo"]
    assert found["layout"] == layout and found["serialized"]


def test_before_the_reboot_nothing_is_serialized() -> None:
    luo, _, image = built_luo({})
    assert not luo.serialized and luo.flb_area is not None
    assert image.read(luo.flb_area, 16) == struct.pack("<QQ", 1, 0)
    again = reread(image).handovers[0].luo
    assert again is not None and not again.serialized


# -- what cannot be ----------------------------------------------------------------------------------------


def changed(state: State, **values: Any) -> State:
    (only,) = state.handovers
    assert only.luo is not None
    return replace(state, handovers=(replace(only, luo=replace(only.luo, **values)),))


@pytest.mark.parametrize("layout", ["luo-v5", "luo-v3"])
def test_two_sessions_at_one_place_are_refused(layout: str) -> None:
    luo, state, _ = built_luo({"layout": layout, "sessions": sessions(2)})
    first, second = luo.sessions
    with pytest.raises(UsageError, match=r"lie at|lies at"):
        write(changed(state, sessions=(first, replace(second, address=first.address))))


@pytest.mark.parametrize("layout", ["luo-v5", "luo-v3"])
@pytest.mark.parametrize("shift", [1, 8, -80, 1 << 20])
def test_a_session_at_no_place_of_an_entry_is_refused(layout: str, shift: int) -> None:
    luo, state, _ = built_luo({"layout": layout, "sessions": sessions(1)})
    (only,) = luo.sessions
    assert only.address is not None
    with pytest.raises(UsageError, match="is no place of an entry"):
        write(changed(state, sessions=(replace(only, address=only.address + shift),)))


@pytest.mark.parametrize(("layout", "header"), [("luo-v3", 8), ("luo-v1-session-v1", 16)])
def test_the_819th_place_of_an_area_holds_a_session_and_the_820th_is_none(layout: str, header: int) -> None:
    """With a header of 16 bytes the last session ends where the 16 pages do."""
    luo, state, _ = built_luo({"layout": layout, "sessions": sessions(1)})
    assert luo.session_area is not None
    last = replace(luo.sessions[0], address=luo.session_area + header + 818 * 80)
    image = write(changed(state, sessions=(last,)))
    assert image.read(luo.session_area, 16).count(struct.pack("<Q", 819)) == 1
    assert image.read(luo.session_area + header, 80) == bytes(80)
    with pytest.raises(UsageError, match="is no place of an entry"):
        write(changed(state, sessions=(replace(last, address=luo.session_area + header + 819 * 80),)))


def test_the_128th_place_of_an_array_holds_a_file_and_the_129th_is_none() -> None:
    luo, state, _ = built_luo({"layout": "luo-v4", "sessions": sessions(1, 1)})
    (only,) = luo.sessions
    for number, refused in ((127, False), (128, True)):
        file = replace(only.files[0], address=only.blocks[0] + number * 64)
        made = changed(state, sessions=(replace(only, files=(file,)),))
        if refused:
            with pytest.raises(UsageError, match="is no place of a file entry"):
                write(made)
        else:
            assert write(made).read(only.blocks[0] + 127 * 64, 4) == b"x-v1"


@pytest.mark.parametrize("shift", [1, 32, -64])
def test_a_file_at_no_place_of_an_entry_is_refused(shift: int) -> None:
    luo, state, _ = built_luo({"layout": "luo-v4", "sessions": sessions(1, 1)})
    (only,) = luo.sessions
    file = replace(only.files[0], address=only.blocks[0] + shift)
    with pytest.raises(UsageError, match="is no place of a file entry"):
        write(changed(state, sessions=(replace(only, files=(file,)),)))


@pytest.mark.parametrize("layout", ["luo-v5", "luo-v4"])
def test_two_files_at_one_place_are_refused(layout: str) -> None:
    luo, state, _ = built_luo({"layout": layout, "sessions": sessions(1, 2)})
    (only,) = luo.sessions
    files = (only.files[0], replace(only.files[1], address=only.files[0].address))
    with pytest.raises(UsageError, match=r"two (file )?entries lie at"):
        write(changed(state, sessions=(replace(only, files=files),)))


def test_flbs_lie_side_by_side() -> None:
    luo, state, _ = built_luo({"flbs": [{"name": "a"}, {"name": "b"}]})
    with pytest.raises(UsageError, match="FLBs lie side by side"):
        write(changed(state, flbs=luo.flbs[::-1]))


def test_sessions_with_and_without_addresses() -> None:
    """Given ones are kept, the others are in the slot of their number; who takes it first is told."""
    blocks = ["0x2000000"]
    luo, _, _ = built_luo(
        {"session_blocks": blocks, "sessions": [{"name": "a"}, {"name": "b", "address": hex(0x2000010 + 160)}]}
    )
    assert [session.address for session in luo.sessions] == [0x2000010, 0x20000B0]
    clash = [{"name": "a"}, {"name": "b", "address": "0x2000010"}]
    with pytest.raises(UsageError, match=r"sessions\[0\].address: missing; its place 0x2000010 is that of another"):
        built_luo({"session_blocks": blocks, "sessions": clash})


def test_a_form_that_nobody_knows_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"luo.layout: no form of LUO is named like that; expected one of luo-composed"
    ):
        built_luo({"layout": "luo-v9"})


@pytest.mark.parametrize("layout", ["luo-v1", "luo-v1-subsystems"])
def test_forms_without_flbs_refuse_them(layout: str) -> None:
    with pytest.raises(UsageError, match=f"luo.flbs: {layout} has none"):
        built_luo({"layout": layout, "flbs": [{"name": "a"}]})
