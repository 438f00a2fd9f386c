# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from luoser.errors import UsageError
from luoser.survey.naming import Named, Naming


@pytest.mark.parametrize(
    ("rule", "path", "host", "moment"),
    [
        ("{host}.{moment}.elf", "cuts/web1.before.elf", "web1", "before"),
        ("{host}.{moment}.elf", "web1.example.org.after.elf.xz", "web1.example.org", "after"),
        ("{host}/{moment}.elf", "/srv/cuts/web1/before.elf.zst", "web1", "before"),
        ("{moment}/{host}", "cuts/before/web1", "web1", "before"),
        ("{host}.core", "cuts/web1.core", "web1", ""),
        ("{moment}.{host}.elf", "cuts/before.web1.example.org.elf", "web1.example.org", "before"),
        ("{host}+{moment}", "a+b", "a", "b"),
        ("", "cuts/web1.before.elf", "web1.before.elf", ""),
        ("", "s3://cuts/web1?a=b/c", "web1", ""),
        ("{host}.{moment}.elf", "https://cuts/web1.after.elf.xz?signature=x.y", "web1", "after"),
        ("{host}.{moment}", "web1.after?", "web1", "after?"),
        ("{host}.elf", "a\nb.elf", "a\nb", ""),
    ],
)
def test_host_and_moment_are_by_the_end_of_the_path(rule: str, path: str, host: str, moment: str) -> None:
    assert Naming(rule).named((path, "other")) == Named((path, "other"), host, moment)


def test_what_the_rule_does_not_fit_is_said() -> None:
    naming = Naming("{host}.{moment}.elf")
    names = ("a.before.elf", "a-after.elf", "b.pre.elf", "vmcore")
    named = [naming.named((name,)) for name in names]
    assert named[3] == Named(("vmcore",), "vmcore", fits=False)
    assert list(naming.unpaired(named)) == [
        "--name: {host}.{moment}.elf does not fit a-after.elf and 1 other source, compared with no other",
        "--name: --moments before,after has not the moment of b.pre.elf, compared with no other",
    ]
    assert not list(naming.unpaired(named[:1])) and not list(Naming("").unpaired([Naming("").named(("x",))]))


@pytest.mark.parametrize("rule", ["{moment}.elf", "{host}.{time}", "{host}{host}", "x", "{}"])
def test_a_rule_has_a_host_and_nothing_unknown(rule: str) -> None:
    with pytest.raises(UsageError, match=r"--name: expected \{host\} once"):
        Naming(rule)


def test_moments_are_different_ones() -> None:
    with pytest.raises(UsageError, match="--moments: expected different ones"):
        Naming("{host}.{moment}", ["a", "a"])


def named(*names: str) -> list[Named]:
    naming = Naming("{host}.{moment}")
    return [naming.named((name,)) for name in names]


def pairs(*names: str, moments: tuple[str, ...] = ("pre", "frozen", "post")) -> list[tuple[str, str]]:
    found = Naming("{host}.{moment}", moments).pairs(named(*names))
    return [(old.source[0], new.source[0]) for old, new in found]


def test_moments_of_one_host_that_follow_each_other_are_pairs() -> None:
    assert pairs("a.post", "b.pre", "a.pre", "a.frozen") == [("a.pre", "a.frozen"), ("a.frozen", "a.post")]


def test_a_moment_that_a_host_lacks_is_skipped() -> None:
    assert pairs("a.post", "a.pre", "b.pre") == [("a.pre", "a.post")]


def test_other_moments_are_in_no_pair() -> None:
    assert pairs("a.pre", "a.other", "vmcore") == []


def test_two_sources_of_one_moment_are_refused() -> None:
    with pytest.raises(UsageError, match=r"x/a\.pre and y/a\.pre: both are a at the moment pre"):
        pairs("x/a.pre", "y/a.pre")
