# SPDX-License-Identifier: MIT
"""`luoser build`: golden blobs and whole memory images from a description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from luoser.abi.registry import Layout
    from luoser.writer import Image

__all__ = ["command"]

_IMAGES = ("elf", "raw")
_BLOBS = ("bin", "c", "kunit", "kselftest")
_DIFFERENT = 1


@click.command("build")
@click.argument("spec", type=click.Path())
@click.option("-o", "--output", "target", required=True, type=click.Path(), help="File to write.")
@click.option(
    "--format",
    "output",
    type=click.Choice((*_BLOBS, *_IMAGES)),
    help="Form of the output; by default elf for a state, bin for a blob.",
)
@click.option("--kernel", default="7.3", show_default=True, help="Release whose forms are taken where SPEC names none.")
@click.option("--layout", metavar="NAME", help="Layout of a device list or blob, where SPEC names none.")
@click.option("--blob", metavar="WHERE", help="Of a state: this node only, such as pci[0], luo or an address.")
@click.option("--name", help="Name of the array in C; by default the layout's.")
@click.option("--pad", is_flag=True, help="Fill a blob with zeros up to the folio that a kernel would allocate for it.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    spec: str,
    target: str,
    output: str | None,
    kernel: str,
    layout: str | None,
    blob: str | None,
    name: str | None,
    pad: bool,
    force: bool,
) -> None:
    """Make the bytes that SPEC describes: one bare blob, C code around it, or the memory of a whole handover.

    SPEC is the document that `inspect --full --contents --format json` or `decode --format json` prints, or the
    same in TOML with as much left out as the kernel decides itself (`-` is standard input). What was made is read
    again: exit code 1 when it does not read as SPEC says, with a line for each difference.
    """
    from luoser.errors import UsageError
    from luoser.limits import LIMITS
    from luoser.memory.open import read_file
    from luoser.text import safe_text
    from luoser.writer.spec import is_blob, parse_spec

    shown = "standard input" if spec == "-" else safe_text(spec)
    values = parse_spec(read_file(spec, limit=LIMITS.spec_size), shown)
    try:
        if is_blob(values):
            if output in _IMAGES or blob is not None:
                raise UsageError(f"a bare blob makes {', '.join(_BLOBS)}; images and --blob need a SPEC with handovers")
            words = _build_blob(values, target, output or "bin", layout, name=name, pad=pad, force=force, source=shown)
        else:
            words = _build_state(
                values, target, output, kernel, layout, blob, name=name, pad=pad, force=force, source=shown
            )
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from error
    for word in words:
        click.echo(f"luoser: {shown}: {word}", err=True)
    if words:
        raise SystemExit(_DIFFERENT)


def _build_blob(
    values: dict[str, Any],
    target: str,
    output: str,
    name_of_layout: str | None,
    *,
    name: str | None,
    pad: bool,
    force: bool,
    source: str,
) -> list[str]:
    from luoser.reader.blob import decode
    from luoser.state import blob_document
    from luoser.writer.spec import blob_bytes

    if "layout" in values:
        name_of_layout = None
    form, data = blob_bytes(values, name_of_layout)
    _write_blob(target, form, data, output, name=name, pad=pad, force=force, source=source)
    read = blob_document(decode(data, form.name), path="")
    return [word for word in _differences(values, read, "") if not word.startswith(("size", "header"))]


def _write_blob(
    target: str, form: Layout, data: bytes, output: str, *, name: str | None, pad: bool, force: bool, source: str
) -> None:
    from luoser.output import new_file
    from luoser.writer.place import order_of

    if pad:
        data = data.ljust(4096 << order_of(len(data), 4096), b"\0")
    if output != "bin":
        from luoser.writer.golden import C_FORMATS

        text = C_FORMATS[output](name=name or form.name.replace("-", "_"), layout=form, data=data, source=source)
        data = text.encode()
    with new_file(target, force=force) as file:
        file.write(data)


def _build_state(
    values: dict[str, Any],
    target: str,
    output: str | None,
    kernel: str,
    layout: str | None,
    blob: str | None,
    *,
    name: str | None,
    pad: bool,
    force: bool,
    source: str,
) -> list[str]:
    from luoser.errors import UsageError
    from luoser.reader import read
    from luoser.state import to_document
    from luoser.state.load import from_document
    from luoser.writer import write
    from luoser.writer.complete import complete
    from luoser.writer.image import write_image

    full = complete(_with_layout(values, layout), kernel=kernel)
    state = from_document(full)
    image = write(state)
    memory = image.memory()
    again = read(memory, page_size=state.source.page_size, contents=True)
    if blob is not None:
        form, data = _node(image, again, blob)
        _write_blob(target, form, data, output or "bin", name=name, pad=pad, force=force, source=source)
    elif output in _BLOBS:
        raise UsageError(f"--format {output} is for one blob: name it with --blob, such as --blob pci[0]")
    else:
        write_image(target, image, output or "elf", force=force)
    if image.lacks:
        return image.lacks
    return list(_differences(to_document(state, full=True), to_document(again, full=True), ""))


def _with_layout(values: dict[str, Any], layout: str | None) -> dict[str, Any]:
    """The SPEC with a layout for the device lists that have none."""
    for handover in values.get("handovers") or ():
        for entry in (handover.get("pci") or ()) if isinstance(handover, dict) else ():
            if layout is not None and isinstance(entry, dict):
                entry.setdefault("layout", layout)
    return values


def _node(image: Image, state: Any, where: str) -> tuple[Layout, bytes]:
    """The layout and the bytes of one node of an image."""
    from luoser.abi.registry import layout
    from luoser.errors import MissingMemory, UsageError
    from luoser.reader.blob import candidates, decode
    from luoser.state.where import find_node

    node = find_node(state, where)
    memory = image.memory()
    try:
        page = memory.read(node.address, image.page_size - node.address % image.page_size)
        found = node.layout or next((name for name, _ in candidates(page)), None)
        if found is None:
            raise UsageError(f"{where}: the bytes at {node.address:#x} fit no known layout")
        size = node.size if node.size is not None else decode(page, found).size
        form = layout(found)
        assert form is not None
        return form, memory.read(node.address, size)
    except MissingMemory as error:
        raise UsageError(f"{where}: {error}") from None


_NOT_COMPARED = frozenset(
    {"source", "evidence", "problems", "confidence", "candidates", "notes", "header", "flag_names"}
)


def _differences(said: Any, read: Any, path: str) -> Any:
    """A sentence for each value that is said and reads otherwise."""
    if isinstance(said, dict) and isinstance(read, dict):
        for name, value in said.items():
            if name not in _NOT_COMPARED and value is not None and name != "schema":
                yield from _differences(value, read.get(name), f"{path}.{name}" if path else name)
    elif isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        for index, (value, other) in enumerate(zip(said, read, strict=True)):
            yield from _differences(value, other, f"{path}[{index}]")
    elif not _is_same(said, read):
        from luoser.text import safe_text

        yield f"{safe_text(path)} is {_short(said)}, but reads back as {_short(read)}"


def _is_same(said: Any, read: Any) -> bool:
    from luoser.text import parse_bdf, parse_size

    if said == read:
        return True
    if isinstance(said, list) and isinstance(read, int):  # names of bits
        return True
    for parse in (parse_bdf, parse_size):
        try:
            if parse(str(said)) == parse(str(read)):
                return True
        except ValueError:
            continue
    return False


def _short(value: Any) -> str:
    from luoser.text import safe_text

    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return safe_text(str(value))
