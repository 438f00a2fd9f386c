# SPDX-License-Identifier: MIT
"""Changes in the sub-tree of the KHO self-test."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change
from luoser.changes.sides import UNREAD, Sides, member_changes, text_of, tuple_changes

__all__ = ["test_changes"]

_CODES = UNREAD | {"bad-kho-test", "no-fdt", "bad-fdt"}


def test_changes(sides: Sides) -> Iterator[Change]:
    """Changes of its members, or the whole sub-tree. sides: the handover."""
    before, after = sides.before.kho_test, sides.after.kho_test
    if before is not None and after is not None:
        yield from member_changes("kho_test", before, after, ("magic", "count", "checksum"))
        if not sides.consumed and not sides.is_unread("kho_test", "kho_test"):
            yield from tuple_changes("kho_test/folios", before.folios, after.folios)
            yield from tuple_changes("kho_test/pages", before.pages, after.pages)
    elif before is not None:
        signs = sides.about_subtree("kho_test", "kho_test", _CODES)
        yield sides.gone("kho_test", text_of(before.address) or "", "consumed", signs, subtree="kho_test")
    elif after is not None:
        yield sides.come("kho_test", text_of(after.address), "kho_test", subtree="kho_test")
