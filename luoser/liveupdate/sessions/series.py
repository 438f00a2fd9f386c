# SPDX-License-Identifier: MIT
"""The PCI core's series "PCI: liveupdate: PCI core support for Live Update", v1 of 26 Nov 2025 to v9 of 18 Sep 2026."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Literal

from luoser.abi.pci import PciLayout, layout

__all__ = ["SERIES", "Series", "VfioSeries"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VfioSeries:
    """The vfio-pci series that was posted beside. layout: of its record. is_record_first: the record is written
    before the PCI core is told. heeds_core: whether the PCI core's refusal counts. takes_vfs: else they are refused
    before it is asked.
    """

    layout: str
    compatible: str = "vfio-pci-v1"
    is_record_first: bool = False
    heeds_core: bool = True
    takes_vfs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a complete posting does, or one up to a patch.

    layout: of the list. flb: the FLB's name. kernel: release of the orchestrator that it was posted on.
    placement: `sorted` ascending, `circular` first fit from the number of devices on, `hole` the first free slot.
    path: which bridges above a device get entries, in which order: `none`, `down` from the root, `up` to it.
    checks: what a device is looked at for, in this order: `vf`, `pf`, `group` (alone in its IOMMU group), `acs`
    (needs no quirk), `twice`, `frozen`, `root_bus`. twice: errno for a device that has an entry, 0 for none.
    full: errno when no entry is left. talks: whether it logs. warns: whether it logs refusals of VFs and twins.
    retrieve: what becomes of a list that cannot be taken over. counts: what finish of a device does to its entry:
    `remove` it, `keep` it, take from its `refcount`, or that and nr_devices (`both`). end: what becomes of devices
    that are left when the last file is finished. tells_all: a panic has words of its own, and devices that are left
    are named. keeps_busmaster: over the shutdown of devices. tells_no_match: whether it logs that what was handed over
    has another name. leaks_bridges: each bridge that was preserved takes a reference of the FLB that nobody gives
    back. drops_removed: a preserved device that is removed is un-preserved, or finished, as it goes.
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
    talks: bool = True
    warns: bool = False
    retrieve: Literal["panic", "warn", "ignore"]
    counts: Literal["remove", "keep", "refcount", "both"]
    end: Literal["warn", "ignore", "panic"]
    tells_all: bool = False
    keeps_busmaster: bool = True
    tells_no_match: bool = False
    leaks_bridges: bool = False
    drops_removed: bool = False

    @property
    def form(self) -> PciLayout:
        found = layout(self.layout)
        assert found is not None
        return found


_VFIO_V1 = VfioSeries(layout="vfio-pci-v1-domain16-reset", is_record_first=True, heeds_core=False)
_VFIO_V2 = replace(_VFIO_V1, is_record_first=False)
_VFIO_V3 = VfioSeries(layout="vfio-pci-v2", compatible="vfio-pci-v2")
_VFIO_V4 = VfioSeries(layout="vfio-pci-v1-domain32")
_VFIO_V5 = replace(_VFIO_V4, takes_vfs=False)

_V1 = Series(
    layout="pci-v1-nr", flb="pci-v1", kernel="7.0", vfio=_VFIO_V1, placement="sorted", path="none", checks=("vf",),
    twice=0, full=errno.E2BIG, talks=False, retrieve="panic", counts="remove", end="warn", keeps_busmaster=False,
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
    checks=("vf", "group", "twice"), retrieve="warn", counts="refcount", end="ignore", tells_no_match=True,
    leaks_bridges=True,
)  # fmt: skip
_V5 = replace(_V4, path="up", checks=("vf", "frozen", "twice", "acs"), leaks_bridges=False)
_V6 = replace(_V5, flb="pci-v3", counts="both", drops_removed=True)
_V7 = replace(
    _V6, layout="pci-v2-block", flb="pci-v2", kernel="7.2", vfio=_VFIO_V5, placement="hole", retrieve="panic",
    drops_removed=False,
)  # fmt: skip
_V8 = replace(
    _V7, layout="pci-version-2", flb="pci", kernel="7.3", checks=("vf", "acs", "frozen", "twice"), warns=True,
    end="panic", tells_no_match=False,
)  # fmt: skip
_V9 = replace(_V8, checks=("vf", "acs", "twice", "frozen"), tells_all=True)


def _root_bus_only(series: Series) -> Series:
    """Version 1, before the patch that gives bridges entries."""
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
"""By posting; with a number, up to the last patch before bridges get entries. branch: the author's of early 2026."""
