# SPDX-License-Identifier: MIT
"""A real kernel in QEMU, with its debug info: the state by drgn over QMP and of its dump, objects of its own lists.

Needs a kernel in the cache of tests/e2e, which builds it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.drgn import kho_preserved, luo_files, luo_memfd_pages, luo_sessions, memory, state
from luoser.drgn.debug_info import DrgnTypes
from luoser.drgn.source import DrgnMemory
from luoser.kernel.btf import Btf
from luoser.kernel.space import AddressSpace
from luoser.reader.kernel import STRUCTS
from tests.drgn.programs import core, drgn
from tests.e2e.guest import initramfs
from tests.e2e.kernels import NoKernel, kernel
from tests.e2e.machine import Machine
from tests.kernel import real

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guest() -> Iterator[tuple[Machine, Path]]:
    """A guest before its live update, and its dump."""
    place = Path(tempfile.mkdtemp(prefix="luoser-"))
    try:
        own = kernel("7.3", build=False)
        second = ["-qmp", f"unix:{place}/drgn,server=on,wait=off"]
        words = "kho_scratch=32M,64M,16M reserve_mem=1M:4096:labmem sessions=2 files=3"
        with Machine(place / "vm", own, initramfs(own, kexecs=1), words, more=second) as machine:
            machine.wait("AT pre\n")
            yield machine, machine.dump("pre")
    except NoKernel as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def crash(guest: tuple[Machine, Path]) -> Any:
    """A program of the dump, with debug info."""
    prog = core(guest[1])
    prog.load_debug_info([real.vmlinux("x86-64")])
    return prog


@pytest.mark.parametrize("has_debug_info", [False, True])
def test_the_state_over_qmp_is_that_of_the_dump(guest: tuple[Machine, Path], has_debug_info: bool) -> None:
    machine, dump = guest
    prog = drgn.Program()
    prog.set_qemu_qmp(str(machine.place.parent / "drgn"))
    if has_debug_info:
        prog.load_debug_info([real.vmlinux("x86-64")])
    with memory(prog) as source:
        assert isinstance(source, DrgnMemory) and source.live
        assert luoser.read(source).handovers == luoser.load(dump).handovers


def test_the_state_of_the_dump_with_debug_info_is_that_without(guest: tuple[Machine, Path], crash: Any) -> None:
    assert state(crash) == luoser.load(guest[1])
    with DrgnMemory(crash) as source:
        assert luoser.read(source).handovers == state(crash).handovers


def test_objects_are_those_of_the_state(crash: Any) -> None:
    pending = state(crash).handovers[0].pending
    assert pending is not None
    assert [
        (one.name.string_().decode(), [(int(file.token), int(file.serialized_data)) for file in luo_files(one)])
        for one in luo_sessions(crash)
    ] == [(one.name, [(file.token, file.data) for file in one.files]) for one in pending.sessions]


def test_pages_of_memfds_are_struct_pages_with_huge_folios(crash: Any) -> None:
    from drgn.helpers.linux.mm import compound_head, compound_order, page_to_phys

    orders = set[int]()
    for session in luo_sessions(crash):
        for file in luo_files(session):
            if int(file.token) == 0x12:  # an empty file, which has no descriptor to speak of
                continue
            for _, page in luo_memfd_pages(crash, session, file.token):
                assert page.type_.type_name() == "struct page *" and kho_preserved(crash, page_to_phys(page))
                orders.add(int(compound_order(compound_head(page))))
    assert {0, 9} <= orders


def test_types_of_dwarf_are_those_of_btf(crash: Any) -> None:
    with memory(crash) as source:
        space = AddressSpace(source, source.vmcoreinfo)
        start, end = (crash.symbol(name).address for name in ("__start_BTF", "__stop_BTF"))
        wanted = Btf(space.read(start, end - start))
    found = DrgnTypes(crash)
    for name in STRUCTS:
        one, other = found.struct(name), wanted.struct(name)
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            assert [
                (member, place.bit, place.bits, found.size(place.type)) for member, place in found.members(one)
            ] == [(member, place.bit, place.bits, wanted.size(place.type)) for member, place in wanted.members(other)]
