# SPDX-License-Identifier: MIT
"""Layouts and unknown structs by the running kernel's own types, on a cut of a real kernel that carries them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.abi import luo as abi
from luoser.abi.block import kho_block_header_ser
from luoser.abi.memfd import memfd_luo_ser_v2
from luoser.abi.schema import Schema
from luoser.checks import check
from luoser.kernel.answers import Answers
from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Type, Types
from luoser.memory.overlay import Overlay
from luoser.state import State, to_document
from tests.kernel.moved import Moved
from tests.kernel.real import memory as fixture
from tests.kernel.real import running
from tests.schemas import errors


def frozen() -> Overlay:
    return Overlay(fixture("frozen"))


def renamed(handler: bytes) -> State:
    """The state with another handler of the first file."""
    memory = frozen()
    state = luoser.read(memory)
    luo = state.handovers[0].luo
    assert luo is not None
    address = luo.sessions[0].files[0].address
    assert address is not None
    memory.write(address, handler.ljust(48, b"\0")[:48])
    return luoser.read(memory)


class Grown(Types):
    """The types of a kernel, in which one struct has another size, and its first member another name."""

    def __init__(self, below: Types, name: str) -> None:
        super().__init__(below.where)
        self.below, self.changed = below, below.named(name)

    def type(self, number: int) -> Type:
        found = self.below.type(number)
        if number not in self.changed:
            return found
        first, *rest = found.members
        return replace(found, size=found.size + 8, members=(replace(first, name="other"), *rest))

    def named(self, name: str) -> list[int]:
        return self.below.named(name)

    def structs(self):  # type: ignore[no-untyped-def]
        return self.below.structs()


def with_grown(name: str) -> State:
    """The state of a kernel with another form of a struct."""
    memory = frozen()
    answers = Answers.unpack(memory.answers)
    assert answers is not None and answers.btf
    types = Btf(answers.btf)
    whole = [number for number, struct in types.structs() if struct]
    memory.answers = replace(answers, btf=write_btf(Grown(types, name), whole)).pack()
    return luoser.read(memory)


def test_the_layouts_of_a_real_kernel_are_its_own() -> None:
    state = luoser.read(fixture("frozen"))
    assert [problem for problem in state.problems if problem.code == "layout-not-of-this-kernel"] == []
    assert check(state).verdict == "sound"


@pytest.mark.parametrize(
    ("struct", "about"),
    [("luo_ser", "luo"), ("luo_session_ser", "luo.sessions"), ("memfd_luo_ser", "luo.sessions[0].files[0]")],
)
def test_a_struct_that_the_kernel_has_in_another_form_is_not_judged(struct: str, about: str) -> None:
    state = with_grown(struct)
    found = [problem for problem in state.problems if problem.code == "layout-not-of-this-kernel"]
    assert about in {problem.about for problem in found} and f"struct {struct}" in found[0].message
    assert check(state).verdict == "inconclusive"


def test_a_handler_of_tomorrow_is_read_by_the_kernels_own_struct() -> None:
    before = luoser.read(fixture("frozen")).handovers[0].luo
    after = renamed(b"memfd-v9").handovers[0].luo
    assert before is not None and after is not None
    memfd, detail = before.sessions[0].files[0].memfd, after.sessions[0].files[0].detail
    assert memfd is not None and detail is not None
    ((layout, fields),) = detail.readings
    assert layout == "btf-memfd-luo-ser" and "no layout has the form of memfd-v9" in detail.confidence
    assert (fields["size"], fields["pos"], fields["nr_folios"]) == (memfd.size, memfd.position, memfd.folios.count)
    assert fields["folios"]["first"] == memfd.folios.address


def test_a_handler_of_another_kind_is_left_alone() -> None:
    luo = renamed(b"something-v1").handovers[0].luo
    assert luo is not None and luo.sessions[0].files[0].detail is None


def test_the_document_with_such_a_struct_is_valid() -> None:
    assert errors(to_document(renamed(b"memfd-v9"), full=True)) == []


def test_a_known_handler_whose_bytes_are_wrong_keeps_its_own_layout() -> None:
    memory = frozen()
    luo = luoser.read(memory).handovers[0].luo
    assert luo is not None
    memory.write(luo.sessions[0].files[0].data, bytes(4096))
    after = luoser.read(memory).handovers[0].luo
    assert after is not None and after.sessions[0].files[0].detail is None


@pytest.mark.parametrize("change", [{"text": 1}, {"place": 0x1000}, {"build": "00"}])
def test_a_note_of_another_kernel_is_not_used(change: dict[str, int]) -> None:
    memory = frozen()
    answers = Answers.unpack(memory.answers)
    assert answers is not None and luoser.read(memory).handovers[0].pending is not None
    memory.answers = replace(answers, **change).pack()  # type: ignore[arg-type]
    (handover,) = luoser.read(memory).handovers
    assert handover.pending is None and not any("certain" in word for word in handover.evidence)


def test_a_list_of_another_form_than_the_kernels_is_not_called_certain() -> None:
    state = luoser.read(fixture("frozen"))
    assert not any("own type" in entry.confidence for entry in state.handovers[0].pci)  # the kernel has no such struct


def test_another_kernel_whose_symbols_were_overwritten_is_no_problem() -> None:
    """VMCOREINFO of the kernel before may outlive its tables."""
    memory = frozen()
    lines = {**memory.vmcoreinfo, "SYMBOL(_stext)": "ffffffff90000000"}
    page = "".join(f"{key}={value}\n" for key, value in lines.items()).encode()
    for place in range(0, len(page) + 4096, 4096):
        memory.write(0x3000_0000 + place, page[place : place + 4096].ljust(4096, b"\0"))
    before = luoser.read(fixture("frozen"))
    after = luoser.read(memory)
    assert after.problems == before.problems
    assert [one.evidence for one in after.handovers] == [one.evidence for one in before.handovers]


# -- members that stand elsewhere --------------------------------------------------------------------------

ORDERS = {
    "luo_file_ser": ("token", "data", "compatible"),
    "luo_session_ser": ("file_set_ser", "name"),
    "memfd_luo_ser": ("nr_folios", "folios", "size", "pos", "flags", "seals"),
    "luo_flb_ser": ("count", "name", "data"),
    "luo_flb_header_ser": ("count", "pgcnt"),
    "kho_block_header_ser": ("count", "next"),
}


def in_order(schema: Schema, data: bytes, grown: int = 0) -> bytes:
    """The bytes of a struct, with its members in the order of ORDERS."""
    fields = [schema.field(name) for name in ORDERS[schema.name]]
    return bytes(grown) + b"".join(data[field.offset : field.offset + field.size] for field in fields)


def with_types(memory: Overlay, orders: dict[str, tuple[str, ...]], grown: int = 0) -> Overlay:
    """A source with the types of a kernel whose members are in another order."""
    answers = Answers.unpack(memory.answers)
    assert answers is not None
    types = Btf(answers.btf)
    whole = [number for number, name in types.structs() if name]
    memory.answers = replace(answers, btf=write_btf(Moved(types, orders, grown=grown), whole)).pack()
    return memory


def reordered() -> Overlay:
    """The cut of a kernel that has other members first in all that LUO hands over."""
    memory = with_types(frozen(), ORDERS)
    luo = luoser.read(fixture("frozen")).handovers[0].luo
    assert luo is not None and luo.flb_area is not None

    def turn(schema: Schema, address: int | None, count: int = 1) -> None:
        assert address is not None
        for place in range(address, address + count * schema.size, schema.size):
            memory.write(place, in_order(schema, memory.read(place, schema.size)))

    for block in luo.session_blocks:
        turn(kho_block_header_ser, block)
    for session in luo.sessions:
        turn(abi.luo_session_ser, session.address)
        for block in session.blocks:
            turn(kho_block_header_ser, block)
        for file in session.files:
            turn(abi.luo_file_ser, file.address)
            if file.memfd is not None:
                turn(memfd_luo_ser_v2, file.memfd.address)
    turn(abi.luo_flb_header_ser, luo.flb_area)
    turn(abi.luo_flb_ser, luo.flbs[0].address, len(luo.flbs))
    return memory


def test_members_that_stand_elsewhere_are_read_where_the_kernel_has_them() -> None:
    before, after = luoser.read(fixture("frozen")), luoser.read(reordered())
    assert before.handovers[0].luo == after.handovers[0].luo
    assert before.handovers[0].pending == after.handovers[0].pending
    said = {problem.about for problem in after.problems if problem.code == "layout-own"}
    assert said == {"luo.sessions", "luo.sessions[0].files[0]"}
    assert not [problem for problem in after.problems if problem.code == "layout-not-of-this-kernel"]


def test_members_that_stand_elsewhere_are_a_warning_and_all_else_is_judged() -> None:
    before, after = check(luoser.read(fixture("frozen"))), check(luoser.read(reordered()))
    assert after.verdict == "sound"
    assert {one.rule for one in after.findings} - {one.rule for one in before.findings} == {"PEN006"}
    assert set(after.passed) | {"PEN006"} == set(before.passed)


def test_new_members_are_passed_over() -> None:
    memory = with_types(frozen(), {"memfd_luo_ser": ("pos", "size", "seals", "flags", "nr_folios", "folios")}, grown=8)
    before = luoser.read(fixture("frozen")).handovers[0].luo
    assert before is not None
    for session in before.sessions:
        for file in session.files:
            memory.write(file.data, bytes(8) + memory.read(file.data, memfd_luo_ser_v2.size))
    assert luoser.read(memory).handovers[0].luo == before


def test_a_root_that_the_kernel_does_not_name_is_read_as_released() -> None:
    memory = with_types(frozen(), ORDERS)
    state = luoser.read(memory, kallsyms=False)
    assert state.handovers[0].luo == luoser.read(fixture("frozen")).handovers[0].luo


# -- a note against the memory of its cut ------------------------------------------------------------------


def forged(moment: str, *, orders: dict[str, tuple[str, ...]] | None = None, **places: int) -> State:
    """The state of a source with a note in which symbols are elsewhere, or types are others."""
    kernel = running(moment)
    answers = Answers.unpack(kernel.answers())
    assert answers is not None and kernel.types is not None
    memory = Overlay(fixture(moment))
    symbols = {**answers.symbols, **{name: (place, 8) for name, place in places.items()}}
    memory.answers = replace(answers, symbols=symbols).pack()
    return luoser.read(with_types(memory, orders) if orders else memory)


def contradictions(state: State) -> list[str]:
    return [problem.message for problem in state.problems if "contradicts its memory" in problem.message]


def test_a_note_that_agrees_with_the_tables_in_memory_is_no_problem() -> None:
    assert contradictions(forged("pre")) == []


def test_tables_in_memory_win_over_a_note() -> None:
    wrong = running("pre").address("kho_out")
    assert wrong is not None
    state = forged("pre", kho_in=wrong, kho_out=wrong + 0x1000)
    (text,) = contradictions(state)
    assert "kallsyms in memory has" in text
    assert [one.direction for one in state.handovers] == ["outgoing"]


def test_types_in_memory_win_over_a_note() -> None:
    state = forged("pre", orders={"luo_file_set": ("count", "block_set", "files_list")})
    (text,) = contradictions(state)
    assert "other types" in text and state.handovers[0].pending == luoser.read(fixture("pre")).handovers[0].pending


def test_a_note_that_contradicts_vmcoreinfo_is_not_used() -> None:
    state = forged("frozen", init_uts_ns=0xFFFF_FFFF_8123_4000)
    (text,) = contradictions(state)
    assert "init_uts_ns is at 0xffffffff81234000, VMCOREINFO has" in text
    assert [one.pending for one in state.handovers] == [None]
