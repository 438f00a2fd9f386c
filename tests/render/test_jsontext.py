# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import luoser
from luoser.render.jsontext import put_json
from luoser.state import Bitmap, PreservedMap, to_document
from luoser.state.to_json import Rows
from tests import real

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\{}[],: \n\0é\udc80')
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a{", max_size=3), inner, max_size=4)
)


def text(document: Any) -> str:
    pieces: list[str] = []
    put_json(document, pieces.append)
    return "".join(pieces)


def plain(value: Any, newline: str = "\n") -> str:
    """The same text, member by member."""
    items = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    if not any(isinstance(item, dict | list) for item in items):
        return json.dumps(value)
    inner = newline + " "
    names = [json.dumps(key) + ": " for key in value] if isinstance(value, dict) else [""] * len(items)
    body = f",{inner}".join(name + plain(item, inner) for name, item in zip(names, items, strict=True))
    return f"{{{inner}{body}{newline}}}" if isinstance(value, dict) else f"[{inner}{body}{newline}]"


def streamed(value: Any) -> Any:
    """The same value, with `Rows` for lists of lists or objects."""
    if isinstance(value, dict):
        return {name: streamed(item) for name, item in value.items()}
    if isinstance(value, list):
        items = [streamed(item) for item in value]
        return Rows(lambda: items) if not items or all(isinstance(item, dict | list) for item in value) else items
    return value


@given(_values)
def test_the_text_is_that_of_each_member_by_itself(value: Any) -> None:
    assert text(value) == plain(value) + "\n"
    assert text(value).isascii()


@given(st.lists(st.lists(_scalars, max_size=3) | st.dictionaries(st.text(max_size=2), _scalars, max_size=3)))
def test_rows_of_both_kinds(rows: list[Any]) -> None:
    assert text({"rows": rows}) == plain({"rows": rows}) + "\n"


@given(st.lists(_values, max_size=3))
def test_streamed_lists_have_the_same_text(value: list[Any]) -> None:
    assert text({"value": streamed(value)}) == text({"value": value})


@pytest.mark.parametrize("full", [False, True])
def test_a_streamed_document_has_the_same_text(full: bool) -> None:
    state = luoser.read(real.dump("7.3-a/frozen"), contents=True)
    whole = to_document(state, full=full)
    assert text(to_document(state, full=full, streamed=True)) == text(whole) == plain(whole) + "\n"


@pytest.mark.slow
def test_rows_are_not_all_in_memory() -> None:
    """Every other page of 8 GiB: a million extents."""
    found = PreservedMap([Bitmap(0, number << 27, b"\x55" * 4096) for number in range(64)], page_size=4096)

    def rows() -> Iterator[list[Any]]:
        return ([hex(address), order, count] for address, order, count in found.extents())

    size = 0

    def put(piece: str) -> None:
        nonlocal size
        size += len(piece)

    tracemalloc.start()
    put_json({"extents": Rows(rows)}, put)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 20 << 20
    assert peak < 8 << 20
