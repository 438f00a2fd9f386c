# SPDX-License-Identifier: MIT
"""memfd (shmem) files: memfd-v1 (6.19, 7.0), memfd-v2 (7.1 to 7.3), and the forms that were not merged.

Changes with it: the handler's string in luo_file_ser. A kernel has one handler; with a file of the other string
/dev/liveupdate returns -EIO.
"""

from __future__ import annotations

from dataclasses import dataclass

from luoser.abi.luo import luo_feature_hdr
from luoser.abi.schema import Schema, bits, flags, handle, in_bytes, natural, packed, u32, u64
from luoser.abi.vmalloc import kho_vmalloc

__all__ = [
    "FOLIO_FLAGS",
    "FORMS",
    "PFN_BITS",
    "SEALS",
    "MemfdForm",
    "form",
    "form_of_handler",
    "memfd_luo_folio_ser",
    "memfd_luo_preserved_folio",
    "memfd_luo_ser_features",
    "memfd_luo_ser_v1",
    "memfd_luo_ser_v2",
    "memfd_luo_ser_v2_draft",
]

PFN_BITS = 52
FOLIO_FLAGS = {1: "DIRTY", 2: "UPTODATE"}
SEALS = {1: "SEAL", 2: "SHRINK", 4: "GROW", 8: "WRITE", 16: "FUTURE_WRITE", 32: "EXEC"}

_POS = "pos" / in_bytes(u64) * "file position"
_SIZE = "size" / in_bytes(u64) * "file size in bytes"
_NR_FOLIOS = "nr_folios" / u64 * "entries of the folio array"
_FOLIOS = "folios" / kho_vmalloc * "vmalloc area that holds the folio array"

memfd_luo_folio_ser = Schema(
    "memfd_luo_folio_ser",
    "memfd-v1, memfd-v2",
    packed(
        "_bits" / bits(8, pfn=PFN_BITS, flags=12) * "pfn 0 is a hole; flags 1 dirty, 2 up to date",
        "index" / u64 * "page offset in the file",
    ),
    status="merged",
    seen_in="6.19..7.3",
    meaning="One folio of the file; its order is in the preserved map only.",
)
memfd_luo_ser_v1 = Schema(
    "memfd_luo_ser",
    "memfd-v1",
    packed(_POS, _SIZE, _NR_FOLIOS, _FOLIOS),
    status="merged",
    seen_in="6.19, 7.0",
    meaning="A preserved memfd; seals are not handed over.",
)
memfd_luo_ser_v2 = Schema(
    "memfd_luo_ser",
    "memfd-v2",
    packed(
        _POS,
        _SIZE,
        "seals" / flags(u32, SEALS) * "F_SEAL_* bits, within 0x3f",
        "flags" / u32 * "0",
        _NR_FOLIOS,
        _FOLIOS,
    ),
    status="merged",
    seen_in="7.1..7.3",
    meaning="A preserved memfd with its seals.",
)
memfd_luo_ser_v2_draft = Schema(
    "memfd_luo_ser",
    "memfd-v2 alternative draft",
    packed(_POS, _SIZE, "_bits" / bits(8, seals=8, reserved=56) * "seals, then zeros", _NR_FOLIOS, _FOLIOS),
    status="development-branch",
    seen_in="development branch",
    meaning="Same bytes as the merged memfd-v2 while seals stay below 256.",
)
memfd_luo_ser_features = Schema(
    "memfd_luo_ser",
    "memfd (feature headers)",
    packed(
        "features" / luo_feature_hdr * "feature bits",
        _POS,
        _SIZE,
        "seals" / flags(u32, SEALS) * "F_SEAL_* bits",
        "flags" / u32 * "0",
        _NR_FOLIOS,
        _FOLIOS,
    ),
    status="development-branch",
    seen_in="mm development branch",
    meaning="A preserved memfd with a feature header.",
)
memfd_luo_preserved_folio = Schema(
    "memfd_luo_preserved_folio",
    "memfd pre-merge FDT 'folios' element",
    natural(
        "foliodesc" / handle(u64) * "pfn << 12 | flags: the opposite of the merged form", "index" / u64 * "page offset"
    ),
    status="posted",
    seen_in="LUO v2, v3 (Jul-Aug 2025)",
    meaning="Element of the folios property of the FDT that memfd-v1 named before the merge.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemfdForm:
    """One form of a preserved memfd.

    name:        value of `memfd.layout` in documents.
    handler:     compatible string of its files.
    descriptor:  struct at the handle. None: a devicetree.
    entry:       struct of the folio array.
    frame_shift: lowest bit of the frame number in the first u64 of an entry; the other 12 bits are flags.

    Source: docs/abi/memfd.md.
    """

    name: str
    handler: str
    descriptor: Schema | None
    entry: Schema = memfd_luo_folio_ser
    frame_shift: int = 0

    @property
    def has_seals(self) -> bool:
        """Whether seals are handed over."""
        return self.descriptor is not None and any(member.name == "seals" for member in self.descriptor.fields)


FORMS: tuple[MemfdForm, ...] = (
    MemfdForm(name="memfd-v1", handler="memfd-v1", descriptor=memfd_luo_ser_v1),
    MemfdForm(name="memfd-v2", handler="memfd-v2", descriptor=memfd_luo_ser_v2),
    MemfdForm(name="memfd-features", handler="memfd", descriptor=memfd_luo_ser_features),
    MemfdForm(
        name="memfd-pre-merge", handler="memfd-v1", descriptor=None, entry=memfd_luo_preserved_folio, frame_shift=12
    ),
)
"""All forms. If two have the same handler, the first is the merged one."""
_BY_HANDLER = {entry.handler: entry for entry in reversed(FORMS)}


def form(name: str) -> MemfdForm | None:
    """The form of that name. None: unknown."""
    return next((entry for entry in FORMS if entry.name == name), None)


def form_of_handler(compatible: str) -> MemfdForm | None:
    """The form of the files of a handler, unless the handle is that of a devicetree. None: not a memfd handler."""
    return _BY_HANDLER.get(compatible)
