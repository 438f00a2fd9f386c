# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import luoser
import luoser.survey
from luoser.errors import UsageError
from luoser.fleet.fingerprint import fingerprint
from luoser.limits import Limits
from luoser.state import to_document
from luoser.survey.tables import TABLES
from luoser.text import safe_text
from tests import real
from tests.images import Image

FROZEN, POST = (str(real.path(f"7.3-a/{name}")) for name in ("frozen", "post"))
OF_SOURCE = tuple(name for name, table in TABLES.items() if table.key == ("source",))


def without_key(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in ("source", "host", "moment")} for row in rows]


@pytest.mark.parametrize("name", real.DUMPS)
def test_rows_have_the_columns_of_their_tables_and_no_others(name: str) -> None:
    rows = luoser.survey.row(str(real.path(name)))
    assert rows.keys() == TABLES.keys() and not rows["pairs"] and not rows["changes"]
    for table, found in rows.items():
        known = {column.name: column.type for column in TABLES[table].columns}
        kinds = {"text": str, "bool": bool, "number": int, "texts": list}
        for row in found:
            assert row.keys() == known.keys()
            assert all(value is None or type(value) is kinds[known[one]] for one, value in row.items()), row


def test_the_row_of_a_host() -> None:
    (host,) = luoser.survey.row(FROZEN, host="web1", moment="before")["hosts"]
    expected = {
        "source": FROZEN,
        "host": "web1",
        "moment": "before",
        "sha256": fingerprint([FROZEN]).sha256,
        "verdict": "sound",
    }
    expected |= {"format": "elf", "machine": "x86-64", "kernel": "7.3.4", "page_size": 4096, "ram": 1 << 30}
    assert {name: host[name] for name in expected} == expected | {"ram": host["ram"]}
    assert host["bytes_read"] > 0 and host["error"] is None


@pytest.mark.parametrize("name", real.DUMPS)
def test_rows_say_what_the_state_says(name: str) -> None:
    rows, state = luoser.survey.row(str(real.path(name))), real.document(name)
    roots = [int(handover["address"], 16) for handover in state["handovers"]]
    assert [row["root"] for row in rows["handovers"]] == roots
    for row, handover in zip(rows["handovers"], state["handovers"], strict=True):
        found, luo = handover["preserved"], handover["luo"]
        assert (row["direction"], row["status"]) == (handover["direction"], found["status"])
        assert row["preserved"] == (None if found["pages"] is None else found["pages"] * state["source"]["page_size"])
        sessions = [] if luo is None else luo["sessions"]
        files = [file for session in sessions for file in session["files"]]
        assert (row["sessions"], row["files"]) == (len(sessions), len(files))
        of_root = [one for one in rows["files"] if one["root"] == row["root"]]
        assert [one["token"] for one in of_root] == [int(file["token"], 16) for file in files]
        assert row["devices"] == sum(len(devices["devices"]) for devices in handover["pci"])
    listed = [device["bdf"] for handover in state["handovers"] for pci in handover["pci"] for device in pci["devices"]]
    assert [row["bdf"] for row in rows["devices"]] == listed


@pytest.mark.parametrize("name", ["7.3-a/frozen", "7.3-chain/frozen2", "6.19-a/frozen"])
def test_runs_of_folios_are_all_folios(name: str) -> None:
    rows = luoser.survey.row(str(real.path(name)))
    found = set[tuple[int, int, int, int]]()
    for run in rows["folio_runs"]:
        for number in range(run["folios"]):
            index, address = run["index"] + number * run["step"] // 4096, run["address"] + number * run["step"]
            found.add((run["token"], index, address, run["flags"]))
    expected = {
        (file.token, index, address, flags)
        for handover in real.read(name).handovers
        for session in (handover.luo.sessions if handover.luo else ())
        for file in session.files
        for index, address, flags in (file.memfd.folios.list.rows() if file.memfd else ())
    }
    assert found == expected and len(rows["folio_runs"]) < len(expected)


def test_findings_are_those_of_check() -> None:
    rows, report = luoser.survey.row(FROZEN), luoser.check(FROZEN)
    assert [(row["rule"], row["address"]) for row in rows["findings"]] == [
        (finding.rule, finding.address) for finding in report.findings
    ]
    assert rows["findings"]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x7fELF" + bytes(100), "ELF"),
        (b"", "empty"),
        (Image(base=1 << 20).core(), "no KHO state"),
        (bytes(1 << 20), "unknown dump format"),
    ],
)
def test_a_source_that_cannot_be_read_is_a_row(tmp_path: Path, data: bytes, word: str) -> None:
    (tmp_path / "dump").write_bytes(data)
    rows = luoser.survey.row(str(tmp_path / "dump"))
    (host,) = rows.pop("hosts")
    assert word in host["error"] and host["verdict"] is None and host["sha256"]
    assert not any(rows.values())


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_a_row(name: str) -> None:
    (host,) = luoser.survey.row(name)["hosts"]
    (pair,) = luoser.survey.pair(name, FROZEN)["pairs"]
    assert host["error"] and pair["error"] and host["verdict"] is pair["verdict"] is None


def test_no_source_at_all_is_an_error() -> None:
    with pytest.raises(UsageError, match="expected the path or URL of a source"):
        luoser.survey.row([])


def test_a_damaged_source_without_a_root_is_inconclusive(tmp_path: Path) -> None:
    data = Image(base=1 << 20).core()
    (tmp_path / "dump").write_bytes(data[:-5000])
    (host,) = luoser.survey.row(str(tmp_path / "dump"))["hosts"]
    assert host["verdict"] == luoser.check(tmp_path / "dump").verdict.value == "inconclusive"
    assert "truncated" in host["remarks"][0]


def test_a_state_document_is_a_source(tmp_path: Path) -> None:
    dump = str(real.path("7.3-a/frozen"))
    text = json.dumps(to_document(luoser.load(dump, contents=True), full=True))
    (tmp_path / "state.json").write_text(text)
    rows, same = luoser.survey.row(str(tmp_path / "state.json")), luoser.survey.row(dump)
    (host,), (of_dump,) = rows["hosts"], same["hosts"]
    names = ("verdict", "error", "format", "kernel", "page_size")
    assert [host[name] for name in names] == [of_dump[name] for name in names]
    for table in ("handovers", "files", "devices"):
        assert rows[table] and without_key(rows[table]) == without_key(same[table])


def test_several_files_are_one_source() -> None:
    parts = [str(real.ROOT / f"fixtures/formats/kdump-split-{number}.xz") for number in (1, 2)]
    (host,) = luoser.survey.row(parts)["hosts"]
    assert (host["source"], host["verdict"]) == (",".join(parts), "sound")


def test_rows_are_bounded_and_say_so() -> None:
    rows = luoser.survey.row(FROZEN, limits=Limits(survey_rows=3))
    assert len(rows["devices"]) == len(rows["folio_runs"]) == 3
    messages = [row["message"] for row in rows["problems"] if row["code"] == "too-many"]
    assert "only the first 3 rows of folio_runs are kept; --limit survey_rows=N" in messages[-1] + messages[-2]


def test_texts_are_printable(tmp_path: Path) -> None:
    evil = "\x1b[31m'; DROP TABLE hosts; --\n"
    for table in luoser.survey.row(FROZEN, host=evil, moment=evil).values():
        assert {row["host"] for row in table} <= {safe_text(evil)}


def test_the_row_of_a_pair() -> None:
    rows = luoser.survey.pair(FROZEN, POST, host="web1", moments=("frozen", "post"))
    (pair,) = rows["pairs"]
    comparison = luoser.diff(FROZEN, POST)
    assert (pair["verdict"], pair["host"]) == (comparison.verdict.value, "web1")
    assert (pair["progress"], pair["changed"]) == (len(comparison.changes), 0)
    assert [(row["about"], row["new"]) for row in rows["changes"]] == [
        (change.where, change.after) for change in comparison.changes
    ]
    assert (pair["before_sha256"], pair["after_sha256"]) == (fingerprint([FROZEN]).sha256, fingerprint([POST]).sha256)


def test_a_pair_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    rows = luoser.survey.pair(FROZEN, str(tmp_path / "gone"))
    (pair,) = rows["pairs"]
    assert "gone: No such file" in pair["error"] and pair["verdict"] is None
    assert not rows["changes"]


@pytest.mark.parametrize("table", OF_SOURCE)
def test_each_row_names_its_source(table: str) -> None:
    assert {row["source"] for row in luoser.survey.row(FROZEN)[table]} <= {FROZEN}
