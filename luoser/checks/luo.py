# SPDX-License-Identifier: MIT
"""Rules LUO."""

from __future__ import annotations

__all__: list[str] = []
