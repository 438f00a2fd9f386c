# SPDX-License-Identifier: MIT
"""The orchestrator of 2025: one state for the whole machine, and subsystems that take part in it."""
