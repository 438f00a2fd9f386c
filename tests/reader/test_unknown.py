# SPDX-License-Identifier: MIT
"""The bytes of what cannot be decoded: read, shown, written again."""

from __future__ import annotations

import re
import struct

import pytest

import luoser
from luoser.errors import PageState
from luoser.limits import Limits, limited
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import Contents, Handover, State, to_document
from luoser.writer.verify import differences
from tests import real
from tests.images import Image, Node, fdt, name, text, u32, u64
from tests.writer.helpers import built

BLOB = b"blob of a module\0\1\2\3"


def image() -> Image:
    """A sub-tree, a file and an FLB of unknown kinds, and a file whose handle is no address."""
    made = Image()
    file, flb = made.alloc(b"file", order=2), made.alloc(b"flb")
    rows = [name("mine-v9", 48) + struct.pack("<QQ", data, token) for token, data in enumerate((file, 77, 0x7654000))]
    sessions = made.blocks([name("vm", 64) + struct.pack("<QQ", made.blocks(rows), len(rows))])
    flbs = made.alloc(struct.pack("<QQ", 1, 1) + name("my-flb-v3", 48) + struct.pack("<QQ", flb, 3))
    luo = made.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, flbs))
    made.handover({"LUO": (luo, 32), "module": (made.alloc(BLOB), len(BLOB))})
    return made


def only(state: State) -> Handover:
    (handover,) = state.handovers
    return handover


def said(handover: Handover) -> dict[str, tuple[Contents, ...]]:
    assert handover.luo is not None
    return {
        **{entry.name: entry.contents for entry in handover.subtrees},
        **{f"{file.token}": file.contents for file in handover.luo.sessions[0].files},
        **{flb.name: flb.contents for flb in handover.luo.flbs},
    }


def test_the_bytes_are_those_of_the_blob_or_folio() -> None:
    found = said(only(image().read(contents=True)))
    sizes = {key: [(piece.size, piece.data) for piece in pieces] for key, pieces in found.items()}
    assert sizes == {
        "LUO": [],
        "module": [(len(BLOB), BLOB)],
        "0": [(4 * 4096, b"file")],
        "1": [],
        "2": [],
        "my-flb-v3": [(4096, b"flb")],
    }


def test_of_a_large_blob_or_folio_the_first_bytes_are_shown() -> None:
    with limited(Limits(contents_size=8)):
        found = said(only(image().read(contents=True)))
    assert [(piece.size, piece.data) for piece in found["module"]] == [(8, BLOB[:8])]
    assert [(piece.size, piece.data) for piece in found["0"]] == [(8, b"file")]


def test_bytes_of_folios_of_the_self_test_have_a_limit() -> None:
    """In addition to what the source holds."""
    made, zeros = Image(pages=64), 1 << 32
    words = b"".join(u64(zeros + (number << 19) | 7) for number in range(3))
    data = Node("data", {"nr_folios": u32(3), "folios_info": words, "csum": u32(0)})
    tree = Node("", {"compatible": text("kho-test-v1"), "magic": u32(0x4B484F21)}, [data])
    made.handover({"kho_test": (made.tree(tree), None)}, compatible="kho-v1")
    with limited(Limits(kho_test_bytes=(2 << 19) - len(made.data))):
        state = luoser.read(made.with_zeros(zeros, 2 << 20), contents=True)
    test = only(state).kho_test
    assert test is not None and [piece.address for piece in test.contents] == [zeros, zeros + (1 << 19)]
    (problem,) = [problem for problem in state.problems if problem.code == "too-many"]
    assert problem.address == zeros + (2 << 19) and "--limit kho_test_bytes=N" in problem.message


def test_without_contents_nothing_is_read() -> None:
    assert not any(said(only(image().read())).values())


@pytest.mark.parametrize("state", [PageState.EXCLUDED, PageState.DAMAGED])
def test_bytes_that_are_not_there_are_a_problem_of_contents(state: PageState) -> None:
    made = image()
    handover = only(made.read())
    assert handover.luo is not None
    memory = Overlay(made.open())
    memory.remove(handover.luo.sessions[0].files[0].data + 4096, state=state)
    again = luoser.read(memory, contents=True)
    (piece,) = said(only(again))["0"]
    assert piece.size == 4096
    (problem,) = (one for one in again.problems if one.code in ("excluded", "page-damaged"))
    assert problem.about == "luo.sessions[0].files[0].contents"


def test_real_blob_of_an_unknown_module() -> None:
    handover = only(luoser.read(real.dump("7.3-a/frozen"), contents=True))
    assert all(not entry.contents for entry in handover.subtrees)  # its list is one of devices
    pre = only(luoser.read(real.dump("7.3-a/pre"), contents=True))
    (module,) = (entry for entry in pre.subtrees if entry.name == "pci-luo-lab")
    listed = any(entry.address == module.address for entry in pre.pci)
    assert bool(module.contents) != listed


def test_a_document_with_them_is_written_again() -> None:
    memory = image().open()
    document = to_document(luoser.read(memory, contents=True), full=True)
    state, written = built(document)
    assert [word for word in written.lacks if "file 0x1" not in word and "file 0x2" not in word] == []
    assert said(only(state)) == said(only(luoser.read(memory, contents=True)))
    assert list(differences(document, to_document(luoser.read(written.memory(), contents=True), full=True))) == []


def test_a_description_needs_only_the_bytes() -> None:
    luo = {
        "sessions": [{"name": "vm", "files": [{"compatible": "mine-v9", "contents": [{"bytes": "aabb"}]}]}],
        "flbs": [{"name": "my-flb-v3", "count": 1, "contents": [{"bytes": "cc"}]}],
    }
    tree = {"name": "module", "contents": [{"bytes": BLOB.hex()}]}
    state, written = built({"handovers": [{"luo": luo, "subtrees": [tree]}]})
    assert written.lacks == []
    handover = only(state)
    assert {entry.name for entry in handover.subtrees} == {"LUO", "module", "kexec-metadata"}
    assert [piece.data for pieces in said(handover).values() for piece in pieces] == [BLOB, b"\xaa\xbb", b"\xcc"]


# -- on the screen --


def test_an_unknown_devicetree_is_shown_with_the_addresses_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    made = Image()
    page = made.alloc(b"table", order=1)
    inner = Node("part", {"id": u64(5)})
    tree = fdt(Node("", {"compatible": text("mshv_kho-v1"), "root_table": u64(page), "wild": u64(0x7000000)}, [inner]))
    made.handover({"mshv_prsv_pt": (made.alloc(tree), len(tree))})
    print_state(made.read())
    shown = capsys.readouterr().out
    assert f"root_table = <{page:#x}>  (preserved, order 1)" in shown
    assert "wild = <0x7000000>\n" in shown and 'compatible = "mshv_kho-v1"' in shown
    assert "part" in shown and "id = <0x5>" in shown


def test_devicetrees_of_an_unknown_handler_and_flb_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    made = Image()
    table = made.alloc(b"table")
    file, flb = (made.alloc(fdt(Node("", {where: u64(table)}))) for where in ("in-file", "in-flb"))
    files = made.blocks([name("mine-v9", 48) + struct.pack("<QQ", file, 1)])
    sessions = made.blocks([name("vm", 64) + struct.pack("<QQ", files, 1)])
    flbs = made.alloc(struct.pack("<QQ", 1, 1) + name("my-flb-v3", 48) + struct.pack("<QQ", flb, 1))
    made.handover({"LUO": (made.alloc(struct.pack("<8sQQQ", b"luo-v5", 1, sessions, flbs)), 32)})
    print_state(luoser.read(made.open(), contents=True))
    shown = capsys.readouterr().out
    for where in ("in-file", "in-flb"):
        assert f"{where} = <{table:#x}>  (preserved, order 0)" in shown


def test_data_of_an_unknown_handler_say_whether_they_are_preserved(capsys: pytest.CaptureFixture[str]) -> None:
    print_state(image().read(), folded=False)
    shown = capsys.readouterr().out
    assert re.search(r"mine-v9 at 0x\w+  data 0x", shown) and "(preserved, order 2)" in shown
    print_state(image().read())
    shown = capsys.readouterr().out
    assert "mine-v9  data 0x" in shown and "(preserved" not in shown
    assert "data 0x4d (not preserved)" in shown and "data 0x7654000 (not preserved)" in shown


def test_the_bytes_after_a_known_struct_are_read_and_written() -> None:
    made = Image()
    record = struct.pack("<I4xqqIiIII", 1, 200, 5, 0, 1, 2, 0, 0) + b"x" * 200
    made.handover({"pstore-kho": (made.alloc(record), len(record))})
    state = luoser.read(made.open(), contents=True)
    (tree,) = state.handovers[0].subtrees
    assert tree.detail is not None and [piece.data for piece in tree.contents] == [b"x" * 200]
    document = to_document(state, full=True)
    _, image = built(document)
    assert image.lacks == [] and image.read(tree.address or 0, len(record)) == record
