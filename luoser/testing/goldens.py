# SPDX-License-Identifier: MIT
"""Goldens by name: device lists at their folios' steps, LUO at its blocks' edges.

They are made when they are asked for, of the descriptions here, and are byte for byte the files of fixtures/golden in
the source. Those of fixtures/golden that luoser does not make are packed apart from it, to test it, and not here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luoser.abi.pci import PciLayout

__all__ = ["COUNTS", "LUO", "golden", "golden_names", "lists"]

Json = dict[str, Any]
COUNTS = (0, 1, 2, 51, 52, 255, 256)
"""Around one KHO block page of 51 long entries, and around the folio of 4096 bytes of the 16-byte form."""
LUO = {
    "sessions-51": ("7.3", 51, 0),
    "sessions-52": ("7.3", 52, 0),
    "files-63": ("7.3", 1, 63),
    "files-64": ("7.3", 1, 64),
    "sessions-819": ("7.1", 819, 0),
    "files-128": ("7.1", 1, 128),
}
"""Kernel, sessions, files of the first one: the last that fit, and the first that do not, of each form."""
_PAGE = 4096


def golden(name: str | os.PathLike[str]) -> bytes:
    """A golden: one blob (`.bin`), or an ELF core with the memory of a handover (`.elf`).

    name: such as `lists/pci-v2-u64/052.bin` or `luo/files-64.elf`; `golden_names` has all.

    Raises UsageError for an unknown name.
    """
    from luoser.errors import UsageError
    from luoser.text import did_you_mean, safe_text

    name = os.fspath(name)
    found = next((made for each, made in _described(name) if each == name), None)
    if found is None:
        raise UsageError(
            f"golden {safe_text(name)}: no such name{did_you_mean(name, golden_names())}; golden_names() has all"
        )
    kernel, description = found
    return _blob(description) if name.endswith(".bin") else _image(description, kernel)


def golden_names() -> tuple[str, ...]:
    """The names of all goldens, in the order of the layouts."""
    return tuple(name for name, _ in _described())


def _described(name: str = "") -> Iterator[tuple[str, tuple[str, Json]]]:
    """Names, and for each the kernel and the description of a list or of a handover.

    name: of the only one to be found, for whose sake others are left out. Empty: all.
    """
    from luoser.abi.pci import LAYOUTS

    for form in LAYOUTS:
        if name and not name.startswith(f"lists/{form.name}/"):
            continue
        for which, devices in lists(form):
            entry = {"layout": form.name, "devices": devices}
            if form.blocks is None:
                yield f"lists/{form.name}/{which}.bin", ("7.3", entry)
            else:
                yield f"lists/{form.name}/{which}.elf", ("7.3", {"pci": [entry]})
    for which, (kernel, sessions, count) in LUO.items():
        made: list[Json] = [{"name": f"session-{number:03d}"} for number in range(sessions)]
        made[0] = {**made[0], "files": [{"token": token} for token in range(count)]}
        yield f"luo/{which}.elf", (kernel, {"luo": {"sessions": made}})


def lists(form: PciLayout) -> Iterator[tuple[str, list[Json]]]:
    """(name, devices) of each golden of a form."""
    for count in COUNTS:
        yield f"{count:03d}", [_device(form, number) for number in range(count)]
    yield "domain-ffff", [{**_device(form, 0), "bdf": "ffff:01:00.0"}]
    if form.family == "A":
        yield "domain-10000", [{**_device(form, 0), "bdf": "10000:01:00.0"}]
    if form.flags is not None:
        names = form.record.field(form.flags).bit_names
        values = (*names, sum(names))
        yield "flags", [{**_device(form, number), form.flags: value} for number, value in enumerate(values)]


def _device(form: PciLayout, number: int) -> Json:
    """A device with what the form has of it; buses and slots count up, so that every list is sorted."""
    known = {
        "flags": 1,
        "requested": 1,
        "refcount": 1,
        "driver_name": "vfio-pci",
        "driver_data": f"{0x10000000 + number * _PAGE:#x}",
    }
    made = {name: value for name, value in known.items() if name in form.record.record_fields}
    made |= {field.name: hex(number + 1) for field in form.record.fields if field.kind == "token"}
    return {"bdf": f"0000:{1 + number // 32:02x}:{number % 32:02x}.0", **made}


def _blob(description: Json) -> bytes:
    from luoser.writer.spec import blob_bytes

    return blob_bytes(description)[1]


def _image(handover: Json, kernel: str) -> bytes:
    import io

    from luoser.extracts.core import write_core
    from luoser.state.from_json import from_document
    from luoser.writer import write
    from luoser.writer.complete import complete

    image = write(from_document(complete({"handovers": [handover]}, kernel=kernel)))
    file = io.BytesIO()
    write_core(file, image.memory(), image.pages, knows_ram=False)
    return file.getvalue()
