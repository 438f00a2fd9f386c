# SPDX-License-Identifier: MIT
"""Device lists: one thing changed in a real one or in a made one."""

from __future__ import annotations

import luoser
from luoser.diff import compare
from tests import real
from tests.diff.helpers import FROZEN


def test_a_count_of_the_head_alone() -> None:
    memory = real.overlay(FROZEN)
    memory.write(0x1AD9000, (11).to_bytes(8, "little"))  # max_nr_devices of the list of family B
    found = compare(luoser.read(real.dump(FROZEN)), luoser.read(memory)).changes
    assert [change.where for change in found] == ["pci/flb:pci-v2/header/max_nr_devices"]
