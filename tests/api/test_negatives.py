# SPDX-License-Identifier: MIT
"""Negatives of `luoser build`: what is broken, and that it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import luoser
from luoser.abi.pci import LAYOUTS, PciLayout
from luoser.api.negatives import Golden, rules_of
from luoser.checks import rules
from luoser.errors import UsageError
from luoser.state import State
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.complete import complete
from luoser.writer.mutate import mutations
from luoser.writer.mutate.luo import place_of, sessions_of
from luoser.writer.mutate.model import Mutation
from tests.conftest import Run
from tests.real import ROOT

LIST = ROOT / "fixtures/specs/pci-cover-letter.toml"
HANDOVER = ROOT / "fixtures/specs/handover.toml"
Json = dict[str, Any]
SLUGS = {rule.id: rule.slug for rule in rules()}


@pytest.mark.parametrize("rule", mutations())
def test_a_negative_differs_or_is_refused(luoser_command: Run, tmp_path: Path, rule: str) -> None:
    """Of a bare list: most rules are about something else."""
    luoser_command("build", LIST, "-o", tmp_path / "good")
    result = luoser_command("build", LIST, "-o", tmp_path / "bad", "--mutate", rule)
    assert (tmp_path / "bad").exists() == (result.returncode == 0)
    if result.returncode == 0:
        assert rule in rules_of("pci-lu-v2-06") or rule in ("PCI007", "PCI012")
        assert (tmp_path / "bad").read_bytes() != (tmp_path / "good").read_bytes()
    else:
        assert result.returncode == 2
        assert b"not about this node" in result.stderr or b"expected" in result.stderr or b"describe" in result.stderr


@pytest.mark.parametrize("form", ["c", "kunit", "kselftest"])
def test_a_negative_in_c_says_so(luoser_command: Run, tmp_path: Path, form: str) -> None:
    luoser_command("build", LIST, "-o", tmp_path / "bad.c", "--mutate", "PCI002", "--format", form)
    text = (tmp_path / "bad.c").read_text()
    assert "NEGATIVE: breaks PCI002 path-duplicate" in text
    assert "Expected of a kernel: " in text and "Recorded of 7.3.4" in text
    assert "u8 pci_lu_v2_06_bad_path_duplicate[168]" in text
    assert max(len(line.expandtabs(8)) for line in text.splitlines()) <= 100
    if form == "kunit":
        assert '.name = "pci_lu_v2_06_bad_path_duplicate"' in text


def test_a_golden_does_not_say_that_it_is_a_negative(luoser_command: Run) -> None:
    assert b"NEGATIVE" not in luoser_command("build", LIST, "-o", "-", "--format", "kunit").stdout


def test_all_of_a_list(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("build", LIST, "--all-mutations", tmp_path / "all", "--format", "c")
    made = sorted(place.name for place in (tmp_path / "all").iterdir())
    assert result.returncode == 0 and f"{len(made)} negatives".encode() in result.stderr
    assert "PCI003-flags-illegal.c" in made and not any(name.startswith("KHO") for name in made)
    assert len({(tmp_path / "all" / name).read_bytes() for name in made}) == len(made)


def test_all_of_a_handover_are_found(luoser_command: Run, tmp_path: Path) -> None:
    luoser_command("build", HANDOVER, "--all-mutations", tmp_path)
    made = sorted(tmp_path.glob("*.elf"))
    assert len(made) > 50
    for place in made[::9]:
        rule = place.name.partition("-")[0]
        document = json.loads(luoser_command("check", place, "--select", rule, "--format", "json").stdout)
        assert rule in {finding["rule"] for finding in document["findings"]}


def test_all_do_not_replace_files(luoser_command: Run, tmp_path: Path) -> None:
    assert luoser_command("build", LIST, "--all-mutations", tmp_path).returncode == 0
    again = luoser_command("build", LIST, "--all-mutations", tmp_path)
    assert again.returncode == 2 and b"--force" in again.stderr
    assert luoser_command("build", LIST, "--all-mutations", tmp_path, "--force").returncode == 0


@pytest.mark.parametrize("name", [form.name for form in LAYOUTS if form.blocks is None and "block" not in form.name])
def test_every_list_has_rules_to_break(name: str) -> None:
    found = rules_of(name)
    assert found and all(rule.startswith("PCI") for rule in found)


@pytest.mark.parametrize("rule", ["PCI008", "PCI013"])
def test_a_list_with_the_bytes_of_another_layout_is_found(rule: str) -> None:
    assert luoser.build(HANDOVER, mutate=rule, blob="pci[0]").breaks == rule


def test_what_is_listed_is_what_all_mutations_write(luoser_command: Run, tmp_path: Path) -> None:
    luoser_command("build", LIST, "--all-mutations", tmp_path)
    assert {place.name.partition("-")[0] for place in tmp_path.iterdir()} <= set(rules_of("pci-lu-v2-06"))


DEVICES: tuple[Json, ...] = (
    {"bdf": "0000:05:00.1", "flags": 1, "requested": 1, "refcount": 1, "driver_name": "pci-lu-stub", "devfn": 1},
    {"bdf": "0000:04:01.0", "flags": 2, "requested": 0, "refcount": 1, "driver_name": "pcieport", "devfn": 8},
)
"""Of the cover letter of PCI/LUO v2. As few facts let other layouts fit the broken bytes as well."""


@pytest.mark.parametrize("form", LAYOUTS, ids=lambda form: form.name)
@pytest.mark.parametrize("left_out", ["", "requested", "driver_data"])
def test_every_rule_that_is_listed_is_written(form: PciLayout, left_out: str) -> None:
    given = [{**one, "driver_data": 0x1AC6F4000 if one["flags"] == 1 else 0} for one in DEVICES]
    members = {"bdf", *form.record.record_fields} - {left_out}
    devices = [{name: value for name, value in one.items() if name in members} for one in given]
    spec = {"layout": form.name, "devices": devices[::-1] if form.is_sorted else devices}
    for rule in rules_of(form.name):
        if (rule, left_out) != ("PCI012", "driver_data"):  # which it is about
            assert luoser.build(spec, mutate=rule).breaks == rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [("kho-v4", "KHO001"), ("luo-v5", "LUO002"), ("memfd-v2", "MFD001"), ("kho-vmalloc-chunk", "MFD003")],
)
def test_rules_of_other_layouts(luoser_command: Run, name: str, rule: str) -> None:
    result = luoser_command("build", "--list-mutations", name)
    assert result.returncode == 0
    assert f"{rule}  {SLUGS[rule]}" in result.stdout.decode().splitlines()


def test_a_layout_without_rules_to_break(luoser_command: Run) -> None:
    result = luoser_command("build", "--list-mutations", "eventfd-v1")
    assert (result.returncode, result.stdout) == (0, b"") and b"no rule can be broken" in result.stderr


def test_what_the_golden_breaks_itself_is_not_found() -> None:
    devices = [{"bdf": "0000:00:01.0", "refcount": 0}, {"bdf": "0000:00:02.0", "refcount": 1}]
    given: Json = {"luo": {"sessions": [{"name": "vm"}]}, "pci": [{"layout": "pci-v2-u64", "devices": devices}]}
    state = from_document(complete({"handovers": [given]}))
    golden = Golden(image=write(state), state=state)

    def elsewhere(image: Image, state: State) -> None:
        image.patch(place_of(sessions_of(state)[0]), b"x")

    assert golden.broken(mutations()["PCI016"]) != golden.image
    with pytest.raises(UsageError, match="PCI016 has the same findings before and after breaking it"):
        golden.broken(Mutation("PCI016", "nothing", elsewhere))
