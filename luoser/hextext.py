# SPDX-License-Identifier: MIT
"""Hex text as people paste it: rows of hexdump, xxd, od, kdb, gdb, crash, or plain digits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import hexdump

from luoser.errors import FormatError
from luoser.limits import LIMITS, how_to_raise

__all__ = ["WORDS", "parse_hex"]

WORDS = (1, 2, 4, 8)
"""Widths of a word in bytes. 1: the digits are in memory order."""

_HEAD = re.compile(r"\s*(?:phys\s)?(?P<x>0[xX])?(?P<digits>[0-9a-fA-F]{4,16})(?: <[^>]*>)?(?P<mark>:?)(?P<gap>\s+|$)")
_WORD = re.compile(r"(\s*)(0[xX])?([0-9a-fA-F]+)(?=\s|$|[|>])")
_WHOLE = re.compile(
    r"([0-9a-fA-F]{8})(?:  |(:)  ?)"
    r"((?:[0-9a-fA-F]{2} ){8} ?(?:[0-9a-fA-F]{2} ){7}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4} ){7}[0-9a-fA-F]{4})(?:  |$)"
)
"""A whole row of hexdump -C or xxd, which needs no closer look."""
_ZEROS = re.compile(r"\s*0x([0-9a-fA-F]{1,16})-0x([0-9a-fA-F]{1,16})\s+zero suppressed\s*")
_PART = re.compile(r"\s{2,}((?:[0-9a-fA-F]{2})+)\s{2,}\S")
_END = re.compile(r"(?:0[xX])?[0-9a-fA-F]{5,16}:?")
_PROMPT = re.compile(r"(?:crash>|\(gdb\)|\[\d+\][a-z]*db>)(?:\s|$)")
"""What a debugger prints before the command whose output follows."""
_INSTEAD = re.compile(r"\s+-?\d+(?:\s+-?\d+)*\s*|\s\[.*")
"""After a number: decimal numbers in columns (crash rd -d), or the name of a slab in place of one (rd -S)."""
_OCTAL = {3: 1, 6: 2, 11: 4, 22: 8}
"""Bytes of a word, by its number of octal digits in the output of od."""
_LINE = 16
"""Bytes of a row at most. A line counts for as many, as each takes memory."""
_BREAKS = b"\n\r\v\f\x1c\x1d\x1e"
"""What ends a line, for str.splitlines."""
_VOTERS = 4096
"""Rows whose ASCII columns are looked at for the order of words."""
_NO_END = "hex text ends with a `*` line: expected an offset after it"
_COLUMNS = "dump it in hex, such as with od -Ax -tx1"
_ASK = (
    "give --word 2, 4 or 8 if they are numbers (od, hexdump, kdb md, gdb x, crash rd), "
    "or --word 1 if their bytes are in memory order (xxd)"
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line.

    number:  of the line, from 1.
    line:    its text.
    offset:  digits before the data. None: no offset, or a line that only repeats (`*`).
    mark:    what is between offset and data: `0x`, `:`, `:  ` or nothing.
    words:   digits of the words, without 0x.
    part:    digits of a last word that is not whole, or of an ASCII column that looks like one.
    is_hex:  the words begin with 0x.
    kind:    `data`, `star`, `zeros` (up to the address in `end`) or `end`.
    """

    number: int
    line: str
    offset: str | None = None
    mark: str = ""
    words: tuple[str, ...] = ()
    part: str = ""
    is_hex: bool = False
    kind: str = "data"
    end: int = 0


def parse_hex(text: bytes, *, word: int | None = None) -> bytes:
    """The bytes of a hex text, in memory order.

    Rows may begin with an offset or an address, and end with a comment or the ASCII column. A `*` line repeats the
    row before it up to the next offset, as hexdump and od print it.

    The prompt of a debugger and its command are passed over.

    Words wider than a byte are little-endian numbers in the output of od, hexdump, kdb md, gdb x and crash rd, and
    bytes in memory order in that of xxd. The ASCII column decides where there is one.

    word: bytes of a word that is a number, one of WORDS. 1: all digits are in memory order. None: as above.

    Raises FormatError, with the line number, for a line without hex digits, for half a byte, for decimal numbers in
    columns, for an offset that differs from the number of bytes before it, and for words whose order cannot be known.
    """
    breaks = len(text) - len(text.translate(None, _BREAKS))
    if breaks * _LINE > LIMITS.hex_size:
        raise FormatError(f"hex text of {breaks} lines: too many; {how_to_raise('hex_size')}")
    rows = list(_rows(text.decode("ascii", "replace")))
    filled = [row for row in rows if row.words]
    if not filled:
        raise FormatError("hex text has no bytes" if not rows else _NO_END)
    try:
        octal = _octal(filled, rows) if word is None else None
        order = word or (1 if octal else _order(filled))
        pieces = {row.number: _bytes(row, order, octal) for row in filled}
        return _placed(rows, pieces, max(order, octal or 1))
    except _LineError as error:
        raise FormatError(f"hex text line {error.number}: {error}") from None


@lru_cache(maxsize=1 << 16)
def _same(word: str) -> str:
    """One string for words that are alike: a text of short ones has millions of them."""
    return word


class _LineError(ValueError):
    def __init__(self, row: _Row, message: str) -> None:
        super().__init__(message)
        self.number = row.number


def _rows(text: str) -> Iterator[_Row]:
    has_offsets, size = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or _PROMPT.match(line):
            continue
        if line.strip() == "*":
            yield _Row(number, line, kind="star")
        elif zeros := _ZEROS.fullmatch(line):
            yield _Row(number, line, zeros[1], "0x", kind="zeros", end=int(zeros[2], 16) + 1)
        elif has_offsets and _END.fullmatch(line.strip()):
            digits = line.strip().rstrip(":").lower()
            yield _Row(number, line, digits.removeprefix("0x"), "0x" if digits.startswith("0x") else "", kind="end")
        else:
            try:
                row = _row(number, line)
            except ValueError as error:
                raise FormatError(f"hex text line {number}: {error}") from None
            if not row.words:
                raise FormatError(f"hex text line {number} has no hex digits; {_COLUMNS}")
            has_offsets = has_offsets or row.offset is not None
            size += sum(map(len, row.words)) // 2
            if size > LIMITS.hex_size:
                raise FormatError(f"hex text line {number}: too many bytes; {how_to_raise('hex_size')}")
            yield row


def _row(number: int, line: str) -> _Row:
    """Raises ValueError for half a byte."""
    if (whole := _WHOLE.match(line)) and (whole[2] or len(whole[3]) > 40):
        mark = ":  " if line[9:11] == "  " else whole[2] or ""
        return _Row(number, line, whole[1], mark, tuple(map(_same, whole[3].split())))
    head = _HEAD.match(line)
    if head is None or not _is_offset(head, line[head.end() :]):
        words, _, is_hex = _words(line, has_offset=False, may_be_wide="0x" in line)
        return _Row(number, line, words=words, is_hex=is_hex)
    rest = line[head.end() :]
    words, end, is_hex = _words(rest, has_offset=True, may_be_wide=not head["mark"])
    if not head["mark"] and words and _is_column(len(head["digits"]), len(head["gap"]), len(words[0])):
        raise ValueError(f"numbers in columns; {_COLUMNS}")
    mark = (head["x"] or "").lower() or head["mark"] + ("  " if head["mark"] and len(head["gap"]) > 1 else "")
    part = _PART.match(rest, end) if head["mark"] and words and len(words[0]) > 2 else None
    if head["mark"] and words and part is None and _INSTEAD.fullmatch(rest, end) and not _is_shown(words, line):
        raise ValueError(f"numbers in columns, or something in place of one; {_COLUMNS}")
    return _Row(number, line, head["digits"], mark, words, part[1] if part is not None else "", is_hex)


def _is_offset(head: re.Match[str], rest: str) -> bool:
    """Whether the first word of a line is an offset or address, and not data."""
    if head["mark"] or not rest:
        return bool(head["mark"])
    following = _WORD.match(rest)
    if head["x"]:
        return following is not None and following[2] is None
    size = len(head["digits"])
    return len(head["gap"]) > 1 or size in (6, 7) or (size > 7 and following is not None and len(following[3]) != size)


def _is_column(digits: int, gap: int, width: int) -> bool:
    """Whether the first word is a decimal number of od: it has one space before a word in hex, hexdump -x has four.

    digits: of the offset. gap: spaces after it. width: of the word.
    """
    if width not in (2, 4, 8, 16):
        return False
    return gap not in {(7, 4): (1, 4), (6, 2): (1, 2)}.get((digits, width), (1,)) if digits in (6, 7) else False


def _words(text: str, *, has_offset: bool, may_be_wide: bool) -> tuple[tuple[str, ...], int, bool]:
    """(words at the start of a text, where they end, whether they have 0x): what is before a comment or ASCII column.

    has_offset:  a row of bytes has at most 16.
    may_be_wide: words of one width may have more than one space between them.

    Raises ValueError for half a byte, and for columns of decimal numbers.
    """
    text = text.replace(",", " ") if "0x" in text[:8].lower() else text
    words: list[str] = []
    place, gap, is_hex = 0, "", False
    while found := _WORD.match(text, place):
        if words:
            gap = gap or found[1]
            is_single, is_same = len(found[1]) == 1, len(found[3]) == len(words[0])
            is_middle = len(words) == 8 and len(words[0]) == 2 and found[1] == "  "
            is_wide = may_be_wide and (is_same or is_hex) and found[1] == gap
            if bool(found[2]) != is_hex or not (is_single or is_middle or is_wide):
                break
            if is_wide and not (is_single or is_hex) and len(words[0]) == 2:
                raise ValueError(f"numbers in columns; {_COLUMNS}")
            if not (is_hex or is_same) and len(found[3]) % 2:
                raise ValueError(f"half a byte in {found[3][:40]!r}")
        is_hex = bool(found[2])
        words.append(_same(found[3]))
        place = found.end()
        if has_offset and len(words) == _LINE and len(words[0]) == 2:
            break
    return tuple(words), place, is_hex


def _octal(filled: Sequence[_Row], rows: Sequence[_Row]) -> int | None:
    """Bytes of a word of od in octal. None: the words are not octal. Another offset is what shows their size.

    Raises _LineError for words that may be decimal.
    """
    width = len(filled[0].words[0])
    words = [word for row in filled for word in row.words]
    if width not in _OCTAL or any(row.mark or row.is_hex for row in filled) or {len(word) for word in words} != {width}:
        return None
    if sum(row.offset is not None for row in rows) < 2 or any(set(word) - set("01234567") for word in words):
        return None
    if all(word[0] != "0" for word in words):
        raise _LineError(filled[0], f"numbers such as {words[0]} can be octal or decimal; {_COLUMNS}")
    return _OCTAL[width]


def _order(filled: Sequence[_Row]) -> int:
    """Bytes of a word that is a number; 1 if the digits are in memory order. Raises _LineError if that is not known."""
    wide = [row for row in filled if not _is_bytes(row)]
    if not wide:
        return 1
    row = wide[0]
    width = len(row.words[0])
    if width % 2 and not row.is_hex:
        raise _LineError(row, f"half a byte in {row.words[0][:40]!r}; {_COLUMNS}")
    if (voted := _voted(wide, width // 2)) is not None:
        return voted
    if row.offset is None and not row.is_hex and _is_plain(filled):
        return 1
    if width // 2 not in WORDS or any(len(word) != width for word in row.words[:-1]):
        raise _LineError(row, f"words of unknown width, such as {row.words[0][:40]!r}; {_ASK}")
    if row.is_hex or (row.offset is not None and row.mark != ":"):
        return width // 2
    if row.offset is not None and width == 4:
        return 1  # as xxd prints them
    if all(_turned(word) == word.lower() for some in wide for word in some.words):
        return 1
    raise _LineError(row, f"the byte order of words such as {row.words[0]!r} is not known; {_ASK}")


def _is_bytes(row: _Row) -> bool:
    """Whether all words of a row have two digits."""
    if row.is_hex:
        return all(len(word) == 2 for word in row.words)
    return len(row.words[0]) == 2 and len("".join(row.words)) == 2 * len(row.words)  # no other has an odd word


def _is_plain(filled: Sequence[_Row]) -> bool:
    """Whether the rows are runs of digits, one a line, as xxd -p prints them. od prints a space before a number."""
    if any(len(row.words) != 1 for row in filled):
        return False
    numbers = [len(row.words[0]) in (4, 8, 16) for row in filled]
    return not all(numbers) or (len(filled) == 1 and not filled[0].line.startswith(" "))


def _voted(rows: Iterable[_Row], size: int) -> int | None:
    """What the ASCII columns show of words of `size` bytes: `size`, or 1. None: nothing. Raises _LineError."""
    votes = set[int]()
    for row in islice(rows, _VOTERS):
        if size not in WORDS or row.is_hex or any(len(word) % 2 for word in row.words):
            continue
        orders = {1: hexdump.dehex("".join(row.words)), size: hexdump.dehex("".join(map(_turned, row.words)))}
        if row.part and not _has_column(row.line, orders[size]):
            orders[size] += hexdump.dehex(_turned(row.part))
        fits = [order for order, data in orders.items() if _has_column(row.line, data)]
        votes.update(fits if len(fits) == 1 else ())
        if len(votes) > 1:
            raise _LineError(row, f"the ASCII column shows another byte order than lines before it; {_ASK}")
    return votes.pop() if votes else None


def _is_shown(words: Sequence[str], line: str) -> bool:
    """Whether a line ends with the ASCII column of its words, in either order of their bytes."""
    if any(len(word) % 2 for word in words):
        return False
    return any(_has_column(line.rstrip(), hexdump.dehex("".join(some))) for some in (words, map(_turned, words)))


def _has_column(line: str, data: bytes) -> bool:
    """Whether a line ends with the ASCII column of these bytes."""
    column = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return line.endswith((f" {column}", f"|{column}|", f">{column}<"))


def _turned(word: str) -> str:
    return "".join(word[place : place + 2] for place in range(len(word) - 2, -1, -2)).lower()


def _bytes(row: _Row, order: int, octal: int | None) -> bytes:
    """The bytes of a row. order: bytes of a word that is a number; 1: digits in memory order. Raises _LineError."""
    if octal:
        numbers = [int(word, 8) for word in row.words]
        if max(numbers) >> 8 * octal:
            raise _LineError(row, f"expected octal numbers of {octal} bytes; {_COLUMNS}")
        return b"".join(number.to_bytes(octal, "little") for number in numbers)
    if order == 1:
        odd = next((word for word in row.words if len(word) % 2), None) if not _is_bytes(row) else None
        if odd is not None:
            raise _LineError(row, f"half a byte in {odd[:40]!r}")
        made = bytes(hexdump.dehex("".join(row.words)))
        if row.part and not _has_column(row.line, made):
            raise _LineError(row, f"{row.part!r} is only a part of a word; dump it without xxd -e")
        return made
    for word in row.words:
        if len(word) != 2 * order and not (row.is_hex and len(word) < 2 * order):
            raise _LineError(row, f"expected words of {2 * order} digits, found {word[:40]!r}; {_ASK}")
    made = b"".join(int(word, 16).to_bytes(order, "little") for word in row.words)
    if not row.part or _has_column(row.line, made):
        return made
    made += bytes(hexdump.dehex(_turned(row.part)))
    if not _has_column(row.line, made):
        raise _LineError(row, f"{row.part!r} is only a part of a word; dump it without xxd -e")
    return made


def _placed(rows: Sequence[_Row], pieces: dict[int, bytes], size: int) -> bytes:
    """The bytes of all rows, where their offsets say, in whichever radix these are.

    size: bytes of a word, of which the last one may have been filled with zeros. Raises _LineError.
    """
    shown = [row for row in rows if row.offset is not None]
    results = set[bytes]()
    failed: _LineError | None = None
    for radix in _radices(shown):
        try:
            results.add(_joined(rows, pieces, radix, size))
        except _LineError as error:
            failed = failed or error
    if not results and failed is not None:
        raise failed
    star = next((row for row in rows if row.kind == "star"), None)
    if len(results) > 1 and star is not None:
        raise _LineError(star, "the offset after `*` can be hex, octal or decimal; dump it with hexdump -C or od -Ax")
    return max(results, key=len)  # others lack zeros of the last word


def _radices(shown: Sequence[_Row]) -> tuple[int, ...]:
    """What the offsets can be. Those of 7 digits are hex (hexdump), octal or decimal (od)."""
    if any(row.mark or len(row.offset or "") != 7 for row in shown):
        return (16,)
    is_of_od = any(len(word) in (2, 8, 16) for row in shown for word in row.words[:1])
    return (8, 10) if is_of_od else (16, 8, 10)


def _joined(rows: Sequence[_Row], pieces: dict[int, bytes], radix: int, size: int) -> bytes:
    data, last = bytearray(), b""
    base: int | None = None
    star: _Row | None = None
    for row in rows:
        if row.kind == "star":
            star = row
            continue
        offset = _offset(row, radix)
        if offset is not None:
            base = _base(row, offset) if base is None else base
            offset -= base
        if star is not None:
            _repeat(data, last, row, offset)
            star = None
        if row.kind == "end" and offset is not None and 0 < len(data) - offset < size and not any(data[offset:]):
            del data[offset:]
        if offset is not None and offset != len(data):
            here = base or 0
            raise _LineError(row, f"expected offset {here + len(data):#x}, found offset {here + offset:#x}")
        if row.kind == "zeros":
            end = row.end - (base or 0)
            if len(data) > end:
                raise _LineError(row, f"expected zeros up to an address after {len(data) + (base or 0):#x}")
            _bounded(row, end)
            data.extend(bytes(end - len(data)))
        last = pieces.get(row.number, last)
        data += pieces.get(row.number, b"")
    if star is not None:
        raise FormatError(_NO_END)
    return bytes(data)


def _offset(row: _Row, radix: int) -> int | None:
    if row.offset is None:
        return None
    try:
        return int(row.offset, radix)
    except ValueError:
        raise _LineError(row, f"expected an offset, found {row.offset!r}") from None


def _base(row: _Row, first: int) -> int:
    """The address of the first byte: not 0 only if it is an address, and not an offset of so many digits."""
    assert row.offset is not None
    is_address = row.mark == "0x" or len(row.offset) > 8 or (row.mark and not row.offset.startswith("0"))
    return first if is_address else 0


def _repeat(data: bytearray, last: bytes, row: _Row, offset: int | None) -> None:
    """Repeat the last row up to an offset. Raises _LineError."""
    if offset is None or not last or not len(data) <= offset or (offset - len(data)) % len(last):
        raise _LineError(row, "expected an offset up to which the `*` line before it repeats")
    _bounded(row, offset)
    data += last * ((offset - len(data)) // len(last))


def _bounded(row: _Row, end: int) -> None:
    """Raise _LineError for rows that stand for too much. end: bytes of all up to there."""
    if end > LIMITS.hex_size:
        raise _LineError(row, f"stands for too many bytes, up to offset {end:#x}; {how_to_raise('hex_size')}")
