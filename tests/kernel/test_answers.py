# SPDX-License-Identifier: MIT
"""The note of a cut: there and back, and notes of nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.kernel.answers import Answers
from tests.kernel import real

WHOLE = Answers(text=0xFFFF_FFFF_8100_0000, symbols={"kho_in": (0xFFFF_FFFF_8200_0000, 64)}, btf=b"\x9f\xeb")


def test_there_and_back() -> None:
    assert Answers.unpack(WHOLE.pack()) == WHOLE


def test_no_byte_of_a_note_is_another_in_silence() -> None:
    note = WHOLE.pack()
    for place in range(len(note)):
        for bit in (0, 1, 4):
            found = Answers.unpack(note[:place] + bytes([note[place] ^ 1 << bit]) + note[place + 1 :])
            assert found in (None, WHOLE), (place, bit)


def test_a_note_of_an_old_cut_has_no_digest() -> None:
    assert Answers.unpack(json.dumps(undigested()).encode()) == WHOLE


def undigested() -> dict[str, Any]:
    """The document of a note as old cuts have it, of which any change is read."""
    return {key: value for key, value in json.loads(WHOLE.pack()).items() if key != "digest"}


def test_the_note_of_a_real_cut() -> None:
    found = Answers.unpack(real.memory("frozen").answers)
    assert found is not None and found.symbols and len(found.btf) > 1000
    places = {name: address for address, _, name in real.symbols()}
    slide = found.text - places["_stext"]
    assert {name: address - slide for name, (address, _) in found.symbols.items()} == {
        name: places[name] for name in found.symbols
    }


@pytest.mark.parametrize(
    "change",
    [
        {"text": "-1"},
        {"text": "f" * 17},
        {"symbols": {"kho_in": ["0x1", -1]}},
        {"symbols": {"kho_in": ["-0x1", 8]}},
        {"symbols": {"kho_in": ["1" * 40, 8]}},
        {"symbols": {"kho_in": ["0x1", 1e999]}},
        {"symbols": {"kho_in": ["0x1"]}},
        {"symbols": [1]},
        {"btf": "not base64!"},
        {"btf": None},
        {"text": None},
    ],
    ids=str,
)
def test_notes_of_nonsense(change: dict[str, Any]) -> None:
    assert Answers.unpack(json.dumps(undigested() | change).encode()) is None


@pytest.mark.parametrize("note", [b"", b"\xff", b"[]", b"7", b"{" * 100_000, b'{"a":' * 100_000])
def test_notes_that_are_no_document(note: bytes) -> None:
    assert Answers.unpack(note) is None


json_values = st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=4)


@given(
    st.dictionaries(st.sampled_from(["text", "symbols", "btf"]), json_values), st.dictionaries(st.text(), json_values)
)
def test_no_document_breaks_it(change: dict[str, Any], symbols: dict[str, Any]) -> None:
    document = undigested() | {"symbols": symbols} | change
    found = Answers.unpack(json.dumps(document).encode())
    assert found is None or all(size >= 0 and 0 <= address < 1 << 64 for address, size in found.symbols.values())
