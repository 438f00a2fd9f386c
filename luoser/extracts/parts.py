# SPDX-License-Identifier: MIT
"""A file with a part of a source: a core of its handovers, one memfd, or one node."""

from __future__ import annotations

from collections.abc import Callable

from luoser.errors import UsageError
from luoser.extracts.blob import write_blob
from luoser.extracts.core import without_test_data, write_core
from luoser.extracts.memfd import write_memfd
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.output import new_file, packed_file
from luoser.state import State
from luoser.text import human_size, safe_text

__all__ = ["write_part"]


def write_part(
    target: str, memory: Memory, read: Callable[[Memory], State], *, memfd: str | None, blob: str | None, force: bool
) -> str:
    """Write a new file. Returns what was written, in words.

    target: its path.
    memory: the source.
    read:   gives the state of a source, with contents.
    memfd:  SESSION/TOKEN of the memfd to write. None: none.
    blob:   path or address of the node to write. None: none. Without both it is a core.
    force:  replace an existing file.

    Raises UsageError for a file that exists, if there is no such memfd or node, and if both are given.
    """
    if memfd is not None and blob is not None:
        raise UsageError("--memfd and --blob exclude each other; give only one of them")
    is_core = memfd is None and blob is None
    if is_core and memory.placeless:
        raise UsageError(f"{safe_text(memory.path)}: debugfs blobs have no pages for a core; copy the blobs instead")
    record = Recorder(memory)
    state = read(record)
    with (packed_file if is_core else new_file)(target, force=force) as file:
        if memfd is not None:
            return write_memfd(file, memory, state, memfd)
        if blob is not None:
            return write_blob(file, memory, state, blob)
        pages = without_test_data(record.asked, state)
        size = write_core(file, memory, pages, answers=record.answers)
        return f"{len(pages & record.pages)} pages, {human_size(size)}"
