# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/kexec_metadata.py."""

from __future__ import annotations

import struct

from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.kho import subtree_at
from luoser.writer.mutate.model import Cannot, first_handover, mutation

__all__: list[str] = []


@mutation("KHO009", "kexec-metadata is ignored with a message")
def metadata(image: Image, state: State) -> None:
    """The version of kexec-metadata becomes 2."""
    image.patch(subtree_at(state, "kexec-metadata"), struct.pack("<I", 2))


@mutation("KHO011", "the log has another number; else nothing")
def counts(image: Image, state: State) -> None:
    """liveupdate_number becomes one more than the kexec count."""
    handover = first_handover(state)
    if handover.luo is None or handover.luo.fdt is not None or handover.kexec_metadata is None:
        raise Cannot("expected a state with struct luo_ser and kexec-metadata")
    image.patch(handover.luo.address + 8, struct.pack("<Q", handover.kexec_metadata.kexec_count + 1))
