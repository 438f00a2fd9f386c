# SPDX-License-Identifier: MIT
"""Sub-tree kexec-metadata: release of the kernel that wrote the handover, and number of KHO kexecs."""

from __future__ import annotations

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.reader.kept import keep_struct
from luoser.reader.plausible import is_name
from luoser.reader.walk import Subject, Walk
from luoser.state import KexecMetadata
from luoser.text import decode_name

__all__ = ["read_kexec_metadata"]

_SUBJECT = Subject("sub-tree kexec-metadata", "kexec_metadata")


def read_kexec_metadata(walk: Walk, address: int, size: int | None) -> KexecMetadata | None:
    """The struct kho_kexec_metadata. None, with a problem: another version, or too short.

    walk:    the source.
    address: of the sub-tree.
    size:    its blob-size in bytes. None: the root does not have it.

    Source: kernel/liveupdate/kexec_handover.c, kho_kexec_metadata; docs/abi/kexec_metadata.md.
    """
    if size is not None and size < kho_kexec_metadata.size:
        walk.problem(
            "bad-metadata",
            address,
            _SUBJECT,
            f"blob-size: expected at least {kho_kexec_metadata.size} bytes, found {size}",
        )
        return None
    data = walk.read(address, kho_kexec_metadata.size, _SUBJECT, kind=_is_metadata)
    if data is None:
        return None
    ser = kho_kexec_metadata.parse(data)
    if ser.version != 1 or not is_name(ser.previous_release):
        text = f"expected version 1 and a release, found version {ser.version}; reused memory?"
        walk.problem("bad-metadata", address, _SUBJECT, text)
        return None
    keep_struct(walk, address, kho_kexec_metadata, _SUBJECT)
    return KexecMetadata(
        address=address,
        version=ser.version,
        previous_release=decode_name(ser.previous_release),
        kexec_count=ser.kexec_count,
    )


def _is_metadata(page: bytes) -> bool:
    ser = kho_kexec_metadata.parse(page)
    return bool(ser.version == 1 and is_name(ser.previous_release) and not any(page[kho_kexec_metadata.size :]))
