# SPDX-License-Identifier: MIT
"""Rules on the preserved map: its structure, and that all structures of the handover are in it, each once."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice, pairwise

from luoser.abi.kho import SCRATCH_UNIT, root_form
from luoser.abi.luo import form as luo_form
from luoser.abi.luo import is_test_flb
from luoser.abi.memfd import PFN_BITS, form_of_handler
from luoser.abi.pci import is_flb_name
from luoser.abi.pci import layout as pci_layout
from luoser.abi.registry import layouts
from luoser.abi.vmalloc import KNOWN_FLAGS, kho_vmalloc
from luoser.bits import bit_runs
from luoser.checks.memfd import unread_memfd
from luoser.checks.model import Found, NotApplicable, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.ranges import merged
from luoser.state import Array, Handover, MapStatus, Memfd, PreservedMap, Problem
from luoser.state.trees import tree_addresses
from luoser.text import human_size, safe_text

__all__ = ["named_memory", "self_test_chunk"]

_MOST = 32
"""At most so many findings of one rule on one handover; the last one reports how many more there are."""
_OWNERS = ("memfd", "hugetlb", "guest", "iommu", "vfio", "other")
_LIMIT, _ANY_ORDER = 1 << 52, 52
_SUBTREE = re.compile(r"subtrees\[\d+\]")
"""The path of a sub-tree itself, which rules of KHO judge."""
_WILD = "do not kexec: find what overwrote the pointer"
_GARBAGE = "do not kexec: find what overwrote the map or freed its pages"
_BROKEN_NODE = "do not kexec: find what overwrote this page of the map"


def _capped(found: Iterable[Found]) -> Iterator[Found]:
    """The first findings, then one that reports the number of others."""
    rest = iter(found)
    yield from islice(rest, _MOST)
    more = sum(1 for _ in rest)
    if more:
        yield Found(f"{_MOST} shown, {more} further ones omitted")


def _to_come(view: View) -> PreservedMap:
    """The whole map of a handover that a next kernel will read. Raises NotApplicable or NotJudged."""
    view.need_unconsumed()
    return view.map()


def _is_page(view: View, address: int) -> bool:
    return 0 < address < _LIMIT and address % view.page_size == 0


# -- the map itself ---------------------------------------------------------------------------------------


@register(
    "MAP001",
    "map-node-broken",
    Severity.ERROR,
    kernels="6.16 and later",
    source="preserved.md#chunks-of-bitmaps; preserved.md#radix-tree; kho.md#invariants",
)
def chain(view: View) -> Iterator[Found]:
    """A node below the first page of the map is impossible, or points to something that is not a page, or to itself.

    The next kernel walks the map early in boot: the walk never ends, accesses missing memory, or reserves other memory
    than was preserved.
    """
    view.need_unconsumed()
    found = view.known_map()
    yield from _capped(
        Found(problem.message, address=problem.address, where="preserved", hint=_BROKEN_NODE)
        for problem in view.problems("map-node-broken", about="preserved")
    )
    view.need_whole(found)


@register(
    "MAP002",
    "map-garbage",
    Severity.ERROR,
    kernels="6.16 and later",
    source="kho.md#what-the-next-kernel-verifies; preserved.md#the-preserved-map",
)
def garbage(view: View) -> Iterator[Found]:
    """The root's pointer to the map is that of a page which is not a node of a map.

    The next kernel reserves memory by these bytes: everything that is preserved is lost and overwritten.
    """
    view.need_unconsumed()
    view.known_map()
    for problem in view.problems("map-garbage", about="preserved"):
        yield Found(problem.message, address=problem.address, where="preserved", hint=_GARBAGE)


@register(
    "MAP005",
    "ranges-overlap",
    Severity.ERROR,
    kernels="6.16 and later",
    source="preserved.md#chunks-of-bitmaps; preserved.md#radix-tree; kho.md#invariants",
)
def overlap(view: View) -> Iterator[Found]:
    """Two preserved blocks of different orders share memory.

    The next kernel gives the memory to two owners, or restores it with a wrong order: its contents are corrupted.
    """
    found = view.known_map()
    both = found.overlap()
    if both is not None:
        small, large = both
        yield Found(
            f"block {small.address:#x} of order {small.order} is in block {large.address:#x} of order {large.order}",
            address=small.address,
            where="preserved",
            hint="find a page that was preserved twice, or unpreserved with another order",
        )
    view.need_whole(found)


@register(
    "MAP006",
    "preserved-in-scratch",
    Severity.ERROR,
    kernels="6.16 and later",
    source="scratch.md#invariants; kho.md#invariants",
)
def in_scratch(view: View) -> Iterator[Found]:
    """A preserved block is in a scratch area.

    The next kernel boots in scratch and gives it to CMA: the block is overwritten. Since 6.17.9 and 6.18 kernels warn,
    and refuse to preserve it.
    """
    found = view.known_map()
    for area in view.scratch():
        block = found.first_within(area.address, area.address + area.size) if area.size else None
        if block is not None:
            yield Found(
                f"preserved block {block.address:#x} of order {block.order} is in the scratch area "
                f"{area.address:#x}-{area.address + area.size:#x}",
                address=block.address,
                where="preserved",
                hint="memory to preserve must not be allocated from CMA or scratch",
            )
    view.need_whole(found)


@register("MAP007", "preserved-outside-ram", Severity.ERROR, kernels="6.16 and later", source="preserved.md#radix-tree")
def outside_ram(view: View) -> Iterator[Found]:
    """A preserved block is outside the RAM of the machine.

    The next kernel reserves and later restores pages that do not exist.
    """
    found = view.known_map()
    blocks = (found.first_within(start, end) for start, end in _beyond(view))
    block = next(filter(None, blocks), None)
    if block is not None:
        yield Found(
            f"preserved block {block.address:#x} of order {block.order} is not in RAM",
            address=block.address,
            where="preserved",
            hint="find what overwrote the map; hot-unplugged memory cannot be preserved",
        )
    view.need_whole(found)


def _beyond(view: View) -> Iterator[tuple[int, int]]:
    """[start, end) ranges of physical addresses outside RAM. Raises NotLookedAt."""
    last = 0
    for start, end in sorted(view.known_ram()):
        if last < start:
            yield last, start
        last = max(last, end)
    yield last, 1 << 64


@register(
    "MAP008",
    "map-covers-own-node",
    Severity.WARNING,
    kernels="6.16 and later",
    source="preserved.md#chunks-of-bitmaps; preserved.md#radix-tree",
)
def own_nodes(view: View) -> Iterator[Found]:
    """The map preserves one of its own pages.

    Kernels never do that. The page stays reserved forever in the next kernel, or the map is damaged.
    """
    found = view.known_map()
    node = next((node for node in view.handover.preserved.nodes if found.find(node) is not None), None)
    if node is not None:
        yield Found(
            f"the map preserves its own page {node:#x}",
            address=node,
            where="preserved",
            hint="find what set this bit of the map",
        )
    view.need_whole(found)


@register("MAP017", "map-order-overflow", Severity.ERROR, kernels="6.16 to 7.1", source="preserved.md#restoring-a-page")
def order_overflow(view: View) -> Iterator[Found]:
    """A preserved block has order 19 or more in kho-v1 or kho-v3.

    Kernels up to 7.1 shift the size of a block in 32 bits: they reserve and restore another size.
    """
    found = view.known_map()
    form = root_form(view.handover.compatible)
    if form is None or form.orders is None:
        raise NotApplicable("only kernels with kho-v1 and kho-v3 shift the size of a block in 32 bits")
    for address, order, count in islice(found.extents(above=form.orders - 1), 1):
        yield Found(
            f"{count} blocks of order {order} from {address:#x} on: expected orders below {form.orders} for kernels up "
            "to 7.1",
            address=address,
            where="preserved",
            hint="preserve the memory in smaller blocks",
        )
    view.need_whole(found)


@register(
    "MAP019",
    "map-node-in-scratch",
    Severity.ERROR,
    kernels="6.16 and later",
    source="scratch.md#invariants; preserved.md#invariants",
)
def nodes_in_scratch(view: View) -> Iterator[Found]:
    """A page of the map is in a scratch area.

    The next kernel boots in scratch before it reads the map: the page is overwritten, and what it preserves is lost.
    Fixed in the kernel by e38f65d317df and a2fff99f92da.
    """
    areas = view.scratch()
    preserved = view.handover.preserved
    if preserved.status is MapStatus.ABSENT:
        raise NotApplicable("the root has no map yet")
    nodes = preserved.nodes or (preserved.address,)
    found = [node for node in nodes for area in areas if area.address <= node < area.address + area.size]
    if found:
        yield Found(
            f"{len(found)} pages of the map are in scratch, the first at {found[0]:#x}",
            address=found[0],
            where="preserved",
            hint="do not kexec; use a kernel with the fixes e38f65d317df and a2fff99f92da",
        )


# -- what must be in it -----------------------------------------------------------------------------------


def _absent(what: str, address: int, where: str, effect: str) -> Found:
    return Found(
        f"{what} at {address:#x} is not preserved",
        address=address,
        where=where,
        hint=f"{effect}; find what freed this memory, or cleared its bit in the map",
    )


def _misplaced(found: PreservedMap, address: int, size: int) -> str | None:
    """What is wrong with the block at an address, in words. None: it starts there and has at least `size` bytes."""
    order = found.head(address)
    if order is None:
        block = found.find(address)
        return None if block is None else f"inside the block at {block.address:#x}, not at its start"
    room = found.page_size << order
    return f"in a block of {human_size(room)}, expected {human_size(size)}" if room < size else None


def _as_block(found: PreservedMap, what: str, address: int, size: int, where: str, effect: str) -> Iterator[Found]:
    """A finding if memory is not preserved as one block."""
    if found.find(address) is None:
        yield _absent(what, address, where, effect)
        return
    fault = _misplaced(found, address, size)
    if fault:
        hint = f"{effect}; find what changed its order in the map"
        yield Found(f"{what} at {address:#x} is preserved {fault}", address=address, where=where, hint=hint)


@register("MAP003", "root-not-preserved", Severity.ERROR, kernels="6.16 and later", source="kho.md#invariants")
def root(view: View) -> Iterator[Found]:
    """The page of the root is not in the root's own map.

    The next kernel frees the page: all sub-trees are lost if it is used again before they are looked up.
    """
    address = view.handover.address
    if address is None:
        raise NotApplicable("the root has no address")
    if not view.map().covers(address, 1):
        yield _absent("the root", address, "root", "all sub-trees are lost")


@register(
    "MAP004",
    "subtree-not-preserved",
    Severity.ERROR,
    kernels="6.16 and later",
    source="kho.md#invariants; luo.md#invariants",
)
def subtrees(view: View) -> Iterator[Found]:
    """A sub-tree is not in the map from its first to its last byte.

    The next kernel reuses the memory before the owner reads it. LUO panics if its own sub-tree cannot be read.
    """
    found = view.map()
    for index, subtree in enumerate(view.handover.subtrees):
        if subtree.address is None:
            continue
        gap = found.gap(subtree.address, min(subtree.address + max(subtree.size or 1, 1), 1 << 64))
        if gap is not None:
            what = f"sub-tree {safe_text(subtree.name)} from {subtree.address:#x}, byte"
            yield _absent(what, gap, f"subtrees[{index}]", "its owner's state is lost")


@register(
    "MAP009",
    "vmalloc-not-preserved",
    Severity.ERROR,
    kernels="6.18 and later",
    source="vmalloc.md#invariants; kho.md#invariants",
)
def vmalloc(view: View) -> Iterator[Found]:
    """A chunk or block of a preserved vmalloc area is not in the map as a block of its order.

    The area cannot be restored: the file whose folios it lists is lost.
    """
    yield from _capped(_vmalloc(view, _to_come(view)))
    if view.handover.kho_test is None:
        _need_folio_lists(view)


def _vmalloc(view: View, found: PreservedMap) -> Iterator[Found]:
    for where, what, array in _arrays(view):
        for address, size, word in _array_blocks(array, view.page_size):
            yield from _as_block(found, f"{what}, {word}", address, size, where, "the array is lost")
    for where, session, file in view.files():
        folios = file.memfd.folios if file.memfd is not None else None
        if folios is None or not folios.chunks or folios.order > 52:
            continue
        if folios.flags & ~KNOWN_FLAGS or folios.total_pages % (1 << folios.order):
            continue  # the descriptor is wrong, so the expected size is unknown
        what, effect = f"{view.name_of(session, file)}: the list of folios", "the file is lost"
        for chunk in folios.chunks:
            yield from _as_block(found, f"{what}, chunk", chunk, view.page_size, f"{where}.memfd.folios", effect)
        for page in folios.pages:
            size = view.page_size << folios.order
            yield from _as_block(found, f"{what}, block", page, size, f"{where}.memfd.folios", effect)
    test = view.handover.kho_test
    for page in (*self_test_chunk(view.handover), *(test.pages if test is not None else ())):
        yield from _as_block(
            found, "KHO self-test: vmalloc page", page, view.page_size, "kho_test", "the self-test fails"
        )


def _arrays(view: View) -> Iterator[tuple[str, str, Array]]:
    """(path, name, array) of each array of a handler's struct."""
    for where, what, record in view.records():
        for array in record.arrays:
            yield where, f"{what}: {array.member}", array


def _array_blocks(array: Array, page: int) -> Iterator[tuple[int, int, str]]:
    """(address, size in bytes, word) of each chunk and block of an array."""
    for chunk in array.chunks:
        yield chunk, page, "chunk"
    for place in array.pages:
        yield place, page << min(array.order, 40), "block"


def self_test_chunk(handover: Handover) -> Iterator[int]:
    """The first vmalloc chunk of the KHO self-test."""
    for subtree in handover.subtrees:
        data = subtree.fdt.root.node("data") if subtree.name == "kho_test" and subtree.fdt is not None else None
        info = data.get("folios_info") if data is not None else None
        test = handover.kho_test
        if info is not None and len(info) == kho_vmalloc.size and test is not None and test.pages:
            yield kho_vmalloc.parse(info).first


@register("MAP010", "memfd-folio-not-preserved", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def folios(view: View) -> Iterator[Found]:
    """A folio of a preserved memfd or guest_memfd is not in the map as the start of a block, or the block is larger
    than a kernel with kho-v1 restores.

    The map has the size of the folio. Without it the folio cannot be restored, the file cannot be retrieved, and the
    memory of a guest is lost. Up to 7.0 kernels refuse a folio above MAX_PAGE_ORDER (kho_restore_page), which is 10
    with pages of 4 KiB, 11 with 16 KiB, and 13 with 64 KiB.
    """
    yield from _capped(_folios(view, _to_come(view)))
    _need_folio_lists(view)


def _need_folio_lists(view: View) -> None:
    """Raise NotJudged unless the folios of all memfds could be read."""
    view.need_sessions()
    zero = view.subjects("zero-memfd")
    for where, _, file in view.files():
        memfd = file.memfd
        unread = memfd is None or len(memfd.folios.list) < memfd.folios.count
        if unread and where not in zero and form_of_handler(file.compatible) is not None:
            raise unread_memfd(view, where)


def _folios(view: View, found: PreservedMap) -> Iterator[Found]:
    form, page = root_form(view.handover.compatible), view.page_size
    is_bounded = form is not None and form.map == "chunks"
    most = (SCRATCH_UNIT[page] // page).bit_length() - 1 if is_bounded else _ANY_ORDER
    for where, name, addresses in _folio_lists(view):
        pairs = zip(addresses, found.heads(addresses), strict=True)
        lost = [address for address, order in pairs if address and (order is None or order > most)]
        lost = [address for address in lost if _is_ram(view, address)]
        if lost:
            more = f", and {len(lost) - 1} more of {len(addresses)}" if len(lost) > 1 else ""
            order = found.head(lost[0])
            fault = _misplaced(found, lost[0], 1) if order is None else f"as order {order}, expected at most {most}"
            state = f"is preserved {fault}" if fault else "is not preserved"
            yield Found(
                f"{name}: the folio at {lost[0]:#x} {state}{more}",
                address=lost[0],
                where=where,
                hint="the file is lost; find what freed this memory, or cleared its bit in the map",
            )


def _folio_lists(view: View) -> Iterator[tuple[str, str, Sequence[int]]]:
    """(path, name of the file, addresses of its folios) of each memfd and guest_memfd."""
    for where, session, file in view.files():
        if file.memfd is not None:
            yield f"{where}.memfd.folios", view.name_of(session, file), list(file.memfd.folios.list.addresses())
    for where, name, record in view.records():
        if record.readings[0][0] == _GUEST:
            entries = [one for array in record.arrays if array.member == "folios" for one in array.words[::2]]
            yield where, name, [(entry & ((1 << PFN_BITS) - 1)) * view.page_size for entry in entries]


_GUEST = "guest-memfd-v1"


def _is_ram(view: View, address: int) -> bool:
    """Whether an address is in RAM, or RAM is unknown. Other rules report addresses outside RAM."""
    return not view.ram or any(start <= address < end for start, end in view.ram)


@register(
    "MAP011",
    "pci-list-not-preserved",
    Severity.ERROR,
    kernels="posted 2025, queued for 7.4",
    source="pci.md#a5-lifecycle; pci.md#b2-version-2",
)
def lists(view: View) -> Iterator[Found]:
    """A list of preserved PCI devices, or a block of it, is not in the map as one block.

    The PCI core restores it at the first device, and panics if it cannot.
    """
    found = _to_come(view)
    if not view.flb_entries() and not view.serialised().subsystems:
        raise NotApplicable("no FLB or subsystem")
    sizes = {}
    for entry in view.device_lists():
        form = pci_layout(entry.layout)
        sizes[entry.address] = (form.header.size if form is not None and not entry.blocks else 0) + len(
            entry.devices.data
        )
    effect = "the next kernel panics"
    named = {subtree.address for subtree in view.handover.subtrees}
    for where, what, address in _list_places(view):
        if address not in named and _is_page(view, address):
            yield from _as_block(found, f"PCI device list of {what}", address, sizes.get(address, 1), where, effect)
    for index, entry in enumerate(view.device_lists()):
        for block in entry.blocks:
            yield from _as_block(
                found, "block of the PCI device list", block, view.page_size, view.list_path(index), effect
            )


def _list_places(view: View) -> Iterator[tuple[str, str, int]]:
    """(path, owner, address) of each device list to which an FLB or subsystem points."""
    luo = view.luo()
    for index, flb in enumerate(view.flb_entries()):
        if is_flb_name(flb.name) and not is_test_flb(flb.data):
            yield f"luo.flbs[{index}]", f"FLB {safe_text(flb.name)}", flb.data
    for index, entry in enumerate(luo.subsystems):
        if entry.name == "pci":
            yield f"luo.subsystems[{index}]", "subsystem pci", entry.data


@cache
def _owners() -> frozenset[str]:
    """Names of handlers and FLBs whose data is known to be the address of a page."""
    return frozenset(entry.handler for entry in layouts() if entry.subject in _OWNERS and entry.handler)


def _handles(view: View) -> Iterator[tuple[str, str, int]]:
    """(path, owner, data) of each file and FLB whose data is the address of a page."""
    for where, session, file in view.files():
        if file.compatible in _owners():
            yield where, f"{view.name_of(session, file)}, {safe_text(file.compatible)}", file.data
    for index, flb in enumerate(view.flb_entries()):
        if flb.name in _owners() and not is_test_flb(flb.data):
            yield f"luo.flbs[{index}]", f"FLB {safe_text(flb.name)}", flb.data


@register(
    "MAP012",
    "handler-data-not-preserved",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#test-flbs; luo.md#invariants",
)
def handler_data(view: View) -> Iterator[Found]:
    """The data of a file or FLB of a known handler is not a page address, or the page is not preserved.

    The handler cannot restore its struct: the file is lost.
    """
    yield from _capped(_handler_data(view, _to_come(view)))


def _handler_data(view: View, found: PreservedMap) -> Iterator[Found]:
    view.need_sessions()
    for where, what, data in _handles(view):
        if not _is_page(view, data):
            hint = "the file is lost; find what overwrote the entry"
            yield Found(f"{what}: data {data:#x} is not a page address", address=data, where=where, hint=hint)
        else:
            yield from _as_block(found, f"{what}: data", data, 1, where, "the file is lost")


@register(
    "MAP013",
    "luo-page-not-preserved",
    Severity.ERROR,
    kernels="6.19 and later",
    source="luo.md#errors; luo.md#the-session-area; luo.md#the-file-array; block.md#what-the-next-kernel-verifies",
)
def luo_pages(view: View) -> Iterator[Found]:
    """A page with LUO's sessions, files or FLBs is not in the map as a block of the size that LUO allocates.

    Sessions and FLBs: LUO refuses, and the next kernel panics. Files: opening this session and all later ones fails
    with EIO, or the kernel oopses. It depends on what the memory is used for first.
    """
    yield from _capped(_luo_pages(view, _to_come(view)))


def _luo_pages(view: View, found: PreservedMap) -> Iterator[Found]:
    for what, address, pages, where in _luo_places(view):
        if _is_page(view, address):
            effect = "the next kernel panics" if ".sessions[" not in where else "the session cannot be opened"
            yield from _as_block(found, what, address, pages * view.page_size, where, effect)


def _luo_places(view: View) -> Iterator[tuple[str, int, int, str]]:
    """(what, address, pages, path) of LUO's own memory, without its root object."""
    luo = view.luo()
    form = luo_form(luo.layout)
    area, array = (form.session_span, form.file_span) if form is not None else (1, 1)
    places = luo.session_blocks or ((luo.session_area,) if luo.session_area else ()) or view.pending_blocks
    for address in places:
        yield "LUO's sessions", address, area, "luo.session_blocks"
    if luo.flb_area:
        yield "LUO's FLBs", luo.flb_area, 1, "luo.flb_area"
    for where, session in view.sessions():
        for address in session.blocks:
            yield f"files of session {safe_text(session.name)}", address, array, f"{where}.blocks"


@register(
    "MAP015", "reservation-not-preserved", Severity.ERROR, kernels="6.16 and later", source="memblock.md#invariants"
)
def reservations(view: View) -> Iterator[Found]:
    """A reserve_mem region is not in the map from its first to its last byte.

    The next kernel uses the memory before memblock claims the region: its contents are lost.
    """
    found, memblock = view.map(), view.handover.memblock
    if memblock is None:
        view.need_subtree("memblock", "memblock")
        raise NotApplicable("no reserve_mem regions")
    for index, region in enumerate(memblock.reservations):
        gap = found.gap(region.start, region.start + region.size)
        if gap is not None:
            what = f"reserve_mem region {safe_text(region.name)} from {region.start:#x} on, byte"
            yield _absent(what, gap, f"memblock.reservations[{index}]", "the contents of the region are lost")


@register("MAP016", "blob-order-mismatch", Severity.ERROR, kernels="6.17 and later", source="kho_test.md#invariants")
def test_orders(view: View) -> Iterator[Found]:
    """The devicetree or a folio of the KHO self-test is not in the map as a block of the expected order.

    A folio is restored with the order in the map. The test of the next kernel reads beyond it, or not all of it.
    """
    found, test = _to_come(view), view.handover.kho_test
    if test is None:
        view.need_subtree("kho_test", "kho_test")
        raise NotApplicable("no KHO self-test")
    effect = "the self-test fails"
    if found.find(test.address) is not None:  # else MAP004 reports it
        size = view.page_size + 8 * len(test.folios)
        yield from _as_block(found, "devicetree of the self-test", test.address, size, "kho_test", effect)
    yield from _capped(_test_folios(view, found))


def _test_folios(view: View, found: PreservedMap) -> Iterator[Found]:
    test = view.handover.kho_test
    for index, (address, order) in enumerate(test.folios if test is not None else ()):
        have = found.head(address)
        if have != order:
            said = "not as a block" if have is None else f"with order {have}"
            yield Found(
                f"folio {address:#x} of the self-test is preserved {said}, expected order {order}",
                address=address,
                where=f"kho_test.folios[{index}]",
                hint="the self-test fails, and the cause may corrupt other memory, too",
            )


@register(
    "MAP018",
    "pointer-wild",
    Severity.ERROR,
    kernels="6.16 and later",
    source="README.md#byte-order-and-addresses; kho.md#invariants",
)
def pointers(view: View) -> Iterator[Found]:
    """An address in the handover is not preserved and its page cannot be read, is outside RAM, has the bit of memory
    encryption, or is one bit off a page of the expected kind.

    The next kernel reads something else there, or accesses memory that does not exist: what depends on the pointer is
    lost, or the kernel oopses.
    """
    view.need_unconsumed()
    reported: set[tuple[str, int | None]] = set()
    for problem in view.problems("pointer-off", "pointer-encrypted"):
        reported.add((problem.about, problem.address))
        yield Found(problem.message, address=problem.address, where=problem.about, hint=_WILD)
    unread = [
        problem
        for problem in view.problems("missing", "excluded", "page-damaged")
        if not problem.about.endswith(".contents") and (problem.about, problem.address) not in reported
        if not problem.about.startswith("pending") or _is_handed_over(view, problem)
    ]
    for problem in unread:
        if problem.address is not None and view.ram and not _is_ram(view, problem.address):
            yield Found(f"{problem.message}; it is not in RAM", problem.address, problem.about, hint=_WILD)
    named = [problem for problem in unread if problem.about != "preserved" and not _SUBTREE.fullmatch(problem.about)]
    if named:
        found = view.map()
        others = _reported_by_others(view)
        for problem in named:
            if problem.address is None or problem.address in others:
                continue
            if found.find(problem.address) is None:
                yield Found(f"{problem.message}; it is not preserved", problem.address, problem.about, hint=_WILD)


_PENDING = re.compile(r"pending\.flbs\[|pending\.sessions\[\d+\]\.files\[\d+\]\.memfd")
"""Paths of what is in preserved memory already, of all that is pending."""


def _is_handed_over(view: View, problem: Problem) -> bool:
    """Whether a problem with what is pending is about memory that will be handed over, not about a kernel object."""
    pending = view.handover.pending
    sessions = pending.sessions if pending is not None else ()
    handles: Iterator[int | None] = (file.data for session in sessions for file in session.files)
    return _PENDING.match(problem.about) is not None or problem.address in handles


def _reported_by_others(view: View) -> set[int]:
    """Addresses that other rules report if they are not preserved."""
    owned = {address for _, form, tree in view.trees() for _, address in tree_addresses(form, tree.root)}
    if view.handover.luo is None:
        return owned
    owned |= {address for places in (_list_places(view), _handles(view)) for _, _, address in places}
    return owned | {address for _, address, _, _ in _luo_places(view)}


# -- one owner each ---------------------------------------------------------------------------------------

_Claim = tuple[int, int, str, str, str]
"""(start, end, kind, what, path); start and end are physical addresses."""


@register("MAP014", "page-claimed-twice", Severity.ERROR, kernels="6.16 and later", source="kho.md#invariants")
def claims(view: View) -> Iterator[Found]:
    """Two structures of one handover are in the same memory: descriptors, lists, blocks, folios, regions.

    Two owners restore the same folio: the second one fails, or writes to memory of the first one.
    """
    view.need_unconsumed()
    yield from _capped(_collisions(view))


def _collisions(view: View) -> Iterator[Found]:
    taken = sorted(_claims(view), key=lambda claim: claim[:3])  # names decide nothing
    last = taken[0] if taken else None
    for one, other in pairwise(taken):
        assert last is not None
        last = one if one[1] > last[1] else last
        if other[0] < last[1] and last[2:] != other[2:] and not last[2] == other[2] == "folio":
            yield Found(
                f"{other[3]} and {last[3]} are both at {other[0]:#x}",
                address=other[0],
                where=other[4],
                hint=_FREED,
            )
    for what, where, tree in view.page_trees():
        for start, end, _, other_what, _ in taken:
            block = tree.map.first_within(start, end) if tree.map is not None else None
            if block is not None:
                place = max(start, block.address)
                word = f"a page in {what} and {other_what} are both at {place:#x}"
                yield Found(word, address=place, where=where, hint=_FREED)


_FREED = "find memory that was freed while it was still preserved"


def _claims(view: View) -> Iterator[_Claim]:
    """Memory that belongs to one structure of the handover only. MFD010 reports two folios of files."""
    page, handover = view.page_size, view.handover
    if handover.address is not None:
        yield handover.address, handover.address + page, "root", "the root", "root"
    for index, subtree in enumerate(handover.subtrees):
        if subtree.address is not None and (subtree.size or 1) < 1 << 40:
            end = subtree.address + max(subtree.size or 1, 1)
            what = f"sub-tree {safe_text(subtree.name)}"
            yield subtree.address, -(-end // page) * page, "subtree", what, f"subtrees[{index}]"
    yield from _tree_claims(view)
    for index, region in enumerate(handover.memblock.reservations if handover.memblock is not None else ()):
        what, where = f"reserve_mem region {safe_text(region.name)}", f"memblock.reservations[{index}]"
        yield region.start, region.start + region.size, "region", what, where
    if handover.kho_test is not None:
        for place in handover.kho_test.pages:
            yield place, place + page, "test-page", "vmalloc page of the KHO self-test", "kho_test"
        for place, order in handover.kho_test.folios:
            yield place, place + (page << order), "test-folio", "folio of the KHO self-test", "kho_test.folios"
    if handover.luo is not None:
        yield from _luo_claims(view)
    yield from _list_claims(view)
    for where, what, array in _arrays(view):
        for place, size, word in _array_blocks(array, page):
            yield place, place + size, "array", f"{word} of {what}", where


def _tree_claims(view: View) -> Iterator[_Claim]:
    page = view.page_size
    for what, where, tree in view.page_trees():
        for node in tree.nodes:
            yield node, node + page, "tree-node", f"a node of {what}", where


def _luo_claims(view: View) -> Iterator[_Claim]:
    page = view.page_size
    for what, address, pages, where in _luo_places(view):
        yield address, address + pages * page, "luo", what, where
    for where, what, data in _handles(view):
        if _is_page(view, data):
            yield data, data + page, "data", f"data of {what}", where
    for where, session, file in view.files():
        if file.memfd is None:
            continue
        name, inside = view.name_of(session, file), f"{where}.memfd.folios"
        for chunk in file.memfd.folios.chunks:
            yield chunk, chunk + page, "chunk", f"vmalloc chunk of {name}", inside
        for place in file.memfd.folios.pages:
            yield place, place + (page << min(file.memfd.folios.order, 40)), "array", f"folio list of {name}", inside
        for start, end in _folio_ranges(view, file.memfd):
            yield start, end, "folio", f"folios of {name}", inside


def _folio_ranges(view: View, memfd: Memfd) -> Iterator[tuple[int, int]]:
    """[start, end) ranges of the folios of a memfd; adjacent folios are one range."""
    first = end = 0
    page, orders = view.page_size, view.folio_orders(memfd)
    for address, order in zip(memfd.folios.list.addresses(), orders, strict=True):
        if address != end:
            if end:
                yield first, end
            first = end = address
        if address:
            end = address + (page << order)
    if end:
        yield first, end


def _list_claims(view: View) -> Iterator[_Claim]:
    page = view.page_size
    named = {subtree.address for subtree in view.handover.subtrees}
    drivers: set[int] = set()
    for index, entry in enumerate(view.device_lists()):
        where = view.list_path(index)
        if entry.address not in named:
            form = pci_layout(entry.layout)
            head = form.header.size if form is not None else 0
            size = -(-max(head + len(entry.devices.data), 1) // page) * page
            end = entry.address + (page if entry.blocks else size)
            yield entry.address, end, "list", "a PCI device list", where
        for block in entry.blocks:
            yield block, block + page, "list-block", "a block of a PCI device list", where
        for piece in entry.contents:
            if piece.address not in drivers:
                drivers.add(piece.address)
                yield piece.address, piece.address + piece.size, "driver", "the page of a device's driver", where


@register("MAP020", "memory-unnamed", Severity.INFO, kernels="6.16 and later", source="kho.md#invariants")
def unnamed(view: View) -> Iterator[Found]:
    """Preserved memory does not belong to any known structure of the handover.

    It may belong to a handler or driver that luoser does not know. Otherwise it is never restored, and stays reserved
    in the next kernel.
    """
    found = _to_come(view)
    view.need_sessions()
    totals = _unnamed_pages(found, view)
    view.need_used()  # else the owner may be what was not read
    if totals:
        size = sum(count * view.page_size for count in totals.values())
        words = ", ".join(f"{human_size(count * view.page_size)} in order {order}" for order, count in totals.items())
        yield Found(
            f"{human_size(size)} of preserved memory without a known owner: {words}",
            address=view.handover.preserved.address,
            where="preserved",
            hint="`luoser map` shows the ranges; they may belong to an unknown handler",
        )


def _unnamed_pages(found: PreservedMap, view: View) -> dict[int, int]:
    """Number of pages without a structure of the handover, by order of their blocks."""
    named = named_memory(view)
    for tree in (tree.map for _, _, tree in view.page_trees() if tree.map is not None):
        found = found.without(tree)
    ends = [end for _, end in named]
    left: dict[int, int] = {}
    for bitmap in found.bitmaps:
        unit = view.page_size << bitmap.order
        size = int.from_bytes(bitmap.bits, "little").bit_count() * unit
        place = bisect_right(ends, bitmap.start)
        if place < len(named) and named[place][0] < bitmap.start + 8 * len(bitmap.bits) * unit:
            size -= sum(_common(named, ends, bit_runs(bitmap.bits), bitmap.start, unit))
        if size:
            left[bitmap.order] = left.get(bitmap.order, 0) + size
    return {order: size // view.page_size for order, size in left.items()}


def named_memory(view: View) -> list[tuple[int, int]]:
    """(start, end) of the pages of all structures of a handover, by address; those that touch are one range.

    The rest of a page has no other owner: whole pages are preserved.
    """
    ranges = [(start, end) for start, end, *_ in _claims(view)] + list(_driver_pages(view))
    ranges += [(page, page + 1) for page in self_test_chunk(view.handover)]
    ranges += [(place, place + 1) for _, form, tree in view.trees() for _, place in tree_addresses(form, tree.root)]
    page = view.page_size
    return merged((start - start % page, -(-end // page) * page) for start, end in ranges)


def _common(
    named: list[tuple[int, int]], ends: list[int], runs: Iterable[tuple[int, int]], start: int, unit: int
) -> Iterator[int]:
    """Bytes of runs of blocks that are in named ranges.

    named: ranges by ascending address. ends: their ends.
    runs:  (first bit, number of bits) of a bitmap. start: address of its bit 0. unit: bytes of a block.
    """
    place = bisect_right(ends, start)
    for first, count in runs:
        address, end = start + first * unit, start + (first + count) * unit
        while place < len(named) and ends[place] <= address:
            place += 1
        at = place
        while at < len(named) and named[at][0] < end:
            yield min(end, ends[at]) - max(address, named[at][0])
            at += 1


def _driver_pages(view: View) -> Iterator[tuple[int, int]]:
    """[start, end) ranges of the blocks at driver_data of devices."""
    found = view.handover.preserved.map
    for entry in view.device_lists():
        if entry.devices.column("driver_data") is None:
            continue
        for device in entry.devices:
            block = found.find(device.number("driver_data") or 0) if found is not None else None
            if block is not None:
                yield block.address, block.address + (view.page_size << block.order)
