# SPDX-License-Identifier: MIT
"""`luoser inspect`: the whole state of a source."""

from __future__ import annotations

from dataclasses import replace

import click

from luoser.cli.account import note_judged
from luoser.cli.common import Reading, echo_json, format_option
from luoser.cli.many import many_sources

__all__ = ["command"]


@click.command("inspect")
@format_option("text", "line", "json", "jsonl", "dot", "mermaid", "markdown")
@click.option("--full", is_flag=True, help="Show extents, node and block addresses and folio lists, for `build`, too.")
@click.option(
    "--contents", is_flag=True, help="Show the bytes of driver pages and of files up to 64 KiB, too; implies --full."
)
@click.option(
    "--pending", is_flag=True, help="Report a problem if what the running kernel will hand over is not known."
)
@click.option(
    "--all",
    "all_",
    is_flag=True,
    help="Show all: a line for each device, session, file and note, all evidence, and whether an address is preserved.",
)
@click.option("--depth", type=click.IntRange(0), metavar="N", help="Show N levels of the tree below each root.")
@click.option(
    "--salvage",
    is_flag=True,
    help="Look in the whole source for sessions, files, memfds, FLBs, device lists and devicetrees by their shape, "
    "where no pointer leads to them. They are shown apart, each with a confidence, and count in no verdict.",
)
@click.option("--summary", is_flag=True, help="Show only source, verdict, and a few lines for each root.")
@many_sources()
def command(
    reading: Reading,
    output: str,
    full: bool,
    contents: bool,
    pending: bool,
    all_: bool,
    depth: int | None,
    salvage: bool,
    summary: bool,
) -> None:
    """Show everything that is handed over in SOURCE: KHO roots, preserved memory, LUO, PCI devices.

    The first lines have the source and the verdict of `luoser check`. Broken, missing and stale structures are listed
    as problems at the end, what the next kernel has consumed as notes. Neither changes the exit code. Like things in a
    row are one line, and what is as usual is left out, such as that an address is preserved: --all shows all. Of
    several sources each is a line: --format text shows all of each.

    \b
      luoser inspect vmcore --summary
      luoser inspect vmcore --all
      luoser inspect vmcore --full --contents --format json > state.json
      luoser inspect vmcore --format dot | dot -Tsvg > state.svg
    """
    from luoser.errors import UsageError
    from luoser.render.values import machine_text

    if (all_ or depth is not None) and output in ("line", "json", "jsonl"):
        raise UsageError(f"--all and --depth are for trees: not for --format {output}")
    if summary and output != "text":
        raise UsageError("--summary is for text: leave out --format")
    if summary and (all_ or full or contents or depth is not None):
        raise UsageError("--summary excludes --all, --depth, --full and --contents")
    with reading.open() as memory:
        needed = contents or output != "json"  # by `check`
        state = reading.read(memory, contents=needed, pending=pending, search=False, salvage=salvage)
        ram, machine = memory.known_ram, machine_text(memory)
        shown = state
        if output == "jsonl" and not contents:
            shown = replace(reading.read(memory, pending=pending, search=False), salvaged=state.salvaged)
    if output != "json":
        from luoser.checks import check

        report = check(state, ram=ram)
        note_judged(report.verdict.value)
    if output in ("json", "jsonl"):
        from luoser.state import to_document

        echo_json(to_document(shown, full=full or contents, streamed=True))
    else:
        from luoser.render.findings import print_head, source_text, verdict_text
        from luoser.render.graph import GRAPHS
        from luoser.render.out import write
        from luoser.render.tree import print_state, print_state_line, print_summary, state_tree

        if output == "line":
            print_state_line(state, report, machine=machine)
            return
        if output in GRAPHS:
            head = source_text(state.source, machine=machine), f"verdict  {verdict_text(report)}"
            tree = state_tree(state, *head, full=full or contents, folded=not all_)
            write("".join(f"{row}\n" for row in GRAPHS[output](tree, depth=None if depth is None else depth + 1)))
            return
        print_head(report, state.source, machine=machine)
        if summary:
            print_summary(state)
        else:
            print_state(state, full=full or contents, folded=not all_, depth=depth)
