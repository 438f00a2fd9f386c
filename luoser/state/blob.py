# SPDX-License-Identifier: MIT
"""A bare blob, decoded. Apart from the state of a whole source, so that a small job does not pay for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luoser.fdt import Fdt
from luoser.state.packed import DeviceList

__all__ = ["Blob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A bare blob, decoded as one layout.

    layout:     name in the registry.
    candidates: all layouts that fit.
    confidence: why this layout, in words.
    size:       bytes that the layout covers.
    fields:     values of the head by member name.
    devices:    of a PCI list. None: not a list.
    buses:      of a PCI list.
    records:    of other arrays.
    fdt:        None: not a devicetree.
    notes:      faults, and what is not in the blob, in words.
    """

    layout: str
    candidates: tuple[str, ...]
    confidence: str
    size: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    devices: DeviceList | None = None
    buses: tuple[Mapping[str, Any], ...] = ()
    records: tuple[Mapping[str, Any], ...] = ()
    fdt: Fdt | None = None
    notes: tuple[str, ...] = ()
