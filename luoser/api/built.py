# SPDX-License-Identifier: MIT
"""What `luoser.build` makes of a description."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from luoser.abi.registry import Layout, layout
from luoser.api.negatives import Golden, array_name, mutation_of, node_at, notes_of
from luoser.arguments import need_path
from luoser.errors import UsageError
from luoser.extracts.core import write_core
from luoser.memory.file import read_file
from luoser.reader import read
from luoser.reader.blob import decode
from luoser.state import blob_document, to_document
from luoser.state.from_json import Item, from_document
from luoser.text import safe_text
from luoser.writer import Image, write
from luoser.writer.complete import complete
from luoser.writer.contents import with_contents
from luoser.writer.golden import C_FORMATS
from luoser.writer.mutate import Mutation
from luoser.writer.place import FIRST
from luoser.writer.spec import blob_bytes, is_blob, list_as_state, parse_spec
from luoser.writer.verify import differences

__all__ = ["Built"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Built:
    """Golden bytes.

    layout:      name of the layout of a blob. None: a whole image.
    image:       of the memory. None: of a bare blob.
    differences: between the description and what the bytes are read as, in words. Empty: none, or one was asked for.
    breaks:      id of the rule of `check` that is broken. None: none.
    blob:        its bytes. None: a whole image.
    """

    layout: str | None
    image: Image | None
    differences: tuple[str, ...]
    breaks: str | None
    blob: bytes | None

    @cached_property
    def data(self) -> bytes:
        """The blob, or the image as an ELF core."""
        if self.blob is not None:
            return self.blob
        assert self.image is not None
        file = io.BytesIO()
        write_core(file, self.image.memory(), self.image.frames, knows_ram=False)
        return file.getvalue()

    def source(self, form: Literal["c", "kunit", "kselftest"] = "c", *, name: str | None = None) -> str:
        """C source with the blob: the array alone, a KUnit suite, or a kselftest.

        name: of the array. None: the layout's.

        Raises UsageError for an image.
        """
        known = layout(self.layout) if self.layout is not None else None
        if known is None:
            raise UsageError("C source is for one blob: select it with blob, such as pci[0]")
        called, notes = name or known.name.replace("-", "_"), tuple[str, ...]()
        if self.breaks is not None:
            broken = mutation_of(self.breaks)
            called, notes = array_name(called, broken), notes_of(broken)
        return C_FORMATS[form](name=called, layout=known, data=self.data, source="luoser.build", notes=notes)


def built(
    spec: Mapping[str, Any] | str | os.PathLike[str],
    *,
    kernel: str,
    layout: str | None,
    blob: str | None,
    mutate: str | None,
    machine: str | None,
    base: int | None,
) -> Built:
    """As `luoser.build`."""
    values, folder = _values(spec)
    broken = mutation_of(mutate) if mutate is not None else None
    if is_blob(values):
        if blob is not None:
            raise UsageError("blob is for a description with handovers: this one is a bare blob")
        if broken is None:
            return _bare(values, layout)
        values, blob = list_as_state(values, layout), "pci[0]"
    if machine not in FIRST:
        raise UsageError(f"machine: expected {' or '.join(filter(None, FIRST))}, found {machine!r}")
    values = with_contents(values, lambda name: read_file(str(folder / name), limit="spec_size"))
    full = complete(with_layout(values, layout), kernel=kernel, base=FIRST[machine] if base is None else base)
    state = from_document(full)
    image = write(state, machine=machine)
    nodes = (node_at(image, state, blob),) if blob is not None else ()
    return _made(Golden(image=image, state=state, nodes=nodes, where=blob or ""), full, broken)


def _made(golden: Golden, full: Json, broken: Mutation | None) -> Built:
    image, words = golden.image, tuple[str, ...]()
    if broken is not None:
        image = golden.broken(broken)
    else:
        memory = image.memory()
        again = to_document(read(memory, contents=True), full=True)
        words = (*image.lacks, *differences(full, again, memory))
    form: Layout | None = None
    data = None
    if golden.nodes:
        ((form, address, size),) = golden.nodes
        data = image.read(address, size)
    return Built(
        layout=form.name if form is not None else None,
        image=image,
        differences=words,
        breaks=broken.rule if broken is not None else None,
        blob=data,
    )


def _bare(values: Json, name: str | None) -> Built:
    if name is not None and values.get("layout", name) != name:
        raise UsageError(f"layout {name}: the description has {values['layout']}; leave out one of the two")
    form, data = blob_bytes(values, None if "layout" in values else name)
    found = differences(values, blob_document(decode(data, form.name), path=""))
    words = tuple(word for word in found if not word.startswith("size "))
    return Built(layout=form.name, image=None, differences=words, breaks=None, blob=data)


def _values(spec: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[Json, Path]:
    """(values of a description, folder of the files that it names)."""
    if isinstance(spec, Mapping):
        return dict(spec), Path()
    name = need_path(spec, "a description or a path")
    return parse_spec(read_file(name, limit="spec_size"), safe_text(name)), Path(name).parent


def with_layout(values: Json, layout: str | None) -> Json:
    """The SPEC, with this layout for each device list that has none. Raises UsageError if all have another one."""
    if layout is None:
        return values
    lists = [cast(Json, entry.values) for part in Item(values, "").items("handovers") for entry in part.items("pci")]
    for entry in lists:
        entry.setdefault("layout", layout)
    if all(entry["layout"] != layout for entry in lists):
        found = ", ".join(dict.fromkeys(str(entry["layout"]) for entry in lists)) or "no device list"
        raise UsageError(f"--layout {layout}: SPEC has {found}; --layout is for device lists without a layout")
    return values
