# SPDX-License-Identifier: MIT
"""`diff` of a real dump and the same with one flipped bit: never equal, nor progress, where `check` objects.

The default run takes one dump of each release, with a fixed seed, `make test-slow` more flips of all.
"""

from __future__ import annotations

import pytest

import luoser
from luoser.changes import Verdict as Outcome
from luoser.changes import compare
from luoser.checks import Verdict, check
from tests import flips, real


def unseen(name: str, count: int) -> list[str]:
    memory = real.dump(name)
    before = luoser.read(memory)
    found = []
    for member, bits in flips.sampled(flips.bits_of(name), count, f"diff {name}").items():
        for bit in bits:
            after = luoser.read(flips.flipped(memory, bit))
            if check(after, ram=memory.known_ram).verdict is not Verdict.FINDINGS or not after.handovers:
                continue
            verdict = compare(before, after).verdict
            if verdict in (Outcome.EQUAL, Outcome.PROGRESS):
                found.append(f"{name}: {member}: bit {bit[1]} of {bit[0]:#x}: {verdict.value}")
    return found


@pytest.mark.parametrize("name", list({name.partition("-")[0]: name for name in flips.DUMPS}.values()))
def test_a_flipped_bit_that_check_finds_is_a_difference(name: str) -> None:
    assert unseen(name, 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", flips.DUMPS)
def test_many_flipped_bits_that_check_finds_are_differences(name: str) -> None:
    assert unseen(name, 20) == []
