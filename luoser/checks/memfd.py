# SPDX-License-Identifier: MIT
"""Rules MFD."""

from __future__ import annotations

__all__: list[str] = []
