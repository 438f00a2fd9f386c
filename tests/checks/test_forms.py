# SPDX-License-Identifier: MIT
"""Rules in every form of LUO: what a form has is asked where the forms are written down."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest

import luoser
from luoser.abi.luo import FORMS, LuoForm, form
from luoser.checks import check
from luoser.state import PreservedMap, State
from luoser.writer import Image
from luoser.writer.mutate.preserved import forget, preserve
from tests.writer.helpers import built, reread

PAGE = 4096
AREAS = [one for one in FORMS if one.sessions == "area"]
ARRAYS = [one for one in FORMS if one.files == "array"]
names = {"ids": lambda one: one.name}


@cache
def _written(layout: str) -> tuple[State, Image]:
    files = [{"memfd": {"size": PAGE}}]
    kernel = {"luo-v1": "6.19", "luo-v1-flb": "7.0"}.get(layout, "7.3")
    return built(
        {"handovers": [{"luo": {"layout": layout, "sessions": [{"name": "vm", "files": files}]}}]}, kernel=kernel
    )


def written(layout: str) -> tuple[State, Image]:
    state, image = _written(layout)
    return state, deepcopy(image)


def unpreserved(state: State, image: Image, start: int, pages: int, missing: int) -> None:
    """Of a block of pages all but one are preserved, page by page."""
    found = state.handovers[0].preserved.map
    assert isinstance(found, PreservedMap) and found.head(start) is not None
    forget(image, state, start)
    for page in range(pages):
        if page != missing:
            preserve(image, state, start + page * PAGE, 0)


def rules(image: Image) -> set[str]:
    return {finding.rule for finding in check(reread(image)).findings if finding.severity == "error"}


@pytest.mark.parametrize("one", [one for one in FORMS if one.sessions != "none"], **names)
def test_a_sound_image_of_each_form_has_no_error(one: LuoForm) -> None:
    assert rules(written(one.name)[1]) == set()


@pytest.mark.parametrize("one", AREAS, **names)
@pytest.mark.parametrize("missing", [1, 15])
def test_each_page_of_a_session_area_has_to_be_preserved(one: LuoForm, missing: int) -> None:
    state, image = written(one.name)
    luo = state.handovers[0].luo
    assert luo is not None and luo.session_area
    unpreserved(state, image, luo.session_area, one.session_pages, missing)
    assert "MAP013" in rules(image)


@pytest.mark.parametrize("one", ARRAYS, **names)
def test_both_pages_of_a_file_array_have_to_be_preserved(one: LuoForm) -> None:
    state, image = written(one.name)
    luo = state.handovers[0].luo
    assert luo is not None
    unpreserved(state, image, luo.sessions[0].blocks[0], one.file_pages, 1)
    assert "MAP013" in rules(image)


@pytest.mark.parametrize("one", AREAS, **names)
def test_a_descriptor_in_the_last_page_of_a_session_area_is_claimed_twice(one: LuoForm) -> None:
    state, image = written(one.name)
    luo = state.handovers[0].luo
    assert luo is not None and luo.session_area and luo.sessions[0].files[0].address
    last = luo.session_area + (one.session_pages - 1) * PAGE
    image.patch(last, image.read(luo.sessions[0].files[0].data, PAGE))
    image.patch(luo.sessions[0].files[0].address + 48, last.to_bytes(8, "little"))
    assert "MAP014" in rules(image)


@pytest.mark.parametrize("one", [one for one in FORMS if one.sessions != "none"], **names)
def test_only_luo_of_6_19_lacks_the_node_that_7_0_requires(one: LuoForm) -> None:
    report = check(reread(written(one.name)[1]), next_release="7.0.1", select=["LUO007"])
    reasons = [entry.reason for entry in report.skipped]
    assert bool(report.findings) == (one.name == "luo-v1")
    assert reasons == ([] if one.name == "luo-v1" else ["not LUO as in 6.19"])


def test_every_form_that_is_read_is_known() -> None:
    for one in FORMS:
        state = reread(written(one.name)[1]) if one.sessions != "none" else None
        if state is not None:
            luo = state.handovers[0].luo
            assert luo is not None and form(luo.layout) is one


@pytest.mark.parametrize("layout", ["pci-v2-u64", "pci-v2-u32", "pci-version-2", "pci-v1-nr", "pci-lu-v2-03"])
def test_build_gives_a_list_the_flb_that_its_layout_was_posted_under(layout: str) -> None:
    from luoser.abi.pci import layout as pci_layout

    devices: list[Any] = [{"bdf": "0000:01:00.0", "flags": 1}] if "lu" in layout else [{"bdf": "0000:01:00.0"}]
    state, image = built({"handovers": [{"pci": [{"layout": layout, "devices": devices}]}]})
    known = pci_layout(layout)
    assert known is not None
    (entry,) = luoser.read(image.memory()).handovers[0].pci
    assert entry.via == (f"flb:{(*known.flb_names, 'pci')[0]}",)
    assert entry.layout == layout or layout in entry.candidates
    assert state.handovers[0].pci[0].via == entry.via
