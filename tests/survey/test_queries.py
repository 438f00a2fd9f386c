# SPDX-License-Identifier: MIT
"""Each query of the page, held against what the JSON documents say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luoser.fleet.local import Local
from luoser.limits import Limits
from luoser.survey.dataset import Dataset
from luoser.survey.naming import Naming
from luoser.survey.run import survey
from tests import real
from tests.conftest import Run
from tests.fleet import cuts

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

PAGE = (real.ROOT / "docs/howto/survey.md").read_text()
ALL = [
    (" ".join(words.split()), query)
    for words, query in re.findall(r"(?m)^((?:(?!```|#)[^\n]+\n)+)\n```sql\n((?s:.*?))^```$", PAGE)
]
"""(words before it, query) of each query of the page."""
Rows = list[tuple[Any, ...]]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, luoser_command: Run) -> Path:
    """A folder with cuts of three hosts of each kind, one of them broken, and what was made of them."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "cuts").mkdir()
    files = cuts.make(folder / "cuts", 3 * len(real.DUMPS))
    files[0].write_bytes(b"\x7fELF\2\1\1")
    naming = Naming(cuts.RULE, cuts.MOMENTS)
    with Dataset(folder / "fleet", cuts.RULE).opened() as dataset:
        survey([(str(file),) for file in files], dataset, Local(jobs=2), naming=naming, limits=Limits())
    for command, name in (("check", "checked"), ("inspect", "inspected")):
        (folder / f"{name}.jsonl").write_bytes(luoser_command(command, folder / "cuts", "--format", "jsonl").stdout)
    return folder


@pytest.fixture(scope="module")
def ask(fleet: Path) -> Callable[[str], Rows]:
    """ask("Verdicts by kernel:"): the rows that a query of the page gives."""

    def rows(words: str, number: int = 0) -> Rows:
        found = [query for text, query in ALL if text.startswith(words)]
        with duckdb.connect() as base:
            base.execute(f"SET file_search_path = '{fleet}'")
            result: Rows = base.execute(found[number]).fetchall()
            return result

    return rows


@pytest.fixture(scope="module")
def results(fleet: Path) -> Callable[[str], list[Json]]:
    return lambda name: [json.loads(line) for line in (fleet / f"{name}.jsonl").read_text().splitlines()]


Ask, Results = Callable[..., Rows], Callable[[str], list[Json]]


def host_of(result: Json) -> tuple[str, str]:
    host, _, moment = Path(result["source"]["path"]).name.removesuffix(".elf.zst").rpartition(".")
    return host, moment


def test_the_page_has_no_other_queries() -> None:
    assert len(ALL) == PAGE.count("```sql\n") == 9


@pytest.mark.parametrize("number", [0, 1])
def test_verdicts_by_kernel(ask: Ask, results: Results, number: int) -> None:
    expected = Counter((one["source"]["kernel"], one["verdict"]) for one in results("checked"))
    found = ask("Verdicts by kernel:", number) if not number else ask("What `check --format jsonl` writes")
    assert {(kernel, verdict): count for kernel, verdict, count in found} == expected and len(expected) > 3


@pytest.mark.parametrize("number", [0, 1])
def test_rules_by_frequency(ask: Ask, results: Results, number: int) -> None:
    expected = Counter[tuple[str, str, str]]()
    for one in results("checked"):
        found = one["document"]["findings"] if one["document"] else []
        expected.update({(finding["rule"], finding["slug"], finding["severity"]) for finding in found})
    rows = ask("Rules by frequency:", number)
    assert {row[:3]: row[3] for row in rows} == expected and expected


def own_outgoing(result: Json) -> list[Json]:
    handovers = result["document"]["handovers"] if result["document"] else []
    return [one for one in handovers if one["own"] and one["direction"] == "outgoing"]


def test_memory_preserved_for_each_host(ask: Ask, results: Results) -> None:
    expected = {
        host_of(one): sum((found["preserved"]["pages"] or 0) / 256 for found in handovers)
        for one in results("inspected")
        if (handovers := own_outgoing(one))
    }
    rows = ask("Memory that is preserved for each host")
    assert {row[:2]: row[2] or 0 for row in rows} == pytest.approx(expected) and any(expected.values())


def shape(handover: Json) -> tuple[int, int, int]:
    sessions = handover["luo"]["sessions"] if handover["luo"] else []
    files = sum(len(session["files"]) for session in sessions)
    return len(sessions), files, sum(len(one["devices"]) for one in handover["pci"])


def test_hosts_that_differ_from_their_kind(ask: Ask, results: Results) -> None:
    """There are four cases of three kernels, so that 7.3-chain differs from 7.3-a or the other way round."""
    shapes = [
        (one["source"]["path"], (one["source"]["kernel"], host_of(one)[1]), shape(found))
        for one in results("inspected")
        for found in own_outgoing(one)
    ]
    kinds = dict[Any, Counter[Any]]()
    for _, kind, what in shapes:
        kinds.setdefault(kind, Counter())[what] += 1
    rows = ask("Hosts that differ from their kind")
    for path, *what in rows:
        (kind,) = {kind for source, kind, _ in shapes if source == path}
        assert kinds[kind][tuple(what)] <= max(kinds[kind].values()) and (path, kind, tuple(what)) in shapes
    usual = sum(max(counts.values()) for counts in kinds.values())
    assert len(rows) == len(shapes) - usual > 0


def test_sessions_lost_over_an_update(ask: Ask, fleet: Path, luoser_command: Run, tmp_path: Path) -> None:
    """Of real updates none; of a host that has another host's state after it, as many as `diff` says."""
    assert ask("Sessions lost over an update:") == []
    names = {"before": "7.3-chain/frozen2", "after": "6.19-a/frozen"}
    for moment, name in names.items():
        (tmp_path / f"web.{moment}.elf.xz").write_bytes(real.path(name).read_bytes())
    with Dataset(tmp_path / "fleet", cuts.RULE).opened() as dataset:
        files = [(str(tmp_path / f"web.{moment}.elf.xz"),) for moment in names]
        survey(files, dataset, Local(jobs=1), naming=Naming(cuts.RULE), limits=Limits())
    document = json.loads(luoser_command("diff", *(file for (file,) in files), "--format", "json").stdout)
    lost = [
        change
        for change in document["changes"]
        if change["kind"] == "removed" and re.fullmatch(r"(handovers/[^/]*/)?luo/sessions/[^/]*", change["where"])
    ]
    (query,) = [query for words, query in ALL if words.startswith("Sessions lost over")]
    with duckdb.connect() as base:
        base.execute(f"SET file_search_path = '{tmp_path}'")
        assert base.execute(query).fetchall() == [("web", len(lost))] and lost


def test_updates_and_how_they_went(ask: Ask, fleet: Path, luoser_command: Run) -> None:
    expected = Counter[tuple[str, str, str | None]]()
    for before, after in (("pre", "frozen"), ("frozen", "post"), ("post", "finished")):
        for one in (fleet / "cuts").glob(f"*.{before}.elf.zst"):
            other = one.with_name(one.name.replace(before, after))
            is_next = before != "frozen" or not one.with_name(one.name.replace(before, "frozen2")).exists()
            if other.exists() and is_next:
                result = json.loads(luoser_command("diff", one, other, "--format", "json").stdout or b"{}")
                expected[before, after, result.get("verdict")] += 1
    found = {row[:3]: row[3] for row in ask("Updates, and how they went:") if "frozen2" not in row}
    assert {key: count for key, count in found.items() if key[:2] != ("frozen2", "post")} == expected


def test_what_was_not_read(ask: Ask, results: Results) -> None:
    expected = [one["source"]["path"] for one in results("checked") if one["verdict"] is None]
    assert [row[0] for row in ask("What was not read, and why:")] == expected and len(expected) == 1
