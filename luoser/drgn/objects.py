# SPDX-License-Identifier: MIT
"""Objects of drgn for what is handed over: sessions, files, pages of memfds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from luoser.errors import UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.state import File, Handover, MapStatus, Memfd, PendingFile, Preserved, PreservedMap, State
from luoser.text import safe_text

if TYPE_CHECKING:
    import drgn

__all__ = ["kho_preserved", "luo_files", "luo_memfd_pages", "luo_sessions", "state"]

_CACHED = "luoser"
"""Key in the cache of a program that does not change."""


def state(prog: drgn.Program, **options: Any) -> State:
    """The state of a program, as `luoser.read` gives it.

    prog:    a drgn program of a Linux kernel, with debug info or without.
    options: of `luoser.read`. Without any, the state of a dump is read once.

    Raises as `memory` and `luoser.read` do.
    """
    from drgn import ProgramFlags

    from luoser.drgn.source import memory
    from luoser.reader import read

    may_keep = not options and not prog.flags & ProgramFlags.IS_LIVE
    if may_keep and _CACHED in prog.cache:
        return prog.cache[_CACHED]  # type: ignore[no-any-return]
    with memory(prog) as source:
        found = read(source, **options)
    if may_keep:
        prog.cache[_CACHED] = found
    return found


# -- the kernel's own lists -------------------------------------------------------------------------------


def luo_sessions(prog: drgn.Program, side: Literal["outgoing", "incoming"] = "outgoing") -> Iterator[drgn.Object]:
    """Each `struct luo_session *` of the running kernel.

    side: `outgoing`: sessions that will be handed over; `incoming`: those that were, and are not finished.

    Needs debug info. Raises UsageError without it, or for a kernel without LUO; drgn's ValidationError for a list that
    is broken or does not end, FaultError for memory that is not there.
    """
    if side not in ("outgoing", "incoming"):
        raise UsageError(f"side: expected outgoing or incoming, found {safe_text(side)!r}")
    head = _variable(prog, "luo_session_global").member_(side).list
    return _items(head, "struct luo_session")


def luo_files(session: drgn.Object) -> Iterator[drgn.Object]:
    """Each `struct luo_file *` of a session.

    session: `struct luo_session *` or `struct luo_session`.

    Raises ValidationError and FaultError as `luo_sessions` does.
    """
    return _items(session.file_set.files_list, "struct luo_file")


def _variable(prog: drgn.Program, name: str) -> drgn.Object:
    try:
        return prog[name]
    except LookupError:
        text = "its debug info has none: a kernel without LUO, or vmlinux is not loaded (drgn -s vmlinux)"
        raise UsageError(f"{name}: {text}; luoser.drgn.state(prog) does without") from None


def _items(head: drgn.Object, struct: str) -> Iterator[drgn.Object]:
    from drgn.helpers import ValidationError
    from drgn.helpers.linux.list import validate_list_for_each_entry

    for count, item in enumerate(validate_list_for_each_entry(struct, head.address_of_(), "list")):
        if count >= LIMITS.pending:
            raise ValidationError(f"list of {struct}: more than {LIMITS.pending} items; {how_to_raise('pending')}")
        yield item


# -- what was found ---------------------------------------------------------------------------------------


def luo_memfd_pages(
    prog: drgn.Program, session: str | bytes | drgn.Object, token: int, *, root: int | None = None
) -> Iterator[tuple[int, drgn.Object | int]]:
    """(index in the file, page) of each page of a preserved memfd, without holes.

    session: name of its session, as text or as `string_()` gives it, or a `struct luo_session`.
    token:   of the memfd.
    root:    physical address of the KHO root that hands it over. None: the only one of this machine that does.

    With debug info a page is a `struct page *`, else a physical address. Raises UsageError if there is no such memfd,
    or if the size of its folios is not known, because there is no intact map. Of an incoming root the pages may belong
    to others once the memfd was retrieved.
    """
    name = session if isinstance(session, str) else _name(session)
    token = int(token)
    here, what = state(prog), f"{safe_text(name)}/{token:#x}"
    handovers = [one for one in here.handovers if (one.own if root is None else one.address == root)]
    found = [(one, file) for one in handovers for file in _files(one, name, token)]
    memfds = [(one, file.memfd) for one, file in found if file.memfd is not None]
    if not memfds:
        why = "its descriptor is of another handler, or cannot be read" if found else "no such file in this source"
        raise UsageError(f"{what}: {why}; `%luo inspect` lists all")
    if len(memfds) > 1:
        roots = ", ".join(f"{one.address:#x}" for one, _ in memfds if one.address is not None)
        raise UsageError(f"{what}: handed over by several roots; choose one of {roots}")
    return _pages(prog, *memfds[0], what, here.source.page_size)


def _name(session: bytes | drgn.Object) -> str:
    data = session if isinstance(session, bytes) else bytes(session.name.string_())
    return data.decode("utf-8", "surrogateescape")


def _files(handover: Handover, name: str, token: int) -> Iterator[File | PendingFile]:
    """The file of a session: as it is handed over, else as it will be; none or one."""
    sides = (handover.luo.sessions if handover.luo else (), handover.pending.sessions if handover.pending else ())
    for sessions in sides:
        found = [file for one in sessions if one.name == name for file in one.files if file.token == token]
        if found:
            yield found[0]
            return


def _pages(
    prog: drgn.Program, handover: Handover, memfd: Memfd, what: str, page_size: int
) -> Iterator[tuple[int, drgn.Object | int]]:
    found = handover.preserved.map
    if found is None:
        text = f"the map is {handover.preserved.status.value}: the size of its folios is not known"
        raise UsageError(f"{what}: {text}")
    if memfd.size > LIMITS.memfd_size:
        text = f"expected at most {LIMITS.memfd_size} bytes, found {memfd.size}; {how_to_raise('memfd_size')}"
        raise UsageError(f"{what}: {text}")
    addresses = _addresses(memfd, found, what, page_size)
    if "vmemmap" not in prog:
        return addresses
    from drgn.helpers.linux.mm import phys_to_page

    return ((index, phys_to_page(prog, address)) for index, address in addresses)


def _addresses(memfd: Memfd, found: PreservedMap, what: str, page_size: int) -> Iterator[tuple[int, int]]:
    """(index in the file, physical address) of each page."""
    folios, done, end = memfd.folios.list, 0, -(-memfd.size // page_size)
    for (index, address, _), order in zip(folios.rows(), found.heads(folios.addresses()), strict=True):
        if not address or index >= end:
            continue
        if index < done:
            raise UsageError(f"{what}: its folios overlap or are out of order at page {index:#x}")
        if order is None:
            raise UsageError(f"{what}: no preserved block begins at its folio {address:#x}: its size is not known")
        done = min(index + (1 << order), end)
        yield from ((number, address + (number - index) * page_size) for number in range(index, done))


def kho_preserved(prog: drgn.Program, address: int, *, root: int | None = None) -> bool:
    """Whether a preserved map names the page of a physical address. One that was handed over may be free since.

    address: physical.
    root:    physical address of the KHO root whose map is looked at. None: those of all roots of this machine.

    Raises UsageError if it is not known: no intact map has the page, and one of the maps is incomplete, damaged, not in
    the source, not made yet, or stale. That of an incoming root is stale soon after the kexec, while what it named is
    kept until it is retrieved: name the outgoing root.
    """
    handovers = [one for one in state(prog).handovers if (one.own if root is None else one.address == root)]
    if not handovers:
        raise UsageError("no KHO root in this source" if root is None else f"no KHO root at {root:#x}")
    intact = [one.preserved.map for one in handovers if one.preserved.status is MapStatus.INTACT]
    if any(found is not None and found.find(int(address)) is not None for found in intact):
        return True
    for one in handovers:
        if not _is_whole(one.preserved):
            found = one.preserved.status
            word = "incomplete" if found is MapStatus.INTACT else found.value
            text = f"the map of the {one.direction.value} root {one.address or 0:#x} is {word}"
            hint = "; root=ADDRESS asks one root only" if len(handovers) > 1 else ""
            raise UsageError(f"{int(address):#x}: not known whether it is preserved: {text}{hint}")
    return False


def _is_whole(preserved: Preserved) -> bool:
    found = preserved.map
    return preserved.status is MapStatus.INTACT and found is not None and found.complete
