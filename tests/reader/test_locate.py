# SPDX-License-Identifier: MIT
"""Finding KHO roots, and not finding what is none."""

from __future__ import annotations

import struct

import pytest

import luoser
from luoser.errors import PageState, UsageError
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.reader.locate import find_setup_nodes
from luoser.reader.walk import Walk
from luoser.state import Area, Direction
from tests import real
from tests.images import Image, Node, fdt, text, u64
from tests.reader.helpers import only, problems
from tests.reader.messengers import boot_tree, named, setup_node
from tests.work import steps


def root_tree(compatible: bytes, name: str = "") -> bytes:
    return fdt(Node(name, {"compatible": compatible, "preserved-memory-map": u64(0)}))


def roots(image: Image) -> list[int]:
    return [handover.address for handover in image.read().handovers]


@pytest.mark.parametrize("version", ["kho-v1", "kho-v2", "kho-v3", "kho-v4", "kho-v4;radix-v1", "kho-v17"])
def test_every_version_of_the_compatible_string_is_a_root(version: str) -> None:
    image = Image()
    address = image.alloc(root_tree(text(version)))
    state = image.read()
    assert only(state).address == address
    assert only(state).compatible == version


@pytest.mark.parametrize("compatible", [b"luo-v1\0", b"kho-test-v1\0", b"akho-v4\0", b"", b"kho\0"])
def test_other_devicetrees_are_no_roots(compatible: bytes) -> None:
    image = Image()
    image.alloc(root_tree(compatible))
    assert roots(image) == []


def test_tree_whose_root_node_has_a_name_is_no_root() -> None:
    image = Image()
    image.alloc(root_tree(b"kho-v4\0", name="kho"))
    assert roots(image) == []


def test_the_string_in_a_child_makes_no_root() -> None:
    image = Image()
    image.tree(Node("", {"model": text("x")}, [Node("LUO", {"compatible": text("kho-v4")})]))
    assert roots(image) == []


def test_root_off_a_page_start_is_not_found() -> None:
    image = Image()
    image.put(image.alloc() + 2048, root_tree(b"kho-v4\0"))
    assert roots(image) == []


def test_root_larger_than_its_page_is_none() -> None:
    image = Image()
    blob = bytearray(root_tree(b"kho-v4\0"))
    blob[4:8] = (4097).to_bytes(4, "big")
    image.alloc(bytes(blob))
    assert roots(image) == []


def test_root_damaged_behind_its_compatible_is_a_root_with_a_problem() -> None:
    image = Image()
    blob = bytearray(root_tree(b"kho-v4\0"))
    end = blob.rindex((9).to_bytes(4, "big"), 0, blob.index(b"compatible\0"))
    blob[end : end + 4] = b"\xff" * 4
    address = image.alloc(bytes(blob))
    state = image.read()
    assert only(state).address == address
    assert [problem.address for problem in problems(state, "bad-fdt")] == [address]


def test_roots_come_by_address() -> None:
    image = Image()
    made = [image.alloc(root_tree(b"kho-v4\0")) for _ in range(5)]
    assert roots(image) == made


def test_number_of_roots_is_bounded() -> None:
    image = Image(pages=1024)
    for _ in range(500):
        image.alloc(root_tree(b"kho-v4\0"))
    with steps(250_000):
        state = image.read()
    assert 0 < len(state.handovers) < 500
    assert problems(state, "too-many-roots")


def crowd(image: Image, count: int) -> list[int]:
    """Roots of which nothing is there."""
    subtrees = {"LUO": (0x7000_0000, 32), "memblock": (0x7100_0000, 64)}
    return [image.handover(subtrees, map_address=0x7200_0000 + 4096 * number) for number in range(count)]


def live(image: Image) -> int:
    """A root that names LUO's page."""
    return image.handover({"LUO": (image.alloc(b"luo-v5\0\0" + u64(1) + bytes(16)), 32)})


def test_of_too_many_roots_the_likeliest_are_read() -> None:
    image = Image(pages=1024)
    crowd(image, 30)
    wanted = [live(image), live(image)]
    state = image.read()
    assert len(state.handovers) == 16
    assert {handover.address for handover in state.handovers} > {*wanted}
    text = "too many KHO roots: found 32, only the 16 likeliest are read; --limit roots=N raises this limit, now 16"
    assert problems(state, "too-many-roots")[0].message == text


def test_of_too_many_roots_one_that_setup_data_names_is_read() -> None:
    image = Image(pages=1024)
    for _ in range(20):
        live(image)
    wanted = crowd(image, 5)[-1]
    array = image.alloc(keep=False)
    assert wanted not in roots(image)
    image.alloc(bytes(0xD0) + setup_node(wanted, array, 48), keep=False)
    assert wanted in roots(image)


def test_of_too_many_roots_one_that_the_user_names_is_read() -> None:
    image = Image(pages=1024)
    for _ in range(20):
        live(image)
    wanted = crowd(image, 5)[-1]
    assert only(image.read(root=wanted)).address == wanted
    found = {handover.address: handover for handover in image.read(directions={wanted: Direction.INCOMING}).handovers}
    assert len(found) == 16 and found[wanted].direction is Direction.INCOMING


def test_sixteen_roots_are_all_read() -> None:
    image = Image(pages=1024)
    wanted = [*crowd(image, 15), live(image)]
    state = image.read()
    assert sorted(handover.address or 0 for handover in state.handovers) == sorted(wanted)
    assert problems(state, "too-many-roots") == []


# -- what names a root --


def test_setup_data_that_names_a_page_which_is_no_root_is_reported() -> None:
    memory = real.overlay("6.18-a/frozen")
    root = only(real.read("6.18-a/frozen")).address
    assert root is not None
    memory.write(root, b"#!/bin/sh\n" * 409)
    state = luoser.read(memory)
    nodes = [one.address for one in named(real.dump("6.18-a/frozen"))]
    assert state.handovers == ()
    assert [(problem.address, problem.root) for problem in problems(state, "no-root")] == [(root, None)] * len(nodes)
    for node, problem in zip(nodes, problems(state, "no-root"), strict=True):
        word = f"the setup_data node at {node:#x}: expected a KHO root at {root:#x}, found none"
        assert problem.message == f"{word}; a kernel reports an invalid handover FDT"


def test_setup_data_that_names_a_page_of_zeros_is_reported_beside_a_root() -> None:
    image = Image()
    live(image)
    page, array = image.alloc(keep=False), image.alloc(keep=False)
    image.alloc(bytes(0xD0) + setup_node(page, array, 48), keep=False)
    state = image.read()
    assert [problem.address for problem in problems(state, "no-root")] == [page]


@pytest.mark.parametrize("gone", [PageState.ABSENT, PageState.EXCLUDED, PageState.DAMAGED])
def test_setup_data_that_names_a_page_which_is_not_in_the_source_says_nothing(gone: PageState) -> None:
    memory = real.overlay("6.18-a/frozen")
    memory.remove(only(real.read("6.18-a/frozen")).address or 0, state=gone)
    state = luoser.read(memory)
    assert (state.handovers, problems(state, "no-root")) == ((), [])


def test_setup_data_that_names_one_of_too_many_roots_is_no_stray() -> None:
    image = Image(pages=1024)
    named_roots = [live(image) for _ in range(20)]
    array = image.alloc(keep=False)
    for root in named_roots:
        image.alloc(bytes(0xD0) + setup_node(root, array, 48), keep=False)
    state = image.read()
    assert problems(state, "too-many-roots") and problems(state, "no-root") == []


def test_many_strays_hide_no_node_of_a_root() -> None:
    """A host's memory holds the setup_data of its guests."""
    image = Image(pages=1024)
    for number in range(200):
        image.alloc(setup_node(0x7000_0000 + 4096 * number, 0x7100_0000, 48), keep=False)
    root = live(image)
    array = image.alloc(struct.pack("<QQ", 0x100_0000, 0x20_0000), keep=False)
    image.alloc(setup_node(root, array, 16), keep=False)
    assert only(image.read()).scratch == (Area(address=0x100_0000, size=0x20_0000),)


@pytest.mark.parametrize("is_known", [True, False])
def test_nodes_beyond_the_limit_are_said(is_known: bool) -> None:
    """Without a root, each of them is one that may have lost its own."""
    image = Image()
    root = live(image) if is_known else image.alloc(b"#!/bin/sh", keep=False)
    for _ in range(3):
        image.alloc(setup_node(root, image.alloc(keep=False), 48), keep=False)
    with limited(Limits(setup_nodes=3)):
        assert problems(image.read(), "too-many") == []
    with limited(Limits(setup_nodes=2)):
        (problem,) = problems(image.read(), "too-many")
    assert "only the first 2 are looked at; --limit setup_nodes=N" in problem.message


def test_pages_that_only_start_like_a_root_have_a_limit() -> None:
    image = Image()
    for number in range(3):
        image.alloc(root_tree(b"kho-vX\0" + bytes([number]) + b"\0"), keep=False)
    live(image)
    with limited(Limits(false_roots=4)):
        assert problems(image.read(), "too-many-candidates") == []
    with limited(Limits(false_roots=2)):
        (problem,) = problems(image.read(), "too-many-candidates")
    assert "--limit false_roots=N" in problem.message


def test_chosen_that_names_a_page_which_is_no_root_is_reported() -> None:
    image = Image()
    live(image)
    page = image.alloc(b"#!/bin/sh", keep=False)
    tree = image.alloc(boot_tree(page), keep=False)
    (problem,) = problems(image.read(), "no-root")
    assert problem.address == page
    word = f"the devicetree at {tree:#x}: expected a KHO root at {page:#x}, found none"
    assert problem.message == f"{word}; a kernel reports an invalid handover FDT"


@pytest.mark.parametrize(
    ("state", "code"),
    [(None, "root-lost"), (PageState.EXCLUDED, "root-unread"), (PageState.DAMAGED, "root-unread")],
)
def test_root_of_a_chosen_in_scratch_that_is_gone(state: PageState | None, code: str) -> None:
    """The devicetree of a kernel that took over: kexec put it into scratch."""
    image = Image()
    root = live(image)
    array = image.alloc(keep=False)
    tree = image.alloc(boot_tree(root, array=array, array_size=16), keep=False)
    image.put(array, struct.pack("<QQ", tree, 4096))
    assert not problems(image.read(), code)
    overlay = Overlay(image.open())
    overlay.write(root, bytes(4096))
    if state is not None:
        overlay.remove(root, state=state)
    (problem,) = problems(luoser.read(overlay), code)
    assert (problem.address, problem.root) == (root, None)
    assert problem.message.startswith(f"the devicetree at {tree:#x} is in scratch and points to a root at {root:#x}")


@pytest.mark.parametrize("limit", ["boot_tree_bytes", "boot_tree_size", "boot_tree_strings"])
def test_chosen_behind_more_devicetrees_than_are_searched_is_not_called_absent(limit: str) -> None:
    image = Image()
    root = live(image)
    image.alloc(boot_tree(root), keep=False)
    assert not problems(image.read(), "too-many")
    with limited(Limits(**{limit: 16})):
        (problem,) = problems(image.read(), "too-many")
    assert f"--limit {limit}=N" in problem.message


def test_large_devicetrees_that_name_no_root_meet_no_limit() -> None:
    """An image of U-Boot is a devicetree of many MiB."""
    image = Image()
    live(image)
    image.alloc(fdt(Node("", {"data": bytes(3000)})), keep=False)
    with limited(Limits(boot_tree_size=2000)):
        assert not problems(image.read(), "too-many")


# -- one root --


def test_root_can_be_named() -> None:
    image = Image()
    image.alloc(root_tree(b"kho-v4\0"))
    wanted = image.alloc(root_tree(b"kho-v1\0"))
    assert only(image.read(root=wanted)).address == wanted


@pytest.mark.parametrize("address", [0, 0x1000, 0x5CD001, 1 << 60])
def test_naming_a_page_that_is_no_root_is_refused(address: int) -> None:
    with pytest.raises(UsageError, match=f"no KHO root at {address:#x}"):
        luoser.read(real.dump("7.3-a/frozen"), root=address)


@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.EXCLUDED])
def test_root_page_that_is_gone_is_not_found(state: PageState) -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(only(real.read("7.3-a/frozen")).address, state=state)
    assert luoser.read(memory).handovers == ()


def test_image_of_zeros_has_no_state() -> None:
    state = Image().read()
    assert (state.handovers, state.problems) == ((), ())


def test_scratch_array_that_cannot_be_one_is_not_shown() -> None:
    name = "7.3-a/post"
    incoming = real.read(name).handovers[0]
    assert incoming.scratch
    where = next(int(word.split()[-1], 16) for word in incoming.evidence if "scratch array" in word)
    memory = real.overlay(name)
    memory.write(where, b"#!/bin/sh" * 5)
    assert luoser.read(memory).handovers[0].scratch is None


def test_sub_tree_without_an_address_is_a_problem() -> None:
    image = Image()
    tree = Node(
        "", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}, [Node("odd", {"blob-size": u64(8)})]
    )
    image.tree(tree)
    state = image.read()
    assert [(subtree.name, subtree.address, subtree.size) for subtree in only(state).subtrees] == [("odd", None, 8)]
    assert "odd" in problems(state, "bad-subtree")[0].message


@pytest.mark.parametrize("address", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_sub_tree_with_an_impossible_address_is_a_problem(address: int) -> None:
    image = Image()
    image.handover({"odd": (address, 8)})
    state = image.read()
    assert [(subtree.name, subtree.address) for subtree in only(state).subtrees] == [("odd", None)]
    assert f"{address:#x}" in problems(state, "bad-pointer")[0].message


@pytest.mark.parametrize("compatible", ["kho-vX", "kho-v", "kho-v4 ", "kho-v4garbage"])
def test_what_only_starts_like_a_root_is_none(compatible: str) -> None:
    image = Image()
    image.handover(compatible=compatible)
    assert image.read().handovers == ()


@pytest.mark.parametrize("name", ["6.18-a/post", "6.19-a/post", "7.3-a/post", "7.3-chain/post"])
def test_copy_of_a_root_whose_map_is_consumed_is_left_out(name: str) -> None:
    """setup_data shows which of the two it is."""
    before, memory = real.read(name), real.overlay(name)
    taken = next(one for one in before.handovers if one.direction is Direction.INCOMING)
    place = next(entry.address for entry in taken.subtrees if entry.name == "kho_test")  # its page is free
    assert place is not None and taken.address is not None
    memory.write(place, memory.read(taken.address, 4096))
    state = luoser.read(memory)
    assert [(one.address, one.direction) for one in state.handovers] == [
        (one.address, one.direction) for one in before.handovers
    ]
    assert [problem.address for problem in problems(state, "root-copy")] == [place]


def test_copy_of_a_root_is_left_out() -> None:
    image = Image()
    root = image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32)})
    copy = image.alloc(bytes(image.data[root : root + 4096]), keep=False)
    state = image.read()
    assert [handover.address for handover in state.handovers] == [root]
    assert [problem.address for problem in state.problems if problem.code == "root-copy"] == [copy]


def test_a_copy_is_read_if_it_is_asked_for() -> None:
    image = Image()
    root = image.handover({"LUO": (image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, 0, 0)), 32)})
    copy = image.alloc(bytes(image.data[root : root + 4096]), keep=False)
    assert [one.address for one in image.read(root=copy).handovers] == [copy]
    assert [one.address for one in image.read(root=root).handovers] == [root]


def test_setup_data_is_not_looked_for_on_a_machine_without_it() -> None:
    memory = real.overlay("7.3-a/post")
    found = find_setup_nodes(Walk(memory), ())
    assert found
    memory.machine = None
    assert find_setup_nodes(Walk(memory), ()) == found
    memory.machine = 183  # arm64: each page of a dump would be unpacked for nothing
    assert find_setup_nodes(Walk(memory), ()) == ()
