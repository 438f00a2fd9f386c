# SPDX-License-Identifier: MIT
"""The kernel's coding style: by checkpatch where there is one, by its plainest rules everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from luoser.writer.golden import c_array, kselftest, kunit
from tests.writer.golden.subjects import GOLDEN, SUBJECTS, Subject

FORMATS: dict[str, Callable[..., str]] = {"c": c_array, "kunit": kunit, "kselftest": kselftest}
CHECKPATCH = os.environ.get("CHECKPATCH") or shutil.which("checkpatch.pl")
each_format = pytest.mark.parametrize("kind", FORMATS)
LONGEST = "n" * 48


def made(kind: str, subject: Subject, name: str = "golden") -> str:
    return FORMATS[kind](name=name, layout=subject.layout, data=subject.data, source="x" * 200)


@each_format
@pytest.mark.parametrize("name", ["golden", LONGEST])
def test_lines_are_those_of_the_kernel(kind: str, name: str) -> None:
    for subject in SUBJECTS:
        text = made(kind, subject, name)
        assert text.isascii()
        assert text.startswith("// SPDX-License-Identifier: GPL-2.0-only OR MIT\n/*\n * ")
        assert text.endswith("\n") and not text.endswith("\n\n")
        assert "\n\n\n" not in text
        lines = text.split("\n")[1:]
        assert not [line for line in lines if len(line.expandtabs(8)) > 100], subject.name
        assert not [line for line in lines if line != line.rstrip()]
        assert not [line for line in lines if re.match(r"\t*        | +\t| {8}", line)], "spaces for tabs"
        assert not [line for line in lines if line.startswith(" ") and not line.startswith(" *")]
        assert "//" not in "".join(lines)


NOT_OURS = {  # what a test of user space has to define itself
    "kselftest": {"Prefer __packed over __attribute__", "Prefer __aligned(x) over __attribute__"},
}


@pytest.mark.skipif(CHECKPATCH is None, reason="no checkpatch.pl in PATH or $CHECKPATCH")
@each_format
def test_checkpatch_has_nothing_to_say(kind: str, tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int  x; \n")
    for subject in (
        *GOLDEN[:4],
        *(subject for subject in GOLDEN if subject.name in ("pci_lu_v1_19", "memfd_folios_bin")),
    ):
        (tmp_path / f"{subject.name}.c").write_text(made(kind, subject, subject.name))
    sources = sorted(place.name for place in tmp_path.iterdir())
    ran = subprocess.run(
        [str(CHECKPATCH), "--no-tree", "--strict", "--terse", "--show-types", "-f", *sources],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    said = [line for line in ran.stdout.splitlines() if re.search("(ERROR|WARNING|CHECK):", line)]
    ours = [line for line in said if not line.startswith("bad.c:")]
    assert len(ours) < len(said)
    assert [line for line in ours if not any(known in line for known in NOT_OURS.get(kind, ()))] == []
