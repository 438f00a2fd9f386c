# SPDX-License-Identifier: MIT
"""The fixtures. pytest finds them by the entry point `pytest11`; in a run that uses none nothing else is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pytest

from luoser.testing.guest import Guest

if TYPE_CHECKING:
    import os
    from pathlib import Path

__all__ = ["GuestOpener", "ImageMaker", "luoser_guest", "luoser_image"]


class ImageMaker:
    """What the fixture `luoser_image` is."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def __call__(
        self,
        description: Mapping[str, Any] | str | os.PathLike[str],
        *,
        form: Literal["elf", "raw"] = "elf",
        kernel: str = "7.3",
        layout: str | None = None,
        blob: str | None = None,
        mutate: str | None = None,
        machine: str | None = None,
        base: int | None = None,
    ) -> Path:
        """A new file in `tmp_path`: the memory of a handover, or one blob, as described.

        description: and others: as of `luoser.build`.
        form:        of the memory: an ELF core, or a flat image.

        Raises UsageError, also where the bytes are not as described, SourceError for a file that cannot be read.
        """
        import luoser
        from luoser.errors import UsageError
        from luoser.writer.image import write_image

        made = luoser.build(
            description, kernel=kernel, layout=layout, blob=blob, mutate=mutate, machine=machine, base=base
        )
        if made.differences:
            raise UsageError(f"not made as described: {'; '.join(made.differences)}")
        self._count += 1
        target = self._folder / f"luoser-{self._count}.{'bin' if made.blob is not None else form}"
        if made.blob is not None:
            target.write_bytes(made.blob)
        else:
            assert made.image is not None
            write_image(str(target), made.image, form, force=False)
        return target


class GuestOpener:
    """What the fixture `luoser_guest` is."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened

    def __call__(self, socket: str | os.PathLike[str], *, pause: bool = True) -> Guest:
        """A guest, until the end of a `with`, or of the test. The parameters are those of `luoser.testing.Guest`."""
        return self._opened.enter_context(Guest(socket, pause=pause))


@pytest.fixture
def luoser_image(tmp_path: Path) -> ImageMaker:
    """luoser_image(description): the path of a file with a handover that luoser builds."""
    return ImageMaker(tmp_path)


@pytest.fixture
def luoser_guest() -> Iterator[GuestOpener]:
    """luoser_guest(socket): a QEMU guest, stopped until the end of a `with`, or of the test."""
    with ExitStack() as opened:
        yield GuestOpener(opened)
