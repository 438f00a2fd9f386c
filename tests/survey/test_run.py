# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.fleet.dask import Dask
from luoser.fleet.local import Local
from luoser.fleet.task import Done, Engine, Task
from luoser.limits import Limits
from luoser.survey import tables
from luoser.survey.dataset import Dataset
from luoser.survey.naming import Naming
from luoser.survey.run import Survey, survey
from tests import real
from tests.fleet import cuts
from tests.memory.servers import served

pq = pytest.importorskip("pyarrow.parquet")

FEW = 2 * len(real.DUMPS)
NAMING = Naming(cuts.RULE, cuts.MOMENTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return cuts.make(tmp_path_factory.mktemp("cuts"), FEW)


def made(folder: Path, files: Sequence[Path], engine: Engine | None = None, **options: Any) -> Survey:
    sources = [(str(file),) for file in files]
    with Dataset(folder, cuts.RULE).opened() as dataset:
        return survey(sources, dataset, engine or Local(jobs=2), naming=NAMING, limits=Limits(), **options)


def rows(folder: Path) -> dict[str, list[str]]:
    """All rows of a survey, sorted."""
    found = dict[str, list[str]]()
    for name in tables.TABLES:
        read = [row for part in folder.glob("part-*") for row in pq.read_table(part / f"{name}.parquet").to_pylist()]
        found[name] = sorted(json.dumps(row) for row in read)
    return found


@pytest.fixture(scope="module")
def whole(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("whole")
    made(folder, files)
    return rows(folder)


def test_each_source_and_each_pair_has_a_row(files: list[Path], whole: dict[str, list[str]]) -> None:
    assert len(whole["hosts"]) == FEW and len(whole["pairs"]) == 18
    assert all(whole[name] for name in ("handovers", "sessions", "files", "folio_runs", "devices", "changes"))


@pytest.mark.parametrize("jobs", [1, 3])
def test_rows_do_not_depend_on_jobs_and_order(
    files: list[Path], whole: dict[str, list[str]], tmp_path: Path, jobs: int
) -> None:
    made(tmp_path, files[::-1], Local(jobs=jobs))
    assert rows(tmp_path) == whole


def test_what_is_there_is_not_read_again(files: list[Path], whole: dict[str, list[str]], tmp_path: Path) -> None:
    made(tmp_path, files[: FEW // 2])
    again = made(tmp_path, files)
    assert (again.kept, again.read) == ({"sources": FEW // 2, "pairs": 9}, FEW // 2 + 9)
    assert rows(tmp_path) == whole
    before = {file: file.stat().st_ino for file in tmp_path.rglob("*.parquet")}
    assert made(tmp_path, files).read == 0
    assert {file: file.stat().st_ino for file in tmp_path.rglob("*.parquet")} == before


def test_what_has_other_bytes_is_read_again_and_compared_again(tmp_path: Path) -> None:
    hosts = cuts.make(tmp_path, len(real.DUMPS))
    made(tmp_path / "fleet", hosts)
    (changed,) = [file for file in hosts if "7.3-a.frozen" in file.name]
    changed.write_bytes(hosts[0].read_bytes())
    found = made(tmp_path / "fleet", hosts)
    assert found.read == 3  # it, and the pairs with the moment before and the one after
    made(tmp_path / "anew", hosts)
    assert rows(tmp_path / "fleet") == rows(tmp_path / "anew")


def test_another_version_reads_all_again(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, files[:2])
    with Dataset(tmp_path, cuts.RULE).opened() as dataset:
        for part in dataset.parts():
            hosts = pq.read_table(part / "hosts.parquet").to_pylist()
            old = [{**row, "luoser": "0.0.1"} for row in hosts]
            pq.write_table(dataset._table("hosts", old), part / "hosts.parquet")
    assert made(tmp_path, files[:2]).read == 2


def test_sources_that_are_no_longer_named_stay(files: list[Path], tmp_path: Path) -> None:
    made(tmp_path, files[:4])
    made(tmp_path, files[4:6])
    assert len(rows(tmp_path)["hosts"]) == 6


def test_a_moment_that_comes_later_takes_the_place_of_a_pair(files: list[Path], tmp_path: Path) -> None:
    """As if all had been there at once: nothing is counted twice."""
    of = {file.name.split(".")[-3]: file for file in files if "0000-7.3-a." in file.name}
    pre, frozen, post = of["pre"], of["frozen"], of["post"]
    made(tmp_path / "one", [pre, post])
    made(tmp_path / "one", [pre, frozen, post])
    made(tmp_path / "two", [pre, frozen, post])
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def test_a_file_that_comes_later_takes_its_dump_with_it(tmp_path: Path) -> None:
    """As if all files had been there at once: no dump is a source twice, and no half of one stays in a pair."""
    parts = [f"{real.ROOT}/fixtures/formats/kdump-split-{number}.xz" for number in (1, 2)]
    other, naming = f"{real.ROOT}/fixtures/formats/lime.xz", Naming("kdump-{moment}-{host}.xz", ("split",))
    for folder, runs in (("one", [parts[:1], parts, parts[::-1]]), ("two", [parts[::-1]])):
        for files in runs:
            with Dataset(tmp_path / folder, naming.rule).opened() as dataset:
                survey([tuple(files), (other,)], dataset, Local(jobs=1), naming=naming, limits=Limits())
    assert rows(tmp_path / "one") == rows(tmp_path / "two") and len(rows(tmp_path / "one")["hosts"]) == 2


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    urls = [(f"https://example.org/vmcore?versionId={number}",) for number in (1, 2)]
    with Dataset(tmp_path, "").opened() as dataset, pytest.raises(UsageError, match=r"vmcore\?\*\*\*: two sources"):
        survey(urls, dataset, Local(jobs=1), naming=Naming(""), limits=Limits())


def test_a_source_that_is_lost_is_a_row(files: list[Path], tmp_path: Path) -> None:
    class Losing:
        def completed(self, tasks: Iterable[Task], may_start: Callable[[int], bool]) -> Iterator[Done]:
            for number, task in enumerate(tasks):
                yield Done(number, None, "the process ended") if number == 1 else Done(number, task.call(*task.args))

    found = made(tmp_path, files[:3], Losing())
    errors = [json.loads(row) for row in rows(tmp_path)["hosts"]]
    assert [row["error"] for row in errors if row["verdict"] is None] == ["the process ended"]
    assert found.verdicts["not read"] == 1 and made(tmp_path, files[:3]).read >= 1


def test_a_source_that_takes_too_long_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luoser.fleet.local._GRACE", 0.1)
    os.mkfifo(tmp_path / "web.pre.elf")
    made(tmp_path / "fleet", [tmp_path / "web.pre.elf"], seconds=0.1)
    (row,) = rows(tmp_path / "fleet")["hosts"]
    assert json.loads(row)["error"].startswith("not done within 0.1 s")


def test_sources_at_urls_are_known_by_their_etag(files: list[Path], tmp_path: Path) -> None:
    naming = Naming(cuts.RULE, cuts.MOMENTS)
    with served(files={file.name: file for file in files[:4]}) as server:
        urls = [(server.url(file.name) + "?signature=1",) for file in files[:4]]

        def again() -> Survey:
            with Dataset(tmp_path, cuts.RULE).opened() as dataset:
                return survey(urls, dataset, Local(jobs=2), naming=naming, limits=Limits())

        first, second = again(), again()
        server.etag = '"2"'
        third = again()
    assert (first.kept.total(), second.read) == (0, 0) and third.read == first.read > 4
    (source,) = {json.loads(row)["source"] for row in rows(tmp_path)["hosts"] if "6.18-a.pre" in row}
    assert source == f"{server.base}/host0000-6.18-a.pre.elf.zst?***"


def test_progress_is_told(files: list[Path], tmp_path: Path) -> None:
    told = list[tuple[int, int]]()
    made(tmp_path, files[:3], on_done=lambda done, total: told.append((done, total)))
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


def test_parts_are_written_on_the_way(
    files: list[Path], whole: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luoser.survey.run._SOURCES", 5)
    made(tmp_path, files)
    assert len(list(tmp_path.glob("part-*"))) > 5 and rows(tmp_path) == whole


def killed_and_resumed(folder: Path, files: list[Path], *, parts: int, sources: int) -> int:
    """Kill a survey when some parts of so many sources are there, and make the rest. Returns how many were kept."""
    code = f"import luoser.survey.run as run; run._SOURCES = {sources}\nfrom luoser.cli.main import main; main()"
    words = ["survey", "--from-list", "-", "-o", str(folder), "--name", cuts.RULE, "--moments", ",".join(cuts.MOMENTS)]
    names = "\n".join(map(str, files)).encode()
    with subprocess.Popen([sys.executable, "-c", code, *words], cwd=real.ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(names)
        process.stdin.close()
        end = time.monotonic() + 300
        while len(list(folder.glob("part-*"))) < parts and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and len(list(folder.glob("part-*"))) >= parts
    return made(folder, files).kept.total()


def of_a_cluster(folder: Path, files: list[Path], *, kill_after: int | None) -> None:
    """Make a survey on a cluster of two workers. kill_after: sources after which one of them is killed."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options, host="127.0.0.1") as cluster:

        def kill(done: int, _: int) -> None:
            if done == kill_after:
                with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        made(folder, files, Dask(cluster.scheduler_address), on_done=kill)


@pytest.mark.parametrize("kill_after", [pytest.param(None, marks=pytest.mark.slow), 3])
def test_a_cluster_makes_the_same_rows(
    files: list[Path], whole: dict[str, list[str]], tmp_path: Path, kill_after: int | None
) -> None:
    """Also if one of its two workers is killed on the way."""
    of_a_cluster(tmp_path, files, kill_after=kill_after)
    assert rows(tmp_path) == whole


def test_a_run_that_was_killed_goes_on(files: list[Path], whole: dict[str, list[str]], tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path / "s", files, parts=2, sources=3) >= 3
    assert rows(tmp_path / "s") == whole


@pytest.mark.slow
def test_a_fleet_is_the_same_however_it_was_read(tmp_path: Path) -> None:
    """2 000 sources: here, killed in the middle and resumed, on a cluster, and with a worker of it killed."""
    (tmp_path / "cuts").mkdir()
    fleet = cuts.make(tmp_path / "cuts", 2000)
    made(tmp_path / "one", fleet)
    expected = rows(tmp_path / "one")
    assert len(expected["hosts"]) == 2000 and len(expected["pairs"]) > 1300
    assert killed_and_resumed(tmp_path / "killed", fleet, parts=4, sources=256) >= 768
    assert rows(tmp_path / "killed") == expected
    for kill_after in (None, 1000):
        of_a_cluster(tmp_path / f"dask-{kill_after}", fleet, kill_after=kill_after)
        assert rows(tmp_path / f"dask-{kill_after}") == expected
