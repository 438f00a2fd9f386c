# SPDX-License-Identifier: MIT
"""Rules MAP: both forms of the map, boundaries, what is skipped and why, healthy look-alikes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import luoser
from luoser.checks import check, rules
from luoser.state import (
    Area,
    Bitmap,
    Direction,
    FolioList,
    MapStatus,
    PreservedMap,
    Problem,
    Reservation,
    State,
    Subtree,
)
from luoser.text import human_size
from luoser.writer.mutate import Cannot
from tests import real
from tests.checks.device_lists import a_list
from tests.checks.mutants import (
    changed,
    errors,
    luo_of,
    memfd_of,
    messages,
    mutant,
    reason,
    report_of,
    rules_found,
    u64,
)  # fmt: skip
from tests.golden import Dev
from tests.work import processor_time, steps
from tests.writer.helpers import built, built_luo

A, CHAIN = "7.3-a/frozen", "7.3-chain/frozen2"
OURS = [rule.id for rule in rules() if rule.id[:3] == "MAP"]
EVERYWHERE = ((0, 1 << 46),)
"""RAM that holds all that a mutation invents but for what is to be beyond any."""


def with_map(name: str, *extents: tuple[int, int, int], without: tuple[int, ...] = ()) -> State:
    """A real state whose map has more blocks, and not those at some addresses."""
    state = real.read(name)
    preserved = state.handovers[-1].preserved
    assert preserved.map is not None
    page = state.source.page_size
    blocks = [
        (start + number * (page << order), order, 1)
        for start, order, count in preserved.map.extents()
        for number in range(count)
    ]
    kept = [block for block in blocks if block[0] not in without]
    found = PreservedMap.from_extents([*kept, *extents], page_size=page)
    return changed(state, preserved=replace(preserved, map=found))


def ram_of(case: str) -> tuple[tuple[int, int], ...]:
    """System RAM as the kernel of a case said."""
    text = str(real.truth(case)[0])
    found = re.findall(r"([0-9a-f]+)-([0-9a-f]+) : System RAM", text)
    return tuple((int(start, 16), int(end, 16) + 1) for start, end in found)


# -- both forms --


@pytest.mark.parametrize("name", ["6.18-a/frozen", "6.19-a/frozen", CHAIN])
def test_mutations_break_the_same_in_every_form_of_the_map(name: str) -> None:
    broken = 0
    for rule in OURS:
        try:
            report = mutant(rule, name, ram=EVERYWHERE, select=("KHO", "MAP"))
        except Cannot:
            continue
        assert errors(report) - {"KHO016"} <= {rule}, rule  # no scratch holds the memmap of all addresses
        assert rule in rules_found(report), rule
        broken += 1
    assert broken >= 9


# -- the map itself --


def test_a_map_that_cannot_all_be_read_is_not_passed() -> None:
    memory = real.overlay(A)
    memory.remove(real.read(A).handovers[0].preserved.nodes[-1])
    report = check(luoser.read(memory), select=("MAP",))
    assert not report.findings
    for rule in ("MAP001", "MAP003", "MAP004", "MAP005", "MAP010", "MAP013", "MAP015"):
        assert "is absent" in reason(report, rule)


NO_MAP = [
    (MapStatus.STALE, Direction.OUTGOING, "open"),
    (MapStatus.MISSING, Direction.OUTGOING, "missing"),
    (MapStatus.UNREAD, Direction.OUTGOING, "unread"),
    (MapStatus.STALE, Direction.INCOMING, None),
    (MapStatus.STALE, Direction.UNKNOWN, None),
    (MapStatus.ABSENT, Direction.OUTGOING, None),
]


@pytest.mark.parametrize(("status", "direction", "cause"), NO_MAP)
def test_no_map_is_not_judged_unless_it_was_consumed_or_is_still_to_come(
    status: MapStatus, direction: Direction, cause: str | None
) -> None:
    lost = replace(real.read(A).handovers[0].preserved, status=status, map=None)
    report = check(changed(A, preserved=lost, direction=direction), select=("MAP003", "MAP005", "MAP008", "MAP015"))
    assert not report.passed and not report.findings
    causes = [entry.cause for entry in report.unjudged if entry.rule != "KHO017"]
    assert causes == ([cause] * 4 if cause else [])
    assert len(report.skipped) == (0 if cause else 4)


def test_blocks_side_by_side_do_not_overlap() -> None:
    top = 1 << 36
    assert "MAP005" not in rules_found(check(with_map(A, (top, 1, 1), (top + 0x2000, 0, 2)), select=("MAP",)))
    (word,) = messages(check(with_map(A, (top, 3, 1), (top + 0x7000, 0, 1)), select=("MAP",)), "MAP005")
    assert word == "block 0x1000007000 of order 0 is in block 0x1000000000 of order 3"


def test_scratch_of_the_incoming_root_holds_for_the_outgoing_one() -> None:
    areas = real.read(CHAIN).handovers[0].scratch or real.read(CHAIN).handovers[1].scratch
    assert areas
    area = areas[0]
    assert check(real.read(CHAIN), select=("MAP006",)).passed == ("MAP006",)
    for place in (area.address, area.address + area.size - 4096):
        assert errors(check(with_map(CHAIN, (place, 0, 1)), select=("MAP006",))) == {"MAP006"}


def test_without_scratch_areas_nobody_knows() -> None:
    assert "scratch" in reason(check(real.read(A)), "MAP006")


@pytest.mark.parametrize("name", real.DUMPS)
def test_all_that_is_preserved_is_in_the_ram_that_the_kernel_told_of(name: str) -> None:
    ram = ram_of(name.split("/")[0])
    assert ram
    assert not check(real.read(name), ram=ram, select=("MAP007",)).findings


def test_ram_ends_where_it_ends() -> None:
    ram = ((0, 1 << 30), (1 << 32, 1 << 33))
    inside = with_map(A, ((1 << 33) - 4096, 0, 1), (1 << 32, 0, 1))
    assert check(inside, ram=ram, select=("MAP007",)).passed
    for place in (1 << 33, (1 << 32) - 4096, 1 << 30):
        assert errors(check(with_map(A, (place, 0, 1)), ram=ram, select=("MAP007",))) == {"MAP007"}
    assert "not in the source" in reason(check(inside), "MAP007")


def test_high_orders_are_a_matter_of_old_kernels() -> None:
    assert not check(with_map(A, (1 << 44, 19, 1)), select=("MAP017",)).findings
    assert errors(check(with_map("6.19-a/frozen", (1 << 44, 19, 1)), select=("MAP017",))) == {"MAP017"}
    assert not check(with_map("6.19-a/frozen", (1 << 44, 18, 1)), select=("MAP017",)).findings


# -- what has to lie in it --


def test_a_folio_inside_of_a_block_cannot_be_restored() -> None:
    state = real.read(A)
    assert state.handovers[0].luo is not None
    files = [file for session in state.handovers[0].luo.sessions for file in session.files if file.memfd]
    folio = next(f.address for file in files if file.memfd for f in file.memfd.folios.list if f.address & 0x1000)
    report = check(with_map(A, (folio - 0x1000, 1, 1), without=(folio, folio - 0x1000)), select=("MAP010",))
    assert any(f"{folio:#x} is preserved inside the block" in word for word in messages(report, "MAP010"))


@pytest.mark.parametrize(
    ("page", "order", "kernel", "is_found"),
    [(4096, 10, "6.19", False), (4096, 11, "6.19", True), (16384, 11, "6.19", False), (4096, 11, "7.2", False)],
)
def test_a_folio_that_a_kernel_is_too_old_to_restore(page: int, order: int, kernel: str, is_found: bool) -> None:
    """6.19.11 logs "Unable to restore folio", 7.2.13 takes it."""
    memfd = {"size": page << order, "folios": {"list": [[0, "0x10000000", 3]]}}
    handover = {
        "luo": {"sessions": [{"name": "a", "files": [{"memfd": memfd}]}]},
        "preserved": {"extents": [["0x10000000", order, 1]]},
    }
    state, _ = built({"source": {"page_size": page}, "handovers": [handover]}, kernel=kernel)
    words = messages(check(state, select=("MAP010",)), "MAP010")
    wanted = "session a, file 0x0: the folio at 0x10000000 is preserved as order 11, expected at most 10"
    assert words == ([wanted] if is_found else [])


def test_lost_folios_of_one_file_are_one_finding() -> None:
    state = real.read(A)
    assert state.handovers[0].luo is not None
    files = [file for session in state.handovers[0].luo.sessions for file in session.files if file.memfd]
    memfd = files[0].memfd
    assert memfd is not None
    folios = tuple(folio.address for folio in memfd.folios.list)
    (word,) = messages(check(with_map(A, without=folios), select=("MAP010",)), "MAP010")
    assert f"{folios[0]:#x} is not preserved, and {len(folios) - 1} more of {memfd.folios.count}" in word


def test_a_folio_beyond_ram_is_the_finding_of_another_rule() -> None:
    state = real.read(A)
    lost = with_map(A, without=(next(iter(_folios(state))),))
    assert errors(check(lost, select=("MAP010",))) == {"MAP010"}
    assert not check(lost, select=("MAP010",), ram=((0, 0x1000000),)).findings


FOLIO = memfd_of().folios.list[0].address


@pytest.mark.parametrize(
    ("ram", "is_in"),
    [
        (((FOLIO, FOLIO + 4096),), True),
        (((0, 1), (FOLIO, FOLIO + 1)), True),
        (((0, FOLIO),), False),
        (((FOLIO + 1, 1 << 40),), False),
        (((0, FOLIO), (FOLIO + 4096, 1 << 40)), False),
        ((), True),
    ],
)
def test_ranges_of_ram_have_their_first_byte_and_not_their_end(ram: tuple[tuple[int, int], ...], is_in: bool) -> None:
    report = check(with_map(A, without=(FOLIO,)), select=("MAP010",), ram=ram)
    assert [finding.address for finding in report.findings] == ([FOLIO] if is_in else [])


def _folios(state: State) -> list[int]:
    luo = state.handovers[0].luo
    assert luo is not None
    files = [file for session in luo.sessions for file in session.files if file.memfd is not None]
    return [folio.address for file in files if file.memfd is not None for folio in file.memfd.folios.list]


def test_an_unread_list_of_folios_is_not_passed() -> None:
    memory = real.overlay(A)
    luo = real.read(A).handovers[0].luo
    assert luo is not None
    memfd = next(file.memfd for session in luo.sessions for file in session.files if file.memfd)
    memory.remove(memfd.folios.pages[0])
    report = check(luoser.read(memory), select=("MAP010",))
    assert not report.findings and not report.passed
    assert "folio array: page " in reason(report, "MAP010")
    assert reason(report, "MAP010").endswith("; a dump that has it decides")  # it is missing, not damaged


@pytest.mark.parametrize(
    ("handler", "code", "is_judged"),
    [
        ("memfd-v2", "missing", False),
        ("memfd-v2", "zero-memfd", True),  # which says that the file is empty
        ("guestos-v1", "missing", True),  # which has no folios
        ("guestos-v1", "zero-memfd", True),
    ],
)
@pytest.mark.parametrize("rule", ["MAP009", "MAP010"])
def test_only_a_memfd_that_was_not_read_may_have_folios(rule: str, handler: str, code: str, is_judged: bool) -> None:
    state, session = changed(A, kho_test=None), luo_of().sessions[0]
    file = replace(session.files[1], compatible=handler, memfd=None)
    where = "luo.sessions[0].files[1]"
    met = Problem(code=code, address=None, message="x", root=state.handovers[0].address, about=where)
    made = replace(session, files=(session.files[0], file))
    state = replace(changed(state, luo=replace(luo_of(), sessions=(made,))), problems=(met,))
    report = check(state, select=(rule,))
    assert [(entry.cause, entry.about) for entry in report.unjudged] == ([] if is_judged else [("missing", where)])
    assert report.passed == ((rule,) if is_judged else ())


def test_nothing_of_luo_is_judged_before_it_is_serialised() -> None:
    report = check(real.read("7.3-a/pre"), select=("MAP010", "MAP011", "MAP012"))
    assert not report.passed
    for rule in ("MAP010", "MAP011", "MAP012"):
        assert "not serialised" in reason(report, rule)


@pytest.mark.parametrize("lost", [0x0, 0xFF000])
def test_a_region_needs_its_first_and_its_last_page(lost: int) -> None:
    name = "7.3-a/frozen"
    state = real.read(name)
    memblock = state.handovers[0].memblock
    assert memblock is not None
    top = 1 << 36
    grown = replace(memblock, reservations=(Reservation(name="x", start=top, size=0x100000),))
    whole = changed(with_map(name, (top, 8, 1)), memblock=grown)
    assert check(whole, select=("MAP015",)).passed
    pages = [(top + place, 0, 1) for place in range(0, 0x100000, 0x1000) if place != lost]
    (word,) = messages(check(changed(with_map(name, *pages), memblock=grown), select=("MAP015",)), "MAP015")
    assert f"byte at {top + lost:#x} is not preserved" in word


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (0, "data 0x0 is not a page address"),
        (1, "data 0x1 is not a page address"),
        (0x1001, "data 0x1001 is not a page address"),
        (1 << 52, "data 0x10000000000000 is not a page address"),
        ((1 << 52) - 4096, "data at 0xffffffffff000 is not preserved"),
        (0x1000, "data at 0x1000 is not preserved"),
    ],
)
def test_the_handle_of_a_file_is_the_address_of_a_preserved_page(data: int, said: str) -> None:
    session = luo_of().sessions[0]
    luo = replace(luo_of(), sessions=(replace(session, files=(replace(session.files[0], data=data),)),))
    (word,) = messages(check(changed(A, luo=luo), select=("MAP012",)), "MAP012")
    assert word.endswith(said)


def test_sessions_need_a_block_of_their_size() -> None:
    """6.19 takes 16 pages for them."""
    luo = real.read("6.19-a/frozen").handovers[0].luo
    assert luo is not None and luo.session_area is not None
    area = luo.session_area
    split = with_map("6.19-a/frozen", (area, 3, 2), without=(area,))
    (word,) = messages(check(split, select=("MAP013",)), "MAP013")
    assert word.endswith("is preserved in a block of 32 KiB, expected 64 KiB")


def test_a_sub_tree_after_one_without_an_address() -> None:
    lost = real.read(A).handovers[0].subtrees[2]
    first = Subtree(name="x", address=None, size=None)
    state = changed(with_map(A, without=(lost.address or 0,)), subtrees=(first, lost))
    (finding,) = check(state, select=("MAP004",)).findings
    assert finding.where == "subtrees[1]"


def test_chunks_and_pages_of_a_folio_array() -> None:
    memfd = memfd_of()
    for place in (memfd.folios.chunks[0], memfd.folios.pages[0]):
        (finding,) = check(with_map(A, without=(place,)), select=("MAP009",)).findings
        assert (finding.address, finding.where) == (place, "luo.sessions[0].files[1].memfd.folios")


@pytest.mark.parametrize(
    ("order", "pages", "flags", "is_told"),
    [
        (0, 1, 1, False),
        (1, 2, 1, True),
        (1, 1, 1, False),  # of a shape that MFD004 reports
        (1, 2, 4, False),
        (52, 1 << 52, 1, True),
        (53, 1 << 53, 1, False),
    ],
)
def test_a_page_of_a_folio_array_in_a_block_of_its_order(order: int, pages: int, flags: int, is_told: bool) -> None:
    memfd, session = memfd_of(), luo_of().sessions[0]
    folios = replace(memfd.folios, order=order, total_pages=pages, flags=flags)
    file = replace(session.files[1], memfd=replace(memfd, folios=folios))
    state = changed(A, luo=replace(luo_of(), sessions=(replace(session, files=(file,)),)))
    words = messages(check(state, select=("MAP009",)), "MAP009")
    expected = f"is preserved in a block of 4 KiB, expected {human_size(4096 << order)}"
    assert [word.endswith(expected) for word in words] == ([True] if is_told else [])


@pytest.mark.parametrize(
    ("size", "place", "is_told"),
    [(0x2000, 0, False), (0x2001, 0x2000, True), (None, 0, False), (0, 0, False)],
)
def test_a_sub_tree_has_to_be_preserved_to_its_last_byte(size: int | None, place: int, is_told: bool) -> None:
    top = 1 << 36
    state = changed(with_map(A, (top, 1, 1)), subtrees=(Subtree(name="x", address=top, size=size),))
    found = check(state, select=("MAP004",)).findings
    assert [finding.address for finding in found] == ([top + place] if is_told else [])
    lost = changed(A, subtrees=(Subtree(name="x", address=top, size=size),))
    assert [finding.address for finding in check(lost, select=("MAP004",)).findings] == [top]


@pytest.mark.parametrize(("devices", "is_told"), [(510, False), (511, True)])
def test_a_device_list_in_a_block_of_its_size(devices: int, is_told: bool) -> None:
    """16 bytes and 510 records of 8 fill a page."""
    state = real.read(A)
    made = a_list("pci-v2-u64", [Dev(domain=0, bdf=number) for number in range(devices)], address=0x1AD9000)
    report = check(changed(state, pci=(made, *state.handovers[0].pci[1:])), select=("MAP011",))
    assert [finding.where for finding in report.findings] == (["luo.flbs[3]"] if is_told else [])


def test_a_block_of_a_device_list_has_to_be_preserved() -> None:
    made = a_list("pci-version-2", [Dev(domain=0, bdf=0x4100)], via="flb:x")
    report = check(changed(A, pci=(*real.read(A).handovers[0].pci, made)), select=("MAP011",))
    assert [(finding.address, finding.where) for finding in report.findings] == [(made.blocks[0], "pci[2]")]


def test_the_devicetree_of_the_self_test_in_a_block_of_its_size() -> None:
    """Its header takes a page, and each folio 8 bytes; if it is in no block at all, that is another finding."""
    test = real.read(A).handovers[0].kho_test
    assert test is not None
    for folios, order, is_told in ((0, 0, False), (1, 0, True), (512, 1, False), (513, 1, True)):
        made = replace(test, folios=test.folios[:1] * folios)
        state = changed(with_map(A, (test.address, order, 1), without=(test.address,)), kho_test=made)
        report = check(state, select=("MAP016",))
        assert [(finding.address, finding.where) for finding in report.findings] == (
            [(test.address, "kho_test")] if is_told else []
        )
    assert check(with_map(A, without=(test.address,)), select=("MAP016",)).passed
    assert errors(check(with_map(A, without=(test.address,)), select=("MAP004", "MAP016"))) == {"MAP004"}


@pytest.mark.parametrize(("order", "said"), [(8, "with order 8"), (10, "with order 10"), (None, "not as a block")])
def test_a_folio_of_the_self_test_has_the_order_that_it_was_made_with(order: int | None, said: str) -> None:
    test = real.read(A).handovers[0].kho_test
    assert test is not None
    test = replace(test, folios=(test.folios[5], (1 << 36, 9)))
    blocks = () if order is None else ((1 << 36, order, 1),)
    (finding,) = check(changed(with_map(A, *blocks), kho_test=test), select=("MAP016",)).findings
    assert finding.message == f"folio 0x1000000000 of the self-test is preserved {said}, expected order 9"
    assert finding.where == "kho_test.folios[1]"


def test_chunk_and_pages_of_the_self_test() -> None:
    test = real.read(A).handovers[0].kho_test
    tree = next(entry.fdt for entry in real.read(A).handovers[0].subtrees if entry.name == "kho_test")
    assert test is not None and tree is not None
    data = tree.root.node("data")
    assert data is not None
    chunk = int.from_bytes((data.get("folios_info") or b"")[:8], "little")
    for place in (chunk, test.pages[0]):
        (finding,) = check(with_map(A, without=(place,)), select=("MAP009",)).findings
        assert (finding.address, finding.where) == (place, "kho_test")


# -- one owner each --


def test_a_region_over_other_structures() -> None:
    state = real.read(A)
    memblock, luo = state.handovers[0].memblock, state.handovers[0].luo
    assert memblock is not None and luo is not None
    over = replace(memblock, reservations=(Reservation(name="x", start=luo.address - 0x1000, size=0x2000),))
    (word,) = messages(check(changed(state, memblock=over), select=("MAP014",)), "MAP014")
    assert "sub-tree LUO" in word and "reserve_mem region x" in word
    beside = replace(memblock, reservations=(Reservation(name="x", start=luo.address - 0x1000, size=0x1000),))
    assert check(changed(state, memblock=beside), select=("MAP014",)).passed


def with_region(start: int, size: int = 4096, state: State | None = None) -> State:
    """A real state with a reserve_mem region that is nowhere else."""
    made = state or luoser.read(real.dump(A), contents=True)
    memblock = made.handovers[0].memblock
    assert memblock is not None
    return changed(made, memblock=replace(memblock, reservations=(Reservation(name="x", start=start, size=size),)))


OWNED = [
    (0x5CD000, "the root"),
    (0x5D3000, "sub-tree kexec-metadata"),
    (0x1ADC000, "LUO's sessions"),
    (0x1A12000, "LUO's FLBs"),
    (0x197D000, "files of session vm-web-01"),
    (0x1A98000, "data of session vm-web-01, file 0x1b, memfd-v2"),
    (0x1AC5000, "vmalloc chunk of session vm-web-01, file 0x1b"),
    (0xE99000, "folio list of session vm-web-01, file 0x1a"),
    (0x1D69000, "folios of session vm-web-01, file 0x1b"),
    (0x1A1000, "vmalloc page of the KHO self-test"),
    (0x9FF000, "folio of the KHO self-test"),
    (0x1AD9000, "a PCI device list"),
    (0x1A96000, "the page of a device's driver"),
]
"""Pages of the real dump, the last one of a folio of order 9 among them."""


@pytest.mark.parametrize(("page", "owner"), OWNED, ids=[owner for _, owner in OWNED])
def test_a_region_over_a_page_of_any_structure(page: int, owner: str) -> None:
    (finding,) = check(with_region(page), select=("MAP014",)).findings
    assert owner in finding.message and "reserve_mem region x" in finding.message
    assert f"are both at {finding.address:#x}" in finding.message


@pytest.mark.parametrize("page", [0x5CC000, 0x5CE000, 0x7FF000, 0xA00000])
def test_a_region_beside_a_structure_is_no_conflict(page: int) -> None:
    assert check(with_region(page), select=("MAP014",)).passed


def test_each_structure_in_a_region_is_a_conflict_of_its_own() -> None:
    """The page before that of LUO, LUO, and its FLBs."""
    found = check(with_region(0x1A10000, 0x3000), select=("MAP014",)).findings
    assert [finding.address for finding in found] == [0x1A11000, 0x1A12000]
    assert all("reserve_mem region x" in finding.message for finding in found)


@pytest.mark.parametrize(
    ("size", "place", "count"),
    [
        (0x1000, 0, 1),
        (0x1000, 0x1000, 0),
        (0x1001, 0x1000, 1),
        (0x1001, 0x2000, 0),
        (None, 0, 1),
        (None, 0x1000, 0),
        ((1 << 40) - 1, 0x40000000, 1),
        (1 << 40, 0x40000000, 0),
    ],
)
def test_a_sub_tree_is_in_all_pages_of_its_size(size: int | None, place: int, count: int) -> None:
    top = 1 << 36
    tree = Subtree(name="x", address=top, size=size)
    state = changed(A, subtrees=(tree,), luo=None, pci=(), kho_test=None)
    assert len(check(with_region(top + place, state=state), select=("MAP014",)).findings) == count


def test_a_folio_is_all_of_its_block() -> None:
    memfd, top = memfd_of(), 1 << 36
    rows = b"".join(
        (address // 4096).to_bytes(8, "little") + index.to_bytes(8, "little")
        for index, address in ((0, top), (4, top + 0x4000), (8, top + 0x10000))
    )
    folios = replace(memfd.folios, count=3, list=FolioList(rows, page_size=4096))
    session = luo_of().sessions[0]
    file = replace(session.files[1], memfd=replace(memfd, folios=folios))
    luo = replace(luo_of(), sessions=(replace(session, files=(file,)),))
    state = changed(with_map(A, (top, 2, 2), (top + 0x10000, 3, 1)), luo=luo)
    for place, count in ((0, 1), (0x7000, 1), (0x8000, 0), (0xF000, 0), (0x10000, 1), (0x17000, 1), (0x18000, 0)):
        found = check(with_region(top + place, state=state), select=("MAP014",)).findings
        assert len(found) == count, hex(place)
        assert all("folios of session vm-web-01, file 0x1b" in finding.message for finding in found)


@pytest.mark.parametrize(("order", "pages"), [(0, 1), (1, 2), (3, 8)])
def test_a_block_of_a_folio_array_is_all_of_its_order(order: int, pages: int) -> None:
    memfd, top = memfd_of(), 1 << 36
    folios = replace(memfd.folios, order=order, total_pages=pages, pages=(top,))
    session = luo_of().sessions[0]
    file = replace(session.files[1], memfd=replace(memfd, folios=folios))
    state = changed(A, luo=replace(luo_of(), sessions=(replace(session, files=(file,)),)))
    for place, count in ((pages - 1, 1), (pages, 0)):
        found = check(with_region(top + place * 4096, state=state), select=("MAP014",)).findings
        assert len(found) == count


def test_blocks_and_pages_of_a_device_list() -> None:
    device = Dev(domain=0, bdf=0x4100)
    blocks = a_list("pci-version-2", [device] * 600, address=1 << 37)  # its head is one page, however many devices
    long = a_list("pci-lu-v2-03", [device] * 300, address=1 << 36)
    state = changed(A, pci=(blocks, long))
    for page, owner in (
        (blocks.address, "a PCI device list"),
        (blocks.address + 4096, None),
        (blocks.blocks[0], "a block of a PCI device list"),
        (1 << 36, "a PCI device list"),
        ((1 << 36) + 4096, "a PCI device list"),
        ((1 << 36) + 8192, None),
    ):
        found = check(with_region(page, state=state), select=("MAP014",)).findings
        assert [owner in finding.message for finding in found if owner] == ([] if owner is None else [True]), owner
        assert len(found) == (owner is not None)


def test_a_folio_of_two_files_is_the_finding_of_another_rule() -> None:
    first, second, third = luo_of().sessions[0].files
    assert second.memfd is not None
    shared = replace(second.memfd, address=0, folios=replace(second.memfd.folios, chunks=(), pages=()))
    session = replace(luo_of().sessions[0], files=(first, second, replace(third, memfd=shared)))
    state = changed(A, luo=replace(luo_of(), sessions=(session,)))
    assert check(state, select=("MAP014",)).passed == ("MAP014",)
    assert errors(check(state, select=("MAP014", "MFD010"))) == {"MFD010"}


def test_a_region_over_a_file_after_one_that_cannot_be_read() -> None:
    luo = luo_of()
    first, second = luo.sessions[0].files[:2]
    assert second.memfd is not None
    folio = second.memfd.folios.list[0].address
    session = replace(luo.sessions[0], files=(replace(first, memfd=None), second))
    memblock = real.read(A).handovers[0].memblock
    assert memblock is not None
    over = replace(memblock, reservations=(Reservation(name="x", start=folio, size=0x1000),))
    state = changed(A, luo=replace(luo, sessions=(session,)), memblock=over)
    (finding,) = check(state, select=("MAP014",)).findings
    assert finding.address == folio


def test_a_list_that_two_ways_lead_to_has_one_owner() -> None:
    state = real.read(A)
    entry = state.handovers[0].pci[0]
    assert check(changed(state, pci=(entry, *state.handovers[0].pci[1:])), select=("MAP014",)).passed


def test_findings_of_one_kind_do_not_flood() -> None:
    state = with_map(A)
    nothing = PreservedMap((), page_size=4096)
    state = changed(state, preserved=replace(state.handovers[0].preserved, map=nothing))
    words = messages(check(state, select=("MAP012",)), "MAP012")
    assert len(words) == 33 and words[-1] == "32 shown, 32 further ones omitted"  # there are 64 files
    for files, said in ((31, 31), (32, 32), (33, 33)):
        (session, *_), every = luo_of().sessions, [one for session in luo_of().sessions for one in session.files]
        luo = replace(luo_of(), sessions=(replace(session, files=tuple(every[:files])),))
        words = messages(check(changed(state, luo=luo), select=("MAP012",)), "MAP012")
        assert len(words) == said and ("omitted" in words[-1]) == (files > 32)


def with_folios(count: int, bitmaps: int) -> State:
    """A real state with a file of many folios and a map of many leaves, each of 128 MiB."""
    state = real.read(A)
    luo, preserved = state.handovers[0].luo, state.handovers[0].preserved
    assert luo is not None and preserved.map is not None
    top = 1 << 36
    data = b"".join(
        (top // 4096 + index * 2).to_bytes(8, "little") + index.to_bytes(8, "little") for index in range(count)
    )
    session = next(session for session in luo.sessions if session.files and session.files[0].memfd)
    memfd = session.files[0].memfd
    assert memfd is not None
    folios = replace(memfd.folios, count=count, list=FolioList(data, page_size=4096))
    large = replace(session, files=(replace(session.files[0], memfd=replace(memfd, folios=folios)),))
    pages = (Bitmap(0, top + (number << 27), b"\xff" * 4096) for number in range(bitmaps))
    found = PreservedMap([*preserved.map.bitmaps, *pages], page_size=4096)
    return changed(state, luo=replace(luo, sessions=(large,)), preserved=replace(preserved, map=found))


def test_many_folios_and_a_tebibyte_of_map_cost_in_proportion() -> None:
    """16 times as many: neither a look at each page of the map nor one at each pair of folios, which were 256 times."""
    few, many = with_folios(1 << 11, 512), with_folios(1 << 15, 8192)
    with steps(3_000_000):
        assert rules_found(check(many, select=("MAP",), ram=EVERYWHERE)) == {"MAP020"}
    peer = processor_time(lambda: check(few, select=("MAP",), ram=EVERYWHERE))
    assert processor_time(lambda: check(many, select=("MAP",), ram=EVERYWHERE)) < 64 * peer


# -- pointers, and what nothing points to --


def unread(address: int, about: str, code: str = "missing") -> State:
    """The real state, in which a page could not be read."""
    state = real.read(A)
    return replace(
        state,
        problems=(Problem(code=code, address=address, message="x", root=state.handovers[0].address, about=about),),
    )


PRESERVED, OTHER, BEYOND = 0x1A97000, 0x1A9A000, 1 << 40


@pytest.mark.parametrize(
    ("address", "about", "ram", "is_wild"),
    [
        (PRESERVED, "luo.flbs[4]", (), False),
        (OTHER, "luo.flbs[4]", (), True),
        (OTHER, "luo.sessions[0].files[0].memfd.contents", (), False),
        (OTHER, "preserved", (), False),  # these are not preserved
        (OTHER, "subtrees[1]", (), False),
        (OTHER, "subtrees[1]", ((0, OTHER),), True),
        (PRESERVED, "preserved", ((0, PRESERVED + 4096),), False),
        (PRESERVED, "preserved", ((0, PRESERVED),), True),
        (BEYOND, "luo.flbs[4]", ((0, 1 << 30),), True),
    ],
)
def test_a_page_that_cannot_be_read_must_be_preserved_and_in_ram(
    address: int, about: str, ram: tuple[tuple[int, int], ...], is_wild: bool
) -> None:
    found = check(unread(address, about), ram=ram, select=("MAP018",)).findings
    assert {(one.address, one.where) for one in found} == ({(address, about)} if is_wild else set())


@pytest.mark.parametrize(("address", "about"), [(None, "luo.flbs[4]"), (luo_of().flbs[3].data, "luo.flbs[3]")])
def test_a_wild_pointer_after_a_problem_that_is_none(address: int | None, about: str) -> None:
    """One without an address, and one that another rule reports."""
    state = unread(OTHER, "luo.flbs[4]")
    first = replace(state.problems[0], address=address, about=about)
    report = check(replace(state, problems=(first, *state.problems)), select=("MAP018",))
    assert [finding.address for finding in report.findings] == [OTHER]


def test_what_other_rules_say_of_a_page_is_not_said_twice() -> None:
    """The page of an FLB is not preserved, which MAP011 reports, and cannot be read either."""
    page = luo_of().flbs[3].data
    without = replace(unread(page, "luo.flbs[3]"), handovers=with_map(A, without=(page,)).handovers)
    assert errors(check(without, select=("MAP011", "MAP018"))) == {"MAP011"}
    assert errors(check(changed(without, luo=None), select=("MAP011", "MAP018"))) == {"MAP018"}


@pytest.mark.parametrize("code", ["pointer-off", "pointer-encrypted"])
def test_a_pointer_that_the_reader_found_to_be_off_is_one_finding(code: str) -> None:
    state = unread(OTHER, "luo.flbs[4]", code)
    state = replace(state, problems=(*state.problems, replace(state.problems[0], code="missing")))
    (finding,) = check(state, ram=((0, OTHER),), select=("MAP018",)).findings
    assert finding.where == "luo.flbs[4]"


@pytest.mark.parametrize(("offset", "found"), [(0, True), (0x1000, False), (-0x1000, True), (-0x2000, False)])
def test_a_page_of_the_map_in_scratch(offset: int, found: bool) -> None:
    nodes = real.read(CHAIN).handovers[-1].preserved.nodes
    node = max(nodes) if offset >= 0 else min(nodes)
    area = Area(address=node + offset, size=0x2000)
    report = check(changed(CHAIN, scratch=(area,)), select=("MAP019",))
    assert [finding.address for finding in report.findings] == ([node] if found else [])


def test_pages_of_the_map_in_scratch_are_counted() -> None:
    nodes = real.read(CHAIN).handovers[-1].preserved.nodes
    areas = tuple(Area(address=node, size=0x1000) for node in nodes[1:4])
    (word,) = messages(check(changed(CHAIN, scratch=areas), select=("MAP019",)), "MAP019")
    assert word == f"3 pages of the map are in scratch, the first at {nodes[1]:#x}"


def test_memory_that_nothing_names() -> None:
    (before,) = check(real.read(A), select=("MAP020",)).findings
    assert before.message.startswith("4 KiB")
    (after,) = check(with_map(A, (1 << 36, 3, 2)), select=("MAP020",)).findings
    assert "68 KiB" in after.message and "64 KiB in order 3" in after.message


@pytest.mark.parametrize(("order", "place"), [(0, 0), (1, 0), (3, 0), (3, 0x7000)])
def test_the_block_of_a_driver_is_named_to_its_end(order: int, place: int) -> None:
    top = 1 << 36
    (before,) = check(real.read(A), select=("MAP020",)).findings
    made = a_list("pci-lu-v2-03", [Dev(domain=0, bdf=0x4000), Dev(domain=0, bdf=0x4100, data=top + place)])
    state = changed(with_map(A, (top, order, 1)), pci=(*real.read(A).handovers[0].pci, made))
    assert [finding.message for finding in check(state, select=("MAP020",)).findings] == [before.message]
    more = changed(with_map(A, (top, order, 2)), pci=state.handovers[0].pci)
    assert check(more, select=("MAP020",)).findings[0].message != before.message


def test_memory_without_an_owner_is_counted_and_not_listed() -> None:
    """Every other page of 256 GiB: 33 million blocks."""
    odd = [Bitmap(0, (1 << 40) + (number << 27), bytes(bytearray(b"\x55" * 4096))) for number in range(2048)]
    state = real.read(A)
    found = state.handovers[0].preserved.map
    assert found is not None
    whole = PreservedMap([*found.bitmaps, *odd], page_size=4096)
    more = changed(state, preserved=replace(state.handovers[0].preserved, map=whole))
    with steps(400_000):
        (finding,) = check(more, select=("MAP020",)).findings
    (before,) = check(state, select=("MAP020",)).findings
    assert finding.message != before.message
    assert "128 GiB in order 0" in finding.message


def test_memory_is_unnamed_where_no_structure_is() -> None:
    """Of a run of blocks the second has a region in its middle, and the last one is behind a region that goes on."""
    top, state = 1 << 36, real.read(A)
    memblock = state.handovers[0].memblock
    assert memblock is not None
    regions = tuple(
        Reservation(name=name, start=top + start, size=size)
        for name, start, size in (("a", 0xA000, 0x2000), ("b", 0x18000, 0x1000), ("c", 0x18800, 0x10000))
    )
    made = replace(memblock, reservations=(*memblock.reservations, *regions))
    (finding,) = check(changed(with_map(A, (top, 3, 4)), memblock=made), select=("MAP020",)).findings
    assert "88 KiB in order 3" in finding.message


def test_the_rest_of_the_last_page_of_a_region_is_named() -> None:
    made = {"memblock": {"reservations": [{"name": "a", "size": 5000}]}, "luo": {"sessions": [{"name": "a"}]}}
    report = check(built({"handovers": [made]})[0], select=("MAP020",))
    assert report.passed == ("MAP020",)


def test_memory_that_is_named_twice_is_named() -> None:
    """The pages of drivers, once by their contents and once by driver_data."""
    with_contents = check(luoser.read(real.dump(A), contents=True), select=("MAP020",)).findings
    assert with_contents == check(real.read(A), select=("MAP020",)).findings


def test_names_of_sessions_do_not_decide_which_of_two_is_named() -> None:
    """Two files with one descriptor: the later one is named, whatever the sessions are called."""
    found = []
    for names in (("a", "b", "c"), ("z", "b", "c")):
        files = [{"memfd": {"size": 4096}}]
        luo, _, image = built_luo({"sessions": [{"name": name, "files": files} for name in names]})
        first, _, last = (session.files[0] for session in luo.sessions)
        image.patch((last.address or 0) + 48, u64(first.data))
        found.append([one.where for one in report_of(image).findings if one.rule == "MAP014"])
    assert found[0] == found[1] != []


def test_the_header_of_a_device_list_is_memory_of_it_too() -> None:
    """256 records of 16 bytes fill a page, so with the header the list needs two."""
    devices = [{"bdf": f"0000:{number >> 5:02x}:{number & 31:02x}.0", "flags": 1} for number in range(256)]
    state, image = built({"handovers": [{"pci": [{"layout": "pci-lu-v2-03", "devices": devices}]}]})
    assert len(state.handovers[0].pci[0].devices) == 256
    assert "MAP020" not in rules_found(report_of(image))
