# SPDX-License-Identifier: MIT
"""Rules on memfds: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import struct

import pytest

from luoser.checks import Report, check
from tests import real
from tests.checks.mutants import NAME, descriptor_changed, errors, file_of, judged, memfd_of, reason, rules_found


def folio_changed(number: int, *, word: int | None = None, index: int | None = None) -> Report:
    memory = real.overlay(NAME)
    place = memfd_of().folios.pages[0] + 16 * number
    if word is not None:
        memory.write(place, struct.pack("<Q", word))
    if index is not None:
        memory.write(place + 8, struct.pack("<Q", index))
    return judged(memory, "MFD")


def test_all_six_seals_are_legal() -> None:
    assert rules_found(descriptor_changed(16, struct.pack("<I", 0x3F))) == set()


def test_a_negative_size_is_illegal() -> None:
    assert rules_found(descriptor_changed(8, b"\xff" * 8)) == {"MFD001"}


def test_data_that_is_no_page_is_illegal() -> None:
    memory = real.overlay(NAME)
    memory.write((file_of().address or 0) + 48, struct.pack("<Q", 0x123))
    assert rules_found(judged(memory, "MFD")) == {"MFD001"}


def test_a_descriptor_that_is_not_in_the_source_is_skipped() -> None:
    memory = real.overlay(NAME)
    memory.remove(memfd_of().address)
    report = judged(memory, "MFD")
    assert report.findings == ()
    for rule in ("MFD001", "MFD007", "MFD010", "MFD012"):
        assert reason(report, rule), rule


def test_an_array_page_that_is_not_in_the_source_is_skipped_and_not_broken() -> None:
    for page in (memfd_of().folios.pages[0], memfd_of().folios.chunks[0]):
        memory = real.overlay(NAME)
        memory.remove(page)
        report = judged(memory, "MFD")
        assert report.findings == ()
        for rule in ("MFD003", "MFD007", "MFD009", "MFD010", "MFD011"):
            assert reason(report, rule), rule
        assert "MFD012" in report.passed


def test_a_last_folio_that_reaches_over_the_end_is_normal() -> None:
    assert rules_found(descriptor_changed(8, struct.pack("<Q", 0xF001))) == set()


def test_a_folio_at_the_very_end_is_behind_it() -> None:
    assert rules_found(descriptor_changed(8, struct.pack("<Q", 0xF000))) == {"MFD008"}


def test_a_size_of_one_byte_more_than_the_folios_is_incomplete() -> None:
    assert rules_found(descriptor_changed(8, struct.pack("<Q", 0x10001))) == {"MFD011"}


def test_a_hole_is_missing_memory_but_no_folio() -> None:
    assert rules_found(folio_changed(3, word=0)) == {"MFD011"}


def test_folios_in_descending_order_are_told() -> None:
    assert "MFD007" in rules_found(folio_changed(3, index=1))


def test_two_files_with_one_folio_are_told_by_name() -> None:
    other = memfd_of(token=0x1A).folios.list[0].address
    report = folio_changed(0, word=3 << 52 | other // 4096)
    (finding,) = report.findings
    assert finding.rule == "MFD010"
    assert "0x1a" in finding.message and "0x1b" in finding.message


def test_a_clean_folio_is_as_good_as_a_dirty_one() -> None:
    report = folio_changed(0, word=2 << 52 | memfd_of().folios.list[0].address // 4096)
    assert rules_found(report) == {"MFD009"} and not errors(report)


def test_a_folio_outside_ram_is_told() -> None:
    ram = ((0, 1 << 30),)
    assert rules_found(check(real.read(NAME), select=["MFD015"], ram=ram)) == set()
    highest = max(folio.address for folio in memfd_of().folios.list)
    report = check(real.read(NAME), select=["MFD015"], ram=((0, highest),))
    assert rules_found(report) == {"MFD015"}


def test_neighbouring_ranges_of_ram_are_one() -> None:
    whole, page = memfd_of().folios.list[0].address, 4096
    ram = ((0, whole + page // 2), (whole + page // 2, 1 << 30))
    assert check(real.read(NAME), select=["MFD015"], ram=ram).findings == ()


@pytest.mark.parametrize("inner", [(0x200000, 0x300000), (0x1000, 0x2000), (0x100000, 1 << 30)])
def test_a_range_of_ram_inside_of_another_takes_nothing_away(inner: tuple[int, int]) -> None:
    ram = ((0x1000, 0x8000), (0x100000, 1 << 30), inner)
    assert check(real.read(NAME), select=["MFD015"], ram=ram).findings == ()


def test_without_ram_nothing_is_said_of_it() -> None:
    assert "RAM" in reason(check(real.read(NAME), select=["MFD015"]), "MFD015")


def test_what_the_next_kernel_consumed_is_skipped() -> None:
    """7.3-chain/frozen2 has both: a consumed handover with a zeroed descriptor, and a whole one."""
    report = check(real.read("7.3-chain/frozen2"), select=["MFD"])
    assert report.findings == ()
    assert "consumed" in reason(report, "MFD002")
    assert "MFD007" in report.passed


def test_memfd_v1_is_judged_as_well() -> None:
    report = check(real.read("6.19-a/frozen"), select=["MFD"])
    assert {"MFD001", "MFD007", "MFD010", "MFD011"} <= set(report.passed)


def test_a_handover_without_memfds_says_so() -> None:
    assert "no memfd" in reason(check(real.read("6.18-a/frozen"), select=["MFD"]), "MFD007")
