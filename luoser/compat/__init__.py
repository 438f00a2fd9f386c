# SPDX-License-Identifier: MIT
"""Whether one kernel can hand over to another: what is refused, what is lost, and what breaks under equal strings."""

from luoser.compat.booted import Booted, find_booted, pairs
from luoser.compat.judge import Clash, Effect, Result, clashes, result, verdict
from luoser.compat.profile import Profile, of_file, of_release, of_state

__all__ = [
    "Booted",
    "Clash",
    "Effect",
    "Profile",
    "Result",
    "clashes",
    "find_booted",
    "of_file",
    "of_release",
    "of_state",
    "pairs",
    "result",
    "verdict",
]
