# SPDX-License-Identifier: MIT
"""Everything public has a docstring: functions, classes, methods.

A method that overrides a documented one need not repeat its docstring. Special methods need none: `__init__` has one
only if its parameters are not obvious.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator

import pytest

from tests.test_floors import MODULES, room

EXEMPT = ("checks", "diff", "writer")
"""Rooms that still lack docstrings."""
DOCUMENTED = ("luoser.writer.golden",)
"""Packages of exempt rooms that do not lack any."""


def is_exempt(module: str) -> bool:
    return room(module) in EXEMPT and not module.startswith(DOCUMENTED)


def undocumented(source: str, module: str) -> Iterator[str]:
    """Qualified names of what lacks a docstring in a source text. module: to look up base classes."""
    yield from _undocumented(ast.parse(source), module, "")


def _undocumented(parent: ast.Module | ast.ClassDef, module: str, path: str) -> Iterator[str]:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        name = f"{path}{node.name}"
        if ast.get_docstring(node) is None and not (path and _is_inherited(module, path[:-1], node.name)):
            yield name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node, module, f"{name}.")


def _is_inherited(module: str, owner: str, name: str) -> bool:
    """Whether a base class of `owner` documents its method `name`."""
    found: object = importlib.import_module(module)
    for part in owner.split("."):
        found = getattr(found, part)
    assert isinstance(found, type)
    overridden = (vars(base).get(name) for base in found.__mro__[1:])
    return any(one.__doc__ for one in overridden if inspect.isroutine(one) or isinstance(one, property))


@pytest.mark.parametrize("module", [name for name in MODULES if not is_exempt(name)])
def test_everything_public_has_a_docstring(module: str) -> None:
    assert list(undocumented(MODULES[module].read_text(), module)) == []


@pytest.mark.parametrize("name", EXEMPT)
def test_exempt_rooms_lack_docstrings(name: str) -> None:
    modules = [module for module in MODULES if room(module) == name and is_exempt(module)]
    lacking = [found for module in modules for found in undocumented(MODULES[module].read_text(), module)]
    assert lacking, f"everything in {name} has a docstring by now: take it out of EXEMPT"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): ...", ["f"]),
        ("async def f(): ...", ["f"]),
        ("class C: ...", ["C"]),
        ("class C:\n    'Does.'\n    def f(self): ...\n    class D: ...", ["C.f", "C.D"]),
        ("class C:\n    'Does.'\n    @property\n    def p(self): ...", ["C.p"]),
        ("def f():\n    'Does.'\n    def inner(): ...", []),
        ("def _f(): ...\nclass _C:\n    def f(self): ...", []),
        ("class C:\n    'Does.'\n    def __len__(self): ...\n    def _f(self): ...", []),
        ("class RawMemory:\n    'Does.'\n    def read(self): ...\n    def other(self): ...", ["RawMemory.other"]),
    ],
)
def test_what_lacks_a_docstring_is_found(source: str, names: list[str]) -> None:
    class C:
        """The class of these texts, which inherits from nothing."""

    module = importlib.import_module("luoser.memory.raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "C", C, raising=False)
        assert list(undocumented(source, "luoser.memory.raw")) == names
