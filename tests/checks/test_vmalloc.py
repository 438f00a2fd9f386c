# SPDX-License-Identifier: MIT
"""Rules on the vmalloc area of a folio array: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import struct

from tests.checks.mutants import descriptor_changed, memfd_of, rules_found

NR_FOLIOS, ORDER = 24, 46
"""Where the array's count of folios and the order of its blocks are in memfd-v2."""


def test_fewer_pages_than_the_array_needs_are_told() -> None:
    """Two pages of folios, one page in the chunk."""
    report = descriptor_changed(NR_FOLIOS, struct.pack("<QQI", 300, memfd_of().folios.address, 2))
    assert "MFD003" in rules_found(report)


def test_blocks_that_their_order_does_not_divide_are_told() -> None:
    assert "MFD004" in rules_found(descriptor_changed(ORDER, struct.pack("<H", 1)))


def test_any_order_is_judged() -> None:
    assert "MFD004" in rules_found(descriptor_changed(ORDER, struct.pack("<H", 0xFFFF)))
