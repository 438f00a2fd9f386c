# SPDX-License-Identifier: MIT
"""Whether one kernel can hand over to another: what is refused, what is lost, and what breaks under equal strings."""

from luoser.clashes.booted import Booted, find_booted, pairs
from luoser.clashes.judge import Clash, Compatibility, Effect, Result, compare
from luoser.clashes.profile import Profile, of_file, of_release, of_state

__all__ = [
    "Booted",
    "Clash",
    "Compatibility",
    "Effect",
    "Profile",
    "Result",
    "compare",
    "find_booted",
    "of_file",
    "of_release",
    "of_state",
    "pairs",
]
