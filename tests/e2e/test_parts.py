# SPDX-License-Identifier: MIT
"""What counts as taken by a kernel, without one."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from luoser.checks import check
from luoser.errors import UsageError
from luoser.reader import read
from luoser.writer.mutate import mutations
from tests.e2e import inside, judge, kernels
from tests.e2e.boot import Outcome, files_of
from tests.e2e.kernels import Kernel
from tests.e2e.mutations import built
from tests.e2e.parts import fault_of, parts_of, unlike
from tests.e2e.shapes import everything, names, shapes_of

NEW = Kernel(
    series="7.3", release="7.3.4", machine="x86-64", pages="4K", image=Path("image"), symbols=Path("System.map")
)
OLD = replace(NEW, series="6.17", release="6.17.8")


@pytest.mark.parametrize("kernel", [NEW, OLD], ids=["7.3", "6.17"])
def test_what_a_kernel_does_not_say_that_it_took_is_a_fault(kernel: Kernel) -> None:
    shape = everything(kernel)
    good = Outcome(ended="done", log=tuple(shape.taken), said=(), files=shape.files)
    assert fault_of(shape, good) == ""
    assert len(shape.taken) == (3 if kernel is NEW else 2)
    for line in shape.taken:
        log = tuple(other for other in shape.taken if other != line)
        assert fault_of(shape, replace(good, log=log)) == f"not logged: {line}"
    assert fault_of(shape, replace(good, ended="panic")) == "panic"


def test_a_kernel_without_luo_takes_images_of_what_it_has() -> None:
    assert "images" in parts_of(OLD) and list(shapes_of(OLD)) == ["everything"]
    state, image = built(everything(OLD), OLD)
    assert state.handovers[0].luo is None and unlike(check(read(image.memory())), set()) == ""


def test_what_check_leaves_open_is_a_fault() -> None:
    state, image = built(everything(NEW), NEW)
    assert unlike(check(read(image.memory())), set()) == ""
    array = state.handovers[0].scratch_array
    assert array is not None
    image.patch(array, b"\x01")
    assert "check does not judge" in unlike(check(read(image.memory())), set())


_NEEDS_MORE = {"MAP007", "PCI001", "PCI016"}
"""What `check` finds only with RAM or --layout."""


@pytest.mark.parametrize("kernel", [NEW, replace(NEW, machine="arm64")], ids=["x86-64", "arm64"])
def test_what_a_kernel_boots_with_breaks_the_rule_and_not_what_tells_the_kernel_of_it(kernel: Kernel) -> None:
    shape, count = everything(kernel), 0
    for rule, broken in mutations().items():
        state, image = built(shape, kernel)
        (told,) = image.passed
        node = image.read(told.node, 64)
        try:
            broken.apply(image, state)
        except UsageError:
            continue
        report = check(read(image.memory()))
        told_of = {one.rule for one in report.findings} | {one.rule for one in report.unjudged}
        assert (rule in told_of or rule in _NEEDS_MORE) and image.read(told.node, 64) == node, rule
        count += 1
    assert count > 60


def test_names_that_are_not_utf_8_are_told_apart() -> None:
    shape = names(NEW)
    console = "\n".join(
        f"MEMFD retrieved {name.encode('utf-8', 'surrogateescape').hex()} {token:#x} {file.size:#x} {file.position:#x} "
        f"{file.seals:#x} {file.sha256}"
        for (name, token), file in shape.files.items()
    )
    assert files_of(console, "retrieved") == shape.files


def test_nothing_in_a_dump_is_nothing_to_agree_with() -> None:
    empty = base64.b64encode(json.dumps({"handovers": []}).encode()).decode()
    assert inside._fault(f"INSIDE live: 4 {empty}", "live:", {"roots": []})


def test_types_without_a_struct_of_a_handover_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "verify", lambda _: [])
    assert judge._types(None)  # type: ignore[arg-type]


def test_two_runs_do_not_build_one_kernel_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built_in: list[Path] = []

    def build(_: Path, out: Path, machine: str, pages: str) -> None:
        built_in.append(out)
        time.sleep(0.2)
        (out / "include/config").mkdir(parents=True)
        (out / "include/config/kernel.release").write_text("7.3.4")

    monkeypatch.setattr(kernels, "CACHE", tmp_path)
    monkeypatch.setattr(kernels, "_source", lambda _: tmp_path)
    monkeypatch.setattr(kernels, "_build", build)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(kernels.kernel, ["7.3", "7.3"]))
    assert [one.release for one in found] == ["7.3.4", "7.3.4"] and len(built_in) == 1
