# SPDX-License-Identifier: MIT
"""The search of whole sources: what comes back of real dumps, and that nothing else does."""

from __future__ import annotations

import random
import struct
import tempfile
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import luoser
from luoser.abi import pci
from luoser.abi.luo import FORMS, LuoForm
from luoser.errors import UsageError
from luoser.limits import LIMIT_CODES, Limits
from luoser.memory.overlay import Overlay
from luoser.reader.salvage import memfd_at
from luoser.render.tree import state_tree
from luoser.state import Confidence, to_document
from tests import real, salvage
from tests.images import Image, u64
from tests.images import name as named
from tests.reader.salvage.made import by_kind, high, luo, memfd, salvaged, session
from tests.schemas import errors

PAGE = 4096


FROZEN = [case for case in salvage.CASES if "frozen" in salvage.moments(case)]
AFTER = [
    (case, moment)
    for case in salvage.CASES
    for moment in salvage.moments(case)
    if moment in ("post", "finished", "frozen2")
]


@pytest.mark.parametrize("how", salvage.DAMAGES)
@pytest.mark.parametrize("case", FROZEN)
def test_without_its_roots_all_of_a_handover_comes_back(case: str, how: str) -> None:
    scores, wrong = salvage.score(case, salvage.damaged(case, "frozen", how), kallsyms=False)
    assert wrong == []
    assert all(not one.missed for one in scores.values())
    assert all(scores[kind].proven == 0 for kind in ("sessions", "files", "memfd", "flbs"))
    assert scores["files"].lower == scores["memfd"].lower == 0  # something points to them; a first block may be a copy
    assert sum(one.high + one.lower for one in scores.values()) > 0


@pytest.mark.parametrize("case", ["7.3-a", "7.3-chain"])
def test_with_an_intact_map_all_that_luos_page_led_to_is_sure(case: str) -> None:
    memory = Overlay(salvage.dump(case, "frozen"))
    for handover in luoser.read(memory).handovers:
        if handover.luo is not None and handover.luo.serialized:
            memory.write(handover.luo.address, b"\xa5" * PAGE)
    scores, wrong = salvage.score(case, memory, kallsyms=False)
    assert wrong == []
    assert all(scores[kind].high > 0 == scores[kind].lower for kind in ("sessions", "files", "memfd", "flbs"))


@pytest.mark.parametrize(("case", "moment"), AFTER)
def test_without_the_roots_after_a_kexec_nothing_sure_is_wrong_and_nothing_whole_is_missed(
    case: str, moment: str
) -> None:
    scores, wrong = salvage.score(case, salvage.damaged(case, moment, "zeros"), kallsyms=False)
    assert [one for one in wrong if one.confidence is Confidence.HIGH] == []
    assert {kind: one.missed for kind, one in scores.items() if one.missed} == {}


@pytest.mark.parametrize(("case", "moment"), AFTER)
def test_after_a_kexec_nothing_sure_is_wrong_and_nothing_whole_is_missed(case: str, moment: str) -> None:
    scores, wrong = salvage.score(case, salvage.dump(case, moment), kallsyms=False)
    assert [one for one in wrong if one.confidence is Confidence.HIGH] == []
    assert {kind: one.missed for kind, one in scores.items() if one.missed} == {}


def test_sessions_come_back_after_the_kernel_has_freed_the_page_of_its_luo() -> None:
    state = luoser.read(salvage.dump("7.3-whole", "post"), salvage=True)
    incoming = next(one for one in state.handovers if one.direction.value == "incoming")
    assert incoming.luo is None
    (sessions,) = by_kind(state.salvaged or (), "sessions")
    assert sessions.confidence is Confidence.MEDIUM
    assert "nothing points to it, and no intact map has it: it can be a copy of what is gone" in sessions.evidence
    assert [entry["name"] for entry in sessions.entries] == [
        "shapes", "many files", 'weird \x1b[31m/../"', "many-000", "many-001",
    ]  # fmt: skip
    assert Counter(one.kind for one in state.salvaged or ()) == {
        "sessions": 1, "files": 3, "memfd": 28, "flbs": 1, "devices": 1,
    }  # fmt: skip


def test_what_pointers_lead_to_is_not_shown_again() -> None:
    for name in ("7.3-a/frozen", "7.3-chain/frozen2", "6.19-a/frozen", "6.18-a/frozen"):
        assert luoser.read(real.dump(name), salvage=True).salvaged == ()


def test_a_search_changes_neither_handovers_nor_problems_nor_the_verdict() -> None:
    memory = salvage.dump("7.3-whole", "post")
    plain, searched = luoser.read(memory), luoser.read(memory, salvage=True)
    assert plain.salvaged is None
    assert searched.salvaged
    assert replace(searched, salvaged=None) == plain
    assert luoser.check(searched) == luoser.check(plain)


def test_a_limit_that_is_met_is_named_and_leaves_the_verdict_as_it_is() -> None:
    image = Image()
    image.handover({}, compatible="kho-v4")
    luo(image, files=8)
    memory = image.open()
    verdict = luoser.check(luoser.read(memory)).verdict
    for name, value in (
        ("salvage_bytes", PAGE),
        ("salvage_candidates", 1),
        ("salvage_found", 1),
        ("salvage_lists", 0),
    ):
        if name == "salvage_lists":
            image.alloc(struct.pack("<QQ", 2, 2) + struct.pack("<HHHH", 0, 8, 0, 9))
            memory = image.open()
        state = luoser.read(memory, salvage=True, limits=Limits(**{name: value}))
        said = [one for one in state.problems if one.code == "salvage-limit"]
        assert [f"--limit {name}=N" in one.message for one in said] == [True], name
        assert luoser.check(state).verdict is verdict
    assert "salvage-limit" not in LIMIT_CODES


def test_bytes_that_are_judged_are_bounded_and_the_limit_is_named() -> None:
    image = Image(pages=256, first=0)
    for number in range(255):  # each page is the first one of 16
        image.alloc(u64(1) + session(f"vm-{number}"))
    state = luoser.read(image.open(), salvage=True, limits=Limits(salvage_judged=0))
    assert [one.message.partition(";")[0] for one in state.problems if one.code == "salvage-limit"] == [
        "too much looks like something: not all was judged"
    ]
    assert "--limit salvage_judged=N" in state.problems[-1].message


@pytest.mark.parametrize("name", ["zeros", "ones", "text", "counts", "pointers", "bytes"])
def test_pages_of_one_kind_give_nothing_sure(name: str) -> None:
    rng = random.Random(name)
    page = {
        "zeros": lambda: bytes(PAGE),
        "ones": lambda: b"\xff" * PAGE,
        "text": lambda: (b"memfd-v2 vm-web-01 luo-v5 pci " * 200)[:PAGE],
        "counts": lambda: struct.pack("<512Q", *(rng.randrange(4) for _ in range(512))),
        "pointers": lambda: struct.pack("<512Q", *(rng.randrange(256) * PAGE for _ in range(512))),
        "bytes": lambda: rng.randbytes(PAGE),
    }[name]
    memory = Overlay(Image(pages=256).open())
    for number in range(256):
        memory.write(number * PAGE, page())
    assert high(salvaged(memory)) == set()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 63), st.integers(0, 4000), st.binary(min_size=1, max_size=90)), max_size=30))
def test_bytes_at_random_give_nothing_sure(pieces: list[tuple[int, int, bytes]]) -> None:
    memory = Overlay(Image(pages=64).open())
    for page, offset, data in pieces:
        memory.write(page * PAGE + offset, data[: PAGE - offset])
    assert high(salvaged(memory)) == set()


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_handover_gives_nothing_sure_that_is_not_in_it(data: st.DataObject) -> None:
    """Each byte may be another one; what is sure is still at the address of the same thing."""
    memory, known = salvage.damaged("7.3-chain", "frozen", "zeros"), salvage.truth("7.3-chain")
    pages = sorted({address for _, address in known})
    for _ in range(data.draw(st.integers(1, 12))):
        place = data.draw(st.sampled_from(pages)) + data.draw(st.integers(0, 200))
        memory.write(place, data.draw(st.binary(min_size=1, max_size=8)))
    state = luoser.read(memory, salvage=True)
    sure = {(one.kind, one.address) for one in state.salvaged or () if one.confidence is Confidence.HIGH}
    assert sure <= set(known)
    assert errors(to_document(state), "state") == []
    assert state_tree(state, folded=False).size > len(sure)


def test_pages_of_a_kernel_give_nothing_sure() -> None:
    """Those that a whole dump has, and that look like something: they were judged when the cut was made."""
    memory = salvage.dump("7.2-whole", "finished")
    handed = {page & -PAGE for _, page in salvage.truth("7.2-whole")}
    others = Overlay(memory)
    for page in handed:
        others.remove(page)
    assert high(salvaged(others, kallsyms=False)) <= {address for _, address in salvage.truth("7.2-whole")}


def test_memory_of_a_guest_is_not_that_of_the_host() -> None:
    """The pages of a whole handover at other addresses: its pointers lead to what is not there."""
    frozen, host = real.dump("7.3-a/frozen"), Overlay(Image(pages=16).open())
    for segment in frozen.segments:
        host.write(segment.start + (1 << 36), frozen.read(segment.start, segment.stored))
    found = salvaged(host)
    assert {one.kind for one in found if one.confidence is Confidence.HIGH} == set()
    assert by_kind(found, "sessions")


def test_pages_of_64_kib_are_found_out_by_their_addresses() -> None:
    image = Image(page_size=65536, pages=64)
    head, blocks, memfds = luo(image)
    state = luoser.read(image.open(), salvage=True)
    assert high(state.salvaged or ()) == {*blocks, *memfds}
    assert {one.address for one in state.salvaged or ()} == {head, *blocks, *memfds}
    assert [one.code for one in state.problems] == ["salvage-limit"]
    assert luoser.read(image.open(), salvage=True, page_size=65536).problems == ()


def test_a_memfd_is_read_by_its_address_alone() -> None:
    memory = salvage.dump("7.3-whole", "post")
    found = next(one for one in luoser.read(memory, salvage=True).salvaged or () if one.kind == "memfd" and one.size)
    file, _ = memfd_at(memory, found.address, PAGE)
    assert file.size == found.fields["size"]
    assert len(file.folios.list) == found.fields["nr_folios"]
    with pytest.raises(UsageError, match="no memfd descriptor at 0x1234000: expected a memfd_luo_ser"):
        memfd_at(memory, 0x1234000, PAGE)


def test_a_memfd_whose_array_is_gone_is_refused() -> None:
    image = Image()
    address = memfd(image)
    image.put(address + 32, u64(1 << 40))
    with pytest.raises(UsageError, match="its array of folios is not whole in this source"):
        memfd_at(image.open(), address, PAGE)


def test_blobs_of_debugfs_have_nothing_to_search() -> None:
    memory = Image().open()
    memory.placeless = frozenset({0x1000})
    with pytest.raises(UsageError, match="blobs of debugfs have no addresses"):
        luoser.read(memory, salvage=True)


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("form", [form for form in FORMS if form.sessions != "none"], ids=lambda form: form.name)
def test_sessions_of_every_form_and_page_size_come_back_without_the_roots(form: LuoForm, page_size: int) -> None:
    handler = "memfd" if form.name == "luo-features" else "memfd-v2" if form.root else "memfd-v1"
    files = [{"compatible": handler, "token": hex(one), "memfd": {"size": hex(3 * page_size)}} for one in range(3)]
    sessions = [{"name": name, "files": files} for name in ("vm-1", "vm-2")]
    kho, luo = "kho-v4" if form.root else "kho-v1", {"layout": form.name, "sessions": sessions}
    built = luoser.build({"source": {"page_size": page_size}, "handovers": [{"compatible": kho, "luo": luo}]})
    with tempfile.NamedTemporaryFile(suffix=".elf") as file:
        file.write(built.data)
        file.flush()
        with luoser.open(file.name) as memory:
            (handover,) = luoser.read(memory).handovers
            assert handover.luo is not None and handover.address is not None
            others = Overlay(memory)
            for address in (handover.address, handover.luo.address):
                others.write(address, bytes(PAGE))
            found = salvaged(others)
    handed = {*handover.luo.session_blocks, *(block for one in handover.luo.sessions for block in one.blocks)}
    handed |= {file.memfd.address for one in handover.luo.sessions for file in one.files if file.memfd is not None}
    assert high(found) == handed - {*handover.luo.session_blocks}
    assert handed == {one.address for one in found}
    assert len(handed) == 9


@pytest.mark.parametrize("layout", pci.LAYOUTS, ids=lambda layout: layout.name)
def test_device_lists_of_every_layout_come_back(layout: pci.PciLayout) -> None:
    image, members = Image(), {"bdf": "", **({layout.asked: 1} if layout.asked is not None else {})}
    if "driver_name" in layout.record.record_fields:
        members["driver_name"] = "vfio-pci"
    if layout.has_refcounts:
        members["refcount"] = 1
    count = 5 if 6 * layout.record.size < PAGE else 2
    if layout.blocks is None:
        devices = [members | {"bdf": f"0000:0{bus}:00.0"} for bus in range(1, count + 1)]
        address = image.alloc(luoser.build({"layout": layout.name, "devices": devices}).data)
    else:
        records = [struct.pack("<IHH", 0, bus << 8, layout.has_refcounts) for bus in range(1, count + 1)]
        head = struct.pack("<II", layout.version, count) if layout.version is not None else struct.pack("<I", count)
        address = image.alloc(head + u64(image.blocks(records)))
    (alone,) = by_kind(salvaged(image), "devices")
    assert (alone.address, len(alone.entries)) == (address, count)
    assert alone.confidence is not Confidence.HIGH
    if layout.flb_names:
        test = named("liveupdate-test-flb-v0", 48) + u64(0xFEEDF00DCAFEBEE0) + u64(1)
        entry = named(next(iter(layout.flb_names)), 48) + u64(address) + u64(1)
        flbs = image.alloc(struct.pack("<QQ", 1, 2) + test + entry)
        found = salvaged(image)
        assert address in high(found)
        assert flbs in {one.address for one in by_kind(found, "flbs")}
