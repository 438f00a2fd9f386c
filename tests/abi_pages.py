# SPDX-License-Identifier: MIT
"""`python -m tests.abi_pages` makes the tables and the decoded bytes of docs/abi again.

A page is prose with markers. What lies between a marker and the next `<!-- end -->` is made:

    <!-- struct: NAME (LABEL) -->         the members of one struct of the registry
    <!-- bytes: FILE as LAYOUT -->        a file of fixtures/golden, decoded; `, N bytes` shows the first ones only
    <!-- lists: family A -->              the layouts of the PCI device list, and their structs without a marker here
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from luoser.abi import pci
from luoser.abi.registry import layout, layouts, schemas
from luoser.abi.schema import Field, Schema
from luoser.render.hexdump import rows

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/abi"
GOLDEN = ROOT / "fixtures/golden"

MARKER = re.compile(r"^<!-- (struct|bytes|lists): (.+) -->\n(?:.*\n)*?<!-- end -->$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_EXPLICIT = re.compile(r'<a id="([^"]+)"></a>')
_BYTES = re.compile(r"(\S+) as (\S+?)(?:, (\d+) bytes)?")


def pages() -> tuple[Path, ...]:
    """Every page of the folder."""
    return tuple(sorted(FOLDER.glob("*.md")))


def made(text: str) -> str:
    """A page with what its markers stand for. Raises KeyError for a struct, file or layout that does not exist."""
    marked = _marked(text)
    return MARKER.sub(lambda match: "\n".join(_block(match[1], match[2], marked)), text)


def marker(schema: Schema) -> str:
    """What a page says to get the table of this struct."""
    return f"<!-- struct: {_key(schema)} -->"


def shown(text: str) -> list[str]:
    """The structs of a page, each as `marker` has it: those with a marker, and those below a table of lists."""
    marked = _marked(text)
    lists = [match[2] for match in MARKER.finditer(text) if match[1] == "lists"]
    return [
        f"<!-- struct: {key} -->" for key in (*marked, *(_key(one) for what in lists for one in _rest(what, marked)))
    ]


def _marked(text: str) -> list[str]:
    """What the `struct` markers of a page name."""
    return [match[2] for match in MARKER.finditer(text) if match[1] == "struct"]


def _block(kind: str, what: str, marked: Collection[str]) -> Iterator[str]:
    yield f"<!-- {kind}: {what} -->"
    yield ""
    yield from _lists(what, marked) if kind == "lists" else {"struct": _struct, "bytes": _bytes}[kind](what)
    yield ""
    yield "<!-- end -->"


def _key(schema: Schema) -> str:
    return f"{schema.name} ({schema.label})"


def _struct(what: str) -> Iterator[str]:
    schema = {_key(schema): schema for schema in schemas()}[what]
    names = ", ".join(f"`{entry.name}`" for entry in layouts() if any(one is schema for one in entry.schemas))
    yield f"**`struct {schema.name}`**, {schema.size} bytes, {schema.layout}. {_escaped(schema.meaning)}"
    yield f"Form: {_escaped(schema.label)}; {schema.status}; {_escaped(schema.seen_in)}. `luoser abi show`: {names}."
    yield ""
    yield "| offset | size | type | member | meaning |"
    yield "|---:|---:|---|---|---|"
    yield from (_row(field) for field in schema.fields)


def _row(field: Field) -> str:
    if field.padding:
        return f"| {field.offset} | {field.size} | | | padding: 0 as written, ignored when read |"
    offset, kind = str(field.offset), field.c_type
    if field.bit_width is not None and field.bit_offset is not None:
        last = field.bit_offset + field.bit_width - 1
        offset += f", bit {last}" if field.bit_width == 1 else f", bits {field.bit_offset} to {last}"
        kind = kind.partition(":")[0]
    size = str(field.size) if field.size else "flex"
    return f"| {offset} | {size} | `{kind}` | `{field.name}` | {_escaped(field.meaning)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([|*<])", r"\\\1", text)


def _bytes(what: str) -> Iterator[str]:
    match = _BYTES.fullmatch(what)
    chosen = layout(match[2]) if match is not None else None
    if match is None or chosen is None:
        raise KeyError(f"bytes: {what}")
    yield "```"
    yield from rows((GOLDEN / match[1]).read_bytes(), 0, chosen, length=int(match[3]) if match[3] else None)
    yield "```"


def _forms(what: str) -> list[pci.PciLayout]:
    forms = [form for form in pci.LAYOUTS if f"family {form.family}" == what]
    if not forms:
        raise KeyError(f"lists: {what}")
    return forms


def _rest(what: str, marked: Collection[str]) -> list[Schema]:
    """Structs of lists that no marker of the page names: of layouts that have no section yet."""
    found = (schema for form in _forms(what) for schema in (form.header, form.record, form.bus) if schema is not None)
    return [schema for schema in dict.fromkeys(found) if _key(schema) not in marked]


def _lists(what: str, marked: Collection[str]) -> Iterator[str]:
    yield "| layout | FLB name | header | entry | first entry at | what it is |"
    yield "|---|---|---:|---:|---|---|"
    for form in _forms(what):
        names = ", ".join(f"`{name}`" for name in form.flb_names)
        first = f"{form.header.size}" if form.blocks is None else "16 of a block"
        sizes = f"{form.header.size} | {form.record.size} | {first}"
        yield f"| `{form.name}` | {names} | {sizes} | {_escaped(form.summary)} |"
    for schema in _rest(what, marked):
        yield ""
        yield from _struct(_key(schema))


def main() -> None:
    """Write every page anew."""
    for page in pages():
        page.write_text(made(page.read_text()))


def page_text(page: str) -> str:
    """A page by its file name, such as kho.md."""
    return (FOLDER / page).read_text()


def prose(page: str) -> str:
    """A page without what is made and without code."""
    return without_code(MARKER.sub("", page_text(page)))


def without_code(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def all_anchors(page: str) -> list[str]:
    """The anchors of a page of docs/abi in their order, each as often as it is there."""
    return anchors_in(page_text(page))


def anchors_in(text: str) -> list[str]:
    """The anchors of any page: those of its headings, and explicit ones (`<a id=…>`)."""
    text = without_code(text)
    return [_slug(heading) for heading in _HEADING.findall(text)] + _EXPLICIT.findall(text)


def _slug(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    """All anchors of a page of docs/abi, such as kho.md."""
    return set(all_anchors(page))


if __name__ == "__main__":
    main()
