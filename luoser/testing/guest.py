# SPDX-License-Identifier: MIT
"""A look at a running QEMU guest."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luoser.api.sources import Path
    from luoser.checks import Report
    from luoser.memory.source import Memory
    from luoser.state import State
    from luoser.topology import Topology

__all__ = ["Guest"]


class Guest:
    """The memory of a guest at one moment, until `close` or the end of a `with`.

    What was read is kept: open it again to see what happened since.

    memory: its source, for `luoser.check`, `luoser.diff` and the assertions.
    """

    memory: Memory

    def __init__(self, socket: Path, *, pause: bool = True) -> None:
        """A guest that serves QMP, or a debugger.

        socket: path of a QMP socket, or a source: `qmp:SOCKET`, `gdb:HOST:PORT`, `gdb:HOST:PORT,qmp:SOCKET`.
        pause:  stop the guest meanwhile; it continues at the end, if it ran. A stub without QMP does not say whether it
                did: then it stays stopped. False: what changes meanwhile may be read inconsistently.

        Raises SourceError, as `luoser.open` does.
        """
        import luoser

        name = os.fspath(socket)
        self.memory = luoser.open(name if name.startswith(("qmp:", "gdb:")) else f"qmp:{name}", pause=pause)

    def state(self, *, contents: bool = False, pending: bool = False) -> State:
        """The state of the guest. The parameters are those of `luoser.read`, as are the errors."""
        import luoser

        return luoser.read(self.memory, contents=contents, pending=pending)

    def check(
        self,
        *,
        topology: Topology | Path | None = None,
        next_release: str | None = None,
        pending: bool = False,
        select: Collection[str] = (),
        ignore: Collection[str] = (),
    ) -> Report:
        """The report on the guest. The parameters are those of `luoser.check`, as are the errors."""
        import luoser

        return luoser.check(
            self.memory, topology=topology, next_release=next_release, pending=pending, select=select, ignore=ignore
        )

    def close(self) -> None:
        """Let the guest continue, if it ran. Raises SourceError if it may still be stopped."""
        self.memory.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close. What the block raised goes on, with a note if the guest may still be stopped: it may have crashed."""
        from luoser.errors import SourceError

        try:
            self.close()
        except SourceError as fault:
            if error is None:
                raise
            error.add_note(str(fault))
