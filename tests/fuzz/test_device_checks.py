# SPDX-License-Identifier: MIT
"""Damaged dumps of every kind, judged by the rules on device lists: no exception, however odd the lists are."""

from __future__ import annotations

import pytest

import luoser
from luoser.checks import check
from tests import real
from tests.checks.device_lists import a_list, with_lists
from tests.fuzz.test_mutations import ROUNDS, damaged
from tests.golden import FORMS, devices_of


@pytest.mark.parametrize("name", real.DUMPS)
def test_rules_take_whatever_was_read(name: str) -> None:
    topology = pytest.importorskip("luoser.topology").read_topology(real.REAL / name.split("/")[0] / "topology.json")
    for seed in range(ROUNDS // 2):
        state = luoser.read(damaged(name, seed), contents=True)
        try:
            check(state, topology=topology, select=["PCI", "TOP"])
        except Exception as error:
            raise AssertionError(f"damaged({name!r}, {seed}): {error!r}") from error


@pytest.mark.parametrize("form", FORMS)
def test_rules_take_lists_of_every_form(form: str) -> None:
    topology = pytest.importorskip("luoser.topology").read_topology(real.REAL / "7.3-a" / "topology.json")
    report = check(with_lists(a_list(form, devices_of(FORMS[form]))), topology=topology, select=["PCI", "TOP"])
    assert "TOP001" in {finding.rule for finding in report.findings}
