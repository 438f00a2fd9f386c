# SPDX-License-Identifier: MIT
"""Rules on file handlers: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import luoser
from luoser.checks import check
from tests import real
from tests.checks.mutants import luo_of


def test_an_unknown_handler_is_told_once_with_its_number_of_files() -> None:
    files = luo_of(real.read("7.3-a/frozen")).sessions[0].files
    memory = real.overlay("7.3-a/frozen")
    for file in files:
        memory.write(file.address or 0, b"guestos-v1".ljust(48, b"\0"))
    (finding,) = check(luoser.read(memory), select=["LUO017"]).findings
    assert "3 files" in finding.message
