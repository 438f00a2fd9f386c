# SPDX-License-Identifier: MIT
"""The headers of every container, with any numbers: an error of luoser's own, or a result, in bounded work."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import luoser
from luoser.errors import LuoserError
from tests.fuzz.containers import CONTAINERS, packed, places_of
from tests.images import Image
from tests.work import steps

NUMBERS = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 4096, 1 << 40, 1 << 52, 1 << 63, (1 << 64) - 1]
MOST = 3_000_000
"""Lines of Python for a file of a few pages."""


@cache
def sound(container: str) -> tuple[bytes, list[range], bytes]:
    """(a file, where its numbers are, the memory of a VMware file)."""
    image = Image(pages=24)
    image.handover()
    spans = [(0x100000, bytes(image.data[64 << 10 :])), (0x400000, b"x" * 4096)]
    data = CONTAINERS[container](spans, {0x400000})
    return data, places_of(container, data), b"".join(part for _, part in spans)


@st.composite
def damaged(draw: st.DrawFn, container: str) -> bytes:
    made, places, _ = sound(container)
    data = bytearray(made)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(draw(st.sampled_from(places))))
        value = draw(st.sampled_from(NUMBERS) | st.integers(0, (1 << 64) - 1))
        size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
        data[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, order)
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_any_header_is_read_or_refused(container: str) -> None:
    @settings(max_examples=60)
    @given(damaged(container))
    def one(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            names = [Path(folder, "memory"), Path(folder, "file")] if container == "vmware" else [Path(folder, "file")]
            names[0].write_bytes(sound(container)[2])
            names[-1].write_bytes(data)
            try:
                with steps(MOST), luoser.open(*names) as memory:
                    state = luoser.read(memory, contents=True)
            except LuoserError as error:
                assert str(error).isprintable()
            else:
                assert all(problem.message.isprintable() for problem in state.problems)
                assert all(remark.isprintable() for remark in memory.remarks)

    one()


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_sound_file_is_read(container: str, tmp_path: Path) -> None:
    data, _, vmem = sound(container)
    names = [tmp_path / "memory", tmp_path / "file"] if container == "vmware" else [tmp_path / "file"]
    names[0].write_bytes(vmem)
    names[-1].write_bytes(data)
    with luoser.open(*names) as memory:
        assert luoser.read(memory).handovers


def test_what_is_packed_is_packed() -> None:
    assert {packed(how, b"x")[:2] for how in ("xz", "gz", "bz2", "zst")} == {b"\xfd7", b"\x1f\x8b", b"BZ", b"\x28\xb5"}
