# SPDX-License-Identifier: MIT
"""JSON and TOML of users: bounded before the parser, and without words of Python."""

from __future__ import annotations

import json
from time import process_time

import pytest

from luoser.errors import FormatError, UsageError
from luoser.limits import LIMITS, Limits, limited
from luoser.parse import decoded, parse_json, parse_toml
from luoser.state.from_json import from_document
from tests.work import steps

DEEP = [
    ".".join("a" * 20_000) + " = 1",
    "[" + ".".join("a" * 20_000) + "]",
    " . ".join(['"a"'] * 20_000) + " = 1",
    "a = " + "[" * 20_000,
    "a = " + "{b = " * 20_000,
    "a = { b.c." + "d." * 20_000 + "e = 1 }",
    "a = 1\n" * 3 + "b = '''x'''\n" + "c." * 20_000 + "d = 1",
]


@pytest.mark.parametrize("text", DEEP)
def test_deep_toml_is_refused_before_it_is_parsed(text: str) -> None:
    with steps(10_000), pytest.raises(FormatError, match=r"line \d: nested too deeply; --limit spec_depth=N"):
        parse_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        "a = 1.5\nb.c.d = '...........'\n[x.y]\nz = [[1, 2], [3]]",
        'a = """\n' + "." * 200 + '\n"""\n' + "# " + "[" * 200 + "\n",
        "a = [" + "1.5, " * 500 + "]\n",
        "\n".join(f"b{number} = 1.25" for number in range(500)),
        'a = "' + "[" * 100 + '\\"' + "." * 100 + '"',
    ],
)
def test_what_is_no_level_is_not_counted(text: str) -> None:
    assert parse_toml(text)


def test_depth_is_a_limit() -> None:
    text = ".".join("a" * 100) + " = 1"
    with limited(Limits(spec_depth=200)):
        assert "a" in parse_toml(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5_000, "number of 5000 digits"),
        ('{"a": }', "line 1, column 7: invalid JSON"),
        ("9" * 5_000 + "}", "number of 5000 digits"),
    ],
)
def test_words_of_json(text: str, words: str) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        parse_json(text)
    assert "sys." not in str(caught.value) and "recursion" not in str(caught.value)


@pytest.mark.parametrize("text", ["a = " + "9" * 5_000, "a = [" + "9" * 5_000 + "]", "a = -" + "9" * 5_000])
def test_long_numbers_of_toml(text: str) -> None:
    with pytest.raises(FormatError, match="number of 5000 digits"):
        parse_toml(text)


@pytest.mark.parametrize(
    "text", ['a = """' + '\n\\"""' * 40_000, 'a = "' + '\\"' * 100_000, 'a = "' + '\\"' * 100_000 + "\\"]
)
def test_a_toml_string_that_does_not_end_is_searched_once(text: str) -> None:
    start = process_time()
    with pytest.raises(FormatError, match=r"[Uu]nterminated|Illegal|Unescaped|escape"):
        parse_toml(text)
    assert process_time() - start < 10


@pytest.mark.parametrize("text", ["[" * 11 + "]" * 11, '{"a": [' * 6, "[]" * 20 + "[" * 11, '["]"' + ", [" * 10])
def test_depth_of_json_is_a_limit(text: str) -> None:
    with limited(Limits(json_depth=10)), pytest.raises(FormatError, match=r"more than 10 levels; --limit json_depth=N"):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["[" * 10 + "]" * 10, "[[], {}" + ', {"b": []}' * 50 + "]", '["' + "[" * 50 + '", "\\"["]']
)
def test_what_is_no_level_of_json_is_not_counted(text: str) -> None:
    with limited(Limits(json_depth=10)):
        assert parse_json(text)


def test_a_document_as_deep_as_it_may_be_is_read() -> None:
    """What reads it recurses, too, on every release of Python."""
    tree = {"name": "", "properties": [], "nodes": []}
    for _ in range(LIMITS.fdt_depth):
        tree = {"name": "", "properties": [], "nodes": [tree]}
    assert parse_json(json.dumps(tree)) == tree
    deep = json.dumps({"schema": "luoser/state/1", "handovers": [{"fdt": {"strings": "", "root": tree}}]})
    with pytest.raises(UsageError, match="missing"):
        from_document(parse_json(deep))


@pytest.mark.parametrize("text", ['"' + '\\"' * 100_000, '["' + '\\"' * 100_000 + "\\" + "[" * 300])
def test_a_json_string_that_does_not_end_is_searched_once(text: str) -> None:
    start = process_time()
    with pytest.raises(FormatError):
        parse_json(text + "[" * 300)
    assert process_time() - start < 10


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse_json(decoded("\ufeff{}".encode())) == {}
