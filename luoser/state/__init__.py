# SPDX-License-Identifier: MIT
"""The hub: the state of a source as plain values, and their JSON form.

A name is imported on first use: a bare blob needs few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.state.blob import Blob
    from luoser.state.model import (
        HASHED_NAMES,
        OWN_PREFIX,
        Area,
        Array,
        Contents,
        Direction,
        File,
        Flb,
        Folios,
        Handover,
        KexecMetadata,
        KhoTest,
        Luo,
        MapStatus,
        Memblock,
        Memfd,
        PciList,
        Pending,
        PendingFile,
        PendingFlb,
        PendingSession,
        Preserved,
        Problem,
        Record,
        Reservation,
        Session,
        Source,
        State,
        Subsystem,
        Subtree,
    )
    from luoser.state.packed import Column, Device, DeviceList, Folio, FolioList, Hex, row_fields
    from luoser.state.preserved import Bitmap, Block, Extent, PreservedMap
    from luoser.state.salvaged import Confidence, Entries, Salvaged
    from luoser.state.to_json import SCHEMA, blob_document, to_document

__all__ = [
    "HASHED_NAMES",
    "OWN_PREFIX",
    "SCHEMA",
    "Area",
    "Array",
    "Bitmap",
    "Blob",
    "Block",
    "Column",
    "Confidence",
    "Contents",
    "Device",
    "DeviceList",
    "Direction",
    "Entries",
    "Extent",
    "File",
    "Flb",
    "Folio",
    "FolioList",
    "Folios",
    "Handover",
    "Hex",
    "KexecMetadata",
    "KhoTest",
    "Luo",
    "MapStatus",
    "Memblock",
    "Memfd",
    "PciList",
    "Pending",
    "PendingFile",
    "PendingFlb",
    "PendingSession",
    "Preserved",
    "PreservedMap",
    "Problem",
    "Record",
    "Reservation",
    "Salvaged",
    "Session",
    "Source",
    "State",
    "Subsystem",
    "Subtree",
    "blob_document",
    "row_fields",
    "to_document",
]

_HOMES = ("packed", "preserved", "salvaged", "blob", "model", "to_json")  # those that are quick to import first


def __getattr__(name: str) -> Any:
    for home in _HOMES if name in __all__ else ():
        module = import_module(f"{__name__}.{home}")
        if name in module.__all__:
            return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
