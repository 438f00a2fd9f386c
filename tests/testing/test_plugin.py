# SPDX-License-Identifier: MIT
"""The fixtures, and that pytest finds them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import luoser
from luoser.errors import UsageError
from luoser.testing import assert_sound
from luoser.testing.plugin import ImageMaker
from tests import real

SPEC = real.ROOT / "fixtures/specs/handover.toml"


@pytest.mark.parametrize("form", ["elf", "raw"])
def test_an_image_is_a_source(luoser_image: ImageMaker, form: str, tmp_path: Path) -> None:
    place = luoser_image(SPEC, form=form)
    assert place.parent == tmp_path and place.suffix == f".{form}"
    assert [session.name for session in luoser.load(place).handovers[0].luo.sessions] == ["vm-1", "empty"]


def test_each_image_is_a_new_file(luoser_image: ImageMaker) -> None:
    first, second = luoser_image(SPEC), luoser_image(SPEC, mutate="LUO016")
    assert_sound(first)
    with pytest.raises(AssertionError, match="LUO016"):
        assert_sound(second)


def test_one_blob_of_it_is_a_file_of_bytes(luoser_image: ImageMaker) -> None:
    place = luoser_image(SPEC, blob="pci[0]")
    assert place.suffix == ".bin" and luoser.decode(place, "pci-lu-v2-03").devices is not None


def test_a_description_that_cannot_be_made_is_an_error(luoser_image: ImageMaker) -> None:
    with pytest.raises(UsageError, match="handovers"):
        luoser_image({"handovers": 7})
    with pytest.raises(UsageError, match="not made as described: sub-tree mine: no data"):
        luoser_image({"handovers": [{"subtrees": [{"name": "mine", "address": "0x2000000"}]}]})


def test_pytest_finds_it_by_an_entry_point() -> None:
    project = tomllib.loads((real.ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"luoser": "luoser.testing.plugin"}
