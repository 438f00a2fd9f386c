# SPDX-License-Identifier: MIT
"""What a kernel in memory said of itself, as a note of a cut: the symbols and types that a reading used.

The tables that they come from are megabytes; the answers are kilobytes. A cut with them reads like its original.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from luoser.errors import FormatError
from luoser.limits import LIMITS

__all__ = ["Answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Symbols and types of one kernel.

    text:    virtual address of `_stext`, by which the kernel is known, with the next two.
    place:   physical address of `_stext`.
    build:   its build id in hex. Empty: unknown.
    symbols: (virtual address, size in bytes) of each symbol, by name.
    btf:     types that were used, as BTF. Empty: none.
    """

    text: int
    place: int = 0
    build: str = ""
    symbols: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    btf: bytes = b""

    def is_of(self, text: int, place: int, build: str) -> bool:
        """Whether they are of the kernel that is known by these."""
        return (self.text, self.place, self.build) == (text, place, build)

    def pack(self) -> bytes:
        """The note's bytes: JSON in ASCII, with a digest of what is before it."""
        import base64  # late: most sources have no such note

        symbols = {name: [f"{address:#x}", size] for name, (address, size) in sorted(self.symbols.items())}
        document = {
            "text": f"{self.text:#x}",
            "place": f"{self.place:#x}",
            "build": self.build,
            "symbols": symbols,
            "btf": base64.b64encode(self.btf).decode(),
        }
        return _packed(document | {"digest": _digest(document)})

    @classmethod
    def unpack(cls, note: bytes) -> Answers | None:
        """The answers in a note. None: it is damaged, or empty. Notes of old cuts have no digest."""
        if not note:
            return None
        import base64

        from luoser.parse import parse_json

        try:
            document = parse_json(note.decode())
            said = document.pop("digest", None)
            if said is not None and said != _digest(document):
                return None
            return cls(
                text=_word(int(document["text"], 16)),
                place=_word(int(document["place"], 16)),
                build=str(document["build"]),
                symbols={
                    str(name): (_word(int(address, 16)), _word(int(size)))
                    for name, (address, size) in document["symbols"].items()
                },
                btf=base64.b64decode(document["btf"], validate=True)[: LIMITS.type_bytes],
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, FormatError):
            return None


def _packed(document: Mapping[str, object]) -> bytes:
    import json

    return json.dumps(document, separators=(",", ":")).encode()


def _digest(document: Mapping[str, object]) -> str:
    """SHA-256 of a document, in hex."""
    import hashlib

    return hashlib.sha256(_packed(document)).hexdigest()


def _word(number: int) -> int:
    if not 0 <= number < 1 << 64:
        raise ValueError(number)
    return number
