# SPDX-License-Identifier: MIT
"""A kernel with members that stand elsewhere in their structs: what luoser says of it, by the kernel's own types.

    python -m tests.e2e.moved [--kernel 7.3]

Members of structs that are handed over are moved, and of structs that luoser walks to know what is pending. No version
string says so. KTAP comes out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import luoser
from luoser.kernel.types import Types
from luoser.kernel.verify import verify
from luoser.reader.own_types import types_of
from luoser.state import Direction, State
from tests.e2e.judge import Compared
from tests.e2e.kernels import CACHE, Kernel, NoKernel, compile_kernel, kernel
from tests.e2e.live_update import Moment, Run, live_update

__all__ = ["MOVES", "compared", "moved", "moved_kernel"]

MOVES = (
    ("include/linux/kho/abi/luo.h", "luo_file_ser", "token"),
    ("include/linux/kho/abi/memfd.h", "memfd_luo_ser", "nr_folios"),
    ("kernel/liveupdate/luo_internal.h", "luo_session", "retrieved"),
    ("kernel/liveupdate/luo_file.c", "luo_file", "token"),
)
"""(file, struct, member that becomes the first one): two structs that are handed over, two that are walked."""
_WIRE = {"luo_file_ser", "memfd_luo_ser"}
"""Structs of MOVES that are handed over."""


def moved(source: str, struct: str, member: str) -> str:
    """A source file, in which one member of a struct is its first one. Raises NoKernel if it is not in there."""
    found = re.search(rf"^struct {struct} \{{\n(.*?)^\}}", source, re.MULTILINE | re.DOTALL)
    line = re.search(rf"^\t[^;{{}}]*\b{member}\b[^;{{}}]*;[^\n]*\n", found[1], re.MULTILINE) if found else None
    if found is None or line is None:
        raise NoKernel(f"no struct {struct} with {member} in this source")
    rest = found[1].replace(line[0], "", 1)
    return f"{source[: found.start(1)]}{line[0]}{rest}{source[found.end(1) :]}"


def moved_kernel(series: str) -> Kernel:
    """A kernel of x86-64 whose MOVES were made; its objects are those of the kernel in the cache where nothing changed.

    Raises NoKernel.
    """
    plain, place = kernel(series), CACHE / f"{series}-moved"
    source, out = CACHE / series / "source", plain.symbols.parent
    made = place / out.name
    if not (place / "done").exists():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place / "source", symlinks=True, copy_function=os.link)
        subprocess.run(["cp", "-a", "--reflink=auto", str(out), str(made)], check=True)
        _rename(made, str(source), str(place / "source"))
        for name, struct, member in MOVES:
            file = place / "source" / name
            text = moved(file.read_text(), struct, member)
            file.unlink()  # it is the same file as in the other source
            file.write_text(text)
        compile_kernel(place / "source", made, plain.machine)
        (place / "done").touch()
    return plain.at(made)


def _rename(out: Path, old: str, new: str) -> None:
    """Say another folder of the source in the files by which make knows what is up to date."""
    for file in (*out.rglob(".*.cmd"), *out.rglob("*.cmd"), out / "Makefile"):
        data = file.read_bytes()
        if old.encode() in data:
            stat = file.stat()
            file.write_bytes(data.replace(old.encode(), new.encode()))
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (out / "source").unlink(missing_ok=True)
    (out / "source").symlink_to(new)


def compared(run: Run) -> Iterator[Compared]:
    """All comparisons of a live update of such a kernel."""
    for moment in run.moments:
        with luoser.open(moment.dumps["elf"]) as memory:
            types, reason = types_of(memory)
            state = luoser.read(memory)
        yield Compared(moment.name, "abi verify", _types(types) if types is not None else reason)
        yield Compared(moment.name, "layouts that are not of this kernel", _said(moment, state))
        if moment.name in ("pre", "frozen"):
            yield Compared(moment.name, "pending", _pending(run, state))


def _types(types: Types) -> str:
    """Whether just the structs that were moved are different, and the members that were moved are named."""
    found = {one.name: one for one in verify(types) if one.result == "different"}
    if found.keys() != _WIRE:
        return f"expected {sorted(_WIRE)}, found {sorted(found)}"
    for _, struct, member in MOVES:
        moves = (
            {one.member for one in found[struct].differences if one.what == "moved"} if struct in found else {member}
        )
        if member not in moves:
            return f"{struct}: {member} is not said to be moved: {found[struct].differences}"
    return ""


def _said(moment: Moment, state: State) -> str:
    """Whether each layout of a handover that the kernel does not have is said, where something is serialised."""
    said = {word for one in state.problems if one.code == "layout-not-of-this-kernel" for word in one.message.split()}
    has_files = any(one.luo is not None and one.luo.sessions for one in state.handovers if one.own)
    return f"not said: {sorted(_WIRE - said)}" if has_files and not said >= _WIRE else ""


def _pending(run: Run, state: State) -> str:
    """What is pending, against what user space preserved."""
    (handover,) = [one for one in state.handovers if one.direction is Direction.OUTGOING and one.own]
    if handover.pending is None or not handover.pending.complete:
        return "not known, or not read to the end"
    found = {
        (session.name, file.token): (file.size, file.position)
        for session in handover.pending.sessions
        for file in session.files
    }
    wanted = {key: (file.size, file.position) for key, file in run.preserved.items()}
    return "" if found == wanted else f"{set(found.items()) ^ set(wanted.items())}"[:300]


def main() -> int:
    """The command line. Returns 1 if something differs, 2 if the kernel cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.moved")
    parser.add_argument("--kernel", default="7.3")
    print("KTAP version 1")
    number = failed = 0
    try:
        ran = moved_kernel(parser.parse_args().kernel)
        with tempfile.TemporaryDirectory(prefix="luoser-e2e-") as name:
            for one in compared(live_update(Path(name), ran, formats=("elf",))):
                number, failed = number + 1, failed + bool(one.fault)
                words = f"{number} {ran.series} moved, {one.moment}: {one.what}"
                print(f"not ok {words}\n# {one.fault}" if one.fault else f"ok {words}", flush=True)
    except NoKernel as error:
        print(f"1..0 # SKIP {error}")
        return 2
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
