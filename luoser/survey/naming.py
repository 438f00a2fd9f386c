# SPDX-License-Identifier: MIT
"""Hosts and moments, by the names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from luoser.errors import UsageError
from luoser.output import PACKED
from luoser.text import counted, is_url, safe_text, source_names

__all__ = ["Named", "Naming"]

_FIELD = re.compile(r"\{(\w*)\}")
_PATTERNS = {"host": "(?P<host>[^/]+)", "moment": "(?P<moment>[^/]+?)"}
"""A host has dots more often than a moment: of what both could be, the host is the longer one."""


@dataclass(frozen=True, slots=True)
class Named:
    """A source: the names of its files, its host, and the moment. Empty: the rule gives none.

    fits: the name is as the rule says.
    """

    source: tuple[str, ...]
    host: str
    moment: str = ""
    fits: bool = True


class Naming:
    """A rule such as `{host}.{moment}.elf`, or `{host}/{moment}.elf` for a folder of each host.

    rule:    what the end of a path looks like. Suffixes of packed files may follow. Empty: each file is a host.
    moments: in their order. Those of one host in a row are a pair.

    Raises UsageError for a rule without {host}, or with other fields.
    """

    def __init__(self, rule: str, moments: Sequence[str] = ("before", "after")) -> None:
        self.rule, self.moments = rule, tuple(moments)
        fields = _FIELD.findall(rule)
        if rule and ("host" not in fields or set(fields) - set(_PATTERNS) or len(set(fields)) < len(fields)):
            text = "expected {host} once, and {moment} at most once, such as {host}.{moment}.elf"
            raise UsageError(f"--name: {text}, found {safe_text(rule)}")
        if len(set(self.moments)) < len(self.moments):
            raise UsageError(f"--moments: expected different ones, found {safe_text(','.join(self.moments))}")
        parts = _FIELD.split(rule)
        pattern = "".join(_PATTERNS[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))
        packed = "|".join(map(re.escape, PACKED))
        self._pattern = re.compile(rf"(?:.*/)?{pattern}(?:{packed})?", re.DOTALL)

    def named(self, source: tuple[str, ...]) -> Named:
        """The host and the moment of a source, by the name of its first file."""
        path = source[0].partition("?")[0] if is_url(source[0]) else source[0]
        found = self._pattern.fullmatch(path) if self.rule else None
        if found is None:
            return Named(source, path.rstrip("/").rpartition("/")[2] or path, fits=not self.rule)
        groups = found.groupdict()
        return Named(source, groups["host"], groups.get("moment", ""))

    def unpaired(self, sources: Sequence[Named]) -> Iterator[str]:
        """Lines on sources that the rule does not fit, or whose moment is not known: they are in no pair."""
        other = [one for one in sources if not one.fits]
        yield from self._said(other, f"{safe_text(self.rule)} does not fit")
        unknown = [one for one in sources if one.moment and one.moment not in self.moments]
        yield from self._said(unknown, f"--moments {safe_text(','.join(self.moments))} has not the moment of")

    def _said(self, some: Sequence[Named], what: str) -> Iterator[str]:
        if some:
            first = source_names(some[0].source)
            more = f" and {counted(len(some) - 1, 'other source')}" if some[1:] else ""
            yield f"--name: {what} {first}{more}, compared with no other"

    def pairs(self, sources: Iterable[Named]) -> Iterator[tuple[Named, Named]]:
        """The pairs of sources of one host, at moments that follow each other, of those that it has.

        Raises UsageError for two sources of one host and moment.
        """
        hosts = dict[str, dict[str, Named]]()
        for one in sources:
            if one.moment in self.moments:
                other = hosts.setdefault(one.host, {}).setdefault(one.moment, one)
                if other is not one:
                    both = " and ".join(source_names(each.source) for each in (other, one))
                    raise UsageError(f"{both}: both are {safe_text(one.host)} at the moment {safe_text(one.moment)}")
        for moments in hosts.values():
            yield from pairwise(moments[moment] for moment in self.moments if moment in moments)
