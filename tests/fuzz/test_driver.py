# SPDX-License-Identifier: MIT
"""The fuzzer itself: what it plants it finds, what it found it finds again, and a slice of it that finds nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from luoser.cli import decode, topology
from luoser.render import out
from tests.fuzz import driver
from tests.fuzz.__main__ import main, page
from tests.fuzz.bases import BASES, base
from tests.fuzz.cases import Case, case_of, files_of, from_text, load, to_text
from tests.fuzz.driver import Log, attempt, fuzz, keep, shrunk
from tests.real import ROOT

FOUND = sorted((ROOT / "tests" / "fuzz" / "found").glob("*.json"))
SOME = (
    "6.18-a/pre",
    "golden/pci/pci-lu-v2-06.bin",
    "struct/luo-v5",
    "topology/lspci-vmmnnDk.txt",
    "specs/handover.toml",
)
BLOB = Case("golden/luo-ser.bin", "", [["put", 0, "ff"], ["put", 9, "01"]], [], (("decode", "@in"),))


def test_a_slice_finds_nothing() -> None:
    log = fuzz(1, runs=60, only=SOME)
    assert log.cases * 5 == log.runs >= 60
    assert {kind: keep_in_text(*found) for kind, found in log.found.items()} == {}


def keep_in_text(case: Case, detail: str) -> str:
    return f"{detail}\n{to_text(case)}"


@pytest.mark.parametrize("place", FOUND, ids=lambda place: place.stem)
def test_what_was_found_is_mended(place: Path) -> None:
    assert [(fault.kind, fault.detail) for fault in attempt(load(place))] == []


def test_a_seed_and_a_number_give_the_same_case() -> None:
    cases = [case_of(7, number, SOME) for number in range(20)]
    assert cases == [case_of(7, number, SOME) for number in range(20)]
    assert cases != [case_of(8, number, SOME) for number in range(20)]
    for case in cases:
        assert from_text(to_text(case)) == json_like(case)
        assert files_of(from_text(to_text(case))) == files_of(case)


def json_like(case: Case) -> Case:
    """With lists where there were other sequences."""
    return case.without(steps=json.loads(json.dumps(case.steps)), outer=json.loads(json.dumps(case.outer)))


def test_damage_meets_members_of_every_kind() -> None:
    kinds = {one.kind for name in ("6.18-a/pre", "golden/pci/pci-lu-v2-06.bin") for one in base(name).members}
    assert kinds == {"address", "number", "flags", "text", "bytes"}


def test_every_layout_of_structs_and_every_golden_is_a_base() -> None:
    assert {name.split("/")[0] for name in BASES} >= {
        "golden",
        "struct",
        "state",
        "hex",
        "topology",
        "7.3-a",
        "handlers",
    }
    assert len(base("handlers").pages) > 50 and b"iommufd-v1" in b"".join(data for _, data in base("handlers").runs)


# -- planted faults ---------------------------------------------------------------------------------------


def plant(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> str:
    """The kind of the only fault of a case, when `decode` does some work first."""
    whole = decode.command.callback

    def worse(**options: object) -> None:
        work()
        assert whole is not None
        whole(**options)

    monkeypatch.setattr(decode.command, "callback", worse)
    (fault,) = attempt(BLOB)
    return fault.kind


def test_sound_command_has_no_fault() -> None:
    assert attempt(BLOB) == []


def test_an_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plant(monkeypatch, lambda: list[int]().pop()).startswith("IndexError in ")


def test_an_endless_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop() -> None:
        while True:
            pass

    monkeypatch.setattr(driver, "LONGEST", 0.1)
    assert plant(monkeypatch, loop) == "no end after 0.1 s of processor time"


def test_an_endless_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(driver, "_SILENT", 0.2)
    assert plant(monkeypatch, lambda: time.sleep(1000)) == "the worker ended with -9"


def test_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plant(monkeypatch, lambda: bytearray(2 << 30)) == "decode: 'out of memory' on stderr"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("\x1b[31m", "decode: raw 0x1b on stdout"),
        ("\u202e", "decode: raw 0x202e on stdout"),
        ("'utf-8' codec can't", 'decode: "codec can\'t" on stdout'),
    ],
)
def test_raw_and_foreign_words_are_found(monkeypatch: pytest.MonkeyPatch, text: str, kind: str) -> None:
    assert plant(monkeypatch, lambda: out.write(text + "\n")) == kind


def test_an_unknown_exit_code_and_a_silent_failure_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plant(monkeypatch, lambda: sys.exit(7)) == "code 7 of decode"
    monkeypatch.undo()
    assert plant(monkeypatch, lambda: sys.exit(2)) == "decode fails without a word"


@pytest.mark.parametrize(
    ("text", "kind"),
    [("{", "topology: json does not parse"), ('{"a": NaN}', "topology: json does not parse")],
)
def test_json_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch, text: str, kind: str) -> None:
    monkeypatch.setattr(topology.command, "callback", lambda **options: out.write(text))
    case = Case("real/7.3-a/topology.json", "", [], [], (("topology", "@in", "--format", "json"),))
    assert [fault.kind for fault in attempt(case)] == [kind]


def test_json_that_does_not_fit_its_schema_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology.command, "callback", lambda **options: out.write('{"schema": "luoser/topology/1"}'))
    case = Case("real/7.3-a/topology.json", "", [], [], (("topology", "@in", "--format", "json"),))
    (fault,) = attempt(case)
    assert fault.kind == "topology: topology:  is not valid" and "required" in fault.detail


# -- what is kept -----------------------------------------------------------------------------------------


def test_a_kept_case_is_small_and_runs_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = plant(monkeypatch, lambda: list[int]().pop())
    case = shrunk(BLOB, kind)
    assert case.steps == []
    place = keep(tmp_path, kind, case, f'File "{ROOT}/luoser/fdt.py"')
    assert place.stat().st_size < 400 and load(place) == case
    assert "luoser/fdt.py" in place.read_text() and str(ROOT) not in place.read_text()
    with pytest.raises(SystemExit) as ended:
        main(["--replay", str(place)])
    assert ended.value.code and kind in capsys.readouterr().out
    monkeypatch.undo()
    with pytest.raises(SystemExit) as ended:
        main(["--replay", str(place)])
    assert not ended.value.code


def test_what_a_search_finds_is_kept_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def search(*_: object, **options: object) -> Log:
        log = Log(3, cases=1)
        log.ran(0, ["decode", "@in"], 0.25, 3 << 20)
        log.counts["IndexError in x.py:y"] += 1
        log.found["IndexError in x.py:y"] = BLOB, "words"
        return log

    monkeypatch.setattr("tests.fuzz.__main__.fuzz", search)
    with pytest.raises(SystemExit) as ended:
        main(["--runs", "1", "--keep", str(tmp_path / "kept"), "--page", str(tmp_path / "page.md")])
    assert ended.value.code
    assert [place.name for place in (tmp_path / "kept").iterdir()] == ["indexerror-in-x-py-y.json"]
    text = (tmp_path / "page.md").read_text()
    assert "| tracebacks | 1 |" in text and "| slowest run | 0.25 s, case 0: `decode @in` |" in text
    assert "3 MiB" in text and "fault        1 times" in capsys.readouterr().out


def test_the_page_of_a_sound_run_says_so() -> None:
    assert "| tracebacks | 0 |" in page(Log(0))
