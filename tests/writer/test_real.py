# SPDX-License-Identifier: MIT
"""Real dumps there and back: inspect, build, inspect again, and byte for byte what the kernel wrote."""

from __future__ import annotations

from functools import cache

import pytest

from luoser.state import MapStatus, State, to_document
from luoser.writer import Image
from tests import real
from tests.writer.helpers import Json, built, compared, differing, full_document, reread

INVENTED = {"scratch array", "setup_data"}
"""What the state names without saying where it lay."""


@cache
def document(name: str) -> Json:
    return full_document(real.dump(name))


@cache
def rebuilt(name: str) -> tuple[State, Image]:
    return built(document(name))


def is_intact(name: str) -> bool:
    return all(handover["preserved"]["status"] in ("intact", "absent") for handover in document(name)["handovers"])


INTACT = [name for name in real.DUMPS if is_intact(name)]
OTHERS = [name for name in real.DUMPS if name not in INTACT]


def test_there_are_dumps_of_both_kinds() -> None:
    assert len(INTACT) >= 6 and len(OTHERS) >= 5


@pytest.mark.parametrize("name", INTACT)
def test_the_document_comes_back(name: str) -> None:
    _, image = rebuilt(name)
    assert image.lacks == []
    assert compared(to_document(reread(image), full=True)) == compared(document(name))


@pytest.mark.parametrize("name", real.DUMPS)
def test_every_byte_is_what_the_kernel_wrote(name: str) -> None:
    _, image = rebuilt(name)
    wrong = [(hex(start), what) for start, what in differing(image, real.dump(name))]
    assert [entry for entry in wrong if entry[1].split(" (")[0] not in INVENTED] == []


@pytest.mark.parametrize("name", INTACT)
def test_the_image_has_every_kind_of_page(name: str) -> None:
    kinds = {what for _, _, what in rebuilt(name)[1].pieces}
    wanted = {"KHO root"}
    if any(handover["preserved"]["status"] == "intact" for handover in document(name)["handovers"]):
        wanted |= {"bitmap of the preserved map"} if name.startswith("6") else {"leaf of the preserved map"}
    assert wanted <= kinds
    if name == "7.3-a/frozen":
        assert {"LUO", "LUO FLBs", "LUO sessions, block", "sub-tree kexec-metadata", "page of a driver"} <= kinds
        assert {"device list pci-lu-v2-03", "device list pci-v2-u64"} <= kinds


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_come_back_is_said(name: str) -> None:
    state, image = rebuilt(name)
    lost = [h.preserved.address for h in state.handovers if h.preserved.status is MapStatus.STALE]
    for address in lost:
        assert any(word.startswith(f"preserved map at {address:#x}: it is stale") for word in image.lacks)
    again = reread(image)
    assert [h.address for h in again.handovers] == [h.address for h in state.handovers]


@pytest.mark.parametrize("name", real.DUMPS)
def test_what_is_missing_when_read_again_was_said(name: str) -> None:
    """A page that the state names and does not hold gives a sentence, or was missing in the dump already."""
    _, image = rebuilt(name)
    known = {(problem["code"], problem["address"]) for problem in document(name)["problems"]}
    found = [p for p in reread(image).problems if (p.code, f"{p.address:#x}" if p.address else None) not in known]
    assert not found or image.lacks
