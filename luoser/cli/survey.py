# SPDX-License-Identifier: MIT
"""`luoser survey`: many sources as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luoser.cli import complete
from luoser.cli.common import limit_option, timeout_option
from luoser.cli.many import many_options, sources_of

if TYPE_CHECKING:
    from luoser.fleet.task import Engine

__all__ = ["command"]

_DASK = "dask:"


@click.command("survey")
@click.option(
    "-o", "--output", "target", required=True, type=click.Path(), help="Folder of the survey, new or to go on with."
)
@click.option(
    "--name",
    "naming",
    default="",
    metavar="FORM",
    help="Host and moment in the names of files, such as '{host}.{moment}.elf'. Default: each file is a host.",
)
@click.option(
    "--moments",
    default="before,after",
    show_default=True,
    metavar="A,B",
    help="Moments in their order: sources of one host that follow each other are compared.",
)
@click.option(
    "--engine",
    metavar="dask:ADDRESS",
    help="Read on the workers of a dask cluster, by the address of its scheduler. Default: on this machine.",
)
@many_options
@limit_option
@timeout_option
@click.argument("source", nargs=-1, type=click.Path(readable=False), shell_complete=complete.files_of)
def command(
    source: tuple[str, ...],
    target: str,
    naming: str,
    moments: str,
    engine: str | None,
    jobs: int | None,
    from_list: str | None,
    memory: int | None,
    timeout: float | None,
) -> None:
    """Read all sources, judge them, compare those of one host, and write tables to ask: a Parquet data set.

    A source that the survey has already, with the same bytes, is not read again; so a run that was ended goes on where
    it was. Sources that cannot be read are rows with an error; the exit code is 0 all the same.

    \b
      luoser survey cuts/ -o fleet --name '{host}.{moment}.elf'
      duckdb -c "SELECT kernel, verdict, count(*) FROM 'fleet/*/hosts.parquet' GROUP BY ALL"
    """
    from luoser.errors import UsageError
    from luoser.limits import in_force
    from luoser.output import need_local
    from luoser.render.out import complain, line
    from luoser.render.progress import progress
    from luoser.survey.dataset import Dataset, need_pyarrow
    from luoser.survey.naming import Naming
    from luoser.survey.run import survey
    from luoser.text import counted, safe_text

    need_pyarrow()
    need_local(target)
    named = Naming(naming, [moment for moment in moments.split(",") if moment])
    sources = sources_of(source, from_list)
    if ("-",) in sources:
        raise UsageError("-: standard input is no source of a survey: give the name of a file")
    with Dataset(Path(target), naming).opened() as dataset:
        found = survey(
            sources,
            dataset,
            _engine(engine, jobs, memory, len(sources)),
            naming=named,
            limits=in_force(),
            seconds=timeout,
            on_done=progress("survey", unit="sources and pairs"),
        )
    for text in found.remarks:
        complain(text)
    said = [counted(len(sources), "source"), *_said(found.verdicts, found.kept["sources"], "read")]
    if pairs := found.pairs.total() + found.kept["pairs"]:
        said += [counted(pairs, "pair"), *_said(found.pairs, found.kept["pairs"], "compared")]
    line((safe_text(target), "name"), f": {'; '.join(said)}")


def _said(verdicts: Counter[str], kept: int, done: str) -> Iterator[str]:
    if verdicts:
        yield ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    if kept:
        yield f"{kept} not {done} again"


def _engine(name: str | None, jobs: int | None, memory: int | None, count: int) -> Engine:
    """The engine that --engine names. Raises UsageError for any other."""
    from luoser.errors import UsageError
    from luoser.fleet.local import Local, cores

    if name is None:
        return Local(jobs=min(jobs or cores(), count), memory=memory)
    if not name.startswith(_DASK):
        raise UsageError(f"--engine: expected dask:ADDRESS, such as dask:tcp://10.0.0.1:8786, found {name!r}")
    if jobs is not None:
        raise UsageError("--jobs is for this machine: the cluster of --engine has its own number")
    from luoser.fleet.dask import Dask

    return Dask(name.removeprefix(_DASK), memory=memory)
