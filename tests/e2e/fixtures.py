# SPDX-License-Identifier: MIT
"""`make fixtures`: cuts of the dumps of a live update, with what its kernels and user space said.

python -m tests.e2e.fixtures FOLDER [--kernel 7.3]... [--machine x86-64] [--pages 4K]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner

from luoser.cli.main import cli
from tests.e2e.kernels import FIRST_LUO, Kernel, NoKernel, add_options, chosen, kernel
from tests.e2e.live_update import Moment, Run, live_update
from tests.e2e.machine import MachineError

__all__ = ["record", "recorded"]

_SAID = re.compile(r"^(?:CHOSEN|DEBUGFS|FOLIOS|LOG|MEMFD|RAM|SESSION|SETUP) .*$", re.MULTILINE)
"""The lines of a console that are kept."""
_TRUTH = "truth.json"
_MOMENTS = ("pre", "frozen", "post", "finished", "frozen2")
"""Those that are kept. Of the second live update the others are like the first one's."""


def record(run: Run, folder: Path) -> None:
    """Write the cut of each moment, and what was said."""
    folder.mkdir(parents=True)
    kept = [moment for moment in run.moments if moment.name in _MOMENTS]
    for moment in kept:
        target = folder / f"{moment.name}.elf.xz"
        CliRunner().invoke(cli, ["extract", str(moment.dumps["elf"]), "-o", str(target)], catch_exceptions=False)
    about = {name: getattr(run.kernel, name) for name in ("series", "release", "machine", "pages")}
    said = {moment.name: _SAID.findall(moment.said) for moment in kept}
    (folder / _TRUTH).write_text(json.dumps({"kernel": about, "said": said}, indent=1) + "\n")


def recorded(folder: Path) -> Run:
    """A live update of which cuts and words were kept."""
    truth = json.loads((folder / _TRUTH).read_text())
    run = Run(kernel=Kernel(**truth["kernel"], image=folder / "none", symbols=folder / "none"))
    for name, lines in truth["said"].items():
        said = "".join(f"{line}\n" for line in lines)
        run.moments.append(Moment(name=name, dumps={"elf": folder / f"{name}.elf.xz"}, said=said))
    run.hear("".join(dict.fromkeys(moment.said for moment in run.moments)))  # that of frozen is that of pre
    return run


def main() -> int:
    """The command line. Returns 1 if a kernel could not be had, or did not do what was expected."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.fixtures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="where a folder for each kernel is made")
    add_options(parser)
    given, failed = parser.parse_args(), False
    for series, machine, pages in chosen(given):
        name = f"{series}-{machine}-{pages}"
        try:
            with tempfile.TemporaryDirectory(prefix="luoser-fixtures-") as place:
                found = kernel(series, machine, pages)
                run = live_update(
                    Path(place), found, chain=found.number >= FIRST_LUO, sessions=2, files=3, formats=["elf"]
                )
                record(run, given.folder / name)
        except (NoKernel, MachineError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
