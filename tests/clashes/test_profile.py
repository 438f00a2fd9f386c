# SPDX-License-Identifier: MIT
"""What a kernel writes and accepts, from a release, a file and a dump."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from luoser.clashes import compare, of_file, of_release, of_state
from luoser.errors import SourceError, UsageError
from luoser.state import Problem
from tests import real
from tests.checks.test_pending import state_with


def vmlinux(place: Path, *texts: bytes) -> Path:
    """A file with the head of an x86-64 executable, and texts."""
    file = place / "vmlinux"
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\x02\0\x3e\0"
    file.write_bytes(head.ljust(64, b"\0") + b"\0".join([b"", *texts, b""]))
    return file


VERSION = b"Linux version 7.3.4 (lab) #1\n"


def test_a_vmlinux_is_known_by_its_strings(tmp_path: Path) -> None:
    found = of_file(vmlinux(tmp_path, VERSION, b"kho-v4", b"luo-v5", b"memfd-v2", b"vfio-pci-v1"))
    assert (found.numbers, found.kho, found.luo, found.machine) == ((7, 3, 4), "kho-v4", "luo-v5", "x86-64")
    assert found.handlers == {"memfd-v2", "vfio-pci-v1"} and found.types is None


def test_a_string_inside_of_another_is_none(tmp_path: Path) -> None:
    found = of_file(vmlinux(tmp_path, VERSION, b"xkho-v4", b"luo-v5x"))
    assert (found.kho, found.luo) == ("", "")


@pytest.mark.parametrize(("texts", "expected"), [((b"luo-flb-v1",), True), ((), False)])
def test_a_kernel_of_7_0_has_the_node_that_one_of_6_19_lacks(
    tmp_path: Path, texts: tuple[bytes, ...], expected: bool
) -> None:
    assert of_file(vmlinux(tmp_path, VERSION, b"luo-v1", *texts)).flb_node is expected


def test_a_string_over_the_edge_of_a_block_is_found(tmp_path: Path) -> None:
    file = vmlinux(tmp_path, VERSION)
    size = (1 << 24) - file.stat().st_size - 3
    file.write_bytes(file.read_bytes() + bytes(size) + b"kho-v4\0")
    assert of_file(file).kho == "kho-v4"


def test_a_file_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Linux version"):
        of_file(vmlinux(tmp_path, b"kho-v4"))


def test_a_vmlinux_that_is_cut_short_is_no_kernel_without_kho(tmp_path: Path) -> None:
    file = vmlinux(tmp_path, VERSION, b"kho-v4")
    data = bytearray(file.read_bytes())
    data[40:48], data[58:62] = len(data).to_bytes(8, "little"), b"\x40\0\x02\0"
    file.write_bytes(data + bytes(128))
    assert of_file(file).kho == "kho-v4"
    file.write_bytes(data[:-10])
    with pytest.raises(SourceError, match="cut short"):
        of_file(file)


def test_damage_of_a_dumps_own_types_is_not_known_instead_of_works() -> None:
    state = state_with()
    damage = Problem(code="types-unread", address=None, message="BTF of kernel 7.3.4: damaged")
    found = of_state(replace(state, problems=(*state.problems, damage)), machine=62, types=None)
    whole = of_state(state, machine=62, types=None)
    assert compare(whole, of_release("7.3")).verdict == compare(of_release("7.3"), whole).verdict == "works"
    for one in (compare(found, of_release("7.3")), compare(of_release("7.3"), found)):
        assert one.verdict == "unknown"
        assert any("BTF of kernel 7.3.4: damaged" in clash.text for clash in one.clashes)


@pytest.mark.parametrize("text", ["5.10", "7", "kernel", "99.1"])
def test_an_unknown_release_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="unknown kernel"):
        of_release(text)


def test_a_dump_is_known_by_what_runs_in_it() -> None:
    found = of_state(real.read("7.3-a/frozen"), machine=62, types=None)
    assert (found.kho, found.luo, found.page_size, found.machine) == ("kho-v4", "luo-v5", 4096, "x86-64")
    assert found.handlers == {"memfd-v2"} and found.flbs is None
    assert {"pci", "pci-v2"} <= found.handed


def test_handlers_of_a_kernel_with_another_luo_than_its_release_are_not_known() -> None:
    """6.18 has none."""
    found = of_state(real.read("6.18-a/frozen"), machine=62, types=None)
    assert (found.luo, found.handlers) == ("luo-v1", None)
    assert {one.effect for one in compare(of_release("6.19"), found).clashes} == {"unknown"}


def test_a_dump_with_the_kernels_own_word_has_its_handlers_and_flbs() -> None:
    state = state_with()
    (handover,) = state.handovers
    assert handover.pending is not None
    pending = replace(handover.pending, handlers=("memfd-v2", "vfio-pci-v1"))
    found = of_state(replace(state, handovers=(replace(handover, pending=pending),)), machine=62, types=None)
    assert found.handlers == {"memfd-v2", "vfio-pci-v1"} and found.flbs is not None and "pci" in found.flbs


def test_of_handlers_that_were_not_all_read_nothing_is_known() -> None:
    state = state_with()
    (handover,) = state.handovers
    assert handover.pending is not None
    pending = replace(handover.pending, handlers=(), complete=False)
    found = of_state(replace(state, handovers=(replace(handover, pending=pending),)), machine=62, types=None)
    assert found.handlers is None and found.flbs is None
    assert compare(found, replace(of_release("7.3"), handlers=frozenset())).verdict == "unknown"
    assert compare(of_release("7.3"), found).verdict == "unknown"


def test_a_dump_that_does_not_say_its_kernel_is_refused() -> None:
    state = real.read("7.3-a/frozen")
    with pytest.raises(SourceError, match="release of the running kernel"):
        of_state(replace(state, source=replace(state.source, kernel=None)), machine=62, types=None)
