# SPDX-License-Identifier: MIT
"""Random device lists of every layout, as a kernel could write them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from tests.golden import Bus, Dev, Form, Range

__all__ = ["FIRST_BLOCKS", "buses", "device_lists"]

_DRIVERS = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True).map(str.encode)
_U64 = st.integers(0, (1 << 64) - 1)
_DATA = st.one_of(st.just(0), st.integers(1, 1 << 34).map(lambda page: page << 12), _U64)
FIRST_BLOCKS = (
    st.integers(0x100, 1 << 24).map(lambda page: page << 12).filter(lambda place: place & 0xFFFFFFFF > 0x1FFFF)
)
"""Addresses of a first block whose lower half is no PCI domain."""


@st.composite
def _resource(draw: st.DrawFn) -> Range:
    start = draw(st.integers(0, 1 << 40))
    name = draw(st.sampled_from([b"0000:41:00.0", b"PCI Bus 0000:41"]))
    return start, start + draw(st.integers(0, 1 << 30)), name, 0x40200, 0


@st.composite
def _device(draw: st.DrawFn, domain: int, bdf: int) -> Dev:
    flags = draw(st.sampled_from([1, 1, 2, 3]))
    return Dev(
        domain=domain,
        bdf=bdf,
        flags=flags,
        requested=flags & 1,
        refcount=draw(st.integers(1, 0xFFFF)),
        num_vfs=draw(st.sampled_from([0, 0, 4, 256])),
        driver=draw(_DRIVERS),
        data=draw(_DATA),
        state=draw(st.integers(0, 4)),
        pm_cap=draw(st.integers(0, 255)),
        saved=draw(st.integers(0, 511)),
        resources=tuple(draw(st.lists(_resource(), max_size=3))),
    )


@st.composite
def device_lists(draw: st.DrawFn, form: Form, *, max_size: int = 6) -> list[Dev]:
    """One device or more; no two at one place, and at least one that asked for it."""
    top = 0x1FFFF if form.wide else 0xFFFF
    domains = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, top))
    places = draw(st.lists(st.tuples(domains, st.integers(0, 0xFFFF)), min_size=1, max_size=max_size, unique=True))
    if places == [(0, 0)]:  # a record of zeros where nothing but the place is said; see test_shape
        places = [(0, 1)]
    made = [draw(_device(domain, bdf)) for domain, bdf in places]
    if not any(dev.requested for dev in made):
        made[0] = replace(made[0], flags=made[0].flags | 1, requested=1)
    return made


@st.composite
def buses(draw: st.DrawFn) -> list[Bus]:
    places = draw(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 255)), max_size=3, unique=True))
    return [
        Bus(domain=domain, number=number, parent_domain=domain, parent=draw(st.integers(0, 255)),
            kind=draw(st.integers(0, 2)), resources=tuple(draw(st.lists(_resource(), max_size=2))))
        for domain, number in places
    ]  # fmt: skip
