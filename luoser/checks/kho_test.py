# SPDX-License-Identifier: MIT
"""Rules on the sub-tree of the KHO self-test."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.kho_test import MAGIC
from luoser.checks.model import Found, Severity
from luoser.checks.rule import register
from luoser.checks.view import View

__all__: list[str] = []


@register("KHO014", "kho-test-bad", Severity.ERROR, kernels="6.17 and later", source="kho_test.md#invariants")
def kho_test(view: View) -> Iterator[Found]:
    """The sub-tree of the KHO self-test has a wrong magic, or its list of folios is broken.

    The test module of the next kernel reports that its memory has changed. Only test data is affected.
    """
    view.need_unconsumed()
    place = view.subtree("kho_test")
    hint = "only the self-test fails, but the cause may corrupt other memory, too"
    for problem in (*view.problems("bad-kho-test"), *view.subtree_problems("kho_test", "no-fdt", "bad-fdt")):
        yield Found(problem.message, address=problem.address, where="kho_test", hint=hint)
    view.need_subtree("kho_test", "kho_test")
    found = view.handover.kho_test
    if found is not None and found.magic != MAGIC:
        word = f"magic of the KHO self-test is {found.magic:#x}, expected {MAGIC:#x}"
        yield Found(word, address=place, where="kho_test", hint=hint)
