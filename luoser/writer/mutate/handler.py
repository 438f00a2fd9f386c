# SPDX-License-Identifier: MIT
"""Mutations that break the rules of luoser/checks/handler.py."""

from __future__ import annotations

from luoser.abi import memfd
from luoser.state import State
from luoser.writer.image import Image
from luoser.writer.mutate.luo import EIO, place_of, sessions_of
from luoser.writer.mutate.model import Cannot, mutation

__all__: list[str] = []


@mutation("LUO017", EIO)
def handler(image: Image, state: State) -> None:
    """The handler of a file gets version 9."""
    file = sessions_of(state, 1)[0].files[-1]
    image.patch(place_of(file), (file.compatible.split("-v")[0].encode() + b"-v9").ljust(48, b"\0"))


@mutation("LUO018", EIO)
def handler_generation(image: Image, state: State) -> None:
    """A file becomes memfd-v1, with its descriptor, below a root of kernels with memfd-v2."""
    files = (file for session in sessions_of(state, 1, count=1) for file in session.files)
    file = next((one for one in files if one.compatible == "memfd-v2" and one.memfd is not None), None)
    if file is None:
        raise Cannot("expected a memfd-v2 in the first session")
    old, new = memfd.memfd_luo_ser_v2, memfd.memfd_luo_ser_v1
    data = image.read(file.data, old.size)
    data = data[: old.offset("seals")] + data[old.offset("nr_folios") :]
    assert len(data) == new.size
    image.patch(file.data, data.ljust(old.size, b"\0"))
    image.patch(place_of(file), b"memfd-v1")
