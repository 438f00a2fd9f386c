# SPDX-License-Identifier: MIT
"""Whether the values of a struct can be what their writer wrote: versions, counts and sizes that fit each other."""

from __future__ import annotations

from luoser.abi import guest, other

__all__ = [
    "PAGE_SIZES",
    "PHYSICAL_LIMIT",
    "is_array",
    "is_empty_pstore",
    "is_guest_memfd",
    "is_hwpoison",
    "is_name",
    "is_page",
    "is_pstore",
    "is_tmpfs_file",
]

_REASONS = 16
"""More than the reasons of a dump in enum kmsg_dump_reason."""
PHYSICAL_LIMIT = 1 << 52
"""No x86-64 or arm64 machine has physical addresses at or above this."""
PAGE_SIZES = (4096, 16384, 65536)
"""Bytes of a page, smallest first."""


def is_page(address: int) -> bool:
    """Whether a number can be the address of a page. address: physical."""
    return 0 < address < PHYSICAL_LIMIT and address % PAGE_SIZES[0] == 0


def is_array(size: int, area: object, page_sizes: tuple[int, ...] = PAGE_SIZES) -> bool:
    """Whether a vmalloc area has the size that an array of so many bytes needs.

    size:       of the array in bytes; 0: no area.
    area:       a parsed kho_vmalloc.
    page_sizes: bytes of a page, one of which it is.
    """
    first, pages, order = (getattr(area, name) for name in ("first", "total_pages", "order"))
    if not size:
        return not first
    fits = any(size <= pages * page < size + (page << order) for page in page_sizes)
    return is_page(first) and order < 52 and fits


def is_hwpoison(data: bytes, page_sizes: tuple[int, ...] = PAGE_SIZES) -> bool:
    """Whether bytes start with a kho_hwpoison_metadata: version 1, and an area that holds its array.

    The area has room for 512 entries, or twice as many as often as needed, and stays when the count falls, even to 0.

    data:       from the struct on.
    page_sizes: bytes of a page, one of which it is.
    """
    if (
        len(data) < other.kho_hwpoison_metadata.size
        or other.kho_hwpoison_metadata.values(data)["version"] != other.RECORD_VERSION
    ):
        return False
    ser = other.kho_hwpoison_metadata.parse(data)
    pages, size = ser.pfns.total_pages, ser.count * 8
    if ser._pad or not ser.pfns.first:
        return not (ser._pad or size or pages)
    has_room = any(size <= pages * page for page in page_sizes)
    return is_page(ser.pfns.first) and ser.pfns.order < 52 and pages.bit_count() == 1 and has_room


def is_guest_memfd(data: bytes, page_sizes: tuple[int, ...] = PAGE_SIZES) -> bool:
    """Whether bytes start with a guest_memfd_luo_ser: whole pages, not fewer than folios, and an array of their size.

    data:       from the struct on.
    page_sizes: bytes of a page, one of which it is.
    """
    if len(data) < guest.guest_memfd_luo_ser.size:
        return False
    schema, page = guest.guest_memfd_luo_ser, page_sizes[0]
    ser = schema.values(data)
    is_known = not ser["flags"] & ~sum(guest.GUEST_FLAGS) and ser["size"] <= 1 << 52 and not ser["size"] % page
    if not is_known or ser["nr_folios"] > ser["size"] // page:
        return False
    return is_array(ser["nr_folios"] * 16, schema.parse(data).folios, page_sizes)


def is_tmpfs_file(data: bytes, page_sizes: tuple[int, ...] = PAGE_SIZES) -> bool:
    """Whether bytes start with a tmpfs_file_ser: an array of the size of its folios.

    data:       from the struct on.
    page_sizes: bytes of a page, one of which it is.
    """
    if len(data) < other.tmpfs_file_ser.size:
        return False
    ser = other.tmpfs_file_ser.parse(data)
    return is_array(ser.nr_folios * 16, ser.folios, page_sizes) and ser.size <= 1 << 52


def is_pstore(data: bytes, size: int) -> bool:
    """Whether bytes start with a pstore_ser: version 1, a time, and a record of a size that is there.

    data: from the struct on.
    size: bytes of the blob.
    """
    if len(data) < other.pstore_ser.size:
        return False
    ser = other.pstore_ser.parse(data)
    return bool(
        ser.version == other.RECORD_VERSION
        and 0 < ser.record.size <= size - other.pstore_ser.body
        and 0 < ser.record.time_sec < 1 << 32
        and ser.record.reason < _REASONS
        and not data[4:8].strip(b"\0")
        and ser.record.time_nsec < 1_000_000_000
        and ser.record.compressed <= 1
    )


def is_empty_pstore(data: bytes) -> bool:
    """Whether bytes start with a pstore_ser that has no record yet: version 1, then zeros. data: from it on."""
    version = other.RECORD_VERSION.to_bytes(4, "little")
    return data[: other.pstore_ser.size] == version.ljust(other.pstore_ser.size, b"\0")


def is_name(raw: bytes, *, empty: bool = False) -> bool:
    """Whether a fixed-size field holds a name: with a NUL, and only zeros after it.

    raw:   the field.
    empty: whether an empty name is accepted.
    """
    name, nul, rest = raw.partition(b"\0")
    return bool(nul) and (bool(name) or empty) and not rest.strip(b"\0")
