# SPDX-License-Identifier: MIT
"""Sub-tree kexec-metadata."""

from __future__ import annotations

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.struct_bytes import struct_bytes
from luoser.state import KexecMetadata

__all__ = ["metadata_bytes"]


def metadata_bytes(metadata: KexecMetadata, what: str) -> bytes:
    """Bytes of the struct.

    metadata: its values.
    what:     name of the struct in errors.

    Raises UsageError for a release that is too long.
    """
    fields = {
        "version": metadata.version,
        "previous_release": metadata.previous_release,
        "kexec_count": metadata.kexec_count,
    }
    return struct_bytes(kho_kexec_metadata, fields, what)
