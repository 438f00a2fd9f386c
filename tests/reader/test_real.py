# SPDX-License-Identifier: MIT
"""Every real dump against what an independent reader found in it."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest

import luoser
from tests import real

each_dump = pytest.mark.parametrize("name", real.DUMPS)


def test_there_are_real_dumps() -> None:
    assert len(real.DUMPS) >= 13
    assert {name.split("/")[0] for name in real.DUMPS} == set(real.CASES)


def as_expected(handover: dict[str, Any]) -> dict[str, Any]:
    """A handover of the document in the words of expect.json."""
    luo = handover["luo"]
    return {
        **handover,
        "subtrees": sorted(subtree["name"] for subtree in handover["subtrees"]),
        "luo": luo and {**luo, "sessions": [session_as_expected(session) for session in luo["sessions"]]},
        "pci": {devices["address"]: {**devices, "via": sorted(devices["via"])} for devices in handover["pci"]},
    }


def session_as_expected(session: dict[str, Any]) -> dict[str, Any]:
    files = []
    for file in session["files"]:
        memfd = file["memfd"]
        files.append({**file, "memfd": memfd and {**memfd, "folios": memfd["folios"]["count"]}})
    return {**session, "files": files}


def differences(got: Any, want: Any, where: str) -> list[str]:
    """Every value of `want` that `got` has not; members that only `got` has do not count."""
    if isinstance(want, dict) and isinstance(got, dict):
        return [line for key in want for line in differences(got.get(key, "nothing"), want[key], f"{where}.{key}")]
    if isinstance(want, list) and isinstance(got, list):
        if len(got) != len(want):
            return [f"{where}: {len(got)} items, expected {len(want)}"]
        pairs = zip(got, want, strict=True)
        return [line for i, pair in enumerate(pairs) for line in differences(*pair, f"{where}[{i}]")]
    if where.endswith(".memfd") and want is None:  # see test_no_memfd_is_made_up
        return []
    return [] if (type(got), got) == (type(want), want) else [f"{where}: {got!r}, expected {want!r}"]


@each_dump
def test_roots_are_those_that_are_there(name: str) -> None:
    found = [handover["address"] for handover in real.document(name)["handovers"]]
    assert found == sorted(
        (handover["address"] for handover in real.expect(name)["handovers"]), key=lambda x: int(x, 16)
    )


@each_dump
def test_document_agrees_with_an_independent_reader(name: str) -> None:
    got = {handover["address"]: as_expected(handover) for handover in real.document(name)["handovers"]}
    for want in real.expect(name)["handovers"]:
        want = {
            **want,
            "pci": {devices["address"]: {**devices, "via": sorted(devices["via"])} for devices in want["pci"]},
        }
        wanted_scratch = want.pop("scratch")
        assert differences(got[want["address"]], want, want["address"]) == []
        if wanted_scratch is not None:
            assert got[want["address"]]["scratch"] == wanted_scratch


@each_dump
def test_scratch_is_what_the_kernel_says_of_itself(name: str) -> None:
    """Which areas there are is fixed at the first boot; they are known once the next kernel was handed the array."""
    case, moment = name.split("/")
    found = {json.dumps(handover["scratch"]) for handover in real.document(name)["handovers"]}
    if moment in ("pre", "frozen"):
        assert found == {"null"}
        return
    files = real.truth(case)[0]["debugfs"]
    said = zip(files["out/scratch_phys"].split(), files["out/scratch_len"].split(), strict=True)
    assert found == {json.dumps([{"address": start, "size": size} for start, size in said])}


@each_dump
def test_no_pci_list_is_made_up(name: str) -> None:
    got = {
        (handover["address"], entry["address"])
        for handover in real.document(name)["handovers"]
        for entry in handover["pci"]
    }
    want = {
        (handover["address"], entry["address"])
        for handover in real.expect(name)["handovers"]
        for entry in handover["pci"]
    }
    assert got == want


@each_dump
def test_no_memfd_is_made_up(name: str) -> None:
    """A file whose descriptor was reused has none: the independent reader gives null there."""
    got = {handover["address"]: handover for handover in real.document(name)["handovers"]}
    made_up = [
        (session["name"], found["token"], found["memfd"])
        for handover in real.expect(name)["handovers"]
        for number, session in enumerate((handover["luo"] or {"sessions": []})["sessions"])
        for place, file in enumerate(session["files"])
        if file["memfd"] is None
        and (found := got[handover["address"]]["luo"]["sessions"][number]["files"][place])["memfd"] is not None
    ]
    assert made_up == []


@pytest.mark.parametrize("name", [name for name in real.DUMPS if name.endswith(("/pre", "/frozen"))])
def test_a_dump_taken_before_the_jump_has_no_problem(name: str) -> None:
    assert real.document(name)["problems"] == []


def test_differences_sees_every_kind_of_difference() -> None:
    want = {"a": [1, {"b": "x"}], "c": None}
    assert differences({"a": [1, {"b": "x", "more": 1}], "c": None}, want, "") == []
    for got in (
        {"a": [1, {"b": "y"}], "c": None},
        {"a": [1], "c": None},
        {"a": [True, {"b": "x"}], "c": None},
        {"a": [1, {"b": "x"}]},
    ):
        assert len(differences(got, want, "")) == 1


@pytest.mark.parametrize("name", ["6.18-a/frozen", "7.3-a/pre", "7.3-a/frozen", "7.3-a/post"])
def test_a_source_is_freed_with_its_last_user(name: str) -> None:
    """Without the collector of cycles: of hundreds of dumps it would keep the bytes of many."""
    gc.disable()
    try:
        memory = luoser.open(real.path(name))
        luoser.read(memory, contents=True)
        left = weakref.ref(memory)
        memory.close()
        del memory
        assert left() is None
    finally:
        gc.enable()
