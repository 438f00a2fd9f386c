# SPDX-License-Identifier: MIT
"""The sub-tree of the KHO self-test."""

from __future__ import annotations

import pytest

import luoser
from tests.writer.helpers import built, there_and_back


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


def test_the_folios_of_the_self_test_are_written_and_read() -> None:
    test = {"folios": [["0x5000000", 0], ["0x5002000", 1]], "contents": [
        {"address": "0x5000000", "size": "0x1000", "bytes": "61"},
        {"address": "0x5002000", "size": "0x2000", "bytes": "62" * 8192},
    ]}  # fmt: skip
    _, image = built({"handovers": [{"kho_test": test}]})
    (handover,) = luoser.read(image.memory(), contents=True).handovers
    assert handover.kho_test is not None
    assert [piece.data for piece in handover.kho_test.contents] == [b"a", b"b" * 8192]
    test["contents"] = test["contents"][:1]
    _, image = built({"handovers": [{"kho_test": test}]})
    assert image.lacks == ["sub-tree kho_test: contents of 1 of 2 folios are not in the state"]
