# SPDX-License-Identifier: MIT
"""A file with a part of a source: a core of its handovers, one memfd, or one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luoser.errors import UsageError
from luoser.extracts.blob import write_blob
from luoser.extracts.core import without_test_data, write_core
from luoser.extracts.memfd import is_led_to, memfd_address, write_memfd
from luoser.extracts.names import hashed_names, names_are_hashed
from luoser.extracts.spared import NO_CONTENTS, Spared, Still
from luoser.memory.recorder import Recorder
from luoser.memory.source import Memory
from luoser.output import new_file, packed_file
from luoser.state import Memfd, State
from luoser.text import human_size, safe_text

__all__ = ["write_part"]

_SHORTEST_KEY = 16
"""Characters of a key. The cut has a mark of it, by which keys can be tried."""


def write_part(
    target: str,
    memory: Memory,
    read: Callable[..., State],
    *,
    memfd: str | None,
    blob: str | None,
    memfd_at: Callable[[Memory, int, int], tuple[Memfd, Sequence[str]]],
    force: bool,
    no_contents: bool = False,
    hash_names: str | None = None,
) -> str:
    """Write a new file. Returns what was written, in words.

    target: its path.
    memory: the source.
    read:   gives the state of a source, with contents; without them if `contents` is False.
    memfd:  SESSION/TOKEN of the memfd to write, or @ADDRESS of its descriptor. None: none.
    blob:   path or address of the node to write. None: none. Without both it is a core.
    memfd_at: the memfd with its descriptor at an address, and what is against it; of the source, the address, and the
              page size in bytes.
    force:  replace an existing file.
    no_contents: leave out of a core all that is not a structure of the handover or of the kernel.
    hash_names:  key of the hashes that replace names that users chose; implies `no_contents`. None: keep the names.

    Raises UsageError for a file that exists, if there is no such memfd or node, if both are given, for a key that is
    short, and for a file that is not a core without contents.
    """
    no_contents = no_contents or hash_names is not None
    if memfd is not None and blob is not None:
        raise UsageError("--memfd and --blob exclude each other; give only one of them")
    is_core = memfd is None and blob is None
    if no_contents and not is_core:
        raise UsageError("--no-contents and --hash-names are for a core: leave out --memfd and --blob")
    if hash_names is not None and not isinstance(hash_names, str):
        raise UsageError(f"--hash-names: expected a text, found {type(hash_names).__name__}")
    if hash_names is not None and len(hash_names) < _SHORTEST_KEY:
        text = (
            f"expected at least {_SHORTEST_KEY} characters, found {len(hash_names)}; `openssl rand -hex 32` makes one"
        )
        raise UsageError(f"--hash-names: the key can be guessed, and the names with it: {text}")
    if is_core and memory.placeless:
        raise UsageError(f"{safe_text(memory.path)}: debugfs blobs have no pages for a core; copy the blobs instead")
    record = Recorder(memory)
    state = read(record)
    is_searched = all(problem.code != "not-searched" for problem in state.problems)
    spared = _spared(memory, read, record, hash_names) if no_contents else None
    with (packed_file if is_core else new_file)(target, force=force) as file:
        if memfd is not None:
            address = memfd_address(memfd)
            if address is None:
                return write_memfd(file, memory, state, memfd)
            found, doubts = _by_address(memory, state, address, memfd_at)
            return "; ".join((write_memfd(file, memory, state, memfd, found), *doubts))
        if blob is not None:
            return write_blob(file, memory, state, blob)
        if spared is not None:
            size = write_core(file, spared, spared.pages, answers=spared.answers, is_searched=is_searched)
            return f"{len(spared.pages & record.pages)} pages, {human_size(size)}; {'; '.join(spared.left_out)}"
        pages = without_test_data(record.asked, state)
        size = write_core(file, memory, pages, answers=record.answers, is_searched=is_searched)
        return f"{len(pages & record.pages)} pages, {human_size(size)}"


def _by_address(
    memory: Memory, state: State, address: int, memfd_at: Callable[[Memory, int, int], tuple[Memfd, Sequence[str]]]
) -> tuple[Memfd | None, Sequence[str]]:
    """The memfd with its descriptor at an address, and what is against it. None: the state has it, it is led to."""
    is_led = is_led_to(state, address)
    try:
        found, doubts = memfd_at(memory, address, state.source.page_size)
    except UsageError:
        if is_led:
            return None, ()
        raise
    return None if is_led else found, doubts


def _spared(memory: Memory, read: Callable[..., State], record: Recorder, key: str | None) -> Spared:
    """A source without contents. record: of a reading with contents. key: of the hashes of names. None: keep names."""
    memory = Still(memory) if memory.live else memory
    again = Recorder(memory)
    read(again, contents=False)
    names = hashed_names(memory, again.names, key.encode("utf-8", "surrogateescape")) if key is not None else {}
    spared = Spared(memory, again, record, names)
    spared.answers = again.answers
    said = (NO_CONTENTS, *((names_are_hashed(key.encode("utf-8", "surrogateescape")),) if key is not None else ()))
    spared.left_out = tuple(dict.fromkeys((*memory.left_out, *said)))
    return spared
