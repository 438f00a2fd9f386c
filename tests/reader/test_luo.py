# SPDX-License-Identifier: MIT
"""LUO's root object in every form, sessions, files, FLBs; and what is left when parts of it are gone."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

import luoser
from luoser.checks import Verdict, check
from luoser.errors import PageState
from luoser.limits import Limits
from luoser.memory.overlay import Overlay
from luoser.render.tree import print_state
from luoser.state import Direction, MapStatus, State, to_document
from tests import real
from tests.images import Image, Node, fdt, name, text, u64
from tests.reader.helpers import (
    FROZEN,
    OLD,
    brief,
    codes,
    luo_image,
    luo_of,
    luo_ser,
    number,
    only,
    problems,
    session_entry,
    sound_luo,
)
from tests.writer.helpers import built_luo

WEIRD = 'weird name \x1b[31m/../"x'


# -- damage in real dumps --


@pytest.mark.parametrize("dump", [FROZEN, OLD])
@pytest.mark.parametrize(("state", "code"), [(PageState.ABSENT, "missing"), (PageState.EXCLUDED, "excluded")])
def test_luo_page_that_is_gone_is_null_with_a_problem(dump: str, state: PageState, code: str) -> None:
    memory = real.overlay(dump)
    memory.remove(sound_luo(dump).address, state=state)
    found = luoser.read(memory)
    assert only(found).luo is None
    (problem,) = problems(found, code)
    assert problem.address == sound_luo(dump).address
    assert code in problem.message or code == "missing"
    assert only(found).preserved.status is MapStatus.INTACT


@pytest.mark.parametrize("dump", [FROZEN, OLD])
@pytest.mark.parametrize(
    "content", [bytes(4096), b"#!/bin/busybox sh\n" * 200, b"\xff" * 4096], ids=["zeros", "script", "ones"]
)
def test_luo_page_that_was_reused_is_null_with_a_problem(dump: str, content: bytes) -> None:
    memory = real.overlay(dump)
    memory.write(sound_luo(dump).address, content)
    found = luoser.read(memory)
    assert only(found).luo is None
    assert [problem.address for problem in problems(found, "luo-reused")] == [sound_luo(dump).address]


def test_null_luo_is_null_in_the_document() -> None:
    incoming = real.document("7.3-a/post")["handovers"][0]
    assert incoming["luo"] is None
    assert any(problem["code"] == "luo-reused" for problem in real.document("7.3-a/post")["problems"])


def test_sessions_that_cannot_be_read_are_not_called_unserialised() -> None:
    """sessions_pa is set by nothing but serialising."""
    memory = real.overlay(FROZEN)
    memory.remove(sound_luo().session_blocks[0])
    assert sound_luo().flb_area is not None
    memory.remove(sound_luo().flb_area or 0)
    assert luo_of(luoser.read(memory)).serialized


@pytest.mark.parametrize("pointer", [0x617001, 1 << 52, (1 << 64) - 4096])
def test_impossible_session_pointer_is_a_problem(pointer: int) -> None:
    memory = real.overlay(FROZEN)
    memory.write(sound_luo().address + 16, u64(pointer))
    found = luoser.read(memory)
    assert luo_of(found).sessions == ()
    assert f"{pointer:#x}" in problems(found, "bad-pointer")[0].message
    assert luo_of(found).flbs == sound_luo().flbs


def test_impossible_session_count_of_the_old_area_is_a_problem() -> None:
    memory = real.overlay(OLD)
    area = sound_luo(OLD).session_area
    assert area is not None
    for count in (820, (1 << 64) - 1):
        memory.write(area, u64(count))
        found = luoser.read(memory)
        assert luo_of(found).sessions == ()
        assert str(count) in problems(found, "bad-count")[0].message


def test_contiguous_files_fill_two_pages_and_no_more() -> None:
    for count, expected in ((128, 128), (129, 0)):
        image = Image()
        area = image.alloc(b"".join(file_entry(token) for token in range(128)), order=1)
        state = luo_image(image, luo_ser(1, image.blocks([session_entry("a", area, count)]), compatible="luo-v4"))
        assert len(luo_of(state).sessions[0].files) == expected
        assert bool(problems(state, "bad-count")) == (count > 128)


def test_more_files_in_the_entry_than_in_the_blocks_is_a_problem() -> None:
    memory = real.overlay(FROZEN)
    where = sound_luo().sessions[0].address
    assert where is not None
    memory.write(where + 72, u64(4))
    found = luoser.read(memory)
    assert len(luo_of(found).sessions[0].files) == 3
    assert problems(found, "file-count")[0].address == where


def test_entry_overwritten_with_garbage_is_left_out_and_named() -> None:
    memory = real.overlay(FROZEN)
    where = sound_luo().sessions[1].address
    assert where is not None
    memory.write(where, b"\xa5" * 80)
    found = luoser.read(memory)
    assert problems(found, "bad-session")[0].address == where
    names = [session.name for session in sound_luo().sessions]
    assert [session.name for session in luo_of(found).sessions] == names[:1] + names[2:]


def test_session_caught_before_its_name_was_written_is_kept() -> None:
    memory = real.overlay(FROZEN)
    where = sound_luo().sessions[0].address
    assert where is not None
    memory.write(where, bytes(64))
    found = luoser.read(memory)
    assert luo_of(found).sessions[0].name == ""
    assert len(luo_of(found).sessions[0].files) == 3
    assert problems(found, "unnamed-session")[0].address == where


def test_flb_count_beyond_its_page_is_a_problem() -> None:
    memory = real.overlay(FROZEN)
    area = sound_luo().flb_area
    assert area is not None
    memory.write(area + 8, u64(64))
    found = luoser.read(memory)
    assert luo_of(found).flbs == ()
    assert problems(found, "bad-count")[0].address == area
    assert brief(luo_of(found)) == brief(sound_luo())


def test_test_flbs_are_not_followed() -> None:
    magic = [flb for flb in sound_luo().flbs if flb.name.startswith("liveupdate-test-flb")]
    assert len(magic) == 3
    assert all(flb.data == 0xFEEDF00DCAFEBEE0 + i for i, flb in enumerate(magic))
    assert real.read(FROZEN).problems == ()


# -- names --


@pytest.mark.parametrize("dump", [FROZEN, OLD, "7.3-chain/frozen"])
def test_escape_in_a_name_is_kept_in_json_and_ascii_there(dump: str) -> None:
    printed = json.dumps(real.document(dump), ensure_ascii=True)
    assert "\x1b" not in printed
    names = [session["name"] for session in json.loads(printed)["handovers"][0]["luo"]["sessions"]]
    assert WEIRD in names


def shown(state: State, capsys: pytest.CaptureFixture[str]) -> str:
    print_state(state)
    return capsys.readouterr().out


def test_escape_in_a_name_is_escaped_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(real.read(FROZEN), capsys)
    assert "\x1b" not in out
    assert r'weird name \x1b[31m/../"x' in out


HOSTILE = [
    b"\xff\xfe",
    b"a\nb",
    "\u202eevil".encode(),
    b"[red]x[/]",
    b"back\\slash",
    "ümlaut".encode(),
    b"\x9b31m",
    "\ue000".encode(),
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_any_name_keeps_its_bytes_in_json(raw: bytes) -> None:
    state = luo_image(Image(), None, sessions=[session_entry(raw, 0, 0)])
    document = json.loads(json.dumps(to_document(state), ensure_ascii=True))
    assert document["handovers"][0]["luo"]["sessions"][0]["name"].encode("utf-8", "surrogateescape") == raw


@pytest.mark.parametrize("raw", HOSTILE)
def test_no_name_steers_the_terminal(raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(luo_image(Image(), None, sessions=[session_entry(raw, 0, 0)]), capsys)
    assert not set(out) & set("\x1b\x9b\r\x00\u202e\ue000")
    assert {character for character in out if not character.isprintable()} <= {"\n"}
    line = next(line for line in out.splitlines() if "session " in line)
    assert "[red]" in line or raw != b"[red]x[/]"


def test_session_without_files_has_none() -> None:
    (empty,) = (session for session in sound_luo().sessions if session.name == "empty-session")
    assert (empty.files, empty.count, empty.blocks) == ((), 0, ())


def test_not_serialised_yet_is_said_and_not_called_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert not luo_of(real.read("7.3-a/pre")).serialized
    assert "not serialised yet" in shown(real.read("7.3-a/pre"), capsys)
    pre = real.read("7.3-a/pre")
    doubtful = replace(pre, handovers=tuple(replace(one, direction=Direction.UNKNOWN) for one in pre.handovers))
    assert "empty: not serialised yet, or consumed" in shown(doubtful, capsys)
    assert "not serialised yet" not in shown(real.read(FROZEN), capsys)


# -- forms that no dump has --


def file_entry(token: int, data: int = 0x5EED000, handler: str = "some-handler-v1") -> bytes:
    return name(handler, 48) + struct.pack("<QQ", data, token)


def flb_page(*flbs: tuple[str, int, int]) -> bytes:
    entries = b"".join(name(label, 48) + struct.pack("<QQ", data, count) for label, data, count in flbs)
    return struct.pack("<QQ", 1, len(flbs)) + entries


def contiguous_files(image: Image, *tokens: int) -> int:
    return image.alloc(b"".join(file_entry(token) for token in tokens), order=1)


def session_area(image: Image, *entries: bytes) -> int:
    return image.alloc(struct.pack("<Q", len(entries)) + b"".join(entries), order=4)


def files(*tokens: int) -> list[tuple[str, int, int]]:
    return [("some-handler-v1", 0x5EED000, token) for token in tokens]


def test_luo_v5_golden_bytes() -> None:
    """The catalogue's example, moved into the image."""
    image = Image()
    block = image.blocks([file_entry(7)])
    sessions = image.blocks([session_entry("vm0", block, 1)])
    flbs = image.alloc(flb_page(("other", 0x1F1D2A000, 2)))
    state = luo_image(image, luo_ser(1, sessions, flbs))
    luo = luo_of(state)
    assert (luo.layout, luo.compatible, luo.number, luo.serialized) == ("luo-v5", "luo-v5", 1, True)
    assert brief(luo) == [("vm0", files(7))]
    assert [(flb.name, flb.data, flb.count) for flb in luo.flbs] == [("other", 0x1F1D2A000, 2)]
    assert state.problems == ()


def test_luo_v5_files_go_over_several_blocks_in_order() -> None:
    image = Image()
    tokens = list(range(1000, 1150))
    block = image.blocks([file_entry(token) for token in tokens])
    state = luo_image(image, luo_ser(2, image.blocks([session_entry("many", block, 150)])))
    (session,) = luo_of(state).sessions
    assert [file.token for file in session.files] == tokens
    assert len(session.blocks) == 3
    assert state.problems == ()


def test_luo_v4_has_session_blocks_and_contiguous_files() -> None:
    image = Image()
    sessions = image.blocks([session_entry("a", contiguous_files(image, 1, 2), 2), session_entry("b", 0, 0)])
    state = luo_image(image, luo_ser(3, sessions, compatible="luo-v4"))
    luo = luo_of(state)
    assert (luo.layout, luo.compatible, luo.number) == ("luo-v4", "luo-v4", 3)
    assert brief(luo) == [("a", files(1, 2)), ("b", [])]
    assert state.problems == ()


def test_luo_v3_has_a_session_area_and_contiguous_files() -> None:
    image = Image()
    area = session_area(image, session_entry("a", contiguous_files(image, 1, 2), 2), session_entry("b", 0, 0))
    state = luo_image(image, luo_ser(4, area, image.alloc(flb_page(("x", 0x99000, 1))), compatible="luo-v3"))
    luo = luo_of(state)
    assert (luo.layout, luo.number) == ("luo-v3", 4)
    assert brief(luo) == [("a", files(1, 2)), ("b", [])]
    assert [flb.name for flb in luo.flbs] == ["x"]
    assert {problem.code for problem in state.problems} == {"zero-flb"}


def test_luo_v2_is_a_devicetree_with_one_pointer() -> None:
    image = Image()
    area = session_area(image, session_entry("a", contiguous_files(image, 9), 1))
    header = image.alloc(struct.pack("<QQQ", 6, area, image.alloc(flb_page(("x", 0x99000, 1)))))
    tree = Node("", {"compatible": text("luo-v2"), "luo-abi-header": u64(header)})
    state = luo_image(image, fdt(tree))
    luo = luo_of(state)
    assert (luo.layout, luo.compatible, luo.number) == ("luo-v2", "luo-v2", 6)
    assert brief(luo) == [("a", files(9))]
    assert [flb.name for flb in luo.flbs] == ["x"]
    assert {problem.code for problem in state.problems} == {"zero-flb"}


def test_composed_string_has_a_wider_field() -> None:
    image = Image()
    block = image.blocks([file_entry(1)])
    sessions = image.blocks([session_entry("a", block, 1)])
    blob = struct.pack("<16sQQQ", b"luo-v5;block-v1", 8, sessions, image.alloc(flb_page()))
    state = luo_image(image, blob)
    luo = luo_of(state)
    assert (luo.layout, luo.compatible, luo.number) == ("luo-composed", "luo-v5;block-v1", 8)
    assert brief(luo) == [("a", files(1))]
    assert state.problems == ()


def feature_header(supp: int = 7, req: int = 1, active: int = 7) -> bytes:
    return struct.pack("<QQQ104x", supp, req, active)


def test_feature_header_form() -> None:
    image = Image()
    block = image.blocks([file_entry(1)])
    blob = feature_header() + struct.pack("<QQQ", 9, image.blocks([session_entry("a", block, 1)]), 0)
    assert len(blob) == 152
    state = luo_image(image, blob)
    luo = luo_of(state)
    assert (luo.layout, luo.number) == ("luo-features", 9)
    assert brief(luo) == [("a", files(1))]
    assert state.problems == ()


def test_feature_header_that_requires_more_than_it_knows_is_none() -> None:
    blob = feature_header(supp=1, req=2) + bytes(24)
    state = luo_image(Image(), blob)
    assert only(state).luo is None
    assert codes(state) == ["luo-reused"]


def luo_v1(session: Node | None, *, extra: dict[str, bytes] | None = None, nodes: list[Node] | None = None) -> Node:
    children = [*([session] if session else []), *(nodes or [])]
    return Node("", {"compatible": text("luo-v1"), **(extra or {})}, children)


@pytest.mark.parametrize("kho", ["kho-v1", "kho-v3"])
def test_luo_v1_with_session_v2_and_flbs(kho: str) -> None:
    """7.0 and 7.1; no dump has this with FLBs."""
    image = Image()
    area = session_area(image, session_entry("a", contiguous_files(image, 1), 1))
    session = Node("luo-session", {"compatible": text("luo-session-v2"), "luo-session-header": u64(area)})
    flb = Node(
        "luo-flb", {"compatible": text("luo-flb-v1"), "luo-flb-header": u64(image.alloc(flb_page(("x", 0x99000, 1))))}
    )
    state = luo_image(image, fdt(luo_v1(session, extra={"liveupdate-number": u64(3)}, nodes=[flb])), compatible=kho)
    luo = luo_of(state)
    assert (luo.compatible, luo.number) == ("luo-v1", 3)
    assert brief(luo) == [("a", files(1))]
    assert [(entry.name, entry.data, entry.count) for entry in luo.flbs] == [("x", 0x99000, 1)]
    assert {problem.code for problem in state.problems} == {"zero-flb"}


def session_v1_entry(label: str, pages: int, address: int, count: int) -> bytes:
    return name(label, 56) + struct.pack("<QQQ", address, pages, count)


@pytest.mark.parametrize("header", ["luo-session-head", "luo-session-header"])
def test_luo_session_v1_has_shorter_names_and_page_counts(header: str) -> None:
    image = Image()
    entries = session_v1_entry("a", 2, contiguous_files(image, 1, 2), 2) + bytes(80) + session_v1_entry("b", 0, 0, 0)
    area = image.alloc(struct.pack("<QQ", 16, 3) + entries, order=4)
    session = Node("luo-session", {"compatible": text("luo-session-v1"), header: u64(area)})
    state = luo_image(image, fdt(luo_v1(session, extra={"liveupdate-number": u64(1)})), compatible="kho-v1")
    luo = luo_of(state)
    assert brief(luo) == [("a", files(1, 2)), ("b", [])], "released sessions stay as zeros and are skipped"
    assert luo.layout == "luo-v1-session-v1"
    assert state.problems == ()


def token_node(token: int, data: int = 0x5EED000) -> Node:
    return Node(f"{token:#x}", {"compatible": text("some-handler-v1"), "data": u64(data)})


def test_file_descriptors_as_nodes_of_the_root() -> None:
    """RFC v2: files are children of a node of LUO's own tree."""
    subsystems = Node("subsystems", {"compatible": text("subsystems-v1"), "pci": u64(0), "other": u64(0x99000)})
    own = Node("file-descriptors", {"compatible": text("file-descriptors-v1")}, [token_node(0), token_node(0xABC)])
    state = luo_image(Image(), fdt(luo_v1(None, nodes=[own, subsystems])), compatible="kho-v1")
    luo = luo_of(state)
    assert [file for _, found in brief(luo) for file in found] == files(0, 0xABC)
    assert [(entry.name, entry.data) for entry in luo.subsystems] == [("pci", 0), ("other", 0x99000)]
    assert (luo.number, luo.serialized) == (None, True)
    assert state.problems == ()


def test_file_descriptors_as_a_subsystem() -> None:
    """v2, v3: the subsystem `file-descriptors` names a devicetree of its own."""
    image = Image()
    nodes = [token_node(1), token_node((1 << 64) - 1)]
    own = image.tree(Node("", {"compatible": text("file-descriptors-v1")}, nodes))
    subsystems = Node("subsystems", {"compatible": text("subsystems-v1"), "file-descriptors": u64(own), "pci": u64(0)})
    state = luo_image(image, fdt(luo_v1(None, nodes=[subsystems])), compatible="kho-v1")
    luo = luo_of(state)
    assert [file for _, found in brief(luo) for file in found] == files(1, (1 << 64) - 1)
    assert [entry.name for entry in luo.subsystems] == ["file-descriptors", "pci"]
    assert state.problems == ()


@pytest.mark.parametrize("label", ["memory", "0x10000000000000000", "-1", ""])
def test_node_that_is_no_token_is_a_problem(label: str) -> None:
    own = Node("file-descriptors", {}, [Node(label, {"compatible": text("x"), "data": u64(0)}), token_node(5)])
    state = luo_image(Image(), fdt(luo_v1(None, nodes=[own])), compatible="kho-v1")
    assert [file for _, found in brief(luo_of(state)) for file in found] == files(5)
    assert problems(state, "bad-file")


def test_subsystems_of_zero_are_not_serialised() -> None:
    """A property is made with value 0 before any callback ran."""
    subsystems = Node("subsystems", {"compatible": text("subsystems-v1"), "pci": u64(0)})
    luo = luo_of(luo_image(Image(), fdt(luo_v1(None, nodes=[subsystems])), compatible="kho-v1"))
    assert not luo.serialized


def test_missing_number_is_a_problem_where_the_form_has_one() -> None:
    session = Node("luo-session", {"compatible": text("luo-session-v2"), "luo-session-header": u64(0)})
    state = luo_image(Image(), fdt(luo_v1(session)), compatible="kho-v1")
    assert luo_of(state).number is None
    assert "luo-no-number" in codes(state)


@pytest.mark.parametrize("compatible", ["luo", "memblock-v1", "kho"])
def test_other_devicetree_in_luos_place_is_not_luo(compatible: str) -> None:
    state = luo_image(Image(), fdt(Node("", {"compatible": text(compatible)})))
    assert only(state).luo is None
    assert "luo-reused" in codes(state)


def test_blocks_of_large_pages_hold_more() -> None:
    image = Image(page_size=65536, pages=64)
    block = image.blocks([file_entry(token) for token in range(1000)])
    state = luo_image(image, luo_ser(1, image.blocks([session_entry("a", block, 1000)])))
    (session,) = luo_of(state).sessions
    assert [file.token for file in session.files] == list(range(1000))
    assert len(session.blocks) == 1
    assert state.problems == ()


def test_address_of_each_entry_is_where_its_bytes_lie() -> None:
    memory: Overlay = real.overlay(FROZEN)
    for session in sound_luo().sessions:
        assert session.address is not None
        assert memory.read(session.address, 64).split(b"\0")[0].decode() == session.name
        for file in session.files:
            assert file.address is not None
            assert number(memory, file.address + 56) == file.token
    for flb in sound_luo().flbs:
        assert memory.read(flb.address, 48).split(b"\0")[0].decode() == flb.name


def test_placeholder_of_a_file_descriptor_is_no_file() -> None:
    image = Image()
    file = Node("0x1a", {"compatible": text("memfd-v1"), "data": u64(0)})
    nodes = [
        Node("file-descriptors", {"compatible": text("file-descriptors-v1")}, [file]),
        Node("subsystems", {"compatible": text("subsystems-v1"), "pci": u64(0)}),
    ]
    tree = image.tree(Node("", {"compatible": text("luo-v1")}, nodes))
    image.handover({"LUO": (tree, None)}, compatible="kho-v1")
    state = image.read()
    luo = state.handovers[0].luo
    assert luo is not None and not luo.serialized and luo.sessions == ()
    assert "bad-pointer" not in codes(state)


@pytest.mark.parametrize("size", [32, 36, 39, 40])
def test_root_object_that_is_larger_than_its_blob_size_is_read_whole(size: int) -> None:
    image = Image()
    address = image.alloc(b"luo-v5;block-v1\0" + struct.pack("<QQQ", 1, 0, 0))
    image.handover({"LUO": (address, size)}, compatible="kho-v4")
    luo = only(image.read()).luo
    assert luo is not None and (luo.layout, luo.number) == ("luo-composed", 1)


def test_of_two_sub_trees_of_one_name_the_first_is_read() -> None:
    """As a kernel does, which looks for the name."""
    image = Image()
    first = image.alloc(b"luo-v5\0\0" + struct.pack("<QQQ", 7, 0, 0))
    second = image.alloc(b"garbage!" * 4)
    image.handover({"LUO": (first, 32), "LUp": (second, 32)})
    data = bytes(image.data).replace(b"LUp\0", b"LUO\0")
    image.data[:] = data
    luo = only(image.read()).luo
    assert luo is not None and luo.number == 7


def test_descriptor_that_is_absent_beside_another_one_is_only_missing() -> None:
    """The page one bit off belongs to another file, so the pointer is right, and its page is not in the source."""
    luo, _, image = built_luo({"sessions": [{"name": "vm", "files": [{"memfd": {"size": 4096}} for _ in range(8)]}]})
    data = [file.data for file in luo.sessions[0].files]
    gone = next(one for one in data if any((one ^ other).bit_count() == 1 for other in data))
    memory = Overlay(image.memory())
    memory.remove(gone)
    found = codes(luoser.read(memory))
    assert "missing" in found and "pointer-off" not in found


def test_a_limit_of_problems_drops_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pointer that is one bit off is forgotten if its neighbour is in use; the last problem before it is not."""
    luo, _, image = built_luo({"sessions": [{"name": "vm", "files": [{"memfd": {"size": 4096}} for _ in range(8)]}]})
    data = [file.data for file in luo.sessions[0].files]
    memory = Overlay(image.memory())
    memory.remove(next(one for one in data if any((one ^ other).bit_count() == 1 for other in data)))
    whole = codes(luoser.read(memory))
    assert whole.index("missing") == 0
    monkeypatch.setattr("luoser.reader.walk.LIMITS", Limits(problems=1))
    assert codes(luoser.read(memory)) == [*whole[:1], "too-many"]


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("7.3-a/frozen", "luo"),
        ("7.3-a/frozen", "luo.sessions"),
        ("7.3-a/frozen", "luo.flbs"),
        ("7.3-a/frozen", "luo.sessions[0].files"),
        ("7.3-a/frozen", "kexec_metadata"),
        ("7.3-a/frozen", "luo.flbs[0]"),
        ("6.19-a/frozen", "luo.sessions"),
        ("6.19-a/frozen", "luo.sessions[0].files"),
    ],
)
def test_a_page_that_is_absent_while_one_of_its_kind_is_one_bit_off(name: str, about: str) -> None:
    """The page itself, moved by one bit: what a flipped bit of the pointer to it looks like."""
    whole = only(real.read(name))
    assert whole.luo is not None
    trees = {entry.name: entry.address for entry in whole.subtrees}
    lists = {way: entry.address for entry in whole.pci for way in entry.via}
    pages = {
        "luo": trees["LUO"],
        "luo.sessions": whole.luo.session_area,
        "luo.flbs": whole.luo.flb_area,
        "luo.flbs[0]": next((lists[f"flb:{flb.name}"] for flb in whole.luo.flbs if f"flb:{flb.name}" in lists), None),
        "luo.sessions[0].files": whole.luo.sessions[0].blocks[0],
        "kexec_metadata": trees.get("kexec-metadata"),
    }
    page = pages[about]
    assert page is not None
    memory = real.overlay(name)
    near = next(
        page ^ 1 << bit for bit in range(12, 40) if memory.page_state(page ^ 1 << bit) is PageState.ABSENT and bit > 20
    )
    memory.write(near, memory.read(page, 4096))
    memory.remove(page)
    found = [one for one in luoser.read(memory).problems if one.code == "pointer-off"]
    assert [(one.address, f"{near:#x}, one bit off" in one.message) for one in found] == [(page, True)]


@pytest.mark.parametrize("place", [104, 4096, 0xF000])
def test_session_area_of_zeros_with_other_bytes(place: int) -> None:
    """Not an area without sessions: it is made of zeros, and never shrinks."""
    memory = real.overlay("6.19-a/frozen")
    area = only(real.read("6.19-a/frozen")).luo
    assert area is not None and area.session_area is not None
    memory.write(area.session_area, bytes(16 * 4096))
    assert "left-over" not in codes(luoser.read(memory))
    memory.write(area.session_area + place, b"kkkk")
    (problem,) = (one for one in luoser.read(memory).problems if one.code == "left-over")
    assert (problem.about, problem.address) == ("luo.sessions", area.session_area + place)
    assert check(luoser.read(memory)).verdict is Verdict.FINDINGS
