# SPDX-License-Identifier: MIT
"""A kernel with members that stand elsewhere in their structs: what luoser says of it, by the kernel's own types.

Members of structs that are handed over are moved, and of structs that luoser walks to know what is pending. No version
string says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from click.testing import CliRunner

import luoser
from luoser.clashes import compare, of_file
from luoser.clashes.booted import of_record
from luoser.cli.main import cli
from luoser.state import Direction, Handover, State
from tests.e2e.judge import Compared
from tests.e2e.kernels import CACHE, Kernel, NoKernel, compile_kernel, need_tools
from tests.e2e.live_update import Run, live_update
from tests.e2e.pairs import hand_over

__all__ = ["MOVES", "moved", "with_moved"]

MOVES = (
    ("include/linux/kho/abi/luo.h", "luo_file_ser", "token"),
    ("include/linux/kho/abi/memfd.h", "memfd_luo_ser", "nr_folios"),
    ("kernel/liveupdate/luo_internal.h", "luo_session", "retrieved"),
    ("kernel/liveupdate/luo_file.c", "luo_file", "token"),
)
"""(file, struct, member that becomes the first one): two structs that are handed over, two that are walked."""
_WIRE = {"luo_file_ser", "memfd_luo_ser"}
"""Structs of MOVES that are handed over."""


def with_moved(source: str, struct: str, member: str) -> str:
    """A source file, in which one member of a struct is its first one. Raises NoKernel if it is not in there."""
    found = re.search(rf"^struct {struct} \{{\n(.*?)^\}}", source, re.MULTILINE | re.DOTALL)
    line = re.search(rf"^\t[^;{{}}]*\b{member}\b[^;{{}}]*;[^\n]*\n", found[1], re.MULTILINE) if found else None
    if found is None or line is None:
        raise NoKernel(f"no struct {struct} with {member} in this source")
    rest = found[1].replace(line[0], "", 1)
    return f"{source[: found.start(1)]}{line[0]}{rest}{source[found.end(1) :]}"


def _moved_kernel(plain: Kernel) -> Kernel:
    """A kernel whose MOVES were made; its objects are those of the kernel in the cache where nothing changed.

    Raises NoKernel.
    """
    place, source, out = CACHE / f"{plain.series}-moved", CACHE / plain.series / "source", plain.symbols.parent
    made = place / out.name
    if not (place / "done").exists():
        need_tools(plain.machine)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place / "source", symlinks=True, copy_function=os.link)
        subprocess.run(["cp", "-a", "--reflink=auto", str(out), str(made)], check=True)
        _rename(made, source.parent, place)
        for name, struct, member in MOVES:
            file = place / "source" / name
            text = with_moved(file.read_text(), struct, member)
            file.unlink()  # it is the same file as in the other source
            file.write_text(text)
        compile_kernel(place / "source", made, plain.machine)
        (place / "done").touch()
    return plain.at(made)


def _rename(out: Path, old: Path, new: Path) -> None:
    """Say another folder of source and output in the files by which make knows what is up to date."""
    for file in (*out.rglob("*.cmd"), out / "Makefile"):
        text, stat = file.read_bytes(), file.stat()
        file.write_bytes(text.replace(f"{old}/".encode(), f"{new}/".encode()))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (out / "source").unlink(missing_ok=True)
    (out / "source").symlink_to(new / "source")


def moved(kernel: Kernel, place: Path) -> Iterator[Compared]:
    """A live update of such a kernel; what it does with the handover of the kernel in the cache."""
    made = _moved_kernel(kernel)
    yield Compared("members moved", "compat", _broken(place / "pair", kernel, made))
    run = live_update(place / "moved", made, formats=("elf",))
    for moment in run.moments:
        dump = moment.dumps["elf"]
        with luoser.open(dump) as memory:
            state = luoser.read(memory)
        found = {"abi verify": _verified(dump), "layouts": _said(state)}
        if moment.name in ("pre", "frozen"):
            found |= {"pending": _pending(run, state)}
        if moment.name == "frozen":
            found |= {"sessions": _serialised(run, state)}
        yield from (Compared("members moved", f"{moment.name}: {what}", fault) for what, fault in found.items())


def _broken(place: Path, kernel: Kernel, made: Kernel) -> str:
    """Whether all strings match and it breaks, as `luoser compat` says of the types of the two kernels."""
    said = compare(*(of_file(one.symbols.with_name("vmlinux")) for one in (kernel, made)))
    found = of_record(hand_over(place, kernel, made))
    if {one.what for one in said.clashes} != {"types"} or said.result != "breaks" or found.result != said.result:
        return f"compat says {said.result}: {[one.text for one in said.clashes]}, the kernel {found.words}"
    return ""


def _verified(dump: Path) -> str:
    """Whether `abi verify` says of just the structs that were moved that they differ, and how."""
    ran = CliRunner().invoke(cli, ["abi", "verify", str(dump), "--format", "json"])
    if ran.exit_code != 1:
        return f"expected exit code 1, found {ran.exit_code}: {ran.output[-200:]}"
    structs = {one["name"]: one for one in json.loads(ran.stdout)["structs"] if one["result"] == "different"}
    found = {
        (name, change["member"])
        for name, one in structs.items()
        for change in one["differences"]
        if change["what"] == "moved"
    }
    missing = {(struct, member) for _, struct, member in MOVES if struct in _WIRE} - found
    return "" if structs.keys() == _WIRE and not missing else f"missing {missing}, different {[*structs]}"


def _said(state: State) -> str:
    """Whether each layout of a handover that the kernel has in another form is said, where something is serialised."""
    said = {word for one in state.problems if one.code == "layout-own" for word in one.message.split()}
    has_files = any(one.luo is not None and one.luo.sessions for one in state.handovers if one.own)
    return f"not said: {sorted(_WIRE - said)}" if has_files and not said >= _WIRE else ""


def _pending(run: Run, state: State) -> str:
    """What is pending, against what user space preserved."""
    pending = _outgoing(state).pending
    if pending is None or not pending.complete:
        return "not known, or not read to the end"
    return _same(
        run, {(one.name, file.token): (file.size, file.position) for one in pending.sessions for file in one.files}
    )


def _serialised(run: Run, state: State) -> str:
    """What was serialised, against what user space preserved."""
    luo = _outgoing(state).luo
    files = {(one.name, file.token): file.memfd for one in (luo.sessions if luo else ()) for file in one.files}
    return _same(run, {key: (file.size, file.position) if file else (0, 0) for key, file in files.items()})


def _outgoing(state: State) -> Handover:
    (found,) = [one for one in state.handovers if one.direction is Direction.OUTGOING and one.own]
    return found


def _same(run: Run, found: Mapping[tuple[str, int], tuple[int | None, int | None]]) -> str:
    wanted = {key: (file.size, file.position) for key, file in run.preserved.items()}
    return "" if found == wanted else f"{set(found.items()) ^ set(wanted.items())}"[:300]
