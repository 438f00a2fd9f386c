# SPDX-License-Identifier: MIT
"""Whole machines with their System.map and vmlinux: directions as drgn reads them; images that are shifted.

LUOSER_LAB names a directory with one directory per run of the lab; those with System.map and vmlinux are taken.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import SourceError
from luoser.reader import SYMBOLS
from luoser.state import Direction, State
from luoser.symbols import Symbols, read_symbols
from tests.work import processor_time

LAB = os.environ.get("LUOSER_LAB")
if not LAB:
    pytest.skip("LUOSER_LAB names no directory with dumps of the lab", allow_module_level=True)
pytestmark = pytest.mark.slow
ROOT = Path(LAB)
RUNS = sorted(file.parent.name for file in ROOT.glob("*/System.map") if (file.parent / "vmlinux").exists())
DUMPS = [f"{run}/{file.stem}" for run in RUNS for file in sorted((ROOT / run).glob("*.elf"))]
RAW = [name for name in DUMPS if (ROOT / f"{name}.raw").exists()]
LISTS = ("System.map", "vmlinux")
each_list = pytest.mark.parametrize("symbols", LISTS)
VARIABLES = ("kho_in", "kho_out", "luo_global")


def dumps(names: list[str]) -> Any:
    return pytest.mark.parametrize("name", names or [pytest.param("", marks=pytest.mark.skip("no such dumps"))])


@cache
def symbols_of(run: str, kind: str) -> Symbols:
    return read_symbols(ROOT / run / kind, SYMBOLS)


def read(file: Path, symbols: Symbols | None = None) -> State:
    with luoser.open(file) as memory:
        return luoser.read(memory, symbols=symbols)


@cache
def program(name: str) -> Any:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    made = drgn.Program()
    made.set_core_dump(str(ROOT / f"{name}.elf"))
    made.load_debug_info([str(ROOT / name.split("/")[0] / "vmlinux")])
    return made


@cache
def said_by_drgn(name: str) -> dict[int, Direction]:
    """What the variables of the kernel point to, as far as there is a devicetree."""
    found = program(name)
    mm = pytest.importorskip("drgn.helpers.linux.mm")
    out = found["kho_out"]
    page = mm.virt_to_phys(out.fdt) if hasattr(out, "fdt") else mm.page_to_phys(out.ser.fdt)
    places = {int(found["kho_in"].fdt_phys): Direction.INCOMING, int(page): Direction.OUTGOING}
    return {
        place: direction
        for place, direction in places.items()
        if place and found.read(place, 4, physical=True) == b"\xd0\x0d\xfe\xed"
    }


def directions(state: State) -> dict[int | None, Direction]:
    return {handover.address: handover.direction for handover in state.handovers}


@each_list
@dumps(DUMPS)
def test_directions_are_those_that_drgn_reads(name: str, symbols: str) -> None:
    state = read(ROOT / f"{name}.elf", symbols_of(name.split("/")[0], symbols))
    assert directions(state) == said_by_drgn(name)
    assert all(handover.evidence[0].startswith("certain: kho_") for handover in state.handovers)
    assert not [problem for problem in state.problems if problem.code in ("symbols", "no-root")]


@each_list
@dumps(RAW)
def test_raw_image_of_the_same_moment_says_the_same(name: str, symbols: str) -> None:
    state = read(ROOT / f"{name}.raw", symbols_of(name.split("/")[0], symbols))
    assert directions(state) == said_by_drgn(name)


@dumps(DUMPS)
def test_incoming_root_is_the_one_of_setup_data(name: str) -> None:
    """The console has what the kernels said of their own boot parameters, boot by boot."""
    run, moment = name.split("/")
    said = re.findall(r"SETUP 0xa ([0-9A-Za-z+/=]+)", (ROOT / run / "console.txt").read_text(errors="replace"))
    if not said or moment not in ("post", "finished", "frozen2"):
        pytest.skip("no kernel that was handed something yet")
    import base64

    root = int.from_bytes(base64.b64decode(said[0])[:8], "little")
    assert directions(read(ROOT / f"{name}.elf", symbols_of(run, "System.map")))[root] is Direction.INCOMING


@pytest.mark.parametrize("run", RUNS)
def test_members_lie_where_drgn_has_them(run: str) -> None:
    found = symbols_of(run, "vmlinux")
    known = program(next(name for name in DUMPS if name.startswith(f"{run}/")))
    checked = 0
    for name in VARIABLES:
        symbol = found.get(name)
        if symbol is None:
            continue
        assert symbol.members
        variable = known[name]
        for offset, path in symbol.members.items():
            member = variable
            for step in path.split("."):
                member = getattr(member, step)
            assert member.address_ - variable.address_ == offset, path
            checked += 1
    assert checked > 20


@each_list
@pytest.mark.parametrize("run", RUNS)
def test_symbols_of_another_release_are_refused(run: str, symbols: str) -> None:
    name = next(name for name in DUMPS if name.startswith(f"{run}/"))
    for other in RUNS:
        if symbols_of(other, "vmlinux").build_id != symbols_of(run, "vmlinux").build_id:
            with pytest.raises(SourceError, match=r"build id|another kernel"):
                read(ROOT / f"{name}.elf", symbols_of(other, symbols))


@pytest.mark.parametrize("run", RUNS)
def test_reading_symbols_takes_no_time(run: str) -> None:
    """A few times what it takes to cut a list into words, or pyelftools to go through the table of a vmlinux."""
    system_map, vmlinux = ROOT / run / "System.map", ROOT / run / "vmlinux"
    listed = processor_time(lambda: [line.split() for line in system_map.read_bytes().splitlines()])
    assert processor_time(lambda: read_symbols(system_map, SYMBOLS)) < 10 * listed
    with vmlinux.open("rb") as file:
        table = pytest.importorskip("elftools.elf.elffile").ELFFile(file).get_section_by_name(".symtab")
        walked = processor_time(lambda: sum(1 for _ in table.iter_symbols()), rounds=1)
    assert processor_time(lambda: read_symbols(vmlinux, SYMBOLS), rounds=1) < 5 * walked


# -- raw images ---------------------------------------------------------------------------------------------------


@dumps([name for name in RAW if name.endswith(("frozen", "post"))])
def test_raw_image_is_not_moved(name: str) -> None:
    with luoser.open(ROOT / f"{name}.elf") as core:
        peer = processor_time(lambda: luoser.read(core))
    with luoser.open(ROOT / f"{name}.raw") as memory:
        state = luoser.read(memory)
        assert processor_time(lambda: luoser.read(memory)) < 20 * peer
        assert memory.is_guess and memory.segments[0].start == 0
    assert {handover.address for handover in state.handovers} == set(said_by_drgn(name))


@dumps([name for name in RAW if name.endswith(("frozen", "post"))])
def test_shifted_raw_image_puts_itself_right(tmp_path: Path, name: str) -> None:
    """From 1 MiB on, where a PC's second range of RAM begins."""
    source, target = ROOT / f"{name}.raw", tmp_path / "shifted"
    subprocess.run(
        ["dd", f"if={source}", f"of={target}", "bs=1M", "skip=1", "conv=sparse"], check=True, capture_output=True
    )
    found, wanted = read(target), read(source)
    assert any("shifted image: assuming byte 0" in problem.message for problem in found.problems)
    assert [handover.luo for handover in found.handovers] == [handover.luo for handover in wanted.handovers]
    assert directions(found) == directions(wanted)
