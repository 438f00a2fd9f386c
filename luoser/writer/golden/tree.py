# SPDX-License-Identifier: MIT
"""Goldens in the source of a kernel: their files where upstream has such tests, and the lines that its build needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from textwrap import wrap

from luoser.abi.registry import Layout
from luoser.errors import UsageError
from luoser.writer.golden.blob import groups
from luoser.writer.golden.kselftest import kselftest
from luoser.writer.golden.kunit import header_of, kunit
from luoser.writer.golden.stanzas import config_of, kconfig, makefile, program

__all__ = ["RUNS", "Blob", "patch", "selftests", "suites"]

_PARENT, _SELFTESTS = "kernel/liveupdate", "tools/testing/selftests/liveupdate"
_SUITES = f"{_PARENT}/tests"
RUNS = {
    "kunit": f"./tools/testing/kunit/kunit.py run --kunitconfig {_SUITES}",
    "kselftest": "make -C tools/testing/selftests TARGETS=liveupdate run_tests",
}
"""Command that runs the files of a format, in the kernel's source."""
_LICENCE = "# SPDX-License-Identifier: GPL-2.0-only\n"
_X86 = "asm/setup_data.h"
_ELSEWHERE = {
    _X86: "arch/x86/include/uapi/asm/setup_data.h",
    "linux/kexec_handover.h": "include/asm-generic/kexec_handover.h",
    "linux/libfdt.h": "scripts/dtc/libfdt/fdt.h",
}
"""File that a header includes for its structs."""
Read = Callable[[str], str | None]
"""The text of a file in the kernel's source, by its path. None: there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A golden.

    name:  of its array, suite and file.
    notes: what else the comment says.
    """

    name: str
    layout: Layout
    data: bytes
    notes: Sequence[str] = ()

    def headers(self, read: Read) -> list[str]:
        """Headers of the kernel that declare its structs. Raises UsageError for a struct that none declares."""
        tags = dict.fromkeys(group.struct.tag for group in groups(self.layout, self.data))
        found = {tag: header_of(self.layout, tag) for tag in tags}
        missing = [tag for tag, header in found.items() if header is None or not _declares(read, header, tag)]
        if missing:
            raise UsageError(f"{self.layout.name}: this kernel declares no struct {', '.join(missing)} in a header")
        return sorted(set(filter(None, found.values())))

    def depends(self, read: Read) -> str:
        """What its suite depends on, besides KUnit. Raises UsageError as `headers`."""
        if _X86 in self.headers(read):
            return "X86"
        return "PAGE_SIZE_4KB" if self.layout.page_size else ""


def _declares(read: Read, header: str, tag: str) -> bool:
    places = [f"include/{header}", f"include/uapi/{header}", *([_ELSEWHERE[header]] if header in _ELSEWHERE else [])]
    return any(re.search(rf"^struct {tag} {{", read(place) or "", re.MULTILINE) for place in places)


# -- files ------------------------------------------------------------------------------------------------


def suites(blobs: Sequence[Blob], *, source: str, read: Read) -> dict[str, str]:
    """Text by path of KUnit suites, and of the files that make a kernel build them.

    source: what the blobs were made from.
    read:   reads the kernel's source.

    Raises UsageError for a kernel without LUO, or for a struct that no header of it declares.
    """
    made = {
        f"{_SUITES}/{blob.name}_kunit.c": kunit(
            name=blob.name, layout=blob.layout, data=blob.data, source=source, notes=blob.notes,
            include=blob.headers(read), in_tree=True,
        )
        for blob in blobs
    }  # fmt: skip
    names = [blob.name for blob in blobs]
    rules = ["\n".join(makefile(name)) for name in names]
    stanzas = ["\n" + "\n".join(kconfig(blob.name, blob.layout, depends=blob.depends(read))) for blob in blobs]
    every_arch = [f"CONFIG_{config_of(blob.name)}=y" for blob in blobs if _X86 not in blob.headers(read)]
    for path, head, parts in (
        (f"{_SUITES}/Makefile", _LICENCE, rules),
        (f"{_SUITES}/Kconfig", _LICENCE, stanzas),
        (f"{_SUITES}/.kunitconfig", "CONFIG_KUNIT=y\n", every_arch),
    ):
        made[path] = _with(read(path) or head, parts)
    made[f"{_PARENT}/Makefile"] = _with(_existing(read, f"{_PARENT}/Makefile"), ["obj-y += tests/"])
    made[f"{_PARENT}/Kconfig"] = _in_menu(_existing(read, f"{_PARENT}/Kconfig"), f'source "{_SUITES}/Kconfig"')
    return made


def selftests(blobs: Sequence[Blob], *, source: str, read: Read) -> dict[str, str]:
    """As `suites`, of kselftests."""
    made = {
        f"{_SELFTESTS}/{blob.name}.c": kselftest(
            name=blob.name, layout=blob.layout, data=blob.data, source=source, notes=blob.notes, in_tree=True
        )
        for blob in blobs
    }
    path = f"{_SELFTESTS}/Makefile"
    lines = _existing(read, path).split("\n")
    places = [index for index, line in enumerate(lines) if re.match(r"TEST_GEN_PROGS\s*[:+]?=", line)]
    if not places:
        raise UsageError(f"{path}: expected a line with TEST_GEN_PROGS, found none")
    new = [program(blob.name) for blob in blobs]
    lines[places[-1] + 1 : places[-1] + 1] = [line for line in new if line not in lines]
    return {**made, path: "\n".join(lines)}


def _existing(read: Read, path: str) -> str:
    text = read(path)
    if text is None:
        raise UsageError(f"{path}: not found; expected the source of a kernel from 6.19 on")
    return text


def _with(text: str, parts: Iterable[str]) -> str:
    """A text with the parts that it does not have yet."""
    for part in parts:
        if f"\n{part}\n" not in f"\n{text}":
            text += f"{part}\n"
    return text


def _in_menu(text: str, line: str) -> str:
    """A Kconfig with a line at the end of its last menu."""
    if f"{line}\n" in text:
        return text
    before, end, after = text.rpartition("\nendmenu\n")
    return f"{before}\n{line}\n{end}{after}" if end else f"{text}\n{line}\n"


# -- a patch ----------------------------------------------------------------------------------------------


def patch(files: Mapping[str, str], *, names: Sequence[str], author: str, source: str, read: Read) -> str:
    """A patch for `git am` that makes these files in the kernel's source.

    files:  new text by path.
    names:  of the layouts.
    author: as NAME <ADDRESS>.
    source: what the blobs were made from.

    Raises UsageError if the source has them all.
    """
    if all(read(path) == text for path, text in files.items()):
        raise UsageError("this kernel has these goldens: nothing is left to change")
    about = (
        f"Compare blobs of known bytes, made by luoser from {source}, with the structs that one kernel hands over to "
        f"the next, their sizes, offsets and members: {', '.join(names)}."
    )
    subject = names[0] if len(names) == 1 else f"{len(names)} layouts"
    head = [
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001",
        f"From: {author}", f"Subject: [PATCH] liveupdate: Add KUnit tests of {subject}", "",
        *wrap(about, 72, break_on_hyphens=False), "---", "",
    ]  # fmt: skip
    return "\n".join(head) + "".join(_change(path, read(path), text) for path, text in files.items())


def _change(path: str, old: str | None, new: str) -> str:
    if old == new:
        return ""
    head = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if old is None else "")
    before = "/dev/null" if old is None else f"a/{path}"
    lines = unified_diff((old or "").splitlines(True), new.splitlines(True), before, f"b/{path}")
    return head + "".join(lines)
