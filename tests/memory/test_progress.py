# SPDX-License-Identifier: MIT
"""Every search tells how far it is: upwards, and up to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

import luoser
from tests import real

FORMATS = real.ROOT / "fixtures" / "formats"


@pytest.mark.parametrize("name", ["elf.xz", "kdump-zlib.xz", "kdump-lzo.xz", "elf-flat.xz"])
def test_a_search_tells_how_far_it_is(name: str) -> None:
    told: list[tuple[int, int]] = []
    with luoser.open(Path(FORMATS / name)) as memory:
        memory.on_progress = lambda done, total: told.append((done, total))
        list(memory.find_pages(b"\xd0\x0d\xfe\xed"))
    assert told == sorted(told)
    done, total = told[-1]
    assert 0 < done == total
