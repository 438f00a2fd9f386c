# SPDX-License-Identifier: MIT
"""Paths into a state: each leads to what the state document has there, or to one clear sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.state import State
from luoser.state.packed import FolioList
from luoser.state.where import Node, find_node
from tests import real
from tests.reader.helpers import only
from tests.work import processor_time

FROZEN = real.read("7.3-a/frozen")
DOCUMENT = real.document("7.3-a/frozen")["handovers"][0]
ROOT = only(FROZEN)
HOSTILE = next(session for session in DOCUMENT["luo"]["sessions"] if "\x1b" in session["name"])


def at(where: str, state: State = FROZEN) -> int:
    return find_node(state, where).address


def refused(where: str, state: State = FROZEN) -> str:
    with pytest.raises(UsageError) as caught:
        find_node(state, where)
    assert str(caught.value).isprintable()
    return str(caught.value)


# -- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["0x617000", "6385664", " 0x617_000 ", "6236K"])
def test_address(where: str) -> None:
    assert find_node(FROZEN, where) == Node(0x617000, None)


# -- every path of the document -----------------------------------------------------------------------------------

PATHS = [
    ("root", DOCUMENT["address"]),
    ("handovers[0]", DOCUMENT["address"]),
    ("handovers[0].root", DOCUMENT["address"]),
    (f"handovers[{DOCUMENT['address']}]", DOCUMENT["address"]),
    ("address", DOCUMENT["address"]),
    ("preserved", DOCUMENT["preserved"]["address"]),
    ("preserved.address", DOCUMENT["preserved"]["address"]),
    ("luo", DOCUMENT["luo"]["address"]),
    (".luo.address", DOCUMENT["luo"]["address"]),
    ("luo.sessions[0]", DOCUMENT["luo"]["sessions"][0]["address"]),
    ("luo.sessions[vm-web-01].files[0]", DOCUMENT["luo"]["sessions"][0]["files"][0]["address"]),
    ("luo.sessions[vm-web-01].files[0x1b]", DOCUMENT["luo"]["sessions"][0]["files"][1]["address"]),
    ("luo.sessions[vm-web-01].files[27].data", DOCUMENT["luo"]["sessions"][0]["files"][1]["data"]),
    ("luo.sessions[0].files[1].memfd", DOCUMENT["luo"]["sessions"][0]["files"][1]["data"]),
    ("luo.sessions[0].files[1].memfd.folios", DOCUMENT["luo"]["sessions"][0]["files"][1]["memfd"]["folios"]["address"]),
    ("luo.flbs[pci]", next(flb["data"] for flb in DOCUMENT["luo"]["flbs"] if flb["name"] == "pci")),
    ("luo.flbs[pci].address", next(flb["address"] for flb in DOCUMENT["luo"]["flbs"] if flb["name"] == "pci")),
    ("subtrees[memblock]", next(tree["address"] for tree in DOCUMENT["subtrees"] if tree["name"] == "memblock")),
    ("pci[0]", DOCUMENT["pci"][0]["address"]),
    ("pci[pci-lu-v2-03]", next(entry["address"] for entry in DOCUMENT["pci"] if entry["layout"] == "pci-lu-v2-03")),
    ("pci[pci-lu-v2-03].devices[0000:41:00.0].driver_data", "0x1a96000"),
    ("memblock", None),
    ("memblock.reservations[labmem]", DOCUMENT["memblock"]["reservations"][0]["start"]),
    ("memblock.reservations[0].start", DOCUMENT["memblock"]["reservations"][0]["start"]),
    ("kexec_metadata", None),
    ("kho_test", None),
]


@pytest.mark.parametrize(("where", "wanted"), PATHS, ids=[where for where, _ in PATHS])
def test_path_leads_to_what_the_document_has_there(where: str, wanted: str | None) -> None:
    named = {subtree.name.replace("-", "_"): subtree.address for subtree in ROOT.subtrees}
    assert at(where) == (int(wanted, 16) if wanted is not None else named[where])


def test_nodes_that_say_their_size() -> None:
    assert find_node(FROZEN, "root").size == 465
    assert find_node(FROZEN, "subtrees[pci-luo-lab]").size == 136
    assert find_node(FROZEN, "memblock.reservations[0]").size == 1 << 20
    assert find_node(FROZEN, "pci[0]").size is None
    post = real.read("7.3-a/post")
    scratch = find_node(post, "handovers[0].scratch[1]")
    assert post.handovers[0].scratch is not None
    assert scratch == Node(post.handovers[0].scratch[1].address, post.handovers[0].scratch[1].size)


def test_subsystem_of_the_luo_of_2025() -> None:
    state = real.read("6.18-a/frozen")
    assert at("luo.subsystems[pci]", state) == at("pci[0]", state)


def test_token_of_64_ones() -> None:
    index, file = next(
        (place, file)
        for place, session in enumerate(DOCUMENT["luo"]["sessions"])
        for file in session["files"]
        if file["token"] == "0xffffffffffffffff"
    )
    assert at(f"luo.sessions[{index}].files[0xffffffffffffffff]") == int(file["address"], 16)
    assert at(f"luo.sessions[{index}].files[{2**64 - 1}]") == int(file["address"], 16)
    assert "found 0" in refused(f"luo.sessions[{index}].files[{2**64}]")


def test_decimal_number_is_an_index_and_a_hexadecimal_one_never() -> None:
    """Tokens and addresses are hex everywhere; 0X as well as 0x."""
    assert at("luo.sessions[0].files[1]") == at("luo.sessions[0].files[0x1b]") == at("luo.sessions[0].files[0X1B]")
    assert "found 0" in refused("luo.sessions[0].files[0x1]")


def test_name_as_it_is_and_as_it_is_shown() -> None:
    assert "\x1b" in HOSTILE["name"] and "/" in HOSTILE["name"]
    shown = HOSTILE["name"].replace("\x1b", "\\x1b")
    assert at(f"luo.sessions[{HOSTILE['name']}]") == int(HOSTILE["address"], 16)
    assert at(f"luo.sessions[{shown}]") == int(HOSTILE["address"], 16)


def renamed(*names: str) -> State:
    assert ROOT.luo is not None
    sessions = tuple(replace(session, name=name) for session, name in zip(ROOT.luo.sessions, names, strict=False))
    return replace(FROZEN, handovers=(replace(ROOT, luo=replace(ROOT.luo, sessions=sessions)),))


@pytest.mark.parametrize("name", ["[0]", "vm[1]", "a]b", "]", "[", "a\nb", "\udcff", "[[", "0x", " ", "]]"])
def test_name_with_brackets_and_worse(name: str) -> None:
    state = renamed("first", name)
    assert at(f"luo.sessions[{name}]", state) == at("luo.sessions[1]", state)
    assert at(f"luo.sessions[{name}].address", state) == at("luo.sessions[1]", state)


def test_name_that_two_items_have() -> None:
    assert "luo.sessions: expected one item twin, found 2" in refused("luo.sessions[twin]", renamed("twin", "twin"))


def test_name_that_is_a_number() -> None:
    """An index comes first: the session of that name has one, too."""
    state = renamed("1", "other")
    assert at("luo.sessions[1]", state) == at("luo.sessions[other]", state)


# -- what has no place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        *(
            "luo.number",
            "luo.serialized",
            "luo.sessions[0].count",
            "luo.sessions[0].files[0].token",
            "luo.flbs[0].count",
        ),
        *("luo.sessions[0].files[1].memfd.size", "luo.sessions[0].files[1].memfd.position"),
        *("luo.sessions[0].files[1].memfd.seals", "luo.sessions[0].files[1].memfd.folios.count"),
        *("pci[0].devices[0].flags", "pci[0].devices[0].bdf", "pci[0].devices[0].index", "kho_test.checksum"),
        *("source.page_size", "handovers[0].source", "kexec_metadata.kexec_count", "preserved.bitmap_size"),
        *("subtrees[0].size", "memblock.reservations[0].size"),
    ],
)
def test_number_that_is_no_address_is_not_taken_for_one(where: str) -> None:
    assert "no address of its own" in refused(where) or "has no" in refused(where)


@pytest.mark.parametrize("where", ["handovers", "luo.sessions", "source", "source.path", "evidence[0]", "pci[0].via"])
def test_part_without_an_address(where: str) -> None:
    assert "no address of its own" in refused(where)


@pytest.mark.parametrize("where", ["pci[0].devices[1].driver_data", "pci[0].devices[1]"])
def test_address_of_0_is_none(where: str) -> None:
    """A bridge has no driver data; a device has no place of its own."""
    assert "no address of its own" in refused(where, real.read("6.18-a/frozen"))


@pytest.mark.parametrize(
    ("where", "word"),
    [
        ("luo.sessions[99]", "luo.sessions: expected one item 99, found 0; it has 6 items"),
        ("luo.sessions[-1]", "expected one item -1, found 0"),
        ("luo.sessions[vm-web]", "expected one item vm-web, found 0"),
        ("luo.sesions", "luo has no sesions; did you mean sessions or session_blocks or session_area?; it has layout"),
        ("nonsense", "the state has no nonsense; it has address"),
        ("luo[0]", "luo is not a list"),
        ("luo.sessions.name", "luo.sessions is a list: expected an item of it, such as luo.sessions[0]"),
        ("source.path[0]", "source.path is not a list"),
        ("", "expected a path such as"),
        ("luo..sessions", "expected a path such as"),
        ("luo.sessions[", "expected a path such as"),
        ("luo.sessions[]", "expected a path such as"),
        ("luo.sessions[0", "expected a path such as"),
        ("luo.sessions]0[", "expected a path such as"),
        ("luo/sessions", "expected a path such as"),
        ("__class__", "the state has no __class__"),
        ("luo.__dict__", "luo has no __dict__"),
        ("-1", "expected a path such as"),
        ("0xzz", "expected a path such as"),
        ("memblock.reservations[9]", "expected one item 9, found 0; it has 1 item"),
    ],
)
def test_path_that_leads_nowhere_says_where_it_ends(where: str, word: str) -> None:
    assert word in refused(where)


@pytest.mark.parametrize(
    "where", ["\x1b[31m", "luo.\u202e", "luo.sessions[\x1b]", "a" * 100_000, "[" * 10_000, "9" * 5000]
)
def test_hostile_path_is_refused_at_once_in_printable_words(where: str) -> None:
    """It would take thousands of times as long as a plain one if a pattern went back over what it has matched."""
    assert processor_time(lambda: refused(where)) < 1000 * processor_time(lambda: refused("luo.sesions"))


def test_part_that_is_missing() -> None:
    state = real.read("7.3-a/post")
    assert state.handovers[0].luo is None
    assert "handovers[0] has no luo" in refused("handovers[0].luo.sessions[0]", state)


def test_two_handovers_have_to_be_told_apart() -> None:
    state = real.read("7.3-chain/frozen2")
    assert "found 2 handovers; start with handovers[N]" in refused("luo", state)
    places = [handover.address for handover in state.handovers]
    assert [at(f"handovers[{place}].root", state) for place in range(2)] == places


def test_handover_without_a_place() -> None:
    state = replace(FROZEN, handovers=(replace(ROOT, address=None),))
    assert "no address of its own" in refused("root", state)


def test_item_of_a_long_list_costs_nothing() -> None:
    class Slow(FolioList):
        def __iter__(self) -> Any:
            raise AssertionError("a long list is not walked for an index")

    assert ROOT.luo is not None
    file = ROOT.luo.sessions[0].files[1]
    assert file.memfd is not None
    folios = replace(file.memfd.folios, list=Slow(bytes(16) + (5).to_bytes(8, "little") * 2, page_size=4096))
    session = replace(ROOT.luo.sessions[0], files=(replace(file, memfd=replace(file.memfd, folios=folios)),))
    state = replace(FROZEN, handovers=(replace(ROOT, luo=replace(ROOT.luo, sessions=(session,))),))
    assert at("luo.sessions[0].files[0].memfd.folios.list[1]", state) == 0x5000
