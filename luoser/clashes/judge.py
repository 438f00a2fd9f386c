# SPDX-License-Identifier: MIT
"""What happens when one kernel hands over to another, each with what the second kernel says.

Source: docs/abi/README.md, Which kernel accepts which; kernel/liveupdate of 6.19 and 7.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from luoser.abi.release import TEST_FLBS
from luoser.clashes.profile import Profile
from luoser.kernel.types import TypesError
from luoser.kernel.verify import changed

__all__ = ["Clash", "Compatibility", "Effect", "Result", "compare"]

Result = Literal["works", "refused", "breaks", "sessions lost"]
"""What comes of a handover as a whole."""


class Effect(StrEnum):
    """What comes of a clash.

    refused: the second kernel says so, and takes nothing.
    broken:  all strings match, and it breaks.
    lost:    a part is not taken over.
    unknown: not known from what was given.
    """

    REFUSED = "refused"
    BROKEN = "broken"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """One thing that two kernels do not agree on.

    effect:  see Effect.
    what:    `kho`, `map`, `luo`, `handler`, `flb`, `subtree`, `pages`, `machine` or `types`.
    text:    in words.
    message: what the second kernel logs. Empty: nothing.
    """

    effect: Effect
    what: str
    text: str
    message: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it makes a live update fail: it is refused or breaks, or no session is taken over."""
        return self.effect in (Effect.REFUSED, Effect.BROKEN) or (self.effect, self.what) == (Effect.LOST, "luo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Whether one kernel can hand over to another.

    writer:  the running kernel.
    reader:  the next one.
    clashes: all that keeps the handover from being taken. Empty: nothing is known against it.
    """

    writer: Profile
    reader: Profile
    clashes: tuple[Clash, ...]

    @property
    def verdict(self) -> Literal["fails", "unknown", "works"]:
        """What all clashes come to."""
        if any(one.is_error for one in self.clashes):
            return "fails"
        return "unknown" if any(one.effect is Effect.UNKNOWN for one in self.clashes) else "works"

    @property
    def result(self) -> Result:
        """What comes of the handover, by the first clash that makes it fail."""
        words: dict[Effect, Result] = {Effect.REFUSED: "refused", Effect.BROKEN: "breaks", Effect.LOST: "sessions lost"}
        return next((words[one.effect] for one in self.clashes if one.is_error), "works")


def compare(writer: Profile, reader: Profile) -> Compatibility:
    """What comes of it when one kernel hands over to another.

    writer: the running kernel.
    reader: the next one.
    """
    found = [*_machines(writer, reader), *_roots(writer, reader)]
    if not any(one.effect is Effect.REFUSED for one in found):  # else nothing below the root is looked at
        found += [*_luo(writer, reader), *_users(writer, reader), *_types(writer, reader)]
    return Compatibility(writer=writer, reader=reader, clashes=tuple(found))


def _machines(writer: Profile, reader: Profile) -> Iterator[Clash]:
    if writer.machine and reader.machine and writer.machine != reader.machine:
        text = f"{writer.machine} hands over to {reader.machine}"
        yield Clash(effect=Effect.REFUSED, what="machine", text=text)
    if writer.page_size and reader.page_size and writer.page_size != reader.page_size:
        text = f"pages of {writer.page_size} bytes are read as pages of {reader.page_size}"
        yield Clash(effect=Effect.BROKEN, what="pages", text=text)


def _roots(writer: Profile, reader: Profile) -> Iterator[Clash]:
    if writer.kho is None or reader.kho is None:
        name = writer.name if writer.kho is None else reader.name
        yield Clash(effect=Effect.UNKNOWN, what="kho", text=f"the version of the root of {name} is not known")
        return
    if not writer.kho or not reader.kho:
        name = reader.name if not reader.kho else writer.name
        yield Clash(effect=Effect.REFUSED, what="kho", text=f"{name} has no KHO")
        return
    if writer.kho != reader.kho:
        yield Clash(
            effect=Effect.REFUSED,
            what="kho",
            text=f"the root is {writer.kho}, expected {reader.kho}; all preserved memory is lost",
            message=f"KHO: setup: handover FDT (…) is incompatible with '{reader.kho}'; KHO: disabling KHO revival",
        )
    elif writer.bitmap is not None and reader.bitmap is not None and writer.bitmap != reader.bitmap:
        sizes = [f"{size or 'page-sized'}{'-byte' if size else ''}" for size in (writer.bitmap, reader.bitmap)]
        text = (
            f"{sizes[0]} bitmaps are read as {sizes[1]} ones: the wrong memory is reserved, the right one overwritten"
        )
        yield Clash(effect=Effect.BROKEN, what="map", text=text)


def _luo(writer: Profile, reader: Profile) -> Iterator[Clash]:
    if writer.luo is None or reader.luo is None:
        name = writer.name if writer.luo is None else reader.name
        yield Clash(effect=Effect.UNKNOWN, what="luo", text=f"the form of LUO of {name} is not known")
    elif writer.luo and not reader.luo:
        yield Clash(effect=Effect.LOST, what="luo", text=f"{reader.name} has no LUO: no session can be retrieved")
    elif writer.luo and writer.luo != reader.luo:
        yield Clash(
            effect=Effect.REFUSED,
            what="luo",
            text=f"LUO is {writer.luo}, expected {reader.luo}; the boot ends in a panic",
            message="luo: The incoming tree failed to initialize properly [-EINVAL], disabling live update",
        )
    elif writer.flb_node is False and reader.flb_node:
        yield Clash(
            effect=Effect.BROKEN,
            what="luo",
            text="LUO's devicetree has no node luo-flb, which the next kernel needs; the boot ends in a panic",
            message="luo: The incoming tree failed to initialize properly [-ENOENT], disabling live update",
        )


def _users(writer: Profile, reader: Profile) -> Iterator[Clash]:
    has_luo = bool(writer.luo and reader.luo)
    for profile in (writer, reader):
        if has_luo and profile.handlers is None:
            text = f"the file handlers of {profile.name} are not known"
            yield Clash(effect=Effect.UNKNOWN, what="handler", text=text)
    if has_luo and writer.handlers is not None and reader.handlers is not None:
        for name in sorted(writer.handlers - reader.handlers):
            yield Clash(
                effect=Effect.BROKEN,
                what="handler",
                text=f"no handler {name}: with one file of it no session can be retrieved (-EIO)",
                message=f"luo: No registered handler for compatible '{name}'",
            )
    written = writer.flbs if writer.flbs is not None else writer.handed
    if has_luo and reader.flbs is not None:
        for name in sorted(written - reader.flbs):
            if not name.startswith(TEST_FLBS):
                yield Clash(effect=Effect.LOST, what="flb", text=f"no FLB {name}: its memory is never freed")
    if writer.subtrees is not None and reader.subtrees is not None:
        for name in sorted(writer.subtrees - reader.subtrees - {"LUO"}):
            yield Clash(effect=Effect.LOST, what="subtree", text=f"nobody claims sub-tree {name}")


def _types(writer: Profile, reader: Profile) -> Iterator[Clash]:
    for profile in (writer, reader):
        if profile.damage:
            yield Clash(effect=Effect.UNKNOWN, what="types", text=f"{profile.name}: {profile.damage}")
    if writer.types is None or reader.types is None:
        return
    try:
        for name, difference in changed(writer.types, reader.types):
            if difference is None:
                text = f"{reader.name} has no struct {name}: whether it reads what {writer.name} writes is not known"
                yield Clash(effect=Effect.UNKNOWN, what="types", text=text)
            else:
                text = f"struct {name}: {difference}; no string says so"
                yield Clash(effect=Effect.BROKEN, what="types", text=text)
    except TypesError as error:
        yield Clash(effect=Effect.UNKNOWN, what="types", text=str(error))
