# SPDX-License-Identifier: MIT
"""`luoser hexdump`: the bytes of one node, with the names of the members."""

from __future__ import annotations

import click

from luoser.cli import complete
from luoser.cli.common import NUMBER, Reading, read_options
from luoser.render.out import complain

__all__ = ["command"]


class _Hexdump(click.Command):
    """As click's own, which takes a lone argument for WHERE, and reports that SOURCE is missing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's own."""
        is_alone = any(not arg.startswith("-") for arg in args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter:
            lacks = "WHERE, too" if is_alone else "SOURCE and WHERE"
            raise click.UsageError(f"Expected {lacks}: an address, or a path such as luo.sessions[0].", ctx) from None


@click.command("hexdump", cls=_Hexdump)
@click.option(
    "--as",
    "name",
    metavar="LAYOUT",
    shell_complete=complete.layouts,
    help="Layout of the bytes (see `luoser abi list`), or `none`.",
)
@click.option("--plain", is_flag=True, help="Show only rows of bytes, without members, for `luoser decode --hex`.")
@click.option("--length", type=NUMBER, help="Number of bytes to show. Default: the size of the node.")
@read_options
@click.argument("where", shell_complete=complete.nodes)
def command(reading: Reading, where: str, name: str | None, plain: bool, length: int | None) -> None:
    """Show the bytes of SOURCE at WHERE, each row with the member of a struct to which it belongs.

    WHERE is a physical address, or a path in the state document: root, luo, luo.sessions[0].files[2], pci[0],
    subtrees[LUO], luo.sessions[vm].files[0x1a].memfd, preserved.nodes[0]. The layout is that of the node if it has
    one, otherwise it is determined by the bytes.

    \b
      luoser hexdump vmcore 'luo.sessions[vm-web-01]'
      luoser hexdump vmcore 0x1a97000 --as pci-lu-v2-03
      luoser hexdump vmcore 'pci[0]' --plain
    """
    from luoser.api.nodes import layout_of, read_bytes
    from luoser.cli.document import need_pages
    from luoser.errors import FormatError, MissingMemory, UsageError
    from luoser.limits import LIMITS, how_to_raise
    from luoser.render.hexdump import rows
    from luoser.render.out import line
    from luoser.state.where import extent, find_node
    from luoser.text import safe_text

    if plain and name is not None:
        raise UsageError("--plain shows no members: give either --plain or --as")
    with reading.open() as memory:
        need_pages(memory)
        state = reading.read(memory, search=False)
        node = find_node(state, where)
        start, size, _ = extent(state, node)
        size = start + size - node.address
        length = size if length is None else length
        if not 0 < length <= LIMITS.list_size:
            text = f"--length: expected 1 to {LIMITS.list_size:#x} bytes, found {length:#x}"
            raise UsageError(f"{text}; {how_to_raise('list_size')}")
        try:
            data, gap = read_bytes(memory, node.address, max(size, length))
        except MissingMemory as error:
            remark = f"; {memory.remarks[0]}" if memory.remarks else ""
            raise UsageError(f"{safe_text(where)}: cannot read {node.address:#x}: {error}{remark}") from None
    layout, why = layout_of(data, "none" if plain else name, node.layout)
    try:
        lines = list(rows(data, node.address, layout, length=length))
    except FormatError as error:
        if name is not None:
            raise UsageError(f"{safe_text(where)}: --as {safe_text(name)}: {error}") from None
        assert layout is not None
        why = f"not {layout.name}: {error}"
        layout, lines = None, list(rows(data, node.address, None, length=length))
    shown = f"{layout.name if layout is not None else 'no layout'} ({safe_text(why, again=True)})"
    if not plain:
        told = f": {min(len(data), length)} bytes, {shown}"
        line((safe_text(where), "name"), " at ", (f"{node.address:#x}", "address"), told)
    for row in lines:
        line(row, rest=" " * 14)
    if len(data) < length:
        missing = f"{gap}: {length - len(data)} bytes are not shown"
        if plain:
            complain(missing)
        else:
            line((f"{node.address + len(data):#012x}", "address"), f"  {missing}")
