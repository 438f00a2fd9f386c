# SPDX-License-Identifier: MIT
"""The output of lspci: records of `-vmm`, and lists of devices with hex dumps of their configuration space."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from luoser.text import parse_bdf, safe_text
from luoser.topology.build import Found, Remarks
from luoser.topology.config import CONFIG_SIZE, fill, parse_config
from luoser.topology.model import Address, Device

__all__ = ["DUMP", "RECORDS", "read_dump", "read_records", "unpasted"]

RECORDS = re.compile(rb"^Slot:[ \t]", re.MULTILINE)
DUMP = re.compile(rb"^(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?:[\s/]|$)", re.MULTILINE)

_QUOTE = re.compile(rb"[ \t]*(?:[>|] ?)+")
_SPACES = re.compile(rb"(?m)^ +")
_LINE_SIZE = 4096
_NAME_SIZE = 256
_BRACKETS = re.compile(r".*\[([0-9a-f]{4})\]")
_DIGITS = re.compile(r"[0-9a-f]{4}")
_BYTE = re.compile(r"[0-9a-f]{2}")

_BDF = r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_MAIL_LINES = 3
"""Most lines of a mail above a quotation, such as "On Monday somebody wrote:"."""
_HEAD = re.compile(rf"((?:[0-9a-f]{{4,8}}:)?{_BDF})((?:/{_BDF})*)(?: (.*))?")
"""Address, or with -PP first the addresses of the bridges above it; then the description."""
_IDS = re.compile(r"[0-9a-f]{4}: ([0-9a-f]{4}):([0-9a-f]{4})(?: .*)?")  # of -n
_NAMES_AND_IDS = re.compile(r"[^\[\]]* \[[0-9a-f]{4}\]: .*\[([0-9a-f]{4}):([0-9a-f]{4})\](?: .*)?")  # of -nn
_HEX = re.compile(r"([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*")
_DRIVER = re.compile(r"\tKernel driver in use: (.*)")
_MODULES = "\tKernel modules: "
_MASTER = re.compile(r"\tControl: .*\bBusMaster([+-]).*")
_BUSES = re.compile(r"\tBus: primary=[0-9a-f]{2}, secondary=([0-9a-f]{2}), subordinate=([0-9a-f]{2}),.*")


def unpasted(data: bytes) -> bytes:
    """The output of lspci as it was before somebody pasted it: without marks of a quotation and an indentation that all
    lines have, and with tabs where there are spaces now. Lines of a mail above a quotation become empty.
    """
    data = data.replace("\u00a0".encode(), b" ")  # of a page of the web
    lines = data.splitlines(keepends=True)
    if not lines or not any(line[:1] in b" >|\t" and line.strip() for line in lines):
        return data
    marks = [_QUOTE.match(line) for line in lines]
    plain = [place for place, line in enumerate(lines) if not marks[place] and line.strip()]
    above = plain[-1] + 1 if plain else 0
    if above <= _MAIL_LINES and any(marks):
        quoted = zip(marks[above:], lines[above:], strict=True)
        lines = [b"\n"] * above + [line[mark.end() :] if mark else line for mark, line in quoted]
    indent = min((len(line) - len(line.lstrip(b" \t")) for line in lines if line.strip()), default=0)
    joined = b"".join(line[indent:] if line.strip() else b"\n" for line in lines)
    deep = [len(found) for found in _SPACES.findall(joined)]
    unit = min(deep, default=0)
    return _SPACES.sub(lambda found: b"\t" * (len(found[0]) // unit), joined) if unit else joined


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(io.BytesIO(data), 1):
        yield number, raw[:_LINE_SIZE].decode("utf-8", "surrogateescape").rstrip("\r\n")


# -- lspci -vmm -------------------------------------------------------------------------------------------


def read_records(data: bytes, remarks: Remarks) -> Iterator[Found]:
    """The devices in the output of `lspci -vmm`, optionally with -n, -nn, -k, -D.

    It has no hierarchy and no configuration space.

    remarks: gets a remark for each line that is ignored.

    Raises FormatError for an output that is almost entirely malformed.
    """
    # Without -k no record has a driver; with -k only records of devices with a driver have one.
    has_drivers = re.search(rb"^(?:Driver|Module):[ \t]", data, re.MULTILINE) is not None
    record: dict[str, str] = {}
    first = 0
    for number, line in _lines(data):
        name, colon, value = line.partition(":")
        if line and not (colon and name.isalnum()):
            remarks.add(f"line {number}: expected a line of lspci -vmm, found {safe_text(line[:40])}; ignored")
            continue
        if record and (not line or name == "Slot"):
            yield from _record(record, first, has_drivers, remarks)
            record = {}
        if line:
            first = first if record else number
            record.setdefault(name, value.strip())
    if record:
        yield from _record(record, first, has_drivers, remarks)


def _record(record: dict[str, str], number: int, has_drivers: bool, remarks: Remarks) -> Iterator[Found]:
    try:
        domain, bdf = parse_bdf(record.get("Slot", ""))
    except ValueError:
        slot = safe_text(record.get("Slot", "")[:40]) or "nothing"
        remarks.add(f"line {number}: expected a PCI address as the slot of a record, found {slot}; ignored")
        return
    kind, vendor, device = _ids(record)
    prog_if = record.get("ProgIf", "00")  # older versions omit zeros
    driver = record.get("Driver", "")[:_NAME_SIZE] if has_drivers else None
    class_code = kind << 8 | int(prog_if, 16) if kind is not None and _BYTE.fullmatch(prog_if) else None
    found = Device(domain=domain, bdf=bdf, class_code=class_code, vendor=vendor, device=device, driver=driver)
    yield Found(device=found, place=f"line {number}")


def _ids(record: dict[str, str]) -> tuple[int | None, int | None, int | None]:
    """(class, vendor, device) if all are numbers, else None for each.

    `[ffff]` at the end of the class only does not imply -nn: lspci prints it for classes without a name.
    """
    values = [record.get(name, "") for name in ("Class", "Vendor", "Device")]
    for form, group in ((_BRACKETS, 1), (_DIGITS, 0)):
        matches = [form.fullmatch(value) for value in values]
        if all(matches):
            first, second, third = (int(match[group], 16) for match in matches if match is not None)
            return first, second, third
    return None, None, None


# -- lspci -x ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Section:
    """A device of the list while its lines are read.

    number:    of its first line.
    data:      bytes of its configuration space.
    is_broken: a line of bytes was malformed, so the later ones are ignored.
    """

    device: Device
    number: int
    above: tuple[Address, ...] = ()
    data: bytearray = field(default_factory=bytearray)
    is_broken: bool = False


def read_dump(data: bytes, remarks: Remarks) -> Iterator[Found]:
    """The devices in the output of `lspci`, optionally with -x, -xxx, -xxxx, -v, -n, -nn, -k, -PP, -D.

    remarks: gets a remark for each line that is ignored.

    Raises FormatError for an output that is almost entirely malformed.
    """
    has_drivers = re.search(rb"^\tKernel (?:driver in use|modules): ", data, re.MULTILINE) is not None
    section: _Section | None = None
    for number, line in _lines(data):
        head = _HEAD.fullmatch(line)
        if head is not None:
            if section is not None:
                yield _finish(section, remarks)
            section = _section(head, number, has_drivers, remarks)
        elif section is not None and not line.startswith("\t"):
            _hex(section, number, line, remarks)
        elif section is not None:
            section.device = _detail(section.device, line)
        elif line.strip():
            remarks.add(f"line {number}: {safe_text(line[:40])} is not below a device; ignored")
    if section is not None:
        yield _finish(section, remarks)


def _section(head: re.Match[str], number: int, has_drivers: bool, remarks: Remarks) -> _Section | None:
    first, path, words = head.groups("")
    try:
        domain, bdf = parse_bdf(first)
        addresses = [(domain, bdf), *((domain, parse_bdf(name)[1]) for name in path.split("/")[1:])]
    except ValueError:
        remarks.add(f"line {number}: expected a PCI address, found {safe_text((first + path)[:40])}; ignored")
        return None
    ids = _IDS.fullmatch(words) or _NAMES_AND_IDS.fullmatch(words)
    device = Device(domain=domain, bdf=addresses[-1][1], driver="" if has_drivers else None)
    if ids is not None:
        device = replace(device, vendor=int(ids[1], 16), device=int(ids[2], 16))
    return _Section(device, number, tuple(addresses[:-1]))


def _hex(section: _Section, number: int, line: str, remarks: Remarks) -> None:
    """Add one line of bytes to its device. A line at an unexpected offset ends the bytes of the device."""
    match = _HEX.fullmatch(line)
    if match is None or section.is_broken:
        if line.strip() and not section.is_broken:
            remarks.add(f"line {number}: expected a line of lspci, found {safe_text(line[:40])}; ignored")
        return
    if int(match[1], 16) != len(section.data) or len(section.data) >= CONFIG_SIZE:
        remarks.add(
            f"line {number}: {section.device.name}: expected bytes at {len(section.data):02x}, found bytes at "
            f"{match[1]}; the rest of its bytes is ignored"
        )
        section.is_broken = True
        return
    section.data += bytes.fromhex(match[2])


def _detail(device: Device, line: str) -> Device:
    """The device with the facts from a line of -k or -v below it."""
    if (match := _DRIVER.fullmatch(line)) is not None:
        return replace(device, driver=match[1].strip()[:_NAME_SIZE])
    if (match := _MASTER.fullmatch(line)) is not None:
        return replace(device, busmaster=match[1] == "+")
    if (match := _BUSES.fullmatch(line)) is not None:
        return replace(device, is_bridge=True, secondary_bus=int(match[1], 16), subordinate_bus=int(match[2], 16))
    return device


def _finish(section: _Section, remarks: Remarks) -> Found:
    device = section.device
    config = parse_config(bytes(section.data), device.bdf)
    if config is not None:
        device = fill(device, config)
    elif section.data:
        remarks.add(
            f"line {section.number}: {device.name}: configuration space of {len(section.data)} bytes ignored: too few, "
            "or all are ff because the device does not answer"
        )
    return Found(device=device, place=f"line {section.number}", above=section.above, config=config)
