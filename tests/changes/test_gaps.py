# SPDX-License-Identifier: MIT
"""What could not be compared, and why that makes the result inconclusive or does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.changes import Verdict, compare
from luoser.state import Direction, MapStatus, Problem, State
from tests.changes.helpers import problem, sound
from tests.checks.mutants import changed

FILE = "luo.sessions[0].files[0]"
PATH = "luo/sessions/vm-web-01/files/0x1a"
"""The same in changes."""
WEIRD = 'weird name \\x1b[31m\\x2f..\\x2f"x'


def with_problem(code: str, about: str, *, root: int | None = None) -> State:
    """The real handover, of which something was not read."""
    met = replace(problem(code, about), message=f"{code} there")
    return replace(sound(), problems=(met if root is None else replace(met, root=root),))


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("missing", True),
        ("excluded", True),
        ("page-damaged", True),
        ("map-garbage", True),
        ("map-node-broken", True),
        ("too-many", True),
        ("bad-count", False),
        ("zero-memfd", False),
    ],
)
def test_what_was_not_read_on_either_side_is_not_compared(code: str, counts: bool) -> None:
    for states in ((with_problem(code, FILE), sound()), (sound(), with_problem(code, FILE))):
        found = compare(*states)
        assert [(gap.where, gap.reason) for gap in found.not_compared] == ([(PATH, f"{code} there")] if counts else [])
        is_damage = code == "bad-count"
        assert found.verdict is (Verdict.INCONCLUSIVE if counts else Verdict.DIFFERENT if is_damage else Verdict.EQUAL)


@pytest.mark.parametrize(("about", "contents", "counts"), [(f"{FILE}.memfd.contents", False, False),
                                                           (f"{FILE}.memfd.contents", True, True),
                                                           (FILE, False, True), (FILE, True, True)])  # fmt: skip
def test_bytes_that_are_missing_matter_only_if_bytes_are_compared(about: str, contents: bool, counts: bool) -> None:
    found = compare(with_problem("missing", about), sound(), contents=contents)
    read = [
        gap.where for gap in found.not_compared if not gap.reason.startswith("the bytes of")
    ]  # these were not given
    assert read == ([about.replace(FILE, PATH).replace(".", "/")] if counts else [])


def test_what_both_sides_lack_is_one_gap() -> None:
    state = with_problem("missing", FILE)
    assert len(compare(state, state).not_compared) == 1


@pytest.mark.parametrize(
    "code",
    [
        "bad-count",
        "bad-memfd",
        "luo-reused",
        "no-fdt",
        "no-map",
        "pci-unknown-layout",
        "pending-broken",
        "pending-unread",
        "scratch-unread",
    ],
)
def test_what_neither_side_could_be_understood_of_is_not_compared(code: str) -> None:
    states = (with_problem(code, FILE), with_problem(code, FILE))
    found = compare(*states)
    assert [(gap.where, gap.reason) for gap in found.not_compared] == [(PATH, f"damaged in both: {code} there")]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert compare(*(with_problem("pci-fault", FILE),) * 2).verdict is Verdict.EQUAL  # its values were read


def test_a_gap_without_a_place_is_of_the_source() -> None:
    assert [gap.where for gap in compare(sound(), with_problem("missing", "")).not_compared] == ["source"]


def test_problems_of_another_root_are_no_gap() -> None:
    assert compare(sound(), with_problem("missing", FILE, root=0x1000)).verdict is Verdict.EQUAL
    assert compare(sound(), with_problem("missing", FILE, root=1 << 60)).verdict is Verdict.EQUAL


@pytest.mark.parametrize(
    ("direction", "status", "counts"),
    [
        (Direction.OUTGOING, MapStatus.INTACT, True),
        (Direction.OUTGOING, MapStatus.STALE, True),
        (Direction.INCOMING, MapStatus.INTACT, True),
        (Direction.UNKNOWN, MapStatus.INTACT, True),
        (Direction.UNKNOWN, MapStatus.DAMAGED, True),
        (Direction.UNKNOWN, MapStatus.STALE, True),
    ],
)
@pytest.mark.parametrize("code", ["missing", "page-damaged", "excluded"])
def test_what_a_handover_lacks(code: str, direction: Direction, status: MapStatus, counts: bool) -> None:
    """Of one that was taken over, a dump without free pages lacks what was freed, and nothing else."""
    preserved = replace(sound().handovers[0].preserved, status=status)
    state = changed(with_problem(code, FILE), direction=direction, preserved=preserved)
    is_free = code == "excluded" and state.handovers[0].is_consumed
    assert [gap.where for gap in compare(state, state).not_compared] == ([PATH] if counts and not is_free else [])


@pytest.mark.parametrize(
    ("about", "path"),
    [
        ("memblock", "memblock"),
        ("kexec_metadata", "kexec_metadata"),
        ("subtrees[1]", "subtrees/memblock"),
        ("root", "root"),
    ],
)
def test_what_no_kernel_frees_is_never_lacking_for_that_reason(about: str, path: str) -> None:
    state = changed(with_problem("excluded", about), direction=Direction.INCOMING)
    assert [gap.where for gap in compare(state, state).not_compared] == [path]


def test_gaps_of_two_handovers_are_told_below_their_roots() -> None:
    state = with_problem("missing", FILE)
    other = replace(state.handovers[0], address=0x7000000, direction=Direction.UNKNOWN)
    both = replace(state, handovers=(*state.handovers, other))
    assert [gap.where for gap in compare(both, both).not_compared] == [f"handovers/0x5cd000/{PATH}"]


def test_a_direction_that_only_a_stale_map_shows_is_open_for_a_consumed_handover_too() -> None:
    state = changed(with_problem("direction-by-map", "direction"), direction=Direction.INCOMING)
    assert [gap.where for gap in compare(sound(), state).not_compared] == ["direction"]


@pytest.mark.parametrize(
    ("about", "path"),
    [
        ("luo", "luo"),
        ("luo.sessions", "luo/sessions"),
        ("luo.sessions[5].files[0].memfd", f"luo/sessions/{WEIRD}/files/0xffffffffffffffff/memfd"),
        ("luo.flbs[3]", "luo/flbs/pci-v2"),
        ("luo.sessions[99]", "luo/sessions/99"),
        ("pci[0].devices[1]", "pci/flb:pci-v2/devices/0000:00:03.0"),
        ("pending.sessions[0]", "pending/sessions/0"),
        ("root", "root"),
    ],
)  # fmt: skip
def test_a_gap_is_told_by_the_path_of_a_change(about: str, path: str) -> None:
    assert [gap.where for gap in compare(sound(), with_problem("missing", about)).not_compared] == [path]


def test_what_need_not_be_compared_makes_nothing_inconclusive() -> None:
    found = compare(sound(), with_problem("missing", FILE))
    for pattern in ("luo", "luo/sessions/*/files/0x1a"):
        assert found.without([pattern]).verdict is Verdict.EQUAL
    for pattern in ("pci", "luo/sessions/vm-batch-000", "luo/flbs"):
        assert found.without([pattern]).verdict is Verdict.INCONCLUSIVE


def test_what_is_about_a_whole_source_is_compared_in_any_case() -> None:
    found = compare(sound(), with_problem("missing", ""))
    assert found.without(["s*"]).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("code", ["symbols-unread", "types-unread"])
@pytest.mark.parametrize("serialized", [True, False])
def test_lists_that_damage_hides_are_not_compared_if_nothing_is_serialised(code: str, *, serialized: bool) -> None:
    state = sound()
    (handover,) = state.handovers
    assert handover.luo is not None
    luo = replace(handover.luo, serialized=serialized)
    damage = Problem(code=code, address=None, message="kallsyms are damaged")
    state = replace(state, handovers=(replace(handover, luo=luo),), problems=(damage,))
    gaps = [(gap.where, gap.reason) for gap in compare(state, state).not_compared]
    assert gaps == ([] if serialized else [("pending", "kallsyms are damaged")])
