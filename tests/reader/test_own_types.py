# SPDX-License-Identifier: MIT
"""Layouts and unknown structs by the running kernel's own types, on a cut of a real kernel that carries them."""

from __future__ import annotations

from dataclasses import replace

import pytest

import luoser
from luoser.checks import check
from luoser.kernel.answers import Answers
from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Type, Types
from luoser.memory.overlay import Overlay
from luoser.state import State, to_document
from tests.kernel.real import memory as fixture
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
    """The types of a kernel, in which one struct has another size."""

    def __init__(self, below: Types, name: str) -> None:
        super().__init__(below.where)
        self.below, self.changed = below, below.named(name)

    def type(self, number: int) -> Type:
        found = self.below.type(number)
        return replace(found, size=found.size + 8) if number in self.changed else found

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
