# SPDX-License-Identifier: MIT
"""Rules on the root, its sub-trees and the plain users of KHO."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.checks.model import Found, Severity, register
from luoser.checks.view import View
from luoser.text import safe_text

__all__: list[str] = []

_RELEASED = frozenset({"kho-v1", "kho-v3", "kho-v4"})


@register("KHO001", "root-version-unknown", Severity.ERROR, kernels="6.16 and later", source="kho.md 1.4, 2.2, 2.5")
def root_version(view: View) -> Iterator[Found]:
    """The root's compatible string is not one that a released kernel writes: kho-v1, kho-v3, kho-v4.

    A kernel accepts its own string only. With any other it prints that KHO revival is disabled, boots as if nothing
    had been handed over, and all preserved memory is lost.
    """
    if view.handover.compatible not in _RELEASED:
        yield Found(
            f"the root says {safe_text(view.handover.compatible)}, which no released kernel accepts",
            address=view.handover.address,
            where="root",
            hint="boot the next kernel from the same release, or look for what wrote over the root",
        )
