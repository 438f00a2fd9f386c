# SPDX-License-Identifier: MIT
"""Bulk lists: sequences over packed bytes that make their items on access."""

from __future__ import annotations

import copyreg
import struct
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, Literal, overload

from luoser.abi.schema import Kind
from luoser.bits import is_zero
from luoser.text import bdf_text, decode_name

__all__ = ["HEX_KINDS", "Column", "Device", "DeviceList", "Folio", "FolioList", "Hex", "Value", "row_fields"]

Value = int | str | tuple[Mapping[str, Any], ...]


HEX_KINDS: Final = frozenset({"address", "handle", "token", "size"})
"""Kinds of members that are hex strings in documents; see `luoser.abi.schema.Kind`."""


def _remake(packed: struct.Struct) -> tuple[type[struct.Struct], tuple[str]]:
    return struct.Struct, (packed.format,)


copyreg.pickle(struct.Struct, _remake)
# For `pickle`, `copy` and `multiprocessing` of a state: Python itself cannot pickle the format of a record.


class Hex(int):
    """An address, a handle, a token, a size in bytes or a file position: a hex string in JSON."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One member of a record.

    name:      of the member. Of kind `bits`: of its first bit-field.
    kind:      as `luoser.abi.schema.Kind`; `text`: a NUL-padded name; `bits`: bit-fields; `records`: nested records.
    bits:      (name, lowest bit, width) of each bit-field.
    bit_names: of kind `flags`: name by bit value.
    record:    of kind `records`: format of one record, else None.
    columns:   of kind `records`: columns of one record.
    size:      bytes of a text or of nested records, 0 for numbers.
    """

    name: str
    kind: Kind | Literal["bits", "records"] = "number"
    bits: tuple[tuple[str, int, int], ...] = ()
    bit_names: Mapping[int, str] = field(default_factory=dict, hash=False)
    record: struct.Struct | None = None
    columns: tuple[Column, ...] = ()
    size: int = 0

    @property
    def is_hex(self) -> bool:
        """Whether it is a hex string in documents."""
        return self.kind in HEX_KINDS


@dataclass(frozen=True, slots=True)
class Device:
    """One entry of a device list.

    index:  number of its slot.
    domain: PCI domain.
    bdf:    bus << 8 | devfn.
    fields: values of the other members by name.
    """

    index: int
    domain: int
    bdf: int
    fields: Mapping[str, Value]

    @property
    def name(self) -> str:
        """`DDDD:BB:SS.F`."""
        return bdf_text(self.domain, self.bdf)

    def number(self, name: str) -> int | None:
        """Value of a numeric member. None: the layout has no such member."""
        value = self.fields.get(name)
        return value if isinstance(value, int) else None

    def text(self, name: str) -> str | None:
        """Value of a member that is a name, such as driver_name. None: the layout has no such member."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    def records(self, name: str) -> tuple[Mapping[str, Any], ...]:
        """Value of a member that is an array of records, such as resource. Empty: the layout has no such member."""
        value = self.fields.get(name)
        return value if isinstance(value, tuple) else ()


class DeviceList(Sequence[Device]):
    """The preserved devices of one list, over its packed records.

    record:  `struct` format of a record.
    columns: its members, in the order of the format; `path` (domain << 16 | bdf), or `domain` and `bdf`.
    data:    the records, without gaps.
    holes:   whether a record of zeros is an empty slot, which is skipped. The index of a device is that of its slot.

    Raises ValueError if the data is not a whole number of records.
    """

    __slots__ = ("_columns", "_data", "_record", "_slots")

    def __init__(self, record: struct.Struct, columns: tuple[Column, ...], data: bytes, *, holes: bool = False) -> None:
        if len(data) % record.size:
            raise ValueError(f"{len(data)} bytes: expected a multiple of the record size, {record.size} bytes")
        self._record, self._columns, self._data = record, columns, data
        self._slots: Sequence[int] = range(len(data) // record.size)
        if holes:
            self._slots = tuple(_used(data, record.size))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The members of a record."""
        return self._columns

    def column(self, name: str) -> Column | None:
        """The member of that name. None: the layout has no such member."""
        return next((column for column in self._columns if column.name == name), None)

    @property
    def data(self) -> bytes:
        """The records as in memory, holes included."""
        return self._data

    @property
    def slots(self) -> int:
        """Number of records, holes included."""
        return len(self._data) // self._record.size

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Device: ...
    @overload
    def __getitem__(self, index: slice) -> list[Device]: ...
    def __getitem__(self, index: int | slice) -> Device | list[Device]:
        if isinstance(index, slice):
            return [self.in_slot(slot) for slot in self._slots[index]]
        return self.in_slot(self._slots[index])

    def __iter__(self) -> Iterator[Device]:
        if isinstance(self._slots, range):
            for index, row in enumerate(self.rows()):
                yield self._device(index, row)
        else:
            yield from map(self.in_slot, self._slots)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeviceList):
            return NotImplemented
        return (self._columns, self._data, self._slots) == (other._columns, other._data, other._slots)

    __hash__ = None  # type: ignore[assignment]

    @property
    def record_size(self) -> int:
        """Bytes of one record."""
        return self._record.size

    def in_slot(self, slot: int) -> Device:
        """The device in a slot, which is not a hole."""
        return self._device(slot, self._record.unpack_from(self._data, slot * self._record.size))

    def is_hole(self, slot: int) -> bool:
        """Whether a slot is empty."""
        return not isinstance(self._slots, range) and not any(self.record_of(slot))

    def record_of(self, slot: int) -> bytes:
        """The record in a slot, as in memory."""
        return self._data[slot * self._record.size : (slot + 1) * self._record.size]

    def position(self, slot: int) -> int:
        """Index in the sequence of the device in a slot: holes before it are not counted."""
        return bisect_left(self._slots, slot)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The records as tuples in the order of `columns`, holes included. Fast, for long lists."""
        return self._record.iter_unpack(self._data)

    def paths(self, start: int, end: int) -> Iterator[int]:
        """domain << 16 | bdf of each record in slots [start, end), holes included. Fast, for long lists."""
        rows = self._record.iter_unpack(memoryview(self._data)[start * self.record_size : end * self.record_size])
        place = {column.name: index for index, column in enumerate(self._columns)}
        if "path" in place:
            return map(itemgetter(place["path"]), rows)
        domain, bdf = place["domain"], place["bdf"]
        return (row[domain] << 16 | row[bdf] for row in rows)

    def used_paths(self) -> Iterator[int]:
        """As `paths`, of all devices: without holes."""
        paths = self.paths(0, self.slots)
        return paths if isinstance(self._slots, range) else map([*paths].__getitem__, self._slots)

    def _device(self, index: int, row: tuple[Any, ...]) -> Device:
        fields = row_fields(self._columns, row)
        path = fields.pop("path", None)
        if isinstance(path, int):
            return Device(index, path >> 16, path & 0xFFFF, {"path": path, **fields})
        domain, bdf = fields.pop("domain"), fields.pop("bdf")
        assert isinstance(domain, int) and isinstance(bdf, int)
        return Device(index, domain, bdf, fields)


def _used(data: bytes, size: int) -> Iterator[int]:
    """Numbers of the slots that are not all zeros. Long runs of zeros are skipped at once."""
    step = size * 4096
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        if not is_zero(piece):
            first = start // size
            yield from (first + at // size for at in range(0, len(piece), size) if any(piece[at : at + size]))


def row_fields(columns: tuple[Column, ...], row: tuple[Any, ...]) -> dict[str, Value]:
    """The values of one unpacked record by member name.

    columns: of the record.
    row:     its unpacked values.
    """
    fields: dict[str, Value] = {}
    for column, value in zip(columns, row, strict=True):
        if column.kind == "text":
            fields[column.name] = decode_name(value)
        elif column.kind == "bits":
            fields |= {name: value >> first & ((1 << width) - 1) for name, first, width in column.bits}
        elif column.kind == "records":
            assert column.record is not None
            fields[column.name] = tuple(row_fields(column.columns, item) for item in column.record.iter_unpack(value))
        else:
            fields[column.name] = value
    return fields


@dataclass(frozen=True, slots=True)
class Folio:
    """One folio of a file.

    index:   offset in the file, in pages.
    address: physical, 0 for a hole.
    flags:   1 DIRTY, 2 UPTODATE.
    """

    index: int
    address: int
    flags: int


class FolioList(Sequence[Folio]):
    """The folios of a file, over packed 16-byte entries: a u64 with frame number and flags, then the index as u64.

    data:        the entries; a last one that is not whole is ignored.
    page_size:   bytes.
    frame_shift: lowest bit of the frame number in the first u64: 0 in the merged forms, 12 before the merge. The
                 other 12 bits are the flags.
    """

    __slots__ = ("_data", "frame_shift", "page_size")
    _RECORD = struct.Struct("<QQ")

    def __init__(self, data: bytes, *, page_size: int, frame_shift: int = 0) -> None:
        self._data, self.page_size, self.frame_shift = data[: len(data) // 16 * 16], page_size, frame_shift

    @property
    def data(self) -> bytes:
        """The entries as in memory."""
        return self._data

    def __len__(self) -> int:
        return len(self._data) // 16

    @overload
    def __getitem__(self, index: int) -> Folio: ...
    @overload
    def __getitem__(self, index: slice) -> list[Folio]: ...
    def __getitem__(self, index: int | slice) -> Folio | list[Folio]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._folio(*self._RECORD.unpack_from(self._data, 16 * range(len(self))[index]))

    def __iter__(self) -> Iterator[Folio]:
        return (Folio(*row) for row in self.rows())

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """(index, physical address, flags) of each folio. Fast, for long lists."""
        shift, page, words = self.frame_shift, self.page_size, self._RECORD.iter_unpack(self._data)
        if shift:
            return ((index, (word >> shift) * page, word & 0xFFF) for word, index in words)
        return ((index, (word & (1 << 52) - 1) * page, word >> 52) for word, index in words)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FolioList):
            return NotImplemented
        return (self._data, self.page_size, self.frame_shift) == (other._data, other.page_size, other.frame_shift)

    __hash__ = None  # type: ignore[assignment]

    def addresses(self) -> Iterator[int]:
        """Physical address of each folio, 0 for a hole. Fast, for long lists."""
        shift, page, mask = self.frame_shift, self.page_size, (1 << 52) - 1
        return ((word >> shift & mask) * page for word, _ in self._RECORD.iter_unpack(self._data))

    def _folio(self, word: int, index: int) -> Folio:
        if self.frame_shift:
            return Folio(index, (word >> 12) * self.page_size, word & 0xFFF)
        return Folio(index, (word & (1 << 52) - 1) * self.page_size, word >> 52)
