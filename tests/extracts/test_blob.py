# SPDX-License-Identifier: MIT
"""One node as a file: its own bytes, its folio, or a refusal."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import pytest

import luoser
from luoser.errors import PageState, UsageError
from luoser.extracts.blob import write_blob
from luoser.memory.source import Memory
from luoser.state import State
from tests import real
from tests.images import Image
from tests.memory.trees import boot_of
from tests.reader.helpers import only

FROZEN = "7.3-a/frozen"


def written(where: str, memory: Memory | None = None, state: State | None = None) -> tuple[bytes, str]:
    file = io.BytesIO()
    said = write_blob(file, memory or real.dump(FROZEN), state or real.read(FROZEN), where)
    return file.getvalue(), said


def refused(where: str, memory: Memory | None = None, state: State | None = None) -> str:
    file = io.BytesIO()
    with pytest.raises(UsageError) as caught:
        write_blob(file, memory or real.dump(FROZEN), state or real.read(FROZEN), where)
    assert file.getvalue() == b"" and str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("name", ["pci-luo-lab", "memblock", "kexec-metadata", "kho_test"])
def test_sub_tree_is_what_debugfs_shows(name: str) -> None:
    data, said = written(f"subtrees[{name}]")
    assert data.hex() == boot_of("7.3-a/0")["debugfs"][f"out/sub_fdts/{name}"]
    assert said.startswith(f"{len(data)} bytes at 0x") and "its own size" in said
    assert hashlib.sha256(data).hexdigest() in said


def test_root_is_what_the_next_kernel_shows() -> None:
    assert written("root")[0].hex() == boot_of("7.3-a/1")["debugfs"]["in/fdt"]


def test_node_without_a_size_is_its_whole_folio() -> None:
    data, said = written("pci[0]")
    assert len(data) == 4096 and "the preserved folio of order 0" in said
    assert data == real.dump(FROZEN).read(only(real.read(FROZEN)).pci[0].address, 4096)


def test_driver_page_of_a_device() -> None:
    data, _ = written("pci[pci-lu-v2-03].devices[0].driver_data")
    assert data.startswith(b"lab driver state of 0000:41:00.0")


def test_address_inside_of_a_folio_gives_the_folio() -> None:
    address = only(real.read(FROZEN)).pci[0].address
    data, said = written(f"{address + 0x123:#x}")
    assert said.startswith(f"4096 bytes at {address:#x}") and data == written(f"{address:#x}")[0]


def test_folio_of_a_higher_order_is_whole() -> None:
    image = Image()
    large = image.alloc(b"large", order=3)
    image.put(large + 0x7FFF, b"!")
    image.handover()
    with image.open() as memory:
        data, said = written(f"{large + 0x5000:#x}", memory, luoser.read(memory))
    assert (len(data), data[:5], data[-1:]) == (8 * 4096, b"large", b"!")
    assert "folio of order 3" in said


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_without_a_map_it_is_one_page(page_size: int) -> None:
    image = Image(page_size=page_size, pages=64)
    page = image.alloc(b"page")
    image.handover(map_address=0)
    with image.open() as memory:
        data, said = written(f"{page + 100:#x}", memory, luoser.read(memory, page_size=page_size))
    assert len(data) == page_size and "one page (not in any intact map)" in said


def test_page_that_is_not_in_the_source_is_refused() -> None:
    assert "page 0x1000 is absent" in refused("0x1000")
    assert "is absent" in refused("0xffffffffffffffff") and "is absent" in refused("0xfffffffffffffff")


def test_page_that_was_left_out_is_refused() -> None:
    memory = real.overlay(FROZEN)
    memory.remove(only(real.read(FROZEN)).pci[0].address, state=PageState.EXCLUDED)
    assert "is excluded" in refused("pci[0]", memory)


def test_size_that_is_not_believed() -> None:
    root = only(real.read(FROZEN))
    tree = replace(root.subtrees[0], size=1 << 60)
    state = replace(real.read(FROZEN), handovers=(replace(root, subtrees=(tree,)),))
    assert "expected at most 0x10000000 bytes, found 0x1000000000000000" in refused("subtrees[0]", state=state)


def test_size_of_0_is_none() -> None:
    """A blob-size of 0 says nothing of what lies there."""
    image = Image()
    page = image.alloc(b"state")
    image.handover({"odd": (page, 0)})
    with image.open() as memory:
        data, said = written("subtrees[odd]", memory, luoser.read(memory))
    assert len(data) == 4096 and data.startswith(b"state") and "folio" in said


def test_blob_of_debugfs_needs_no_page() -> None:
    from luoser.memory.debugfs import DebugfsMemory

    blob = bytes.fromhex(boot_of("7.3-a/1")["debugfs"]["in/fdt"])
    memory = DebugfsMemory("fdt", blob)
    assert "no address of its own" in refused("root", memory, luoser.read(memory))


def test_path_is_shown_safely() -> None:
    assert "\\x1b" in refused("luo.sessions[\x1b[31m]")
