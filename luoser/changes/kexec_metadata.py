# SPDX-License-Identifier: MIT
"""Changes in the sub-tree kexec-metadata."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.changes.model import Change
from luoser.changes.sides import UNREAD, Sides, member_changes, text_of

__all__ = ["metadata_changes"]

_CODES = UNREAD | {"bad-metadata", "no-fdt", "bad-fdt"}


def metadata_changes(sides: Sides) -> Iterator[Change]:
    """Changes of its members, or the whole sub-tree. sides: the handover."""
    before, after = sides.before.kexec_metadata, sides.after.kexec_metadata
    if before is not None and after is not None:
        yield from member_changes("kexec_metadata", before, after, ("version", "previous_release", "kexec_count"))
    elif before is not None:
        signs = sides.about_subtree("kexec-metadata", "kexec_metadata", _CODES)
        yield sides.gone("kexec_metadata", text_of(before.address) or "", "consumed", signs, subtree="kexec-metadata")
    elif after is not None:
        yield sides.come("kexec_metadata", text_of(after.address), "kexec_metadata", subtree="kexec-metadata")
