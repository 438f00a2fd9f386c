# SPDX-License-Identifier: MIT
"""Rules TOP."""

from __future__ import annotations

__all__: list[str] = []
