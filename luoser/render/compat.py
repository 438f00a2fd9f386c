# SPDX-License-Identifier: MIT
"""Whether one kernel can hand over to another: text, JSON, and a page with all releases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luoser.abi.release import RELEASES
from luoser.clashes import Compatibility, Profile, Result, compare, find_booted, pairs
from luoser.render.out import line

__all__ = ["compat_document", "matrix_page", "print_compat"]

_SPLIT = {"6.17": ("6.17.8", "6.17.9")}
"""Releases of a series of which the form changed."""
_HEAD = """# Which kernel hands over to which

What happens between each two released kernels, as `luoser compat FROM TO` says it; `luoser compat --matrix` made this
page. The running kernel is in the rows, the next one in the columns. *refused*: the next kernel says so and takes
nothing. *breaks*: all version strings match, and it fails all the same. *sessions lost*: it has no LUO. ✓: booted, and
the kernel did so.

"""
_BOOTED = """`python -m tests.e2e.pairs` boots them in QEMU: the first kernel preserves files, and starts the second
one by kexec. These were tried:

"""


def print_compat(found: Compatibility) -> None:
    """Print what two kernels do not agree on, with what the second one logs."""
    line((f"{found.writer.name} → {found.reader.name}", "name"))
    for profile in (found.writer, found.reader):
        line(f"{profile.name}: {_facts(profile)}", first="  ", rest="    ")
    for one in found.clashes:
        line(
            (f"{one.effect.value:<8}", "problem" if one.is_error else "note"),
            f" {one.what}: {one.text}",
            rest="         ",
        )
        if one.message:
            line(one.message, first="         ", rest="           ")
    line(_verdict(found))


def _facts(profile: Profile) -> str:
    known = {
        "KHO": profile.kho or ("none" if profile.kho is not None else None),
        "LUO": profile.luo or ("none" if profile.luo is not None else None),
        "handlers": _names(profile.handlers),
        "FLBs": _names(profile.flbs) or (f"at least {_names(profile.handed)}" if profile.handed else None),
        "sub-trees": _names(profile.subtrees),
        "pages": f"{profile.page_size // 1024} KiB" if profile.page_size else None,
        "machine": profile.machine,
        "types": profile.types.where if profile.types is not None else None,
    }
    return ", ".join(f"{name} {value if value is not None else 'not known'}" for name, value in known.items())


def _names(names: frozenset[str] | None) -> str | None:
    return None if names is None else " ".join(sorted(names)) or "none"


def _verdict(found: Compatibility) -> tuple[str, str]:
    """The verdict in words, and their meaning."""
    words = "nothing is known against it"
    works = (f"{words}, with losses", "note") if found.clashes else (words, "good")
    return {"fails": ("no: the live update fails", "problem"), "unknown": ("not known", "note"), "works": works}[
        found.verdict
    ]


def compat_document(found: Compatibility) -> dict[str, Any]:
    """The JSON document luoser/compat/1."""
    return {
        "schema": "luoser/compat/1",
        "verdict": found.verdict,
        "from": _profile_document(found.writer),
        "to": _profile_document(found.reader),
        "clashes": [
            {"effect": one.effect.value, "what": one.what, "text": one.text, "message": one.message or None}
            for one in found.clashes
        ],
    }


def _profile_document(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "kho": profile.kho,
        "luo": profile.luo,
        "handlers": None if profile.handlers is None else sorted(profile.handlers),
        "flbs": None if profile.flbs is None else sorted(profile.flbs),
        "handed": sorted(profile.handed),
        "subtrees": None if profile.subtrees is None else sorted(profile.subtrees),
        "page_size": profile.page_size,
        "machine": profile.machine,
        "types": profile.types.where if profile.types is not None else None,
    }


def matrix_page(of_release: Callable[[str], Profile]) -> str:
    """The page with all pairs of releases. of_release: gives the profile of one."""
    names = [name for series in RELEASES for name in _SPLIT.get(series, (series,))]
    profiles = {name: of_release(name) for name in names}
    lines = [f"| from, to | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    reasons = dict[str, list[str]]()
    for name, writer in profiles.items():
        cells = []
        for other, reader in profiles.items():
            found = compare(writer, reader)
            cells.append(_cell(name, other, found.result))
            for one in filter(lambda clash: clash.is_error, found.clashes):
                says = f" The next kernel logs `{one.message}`." if one.message else ""
                reasons.setdefault(f"{_sentence(one.text, reader.name)}{says}", []).append(f"{name} → {other}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    items = [f"- {text}\n  {', '.join(pairs)}.\n" for text, pairs in reasons.items()]
    tried = [f"- {one.words}.\n" for one in pairs()]
    shown = f"\n## Booted\n\n{_BOOTED}" + "".join(tried) if tried else ""
    return f"{_HEAD}" + "\n".join(lines) + "\n\n## Why\n\n" + "".join(items) + shown


def _cell(writer: str, reader: str, said: Result) -> str:
    """What comes of two releases, with a mark if kernels did so."""
    tried = find_booted(writer, reader)
    mark = " ✓" if tried is not None and tried.result == said else ""
    return f"{'**breaks**' if said == 'breaks' else said}{mark}"


def _sentence(text: str, name: str) -> str:
    said = text.replace(name, "the next kernel", 1) if text.startswith(name) else text
    return f"{said[0].upper()}{said[1:]}."
