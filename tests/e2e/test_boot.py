# SPDX-License-Identifier: MIT
"""One boot of a built image, if a kernel is in the cache; `make e2e` has the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luoser.writer.image import write_image
from tests.e2e import __main__ as main
from tests.e2e.boot import File, Outcome, boot, files_of
from tests.e2e.judge import judged
from tests.e2e.kernels import Kernel, NoKernel, kernel
from tests.e2e.live_update import SHAPES, Run
from tests.e2e.mutations import built, effect
from tests.e2e.shapes import everything


@pytest.fixture(params=["x86-64", "arm64"])
def cached(request: pytest.FixtureRequest) -> Kernel:
    try:
        return kernel("7.3", request.param, build=False)
    except NoKernel as error:
        pytest.skip(str(error))


def test_a_kernel_takes_what_was_built(cached: Kernel, tmp_path: Path) -> None:
    shape = everything(cached)
    _, image = built(shape, cached)
    write_image(str(tmp_path / "image"), image, "elf", force=False)
    try:
        outcome = boot(tmp_path, cached, tmp_path / "image", image.passed[0], shape.tokens, seconds=100)
    except NoKernel as error:
        pytest.skip(str(error))
    assert outcome.ended == "done" and outcome.files == shape.files
    assert "test_kho: KHO restore succeeded" in outcome.log
    assert "luo: Retrieved live update data, liveupdate number: 41" in outcome.log


FILE = File(5, 0, 1, "aa")
GOOD = Outcome(ended="done", log=("KHO: found 0x123", "luo: 41"), said=(), files={("vm", 1): FILE})


def test_addresses_are_no_effect() -> None:
    same = Outcome(ended="done", log=("KHO: found 0x456", "luo: 41"), said=(), files=GOOD.files)
    assert effect(GOOD, same) == {"ended": "done"}


def test_what_differs_is_the_effect() -> None:
    other = Outcome(
        ended="done",
        log=("KHO: found 0x123", "luo: bad"),
        said=("retrieve vm: -5",),
        files={("vm", 1): File(5, 0, 1, "bb")},
    )
    assert effect(GOOD, other) == {
        "ended": "done",
        "new": ["luo: bad"],
        "lost": ["luo: 41"],
        "said": ["retrieve vm: -5"],
        "files": {"vm 0x1": "other sha256"},
    }
    gone = Outcome(ended="panic", log=("Kernel panic: x",), said=(), files={})
    assert effect(GOOD, gone) == {
        "ended": "panic", "new": ["Kernel panic: x"], "files": {"vm 0x1": "not retrieved"},
    }  # fmt: skip


def test_files_of_a_console() -> None:
    console = "x\nMEMFD retrieved 766d 0x1 0x5 0 0x1 aa\nMEMFD preserved 766d 0x2 0x5 0 0x1 aa\nMEMFD retr"
    assert files_of(console, "retrieved") == {("vm", 1): FILE}


def test_the_page_of_kernels_is_that_of_the_last_runs() -> None:
    assert main.PAGE.read_text() == main.page(json.loads(main.RESULTS.read_text())), "run `make e2e`"


def test_a_file_that_is_not_retrieved_differs() -> None:
    name, tokens = SHAPES
    kernel = Kernel(
        series="7.3", release="7.3.4", machine="x86-64", pages="4K", image=Path("image"), symbols=Path("System.map")
    )
    run = Run(kernel=kernel, preserved=dict.fromkeys(((name, token) for token in tokens), FILE))
    (found,) = judged(run)
    assert found.what == "the kernel's own files" and found.fault
    run.retrieved = dict(run.preserved)
    assert [one.fault for one in judged(run)] == [""]
