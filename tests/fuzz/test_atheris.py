# SPDX-License-Identifier: MIT
"""The targets of atheris take their seeds, and damage to them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.atheris.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_damage_to_them(name: str) -> None:
    rng, seeds = random.Random(name), list(TARGETS[name].seeds())
    assert seeds and all(seeds)
    for seed in seeds[:4]:
        TARGETS[name].run(seed)
        made = bytearray(seed)
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        TARGETS[name].run(bytes(made))
    TARGETS[name].run(b"")
