# SPDX-License-Identifier: MIT
"""Rules go by what a problem is about, never by names or words: a dump chooses its names."""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoser.abi.vmalloc import kho_vmalloc
from luoser.checks import Report, check
from luoser.fdt import Node, flatten, parse, sequential
from luoser.state import Flb, State, Subsystem, Subtree
from tests import real
from tests.checks.mutants import NAME, changed, luo_of
from tests.real import ROOT
from tests.writer.helpers import built, reread

Json = dict[str, Any]
READERS = sorted(path for room in ("checks", "changes") for path in (ROOT / "luoser" / room).glob("*.py"))


# -- nobody reads a message -------------------------------------------------------------------------------


def message_readers(source: str) -> list[int]:
    """Lines that look into a `.message`: compare it, search it, cut it, or call a method of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        inner: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            inner = [node.left, *node.comparators]
        elif isinstance(node, ast.Subscript | ast.Attribute):
            inner = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_re(node.func.value):
            inner = list(node.args)
        found += [one.lineno for one in inner if isinstance(one, ast.Attribute) and one.attr == "message"]
    return found


def _is_re(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and (node.id == "re" or node.id.isupper())


@pytest.mark.parametrize("path", READERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_rule_and_no_diff_reads_a_message(path: Any) -> None:
    assert message_readers(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "problem.message.startswith('PCI')",
        "'x' in problem.message",
        "problem.message == 'x'",
        "problem.message[:3]",
        "re.search('x', problem.message)",
        "_WORD.match(problem.message)",
    ],
)
def test_the_test_sees_readers(source: str) -> None:
    assert message_readers(source) == [1]


def test_a_message_may_be_passed_on() -> None:
    assert message_readers("Found(problem.message, address=problem.address); f'{problem.message}'") == []


# -- names --------------------------------------------------------------------------------------------------

_NAMES = st.one_of(
    st.sampled_from(
        ["vm, files: z", "vm", "LUO sessions: x", "LUO FLBs", "vm, file 0x0, folio array: y", "session vm, files",
         "sub-tree LUO", "PCI device list (flb:pci)", "luo.sessions[1].files", "preserved map: "]
    ),
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=40),
)  # fmt: skip
_FILES = [{"memfd": {"size": 8192}}, {"memfd": {"size": 4096}}]


def described(names: list[str], flb: str) -> Json:
    """A handover of three sessions, and an FLB that nobody knows."""
    sessions = [{"name": name, "files": [dict(file) for file in _FILES]} for name in names]
    return {"handovers": [{"luo": {"sessions": sessions, "flbs": [{"name": flb, "data": 0x7000000}]}}]}


def damages(state: State) -> dict[str, tuple[int, bytes]]:
    """Where to write what, so that one session or one FLB is broken."""
    luo = state.handovers[0].luo
    assert luo is not None and luo.flb_area is not None
    broken, other = luo.sessions[1], luo.sessions[2]
    assert other.address is not None and broken.files[0].memfd is not None
    folios = broken.files[0].memfd.folios
    return {
        "empty file block": (broken.blocks[0] + 8, bytes(8)),
        "loop of file blocks": (broken.blocks[0], broken.blocks[0].to_bytes(8, "little")),
        "descriptor": (broken.files[1].data, b"\xff" * 16),
        "chunk": (folios.chunks[0], folios.chunks[0].to_bytes(8, "little")),
        "file entry": (broken.blocks[0] + 16, b"m" * 48),
        "file count": (other.address + 72, (7).to_bytes(8, "little")),
        "FLBs": (luo.flb_area + 8, (4000).to_bytes(8, "little")),
    }


@cache
def places() -> dict[str, tuple[int, bytes]]:
    state, _ = built(described(["one", "two", "three"], "flb"))
    return damages(state)


def judged(names: list[str], flb: str, kinds: list[str]) -> set[tuple[str, str, int | None]]:
    """(rule, where, address) of the findings in an image with these names, broken at these places."""
    _, image = built(described(names, flb))
    for kind in kinds:
        image.patch(*places()[kind])
    report: Report = check(reread(image), ignore=["LUO013", "LUO014", "LUO017", "LUO020"])  # about the names themselves
    return {(finding.rule, finding.where, finding.address) for finding in report.findings}


@settings(max_examples=60)
@given(
    names=st.lists(_NAMES, min_size=3, max_size=3, unique=True),
    flb=_NAMES.filter(lambda name: len(name) < 48),
    kinds=st.lists(st.sampled_from(sorted(places())), max_size=3, unique=True),
)
def test_no_name_changes_a_finding(names: list[str], flb: str, kinds: list[str]) -> None:
    assert judged(names, flb, kinds) == judged(["one", "two", "three"], "flb", kinds)


def test_each_damage_is_found() -> None:
    for kind in places():
        assert judged(["one", "two", "three"], "flb", [kind]), kind


def test_a_forged_name_moves_no_finding_to_another_session() -> None:
    """A damaged session called `vm, files: z` beside a healthy one called `vm`."""
    found = judged(["vm", "vm, files: z", "x"], "flb", ["empty file block"])
    assert {where for rule, where, _ in found if rule == "LUO009"} == {"luo.sessions[1].files"}


def test_a_wrong_count_is_found_beside_a_damaged_session_of_a_forged_name() -> None:
    found = judged(["x", "vm, files: z", "vm"], "flb", ["empty file block", "file count"])
    assert {where for rule, where, _ in found if rule == "LUO010"} == {"luo.sessions[2]"}


# -- names that no structure has ----------------------------------------------------------------------------

BESIDE = ("AAA", "zzz")
"""Names before and after all that are known."""


def with_strangers() -> State:
    """The real handover with sub-trees, subsystems and FLBs of others, whose contents no rule knows."""
    state, nowhere, elsewhere = real.read(NAME), 0x70000000, 0x71000000
    tree = state.handovers[0].fdt
    assert tree is not None
    info = kho_vmalloc.build({"first": nowhere, "total_pages": 1, "flags": 1, "order": 0})
    theirs = parse(flatten(sequential(Node(b"", [(b"compatible", b"x\0")], [Node(b"data", [(b"folios_info", info)])]))))
    trees, nodes = list(state.handovers[0].subtrees), list(tree.root.nodes)
    for name in BESIDE:
        for kind, found in (("-tree", theirs), ("", None)):
            size = found.header.totalsize if found is not None else 5
            trees.append(Subtree(name=name + kind, address=nowhere, size=size, fdt=found))
            nodes.append(Node((name + kind).encode(), [(b"blob-size", size.to_bytes(8, "little"))]))
    luo = luo_of()
    flbs = tuple(
        Flb(name=f"{name}-v1", data=elsewhere, count=luo.flbs[0].count, address=luo.flbs[0].address) for name in BESIDE
    )
    subsystems = tuple(Subsystem(name=name, data=elsewhere) for name in BESIDE)
    return changed(
        state,
        fdt=replace(tree, root=Node(b"", tree.root.properties, nodes)),
        subtrees=tuple(trees),
        luo=replace(luo, flbs=(*luo.flbs, *flbs), subsystems=subsystems),
    )


def test_structures_of_others_are_none_that_a_rule_knows() -> None:
    state = with_strangers()
    assert len(state.handovers[0].subtrees) == 9
    about_all = ["MAP004", "MAP014", "MAP020", "KHO006"]  # rules on all sub-trees
    assert check(state, ignore=about_all).findings == check(real.read(NAME), ignore=about_all).findings
