# SPDX-License-Identifier: MIT
"""Cuts without contents: what is in them, what is not, and that they say the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import luoser
from luoser.checks import Report, check
from luoser.errors import MissingMemory, PageState
from luoser.extracts.spared import NO_CONTENTS, Spared, Still
from luoser.memory.overlay import Overlay
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.state import MapStatus, State, to_document
from luoser.writer.mutate import mutations
from tests import formats, real
from tests.checks.mutants import written
from tests.checks.test_rules import BASES, OPTIONS
from tests.extracts.planted import SECRET, leaks, planted
from tests.images import Image, Node, fdt, text, u32
from tests.kernel.real import FIXTURES
from tests.posted import hypervisor

PAGE = 4096
KERNELS = [path for path in (FIXTURES / "pre.elf.xz", FIXTURES / "frozen.elf.xz") if path.exists()]
SOURCES = [*(real.path(name) for name in real.DUMPS), *KERNELS]
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}-{path.name[:-7]}")
Cut = Callable[..., Path]


@pytest.fixture
def cut(tmp_path: Path) -> Cut:
    def make(source: Memory | Path, *, hash_names: str | None = None) -> Path:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.elf"
        luoser.extract(source, target, no_contents=True, hash_names=hash_names)
        return target

    return make


@cache
def whole(path: Path) -> State:
    return luoser.load(path, contents=True)


def said(state: State) -> object:
    """All that is said of a source but its path, the words of problems, and what depends on contents."""
    problems = [
        (problem.code, problem.root, problem.about, problem.address)
        for problem in state.problems
        if not problem.about.endswith(".contents")
    ]
    document = to_document(state, full=True)
    return [document["handovers"], sorted(problems, key=str)]


def judged(state: State, **options: object) -> object:
    report: Report = check(state, **options)  # type: ignore[arg-type]
    findings = [(finding.rule, finding.where) for finding in report.findings]
    return report.verdict, findings, {(one.rule, one.root) for one in report.unjudged}


# -- what it says ------------------------------------------------------------------------------------------


@each_source
def test_a_cut_says_the_same_as_its_source(path: Path, cut: Cut) -> None:
    made = cut(path)
    assert said(luoser.load(made)) == said(luoser.load(path))
    state = luoser.load(made, contents=True)
    assert judged(state) == judged(whole(path))
    assert state.source.left_out == (NO_CONTENTS,)
    assert NO_CONTENTS in check(state).remarks


def test_what_needs_contents_is_not_looked_at(cut: Cut) -> None:
    made = cut(real.path("7.3-a/frozen"))
    report = luoser.check(made)
    assert any("bytes of" in one and "excluded" in one for one in report.not_looked_at)
    assert "KHO023" not in report.passed
    state = luoser.load(made, contents=True)
    assert {problem.code for problem in state.problems} == {"excluded"}
    compared = luoser.diff(made, made, contents=True)
    assert compared.verdict == "inconclusive" and not compared.changes
    assert luoser.diff(made, made).verdict == "equal"


@pytest.mark.parametrize("rule", [rule for rule in [*mutations()][::3] if rule != "PCI010"])
def test_what_is_broken_is_broken_in_the_cut(rule: str, cut: Cut) -> None:
    state, image = written(BASES.get(rule, "7.3-a/frozen"))
    mutations()[rule].apply(image, state)
    options = OPTIONS.get(rule, {})
    memory = image.memory()
    before = check(luoser.read(memory, contents=True), **options)  # type: ignore[arg-type]
    after = check(luoser.load(cut(memory), contents=True), **options)  # type: ignore[arg-type]
    assert (after.verdict, {one.rule for one in after.findings}) == (
        before.verdict,
        {one.rule for one in before.findings},
    )


def test_a_page_of_a_driver_that_no_cut_has_is_no_reason_to_pass(cut: Cut) -> None:
    state, image = written(BASES["PCI010"])
    mutations()["PCI010"].apply(image, state)
    report = check(luoser.load(cut(image.memory()), contents=True))
    assert "PCI010" not in report.passed
    assert any("pci-lu-stub" in one for one in report.not_looked_at)


def test_a_map_that_was_stale_is_never_damaged(cut: Cut) -> None:
    made = cut(real.path("6.18-a/post"))
    (handover,) = luoser.load(made).handovers
    assert handover.preserved.status is MapStatus.STALE and handover.address is not None
    with luoser.open(made) as memory:
        memory.at_jump = frozenset({handover.address})  # no kernel has taken it over: it cannot be stale
        memory.symbols = None
        state = luoser.read(memory)
    assert state.handovers[0].preserved.status is MapStatus.MISSING
    assert any(one.code == "excluded" and one.about == "preserved" for one in state.problems)
    assert check(state).verdict == "inconclusive"


def test_another_layout_reads_nothing_from_what_is_left_out(cut: Cut) -> None:
    """It would take more bytes for the list than the cut kept."""
    made = cut(planted(real.dump("7.3-a/frozen")))
    with luoser.open(made) as memory:
        state = luoser.read(memory, layouts=["pci-lu-v2-06"])
    assert any(one.code == "excluded" and one.about.startswith("pci[") for one in state.problems)
    assert check(state).verdict != "sound"


@pytest.mark.parametrize("name", ["7.3-a/frozen", "7.3-chain/frozen2"])
def test_a_cut_of_a_cut_is_that_cut(name: str, cut: Cut, tmp_path: Path) -> None:
    once = cut(real.path(name))
    again = cut(once)
    luoser.extract(once, tmp_path / "plain")
    luoser.extract(real.path(name), tmp_path / "first")
    assert again.read_bytes() == once.read_bytes() == (tmp_path / "plain").read_bytes()
    assert cut(tmp_path / "first").read_bytes() == once.read_bytes()


def test_a_cut_of_a_cut_with_slack_keeps_its_parts(cut: Cut, tmp_path: Path) -> None:
    once = cut(planted(real.dump("6.19-a/frozen")))
    luoser.extract(once, tmp_path / "plain")
    with luoser.open(once) as first, luoser.open(tmp_path / "plain") as second:
        assert first.withheld == second.withheld != ()
        assert said(luoser.read(first)) == said(luoser.read(second))


@pytest.mark.parametrize("size", [16384, 65536])
def test_pages_of_arm64(size: int, cut: Cut) -> None:
    description = {
        "source": {"page_size": size},
        "handovers": [{"luo": {"sessions": [{"name": "vm", "files": [{"token": 1, "memfd": {"size": "0x40000"}}]}]}}],
    }
    image = luoser.build(description, machine="arm64").image
    assert image is not None
    made, source = cut(planted(image.memory())), planted(image.memory())
    assert not leaks(made.read_bytes())
    assert said(luoser.load(made)) == said(luoser.read(source))


@pytest.mark.parametrize("orders", [True, False])
def test_a_page_tree_is_in_a_cut_without_its_pages(cut: Cut, orders: bool) -> None:
    image = hypervisor(orders=orders)
    image.put(0x10000, SECRET * 64)
    made = cut(image.open())
    assert leaks(made.read_bytes()) == []
    assert said(luoser.load(made)) == said(image.read())


def test_a_page_tree_of_no_known_form_is_not_in_a_cut(cut: Cut) -> None:
    made = luoser.load(cut(hypervisor(orders=True, more=[1 << 41]).open()))
    assert [(one.code, one.about) for one in made.problems] == [("excluded", "subtrees[0].page_tree")]
    assert [(one.rule, one.cause) for one in check(made).unjudged] == [("MAP021", "excluded")]


# -- what is in it -----------------------------------------------------------------------------------------


@each_source
def test_no_secret_is_in_a_cut(path: Path, cut: Cut, tmp_path: Path) -> None:
    with luoser.open(path) as memory:
        source = planted(memory)
        made = cut(source)
        luoser.extract(source, tmp_path / "plain.elf")
        assert leaks((tmp_path / "plain.elf").read_bytes()), "the control: a plain cut has them"
        assert leaks(made.read_bytes()) == []
        assert judged(luoser.load(made, contents=True)) == judged(luoser.read(source, contents=True))


def test_pages_that_were_reused_are_not_in_it(cut: Cut) -> None:
    """Where the map's root was, a dump after the kexec has a script."""
    script = b"#!/bin/busybox"
    assert list(real.dump("7.3-a/post").find(script))
    assert script not in cut(real.path("7.3-a/post")).read_bytes()


def test_a_bitmap_that_is_a_page_of_a_user_is_not_in_it(cut: Cut) -> None:
    """A pointer of the map is wrong, and leads to preserved memory: any bytes are a bitmap."""
    memory = real.overlay("7.3-a/frozen")
    (handover,) = luoser.read(memory).handovers
    assert handover.luo is not None
    folio = next(
        folio.address
        for session in handover.luo.sessions
        for file in session.files
        if file.memfd is not None and file.memfd.size == 64 << 10
        for folio in file.memfd.folios.list
    )
    leaf = handover.preserved.bitmaps[-1][0]
    holder = next(
        node + 8 * place
        for node in handover.preserved.nodes
        for place, (word,) in enumerate(struct.iter_unpack("<Q", memory.read(node, PAGE)))
        if word == leaf and node != leaf
    )
    memory.write(folio, SECRET * (PAGE // 8))
    memory.write(holder, struct.pack("<Q", folio))
    made = cut(memory)
    assert leaks(made.read_bytes()) == []
    assert luoser.check(made).verdict != "sound"


def test_values_of_a_boot_devicetree_are_not_in_it(cut: Cut) -> None:
    """It has the command line, seeds and serial numbers."""
    image = Image(pages=64)
    chosen = Node(
        "chosen",
        {
            "linux,kho-fdt": struct.pack(">QQ", 0x2000, PAGE),
            "linux,kho-scratch": struct.pack(">QQ", 0x3000, 16),
            "bootargs": text(f"root={SECRET.decode()}"),
        },
    )
    cells = {"#address-cells": struct.pack(">I", 2), "#size-cells": struct.pack(">I", 2), "serial-number": SECRET}
    image.put(0x1000, fdt(Node("", cells, [chosen])))
    image.put(0x2000, fdt(Node("", {"compatible": text("kho-v4"), "preserved-page-radix-tree": bytes(8)})))
    image.put(0x3000, struct.pack("<QQ", 0x10000, 0x8000))
    memory = image.open()
    memory.machine = 183
    made = cut(memory)
    assert leaks(made.read_bytes()) == [] and b"bootargs" in made.read_bytes()
    (handover,) = luoser.load(made).handovers
    assert handover.scratch is not None and any("/chosen" in one or "devicetree" in one for one in handover.evidence)


def test_what_a_property_of_the_root_says_beyond_its_meaning_is_not_in_it(cut: Cut) -> None:
    image = Image(pages=64)
    inner = Node("trace", {"preserved-data": struct.pack("<Q", 0x8000), "note": SECRET})
    known = {"compatible": text("kho-v4"), "preserved-page-radix-tree": bytes(8), "owner": SECRET}
    image.put(0x2000, fdt(Node("", known, [inner])))
    image.put(0x8000, fdt(Node("", {"compatible": text("x"), "key": SECRET}, [Node(SECRET.decode(), {"a": u32(1)})])))
    made = cut(image.open())
    assert leaks(made.read_bytes()) == []
    (tree,) = luoser.load(made).handovers[0].subtrees
    assert tree.fdt is None and tree.size
    state = luoser.load(made, contents=True)
    assert ("excluded", "subtrees[0].contents") in {(one.code, one.about) for one in state.problems}


def test_paths_of_the_machine_are_not_in_it(tmp_path: Path, cut: Cut) -> None:
    import lzma

    path = tmp_path / "S3cr3t#!-host.elf"
    data = lzma.decompress(real.path("7.3-a/frozen").read_bytes())
    path.write_bytes(data[:48] + b"\1" + data[49:])
    made = cut(path)
    assert leaks(made.read_bytes()) == []
    assert any("marked as incomplete" in one.message for one in luoser.load(made).problems)


def incomplete(path: Path) -> Path:
    """A dump that says so of itself, and its name."""
    import lzma

    data = lzma.decompress(real.path("7.3-a/frozen").read_bytes())
    path.write_bytes(data[:48] + b"\1" + data[49:])
    return path


def test_paths_are_not_in_a_cut_of_a_cut_with_contents(tmp_path: Path, cut: Cut) -> None:
    luoser.extract(incomplete(tmp_path / "S3cr3t#!.elf"), tmp_path / "plain")
    assert leaks(cut(tmp_path / "plain").read_bytes()) == []


def test_a_path_that_is_shown_escaped_is_not_in_it(tmp_path: Path, cut: Cut) -> None:
    made = cut(incomplete(tmp_path / "S3cr3t#!\\\u202e.elf"))
    assert leaks(made.read_bytes()) == []
    assert "truncated: the source is marked as incomplete in its header" in luoser.open(made).remarks


def test_the_path_of_no_part_of_a_split_dump_is_in_it(tmp_path: Path, cut: Cut) -> None:
    import lzma

    parts = [lzma.decompress((formats.FORMATS / f"{name}.xz").read_bytes()) for name in formats.SETS["kdump-split"]]
    (tmp_path / "first").write_bytes(parts[0])
    (tmp_path / "S3cr3t#!").write_bytes(parts[1][: len(parts[1]) * 3 // 4])
    with luoser.open(tmp_path / "first", tmp_path / "S3cr3t#!") as memory:
        assert any("S3cr3t" in remark for remark in memory.remarks)
        assert leaks(cut(memory).read_bytes()) == []


def test_a_word_that_is_a_path_as_well_stays_in_other_words(tmp_path: Path, cut: Cut) -> None:
    made = cut(incomplete(tmp_path / "e"))
    assert "truncated: the source is marked as incomplete in its header" in luoser.open(made).remarks


def test_what_is_after_the_end_of_a_name_is_not_in_it(cut: Cut) -> None:
    from tests.reader.test_handler import FILES, one_file

    data = FILES["tmpfs-file-v1"][0]
    memory = one_file("tmpfs-file-v1", data[:-64] + SECRET * 8).open()
    for hash_names in (None, "a long random key"):
        made = cut(memory, hash_names=hash_names)
        assert leaks(made.read_bytes()) == []
        (handover,) = luoser.load(made).handovers
        assert handover.luo is not None and handover.luo.sessions[0].files[0].detail is not None


@pytest.mark.parametrize("layout", ["pci-lu-v2-06", "pci-lu-v1-09", "pci-lu-v1-19"])
def test_what_is_after_the_name_of_a_driver_is_not_in_it(layout: str, cut: Cut) -> None:
    devices = [{"bdf": "0000:41:00.0", "driver_name": "nvme"}]
    image = luoser.build(
        {"handovers": [{"luo": {"sessions": []}, "pci": [{"layout": layout, "devices": devices}]}]}
    ).image
    assert image is not None
    memory = Overlay(image.memory())
    (place, *_) = luoser.read(memory).handovers[0].pci
    name = memory.read(place.address, PAGE).index(b"nvme\0")
    memory.write(place.address + name + 8, SECRET * 4)
    made = cut(memory)
    assert leaks(made.read_bytes()) == []
    before, after = luoser.read(memory), luoser.load(made)
    assert [device.bdf for device in after.handovers[0].pci[0].devices] == [
        device.bdf for device in before.handovers[0].pci[0].devices
    ]
    assert check(before).verdict == check(after).verdict != "sound"


# -- the source --------------------------------------------------------------------------------------------


def spared(memory: Memory, *kept: tuple[int, int], names: dict[tuple[int, int], bytes] | None = None) -> Spared:
    record, everything = Recorder(memory), Recorder(memory)
    record.read(0x1000, 2 * PAGE)
    everything.read(0x1000, 4 * PAGE)
    for address, size in kept:
        record.keep(address, size)
    return Spared(memory, record, everything, names or {})


@pytest.fixture
def memory() -> Memory:
    image = Image(pages=8)
    image.put(0x1000, b"A" * 0x100 + bytes(0x700) + b"B" * 0x100)
    image.put(0x2000, b"C" * PAGE)
    image.put(0x3000, b"D" * PAGE)
    return image.open()


def test_parts_that_are_not_kept_are_withheld_from_their_first_byte_on(memory: Memory) -> None:
    source = spared(memory, (0x1000, 0x100), (0x2F00, 0x200))
    assert source.withheld == ((0x1800, 0x2F00), (0x3100, 0x4000))
    assert source.read(0x1000, 0x800) == memory.read(0x1000, 0x800)
    assert source.read(0x2F00, 0x200) == memory.read(0x2F00, 0x200)
    for address, gap in ((0x1000, 0x1800), (0x1900, 0x1900), (0x2FFF, 0x3100)):
        with pytest.raises(MissingMemory) as caught:
            source.read(address, PAGE)
        assert (caught.value.address, caught.value.state) == (gap, PageState.EXCLUDED)


def test_pages_that_were_read_for_their_contents_are_excluded_though_zero(memory: Memory) -> None:
    source = spared(memory, (0x1000, 0x100))
    assert source.pages == {0x1000, 0x2000, 0x3000, 0x4000}
    assert source.page_state(0x4000) is PageState.EXCLUDED
    assert source.page_state(0x1000) is PageState.PRESENT


def test_a_missing_page_before_is_said_first(memory: Memory) -> None:
    overlay = Overlay(memory)
    overlay.remove(0x2000, state=PageState.DAMAGED)
    source = spared(Overlay(memory), (0x1000, PAGE))
    source._below = overlay
    with pytest.raises(MissingMemory) as caught:
        source.read(0x2000 - 8, 16)
    assert caught.value.address == 0x2000


@pytest.mark.parametrize("start", range(0x1000, 0x1014))
def test_names_are_replaced_wherever_a_read_begins(memory: Memory, start: int) -> None:
    source = spared(memory, (0x1000, 0x100), names={(0x1004, 8): b"name", (0x100C, 4): b"x"})
    whole = b"AAAAname\0\0\0\0x\0\0\0AAAA"
    assert source.read(start, 0x1014 - start) == whole[start - 0x1000 :]


def test_what_is_written_of_a_live_machine_is_what_was_looked_at(memory: Memory) -> None:
    changing = Overlay(memory)
    still = Still(changing)
    before = still.read(0x1010, 0x20)
    changing.write(0x1000, SECRET * 512)
    assert still.read(0x1010, 0x20) == before
    assert still.read(0x1000, PAGE) == memory.read(0x1000, PAGE)


def test_a_live_source_is_written_as_it_was_looked_at(tmp_path: Path) -> None:
    """The page of a session is reused while its cut is made."""
    source = real.overlay("6.19-a/frozen")
    source.live = True
    place = next(session.address for session in source_sessions(source) if session.address is not None and session.name)

    def reading(memory: Memory, *, contents: bool = True) -> State:
        state = luoser.read(memory, contents=contents)
        if not contents:
            source.write(place, SECRET * 4)
        return state

    from luoser.extracts.parts import write_part
    from luoser.reader import memfd_at

    write_part(
        str(tmp_path / "cut"), source, reading, memfd=None, blob=None, memfd_at=memfd_at, force=False, no_contents=True
    )
    assert leaks((tmp_path / "cut").read_bytes()) == []


def source_sessions(memory: Memory) -> tuple[luoser.state.Session, ...]:
    (handover,) = luoser.read(memory).handovers
    assert handover.luo is not None
    return handover.luo.sessions


def test_state_document_keeps_what_was_left_out(cut: Cut) -> None:
    from luoser.state.from_json import from_document

    state = luoser.load(cut(real.path("7.3-a/frozen")))
    assert from_document(to_document(state, full=True)).source.left_out == (NO_CONTENTS,)
    assert "left_out" not in to_document(replace(state, source=replace(state.source, left_out=())))["source"]
