# SPDX-License-Identifier: MIT
"""Rules on preserved memfds: their descriptors and folios."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace

from luoser.abi.memfd import FOLIO_FLAGS, SEALS, form, form_of_handler, memfd_luo_folio_ser
from luoser.abi.release import release_numbers
from luoser.checks.block import BROKEN, UNREAD
from luoser.checks.model import Found, NotApplicable, NotJudged, Severity
from luoser.checks.rule import register
from luoser.checks.view import View, cause_of
from luoser.state import Direction, File, Memfd, Problem
from luoser.text import human_size

__all__ = ["LOST", "each", "memfds", "unread_memfd"]

_KNOWN_SEALS = sum(SEALS)
_EXEC, _WITH_EXEC = 32, 2 | 4 | 8 | 16
"""F_SEAL_EXEC, and the seals that an executable file gets with it."""
_SOUND_FLAGS = sum(FOLIO_FLAGS)
"""The flags of a folio: dirty and up to date."""
_FIRST_FIXED = (6, 19, 14)
"""First release that sets both flags for all folios."""
LOST = "the next kernel cannot retrieve this file: its memory is lost"


# -- shared by the rules ----------------------------------------------------------------------------------


def memfds(view: View) -> Iterator[tuple[str, str, File]]:
    """(path, name for messages, file) of each memfd.

    Raises NotApplicable if the handover is consumed, not serialised yet, or without memfds.
    """
    view.need_unconsumed()
    view.need_sessions()
    some = False
    for where, session, file in view.files():
        if form_of_handler(file.compatible) is not None:
            some = True
            yield where, view.name_of(session, file), file
    if not some:
        raise NotApplicable("no memfd is preserved")


def each(view: View, judge: Callable[[Memfd], str | None], hint: str, *, folios: bool = True) -> Iterator[Found]:
    """A finding for each memfd in which something is wrong.

    view:   the handover.
    judge:  what is wrong with a memfd, in words. None: nothing.
    hint:   of the findings.
    folios: whether it needs the folio array.

    Raises NotJudged at the end if some memfd could not be read.
    """
    zero, unread = view.subjects("zero-memfd"), ""
    for where, name, file in memfds(view):
        memfd = file.memfd
        said = judge(memfd) if memfd is not None else None
        if memfd is not None and said is not None:
            yield Found(f"{name}: {said}", address=memfd.address, where=where, hint=hint)
        elif where not in zero and (memfd is None or (folios and not _is_whole(memfd))):
            unread = unread or where
    if unread:
        raise unread_memfd(view, unread)


def _is_merged(memfd: Memfd) -> bool:
    """Whether it has a merged form: a struct with a folio array in a vmalloc area."""
    found = form(memfd.layout)
    return found is not None and found.descriptor is not None


def unread_memfd(view: View, where: str) -> NotJudged:
    """The exception for a memfd whose descriptor or folio array could not be read. where: path of the file."""
    codes = (*UNREAD, *BROKEN, "short-list", "bad-memfd", "no-fdt", "bad-fdt")
    problems = [*view.problems(*codes, about=where), *view.problems(*codes, about=f"{where}.memfd.folios")]
    said = problems[0].message if problems else f"{where}: its descriptor or folio array cannot be read"
    return NotJudged(said, cause=cause_of(problems[0]) if problems else "damaged", about=where)


def _is_whole(memfd: Memfd) -> bool:
    return len(memfd.folios.list) == memfd.folios.count


def _spans(view: View, memfd: Memfd) -> Iterator[tuple[int, int, int]]:
    """(index, address, size in bytes) of each folio except holes: the size of its block in the map, else a page."""
    page = view.page_size
    for (index, address, _), order in zip(memfd.folios.list.rows(), view.folio_orders(memfd), strict=True):
        if address:
            yield index, address, page << order


def _rounded(view: View, size: int) -> int:
    return -(-size // view.page_size) * view.page_size


# -- the descriptor ---------------------------------------------------------------------------------------


@register("MFD001", "descriptor-illegal", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_descriptor(view: View) -> Iterator[Found]:
    """The handle of a memfd is not the address of a page, or its descriptor has values that no kernel writes: more
    folios than fit the array, an array without folios, a negative size or position, other bytes in its page.

    Retrieving the file fails, or the kernel oopses, and its memory is lost.
    """
    found = view.subjects("bad-memfd", "bad-pointer", "no-fdt", "bad-fdt")
    unread = view.subjects("missing", "excluded", "page-damaged")
    skipped: Problem | None = None
    for where, _, file in memfds(view):
        for problem in found.get(where, ()):
            yield Found(problem.message, address=problem.address, where=where, hint=LOST)
        if file.memfd is None and where in unread:
            skipped = skipped or unread[where][0]
    if skipped is not None:
        raise NotJudged(skipped.message, cause=cause_of(skipped), about=skipped.about)


@register(
    "MFD002",
    "descriptor-zero",
    Severity.INFO,
    kernels="6.19 and later",
    source="memfd.md#invariants; memfd.md#what-a-real-kernel-did-with-broken-memfds",
)
def memfd_zero(view: View) -> Iterator[Found]:
    """A memfd's descriptor is all zeros, or all zeros except for a position.

    An empty file without seals has the first; the second, a warning, is an empty file whose position was moved.
    Otherwise the page was cleared, or a part of it, and the contents of the file are lost. PEN007 finds that out, where
    the running kernel's own file is known.
    """
    zero = view.subjects("zero-memfd")
    for where, name, file in memfds(view):
        if where in zero:
            yield Found(
                f"{name}: descriptor is all zeros, as of an empty file",
                address=file.data,
                where=where,
                hint=_CLEARED,
            )
        elif file.memfd is not None and file.memfd.position and not file.memfd.size and not file.memfd.folios.count:
            yield Found(
                f"{name}: empty, but its position is {file.memfd.position:#x}",
                address=file.data,
                where=where,
                hint=_CLEARED,
                severity=Severity.WARNING,
            )


_CLEARED = "if the file was not empty when it was preserved, it is lost: find what cleared this page"


@register("MFD012", "seals-unknown", Severity.ERROR, kernels="7.1 and later", source="memfd.md#invariants")
def memfd_seals(view: View) -> Iterator[Found]:
    """A memfd has other seals than the six that exist, or EXEC without those against writing.

    The next kernel checks the seals when the file is retrieved, and refuses unknown ones: the memory of the file is
    lost. It makes an executable file. For such a one EXEC brings SHRINK, GROW, WRITE and FUTURE_WRITE with it, so that
    a file of MFD_NOEXEC_SEAL comes back as one that nobody can write to (7.3.4; memfd_add_seals of mm/memfd.c).
    """

    def judge(memfd: Memfd) -> str | None:
        seals = memfd.seals or 0
        if strange := seals & ~_KNOWN_SEALS:
            return f"seals {seals:#x} include unknown ones, {strange:#x}"
        if seals & _EXEC and seals & _WITH_EXEC != _WITH_EXEC:
            return f"seals {seals:#x} have EXEC: the next kernel adds SHRINK, GROW, WRITE and FUTURE_WRITE"
        return None

    hint = "the next kernel cannot retrieve this file, or gives back one that nobody can write to"
    yield from each(view, judge, hint, folios=False)


@register("MFD013", "descriptor-flags", Severity.ERROR, kernels="7.1 and later", source="memfd.md#invariants")
def memfd_flags(view: View) -> Iterator[Found]:
    """A memfd's flags are not 0.

    They are reserved: kernels write 0. So the descriptor was changed later, or a kernel that luoser does not know wrote
    it.
    """

    def judge(memfd: Memfd) -> str | None:
        return f"flags are {memfd.flags:#x}, expected 0" if memfd.flags else None

    yield from each(view, judge, "find what overwrote the descriptor", folios=False)


@register("MFD006", "array-size", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_array_size(view: View) -> Iterator[Found]:
    """A folio array has more pages than its folios need.

    Kernels allocate exactly as many pages as needed. So the count or the descriptor was changed later: retrieving the
    file fails with -EINVAL.
    """

    def judge(memfd: Memfd) -> str | None:
        folios, entry = memfd.folios, memfd_luo_folio_ser.size
        needed = -(-folios.count * entry // view.page_size)
        if not _is_merged(memfd) or folios.order or folios.total_pages == needed:
            return None
        return f"folio array has {folios.total_pages} pages for {folios.count} folios, expected {needed}"

    yield from each(view, judge, "check whether folios at the end are missing", folios=False)


# -- the folios -------------------------------------------------------------------------------------------


@register("MFD007", "index-not-ascending", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_indices(view: View) -> Iterator[Found]:
    """A folio's index is not after the previous folio, or not a multiple of its own pages.

    It is a duplicate, or is inside of a larger folio, or between two places that a folio of this size can have.

    Kernels write folios in the order of the file, each at a multiple of its size, so an index was overwritten. The
    next kernel puts a folio where its index says, a larger one at the multiple of its size before. It refuses a second
    one at the same place, so that the file cannot be retrieved; if no place is taken twice, it takes them all, and the
    folio with the wrong index is at the wrong place.
    """

    def judge(memfd: Memfd) -> str | None:
        end, last, page = 0, -1, view.page_size
        for index, address, _ in memfd.folios.list.rows():
            if not address and index <= last:
                return f"a folio without a page has index {index:#x}, expected {last + 1:#x} or higher"
            last = index
        for index, address, size in _spans(view, memfd):
            if index < end:
                return f"folio {address:#x} has index {index:#x}, expected {end:#x} or higher"
            if index % (size // page):
                return f"folio {address:#x} has index {index:#x}, expected a multiple of its {size // page} pages"
            end = index + size // page
        return None

    yield from each(
        view, judge, "do not boot the next kernel: retrieving the file fails, or a page of it is at the wrong place"
    )


@register("MFD008", "index-beyond-size", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_beyond(view: View) -> Iterator[Found]:
    """A folio begins after the end of its file.

    The last folio may extend beyond the end, but does not begin there. So the size or the index is wrong. The next
    kernel cannot read what is beyond the size.
    """

    def judge(memfd: Memfd) -> str | None:
        pages = -(-memfd.size // view.page_size)
        beyond = [index for index, address, _ in memfd.folios.list.rows() if address and index >= pages]
        if not beyond:
            return None
        return f"{len(beyond)} folios begin after the end, {memfd.size:#x} bytes, the first at index {beyond[0]:#x}"

    yield from each(view, judge, "compare the size with that expected by the owner of the file")


@register("MFD009", "folio-flags", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_folio_flags(view: View) -> Iterator[Found]:
    """A folio is not marked as dirty and up to date.

    The first releases of 6.19 hand over folios that were never filled, without clearing them: the file then has old
    memory in place of zeros. A folio that is not dirty is dropped if memory is short. Fixed by 7e04bf1f3315: later
    kernels mark all, so it is an error; if the kernel that wrote them is older or unknown, this is only a hint.
    """
    writer = _writer(view)
    severity = Severity.ERROR if writer is not None and writer >= _FIRST_FIXED else Severity.INFO

    def judge(memfd: Memfd) -> str | None:
        if not _is_merged(memfd):
            return None
        odd = [row for row in memfd.folios.list.rows() if row[1] and row[2] & _SOUND_FLAGS != _SOUND_FLAGS]
        if not odd:
            return None
        _, address, flags = odd[0]
        return (
            f"{len(odd)} folios with wrong flags, the first at {address:#x}: expected {_SOUND_FLAGS}, found {flags:#x}"
        )

    hint = "use a kernel with 7e04bf1f3315 (6.19.14 or later), and write to the whole file before preserving it"
    for found in each(view, judge, hint):
        yield replace(found, severity=severity)


@register("MFD016", "folio-flags-unknown", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_unknown_flags(view: View) -> Iterator[Found]:
    """A folio has flags that no kernel writes.

    They are the upper bits of the number of its page. So the entry was changed later, and its address is in doubt.
    """
    known = sum(FOLIO_FLAGS)

    def judge(memfd: Memfd) -> str | None:
        odd = [row for row in memfd.folios.list.rows() if row[2] & ~known] if _is_merged(memfd) else []
        if not odd:
            return None
        return f"{len(odd)} folios with unknown flags, the first at {odd[0][1]:#x}: found {odd[0][2]:#x}"

    yield from each(view, judge, "find what overwrote the folio array")


def _writer(view: View) -> tuple[int, ...] | None:
    """Release of the kernel that wrote the handover, as numbers. None: unknown."""
    metadata = view.handover.kexec_metadata
    said = view.state.source.kernel if view.handover.direction is Direction.OUTGOING else None
    return release_numbers(said or (metadata.previous_release if metadata is not None else ""))


@register(
    "MFD010", "folio-shared", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants; luo.md#errors"
)
def memfd_shared(view: View) -> Iterator[Found]:
    """Two folios, of one file or of two, are the same memory, or overlap.

    Kernels do not preserve a file twice. The next kernel restores a page once: retrieving the second file fails, and
    its memory is lost. One finding for each file that uses memory of another.
    """
    files = list(memfds(view))
    spans = sorted(
        (address, address + size, number)
        for number, (_, _, file) in enumerate(files)
        if file.memfd is not None
        for _, address, size in _spans(view, file.memfd)
    )
    reported: set[int] = set()
    end, owner = 0, -1
    for start, stop, number in spans:
        if start < end and number not in reported:
            reported.add(number)
            where, name, _ = files[number]
            other = "twice in this file" if owner == number else f"already in {files[owner][1]}"
            yield Found(
                f"{name}: folio {start:#x} is {other}",
                address=start,
                where=f"{where}.memfd.folios",
                hint="do not boot the next kernel: two owners of a page corrupt each other",
            )
        if stop > end:
            end, owner = stop, number
    unread = {where for where, _, file in files if file.memfd is None or not _is_whole(file.memfd)}
    left = sorted(unread - view.subjects("zero-memfd").keys())
    if left:
        raise unread_memfd(view, left[0])


@register("MFD011", "file-incomplete", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_incomplete(view: View) -> Iterator[Found]:
    """A memfd's folios do not cover its size.

    Kernels fill holes before they preserve a file, so each page has a folio. In the next kernel missing pages are
    zeros: a guest loses that memory.
    """
    view.map()

    def judge(memfd: Memfd) -> str | None:
        if not _is_whole(memfd) or not _is_merged(memfd):
            return None
        limit, page = _rounded(view, memfd.size), view.page_size
        spans = ((index * page, size) for index, _, size in _spans(view, memfd))
        there = sum(size if start + size <= limit else max(0, limit - start) for start, size in spans)
        if there >= limit:
            return None
        return f"folios cover {human_size(there)} of {human_size(limit)}; the rest will be zeros"

    yield from each(view, judge, "compare the size with that expected by the owner of the file")


@register("MFD015", "folio-outside-ram", Severity.ERROR, kernels="6.19 and later", source="memfd.md#invariants")
def memfd_outside_ram(view: View) -> Iterator[Found]:
    """A folio is outside the RAM of the machine.

    There is no such page: retrieving the file fails, or the kernel accesses addresses without memory.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(view.known_ram()):
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    starts = [start for start, _ in ranges]

    def judge(memfd: Memfd) -> str | None:
        for _, address, size in _spans(view, memfd):
            place = bisect_right(starts, address) - 1
            if place < 0 or address + size > ranges[place][1]:
                return f"folio {address:#x} of {human_size(size)} is not in RAM"
        return None

    yield from each(view, judge, LOST)
