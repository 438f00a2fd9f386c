# SPDX-License-Identifier: MIT
"""What user space says of its sessions: systemd's mapping against the session, tokens of others, hostile words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.limits import LIMITS, Limits, limited
from luoser.state import Contents, File, FolioList, Folios, Luo, Memfd, Session
from luoser.state.user_space import UserSpace, file_bytes, user_space

PAGE = 4096


def memfd(data: bytes, *, lost: int | None = None) -> Memfd:
    """A memfd with its contents in pages. lost: index of a page that the source does not have."""
    pages = range(-(-len(data) // PAGE))
    rows = b"".join((0x1000 + index).to_bytes(8, "little") + index.to_bytes(8, "little") for index in pages)
    folios = FolioList(rows, page_size=PAGE)
    contents = tuple(
        Contents(address=(0x1000 + index) * PAGE, size=PAGE, data=data[index * PAGE :][:PAGE].rstrip(b"\0"))
        for index in pages
        if index != lost
    )
    return Memfd(
        layout="memfd-v2", address=0x5000, size=len(data), position=0, seals=0xF, contents=contents,
        folios=Folios(count=len(folios), address=0x6000, list=folios),
    )  # fmt: skip


def file(token: int, what: Memfd | None = None, *, compatible: str = "memfd-v2") -> File:
    return File(compatible=compatible, data=0x5000, token=token, address=None, memfd=what)


def luo(*sessions: Session) -> Luo:
    return Luo(layout="luo-v5", compatible="luo-v5", address=0, number=1, serialized=True, sessions=sessions)


def session(name: str, *files: File) -> Session:
    return Session(name=name, address=None, files=files, count=len(files))


def systemd(mapping: Any, *tokens: int, others: tuple[str, ...] = ()) -> UserSpace:
    """What is said of the session of systemd. mapping: JSON, or its bytes."""
    data = mapping if isinstance(mapping, bytes) else json.dumps(mapping).encode()
    own = session("systemd", *(file(token, memfd(b"x")) for token in tokens), file(0, memfd(data)))
    return user_space(luo(own, *(session(name) for name in others)))[0]


def fd(name: str, token: object) -> dict[str, object]:
    return {"type": "fd", "name": name, "token": token}


def entries(words: UserSpace) -> list[tuple[str, int | None, str | None]]:
    return [(entry.what, entry.token, entry.session) for entry in words.entries]


def version_1(**units: list[Any]) -> dict[str, Any]:
    named = {f"{name}.service": {"fdstore": entry} for name, entry in units.items()}
    return {"version": 1, "state": {"kexecsCount": 2}, "units": named}


# -- systemd ----------------------------------------------------------------------------------------------


def test_a_mapping_that_fits_its_session_has_no_notes() -> None:
    inner = {"type": "luo_session", "name": "vm", "sessionName": "vm-web"}
    words = systemd(version_1(a=[fd("state", 1), inner], b=[fd("other", 2)]), 1, 2, others=("vm-web",))
    assert entries(words) == [
        ('a.service, fd "state"', 1, None),
        ('a.service, fd "vm"', None, "vm-web"),
        ('b.service, fd "other"', 2, None),
    ]
    assert words.facts == ("mapping version 1", "2 kexecs before", "2 units") and words.notes == ()
    assert words.by == "the session's name and its mapping"


def test_the_forms_before_version_1() -> None:
    flat = {"a.service": [fd("state", 1), {"type": "luo_session", "name": "vm", "sessionName": "vm-web"}]}
    first = {
        "/system.slice/a.service": [
            {"type": "fd", "name": "state", "fd_index": 1},
            {"type": "luo_session", "name": "vm", "session_name": "vm-web"},
        ]
    }
    for mapping in (flat, first):
        words = systemd(mapping, 1, others=("vm-web",))
        assert [(token, name) for _, token, name in entries(words)] == [(1, None), (None, "vm-web")]
        assert words.notes == () and words.facts == ("1 unit",)


@pytest.mark.parametrize(
    ("mapping", "tokens", "note"),
    [
        (version_1(a=[fd("x", 1), fd("y", 3)]), (1,), "in the mapping, but not in the session: token 0x3"),
        (version_1(a=[fd("x", 1)]), (1, 5, 6), "in the session, but not in the mapping: tokens 0x5, 0x6"),
        (version_1(a=[fd("x", 1), fd("y", 1)]), (1,), "entries have one token: token 0x1"),
        (version_1(a=[fd("x", 0)]), (), "token 0x0 is that of the mapping, and of an entry in it"),
        (
            version_1(a=[{"type": "luo_session", "name": "vm", "sessionName": "gone"}]),
            (),
            'a.service, fd "vm": no session gone is handed over',
        ),
    ],
)
def test_what_does_not_fit_is_a_note(mapping: Any, tokens: tuple[int, ...], note: str) -> None:
    assert systemd(mapping, *tokens).notes == (note,)


@pytest.mark.parametrize(
    ("mapping", "note"),
    [
        (b"{", "the mapping was not decoded: line 1"),
        (b"\xff", "the mapping was not decoded: line 1, column 1: expected UTF-8"),
        (b"[" * 3000, "the mapping was not decoded: nested too deeply"),
        (b"[1]", "the mapping is not a JSON object"),
        ({"version": 2, "units": {}}, "the mapping has version 2: expected at most 1; not decoded"),
        ({"version": True}, "the mapping has version True: expected at most 1"),
        ({"version": 1, "units": []}, "the mapping's units are not an object"),
        (version_1(a=[5]), "unit a.service: an entry without a name"),
        ({"version": 1, "units": {"a": 5}}, "unit a: its fd store is not a list"),
        (version_1(a=[fd("x", -1)]), 'a.service, fd "x": its token is not a number of 64 bits'),
        (version_1(a=[fd("x", 2**64)]), 'a.service, fd "x": its token is not a number of 64 bits'),
        (version_1(a=[fd("x", "1")]), 'a.service, fd "x": its token is not a number of 64 bits'),
        (version_1(a=[{"type": "luo_session", "name": "x"}]), 'a.service, fd "x": no name of a session'),
        (version_1(a=[{"type": "other", "name": "x"}]), 'a.service, fd "x": unknown type'),
    ],
)
def test_a_mapping_that_is_none_is_a_note(mapping: Any, note: str) -> None:
    words = systemd(mapping)
    assert words.entries == () and len(words.notes) == 1 and words.notes[0].startswith(note)


def test_a_session_of_that_name_without_a_mapping() -> None:
    for files, note in (
        ((file(1),), "no mapping: the session has no file with token 0x0"),
        ((file(0),), "the mapping, token 0x0, is not a memfd that can be read"),
        ((file(0, replace(memfd(b"{}"), contents=())),), "give --contents, or a source with its pages"),
        ((file(0, memfd(b" " * 2 * PAGE, lost=0)),), "some of its pages are not in the source"),
        ((file(0, memfd(b" " * 2 * PAGE, lost=1)),), "some of its pages are not in the source"),
        ((file(0, memfd(b" " * (LIMITS.contents_size + 1))),), "--limit contents_size=N raises this limit"),
    ):
        words = user_space(luo(session("systemd", *files)))[0]
        assert words.by == "the session's name" and note in words.notes[0]


def test_tokens_of_a_session_that_was_not_read_whole_are_not_compared() -> None:
    own = replace(session("systemd", file(0, memfd(json.dumps(version_1(a=[fd("x", 9)])).encode()))), count=3)
    assert user_space(luo(own))[0].notes == ("not all files of the session were read: tokens were not compared",)


def test_long_names_are_cut() -> None:
    words = systemd(version_1(**{"u" * 20_000: [fd("n" * 20_000, 1), fd("x", 1)]}), 1)
    assert max(len(entry.what) for entry in words.entries) < 600


KEYS = ["version", "state", "units", "a.service", "fdstore", "type", "name", "token", "sessionName"]
LEAVES = st.none() | st.booleans() | st.integers() | st.text()
ANY = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner))


@given(ANY)
def test_any_json_is_taken(mapping: Any) -> None:
    assert isinstance(systemd(mapping), UserSpace)


# -- others -----------------------------------------------------------------------------------------------


def test_tokens_of_the_kernel_s_selftest() -> None:
    found = user_space(luo(session("test-session", file(0x1A)), session("test-session", file(0x1B))))
    assert list(found) == [0] and found[0].scheme.name == "kernel selftest luo_kexec_simple"
    assert entries(found[0]) == [("test data", 0x1A, None)]


def test_a_guest_of_nanovmm_is_known_by_its_tokens_and_handlers() -> None:
    state = (0x4E564D4D53544154).to_bytes(8, "little") + (3).to_bytes(4, "little") + (2).to_bytes(4, "little")
    files = (
        file(0x1000, compatible="kvm_vm_luo_v1"),
        file(0x1001, compatible="guest_memfd_luo_v1"),
        file(0x10001, compatible="kvm_vcpu_luo_v1"),
        file(0x2000, memfd(state + (1 << 27).to_bytes(8, "little"))),
        file(0x42),
    )
    (words,) = user_space(luo(session("any name", *files))).values()
    assert words.facts == ("machine state version 3", "2 vCPUs", "0x8000000 bytes of RAM")
    assert [what for what, *_ in entries(words)] == ["VM", "guest RAM", "vCPU 1", "machine state"]
    assert user_space(luo(session("any name", *files[1:]))) == {}


def test_images_of_criu() -> None:
    from tests.abi.test_names import hashed

    tokens = [hashed("inventory.img"), hashed("core-77.img") ^ 1 << 48, 5]
    words = user_space(luo(session("criu-dump-77", *map(file, tokens))))[0]
    assert [what for what, *_ in entries(words)] == ["inventory.img", "core-77.img"]
    assert words.notes == ("1 of 3 tokens are not those of images that are known by name",)


def test_other_names_are_nobody_s() -> None:
    assert user_space(luo(session("vm-web-01", file(0x1A)), session("criu-dump-x"), session("systemd2"))) == {}


def test_of_many_sessions_the_first_ones_are_decoded() -> None:
    many = luo(*(session("systemd") for _ in range(5)))
    with limited(Limits(user_space=2)):
        found = user_space(many)
    assert list(found) == [0, 1] and "--limit user_space=N raises this limit, now 2" in found[1].notes[-1]
    assert len(user_space(many)) == 5


def test_bytes_of_a_file_are_all_or_none() -> None:
    data = bytes(range(256)) * 40
    assert file_bytes(memfd(data)) == data
    assert file_bytes(memfd(data, lost=1)) is None
    assert file_bytes(memfd(b"")) is None
    partial = memfd(data)
    short = replace(partial.contents[0], size=PAGE - 1)
    assert file_bytes(replace(partial, contents=(short, *partial.contents[1:]))) is None


# -- words that readers take differently -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (
            b'{"version":1,"version":9,"units":{}}',
            "the mapping was not decoded: 'version' is there twice in one object",
        ),
        (b'{"version":1,"units":{"a":{"fdstore":[{"token":1,"token":2}]}}}', "'token' is there twice in one object"),
        (b'{"version":NaN,"units":{}}', "the mapping was not decoded: NaN is not JSON"),
    ],
)
def test_a_mapping_that_readers_take_differently_is_not_decoded(mapping: bytes, told: str) -> None:
    words = systemd(mapping, 1)
    assert words.entries == () and told in words.notes[0]


def test_a_mapping_that_names_its_own_session_is_noted() -> None:
    words = systemd(version_1(a=[{"type": "luo_session", "name": "n", "sessionName": "systemd"}]))
    assert words.notes == ('a.service, fd "n": the session of this mapping itself',)


def test_notes_on_many_entries_are_counted_and_those_on_tokens_are_kept() -> None:
    words = systemd({"version": 1, "units": dict.fromkeys(map(str, range(3000)), 0)}, 7)
    assert len(words.notes) == 18
    assert words.notes[-2:] == (
        "2984 more entries of units are not as expected",
        "in the session, but not in the mapping: token 0x7",
    )
