# SPDX-License-Identifier: MIT
"""A vmlinux that claims more than it has: sections, and DWARF that leads back, nests or repeats itself."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from time import process_time

import pytest

from luoser.errors import SourceError
from luoser.kernel.files import read_types
from luoser.limits import Limits, limited
from luoser.symbols import read_symbols

Section = tuple[bytes, int, int, bytes, int]
"""Name, type, flags, bytes, size that the header claims."""
NAME, SIBLING, SIZE = b"\x03\x08", b"\x01\x13", b"\x0b\x0f"
UNIT = b"\x01\x11\x01" + NAME + b"\0\0"
TOP = b"\x01kernel/liveupdate/luo.c\0"


def elf(*sections: Section) -> bytes:
    """An ELF file. The table of a section of symbols is linked to the one after it."""
    names, body, heads = b"\0", b"", [bytes(64)]
    for number, (name, kind, flags, data, size) in enumerate((*sections, (b".shstrtab", 3, 0, b"", 0)), 1):
        place, names = len(names), names + name + b"\0"
        data = data or (names if name == b".shstrtab" else b"")
        link, step = (number + 1, 24) if name == b".symtab" else (0, 0)
        heads.append(
            struct.pack("<IIQQQQIIQQ", place, kind, flags, 0, 64 + len(body), size or len(data), link, 0, 1, step)
        )
        body += data
    counts = (0, 64, 56, 0, 64, len(heads), len(heads) - 1)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 0, 64 + len(body), *counts)
    return head + body + b"".join(heads)


def debug(units: bytes, abbreviations: bytes, flags: int = 0, strings: bytes = b"\0") -> bytes:
    parts = ((b".debug_info", flags, units), (b".debug_abbrev", 0, abbreviations), (b".debug_str", 0, strings))
    return elf(*((name, 1, flag, data, 0) for name, flag, data in parts))


def unit(entries: bytes, abbreviations: int = 0) -> bytes:
    body = struct.pack("<HIB", 4, abbreviations, 8) + entries
    return struct.pack("<I", len(body)) + body


def packed(size: int) -> bytes:
    """As many zeros, as a compressed section has them."""
    return struct.pack("<IIQQ", 1, 0, size, 1) + zlib.compress(bytes(size), 9)


def led_back() -> bytes:
    """A struct whose sibling is itself, alone and inside of another one."""
    entries = TOP + b"\x03luo_a\0\x02luo_ser\0" + struct.pack("<I", 11 + len(TOP) + 7) + b"\0\0\0"
    return debug(unit(entries), UNIT + b"\2\x13\1" + NAME + SIBLING + b"\0\0\3\x13\1" + NAME + b"\0\0\0")


def nested() -> bytes:
    return debug(unit(TOP + b"\2luo_ser\0" * 5000 + bytes(5001)), UNIT + b"\2\x13\1" + NAME + b"\0\0\0")


def huge_size() -> bytes:
    """The size of a struct has 14 000 digits or so."""
    size = b"\xff" * 7000 + b"\x01"
    return debug(unit(TOP + b"\2luo_ser\0" + size + b"\0\0"), UNIT + b"\2\x13\1" + NAME + SIZE + b"\0\0\0")


def cut_table() -> bytes:
    """The entries end inside of a name."""
    return debug(unit(TOP[:8]), UNIT + b"\0")


def free_attributes() -> bytes:
    """Each entry of a byte has a thousand attributes that take none."""
    wide = b"\2\x34\0" + b"".join(bytes([0x80 | low, 0x40 | high, 0x19]) for low in range(100) for high in range(10))
    return debug(unit(TOP + b"\2" * 20_000 + b"\0"), UNIT + wide + b"\0\0\0")


def shared_tables() -> bytes:
    """Each of 2000 units has the same table, but for its beginning."""
    table = b"".join(b"\1\x11\0" + NAME + b"\0\0" for _ in range(5000)) + b"\0"
    return debug(b"".join(unit(b"\1a\0", 7 * number) for number in range(2000)), table)


def free_attributes_of_types() -> bytes:
    """Each member has a type of its own, of a byte with a thousand attributes that take none, in a unit not read."""
    wide = b"\3\x24\0" + b"".join(bytes([0x80 | low, 0x40 | high, 0x19]) for low in range(100) for high in range(10))
    table = b"\2\x13\1" + NAME + b"\0\0" + wide + b"\0\0" + b"\4\x0d\0\x49\x10\0\0\0"
    head, count = TOP + b"\2luo_ser\0", 2000
    first = 11 + len(head) + 5 * count + 2 + 11 + 3
    members = b"".join(b"\4" + struct.pack("<I", first + number) for number in range(count))
    return debug(unit(head + members + b"\0\0") + unit(b"\1a\0" + b"\3" * count + b"\0"), UNIT + table)


def other_table() -> bytes:
    """Types are in 2000 units that have the same table, but for its beginning, of which none is read for itself."""
    filler = b"".join(b"\1\x34\0" + NAME + b"\0\0" for _ in range(5000))
    own = UNIT + b"\2\x13\1" + NAME + b"\0\0" + b"\4\x0d\0\x49\x10\0\0\0"
    head, count = TOP + b"\2luo_ser\0", 2000
    size = len(unit(b"\1a\0"))
    first = 11 + len(head) + 5 * count + 2
    members = b"".join(b"\4" + struct.pack("<I", first + size * number + 11) for number in range(count))
    others = b"".join(unit(b"\1a\0", len(own) + 7 * number) for number in range(count))
    return debug(unit(head + members + b"\0\0") + others, own + filler + b"\0")


def shared_names() -> bytes:
    """All entries have the same long name."""
    table = UNIT + b"\2\x24\0\x03\x0e\0\0\0"
    return debug(unit(TOP + b"\2\0\0\0\0" * 2000 + b"\0"), table, strings=b"a" * 20_000 + b"\0")


def types(tmp_path: Path, data: bytes) -> str:
    """What is said of the types of a file. Empty: they were read."""
    (tmp_path / "vmlinux").write_bytes(data)
    try:
        for number, _ in (found := read_types(tmp_path / "vmlinux")).structs():
            str(found.size(number))
    except SourceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("make", [led_back, nested, huge_size])
def test_odd_entries_are_read(make: object, tmp_path: Path) -> None:
    start = process_time()
    assert callable(make) and types(tmp_path, make()) == ""
    assert process_time() - start < 10


@pytest.mark.parametrize("make", [free_attributes, shared_tables, free_attributes_of_types, other_table, shared_names])
def test_entries_and_their_attributes_are_counted(make: object, tmp_path: Path) -> None:
    start = process_time()
    with limited(Limits(debug_entries=200_000)):
        assert callable(make) and "--limit debug_entries=N" in types(tmp_path, make())
    assert process_time() - start < 10


def test_words_of_python_are_not_repeated(tmp_path: Path) -> None:
    assert types(tmp_path, cut_table()).endswith("vmlinux: damaged ELF file")


def test_a_small_section_that_unpacks_to_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(elf((b".debug_info", 1, 0x800, packed(24 << 20), 0)))
    for read in (lambda: read_types(path), lambda: read_symbols(path, frozenset({"kho_in"}))):
        with limited(Limits(section_bytes=1 << 20)), pytest.raises(SourceError, match="--limit section_bytes=N"):
            read()


@pytest.mark.parametrize("kind", [1, 8])
@pytest.mark.parametrize("name", [".symtab", ".debug_info"])
def test_a_section_that_is_not_in_the_file_is_not_made(name: str, kind: int, tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(elf((name.encode(), kind, 0, b"", 24 << 34), (b".strtab", 3, 0, b"\0", 0)))
    for read in (lambda: read_types(path), lambda: read_symbols(path, frozenset({"kho_in"}))):
        with pytest.raises(SourceError, match=f"section {name} is not in the file"):
            read()
