# SPDX-License-Identifier: MIT
"""What a person sees of two kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luoser.clashes import Profile, compare, of_release
from luoser.render import out
from luoser.render.compat import print_compat

NEW = of_release("7.3")


@pytest.mark.parametrize(
    ("reader", "words", "meaning"),
    [
        (NEW, "nothing is known against it", "good"),
        (replace(NEW, handlers=None), "not known", "note"),
        (replace(NEW, subtrees=frozenset({"LUO"})), "nothing is known against it, with losses", "note"),
        (replace(NEW, kho="kho-v9"), "no: the live update fails", "problem"),
    ],
)
def test_each_verdict_has_the_colour_of_its_meaning(
    monkeypatch: pytest.MonkeyPatch, reader: Profile, words: str, meaning: str
) -> None:
    lines = list[tuple[out.Part, ...]]()
    monkeypatch.setattr("luoser.render.compat.line", lambda *parts, **_: lines.append(parts))
    print_compat(compare(NEW, reader))
    assert lines[-1] == ((words, meaning),)
