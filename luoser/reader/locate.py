# SPDX-License-Identifier: MIT
"""Finding the KHO roots: by variables of the kernel, page scan and /chosen. Finding the setup_data node of a root."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache

from luoser import fdt
from luoser.abi.kho import (
    CHOSEN_FDT,
    CHOSEN_SCRATCH,
    COMPATIBLE_PREFIX,
    MAP_PROPERTIES,
    SETUP_KEXEC_KHO,
    SUBTREE_PROPERTIES,
    SUBTREE_SIZE,
    UNREAD_MAPS,
    KhoForm,
    kho_data,
    kho_scratch,
    root_form,
    setup_data,
)
from luoser.abi.other import TREES
from luoser.abi.registry import layouts
from luoser.abi.release import SUBTREES
from luoser.errors import FormatError, MissingMemory, TooLargeError, UsageError
from luoser.fdt import Fdt, Node
from luoser.limits import LIMITS, how_to_raise
from luoser.reader.kept import keep_tree, values_of
from luoser.reader.kernel import Kernel, find_kernels, find_successors
from luoser.reader.page_size import PAGE_SIZES
from luoser.reader.plausible import PHYSICAL_LIMIT
from luoser.reader.walk import EM_X86_64, Subject, Walk
from luoser.state import Direction
from luoser.symbols import Symbols
from luoser.text import decode_name

_COMPATIBLE = re.compile(rb"kho-v[0-9]{1,4}(;[ -~]*)?")
"""kho-vN. A posted RFC appends the versions of components."""

INCOMING_POINTER = ("kho_in", ("fdt_phys",))
"""The variable with the address of the root that a kernel was handed, and the member."""
_VARIABLES = (
    (Direction.INCOMING, *INCOMING_POINTER),
    (Direction.OUTGOING, "kho_out", ("fdt", "ser.fdt")),
)
"""(direction of the root, variable, members with its address), of all releases from 6.16 to 7.3."""
_LUO_MEMBERS = ("luo_ser_out", "fdt_out", "fdt_in")

__all__ = [
    "INCOMING_POINTER",
    "OWN_SCRATCH",
    "Chosen",
    "Root",
    "Search",
    "SetupNode",
    "find_roots",
    "find_setup_nodes",
    "is_root",
    "known_roots",
]

OWN_SCRATCH = "kho_scratch"
"""Who names an array of scratch areas: the variable of the running kernel."""


@dataclass(slots=True)
class Root:
    """A KHO root.

    address: physical.
    tree:    its devicetree.
    chosen:  devicetrees whose /chosen points to it.
    verdict: (direction, evidence in words) from the running kernel. None: no such evidence.
    scratch: (physical address, size in bytes, evidence in words) of its arrays of scratch areas.
    is_named: a variable of the running kernel has its address.
    is_left_over: the running kernel names other roots.
    is_doubtful: nobody said that the kernel of the verdict is the running one; it was found in memory.
    is_running: it is known without a search that the kernel of the verdict is the running one.
    """

    address: int
    tree: Fdt
    chosen: list[Chosen] = field(default_factory=list)
    verdict: tuple[Direction, list[str]] | None = None
    scratch: list[tuple[int, int, str]] = field(default_factory=list)
    is_doubtful: bool = False
    is_running: bool = False
    is_left_over: bool = False
    is_named: bool = False

    @property
    def form(self) -> KhoForm | None:
        """The version of the root. None: unknown version."""
        return root_form((self.tree.root.text("compatible") or b"").decode("ascii", "replace"))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The /chosen of a devicetree. All addresses are physical.

    address: of the devicetree.
    root:    address of the root.
    scratch: (address, size in bytes) of the array of scratch areas. None: not in /chosen.
    size:    of the devicetree in bytes.
    """

    address: int
    root: int
    scratch: tuple[int, int] | None
    size: int = 0


@dataclass(frozen=True, slots=True)
class SetupNode:
    """A setup_data node of type 10. All addresses are physical.

    address:         of the node.
    root:            address of the root.
    scratch_address: of the array of scratch areas.
    scratch_size:    of that array, in bytes.
    """

    address: int
    root: int
    scratch_address: int
    scratch_size: int

    @property
    def size(self) -> int:
        """Bytes of the node with its data."""
        return setup_data.size + kho_data.size


@dataclass(frozen=True, slots=True)
class Search:
    """What was found in a source.

    roots:  by ascending address.
    strays: the /chosen of devicetrees that point to a page that is not a root, or not in the source.
    wanted: address of the root that the user asked for. None: all.
    kernel: the running one. None: its symbols are not known.
    is_whole: whether all of the source was searched.
    """

    roots: list[Root]
    strays: list[Chosen]
    wanted: int | None = None
    kernel: Kernel | None = None
    is_whole: bool = True


def find_roots(
    walk: Walk, *, wanted: int | None = None, symbols: Symbols | None = None, kallsyms: bool = False
) -> Search:
    """All KHO roots of the source.

    walk:    the source. A live machine is not searched if the variables of its kernel could be read.
    wanted:  physical address where a root has to be. Others are found, too, as directions depend on all roots.
    symbols: of the running kernel.
    kallsyms: without symbols, use those in the memory of the kernel.

    Raises UsageError if there is no KHO root at `wanted`, SourceError if the symbols are those of another kernel.
    """
    roots: dict[int, Root] = {}
    strays: list[Chosen] = []
    if wanted is not None:
        roots[wanted] = _wanted(walk, wanted)
    _by_parameters(walk, roots)
    kernel = _by_variables(walk, roots, symbols) if symbols is not None or kallsyms else None
    if not (walk.memory.live and kernel is not None):
        strays = _by_search(walk, roots)
        _keep_likeliest(walk, roots, wanted)
    if walk.memory.is_unsearched:
        why = "the source of this cut was not searched for other roots and kernels; a cut made with --search decides"
        return _unsearched(walk, roots, wanted, kernel, why)
    is_cheap = not walk.memory.format.startswith("kdump")  # there each page has to be unpacked
    is_open = any(root.verdict is None for root in roots.values())
    if kernel is not None and not kernel.is_running and not walk.memory.live and (is_cheap or is_open):
        kernel = _by_successor(walk, roots, kernel)
    if kernel is not None:
        _mark_left_over(walk, roots, kernel)
    return Search([roots[address] for address in sorted(roots)], strays, wanted, kernel)


def known_roots(walk: Walk, wanted: int | None, *, symbols: Symbols | None = None, kallsyms: bool = False) -> Search:
    """A root, and those that the running kernel names, without a search.

    walk:     the source.
    wanted:   physical address of the root. None: only those that the kernel names.
    symbols:  as in `find_roots`.
    kallsyms: as in `find_roots`.

    A direction is known only if it is certain which kernel is running.
    Raises as `find_roots`.
    """
    roots = {wanted: _wanted(walk, wanted)} if wanted is not None else {}
    use_symbols = symbols is not None or kallsyms
    kernel = _by_variables(walk, roots, symbols, search=False) if use_symbols else None
    return _unsearched(walk, roots, wanted, kernel, "no search was made for other roots and kernels; --search decides")


def _unsearched(walk: Walk, roots: dict[int, Root], wanted: int | None, kernel: Kernel | None, why: str) -> Search:
    """Roots that may not be all. why: in words, with what decides."""
    kernel = kernel if kernel is not None and kernel.is_running else None
    if kernel is not None:
        _mark_left_over(walk, roots, kernel)
    walk.problem("not-searched", None, None, why)
    for root in roots.values():
        direction, words = root.verdict if root.verdict is not None else (Direction.UNKNOWN, [])
        is_sure = root.is_running or root.is_left_over
        said = why if is_sure else f"{_UNSURE}: {why}, as do --symbols and --direction"
        root.verdict = direction if is_sure else Direction.UNKNOWN, [*words, said]
        root.is_doubtful = False
    return Search([roots[address] for address in sorted(roots)], [], wanted, kernel, is_whole=False)


_UNSURE = "direction unknown, and so whether the map is still in use"


def _wanted(walk: Walk, address: int) -> Root:
    """The root at an address. Raises UsageError if there is none."""
    root = _root_at(walk, address)
    if root is None:
        raise UsageError(f"no KHO root at {address:#x}: expected a devicetree with compatible kho-vN there")
    return root


def _by_parameters(walk: Walk, roots: dict[int, Root]) -> None:
    """Add the roots that are known from the source: boot parameters of a live kernel, folders of debugfs."""
    for known in walk.memory.known_roots:
        root = _named(walk, roots, known.root, known.evidence)
        if root is not None and known.incoming is not None:
            direction = Direction.INCOMING if known.incoming else Direction.OUTGOING
            root.verdict = direction, [f"certain: {known.evidence} points to it"]
        if root is not None and known.scratch is not None:
            root.scratch.append((*known.scratch, known.evidence))


def _by_variables(walk: Walk, roots: dict[int, Root], symbols: Symbols | None, *, search: bool = True) -> Kernel | None:
    """Add the roots that the variables of the running kernel point to. Returns it if both variables could be read."""
    kernels = find_kernels(walk, symbols, search=search)
    named = [_variables(walk, roots, kernel) for kernel in kernels]
    running = _running(named)
    if running is None:
        if len(kernels) > 1:
            word = f"{len(kernels)} kernels are in this source: unknown which one is running"
            walk.problem("symbols", None, None, f"{word}; symbols not used")
        return None
    kernel = kernels[running]
    _accept(roots, kernel, named[running])
    unnamed = [name for _, name, _ in _VARIABLES if kernel.symbols.get(name) is None]
    if unnamed and symbols is not None:
        word = f"{' and '.join(unnamed)} missing: an excerpt of the symbols, or a kernel without KHO"
        walk.problem("symbols", None, None, f"{symbols.path}: {word}")
    return kernel if all(kernel.reads(name) for _, name, _ in _VARIABLES) else None


_Named = dict[int, tuple[Direction, list[str]]]
"""(direction, evidence) of roots by the variables of a kernel, by address of the root."""


def _accept(roots: dict[int, Root], kernel: Kernel, named: _Named) -> None:
    """Take the word of the running kernel."""
    scratch = kernel.scratch() if named else None
    for address, (direction, evidence) in named.items():
        before = roots[address].verdict
        also = before[1] if before is not None else []
        if before is not None and before[0] is not direction:
            direction = Direction.UNKNOWN
        roots[address].verdict = direction, evidence + also
        roots[address].is_doubtful, roots[address].is_named = not kernel.is_running, True
        roots[address].is_running = kernel.is_running
        if scratch is not None:
            roots[address].scratch.append((*scratch, OWN_SCRATCH))


def _by_successor(walk: Walk, roots: dict[int, Root], kernel: Kernel) -> Kernel:
    """The kernel, or another one in memory to which it handed over: VMCOREINFO of a dump can be that of the first."""
    handed, got = (
        {address for address, root in roots.items() if root.verdict and root.verdict[0] is side}
        for side in (Direction.OUTGOING, Direction.INCOMING)
    )
    for other in find_successors(walk, kernel):
        named = _variables(walk, roots, other)
        is_after = any(address in handed and said[0] is Direction.INCOMING for address, said in named.items())
        is_before = any(address in got and said[0] is Direction.OUTGOING for address, said in named.items())
        if is_after and not is_before:  # both: pages of roots were used again; their numbers decide
            for root in roots.values():
                root.verdict, root.scratch, root.is_named = None, [], False
            _accept(roots, other, named)
            return other
    return kernel


def _mark_left_over(walk: Walk, roots: dict[int, Root], kernel: Kernel) -> None:
    """All roots that the running kernel does not name: of another boot, or of another machine.

    If one of its variables leads nowhere, a root may be the one that it should name.
    """
    lost = [*_lost_roots(walk, roots, kernel)]
    is_known = not lost and any(root.verdict is not None for root in roots.values())
    why = lost[0] if lost else "left over, or of another machine"
    for root in roots.values():
        if root.verdict is None:
            word = f"kho_in and kho_out of {kernel.symbols.path} do not point to it: {why}"
            root.verdict, root.is_left_over = (Direction.UNKNOWN, [word]), is_known


def _lost_roots(walk: Walk, roots: dict[int, Root], kernel: Kernel) -> Iterator[str]:
    """Each pointer of the kernel to a root that is not there, in words. A problem if it is the running one."""
    unread = {one.address for one in walk.problems if one.code == "too-many"}
    for _, name, members in _VARIABLES:
        for said, address in kernel.lost(name, members, roots):
            state = walk.gap(address) if address is not None else None
            code, word = "root-lost", f"{said}, where no root is"
            if state is not None:
                code, word = "root-unread", f"{said}, which is {state.value}"
            elif address is None and not kernel.space.knows_direct:
                code, word = "root-unread", f"{said}, and the start of the direct map is not known"
            elif address is not None and walk.place(address) in unread:
                code, word = "root-unread", f"{said}, where a root may be that exceeds a limit"
            walk.problem(code if kernel.is_running else "no-root", address, None, word)
            yield word


def _variables(walk: Walk, roots: dict[int, Root], kernel: Kernel) -> _Named:
    """(direction, evidence) from kho_in and kho_out of a kernel, by address of the root."""
    said: _Named = {}
    for direction, name, members in _VARIABLES:
        found: dict[int, str] = {}
        for pointer in kernel.pointers(name, members):
            root = roots.get(pointer.address) or _root_at(walk, pointer.address)
            if root is not None:
                roots[pointer.address] = root
                found.setdefault(pointer.address, pointer.holder)
        for address, holder in found.items():
            evidence = [f"certain: {holder} of {kernel.symbols.path} points to it"]
            if len(found) > 1:  # a kernel has one root of each direction
                others = ", ".join(f"{other:#x}" for other in found if other != address)
                said[address] = Direction.UNKNOWN, [f"{holder} of {kernel.symbols.path} points to it, and to {others}"]
            elif address in said:
                said[address] = Direction.UNKNOWN, [*said[address][1], f"but so does {holder}"]
            else:
                said[address] = direction, evidence + _luo_evidence(kernel, roots[address])
    return said


def _luo_evidence(kernel: Kernel, root: Root) -> list[str]:
    node = root.tree.root.node("LUO")
    named = next((node.u64(name) for name in SUBTREE_PROPERTIES if node.get(name)), None) if node is not None else None
    holders = [
        pointer.holder for pointer in kernel.pointers("luo_global", _LUO_MEMBERS) if named and pointer.address == named
    ]
    return [f"{holders[0]} points to its LUO page"] if holders else []


def _running(named: list[_Named]) -> int | None:
    """Index of the running kernel: the only one, or that whose incoming root is outgoing in another. None: unknown."""
    if len(named) == 1:
        return 0
    sides = [
        {
            side: {address for address, (direction, _) in said.items() if direction is side}
            for side in (Direction.INCOMING, Direction.OUTGOING)
        }
        for said in named
    ]
    after = [
        index
        for index, own in enumerate(sides)
        if any(own[Direction.INCOMING] & other[Direction.OUTGOING] for other in sides)
    ]
    return after[0] if len(after) == 1 else None


def _named(walk: Walk, roots: dict[int, Root], address: int, who: str) -> Root | None:
    root = roots.get(address) or _root_at(walk, address)
    if root is None:
        where = f" at {address:#x}" if walk.place(address) is not None else ""
        walk.problem("no-root", address, None, f"{who}: expected a KHO root{where}, found none; reused memory?")
        return None
    roots[address] = root
    return root


def _by_search(walk: Walk, roots: dict[int, Root]) -> list[Chosen]:
    """Add the roots that a search of all pages finds, directly or through the /chosen of a devicetree.

    Returns the /chosen whose root is not there.
    Kernels of x86-64 read no /chosen, so there a page that looks like one says nothing.
    """
    chosen: dict[int, list[Chosen]] = {}
    has_chosen, budget = walk.memory.machine != EM_X86_64, LIMITS.boot_tree_bytes
    for address in walk.memory.find_pages(fdt.MAGIC):
        head = _head(walk, address)
        if head is None:
            continue
        if COMPATIBLE_PREFIX in head:
            root = _root_at(walk, address)
            if (limit := _limit_met(walk, roots, root)) is not None:
                _stop_search(walk, roots, address, limit)
                break
            if root is not None:
                roots.setdefault(address, root)
        named, size = _chosen(walk, address, budget) if has_chosen else (None, 0)
        budget -= size
        if named is not None:
            chosen.setdefault(named.root, []).append(named)
    for address, sources in chosen.items():
        is_judged = address in roots or len(walk.false_roots) < LIMITS.false_roots
        found = roots.get(address) or (_root_at(walk, address) if is_judged else None)
        if found is not None:
            roots[address] = found
            found.chosen = sources
    return [source for address, sources in chosen.items() if address not in roots for source in sources]


def _limit_met(walk: Walk, roots: dict[int, Root], root: Root | None) -> str | None:
    """Name of the limit that ends the search. None: no limit was met. root: found last. None: the page was none."""
    if root is not None:
        return "root_candidates" if len(roots) >= LIMITS.root_candidates else None
    return "false_roots" if len(walk.false_roots) >= LIMITS.false_roots else None


def _stop_search(walk: Walk, roots: dict[int, Root], address: int, limit: str) -> None:
    """Note a problem, and add the roots that setup_data points to. address: of the page that met the limit."""
    text = "too many possible KHO roots: only those before this one are considered, and those that setup_data points to"
    walk.problem("too-many-candidates", address, None, f"{text}; {how_to_raise(limit)}")
    for node in find_setup_nodes(walk, ()):
        named = _root_at(walk, node.root)
        if named is not None:
            roots.setdefault(node.root, named)


def _keep_likeliest(walk: Walk, roots: dict[int, Root], wanted: int | None) -> None:
    """Drop roots beyond the limit: the last to go are those with a pointer to them, then those with their sub-trees."""
    if len(roots) <= LIMITS.roots:
        return
    named = {node.root for node in find_setup_nodes(walk, roots)} | walk.directions.keys() | {wanted}
    named |= {address for address, root in roots.items() if root.verdict or root.scratch or root.chosen}
    ranked = sorted(roots, key=lambda address: (address not in named, -_likelihood(walk, roots[address]), address))
    text = f"too many KHO roots: found {len(roots)}, only the {LIMITS.roots} likeliest are read"
    walk.problem("too-many-roots", ranked[LIMITS.roots], None, f"{text}; {how_to_raise('roots')}")
    for address in ranked[LIMITS.roots :]:
        del roots[address]


def _likelihood(walk: Walk, root: Root) -> int:
    """Number of sub-trees of a root that are at their addresses."""
    found = 0
    for node in root.tree.root.nodes:
        address = next((value for name in SUBTREE_PROPERTIES if (value := node.u64(name))), 0)
        try:
            found += walk.memory.read(address, 5).startswith((fdt.MAGIC, b"luo-v")) if address else 0
        except MissingMemory:
            continue
    return found


def _head(walk: Walk, address: int) -> bytes | None:
    """The page at an address, shorter if the source ends in it. None: not in the source."""
    try:
        return walk.memory.read(address, walk.page_size)
    except MissingMemory as error:
        size = error.address - address
    try:
        return walk.memory.read(address, size) if size > 0 else None
    except MissingMemory:
        return None


def is_root(walk: Walk, address: int) -> bool:
    """Whether there is a root at an address.

    walk:    the source.
    address: physical.
    """
    return _root_at(walk, address) is not None


def _root_at(walk: Walk, address: int) -> Root | None:
    """The root at an address: a devicetree with compatible kho-vN that can be read up to there. None: no root."""
    head = _head(walk, address)
    if head is None or head in walk.false_roots:
        return None
    tree = _root_tree(walk, address, head)
    if tree is None:
        walk.false_roots.add(head)
        return None
    keep_tree(walk, address, head, tree, _ROOT, _OF_ROOT, _is_unknown_child)
    return Root(address, tree)


_ROOT = Subject("KHO root", "root")
_OF_ROOT = values_of(**dict.fromkeys((*MAP_PROPERTIES, *UNREAD_MAPS, *SUBTREE_PROPERTIES, SUBTREE_SIZE), 8))


def _is_unknown_child(name: bytes, level: int) -> bool:
    """Whether a sub-tree has a name that is not one of a kernel's, or of a posting."""
    return level == 1 and decode_name(name) not in _known_children()


@cache
def _known_children() -> frozenset[str]:
    return frozenset((*SUBTREES, *(form.subtree for form in TREES), *(entry.handler for entry in layouts())))


def _root_tree(walk: Walk, address: int, head: bytes) -> Fdt | None:
    try:
        header = fdt.parse_header(head)
        if header.totalsize > walk.page_size:
            return None
        tree = fdt.parse(head, partial=True)
    except TooLargeError as error:
        _unread_root(walk, address, head, str(error))
        return None
    except FormatError:
        return None
    compatible = tree.root.text("compatible")
    if compatible is None and tree.is_cut:
        _unread_root(walk, address, head, tree.fault or "")
    if tree.root.name or compatible is None or not _COMPATIBLE.fullmatch(compatible):
        return None
    return tree


def _unread_root(walk: Walk, address: int, head: bytes, why: str) -> None:
    """Note a problem for what may be a root, but meets a limit."""
    if COMPATIBLE_PREFIX in head:
        walk.problem("too-many", address, None, f"a possible KHO root is not read: {why}")


def _chosen(walk: Walk, address: int, budget: int) -> tuple[Chosen | None, int]:
    """(the /chosen of a boot devicetree at an address, bytes read for it). Its cells are big-endian."""
    size = 0
    try:
        header = fdt.parse_header(walk.memory.read(address, fdt.HEADER_SIZE))
        strings = header.size_dt_strings
        if (limit := _met(strings, budget, "boot_tree_strings")) is not None:
            _not_searched(walk, limit)
            return None, size
        size += strings
        if CHOSEN_FDT.encode() not in walk.memory.read(address + header.off_dt_strings, strings):
            return None, size
        if (limit := _met(header.totalsize, budget - size, "boot_tree_size")) is not None:
            _not_searched(walk, limit)
            return None, size
        size += header.totalsize  # also for a broken tree
        data = walk.memory.read(address, header.totalsize)
        tree = fdt.parse(data)
    except (FormatError, MissingMemory):
        return None, size
    root = _span(walk, tree.root, address, CHOSEN_FDT)
    if root is None:
        return None, size
    scratch = next(filter(None, (_span(walk, tree.root, address, name) for name in CHOSEN_SCRATCH)), None)
    keep_tree(walk, address, data, tree, None, _OF_CHOSEN)
    return Chosen(address, root[0], scratch, header.totalsize), size


_OF_CHOSEN = values_of(
    **dict.fromkeys((CHOSEN_FDT, *CHOSEN_SCRATCH, "#address-cells", "#size-cells"), 32), compatible=-1
)


def _met(size: int, budget: int, limit: str) -> str | None:
    """Name of the limit that bytes of a devicetree exceed: that of one, or of all. None: none."""
    if size > getattr(LIMITS, limit):
        return limit
    return "boot_tree_bytes" if size > budget else None


def _not_searched(walk: Walk, limit: str) -> None:
    text = "not every devicetree was searched for /chosen: one is too large, or they are together"
    walk.problem("too-many", None, None, f"{text}; {how_to_raise(limit)}")


def _span(walk: Walk, root: Node, address: int, name: str) -> tuple[int, int] | None:
    """(address, size in bytes) in a property of /chosen. None: no such property, or a malformed one."""
    chosen = root.node("chosen")
    value = chosen.get(name) if chosen is not None else None
    if value is None:
        return None
    cells = _cells(root, "#address-cells")
    if len(value) != 4 * (cells + _cells(root, "#size-cells")):
        text = f"devicetree at {address:#x}: {name}: wrong size, {len(value)} bytes; a kernel ignores it"
        walk.problem("bad-chosen", address, None, text)
        return None
    return int.from_bytes(value[: 4 * cells], "big"), int.from_bytes(value[4 * cells :], "big")


def _cells(root: Node, name: str) -> int:
    value = root.get(name)
    number = int.from_bytes(value, "big") if value is not None and len(value) == 4 else 2
    return min(number, 4)


def find_setup_nodes(walk: Walk, roots: Collection[int]) -> tuple[SetupNode, ...]:
    """All setup_data nodes of KHO in memory, those of known roots first.

    walk:  the source.
    roots: addresses of the known roots.

    A node alone is not evidence for incoming: before the jump there is one for the next kernel. Only x86-64 has
    setup_data; of a source that does not say its machine, it is assumed.
    """
    if walk.memory.machine not in (None, EM_X86_64):
        return ()
    named, others = list[SetupNode](), list[SetupNode]()
    for place in walk.memory.find(struct.pack("<II", SETUP_KEXEC_KHO, kho_data.size)):
        node = _setup_node(walk, place)
        if node is None:
            continue
        found = named if node.root in roots else others
        if len(found) < LIMITS.setup_nodes:
            walk.memory.keep(node.address, node.size)
            found.append(node)
            continue
        text = f"too many setup_data nodes of KHO: of one kind only the first {len(found)} are looked at"
        walk.problem("too-many", None, None, f"{text}; {how_to_raise('setup_nodes')}")
        if found is named:
            break
    return (*named, *others)


def _setup_node(walk: Walk, place: int) -> SetupNode | None:
    """The setup_data node whose type is at an address, with any page size, also not that of the source.

    None: not a node of KHO.
    """
    try:
        data = kho_data.parse(walk.memory.read(place + 8, kho_data.size))
    except MissingMemory:
        return None
    pages = (data.fdt_addr, data.scratch_addr)
    is_array = data.scratch_size and data.scratch_size % kho_scratch.size == 0
    are_pages = all(0 < page < PHYSICAL_LIMIT and page % PAGE_SIZES[0] == 0 for page in pages)
    if data.fdt_size not in PAGE_SIZES or not is_array or not are_pages:
        return None
    return SetupNode(place - (setup_data.size - 8), data.fdt_addr, data.scratch_addr, data.scratch_size)
