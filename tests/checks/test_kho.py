# SPDX-License-Identifier: MIT
"""Rules KHO: what needs the next kernel, what is skipped and why, healthy look-alikes, hostile dumps."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

import luoser
from luoser.abi.release import LAST, kept_subtrees
from luoser.checks import Verdict, check
from luoser.errors import PageState
from luoser.fdt import Fdt, Node, parse
from luoser.limits import Limits
from luoser.state import Direction, MapStatus, Problem, Subtree
from tests import real
from tests.checks.mutants import changed, errors, luo_of, messages, mutant, reason, report_of, rules_found, written
from tests.flips import flipped
from tests.fuzz.test_mutations import damaged
from tests.images import Image, fdt, text, u64
from tests.images import Node as Made
from tests.reader.messengers import setup_node

FAMILIES = ("KHO", "MAP")


# -- the next kernel --


@pytest.mark.parametrize(
    ("name", "release", "refused"),
    [
        ("6.18-a/frozen", "6.18.15", False),
        ("6.18-a/frozen", "7.1.1", True),
        ("6.19-a/frozen", "6.19.14", False),
        ("6.19-a/frozen", "7.0.13", False),
        ("6.19-a/frozen", "7.1.13", True),
        ("6.19-a/frozen", "6.18.15", True),
        ("7.3-a/frozen", "7.3.4", False),
        ("7.3-a/frozen", "7.2.0-rc3", False),
        ("7.3-a/frozen", "v7.3", False),
        ("7.3-a/frozen", "7.1.13", True),
        ("7.3-a/frozen", "6.6.1", True),
    ],
)
def test_pairs_of_kernels(name: str, release: str, refused: bool) -> None:
    report = check(real.read(name), next_release=release)
    assert ("KHO012" in rules_found(report)) == refused
    assert errors(report) <= {"KHO012", "LUO007", "LUO021"}  # 6.19 to 7.0 passes every string and panics


def test_a_kernel_without_luo_is_told_by_name() -> None:
    (word,) = messages(check(real.read("6.19-a/frozen"), next_release="6.18.15"), "KHO012")
    assert word == "LUO is luo-v1, kernel 6.18.15 accepts no LUO at all"


def test_the_last_known_release_is_judged() -> None:
    last = ".".join(map(str, LAST))
    assert check(real.read("7.3-a/frozen"), next_release=last, select=["KHO012"]).passed == ("KHO012",)
    later = f"{LAST[0]}.{LAST[1] + 1}"
    report = check(real.read("7.3-a/frozen"), next_release=later, select=["KHO012"])
    assert [(entry.cause, entry.about) for entry in report.unjudged] == [("unknown-form", "root")]


def test_a_release_of_which_nothing_is_known_is_skipped() -> None:
    assert "unknown whether kernel" in reason(check(real.read("7.3-a/frozen"), next_release="7.4.0"), "KHO012")
    assert "--next" in reason(check(real.read("7.3-a/frozen")), "KHO012")


def test_a_handover_that_was_taken_over_has_no_next_kernel() -> None:
    report = check(real.read("6.18-a/post"), next_release="7.3.4")
    assert "already taken over this handover" in reason(report, "KHO012")


@pytest.mark.parametrize(
    ("release", "differs"), [("6.16.1", True), ("6.17.8", True), ("6.17.9", False), ("6.18.1", False)]
)
def test_width_of_bitmaps(release: str, differs: bool) -> None:
    report = check(real.read("6.18-a/frozen"), next_release=release)
    assert errors(report) == ({"KHO013"} if differs else set())


def test_narrow_bitmaps_before_a_kernel_with_wide_ones() -> None:
    state = real.read("6.18-a/frozen")
    narrow = changed("6.18-a/frozen", preserved=replace(state.handovers[0].preserved, bitmap_size=512))
    assert errors(check(narrow, next_release="6.18.15")) == {"KHO013"}
    assert errors(check(narrow, next_release="6.16.12")) == set()


def test_a_radix_tree_has_no_width() -> None:
    assert "matters only to kho-v1 kernels" in reason(check(real.read("7.3-a/frozen"), next_release="6.16.1"), "KHO013")


# -- the root --


def test_a_map_pointer_of_0_is_normal_before_kho_v1_is_finalised() -> None:
    report = check(real.read("6.19-a/post"))
    assert "before it is finalised" in " ".join(one.reason for one in report.skipped if one.rule == "KHO005")


def test_a_map_pointer_of_0_is_never_normal_in_kho_v4() -> None:
    assert errors(mutant("KHO005", "7.3-a/frozen")) == {"KHO005"}


@pytest.mark.parametrize(("size", "said"), [(0x100, False), (0x1000, False), (0x1001, True)])
def test_the_devicetree_of_a_root_fits_a_page(size: int, said: bool) -> None:
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    tree = replace(tree, header=replace(tree.header, totalsize=size))
    words = messages(check(changed("7.3-a/frozen", fdt=tree), select=["KHO003"]), "KHO003")
    too_large = f"totalsize of the root's devicetree is {size:#x}, expected at most a page, 0x1000"
    assert (too_large in words) == said


def test_a_header_that_is_unusual_is_told_with_what_it_should_be() -> None:
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    assert not check(real.read("7.3-a/frozen"), select=["KHO003"]).findings
    for name, said in (("version", 16), ("last_comp_version", 17), ("boot_cpuid_phys", 1)):
        wrong = replace(tree, header=replace(tree.header, **{name: said}))
        (word,) = messages(check(changed("7.3-a/frozen", fdt=wrong), select=["KHO003"]), "KHO003")
        assert word == f"devicetree at 0x5cd000: {name} is {said:#x}, expected {getattr(tree.header, name):#x}"


@pytest.mark.parametrize(
    ("address", "said"),
    [(0, True), (1, True), (0x1000, False), (0x1001, True), ((1 << 52) - 4096, False), (1 << 52, True)],
)
def test_a_sub_tree_is_at_a_page_address(address: int, said: bool) -> None:
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    named = Node(b"x", [(b"preserved-data", struct.pack("<Q", address)), (b"blob-size", struct.pack("<Q", 8))])
    root = Node(b"", tree.root.properties, [*tree.root.nodes, named])
    report = check(changed("7.3-a/frozen", fdt=replace(tree, root=root)), select=["KHO006"])
    assert [finding.where for finding in report.findings] == ([f"subtrees[{len(tree.root.nodes)}]"] if said else [])
    assert all(f"found {address:#x}" in finding.message for finding in report.findings)


def root_tree(**properties: bytes | None) -> Fdt:
    """The devicetree of the real root with other properties; None: without this one. _ stands for -."""
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    new = {name.replace("_", "-").encode(): value for name, value in properties.items()}
    kept = [(name, value) for name, value in tree.root.properties if name not in new]
    added = [(name, value) for name, value in new.items() if value is not None]
    return replace(tree, root=Node(b"", [*kept, *added], tree.root.nodes))


@pytest.mark.parametrize(
    ("value", "is_wrong"), [(None, True), (b"\0" * 4, True), (b"\0" * 9, True), (b"\1" * 8, True)]
    + [(value.to_bytes(8, "little"), is_wrong) for value, is_wrong in ((0x5CC000, False), (0x5CC004, True),
                                                                       (1 << 52, True), (0, False))],
)  # fmt: skip
def test_the_pointer_to_the_map_is_that_of_a_page(value: bytes | None, is_wrong: bool) -> None:
    report = check(changed("7.3-a/frozen", fdt=root_tree(preserved_memory_map=value)), select=["KHO004"])
    assert [finding.where for finding in report.findings] == (["root"] if is_wrong else [])


def test_what_a_broken_root_lacks_may_be_behind_the_damage() -> None:
    broken = replace(root_tree(preserved_memory_map=None), fault="breaks off")
    (entry,) = check(changed("7.3-a/frozen", fdt=broken), select=["KHO004"]).unjudged
    assert (entry.cause, entry.about) == ("damaged", "root")


@pytest.mark.parametrize(
    ("root", "layout", "is_serialised", "is_wrong"),
    [
        ("kho-v1", None, False, False),
        ("kho-v1", "luo-v1", False, False),
        ("kho-v1", "luo-v1", True, True),
        ("kho-v1", "luo-v1-flb", True, True),
        ("kho-v1", "luo-v1-session-v1", True, False),  # of a posting, which may set it later
        ("kho-v3", None, False, True),
        ("kho-v4", "luo-v5", False, True),
        ("kho-v9", None, False, True),
    ],
)
def test_a_map_pointer_of_0(root: str, layout: str | None, is_serialised: bool, is_wrong: bool) -> None:
    luo = None if layout is None else replace(luo_of(), layout=layout, serialized=is_serialised)
    state = changed("7.3-a/frozen", compatible=root, luo=luo, fdt=root_tree(preserved_memory_map=bytes(8)))
    report = check(state, select=["KHO005"])
    assert [finding.where for finding in report.findings] == (["root"] if is_wrong else [])
    assert bool(report.skipped) is not is_wrong
    assert not check(changed(state, fdt=root_tree(preserved_memory_map=b"\1" + bytes(7))), select=["KHO005"]).findings


@pytest.mark.parametrize(
    ("name", "size", "is_wrong"),
    [
        ("memblock", 209, True),
        ("memblock", 210, False),
        ("memblock", 211, True),
        ("kho_test", 0, True),
        ("kexec-metadata", 72, True),
        ("kexec-metadata", 74, True),
        ("LUO", 31, False),  # LUO003 reports it
        ("memblock", 4096, True),  # only posted users pass the size of a page
        ("LUO", 32, False),
        ("LUO", 33, True),
        ("pci-luo-lab", 1, False),  # of which nobody knows the size
        ("pci-luo-lab", None, True),
        ("LUO", None, True),
    ],
)
def test_the_size_of_a_sub_tree(name: str, size: int | None, is_wrong: bool) -> None:
    state, nodes = real.read("7.3-a/frozen"), []
    tree = state.handovers[0].fdt
    assert tree is not None
    for node in tree.root.nodes:
        others = [(key, value) for key, value in node.properties if key != b"blob-size"]
        said = [] if size is None else [(b"blob-size", struct.pack("<Q", size))]
        nodes.append(Node(node.name, [*others, *said], node.nodes) if node.name == name.encode() else node)
    made = changed(state, fdt=replace(tree, root=Node(b"", tree.root.properties, nodes)))
    index = [entry.name for entry in state.handovers[0].subtrees].index(name)
    report = check(made, select=["KHO019"])
    assert [finding.where for finding in report.findings] == ([f"subtrees[{index}]"] if is_wrong else [])
    old = check(changed(made, compatible="kho-v1"), select=["KHO019"])
    assert "blob-size" in reason(old, "KHO019") and not old.findings


@pytest.mark.parametrize("name", ["A", "kexec-metadata2", "z"])
def test_the_size_of_a_sub_tree_of_another_name_is_not_known(name: str) -> None:
    tree, trees = real.read("7.3-a/frozen").handovers[0].fdt, real.read("7.3-a/frozen").handovers[0].subtrees
    assert tree is not None
    node = Node(name.encode(), [(b"blob-size", struct.pack("<Q", 5))])
    root = Node(b"", tree.root.properties, [*tree.root.nodes, node])
    more = Subtree(name=name, address=0x1000, size=5)
    state = changed("7.3-a/frozen", fdt=replace(tree, root=root), subtrees=(*trees, more))
    assert check(state, select=["KHO019"]).passed == ("KHO019",)


def test_both_widths_of_bitmaps_fit_some_bytes() -> None:
    state = real.read("6.18-a/frozen")
    met = Problem(code="map-width", address=None, message="both", root=state.handovers[0].address, about="preserved")
    (entry,) = check(replace(state, problems=(met,)), next_release="6.18.15", select=["KHO013"]).unjudged
    assert (entry.cause, entry.about) == ("open", "preserved")


def test_a_posted_form_of_luo_is_no_matter_of_releases() -> None:
    luo = replace(luo_of("6.19-a/frozen"), layout="luo-v1-session-v1", compatible="x")
    report = check(changed("6.19-a/frozen", luo=luo), next_release="6.19.14", select=["KHO012"])
    assert report.passed == ("KHO012",)


def test_names_of_sub_trees_are_counted() -> None:
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    for times in (1, 2, 3):
        root = Node(b"", tree.root.properties, [*tree.root.nodes, *[Node(b"x", [])] * times])
        report = check(changed("7.3-a/frozen", fdt=replace(tree, root=root)), select=["KHO007"])
        said = [] if times == 1 else [f"{times} sub-trees have the name x; a kernel finds only one"]
        assert messages(report, "KHO007") == said


def test_a_root_from_debugfs_may_be_cut_short() -> None:
    tree = real.read("7.3-a/frozen").handovers[0].fdt
    assert tree is not None
    tree = replace(tree, fault="devicetree breaks off inside a property")
    report = check(changed("7.3-a/frozen", address=None, fdt=tree))
    assert "debugfs" in reason(report, "KHO002")
    assert "KHO002" in rules_found(check(changed("7.3-a/frozen", fdt=tree)))


def test_a_consumed_handover_is_not_judged_by_its_pages() -> None:
    report = check(real.read("7.3-chain/post"))
    assert all(
        "consumed" in one.reason for one in report.skipped if one.rule in ("KHO002", "KHO006", "KHO010", "MAP014")
    )


# -- hostile --


@pytest.mark.parametrize("name", real.DUMPS)
def test_damaged_dumps_are_judged_without_an_exception(name: str) -> None:
    for seed in range(8):
        state = luoser.read(damaged(name, seed), contents=True)
        report = check(state, select=FAMILIES, next_release="7.3.4", ram=((0, 1 << 30),))
        assert all(finding.message and "\n" not in finding.message for finding in report.findings)


def test_messages_show_no_bytes_of_a_dump_as_they_are() -> None:
    state, image = written("7.3-a/frozen")
    root = state.handovers[0].address
    assert root is not None
    page = image.read(root, 4096)
    image.patch(root + page.index(b"kho-v4"), b"\x1b[2J\xff\x07")
    image.patch(root + page.index(b"kho_test"), b"\x1b]0;\xffX")
    place = page.index(struct.pack("<Q", state.handovers[0].subtrees[0].address or 0))
    image.patch(root + place, b"\1" * 8)
    for finding in report_of(image, select=FAMILIES).findings:
        assert finding.message.isprintable()


# -- what was seen --


def test_an_open_direction_is_not_judged() -> None:
    for direction in Direction:
        report = check(changed("7.3-a/frozen", direction=direction), select=["KHO017"])
        assert bool(report.unjudged) == (direction is Direction.UNKNOWN)
        assert report.passed == (() if direction is Direction.UNKNOWN else ("KHO017",))


def test_a_source_without_the_root_of_the_running_kernel_is_not_judged() -> None:
    whole = real.read("7.3-a/post")
    memory = real.overlay("7.3-a/post")
    outgoing = next(one for one in whole.handovers if one.direction is Direction.OUTGOING)
    memory.remove(outgoing.address or 0)
    report = check(luoser.read(memory))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert ("KHO020", "missing") in {(entry.rule, entry.cause) for entry in report.unjudged}
    assert "KHO020" in check(whole).passed
    assert "KHO020" in check(real.read("6.18-a/post")).passed  # a kernel up to 6.18 makes no root before it hands over


def test_a_source_that_ends_early_is_not_judged_to_its_end() -> None:
    state = real.read("7.3-a/frozen")
    cut = Problem(code="truncated", address=None, message="the file ends early", root=None, about="")
    report = check(replace(state, problems=(cut,)), select=["KHO018"])
    assert [entry.cause for entry in report.unjudged] == ["missing"]
    assert check(state, select=["KHO018"]).passed == ("KHO018",)


def test_a_root_that_was_handed_over_and_is_gone() -> None:
    memory = real.overlay("7.3-a/post")
    root = next(one for one in luoser.read(memory).handovers if one.direction is Direction.INCOMING).address
    assert root is not None and "KHO021" in check(luoser.read(memory)).passed
    memory.write(root, bytes(4096))
    assert "KHO021" in {finding.rule for finding in check(luoser.read(memory)).findings}
    memory.remove(root)
    report = check(luoser.read(memory))
    assert (report.unjudged[0].rule, report.verdict) == ("KHO021", Verdict.INCONCLUSIVE)


INCOMING = ["6.18-a/post", "6.19-a/post", "7.3-a/post", "7.3-chain/post"]


@pytest.mark.parametrize("name", INCOMING)
@pytest.mark.parametrize("state", [PageState.ABSENT, PageState.DAMAGED, PageState.EXCLUDED])
def test_page_of_a_handover_that_was_taken_over_is_not_there(name: str, state: PageState) -> None:
    """Kernels free most of its pages, and a dump leaves out free pages; but nothing else explains that one is gone."""
    whole = real.read(name)
    taken = next(one for one in whole.handovers if one.direction is Direction.INCOMING)
    assert "KHO022" in check(whole).passed
    kept = kept_subtrees(taken.compatible)
    for entry in taken.subtrees:
        memory = real.overlay(name)
        memory.remove(entry.address or 0, state=state)
        report = check(luoser.read(memory))
        is_free = state is PageState.EXCLUDED and entry.name not in kept
        assert (report.verdict is Verdict.SOUND) == is_free, entry.name
        assert any("the kernel may have freed" in text for text in report.not_looked_at) == is_free, entry.name


@pytest.mark.parametrize("name", INCOMING)
def test_sub_tree_that_no_kernel_frees_is_overwritten(name: str) -> None:
    taken = next(one for one in real.read(name).handovers if one.direction is Direction.INCOMING)
    there = [entry for entry in taken.subtrees if entry.name in kept_subtrees(taken.compatible)]
    assert there
    for entry in there:
        memory = real.overlay(name)
        memory.write(entry.address or 0, b"#!/bin/sh\n" * 409)
        assert check(luoser.read(memory)).verdict is not Verdict.SOUND, entry.name


@pytest.mark.parametrize("name", ["7.3-a/post", "7.3-a/finished", "7.3-chain/post"])
@pytest.mark.parametrize("pointer", [0x20000000005CC000, 0x5CC004])
def test_pointer_to_a_consumed_map_that_is_no_address_is_damage(name: str, pointer: int) -> None:
    """No kernel frees the page of the root."""
    memory = real.overlay(name)
    taken = next(one for one in real.read(name).handovers if one.direction is Direction.INCOMING)
    assert taken.address is not None
    place = memory.read(taken.address, 4096).index(taken.preserved.address.to_bytes(8, "little"))
    memory.write(taken.address + place, pointer.to_bytes(8, "little"))
    state = luoser.read(memory)
    (one,) = (one for one in state.handovers if one.address == taken.address)
    assert one.preserved.status is MapStatus.DAMAGED
    assert "KHO004" in {finding.rule for finding in check(state).findings}


@pytest.mark.parametrize("name", ["7.3-a/post", "7.3-chain/post"])
@pytest.mark.parametrize("entry", ["memblock", "LUO", "kexec-metadata"])
def test_blob_size_in_a_root_that_was_taken_over(name: str, entry: str) -> None:
    """Readers of sub-trees use it after boot. That of LUO is known, whatever is in its page by now."""
    memory = real.overlay(name)
    taken = next(one for one in real.read(name).handovers if one.direction is Direction.INCOMING)
    assert taken.address is not None and "KHO019" in check(luoser.read(memory)).passed
    size = next(tree.size for tree in taken.subtrees if tree.name == entry)
    assert size is not None
    page = memory.read(taken.address, 4096)
    place = page.index(size.to_bytes(8, "little"), page.index(entry.encode()))
    memory.write(taken.address + place, (size + 256).to_bytes(8, "little"))
    assert "KHO019" in {finding.rule for finding in check(luoser.read(memory)).findings}


def test_property_name_of_a_root_that_was_taken_over() -> None:
    memory = real.overlay("7.3-a/post")
    taken = next(one for one in real.read("7.3-a/post").handovers if one.direction is Direction.INCOMING)
    assert taken.address is not None
    place = taken.address + memory.read(taken.address, 4096).index(b"blob-size\0")
    memory.write(place, b"blob-sIze")
    assert check(luoser.read(memory)).verdict is Verdict.FINDINGS


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(PageState.EXCLUDED, Verdict.SOUND), (PageState.ABSENT, Verdict.SOUND), (PageState.DAMAGED, Verdict.INCONCLUSIVE)],
)
def test_bytes_of_a_small_file_that_are_not_there(state: PageState, verdict: Verdict) -> None:
    """A cut may leave them out; damaged ones were not left out."""
    memory = real.overlay("7.3-a/frozen")
    whole = luoser.read(memory, contents=True)
    luo = whole.handovers[0].luo
    assert luo is not None and "KHO023" in check(whole).passed
    bare = check(luoser.read(memory))
    assert "KHO023" not in bare.passed and "the bytes of 62 small files: the state was read" in " ".join(
        bare.not_looked_at
    )
    pieces = [
        piece for session in luo.sessions for file in session.files if file.memfd for piece in file.memfd.contents
    ]
    assert pieces
    memory.remove(pieces[0].address, state=state)
    report = check(luoser.read(memory, contents=True))
    assert report.verdict is verdict
    assert any("the bytes of 1 folios" in text for text in report.not_looked_at) == (verdict is Verdict.SOUND)


@pytest.mark.parametrize("name", ["6.18-a/frozen", "7.3-a/frozen", "7.3-a/post"])
def test_memblock_that_is_garbage_is_an_error(name: str) -> None:
    memory = real.overlay(name)
    one = real.read(name).handovers[0]
    memory.write(next(entry.address for entry in one.subtrees if entry.name == "memblock") or 0, b"\xff" * 4096)
    assert "KHO010" in {finding.rule for finding in check(luoser.read(memory)).findings}


def test_self_test_that_is_garbage_is_an_error_before_it_is_consumed() -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.write(0x680000, b"\xff" * 4096)
    assert "KHO014" in {finding.rule for finding in check(luoser.read(memory)).findings}


@pytest.mark.parametrize("name", ["7.3-a/frozen", "7.3-chain/frozen2"])
@pytest.mark.parametrize("release", [b"\1\2\3", b"7.3.4\xff", b"ZZZZZZZ"])
def test_release_that_is_none(name: str, release: bytes) -> None:
    """It is no evidence that another kernel wrote the root."""
    memory = real.overlay(name)
    one = next(one for one in real.read(name).handovers if one.direction is Direction.OUTGOING)
    assert one.kexec_metadata is not None
    memory.write(one.kexec_metadata.address + 4, release.ljust(65, b"\0"))
    state = luoser.read(memory)
    (again,) = (found for found in state.handovers if found.address == one.address)
    assert again.direction is not Direction.INCOMING and again.preserved.status is MapStatus.INTACT
    assert "KHO009" in {finding.rule for finding in check(state).findings}


def test_many_guests_hide_no_root_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many pages that look like a root, setup_data names one; the verdict is open all the same."""
    monkeypatch.setattr("luoser.reader.locate.LIMITS", Limits(root_candidates=20))
    image = Image(pages=2048)
    for _ in range(30):
        image.handover(map_address=0x7000000 + 4096 * len(image.kept), root=image.alloc(keep=False))
    root = image.handover({"memblock": (image.alloc(fdt(Made("", {"compatible": text("memblock-v1")}))), 80)})
    image.alloc(bytes(0xD0) + setup_node(root, image.alloc(keep=False), 16), keep=False)
    state = image.read()
    assert root in {one.address for one in state.handovers if one.own}
    report = check(state)
    assert report.verdict is not Verdict.SOUND
    assert "limit" in {entry.cause for entry in report.unjudged if entry.rule == "KHO024"}


def test_version_string_without_its_nul() -> None:
    """An incoming handover beside it: the tree is that of the next one. A kernel takes the padding for the NUL."""
    memory = real.overlay("7.3-a/post")
    assert memory.read(0x11BB070, 4) == (15).to_bytes(4, "big")
    memory.write(0x11BB070, (14).to_bytes(4, "big"))
    (finding,) = check(luoser.read(memory)).findings
    assert (finding.rule, finding.address) == ("KHO003", 0x11BB000)
    assert "compatible of labmem in a devicetree is not one string with a NUL at its end" in finding.message


@pytest.mark.parametrize(
    ("bit", "rule", "words"),
    [
        ((0x117B007, 3), "KHO003", "totalsize is 0xbf, expected 0xb7"),
        ((0x117B006, 1), "KHO003", "totalsize is 0x2b7, expected 0xb7"),
        ((0x117B073, 0), "KHO003", "compatible of subsystems in a devicetree is not one string"),
        ((0x117B093, 1), "KHO003", "a property has the name i, the end of pci, which has no use"),
        ((0x117B093, 2), "KHO003", "no property has the name pci, which is in the strings of a devicetree"),
        ((0x117B093, 3), "KHO003", "no property has the name pci, which is in the strings of a devicetree"),
        ((0x117B08F, 2), "LUO002", "property pci of 12 bytes, expected 8, in subsystems"),
    ],
)
def test_flipped_bit_of_a_devicetree_that_only_its_writer_contradicts(
    bit: tuple[int, int], rule: str, words: str
) -> None:
    """LUO of 2025, whose tree has one property of each name."""
    memory = flipped(real.dump("6.18-a/frozen"), bit)
    found = {finding.rule: finding.message for finding in check(luoser.read(memory)).findings}
    assert words in found[rule]


def test_two_properties_may_share_the_end_of_a_name() -> None:
    """libfdt stores a name that another one ends with only once."""
    tree = fdt(Made("", {"compatible": text("x"), "blob-size": u64(1), "size": u64(2)}))
    strings = tree.index(b"blob-size\0size\0")
    (place,) = (at for at in range(0, len(tree), 4) if tree[at : at + 4] == (21).to_bytes(4, "big"))
    shared = tree[:place] + (16).to_bytes(4, "big") + tree[place + 4 :]
    assert [name for name, _ in parse(shared).root.properties] == [b"compatible", b"blob-size", b"size"]
    image = Image()
    image.handover({"odd": (image.alloc(shared), len(shared))})
    assert strings and "KHO003" in check(image.read()).passed


def test_posted_version_of_luo_that_is_one_bit_off_the_released_one() -> None:
    memory = flipped(real.dump("7.3-a/finished"), (0x11B7005, 0))
    report = check(luoser.read(memory))
    assert report.verdict is Verdict.INCONCLUSIVE
    (word,) = (entry for entry in report.unjudged if entry.rule == "LUO002")
    assert (word.cause, "LUO is luo-v4, a posted form and one bit off luo-v5" in word.reason) == ("unknown-form", True)


def test_damage_of_two_neighbouring_bitmaps_is_not_sound() -> None:
    """All of its own bits say stale, which is what damage can look like."""
    memory = real.overlay("6.18-a/frozen")
    assert check(luoser.read(memory)).verdict is Verdict.SOUND
    memory.write(0x7A8000, b"\xff" * 8192)
    assert check(luoser.read(memory)).verdict is not Verdict.SOUND


def test_entry_of_the_reserve_map_of_a_devicetree() -> None:
    """No kernel reserves anything in a tree for its successor."""
    memory = flipped(real.dump("7.3-a/frozen"), (0x5CD000 + 0x28 + 9, 3))
    found = {finding.rule: finding.message for finding in check(luoser.read(memory)).findings}
    assert "reserve map" in (found.get("KHO003") or found.get("KHO002") or "")


def test_a_map_of_another_property_is_unread_and_no_damage() -> None:
    """preserved-order-table, of two RFCs of 2025 under the same version string."""
    image = Image()
    page = image.alloc(bytes(4096))
    image.tree(Made("", {"compatible": text("kho-v1"), "preserved-order-table": u64(page)}))
    report = check(luoser.read(image.open()))
    assert report.verdict is Verdict.INCONCLUSIVE and "KHO004" not in {one.rule for one in report.findings}
    assert ("KHO004", "unread") in {(one.rule, one.cause) for one in report.unjudged}
