# SPDX-License-Identifier: MIT
"""The fixtures, and that pytest finds them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"form": "tar"}, "form: expected elf or raw, found 'tar'"),
        ({"machine": "vax"}, "machine: expected x86-64 or arm64, found 'vax'"),
        ({"kernel": 7.3}, "kernel: expected a text such as '7.3', found 7.3"),
    ],
)
def test_what_there_is_not_is_refused_in_words(luoser_image: ImageMaker, wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        luoser_image(SPEC, **wrong)


def test_pytest_finds_it_by_an_entry_point() -> None:
    project = tomllib.loads((real.ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"luoser": "luoser.testing.plugin"}
