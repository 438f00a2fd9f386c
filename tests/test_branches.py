# SPDX-License-Identifier: MIT
"""The gate of `make coverage`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.branches import ROOMS, main, shares
from tests.real import ROOT


def report(**taken: int) -> dict[str, object]:
    """What coverage.py says of rooms with 100 branches in two files each. taken: 92, unless it is given."""
    files = {}
    for room in ROOMS:
        count = taken.get(Path(room).stem, 92)
        for name, part in (("a.py", count // 2), ("b.py", count - count // 2)):
            path = room if room.endswith(".py") else room + name
            files[path + ("" if path not in files else "x")] = {
                "summary": {"covered_branches": part, "num_branches": 50}
            }
    return {"files": {**files, "luoser/cli/x.py": {"summary": {"covered_branches": 0, "num_branches": 99}}}}


def test_each_room_is_judged_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(shares(report()).values()) == {92.0}
    for rooms, code in (({}, 0), ({"memory": 91}, 1), ({"fdt": 91}, 1), ({"state": 100, "reader": 0}, 1)):
        (tmp_path / "report").write_text(json.dumps(report(**rooms)))
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / "report")])
        assert int(ended.value.code or 0) == code
    assert "0.0 % of the branches of luoser/reader/" in capsys.readouterr().out


def test_a_room_without_a_report_is_not_covered() -> None:
    assert shares({"files": {}})["luoser/memory/"] == 0


def test_the_rooms_exist() -> None:
    assert all((ROOT / room).exists() for room in ROOMS)
