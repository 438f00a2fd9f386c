# SPDX-License-Identifier: MIT
from __future__ import annotations

import hashlib
from pathlib import Path

from luoser.fleet.fingerprint import fingerprint
from luoser.limits import Limits, limited


def test_it_is_that_of_the_files_one_after_the_other(tmp_path: Path) -> None:
    for name, data in (("a", b"x" * (3 << 20)), ("b", b"y")):
        (tmp_path / name).write_bytes(data)
    names = [str(tmp_path / name) for name in "ab"]
    assert fingerprint(names).sha256 == hashlib.sha256(b"x" * (3 << 20) + b"y").hexdigest()
    assert fingerprint(names[1:]).sha256 == hashlib.sha256(b"y").hexdigest()


def test_there_is_none_of_what_is_no_file(tmp_path: Path) -> None:
    assert [fingerprint([name]).sha256 for name in (str(tmp_path), "live:", "/dev/zero", "gone")] == [None] * 4


def test_there_is_none_of_very_large_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    with limited(Limits(hashed=99)):
        assert fingerprint([str(tmp_path / "a")]).sha256 is None
        assert fingerprint([str(tmp_path / "a")] * 2).sha256 is None
