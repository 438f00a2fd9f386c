# SPDX-License-Identifier: MIT
"""`live:` in a copied tree of /proc, /sys and /dev: which source is taken, and what the kernel says of itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import luoser
from luoser.cli.main import cli
from luoser.errors import SourceError
from luoser.memory import live
from luoser.memory.live import open_live
from luoser.memory.source import Memory
from luoser.state import Direction, State
from tests import real
from tests.images import Image, u64
from tests.kernel import real as kernel
from tests.kernels import PLACES, Kernel
from tests.memory.test_kcore import NOWHERE, kcore
from tests.memory.trees import boot_of, debugfs, parameters, write
from tests.reader.helpers import only, problems

INCOMING, OUTGOING = Direction.INCOMING, Direction.OUTGOING
AFTER = "7.3-a/1"
MIB = 1 << 20
Inspect = Callable[..., Result]


def directions(state: State) -> dict[int | None, Direction]:
    return {handover.address: handover.direction for handover in state.handovers}


def real_kcore(dump: Memory, *, without: str = " ") -> bytes:
    """The memory of a real dump as /proc/kcore would show it. without: what keys of its VMCOREINFO do not have."""
    kept = (f"{key}={value}\n" for key, value in dump.vmcoreinfo.items() if without not in key)
    info = "".join(kept).encode()
    parts = [(segment.start, dump.read(segment.start, segment.size)) for segment in dump.segments]
    return kcore((NOWHERE, bytes(4096)), *parts, info=info)


def machine(base: Path, *, hand: bool = True) -> tuple[Kernel, int, int]:
    """A kernel that was handed a root and has one of its own; (kernel, incoming, outgoing)."""
    kernel = Kernel(image=Image(base=MIB))
    root, own = kernel.image.handover(), kernel.image.handover()
    if hand:
        kernel.hand(incoming=root, outgoing=own)
    data = kcore((MIB, bytes(kernel.image.data)), (NOWHERE, bytes(4096)), info=kernel.vmcoreinfo())
    write(base, {"proc/kcore": data, "proc/kallsyms": kernel.system_map(slide=kernel.slide)})
    return kernel, root, own


def setup_data(base: Path, root: int, *, kind: str = "0xa\n", scratch: tuple[int, int] = (0, 0)) -> None:
    folder = "sys/kernel/boot_params/setup_data"
    write(base, {f"{folder}/0/type": "0x9\n", f"{folder}/0/data": b"",
                 f"{folder}/1/type": kind, f"{folder}/1/data": struct.pack("<4Q", root, 4096, *scratch)})  # fmt: skip


def read_all(base: Path) -> State:
    return luoser.read(open_live(base=base))


# -- real kernels ---------------------------------------------------------------------------------------------


def test_setup_data_of_a_real_kernel_makes_the_incoming_root_certain(tmp_path: Path) -> None:
    parameters(write(tmp_path, {"proc/kcore": real_kcore(real.dump("7.3-a/post"))}), AFTER)
    state = luoser.read(open_live(base=tmp_path))
    assert directions(state) == directions(real.read("7.3-a/post"))
    incoming = next(handover for handover in state.handovers if handover.direction is INCOMING)
    assert incoming.evidence[0] == "certain: setup_data 1 points to it"
    scratch = boot_of(AFTER)["debugfs"]
    words = zip(scratch["out/scratch_phys"].split(), scratch["out/scratch_len"].split(), strict=True)
    assert incoming.scratch is not None
    assert [(area.address, area.size) for area in incoming.scratch] == [(int(a, 16), int(b, 16)) for a, b in words]


def test_blobs_of_a_real_kernel_lie_where_its_setup_data_says(tmp_path: Path) -> None:
    """Without any memory: the root itself has its address, too."""
    debugfs(tmp_path / "sys/kernel/debug/kho", AFTER)
    state = luoser.read(open_live(base=parameters(tmp_path, AFTER)))
    handover = only(state)
    assert (handover.address, handover.direction) == (0x5CD000, INCOMING)
    assert handover.evidence == ("certain: setup_data 1 points to it",)
    assert handover.kexec_metadata is not None
    assert not problems(state, "no-root")
    said = " ".join(problem.message for problem in problems(state, "source"))
    assert "not used: " in said and "proc/kcore: No such file" in said and "dev/mem: No such file" in said


def test_blobs_without_setup_data(tmp_path: Path) -> None:
    debugfs(tmp_path / "sys/kernel/debug/kho", AFTER)
    handover = only(luoser.read(open_live(base=tmp_path)))
    assert (handover.address, handover.direction) == (None, INCOMING)


def test_blobs_of_what_goes_out_are_not_put_where_the_incoming_root_lies(tmp_path: Path) -> None:
    debugfs(tmp_path / "sys/kernel/debug/kho", "7.3-a/0")
    state = luoser.read(open_live(base=parameters(tmp_path, AFTER)))
    assert directions(state) == {None: OUTGOING}
    assert not problems(state, "no-root")


# -- which source -----------------------------------------------------------------------------------------------


def test_kcore_is_taken_first(tmp_path: Path) -> None:
    machine(tmp_path)
    debugfs(tmp_path / "sys/kernel/debug/kho", AFTER)
    write(tmp_path, {"proc/iomem": "00100000-001fffff : System RAM\n", "dev/mem": bytes(2 * MIB)})
    memory = open_live(base=tmp_path)
    assert memory.format == "kcore"
    assert not any(remark.startswith("not used") for remark in memory.remarks)
    assert memory.symbols == str(tmp_path / "proc/kallsyms")


def test_dev_mem_is_taken_where_there_is_no_kcore(tmp_path: Path) -> None:
    image = Image(pages=512)
    root = image.handover()
    ram = "00001000-0009fbff : System RAM\n00000000-001fffff : System RAM\n"
    write(tmp_path, {"proc/iomem": ram, "dev/mem": bytes(image.data)})
    memory = open_live(base=tmp_path)
    assert memory.format == "devmem"
    assert directions(luoser.read(memory)) == {root: OUTGOING}
    assert "kcore" in memory.remarks[-1]


@pytest.mark.parametrize("broken", [b"", b"\x7fELF", b"not an ELF file" * 100, kcore((NOWHERE, bytes(4096)))])
def test_kcore_that_cannot_be_used_is_passed_over_with_a_word(tmp_path: Path, broken: bytes) -> None:
    write(tmp_path, {"proc/kcore": broken})
    debugfs(tmp_path / "sys/kernel/debug/kho", AFTER)
    memory = open_live(base=tmp_path)
    assert memory.format == "debugfs"
    assert any(remark.startswith("not used: ") and "kcore" in remark for remark in memory.remarks)


def test_nothing_at_all_says_what_each_of_them_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_live(base=tmp_path)
    for word in ("proc/kcore", "dev/mem", "sys/kernel/debug/kho"):
        assert word in str(caught.value)
    assert ("only root" in str(caught.value)) is (os.geteuid() != 0)


def test_debugfs_without_a_root_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"sys/kernel/debug/kho/out/finalize": "0\n", "sys/kernel/debug/kho/in/sub_fdts/LUO": b"x"})
    with pytest.raises(SourceError, match="the addresses of LUO are unknown"):
        open_live(base=tmp_path)


def test_messages_are_safe_to_print(tmp_path: Path) -> None:
    base = write(tmp_path / "\x1b[31m", {"proc/kcore": b""})
    with pytest.raises(SourceError) as caught:
        open_live(base=base)
    assert str(caught.value).isprintable()


# -- what the kernel says of itself -----------------------------------------------------------------------------


def test_variables_of_the_running_kernel_name_both_roots(tmp_path: Path) -> None:
    _, root, own = machine(tmp_path)
    state = read_all(tmp_path)
    assert directions(state) == {root: INCOMING, own: OUTGOING}
    assert all(handover.evidence[0].startswith("certain: kho_") for handover in state.handovers)


@pytest.mark.parametrize("without", [" ", "kallsyms_"])
def test_symbols_in_memory_are_used_else_those_that_the_kernel_lists(tmp_path: Path, without: str) -> None:
    """A kernel whose kallsyms have another form, or are not said to be anywhere."""
    lines = "".join(f"{address:016x} {kind} {name}\n" for address, kind, name in kernel.symbols())
    write(tmp_path, {"proc/kcore": real_kcore(kernel.memory("pre"), without=without), "proc/kallsyms": lines})
    state = read_all(tmp_path)
    assert directions(state) == directions(kernel.read("pre"))
    who = "kernel 7.3.4" if without == " " else str(tmp_path / "proc/kallsyms")
    assert (
        only(state).evidence[0].startswith("certain: kho_out") and f" of {who} points to it" in only(state).evidence[0]
    )
    assert only(state).pending is not None and not problems(state, "symbols")


def test_setup_data_and_variables_are_both_quoted(tmp_path: Path) -> None:
    _, root, _ = machine(tmp_path)
    setup_data(tmp_path, root)
    incoming = next(handover for handover in read_all(tmp_path).handovers if handover.address == root)
    assert [word.split(":")[0] for word in incoming.evidence[:2]] == ["certain", "certain"]
    assert "setup_data 1" in incoming.evidence[1]


@pytest.mark.parametrize("kind", ["0xa\n", "10\n", "0xa"])
def test_type_of_setup_data(tmp_path: Path, kind: str) -> None:
    _, root, _ = machine(tmp_path, hand=False)
    setup_data(tmp_path, root, kind=kind)
    assert [known.root for known in open_live(base=tmp_path).known_roots] == [root]


@pytest.mark.parametrize("kind", ["0x9\n", "0x80000000\n", "", "0xaa\n", "a\n"])
def test_setup_data_of_other_types_is_none(tmp_path: Path, kind: str) -> None:
    _, root, _ = machine(tmp_path, hand=False)
    setup_data(tmp_path, root, kind=kind)
    assert open_live(base=tmp_path).known_roots == ()


def test_setup_data_cut_short_or_without_a_root_is_none(tmp_path: Path) -> None:
    machine(tmp_path, hand=False)
    setup_data(tmp_path, 0)
    assert open_live(base=tmp_path).known_roots == ()
    write(tmp_path, {"sys/kernel/boot_params/setup_data/1/data": u64(0x5000) * 3})
    assert open_live(base=tmp_path).known_roots == ()


def test_setup_data_that_names_a_page_that_was_reused(tmp_path: Path) -> None:
    kernel, root, own = machine(tmp_path, hand=False)
    setup_data(tmp_path, kernel.start)
    state = luoser.read(open_live(base=tmp_path), kallsyms=False)
    (problem,) = problems(state, "no-root")
    assert problem.address == kernel.start and "reused" in problem.message
    assert set(directions(state)) == {root, own}


@pytest.mark.parametrize("root", [1, (1 << 64) - 1, 1 << 52, 0x123])
def test_setup_data_that_names_nonsense(tmp_path: Path, root: int) -> None:
    machine(tmp_path, hand=False)
    setup_data(tmp_path, root, scratch=((1 << 64) - 8, (1 << 64) - 1))
    assert problems(luoser.read(open_live(base=tmp_path)), "no-root")


def chosen(base: Path, root: int, scratch: int, *, cells: tuple[int, int] = (2, 2)) -> None:
    """/proc/device-tree as arm64 has it; its cells are big-endian."""
    address, size = cells
    values = {
        name: place.to_bytes(4 * address, "big") + length.to_bytes(4 * size, "big")
        for name, place, length in (("kho-fdt", root, 4096), ("kho-scratch", scratch, 16))
    }
    tree = "proc/device-tree"
    write(base, {f"{tree}/#address-cells": struct.pack(">I", address), f"{tree}/#size-cells": struct.pack(">I", size),
                 **{f"{tree}/chosen/linux,{name}": value for name, value in values.items()}})  # fmt: skip


@pytest.mark.parametrize("cells", [(2, 2), (2, 1), (1, 1)])
def test_chosen_of_the_devicetree_makes_the_incoming_root_certain(tmp_path: Path, cells: tuple[int, int]) -> None:
    kernel, root, _ = machine(tmp_path, hand=False)
    array = kernel.scratch((MIB, MIB))
    write(tmp_path, {"proc/kcore": kcore((MIB, bytes(kernel.image.data)), info=kernel.vmcoreinfo())})
    chosen(tmp_path, root, array, cells=cells)
    incoming = next(entry for entry in luoser.read(open_live(base=tmp_path)).handovers if entry.direction is INCOMING)
    assert incoming.address == root
    assert incoming.evidence[0] == "certain: /chosen of the devicetree points to it"
    assert incoming.scratch is not None and [area.size for area in incoming.scratch] == [MIB]


def test_chosen_of_another_size_is_none(tmp_path: Path) -> None:
    machine(tmp_path, hand=False)
    chosen(tmp_path, 0x5000, 0x6000)
    write(tmp_path, {"proc/device-tree/#size-cells": struct.pack(">I", 1)})
    assert open_live(base=tmp_path).known_roots == ()
    for cells in (b"", b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\0\2"):
        write(tmp_path, {"proc/device-tree/#address-cells": cells})
        open_live(base=tmp_path)


# -- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    """`luoser inspect live:` of the copied tree."""
    monkeypatch.setattr(live, "open_live", lambda: open_live(base=tmp_path))

    def run(*options: str) -> Result:
        return CliRunner().invoke(cli, ["inspect", "live:", *options], catch_exceptions=False)

    return run


def test_command_reads_the_running_machine(tmp_path: Path, inspect: Inspect) -> None:
    _, root, own = machine(tmp_path)
    shown = inspect().stdout
    assert f"KHO root {root:#x}  kho-v4  incoming" in shown and f"KHO root {own:#x}  kho-v4  outgoing" in shown


OTHER = {**PLACES, "clear_seq": PLACES["clear_seq"] + 64}
HIDDEN: dict[str, Callable[[Kernel], str]] = {
    "hidden": lambda kernel: "".join(f"{0:016x}{line[16:]}\n" for line in kernel.system_map().splitlines()),
    "of another kernel": lambda kernel: replace(kernel, places=OTHER).system_map(),
    "empty": lambda _: "",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_symbols_that_cannot_be_used_do_not_hide_the_machine(tmp_path: Path, inspect: Inspect, kind: str) -> None:
    """kptr_restrict=2 hides them from root as well; nobody asked for them."""
    kernel, root, own = machine(tmp_path)
    setup_data(tmp_path, root)
    write(tmp_path, {"proc/kallsyms": HIDDEN[kind](kernel)})
    shown = inspect()
    assert shown.exit_code == 0
    assert f"KHO root {root:#x}  kho-v4  incoming" in shown.stdout and f"KHO root {own:#x}" in shown.stdout
    assert "not used: " in shown.stdout and "kallsyms" in shown.stdout


def test_kernel_without_kallsyms(tmp_path: Path, inspect: Inspect) -> None:
    _, root, own = machine(tmp_path)
    (tmp_path / "proc/kallsyms").unlink()
    shown = inspect().stdout
    assert f"KHO root {root:#x}" in shown and f"KHO root {own:#x}" in shown


def test_symbols_that_were_asked_for_are_refused(tmp_path: Path, inspect: Inspect) -> None:
    kernel, _, _ = machine(tmp_path)
    place = tmp_path / "System.map"
    place.write_text(HIDDEN["of another kernel"](kernel))
    with pytest.raises(SourceError, match="another kernel"):
        inspect("--symbols", str(place))


def test_live_is_no_place_for_map(tmp_path: Path, inspect: Inspect) -> None:
    machine(tmp_path)
    with pytest.raises(SourceError, match="format kcore has physical addresses"):
        inspect("--base", "0x1000")
