# SPDX-License-Identifier: MIT
"""The means that remove bounds: what they remove, and that a test which notices is told from one that does not."""

from __future__ import annotations

import os
import re
import signal

import pytest

from luoser import fdt
from luoser.limits import meanings
from tests.bounds import ENDLESS, PAGE, candidates, noticed, page, without

DEEP = "tests/test_fdt.py::test_nesting_beyond_the_limit_is_refused"
OTHER = "tests/test_fdt.py::test_children_by_name"


def test_a_removed_bound_is_noticed_by_the_test_that_is_about_it() -> None:
    assert noticed("fdt_depth", [OTHER, DEEP]).partition("[")[0] == DEEP
    assert noticed("fdt_depth", [OTHER]) == "" == noticed("fdt_nodes", [DEEP]) == noticed("fdt_depth", [])


def test_a_test_that_fails_in_any_case_notices_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fdt.Node, "node", lambda _self, _name: None)
    assert noticed("fdt_depth", [OTHER]) == ""
    assert noticed("fdt_depth", [OTHER, DEEP]).partition("[")[0] == DEEP


def test_a_test_that_takes_too_much_without_a_bound_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    children = fdt.Node.node

    def node(self: fdt.Node, name: str) -> fdt.Node | None:
        if eval("LIMITS.fdt_depth", vars(fdt)) == ENDLESS:
            os.kill(os.getpid(), signal.SIGXCPU)
        return children(self, name)

    monkeypatch.setattr(fdt.Node, "node", node)
    assert noticed("fdt_depth", [OTHER]) == OTHER


def test_candidates_name_the_bound() -> None:
    assert candidates("disk_left") == ["tests/memory/test_file.py::test_unpacking_leaves_room_on_the_disk"]


def test_luoser_sees_no_bound_and_tests_do() -> None:
    from luoser import hextext
    from luoser.limits import LIMITS, Limits

    child = os.fork()
    if not child:
        without("hex_size")
        seen = eval("LIMITS.hex_size", vars(hextext))
        is_seen = LIMITS.hex_size == Limits().hex_size == 16 << 20 and Limits(hex_size=7).hex_size == 7
        right = seen == ENDLESS and is_seen
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_page_is_current_and_names_a_test_of_each_bound() -> None:
    text = PAGE.read_text()
    found = re.findall(r"^\| `(\w+)` .* \| `([^`]+)` \|$", text, re.MULTILINE)
    assert [name for name, _ in found] == list(meanings()), "run `make bounds`"
    assert text == page(found), "run `make bounds`"
    assert [(name, test) for name, test in found if test not in candidates(name)] == []


def test_the_page_has_what_each_bound_is_on() -> None:
    text = page([("roots", "tests/x.py::test_y[z]"), ("notes", "")])
    assert "| `roots` | 16 | KHO roots read from one source | `tests/x.py::test_y` |" in text
    assert "| `nothing` |" in text
