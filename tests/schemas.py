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

KINDS = ("abi", "decode", "detect", "diff", "findings", "map", "pci", "rules", "state", "topology")


@cache
def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("luoser.state") / f"{kind}.schema.json").read_text())
    return found


@cache
def _validator(kind: str) -> Draft202012Validator:
    resources = [(f"{name}.schema.json", Resource.from_contents(schema(name))) for name in KINDS]
    registry: Registry[Any] = Registry().with_resources(resources)
    return Draft202012Validator(schema(kind), registry=registry)


def errors(document: Any, kind: str | None = None) -> list[str]:
    """What is wrong with a document, by the schema that it names; nothing when it is valid."""
    if kind is None:
        kind = document["schema"].split("/")[1]
    return [f"{error.json_path}: {error.message[:200]}" for error in _validator(kind).iter_errors(document)]
