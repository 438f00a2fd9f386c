# SPDX-License-Identifier: MIT
"""Layouts of the registry in the languages of other tools: a C header, a Kaitai description."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luoser.abi.registry import Layout
from luoser.writer.export.c_header import c_header
from luoser.writer.export.kaitai import kaitai

__all__ = ["FORMATS", "c_header", "kaitai"]

FORMATS: dict[str, Callable[[Sequence[Layout]], str]] = {"c": c_header, "kaitai": kaitai}
"""Generator of each language of `luoser abi export --as`."""
