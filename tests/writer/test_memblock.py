# SPDX-License-Identifier: MIT
"""The sub-tree memblock."""

from __future__ import annotations

from tests.writer.helpers import there_and_back


def test_reservations_are_preserved_whole() -> None:
    state, _, again = there_and_back(
        {"memblock": {"reservations": [{"name": "trace", "start": "0x1001000", "size": "1M"}]}}
    )
    found = state.handovers[0].preserved.map
    assert found is not None and found.covers(0x1001000, 1 << 20)
    wanted = {0x1001000: 0, 0x1002000: 1, 0x1040000: 6, 0x1080000: 7, 0x1100000: 0}
    assert {start: block.order for start in wanted if (block := found.find(start))} == wanted
    assert again.handovers[0].memblock == state.handovers[0].memblock
