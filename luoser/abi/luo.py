# SPDX-License-Identifier: MIT
"""Live Update Orchestrator: luo-v1 (FDT forms of 2025, 6.19 to 7.1) to luo-v5 (7.2, 7.3) and later proposals.

Changes with it: the string of the root object, up to 7.1 also those of its nodes. A kernel panics if a string is not
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from luoser.abi.schema import Schema, array, char, handle, packed, phys, token, u64

__all__ = [
    "FILE_DESCRIPTORS_NODE",
    "FLB_VERSIONS",
    "FORMS",
    "OLD_VERSIONS",
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
OLD_VERSIONS = {SUBSYSTEMS_NODE: "subsystems-v1", FILE_DESCRIPTORS_NODE: "file-descriptors-v1"}
"""Compatible string of a node of the LUO of 2025, by name of the node."""
TEST_FLB_MAGIC = 0xFEEDF00DCAFEBEE0
"""`data` of the kernel's own test FLBs is this plus their number; it is not an address."""

_V5 = "luo-v5 (also luo-v3, luo-v4 of the 7.2-cycle series)"
_NUMBER = "liveupdate_num" / u64 * "number of live updates, including the coming one"
_SESSIONS = "sessions_pa" / phys * "first session block, 0 until serialised or without sessions"
_FLBS = "flbs_pa" / phys * "FLB page"


def is_test_flb(data: int) -> bool:
    """Whether the data of an FLB is the magic of the kernel's test FLBs, so not an address."""
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
    meaning="LUO's root object of the form in which an FDT points to it.",
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
        "supp" / u64 * "bits that the writer supports",
        "req" / u64 * "bits that a reader must support",
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
    packed("features" / luo_feature_hdr * "1 number, 2 sessions, 4 FLBs", _NUMBER, _SESSIONS, _FLBS),
    status="development-branch",
    seen_in="mm development branch",
    meaning="LUO's root object with a feature header.",
)
luo_file_ser = Schema(
    "luo_file_ser",
    "luo-v1..luo-v5",
    packed(
        "compatible" / char(48) * "handler, such as memfd-v2",
        "data" / handle(u64) * "the handler's handle, a physical address for all known handlers",
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
    packed("name" / char(64) * "unique, written last", "file_set_ser" / luo_file_set_ser * "its files"),
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
    meaning="One session before the merge; same size as in luo-v5.",
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
        "data" / handle(u64) * "the owner's handle, usually a physical address",
        "count" / u64 * "preserved files that depend on it",
    ),
    status="merged",
    seen_in="7.0..7.3",
    meaning="One piece of file-lifecycle-bound global data.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LuoForm:
    """One form of LUO: the kind of its root object, and where its sessions, files and FLBs are.

    name:            value of `luo.layout` in documents.
    compatible:      string of the root object. None: the form has no string.
    root:            struct of the root object. None: a devicetree.
    pointed:         struct at the address in a property of the devicetree. None: no such property.
    sessions:        `blocks`: KHO blocks. `area`: a header with a count, then entries in contiguous pages. `none`.
    session_version: compatible string of the session node of the devicetree. None: no such node.
    session_header:  struct at the start of an area.
    session:         struct of an entry.
    session_pages:   pages of an area.
    files:           `blocks`, `array` (entries in contiguous pages), or `tree` (nodes of a devicetree).
    file_pages:      pages of an array.
    flbs:            `boot`: the FLB page is made at boot, so it always exists. `optional`. `none`.
    has_number:      whether it has the number of live updates.

    Source: docs/abi/luo.md.
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

    @property
    def session_span(self) -> int:
        """Pages of one block of sessions, or of the area."""
        return self.session_pages if self.sessions == "area" else 1

    @property
    def file_span(self) -> int:
        """Pages of one block of files, or of the array."""
        return self.file_pages if self.files == "array" else 1

    def has_sessions(self, pointer: int, count: int) -> bool:
        """Whether there are serialised sessions.

        pointer: physical address of the first block or of the area. 0 for blocks before serialisation.
        count:   of the header of an area. 0 before serialisation.
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
"""All forms, newest first. `luoser.abi.release` has the forms by kernel release."""

_BY_NAME = {entry.name: entry for entry in FORMS}


def form(name: str) -> LuoForm | None:
    """The form of that name. None: unknown."""
    return _BY_NAME.get(name)
