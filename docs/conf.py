# SPDX-License-Identifier: MIT
"""The site: `make site`. Its source is the whole tree, so that a link leads to the same page in both."""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

import luoser

project = "luoser"
project_copyright = "the luoser authors, MIT licence"
version = release = luoser.__version__
html_title = f"luoser {release}"

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "fixtures/**.md"]
exclude_patterns = ["build", "dist", ".*"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 6
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False


def setup(app: Any) -> None:
    """Make the navigation of the lists of links that the pages have anyway."""
    app.connect("source-read", _prepare)
    app.connect("doctree-read", _anchor)
    app.connect("build-finished", _lead)


def _prepare(app: Any, name: str, source: list[str]) -> None:
    anchored = re.sub(r'<a id="([^"]+)"></a>', r"[]{#\1}", source[0])
    source[0] = anchored + _contents(name, source[0])


def _anchor(app: Any, tree: Any) -> None:
    """Let other pages link to those anchors."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in tree.findall(nodes.inline):
        slugs.update({name: (node.line, name, "") for name in node["ids"]})


def _contents(name: str, text: str) -> str:
    """The pages that a page of links leads to, as a hidden table of contents for each of its headings."""
    if Path(name).name not in ("index", "README") or name == "README":
        return ""
    trees = ""
    for part in re.split(r"(?m)^## ", text)[1:]:
        heading, _, rest = part.partition("\n")
        links = dict.fromkeys(re.findall(r"(?m)^(?:- |\| |See ).*?\]\(([^)#:]+)\.md\)", rest))
        if links:
            caption = f":caption: {heading}\n" if name == root_doc else ""
            trees += f"\n```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(links) + "\n```\n"
    return trees


def _lead(app: Any, error: Exception | None) -> None:
    """Lead from the top of the site to the first page."""
    if error is None:
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">'
        Path(app.outdir, "index.html").write_text(f'{page}<a href="docs/index.html">luoser</a>\n')
