# SPDX-License-Identifier: MIT
"""Rules on the root, its sub-trees, and the next kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from luoser.abi.kexec_metadata import kho_kexec_metadata
from luoser.abi.kho import MAP_PROPERTIES, SUBTREE_PROPERTIES, SUBTREE_SIZE, fdt_reserve_entry, root_form
from luoser.abi.luo import form as luo_form
from luoser.abi.release import LAST, RELEASES, SUBTREES, claimed_subtrees, known_release, writers_of
from luoser.checks.model import Found, NotApplicable, NotJudged, NotLookedAt, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.fdt import Fdt, Header
from luoser.limits import LIMIT_CODES, LIMITS
from luoser.state import Direction, File, MapStatus, Subtree
from luoser.text import counted, decode_name, one_bit_off, safe_text

__all__: list[str] = []

_RESERVE_MAPS = (48, 40)
"""Offsets of a reserve map: as written in sequence, and after a repack."""
_CLAIMED = claimed_subtrees(LAST)
_RELEASED = frozenset(found.kho for found in RELEASES.values())


@register(
    "KHO001",
    "root-version-unknown",
    Severity.ERROR,
    kernels="6.16 and later",
    source="kho.md#what-the-next-kernel-verifies; kho.md#kho-v2; kho.md#later-than-v4",
)
def root_version(view: View) -> Iterator[Found]:
    """The root's compatible string is not one that a released kernel writes.

    A kernel accepts only its own string. With any other it prints that KHO revival is disabled and boots without the
    handover: all preserved memory is lost.
    """
    if view.handover.compatible not in _RELEASED:
        yield Found(
            f"the root is {safe_text(view.handover.compatible)}, which no released kernel accepts",
            address=view.handover.address,
            where="root",
            hint="boot the next kernel from the same release, or find what overwrote the root",
        )


# -- the root's devicetree --------------------------------------------------------------------------------


def _root(view: View) -> Fdt:
    """The root of a handover. No kernel frees its page. Raises NotLookedAt."""
    if view.handover.fdt is None:
        raise NotLookedAt("the root's devicetree, which is not in the state")
    return view.handover.fdt


@register(
    "KHO002",
    "root-fdt-damaged",
    Severity.ERROR,
    kernels="6.16 and later",
    source="kho.md#what-the-next-kernel-verifies; finding.md#page-scan",
)
def root_damaged(view: View) -> Iterator[Found]:
    """The root's devicetree is truncated or damaged: its tokens do not form a tree.

    A next kernel that cannot read the root disables KHO revival, or does not find what comes after the damage.
    """
    fault = _root(view).fault
    if view.handover.address is None:
        raise NotApplicable("the root is a file of debugfs, which the kernel may truncate")
    if fault:
        yield Found(
            f"the root's devicetree cannot be read to its end: {fault}",
            address=view.handover.address,
            where="root",
            hint="do not kexec: find what overwrote the page of the root",
        )


@register("KHO003", "fdt-header-unusual", Severity.ERROR, kernels="6.16 and later", source="finding.md#page-scan")
def fdt_headers(view: View) -> Iterator[Found]:
    """The header of a devicetree has values that no kernel writes, a root node with a name, or a broken version string.

    Kernels write version 17, last compatible version 16, CPU 0, and blocks without gaps, merged ones up to totalsize; a
    root fits a page. A kernel may accept other values. But these bytes were changed after they were written, so what is
    next to them is in doubt.
    """
    _root(view)
    for one in _trees(view):
        place = f"devicetree at {one.address:#x}: " if one.address is not None else ""
        words = [
            f"{place}{name} is {found:#x}, expected {expected:#x}"
            for name, found, expected in _unusual(one.tree.header, is_packed=one.is_packed)
        ]
        for word in (*words, *_strange(one)):
            yield Found(word, address=one.address, where=one.where, hint="find what overwrote this devicetree")
    header = _root(view).header
    if header.totalsize > view.page_size:
        word = (
            f"totalsize of the root's devicetree is {header.totalsize:#x}, expected at most a page, {view.page_size:#x}"
        )
        yield Found(word, address=view.handover.address, where="root")


@dataclass(frozen=True, slots=True)
class _Tree:
    """One devicetree of a handover.

    where:     its path.
    address:   physical. None: unknown.
    tree:      parsed.
    is_packed: whether its writer packs it.
    is_edited: whether its writer may remove a property later, which leaves the name behind.
    """

    where: str
    address: int | None
    tree: Fdt
    is_packed: bool
    is_edited: bool


def _strange(one: _Tree) -> Iterator[str]:
    """In words, what no kernel writes into a tree: a name of the root node, half a name, a broken version string."""
    tree = one.tree
    if tree.root.name:
        yield f"the root node of a devicetree has a name, {safe_text(tree.root.name)}"
    if tree.reserved:
        yield f"the reserve map of a devicetree has {len(tree.reserved)} entries, expected none"
    names = {name for node in tree.root.walk() for name, _ in node.properties}
    whole = {name for name in tree.strings.split(b"\0") if name}
    for name in sorted(whole - names) if not one.is_edited and not tree.fault else ():
        yield f"no property has the name {safe_text(name)}, which is in the strings of a devicetree"
    for name in sorted(names - whole):  # libfdt takes the end of another name, if that is there already
        holders = [other for other in sorted(whole) if other.endswith(name)]
        if holders and not names.intersection(holders):
            yield f"a property has the name {safe_text(name)}, the end of {safe_text(holders[0])}, which has no use"
    for node in tree.root.walk():
        said = node.get("compatible")
        if said is not None and said.find(b"\0") != len(said) - 1:
            where = safe_text(node.name) or "the root node"
            yield f"compatible of {where} in a devicetree is not one string with a NUL at its end: {safe_text(said)}"


def _trees(view: View) -> Iterator[_Tree]:
    """The devicetrees of the root and its sub-trees."""
    handover = view.handover
    yield _Tree("root", handover.address, _root(view), is_packed=True, is_edited=True)
    for index, entry in enumerate(handover.subtrees):
        if entry.fdt is not None and not view.may_be_freed(f"subtrees[{index}]"):
            is_packed = entry.name in _CLAIMED
            if entry.name == "LUO":  # that of 2025 has room for more
                is_packed = handover.luo is not None and bool(writers_of(handover.luo.layout))
            is_edited = entry.name not in _CLAIMED
            yield _Tree(f"subtrees[{index}]", entry.address, entry.fdt, is_packed=is_packed, is_edited=is_edited)


def _unusual(header: Header, *, is_packed: bool) -> Iterator[tuple[str, int, int]]:
    """(member, value, expected value) of the members of a header that no kernel writes so."""
    reserved = header.off_mem_rsvmap
    expected = {
        "version": 17,
        "last_comp_version": 16,
        "boot_cpuid_phys": 0,
        "off_mem_rsvmap": reserved if reserved in _RESERVE_MAPS else _RESERVE_MAPS[0],
        "off_dt_struct": reserved + fdt_reserve_entry.size,
        "off_dt_strings": header.off_dt_struct + header.size_dt_struct,
    }
    packed = header.off_dt_strings + header.size_dt_strings
    if is_packed or not _is_room(header.totalsize):
        expected["totalsize"] = packed
    for name, value in expected.items():
        if getattr(header, name) != value:
            yield name, getattr(header, name), value


def _is_room(size: int) -> bool:
    """Whether a number of bytes can be that of a buffer with room for more: whole pages, or a power of two."""
    return size % 4096 == 0 or size.bit_count() == 1


def _map_pointer(tree: Fdt) -> int | None:
    return next((value for name in MAP_PROPERTIES if (value := tree.root.u64(name)) is not None), None)


@register(
    "KHO004",
    "map-pointer-missing",
    Severity.ERROR,
    kernels="6.16 and later",
    source="kho.md#what-the-next-kernel-verifies; kho.md#kho-v1",
)
def map_pointer_missing(view: View) -> Iterator[Found]:
    """The root does not have a property of 8 bytes with the address of the preserved map, or it is not that of a page.

    From 6.19 on a kernel refuses such a root; for earlier ones nothing is preserved. All preserved memory is lost.
    """
    tree = _root(view)
    if tree.fault:
        raise NotJudged("the root's devicetree cannot be read to its end", cause="damaged", about="root")
    pointer = _map_pointer(tree)
    if pointer is not None and (pointer >= 1 << 52 or pointer % view.page_size):
        yield Found(
            f"the root's pointer to the map, {pointer:#x}, is not the address of a page",
            address=view.handover.address,
            where="root",
            hint="a next kernel refuses it; find what overwrote the root",
        )
    if pointer is None and view.handover.preserved.status is MapStatus.UNREAD:
        said = next((one.message for one in view.problems("map-unread")), "luoser does not decode this form of the map")
        raise NotJudged(said, cause="unread", about="preserved")
    if pointer is None:
        names = " or ".join(MAP_PROPERTIES)
        yield Found(
            f"the root has no property {names} of 8 bytes",
            address=view.handover.address,
            where="root",
            hint="a next kernel refuses it; find what overwrote the root",
        )


@register(
    "KHO005",
    "map-not-published",
    Severity.ERROR,
    kernels="6.19 and later",
    source="kho.md#what-the-next-kernel-verifies; kho.md#kho-v1; luo.md#order-at-reboot",
)
def map_not_published(view: View) -> Iterator[Found]:
    """The root's pointer to the preserved map is 0: always wrong from kho-v3 on, in kho-v1 after LUO has serialised.

    A next kernel refuses a root without a map, and everything is lost. 6.19 and 7.0 set the pointer right after LUO has
    serialised; before that it is 0.
    """
    if _map_pointer(_root(view)) != 0:
        return
    luo = view.handover.luo
    form = root_form(view.handover.compatible)
    if form is not None and not form.has_map_at_boot and not (luo and luo.serialized and writers_of(luo.layout)):
        raise NotApplicable(f"{form.name} has no map before it is finalised")
    yield Found(
        "the root's pointer to the map is 0: nothing is preserved",
        address=view.handover.address,
        where="root",
        hint="do not kexec before KHO is finalised; a dump between serialise and finalise has this, too",
    )


@register(
    "KHO006",
    "subtree-no-address",
    Severity.ERROR,
    kernels="6.16 and later",
    source="finding.md#page-scan; kho.md#root-devicetree-by-version",
)
def subtree_address(view: View) -> Iterator[Found]:
    """A child of the root does not have a property of 8 bytes with the address of a page.

    Its owner in the next kernel does not find it: its state is lost. LUO panics if its own cannot be restored.
    """
    for index, node in enumerate(_root(view).root.nodes):
        value = next((value for name in SUBTREE_PROPERTIES if (value := node.u64(name)) is not None), None)
        if value is None or not 0 < value < 1 << 52 or value % view.page_size:
            said = "none" if value is None else f"{value:#x}"
            names = " or ".join(SUBTREE_PROPERTIES)
            yield Found(
                f"sub-tree {safe_text(node.name)}: expected {names} with a page address, found {said}",
                address=view.handover.address,
                where=f"subtrees[{index}]",
                hint="find what overwrote the root, or the driver that added this sub-tree",
            )
    for index in range(len(view.handover.subtrees) if not view.consumed else 0):  # else KHO022 judges them
        for problem in view.problems("missing", "excluded", "page-damaged", about=f"subtrees[{index}]"):
            raise NotJudged(problem.message, cause=cause_of(problem), about=problem.about)


@register("KHO007", "subtree-duplicate-name", Severity.ERROR, kernels="6.16 and later", source="kho.md#invariants")
def subtree_names(view: View) -> Iterator[Found]:
    """Two children of the root have the same name.

    A look-up by name finds only one of them; the state of the other is lost. A name that is one bit off that of a
    merged sub-tree may be damaged: it is not judged.
    """
    names = Counter(node.name for node in _root(view).root.nodes)
    for name, count in names.items():
        if count > 1:
            yield Found(
                f"{count} sub-trees have the name {safe_text(name)}; a kernel finds only one",
                address=view.handover.address,
                where="subtrees",
                hint="give each KHO user a unique name",
            )
    known = _CLAIMED | view.flbs
    for index, node in enumerate(_root(view).root.nodes):
        said = decode_name(node.name)
        near = one_bit_off(said, known) if said not in known else None
        if near is not None:
            word = f"sub-tree {safe_text(said)} is unknown, and one bit off {near}; if it exists, give it with --flbs"
            raise NotJudged(word, cause="unknown-form", about=f"subtrees[{index}]")


@register("KHO019", "blob-size-wrong", Severity.ERROR, kernels="7.1 and later", source="kho.md#sub-trees")
def blob_size(view: View) -> Iterator[Found]:
    """A child of the root has no blob-size of 8 bytes, or one that is not the size of what is at its address.

    The owner in the next kernel reads less than was written, or other bytes after it. Sizes are known of
    devicetrees, of LUO's root object and of kexec-metadata. Posted users hand over a devicetree with the size of its
    page, or with its own.
    """
    form = root_form(view.handover.compatible)
    if form is None or not form.has_blob_size:
        raise NotApplicable("only kernels with kho-v3 and kho-v4 write a blob-size")
    nodes = {decode_name(node.name): node for node in _root(view).root.nodes}
    for index, entry in enumerate(view.handover.subtrees):
        node = nodes.get(entry.name)
        said = node.u64(SUBTREE_SIZE) if node is not None else None
        size = _blob_size(view, entry, f"subtrees[{index}]")
        if entry.name == "LUO" and said is not None and size is not None and said < size:
            continue  # LUO003 reports it
        if entry.fdt is not None and entry.name not in SUBTREES and said == view.page_size:
            continue  # of a posted user
        if said is None or size not in (None, said):
            expected, found = ("8 bytes" if size is None else size), ("none" if said is None else said)
            yield Found(
                f"sub-tree {safe_text(entry.name)}: blob-size: expected {expected}, found {found}",
                address=entry.address,
                where=f"subtrees[{index}]",
                hint="find what overwrote the root",
            )


def _blob_size(view: View, entry: Subtree, path: str) -> int | None:
    """Size in bytes of what is at the address of a sub-tree, or was before the page was freed. None: unknown."""
    if view.may_be_freed(path):
        roots = {luo_form(RELEASES[name].luo or "") for name in writers_of(view.handover.compatible)}
        sizes = {found.root.size for found in roots if found is not None and found.root is not None}
        return sizes.pop() if entry.name == "LUO" and len(sizes) == 1 else None
    if entry.fdt is not None:
        return entry.fdt.header.totalsize
    luo = luo_form(view.handover.luo.layout) if entry.name == "LUO" and view.handover.luo is not None else None
    if luo is not None and luo.root is not None:
        return luo.root.size
    return kho_kexec_metadata.size if entry.name == "kexec-metadata" and view.handover.kexec_metadata else None


# -- the source --------------------------------------------------------------------------------------------


@register(
    "KHO017",
    "direction-open",
    Severity.INFO,
    kernels="6.16 and later",
    source="finding.md#finding-the-handover",
    is_gate=True,
)
def direction_open(view: View) -> Iterator[Found]:
    """The direction of the root, handed to the running kernel or by it to the next one, is unknown, or inferred from a
    stale map alone.

    It decides which of the other rules apply.
    """
    if view.handover.direction is Direction.UNKNOWN:
        reason = "; ".join(view.handover.evidence) or "unknown direction of the root"
        raise NotJudged(reason, cause="open", about="root")
    for problem in view.problems("direction-by-map"):
        raise NotJudged(problem.message, cause="open", about="root")
    yield from ()


@register(
    "KHO020",
    "own-root-missing",
    Severity.INFO,
    kernels="6.19 and later",
    source="finding.md#finding-the-handover",
    is_gate=True,
)
def own_root_missing(view: View) -> Iterator[Found]:
    """The source has the root that the running kernel got, but not the one that it makes at boot for the next kernel.

    So that root is damaged, or its page is not in the source. Nothing below it can be judged.
    """
    for problem in view.source_problems("no-own-root"):
        raise NotJudged(f"{problem.message} A dump of all pages or --symbols decides", cause="missing")
    yield from ()


@register(
    "KHO021",
    "root-lost",
    Severity.ERROR,
    kernels="6.16 and later",
    source="finding.md#finding-the-handover",
    is_gate=True,
)
def root_lost(view: View) -> Iterator[Found]:
    """setup_data in scratch, or a variable of the running kernel, points to a root, but there is none at its address.

    The running kernel reads its root again when a driver or LUO asks for what was handed over, and does not find it.
    Not judged if only one root was asked for, and no search was made.
    """
    for problem in view.source_problems("root-lost"):
        yield Found(problem.message, address=problem.address, hint="find what overwrote the page of the root")
    for problem in view.source_problems("root-unread"):
        raise NotJudged(f"{problem.message}; a dump of all pages decides", cause="missing")
    for problem in view.source_problems("not-searched"):
        raise NotJudged(problem.message, cause="open")


@register(
    "KHO022",
    "handed-over-unread",
    Severity.INFO,
    kernels="6.16 and later",
    source="finding.md#incoming-or-outgoing",
    is_gate=True,
)
def handed_over_unread(view: View) -> Iterator[Found]:
    """A page of a handover that the running kernel has taken over is not in the source, or damaged there.

    Kernels free most of these pages after they have read them, and a dump without free pages leaves them out. What is
    damaged or absent, or is in a page that no kernel frees, cannot be judged.
    """
    if not view.consumed:
        raise NotApplicable("a kernel has not taken over this handover yet: the rules of each part judge its pages")
    free = None
    for problem in view.problems("missing", "excluded", "page-damaged"):
        if problem.about.endswith(".contents"):
            continue
        if problem.code == "excluded" and view.may_be_freed(problem.about):
            free = free or problem
            continue
        reason = f"{problem.message}; a dump of all pages decides"
        raise NotJudged(reason, cause=cause_of(problem), about=problem.about)
    if free is not None:
        raise NotLookedAt(f"what was at a page that the kernel may have freed: {free.message}")
    yield from ()


@register("KHO023", "contents-unread", Severity.INFO, kernels="6.16 and later", source="finding.md#dump-files")
def contents_unread(view: View) -> Iterator[Found]:
    """Bytes of small files, of drivers, or of unknown kinds are not in the source, or damaged there.

    These are not metadata: a cut leaves them out on purpose, and a state may have been read without them. Damaged ones
    should be there.
    """
    view.need_unconsumed()
    lost = [
        problem for problem in view.problems("missing", "excluded", "page-damaged")
        if problem.about.endswith(".contents")
    ]  # fmt: skip
    for problem in lost:
        if problem.code == "page-damaged":
            raise NotJudged(problem.message, cause=cause_of(problem), about=problem.about)
    if lost:
        raise NotLookedAt(f"the bytes of {len(lost)} folios of files and drivers; the first: {lost[0].message}")
    luo = view.handover.luo
    unread = sum(_is_unread(file) for session in luo.sessions for file in session.files) if luo is not None else 0
    if unread:
        raise NotLookedAt(f"the bytes of {counted(unread, 'small file')}: the state was read without contents")
    yield from ()


def _is_unread(file: File) -> bool:
    """Whether a file is a small memfd without the bytes that a reader of contents would have read, or missed."""
    memfd = file.memfd
    return (
        memfd is not None
        and memfd.folios.count > 0
        and 0 < memfd.size <= LIMITS.contents_size
        and not memfd.contents
    )  # fmt: skip


@register(
    "KHO018",
    "source-truncated",
    Severity.INFO,
    kernels="6.16 and later",
    source="finding.md#finding-the-handover",
    is_gate=True,
)
def source_truncated(view: View) -> Iterator[Found]:
    """The end of the source is missing.

    What it had cannot be judged: another root, pages of the handover, the contents of files.
    """
    for problem in view.source_problems("truncated"):
        raise NotJudged(f"{problem.message}; the complete file decides", cause="missing")
    yield from ()


@register(
    "KHO024",
    "limit-met",
    Severity.INFO,
    kernels="6.16 and later",
    source="finding.md#finding-the-handover",
    is_gate=True,
)
def limit_met(view: View) -> Iterator[Found]:
    """A limit of luoser was met while this handover was read.

    What is beyond it cannot be judged. --limit raises it; `luoser limits` lists all.
    """
    for problem in view.state.problems:
        if problem.code in LIMIT_CODES and problem.root in (None, view.handover.address):
            if problem.about and view.consumed and view.may_be_freed(problem.about):
                continue  # what the next kernel freed
            raise NotJudged(problem.message, cause="limit", about=problem.about)
    yield from ()


# -- the next kernel --------------------------------------------------------------------------------------


def _accepted(release: tuple[int, ...]) -> tuple[str | None, str | None]:
    """(compatible string of the root, that of LUO) that a release accepts. None: it does not have that part."""
    found = known_release(release)
    luo = luo_form(found.luo) if found is not None and found.luo is not None else None
    return found.kho if found is not None else None, luo.compatible if luo is not None else None


@register(
    "KHO012",
    "kernel-pair-refused",
    Severity.ERROR,
    kernels="6.16 to 7.3",
    source="kho.md#what-the-next-kernel-verifies; luo.md#errors",
)
def kernel_pair(view: View) -> Iterator[Found]:
    """The next kernel does not accept the compatible string of the root, or that of LUO.

    With another string of the root, KHO revival is disabled and all preserved memory is lost. With another string of
    LUO, LUO refuses and the kernel panics. A kernel without LUO drops all sessions.
    """
    name, release = view.next_kernel()
    said = view.handover.compatible
    if release[:2] > LAST or said not in _RELEASED:
        reason = f"unknown whether kernel {name} accepts {safe_text(said)}"
        raise NotJudged(reason, cause="unknown-form", about="root")
    root, orchestrator = _accepted(release)
    hint = "live update between these two releases is not possible; boot a kernel that writes the same strings"
    if said != root:
        word = f"the root is {safe_text(said)}, kernel {name} accepts {root or 'no KHO at all'}"
        yield Found(word, address=view.handover.address, where="root", hint=hint)
        return
    luo = view.handover.luo
    if luo is not None and writers_of(luo.layout) and luo.compatible != orchestrator:
        have = safe_text(luo.compatible or "nothing")
        word = f"LUO is {have}, kernel {name} accepts {orchestrator or 'no LUO at all'}"
        yield Found(word, address=luo.address, where="luo", hint=hint)


@register(
    "KHO013",
    "bitmap-width-change",
    Severity.ERROR,
    kernels="6.16 to 7.0",
    source="preserved.md#width-of-a-bitmap",
)
def bitmap_width(view: View) -> Iterator[Found]:
    """The kho-v1 map has bitmaps of 512 bytes, but the next kernel expects a page each, or the other way round.

    A bitmap has 512 bytes up to 6.17.8, and a page since 6.17.9, both under the string kho-v1. So the root is accepted,
    but the wrong memory is reserved, and preserved memory is overwritten.
    """
    name, release = view.next_kernel()
    view.map()
    width = view.handover.preserved.bitmap_size
    form, taker = root_form(view.handover.compatible), known_release(release)
    if form is None or form.map != "chunks" or width is None or taker is None or taker.kho != form.name:
        raise NotApplicable("bitmap width matters only to kho-v1 kernels")
    if any(view.problems("map-width")):
        raise NotJudged("both widths of bitmaps fit these bytes", cause="open", about="preserved")
    wanted = taker.bitmap_size or view.page_size
    if width != wanted:
        yield Found(
            f"bitmaps of the preserved map have {width} bytes, kernel {name} expects {wanted}",
            address=view.handover.preserved.address,
            where="preserved",
            hint="do not kexec between kernels up to 6.17.8 and kernels from 6.17.9 on",
        )
