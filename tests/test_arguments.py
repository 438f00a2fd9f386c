# SPDX-License-Identifier: MIT
"""Arguments of another type are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luoser.arguments import need_names, need_path
from luoser.errors import UsageError


@pytest.mark.parametrize(
    ("names", "found"),
    [("KHO001", "'KHO001'"), (b"a", "b'a'"), (None, "None"), (5, "5"), ([5], "5"), ([""], "an empty one")],
)
def test_what_is_not_a_collection_of_names_is_refused(names: Any, found: str) -> None:
    with pytest.raises(UsageError, match=f"select: expected names, found {found}"):
        need_names(select=names)


def test_names_are_taken() -> None:
    need_names(select=(), ignore={"a"}, drivers=["b"])


@pytest.mark.parametrize(
    ("given", "found"), [(5, "int"), (None, "NoneType"), (b"a", "bytes"), (["a"], "list"), ("a\0", "a text with a NUL")]
)
def test_what_is_not_a_path_is_refused(given: Any, found: str) -> None:
    with pytest.raises(UsageError, match=f"expected a path, found {found}"):
        need_path(given)


@pytest.mark.parametrize("given", ["a/b", Path("a/b")])
def test_a_path_is_taken_as_text(given: Any) -> None:
    assert need_path(given) == "a/b"
