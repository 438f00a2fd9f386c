# SPDX-License-Identifier: MIT
"""The PCI subsystem's list of preserved devices, in every posted form.

Family A is "PCI/LUO" (C. Li, RFC v1 of July 2025 with 25 patches, v2 of September 2025 with 10), a
subsystem or FLB blob without magic or version. Family B is "PCI core support for Live Update"
(D. Matlack, v1 of November 2025 to v9 of September 2026), an FLB. Patches of one series wrote different
layouts under one name, so each has its own here.

Changes with it: family A has no version at all. Family B: the FLB's name (v1 to v7), the member version (v8 and
later), KHO's blocks (v7 and later).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from luoser.abi.schema import (
    CStruct,
    Schema,
    array,
    bits,
    char,
    flags,
    flex,
    handle,
    natural,
    packed,
    phys,
    u8,
    u16,
    u32,
    u64,
)

__all__ = [
    "BRIDGE_TYPES",
    "COUNTS",
    "FLAG_NAMES",
    "LAYOUTS",
    "MAX_DOMAIN",
    "PciLayout",
    "Posting",
    "is_flb_name",
    "layout",
    "pci_dev_ser_b_refcount",
    "pci_lu_stub_ser",
    "pci_resource_ser",
]

FLAG_NAMES = {1: "LU_BUSMASTER", 2: "LU_BUSMASTER_BRIDGE"}
BRIDGE_TYPES = {0: "none", 1: "host bridge", 2: "PCI bridge"}
MAX_DOMAIN = 0x1FFFF
"""Largest plausible PCI domain: ACPI segments have 16 bits, VMD counts up from 0x10000."""

_V1 = "LUO: PCI subsystem RFC v1, 28 Jul 2025"
_V2 = "LUO: PCI subsystem (phase I) v2, 16 Sep 2025"
_B = "PCI: liveupdate: PCI core support for Live Update"


# -- family A ---------------------------------------------------------------------------------------------

_PATH = "path" / u32 * "domain << 16 | bus << 8 | devfn"
_REQUESTED = "requested" / u8 * "1 requested, 0 only needed by a child"
_DRIVER_NAME = "driver_name" / char(63) * "driver bound at prepare, at most 62 characters"
_DRIVER_DATA = "driver_data" / handle(u64) * "value of the driver's callbacks, usually a physical address"


def _posted(name: str, label: str, struct: CStruct, seen_in: str, meaning: str) -> Schema:
    return Schema(name, label, struct, status="posted", seen_in=seen_in, meaning=meaning)


def _list_a(label: str, dev: Schema, seen_in: str) -> Schema:
    struct = natural("count" / u32 * "entries of devs", "devs" / flex(dev) * "children first")
    return _posted("pci_ser", label, struct, seen_in, "The folio that the PCI subsystem preserves.")


_DEV = "One preserved device or bridge."

_A_V1_04 = "pci-lu-v1-04 (patches 04-06/25)"
pci_dev_ser_v1_04 = _posted("pci_dev_ser", _A_V1_04, natural(_PATH, _REQUESTED, _DRIVER_DATA), _V1, _DEV)
pci_ser_v1_04 = _list_a(_A_V1_04, pci_dev_ser_v1_04, _V1)

_A_V1_07 = "pci-lu-v1-07 (patches 07-08/25)"
pci_dev_ser_v1_07 = _posted("pci_dev_ser", _A_V1_07, natural(_PATH, _REQUESTED, _DRIVER_NAME, _DRIVER_DATA), _V1, _DEV)
pci_ser_v1_07 = _list_a(_A_V1_07, pci_dev_ser_v1_07, _V1)

_NUM_VFS = "num_vfs" / u16 * "VFs enabled on this PF"
_A_V1_09 = "pci-lu-v1-09 (patches 09-11/25)"
pci_dev_ser_v1_09 = _posted(
    "pci_dev_ser", _A_V1_09, natural(_PATH, _REQUESTED, _NUM_VFS, _DRIVER_NAME, _DRIVER_DATA), _V1, _DEV
)
pci_ser_v1_09 = _list_a(_A_V1_09, pci_dev_ser_v1_09, _V1)

_SAVED = (
    _PATH,
    _REQUESTED,
    _NUM_VFS,
    _DRIVER_NAME,
    _DRIVER_DATA,
    "devfn" / u32 * "slot and function",
    "current_state" / u32 * "power state",
    "pm_cap" / u8 * "offset of the PM capability",
    "_bits"
    / bits(
        2,
        broken_intx_masking=1,
        pme_poll=1,
        no_d3cold=1,
        wakeup_prepared=1,
        skip_bus_pm=1,
        ignore_hotplug=1,
        hotplug_user_indicators=1,
        pref_window=1,
        pref_64_window=1,
    )
    * "saved bit of struct pci_dev",
)
_A_V1_12 = "pci-lu-v1-12 (patch 12/25 onward, before resources)"
pci_dev_ser_v1_12 = _posted("pci_dev_ser", _A_V1_12, packed(*_SAVED), _V1, _DEV)
pci_ser_v1_12 = _list_a(_A_V1_12, pci_dev_ser_v1_12, _V1)

pci_resource_ser = _posted(
    "pci_resource_ser",
    "pci-lu-v1 resources",
    packed(
        "start" / handle(u64) * "first address",
        "end" / handle(u64) * "last address",
        "name" / char(64) * "name of the resource",
        "flags" / handle(u64) * "IORESOURCE_* bits",
        "desc" / handle(u64) * "descriptor",
    ),
    _V1,
    "One BAR or window.",
)
pci_dev_ser_v1_res = _posted(
    "pci_dev_ser",
    "pci-lu-v1 resources, CONFIG_PCI_IOV=n",
    packed(*_SAVED, "resource" / array(11, pci_resource_ser) * "BARs and windows"),
    _V1,
    _DEV,
)
pci_dev_ser_v1_res_iov = _posted(
    "pci_dev_ser",
    "pci-lu-v1 resources, CONFIG_PCI_IOV=y",
    packed(*_SAVED, "resource" / array(17, pci_resource_ser) * "BARs, VF BARs and windows"),
    _V1,
    _DEV,
)
pci_bus_ser_v1_19 = _posted(
    "pci_bus_ser",
    "pci-lu-v1-19 (bus state)",
    natural("domain" / u16 * "PCI domain", "number" / u8 * "bus number"),
    _V1,
    "One preserved bus.",
)
pci_bus_ser_v1_22 = _posted(
    "pci_bus_ser",
    "pci-lu-v1-22 (bus resources)",
    natural(
        "domain" / u16 * "PCI domain",
        "number" / u8 * "bus number",
        "parent_domain" / u16 * "domain of the parent bus",
        "parent_number" / u8 * "number of the parent bus",
        "bridge_type" / u32 * "0 none, 1 host bridge, 2 PCI bridge",
        "resource" / array(4, pci_resource_ser) * "windows, of root buses only",
    ),
    _V1,
    "One preserved bus with its windows.",
)
pci_ser_v1_19 = _posted(
    "pci_ser",
    "pci-lu-v1-19 (bus state)",
    natural(
        "dev_count" / u32 * "device entries",
        "bus_count" / u32 * "bus entries",
        "devs" / flex(pci_dev_ser_v1_12) * "devices, then buses with no gap",
    ),
    _V1,
    "The folio that the PCI subsystem preserves, with buses.",
)

_FLAGS = "flags" / flags(u32, FLAG_NAMES) * "1 LU_BUSMASTER, 2 LU_BUSMASTER_BRIDGE"
_A_V2_03 = "pci-lu-v2-03 (patches 03-05/10)"
pci_dev_ser_v2_03 = _posted("pci_dev_ser", _A_V2_03, natural(_PATH, _FLAGS, _DRIVER_DATA), _V2, _DEV)
pci_ser_v2_03 = _list_a(_A_V2_03, pci_dev_ser_v2_03, _V2)

_A_V2_06 = "pci-lu-v2-06 (patches 06-10/10)"
pci_dev_ser_v2_06 = _posted("pci_dev_ser", _A_V2_06, natural(_PATH, _FLAGS, _DRIVER_NAME, _DRIVER_DATA), _V2, _DEV)
pci_ser_v2_06 = _list_a(_A_V2_06, pci_dev_ser_v2_06, _V2)

pci_lu_stub_ser = _posted(
    "pci_lu_stub_ser",
    "pci-lu-stub",
    packed("dev_id" / u16 * "bus << 8 | devfn of the device whose driver_data is this page"),
    _V1,
    "Page of the test driver pci-lu-stub.",
)

# -- family B ---------------------------------------------------------------------------------------------

_DOMAIN, _BDF = "domain" / u32 * "PCI domain", "bdf" / u16 * "bus << 8 | devfn"
_MAX_U64, _NR_U64 = "max_nr_devices" / u64 * "entries allocated", "nr_devices" / u64 * "entries in use"
_MAX_U32, _NR_U32 = "max_nr_devices" / u32 * "entries allocated", "nr_devices" / u32 * "entries in use"
_B_LIST = "The PCI core's FLB."

pci_dev_ser_b_4 = _posted(
    "pci_dev_ser",
    "pci-v1 (v1, v2)",
    packed("domain" / u16 * "PCI domain, too small for VMD", _BDF),
    f"{_B} v1 26 Nov 2025, v2 29 Jan 2026",
    _DEV,
)
pci_dev_ser_b_reserved = _posted(
    "pci_dev_ser",
    "pci-v1 (v3 onward, reserved/padding)",
    packed(_DOMAIN, _BDF, "reserved" / u16 * "0"),
    f"{_B} v3 23 Mar 2026 onward",
    _DEV,
)
pci_dev_ser_b_refcount = _posted(
    "pci_dev_ser",
    "pci-v2, pci-v3, pci version 1/2 (refcount)",
    packed(_DOMAIN, _BDF, "refcount" / u16 * "0: a hole; of a bridge: number of preserved devices at or below it"),
    f"{_B} v4 23 Apr 2026 onward",
    _DEV,
)
pci_ser_b_nr = _posted(
    "pci_ser",
    "pci-v1 (v1)",
    packed(_NR_U64, "devices" / flex(pci_dev_ser_b_4) * "sorted"),
    f"{_B} v1 26 Nov 2025",
    _B_LIST,
)
pci_ser_b_v2 = _posted(
    "pci_ser",
    "pci-v1 (v2)",
    packed(_MAX_U64, _NR_U64, "devices" / flex(pci_dev_ser_b_4) * "sorted"),
    f"{_B} v2 29 Jan 2026",
    _B_LIST,
)
pci_ser_b_u32_reserved = _posted(
    "pci_ser",
    "pci-v1 (u32 counts)",
    packed(_MAX_U32, _NR_U32, "devices" / flex(pci_dev_ser_b_reserved) * "entries"),
    f"{_B} v3/v4 patch 1",
    _B_LIST,
)
pci_ser_b_u64 = Schema(
    "pci_ser",
    "pci-v2 (u64 counts, development branch)",
    packed(_MAX_U64, _NR_U64, "devices" / flex(pci_dev_ser_b_refcount) * "sorted"),
    status="development-branch",
    seen_in="author's development branch",
    meaning=_B_LIST,
)
pci_ser_b_u32 = _posted(
    "pci_ser",
    "pci-v2 / pci-v3 (u32 counts)",
    packed(_MAX_U32, _NR_U32, "devices" / flex(pci_dev_ser_b_refcount) * "unsorted"),
    f"{_B} v4..v6, Apr-May 2026",
    _B_LIST,
)
pci_ser_b_block = _posted(
    "pci_ser",
    "pci-v1/pci-v2 (v7, kho_block)",
    packed(_NR_U32, "devices" / phys * "first KHO block of entries; unaligned"),
    f"{_B} v7 10 Jul 2026",
    _B_LIST,
)
pci_ser_b_version = Schema(
    "pci_ser",
    "pci, version 1/2 (v8, v9, kho_block)",
    packed(
        "version" / u32 * "1 endpoints only, 2 bridges too", _NR_U32, "devices" / phys * "first KHO block of entries"
    ),
    status="queued (linux-next)",
    seen_in=f"{_B} v8/v9, Aug-Sep 2026",
    meaning=_B_LIST,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """How kernels use a form under one FLB name. The bytes are the same, their use differs.

    bridges:         whether the list includes the bridges above a device. None: depends on the patch.
    counts_finished: whether the count of the header includes devices that the next kernel has finished. None:
                     depends on the patch.
    counts_below:    whether the refcount of a bridge counts the devices below it; else it may be 1.
    """

    bridges: bool | None = True
    counts_finished: bool | None = False
    counts_below: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PciLayout:
    """One layout of the device list: a header, then records right after it or in KHO blocks.

    A record has its PCI address in `path` (domain << 16 | bus << 8 | devfn), or in `domain` and `bdf`.

    name:      in the registry.
    family:    A: PCI/LUO. B: PCI core live update.
    header:    struct at the start of the list.
    record:    struct of a device.
    count:     header member with the number of records in use.
    capacity:  header member with the number of allocated records. None: no such member.
    blocks:    header member with the address of the first KHO block. None: the records follow the header.
    version:   required value of the header member `version`. None: no such member.
    bus:       struct of the records that follow the devices, in later patches of v1. None: no such records.
    bus_count: header member with the number of these. None: no such member.
    is_sorted: whether records ascend by (domain, bdf).
    removes_finished: whether the next kernel removes the record of a device that it has finished.
    postings:  by FLB name; `build` writes the first name.
    summary:   what distinguishes it, in words.

    Source: docs/abi/pci.md.
    """

    name: str
    family: Literal["A", "B"]
    header: Schema
    record: Schema
    count: str = "nr_devices"
    capacity: str | None = None
    blocks: str | None = None
    version: int | None = None
    bus: Schema | None = None
    bus_count: str | None = None
    is_sorted: bool = False
    removes_finished: bool = False
    postings: Mapping[str, Posting] = field(default_factory=dict)
    summary: str

    @property
    def flb_names(self) -> tuple[str, ...]:
        """FLB names that this form was posted under."""
        return tuple(self.postings)

    @property
    def is_whole(self) -> bool:
        """Whether the records follow the header, so that the list can be read alone; else they are in KHO blocks."""
        return self.blocks is None

    @property
    def has_refcounts(self) -> bool:
        """Whether records have a refcount. 0 is a hole or a finished device."""
        return "refcount" in self.record.record_fields

    @property
    def is_narrow(self) -> bool:
        """Whether the PCI domain of a record has 16 bits, too few for VMD."""
        return "path" in self.record.record_fields or self.record.field("domain").size == 2

    @property
    def flags(self) -> str | None:
        """Name of the record's member with flags. None: no such member."""
        return self.record.flags.name if self.record.flags is not None else None

    @property
    def asked(self) -> str | None:
        """Name of the member whose lowest bit is set if the device itself requested live update.

        None: there is no such member. The flags of family B mean something else.
        """
        if self.family != "A":
            return None
        return self.flags or ("requested" if "requested" in self.record.record_fields else None)

    def posting(self, flbs: Iterable[str] = ()) -> Posting:
        """How the form is used under the first of these FLB names that is among its postings.

        If none is, what its postings have in common.
        """
        named = next((self.postings[name] for name in flbs if name in self.postings), None)
        if named is not None or not self.postings:
            return named or Posting()
        every = self.postings.values()
        finished = {one.counts_finished for one in every}
        return Posting(
            bridges=any(one.bridges is not False for one in every),
            counts_finished=finished.pop() if len(finished) == 1 else None,
            counts_below=all(one.counts_below for one in every),
        )

    def sort_key(self, place: int) -> int:
        """Sort key of a record in a sorted list; v1 and v2 compare signed.

        place: domain << 16 | bdf.
        """
        return place - (1 << 32) if self.record.size == 4 and place >> 31 else place


def _family_a(name: str, header: Schema, record: Schema, summary: str, **more: Any) -> PciLayout:
    return PciLayout(name=name, family="A", header=header, record=record, summary=summary, **{"count": "count", **more})


def _with_buses(name: str, record: Schema, bus: Schema, summary: str) -> PciLayout:
    return _family_a(name, pci_ser_v1_19, record, summary, count="dev_count", bus=bus, bus_count="bus_count")


def _family_b(
    name: str, header: Schema, record: Schema, postings: Mapping[str, Posting], summary: str, **more: Any
) -> PciLayout:
    return PciLayout(name=name, family="B", header=header, record=record, postings=postings, summary=summary, **more)


_ENDPOINTS = Posting(bridges=False)
_COMPLETE = Posting(counts_below=True)

LAYOUTS: tuple[PciLayout, ...] = (
    _family_a("pci-lu-v2-06", pci_ser_v2_06, pci_dev_ser_v2_06, "v2 patches 06 to 10: flags, driver name"),
    _family_a("pci-lu-v2-03", pci_ser_v2_03, pci_dev_ser_v2_03, "v2 patches 03 to 05: flags"),
    _family_a("pci-lu-v1-04", pci_ser_v1_04, pci_dev_ser_v1_04, "v1 patches 04 to 06: requested"),
    _family_a("pci-lu-v1-07", pci_ser_v1_07, pci_dev_ser_v1_07, "v1 patches 07, 08: driver name at offset 5"),
    _family_a("pci-lu-v1-09", pci_ser_v1_09, pci_dev_ser_v1_09, "v1 patches 09 to 11: number of VFs"),
    _family_a("pci-lu-v1-12", pci_ser_v1_12, pci_dev_ser_v1_12, "v1 patch 12 on: packed, saved device state"),
    _family_a(
        "pci-lu-v1-resources", pci_ser_v1_12, pci_dev_ser_v1_res, "v1 resource patch without SR-IOV: 11 resources"
    ),
    _family_a(
        "pci-lu-v1-resources-iov", pci_ser_v1_12, pci_dev_ser_v1_res_iov, "v1 resource patch with SR-IOV: 17 resources"
    ),
    _with_buses("pci-lu-v1-19", pci_dev_ser_v1_12, pci_bus_ser_v1_19, "v1 patch 19 on: buses, no resources"),
    _with_buses("pci-lu-v1-19-resources", pci_dev_ser_v1_res, pci_bus_ser_v1_19, "v1 patch 19 on: buses, 11 resources"),
    _with_buses(
        "pci-lu-v1-19-resources-iov", pci_dev_ser_v1_res_iov, pci_bus_ser_v1_19, "v1 patch 19 on: buses, 17 resources"
    ),
    _with_buses("pci-lu-v1-22", pci_dev_ser_v1_res, pci_bus_ser_v1_22, "v1 patch 22 on: bus windows, 11 resources"),
    _with_buses(
        "pci-lu-v1-22-iov", pci_dev_ser_v1_res_iov, pci_bus_ser_v1_22, "v1 patch 22 on: bus windows, 17 resources"
    ),
    _family_b(
        "pci-version-2", pci_ser_b_version, pci_dev_ser_b_refcount, {"pci": _COMPLETE},
        "v8, v9 complete: version 2, KHO blocks, bridges too", version=2, blocks="devices",
    ),
    _family_b(
        "pci-version-1", pci_ser_b_version, pci_dev_ser_b_refcount, {"pci": Posting()},
        "v8, v9 first patches: version 1, KHO blocks, devices on root buses only", version=1, blocks="devices",
    ),
    _family_b(
        "pci-v2-block", pci_ser_b_block, pci_dev_ser_b_refcount, {"pci-v2": Posting(), "pci-v1": _ENDPOINTS},
        "v7 complete, and as pci-v1 its first patches: KHO blocks, refcounts", blocks="devices",
    ),
    _family_b(
        "pci-v1-block", pci_ser_b_block, pci_dev_ser_b_reserved, {"pci-v1": _ENDPOINTS},
        "v7 first patch: KHO blocks, padding in place of refcounts", blocks="devices",
    ),
    _family_b(
        "pci-v2-u32", pci_ser_b_u32, pci_dev_ser_b_refcount,
        {"pci-v2": Posting(bridges=None, counts_finished=None), "pci-v3": _COMPLETE},
        "v4 to v6 complete: u32 counts, refcounts, unsorted", capacity="max_nr_devices",
    ),
    _family_b(
        "pci-v1-u32", pci_ser_b_u32_reserved, pci_dev_ser_b_reserved, {"pci-v1": _ENDPOINTS, "pci-v2": _ENDPOINTS},
        "first patches of v4 to v6: u32 counts, no refcounts", capacity="max_nr_devices",
    ),
    _family_b(
        "pci-v2-u64", pci_ser_b_u64, pci_dev_ser_b_refcount, {"pci-v2": Posting(counts_finished=True)},
        "development branch of early 2026: u64 counts, refcounts, sorted",
        capacity="max_nr_devices", is_sorted=True,
    ),
    _family_b(
        "pci-v1-u64-wide", pci_ser_b_u64, pci_dev_ser_b_reserved, {"pci-v1": _ENDPOINTS},
        "v3: u64 counts, 32-bit domains, no refcounts, sorted",
        capacity="max_nr_devices", is_sorted=True,
    ),
    _family_b(
        "pci-v1-u64", pci_ser_b_v2, pci_dev_ser_b_4, {"pci-v1": _ENDPOINTS},
        "v2: u64 counts, 16-bit domains, sorted", capacity="max_nr_devices", is_sorted=True,
    ),
    _family_b(
        "pci-v1-nr", pci_ser_b_nr, pci_dev_ser_b_4, {"pci-v1": _ENDPOINTS},
        "v1: one u64 count, 16-bit domains, sorted", is_sorted=True, removes_finished=True,
    ),
)  # fmt: skip

_BY_NAME = {entry.name: entry for entry in LAYOUTS}
COUNTS = frozenset(name for entry in LAYOUTS for name in (entry.count, entry.bus_count) if name is not None)
"""Names of the header members with the number of records of devices or buses."""


def is_flb_name(name: str) -> bool:
    """Whether an FLB of that name points to a device list: `pci`, or `pci-` with a version."""
    return name.split("-")[0] == "pci"


def layout(name: str) -> PciLayout | None:
    """The layout of a device list of that name. None: unknown."""
    return _BY_NAME.get(name)
