# SPDX-License-Identifier: MIT
"""Postings of the series "PCI: liveupdate: PCI core support for Live Update": v1 (26 Nov 2025) to v9 (18 Sep 2026)."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Literal

from luoser.abi.pci import PciLayout, layout

__all__ = ["SERIES", "Series", "VfioSeries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VfioSeries:
    """The vfio-pci series that goes with a posting.

    layout:             of the record of a device.
    compatible:         string of its file handler.
    is_record_first:    it writes the record before it calls the PCI core.
    honours_core_error: it fails if the PCI core refuses a device. Otherwise it ignores that.
    allows_vfs:         it calls the PCI core for VFs. Otherwise it refuses them itself.
    """

    layout: str
    compatible: str = "vfio-pci-v1"
    is_record_first: bool = False
    honours_core_error: bool = True
    allows_vfs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The behaviour of a posting, complete or up to a patch.

    layout:          of the list.
    flb:             name of the FLB.
    kernel:          release on which it was posted.
    vfio:            the vfio-pci series that goes with it.
    placement:       slot of a new device. `sorted`: ascending. `circular`: the first free one from slot nr_devices on,
                     wrapping around. `hole`: the first free one.
    path:            bridges above a device that get entries, too. `none`. `down`: all, from the root bus. `up`: all, to
                     the root bus.
    checks:          reasons to refuse a device, in this order: it is a VF (`vf`) or a PF with VFs (`pf`), shares its
                     IOMMU group (`group`), depends on an ACS quirk (`acs`), has an entry (`twice`), was shut down
                     (`frozen`), is not on a root bus (`root_bus`).
    twice:           errno for a device that has an entry. 0: no error.
    full:            errno if no slot is left.
    logs:            it logs.
    logs_refusals:   it logs refusals of VFs and of devices that have an entry.
    retrieve:        effect of a list that is not valid.
    counts:          what finish of a device changes: `remove` its entry, `keep` everything, decrement its `refcount`,
                     or decrement `both` its refcount and nr_devices.
    end:             effect of devices that are left when the last file is finished.
    logs_all:        a panic has its own text, and all devices that are left are logged.
    keeps_busmaster: preserved devices keep bus mastering at shutdown.
    logs_no_match:   it logs that the FLBs of the previous kernel have other names.
    leaks_bridges:   each preserved bridge takes a reference to the FLB that is never released.
    drops_removed:   a preserved device is un-preserved, or finished, when it is removed.
    """

    layout: str
    flb: str
    kernel: str
    vfio: VfioSeries
    placement: Literal["sorted", "circular", "hole"]
    path: Literal["none", "down", "up"]
    checks: tuple[str, ...]
    twice: int = errno.EBUSY
    full: int = errno.ENOSPC
    logs: bool = True
    logs_refusals: bool = False
    retrieve: Literal["panic", "warn", "ignore"]
    counts: Literal["remove", "keep", "refcount", "both"]
    end: Literal["warn", "ignore", "panic"]
    logs_all: bool = False
    keeps_busmaster: bool = True
    logs_no_match: bool = False
    leaks_bridges: bool = False
    drops_removed: bool = False

    @property
    def form(self) -> PciLayout:
        """The layout of the list."""
        found = layout(self.layout)
        assert found is not None
        return found


_VFIO_V1 = VfioSeries(layout="vfio-pci-v1-domain16-reset", is_record_first=True, honours_core_error=False)
_VFIO_V2 = replace(_VFIO_V1, is_record_first=False)
_VFIO_V3 = VfioSeries(layout="vfio-pci-v2", compatible="vfio-pci-v2")
_VFIO_V4 = VfioSeries(layout="vfio-pci-v1-domain32")
_VFIO_V5 = replace(_VFIO_V4, allows_vfs=False)

_V1 = Series(
    layout="pci-v1-nr", flb="pci-v1", kernel="7.0", vfio=_VFIO_V1, placement="sorted", path="none", checks=("vf",),
    twice=0, full=errno.E2BIG, logs=False, retrieve="panic", counts="remove", end="warn", keeps_busmaster=False,
)  # fmt: skip
_V2 = replace(
    _V1, layout="pci-v1-u64", vfio=_VFIO_V2, checks=("vf", "twice"), twice=errno.EBUSY, retrieve="ignore",
    counts="keep", end="ignore",
)  # fmt: skip
_V3 = replace(_V2, layout="pci-v1-u64-wide", vfio=_VFIO_V3, checks=("vf", "pf", "group", "twice"), retrieve="warn")
_BRANCH = Series(
    layout="pci-v2-u64", flb="pci-v2", kernel="7.0", vfio=_VFIO_V3, placement="sorted", path="down",
    checks=("vf", "pf", "twice"), retrieve="warn", counts="refcount", end="ignore", keeps_busmaster=False,
)  # fmt: skip
_V4 = Series(
    layout="pci-v2-u32", flb="pci-v2", kernel="7.1", vfio=_VFIO_V4, placement="circular", path="down",
    checks=("vf", "group", "twice"), retrieve="warn", counts="refcount", end="ignore", logs_no_match=True,
    leaks_bridges=True,
)  # fmt: skip
_V5 = replace(_V4, path="up", checks=("vf", "frozen", "twice", "acs"), leaks_bridges=False)
_V6 = replace(_V5, flb="pci-v3", counts="both", drops_removed=True)
_V7 = replace(
    _V6, layout="pci-v2-block", flb="pci-v2", kernel="7.2", vfio=_VFIO_V5, placement="hole", retrieve="panic",
    drops_removed=False,
)  # fmt: skip
_V8 = replace(
    _V7, layout="pci-version-2", flb="pci", kernel="7.3", checks=("vf", "acs", "frozen", "twice"), logs_refusals=True,
    end="panic", logs_no_match=False,
)  # fmt: skip
_V9 = replace(_V8, checks=("vf", "acs", "twice", "frozen"), logs_all=True)


def _root_bus_only(series: Series) -> Series:
    """Version 1 of the list, before the patch that adds entries for bridges."""
    return replace(series, layout="pci-version-1", path="none", checks=("vf", "twice", "root_bus"))


SERIES = {
    "pci-core-v1": _V1,
    "pci-core-v2": _V2,
    "pci-core-v3": _V3,
    "pci-core-branch": _BRANCH,
    "pci-core-v4": _V4,
    "pci-core-v5": _V5,
    "pci-core-v6-05": replace(_V6, flb="pci-v2", path="none"),
    "pci-core-v6": _V6,
    "pci-core-v7-05": replace(_V7, flb="pci-v1", path="none"),
    "pci-core-v7": _V7,
    "pci-core-v8-05": _root_bus_only(_V8),
    "pci-core-v8": _V8,
    "pci-core-v9-04": _root_bus_only(_V9),
    "pci-core-v9": _V9,
}
"""By name of the posting. With a number: up to that patch, the last one before bridges get entries. branch: the
author's branch of early 2026."""
