# SPDX-License-Identifier: MIT
"""Stand-ins for two programs of libkdumpfile's tests, dumpdata and checkattr, that read with luoser.

Used by test_libkdumpfile. A case of libkdumpfile is a shell script: it calls a writer, has the dump printed by
dumpdata and compares that with its .expect file, or has attributes of the dump compared by checkattr.

    python -m tests.memory.dumpdata dumpdata [-n FILES] [-o OS] [-s SIZE] [-z] FILE... ADDRESS LENGTH...
    python -m tests.memory.dumpdata checkattr FILE... < ATTRIBUTES

Each call adds a line to the file that LUOSER_CALLS names: its arguments, and what became of it.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import luoser
from luoser.errors import MissingMemory, PageState, SourceError
from luoser.memory.source import Memory

__all__ = ["FAILED", "NOT_OPENED", "VIRTUAL"]

PAGE = 4096
FAILED, NOT_OPENED, VIRTUAL = 1, 99, 77
"""Exit codes: something is missing or not equal, the dump cannot be opened, a virtual address is asked for."""
_WORDS = {
    PageState.EXCLUDED: "Excluded page",
    PageState.DAMAGED: "Damaged page",
    PageState.ABSENT: "Page not in the dump",
}
_FORMATS = {"elf": "elf", "diskdump": "kdump"}
_MACHINES = {"x86_64": 62, "aarch64": 183}


def main(program: str, *arguments: str) -> int:
    """The exit code of a call."""
    try:
        code, said = (_dumpdata if program == "dumpdata" else _checkattr)(arguments)
    except SourceError as error:
        code, said = NOT_OPENED, f"refused: {error}"
    print(said, file=sys.stderr)
    with Path(os.environ["LUOSER_CALLS"]).open("a") as calls:
        calls.write(f"{program} {' '.join(arguments)}: {said}\n")
    return code


# -- dumpdata ----------------------------------------------------------------------------------------------


def _dumpdata(arguments: Sequence[str]) -> tuple[int, str]:
    options, rest = getopt.gnu_getopt(list(arguments), "n:o:s:z")
    asked = dict(options)
    count, size = int(asked.get("-n", "1")), int(asked.get("-s", "1"))
    files, numbers = rest[:count], rest[count:]
    failed: list[str] = []
    with luoser.open(*files) as memory:
        for place, length in zip(numbers[::2], numbers[1::2], strict=True):
            space, _, address = place.rpartition(":")
            if space not in ("", "MACHPHYSADDR", "KPHYSADDR"):
                return VIRTUAL, f"virtual address {address}"
            start = int(address, 0)
            data = list(_bytes(memory, start, int(length, 0) * size, "-z" in asked, failed))
            print(_shown(data, start, size), end="")
    return (FAILED, failed[0]) if failed else (0, "read")


def _bytes(memory: Memory, start: int, size: int, zero: bool, failed: list[str]) -> Iterator[int | None]:
    """Each byte that is asked for, page by page. None for one that cannot be read, with a reason in `failed`.

    zero: read excluded pages as zeros.
    """
    end = start + size
    while start < end:
        stop = min(end, start // PAGE * PAGE + PAGE)
        while start < stop:
            data, missing = _known(memory, start, stop - start)
            yield from data
            start += len(data)
            if missing is not None:
                if (zero and missing.state is PageState.EXCLUDED) or _is_hole(memory, missing):
                    yield 0
                else:
                    failed.append(f"Read failed at {start:#x}: {_WORDS[missing.state]}: {missing}")
                    yield None
                start += 1


def _known(memory: Memory, start: int, size: int) -> tuple[bytes, MissingMemory | None]:
    """The bytes from an address to the first one that cannot be read, and why that one cannot be."""
    try:
        return memory.read(start, size), None
    except MissingMemory as error:
        return memory.read(start, error.address - start) if start < error.address else b"", error


def _is_hole(memory: Memory, missing: MissingMemory) -> bool:
    """Whether a byte is not in the dump, but another byte of its page is. libkdumpfile reads such bytes as zeros."""
    starts = [max(segment.start, missing.page) for segment in memory.segments if missing.page < segment.end]
    return missing.state is PageState.ABSENT and any(
        start < missing.page + PAGE and memory.page_state(start) is not PageState.ABSENT for start in starts
    )


def _shown(data: Sequence[int | None], start: int, size: int) -> str:
    """Bytes, or numbers of `size` bytes, in hexadecimal: 16 bytes a line."""
    out = ""
    for place in range(0, len(data), size):
        value = [byte for byte in data[place : place + size] if byte is not None]
        out += f"{int.from_bytes(value, 'little'):0{2 * size}X}" if len(value) == size else "??" * size
        out += " " if (start + place + size) % 16 else "\n"
    return out if out.endswith("\n") else out + "\n"


# -- checkattr ---------------------------------------------------------------------------------------------


def _checkattr(files: Sequence[str]) -> tuple[int, str]:
    text = sys.stdin.read().replace("\\\n", "")
    wanted = [(key.strip(), value.strip()) for key, _, value in (line.partition("=") for line in text.splitlines())]
    with luoser.open(*files) as memory:
        wrong = [said for key, value in wanted if (said := _compared(memory, key, value)) is not None]
    return (FAILED, "; ".join(wrong)) if wrong else (0, "equal")


def _compared(memory: Memory, key: str, value: str) -> str | None:
    """How an attribute differs, in words. None if it does not, or if luoser does not have it."""
    kind, _, text = value.partition(":")
    lines = "linux.vmcoreinfo.lines."
    found: object
    match key:
        case "file.pagemap":
            return _compared_map(key, text, lambda place: memory.page_state(place) is PageState.PRESENT)
        case "memory.pagemap":
            return _compared_map(key, text, lambda place: any(s.start <= place < s.end for s in memory.segments))
        case "file.format" if text.strip() in _FORMATS:
            found, text = memory.format, _FORMATS[text.strip()]
        case "arch.name" if text.strip() in _MACHINES:
            found, text = memory.machine, str(_MACHINES[text.strip()])
        case "arch.page_size" if memory.page_size is not None:
            found = memory.page_size
        case _ if key.startswith(lines) and kind == "string":
            found = memory.vmcoreinfo.get(key.removeprefix(lines))
        case _:
            return None
    return None if str(found) == text.strip() else f"{key}: expected {text.strip()}, found {found}"


def _compared_map(key: str, text: str, is_set: Callable[[int], bool]) -> str | None:
    """How a map of pages differs: one bit a page, the lowest bit of the first byte for page 0. The rest is clear.

    is_set: whether a page, by its address, is to be in the map.
    """
    bits = b"".join(int(number, 0).to_bytes(1, "little") for number in text.split()) + bytes(2)
    wanted = [page for page in range(8 * len(bits)) if bits[page // 8] >> page % 8 & 1]
    found = [page for page in range(8 * len(bits)) if is_set(page * PAGE)]
    return None if found == wanted else f"{key}: expected pages {wanted}, found {found}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
