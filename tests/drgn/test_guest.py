# SPDX-License-Identifier: MIT
"""A real kernel in QEMU, with its debug info: the state by drgn in the guest, over QMP and of its dump; objects.

Needs a kernel in the cache of tests/e2e, which builds it.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
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
from luoser.state import to_document
from tests.drgn.programs import core, drgn
from tests.e2e.guest import initramfs
from tests.e2e.kernels import NoKernel, kernel
from tests.e2e.machine import Machine
from tests.e2e.programs import drgn as drgn_files
from tests.e2e.programs import programs
from tests.kernel import real

pytestmark = pytest.mark.slow

Texts = dict[str, str]
AT = """#!/bin/busybox sh
tell() {
	name=$1; shift
	"$@" >/tmp/out 2>/tmp/error || cat /tmp/error
	echo "TOLD $name $(gzip -c /tmp/out | base64 | tr -d '\\n')"
}
luo="from drgn.commands import run_command; run_command(prog, 'luo inspect --full --format json')"
tell live luoser inspect live: --full --format json
tell kcore luoser inspect /proc/kcore --full --format json
tell plain drgn -q -e "$luo"
tell debug-info drgn -q -s /vmlinux -e "$luo"
tell objects drgn -q -s /vmlinux /objects.py
"""
"""What a guest runs at each moment."""
OBJECTS = """
import json
from drgn.helpers.linux.mm import page_to_phys
from luoser.drgn import *
for side in ("outgoing", "incoming"):
    sessions = list(luo_sessions(prog, side))
    print(json.dumps([[s.name.string_().decode(), [int(f.token) for f in luo_files(s)]] for s in sessions]))
    if side == "outgoing" and sessions:
        pages = [page_to_phys(page) for _, page in luo_memfd_pages(prog, "shapes", 0x11)]
        assert pages and all(kho_preserved(prog, page) for page in pages) and not kho_preserved(prog, 0x1000)
"""


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


# -- drgn in the guest ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Texts]]:
    """What each program of `AT` says in a guest, and as `dump` the document of its dump: before a jump and after it."""
    place, found = Path(tempfile.mkdtemp(prefix="luoser-")), dict[str, Texts]()
    try:
        own, vmlinux = kernel("7.3", build=False), real.vmlinux("x86-64").read_bytes()
        more = {**programs("x86-64"), **drgn_files(), "vmlinux": (0o100644, vmlinux)}
        more |= {"at": (0o100755, AT.encode()), "objects.py": (0o100644, OBJECTS.encode())}
        words = "kho_scratch=64M,512M,64M reserve_mem=1M:4096:labmem sessions=2 files=3"
        with Machine(place, own, initramfs(own, kexecs=1, more=more), words, memory="4G") as machine:
            for moment in ("pre", "post"):
                said = machine.wait(f"AT {moment}\n")
                texts = re.findall(r"^TOLD (\S+) (\S+)$", said, re.MULTILINE)
                found[moment] = {name: gzip.decompress(base64.b64decode(text)).decode() for name, text in texts}
                with luoser.open(machine.dump(moment)) as dump:
                    found[moment]["dump"] = json.dumps(to_document(luoser.read(dump), full=True))
                machine.go()
        yield found
    except NoKernel as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(place)


def lasting(text: str) -> list[dict[str, Any]]:
    """The handovers of a document; of an incoming one only what its kernel does not free and use again meanwhile."""
    kept = ("address", "compatible", "direction", "evidence")
    handovers = json.loads(text)["handovers"]
    return [{key: one[key] for key in kept} if one["direction"] == "incoming" else one for one in handovers]


@pytest.mark.parametrize("moment", ["pre", "post"])
def test_the_state_in_drgn_on_the_running_kernel_is_that_of_inspect(told: dict[str, Texts], moment: str) -> None:
    live, plain, debug_info = (told[moment][name] for name in ("live", "plain", "debug-info"))
    assert lasting(live) and lasting(plain) == lasting(live) == lasting(debug_info)
    if moment == "pre":
        assert json.loads(plain) == json.loads(live) == json.loads(debug_info)


@pytest.mark.parametrize("moment", ["pre", "post"])
def test_the_state_of_the_running_kernel_is_that_of_its_dump(told: dict[str, Texts], moment: str) -> None:
    """But for the boot parameters, which name the incoming root and are not in memory that is searched."""
    live, kcore, dump = (lasting(told[moment][name]) for name in ("live", "kcore", "dump"))
    assert kcore == dump
    for one in (*live, *kcore):
        one["evidence"] = [text for text in one["evidence"] if "setup_data" not in text and "kho_scratch" not in text]
    assert live == kcore


@pytest.mark.parametrize("moment", ["pre", "post"])
def test_objects_of_the_running_kernel_are_those_of_the_state(told: dict[str, Texts], moment: str) -> None:
    outgoing, incoming = map(json.loads, told[moment]["objects"].splitlines())
    (own,) = [one for one in json.loads(told[moment]["dump"])["handovers"] if one["direction"] == "outgoing"]
    sessions = own["pending"]["sessions"]
    assert outgoing == [[one["name"], [int(file["token"], 16) for file in one["files"]]] for one in sessions]
    assert (bool(outgoing), bool(incoming)) == (moment == "pre", False)
