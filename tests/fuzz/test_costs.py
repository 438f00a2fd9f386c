# SPDX-License-Identifier: MIT
"""What the worst image of each structure costs: at three sizes, no more than grows with the bytes that are stored.

Each image is made at three sizes. Where it has zeros that are not stored, only those grow, and the work may not.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

import luoser
from luoser.checks import check
from luoser.memory.source import Memory
from tests.images import Image, Node, fdt, name, text, u32, u64
from tests.reader.helpers import luo_ser, v2
from tests.work import held, lines

ZEROS = 0x1_0000_0000
"""Address from which on there are zeros that are not stored."""


@dataclass(slots=True)
class Worst:
    """An image under construction.

    size: 1, 2 or 4.
    head: the first bytes at ZEROS, which are stored.
    """

    image: Image
    size: int
    head: bytes = b""

    def memory(self) -> Memory:
        return self.image.with_zeros(ZEROS, 1 << 38, head=self.head)

    def luo(self, sessions: int, flbs: int = 0) -> int:
        return self.image.alloc(luo_ser(1, sessions, flbs))


def false_roots(worst: Worst) -> None:
    """Different pages that start as a root, and have as many properties as fit."""
    for number in range(64 * worst.size):
        tree = Node("", {"compatible": text("kho-v4x"), **{f"p{index}": b"" for index in range(200)}})
        worst.image.alloc(fdt(tree)[:4090] + struct.pack("<H", number), keep=False)


def equal_trees(worst: Worst) -> None:
    """Roots that share one devicetree of many properties."""
    blob = fdt(Node("", {f"p{index}": b"" for index in range(2000 * worst.size)}))
    place = worst.image.alloc(blob, order=7)
    for _ in range(8):
        worst.image.handover({f"s{number}": (place, len(blob)) for number in range(8)})


def zero_tree(worst: Worst) -> None:
    """Roots that share one radix tree, whose leaves are zeros that are not stored."""
    image, count = worst.image, 4 * worst.size
    above = [
        image.alloc(struct.pack("<512Q", *(ZEROS + ((one << 9 | two) << 12) for two in range(512))))
        for one in range(count)
    ]
    top = image.alloc(struct.pack(f"<{count}Q", *above))
    for _ in range(3):  # further levels
        top = image.alloc(struct.pack("<Q", top))
    for _ in range(16):
        image.handover(map_address=image.alloc(struct.pack("<Q", top)))


def zero_blobs(worst: Worst) -> None:
    """Sub-trees of unknown kind, of the largest size that a kernel preserves, and more."""
    for root in range(4 * worst.size):
        first = ZEROS + (root << 28)
        worst.image.handover({f"x{number}": (first + (number << 22), 4 << 20) for number in range(20)})


def zero_list(worst: Worst) -> None:
    """A device list with a count that is too high, and with one device before its zeros."""
    image, count = worst.image, 500_000 * worst.size
    flb = name("pci", 48) + u64(ZEROS) + u64(1)
    area = image.alloc(u64(1) + u64(1) + flb)
    image.kept.append((ZEROS, 14))
    image.handover({"LUO": (worst.luo(0, area), 32)})
    worst.head = struct.pack("<QQ", count, 0x0100)


def zero_array(worst: Worst) -> None:
    """A memfd whose folio array is in blocks of zeros."""
    image, count = worst.image, 1 << 20
    pages = [ZEROS + (number << 12) for number in range(511)]
    chunk = image.alloc(struct.pack("<512Q", 0, *pages))
    memfd = image.alloc(v2(struct.pack("<QIHH", chunk, 511, 0, 0), folios=511 * 256, size=count << 12))
    entries = [name("memfd-v2", 48) + u64(memfd) + u64(token) for token in range(64 * worst.size)]
    files = image.blocks(entries)
    session = name("vm", 64) + u64(files) + u64(len(entries))
    image.handover({"LUO": (worst.luo(image.blocks([session])), 32)})


def zero_test_folios(worst: Worst) -> None:
    """The KHO self-test with folios of a large order."""
    words = [ZEROS + (number << 32) | 20 for number in range(32 * worst.size)]
    info = worst.image.vmalloc(struct.pack(f"<{len(words)}Q", *words))
    data = Node("data", {"nr_folios": u32(len(words)), "folios_info": info, "csum": bytes(4)})
    tree = worst.image.tree(Node("", {"compatible": text("kho-test-v1"), "magic": u32(0x4F484B21)}, [data]))
    worst.image.handover({"kho_test": (tree, 4096)})


def shared_lists(worst: Worst) -> None:
    """Roots that share one page of LUO, whose FLBs lead to lists of devices of no layout."""
    image, rows = worst.image, list[bytes]()
    for number in range(12):
        devices = b"".join(struct.pack("<IHHQ", number, device, 1, device << 12) for device in range(160))
        rows.append(name("pci", 48) + u64(image.alloc(struct.pack("<QQ", 160, 160) + devices)) + u64(1))
    luo = worst.luo(0, image.alloc(u64(1) + u64(len(rows)) + b"".join(rows)))
    for _ in range(4 * worst.size):
        image.handover({"LUO": (luo, 32)})


def shared_subtrees(worst: Worst) -> None:
    """Tables of which every slot leads to the same table, down to one leaf of ones."""
    image = worst.image
    leaf = image.alloc(b"\xff" * 4096)
    tables = [image.alloc(u64(leaf) * 512) for _ in range(32 * worst.size)]
    top = image.alloc(b"".join(map(u64, tables)))
    for _ in range(3):
        top = image.alloc(u64(top) * 512)
    for _ in range(8):
        image.handover(map_address=image.alloc(u64(top) * 8))


def folios_over_each_other(worst: Worst) -> None:
    """A map of blocks of every order that overlap."""
    rng = random.Random(1)
    for _ in range(2000 * worst.size):
        order = rng.randrange(10)
        worst.image.kept.append((rng.randrange(1 << 20) << 12 & -(4096 << order), order))
    worst.image.handover()


def empty_blocks(worst: Worst) -> None:
    """A chain of blocks without an entry, for several roots."""
    image = worst.image
    blocks = [image.alloc() for _ in range(128 * worst.size)]
    for block, following in zip(blocks, [*blocks[1:], 0], strict=True):
        image.put(block, struct.pack("<QQ", following, 0))
    for _ in range(8):
        image.handover({"LUO": (worst.luo(blocks[0]), 32)})


def shared_files(worst: Worst) -> None:
    """Sessions that share one chain of files."""
    image, count = worst.image, 63 * 4 * worst.size
    files = image.blocks([name("x", 48) + u64(0) + u64(token) for token in range(count)])
    sessions = [name(f"s{number}", 64) + u64(files) + u64(count) for number in range(51 * 4 * worst.size)]
    image.handover({"LUO": (worst.luo(image.blocks(sessions)), 32)})


def equal_names(worst: Worst) -> None:
    """Sessions of one name."""
    sessions = [name("same", 64) + u64(0) + u64(0)] * (51 * 8 * worst.size)
    worst.image.handover({"LUO": (worst.luo(worst.image.blocks(sessions)), 32)})


def equal_tokens(worst: Worst) -> None:
    """Files of one token."""
    image, count = worst.image, 63 * 8 * worst.size
    files = image.blocks([name("x", 48) + u64(0) + u64(1)] * count)
    image.handover({"LUO": (worst.luo(image.blocks([name("vm", 64) + u64(files) + u64(count)])), 32)})


def shared_memfd(worst: Worst) -> None:
    """Files that share one memfd with many folios."""
    image, count = worst.image, 64 * worst.size
    folios = b"".join(struct.pack("<QQ", index << 12 | 1, index) for index in range(1024 * worst.size))
    memfd = image.alloc(v2(image.vmalloc(folios), folios=len(folios) // 16, size=1 << 30))
    files = image.blocks([name("memfd-v2", 48) + u64(memfd) + u64(token) for token in range(count)])
    image.handover({"LUO": (worst.luo(image.blocks([name("vm", 64) + u64(files) + u64(count)])), 32)})


def shared_arrays(worst: Worst) -> None:
    """FLBs of several roots that share one long array."""
    image, count = worst.image, 512 * 4 * worst.size
    area = image.vmalloc(struct.pack(f"<{count}Q", *range(1, count + 1)))
    place = image.alloc(struct.pack("<IIQ", 1, 0, count) + area)
    rows = [name("hwpoison", 48) + u64(place) + u64(1)] * 60
    luo = worst.luo(0, image.alloc(u64(1) + u64(len(rows)) + b"".join(rows)))
    for _ in range(8):
        image.handover({"LUO": (luo, 32)})


def equal_devices(worst: Worst) -> None:
    """A list of one device, again and again."""
    image, count = worst.image, 2000 * worst.size
    devices = struct.pack("<QQ", count, count) + struct.pack("<IHHQ", 0, 8, 1, 0x1000) * count
    place = image.alloc(devices, order=(len(devices) - 1).bit_length() - 12)
    area = image.alloc(u64(1) + u64(1) + name("pci", 48) + u64(place) + u64(1))
    image.handover({"LUO": (worst.luo(0, area), 32)})


def shared_device_blocks(worst: Worst) -> None:
    """Lists that share one chain of blocks of devices."""
    image, count = worst.image, 64 * worst.size
    blocks = [image.alloc() for _ in range(count)]
    for block, following in zip(blocks, [*blocks[1:], 0], strict=True):
        image.put(block, struct.pack("<QQ", following, 255) + struct.pack("<IHHQ", 0, 8, 1, 0x1000) * 255)
    heads = [image.alloc(struct.pack("<IIQ", 2, count * 255, blocks[0])) for _ in range(8)]
    rows = b"".join(name("pci", 48) + u64(head) + u64(1) for head in heads)
    image.handover({"LUO": (worst.luo(0, image.alloc(u64(1) + u64(8) + rows)), 32)})


def reservations(worst: Worst) -> None:
    """Areas of reserve_mem that overlap."""
    values = {"compatible": text("reserve-mem-v1"), "start": u64(1 << 20), "size": u64(1 << 20)}
    nodes = [Node(f"r{number}", values) for number in range(200 * worst.size)]
    tree = fdt(Node("", {"compatible": text("memblock-v1")}, nodes))
    place = worst.image.alloc(tree, order=(len(tree) - 1).bit_length() - 12)
    worst.image.handover({"memblock": (place, len(tree))})


def many_roots(worst: Worst) -> None:
    """More roots than are read."""
    for _ in range(64 * worst.size):
        worst.image.handover(map_address=0)


CASES = [
    *(zero_blobs, zero_list, zero_test_folios, empty_blocks, many_roots),
    *(pytest.param(case, marks=pytest.mark.slow) for case in (zero_tree, zero_array, shared_lists)),
    *(pytest.param(case, marks=pytest.mark.slow) for case in (false_roots, equal_trees)),
    *(pytest.param(case, marks=pytest.mark.slow) for case in (shared_subtrees, folios_over_each_other, shared_files)),
    *(pytest.param(case, marks=pytest.mark.slow) for case in (equal_names, equal_tokens, shared_memfd, shared_arrays)),
    *(pytest.param(case, marks=pytest.mark.slow) for case in (equal_devices, shared_device_blocks, reservations)),
]


@pytest.mark.parametrize("build", CASES, ids=lambda build: build.__name__)
def test_work_grows_with_the_bytes_that_are_stored(build: Callable[[Worst], None]) -> None:
    costs = []
    for size in (1, 2, 4):
        worst = Worst(Image(pages=4096), size)
        build(worst)
        memory = worst.memory()
        with held(48 << 20):
            costs.append(lines(partial(_judged, memory)))
    small, middle, large = costs
    assert large < 16_000_000
    assert large - middle < 2.5 * max(0, middle - small) + 100_000


def _judged(memory: Memory) -> None:
    check(luoser.read(memory, contents=True))
