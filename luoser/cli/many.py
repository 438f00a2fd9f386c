# SPDX-License-Identifier: MIT
"""Commands that take many sources: each is one result, and what happens to one is of no matter to the others."""

from __future__ import annotations

import functools
import importlib
import io
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from luoser import __version__
from luoser.cli.account import Account, kept
from luoser.cli.common import INCONCLUSIVE, NO_STATE, NUMBER, Reading, read_options
from luoser.cli.failures import UNREADABLE, failure
from luoser.errors import LuoserError, UsageError
from luoser.limits import Limits, in_force, limited
from luoser.render.out import Screen, complain, screen, write, written_for
from luoser.render.tested import Result
from luoser.render.together import FORMATS, FRAMED, inert, joined
from luoser.text import counted, safe_text, source_names, without_secrets

if TYPE_CHECKING:
    from luoser.fleet.task import Engine
    from luoser.memory.source import Memory

__all__ = ["answer", "each_source", "many_options", "many_sources", "run_many", "sources_of", "worst_of"]

_Command = Callable[..., Any]
_Call = tuple[Reading, dict[str, Any]]
"""How a source is read, and the options of the command for it."""
_Names = tuple[str, ...]
"""Names of the files of one source."""
_WORST = (UNREADABLE, 1, INCONCLUSIVE, NO_STATE)
"""Exit codes that are not 0, the worst first."""
_OF_MANY = ("line", "text", "json", "jsonl", *FORMATS)
"""Formats in which several sources can be shown."""
_OF_TEXT = ("all_", "contents", "depth", "full", "summary", "verbose")
"""Options of more than a line for each source."""
_OF_EACH = ("jsonl", *FRAMED)
"""Formats in which what cannot be read is a result, too: a single source is read as one of several."""
_STDIN = f"-: standard input is a source only if there is no other, and no result of --format {' or '.join(_OF_EACH)}"
_INDENTED = re.compile(r"(,?)\n *")
"""What is between two lines of a JSON document. A string in it has no newline."""
_commands = dict[str, _Command]()
"""What is to be done with one source, by the name of the command."""


def many_options(command: _Command) -> _Command:
    """A decorator that adds the options for many sources: `jobs`, `from_list` and `memory`."""
    for decorator in _OPTIONS:
        command = decorator(command)
    return command


def _need_some(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    if value == 0:  # for the system no limit at all
        raise click.BadParameter("expected bytes, found 0", ctx, param)
    return value


_OPTIONS = (
    click.option(
        "--memory",
        type=NUMBER,
        callback=_need_some,
        help="Of several sources: most memory for reading one. Default: an equal share of the machine.",
    ),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1),
        metavar="N",
        help="Of several sources: read N at a time. Default: as many as there are processors.",
    ),
    click.option(
        "--from-list",
        metavar="FILE",
        type=click.Path(readable=False),
        help="Read the sources in this list, too: one a line, or ended by NUL; `-` is standard input.",
    ),
)


def each_source(command: _Command) -> _Command:
    """A decorator for what a command does with one source: it takes `reading` and options, and prints."""
    _commands[command.__module__.rpartition(".")[2]] = command
    return command


_OfEach = Callable[[dict[str, Any], Sequence[tuple[str, ...]]], Iterable[dict[str, Any]]]


def _same(options: dict[str, Any], sources: Sequence[tuple[str, ...]]) -> Iterable[dict[str, Any]]:
    return [options] * len(sources)


def many_sources(of_each: _OfEach = _same) -> Callable[[_Command], _Command]:
    """A decorator: as `read_options`, for a command that takes several sources.

    of_each: gives the options for each of several sources.
    """
    return functools.partial(_with_many, of_each)


def _with_many(of_each: _OfEach, command: _Command) -> _Command:
    name = command.__module__.rpartition(".")[2]
    each_source(command)

    @functools.wraps(command)
    def with_many(
        *, reading: Reading, jobs: int | None, from_list: str | None, memory: int | None, **options: Any
    ) -> Any:
        found = sources_of(reading.source, from_list)
        if len(found) == 1 and options.get("output") not in _OF_EACH:
            return command(reading=replace(reading, source=found[0]), **options)
        pairs = zip(found, of_each(options, found), strict=True)
        calls = [(replace(reading, source=source), given) for source, given in pairs]
        return run_many(name, calls, jobs=jobs, memory=memory)

    return read_options(many_options(with_many), required=False)


def sources_of(names: tuple[str, ...], from_list: str | None) -> list[tuple[str, ...]]:
    """The sources that were named. Raises click.MissingParameter if there is none, UsageError, SourceError."""
    if len(names) == 1 and from_list is None and _is_plain(names[0]):
        return [names]
    from luoser.fleet.sources import found_sources, listed_names

    given = [*names, *(listed_names(from_list) if from_list is not None else ())]
    if not given:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="SOURCE", param_type="argument")
    found = found_sources(given, complain)
    if len(found) > 1 and ("-",) in found:
        raise UsageError(_STDIN)
    return found


def _is_plain(name: str) -> bool:
    """Whether a name is surely that of one source."""
    return os.path.isfile(name) or not (os.path.lexists(name) or re.search(r"[*?\[,]", name))  # noqa: PTH113


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a command gave for one source.

    exit:    exit code.
    out:     on stdout; a JSON document is on one line.
    said:    lines on stderr.
    Others:  members of the result; see `_result`.
    """

    exit: int
    out: str = ""
    said: tuple[str, ...] = ()
    verdict: str | None = None
    format: str | None = None
    kernel: str | None = None
    sha256: str | None = None
    etag: str | None = None
    seconds: float = 0.0
    bytes_read: int | None = None
    requests: int | None = None

    @property
    def is_read(self) -> bool:
        """Whether the source was read, and has KHO state."""
        return self.exit not in (UNREADABLE, NO_STATE)


def run_many(name: str, calls: Sequence[_Call], *, jobs: int | None, memory: int | None) -> None:
    """Run a command on several sources, and print what it gives for each, in order. Exits as the worst of them does.

    name:  of the command.
    calls: how the source is read, and the options of the command.
    jobs, memory: as of `luoser.fleet.local.Local`. None: the default.

    Raises UsageError for a format that is for one source.
    """
    from luoser.fleet.local import Local, cores
    from luoser.fleet.task import Here

    output = _output(calls[0][1])
    if any("-" in reading.source for reading, _ in calls):
        raise UsageError(_STDIN)
    is_here = _is_offered(calls)
    if is_here and len(calls) > 1:
        raise UsageError("the memory of a debugger is read alone; give no further source")
    engine = Here() if is_here else Local(jobs=min(jobs or cores(), len(calls)), memory=memory)
    codes, ends = set[int](), Counter[str]()

    def noted() -> Iterator[tuple[_Names, _Answer]]:
        for source, found in _answers(name, calls, output, engine):
            codes.add(found.exit)
            ends[_end_of(found)] += 1
            yield source, found

    if output in FORMATS:
        for text in joined(output, (_result_of(source, found) for source, found in noted()), len(calls)):
            write(text)
    else:
        for number, (source, found) in enumerate(noted()):
            _print(name, source, found, output, is_first=not number)
    if output == "line" and len(calls) > 1:
        complain(
            f"{counted(len(calls), 'source')}: {', '.join(f'{count} {end}' for end, count in sorted(ends.items()))}"
        )
    if worst := worst_of(codes):
        raise SystemExit(worst)


def _is_offered(calls: Sequence[_Call]) -> bool:
    """Whether a source is the memory of the program that luoser is in, which no other process can read."""
    from luoser.memory.open import is_offered

    return any(is_offered(source) for reading, _ in calls for source in reading.source)


def _answers(name: str, calls: Sequence[_Call], output: str, engine: Engine) -> Iterator[tuple[_Names, _Answer]]:
    """Each source, and what a command gives for it, in order. output: format. Others: as of `run_many`."""
    from luoser.fleet.task import Task, in_order
    from luoser.render.progress import progress

    limits, shown_on = in_force(), screen()
    tasks = (
        Task(answer, (name, reading, {**given, **_as(given, output)}, limits, shown_on), reading.timeout)
        for reading, given in calls
    )
    show = progress(name, unit="sources") if shown_on.width is None else None  # else the lines show it
    for number, done in enumerate(in_order(engine, tasks)):
        source = calls[number][0].source
        if show is not None:
            show(number + 1, len(calls))
        yield source, done.value if not done.lost else _Answer(exit=UNREADABLE, said=(_lost(source, done.lost),))


def worst_of(codes: set[int]) -> int:
    """The worst of some exit codes."""
    return next((code for code in _WORST if code in codes), max(codes))


def _output(options: dict[str, Any]) -> str:
    """The format for several sources: a line for each unless another one, or more, was asked for."""
    asked: str = options.get("output", "line")
    if click.get_current_context().get_parameter_source("output") is ParameterSource.DEFAULT:
        return "text" if any(options.get(name) not in (None, False) for name in _OF_TEXT) else "line"
    if asked not in _OF_MANY:
        raise UsageError(f"--format {asked} is for one source: for several expected {' or '.join(_OF_MANY)}")
    return asked


def _as(options: dict[str, Any], output: str) -> dict[str, str]:
    return {"output": output} if "output" in options else {}


def _lost(source: tuple[str, ...], why: str) -> str:
    return f"{source_names(source)}: {why}"


def _end_of(found: _Answer) -> str:
    if not found.is_read:
        return "not read" if found.exit == UNREADABLE else "without KHO state"
    return found.verdict or "read"


def _print(name: str, source: tuple[str, ...], found: _Answer, output: str, *, is_first: bool) -> None:
    if output == "jsonl":
        write(_result(name, source, found))
        return
    for text in found.said:
        complain(text)
    if output == "text" and not is_first and found.out:
        write("\n")
    write(found.out)


def _result_of(source: _Names, found: _Answer) -> Result:
    """What a document about several sources is made of. What was said goes to stderr, too."""
    for text in found.said:
        complain(inert(text))
    return Result(
        source=source_names(source),
        out=found.out if found.is_read else "",
        exit=found.exit,
        said=tuple(safe_text(text, again=True) for text in found.said),
    )


def _result(name: str, source: tuple[str, ...], found: _Answer) -> str:
    """The JSON document luoser/result/1, on one line."""
    import json

    head = {
        "schema": "luoser/result/1",
        "command": name,
        "source": {
            "path": ",".join(map(without_secrets, source)),
            "sha256": found.sha256,
            "etag": found.etag,
            "format": found.format,
            "kernel": found.kernel,
        },
        "version": __version__,
        "exit": found.exit,
        "verdict": found.verdict,
        "error": found.said[-1] if found.said and not found.is_read else None,
        "messages": list(found.said),
        "cost": {"seconds": round(found.seconds, 6), "bytes_read": found.bytes_read, "requests": found.requests},
    }
    return f'{json.dumps(head)[:-1]}, "document": {found.out or "null"}}}\n'


def answer(name: str, reading: Reading, options: dict[str, Any], limits: Limits, shown_on: Screen) -> _Answer:
    """What a command gives for one source, in a process that does nothing else meanwhile.

    name, reading, options: of the command.
    limits:   in force.
    shown_on: what will show it.
    """
    from luoser.fleet.fingerprint import Fingerprint, fingerprint

    began, output = time.monotonic(), options.get("output")
    importlib.import_module(f"luoser.cli.{name}")
    with limited(limits), kept() as account, _captured(shown_on) as (out, said):
        mark = fingerprint(reading.source) if output == "jsonl" else Fingerprint()  # no other format tells it
        code = _exit_code(_commands[name], reading, options)
    text = out.getvalue()
    if output == "jsonl":
        text = _INDENTED.sub(lambda found: ", " if found[1] else "", text)
    lines = said.getvalue().splitlines()
    return _Answer(
        exit=code,
        out=text,
        said=tuple(line.removeprefix("luoser: ") for line in lines),
        sha256=mark.sha256,
        etag=mark.etag,
        seconds=time.monotonic() - began,
        **_members(account),
    )


def _members(account: Account) -> dict[str, Any]:
    memory, source = account.memory, account.source
    return {
        "verdict": account.verdict,
        "format": source.format if source is not None else memory.format if memory is not None else None,
        "kernel": source.kernel if source is not None else None,
        **_traffic(memory),
    }


def _traffic(memory: Memory | None) -> dict[str, int | None]:
    """Bytes that came from a server, and requests for them; of what lies here, bytes that were asked for."""
    if memory is None:
        return {}
    traffic = memory.traffic
    if traffic is None:
        return {"bytes_read": memory.bytes_read}
    return {"bytes_read": traffic.fetched, "requests": traffic.requests}


def _exit_code(command: _Command, reading: Reading, options: dict[str, Any]) -> int:
    """Run a command. What it says if it fails is on stderr."""
    try:
        command(reading=reading, **options)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (LuoserError, OSError) as error:
        complain(safe_text(failure(error), again=True))
        return UNREADABLE
    return 0


@contextmanager
def _captured(shown_on: Screen) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is written to stdout and stderr in the block. shown_on: as of `answer`."""
    before = sys.stdout, sys.stderr
    out, said = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        with written_for(shown_on):
            yield out, said
    finally:
        sys.stdout, sys.stderr = before
