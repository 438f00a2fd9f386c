# SPDX-License-Identifier: MIT
"""A tree in the languages of other tools: Graphviz dot, Mermaid, Markdown. Each has its own quoting."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from luoser.render.out import Tree
from luoser.text import counted

__all__ = ["GRAPHS", "dot", "markdown", "mermaid"]

_WIDTH = 64
"""Columns after which a label continues in a new line. Words are never broken."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 .,:/()-]|[-.)](?= )")
"""What may mean something to Mermaid between quotes, where it reads Markdown, such as the mark of a list."""
_EDGES = 500
"""Most edges that Mermaid draws unless its setting maxEdges is raised."""


def dot(root: Tree, *, depth: int | None = None) -> Iterator[str]:
    """Lines of a directed graph for Graphviz.

    root:  of the tree. Its texts are one line, and safe to print.
    depth: levels below the root to show. None: all. What is left out is counted.
    """
    yield "digraph luoser {"
    yield "  rankdir=LR;"
    yield '  node [shape=box, style=rounded, fontname="monospace", fontsize=10];'
    for number, parent, _, text in _nodes(root, depth):
        label = "\\l".join(map(_in_dot, _folded(text)))
        yield f'  n{number} [label="{label}\\l"];'
        if parent is not None:
            yield f"  n{parent} -> n{number};"
    yield "}"


def mermaid(root: Tree, *, depth: int | None = None) -> Iterator[str]:
    """Lines of a Mermaid flowchart. The parameters are those of `dot`."""
    nodes = list(_nodes(root, depth))
    if len(nodes) > _EDGES:
        yield f"%% {len(nodes) - 1} edges: Mermaid draws {_EDGES} unless maxEdges is raised"
    yield "flowchart LR"
    for number, parent, _, text in nodes:
        label = "<br/>".join(map(_in_mermaid, _folded(text))) or " "  # it takes no empty one
        yield f'  n{number}["{label}"]'
        if parent is not None:
            yield f"  n{parent} --- n{number}"


def markdown(root: Tree, *, depth: int | None = None) -> Iterator[str]:
    """Lines of a nested Markdown list of code spans, in which nothing is markup, a link or a mention.

    The parameters are those of `dot`.
    """
    for _, _, level, text in _nodes(root, depth):
        yield f"{'  ' * level}- {_code_span(text)}"


GRAPHS = {"dot": dot, "mermaid": mermaid, "markdown": markdown}
"""The functions of this module by the name of the format."""


def _nodes(root: Tree, depth: int | None) -> Iterator[tuple[int, int | None, int, str]]:
    """(number, number of the parent or None, level, text) of each node, a parent before its children."""
    left: list[tuple[Tree, int | None, int]] = [(root, None, 0)]
    number = 0
    while left:
        node, parent, level = left.pop()
        is_last = depth is not None and level >= depth
        hidden = f"  … {counted(node.size, 'node')} below" if is_last and node.children else ""
        text = "".join(part if isinstance(part, str) else part[0] for part in node.parts)
        yield number, parent, level, " ".join((text + hidden).split())
        left += [] if is_last else [(child, number, level + 1) for child in reversed(node.children)]
        number += 1


def _folded(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False) or [""]


def _in_dot(text: str) -> str:
    """A text between quotes: `&` begins an entity there, and a backslash an escape."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _in_mermaid(text: str) -> str:
    """A text between quotes: all but plain characters as their number."""
    return _NOT_PLAIN.sub(lambda match: f"#{ord(match[0])};", text)


def _code_span(text: str) -> str:
    """A text between backticks, more of them than it has in a row."""
    runs = "".join(one if one == "`" else " " for one in text).split()
    fence = "`" * (max(map(len, runs), default=0) + 1)
    space = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{space}{text}{space}{fence}"
