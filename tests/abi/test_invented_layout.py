# SPDX-License-Identifier: MIT
"""A device list layout is entered in one place, luoser.abi.pci: every command, schema, golden and page then has it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import real
from tests.abi_pages import marker
from tests.invented import CHANGE, DEVICES, FORMS

NAMES = [form.name for form in FORMS]
BY_NAME = {form.name: form for form in FORMS}
each_name = pytest.mark.parametrize("name", NAMES)


@cache
def walked() -> dict[str, Any]:
    """What `tests.invented` prints: it is a process of its own, as layouts are entered before anything uses them."""
    with TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-m", "tests.invented", folder], check=True, capture_output=True, text=True, cwd=real.ROOT
        )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def output(name: str, command: str, *, code: int = 0) -> str:
    exit_code, text = walked()[name][command]
    assert exit_code == code, text
    return str(text)


def document(name: str, command: str, *, code: int = 0) -> dict[str, Any]:
    """A JSON document, valid by its schema."""
    found: dict[str, Any] = json.loads(output(name, command, code=code))
    assert walked()[name]["errors"][command] == []
    return found


def without_index(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in device.items() if key != "index"} for device in devices]


@each_name
def test_it_is_built_and_recognised_by_shape(name: str) -> None:
    assert output(name, "build image") == ""
    (entry,) = document(name, "inspect")["handovers"][0]["pci"]
    assert entry["layout"] == name
    assert without_index(entry["devices"]) == list(DEVICES[name])


@each_name
def test_the_document_builds_the_same_image(name: str) -> None:
    document(name, "inspect --full")
    assert output(name, "build again") == ""
    assert output(name, "cmp") == ""


@each_name
def test_check_judges_it(name: str) -> None:
    assert document(name, "check")["findings"] == []
    if BY_NAME[name].blocks is None:
        (finding,) = document(name, "check twins", code=1)["findings"]
        assert (finding["rule"], finding["where"]) == ("PCI002", "pci[0].devices[1]")


@each_name
def test_diff_names_the_member_that_changed(name: str) -> None:
    (change,) = document(name, "diff", code=1)["changes"]
    member, value = CHANGE[name]
    expected = (f"pci/0000:41:00.0/{member}", DEVICES[name][0][member], value)
    assert (change["where"], change["before"], change["after"]) == expected


@each_name
def test_bytes_and_tables_have_its_members(name: str) -> None:
    form, text = BY_NAME[name], output(name, "hexdump")
    assert all(f"{field.name} = " in text for field in form.header.fields if field.size and not field.padding)
    own = [field.name for field in form.record.fields if not field.padding]
    assert form.blocks is not None or all(f"[1].{member} = " in text for member in own)
    assert all(member in output(name, "pci") for member in set(own) - {"domain", "path"})


@each_name
def test_its_bare_folio_is_detected_and_decoded(name: str) -> None:
    assert f"{name}: " in output(name, "detect")
    found = document(name, "decode")
    assert found["layout"] == name
    assert without_index(found["devices"]) == (list(DEVICES[name]) if BY_NAME[name].blocks is None else [])


@each_name
def test_its_structs_are_shown_and_become_c(name: str) -> None:
    text = output(name, "show")
    assert all(f" {field.name}" in text for field in (*BY_NAME[name].header.fields, *BY_NAME[name].record.fields))
    assert output(name, "kunit") == ""


@each_name
def test_generators_have_it(name: str) -> None:
    made, form = walked()["made"], BY_NAME[name]
    assert f"| `{name}` |" in made["page"] and f"| `{name}` |" in made["table"]
    assert [made["shown"].count(marker(schema)) for schema in (form.header, form.record)] == [1, 1]
    assert sum(path.startswith(f"lists/{name}/") for path in made["goldens"]) >= 8
