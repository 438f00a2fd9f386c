# SPDX-License-Identifier: MIT
"""Rules on the sub-tree kexec-metadata."""

from __future__ import annotations

from collections.abc import Iterator

from luoser.abi.release import is_release
from luoser.checks.model import Found, NotApplicable, Severity
from luoser.checks.rule import register
from luoser.checks.view import View
from luoser.text import safe_text

__all__: list[str] = []


@register(
    "KHO009",
    "kexec-metadata-bad",
    Severity.ERROR,
    kernels="7.1 and later",
    source="kexec_metadata.md#invariants; kho.md#invariants",
)
def metadata(view: View) -> Iterator[Found]:
    """The sub-tree kexec-metadata is not version 1 with a release and a count of at least 1, or is too short.

    The next kernel ignores it with a message. Only the history of kexecs is lost.
    """
    place = view.subtree("kexec-metadata")
    hint = "preserved memory is not affected; find what overwrote the page"
    for problem in view.problems("bad-metadata"):
        yield Found(problem.message, address=problem.address, where="kexec_metadata", hint=hint)
    view.need_subtree("kexec-metadata", "kexec_metadata")
    found = view.handover.kexec_metadata
    if found is not None and not is_release(found.previous_release):
        word = f"previous_release is {safe_text(found.previous_release)}, expected a release such as 7.3.4"
        yield Found(word, address=place, where="kexec_metadata", hint=hint)
    if found is not None and found.kexec_count == 0:
        word = "kexec_count is 0, expected 1 or more"
        yield Found(word, address=place, where="kexec_metadata", hint=hint)


@register(
    "KHO011",
    "counts-disagree",
    Severity.WARNING,
    kernels="7.1 and later",
    source="luo.md#root-object; luo.md#invariants; kexec_metadata.md#invariants",
)
def counts(view: View) -> Iterator[Found]:
    """LUO's liveupdate_number is larger than the kexec_count of kexec-metadata.

    Both include the coming kexec, and every live update is a KHO kexec. A kexec without LUO adds only to kexec_count.
    So one of the two is wrong, and its readers are misled.
    """
    luo, found = view.luo(), view.handover.kexec_metadata
    if found is None or luo.number is None:
        raise NotApplicable("no liveupdate number or no kexec count to compare")
    if found.kexec_count and luo.number > found.kexec_count:
        yield Found(
            f"liveupdate_number is {luo.number}, expected at most kexec_count, {found.kexec_count}",
            address=luo.address,
            where="luo.number",
            hint="find what overwrote one of them",
        )
