# SPDX-License-Identifier: MIT
"""Rules on the device lists and the PCI topology of the machine: existence, bridges, drivers.

They judge lists, not pages, so also with a stale map.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from luoser.checks.model import Found, NotApplicable, NotLookedAt, Severity
from luoser.checks.pci import Listed, few, listed
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.state import Direction
from luoser.text import bdf_text, decode_name, safe_text

if TYPE_CHECKING:
    from luoser.topology import Address, Device, Topology

__all__: list[str] = []

_DRIVERS = frozenset({"vfio-pci", "pci-pf-stub", "idpf", "pcieport", "pci-lu-stub", "pci-lu-stub-pf"})
_A, _B, _ALL = "PCI/LUO (posted 2025)", "PCI core live update (posted, queued for 7.4)", "all posted forms"


class _Entry(NamedTuple):
    """A device in a list. device: in the topology. None: the topology does not have it."""

    of: Listed
    slot: int
    place: int
    device: Device | None


class _Machine:
    """The topology by addresses as in lists: the PCI domain has 16 bits in some forms."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._wide = {domain << 16 | bdf: device for (domain, bdf), device in topology.devices.items()}
        self._narrow: dict[int, list[Device]] = {}
        for (domain, bdf), device in sorted(topology.devices.items()):
            self._narrow.setdefault((domain & 0xFFFF) << 16 | bdf, []).append(device)
        self._above: dict[Address | None, tuple[Device, ...]] = {}

    def above(self, device: Device) -> tuple[Device, ...]:
        """The bridges above a device. Cached by parent."""
        found = self._above.get(device.parent)
        if found is None:
            found = self._above[device.parent] = self.topology.ancestors(device)
        return found

    def known_as(self, place: int) -> list[Device]:
        """The devices with an address whose PCI domain has 16 bits, that with the lowest domain first."""
        return self._narrow.get(place, [])

    def entries(self, entry: Listed) -> Iterator[_Entry]:
        devices = self._wide
        if _is_narrow(entry):
            devices = {place: found[0] for place, found in self._narrow.items()}
        for slot, place in entry.places():
            yield _Entry(entry, slot, place, devices.get(place))

    def known(self, entry: Listed) -> Iterator[tuple[_Entry, Device]]:
        """(entry, device) of the devices of a list that are in the topology."""
        for one in self.entries(entry):
            if one.device is not None:
                yield one, one.device


def _is_narrow(entry: Listed) -> bool:
    """Whether the PCI domain in its records has 16 bits."""
    return entry.form.is_narrow


def _place(device: Device, entry: Listed) -> int:
    """The address of a device as in a list."""
    return (device.domain & 0xFFFF if _is_narrow(entry) else device.domain) << 16 | device.bdf


def _machine(view: View, *needs: str) -> _Machine:
    """The topology. Raises NotLookedAt if there is none, or if it does not have some member for any device."""
    topology = view.pci_topology()
    for need in needs:
        if need in topology.unknown:
            raise NotLookedAt(f"{topology.unknown[need]}: not in the topology")
    return _Machine(topology)


def _asked(entry: Listed) -> list[int]:
    """For each record 1 if its device requested live update itself. Empty: unknown in this form."""
    return [int(value) & 1 for value in entry.column(entry.form.asked or "")]


def _requesters(machine: _Machine, entry: Listed) -> Iterator[tuple[_Entry, Device]]:
    """(entry, device) of each device that requested live update itself; if that is unknown, of each endpoint."""
    asked = _asked(entry)
    for one, device in machine.known(entry):
        if asked[one.slot] and device.is_bridge is not True if asked else device.is_bridge is False:
            yield one, device


@register("TOP001", "device-missing", Severity.ERROR, kernels=_ALL, source="pci.md#a-bug-9; pci.md#b2-version-2")
def device_missing(view: View) -> Iterator[Found]:
    """A preserved device is not in the machine.

    PCI/LUO drops such an entry silently: what the driver preserved is never freed, and its finish never called. The PCI
    core's FLB still counts the entry at the end, and panics.
    """
    machine = _machine(view)
    for entry in listed(view):
        moved = _moved(machine, entry)
        yield from few(
            one.of.found(
                one.slot,
                one.place,
                "not in the topology",
                hint="plug it in again before the kexec, or unpreserve its file",
            )
            for one in machine.entries(entry)
            if one.device is None and one.place not in moved
        )


@register("TOP002", "not-a-bridge", Severity.ERROR, kernels=_A, source="pci.md#a3-flags")
def not_a_bridge(view: View) -> Iterator[Found]:
    """LU_BUSMASTER_BRIDGE is set for a device that is not a bridge.

    The list is of another machine, or bus numbers changed: state is restored on the wrong device.
    """
    machine = _machine(view, "is_bridge")
    for entry in listed(view, family="A", member="flags"):
        flags = entry.column("flags")
        yield from few(
            one.of.found(
                one.slot,
                one.place,
                f"flags are {flags[one.slot]:#x}, of a bridge above a preserved device, but {_class(device)}",
                hint="compare the topology with that of the kernel that wrote the list: bus numbers may have changed",
            )
            for one, device in machine.known(entry)
            if flags[one.slot] & 2 and device.is_bridge is False
        )


def _class(device: Device) -> str:
    return f"its class is {device.class_code:#08x}" if device.class_code is not None else "it is not a bridge"


@register(
    "TOP003", "bridge-chain-incomplete", Severity.ERROR, kernels=_ALL, source="pci.md#a-bug-1; pci.md#b1-postings"
)
def bridge_chain(view: View) -> Iterator[Found]:
    """A bridge above a device that requested live update, up to the root port, is not in the list.

    PCI/LUO marks only the bridge right above. Bridges further up lose bus mastering in the next kernel, and the DMA of
    the device, which keeps working, stops.
    """
    machine = _machine(view, "parent", "is_bridge")
    lists = [entry for entry in listed(view) if _keeps_bridges(entry)]
    if not lists:
        raise NotApplicable("a list of the first postings of PCI core live update, which have only endpoints")
    if all(_may_lack_bridges(machine, entry) for entry in lists):
        raise NotApplicable("a list without bridges, as of the first patches of v6")
    later = _chains_of_outgoing(view, machine)
    found, open_ends = dict[tuple[str, tuple[str, ...]], Found](), 0
    for entry in lists:
        for key, item in _incomplete(machine, entry):
            if key not in later:
                found.setdefault(key, item)
        open_ends += sum(not machine.topology.reaches_root(device) for _, device in _requesters(machine, entry))
        if not _asked(entry):  # unknown which of these are endpoints
            open_ends += sum(device.is_bridge is None for _, device in machine.known(entry))
    yield from found.values()
    if open_ends:
        raise NotLookedAt(f"bridges above {open_ends} of the devices, not all of which are in the topology")


def _keeps_bridges(entry: Listed) -> bool:
    """Whether the list must include bridges, or that is unknown."""
    return entry.posting.bridges is not False


def _may_lack_bridges(machine: _Machine, entry: Listed) -> bool:
    """Whether a list without bridges may be of a patch before bridges, with the same form and name as later ones."""
    return entry.posting.bridges is None and not any(device.is_bridge for _, device in machine.known(entry))


def _incomplete(machine: _Machine, entry: Listed) -> Iterator[tuple[tuple[str, tuple[str, ...]], Found]]:
    places = {place for _, place in entry.places()}
    for one, device in _requesters(machine, entry):
        above = machine.above(device)
        missing = tuple(sorted(bridge.name for bridge in above if _place(bridge, entry) not in places))
        if missing:
            name = bdf_text(one.place >> 16, one.place & 0xFFFF)
            yield (
                (name, missing),
                entry.found(
                    one.slot,
                    one.place,
                    f"{', '.join(missing)} above it {'is' if len(missing) == 1 else 'are'} not in the list",
                    missing=missing,
                    hint="the kernel must preserve all bridges up to the root port; move the device right below a root "
                    "port, or unpreserve it",
                ),
            )


def _chains_of_outgoing(view: View, machine: _Machine) -> frozenset[tuple[str, tuple[str, ...]]]:
    """Keys of the findings on outgoing handovers, which are not repeated for the incoming one."""
    if view.handover.direction is not Direction.INCOMING:
        return frozenset()
    keys = set()
    for handover in view.state.handovers:
        if handover.direction is Direction.OUTGOING and handover.pci:
            other = View(state=view.state, handover=handover)
            keys |= {key for entry in listed(other) if _keeps_bridges(entry) for key, _ in _incomplete(machine, entry)}
    return frozenset(keys)


@register("TOP004", "parent-not-flagged", Severity.ERROR, kernels=_A, source="pci.md#a3-flags; pci.md#a-order-3")
def parent_not_flagged(view: View) -> Iterator[Found]:
    """The bridge right above a device that requested live update is in the list without LU_BUSMASTER_BRIDGE.

    It stops forwarding in the next kernel, and so the DMA of the device stops.
    """
    machine = _machine(view, "parent", "is_bridge")
    for entry in listed(view, family="A", member="flags"):
        flags = entry.column("flags")
        slots = {place: slot for slot, place in entry.places()}
        found: dict[int, Found] = {}
        for one, device in _requesters(machine, entry):
            above = machine.above(device)[:1]
            slot = slots.get(_place(above[0], entry)) if above else None
            if slot is not None and not flags[slot] & 2 and slot not in found:
                name = bdf_text(one.place >> 16, one.place & 0xFFFF)
                found[slot] = entry.found(
                    slot,
                    _place(above[0], entry),
                    f"flags are {flags[slot]:#x}, expected LU_BUSMASTER_BRIDGE (2): {name} below it requested it",
                    hint="the list was changed after it was written, or the device was hot-plugged meanwhile",
                )
        yield from few(found.values())


@register(
    "TOP005", "bridge-before-child", Severity.WARNING, kernels=_A, source="pci.md#a4-order-of-the-list; pci.md#a-bug-3"
)
def bridge_before_child(view: View) -> Iterator[Found]:
    """A bridge is before a device below it.

    No kernel writes this: the devices of a bus are added before its bridge. Cancel and freeze use the position, so each
    driver gets the data of another.
    """
    machine = _machine(view, "parent")
    for entry in listed(view, family="A"):
        slots = {place: slot for slot, place in entry.places()}
        yield from few(_before_child(machine, entry, slots))


def _before_child(machine: _Machine, entry: Listed, slots: dict[int, int]) -> Iterator[Found]:
    for one, device in machine.known(entry):
        for bridge in machine.above(device):
            slot = slots.get(_place(bridge, entry))
            if slot is not None and slot < one.slot:
                yield entry.found(
                    one.slot, one.place, f"entry {one.slot} is after entry {slot}, {bridge.name}, the bridge above it"
                )
                break


@register("TOP006", "bridge-without-child", Severity.WARNING, kernels=_A, source="pci.md#a-invariant-5")
def bridge_without_child(view: View) -> Iterator[Found]:
    """A bridge is in the list for a device below it, but no device below it is in the list.

    The flags are left over, or the device was lost from the list, and with it its state.
    """
    machine = _machine(view, "parent", "is_bridge")
    for entry in listed(view, family="A", member="flags"):
        flags = entry.column("flags")
        used = _bridges_in_use(machine, entry)
        yield from few(
            entry.found(one.slot, one.place, "LU_BUSMASTER_BRIDGE is set, but no device below it is in the list")
            for one, device in machine.known(entry)
            if flags[one.slot] & 2 and device.is_bridge and device.address not in used
        )


def _bridges_in_use(machine: _Machine, entry: Listed) -> set[tuple[int, int]]:
    """Addresses of the bridges with a device of the list somewhere below."""
    used: set[tuple[int, int]] = set()
    for _, device in machine.known(entry):
        for bridge in machine.above(device):
            if bridge.address in used:
                break
            used.add(bridge.address)
    return used


@register("TOP007", "driver-unknown", Severity.INFO, kernels=_ALL, source="pci.md#a5-lifecycle")
def driver_unknown(view: View) -> Iterator[Found]:
    """The driver of a preserved device is not known to be able to live update.

    A driver without live-update callbacks makes prepare fail. So the kernel was changed; --drivers adds drivers.
    """
    machine = _machine(view, "driver")
    first: dict[str, _Entry] = {}
    for entry in listed(view):
        for one, device in machine.known(entry):
            if device.driver and device.driver not in _DRIVERS | view.drivers:
                first.setdefault(device.driver, one)
    yield from few(
        one.of.found(
            one.slot,
            one.place,
            f"its driver {safe_text(driver)} is not known to be able to live update",
            hint=f"if it is able, give it with --drivers {safe_text(driver)}",
        )
        for driver, one in first.items()
    )


@register(
    "TOP008", "device-without-driver", Severity.WARNING, kernels=_ALL, source="pci.md#a5-lifecycle; pci.md#a-bug-4"
)
def device_without_driver(view: View) -> Iterator[Found]:
    """A preserved device has no driver. With PCI core live update only endpoints need one.

    The driver was unbound after prepare. PCI/LUO then panics at freeze, at cancel or at finish. With the PCI core the
    driver must be vfio-pci.
    """
    machine = _machine(view, "driver")
    view.need_unconsumed()  # a kernel that has just booted may bind it later
    for entry in listed(view):
        needed = entry.form.family == "A"
        yield from few(
            entry.found(one.slot, one.place, "no driver is bound to it", hint="bind the driver that preserved it")
            for one, device in machine.known(entry)
            if device.driver == "" and (needed or device.is_bridge is False)
        )


@register("TOP009", "driver-changed", Severity.WARNING, kernels=_A, source="pci.md#a-bug-6; pci.md#a5-lifecycle")
def driver_changed(view: View) -> Iterator[Found]:
    """A device has another driver than in the list.

    Freeze does not check whether the new driver has callbacks: without them it calls a null pointer. The next kernel
    binds the device only to the driver in the list.
    """
    machine = _machine(view, "driver")
    for entry in listed(view, member="driver_name"):
        names = entry.column("driver_name")
        yield from few(
            entry.found(
                one.slot,
                one.place,
                f"its driver is {safe_text(device.driver)}, expected {safe_text(name)} as in the list",
                hint="bind it to the driver in the list before the kexec",
            )
            for one, device in machine.known(entry)
            if device.driver and (name := decode_name(names[one.slot])) != device.driver
        )


@register(
    "TOP010",
    "bus-number-moved",
    Severity.ERROR,
    kernels=_ALL,
    source="pci.md#a-bug-9; pci.md#a-bug-10; pci.md#b4-relation-to-vfio-pci",
)
def bus_number_moved(view: View) -> Iterator[Found]:
    """A device of the list is missing, and there is one in the same slot on another bus, below a bridge of the list
    whose child is missing.

    Only bus numbers identify devices: the entry is dropped, or another device gets the state.
    """
    machine = _machine(view, "parent")
    for entry in listed(view):
        moved = _moved(machine, entry)
        yield from few(
            entry.found(
                slot,
                place,
                f"bus number changed: it is probably {moved[place].name} now",
                hint="keep bus numbers unchanged: no pci=assign-busses, no hot-plug between preserving and kexec",
            )
            for slot, place in entry.places()
            if place in moved
        )


def _moved(machine: _Machine, entry: Listed) -> dict[int, Device]:
    """For addresses in the list without a device, the only device that it can be now."""
    topology = machine.topology
    if "parent" in topology.unknown:
        return {}
    used = _bridges_in_use(machine, entry)
    orphans: dict[tuple[int, int], list[Device]] = {}
    for one, bridge in machine.known(entry):
        if bridge.is_bridge and bridge.address not in used:
            for child in topology.children(bridge):
                orphans.setdefault((one.place >> 16, child.bdf & 0xFF), []).append(child)
    wanted: dict[tuple[int, int], list[int]] = {}
    for one in machine.entries(entry) if orphans else ():
        place = one.place >> 16, one.place & 0xFF
        if one.device is None and place in orphans:
            wanted.setdefault(place, []).append(one.place)
    return {at[0]: orphans[place][0] for place, at in wanted.items() if len(at) == len(orphans[place]) == 1}


@register("TOP011", "bus-master-off", Severity.WARNING, kernels=_ALL, source="pci.md#a5-lifecycle")
def bus_master_off(view: View) -> Iterator[Found]:
    """Bus mastering of a preserved device or bridge is off.

    The device does not do DMA. The next kernel warns, and ignores later requests to enable it.
    """
    machine = _machine(view, "busmaster")
    for entry in listed(view):
        yield from few(
            entry.found(one.slot, one.place, "bus mastering is off in its command register")
            for one, device in machine.known(entry)
            if device.busmaster is False
        )


@register(
    "TOP012", "vf-without-pf", Severity.ERROR, kernels=_ALL, source="pci.md#a2-rfc-v1-structs; pci.md#b2-version-2"
)
def vf_without_pf(view: View) -> Iterator[Found]:
    """A virtual function is in the list, but not its physical function.

    The next kernel resets the physical function, which removes the virtual ones: the entry is dropped. PCI core live
    update refuses all virtual functions.
    """
    machine = _machine(view, "is_vf")
    for entry in listed(view):
        places = {place for _, place in entry.places()}
        yield from few(
            entry.found(
                one.slot,
                one.place,
                f"virtual function of {bdf_text(*device.physfn)}, which is not in the list",
                missing=(bdf_text(*device.physfn),),
                hint="preserve the physical function, too, with a driver that keeps its virtual functions",
            )
            for one, device in machine.known(entry)
            if device.physfn is not None and (device.physfn[0] & 0xFFFF) << 16 | device.physfn[1] not in places
            and device.physfn[0] << 16 | device.physfn[1] not in places
        )  # fmt: skip


@register(
    "TOP013",
    "domain-alias",
    Severity.ERROR,
    kernels=_ALL,
    source="pci.md#common-arithmetic; pci.md#a-bug-10; pci.md#b3-older-layouts",
)
def domain_alias(view: View) -> Iterator[Found]:
    """Two devices have the same address in a list whose PCI domains have 16 bits: VMD domains start at 0x10000.

    The next kernel gives the state to the first of them.
    """
    machine = _machine(view)
    narrow = [entry for entry in listed(view) if _is_narrow(entry)]
    if not narrow:
        raise NotApplicable("PCI domains have 32 bits in all device lists")
    for entry in narrow:
        yield from few(
            entry.found(
                slot,
                place,
                f"ambiguous: {' or '.join(device.name for device in devices)}; PCI domains have 16 bits in this list",
                hint="use a kernel with 32-bit PCI domains in its list",
            )
            for slot, place in entry.places()
            if len(devices := machine.known_as(place)) > 1
        )


@register("TOP014", "refcount-mismatch", Severity.WARNING, kernels=_B, source="pci.md#b1-postings; pci.md#b2-version-2")
def refcounts(view: View) -> Iterator[Found]:
    """A refcount is not the number of preserved devices at or below the entry, which is 1 for an endpoint.

    Finish decrements it on the path of each device. If it is too high, the FLB's finish panics. If it is too low, a
    bridge is dropped that others still need.
    """
    machine = _machine(view, "parent", "is_bridge")
    for entry in listed(view, member="refcount"):
        yield from few(_miscounted(machine, entry))


def _miscounted(machine: _Machine, entry: Listed) -> Iterator[Found]:
    below: dict[tuple[int, int], int] = {}
    for _, device in machine.known(entry):
        for bridge in machine.above(device) if device.is_bridge is False else ():
            below[bridge.address] = below.get(bridge.address, 0) + 1
    counts = entry.column("refcount")
    least = 0 if entry.posting.counts_below else 1  # in other postings a bridge may always have 1
    for one, device in machine.known(entry):
        children = below.get(device.address, 0)
        expected = {children, children + 1, least} - {0} if device.is_bridge else {1}
        if counts[one.slot] and device.is_bridge is not None and counts[one.slot] not in expected:
            word = " or ".join(map(str, sorted(expected)))
            yield entry.found(one.slot, one.place, f"refcount is {counts[one.slot]}, expected {word}")


@register("TOP015", "num-vfs-mismatch", Severity.WARNING, kernels=_A, source="pci.md#a2-rfc-v1-structs")
def num_vfs(view: View) -> Iterator[Found]:
    """The number of virtual functions of a physical function is not that in the list.

    The next kernel creates as many as in the list, and drops the entries of others.
    """
    machine = _machine(view, "is_vf")
    vfs: dict[tuple[int, int], int] = {}
    for device in machine.topology.devices.values():
        if device.physfn is not None:
            vfs[device.physfn] = vfs.get(device.physfn, 0) + 1
    for entry in listed(view, member="num_vfs"):
        said = entry.column("num_vfs")
        yield from few(
            entry.found(one.slot, one.place, f"num_vfs is {said[one.slot]}, expected {count} as in the topology")
            for one, device in machine.known(entry)
            if (count := vfs.get(device.address, 0)) != said[one.slot]
        )
