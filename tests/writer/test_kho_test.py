# SPDX-License-Identifier: MIT
"""The sub-tree of the KHO self-test."""

from __future__ import annotations

import pytest

from tests.writer.helpers import there_and_back


@pytest.mark.parametrize("kernel", ["6.17", "6.18", "7.3"])
@pytest.mark.parametrize("count", [1, 2, 3, 600])
def test_the_self_test(kernel: str, count: int) -> None:
    """6.17 has its folios in the devicetree, later ones in a vmalloc area; its page is of get_order(8 n + 4096)."""
    folios = [[hex(0x40000000 + index * 8192), index % 2] for index in range(count)]
    state, image, again = there_and_back({"kho_test": {"folios": folios}}, kernel=kernel)
    test, found = state.handovers[0].kho_test, state.handovers[0].preserved.map
    assert test is not None and found is not None and again.handovers[0].kho_test == test
    assert len(test.pages) == (0 if kernel == "6.17" else -(-count * 8 // 4096))
    block = found.find(test.address)
    assert block is not None and (block.address, block.order) == (test.address, (8 * count + 4095) // 4096)
    assert image.lacks == [] and again.problems == ()
