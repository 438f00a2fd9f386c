# SPDX-License-Identifier: MIT
"""The JSON Schemas that luoser ships, as validators."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

__all__ = ["KINDS", "errors", "schema"]

KINDS = (
    "abi",
    "compat",
    "decode",
    "detect",
    "diff",
    "findings",
    "limits",
    "map",
    "pci",
    "result",
    "rules",
    "state",
    "topology",
    "verify",
)


@cache
def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("luoser.state") / f"{kind}.schema.json").read_text())
    return found


def _inlined(value: Any, kind: str) -> Any:
    """A part of a schema with definitions of single values in place of references: they are most of a document."""
    if isinstance(value, list):
        return [_inlined(item, kind) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(target := value.get("$ref"), str):
        file, _, name = target.partition("#/$defs/")
        if not name:
            return value
        found = schema(file.split(":")[2] if file else kind)["$defs"][name]
        if len(value) == 1 and not any(isinstance(item, dict | list) for item in found.values()):
            return found
    return {key: _inlined(item, kind) for key, item in value.items()}


@cache
def _validator(kind: str) -> Draft202012Validator:
    made = {name: _inlined(schema(name), name) for name in KINDS}
    resources = [(made[name]["$id"], Resource.from_contents(made[name])) for name in KINDS]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(made[kind], registry=registry)


def errors(document: Any, kind: str | None = None) -> list[str]:
    """What is wrong with a document, by the schema that it names; nothing when it is valid."""
    if kind is None:
        kind = document["schema"].split("/")[1]
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(kind).iter_errors(document)]
