# SPDX-License-Identifier: MIT
"""Rules on LUO: what the mutations of test_rules.py cannot show."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.abi.luo import form as form_named
from luoser.abi.luo import luo_flb_ser
from luoser.checks import check
from luoser.state.from_json import from_document
from tests import real
from tests.checks.mutants import NAME, changed, document, judged, luo_of, mutant, reason, report_of, rules_found, u64
from tests.fuzz.test_mutations import ROUNDS, damaged
from tests.writer.helpers import built_luo, reread


def test_a_step_from_6_19_to_7_0_is_an_error() -> None:
    report = check(real.read("6.19-a/frozen"), next_release="7.0.13", select=["LUO"])
    assert rules_found(report) == {"LUO007"}


def test_a_step_from_6_19_to_6_19_is_none() -> None:
    report = check(real.read("6.19-a/frozen"), next_release="6.19.14", select=["LUO"])
    assert rules_found(report) == set()
    assert "LUO007" in report.passed


def test_a_step_from_6_19_to_a_kernel_that_refuses_the_root_is_no_matter_of_a_node() -> None:
    """7.1 requires the node as well, but does not get as far as LUO."""
    report = check(real.read("6.19-a/frozen"), next_release="7.1.13", select=["LUO007"])
    assert report.passed == ("LUO007",)


def test_without_the_next_release_nothing_is_said_of_its_flb_node() -> None:
    report = check(real.read("6.19-a/frozen"), select=["LUO007"])
    assert "--next" in reason(report, "LUO007")


def test_luos_page_reused_by_the_next_kernel_is_no_error() -> None:
    report = check(real.read("7.3-a/post"), select=["LUO001"])
    assert report.findings == ()
    assert "consumed" in reason(report, "LUO001")


def test_rules_on_sessions_wait_for_serialising() -> None:
    report = check(real.read("7.3-a/pre"), select=["LUO"])
    for rule in ("LUO010", "LUO012", "LUO014", "LUO016", "LUO019"):
        assert "serialised" in reason(report, rule)


def test_a_file_block_that_is_not_in_the_source_skips_the_count() -> None:
    memory = real.overlay("7.3-a/frozen")
    memory.remove(luo_of(real.read("7.3-a/frozen")).sessions[0].blocks[0])
    report = check(luoser.read(memory), select=["LUO"])
    assert rules_found(report) == set()
    assert "vm-web-01" in reason(report, "LUO010")


def test_a_count_that_is_wrong_is_told_although_another_session_cannot_be_read() -> None:
    state = real.read("7.3-a/frozen")
    first, second = luo_of(state).sessions[:2]
    memory = real.overlay("7.3-a/frozen")
    memory.remove(first.blocks[0])
    memory.write((second.address or 0) + 72, u64(second.count + 1))
    assert rules_found(judged(memory, "LUO")) == {"LUO010"}


def test_a_count_that_is_wrong_is_told_although_an_entry_of_another_session_is_damaged() -> None:
    first, second = luo_of().sessions[:2]
    memory = real.overlay(NAME)
    memory.write(first.files[0].address or 0, b"m" * 48)
    memory.write((second.address or 0) + 72, u64(second.count - 1))
    found = judged(memory, "LUO010", "LUO015").findings
    assert [(finding.rule, finding.where) for finding in found] == [
        ("LUO010", "luo.sessions[1]"),
        ("LUO015", "luo.sessions[0].files"),
    ]


def test_the_first_session_that_cannot_be_read_is_the_reason() -> None:
    memory = real.overlay(NAME)
    for session in luo_of().sessions[1:3]:
        memory.remove(session.blocks[0])
    (entry,) = judged(memory, "LUO010").unjudged
    assert (entry.about, entry.cause) == ("luo.sessions[1].files", "missing")


@pytest.mark.parametrize(("count", "files", "are_lost"), [(0, 0, True), (0, 3, True), (3, 0, False), (3, 3, False)])
def test_whether_sessions_are_lost_is_seen_by_their_counts(count: int, files: int, are_lost: bool) -> None:
    luo = luo_of()
    session = replace(luo.sessions[0], count=count, files=luo.sessions[0].files[:files])
    state = changed(NAME, luo=replace(luo, sessions=(session,)))
    report = check(state, select=["LUO012"])
    assert [finding.where for finding in report.findings] == (["luo"] if are_lost else [])


def test_without_flbs_that_count_files_no_session_is_missed() -> None:
    luo = replace(luo_of(), sessions=())
    for flbs in ((), (replace(luo.flbs[0], count=0),)):
        assert check(changed(NAME, luo=replace(luo, flbs=flbs)), select=["LUO012"]).passed == ("LUO012",)


@pytest.mark.parametrize(("more", "is_wrong"), [(-64, True), (-63, True), (0, False), (1, True)])
def test_an_flb_counts_all_files_of_one_handler(more: int, is_wrong: bool) -> None:
    luo = luo_of()
    files = sum(session.count for session in luo.sessions)
    assert files == 64
    flbs = (*luo.flbs[:1], replace(luo.flbs[1], count=files + more))
    report = check(changed(NAME, luo=replace(luo, flbs=flbs)), select=["LUO019"])
    assert [finding.where for finding in report.findings] == (["luo.flbs[1]"] if is_wrong else [])


@pytest.mark.parametrize(("count", "is_wrong"), [(0, True), (1, False), (2, True), (3, False), (4, False), (5, True)])
@pytest.mark.parametrize("is_read", [True, False])
def test_an_flb_counts_all_files_of_several_handlers(count: int, is_wrong: bool, is_read: bool) -> None:
    """One file of one handler, three of another. If not all are read, only their number is known."""
    luo = luo_of()
    names = ["memfd-v2", "vfio-pci-v1", "vfio-pci-v1", "vfio-pci-v1"]
    files = [replace(file, compatible=name) for file, name in zip(luo.sessions[1].files, names, strict=False)]
    session = replace(luo.sessions[1], files=tuple(files if is_read else files[:2]), count=4)
    made = replace(luo, sessions=(session,), flbs=(replace(luo.flbs[0], count=count),))
    found = {finding.rule for finding in check(changed(NAME, luo=made), select=["LUO019"]).findings}
    assert bool(found) == (is_wrong if is_read else not 1 <= count <= 4)


def test_counts_of_flbs_are_another_matter_if_no_session_has_a_file() -> None:
    luo = replace(luo_of(), sessions=())
    assert "LUO012 reports" in reason(check(changed(NAME, luo=luo), select=["LUO019"]), "LUO019")
    assert check(changed(NAME, luo=replace(luo, flbs=())), select=["LUO019"]).passed == ("LUO019",)


def test_a_sub_tree_of_another_name_may_be_small() -> None:
    trees = real.read(NAME).handovers[0].subtrees
    for name in ("A", "LUOX", "z"):
        state = changed(NAME, subtrees=(*trees, replace(trees[0], name=name, size=5)))
        assert check(state, select=["LUO003"]).passed == ("LUO003",)


@pytest.mark.parametrize(("size", "is_wrong"), [(31, True), (32, False), (33, False), (None, False)])
def test_a_blob_size_of_at_least_luo_ser_is_enough(size: int | None, is_wrong: bool) -> None:
    trees = real.read(NAME).handovers[0].subtrees
    trees = tuple(replace(tree, size=size if tree.name == "LUO" else 5) for tree in trees)
    report = check(changed(NAME, subtrees=trees), select=["LUO003"])
    assert [finding.where for finding in report.findings] == (["subtrees[2]"] if is_wrong else [])


def test_a_session_node_of_an_unknown_version_is_told() -> None:
    address = luo_of(real.read("6.19-a/frozen")).address
    memory = real.overlay("6.19-a/frozen")
    memory.write(address + memory.read(address, 4096).index(b"luo-session-v2") + 13, b"9")
    (finding,) = check(luoser.read(memory), select=["LUO002"]).findings
    assert "luo-session-v9" in finding.message


def test_one_token_in_two_sessions_is_normal() -> None:
    tokens = [file.token for session in luo_of(real.read("7.3-a/frozen")).sessions for file in session.files]
    assert len(set(tokens)) < len(tokens)
    assert "LUO016" in check(real.read("7.3-a/frozen")).passed


@pytest.mark.parametrize(("number", "is_wrong"), [(0, True), (1, False), (2, False), (1 << 63, False), (None, False)])
def test_the_number_of_live_updates_starts_at_1(number: int | None, is_wrong: bool) -> None:
    report = check(changed(NAME, luo=replace(luo_of(), number=number)), select=["LUO005"])
    assert [finding.where for finding in report.findings] == (["luo"] if is_wrong else [])


def test_a_duplicate_is_told_at_its_place_with_that_of_the_first_one() -> None:
    luo = luo_of()
    first, second, *_ = luo.sessions
    token = replace(first.files[2], token=first.files[1].token)
    sessions = (replace(first, files=(*first.files[:2], token)), second, replace(second, name=first.name))
    flbs = (*luo.flbs[:3], replace(luo.flbs[3], name=luo.flbs[1].name))
    report = check(changed(NAME, luo=replace(luo, sessions=sessions, flbs=flbs)), select=["LUO014", "LUO016", "LUO020"])
    told = {finding.rule: (finding.where, finding.message.partition("also of ")[2]) for finding in report.findings}
    assert len(report.findings) == 3
    assert told == {
        "LUO014": ("luo.sessions[2]", "luo.sessions[0]"),
        "LUO016": ("luo.sessions[0].files[2]", "luo.sessions[0].files[1]"),
        "LUO020": ("luo.flbs[3]", "luo.flbs[1]"),
    }


def test_sessions_without_a_name_are_no_duplicates() -> None:
    sessions = tuple(replace(session, name="") for session in luo_of().sessions[:2])
    report = check(changed(NAME, luo=replace(luo_of(), sessions=sessions)), select=["LUO014"])
    assert report.passed == ("LUO014",)


def test_a_name_with_control_characters_is_legal_and_shown_safely() -> None:
    weird = next(one for one in luo_of(real.read("7.3-a/frozen")).sessions if "\x1b" in one.name)
    memory = real.overlay("7.3-a/frozen")
    memory.write((weird.address or 0) + 72, u64(2))
    (finding,) = check(luoser.read(memory), select=["LUO"]).findings
    assert finding.rule == "LUO010"
    assert finding.message.isprintable()


def test_a_handler_with_bytes_that_are_no_text_is_refused() -> None:
    file = luo_of(real.read("7.3-a/frozen")).sessions[0].files[0]
    memory = real.overlay("7.3-a/frozen")
    memory.write(file.address or 0, b"mem\x01\xff\0\0\0")
    report = check(luoser.read(memory), select=["LUO015"])
    assert rules_found(report) == {"LUO015"}
    assert all(finding.message.isprintable() for finding in report.findings)


def test_an_flb_that_counts_no_file_is_told() -> None:
    flb = luo_of(real.read("7.3-a/frozen")).flbs[0]
    memory = real.overlay("7.3-a/frozen")
    memory.write(flb.address + luo_flb_ser.offset("count"), u64(0))
    assert rules_found(judged(memory, "LUO")) == {"LUO019"}


def test_a_state_from_a_document_is_judged_like_its_dump() -> None:
    """A document says nothing of LUO's devicetree twice; the sub-tree's is taken."""
    for name in ("6.19-a/frozen", "7.3-a/frozen"):
        report = check(from_document(document(name)), select=["LUO", "MFD"])
        assert report.findings == ()


def test_only_the_session_that_lost_its_name_is_named() -> None:
    (finding,) = mutant("LUO013", select=("LUO",)).findings
    assert finding.where == "luo.sessions[0]"


def test_damaged_dumps_raise_nothing() -> None:
    for name in real.DUMPS:
        for seed in range(ROUNDS // 3):
            report = check(
                luoser.read(damaged(name, seed)), select=["LUO", "MFD"], next_release="7.0", ram=((0, 4096),)
            )
            assert all(finding.message.isprintable() for finding in report.findings)


def test_a_wrong_count_of_files_is_found_beside_a_damaged_entry() -> None:
    files = [{"compatible": "eventfd-v1", "token": token} for token in range(3)]
    luo, _, image = built_luo({"sessions": [{"name": "vm", "files": files}]})
    session = luo.sessions[0]
    image.patch(session.files[1].address or 0, b"m" * 48)
    assert "LUO010" not in rules_found(report_of(image))
    image.patch((session.address or 0) + 72, u64(9))
    assert "LUO010" in rules_found(report_of(image))


@pytest.mark.parametrize("layout", ["luo-v5", "luo-composed"])
def test_a_blob_size_below_the_struct_of_the_form(layout: str) -> None:
    _, state, image = built_luo({"layout": layout, "sessions": [{"name": "vm"}]})
    form = form_named(layout)
    assert form is not None and form.root is not None
    tree = next(entry for entry in state.handovers[0].subtrees if entry.name == "LUO")
    assert tree.size == form.root.size and "LUO003" not in rules_found(report_of(image))
    small = replace(tree, size=form.root.size - 4)
    assert "LUO003" in rules_found(check(changed(reread(image), subtrees=(small,))))


@pytest.mark.parametrize(
    ("word", "other"), [(b"luo-session-header", b"luo-session-heaTer"), (b"luo-session", b"luo-sess9on")]
)
def test_a_node_of_luo_that_no_kernel_writes(word: bytes, other: bytes) -> None:
    """Its sessions are not found: no tree of 6.19 has such a node, or one without its pointer."""
    memory = real.overlay("6.19-a/frozen")
    address = luo_of("6.19-a/frozen").address
    assert address is not None and "LUO002" not in rules_found(judged(memory, "LUO002"))
    tree = memory.read(address, 236)
    memory.write(address, tree.replace(word + b"\0", other + b"\0"))
    assert "LUO002" in rules_found(judged(memory, "LUO002"))
