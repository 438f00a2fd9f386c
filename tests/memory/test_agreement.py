# SPDX-License-Identifier: MIT
"""One machine in every format: the same document, whatever wrote the file."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.errors import PageState
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.state import Handover, Problem
from tests import real
from tests.formats import OF_RANGES
from tests.memory import writers
from tests.memory.writers import COMPRESSIONS, PAGE

NAMES = ["7.3-a/frozen", "7.3-chain/frozen2"]
each_name = pytest.mark.parametrize("name", NAMES)


@cache
def elf(name: str) -> bytes:
    return lzma.decompress(real.path(name).read_bytes())


@cache
def spans(name: str) -> tuple[tuple[int, bytes], ...]:
    memory = real.dump(name)
    return tuple((part.start, memory.read(part.start, part.size)) for part in memory.segments)


@cache
def pages(name: str) -> dict[int, bytes]:
    return {
        (start + at) // PAGE: data[at : at + PAGE] for start, data in spans(name) for at in range(0, len(data), PAGE)
    }


def info(name: str) -> bytes:
    return "".join(f"{key}={value}\n" for key, value in real.dump(name).vmcoreinfo.items()).encode()


Reading = tuple[tuple[Handover, ...], tuple[Problem, ...]]


def reading(memory: Memory) -> Reading:
    """All that is read, but for where it comes from."""
    state = luoser.read(memory, contents=True)
    return state.handovers, state.problems


@cache
def wanted(name: str) -> Reading:
    return reading(real.dump(name))


def split(name: str) -> list[bytes]:
    frames = sorted(pages(name))
    bounds = [0, frames[len(frames) // 3], frames[len(frames) // 2], frames[-1] + 1]
    return writers.kdump_set(pages(name), bounds, vmcoreinfo=info(name))[::-1]


def kdump(pack: str, **options: Any) -> Callable[[str], list[bytes]]:
    return lambda name: [writers.kdump(pages(name), pack=pack, vmcoreinfo=info(name), **options)]


def of_ranges(write: Callable[[writers.Spans], bytes]) -> Callable[[str], list[bytes]]:
    return lambda name: [write(spans(name))]


FORMATS: dict[str, tuple[str, Callable[[str], list[bytes]]]] = {
    **{f"kdump {pack}": ("kdump", kdump(pack)) for pack in COMPRESSIONS},
    **{f"kdump version {version}": ("kdump", kdump("zlib", version=version)) for version in (3, 4, 5)},
    "split kdump": ("kdump", split),
    "flattened kdump": ("kdump", lambda name: [writers.flattened(kdump("zlib")(name)[0], piece=16384)]),
    "flattened kdump in disorder": (
        "kdump",
        lambda name: [writers.flattened(kdump("lzo")(name)[0], piece=999, seed=4)],
    ),
    "flattened ELF": ("elf", lambda name: [writers.flattened(elf(name), piece=16384)]),
    "flattened ELF in disorder": ("elf", lambda name: [writers.flattened(elf(name), piece=4096, seed=4)]),
    **{kind: (kind, of_ranges(write)) for kind, write in OF_RANGES.items()},
    "vmware": ("vmware", lambda name: list(writers.vmware(spans(name)))),
    "kdump in .xz": ("kdump", lambda name: [lzma.compress(kdump("plain")(name)[0], preset=0)]),
}
WITHOUT_VMCOREINFO = {*OF_RANGES, "vmware"}


@cache
def without_vmcoreinfo(name: str) -> Reading:
    """What the ELF file says when its notes are lost."""
    memory = Overlay(real.dump(name))
    memory.vmcoreinfo, memory.page_size = {}, None
    return reading(memory)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[list[bytes]], Memory]:
    def make(contents: list[bytes]) -> Memory:
        paths = []
        for number, data in enumerate(contents):
            paths.append(tmp_path / f"part-{number}")
            paths[-1].write_bytes(data)
        return luoser.open(*paths)

    return make


@each_name
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_document(files: Callable[[list[bytes]], Memory], kind: str, name: str) -> None:
    short, make = FORMATS[kind]
    memory = files(make(name))
    assert (memory.format, memory.remarks) == (short, [])
    for start, data in spans(name):
        assert memory.read(start, len(data)) == data
    assert reading(memory) == (without_vmcoreinfo(name) if kind in WITHOUT_VMCOREINFO else wanted(name))


@each_name
def test_what_vmcoreinfo_adds_is_little(name: str) -> None:
    """The handovers are the same where a format cannot carry it."""
    assert wanted(name)[0]
    assert without_vmcoreinfo(name)[0] == wanted(name)[0]


def test_raw_image_holds_the_same_handovers(tmp_path: Path) -> None:
    """Where a raw image cannot say that a page is missing, it reads zeros: so one with nothing missing below it."""
    name = "7.3-a/frozen"
    image = tmp_path / "image"
    with image.open("wb") as file:
        for start, data in spans(name):
            file.seek(start)
            file.write(data)
        file.truncate(-(-file.tell() // PAGE) * PAGE)
    (found, _), (sound, _) = reading(luoser.open(image)), without_vmcoreinfo(name)
    assert luoser.open(image).format == "raw"
    assert plain(found) == plain(sound)


def plain(found: tuple[Handover, ...]) -> Any:
    """Without what depends on pages that a raw image has as zeros: the scratch array and contents of files."""
    return [
        (handover.address, handover.compatible, handover.direction, handover.preserved, handover.subtrees)
        + (handover.pci, handover.memblock, handover.kho_test and replace(handover.kho_test, contents=()))
        + ((handover.luo.number, handover.luo.flbs) if handover.luo is not None else ())
        for handover in found
    ]


# -- excluded pages ----------------------------------------------------------------------------------------


@each_name
@pytest.mark.parametrize("kind", ["kdump", "flattened"])
def test_excluded_pages_are_named_so(files: Callable[[list[bytes]], Memory], kind: str, name: str) -> None:
    """Take away the page of each device list: what is said is the same as over an ELF file with that page filtered."""
    lost = {entry.address // PAGE for handover in wanted(name)[0] for entry in handover.pci}
    assert lost
    kept = {frame: data for frame, data in pages(name).items() if frame not in lost}
    data = writers.kdump(kept, ram=pages(name), vmcoreinfo=info(name))
    memory = files([writers.flattened(data, seed=1) if kind == "flattened" else data])
    overlay = real.overlay(name)
    for frame in lost:
        assert memory.page_state(frame * PAGE) is PageState.EXCLUDED
        overlay.remove(frame * PAGE, state=PageState.EXCLUDED)
    found = reading(memory)
    assert found == reading(overlay)
    assert any("excluded" in problem.message for problem in found[1])


# -- an oracle ---------------------------------------------------------------------------------------------


@each_name
@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "kdump" in kind and "split" not in kind])
def test_drgn_reads_the_same_bytes(tmp_path: Path, kind: str, name: str) -> None:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    if ".xz" in kind:
        pytest.skip("drgn does not unpack .xz")
    (tmp_path / "vmcore").write_bytes(FORMATS[kind][1](name)[0])
    program = drgn.Program()
    program.set_core_dump(str(tmp_path / "vmcore"))
    for start, data in spans(name):
        assert program.read(start, len(data), physical=True) == data
