# SPDX-License-Identifier: MIT
"""Rules KHO: what needs the next kernel, what is skipped and why, healthy look-alikes, hostile dumps."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

import luoser
from luoser.checks import Report, check
from luoser.state import Area, Direction, Handover, State
from tests import real
from tests.checks.mutants import errors, mutant, report_of, rules_found, written
from tests.fuzz.test_mutations import damaged

FAMILIES = ("KHO", "MAP")


def changed(name: str, **members: object) -> State:
    """A real state with members of its first handover replaced."""
    state = real.read(name)
    first: Handover = replace(state.handovers[0], **members)  # type: ignore[arg-type]
    return replace(state, handovers=(first, *state.handovers[1:]))


def reason(report: Report, rule: str) -> str:
    return next(skipped.reason for skipped in report.skipped if skipped.rule == rule)


def messages(report: Report, rule: str) -> list[str]:
    return [finding.message for finding in report.findings if finding.rule == rule]


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
    assert errors(report) <= {"KHO012", "LUO007"}  # 6.19 to 7.0 passes every string and panics


def test_a_kernel_without_luo_is_told_by_name() -> None:
    (word,) = messages(check(real.read("6.19-a/frozen"), next_release="6.18.15"), "KHO012")
    assert word == "LUO says luo-v1, kernel 6.18.15 accepts no LUO at all"


def test_a_release_of_which_nothing_is_known_is_skipped() -> None:
    assert "not established" in reason(check(real.read("7.3-a/frozen"), next_release="7.4.0"), "KHO012")
    assert "no release" in reason(check(real.read("7.3-a/frozen"), next_release="mainline"), "KHO012")
    assert "--next" in reason(check(real.read("7.3-a/frozen")), "KHO012")


def test_a_handover_that_was_taken_over_has_no_next_kernel() -> None:
    report = check(real.read("6.18-a/post"), next_release="7.3.4")
    assert "taken this handover over" in reason(report, "KHO012")


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


# -- users --


def test_a_kexec_without_luo_counts_in_one_of_the_numbers_only() -> None:
    state = real.read("7.3-a/frozen")
    metadata = state.handovers[0].kexec_metadata
    assert metadata is not None
    assert "KHO011" not in rules_found(check(changed("7.3-a/frozen", kexec_metadata=replace(metadata, kexec_count=9))))


def test_a_kexec_count_of_0_is_metadata_gone_wrong() -> None:
    metadata = real.read("7.3-a/frozen").handovers[0].kexec_metadata
    assert metadata is not None
    report = check(changed("7.3-a/frozen", kexec_metadata=replace(metadata, kexec_count=0)))
    assert rules_found(report) == {"KHO009"}


@pytest.mark.parametrize(
    ("members", "fault"),
    [({"size": 0}, "size of 0"), ({"name": "sixteen-letters-"}, "more than 15 characters")],
)
def test_regions_that_no_kernel_makes(members: dict[str, object], fault: str) -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    region = replace(memblock.reservations[0], **members)  # type: ignore[arg-type]
    report = check(changed("7.3-a/frozen", memblock=replace(memblock, reservations=(region,))), select=("KHO",))
    (word,) = messages(report, "KHO010")
    assert fault in word


def test_regions_with_one_name_and_more_of_them_than_there_can_be() -> None:
    memblock = real.read("7.3-a/frozen").handovers[0].memblock
    assert memblock is not None
    many = replace(memblock, reservations=memblock.reservations[:1] * 9)
    words = messages(check(changed("7.3-a/frozen", memblock=many), select=("KHO",)), "KHO010")
    assert len(words) == 10
    assert "name of another" in words[0] and "at most 8" in words[-1]


# -- scratch --

AREAS = (Area(address=0x1000000, size=0x400000), Area(address=0x2000000, size=0x800000))


@pytest.mark.parametrize(
    ("areas", "rules"),
    [
        (AREAS, set()),
        ((*AREAS, Area(address=0x1000000, size=0)), set()),
        ((*AREAS, Area(address=0x1400000, size=0x400000)), set()),
        ((*AREAS, Area(address=0x1000000, size=0x400000)), {"KHO015"}),
        ((*AREAS, Area(address=0x4000000, size=0x401000)), {"KHO016"}),
        ((AREAS[0], Area(address=0x2000000, size=0)), {"KHO016"}),
        (AREAS[:1], {"KHO016"}),
    ],
)
def test_scratch_areas(areas: tuple[Area, ...], rules: set[str]) -> None:
    report = check(changed("7.3-a/frozen", scratch=areas, direction=Direction.INCOMING), select=("KHO015", "KHO016"))
    assert rules_found(report) == rules


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
