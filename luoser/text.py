# SPDX-License-Identifier: MIT
"""Text from a dump, made safe to print, and the notations of addresses, sizes and numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "GDB_NAME",
    "bdf_text",
    "bytes_text",
    "counted",
    "decode_name",
    "did_you_mean",
    "encode_name",
    "human_size",
    "is_url",
    "one_bit_off",
    "parse_bdf",
    "parse_number",
    "parse_size",
    "rounded_size",
    "safe_text",
    "source_name",
    "source_names",
    "without_secrets",
]

_BDF = re.compile(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")
_URL = re.compile(r"(?!qmp:)[A-Za-z][A-Za-z0-9+.-]*://.")
_NO_HOST = re.compile(r":(?!\d*\Z)[^\]]*\Z")
"""What ends no host: a port that is no number."""
_SECRET = "***"
GDB_NAME = ",as:"
"""What is before the name of a `gdb:` source."""
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}
_SHOWN_AS_IS = frozenset({"L", "N", "P", "S"})  # letters, digits, punctuation, symbols


def safe_text(text: str | bytes, *, again: bool = False) -> str:
    """One line of printable text for a terminal or an error message.

    Control characters, line and bidi controls, lone surrogates, unassigned and private characters become \\xNN,
    \\uNNNN or \\UNNNNNNNN. The backslash is doubled, so that the result is unambiguous.

    text:  bytes are decoded as UTF-8; invalid bytes become \\xNN.
    again: the names inside are safe already, so backslashes stay single.
    """
    if isinstance(text, bytes):
        text = decode_name(text)
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    if again:
        return "\\".join(safe_text(part) for part in text.split("\\"))
    return "".join(_safe_character(character) for character in text)


@lru_cache(1 << 12)
def _safe_character(character: str) -> str:
    code = ord(character)
    if character == " " or (character != "\\" and unicodedata.category(character)[0] in _SHOWN_AS_IS):
        return character
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # an invalid byte of UTF-8, decoded to a surrogate escape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def is_url(name: str) -> bool:
    """Whether the name of a source is a URL, such as s3://bucket/vmcore. A path with two slashes is none: `./s3://`."""
    return _URL.match(name) is not None


def source_name(name: str) -> str:
    """The name of a source, safe to show: `safe_text` of it `without_secrets`."""
    return safe_text(without_secrets(name))


def source_names(names: Iterable[str]) -> str:
    """The name of a source of one or several files, safe to show."""
    return ",".join(map(source_name, names))


def without_secrets(name: str) -> str:
    """The name of a source; that of a URL with *** in place of user, password and query, which can be a signature.

    `gdb:PLACE,as:NAME` is called `gdb:NAME`: what passes a stub on has a place of its own.
    """
    if not is_url(name):
        return f"gdb:{name.partition(GDB_NAME)[2]}" if name.startswith("gdb:") and GDB_NAME in name else name
    scheme, _, rest = name.partition("://")
    rest, mark, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    if "@" in path and _NO_HOST.search(host.rpartition("@")[2]):  # a password with a slash
        user, at, host = rest.rpartition("@")
        host, slash, path = host.partition("/")
    else:
        user, at, host = host.rpartition("@")
    return f"{scheme}://{_SECRET if user else ''}{at}{host}{slash}{path}{mark}{_SECRET if mark else ''}"


def decode_name(raw: bytes) -> str:
    """A NUL-padded name field up to its first NUL, as text. Bytes that are not UTF-8 become surrogate escapes."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known names that are near to one, as they are. Empty if none is."""
    from difflib import get_close_matches  # slow to load, and only needed for an error

    near = get_close_matches(name.lower(), {word.lower(): word for word in known}, n=3)
    found = [next(word for word in known if word.lower() == text) for text in near]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def parse_size(text: str) -> int:
    """A size in bytes: a number as for `parse_number`, or with a binary unit: 64M, 64MiB, 1G.

    Raises ValueError.
    """
    digits, unit = text.strip().removesuffix("iB"), ""
    if digits[-1:] in _UNITS and not digits.startswith("0x"):
        digits, unit = digits[:-1], digits[-1]
    return parse_number(digits) << _UNITS.get(unit, 0)


def encode_name(text: str) -> bytes:
    """The bytes from which `decode_name` made a text."""
    return text.encode("utf-8", "surrogateescape")


def parse_bdf(text: str) -> tuple[int, int]:
    """(domain, bus << 8 | slot << 3 | function) of `DDDD:BB:SS.F`.

    The domain may have up to 8 digits. Without one it is 0.

    Raises ValueError.
    """
    match = _BDF.fullmatch(text)
    if match is None or int(match[3], 16) > 0x1F:
        raise ValueError(f"{text!r} is not a PCI address")
    return int(match[1] or "0", 16), int(match[2], 16) << 8 | int(match[3], 16) << 3 | int(match[4])


def bdf_text(domain: int, bdf: int) -> str:
    """`DDDD:BB:SS.F` of a PCI domain and of bus << 8 | slot << 3 | function (16 bits)."""
    return f"{domain:04x}:{bdf >> 8 & 0xFF:02x}:{bdf >> 3 & 0x1F:02x}.{bdf & 7:x}"


def human_size(size: int) -> str:
    """A number of bytes as text, exact, in the largest binary unit that divides it: 4 MiB, 4660 bytes."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"


def bytes_text(data: bytes) -> str:
    """Bytes in hex, as in `02 00 ff`."""
    import hexdump  # only where there are bytes to show

    text: str = hexdump.dump(data)
    return text.lower()


def rounded_size(size: int) -> str:
    """A number of bytes as text, with three digits: 1 GiB, 78.6 MiB."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.3g} {unit}" if size < 1000 << shift else f"{size >> shift} {unit}"
    return human_size(size)


def counted(count: int, noun: str) -> str:
    """A number of things: 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def parse_number(text: str) -> int:
    """An unsigned number in Python's notation: 0x617000, 4096, 1_000. Raises ValueError."""
    value = int(text.strip().replace("_", ""), 0)
    if value < 0:
        raise ValueError(f"negative number {text!r}")
    return value


def one_bit_off(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs from a name in one bit; the shorter one is padded with zeros. None: there is none.

    name:  as decoded from a dump.
    known: names to compare with.
    """
    raw = encode_name(name)
    for other in sorted(known):
        size = max(len(raw), len(other))
        mine, theirs = (int.from_bytes(text.ljust(size, b"\0"), "big") for text in (raw, encode_name(other)))
        if (mine ^ theirs).bit_count() == 1:
            return other
    return None
