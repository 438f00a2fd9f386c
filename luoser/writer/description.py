# SPDX-License-Identifier: MIT
"""Checks whether a description has the shape of a state document: objects and lists at the right places, known names.

The shape is that of the JSON Schema. Numbers and texts are not checked, as a description may have them in short forms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from luoser.errors import UsageError
from luoser.text import safe_text

__all__ = ["check_description"]

Json = dict[str, Any]


def check_description(document: Mapping[str, Any]) -> None:
    """Raise UsageError with the path of an unknown name, or of a value of the wrong kind. document: the description."""
    _check(document, _schema(), "")


@cache
def _schema() -> Json:
    found: Json = json.loads((files("luoser.state") / "state.schema.json").read_text())
    return found


def _forms(schema: Json) -> Iterator[Json]:
    """A schema, and all schemas that it refers to or has as alternatives."""
    yield schema
    if "$ref" in schema:
        yield from _forms(_schema()["$defs"][schema["$ref"].rsplit("/", 1)[-1]])
    for choice in schema.get("oneOf", ()):
        yield from _forms(choice)


def _check(value: Any, schema: Json, path: str) -> None:
    forms = list(_forms(schema))
    kinds = {form["type"] for form in forms if "type" in form}
    if isinstance(value, Mapping):
        if "object" not in kinds:
            raise UsageError(f"{path}: expected {_expected(kinds)}, found an object")
        _check_members(value, forms, path)
    elif isinstance(value, list):
        _check_items(value, forms, path)
    elif (
        kinds & {"object", "array"}
        and kinds <= {"object", "array", "null"}
        and value is not None
        and value is not False
    ):
        raise UsageError(f"{path}: expected {_expected(kinds)}")


def _expected(kinds: set[str]) -> str:
    words = {"object": "an object", "array": "a list"}
    return next((words[kind] for kind in words if kind in kinds), "a number or a text")


def _check_members(value: Mapping[str, Any], forms: list[Json], path: str) -> None:
    known: Json = {}
    for form in forms:
        known |= form.get("properties", {})
    is_closed = any(form.get("additionalProperties") is False for form in forms)
    for name, member in value.items():
        where = f"{path}.{safe_text(name)}" if path else safe_text(name)
        if name in known:
            _check(member, known[name], where)
        elif is_closed:
            raise UsageError(f"{where}: unknown name: expected one of {', '.join(known)}")


def _check_items(value: list[Any], forms: list[Json], path: str) -> None:
    kinds = {form["type"] for form in forms if "type" in form}
    if "array" not in kinds:
        if "object" in kinds or any(isinstance(item, list | Mapping) for item in value):
            raise UsageError(f"{path}: expected {_expected(kinds)}, found a list")
        return  # such as names of bits for their number
    items = next((form["items"] for form in forms if isinstance(form.get("items"), dict)), None)
    for index, item in enumerate(value if items is not None else ()):
        assert items is not None
        if item is None or item is False:
            raise UsageError(f"{path}[{index}]: expected a value")
        _check(item, items, f"{path}[{index}]")
