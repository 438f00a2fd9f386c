# SPDX-License-Identifier: MIT
"""What kernels did with mutations, and that what is said of them is not something else."""

from __future__ import annotations

import re

import pytest

from luoser.checks import rules
from luoser.checks.outcome import Outcome, _effect, outcomes
from luoser.writer.mutate import mutations

BOOTED = [rule for rule in mutations() if outcomes(rule)]


def test_most_mutations_were_booted_on_both_machines() -> None:
    both = [rule for rule in BOOTED if {outcome.machine for outcome in outcomes(rule)} == {"x86-64", "arm64"}]
    assert len(both) > 50 and {"KHO001", "LUO001", "MAP010", "MFD001"} <= set(both)


def test_outcomes_are_those_of_rules() -> None:
    assert set(BOOTED) <= {rule.id for rule in rules()}


@pytest.mark.parametrize("rule", BOOTED)
def test_what_a_mutation_is_said_to_do_is_what_kernels_did(rule: str) -> None:
    answer, found = mutations()[rule].answer, outcomes(rule)
    effects = [outcome.effect or "" for outcome in found]
    is_sure = not re.search(r"\b(if|unless|until|or|may)\b", answer)
    if not any(effects):
        assert answer.startswith("nothing") or not is_sure, f"{rule} had no effect; {answer}"
    if any("panic" in effect.partition(";")[0] for effect in effects):
        assert "panic" in answer, f"{rule}: {effects}; {answer}"
    if any(effect.startswith("Oops") for effect in effects):
        assert "Oops" in answer, f"{rule}: {effects}; {answer}"
    if "panic" in answer and is_sure:
        assert all("panic" in effect.partition(";")[0] for effect in effects), f"{rule}: {effects}; {answer}"
    if answer.startswith("nothing") and is_sure:
        assert not any(effects), f"{rule}: {effects}; {answer}"


def test_words_of_an_outcome() -> None:
    assert Outcome(kernel="7.3.4", machine="arm64", effect=None).words.startswith(
        "7.3.4 on arm64: no effect in one boot"
    )
    assert Outcome(kernel="7.3.4", machine="arm64", effect="hangs").words == "7.3.4 on arm64: hangs"


@pytest.mark.parametrize(
    ("boots", "words"),
    [
        ({"boot": {"ended": "done"}, "filled": {"ended": "done"}}, None),
        ({"boot": {"ended": "silent"}}, "hangs"),
        ({"boot": {"ended": "panic", "new": ["Kernel panic - not syncing: x"]}}, "panic: x"),
        (
            {"boot": {"ended": "oops", "new": ["RIP: 0010:kho_restore"], "files": {"a 1": "not retrieved"}}},
            "Oops in kho_restore",
        ),
        ({"boot": {"ended": "done", "new": ["luo: bad"], "lost": ["KHO: ok"]}}, 'logs "luo: bad"'),
        ({"boot": {"ended": "done", "lost": ["KHO: ok"]}}, 'no longer logs "KHO: ok"'),
        ({"boot": {"ended": "done", "new": ["WARNING: a.c:1 at f, : x", "RIP: 0010:f"]}}, "WARNING in f"),
        (
            {
                "boot": {
                    "ended": "done",
                    "said": ["retrieve: EIO"],
                    "files": {"a 1": "not retrieved", "a 2": "other size"},
                }
            },
            "user space: retrieve: EIO; 1 file not retrieved; a file has other size",
        ),
        (
            {"boot": {"ended": "done"}, "filled": {"ended": "done", "files": {"a 1": "other sha256"}}},
            "after all free memory was written to; a file has other sha256",
        ),
    ],
)
def test_effects_in_words(boots: dict[str, object], words: str | None) -> None:
    assert _effect(boots) == words
