# SPDX-License-Identifier: MIT
"""Kernels whose VMCOREINFO is lost."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from luoser.kernel.kallsyms import find_kallsyms
from luoser.kernel.shape import kallsyms_places, recovered_infos
from luoser.kernel.space import AddressSpace
from luoser.reader.kernel import find_kernels
from luoser.reader.walk import Walk
from tests.kernel.made import IMAGE, Ram, Tables

WORD = (1 << 64) - 1
ARM_IMAGE = 0xFFFF_A1B2_8000_0000
VARIABLES = {
    "x86-64": {
        b"phys_base": None,
        b"pgdir_shift": struct.pack("<I", 48),
        b"sme_me_mask": struct.pack("<Q", 1 << 47),
        b"vmalloc_base": struct.pack("<Q", 0xFF52_F0A3_8000_0000),
    },
    "arm64": {
        b"kimage_voffset": None,
        b"memstart_addr": struct.pack("<Q", 0x4000_0000),
        b"high_memory": struct.pack("<Q", 0xFFFF_0000_8000_0000),
    },
}


def made(machine: str, form: str, *, ran: bool = True) -> tuple[Ram, Tables, int]:
    """(memory, tables, physical address of the image). ran: the kernel has written where it lies."""
    image, place = (IMAGE, 0x1240_0000) if machine == "x86-64" else (ARM_IMAGE, 0x4321_0000)
    names = [
        b"_text",
        b"_stext",
        b"linux_banner",
        b"swapper_pg_dir",
        b"init_uts_ns",
        b"init_top_pgt",
        *VARIABLES[machine],
    ]
    symbols = [(image + 0x1000 * number, "D", name) for number, name in enumerate(names)]
    symbols += [(image + 0x10_0000 + 16 * number, "t", b"function_%d" % number) for number in range(600)]
    tables = Tables(
        symbols=symbols,
        form="near" if form == "near" else "base",
        align=4 if form == "near" else 8,
        at=image + 0x20_0000,
        base=image,
    )
    ram, delta = Ram(), place - image
    data, _ = tables.written()
    ram.write(tables.at + delta, data)
    ram.write(tables.at + delta + len(data), bytes(0x1000))
    ram.write(tables.at + delta - 0x1_0000, bytes(0x1_0000))
    for address, _, name in symbols:
        value = VARIABLES[machine].get(name)
        if name == b"linux_banner":
            value = b"Linux version 7.3.4 (lab) #1\n"
        elif name == b"phys_base":
            value = struct.pack("<q", delta + 0xFFFF_FFFF_8000_0000 if ran else 1)
        elif name == b"kimage_voffset":
            value = struct.pack("<Q", -delta & WORD if ran else 1)
        if value is not None:
            ram.write(address + delta, value)
    return ram, tables, place


def only(ram: Ram) -> Mapping[str, str]:
    (info,) = recovered_infos(ram, kallsyms_places(ram))
    return info


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
@pytest.mark.parametrize("form", ["near", "base"])
def test_what_vmcoreinfo_would_say(machine: str, form: str) -> None:
    ram, tables, place = made(machine, form)
    info = only(ram)
    image = tables.symbols[0][0]
    assert info["OSRELEASE"] == "7.3.4"
    assert int(info["SYMBOL(_stext)"], 16) == image + 0x1000
    _, places = tables.written()
    for name in ("names", "num_syms", "token_table", "token_index", "offsets"):
        assert int(info[f"SYMBOL(kallsyms_{name})"], 16) == places[name], name
    assert AddressSpace(ram, info).image(image) == place


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
@pytest.mark.parametrize("form", ["near", "base"])
def test_its_symbols_are_found_by_it(machine: str, form: str) -> None:
    ram, tables, _ = made(machine, form)
    found = find_kallsyms(AddressSpace(ram, only(ram)))
    assert [(one.address, one.kind, one.name.encode()) for one in found] == list(tables.symbols)


def test_how_addresses_of_x86_lead_to_memory() -> None:
    info = only(made("x86-64", "near")[0])
    assert info["NUMBER(pgtable_l5_enabled)"] == "1"
    assert int(info["NUMBER(sme_mask)"]) == 1 << 47
    assert int(info["NUMBER(VMALLOC_START)"], 16) == 0xFF52_F0A3_8000_0000


def test_how_addresses_of_arm64_lead_to_memory() -> None:
    info = only(made("arm64", "near")[0])
    assert (info["NUMBER(VA_BITS)"], int(info["NUMBER(PHYS_OFFSET)"], 16)) == ("48", 0x4000_0000)


@pytest.mark.parametrize("machine", ["x86-64", "arm64"])
def test_an_image_that_never_ran_is_none(machine: str) -> None:
    ram = made(machine, "base", ran=False)[0]
    assert list(recovered_infos(ram, kallsyms_places(ram))) == []


def test_digits_without_tables_are_none() -> None:
    ram = Ram()
    ram.write(0x1000, bytes(0x1000) + b"".join(bytes((digit, 0)) for digit in b"0123456789") * 8 + bytes(0x1000))
    assert list(recovered_infos(ram, kallsyms_places(ram))) == []


def test_a_reader_takes_the_kernel_without_a_note() -> None:
    ram, _, _ = made("x86-64", "near")
    (kernel,) = find_kernels(Walk(ram, 4096), None)
    assert kernel.is_found and kernel.symbols.path == "kernel 7.3.4"
