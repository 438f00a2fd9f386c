# SPDX-License-Identifier: MIT
"""Device lists: every form by its shape, damage in real ones, and how sure the reader is."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import Handover, PciList, State, to_document
from tests import real
from tests.images import Image, Node, fdt, name, text, u32, u64
from tests.reader.helpers import codes, only, pci_entry, problems
from tests.work import steps

FROZEN, OLD = "7.3-a/frozen", "6.18-a/frozen"
FOLIO = "pci-lu-v2-03"
both = pytest.mark.parametrize("dump", [FROZEN, OLD])


def listed(handover: Handover, layout: str = FOLIO) -> PciList | None:
    return next((entry for entry in handover.pci if entry.layout == layout), None)


def sound(dump: str, layout: str = FOLIO) -> PciList:
    found = listed(only(real.read(dump)), layout)
    assert found is not None
    return found


# -- real lists --


def test_one_list_reached_by_two_ways_is_one_entry() -> None:
    assert sorted(sound(FROZEN).via) == ["flb:pci", "subtree:pci-luo-lab"]
    assert sound(OLD).via == ("subsystem:pci",)


def test_both_lists_of_one_handover_are_found() -> None:
    assert sorted(entry.layout for entry in only(real.read(FROZEN)).pci) == [FOLIO, "pci-v2-u64"]


def test_flb_name_does_not_decide_the_layout() -> None:
    """The newest series uses the FLB name `pci` for another layout; the shape tells."""
    assert "flb:pci" in sound(FROZEN).via


def test_confidence_is_in_words() -> None:
    for dump in (FROZEN, OLD):
        assert all("shape" in entry.confidence for entry in only(real.read(dump)).pci)


@both
@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x80000000, 257, 9])
def test_impossible_count_is_a_problem_and_not_a_list_of_that_length(dump: str, count: int) -> None:
    """No step for each device that a count claims; the sound dump takes 130,000 lines."""
    memory = real.overlay(dump)
    memory.write(sound(dump).address, u32(count))
    with steps(400_000):
        state = luoser.read(memory)
    found = listed(only(state))
    assert found is None or len(found.devices) <= 9
    assert any(problem.address == sound(dump).address for problem in state.problems)


@both
def test_impossible_count_is_bounded_even_when_the_layout_was_chosen(dump: str) -> None:
    """Nor with --layout, which takes the count as it is."""
    memory = real.overlay(dump)
    memory.write(sound(dump).address, u32(0xFFFFFFFF))
    with steps(400_000):
        state = luoser.read(memory, layouts=[FOLIO])
    found = listed(only(state))
    assert found is not None and 8 <= len(found.devices) <= 4096 // 16
    assert problems(state, "short-list")


@both
def test_unknown_flag_bits_are_numbers(dump: str, capsys: pytest.CaptureFixture[str]) -> None:
    memory = real.overlay(dump)
    memory.write(sound(dump).address + 8 + 4, u32(0x31))
    state = luoser.read(memory)
    found = listed(only(state))
    assert found is not None and len(found.devices) == 8
    assert found.devices[0].number("flags") == 0x31
    (entry,) = (entry for entry in to_document(state)["handovers"][0]["pci"] if entry["layout"] == FOLIO)
    assert (entry["devices"][0]["flags"], entry["devices"][0]["flag_names"]) == (0x31, ["LU_BUSMASTER", "0x30"])
    assert problems(state, "pci-fault")[0].address == found.address
    assert "with faults" in found.confidence
    print_state(state)
    assert "LU_BUSMASTER | 0x30" in capsys.readouterr().out


@both
@pytest.mark.parametrize(("state", "code"), [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded")])
def test_list_that_is_gone_is_a_problem(dump: str, state: PageState, code: str) -> None:
    memory = real.overlay(dump)
    memory.remove(sound(dump).address, state=state)
    found = luoser.read(memory)
    assert listed(only(found)) is None
    assert {problem.address for problem in problems(found, code)} == {sound(dump).address}


@both
@pytest.mark.parametrize("junk", [b"#!/bin/busybox sh\n" * 200, b"\xff" * 4096])
def test_list_that_was_reused_is_a_problem_and_no_list(dump: str, junk: bytes) -> None:
    memory = real.overlay(dump)
    memory.write(sound(dump).address, junk)
    state = luoser.read(memory)
    assert sound(dump).address not in [entry.address for entry in only(state).pci]
    assert problems(state, "pci-unknown-layout")[0].address == sound(dump).address


@both
def test_contents_of_driver_pages_are_read_when_asked_for(dump: str) -> None:
    handover = only(luoser.read(real.dump(dump), contents=True))
    found = listed(handover)
    assert found is not None
    wanted = {device.number("driver_data"): device.name for device in found.devices if device.number("driver_data")}
    assert len(wanted) == 4
    pages = {piece.address: piece.data.decode() for piece in found.contents}
    assert {address: text_.split()[4] for address, text_ in pages.items()} == wanted
    assert sound(dump).contents == ()


def test_contents_of_a_driver_page_that_is_gone_are_not_zeros() -> None:
    memory: Overlay = real.overlay(FROZEN)
    gone = sound(FROZEN).devices[0].number("driver_data")
    assert gone
    memory.remove(gone, state=PageState.EXCLUDED)
    state = luoser.read(memory, contents=True)
    assert problems(state, "excluded")[0].address == gone
    found = listed(only(state))
    assert found is not None
    assert gone not in [piece.address for piece in found.contents], "empty data stands for a page of zeros"


def test_driver_data_that_the_map_does_not_cover_is_not_followed() -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound(FROZEN).address + 8 + 8, u64(only(real.read(FROZEN)).preserved.address))
    found = listed(only(luoser.read(memory, contents=True)))
    assert found is not None
    assert only(real.read(FROZEN)).preserved.address not in [piece.address for piece in found.contents]


def test_driver_data_is_a_hex_string_and_path_is_not_shown() -> None:
    (entry,) = (entry for entry in real.document(FROZEN)["handovers"][0]["pci"] if entry["layout"] == FOLIO)
    device = entry["devices"][0]
    assert device["driver_data"].startswith("0x")
    assert "path" not in device
    assert device["bdf"] == "0000:41:00.0"


# -- every form --

DEVICES = [(0x0000, 0x0100), (0x0000, 0x4100), (0x0001, 0x0008)]
"""(domain, bdf), sorted."""
NAMES = ["0000:01:00.0", "0000:41:00.0", "0001:00:01.0"]


def path(place: tuple[int, int]) -> int:
    return place[0] << 16 | place[1]


def folio_v2_03() -> bytes:
    return struct.pack("<I4x", 3) + b"".join(struct.pack("<IIQ", path(place), 1, 0x99000) for place in DEVICES)


def folio_v2_06() -> bytes:
    rows = (struct.pack("<II63sxQ", path(place), 2 - (place == DEVICES[0]), b"nvme", 0x99000) for place in DEVICES)
    return struct.pack("<I4x", 3) + b"".join(rows)


def folio_v1_04() -> bytes:
    rows = (struct.pack("<IB3xQ", path(place), place == DEVICES[0], 0x99000) for place in DEVICES)
    return struct.pack("<I4x", 3) + b"".join(rows)


def v1_nr() -> bytes:
    return struct.pack("<Q", 3) + b"".join(struct.pack("<HH", *place) for place in DEVICES)


def v1_u64() -> bytes:
    return struct.pack("<QQ", 10, 3) + b"".join(struct.pack("<HH", *place) for place in DEVICES)


def v2_u64(refcount: int = 1) -> bytes:
    return struct.pack("<QQ", 10, 3) + b"".join(struct.pack("<IHH", *place, refcount) for place in DEVICES)


def v2_u32(refcount: int = 1) -> bytes:
    return struct.pack("<II", 10, 3) + b"".join(struct.pack("<IHH", *place, refcount) for place in reversed(DEVICES))


def version(image: Image, number: int) -> bytes:
    return struct.pack("<IIQ", number, 3, image.blocks([struct.pack("<IHH", *place, 1) for place in DEVICES]))


def v7_block(image: Image) -> bytes:
    return struct.pack("<IQ", 3, image.blocks([struct.pack("<IHH", *place, 1) for place in DEVICES]))


def flb_image(image: Image, label: str, blob: bytes) -> State:
    """A luo-v5 with one FLB whose data is a page with these bytes."""
    page = image.alloc(struct.pack("<QQ", 1, 1) + name(label, 48) + struct.pack("<QQ", image.alloc(blob), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, page)), 32)})
    return image.read()


FORMS = {
    "pci-lu-v2-03": folio_v2_03(),
    "pci-lu-v2-06": folio_v2_06(),
    "pci-lu-v1-04": folio_v1_04(),
    "pci-v1-nr": v1_nr(),
    "pci-v1-u64": v1_u64(),
    "pci-v2-u64": v2_u64(),
    "pci-v1-u64-wide": v2_u64(refcount=0),
    "pci-v2-u32": v2_u32(),
    "pci-v1-u32": v2_u32(refcount=0),
}


@pytest.mark.parametrize("label", ["pci", "pci-v1", "pci-v2"])
@pytest.mark.parametrize("layout", FORMS)
def test_form_is_told_by_its_shape_whatever_the_flb_is_called(layout: str, label: str) -> None:
    state = flb_image(Image(), label, FORMS[layout])
    (entry,) = only(state).pci
    assert entry.layout == layout
    names = [device.name for device in entry.devices]
    assert names == (NAMES[::-1] if layout.endswith("u32") else NAMES)
    assert entry.via == (f"flb:{label}",)
    assert state.problems == ()


@pytest.mark.parametrize("number", [1, 2])
def test_form_with_a_version_and_blocks(number: int) -> None:
    image = Image()
    state = flb_image(image, "pci", version(image, number))
    (entry,) = only(state).pci
    assert entry.layout == f"pci-version-{number}"
    assert [device.name for device in entry.devices] == NAMES
    assert len(entry.blocks) == 1
    assert state.problems == ()


def test_form_with_an_unaligned_block_pointer() -> None:
    image = Image()
    (entry,) = only(flb_image(image, "pci-v2", v7_block(image))).pci
    assert entry.layout == "pci-v2-block"
    assert [device.name for device in entry.devices] == NAMES


def test_blocks_that_loop_end_fast() -> None:
    """The blocks that were visited are remembered."""
    image = Image()
    rows = [struct.pack("<IHH", 0, bdf, 1) for bdf in range(1200)]
    first = image.blocks(rows)
    second = int.from_bytes(image.data[first : first + 8], "little")
    image.put(second, u64(first))
    with steps(500_000):
        state = flb_image(image, "pci", struct.pack("<IIQ", 2, 1200, first))
    assert state.problems


def test_members_of_the_form_with_driver_names() -> None:
    (entry,) = only(flb_image(Image(), "pci", folio_v2_06())).pci
    device = entry.devices[0]
    assert (device.fields["driver_name"], device.number("flags"), device.number("driver_data")) == ("nvme", 1, 0x99000)


def subtree_image(blob: bytes, size: int) -> State:
    image = Image()
    image.handover({"whatever": (image.alloc(blob), size)})
    return image.read()


def test_sub_tree_of_an_unknown_name_is_a_list_when_its_size_fits_exactly() -> None:
    blob = folio_v2_03()
    (entry,) = only(subtree_image(blob, len(blob))).pci
    assert (entry.layout, entry.via) == (FOLIO, ("subtree:whatever",))
    assert "exact size" in entry.confidence


@pytest.mark.parametrize("more", [-16, -1, 1, 16])
def test_sub_tree_of_another_size_is_no_list_and_no_problem(more: int) -> None:
    blob = folio_v2_03()
    state = subtree_image(blob, len(blob) + more)
    assert only(state).pci == ()
    assert state.problems == ()
    assert [(subtree.name, subtree.size) for subtree in only(state).subtrees] == [("whatever", len(blob) + more)]


@pytest.mark.parametrize("blob", [b"hello, world".ljust(136, b"."), bytes(range(136)), b"\xff" * 136])
def test_other_blob_in_a_sub_tree_is_no_list(blob: bytes) -> None:
    state = subtree_image(blob, len(blob))
    assert only(state).pci == ()
    assert state.problems == ()


def test_list_over_several_pages() -> None:
    image = Image()
    rows = b"".join(struct.pack("<IIQ", index + 1, 1, 0) for index in range(1000))
    folio = image.alloc(struct.pack("<I4x", 1000) + rows, order=2)
    page = image.alloc(struct.pack("<QQ", 1, 1) + name("pci", 48) + struct.pack("<QQ", folio, 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, page)), 32)})
    state = image.read()
    (entry,) = only(state).pci
    assert (entry.layout, len(entry.devices)) == (FOLIO, 1000)
    assert entry.devices[-1].index == 999
    assert state.problems == ()


def test_list_in_the_subsystems_of_2025() -> None:
    image = Image()
    folio = image.alloc(folio_v2_03())
    subsystems = Node("subsystems", {"compatible": text("subsystems-v1"), "pci": u64(folio)})
    luo = image.alloc(fdt(Node("", {"compatible": text("luo-v1")}, [subsystems])))
    image.handover({"LUO": (luo, None)}, compatible="kho-v1")
    state = image.read()
    (entry,) = only(state).pci
    assert (entry.layout, entry.via, entry.address) == (FOLIO, ("subsystem:pci",), folio)
    assert state.problems == ()


def test_named_layout_is_the_last_word() -> None:
    image = Image()
    page = image.alloc(struct.pack("<QQ", 1, 1) + name("pci", 48) + struct.pack("<QQ", image.alloc(folio_v1_04()), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, page)), 32)})
    state = image.read(layouts=[FOLIO])
    (entry,) = only(state).pci
    assert entry.layout == FOLIO
    assert "--layout" in entry.confidence


def test_domain_beyond_16_bits_is_shown_whole() -> None:
    blob = struct.pack("<QQ", 4, 1) + struct.pack("<IHH", 0x10000, 0xFFFF, 1)
    (entry,) = only(flb_image(Image(), "pci-v2", blob)).pci
    assert entry.devices[0].name == "10000:ff:1f.7"


# -- what looks like a list --


def pci_state(image: Image, blob: bytes, label: str = "pci-v2") -> State:
    page = image.alloc(struct.pack("<QQ", 1, 1) + name(label, 48) + struct.pack("<QQ", image.alloc(blob), 1))
    image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, page)), 32)})
    return image.read()


def test_hole_in_a_block_is_no_device_and_keeps_its_slot() -> None:
    image = Image()
    blocks = image.blocks([pci_entry(0x100), bytes(8), pci_entry(0x200)])
    (found,) = pci_state(image, struct.pack("<IIQ", 2, 2, blocks), "pci").handovers[0].pci
    assert found.layout == "pci-version-2"
    assert [(device.index, device.name) for device in found.devices] == [(0, "0000:01:00.0"), (2, "0000:02:00.0")]


def test_hole_in_an_inline_list_is_no_device() -> None:
    blob = struct.pack("<II", 4, 2) + pci_entry(0x100) + bytes(8) + pci_entry(0x200) + bytes(8)
    (found,) = pci_state(Image(), blob).handovers[0].pci
    assert found.layout == "pci-v2-u32"
    assert [device.name for device in found.devices] == ["0000:01:00.0", "0000:02:00.0"]


def test_list_with_one_fault_is_shown_with_it() -> None:
    blob = struct.pack("<Q", 3) + b"".join(struct.pack("<HH", 0, bdf) for bdf in (0x100, 0x4100, 0x300))
    state = pci_state(Image(), blob, "pci-v1")
    (found,) = state.handovers[0].pci
    assert (found.layout, len(found.devices)) == ("pci-v1-nr", 3)
    assert "pci-fault" in codes(state)
