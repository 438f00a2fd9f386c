# SPDX-License-Identifier: MIT
"""`python -m tests.reference_pages` makes docs/reference again: commands, rules, problem codes, JSON, Python."""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from luoser.checks import rules
from luoser.checks.outcome import outcomes
from luoser.state.problems import PROBLEMS
from luoser.survey.tables import NUMBER, TABLES
from tests.command_line import Command, commands
from tests.schemas import KINDS, schema

__all__ = ["FOLDER", "PUBLIC", "main", "pages"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/reference"
MADE = "Made by `make pages`."
PUBLIC = tuple(re.findall(r"(?m)^\| `(luoser[\w.]*)` \|", (ROOT / "docs/compatibility.md").read_text()))
"""The modules that docs/compatibility.md calls public."""
_FAMILIES = {
    "KHO": "The root and the source",
    "MAP": "The preserved map",
    "LUO": "Sessions, files, FLBs",
    "MFD": "Memfds and other files",
    "PCI": "Device lists",
    "TOP": "Device lists against the machine",
    "PEN": "What is pending",
}


def pages() -> dict[str, str]:
    """Name and text of each page."""
    made = {
        "commands": _commands,
        "rules": _rules,
        "problems": _problems,
        "json": _json,
        "python": _python,
        "survey": _survey,
    }
    return {f"{name}.md": "\n".join(lines()) + "\n" for name, lines in made.items()}


def _commands() -> Iterator[str]:
    yield from ("# Commands", "")
    yield f"What `luoser help COMMAND` and `man luoser-COMMAND` say. {MADE}"
    yield "[Compatibility](../compatibility.md#command-line) has the exit codes."
    for one in commands():
        yield from ("", f"## {one.name}", "", "```text", f"{one.name} {one.usage}", "```")
        for paragraph in one.paragraphs:
            yield from ("", paragraph)
        if one.examples:
            yield from ("", "```text", *one.examples, "```")
        yield from ("", *_options(one))


def _options(one: Command) -> Iterator[str]:
    for option in one.options:
        names = ", ".join(option.names)
        yield f"- `{names}{' ' if option.value else ''}{option.value}`: {option.help}"


def _rules() -> Iterator[str]:
    yield from ("# Rules", "")
    yield f"What `luoser check` looks at, as `luoser rules RULE` prints it. {MADE} *Booted* is what a kernel did"
    yield "with an image in which the rule is broken. [How luoser decides](../deciding.md) says how verdicts are made."
    for family, title in _FAMILIES.items():
        yield from ("", f"## {family}: {title}")
        for rule in rules():
            if not rule.id.startswith(family):
                continue
            yield from ("", f"### {rule.id} {rule.slug}", "", f"*{rule.severity.value}*. {rule.doc}", "")
            links = ", ".join(
                f"[{place.removeprefix('docs/abi/')}](../{place.removeprefix('docs/')})" for place in rule.sources
            )
            yield f"Kernels: {rule.kernels}. Source: {links}."
            if found := outcomes(rule.id):
                yield from ("", *(f"- Booted: {outcome.words}" for outcome in found))


def _problems() -> Iterator[str]:
    yield from ("# Problem codes", "")
    yield f"What a reader met and could not read: `problems` of the state document. {MADE}"
    yield "A code is for programs, the message for people. Codes may be added."
    for about, codes in PROBLEMS.items():
        yield from ("", f"## {about[0].upper()}{about[1:]}", "", "| code | means |", "|---|---|")
        yield from (f"| `{code}` | {meaning} |" for code, meaning in codes.items())


def _json() -> Iterator[str]:
    yield from ("# JSON documents", "")
    yield f"The schemas are in the package, `luoser/state/KIND.schema.json` (JSON Schema, draft 2020-12). {MADE}"
    yield "[Compatibility](../compatibility.md#json) says what may change. Addresses, tokens, handles and sizes are"
    yield "hex strings, counts and flags numbers; what is missing is `null`."
    for kind in KINDS:
        found = schema(kind)
        yield from ("", f"## {found['title']}", "", found["description"], "", f"`$id`: `{found['$id']}`", "")
        yield from _object(found)
        for name, part in found.get("$defs", {}).items():
            if part.get("properties") and not name.startswith(("device_", "bus_")):  # those are the layouts
                yield from ("", f"*{name}* of `{found['title']}`:", "", *_object(part))


def _survey() -> Iterator[str]:
    yield from ("# Tables of a survey", "")
    yield f"What `luoser survey` writes ([how to ask](../howto/survey.md)), form {NUMBER}. {MADE}"
    yield "Numbers are unsigned, 64 bits; one that is larger is null, as is what is not known."
    yield "A column may be added; names and types stay."
    for table in TABLES.values():
        yield from ("", f"## {table.name}", "", f"{table.doc[0].upper()}{table.doc[1:]}.", "")
        yield from ("| column | type | |", "|---|---|---|")
        yield from (f"| `{column.name}` | {column.type} | {column.doc} |" for column in table.columns)


def _object(found: dict[str, Any]) -> Iterator[str]:
    yield from ("| member | type | |", "|---|---|---|")
    for name, value in found.get("properties", {}).items():
        needed = "" if name in found.get("required", ()) else "may be absent"
        yield f"| `{name}` | {_type(value)} | {needed} |"


def _type(value: Any) -> str:
    """A schema in a few words."""
    if "$ref" in value:
        return f"*{value['$ref'].rpartition('/')[2]}*"
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return " \\| ".join(f"`{json.dumps(one)}`" for one in value["enum"])
    if "oneOf" in value:
        return " \\| ".join(map(_type, value["oneOf"]))
    kind = value.get("type", "any")
    if kind == "array" and isinstance(value.get("items"), dict):
        return f"array of {_type(value['items'])}"
    return " \\| ".join(kind) if isinstance(kind, list) else str(kind)


def _python() -> Iterator[str]:
    yield from ("# Python", "")
    yield f"The public modules, as `help()` shows them. {MADE}"
    yield "[Compatibility](../compatibility.md#python) says what may change."
    for name in PUBLIC:
        module = importlib.import_module(name)
        yield from ("", f"## {name}", "", *_fenced(inspect.getdoc(module) or ""))
        for member in module.__all__:
            yield from _member(module, member)


def _member(module: ModuleType, name: str) -> Iterator[str]:
    value = getattr(module, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return
    yield from ("", f"### {module.__name__}.{name}", "", "```python", f"{_signature(name, value)}", "```", "")
    yield from _fenced(inspect.getdoc(value) or "")
    if inspect.isclass(value) and (rows := list(_methods(value))):
        yield from ("", "| member | |", "|---|---|", *rows)


def _methods(owner: type) -> Iterator[str]:
    """A row for each public method and property of a class, with the first line of its docstring."""
    for name, member in vars(owner).items():
        if name.startswith("_") or not (
            isinstance(member, property | cached_property | classmethod) or inspect.isfunction(member)
        ):
            continue
        shown = name if isinstance(member, property | cached_property) else f"{name}()"
        first = (
            inspect.getdoc(member if isinstance(member, cached_property) else getattr(owner, name)) or ""
        ).partition("\n")[0]
        yield f"| `{shown}` | {first.replace('|', chr(92) + '|')} |"


def _signature(name: str, value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return f"class {name}(Enum):\n    {', '.join(one.name for one in value)}"
    if inspect.isclass(value) and issubclass(value, BaseException):
        return f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
    try:
        text = re.sub(r"""(: |-> )(['"])(.*?)\2""", r"\1\3", str(inspect.signature(value)))
    except ValueError:  # a class that is built in C
        return f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text.replace("<factory>", "..."))
    text = text.removesuffix(" -> None") if inspect.isclass(value) else text
    whole = f"{'class' if inspect.isclass(value) else 'def'} {name}{text}"
    if len(whole) <= 100:
        return whole
    inner, _, rest = text[1:].rpartition(")")
    return f"{whole.partition('(')[0]}(\n" + "".join(f"    {part},\n" for part in _split(inner)) + f"){rest}"


def _split(inner: str) -> Iterator[str]:
    """The parameters of a signature: parts between commas that are in no bracket."""
    depth, part = 0, ""
    for one in inner:
        depth += (one in "[({") - (one in "])}")
        if one == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += one
    yield part.strip()


def _fenced(text: str) -> Iterator[str]:
    yield from ("```text", *text.splitlines(), "```")


def main() -> None:
    """Write the pages anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
