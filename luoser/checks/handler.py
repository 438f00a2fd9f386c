# SPDX-License-Identifier: MIT
"""Rules on file handlers: is there one for each file, and of the right generation?"""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.registry import layouts
from luoser.abi.release import RELEASES, handlers_of
from luoser.checks.block import FROZEN_OUT
from luoser.checks.model import Found, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.text import safe_text

__all__: list[str] = []


_RELEASED = frozenset(found.memfd for found in RELEASES.values() if found.luo is not None)
"""memfd handlers that some release has."""


@register("LUO017", "handler-unknown", Severity.WARNING, kernels="6.19 and later", source="luo.md#errors")
def luo_handler(view: View) -> Iterator[Found]:
    """A file's handler is not a merged or posted one.

    If the next kernel has no handler of that name either, the first open of /dev/liveupdate and all later ones fail.
    One finding for each name.
    """
    view.serialised()
    known = {entry.handler for entry in layouts()}
    strange: dict[str, list[tuple[str, int | None]]] = {}
    for where, _, file in view.files():
        if file.compatible not in known:
            strange.setdefault(file.compatible, []).append((where, file.address))
    for name, places in strange.items():
        where, address = places[0]
        yield Found(
            f"handler {safe_text(name)} is not known; {_times(len(places))}",
            address=address,
            where=where,
            hint="make sure that the next kernel has it, with all of its modules",
        )


def _times(files: int) -> str:
    return "one file has it" if files == 1 else f"{files} files have it, this is the first"


@register(
    "LUO018",
    "handler-generation",
    Severity.ERROR,
    kernels="6.19 and later",
    source="README.md#release-matrix; luo.md#errors",
)
def luo_handler_generation(view: View) -> Iterator[Found]:
    """A memfd is in the form of another generation of kernels than the root: memfd-v1 goes with kho-v1, v2 with later.

    Each kernel that accepts this root knows the other string only: the first open of /dev/liveupdate and all later ones
    return -EIO.
    """
    view.serialised()
    right, root = handlers_of(view.handover.compatible), safe_text(view.handover.compatible)
    for where, session, file in view.files() if right else ():
        if file.compatible in _RELEASED and file.compatible not in right:
            yield Found(
                f"{view.name_of(session, file)}: {file.compatible} below a root of {root}",
                address=file.address,
                where=where,
                hint=FROZEN_OUT,
            )
