# SPDX-License-Identifier: MIT
"""What the tests of the writer share: states there and back, and what lies at the places of an image."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import luoser
from luoser.errors import MissingMemory
from luoser.memory.source import Memory
from luoser.state import File, Luo, State, to_document
from luoser.state.from_json import from_document
from luoser.writer import Image, write
from luoser.writer.complete import complete

__all__ = [
    "SCRATCH",
    "Json",
    "built",
    "built_file",
    "built_luo",
    "compared",
    "differences",
    "differing",
    "full_document",
    "order_at",
    "read_file",
    "reread",
    "sessions",
    "there_and_back",
]

Json = dict[str, Any]
SCRATCH = [{"address": "0x1000000", "size": "16M"}, {"address": "0x8000000", "size": "64M"}]
_OPEN = ("evidence", "confidence", "candidates")
"""What is said about the bytes, not by them."""


def full_document(memory: Memory, **options: Any) -> Json:
    """What `inspect --full --contents --format json` prints, as another program gets it."""
    document: Json = json.loads(json.dumps(to_document(luoser.read(memory, contents=True, **options), full=True)))
    return document


def built(document: Json, *, kernel: str = "7.3") -> tuple[State, Image]:
    """The state that a description stands for, and its image."""
    state = from_document(complete(document, kernel=kernel))
    return state, write(state)


def reread(image: Image, **options: Any) -> State:
    return luoser.read(image.memory(), page_size=image.page_size, contents=True, **options)


def built_luo(values: Json, kernel: str = "7.3") -> tuple[Luo, State, Image]:
    """LUO of a handover of which nothing else is said."""
    state, image = built({"handovers": [{"luo": values}]}, kernel=kernel)
    found = state.handovers[0].luo
    assert found is not None
    return found, state, image


def sessions(count: int, files: int = 0) -> list[Json]:
    """Descriptions of sessions, each with so many files of a handler that nobody knows."""
    return [
        {"name": f"s{number}", "files": [{"compatible": "x-v1", "token": token} for token in range(files)]}
        for number in range(count)
    ]


def built_file(values: Json, *, page_size: int = 4096, **luo: Any) -> tuple[File, State, Image]:
    """The only file of the only session of a handover."""
    document = {
        "source": {"page_size": page_size},
        "handovers": [{"luo": {**luo, "sessions": [{"name": "a", "files": [values]}]}}],
    }
    state, image = built(document)
    found = state.handovers[0].luo
    assert found is not None
    return found.sessions[0].files[0], state, image


def read_file(image: Image) -> File:
    """The same, read from the image."""
    found = reread(image).handovers[0].luo
    assert found is not None
    return found.sessions[0].files[0]


def order_at(state: State, address: int) -> int:
    """The order of the preserved block that starts at an address."""
    found = state.handovers[0].preserved.map
    assert found is not None
    block = found.find(address)
    assert block is not None and block.address == address
    return block.order


def compared(document: Json) -> Json:
    """A document without what is not the same in an image that was made of it."""
    made = copy.deepcopy(document)
    for name in ("source", "problems"):
        made.pop(name, None)
    _drop(made)
    return made


def _drop(value: Any) -> None:
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        _drop(item)
    for name in _OPEN if isinstance(value, dict) else ():
        value.pop(name, None)


def differing(image: Image, memory: Memory) -> Iterator[tuple[int, str]]:
    """(address, what) of each piece of an image that is not what another memory holds there.

    Of a page with a devicetree only the blob itself counts, of the self-test's array only its entries: kernels do
    not clear the rest.
    """
    own = image.memory()
    for start, end, what in image.pieces:
        data = own.read(start, end - start)
        if data.startswith(b"\xd0\x0d\xfe\xed"):
            end = start + int.from_bytes(data[4:8], "big")
        elif what == "sub-tree kho_test":
            end = start + len(data.rstrip(b"\0"))
        try:
            if memory.read(start, end - start) != data[: end - start]:
                yield start, what
        except MissingMemory:
            yield start, f"{what} (missing there)"


def differences(said: Any, read: Any, path: str = "") -> Iterator[str]:
    """Where two documents differ: short lines in place of two long documents."""
    if isinstance(said, dict) and isinstance(read, dict):
        for name in {**said, **read}:
            if name in said and name in read:
                yield from differences(said[name], read[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: {'not read' if name in said else 'not said'}"
    elif isinstance(said, list) and isinstance(read, list) and len(said) == len(read):
        for index, pair in enumerate(zip(said, read, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif said != read:
        yield f"{path}: {str(said)[:60]} said, {str(read)[:60]} read"


def there_and_back(*handovers: Json, kernel: str = "7.3", **document: Any) -> tuple[State, Image, State]:
    state, image = built({"handovers": list(handovers), **document}, kernel=kernel)
    return state, image, reread(image)
