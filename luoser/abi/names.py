# SPDX-License-Identifier: MIT
"""How programs of user space name their sessions, choose their tokens, and note what they preserved.

The kernel gives no meaning to any of it. Only what is published is here, each with its source. What names its sessions
as the user likes, and its tokens by no fixed scheme, cannot be recognised and is not here.

Changes with it: nothing of the kernel; each program as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

__all__ = [
    "CRIU",
    "MAPPING_TOKEN",
    "MAPPING_VERSION",
    "NANOVMM",
    "NANOVMM_MAGIC",
    "SCHEMES",
    "SYSTEMD",
    "Scheme",
    "criu_image",
]

MAPPING_TOKEN = 0
"""Token of systemd's mapping: a memfd that holds JSON."""
MAPPING_VERSION = 1
"""Newest version of the mapping that is published. A systemd ignores those that are newer than its own."""
NANOVMM_MAGIC = 0x4E564D4D53544154
"""First eight bytes of NanoVMM's machine state, as a number: NVMMSTAT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a program names what it preserves.

    name:     of the scheme, in words.
    session:  matches the whole name of its sessions. None: any name.
    tokens:   what is preserved under a token.
    handlers: start of the handler's string of each token that a session needs, if its name proves nothing.
    ranges:   what is preserved under the tokens of a range, by first token; numbers count from there.
    status:   released, posted or development-branch.
    seen_in:  releases, or the posting and its date.
    source:   where it is published.
    """

    name: str
    session: re.Pattern[str] | None = None
    tokens: Mapping[int, str] = field(default_factory=dict)
    handlers: Mapping[int, str] = field(default_factory=dict)
    ranges: Mapping[range, str] = field(default_factory=dict)
    status: str
    seen_in: str
    source: str

    def of_token(self, token: int) -> str | None:
        """What is preserved under a token, in words. None: the scheme does not say."""
        if token in self.tokens:
            return self.tokens[token]
        return next((f"{what} {token - span.start}" for span, what in self.ranges.items() if token in span), None)


def _selftest(name: str, session: str, tokens: Mapping[int, str], *, status: str = "released") -> Scheme:
    return Scheme(
        name=f"kernel selftest {name}",
        session=re.compile(session),
        tokens=tokens,
        handlers=dict.fromkeys(tokens, "memfd"),
        status=status,
        seen_in="6.19 on" if status == "released" else "posted 2026",
        source=f"tools/testing/selftests/liveupdate/{name}.c",
    )


SYSTEMD = Scheme(
    name="systemd fd store",
    session=re.compile("systemd"),
    tokens={MAPPING_TOKEN: "mapping"},
    status="released",
    seen_in="systemd 261 on",
    source="systemd, src/shared/luo-util.c and src/core/luo.c",
)
CRIU = Scheme(
    name="CRIU images",
    session=re.compile(r"criu-dump-([1-9][0-9]{0,9})"),
    status="posted",
    seen_in="CRIU pull request 3152, Sep 2026",
    source="CRIU, criu/luo.c of the pull request",
)
NANOVMM = Scheme(
    name="NanoVMM guest",
    tokens={0x1000: "VM", 0x1001: "guest RAM", 0x2000: "machine state"},
    handlers={0x1000: "kvm_vm_luo", 0x1001: "guest_memfd_luo", 0x2000: "memfd"},
    ranges={range(0x10000, 0x10010): "vCPU", range(0x100000, 0x100400): "CPU"},
    status="development-branch",
    seen_in="soleen/nanovmm, 2026",
    source="nanovmm, nvmm.h",
)
SCHEMES: tuple[Scheme, ...] = (
    SYSTEMD,
    CRIU,
    _selftest("luo_kexec_simple", "kexec_simple_state", {999: "stage of the test"}),
    _selftest("luo_kexec_simple", "test-session", {0x1A: "test data"}),
    _selftest("luo_multi_session", "kexec_multi_state", {998: "stage of the test"}),
    _selftest("luo_multi_session", "multi-test-empty-[12]", {}),
    _selftest("luo_multi_session", "multi-test-files-1", {0x1001: "test data"}),
    _selftest("luo_multi_session", "multi-test-files-2", {0x2002: "test data", 0x3003: "test data"}),
    NANOVMM,
)
"""All schemes. The first that fits a session counts."""

_MASK = (1 << 64) - 1
_NUMBERS = range(64)
"""Numbers of images other than the process's, such as those of namespaces and of pages."""
_SINGLE = (
    "apparmor", "binfmt-misc", "bpfmap-data", "bpfmap-file", "cgroup", "cpuinfo", "eventfd", "eventpoll",
    "eventpoll-tfd", "ext-files", "fanotify", "fanotify-mark", "fifo", "fifo-data", "filelocks", "files", "inetsk",
    "inotify", "inotify-wd", "inventory", "memfd", "memfd-secret", "netlinksk", "ns-files", "packetsk", "pipes",
    "pipes-data", "pstree", "reg-files", "remap-fpath", "seccomp", "signalfd", "sk-queues", "timerfd", "tty",
    "tty-data", "tty-info", "tunfile", "unixsk",
)  # fmt: skip
_NUMBERED = (
    "autofs", "core", "creds", "fdinfo", "fs", "ids", "ifaddr", "ip6tables", "ipcns-msg", "ipcns-sem", "ipcns-shm",
    "ipcns-var", "iptables", "itimers", "mm", "mountpoints", "netdev", "netns", "netns-ct", "netns-exp", "nftables",
    "pagemap", "pagemap-secretmem", "pagemap-shmem", "pages", "pidns", "posix-timers", "rlimit", "route", "route6",
    "rule", "sigacts", "signal-p", "signal-s", "timens", "userns", "utsns", "vmas",
)  # fmt: skip
"""Names of CRIU's images, without and with a number. Source: CRIU, criu/image-desc.c."""


def criu_image(token: int, index: int, pid: int) -> str | None:
    """The name of the CRIU image that has a token. None: no image that is known by name has it.

    A token is a hash of the name, with the number of the image in bits 48 and up; another revision also has that number
    plus one in bits 32 and up. As all 64 bits have to agree, a name is not guessed.

    token: of the file.
    index: number of the file in its session, in the order of their preservation.
    pid:   of the process, from the name of the session.

    Source: CRIU, criu/luo.c of pull request 3152.
    """
    first = (token ^ index << 48) & _MASK
    for hashed in (first, first ^ (index + 1 << 32) & _MASK):
        found = _hashes().get(hashed) or _of_process(pid).get(hashed)
        if found is not None:
            return found
    return None


def _hash(name: str) -> int:
    made = 0
    for byte in name.encode():
        made = made * 33 + byte & _MASK
    return made


@cache
def _hashes() -> dict[int, str]:
    """The names without the number of a process, by hash."""
    numbered = (f"{name}-{number}" for name in _NUMBERED for number in _NUMBERS)
    return {_hash(f"{name}.img"): f"{name}.img" for name in (*_SINGLE, *numbered)}


@lru_cache(1)
def _of_process(pid: int) -> dict[int, str]:
    """The names with the number of a process, by hash."""
    return {_hash(f"{name}-{pid}.img"): f"{name}-{pid}.img" for name in _NUMBERED}
