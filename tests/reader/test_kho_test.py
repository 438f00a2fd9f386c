# SPDX-License-Identifier: MIT
"""The sub-tree of the KHO self-test: its folios in itself or in a vmalloc area."""

from __future__ import annotations

import pytest

from luoser.limits import Limits, limited
from luoser.state import State
from tests import real
from tests.images import Image, Node, text, u32, u64
from tests.reader.helpers import codes, only, problems


def kho_test_image(info: bytes, count: int, image: Image | None = None) -> State:
    image = image or Image()
    data = Node("data", {"nr_folios": u32(count), "folios_info": info, "csum": u32(0xABCD)})
    tree = Node("", {"compatible": text("kho-test-v1"), "magic": u32(0x4B484F21)}, [data])
    image.handover({"kho_test": (image.tree(tree), None)}, compatible="kho-v1")
    return image.read()


FOLIOS = [(0x40000000, 0), (0x40002000, 1), (0x40200000, 9), (0x80000000, 10)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_kho_test_of_6_17_has_the_array_itself(count: int) -> None:
    info = b"".join(u64(address | order) for address, order in FOLIOS[:count])
    state = kho_test_image(info, count)
    test = only(state).kho_test
    assert test is not None
    assert (test.magic, test.count, test.checksum) == (0x4B484F21, count, 0xABCD)
    assert list(test.folios) == FOLIOS[:count]
    assert state.problems == ()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_kho_test_since_6_18_has_a_vmalloc_array(count: int) -> None:
    image = Image()
    info = image.vmalloc(b"".join(u64(address | order) for address, order in FOLIOS[:count]))
    state = kho_test_image(info, count, image)
    test = only(state).kho_test
    assert test is not None
    assert list(test.folios) == FOLIOS[:count]
    assert state.problems == ()


def test_kho_test_with_an_array_of_another_length_is_a_problem() -> None:
    state = kho_test_image(u64(0x40000000), 3)
    assert "bad-kho-test" in codes(state)


@pytest.mark.parametrize("is_packed", [False, True])
def test_kho_test_of_many_folios_is_cut_and_said_to_be(is_packed: bool) -> None:
    image, words = Image(), b"".join(u64(address | order) for address, order in FOLIOS)
    with limited(Limits(kho_test_folios=3)):
        state = kho_test_image(words if is_packed else image.vmalloc(words), 4, image)
    test = only(state).kho_test
    assert test is not None and list(test.folios) == FOLIOS[:3]
    assert "only the first 3 are read; --limit kho_test_folios=N" in problems(state, "too-many")[0].message


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith("/frozen")])
def test_kho_test_of_real_dumps_names_preserved_folios(name: str) -> None:
    handover = only(real.read(name))
    assert handover.kho_test is not None and handover.preserved.map is not None
    assert len(handover.kho_test.folios) == handover.kho_test.count > 0
    for address, order in handover.kho_test.folios:
        block = handover.preserved.map.find(address)
        assert block is not None and (block.address, block.order) == (address, order)
