# SPDX-License-Identifier: MIT
"""Rules MAP."""

from __future__ import annotations

__all__: list[str] = []
