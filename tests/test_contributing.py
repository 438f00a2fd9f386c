# SPDX-License-Identifier: MIT
"""CONTRIBUTING and the release recipe name what exists, and their examples do what they say."""

from __future__ import annotations

import importlib.util
import re
import textwrap
from typing import Any

import pytest

import luoser
from luoser.abi import pci, schema
from luoser.abi.schema import Schema
from luoser.checks import check, rule
from luoser.checks import luo as luo_rules
from luoser.cli.main import _COMMANDS
from luoser.writer.mutate import luo as luo_mutations
from luoser.writer.mutate import model
from tests import invented
from tests.checks.mutants import written
from tests.real import ROOT

PAGES = ("CONTRIBUTING.md", "README.md", "docs/releasing.md", "docs/architecture.md", "docs/compatibility.md")
each_page = pytest.mark.parametrize("page", PAGES)
_NO_FILE = re.compile(r"[A-Z]{4,}|\*|/\d+$")
"""A part that a reader fills in, a pattern, or the number of a JSON document."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def commands(page: str) -> list[list[str]]:
    """Commands in blocks of sh and in backticks, as words, without comments."""
    text = text_of(page)
    blocks = "\n".join(re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line.partition("#")[0].strip().removeprefix("$ ") for line in (*blocks.splitlines(), *spans)]
    return [words for line in lines if (words := line.split())]


def examples() -> list[str]:
    """The blocks of Python in CONTRIBUTING."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text_of("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in blocks]


@each_page
def test_targets_of_make_exist(page: str) -> None:
    targets = set(re.findall(r"^([.\w/-]+):", text_of("Makefile"), re.MULTILINE))
    named = {word for words in commands(page) if words[0] == "make" for word in words[1:] if "=" not in word}
    assert named <= targets


@each_page
def test_modules_that_are_run_exist(page: str) -> None:
    named = [words[index + 1] for words in commands(page) for index, word in enumerate(words[:-1]) if word == "-m"]
    assert [name for name in named if importlib.util.find_spec(name) is None] == []


@each_page
def test_commands_of_luoser_exist(page: str) -> None:
    named = {words[1] for words in commands(page) if words[0].rpartition("/")[2] == "luoser" and len(words) > 1}
    assert {name for name in named if name[0] not in "-<" and not name.isupper()} <= set(_COMMANDS)


@each_page
def test_files_exist(page: str) -> None:
    folders = ("luoser/", "tests/", "docs/", "fixtures/")
    words = [word.strip(",;") for words in commands(page) for word in words]
    named = [word for word in words if word.startswith(folders) and not _NO_FILE.search(word)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_name_commands_and_files_at_all() -> None:
    words = [word for page in PAGES for words in commands(page) for word in words]
    assert {"make", "-m", "luoser/abi/pci.py", "tests/checks/test_rules.py"} <= set(words)


# -- the examples ------------------------------------------------------------------------------------------


def members(of: Schema) -> list[tuple[Any, ...]]:
    return [(field.name, field.offset, field.size, field.c_type, field.kind) for field in of.fields]


def test_the_example_of_a_layout_is_the_invented_one() -> None:
    """That one goes through every command in tests/abi/test_invented_layout.py."""
    structs, entry = examples()[:2]
    names = {**vars(schema), **vars(pci)}
    exec(structs + entry, names)
    (form,) = names["LAYOUTS"]
    known = invented.FORMS[0]
    assert members(form.header) == members(known.header)
    assert members(form.record) == members(known.record)
    assert (form.family, form.count, form.postings) == (known.family, known.count, known.postings)


def test_the_example_of_a_rule_is_broken_by_its_mutation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "_RULES", {})
    monkeypatch.setattr(model, "_MUTATIONS", {})
    judge, mutation = examples()[2:]
    exec(judge, dict(vars(luo_rules)))
    exec(mutation, dict(vars(luo_mutations)))
    ((name, broken),) = model.mutations().items()
    assert [one.id for one in rule.registered()] == [name]
    state, image = written("7.3-a/frozen")
    assert check(luoser.read(image.memory()), select=[name]).passed == (name,)
    broken.apply(image, state)
    report = check(luoser.read(image.memory()), select=[name])
    assert [finding.rule for finding in report.findings] == [name]
