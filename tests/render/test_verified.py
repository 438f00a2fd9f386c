# SPDX-License-Identifier: MIT
"""What a kernel's own types say of the layouts: text, JSON, KTAP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luoser.kernel.files import read_types
from luoser.kernel.verify import Verified, verify
from luoser.render.verified import print_verified, verified_document, verified_ktap
from tests import ktap
from tests.kernel.compiled import FILE, FILE_SER, btf
from tests.schemas import errors

MOVED = FILE.replace(FILE_SER, FILE_SER.replace("\tu64 data;\n\tu64 token;\n", "\tu64 token;\n\tu64 data;\n"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Verified]:
    text = MOVED + "struct kho_new { struct luo_file_ser file; unsigned a : 3; } more;\n"
    return verify(read_types(btf(tmp_path_factory.mktemp("object"), text)))


def test_text(found: list[Verified], capsys: pytest.CaptureFixture[str]) -> None:
    print_verified(found, "BTF of somewhere")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("different  struct luo_file_ser, 64 bytes: nearest to ")
    assert lines[1:3] == ["  data is at byte 56, expected 48", "  token is at byte 48, expected 56"]
    assert "      char compatible[48];                         /*     0    48 */" in lines
    assert any(line.startswith("unknown    struct kho_new, ") for line in lines)
    assert lines[-1].startswith("BTF of somewhere: 1 different, 1 unknown, 0 equal, ")


def test_json(found: list[Verified]) -> None:
    document = verified_document(found, "somewhere")
    assert errors(json.loads(json.dumps(document))) == []
    (one,) = [each for each in document["structs"] if each["result"] == "different"]
    assert one["differences"][0] == {"what": "moved", "member": "data", "expected": "48", "found": "56"}


def test_ktap(found: list[Verified], capsys: pytest.CaptureFixture[str]) -> None:
    verified_ktap(found, "somewhere")
    tests = ktap.read(capsys.readouterr().out)
    assert tests[0].diagnostics[0] == "somewhere"
    assert {test.ending for test in tests} == {"not ok", "SKIP"}
    assert [test.name for test in tests if test.ending == "not ok"] == ["luo_file_ser"]


def test_the_place_of_a_file_is_not_needed(tmp_path: Path) -> None:
    assert verified_document([], "x") == {"schema": "luoser/verify/1", "types": "x", "structs": []}
