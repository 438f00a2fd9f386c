# SPDX-License-Identifier: MIT
"""Rules on file handlers: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import luoser
from luoser.checks import Report, Verdict, check
from luoser.memory.overlay import Overlay
from luoser.state import PreservedMap
from tests import real
from tests.checks.mutants import NAME, changed, luo_of, rules_found
from tests.images import Image, name, u64
from tests.posted import BLOB, Places, hypervisor, poisoned, posted, users


def test_an_unknown_handler_is_told_once_with_its_number_of_files() -> None:
    files = luo_of(real.read("7.3-a/frozen")).sessions[0].files
    memory = real.overlay("7.3-a/frozen")
    for file in files:
        memory.write(file.address or 0, b"guestos-v1".ljust(48, b"\0"))
    (finding,) = check(luoser.read(memory), select=["LUO017"]).findings
    assert "3 files" in finding.message


def test_an_unknown_handler_of_one_file_is_told_in_the_singular() -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.write(luo_of().sessions[0].files[1].address or 0, b"guestos-v1".ljust(48, b"\0"))
    (finding,) = check(luoser.read(memory), select=["LUO017"]).findings
    assert finding.message.endswith(", of one file") and finding.where == "luo.sessions[0].files[1]"


# -- the next kernel --


@pytest.mark.parametrize(
    ("name", "release", "handlers", "refused"),
    [
        ("7.3-a/frozen", "7.3.4", (), False),
        ("7.3-a/frozen", "7.1.1", (), False),
        ("7.3-a/frozen", "7.0.1", (), True),
        ("7.3-a/frozen", "6.18.1", (), True),
        ("7.3-a/frozen", "7.0.1", ("memfd-v2",), False),
        ("6.19-a/frozen", "6.19.1", (), False),
        ("6.19-a/frozen", "7.1.1", (), True),
    ],
)
def test_files_whose_handler_the_next_kernel_does_not_have(
    name: str, release: str, handlers: tuple[str, ...], refused: bool
) -> None:
    report = check(real.read(name), next_release=release, handlers=handlers, select=["LUO021"])
    assert [finding.where for finding in report.findings] == (["luo.sessions[0].files[0]"] if refused else [])
    assert not report.unjudged and not report.skipped


@pytest.mark.parametrize(
    ("files", "said"), [(1, "of one file"), (2, "of 2 files, this is the first"), (3, "of 3 files")]
)
def test_a_refused_handler_is_told_once_with_its_number_of_files(files: int, said: str) -> None:
    luo = luo_of()
    session = replace(luo.sessions[0], files=luo.sessions[0].files[:files])
    state = changed(NAME, luo=replace(luo, sessions=(session,)))
    (finding,) = check(state, next_release="7.0.1", select=["LUO021"]).findings
    assert said in finding.message
    assert finding.address == session.files[0].address


def test_handlers_of_a_release_to_come_are_not_known() -> None:
    report = check(real.read("7.3-a/frozen"), next_release="7.9", select=["LUO021", "LUO022"])
    assert [entry.cause for entry in report.unjudged] == ["unknown-form", "unknown-form"]
    named = check(real.read("7.3-a/frozen"), next_release="7.9", handlers=["memfd-v2"], select=["LUO021"])
    assert named.passed == ("LUO021",)


def test_flbs_and_sub_trees_that_nobody_claims() -> None:
    state = real.read("7.3-a/frozen")
    report = check(state, next_release="7.3.4", select=["LUO022"])
    assert [finding.where for finding in report.findings] == ["luo.flbs[3]", "luo.flbs[4]", "subtrees[0]"]
    named = check(state, next_release="7.3.4", flbs=["pci", "pci-v2", "pci-luo-lab"], select=["LUO022"])
    assert named.passed == ("LUO022",)


# -- generations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "handler", "is_wrong"),
    [
        ("kho-v1", "memfd-v1", False),
        ("kho-v1", "memfd-v2", True),
        ("kho-v3", "memfd-v1", True),
        ("kho-v3", "memfd-v2", False),
        ("kho-v4", "memfd-v1", True),
        ("kho-v4", "memfd-v2", False),
        ("kho-v4", "guestos-v1", False),  # LUO017 reports it
        ("kho-v9", "memfd-v1", False),  # which no kernel is known for
    ],
)
def test_memfds_of_another_generation_than_the_root(root: str, handler: str, is_wrong: bool) -> None:
    luo = luo_of()
    first, second = (replace(file, compatible=handler) for file in luo.sessions[0].files[:2])
    session = replace(luo.sessions[0], files=(first, second))
    state = changed(NAME, compatible=root, luo=replace(luo, sessions=(session,)))
    report = check(state, select=["LUO018"])
    assert [finding.where for finding in report.findings] == (
        [f"luo.sessions[0].files[{index}]" for index in (0, 1)] if is_wrong else []
    )


@pytest.mark.parametrize(
    ("handler", "cause"), [("memfd-v3", "unknown-form"), ("memfd-v4", None), ("memfd-w2", "unknown-form")]
)
def test_a_handler_that_is_one_bit_off_a_known_one_is_found_and_not_judged(handler: str, cause: str | None) -> None:
    luo = luo_of()
    files = tuple(replace(file, compatible=handler) for file in luo.sessions[0].files[:2])
    report = check(
        changed(NAME, luo=replace(luo, sessions=(replace(luo.sessions[0], files=files),))), select=["LUO017"]
    )
    assert [finding.where for finding in report.findings] == ["luo.sessions[0].files[0]"]
    named = check(
        changed(NAME, luo=replace(luo, sessions=(replace(luo.sessions[0], files=files),))),
        handlers=[handler],
        select=["LUO017"],
    )
    assert named.passed == ("LUO017",)
    assert [(entry.cause, entry.about) for entry in report.unjudged] == (
        [] if cause is None else [(cause, "luo.sessions[0].files[0]")]
    )


# -- areas of structs ---------------------------------------------------------------------------------------


def area_judged(change: Callable[[Overlay, Places], None]) -> Report:
    image, places = posted()
    memory = Overlay(image.open())
    change(memory, places)
    return check(luoser.read(memory), select=["LUO024", "MAP018"])


def test_an_area_that_is_there_is_sound() -> None:
    assert area_judged(lambda _, __: None).verdict is Verdict.SOUND


@pytest.mark.parametrize("part", ["chunk", "page"])
def test_an_area_that_is_not_in_the_source_is_not_judged(part: str) -> None:
    report = area_judged(lambda memory, places: memory.remove(getattr(places, part)))
    assert [(one.rule, one.about) for one in report.unjudged if one.rule == "LUO024"] == [
        ("LUO024", "subtrees[1].pfns")
    ]
    assert report.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("flags", "found"), [(1, set()), (3, set()), (0, {"LUO024"}), (5, {"LUO024"})])
def test_flags_of_an_area_that_no_kernel_writes(flags: int, found: set[str]) -> None:
    report = area_judged(lambda memory, places: memory.write(places.hwpoison + 28, struct.pack("<H", flags)))
    assert rules_found(report) == found


def test_an_area_of_zeros_is_broken() -> None:
    report = area_judged(lambda memory, places: memory.write(places.chunk, bytes(4096)))
    assert rules_found(report) == {"LUO024"}


def test_a_wild_address_of_an_area_is_an_error() -> None:
    wild = struct.pack("<Q", 0x123456789000)
    report = area_judged(lambda memory, places: memory.write(places.hwpoison + 16, wild))
    assert rules_found(report) == {"MAP018"}


@pytest.mark.parametrize("page", range(BLOB // 4096))
def test_each_page_of_an_unknown_sub_tree_counts(page: int) -> None:
    image, places = posted()
    memory = Overlay(image.open())
    memory.remove(places.blob + 4096 * page)
    assert check(luoser.read(memory)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("part", ["chunk", "page"])
def test_an_area_that_is_not_preserved_is_an_error(part: str) -> None:
    image, places = posted()
    (handover,) = (state := luoser.read(image.open())).handovers
    found = handover.preserved.map
    assert found is not None and found.find(getattr(places, part)) is not None
    left = PreservedMap.from_extents(
        [row for row in found.extents() if not row[0] <= getattr(places, part) < row[0] + row[2] * 4096 << row[1]],
        page_size=4096,
    )
    report = check(
        replace(state, handovers=(replace(handover, preserved=replace(handover.preserved, map=left)),)),
        select=["MAP009"],
    )
    assert rules_found(report) == {"MAP009"}
    assert all(finding.where == "subtrees[1].detail" for finding in report.findings)


def test_the_pages_of_an_array_have_an_owner() -> None:
    state = luoser.read(posted()[0].open())
    (handover,) = state.handovers
    lone = replace(handover, subtrees=tuple(replace(tree, detail=None) for tree in handover.subtrees))
    totals = [
        finding.message
        for one in (handover, lone)
        for finding in check(replace(state, handovers=(one,)), select=["MAP020"]).findings
    ]
    assert [text.split(" of preserved")[0] for text in totals] == ["20 KiB", "28 KiB"]


@pytest.mark.parametrize(
    "struct_bytes",
    [
        pytest.param(lambda first: struct.pack("<IIQ", 7, 0, 3) + first, id="version"),
        pytest.param(lambda first: struct.pack("<IIQ", 1, 99, 3) + first, id="padding"),
        pytest.param(lambda first: struct.pack("<IIQ", 1, 0, 5000) + first, id="more entries than the area holds"),
        pytest.param(lambda first: struct.pack("<IIQ", 1, 0, 3) + bytes(16), id="entries without an area"),
    ],
)
def test_a_struct_whose_values_contradict_each_other_is_not_judged(struct_bytes: Callable[[bytes], bytes]) -> None:
    def change(memory: Overlay, places: Places) -> None:
        memory.write(places.hwpoison, struct_bytes(memory.read(places.hwpoison + 16, 16)))

    report = area_judged(change)
    assert [(one.rule, one.cause, one.about) for one in report.unjudged] == [("LUO024", "unknown-form", "subtrees[1]")]
    assert report.verdict is Verdict.INCONCLUSIVE


def test_a_struct_that_is_not_in_the_source_is_not_judged() -> None:
    report = area_judged(lambda memory, places: memory.remove(places.hwpoison))
    assert {(one.rule, one.cause, one.about) for one in report.unjudged if one.rule == "LUO024"} == {
        ("LUO024", "missing", "subtrees[1]")
    }
    assert report.verdict is Verdict.INCONCLUSIVE


def guest(*, size: int = 6 << 20, count: int = 3, keep: bool = True) -> Image:
    """A guest_memfd of three folios. keep: preserve them."""
    image = Image()
    places = [image.alloc(order=1, keep=keep) for _ in range(3)]
    area = image.vmalloc(b"".join(struct.pack("<QQ", place >> 12, number * 2) for number, place in enumerate(places)))
    file = image.alloc(struct.pack("<QQQQ", size, 1, count, 5) + area)
    files = image.blocks([name("guest_memfd_luo_v1", 48) + struct.pack("<QQ", file, 1)])
    sessions = image.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    luo = image.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, image.alloc(struct.pack("<QQ", 1, 0))))
    image.handover({"LUO": (luo, 32)})
    return image


def test_folios_of_a_guest_memfd_have_to_be_preserved() -> None:
    assert check(luoser.read(guest().open()), select=["MAP010", "LUO024"]).verdict is Verdict.SOUND
    report = check(luoser.read(guest(keep=False).open()), select=["MAP010", "LUO024"])
    (finding,) = report.findings
    assert finding.rule == "MAP010" and "and 2 more of 3" in finding.message


@pytest.mark.parametrize("change", [{"count": 0}, {"count": 1 << 20}, {"size": 7}, {"size": 4096}])
def test_a_guest_memfd_whose_values_contradict_each_other_is_not_judged(change: dict[str, int]) -> None:
    report = check(luoser.read(guest(**change).open()), select=["LUO024"])
    assert [(one.rule, one.cause) for one in report.unjudged] == [("LUO024", "unknown-form")]


# -- sub-trees of posted users ------------------------------------------------------------------------------

POSTED_RULES = ("KHO025", "MAP021", "MAP022", "LUO024")


def users_judged(**changes: Any) -> Report:
    return check(luoser.read(users(**changes).open()), select=POSTED_RULES)


def test_what_posted_users_leave_is_sound() -> None:
    report = users_judged()
    assert (report.verdict, report.findings, report.passed) == (Verdict.SOUND, (), POSTED_RULES)


def test_rules_on_posted_users_do_not_apply_to_others() -> None:
    skipped = {entry.rule for entry in check(real.read("7.3-a/frozen"), select=POSTED_RULES).skipped}
    assert skipped == set(POSTED_RULES)


@pytest.mark.parametrize(
    ("mshv", "message"),
    [
        ({"root_table": b""}, "no root_table"),
        ({"root_table": bytes(4)}, "root_table: expected 8 bytes, found 4"),
        ({"partition_ids": bytes(12)}, "partition_ids: expected 8 bytes, found 12"),
        ({"nr_partition_ids": b""}, "nr_partition_ids: expected a u32 of at most 512, found None"),
        ({"nr_partition_ids": (513).to_bytes(4, "little")}, "expected a u32 of at most 512, found 513"),
    ],
)
def test_a_devicetree_that_its_owner_refuses(mshv: dict[str, bytes], message: str) -> None:
    report = users_judged(mshv=mshv)
    (finding,) = (one for one in report.findings if one.rule == "KHO025")
    assert finding.where == "subtrees[2]" and message in finding.message
    assert ("panics" in (finding.hint or "")) is message.startswith(("no root_table", "root_table"))


def test_most_partitions_that_a_page_holds_are_no_fault() -> None:
    assert users_judged(mshv={"nr_partition_ids": (512).to_bytes(4, "little")}).findings == ()
    assert users_judged(mshv={"partition_ids": b"", "nr_partition_ids": b""}).findings == ()


def test_another_version_of_a_devicetree_is_not_judged() -> None:
    report = users_judged(mshv={"compatible": b"mshv_kho-v2\0"})
    (one,) = report.unjudged
    assert (one.rule, one.cause, one.about) == ("KHO025", "unknown-form", "subtrees[2]")
    assert "expected mshv_kho-v1, found 'mshv_kho-v2'" in one.reason and report.findings == ()


def test_a_devicetree_that_cannot_be_read_is_not_judged() -> None:
    image = users()
    memory, (handover,) = Overlay(image.open()), image.read().handovers
    memory.write(handover.subtrees[2].address or 0, bytes(4))
    report = check(luoser.read(memory), select=POSTED_RULES)
    assert [(one.rule, one.about) for one in report.unjudged] == [("KHO025", "subtrees[2]")]


@pytest.mark.parametrize("name", ["root_table", "partition_ids"])
@pytest.mark.parametrize(
    ("address", "message"),
    [(0x1F0000, "at 0x1f0000 is not preserved"), (0x10001, "expected the address of a page"), (0, "found 0x0")],
)
def test_addresses_of_a_devicetree_have_to_be_preserved(name: str, address: int, message: str) -> None:
    report = users_judged(mshv={name: address.to_bytes(8, "little")})
    (finding,) = report.findings
    assert (finding.rule, finding.where) == ("MAP021", "subtrees[2]")
    assert f"mshv_prsv_pt: {name}" in finding.message and message in finding.message


@pytest.mark.parametrize(
    ("orders", "keep", "messages"),
    [
        (True, ("nodes", "pages"), []),
        (False, ("nodes", "pages"), []),
        (True, ("nodes",), ["page 0x10000 of the page tree of sub-tree mshv_prsv_pt is not preserved, and 2 more"]),
        (False, ("nodes",), ["page 0x10000 of the page tree of sub-tree mshv_prsv_pt is not preserved, and 1 more"]),
        (
            False,
            ("pages",),
            ["root_table at 0x12000 is not preserved", "node 0x13000 of the page tree of sub-tree mshv_prsv_pt is not"],
        ),
    ],
)
def test_pages_of_a_hypervisor_have_to_be_preserved(orders: bool, keep: tuple[str, ...], messages: list[str]) -> None:
    report = check(luoser.read(hypervisor(orders=orders, keep=keep).open()), select=["MAP021"])
    assert report.verdict is (Verdict.FINDINGS if messages else Verdict.SOUND) and not report.unjudged
    assert all(word in one.message for word, one in zip(messages, report.findings, strict=True))


def test_a_page_of_a_hypervisor_is_a_block_of_its_own() -> None:
    image = hypervisor(orders=False, keep=("nodes",), blocks=[(0x10000, 1)])
    (finding,) = check(image.read(), select=["MAP021"]).findings
    assert "page 0x10000" in finding.message and "preserved only in a block of order 1, and 1 more" in finding.message


@pytest.mark.parametrize("level", range(1, 6))
def test_a_page_tree_that_cannot_be_read_to_its_end_is_not_judged(level: int) -> None:
    image = hypervisor(orders=False)
    tree = image.read().handovers[0].subtrees[0].page_tree
    assert tree is not None
    nodes = tree.nodes
    absent, broken = Overlay(image.open()), Overlay(image.open())
    absent.remove(nodes[level])
    broken.write(nodes[level - 1], b"luoser!!" * 512)
    for memory, cause in ((absent, "missing"), (broken, "damaged")):
        report = check(luoser.read(memory), select=POSTED_RULES)
        assert [(one.cause, one.about) for one in report.unjudged] == [(cause, "subtrees[0].page_tree")]
        assert report.verdict is Verdict.INCONCLUSIVE and not report.findings


def test_keys_of_no_known_form_are_not_judged() -> None:
    report = check(luoser.read(hypervisor(orders=True, more=[1 << 40]).open()), select=["MAP021"])
    assert [(one.rule, one.cause) for one in report.unjudged] == [("MAP021", "unread")]


def test_pages_of_a_hypervisor_have_an_owner() -> None:
    assert "MAP020" not in rules_found(check(luoser.read(hypervisor(orders=True).open())))


def test_a_page_of_a_hypervisor_that_is_another_structure_is_claimed_twice() -> None:
    image = hypervisor(orders=False)
    root = image.read().handovers[0].subtrees[0].page_tree
    assert root is not None
    image = hypervisor(orders=False, more=[root.address >> 12])
    assert "MAP014" in rules_found(check(luoser.read(image.open())))


def test_a_cached_device_has_to_be_preserved() -> None:
    assert [finding.where for finding in users_judged(cached=0x1F0000).findings] == ["subtrees[3]"]


@pytest.mark.parametrize(
    ("count", "pfns", "found"),
    [
        (2, (0x40000, 0x40001, 0x10), 0),  # the third has left the list
        (3, (0x40000, 0x40001, 0x10), 1),
        (2, (0x10, 0x11), 2),
        (1, ((1 << 64) - 1,), 0),
        (0, (0x10,), 0),
    ],
)
def test_pages_with_errors_that_are_preserved(count: int, pfns: tuple[int, ...], found: int) -> None:
    report = users_judged(count=count, pfns=pfns)
    assert [finding.rule for finding in report.findings] == ["MAP022"] * bool(found)
    assert report.verdict is Verdict.SOUND and not report.unjudged
    if found > 1:
        assert "and 1 more of 2" in report.findings[0].message


@pytest.mark.parametrize(("size", "is_wrong"), [(32, False), (31, True), (4096, False)])
def test_a_blob_of_fewer_bytes_than_its_struct_is_ignored(size: int, is_wrong: bool) -> None:
    report = users_judged(blob_size=size)
    assert [finding.where for finding in report.findings] == ["subtrees[1]"] * is_wrong


def test_a_list_that_was_not_read_whole_is_not_judged() -> None:
    image = users()
    memory, (handover,) = Overlay(image.open()), image.read().handovers
    detail = handover.subtrees[1].detail
    assert detail is not None
    memory.remove(detail.arrays[0].pages[0])
    report = check(luoser.read(memory), select=["MAP022"])
    assert [one.about for one in report.unjudged] == ["subtrees[1]"]


def test_the_earlier_list_of_pages_with_errors_is_judged() -> None:
    state = luoser.read(poisoned(0x1000, 0x1001).open())
    detail = state.handovers[0].subtrees[0].detail
    assert detail is not None and detail.arrays[0].words == (0x1000, 0x1001)
    report = check(state, select=(*POSTED_RULES, "KHO019"))
    assert (report.findings, report.unjudged) == ((), ())
    assert {"KHO019", "KHO025", "MAP022", "LUO024"} <= set(report.passed)
    shorter = check(luoser.read(poisoned(0x1000, size=4095).open()), select=["KHO019"])
    assert [one.rule for one in shorter.findings] == ["KHO019"]
    (found,) = check(luoser.read(poisoned(0x1000, 0x10).open()), select=POSTED_RULES).findings
    assert found.rule == "MAP022" and "at 0x10000 is preserved" in found.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": b""}, "no count"),
        ({"count": bytes(4)}, "count: expected 8 bytes, found 4"),
        ({"pfns": b"\1" * 15}, "pfns: expected 16 bytes, found 15"),
    ],
)
def test_an_earlier_list_that_the_next_kernel_ignores(changes: dict[str, bytes], message: str) -> None:
    report = check(luoser.read(poisoned(0x1000, **changes).open()), select=POSTED_RULES)
    (found,) = report.findings
    assert found.rule == "KHO025" and message in found.message and "ignores the list" in (found.hint or "")


def test_an_earlier_list_with_another_compatible_or_a_broken_area_is_not_sound() -> None:
    other = check(luoser.read(poisoned(0x1000, compatible=b"hwpoison-v2\0").open()), select=POSTED_RULES)
    assert ("KHO025", "unknown-form") in {(one.rule, one.cause) for one in other.unjudged}
    wild = struct.pack("<QIHH", 0x1001, 1, 1, 0)
    assert "LUO024" in {one.rule for one in check(luoser.read(poisoned(0x1000, pfns=wild).open())).findings}
    more = check(luoser.read(poisoned(0x1000, count=u64(1 << 20)).open()), select=POSTED_RULES)
    assert {one.rule for one in (*more.unjudged, *more.findings)} & {"MAP022", "LUO024"}


def test_a_struct_that_fits_no_layout_is_not_expected_to_be_a_devicetree() -> None:
    report = users_judged(pstore=struct.pack("<I44x", 2))
    assert [(one.rule, one.cause) for one in report.unjudged] == [("LUO024", "unknown-form")]


@pytest.mark.parametrize("count", [513, 1 << 63])
def test_a_count_beyond_the_array_is_damage_that_no_other_dump_decides(count: int) -> None:
    report = check(poisoned(0x40000, count=u64(count)).read(), select=["MAP022"])
    assert [(one.cause, "but the array has 512 entries" in one.reason) for one in report.unjudged] == [
        ("damaged", True)
    ]


def test_pages_of_a_hypervisor_are_never_listed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image = hypervisor(orders=False, more=range(1 << 22, (1 << 22) + 64, 2))
    state = image.read()
    (handover,) = state.handovers
    tree, found = handover.subtrees[0].page_tree, handover.preserved.map
    assert tree is not None and tree.map is not None and found is not None
    both = PreservedMap([*found.bitmaps, *tree.map.bitmaps[1:]], page_size=4096)
    preserved = replace(handover.preserved, map=both)
    state = replace(state, handovers=(replace(handover, preserved=preserved),))
    monkeypatch.setattr(
        tree.map, "extents", lambda **_: pytest.fail("as many runs as a source with few pages can have")
    )
    assert check(state).findings == ()
