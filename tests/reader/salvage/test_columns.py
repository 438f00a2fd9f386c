# SPDX-License-Identifier: MIT
"""Pages that can start with a struct, by the kinds of its members."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.abi.luo import luo_file_set_ser, luo_session_ser
from luoser.abi.memfd import memfd_luo_ser_v2
from luoser.reader.salvage.columns import Columns, shape
from tests.images import name, u64

PAGE = 4096


def pages(found: bytes, *others: bytes, **options: object) -> list[int]:
    """The numbers of the pages that can be a session."""
    block = b"".join(page.ljust(PAGE, b"\0") for page in (found, *others))
    return list(shape(PAGE, (0, luo_session_ser, {"file_set_ser.count": 9}), **options).pages(Columns(block, PAGE)))  # type: ignore[arg-type]


SOUND = name("vm", 64) + u64(0x5000) + u64(3)


def test_pages_that_fit_are_found_among_others() -> None:
    assert pages(bytes(80), SOUND, b"\xff" * PAGE, SOUND, bytes(80)) == [1, 3]
    assert pages(bytes(80), b"\xff" * PAGE) == []


@pytest.mark.parametrize(
    ("what", "page"),
    [
        ("an empty name", bytes(64) + u64(0x5000) + u64(3)),
        ("a name without an end", b"n" * 64 + u64(0x5000) + u64(3)),
        ("an address inside of a page", name("vm", 64) + u64(0x5008) + u64(3)),
        ("an address beyond 52 bits", name("vm", 64) + u64(1 << 52) + u64(3)),
        ("a count above the largest", name("vm", 64) + u64(0x5000) + u64(16)),
    ],
)
def test_a_member_that_its_kind_does_not_allow_excludes_a_page(what: str, page: bytes) -> None:
    assert pages(page, SOUND) == [1], what


def test_members_that_have_to_be_there_and_texts() -> None:
    empty = name("vm", 64) + bytes(16)
    assert pages(empty, SOUND) == [0, 1]
    assert pages(empty, SOUND, some=[(0, "file_set_ser.files")]) == [1]
    assert pages(SOUND, name("other", 64) + bytes(16), texts={0: [b"oth", b"xx"]}) == [1]


def test_unknown_bits_of_flags_exclude_a_page() -> None:
    made = shape(PAGE, (0, memfd_luo_ser_v2, {"flags": 0}))
    seals = [u64(0) * 2 + bytes([seals]).ljust(32, b"\0") for seals in (0x3F, 0x40)]
    assert list(made.pages(Columns(b"".join(page.ljust(PAGE, b"\0") for page in seals), PAGE))) == [0]


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)), min_size=1, max_size=8))
def test_columns_agree_with_a_look_at_each_page(values: list[tuple[int, int]]) -> None:
    made = shape(PAGE, (0, luo_file_set_ser, {"count": 0xFF}))
    block = b"".join((u64(files) + u64(count)).ljust(PAGE, b"\0") for files, count in values)
    fits = [not (files % PAGE or files >> 52 or count > 0xFF) for files, count in values]
    assert list(made.pages(Columns(block, PAGE))) == [index for index, one in enumerate(fits) if one]
