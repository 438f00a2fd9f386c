# SPDX-License-Identifier: MIT
"""A handover with forms of postings, and with a sub-tree, an FLB and a handler that nobody knows."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable

from tests.images import Image, Node, fdt, name, text, u32, u64

__all__ = ["BLOB", "Places", "hypervisor", "poisoned", "posted", "users"]

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


def users(
    *,
    mshv: dict[str, bytes] | None = None,
    cached: int | None = None,
    pstore: bytes | None = None,
    count: int = 2,
    pfns: tuple[int, ...] = (0x40000, 0x40001, 0),
    blob_size: int = 32,
) -> Image:
    """Sub-trees of posted users as kernels leave them: pages with errors, pages of a hypervisor, a log, cached devices.

    mshv:      properties of its devicetree in place of those that are right.
    cached:    address of the page of the cached device. None: one that is preserved.
    pstore:    its blob. None: one without a record yet, as a kernel that runs has it.
    count:     of pages with errors.
    pfns:      their array, of which some may be left over. They are beyond the image: nobody has preserved them.
    blob_size: of the sub-tree with the pages with errors.
    """
    image = Image()
    ids = image.alloc(struct.pack("<2Q", 1, 7))
    right = {
        "compatible": text("mshv_kho-v1"), "root_table": u64(image.alloc(b"")),
        "partition_ids": u64(ids), "nr_partition_ids": u32(2),
    }  # fmt: skip
    tree = fdt(Node("", {key: value for key, value in (right | (mshv or {})).items() if value}))
    device = Node("dev_0000_01_00_0", {"da": u64(image.alloc(b"cache") if cached is None else cached)})
    devices = fdt(Node("", {"compatible": text("pcsc-v1")}, [device]))
    log = struct.pack("<I44x", 1) if pstore is None else pstore
    list_of = image.alloc(struct.pack("<IIQ", 1, 0, count) + image.vmalloc(struct.pack(f"<{len(pfns)}Q", *pfns)))
    sessions = image.blocks([name("vm", 64) + bytes(16)])
    luo = image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, image.alloc(struct.pack("<QQ", 1, 0))))
    image.handover(
        {
            "LUO": (luo, 32),
            "hwpoison": (list_of, blob_size),
            "mshv_prsv_pt": (image.alloc(tree), len(tree)),
            "pcsc": (image.alloc(devices), len(devices)),
            "pstore-kho": (image.alloc(log), 48 + 4000),
        }
    )
    return image


def hypervisor(
    *,
    orders: bool,
    more: Iterable[int] = (),
    keep: Container[str] = ("nodes", "pages"),
    blocks: Iterable[tuple[int, int]] = (),
) -> Image:
    """The pages of a hypervisor: two of order 0, and with orders one of order 2.

    orders: whether the keys of its tree have an order; else they are page frame numbers.
    more:   keys of the tree in addition.
    keep:   which of `nodes` and `pages` are preserved.
    blocks: (address, order) of further blocks that are preserved.
    """
    image = Image()
    pages = [image.alloc(order=order, keep="pages" in keep) for order in (0, 0, 2)[: 2 + orders]]
    keys = [1 << 52 | pages[0] >> 12, 1 << 52 | pages[1] >> 12, *(1 << 50 | page >> 14 for page in pages[2:])]
    image.kept.extend(blocks)
    tree = image.tree_of([*(keys if orders else (page >> 12 for page in pages)), *more], keep="nodes" in keep)
    image.handover(
        {"mshv_prsv_pt": (image.tree(Node("", {"compatible": text("mshv_kho-v1"), "root_table": u64(tree)})), 4096)}
    )
    return image


def poisoned(*pfns: int, size: int = 4096, **changes: bytes) -> Image:
    """The list of pages with errors in its earlier form: a devicetree in a page. size: blob-size."""
    image = Image()
    area = image.vmalloc(struct.pack(f"<{len(pfns)}Q", *pfns))
    values = {"compatible": text("hwpoison-v1"), "count": u64(len(pfns)), "pfns": area} | changes
    tree = image.tree(Node("", {key: value for key, value in values.items() if value}))
    image.handover({"hwpoison": (tree, size)})
    return image
