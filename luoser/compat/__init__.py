# SPDX-License-Identifier: MIT
"""Whether one kernel can hand over to another: what is refused, what is lost, and what breaks behind equal strings."""

from luoser.compat.judge import Clash, Effect, clashes, verdict
from luoser.compat.profile import Profile, of_file, of_release, of_state

__all__ = ["Clash", "Effect", "Profile", "clashes", "of_file", "of_release", "of_state", "verdict"]
