# SPDX-License-Identifier: MIT
"""What is refused, what breaks and what is lost between two kernels."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from itertools import product

import pytest

from luoser.abi.release import RELEASES
from luoser.clashes import Effect, Profile, compare, of_release
from luoser.kernel.btf import Btf
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Member, Type, Types
from luoser.limits import Limits, limited


def effects(writer: Profile, reader: Profile) -> list[tuple[str, str]]:
    return [(one.effect.value, one.what) for one in compare(writer, reader).clashes]


@pytest.mark.parametrize(
    ("writer", "reader", "expected"),
    [
        ("7.2", "7.3", []),
        ("7.3", "7.2", []),
        ("7.0", "6.19", []),
        ("6.19", "7.0", [("broken", "luo")]),
        ("6.17.8", "6.18", [("broken", "map")]),
        ("6.17.9", "6.18", []),
        ("7.0", "7.1", [("refused", "kho")]),
        ("7.1", "7.2", [("refused", "kho")]),
        ("6.19", "6.18", [("lost", "luo")]),
    ],
)
def test_released_kernels_as_the_catalogue_has_them(writer: str, reader: str, expected: list[tuple[str, str]]) -> None:
    assert effects(of_release(writer), of_release(reader)) == expected


def test_every_release_takes_its_own() -> None:
    assert all(effects(of_release(name), of_release(name)) == [] for name in RELEASES)


def test_what_is_refused_at_the_root_says_nothing_of_what_is_below() -> None:
    for one, other in product(RELEASES, RELEASES):
        found = compare(of_release(one), of_release(other)).clashes
        assert len(found) == 1 or not any(clash.effect is Effect.REFUSED and clash.what == "kho" for clash in found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"machine": "arm64"}, ("refused", "machine")),
        ({"page_size": 65536}, ("broken", "pages")),
        ({"handlers": frozenset({"memfd-v2"})}, ("broken", "handler")),
        ({"flbs": frozenset()}, ("lost", "flb")),
        ({"subtrees": frozenset()}, ("lost", "subtree")),
        ({"luo": None}, ("unknown", "luo")),
        ({"kho": None}, ("unknown", "kho")),
        ({"kho": ""}, ("refused", "kho")),
        ({"luo": ""}, ("lost", "luo")),
        ({"luo": "luo-v6"}, ("refused", "luo")),
    ],
)
def test_one_thing_that_differs(change: dict[str, object], expected: tuple[str, str]) -> None:
    whole = replace(
        of_release("7.3"),
        machine="x86-64",
        page_size=4096,
        handlers=frozenset({"memfd-v2", "vfio-pci-v1"}),
        flbs=frozenset({"pci"}),
        subtrees=frozenset({"memblock"}),
    )
    assert effects(whole, whole) == []
    assert expected in effects(whole, replace(whole, **change))  # type: ignore[arg-type]


def test_the_message_of_a_missing_handler_is_what_kernels_logged() -> None:
    reader = replace(of_release("7.3"), handlers=frozenset({"memfd-v2"}))
    (clash,) = compare(replace(reader, handlers=frozenset({"memfd-v9"})), reader).clashes
    assert f'"{clash.message}"' in (files("luoser.checks") / "outcomes.json").read_text()


def test_flbs_of_a_handover_are_lost_to_a_kernel_without_them() -> None:
    writer = replace(of_release("7.3"), handed=frozenset({"pci"}))
    assert effects(writer, replace(writer, flbs=frozenset())) == [("lost", "flb")]
    assert effects(writer, of_release("7.3")) == [], "which FLBs a release has is not known"


def test_the_self_tests_flbs_are_not_missed() -> None:
    writer = replace(of_release("7.3"), flbs=frozenset({"liveupdate-test-flb-v0"}))
    assert effects(writer, replace(writer, flbs=frozenset())) == []


class Made(Types):
    """One struct memfd_luo_ser with a u64 at some offset."""

    def __init__(self, offset: int) -> None:
        super().__init__("made")
        self.made = [
            Type(Kind.OTHER, "void"),
            Type(Kind.INTEGER, "u64", 8),
            Type(Kind.STRUCT, "memfd_luo_ser", 24, members=(Member("pos", 1, 0), Member("size", 1, 8 * offset))),
        ]

    def type(self, number: int) -> Type:
        return self.made[number]

    def named(self, name: str) -> list[int]:
        return [2] if name == "memfd_luo_ser" else []

    def structs(self):  # type: ignore[no-untyped-def]
        yield 2, "memfd_luo_ser"


def test_a_struct_that_moved_breaks_behind_equal_strings() -> None:
    one, other = (replace(of_release("7.3"), types=Btf(write_btf(Made(offset), [2]))) for offset in (8, 16))
    assert effects(one, one) == []
    (clash,) = compare(one, other).clashes
    assert (clash.effect, clash.what) == (Effect.BROKEN, "types")
    assert "size of 8 bytes at 8 is now of 8 at 16" in clash.text


def test_a_struct_that_the_next_kernel_does_not_have_is_unknown() -> None:
    one = replace(of_release("7.3"), types=Btf(write_btf(Made(8), [2])))
    other = replace(one, types=Btf(write_btf(Made(8), [1])))
    found = compare(one, other)
    assert found.verdict == "unknown" and "has no struct memfd_luo_ser" in found.clashes[0].text
    assert compare(other, one).verdict == "works"  # nobody writes it


def test_types_that_are_too_many_to_compare_are_unknown() -> None:
    one, other = (replace(of_release("7.3"), types=Btf(write_btf(Made(8), [2]))) for _ in range(2))
    with limited(Limits(compared_members=3)):
        found = compare(one, other)
    assert found.verdict == "unknown" and "--limit compared_members=N" in found.clashes[0].text
    assert compare(one, other).verdict == "works"
