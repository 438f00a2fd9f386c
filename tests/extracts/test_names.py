# SPDX-License-Identifier: MIT
"""Names that users chose, hashed: the same for the same key, and never one for two."""

from __future__ import annotations

from pathlib import Path

import pytest

import luoser
from luoser.changes import Verdict
from luoser.errors import UsageError
from luoser.extracts.names import hashed_names, names_are_hashed
from luoser.memory.overlay import Overlay
from luoser.state import HASHED_NAMES, State
from tests import real
from tests.images import Image
from tests.kernel.real import FIXTURES
from tests.posted import users

KEY = "a long random key"
NAMES = (b"vm-web-01", b"vm-batch", b"empty-session", b"labmem", b"pci-luo-lab")


def names_of(state: State) -> list[list[str]]:
    return [
        [session.name for session in (handover.luo.sessions if handover.luo is not None else ())]
        + [session.name for session in (handover.pending.sessions if handover.pending is not None else ())]
        + [region.name for region in (handover.memblock.reservations if handover.memblock is not None else ())]
        + [tree.name for tree in handover.subtrees]
        for handover in state.handovers
    ]


@pytest.mark.parametrize("name", ["6.18-a/frozen", "6.19-a/frozen", "7.3-a/frozen", "7.3-chain/frozen2"])
def test_no_name_is_in_the_cut_and_all_else_is_the_same(name: str, tmp_path: Path) -> None:
    for number, key in enumerate((KEY, KEY, KEY[::-1])):
        luoser.extract(real.path(name), tmp_path / f"{number}", hash_names=key)
    data = [(tmp_path / f"{number}").read_bytes() for number in range(3)]
    assert data[0] == data[1] != data[2]
    assert [one for one in NAMES if one in data[0]] == []
    before, after = luoser.load(real.path(name)), luoser.load(tmp_path / "0")
    for old, new in zip(names_of(before), names_of(after), strict=True):
        assert len(set(old)) == len(set(new)) and len(old) == len(new)
        assert all((one == other) == (one in ("", "LUO", "memblock", "kho_test", "kexec-metadata"))
                   for one, other in zip(old, new, strict=True))  # fmt: skip
    assert luoser.check(tmp_path / "0").verdict == luoser.check(real.path(name)).verdict
    assert after.source.hashed_names.startswith(HASHED_NAMES)


@pytest.mark.skipif(not (FIXTURES / "frozen.elf.xz").exists(), reason="no dump of a kernel with its types")
def test_names_in_the_objects_of_the_kernel_are_hashed_alike(tmp_path: Path) -> None:
    luoser.extract(FIXTURES / "frozen.elf.xz", tmp_path / "cut", hash_names=KEY)
    (handover,) = (one for one in luoser.load(tmp_path / "cut").handovers if one.pending is not None)
    assert handover.luo is not None and handover.pending is not None
    written = {session.name for session in handover.luo.sessions}
    assert written and written == {session.name for session in handover.pending.sessions}
    assert [one for one in NAMES if one in (tmp_path / "cut").read_bytes()] == []


def test_names_of_posted_sub_trees_stay_as_they_are(tmp_path: Path) -> None:
    memory = users().open()
    luoser.extract(memory, tmp_path / "cut", hash_names=KEY)
    (before,), (after,) = luoser.read(memory).handovers, luoser.load(tmp_path / "cut").handovers
    assert after.subtrees == before.subtrees


def test_the_name_of_a_file_of_tmpfs_is_hashed(tmp_path: Path) -> None:
    from tests.reader.test_handler import FILES, one_file

    memory = one_file("tmpfs-file-v1", FILES["tmpfs-file-v1"][0].replace(b"log\0", b"diary")).open()
    luoser.extract(memory, tmp_path / "cut", hash_names=KEY)
    assert b"diary" not in (tmp_path / "cut").read_bytes()
    (handover,) = luoser.load(tmp_path / "cut").handovers
    assert handover.luo is not None
    detail = handover.luo.sessions[0].files[0].detail
    assert detail is not None
    assert len(str(detail.readings[0][1]["name"])) == 24
    luoser.extract(memory, tmp_path / "plain", no_contents=True)
    assert b"diary" in (tmp_path / "plain").read_bytes()


def test_cuts_of_one_host_still_pair(tmp_path: Path) -> None:
    for moment in ("frozen", "post"):
        luoser.extract(real.path(f"7.3-chain/{moment}"), tmp_path / moment, hash_names=KEY)
    plain = luoser.diff(real.path("7.3-chain/frozen"), real.path("7.3-chain/post"))
    hashed = luoser.diff(tmp_path / "frozen", tmp_path / "post")
    assert (hashed.verdict, len(hashed.changes)) == (plain.verdict, len(plain.changes))


@pytest.mark.parametrize("other", [KEY[::-1], None])
def test_names_under_different_keys_are_not_compared(tmp_path: Path, other: str | None) -> None:
    luoser.extract(real.path("6.19-a/frozen"), tmp_path / "one", hash_names=KEY)
    luoser.extract(real.path("6.19-a/frozen"), tmp_path / "two", no_contents=True, hash_names=other)
    with pytest.raises(UsageError, match="names cannot be compared"):
        luoser.diff(tmp_path / "one", tmp_path / "two")
    assert luoser.diff(tmp_path / "one", tmp_path / "one").verdict is Verdict.EQUAL


def test_two_names_never_have_one_hash() -> None:
    """In three characters there is room for 32768."""
    image = Image(pages=8)
    places = []
    for number in range(1000):
        image.put(0x1000 + 4 * number, f"{number:03}".encode())
        places.append((0x1000 + 4 * number, 4))
    memory = image.open()
    made = hashed_names(memory, places, b"key")
    assert len(set(made.values())) == 1000 and {len(one) for one in made.values()} == {3}
    assert made == hashed_names(memory, reversed(places), b"key")


def test_names_that_are_empty_or_not_there_stay_so() -> None:
    memory = Overlay(Image(pages=4).open())
    memory.remove(0x2000)
    assert hashed_names(memory, [(0x1000, 64), (0x2000, 64)], b"key") == {}


@pytest.mark.parametrize("key", ["", "k", KEY[:15]])
def test_a_key_that_can_be_guessed_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"expected at least 16 characters, found {len(key)}; .openssl rand"):
        luoser.extract(real.path("7.3-a/frozen"), tmp_path / "cut", hash_names=key)
    assert list(tmp_path.iterdir()) == []


def test_the_mark_of_a_key_is_not_the_key() -> None:
    assert names_are_hashed(b"secret") == names_are_hashed(b"secret") != names_are_hashed(b"Secret")
    assert "secret" not in names_are_hashed(b"secret")
