# SPDX-License-Identifier: MIT
"""Live Update Orchestrator: luo-v1 (FDT forms of 2025, 6.19 to 7.1) to luo-v5 (7.2, 7.3) and later proposals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luoser.abi.schema import Schema, array, char, handle, packed, phys, token, u64

__all__ = [
    "FILE_DESCRIPTORS_NODE",
    "FLB_VERSIONS",
    "FORMS",
    "SUBSYSTEMS_NODE",
    "TEST_FLB_MAGIC",
    "LuoForm",
    "form",
    "is_test_flb",
    "luo_feature_hdr",
    "luo_file_ser",
    "luo_file_ser_features",
    "luo_file_set_ser",
    "luo_flb_header_ser",
    "luo_flb_ser",
    "luo_ser",
    "luo_ser_composed",
    "luo_ser_features",
    "luo_ser_v2",
    "luo_session_header_ser",
    "luo_session_header_ser_pgcnt",
    "luo_session_ser",
    "luo_session_ser_pgcnt",
]

FLB_VERSIONS = ("luo-flb-v1",)
"""Compatible strings of the devicetree node luo-flb."""
SUBSYSTEMS_NODE, FILE_DESCRIPTORS_NODE = "subsystems", "file-descriptors"
TEST_FLB_MAGIC = 0xFEEDF00DCAFEBEE0
"""`data` of the kernel's own test FLBs, plus their number: no address."""

_V5 = "luo-v5 (also luo-v3, luo-v4 of the 7.2-cycle series)"
_NUMBER = "liveupdate_num" / u64 * "live updates so far as the next kernel will see them"
_SESSIONS = "sessions_pa" / phys * "first session block, 0 until serialised or when there is no session"
_FLBS = "flbs_pa" / phys * "FLB page"


def is_test_flb(data: int) -> bool:
    """Whether an FLB's data is the magic of the kernel's test FLBs and not an address."""
    return TEST_FLB_MAGIC <= data < TEST_FLB_MAGIC + 16


luo_ser = Schema(
    "luo_ser",
    _V5,
    packed("compatible" / char(8) * "luo-v5", _NUMBER, _SESSIONS, _FLBS),
    status="merged",
    seen_in="7.2..7.3",
    meaning="LUO's root object.",
)
luo_ser_v2 = Schema(
    "luo_ser",
    "luo-v2 (7.2-cycle series only)",
    packed(_NUMBER, "sessions_pa" / phys * "session area", _FLBS),
    status="posted",
    seen_in="7.2-cycle series patch",
    meaning="LUO's root object while an FDT still pointed to it.",
)
luo_ser_composed = Schema(
    "luo_ser",
    "composed compatible (luo-v5;block-v1)",
    packed("compatible" / char(16) * "luo-v5;block-v1", _NUMBER, _SESSIONS, _FLBS),
    status="posted",
    seen_in="RFC 5 Jun 2026",
    meaning="LUO's root object with a string made of component versions.",
)
luo_feature_hdr = Schema(
    "luo_feature_hdr",
    "LUO feature headers",
    packed(
        "supp" / u64 * "bits the writer knows",
        "req" / u64 * "bits a reader has to understand",
        "active" / u64 * "bits in use",
        "reserved" / array(13, u64) * "0",
    ),
    status="development-branch",
    seen_in="mm development branch",
    meaning="Feature bits in place of a version string.",
)
luo_ser_features = Schema(
    "luo_ser",
    "LUO feature headers",
    packed("features" / luo_feature_hdr.con * "1 number, 2 sessions, 4 FLBs", _NUMBER, _SESSIONS, _FLBS),
    status="development-branch",
    seen_in="mm development branch",
    meaning="LUO's root object behind a feature header.",
)
luo_file_ser = Schema(
    "luo_file_ser",
    "luo-v1..luo-v5",
    packed(
        "compatible" / char(48) * "handler, such as memfd-v2",
        "data" / handle(u64) * "the handler's own handle, for all known ones a physical address",
        "token" / token(u64) * "chosen by user space, unique in its session",
    ),
    status="merged",
    seen_in="6.19..7.3",
    meaning="One preserved file of a session.",
)
luo_file_ser_features = Schema(
    "luo_file_ser",
    "LUO feature headers",
    packed(
        "name" / char(48) * "handler without a version", "data" / handle(u64) * "handle", "token" / token(u64) * "token"
    ),
    status="development-branch",
    seen_in="mm development branch",
    meaning="One preserved file; the handler's version is in its feature bits.",
)
luo_file_set_ser = Schema(
    "luo_file_set_ser",
    "luo-session-v2, luo-v5",
    packed("files" / phys * "first file block or file pages, 0 without files", "count" / u64 * "files"),
    status="merged",
    seen_in="6.19..7.3",
    meaning="The files of one session.",
)
luo_session_header_ser = Schema(
    "luo_session_header_ser",
    "luo-session-v2",
    packed("count" / u64 * "sessions, 0 until serialised"),
    status="merged",
    seen_in="6.19..7.1",
    meaning="Head of the 16-page session area.",
)
luo_session_ser = Schema(
    "luo_session_ser",
    "luo-session-v2, luo-v5",
    packed("name" / char(64) * "unique, written last", "file_set_ser" / luo_file_set_ser.con * "its files"),
    status="merged",
    seen_in="6.19..7.3",
    meaning="One session.",
)
luo_session_header_ser_pgcnt = Schema(
    "luo_session_head_ser / luo_session_header_ser (with pgcnt)",
    "luo-session-v1",
    packed("pgcnt" / u64 * "pages of the session area", "count" / u64 * "sessions"),
    status="posted",
    seen_in="LUO v5, v6 (Nov 2025)",
    meaning="Head of the session area before the merge.",
)
luo_session_ser_pgcnt = Schema(
    "luo_session_ser (56-byte name, pgcnt)",
    "luo-session-v1",
    packed(
        "name" / char(56) * "empty where a session was released",
        "files" / phys * "file array",
        "pgcnt" / u64 * "pages of the file array",
        "count" / u64 * "files",
    ),
    status="posted",
    seen_in="LUO v4..v6 (Sep-Nov 2025)",
    meaning="One session before the merge; as large as today's.",
)
luo_flb_header_ser = Schema(
    "luo_flb_header_ser",
    "luo-flb-v1, luo-v5",
    packed("pgcnt" / u64 * "always 1", "count" / u64 * "FLBs, 0 until serialised"),
    status="merged",
    seen_in="7.0..7.3",
    meaning="Head of the FLB page.",
)
luo_flb_ser = Schema(
    "luo_flb_ser",
    "luo-flb-v1, luo-v5",
    packed(
        "name" / char(48) * "compatible string of the FLB",
        "data" / handle(u64) * "the owner's handle, mostly a physical address",
        "count" / u64 * "preserved files that depend on it",
    ),
    status="merged",
    seen_in="7.0..7.3",
    meaning="One piece of file-lifecycle-bound global data.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LuoForm:
    """One form of LUO: what its root object is, and where its sessions, files and FLBs lie.

    name: as documents have it in `luo.layout`. compatible: string of the root object; None where it has none. root:
    struct of the root object; None where that is a devicetree. pointed: the struct that a property of the devicetree
    names. sessions: `blocks` (KHO blocks), `area` (a header with a count, then entries in contiguous pages) or
    `none`. session_version: compatible string of the devicetree's session node. session_header: of an area. session:
    an entry. session_pages: pages of an area. files: `blocks`, `array` (entries in contiguous pages), or `tree`
    (nodes of a devicetree). file_pages: pages of an array. flbs: `boot`, where kernels make the FLB page at boot so
    that it is always there; `optional`; `none`. has_number: whether it has the number of live updates.
    """

    name: str
    compatible: str | None
    root: Schema | None = None
    pointed: Schema | None = None
    sessions: Literal["blocks", "area", "none"]
    session_version: str | None = None
    session_header: Schema | None = None
    session: Schema = luo_session_ser
    session_pages: int = 16
    files: Literal["blocks", "array", "tree"]
    file_pages: int = 2
    flbs: Literal["boot", "optional", "none"] = "boot"
    has_number: bool = True

    @property
    def is_tree(self) -> bool:
        """Whether the root object is a devicetree."""
        return self.root is None

    def has_sessions(self, pointer: int, count: int) -> bool:
        """Whether there are serialised sessions. pointer: to the first block or the area. count: in an area's header.

        Before the reboot the pointer to the first block is 0; an area is there from boot on, with a count of 0.
        """
        return pointer != 0 if self.sessions == "blocks" else count > 0


FORMS: tuple[LuoForm, ...] = (
    LuoForm(name="luo-v5", compatible="luo-v5", root=luo_ser, sessions="blocks", files="blocks"),
    LuoForm(name="luo-v4", compatible="luo-v4", root=luo_ser, sessions="blocks", files="array"),
    LuoForm(
        name="luo-v3", compatible="luo-v3", root=luo_ser, sessions="area", session_header=luo_session_header_ser,
        files="array",
    ),
    LuoForm(
        name="luo-v2", compatible="luo-v2", pointed=luo_ser_v2, sessions="area",
        session_header=luo_session_header_ser, files="array",
    ),
    LuoForm(
        name="luo-composed", compatible="luo-v5;block-v1", root=luo_ser_composed, sessions="blocks", files="blocks",
    ),
    LuoForm(name="luo-features", compatible=None, root=luo_ser_features, sessions="blocks", files="blocks"),
    LuoForm(
        name="luo-v1", compatible="luo-v1", sessions="area", session_version="luo-session-v2",
        session_header=luo_session_header_ser, files="array", flbs="none",
    ),
    LuoForm(
        name="luo-v1-flb", compatible="luo-v1", sessions="area", session_version="luo-session-v2",
        session_header=luo_session_header_ser, files="array",
    ),
    LuoForm(
        name="luo-v1-session-v1", compatible="luo-v1", sessions="area", session_version="luo-session-v1",
        session_header=luo_session_header_ser_pgcnt, session=luo_session_ser_pgcnt, files="array",
        flbs="optional",
    ),
    LuoForm(
        name="luo-v1-subsystems", compatible="luo-v1", sessions="none", session_header=luo_session_header_ser,
        files="tree", flbs="none", has_number=False,
    ),
)  # fmt: skip
"""All forms, newest first; which release writes which is in `luoser.abi.release`."""

_BY_NAME = {entry.name: entry for entry in FORMS}


def form(name: str) -> LuoForm | None:
    """The form of that name, or None."""
    return _BY_NAME.get(name)
