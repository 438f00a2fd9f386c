# SPDX-License-Identifier: MIT
"""Rules on device lists: every form, the edges, and what is healthy though it looks odd."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.state import Contents, Direction, File, Flb, Problem, Record, State
from tests import real
from tests.checks.device_lists import a_list, found, fresh, with_lists
from tests.checks.mutants import changed, mutant, report_of, rules_found
from tests.flips import flipped
from tests.golden import FORMS, Dev, devices_of
from tests.writer.helpers import built

ENDPOINT = Dev(domain=0, bdf=0x4100, driver=b"nvme")
BRIDGE = Dev(domain=0, bdf=0x4000, flags=2, requested=0, driver=b"pcieport")


def skipped(report: Any) -> dict[str, str]:
    """Rule to its reasons, one of each handover."""
    reasons: dict[str, str] = {}
    for entry in (*report.skipped, *report.unjudged):
        reasons[entry.rule] = "; ".join(filter(None, (reasons.get(entry.rule), entry.reason)))
    return reasons


@pytest.mark.parametrize("form", FORMS)
def test_a_golden_list_of_every_form_is_in_order(form: str) -> None:
    devices = [replace(dev, data=0) for dev in devices_of(FORMS[form])]
    report = check(with_lists(a_list(form, devices)), select=["PCI"])
    assert report.findings == ()


@pytest.mark.parametrize("name", real.DUMPS)
def test_real_lists_have_nothing_to_warn_of(name: str) -> None:
    assert check(fresh(name), select=["PCI"]).findings == ()


@pytest.mark.parametrize("name", ["7.3-a/post", "6.18-a/post", "7.3-a/finished"])
def test_records_are_judged_under_a_stale_map(name: str) -> None:
    report = check(fresh(name), select=["PCI"])
    assert {"PCI002", "PCI003"} <= {*report.passed}
    assert "consumed" in skipped(report)["PCI006"]
    assert "consumed the preserved map" in skipped(report)["PCI011"]


def test_no_list_is_no_proof() -> None:
    assert skipped(check(fresh("6.19-a/frozen"), select=["PCI002"])) == {"PCI002": "no preserved device list"}


def test_an_flb_of_a_version_to_come_is_no_error() -> None:
    state = fresh("7.3-a/frozen")
    handover = state.handovers[0]
    assert handover.luo is not None and handover.address is not None
    for name, expected in (("pci-to-come", 0), ("pci-v2", 1)):
        flb = Flb(name=name, data=0x1234000, count=1, address=0x1A12010)
        unread = Problem(
            code="pci-unknown-layout", address=flb.data, message="no", root=handover.address, about="luo.flbs[0]"
        )
        changed = replace(
            state,
            handovers=(replace(handover, luo=replace(handover.luo, flbs=(flb,))),),
            problems=(unread,),
        )
        assert len(found(changed, "PCI001")) == expected


def test_a_list_that_is_not_in_the_source_is_skipped() -> None:
    state = fresh("7.3-a/frozen")
    gone = replace(state, handovers=(replace(state.handovers[0], pci=state.handovers[0].pci[:1]),))
    assert "cannot be read" in skipped(check(gone, select=["PCI001"]))["PCI001"]


def test_an_flb_without_data_is_no_list_that_is_missing() -> None:
    """An FLB that its owner has not filled names address 0."""
    state = fresh("7.3-a/frozen")
    luo = state.handovers[0].luo
    assert luo is not None
    empty = replace(luo.flbs[-1], data=0)
    empty_one = changed(state, luo=replace(luo, flbs=(*luo.flbs[:-1], empty)))
    first, last = state.handovers[0].pci
    for lists in ((first, last), (first, replace(last, address=0))):
        assert check(changed(empty_one, pci=lists), select=["PCI001"]).passed == ("PCI001",)


@pytest.mark.parametrize("form", FORMS)
def test_a_device_twice(form: str) -> None:
    (finding,) = found(with_lists(a_list(form, [ENDPOINT, ENDPOINT])), "PCI002")
    assert (finding.device, finding.where) == ("0000:41:00.0", "pci[0].devices[1]")


def test_holes_are_no_duplicates() -> None:
    holes = [replace(ENDPOINT, refcount=0), ENDPOINT]
    assert found(with_lists(a_list("pci-v2-u32", holes)), "PCI002") == []


def test_many_findings_are_cut_short() -> None:
    findings = found(with_lists(a_list("pci-lu-v2-03", [ENDPOINT] * 100)), "PCI002")
    assert len(findings) == 17
    assert "further ones omitted" in findings[-1].message


def test_a_long_list_is_judged_to_its_end() -> None:
    devices = [Dev(domain=0, bdf=0xFFFF - index) for index in range(2000)]
    devices[1999] = replace(devices[1999], flags=8)
    (finding,) = found(with_lists(a_list("pci-lu-v2-03", devices)), "PCI003")
    assert (finding.where, finding.address) == ("pci[0].devices[1999]", 0x1358000 + 8 + 16 * 1999)


@pytest.mark.parametrize(("flags", "count"), [(0, 1), (1, 0), (2, 0), (3, 0), (4, 1), (0x80000001, 1)])
def test_flags(flags: int, count: int) -> None:
    assert len(found(with_lists(a_list("pci-lu-v2-06", [replace(ENDPOINT, flags=flags)])), "PCI003")) == count


def test_requested_is_a_truth_value() -> None:
    (finding,) = found(with_lists(a_list("pci-lu-v1-07", [replace(ENDPOINT, requested=2)])), "PCI003")
    assert "requested is 2" in finding.message


def test_bridges_alone() -> None:
    assert len(found(with_lists(a_list("pci-lu-v2-03", [BRIDGE])), "PCI004")) == 1
    assert found(with_lists(a_list("pci-lu-v2-03", [])), "PCI004") == []


@pytest.mark.parametrize("offset", [4, 8 + 16 * 8])
def test_padding_and_what_is_behind_the_list(offset: int) -> None:
    memory = real.overlay("6.18-a/frozen")
    memory.write(0x1358000 + offset, b"\1")
    (finding,) = found(luoser.read(memory), "PCI006")
    assert finding.where == "pci[0]"


def test_bytes_behind_a_name() -> None:
    (finding,) = found(with_lists(a_list("pci-lu-v2-06", [replace(ENDPOINT, driver=b"nvme\0x")])), "PCI006")
    assert finding.device == "0000:41:00.0"


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ((0x4100, 0x4000), 0),
        ((0x4108, 0x4101, 0x4100, 0x4000), 0),
        ((0x4100, 0x4108, 0x4000), 1),  # the lower device of a bus first
        ((0x4100, 0x0500, 0x4101, 0x4000), 1),  # a bus in two pieces
    ],
)
def test_order(places: tuple[int, ...], count: int) -> None:
    devices = [Dev(domain=0, bdf=place, flags=2 if place == 0x4000 else 1) for place in places]
    assert len(found(with_lists(a_list("pci-lu-v2-03", devices)), "PCI007")) == count


def test_a_bridge_first() -> None:
    findings = found(with_lists(a_list("pci-lu-v2-03", [BRIDGE, ENDPOINT])), "PCI007")
    assert [finding.device for finding in findings] == ["0000:40:00.0"]


@pytest.mark.parametrize(
    ("before", "bridge", "count"),
    [
        ((), 0x4000, 1),
        ((0x4001,), 0x4000, 1),  # of its own bus only
        ((0x4002, 0x4001), 0x4000, 1),
        ((0x4003, 0x4002, 0x4001), 0x4000, 1),
        ((0x4100,), 0x4000, 0),
        ((0x4100, 0x4001), 0x4000, 0),
        ((0x4200, 0x4100, 0x4001), 0x4000, 0),
        ((0x4200, 0x4100), 0x0008, 0),
        ((0x4200, 0x4100), 0x0108, 0),
        ((0x0010,), 0x0008, 1),
    ],
)
def test_before_a_bridge_is_a_device_of_another_bus_that_asked(
    before: tuple[int, ...], bridge: int, count: int
) -> None:
    devices = [*(Dev(domain=0, bdf=place) for place in before), Dev(domain=0, bdf=bridge, flags=2)]
    assert len(found(with_lists(a_list("pci-lu-v2-03", devices)), "PCI007")) == count
    silent = [Dev(domain=0, bdf=place, flags=0) for place in before]
    assert len(found(with_lists(a_list("pci-lu-v2-03", [*silent, devices[-1]])), "PCI007")) == 1


def test_devices_of_the_first_bus_in_order() -> None:
    devices = [Dev(domain=0, bdf=place) for place in (0x0010, 0x0008, 0x0000)]
    assert found(with_lists(a_list("pci-lu-v2-03", devices)), "PCI007") == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (b"", "is empty"),
        (b"x" * 63, "no NUL"),
        (b"x" * 62, None),
        (b"e1000e", None),
        (b"a\x1b[2J", "is a\\x1b[2J"),
        (b"\xff", "is \\xff"),
    ],
)
def test_driver_names(name: bytes, says: str | None) -> None:
    findings = found(with_lists(a_list("pci-lu-v2-06", [replace(ENDPOINT, driver=name)])), "PCI008")
    assert [says in finding.message for finding in findings if says] == ([] if says is None else [True])


@pytest.mark.parametrize(("data", "count"), [(b"\x00\x41", 0), (b"\x01\x41", 1), (b"", 1)])
def test_the_stub_page_names_its_device(data: bytes, count: int) -> None:
    entry = a_list("pci-lu-v2-06", [replace(ENDPOINT, driver=b"pci-lu-stub", data=0x1A96000)])
    page = Contents(address=0x1A96000, size=4096, data=data)
    assert len(found(with_lists(replace(entry, contents=(page,))), "PCI010")) == count


def test_the_stub_page_is_told_with_what_it_should_have() -> None:
    device = Dev(domain=1, bdf=0x4100, driver=b"pci-lu-stub", data=0x1A96000)
    page = Contents(address=0x1A96000, size=4096, data=b"\x08\x42\xff")
    (finding,) = found(with_lists(replace(a_list("pci-lu-v2-06", [device]), contents=(page,))), "PCI010")
    assert finding.message.endswith("its page 0x1a96000 has 0x4208, expected bus << 8 | devfn, 0x4100")


@pytest.mark.parametrize("driver", [b"e1000e", b"pci-lu-stub-pf", b"vfio-pci"])
def test_pages_of_other_drivers_are_their_own(driver: bytes) -> None:
    entry = a_list("pci-lu-v2-06", [replace(ENDPOINT, driver=driver, data=0x1A96000)])
    page = Contents(address=0x1A96000, size=4096, data=b"\1")
    assert found(with_lists(replace(entry, contents=(page,))), "PCI010") == []


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (0, 0),
        (0x1A96000, 0),
        (0x40000000, 1),
        (0x1A96008, 0),
        (0x1000, 0),
        (0xFF000, 0),  # below 1 MiB: a number
        (0x100000, 1),
        ((1 << 52) - 4096, 1),
        (1 << 52, 0),  # beyond any physical address
        ((1 << 64) - 4096, 0),
    ],
)
def test_only_page_addresses_have_to_be_preserved(data: int, count: int) -> None:
    assert len(found(with_lists(a_list("pci-lu-v2-03", [replace(ENDPOINT, data=data)])), "PCI011")) == count


def test_numbers_may_be_shared() -> None:
    for data, count in ((0, 0), (7, 0), (0x1A96000, 1)):
        devices = [replace(dev, data=data) for dev in (ENDPOINT, BRIDGE)]
        assert len(found(with_lists(a_list("pci-lu-v2-03", devices)), "PCI012")) == count


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("PCI002", "entry 2 is for the same device as entry 1"),
        ("PCI012", "driver_data 0x1a96000 is already used by entry 1"),
    ],
)
def test_the_second_of_two_is_told_with_the_first(rule: str, word: str) -> None:
    twice = replace(ENDPOINT, data=0x1A96000)
    (finding,) = found(with_lists(a_list("pci-lu-v2-03", [BRIDGE, twice, twice])), rule)
    assert finding.message.endswith(word) and finding.where == "pci[0].devices[2]"


@pytest.mark.parametrize(
    ("domain", "place", "name"),
    [(0, 0x4100, "0000:41:00.0"), (0, 0xFF09, "0000:ff:01.1"), (0x12, 0x8000, "0012:80:00.0"), (1, 0, "0001:00:00.0")],
)
def test_a_device_is_named_by_its_domain_and_place(domain: int, place: int, name: str) -> None:
    device = Dev(domain=domain, bdf=place)
    for form in ("pci-lu-v2-03", "pci-version-2"):
        (finding,) = found(with_lists(a_list(form, [device, device])), "PCI002")
        assert finding.device == name and finding.message.startswith(f"{name} in the device list {form}")


def test_a_record_in_a_second_block_is_told_at_its_address() -> None:
    """A block of 4 KiB has room for 510 records of 8 bytes."""
    devices = [Dev(domain=0, bdf=0x4100 + index) for index in range(512)]
    devices[511] = devices[3]
    entry = a_list("pci-version-2", devices)
    two = replace(entry, blocks=(*entry.blocks, 0x1F1D2B000))
    (finding,) = found(with_lists(two), "PCI002")
    assert (finding.where, finding.address) == ("pci[0].devices[511]", 0x1F1D2B000 + 16 + 8)
    (finding,) = found(with_lists(entry), "PCI002")  # the second block is not known
    assert finding.address == entry.address


def test_a_bus_that_is_not_listed() -> None:
    entry = a_list("pci-lu-v1-19", [ENDPOINT, BRIDGE])
    assert found(with_lists(entry), "PCI013") == []
    (finding,) = found(with_lists(replace(entry, buses=entry.buses[:1])), "PCI013")
    assert finding.device == "0000:40:00.0"


def test_a_kind_of_bus_that_there_is_not() -> None:
    entry = a_list("pci-lu-v1-22", [ENDPOINT])
    (finding,) = found(with_lists(replace(entry, buses=({**entry.buses[0], "bridge_type": 7},))), "PCI013")
    assert finding.where == "pci[0].buses[0]"


@pytest.mark.parametrize(("version", "count"), [(0, 1), (1, 0), (2, 0), (0x10000, 1)])
def test_version(version: int, count: int) -> None:
    assert len(found(with_lists(a_list("pci-version-2", [ENDPOINT], version=version)), "PCI014")) == count


def test_domains_of_16_bits_are_sorted_as_signed_numbers() -> None:
    high = replace(ENDPOINT, domain=0x8000)
    entry = a_list("pci-v1-u64", [ENDPOINT, high])
    assert entry.devices[0].domain == 0x8000
    assert found(with_lists(entry), "PCI015") == []


def test_later_forms_need_not_be_sorted() -> None:
    report = check(with_lists(a_list("pci-v2-u32", [ENDPOINT, BRIDGE])), select=["PCI015"])
    assert "sorted" in skipped(report)["PCI015"]


@pytest.mark.parametrize(("said", "count"), [(1, 1), (2, 0), (3, 1)])
def test_devices_are_counted_in_blocks(said: int, count: int) -> None:
    entry = a_list("pci-version-2", [ENDPOINT, BRIDGE], nr_devices=said)
    assert len(found(with_lists(entry), "PCI016")) == count


def test_an_entry_without_refcount_is_told_with_its_device() -> None:
    (finding,) = found(with_lists(a_list("pci-v2-u32", [replace(ENDPOINT, refcount=0), BRIDGE])), "PCI016")
    assert finding.device == "0000:41:00.0"


def vfio(place: int, *, domain: int = 0) -> File:
    detail = Record(address=0x1A98000, readings=(("vfio-pci-v2", {"domain": domain, "bdf": place}),), confidence="")
    return File(compatible="vfio-pci-v2", data=0x1A98000, token=1, address=0x197D010, detail=detail)


@pytest.mark.parametrize(("place", "domain", "count"), [(0x4100, 0, 0), (0x0600, 0, 1), (0x4100, 1, 1)])
def test_vfio_files_are_about_listed_devices(place: int, domain: int, count: int) -> None:
    state = with_lists(a_list("pci-version-2", [ENDPOINT]))
    handover = state.handovers[0]
    assert handover.luo is not None
    session = replace(handover.luo.sessions[0], files=(vfio(place, domain=domain),))
    luo = replace(handover.luo, sessions=(session,))
    for lists, expected in ((handover.pci, count), ((), 1)):
        changed = replace(state, handovers=(replace(handover, luo=luo, pci=lists),))
        assert len(found(changed, "PCI019")) == expected
    incoming = replace(handover, luo=luo, direction=Direction.INCOMING)
    assert "consumed" in skipped(check(replace(state, handovers=(incoming,)), select=["PCI019"]))["PCI019"]


@pytest.mark.parametrize(
    ("form", "devices", "applies"),
    [
        ("pci-v1-nr", [], False),  # finished devices are taken out of it
        ("pci-v1-nr", [BRIDGE], True),
        ("pci-version-2", [], True),
        ("pci-version-2", [BRIDGE], True),
    ],
)
def test_an_empty_list_says_nothing_of_vfio_files_only_in_one_form(
    form: str, devices: list[Dev], applies: bool
) -> None:
    state = with_lists(a_list(form, devices))
    luo = state.handovers[0].luo
    assert luo is not None
    session = replace(luo.sessions[0], files=(vfio(0x4100),))
    report = check(changed(state, luo=replace(luo, sessions=(session,))), select=["PCI019"])
    assert (len(report.findings), len(report.skipped)) == ((1, 0) if applies else (0, 1))


def with_files(*files: File) -> State:
    """A handover of one list, with these files only."""
    state = with_lists(a_list("pci-version-2", [ENDPOINT]))
    luo = state.handovers[0].luo
    assert luo is not None
    return changed(state, luo=replace(luo, sessions=(replace(luo.sessions[0], files=files),)))


def test_only_files_of_vfio_pci_whose_struct_was_read_need_a_listed_device() -> None:
    other = replace(vfio(0x0600), compatible="guestos-v1")
    unread = replace(vfio(0x0600), detail=None)
    for file in (other, unread):
        report = check(with_files(file), select=["PCI019"])
        assert "no readable vfio-pci file" in skipped(report)["PCI019"]
    findings = found(with_files(other, unread, vfio(0x4100), vfio(0x0600)), "PCI019")
    assert [finding.where for finding in findings] == ["luo.sessions[0].files[3]"]


@pytest.mark.parametrize("code", ["pci-unknown-layout", "short-list"])
def test_a_list_that_was_not_read_may_have_the_device_of_a_vfio_file(code: str) -> None:
    state = with_files(vfio(0x0600))
    unread = Problem(code=code, address=0x1000, message="no", root=state.handovers[0].address, about="luo.flbs[3]")
    (entry,) = check(replace(state, problems=(unread,)), select=["PCI019"]).unjudged
    assert (entry.cause, entry.about) == ("damaged", "luo.flbs[3]")
    elsewhere = replace(state, problems=(replace(unread, root=0x1000), replace(unread, code="pci-not-zero")))
    assert len(found(elsewhere, "PCI019")) == 1


def test_a_device_that_any_reading_of_its_struct_names_is_listed() -> None:
    readings = tuple(("x", {"bdf": place}) for place in (0x0600, 0x4100))
    file = replace(vfio(0), detail=Record(address=0x1A98000, readings=readings, confidence=""))
    assert found(with_files(file), "PCI019") == []


@pytest.mark.parametrize(
    ("form", "via", "said", "is_right"),
    [
        ("pci-version-2", "flb:pci", 1, True),  # a finished device is not counted
        ("pci-version-2", "flb:pci", 2, False),
        ("pci-v2-u64", "flb:pci-v2", 1, False),
        ("pci-v2-u64", "flb:pci-v2", 2, True),
        ("pci-v2-u32", "flb:pci-v2", 0, False),
        ("pci-v2-u32", "flb:pci-v2", 1, True),  # depends on the patch
        ("pci-v2-u32", "flb:pci-v2", 2, True),
        ("pci-v2-u32", "flb:pci-v2", 3, False),
    ],
)
def test_devices_that_the_next_kernel_has_finished(form: str, via: str, said: int, is_right: bool) -> None:
    entry = a_list(form, [replace(ENDPOINT, refcount=0), BRIDGE], via=via, nr_devices=said)
    findings = found(changed(with_lists(entry), direction=Direction.INCOMING), "PCI016")
    words = [] if is_right else [f"nr_devices is {said}, 2 entries are in use, 1 of them finished"]
    assert [finding.message.partition(": ")[2] for finding in findings] == words


def test_without_finished_devices_the_count_of_the_next_kernel_is_that_of_the_entries() -> None:
    entry = a_list("pci-version-2", [ENDPOINT, BRIDGE], nr_devices=1)
    (finding,) = found(changed(with_lists(entry), direction=Direction.INCOMING), "PCI016")
    assert finding.message.endswith("nr_devices is 1, 2 entries are in use")


@pytest.mark.parametrize("name", ["6.18-a/frozen", "7.3-a/frozen"])
@pytest.mark.parametrize("rule", ["PCI001", "PCI002", "PCI003", "PCI004", "PCI006", "PCI007", "PCI011", "PCI012"])
def test_mutations_for_lists_of_2025(rule: str, name: str) -> None:
    assert rule in rules_found(mutant(rule, name))


@pytest.mark.parametrize(("form", "room"), [("pci-v2-u32", 511), ("pci-v2-u64", 510), ("pci-v1-u64", 1020)])
@pytest.mark.parametrize(("more", "count"), [(0, 0), (1, 1)])
def test_a_list_may_fill_its_folio_but_not_claim_one_entry_more(form: str, room: int, more: int, count: int) -> None:
    page = fresh("7.3-a/frozen").handovers[0].pci[0].address
    entry = a_list(form, [ENDPOINT], address=page, max_nr_devices=room + more)
    assert len(found(with_lists(entry), "PCI018")) == count


def test_damage_of_a_file_says_nothing_about_device_lists() -> None:
    """PCI019 speaks of a vfio file that is in no list, though the folio array of a memfd is damaged."""
    detail = {"readings": [{"layout": "vfio-pci-v2", "fields": {"domain": 0, "bdf": 0x1234}}]}
    sessions = [
        {"name": "vm", "files": [{"compatible": "vfio-pci-v2", "token": 5, "detail": detail}]},
        {"name": "other", "files": [{"memfd": {"size": 3 * 4096}}]},
    ]
    devices = [{"layout": "pci-version-2", "devices": [{"bdf": "0000:01:00.0"}]}]
    state, image = built({"handovers": [{"luo": {"sessions": sessions}, "pci": devices}]})
    assert "PCI019" in rules_found(report_of(image))
    luo = state.handovers[0].luo
    assert luo is not None
    memfd = luo.sessions[1].files[0].memfd
    assert memfd is not None
    image.patch(memfd.folios.chunks[0] + 8, bytes(8))
    assert "PCI019" in rules_found(report_of(image))


def test_list_of_an_flb_of_files_without_a_device() -> None:
    """A count of 8 whose only bit is gone; removed devices leave their bytes behind, so the list may be empty."""
    memory = flipped(real.dump("7.3-chain/frozen2"), (0x24DC008, 3))
    (finding,) = check(luoser.read(memory), select=["PCI"]).findings
    assert (finding.rule, finding.address) == ("PCI016", 0x24DC000)
    assert "no device, but 6 files depend on its FLB" in finding.message


# -- values that no list has, and lists that nobody saw -----------------------------------------------------


@pytest.mark.parametrize("start", [72, 80])
def test_more_garbage_hides_nothing(start: int) -> None:
    """From 72 on the last record has a domain that no machine has, and what follows it is of the same."""
    memory = real.overlay("7.3-a/frozen")
    page = fresh("7.3-a/frozen").handovers[0].pci[0].address
    memory.write(page + start, b"\x6b" * (4096 - start))
    assert check(luoser.read(memory)).verdict is Verdict.FINDINGS


@pytest.mark.parametrize("domain", [0x20000, 0xFFFFFFFF])
def test_a_domain_that_no_machine_has(domain: int) -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.write(fresh("7.3-a/frozen").handovers[0].pci[0].address + 72, struct.pack("<I", domain))
    findings = check(luoser.read(memory), select=["PCI001"]).findings
    assert [f"domain {domain:#x}: expected at most 0x1ffff" in one.message for one in findings] == [True]


@pytest.mark.parametrize(
    "options", [{"select": ["PCI"]}, {"select": ["PCI001"]}, {"select": ["MAP"]}, {"ignore": ["LUO"]}]
)
def test_lists_of_flbs_that_were_not_read_are_not_passed_over(options: dict[str, list[str]]) -> None:
    memory, luo = real.overlay("7.3-a/frozen"), fresh("7.3-a/frozen").handovers[0].luo
    assert luo is not None and luo.flb_area
    memory.remove(luo.flb_area)
    report = check(luoser.read(memory), **options)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert all(not rule.startswith("PCI") for rule in report.passed)
