# SPDX-License-Identifier: MIT
"""Rules on memfds: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest

import luoser
from luoser.checks import Report, check
from luoser.state import FolioList, PreservedMap, Problem, State
from tests import real
from tests.checks.mutants import (
    NAME,
    changed,
    descriptor_changed,
    errors,
    file_of,
    judged,
    luo_of,
    memfd_of,
    messages,
    reason,
    rules_found,
)


def folio_changed(number: int, *, word: int | None = None, index: int | None = None) -> Report:
    memory = real.overlay(NAME)
    place = memfd_of().folios.pages[0] + 16 * number
    if word is not None:
        memory.write(place, struct.pack("<Q", word))
    if index is not None:
        memory.write(place + 8, struct.pack("<Q", index))
    return judged(memory, "MFD")


def with_folios(*files: list[int], blocks: Sequence[tuple[int, int, int]] = ()) -> State:
    """The real handover with files of folios at these addresses only, in a map of these blocks."""
    state, session = real.read(NAME), luo_of().sessions[0]
    made = []
    for file, addresses in zip(session.files, files, strict=False):
        assert file.memfd is not None
        rows = (struct.pack("<QQ", 3 << 52 | address // 4096, index) for index, address in enumerate(addresses))
        folios = FolioList(b"".join(rows), page_size=4096)
        memfd = replace(file.memfd, folios=replace(file.memfd.folios, count=len(addresses), list=folios))
        made.append(replace(file, memfd=memfd))
    preserved = replace(state.handovers[0].preserved, map=PreservedMap.from_extents(blocks, page_size=4096))
    return changed(state, preserved=preserved, luo=replace(luo_of(), sessions=(replace(session, files=tuple(made)),)))


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


@pytest.mark.parametrize("rule", ["MFD001", "MFD003"])
def test_the_first_page_that_cannot_be_read_is_the_reason(rule: str) -> None:
    """Of the first file, whatever else of it or of a later one cannot be read."""
    state, luo = real.read(NAME), luo_of()
    files = tuple(replace(file, memfd=None) for file in luo.sessions[0].files)
    about = [f"luo.sessions[0].files[{index}]{'.memfd.folios' * (rule == 'MFD003')}" for index in (0, 0, 1)]
    problems = tuple(
        Problem(code="missing", address=None, message=f"page {number}", root=state.handovers[0].address, about=place)
        for number, place in enumerate(about)
    )
    sessions = (replace(luo.sessions[0], files=files), *luo.sessions[1:])
    lost = replace(changed(state, luo=replace(luo, sessions=sessions)), problems=problems)
    (entry,) = check(lost, select=[rule]).unjudged
    assert (entry.reason, entry.about) == ("page 0; a dump that has it decides", about[0])


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


def test_folios_behind_the_end_are_counted_and_the_first_of_them_shown() -> None:
    (word,) = messages(descriptor_changed(8, struct.pack("<Q", 0xDFFF)), "MFD008")
    assert word.endswith("2 folios begin after the end, 0xdfff bytes, the first at index 0xe")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0x3001, None),  # up to the end of the folio
        (0x4000, None),
        (0x4001, "folios cover 16 KiB of 20 KiB; the rest will be zeros"),
        (0x1000, None),  # the folio goes on
        (0x100000, "folios cover 16 KiB of 1 MiB; the rest will be zeros"),
    ],
)
def test_what_folios_cover_of_a_file(size: int, said: str | None) -> None:
    state = with_folios([0x4000], blocks=[(0x4000, 2, 1)])
    file = luo_of(state).sessions[0].files[0]
    assert file.memfd is not None
    session = replace(luo_of(state).sessions[0], files=(replace(file, memfd=replace(file.memfd, size=size)),))
    report = check(changed(state, luo=replace(luo_of(state), sessions=(session,))), select=["MFD011"])
    assert [finding.message.partition(": ")[2] for finding in report.findings] == ([] if said is None else [said])


def test_folios_behind_the_end_cover_nothing_of_a_file() -> None:
    state = with_folios([0x4000, 0, 0x6000, 0x7000])
    file = luo_of(state).sessions[0].files[0]
    assert file.memfd is not None
    session = replace(luo_of(state).sessions[0], files=(replace(file, memfd=replace(file.memfd, size=0x2000)),))
    (word,) = messages(
        check(changed(state, luo=replace(luo_of(state), sessions=(session,))), select=["MFD011"]), "MFD011"
    )
    assert word.endswith("folios cover 4 KiB of 8 KiB; the rest will be zeros")


@pytest.mark.parametrize(
    ("folios", "pages", "order", "is_wrong"),
    [(256, 1, 0, False), (257, 1, 0, True), (257, 2, 0, False), (256, 2, 0, True), (0, 0, 0, False), (0, 1, 0, True),
     (256, 2, 1, False)],
)  # fmt: skip
def test_an_array_has_as_many_pages_as_its_folios_need(folios: int, pages: int, order: int, is_wrong: bool) -> None:
    session, memfd = luo_of().sessions[0], memfd_of()
    array = replace(memfd.folios, count=folios, total_pages=pages, order=order)
    file = replace(session.files[1], memfd=replace(memfd, folios=array))
    state = changed(NAME, luo=replace(luo_of(), sessions=(replace(session, files=(file,)),)))
    words = [f"folio array has {pages} pages for {folios} folios, expected {-(-folios // 256)}"] if is_wrong else []
    found = messages(check(state, select=["MFD006"]), "MFD006")
    assert [word.partition(": ")[2] for word in found] == words


def test_a_folio_inside_a_larger_one_is_told() -> None:
    state = with_folios([0x4000, 0x9000], blocks=[(0x4000, 2, 1), (0x9000, 0, 1)])
    (finding,) = check(state, select=["MFD007"]).findings
    assert finding.message.endswith("folio 0x9000 has index 0x1, expected 0x4 or higher")
    assert check(with_folios([0x4000, 0x9000]), select=["MFD007"]).passed == ("MFD007",)


def test_exec_is_found_beside_a_file_that_cannot_be_read() -> None:
    memory = real.overlay(NAME)
    memory.write(memfd_of().address + 16, struct.pack("<I", 32))
    memory.remove(memfd_of(token=0x1A).address)
    report = judged(memory, "MFD012")
    assert len(messages(report, "MFD012")) == 1 and report.unjudged


def test_a_large_folio_is_at_a_multiple_of_its_pages() -> None:
    for order, is_found in ((0, False), (2, True)):
        state = with_folios([0x4000, 0x10000], blocks=[(0x4000, 0, 1), (0x10000, order, 1)])
        found = messages(check(state, select=["MFD007"]), "MFD007")
        text = "folio 0x10000 has index 0x1, expected a multiple of its 4 pages"
        assert [message.partition(": ")[2] for message in found] == [text] * is_found


@pytest.mark.parametrize(("seals", "is_found"), [(32, True), (32 | 8, True), (32 | 30, False), (31, False)])
def test_exec_brings_seals_against_writing(seals: int, is_found: bool) -> None:
    found = messages(descriptor_changed(16, struct.pack("<I", seals)), "MFD012")
    assert [("have EXEC: the next kernel adds SHRINK" in message) for message in found] == [True] * is_found


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


def test_pages_that_overlap_are_told_of_the_later_file_and_once() -> None:
    """Two folios of the first file are inside the block of the only one of the second."""
    top = 1 << 36
    state = with_folios([top + 0x1000, top + 0x2000], [top], blocks=[(top, 2, 1)])
    (finding,) = check(state, select=["MFD010"]).findings
    assert (finding.address, finding.where) == (top + 0x1000, "luo.sessions[0].files[0].memfd.folios")
    assert finding.message.endswith(f"folio {top + 0x1000:#x} is already in session vm-web-01, file 0x1b")


def test_blocks_side_by_side_are_not_shared() -> None:
    state = with_folios([0x4000, 0x8000], [0x6000, 0x9000], blocks=[(0x4000, 1, 2), (0x8000, 0, 2)])
    assert check(state, select=["MFD010"]).passed == ("MFD010",)
    state = with_folios([0x4000, 0x8000], [0x5000, 0x9000], blocks=[(0x4000, 1, 2), (0x8000, 0, 2)])
    assert [finding.address for finding in check(state, select=["MFD010"]).findings] == [0x5000]


def test_a_folio_that_is_twice_in_a_file_is_told() -> None:
    (finding,) = (one for one in folio_changed(3, word=WORDS[1]).findings if one.rule == "MFD010")
    assert "twice in this file" in finding.message and finding.address == memfd_of().folios.list[1].address


WORDS = [3 << 52 | folio.address // 4096 for folio in memfd_of().folios.list]


def test_wrong_flags_are_counted_and_the_first_of_them_shown() -> None:
    memory, memfd = real.overlay(NAME), memfd_of()
    for number, flags in ((4, 1), (7, 2), (9, 0)):
        memory.write(memfd.folios.pages[0] + 16 * number, struct.pack("<Q", WORDS[number] & ~(3 << 52) | flags << 52))
    (finding,) = judged(memory, "MFD").findings
    first = memfd.folios.list[4].address
    assert finding.message.endswith(f"3 folios with wrong flags, the first at {first:#x}: expected 3, found 0x1")


def test_unknown_flags_are_counted_and_the_first_of_them_shown() -> None:
    memory, memfd = real.overlay(NAME), memfd_of()
    for number in (5, 8):
        memory.write(memfd.folios.pages[0] + 16 * number, struct.pack("<Q", WORDS[number] | 4 << 52))
    (word,) = messages(judged(memory, "MFD"), "MFD016")
    first = memfd.folios.list[5].address
    assert word.endswith(f"2 folios with unknown flags, the first at {first:#x}: found 0x7")


@pytest.mark.parametrize(
    ("kernel", "severity"),
    [("6.19.13", "info"), ("6.19.14", "error"), ("6.19.15", "error"), ("6.18.20", "info"), ("7.0", "error"),
     ("10.0.0", "error"), (None, "error"), ("mainline", "info")],
)  # fmt: skip
def test_wrong_flags_are_a_hint_if_a_kernel_before_the_fix_wrote_them(kernel: str | None, severity: str) -> None:
    """Of an unknown kernel kexec-metadata say which it is: 7.3.4."""
    memory = real.overlay(NAME)
    memory.write(memfd_of().folios.pages[0], struct.pack("<Q", WORDS[0] & ~(1 << 52)))
    state = luoser.read(memory)
    state = replace(state, source=replace(state.source, kernel=kernel))
    assert [finding.severity for finding in check(state, select=["MFD009"]).findings] == [severity]


@pytest.mark.parametrize("flags", [0, 1, 2])
def test_a_folio_that_is_not_marked_as_kernels_mark_all_is_an_error(flags: int) -> None:
    """The next kernel reads it as never filled, or may drop it."""
    report = folio_changed(0, word=flags << 52 | memfd_of().folios.list[0].address // 4096)
    assert errors(report) == {"MFD009"}


def test_a_folio_outside_ram_is_told() -> None:
    ram = ((0, 1 << 30),)
    assert rules_found(check(real.read(NAME), select=["MFD015"], ram=ram)) == set()
    highest = max(folio.address for folio in memfd_of().folios.list)
    report = check(real.read(NAME), select=["MFD015"], ram=((0, highest),))
    assert rules_found(report) == {"MFD015"}


@pytest.mark.parametrize(
    ("ram", "is_in"),
    [
        ([(0x5000, 0x6000)], True),
        ([(0x5001, 0x6000)], False),
        ([(0x5000, 0x5FFF)], False),
        ([(0x1000, 0x5000)], False),
        ([(0x6000, 0x9000)], False),  # below the first range
        ([(0x5000, 0x6000), (0, 0x1000)], True),
        ([(0, 0x1000), (0x2000, 0x3000), (0x5000, 0x7000)], True),
        ([(0, 0x1000), (0x5000, 0x5800), (0x5800, 0x6000)], True),
        ([(0, 0x1000), (0x5000, 0x5800), (0x5801, 0x6000)], False),
        ([(0, 0x6000), (0x7000, 0x8000), (0x8000, 0x9000)], True),
        ([(0, 0x1000), (0x4000, 0x9000), (0x4800, 0x5000)], True),
    ],
)
def test_a_folio_of_one_page_in_ranges_of_ram(ram: list[tuple[int, int]], is_in: bool) -> None:
    found = check(with_folios([0x5000]), select=["MFD015"], ram=tuple(ram)).findings
    assert [finding.message.partition(": ")[2] for finding in found] == (
        [] if is_in else ["folio 0x5000 of 4 KiB is not in RAM"]
    )


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


@pytest.mark.parametrize("zeros", [0, 64])
def test_other_bytes_in_the_page_of_a_descriptor(zeros: int) -> None:
    """An empty file is a page of zeros: zeros and then something else are damage."""
    memory = real.overlay(NAME)
    file = luo_of().sessions[0].files[0]
    memory.write(file.data + 100, b"k" * 3000)
    if zeros:
        memory.write(file.data, bytes(zeros))
    (finding, *_) = (one for one in check(luoser.read(memory)).findings if one.rule == "MFD001")
    assert finding.address == file.data + 100 and "found other bytes at" in finding.message


@pytest.mark.parametrize(("size", "rules"), [(0, {"MFD002"}), (0x2000, set())])
def test_an_empty_file_that_has_a_position_is_doubted(size: int, rules: set[str]) -> None:
    """As of a descriptor that was cleared behind its position."""
    memory = real.overlay(NAME)
    page = file_of().data
    whole = memory.read(page, 4096)
    memory.write(page, whole if size else whole[:8] + bytes(4088))
    report = judged(memory, "MFD")
    assert rules_found(report) == rules
    assert [(one.severity.value, "empty, but its position is 0x1234" in one.message) for one in report.findings] == [
        ("warning", True) for _ in rules
    ]
