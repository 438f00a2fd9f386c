# SPDX-License-Identifier: MIT
"""User-space ABI of LUO: ioctl structs of /dev/liveupdate, and the feature section of a kernel image.

Changes with it: nothing, the structs are extensible: size comes first, new members are added at the end.
"""

from __future__ import annotations

from luoser.abi.schema import Schema, char, in_bytes, natural, raw, s32, token, u32, u64

__all__ = [
    "DEVICE_IOCTLS",
    "FEATURES_MAGIC",
    "FEATURES_SECTION",
    "FEATURES_VERSION",
    "IOCTL_TYPE",
    "RFC_IOCTLS",
    "RFC_STATES",
    "SESSION_IOCTLS",
    "liveupdate_fd",
    "liveupdate_feature_entry",
    "liveupdate_ioctl_create_session",
    "liveupdate_session_finish",
    "liveupdate_session_get_name",
    "liveupdate_session_preserve_fd",
    "liveupdate_ver_hdr",
]

IOCTL_TYPE = 0xBA
DEVICE_IOCTLS = {0x00: "CREATE_SESSION", 0x01: "RETRIEVE_SESSION"}
SESSION_IOCTLS = {0x40: "PRESERVE_FD", 0x41: "RETRIEVE_FD", 0x42: "FINISH", 0x43: "GET_NAME"}
"""On the descriptor of a session; GET_NAME from 7.2 on."""
RFC_IOCTLS = {
    0x00: "FD_PRESERVE",
    0x01: "FD_UNPRESERVE",
    0x02: "FD_RESTORE",
    0x03: "GET_STATE",
    0x04: "PREPARE",
    0x05: "FREEZE",
    0x06: "CANCEL",
    0x07: "FINISH",
}
"""Of the postings of May to August 2025; not all have FREEZE."""
RFC_STATES = {0: "undefined", 1: "normal", 2: "prepared", 3: "frozen", 4: "updated"}
"""Global states from v2 (July 2025) to v4; the RFC of May 2025 does not have `undefined`."""
FEATURES_SECTION = ".liveupdate_features"
FEATURES_MAGIC, FEATURES_VERSION = 0x4C565550, 1

_SIZE = "size" / in_bytes(u32) * "size of this struct in the caller's version"

liveupdate_ver_hdr = Schema(
    "liveupdate_ver_hdr",
    "vmlinux .liveupdate_features",
    natural("magic" / u32 * "0x4c565550, PUVL in memory", "version" / u32 * "1"),
    status="development-branch",
    seen_in="mm development branch",
    meaning="Head of a kernel image's feature section.",
)
liveupdate_feature_entry = Schema(
    "liveupdate_feature_entry",
    "vmlinux .liveupdate_features",
    natural(
        "name" / char(48) * "component",
        "feat_bytes" / u32 * "size of a group of feature words",
        "reserved" / u32 * "0",
        "supp" / u64 * "bits that this kernel supports",
        "req" / u64 * "bits that a reader must support",
        "active" / u64 * "bits in use",
    ),
    status="development-branch",
    seen_in="mm development branch",
    meaning="One component of the feature section; user space compares it before a kexec.",
)
liveupdate_ioctl_create_session = Schema(
    "liveupdate_ioctl_create_session / _retrieve_session",
    "uapi ioctl",
    natural(_SIZE, "fd" / s32 * "out: descriptor of the session", "name" / raw(64) * "in: name, ends with NUL"),
    status="merged",
    seen_in="6.19..7.3",
    meaning="Argument of CREATE_SESSION and RETRIEVE_SESSION.",
)
liveupdate_session_preserve_fd = Schema(
    "liveupdate_session_preserve_fd / _retrieve_fd",
    "uapi ioctl",
    natural(_SIZE, "fd" / s32 * "in: PRESERVE_FD, out: RETRIEVE_FD", "token" / token(u64) * "chosen by user space"),
    status="merged",
    seen_in="6.19..7.3",
    meaning="Argument of PRESERVE_FD and RETRIEVE_FD.",
)
liveupdate_session_finish = Schema(
    "liveupdate_session_finish",
    "uapi ioctl",
    natural(_SIZE, "reserved" / u32 * "0"),
    status="merged",
    seen_in="6.19..7.3",
    meaning="Argument of FINISH.",
)
liveupdate_session_get_name = Schema(
    "liveupdate_session_get_name",
    "uapi ioctl",
    natural(_SIZE, "reserved" / u32 * "0", "name" / raw(64) * "out: name of the session"),
    status="merged",
    seen_in="7.2..7.3",
    meaning="Argument of GET_NAME.",
)
liveupdate_fd = Schema(
    "liveupdate_fd",
    "uapi ioctl of LUO RFC v2..v3",
    natural(
        "fd" / s32 * "file descriptor",
        "flags" / u32 * "0",
        "token" / token(u64) * "chosen by user space; by the kernel in the earliest RFC",
    ),
    status="posted",
    seen_in="May-Aug 2025",
    meaning="Argument of FD_PRESERVE and FD_RESTORE before the merge.",
)
