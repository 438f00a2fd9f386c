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
from tests.checks.mutants import changed, document, judged, luo_of, mutant, reason, report_of, rules_found, u64
from tests.fuzz.test_mutations import ROUNDS, damaged
from tests.writer.helpers import built_luo, reread


def test_a_step_from_6_19_to_7_0_is_an_error() -> None:
    report = check(real.read("6.19-a/frozen"), next_release="7.0.13", select=["LUO"])
    assert rules_found(report) == {"LUO007"}


def test_a_step_from_6_19_to_6_19_is_none() -> None:
    report = check(real.read("6.19-a/frozen"), next_release="6.19.14", select=["LUO"])
    assert rules_found(report) == set()
    assert "LUO007" in report.passed


def test_without_the_next_release_nothing_is_said_of_its_flb_node() -> None:
    report = check(real.read("6.19-a/frozen"), select=["LUO007"])
    assert "--next" in reason(report, "LUO007")


def test_a_next_release_that_is_no_number_raises_nothing() -> None:
    assert check(real.read("6.19-a/frozen"), next_release="next", select=["LUO007"]).findings == ()


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


def test_a_blob_size_of_exactly_luo_ser_is_enough() -> None:
    assert "LUO003" in check(real.read("7.3-a/frozen")).passed


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
