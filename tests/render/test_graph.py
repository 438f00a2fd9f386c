# SPDX-License-Identifier: MIT
"""`luoser.render.graph`: the tree for Graphviz, Mermaid and Markdown, with names that try to be markup."""

from __future__ import annotations

import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest

from luoser.render.graph import GRAPHS, dot, markdown, mermaid
from luoser.render.out import Tree
from luoser.render.tree import state_tree
from luoser.text import safe_text
from tests import real
from tests.conftest import Run

HOSTILE = (
    'a"]; b -> c; d ["',
    "\\N\\l\\",
    "&lt;&#60;",
    "<script>alert(1)</script>",
    "`a` ``b``",
    "`",
    "1. x",
    "- x",
    "#quot;#35;",
    "end",
    "%%{init: {}}%%",
    "![x](https://x.example)",
    "@someone #12",
    "\u202eabc\x1b[31m\n\0",
    "ж\U0001f600",
    "*/ --> %>",
    "",
)
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def tree() -> Tree:
    root = Tree(("root",))
    for name in HOSTILE:
        root.add((safe_text(name), "name"), f"  {safe_text(name)}").add(safe_text(name))
    return root


def texts(node: Tree) -> list[str]:
    own = "".join(part if isinstance(part, str) else part[0] for part in node.parts)
    return [" ".join(own.split()), *(text for child in node.children for text in texts(child))]


@needs_dot
def test_graphviz_shows_each_name_as_it_is() -> None:
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input="\n".join(dot(tree())).encode(), capture_output=True, check=True, timeout=60
    )
    assert drawn.stderr == b""
    shown = dict[str, str]()
    for group in ElementTree.fromstring(drawn.stdout).iter():
        if group.get("class") == "node":
            parts = [(part.tag.rpartition("}")[2], part.text or "") for part in group.iter()]
            title = next(text for tag, text in parts if tag == "title")
            shown[title] = " ".join("".join(text for tag, text in parts if tag == "text").split())
    assert shown == {f"n{number}": text for number, text in enumerate(texts(tree()))}


@pytest.mark.parametrize("name", ["7.3-a/frozen", "7.3-a/post"])
@needs_dot
def test_graphviz_draws_real_dumps(name: str) -> None:
    root = state_tree(real.read(name))
    text = "\n".join(dot(root))
    drawn = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, check=True, timeout=60)
    assert drawn.stderr == b"" and drawn.stdout.count(b'class="node"') == 1 + root.size


def test_mermaid_has_nothing_but_plain_characters_and_numbers_between_quotes() -> None:
    rows = list(mermaid(tree()))
    labels = [match[1] for row in rows if (match := re.fullmatch(r'  n\d+\["(.*)"\]', row))]
    assert len(labels) == len(texts(tree()))
    edges = [row for row in rows if re.fullmatch(r"  n\d+ --- n\d+", row)]
    assert rows[0] == "flowchart LR" and len(labels) + len(edges) + 1 == len(rows)
    for label, text in zip(labels, texts(tree()), strict=True):
        assert label
        assert re.fullmatch(r"(?:[A-Za-z0-9 .,:/()-]|#\d+;|<br/>)*", label), label
        assert not re.match(r"[\d]*[-.)] ", label)
        assert re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label.replace("<br/>", " ")).strip() == text


def test_mermaid_says_what_is_more_than_it_draws() -> None:
    root = Tree(("root",))
    for number in range(501):
        root.add(str(number))
    assert next(mermaid(root)) == "%% 501 edges: Mermaid draws 500 unless maxEdges is raised"


def test_markdown_is_code_spans_only() -> None:
    rows = list(markdown(tree()))
    for row, text in zip(rows, texts(tree()), strict=True):
        match = re.fullmatch(r" *- (`+)(.*?)\1", row)
        assert match is not None, row
        fence, inside = match[1], match[2]
        assert max(map(len, re.findall("`+", inside)), default=0) < len(fence)
        stripped = (
            inside[1:-1] if inside.startswith(" ") and inside.endswith(" ") and inside.strip() else inside.strip()
        )
        assert stripped == text


def test_depth_counts_what_it_leaves_out() -> None:
    root = Tree(("a",))
    root.add("b").add("c").add("d")
    assert list(markdown(root, depth=1)) == ["- `a`", "  - `b … 2 nodes below`"]


@pytest.mark.parametrize("name", GRAPHS)
def test_inspect_prints_every_node_of_the_tree(name: str, luoser_command: Run) -> None:
    done = luoser_command("inspect", str(real.path("7.3-a/frozen")), "--format", name, "--all")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    for word in ("sound", "0x5cd000", "vm-web-01", "0x1013", "0000:41:00.0", "LU"):
        assert word in text
    few = luoser_command("inspect", str(real.path("7.3-a/frozen")), "--format", name, "--depth", "0").stdout.decode()
    assert "0x5cd000" in few and "vm-web-01" not in few


def test_a_summary_is_text(luoser_command: Run) -> None:
    done = luoser_command("inspect", str(real.path("7.3-a/frozen")), "--format", "dot", "--summary")
    assert done.returncode == 2 and b"--summary is for text" in done.stderr
