# SPDX-License-Identifier: MIT
"""What breaks the rules of luoser/checks/preserved.py."""

from __future__ import annotations

__all__: list[str] = []
