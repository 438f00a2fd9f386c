# SPDX-License-Identifier: MIT
"""Read and write the state that a Linux kernel hands to its successor over kexec.

    with luoser.open("vmcore") as memory:
        state = luoser.read(memory)

`open` returns a `luoser.memory` source. `read` returns the `luoser.state` that is found in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.memory.open import open_memory as open  # noqa: A004
    from luoser.reader import read

__all__ = ["__version__", "open", "read"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # imported on first use, to keep `luoser --help` fast
    if name == "open":
        from luoser.memory.open import open_memory

        return open_memory
    if name == "read":
        from luoser.reader import read

        return read
    raise AttributeError(f"module 'luoser' has no attribute {name!r}")
