# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from luoser.errors import UsageError
from luoser.survey.dataset import Dataset
from luoser.survey.tables import TABLES, Rows, empty

pq = pytest.importorskip("pyarrow.parquet")


def rows(*sources: str, mark: int = 1) -> Rows:
    found = empty()
    found["hosts"] = [{"source": source, "host": source, "moment": "", "bytes_read": mark} for source in sources]
    found["sessions"] = [{"source": source, "session": f"s{mark}"} for source in sources for _ in range(2)]
    return found


def read(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in sorted(folder.glob("part-*")):
        found += pq.read_table(part / f"{table}.parquet").to_pylist()
    return found


def sources(folder: Path) -> list[tuple[str, int]]:
    return sorted((row["source"], row["bytes_read"]) for row in read(folder, "hosts"))


def test_a_part_has_all_tables_with_their_types(tmp_path: Path) -> None:
    with Dataset(tmp_path / "s", "").opened() as dataset:
        dataset.add(rows("a"))
    names = {"text": "string", "bool": "bool", "number": "uint64", "texts": "list<element: string>"}
    for name, table in TABLES.items():
        schema = pq.read_schema(tmp_path / "s" / "part-00001" / f"{name}.parquet")
        assert [(field.name, str(field.type).replace("item", "element")) for field in schema] == [
            (column.name, names[column.type]) for column in table.columns
        ]
        assert [field.metadata[b"doc"].decode() for field in schema] == [column.doc for column in table.columns]


def test_the_folder_says_what_is_in_it(tmp_path: Path) -> None:
    with Dataset(tmp_path / "s", "{host}.elf").opened():
        pass
    found = json.loads((tmp_path / "s" / "survey.json").read_text())
    assert (found["schema"], found["name"], found["tables"].keys()) == ("luoser/survey/1", "{host}.elf", TABLES.keys())


def test_rows_of_a_source_that_was_read_again_are_replaced(tmp_path: Path) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("a", "b"))
        dataset.add(rows("b", "c", mark=2))
        assert sources(tmp_path) == [("a", 1), ("b", 2), ("c", 2)]
        found = sorted((row["source"], row["session"]) for row in read(tmp_path, "sessions"))
        assert found == [("a", "s1")] * 2 + [("b", "s2")] * 2 + [("c", "s2")] * 2


def test_pairs_are_replaced_by_both_names(tmp_path: Path) -> None:
    def pair(after: str, verdict: str) -> Rows:
        found = empty()
        found["pairs"] = [{"host": "h", "before": "a", "after": after, "verdict": verdict}]
        found["changes"] = [{"host": "h", "before": "a", "after": after, "kind": verdict}]
        return found

    with Dataset(tmp_path, "").opened() as dataset:
        for one in (pair("b", "old"), pair("c", "kept"), pair("b", "new")):
            dataset.add(one)
    assert sorted(row["verdict"] for row in read(tmp_path, "pairs")) == ["kept", "new"]
    assert sorted(row["kind"] for row in read(tmp_path, "changes")) == ["kept", "new"]


def test_a_number_without_room_is_null(tmp_path: Path) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        found = rows("a")
        found["hosts"][0] |= {"ram": 1 << 64, "bytes_read": (1 << 64) - 1}
        dataset.add(found)
    (row,) = read(tmp_path, "hosts")
    assert (row["ram"], row["bytes_read"]) == (None, (1 << 64) - 1)


def test_no_text_of_a_source_ends_the_survey(tmp_path: Path) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        found = rows("a")
        found["hosts"][0]["etag"] = "\udcff\0"
        dataset.add(found)
    assert read(tmp_path, "hosts")[0]["etag"] == "\\xff\\x00"


@pytest.mark.parametrize("name", ["x", "part-00001"])
def test_a_folder_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="not empty, and no survey"), Dataset(tmp_path, "").opened():
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UsageError, match="x: a file; give a folder"), Dataset(tmp_path / "x", "").opened():
        pass


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "survey.json is not one of a survey"),
        ("[]", "survey.json is not one of a survey"),
        ('{"schema": "luoser/survey/2", "name": ""}', "expected luoser/survey/1, found luoser/survey/2"),
        ('{"schema": "luoser/survey/1", "name": "{host}"}', "give the same --name"),
    ],
)
def test_another_survey_is_refused(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "survey.json").write_text(text)
    with pytest.raises(UsageError, match=word), Dataset(tmp_path, "").opened():
        pass
    assert (tmp_path / "survey.json").read_text() == text


def test_a_run_that_ended_before_it_began_is_no_obstacle(tmp_path: Path) -> None:
    for name in (".lock", ".manifest-x"):
        (tmp_path / name).write_text("")
    with Dataset(tmp_path, "").opened():
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "survey.json"}


def test_only_one_may_write(tmp_path: Path) -> None:
    second = Dataset(tmp_path, "").opened()
    with Dataset(tmp_path, "").opened(), pytest.raises(UsageError, match="another survey writes here"), second:
        pass
    with Dataset(tmp_path, "").opened():
        pass


class _Killed(BaseException):
    pass


STEPS = ("write_table", "rename", "rmtree", "fsync")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", range(12))
def test_a_kill_at_any_step_leaves_a_sound_survey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    """Nothing is cleaned up, as after SIGKILL. No query sees a source twice, and the next run mends the rest."""
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("a", "b"))
    with monkeypatch.context() as patch, suppress(_Killed):
        _kill(patch, step, after)
        with Dataset(tmp_path, "").opened() as dataset:
            dataset.add(rows("b", "c", mark=2))
    _need_each_once(_seen(tmp_path))
    with Dataset(tmp_path, "").opened():
        assert sources(tmp_path) in ([("a", 1), ("b", 1)], [("a", 1)], [("a", 1), ("b", 2), ("c", 2)])
        assert len(read(tmp_path, "sessions")) == 2 * len(sources(tmp_path))
        assert {path.name for path in tmp_path.iterdir()} <= {".lock", "survey.json", "part-00001", "part-00002"}
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("b", "c", mark=2))
    assert sources(tmp_path) == [("a", 1), ("b", 2), ("c", 2)]


def _seen(folder: Path) -> list[str]:
    """The sources that queries read: some programs let `*` stand for hidden folders, too."""
    files = [entry / "hosts.parquet" for entry in folder.iterdir() if entry.is_dir()]
    return [row["source"] for file in files if file.exists() for row in pq.read_table(file).to_pylist()]


def _need_each_once(found: list[str]) -> None:
    assert sorted(found) == sorted(set(found))


def test_a_part_without_rows_goes(tmp_path: Path) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        for mark in (1, 2):
            dataset.add(rows("a", mark=mark))
    assert sources(tmp_path) == [("a", 2)] and len(list(tmp_path.glob("part-*"))) == 1


def test_parts_are_counted_as_numbers(tmp_path: Path) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("a"))
        (tmp_path / "part-00001").rename(tmp_path / "part-99999")
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("b"))
        dataset.add(rows("c"))
    assert sources(tmp_path) == [("a", 1), ("b", 1), ("c", 1)]


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in (".lock", ".work"):
        folder = tmp_path / f"s{name}"
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / "mine" if name == ".lock" else tmp_path)
        with pytest.raises(OSError, match=r"symbolic link"), Dataset(folder, "").opened():
            pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_a_part_that_cannot_be_read_is_an_error_that_says_what_to_do(tmp_path: Path, how: str) -> None:
    with Dataset(tmp_path, "").opened() as dataset:
        dataset.add(rows("a"))
    file = tmp_path / "part-00001" / "hosts.parquet"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif how == "gone":
        file.unlink()
    else:
        file.write_bytes((tmp_path / "part-00001" / "pairs.parquet").read_bytes())
    with pytest.raises(UsageError, match=r"hosts.parquet: no table.*remove part-00001"), Dataset(tmp_path, "").opened():
        pass


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("Error writing bytes to file. Detail: [errno 28] No space left on device")  # as pyarrow does

    monkeypatch.setattr(pq, "write_table", full)
    with Dataset(tmp_path, "").opened() as dataset, pytest.raises(OSError, match="No space left") as caught:
        dataset.add(rows("a"))
    assert caught.value.filename == str(tmp_path) and not list(tmp_path.glob("*/*"))


def _kill(patch: pytest.MonkeyPatch, step: str, after: int) -> None:
    """Let the process end at the call of a function after some others, and do nothing from then on."""
    import os
    import shutil

    import luoser.survey.dataset as module

    left, is_dead = [after], [False]

    def ending(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if is_dead[0]:
                raise _Killed
            if name == step:
                if not left[0]:
                    is_dead[0] = True
                    raise _Killed
                left[0] -= 1
            return real(*args, **options)

        return call

    patch.setattr(pq, "write_table", ending("write_table", pq.write_table))
    patch.setattr(Path, "rename", ending("rename", Path.rename))
    patch.setattr(module.shutil, "rmtree", ending("rmtree", shutil.rmtree))
    patch.setattr(module.os, "fsync", ending("fsync", os.fsync))
