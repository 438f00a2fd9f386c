# SPDX-License-Identifier: MIT
"""The shipped goldens that `luoser build` makes, of the descriptions in luoser.testing.goldens.

`python -m tests.golden_set` remakes fixtures/golden/lists and fixtures/golden/luo. What is larger than a page is
packed; the test compares what is inside.
"""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path

from luoser.testing.goldens import golden, golden_names
from tests.golden import GOLDEN

__all__ = ["files", "main", "unpacked"]

_PAGE = 4096


def files() -> Iterator[tuple[str, bytes]]:
    """(path below fixtures/golden, bytes) of each."""
    return ((name, golden(name)) for name in golden_names())


def unpacked(path: str) -> bytes:
    """What a shipped golden holds."""
    place = GOLDEN / path
    return place.read_bytes() if place.exists() else lzma.decompress(Path(f"{place}.xz").read_bytes())


def main() -> None:
    """Write them all anew."""
    for folder in ("lists", "luo"):
        shutil.rmtree(GOLDEN / folder, ignore_errors=True)
    for path, data in files():
        place = GOLDEN / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if len(data) <= _PAGE:
            place.write_bytes(data)
        else:
            Path(f"{place}.xz").write_bytes(lzma.compress(data, preset=9))


if __name__ == "__main__":
    main()
