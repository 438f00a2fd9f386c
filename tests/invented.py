# SPDX-License-Identifier: MIT
"""Device lists of layouts that no kernel has, entered where a new one would be, and a walk through all commands.

`python -m tests.invented FOLDER` puts them into luoser.abi.pci before any other module is there, makes what
`make docs` and `make golden` make of them, and runs every command on such lists. It prints what came out as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from luoser.abi import pci
from luoser.abi.pci import PciLayout, Posting
from luoser.abi.schema import Schema, flags, flex, in_bytes, natural, packed, phys, token, u16, u32, u64

__all__ = ["CHANGE", "DEVICES", "FORMS"]

_PLACE = ("domain" / u32 * "PCI domain", "bdf" / u16 * "bus << 8 | devfn")


def _schema(name: str, label: str, struct: Any) -> Schema:
    return Schema(name, label, struct, status="posted", seen_in="nowhere", meaning="Invented.")


_DEV = _schema(
    "pci_dev_ser", "invented", packed(*_PLACE, "kind" / u16 * "of device", "token" / token(u64) * "user space chose it")
)
_HEAD = _schema(
    "pci_ser",
    "invented",
    packed("version" / u32 * "77", "count" / u32 * "entries", "flags" / u64 * "0", "devices" / flex(_DEV) * "entries"),
)
_HEAD_BLOCK = _schema(
    "pci_ser",
    "invented, blocks",
    packed(
        "version" / u32 * "78",
        "in_use" / u32 * "entries",
        "mode" / flags(u32, {1: "FAST", 2: "SAFE"}) * "of the list",
        "first" / phys * "first block of entries",
    ),
)
_DEV_A = _schema(
    "pci_dev_ser", "invented, family A", natural("path" / u32 * "", "owner" / u16 * "", "token" / token(u64) * "")
)
_HEAD_A = _schema("pci_ser", "invented, family A", natural("count" / u32 * "", "devs" / flex(_DEV_A) * ""))
_DEV_BITS = _schema(
    "pci_dev_ser",
    "invented, named bits",
    natural(*_PLACE, "flags" / flags(u16, {1: "HOT", 4: "COLD"}) * "", "length" / in_bytes(u64) * ""),
)
_HEAD_BITS = _schema("pci_ser", "invented, named bits", natural("count" / u32 * "", "devices" / flex(_DEV_BITS) * ""))

FORMS = (
    PciLayout(
        name="pci-invented", family="B", header=_HEAD, record=_DEV, count="count", version=77,
        postings={"pci": Posting()}, summary="a token for each device",
    ),
    PciLayout(
        name="pci-invented-block", family="B", header=_HEAD_BLOCK, record=_DEV, count="in_use", version=78,
        blocks="first", postings={"pci-invented-flb": Posting()}, summary="the same in blocks",
    ),
    PciLayout(
        name="pci-invented-a", family="A", header=_HEAD_A, record=_DEV_A, count="count",
        summary="nothing says who asked for live update",
    ),
    PciLayout(
        name="pci-invented-bits", family="B", header=_HEAD_BITS, record=_DEV_BITS, count="count",
        postings={"pci-invented-flb": Posting()}, summary="bits of its own",
    ),
)  # fmt: skip

_TOKENS = ({"bdf": "0000:41:00.0", "token": "0x617000"}, {"bdf": "0000:40:00.0", "token": "0x1a"})
DEVICES: dict[str, tuple[dict[str, Any], ...]] = {
    "pci-invented": tuple({**device, "kind": 7} for device in _TOKENS),
    "pci-invented-block": tuple({**device, "kind": 7} for device in _TOKENS),
    "pci-invented-a": tuple({**device, "owner": 7} for device in _TOKENS),
    "pci-invented-bits": (
        {"bdf": "0000:41:00.0", "flags": 4, "flag_names": ["COLD"], "length": "0x2000"},
        {"bdf": "0000:40:00.0", "flags": 0, "flag_names": [], "length": "0x10"},
    ),
}
"""What each list says, as a document has it."""
CHANGE = {form.name: ("token", "0x618000") for form in FORMS} | {"pci-invented-bits": ("length", "0x3000")}
"""The member of the first device that another image has otherwise."""


def _enter() -> None:
    """The one place where a layout is entered by hand."""
    pci.LAYOUTS = (*pci.LAYOUTS, *FORMS)
    pci._BY_NAME.update((form.name, form) for form in FORMS)


class _Walk:
    """The commands on one list, with files in a folder of its own."""

    def __init__(self, folder: Path, form: PciLayout) -> None:
        self.folder, self.form = folder, form
        folder.mkdir()

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a command; words that name a file here are its path."""
        from click.testing import CliRunner

        from luoser.cli.main import cli

        own = [str(self.folder / word.removeprefix("@")) if word.startswith("@") else word for word in words]
        result = CliRunner().invoke(cli, own)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def spec(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def results(self) -> dict[str, Any]:
        names = {field.name for field in self.form.record.fields} | {"bdf"}
        devices = [
            {name: value for name, value in device.items() if name in names} for device in DEVICES[self.form.name]
        ]
        member, value = CHANGE[self.form.name]
        for name, first in (("image", devices[0]), ("changed", {**devices[0], member: value})):
            entry = {"layout": self.form.name, "devices": [first, *devices[1:]]}
            luo = {"sessions": [{"name": "vm", "files": [{"token": 1}]}]}
            self.spec(f"{name}.json", {"handovers": [{"luo": luo, "pci": [entry]}]})
        found: dict[str, Any] = {}
        for name in ("image", "changed"):
            found[f"build {name}"] = self.run("build", f"@{name}.json", "-o", f"@{name}.elf", "--format", "elf")
        found["inspect"] = self.run("inspect", "@image.elf", "--format", "json")
        code, text = self.run("inspect", "@image.elf", "--full", "--format", "json")
        (self.folder / "full.json").write_text(text)
        found["inspect --full"] = code, text
        found["build again"] = self.run("build", "@full.json", "-o", "@again.elf", "--format", "elf")
        found["cmp"] = int((self.folder / "again.elf").read_bytes() != (self.folder / "image.elf").read_bytes()), ""
        found["check"] = self.run("check", "@image.elf", "--format", "json")
        if self.form.blocks is None:
            self.run("build", "@image.json", "-o", "@twins.elf", "--format", "elf", "--mutate", "PCI002")
            found["check twins"] = self.run("check", "@twins.elf", "--format", "json")
        found["diff"] = self.run("diff", "@image.elf", "@changed.elf", "--format", "json")
        found["hexdump"] = self.run("hexdump", "@image.elf", "pci[0]")
        found["pci"] = self.run("pci", "@image.elf")
        found["extract"] = self.run("extract", "@image.elf", "--blob", "pci[0]", "-o", "@blob")
        found["detect"] = self.run("abi", "detect", "@blob")
        found["decode"] = self.run("decode", "@blob", "--format", "json")
        found["show"] = self.run("abi", "show", self.form.name)
        found["kunit"] = self.run("build", "@image.json", "--blob", "pci[0]", "-o", "@test.c", "--format", "kunit")
        return found


def _made(folder: Path) -> dict[str, Any]:
    """What the generators make of them; commands and validators get the schema that `make docs` would write."""
    from luoser.writer import description
    from tests import abi_pages, golden_set, layout_table, schemas, state_schema

    shipped = state_schema.FILE.parent
    for file in shipped.glob("*.schema.json"):
        (folder / file.name).write_text(file.read_text())
    (folder / state_schema.FILE.name).write_text(
        json.dumps(state_schema.made(json.loads(state_schema.FILE.read_text())))
    )
    for module in (description, schemas):
        module.files = lambda package: folder  # type: ignore[attr-defined]
    page = abi_pages.page_text("pci.md")
    return {
        "page": abi_pages.made(page),
        "shown": abi_pages.shown(page),
        "table": layout_table.page(),
        "goldens": sorted(path for path, _ in golden_set.files()),
    }


def main() -> None:
    _enter()
    folder = Path(sys.argv[1])
    found: dict[str, Any] = {"made": _made(folder)}
    from tests.schemas import errors

    for form in FORMS:
        found[form.name] = results = _Walk(folder / form.name, form).results()
        documents = {name: result[1] for name, result in results.items() if str(result[1]).startswith("{")}
        results["errors"] = {name: errors(json.loads(text)) for name, text in documents.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
