# SPDX-License-Identifier: MIT
"""drgn's debug info instead of what a kernel has in its own memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import luoser
from luoser.drgn.debug_info import DrgnTypes, answers
from luoser.drgn.source import memory
from luoser.kernel.answers import Answers
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import Kallsyms
from luoser.kernel.types import TypesError, described
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.memory.source import Memory
from luoser.reader.kernel import STRUCTS
from luoser.state import Handover, State
from tests import real as dumps
from tests.drgn.programs import core, custom, kernel_program, unpacked
from tests.drgn.test_source import ranges
from tests.kernel import real

GONE = "memory not saved in core dump"


def hole(first: str, last: str) -> tuple[int, int, str]:
    """The pages of tables of the kernel."""
    places = []
    for name in (first, last):
        address = real.space("pre").image(addresses()[name])
        assert address is not None
        places.append(address)
    return places[0] // 4096 * 4096, places[1] // 4096 * 4096 + 4096, GONE


def addresses() -> dict[str, int]:
    return {name: address for address, _, name in real.symbols()}


TYPES = "__start_BTF", "__stop_BTF"
SYMBOLS = "kallsyms_names", "kallsyms_token_table"
"""The tables, by the symbols around them."""
HOLES = {"types": [TYPES], "symbols": [SYMBOLS], "both": [TYPES, SYMBOLS]}


def state(prog: Any) -> State:
    with memory(prog, ranges=ranges(real.memory("pre"))) as source:
        return luoser.read(source)


def without_evidence(handover: Handover) -> Handover:
    assert handover.pending is not None
    return replace(handover, pending=replace(handover.pending, evidence=()))


@pytest.mark.parametrize("lost", HOLES)
def test_debug_info_stands_for_what_is_not_in_memory(lost: str) -> None:
    holes = [hole(*names) for names in HOLES[lost]]
    assert [one.pending for one in state(custom(real.memory("pre"), holes)).handovers] == [None]
    found, wanted = state(kernel_program(real.memory("pre"), holes)), real.read("pre")
    assert [*map(without_evidence, found.handovers)] == [*map(without_evidence, wanted.handovers)]
    assert [one.message for one in found.problems] == [one.message for one in wanted.problems]
    pending = found.handovers[0].pending
    assert pending is not None
    who = "BTF of kernel 7.3.4" if lost == "symbols" else "debug info of drgn"
    assert pending.evidence == (f"outgoing lists of kernel 7.3.4, by {who}",)


def test_debug_info_has_the_variables_of_a_kernel_with_kallsyms_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, debug_info = custom(real.memory("pre")), kernel_program(real.memory("pre"))
    wanted, get = real.read("pre"), Kallsyms.get
    monkeypatch.setattr(Kallsyms, "get", lambda self, names: get(self, names & {"_stext"}))
    assert [one.pending for one in state(plain).handovers] == [None]
    assert [*map(without_evidence, state(debug_info).handovers)] == [*map(without_evidence, wanted.handovers)]


def test_what_is_in_memory_is_not_replaced() -> None:
    with memory(kernel_program(real.memory("pre")), ranges=ranges(real.memory("pre"))) as source:
        assert source.answers == b""
        assert luoser.read(source).handovers == real.read("pre").handovers


def test_a_note_of_the_file_is_not_replaced() -> None:
    prog = kernel_program(real.memory("pre"), [hole(*TYPES)])
    with memory(prog, ranges=ranges(real.memory("pre"))) as source:
        assert answers(prog, source) == b""
        source.answers = b""
        assert answers(prog, source) != b""


def test_debug_info_of_a_kernel_that_is_not_there_any_more_is_not_used() -> None:
    changed, place = Overlay(real.memory("pre")), real.space("pre").image(addresses()["init_uts_ns"])
    assert place is not None
    place += int(changed.vmcoreinfo["OFFSET(uts_namespace.name)"]) + 2 * 65
    for release, is_used in ((b"7.3.4", True), (b"7.3.9", False)):
        changed.write(place, release)
        with memory(kernel_program(changed, [hole(*TYPES)]), ranges=ranges(changed)) as source:
            assert bool(source.answers) is is_used


def test_without_debug_info_there_are_no_answers(tmp_path: Any) -> None:
    prog = core(unpacked(dumps.path("7.3-a/pre"), tmp_path))
    with luoser.open(dumps.path("7.3-a/pre")) as source:
        source.answers = b""
        assert answers(prog, source) == b""
    assert [*DrgnTypes(prog).structs()] == []


def types(memory: Memory) -> DrgnTypes:
    return DrgnTypes(kernel_program(memory))


def test_members_are_those_of_btf() -> None:
    found, wanted = types(real.memory("pre")), real.running("pre").types
    assert isinstance(wanted, Btf)
    shared = [name for name in STRUCTS if wanted.struct(name) is not None]
    assert {"luo_session", "luo_file", "file", "inode"} <= {*shared}
    for name in shared:
        one, other = found.struct(name), wanted.struct(name)
        assert one is not None and other is not None and found.size(one) == wanted.size(other)
        assert [(member, place.bit, place.bits) for member, place in found.members(one)] == [
            (member, place.bit, place.bits) for member, place in wanted.members(other)
        ]
        for (member, place), (_, there) in zip(found.members(one), wanted.members(other), strict=True):
            assert found.size(place.type) == wanted.size(there.type), (name, member)


def test_types_have_their_words() -> None:
    found = types(real.memory("pre"))
    number = found.struct("luo_session")
    assert number is not None
    said = {name: described(found, place.type) for name, place in found.members(number)}
    assert (said["name"], said["list"]) == ("char[64]", "struct list_head")


def test_a_type_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TypesError, match="debug info of drgn: no type 99999"):
        types(real.memory("pre")).type(99999)


def test_the_number_of_types_is_bounded() -> None:
    prog = kernel_program(real.memory("pre"), [hole(*TYPES)])
    with memory(prog, ranges=ranges(real.memory("pre"))) as source:
        source.answers = b""
        with limited(Limits(types=100)), pytest.raises(TypesError, match=r"more than 100 types; --limit types=N"):
            found = DrgnTypes(prog)
            for number, _ in found.structs():
                list(found.members(number))
        with limited(Limits(types=100)):  # symbols alone
            said = Answers.unpack(answers(prog, source))
    assert said is not None and said.btf == b"" and "kho_in" in said.symbols
