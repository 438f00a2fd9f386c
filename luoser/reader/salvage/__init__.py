# SPDX-License-Identifier: MIT
"""Things that are found by their shape, where pointers no longer lead to them; never part of a handover.

The registry says what is looked for (`forms`). `columns` and `blocks` find pages that can be it, `judge` reads them,
`links` compares what they say of each other, `places` says where they lie.
"""

from __future__ import annotations

from luoser.reader.salvage.search import memfd_at, salvage

__all__ = ["memfd_at", "salvage"]
