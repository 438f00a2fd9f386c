# SPDX-License-Identifier: MIT
"""Rules on the vmalloc area of a folio array: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from luoser.checks import check
from luoser.state import Problem
from tests import real
from tests.checks.mutants import NAME, changed, descriptor_changed, luo_of, memfd_of, rules_found

NR_FOLIOS, TOTAL_PAGES, ORDER = 24, 40, 46
"""Where the array's count of folios, its pages and the order of its blocks are in memfd-v2."""


def test_fewer_pages_than_the_array_needs_are_told() -> None:
    """Two pages of folios, one page in the chunk."""
    report = descriptor_changed(NR_FOLIOS, struct.pack("<QQI", 300, memfd_of().folios.address, 2))
    assert "MFD003" in rules_found(report)


def test_blocks_that_their_order_does_not_divide_are_told() -> None:
    assert "MFD004" in rules_found(descriptor_changed(ORDER, struct.pack("<H", 1)))


def test_any_order_is_judged() -> None:
    assert "MFD004" in rules_found(descriptor_changed(ORDER, struct.pack("<H", 0xFFFF)))


def test_blocks_that_their_order_divides_are_sound() -> None:
    """Two pages in one block of order 1, which is where the one page is."""
    memfd = memfd_of()
    report = descriptor_changed(TOTAL_PAGES, struct.pack("<IHH", 2, memfd.folios.flags, 1))
    assert "MFD004" in report.passed


@pytest.mark.parametrize("code", ["loop", "bad-pointer", "short-list"])
@pytest.mark.parametrize("address", [0x1234000, None])
def test_a_broken_chain_is_told_at_the_page_that_is_broken(code: str, address: int | None) -> None:
    """At the descriptor if no page is named."""
    state = real.read(NAME)
    about = "luo.sessions[0].files[1].memfd.folios"
    broken = Problem(code=code, address=address, message="broken", root=state.handovers[0].address, about=about)
    other = replace(broken, address=0x5678000, message="another one")
    (finding,) = check(replace(state, problems=(broken, other)), select=["MFD003"]).findings
    assert (finding.address, finding.message, finding.where) == (address or memfd_of().address, "broken", about)


def test_the_first_page_of_a_chain_that_cannot_be_read_is_the_reason() -> None:
    state = real.read(NAME)
    problems = tuple(
        Problem(code="missing", address=None, message=f"page {number}", root=state.handovers[0].address, about=about)
        for number, about in enumerate(f"luo.sessions[0].files[{file}].memfd.folios" for file in (1, 1, 2))
    )
    (entry,) = check(replace(state, problems=problems), select=["MFD003"]).unjudged
    assert entry.reason == "page 0; a dump that has it decides"


@pytest.mark.parametrize(
    ("flags", "order", "pages", "is_wrong"),
    [
        (0, 0, 1, True),
        (1, 0, 1, False),
        (2, 0, 1, True),
        (3, 0, 1, False),
        (4, 0, 1, True),
        (5, 0, 1, True),
        (1, 1, 1, True),
        (1, 1, 2, False),
        (1, 2, 6, True),
        (1, 2, 8, False),
        (1, 32, (1 << 32) - 1, True),
        (1, 40, 1 << 31, True),
    ],
)
def test_the_shape_of_an_array(flags: int, order: int, pages: int, is_wrong: bool) -> None:
    memfd = memfd_of()
    folios = replace(memfd.folios, flags=flags, order=order, total_pages=pages)
    session = luo_of().sessions[0]
    file = replace(session.files[1], memfd=replace(memfd, folios=folios))
    luo = replace(luo_of(), sessions=(replace(session, files=(file,)),))
    report = check(changed(NAME, luo=luo), select=["MFD004"])
    assert [finding.where for finding in report.findings] == (["luo.sessions[0].files[0]"] if is_wrong else [])
