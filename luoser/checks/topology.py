# SPDX-License-Identifier: MIT
"""Rules on the machine: do the preserved devices exist, and is everything above them preserved, too?

They judge lists, not pages: a list that is still there is judged under a stale map as well.
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
    """A listed device. device: what the topology says of it, None where it has no such device."""

    of: Listed
    slot: int
    place: int
    device: Device | None


class _Machine:
    """The topology as a list can name it: the domain of some forms has 16 bits."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._wide = {domain << 16 | bdf: device for (domain, bdf), device in topology.devices.items()}
        self._narrow: dict[int, list[Device]] = {}
        for (domain, bdf), device in sorted(topology.devices.items()):
            self._narrow.setdefault((domain & 0xFFFF) << 16 | bdf, []).append(device)
        self._above: dict[Address | None, tuple[Device, ...]] = {}

    def above(self, device: Device) -> tuple[Device, ...]:
        """The bridges above a device, walked once for all that are on one bus."""
        found = self._above.get(device.parent)
        if found is None:
            found = self._above[device.parent] = self.topology.ancestors(device)
        return found

    def known_as(self, place: int) -> list[Device]:
        """The devices that an address with 16 bits for the domain stands for, the one with a short domain first."""
        return self._narrow.get(place, [])

    def entries(self, entry: Listed) -> Iterator[_Entry]:
        devices = self._wide
        if _is_narrow(entry):
            devices = {place: found[0] for place, found in self._narrow.items()}
        for slot, place in entry.places():
            yield _Entry(entry, slot, place, devices.get(place))

    def known(self, entry: Listed) -> Iterator[tuple[_Entry, Device]]:
        """Only what the topology has."""
        for one in self.entries(entry):
            if one.device is not None:
                yield one, one.device


def _is_narrow(entry: Listed) -> bool:
    """Whether its records have 16 bits for the PCI domain."""
    return entry.form.is_narrow


def _place(device: Device, entry: Listed) -> int:
    """The address of a device as a list would say it."""
    return (device.domain & 0xFFFF if _is_narrow(entry) else device.domain) << 16 | device.bdf


def _machine(view: View, *needs: str) -> _Machine:
    """Raises NotLookedAt without a topology, or when it does not say something of any device."""
    topology = view.pci_topology()
    for need in needs:
        if need in topology.unknown:
            raise NotLookedAt(f"{topology.unknown[need]}: the topology does not say")
    return _Machine(topology)


def _asked(entry: Listed) -> list[int]:
    """For each record whether its device asked for live update itself; [] where the form does not say."""
    return [int(value) & 1 for value in entry.column(entry.form.asked or "")]


def _requesters(machine: _Machine, entry: Listed) -> Iterator[tuple[_Entry, Device]]:
    """Endpoints that are there for themselves."""
    asked = _asked(entry)
    for one, device in machine.known(entry):
        if asked[one.slot] and device.is_bridge is not True if asked else device.is_bridge is False:
            yield one, device


@register("TOP001", "device-missing", Severity.ERROR, kernels=_ALL, source="pci.md#a-bug-9; pci.md#b2-version-2")
def device_missing(view: View) -> Iterator[Found]:
    """A preserved device is not in the machine.

    PCI/LUO drops such an entry without a word: what the driver preserved is never freed, and its finish never
    called. The PCI core's FLB counts the entry until the end, and panics because one is left.
    """
    machine = _machine(view)
    for entry in listed(view):
        moved = _moved(machine, entry)
        yield from few(
            one.of.found(
                one.slot,
                one.place,
                "the topology has no such device",
                hint="plug it in again before the kexec, or un-preserve what holds it",
            )
            for one in machine.entries(entry)
            if one.device is None and one.place not in moved
        )


@register("TOP002", "not-a-bridge", Severity.ERROR, kernels=_A, source="pci.md#a3-flags")
def not_a_bridge(view: View) -> Iterator[Found]:
    """LU_BUSMASTER_BRIDGE is set on a device that is no bridge.

    The list belongs to other hardware, or bus numbers moved: state goes to the wrong device.
    """
    machine = _machine(view, "is_bridge")
    for entry in listed(view, family="A", member="flags"):
        flags = entry.column("flags")
        yield from few(
            one.of.found(
                one.slot,
                one.place,
                f"flags {flags[one.slot]:#x} say that it is a bridge above a preserved device; {_class(device)}",
                hint="compare the topology with the kernel that wrote the list: bus numbers may have moved",
            )
            for one, device in machine.known(entry)
            if flags[one.slot] & 2 and device.is_bridge is False
        )


def _class(device: Device) -> str:
    return f"its class is {device.class_code:#08x}" if device.class_code is not None else "it is none"


@register(
    "TOP003", "bridge-chain-incomplete", Severity.ERROR, kernels=_ALL, source="pci.md#a-bug-1; pci.md#b1-postings"
)
def bridge_chain(view: View) -> Iterator[Found]:
    """A device that asked for live update has bridges above it, up to the root port, that are not in the list.

    PCI/LUO marks only the bridge right above. The ones further up lose bus mastering in the next kernel, and the
    DMA of a device that goes on working stops in the middle.
    """
    machine = _machine(view, "parent", "is_bridge")
    lists = [entry for entry in listed(view) if _keeps_bridges(entry)]
    if not lists:
        raise NotApplicable("a list of the first postings of PCI core live update, which have endpoints only")
    if all(_may_lack_bridges(machine, entry) for entry in lists):
        raise NotApplicable("a list without a single bridge, as the first patches of v6 write it")
    later = _chains_of_outgoing(view, machine)
    found, open_ends = dict[tuple[str, tuple[str, ...]], Found](), 0
    for entry in lists:
        for key, item in _incomplete(machine, entry):
            if key not in later:
                found.setdefault(key, item)
        open_ends += sum(not machine.topology.reaches_root(device) for _, device in _requesters(machine, entry))
        if not _asked(entry):  # nobody says which of these are endpoints
            open_ends += sum(device.is_bridge is None for _, device in machine.known(entry))
    yield from found.values()
    if open_ends:
        raise NotLookedAt(f"all bridges above {open_ends} of the devices: the topology does not say")


def _keeps_bridges(entry: Listed) -> bool:
    """Whether bridges are to be in a list, as far as it is known."""
    return entry.posting.bridges is not False


def _may_lack_bridges(machine: _Machine, entry: Listed) -> bool:
    """Whether a list without any bridge may be of a patch that had none yet, with the form and name of later ones."""
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
                    hint="the kernel has to preserve every bridge up to the root port; move the device below a root "
                    "port, or un-preserve it",
                ),
            )


def _chains_of_outgoing(view: View, machine: _Machine) -> frozenset[tuple[str, tuple[str, ...]]]:
    """What is told of the handover that is yet to come need not be told of the one that is over."""
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
    """The bridge right above a device that asked is in the list without LU_BUSMASTER_BRIDGE.

    It does not go on forwarding in the next kernel, and the DMA of the device stops.
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
                    f"flags {flags[slot]:#x}, expected LU_BUSMASTER_BRIDGE (2): {name} below it asked",
                    hint="the list was changed after it was written, or the device hot-plugged while it was",
                )
        yield from few(found.values())


@register(
    "TOP005", "bridge-before-child", Severity.WARNING, kernels=_A, source="pci.md#a4-order-of-the-list; pci.md#a-bug-3"
)
def bridge_before_child(view: View) -> Iterator[Found]:
    """A bridge stands before a device below it.

    No kernel writes that: buses are left before their bridge is. Cancel and freeze go by position, so each driver
    gets the data of another.
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
                    one.slot, one.place, f"entry {one.slot} stands behind {bridge.name} above it, entry {slot}"
                )
                break


@register("TOP006", "bridge-without-child", Severity.WARNING, kernels=_A, source="pci.md#a-invariant-5")
def bridge_without_child(view: View) -> Iterator[Found]:
    """A bridge is in the list for a device below it, but no device below it is.

    Flags were left over, or the device got lost from the list: then its state is lost as well.
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
    """Bridges with a listed device somewhere below."""
    used: set[tuple[int, int]] = set()
    for _, device in machine.known(entry):
        for bridge in machine.above(device):
            if bridge.address in used:
                break
            used.add(bridge.address)
    return used


@register("TOP007", "driver-unknown", Severity.INFO, kernels=_ALL, source="pci.md#a5-lifecycle")
def driver_unknown(view: View) -> Iterator[Found]:
    """A preserved device is bound to a driver that is not known to take part in live update.

    A driver without live-update callbacks makes prepare fail, so this takes a changed kernel; --drivers names more.
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
            f"its driver {safe_text(driver)} is not known to take part in live update",
            hint=f"if it does, say so with --drivers {safe_text(driver)}",
        )
        for driver, one in first.items()
    )


@register(
    "TOP008", "device-without-driver", Severity.WARNING, kernels=_ALL, source="pci.md#a5-lifecycle; pci.md#a-bug-4"
)
def device_without_driver(view: View) -> Iterator[Found]:
    """A preserved device has no driver; of PCI core live update, only endpoints need one.

    A driver that was unbound after prepare: PCI/LUO panics at freeze, at cancel or at finish. Of the PCI core,
    vfio-pci has to hold the device.
    """
    machine = _machine(view, "driver")
    view.need_unconsumed()  # a kernel that has just booted may not have bound it yet
    for entry in listed(view):
        needed = entry.form.family == "A"
        yield from few(
            entry.found(one.slot, one.place, "no driver is bound to it", hint="bind the driver that preserved it")
            for one, device in machine.known(entry)
            if device.driver == "" and (needed or device.is_bridge is False)
        )


@register("TOP009", "driver-changed", Severity.WARNING, kernels=_A, source="pci.md#a-bug-6; pci.md#a5-lifecycle")
def driver_changed(view: View) -> Iterator[Found]:
    """A device is bound to another driver than the list says.

    Freeze does not look whether the new driver has callbacks: without them it goes through a null pointer. The next
    kernel binds the device to the driver of the list only.
    """
    machine = _machine(view, "driver")
    for entry in listed(view, member="driver_name"):
        names = entry.column("driver_name")
        yield from few(
            entry.found(
                one.slot,
                one.place,
                f"the list says driver {safe_text(name)}, bound is {safe_text(device.driver)}",
                hint="bind it to the driver of the list again before the kexec",
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
    """A listed device is gone, and below a listed bridge that has lost its child the same slot is there on another bus.

    Devices are known by bus number only: the entry is dropped, or a stranger inherits the state.
    """
    machine = _machine(view, "parent")
    for entry in listed(view):
        moved = _moved(machine, entry)
        yield from few(
            entry.found(
                slot,
                place,
                f"there is {moved[place].name} in its place: the bus number has moved",
                hint="keep the bus numbers: no pci=assign-busses, and no hot-plug between preserving and kexec",
            )
            for slot, place in entry.places()
            if place in moved
        )


def _moved(machine: _Machine, entry: Listed) -> dict[int, Device]:
    """Listed addresses without a device, and the only device that can be meant."""
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
    """Bus mastering of a preserved device or bridge is switched off.

    The device does no DMA. The next kernel warns, and ignores whoever wants to switch it on later.
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
    """A virtual function is in the list, its physical function is not.

    The next kernel resets the physical function, and the virtual ones are gone: the entry is dropped. PCI core live
    update refuses virtual functions altogether.
    """
    machine = _machine(view, "is_vf")
    for entry in listed(view):
        places = {place for _, place in entry.places()}
        yield from few(
            entry.found(
                one.slot,
                one.place,
                f"it is a virtual function of {bdf_text(*device.physfn)}, which is not in the list",
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
    """Two devices of the machine look alike to a list with 16 bits for the PCI domain: VMD domains start at 0x10000.

    The next kernel gives the state to whichever it meets first.
    """
    machine = _machine(view)
    narrow = [entry for entry in listed(view) if _is_narrow(entry)]
    if not narrow:
        raise NotApplicable("every device list has 32 bits for the PCI domain")
    for entry in narrow:
        yield from few(
            entry.found(
                slot,
                place,
                f"means {' as well as '.join(device.name for device in devices)}: the list has 16 bits for the domain",
                hint="a kernel with 32-bit domains in its list tells them apart",
            )
            for slot, place in entry.places()
            if len(devices := machine.known_as(place)) > 1
        )


@register("TOP014", "refcount-mismatch", Severity.WARNING, kernels=_B, source="pci.md#b1-postings; pci.md#b2-version-2")
def refcounts(view: View) -> Iterator[Found]:
    """A refcount is not the number of preserved devices at and below the entry: 1 for an endpoint.

    Finish counts down the path of every device. What is left over makes the FLB's finish panic, what is missing
    forgets a bridge that others still need.
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
    least = 0 if entry.posting.counts_below else 1  # elsewhere a bridge may have 1, whatever is below it
    for one, device in machine.known(entry):
        children = below.get(device.address, 0)
        expected = {children, children + 1, least} - {0} if device.is_bridge else {1}
        if counts[one.slot] and device.is_bridge is not None and counts[one.slot] not in expected:
            word = " or ".join(map(str, sorted(expected)))
            yield entry.found(one.slot, one.place, f"refcount is {counts[one.slot]}, expected {word}")


@register("TOP015", "num-vfs-mismatch", Severity.WARNING, kernels=_A, source="pci.md#a2-rfc-v1-structs")
def num_vfs(view: View) -> Iterator[Found]:
    """A physical function has another number of virtual functions than the list says.

    The next kernel makes as many as the list says: entries of the others are dropped.
    """
    machine = _machine(view, "is_vf")
    vfs: dict[tuple[int, int], int] = {}
    for device in machine.topology.devices.values():
        if device.physfn is not None:
            vfs[device.physfn] = vfs.get(device.physfn, 0) + 1
    for entry in listed(view, member="num_vfs"):
        said = entry.column("num_vfs")
        yield from few(
            entry.found(one.slot, one.place, f"num_vfs is {said[one.slot]}, the topology has {count}")
            for one, device in machine.known(entry)
            if (count := vfs.get(device.address, 0)) != said[one.slot]
        )
