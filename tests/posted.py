# SPDX-License-Identifier: MIT
"""A handover with forms of postings, and with a sub-tree, an FLB and a handler that nobody knows."""

from __future__ import annotations

import struct

from tests.images import Image, name

__all__ = ["BLOB", "Places", "posted"]

BLOB = 5 * 4096
"""Bytes of the unknown sub-tree."""


class Places:
    """Addresses of what was made: the hwpoison struct, its chunk and its page; the unknown blob, FLB and file."""

    hwpoison: int
    chunk: int
    page: int
    blob: int
    flb: int
    file: int


def posted(*, count: int = 3) -> tuple[Image, Places]:
    """The image, and where its things are. count: of pages with memory errors."""
    image, places = Image(), Places()
    area = image.vmalloc(struct.pack("<3Q", 0x100, 0x200, 0x300))
    places.hwpoison = image.alloc(struct.pack("<IIQ", 1, 0, count) + area)
    (places.chunk,) = struct.unpack_from("<Q", area)
    (places.page,) = struct.unpack_from("<Q", image.data, places.chunk + 8)
    places.blob = image.alloc(b"".join(bytes([page + 1]) * 4096 for page in range(BLOB // 4096)), order=3)
    places.flb, places.file = image.alloc(b"an FLB"), image.alloc(b"a file")
    files = image.blocks([name("unknown", 48) + struct.pack("<QQ", places.file, 1)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    flbs = image.alloc(struct.pack("<QQ", 1, 1) + name("unknown-flb", 48) + struct.pack("<QQ", places.flb, 1))
    luo = image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, flbs))
    image.handover({"LUO": (luo, 32), "hwpoison": (places.hwpoison, 32), "unknown-tree": (places.blob, BLOB)})
    return image, places
