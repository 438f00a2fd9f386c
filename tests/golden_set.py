# SPDX-License-Identifier: MIT
"""The shipped goldens that `luoser build` makes: device lists at their folios' steps, LUO at its blocks' edges.

`python -m tests.golden_set` remakes fixtures/golden/lists and fixtures/golden/luo. What is larger than a page is
packed; the test compares what is inside.
"""

from __future__ import annotations

import io
import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luoser.abi.pci import LAYOUTS, PciLayout
from luoser.extracts.core import write_core
from luoser.state.from_json import from_document
from luoser.writer import write
from luoser.writer.complete import complete
from luoser.writer.spec import blob_bytes
from tests.golden import GOLDEN

__all__ = ["files", "main", "unpacked"]

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


def device(form: PciLayout, number: int) -> dict[str, Any]:
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


def lists(form: PciLayout) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name, devices) of each golden of a form."""
    for count in COUNTS:
        yield f"{count:03d}", [device(form, number) for number in range(count)]
    yield "domain-ffff", [{**device(form, 0), "bdf": "ffff:01:00.0"}]
    if form.family == "A":
        yield "domain-10000", [{**device(form, 0), "bdf": "10000:01:00.0"}]
    if form.flags is not None:
        names = form.record.field(form.flags).bit_names
        values = (*names, sum(names))
        yield "flags", [{**device(form, number), form.flags: value} for number, value in enumerate(values)]


def files() -> Iterator[tuple[str, bytes]]:
    """(path below fixtures/golden, bytes) of each."""
    for form in LAYOUTS:
        for name, devices in lists(form):
            if form.blocks is None:
                data = blob_bytes({"layout": form.name, "devices": devices})[1]
                yield f"lists/{form.name}/{name}.bin", data
            else:
                entry = {"layout": form.name, "devices": devices}
                yield f"lists/{form.name}/{name}.elf", _image({"pci": [entry]}, "7.3")
    for name, (kernel, sessions, count) in LUO.items():
        made = [{"name": f"session-{number:03d}"} for number in range(sessions)]
        made[0] = {**made[0], "files": [{"token": token} for token in range(count)]}
        yield f"luo/{name}.elf", _image({"luo": {"sessions": made}}, kernel)


def _image(handover: dict[str, Any], kernel: str) -> bytes:
    image = write(from_document(complete({"handovers": [handover]}, kernel=kernel)))
    file = io.BytesIO()
    write_core(file, image.memory(), image.pages, knows_ram=False)
    return file.getvalue()


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
