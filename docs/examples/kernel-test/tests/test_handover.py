# SPDX-License-Identifier: MIT
"""Without a kernel: handovers that luoser builds, their negatives, and goldens."""

from __future__ import annotations

from pathlib import Path

import pytest

import luoser
from luoser.testing import assert_same_state, assert_sound, golden
from luoser.testing.plugin import ImageMaker

HANDOVER = Path(__file__).with_name("handover.toml")


def test_the_handover_is_sound_and_the_next_kernel_takes_it(luoser_image: ImageMaker) -> None:
    """A kernel 7.3.4 with the posted series that has the FLB `pci`."""
    assert_sound(luoser_image(HANDOVER), next_release="7.3.4", flbs=["pci"], severity="warning")


@pytest.mark.parametrize("rule", ["LUO016", "MFD004", "PCI003"])
def test_a_broken_one_is_found(luoser_image: ImageMaker, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        assert_sound(luoser_image(HANDOVER, mutate=rule))


def test_a_session_more_is_a_difference(luoser_image: ImageMaker) -> None:
    one, two = ({"handovers": [{"luo": {"sessions": [{"name": name} for name in names]}}]} for names in ("a", "ab"))
    assert_same_state(luoser_image(one), luoser_image(one))
    with pytest.raises(AssertionError, match=r"\+ luo/sessions/b"):
        assert_same_state(luoser_image(one), luoser_image(two))


def test_my_reader_takes_the_goldens() -> None:
    """In place of luoser.decode: the reader that is tested."""
    assert len(luoser.decode(golden("lists/pci-v2-u64/052.bin"), "pci-v2-u64").devices or ()) == 52


def test_a_block_that_is_full_has_a_next_one(tmp_path: Path) -> None:
    """63 files fit a page of the kernel's list, 64 do not."""
    pages = []
    for count in (63, 64):
        image = tmp_path / f"{count}.elf"
        image.write_bytes(golden(f"luo/files-{count}.elf"))
        assert_sound(image)
        luo = luoser.load(image).handovers[0].luo
        assert luo is not None
        pages.append(len(luo.sessions[0].blocks))
    assert pages == [1, 2]
