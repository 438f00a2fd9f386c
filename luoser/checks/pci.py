# SPDX-License-Identifier: MIT
"""Rules PCI."""

from __future__ import annotations

__all__: list[str] = []
