# SPDX-License-Identifier: MIT
"""Read and write the state that a Linux kernel hands to its successor over kexec.

    state = luoser.load("vmcore")
    found = luoser.check("vmcore")

    with luoser.open("vmcore") as memory:  # the same, but the file is opened once
        state = luoser.read(memory, contents=True)
        found = luoser.check(state, ram=memory.known_ram)

`open` returns a `luoser.memory` source. `read` returns the `luoser.state` that is found in it; `load` is both in one.
`check` returns findings and a verdict, `diff` the changes between two states, `report` a page about one or two of them,
`compat` whether one kernel can hand over to another. `build` makes bytes of a description, `decode` reads one blob,
`extract` writes parts of a source to a file. Each of them but `read` takes a path where it takes a source, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.api import build, check, compat, decode, diff, extract, load, report
    from luoser.memory.open import open_memory as open  # noqa: A004
    from luoser.reader import read

__all__ = ["__version__", "build", "check", "compat", "decode", "diff", "extract", "load", "open", "read", "report"]

__version__ = "0.1.0"

_PLACES = {
    "build": "luoser.api",
    "check": "luoser.api",
    "compat": "luoser.api",
    "decode": "luoser.api",
    "diff": "luoser.api",
    "extract": "luoser.api",
    "load": "luoser.api",
    "open": "luoser.memory.open",
    "read": "luoser.reader",
    "report": "luoser.api",
}
"""Where each function is. They are imported on first use, to keep `luoser --help` fast."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'luoser' has no attribute {name!r}")
    found = getattr(import_module(_PLACES[name]), "open_memory" if name == "open" else name)
    globals()[name] = import_module("luoser.api.words").in_python(name, found)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
