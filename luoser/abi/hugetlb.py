# SPDX-License-Identifier: MIT
"""Huge pages: the FLB hugetlb-v1 and the file handler huge-memfd-v1, as posted in December 2025.

Changes with it: the FLB's name and the handler's string.
"""

from __future__ import annotations

from luoser.abi.memfd import PFN_BITS
from luoser.abi.schema import Schema, array, bits, in_bytes, packed, u8, u64
from luoser.abi.vmalloc import kho_vmalloc

__all__ = ["HSTATES", "hugemfd_folio_ser", "hugemfd_ser", "hugetlb_hstate_ser", "hugetlb_ser"]

HSTATES = 4
"""Slots for huge page sizes in the FLB; nr_hstates of them are in use."""

_SEEN = "liveupdate: hugetlb support RFC, 7 Dec 2025"

hugetlb_hstate_ser = Schema(
    "hugetlb_hstate_ser",
    "hugetlb-v1",
    packed("nr_pages" / u64 * "preserved huge pages of this size", "order" / u8 * "their order, 9 for 2 MiB"),
    status="posted",
    seen_in=_SEEN,
    meaning="One huge page size.",
)
hugetlb_ser = Schema(
    "hugetlb_ser",
    "hugetlb-v1",
    packed(
        "hstates" / array(HSTATES, hugetlb_hstate_ser) * "huge page sizes, 9 bytes each, hence unaligned",
        "nr_hstates" / u8 * "slots in use",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="Data of the FLB hugetlb-v1.",
)
hugemfd_folio_ser = Schema(
    "hugemfd_folio_ser",
    "huge-memfd-v1",
    packed(
        "_bits" / bits(8, pfn=PFN_BITS, reserved=12) * "frame number, then zeros",
        "index" / u64 * "offset in the file, in huge pages",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="One huge page of the file.",
)
hugemfd_ser = Schema(
    "hugemfd_ser",
    "huge-memfd-v1",
    packed(
        "size" / in_bytes(u64) * "file size in bytes; memfd has pos first",
        "pos" / in_bytes(u64) * "file position",
        "nr_folios" / u64 * "entries of the folio array",
        "folios" / kho_vmalloc * "vmalloc area that holds the hugemfd_folio_ser",
        "order" / u8 * "order of its huge pages",
    ),
    status="posted",
    seen_in=_SEEN,
    meaning="A preserved memfd made of huge pages.",
)
