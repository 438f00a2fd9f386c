# SPDX-License-Identifier: MIT
"""LUO of the RFC of 2025: one state for the whole machine, and subsystems with callbacks for each step."""
