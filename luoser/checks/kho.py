# SPDX-License-Identifier: MIT
"""Rules on the root, its sub-trees and the plain users of KHO."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from luoser.abi.kho import MAP_PROPERTIES, SUBTREE_PROPERTIES
from luoser.abi.preserved import SMALL_BITMAP
from luoser.checks.model import Found, Severity, Skip, register
from luoser.checks.view import View
from luoser.fdt import Fdt
from luoser.state import Direction
from luoser.text import safe_text

__all__: list[str] = []

_RELEASED = frozenset({"kho-v1", "kho-v3", "kho-v4"})
_FIRST, _LAST = (6, 16), (7, 3)
"""First release with KHO, and the last of which it is known what it accepts."""
_WIDE_SINCE = (6, 17, 9)
_MERGED_LUO = frozenset({"luo-v1", "luo-v1-flb", "luo-v5"})
_TEST_MAGIC = 0x4B484F21
_MOST_RESERVATIONS, _LONGEST_LABEL = 8, 15
_SCRATCH_UNIT = 4 << 20


@register("KHO001", "root-version-unknown", Severity.ERROR, kernels="6.16 and later", source="kho.md 1.4, 2.2, 2.5")
def root_version(view: View) -> Iterator[Found]:
    """The root's compatible string is not one that a released kernel writes: kho-v1, kho-v3, kho-v4.

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
        raise Skip("the root's devicetree is not in the state")
    return view.handover.fdt


@register("KHO002", "root-fdt-damaged", Severity.ERROR, kernels="6.16 and later", source="kho.md 1.4, 1.7")
def root_damaged(view: View) -> Iterator[Found]:
    """The root's devicetree breaks off or is damaged inside: its tokens do not form a tree.

    A next kernel that cannot read the root disables KHO revival or does not find what stands behind the damage.
    """
    fault = _root(view).fault
    if view.handover.address is None:
        raise Skip("the root was read from a file of debugfs, which the kernel may cut short")
    if fault:
        yield Found(
            f"the root's devicetree cannot be read to its end: {fault}",
            address=view.handover.address,
            where="root",
            hint="look for what wrote over the page of the root; do not kexec",
        )


@register("KHO003", "root-fdt-unusual", Severity.WARNING, kernels="6.16 and later", source="kho.md 1.7")
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


@register("KHO004", "map-pointer-missing", Severity.ERROR, kernels="6.16 and later", source="kho.md 1.4, 2.1")
def map_pointer_missing(view: View) -> Iterator[Found]:
    """The root has no property of 8 bytes with the address of the preserved map.

    From 6.19 on a kernel refuses such a root; earlier ones find nothing that is preserved. All memory is lost.
    """
    tree = _root(view)
    if tree.fault:
        raise Skip("the root's devicetree cannot be read to its end")
    if _map_pointer(tree) is None:
        names = " or ".join(MAP_PROPERTIES)
        yield Found(
            f"the root has no {names} of 8 bytes",
            address=view.handover.address,
            where="root",
            hint="look for what wrote over the root; a next kernel refuses it",
        )


@register("KHO005", "map-not-published", Severity.ERROR, kernels="6.19 and later", source="kho.md 1.4, 2.1; luo.md 3.5")
def map_not_published(view: View) -> Iterator[Found]:
    """The root's pointer to the preserved map is 0: always wrong from kho-v3 on, and in kho-v1 once LUO has serialised.

    A next kernel refuses a root without a map and everything is lost. 6.19 and 7.0 enter the map right after LUO
    has serialised; before that 0 is what one finds.
    """
    if _map_pointer(_root(view)) != 0:
        return
    luo = view.handover.luo
    if view.handover.compatible == "kho-v1" and not (luo and luo.serialized and luo.layout in _MERGED_LUO):
        raise Skip("kho-v1 has no map before it is finalised")
    yield Found(
        "the root's map pointer is 0, so that nothing is preserved",
        address=view.handover.address,
        where="root",
        hint="do not kexec before KHO is finalised; a dump taken between serialise and finalise shows this as well",
    )


@register("KHO006", "subtree-no-address", Severity.ERROR, kernels="6.16 and later", source="kho.md 1.7, 2")
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


@register("KHO007", "subtree-duplicate-name", Severity.ERROR, kernels="6.16 and later", source="kho.md 7")
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


# -- users ------------------------------------------------------------------------------------------------


def _place(view: View, name: str) -> int | None:
    """Where a sub-tree that this handover has lies."""
    subtree = next((subtree for subtree in view.handover.subtrees if subtree.name == name), None)
    if subtree is None:
        raise Skip(f"no sub-tree {name}")
    return subtree.address


@register("KHO009", "kexec-metadata-bad", Severity.WARNING, kernels="7.1 and later", source="kho.md 6.1, 7")
def metadata(view: View) -> Iterator[Found]:
    """The sub-tree kexec-metadata is not version 1 with a release and a count from 1 on, or is shorter than that.

    The next kernel ignores it with a message; only the history of kexecs is lost.
    """
    view.need_unconsumed()
    place = _place(view, "kexec-metadata")
    hint = "harmless for what is preserved; look for what wrote over the page"
    for problem in view.problems("bad-metadata"):
        yield Found(problem.message, address=problem.address, where="kexec_metadata", hint=hint)
    found = view.handover.kexec_metadata
    if found is not None and found.kexec_count == 0:
        word = "kexec_count is 0; the first kernel writes 1 for the next"
        yield Found(word, address=place, where="kexec_metadata", hint=hint)


@register("KHO010", "memblock-bad", Severity.ERROR, kernels="6.16 and later", source="kho.md 6.2")
def memblock(view: View) -> Iterator[Found]:
    """The sub-tree memblock is not memblock-v1, or one of its regions has no start, no size, a size of 0, or a name
    that is too long or taken twice; or there are more than 8.

    The next kernel takes a reserve_mem region over only when its name and size match; otherwise it allocates a new
    one, and what was in the old one is lost.
    """
    view.need_unconsumed()
    place = _place(view, "memblock")
    hint = "look for what wrote over the devicetree; boot with the same reserve_mem= as this kernel"
    for problem in view.problems("bad-memblock"):
        yield Found(problem.message, address=problem.address, where="memblock", hint=hint)
    found = view.handover.memblock
    if found is None:
        return
    names = Counter(region.name for region in found.reservations)
    for index, region in enumerate(found.reservations):
        faults = {
            "has a size of 0": region.size == 0,
            f"has a name of more than {_LONGEST_LABEL} characters": len(region.name) > _LONGEST_LABEL,
            "has the name of another": names[region.name] > 1,
        }
        for fault in (fault for fault, broken in faults.items() if broken):
            word = f"reserve_mem region {safe_text(region.name)} {fault}"
            yield Found(word, address=place, where=f"memblock.reservations[{index}]", hint=hint)
    if len(found.reservations) > _MOST_RESERVATIONS:
        word = f"{len(found.reservations)} reserve_mem regions; a kernel has at most {_MOST_RESERVATIONS}"
        yield Found(word, address=place, where="memblock", hint=hint)


@register("KHO011", "counts-disagree", Severity.WARNING, kernels="7.1 and later", source="luo.md 2, 9; kho.md 6.1")
def counts(view: View) -> Iterator[Found]:
    """LUO's liveupdate_number is larger than the kexec_count of kexec-metadata.

    Both count for the next kernel, and every live update is a KHO kexec; a kexec without LUO counts in one only. One
    of the two is wrong, and what reads it draws wrong conclusions.
    """
    luo, found = view.luo(), view.handover.kexec_metadata
    if found is None or luo.number is None:
        raise Skip("no liveupdate number or no kexec count to compare")
    if found.kexec_count and luo.number > found.kexec_count:
        yield Found(
            f"liveupdate_number is {luo.number}, but only {found.kexec_count} KHO kexecs are counted",
            address=luo.address,
            where="luo.number",
            hint="look for what wrote over one of them",
        )


@register("KHO014", "kho-test-bad", Severity.WARNING, kernels="6.17 and later", source="kho.md 6.3")
def kho_test(view: View) -> Iterator[Found]:
    """The sub-tree of the KHO self-test has a wrong magic, or its list of folios is broken.

    The test module of the next kernel says that its memory is not what it preserved. Only test data is concerned.
    """
    view.need_unconsumed()
    place = _place(view, "kho_test")
    hint = "only the self-test fails; but what broke it may break other memory"
    for problem in view.problems("bad-kho-test"):
        yield Found(problem.message, address=problem.address, where="kho_test", hint=hint)
    found = view.handover.kho_test
    if found is not None and found.magic != _TEST_MAGIC:
        word = f"magic of the KHO self-test is {found.magic:#x}, expected {_TEST_MAGIC:#x}"
        yield Found(word, address=place, where="kho_test", hint=hint)


# -- the next kernel --------------------------------------------------------------------------------------

_Release = tuple[int, ...]


def _target(view: View) -> tuple[str, _Release]:
    """The next kernel's release, as written and as numbers."""
    text = view.target()
    if view.handover.direction is Direction.INCOMING:
        raise Skip("a kernel has taken this handover over already")
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    if match is None:
        raise Skip(f"{safe_text(text)} is no release such as 7.3.4")
    return safe_text(text), tuple(int(part) for part in match.groups(default="0"))


def _accepted(release: _Release) -> tuple[str | None, str | None]:
    """The strings of root and LUO that a kernel accepts; None for a part that it does not have."""
    if release[:2] < _FIRST:
        return None, None
    if release[:2] < (7, 1):
        return "kho-v1", None if release[:2] < (6, 19) else "luo-v1"
    return ("kho-v3", "luo-v1") if release[:2] == (7, 1) else ("kho-v4", "luo-v5")


@register("KHO012", "kernel-pair-refused", Severity.ERROR, kernels="6.16 to 7.3", source="kho.md 1.4; luo.md 2.5")
def kernel_pair(view: View) -> Iterator[Found]:
    """The next kernel accepts another compatible string of the root, or of LUO, than this handover has.

    Another string of the root: KHO revival is disabled and all preserved memory is lost. Another string of LUO: LUO
    refuses and its next kernel panics; a kernel without LUO drops all sessions.
    """
    name, release = _target(view)
    said = view.handover.compatible
    if release[:2] > _LAST or said not in _RELEASED:
        raise Skip(f"it is not established whether kernel {name} accepts {safe_text(said)}")
    root, orchestrator = _accepted(release)
    hint = "live update between these two releases is not possible; boot a kernel that writes the same strings"
    if said != root:
        word = f"the root says {safe_text(said)}, kernel {name} accepts {root or 'no KHO at all'}"
        yield Found(word, address=view.handover.address, where="root", hint=hint)
        return
    luo = view.handover.luo
    if luo is not None and luo.layout in _MERGED_LUO and luo.compatible != orchestrator:
        have = safe_text(luo.compatible or "nothing")
        word = f"LUO says {have}, kernel {name} accepts {orchestrator or 'no LUO at all'}"
        yield Found(word, address=luo.address, where="luo", hint=hint)


@register("KHO013", "bitmap-width-change", Severity.ERROR, kernels="6.16 to 7.0", source="kho.md 3.1; README.md")
def bitmap_width(view: View) -> Iterator[Found]:
    """The kho-v1 map has bitmaps of 512 bytes while the next kernel reads a page each, or the other way round.

    Up to 6.17.8 a bitmap has 512 bytes, since 6.17.9 a page; both call it kho-v1. The check of versions passes, the
    wrong memory is reserved, and the preserved memory is overwritten.
    """
    name, release = _target(view)
    view.map()
    width = view.handover.preserved.bitmap_size
    if view.handover.compatible != "kho-v1" or width is None or not _FIRST <= release[:2] < (7, 1):
        raise Skip("only kernels with kho-v1 read bitmaps of a width")
    if any(view.problems("map-width")):
        raise Skip("these bytes fit both widths of bitmaps")
    wanted = view.page_size if release >= _WIDE_SINCE else SMALL_BITMAP
    if width != wanted:
        yield Found(
            f"bitmaps of the preserved map have {width} bytes, kernel {name} reads {wanted} of each",
            address=view.handover.preserved.address,
            where="preserved",
            hint="do not kexec between kernels up to 6.17.8 and kernels from 6.17.9 on",
        )


# -- scratch ----------------------------------------------------------------------------------------------


@register("KHO015", "scratch-overlap", Severity.WARNING, kernels="6.16 and later", source="kho.md 1.3")
def scratch_overlap(view: View) -> Iterator[Found]:
    """Two scratch areas share memory.

    The areas are disjoint when a kernel makes them; the array has been written over or passed on wrongly.
    """
    areas = sorted((area.address, area.size) for area in view.scratch() if area.size)
    for (start, size), (following, _) in pairwise(areas):
        if following < start + size:
            yield Found(
                f"scratch areas {start:#x}-{start + size:#x} and the one from {following:#x} on overlap",
                address=following,
                where="scratch",
                hint="look for what wrote over the array of scratch areas",
            )


@register("KHO016", "scratch-shape", Severity.WARNING, kernels="6.16 and later", source="kho.md 1.1, 1.3")
def scratch_shape(view: View) -> Iterator[Found]:
    """There are fewer than two scratch areas, the low or the global one is empty, or one is not a multiple of 4 MiB in
    kho-v4.

    The next kernel allocates all its early memory from scratch; without the first two it has none to boot with.
    """
    areas = view.scratch()
    hint = "look for what wrote over the array of scratch areas, and at kho_scratch= on the command line"
    if len(areas) < 2:
        yield Found(
            f"{len(areas)} scratch area, expected one for low memory and a global one", where="scratch", hint=hint
        )
    for index, area in enumerate(areas):
        where = f"scratch[{index}]"
        if not area.size and index < 2:
            word = f"the {'low' if index == 0 else 'global'} scratch area is empty"
            yield Found(word, address=area.address, where=where, hint=hint)
        elif view.handover.compatible == "kho-v4" and (area.address | area.size) % _SCRATCH_UNIT:
            word = f"scratch area {area.address:#x} of {area.size:#x} bytes is not aligned to {_SCRATCH_UNIT:#x}"
            yield Found(word, address=area.address, where=where, hint=hint)
