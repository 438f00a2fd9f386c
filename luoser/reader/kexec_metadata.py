# SPDX-License-Identifier: MIT
"""Sub-tree kexec-metadata: which kernel wrote the handover, and how many KHO kexecs there were."""

from __future__ import annotations

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.reader.walk import Subject, Walk, is_name
from luoser.state import KexecMetadata
from luoser.text import decode_name

__all__ = ["read_kexec_metadata"]

_SUBJECT = Subject("sub-tree kexec-metadata", "kexec_metadata")


def read_kexec_metadata(walk: Walk, address: int, size: int | None) -> KexecMetadata | None:
    """struct kho_kexec_metadata; None and a problem for another version or a short blob.

    address: of the sub-tree. size: its blob-size in bytes, None where the root gives none.
    Source: kernel/liveupdate/kexec_handover.c, kho_kexec_metadata; docs/abi/kexec_metadata.md.
    """
    if size is not None and size < kho_kexec_metadata.size:
        walk.problem("bad-metadata", address, _SUBJECT, f"blob-size {size}, expected {kho_kexec_metadata.size}")
        return None
    data = walk.read(address, kho_kexec_metadata.size, _SUBJECT)
    if data is None:
        return None
    ser = kho_kexec_metadata.parse(data)
    if ser.version != 1 or not is_name(ser.previous_release):
        text = f"version {ser.version}, expected 1 and a release; reused memory?"
        walk.problem("bad-metadata", address, _SUBJECT, text)
        return None
    return KexecMetadata(
        address=address,
        version=ser.version,
        previous_release=decode_name(ser.previous_release),
        kexec_count=ser.kexec_count,
    )
