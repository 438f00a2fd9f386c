# SPDX-License-Identifier: MIT
"""Rules on the root and its sub-trees, and on the kernel that takes over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from luoser.abi.kho import MAP_PROPERTIES, SUBTREE_PROPERTIES, root_form
from luoser.abi.luo import form as luo_form
from luoser.abi.release import LAST, RELEASES, known_release, writers_of
from luoser.checks.model import Found, NotApplicable, NotJudged, NotLookedAt, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.fdt import Fdt
from luoser.state import Direction
from luoser.text import safe_text

__all__: list[str] = []

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

    A kernel accepts its own string only. With any other it prints that KHO revival is disabled, boots as if nothing
    had been handed over, and all preserved memory is lost.
    """
    if view.handover.compatible not in _RELEASED:
        yield Found(
            f"the root says {safe_text(view.handover.compatible)}, which no released kernel accepts",
            address=view.handover.address,
            where="root",
            hint="boot the next kernel from the same release, or look for what wrote over the root",
        )


# -- the root's devicetree --------------------------------------------------------------------------------


def _root(view: View) -> Fdt:
    """The root of a handover that is still to be read by a next kernel."""
    view.need_unconsumed()
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
    """The root's devicetree breaks off or is damaged inside: its tokens do not form a tree.

    A next kernel that cannot read the root disables KHO revival or does not find what stands behind the damage.
    """
    fault = _root(view).fault
    if view.handover.address is None:
        raise NotApplicable("the root was read from a file of debugfs, which the kernel may cut short")
    if fault:
        yield Found(
            f"the root's devicetree cannot be read to its end: {fault}",
            address=view.handover.address,
            where="root",
            hint="look for what wrote over the page of the root; do not kexec",
        )


@register("KHO003", "root-fdt-unusual", Severity.WARNING, kernels="6.16 and later", source="finding.md#page-scan")
def root_unusual(view: View) -> Iterator[Found]:
    """The header of the root's devicetree has values that no kernel writes: it is version 17, compatible with 16, for
    CPU 0, and not larger than a page.

    What a kernel does then is not known; somebody else than KHO wrote these bytes.
    """
    header = _root(view).header
    expected = {"version": 17, "last_comp_version": 16, "boot_cpuid_phys": 0}
    for name, value in expected.items():
        if getattr(header, name) != value:
            yield Found(
                f"the root's devicetree has {name} {getattr(header, name):#x}, expected {value}",
                address=view.handover.address,
                where="root",
                hint="look for what wrote over the header of the root",
            )
    if header.totalsize > view.page_size:
        word = f"the root's devicetree says that it has {header.totalsize:#x} bytes, at most a page is handed over"
        yield Found(word, address=view.handover.address, where="root")


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
    """The root has no property of 8 bytes with the address of the preserved map.

    From 6.19 on a kernel refuses such a root; earlier ones find nothing that is preserved. All memory is lost.
    """
    tree = _root(view)
    if tree.fault:
        raise NotJudged("the root's devicetree cannot be read to its end", cause="damaged", about="root")
    if _map_pointer(tree) is None:
        names = " or ".join(MAP_PROPERTIES)
        yield Found(
            f"the root has no {names} of 8 bytes",
            address=view.handover.address,
            where="root",
            hint="look for what wrote over the root; a next kernel refuses it",
        )


@register(
    "KHO005",
    "map-not-published",
    Severity.ERROR,
    kernels="6.19 and later",
    source="kho.md#what-the-next-kernel-verifies; kho.md#kho-v1; luo.md#order-at-reboot",
)
def map_not_published(view: View) -> Iterator[Found]:
    """The root's pointer to the preserved map is 0: always wrong from kho-v3 on, and in kho-v1 once LUO has serialised.

    A next kernel refuses a root without a map and everything is lost. 6.19 and 7.0 enter the map right after LUO
    has serialised; before that 0 is what one finds.
    """
    if _map_pointer(_root(view)) != 0:
        return
    luo = view.handover.luo
    form = root_form(view.handover.compatible)
    if form is not None and not form.has_map_at_boot and not (luo and luo.serialized and writers_of(luo.layout)):
        raise NotApplicable(f"{form.name} has no map before it is finalised")
    yield Found(
        "the root's map pointer is 0, so that nothing is preserved",
        address=view.handover.address,
        where="root",
        hint="do not kexec before KHO is finalised; a dump taken between serialise and finalise shows this as well",
    )


@register(
    "KHO006",
    "subtree-no-address",
    Severity.ERROR,
    kernels="6.16 and later",
    source="finding.md#page-scan; kho.md#root-devicetree-by-version",
)
def subtree_address(view: View) -> Iterator[Found]:
    """A child of the root has no property of 8 bytes with the address of a page.

    Its owner finds nothing in the next kernel: the state is lost; LUO panics when its own cannot be restored.
    """
    for index, node in enumerate(_root(view).root.nodes):
        value = next((value for name in SUBTREE_PROPERTIES if (value := node.u64(name)) is not None), None)
        if value is None or not 0 < value < 1 << 52 or value % view.page_size:
            said = "no address" if value is None else f"{value:#x}, which is no page address"
            yield Found(
                f"sub-tree {safe_text(node.name)} has {said}; expected {' or '.join(SUBTREE_PROPERTIES)} of a page",
                address=view.handover.address,
                where=f"subtrees[{index}]",
                hint="look for what wrote over the root, or for the driver that added this sub-tree",
            )


@register("KHO007", "subtree-duplicate-name", Severity.ERROR, kernels="6.16 and later", source="kho.md#invariants")
def subtree_names(view: View) -> Iterator[Found]:
    """Two children of the root have one name.

    A look-up by name reaches one of them only; the state of the other is lost.
    """
    names = Counter(node.name for node in _root(view).root.nodes)
    for name, count in names.items():
        if count > 1:
            yield Found(
                f"{count} sub-trees are called {safe_text(name)}; a kernel finds one of them",
                address=view.handover.address,
                where="subtrees",
                hint="give each KHO user a name of its own",
            )


# -- what was seen ------------------------------------------------------------------------------------------


@register("KHO017", "direction-open", Severity.INFO, kernels="6.16 and later", source="finding.md#finding-the-handover")
def direction_open(view: View) -> Iterator[Found]:
    """The evidence leaves open whether the root was handed to the running kernel, or by it to the next one.

    Which of the other rules apply depends on it.
    """
    if view.handover.direction is Direction.UNKNOWN:
        reason = "; ".join(view.handover.evidence) or "the direction of the root is not known"
        raise NotJudged(reason, cause="open", about="root")
    yield from ()


@register(
    "KHO018", "source-truncated", Severity.INFO, kernels="6.16 and later", source="finding.md#finding-the-handover"
)
def source_truncated(view: View) -> Iterator[Found]:
    """The end of the source is missing.

    What was there cannot be judged: another root, pages of the handover, the contents of files.
    """
    for problem in view.state.problems:
        if problem.code == "truncated":
            raise NotJudged(f"{problem.message}; the whole file decides", cause="missing")
    yield from ()


# -- the next kernel --------------------------------------------------------------------------------------


def _accepted(release: tuple[int, ...]) -> tuple[str | None, str | None]:
    """The strings of root and LUO that a kernel accepts; None for a part that it does not have."""
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
    """The next kernel accepts another compatible string of the root, or of LUO, than this handover has.

    Another string of the root: KHO revival is disabled and all preserved memory is lost. Another string of LUO: LUO
    refuses and its next kernel panics; a kernel without LUO drops all sessions.
    """
    name, release = view.next_kernel()
    said = view.handover.compatible
    if release[:2] > LAST or said not in _RELEASED:
        reason = f"it is not established whether kernel {name} accepts {safe_text(said)}"
        raise NotJudged(reason, cause="unknown-form", about="root")
    root, orchestrator = _accepted(release)
    hint = "live update between these two releases is not possible; boot a kernel that writes the same strings"
    if said != root:
        word = f"the root says {safe_text(said)}, kernel {name} accepts {root or 'no KHO at all'}"
        yield Found(word, address=view.handover.address, where="root", hint=hint)
        return
    luo = view.handover.luo
    if luo is not None and writers_of(luo.layout) and luo.compatible != orchestrator:
        have = safe_text(luo.compatible or "nothing")
        word = f"LUO says {have}, kernel {name} accepts {orchestrator or 'no LUO at all'}"
        yield Found(word, address=luo.address, where="luo", hint=hint)


@register(
    "KHO013",
    "bitmap-width-change",
    Severity.ERROR,
    kernels="6.16 to 7.0",
    source="preserved.md#width-of-a-bitmap",
)
def bitmap_width(view: View) -> Iterator[Found]:
    """The kho-v1 map has bitmaps of 512 bytes while the next kernel reads a page each, or the other way round.

    Up to 6.17.8 a bitmap has 512 bytes, since 6.17.9 a page; both call it kho-v1. The check of versions passes, the
    wrong memory is reserved, and the preserved memory is overwritten.
    """
    name, release = view.next_kernel()
    view.map()
    width = view.handover.preserved.bitmap_size
    form, taker = root_form(view.handover.compatible), known_release(release)
    if form is None or form.map != "chunks" or width is None or taker is None or taker.kho != form.name:
        raise NotApplicable("bitmap width matters only to kho-v1 kernels")
    if any(view.problems("map-width")):
        raise NotJudged("these bytes fit both widths of bitmaps", cause="open", about="preserved")
    wanted = taker.bitmap_size or view.page_size
    if width != wanted:
        yield Found(
            f"bitmaps of the preserved map have {width} bytes, kernel {name} reads {wanted} of each",
            address=view.handover.preserved.address,
            where="preserved",
            hint="do not kexec between kernels up to 6.17.8 and kernels from 6.17.9 on",
        )
