# SPDX-License-Identifier: MIT
"""Where a thing lies, and what is proven already."""

from __future__ import annotations

from luoser.reader.salvage.places import is_in_scratch, place_words, proven
from tests import real


def test_what_pointers_lead_to_is_proven() -> None:
    (handover,) = real.read("7.3-a/frozen").handovers
    assert handover.luo is not None
    found = proven([handover])
    assert {handover.address, handover.luo.address, *handover.luo.session_blocks, handover.luo.flb_area} <= found
    assert {one.address for one in handover.pci} <= found
    assert all(file.memfd is None or file.memfd.address in found for one in handover.luo.sessions for file in one.files)
    assert 0 not in found


def test_a_place_is_in_scratch_preserved_or_neither() -> None:
    handovers = real.read("7.3-a/post").handovers
    outgoing = next(one for one in handovers if one.preserved.map is not None)
    assert outgoing.address is not None and outgoing.scratch is not None
    scratch = outgoing.scratch[0].address
    assert is_in_scratch(handovers, scratch) is not None
    assert place_words(handovers, scratch).startswith("in scratch of the root")
    assert place_words(handovers, outgoing.address) == f"in memory that the root {outgoing.address:#x} preserves"
    other = next(page for page in range(0x1000, 1 << 30, 0x1000) if outgoing.preserved.map.find(page) is None)
    assert place_words(handovers, other).endswith("does not preserve")
    assert place_words([], other) == "no map can be read: unknown whether it is preserved"
