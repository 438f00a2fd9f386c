# SPDX-License-Identifier: MIT
"""Writes docs/layouts.md on stdout: every layout of the registry with the catalogue labels of its structs."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.registry import layouts

HEAD = """# Layouts

Every form that `luoser decode --as` and `--layout` take, with the labels that its structs have in the ABI catalogue
(`fixtures/layouts.json`). `luoser abi show NAME` shows one field by field. Made by `make docs`.

| name | struct (bytes) | catalogue label | status | seen in |
|---|---|---|---|---|"""


def lines() -> Iterator[str]:
    """The page, line by line."""
    yield HEAD
    for entry in layouts():
        if not entry.schemas:
            yield f"| `{entry.name}` | devicetree | | {entry.status} | {entry.seen_in} |"
        for number, schema in enumerate(entry.schemas):
            name = f"`{entry.name}`" if number == 0 else ""
            seen = f"{schema.status} | {schema.seen_in}"
            yield f"| {name} | {schema.name} ({schema.size}) | {schema.label} | {seen} |"


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    print(page(), end="")
