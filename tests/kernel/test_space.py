# SPDX-License-Identifier: MIT
"""Virtual addresses: image, direct map and page tables of x86-64 and arm64, of every page size and width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoser.errors import MissingMemory
from luoser.kernel.space import AddressSpace, Unmapped, hex_number, info_number
from tests.kernel.made import IMAGE, Ram, map_arm64, map_x86

ROOT, TARGET = 0x200_0000, 0x1_2345_6000
VMALLOC = 0xFFFF_C900_1234_5000
VMALLOC5 = 0xFFA0_0012_3456_7000
KERNEL_MAP = 0xFFFF_FFFF_8000_0000
WORD = (1 << 64) - 1


def x86(ram: Ram, **more: str) -> AddressSpace:
    info = {"NUMBER(phys_base)": "0", "SYMBOL(swapper_pg_dir)": f"{KERNEL_MAP + ROOT:x}"}
    return AddressSpace(ram, info | {key.replace("__", "(") + ")": value for key, value in more.items()})


def arm64(ram: Ram, page: int, built: int, used: int, **more: str) -> AddressSpace:
    info = {
        "NUMBER(VA_BITS)": f"{built}",
        "NUMBER(PHYS_OFFSET)": "0x40000000",
        "NUMBER(kimage_voffset)": f"{IMAGE - 0x4100_0000:#x}",
        "NUMBER(TCR_EL1_T1SZ)": f"{64 - used:#x}",
        "SYMBOL(_stext)": f"{IMAGE:x}",
        "SYMBOL(swapper_pg_dir)": f"{IMAGE + ROOT - 0x4100_0000 & WORD:x}",
    }
    return AddressSpace(ram, info | more, page)


# -- x86-64 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "virtual"), [(4, VMALLOC), (5, VMALLOC5)])
@pytest.mark.parametrize(("last", "inside"), [(1, 0xABC), (2, 0x12_3ABC), (3, 0x1234_5ABC)], ids=["4K", "2M", "1G"])
def test_pages_of_all_sizes_by_four_and_five_levels(levels: int, virtual: int, last: int, inside: int) -> None:
    ram, size = Ram(), 1 << 12 + 9 * (last - 1)
    physical = 0x3_C000_0000
    map_x86(ram, ROOT, virtual & -size, physical, levels=levels, last=last, flags=1 << 63)
    space = x86(ram, NUMBER__pgtable_l5_enabled=f"{levels - 4}")
    assert space.physical((virtual & -size) + inside) == physical + inside


def test_the_attribute_bit_of_a_huge_page_is_no_address() -> None:
    ram = Ram()
    map_x86(ram, ROOT, VMALLOC & -(2 << 20), 0x4000_0000 | 1 << 12, last=2)
    assert x86(ram).physical(VMALLOC & -(2 << 20)) == 0x4000_0000


def test_the_encryption_bit_is_no_address() -> None:
    ram, mask = Ram(), 1 << 47
    map_x86(ram, ROOT, VMALLOC, TARGET, flags=mask)
    assert x86(ram, NUMBER__sme_mask=f"{mask}").physical(VMALLOC) == TARGET
    with pytest.raises(MissingMemory):
        x86(ram).physical(VMALLOC)


def test_an_entry_that_is_not_present_is_unmapped() -> None:
    ram = Ram()
    map_x86(ram, ROOT, VMALLOC, TARGET)
    with pytest.raises(Unmapped, match=r"level 1 of the page tables"):
        x86(ram).physical(VMALLOC + 0x1000)
    with pytest.raises(Unmapped, match=r"level 4 of the page tables"):
        x86(ram).physical(0xFFFF_F000_0000_0000)


def test_the_image_needs_no_tables_and_phys_base_may_be_negative() -> None:
    space = AddressSpace(Ram(), {"NUMBER(phys_base)": "-16777216"})
    assert space.physical(KERNEL_MAP + 0x200_0123) == 0x100_0123
    assert space.image(KERNEL_MAP + 0x200_0000) == 0x100_0000


def test_modules_are_no_image() -> None:
    ram = Ram()
    module = KERNEL_MAP + (1 << 30) + 0x1000
    map_x86(ram, ROOT, module, TARGET)
    assert x86(ram, NUMBER__KERNEL_IMAGE_SIZE=f"{1 << 30}").physical(module) == TARGET


def test_the_direct_map_ends_where_vmalloc_starts() -> None:
    ram = Ram()
    map_x86(ram, ROOT, VMALLOC, TARGET)
    space = x86(ram, NUMBER__VMALLOC_START=f"{0xFFFF_C900_0000_0000:#x}")
    space.page_offset = 0xFFFF_8880_0000_0000
    assert space.physical(0xFFFF_8880_0012_3456) == 0x12_3456
    assert space.physical(VMALLOC) == TARGET
    assert space.direct(VMALLOC) is None


def test_the_direct_map_ends_with_physical_addresses() -> None:
    """One bit in VMCOREINFO makes it seem to have no end: a pointer to a vmalloc area led to an address of 54 bits."""
    space = x86(Ram())
    space.page_offset = 0xFF35_81F0_0000_0000
    assert space.direct(space.page_offset + (1 << 52) - 1) == (1 << 52) - 1
    assert space.direct(space.page_offset + (1 << 52)) is None


@pytest.mark.parametrize("virtual", [0, 0x7FFF_FFFF_F000, (1 << 63) - 1])
def test_addresses_of_user_space_are_unmapped(virtual: int) -> None:
    with pytest.raises(Unmapped, match="is not an address of a kernel"):
        x86(Ram()).physical(virtual)


def test_without_the_place_of_the_tables_it_says_so() -> None:
    with pytest.raises(Unmapped, match="VMCOREINFO does not say where the page tables are"):
        AddressSpace(Ram(), {"NUMBER(phys_base)": "0"}).physical(VMALLOC)


# -- arm64 -------------------------------------------------------------------------------------------------

WIDTHS = [
    (0x1000, 39, 39),
    (0x1000, 48, 48),
    (0x1000, 52, 52),
    (0x1000, 52, 48),
    (0x4000, 47, 47),
    (0x4000, 48, 48),
    (0x4000, 52, 52),
    (0x4000, 52, 47),
    (0x10000, 42, 42),
    (0x10000, 48, 48),
    (0x10000, 52, 52),
    (0x10000, 52, 48),
]


@pytest.mark.parametrize(("page", "built", "used"), WIDTHS)
def test_pages_and_blocks_of_arm64(page: int, built: int, used: int) -> None:
    ram, lpa2 = Ram(), used == 52 and page < 0x10000
    walked = built if page == 0x10000 else used
    high = -(1 << used - 2) & WORD  # in the middle of vmalloc
    physical = 0xA_5678_0000_0000 if (built == 52 and used == 52) or page == 0x10000 else 0x5678_0000_0000
    map_arm64(ram, ROOT, high + 3 * page, physical + 3 * page, page=page, bits=walked, lpa2=lpa2)
    block = page << (page.bit_length() - 1) - 3
    map_arm64(ram, ROOT, high + block, physical + block, page=page, bits=walked, last=2, lpa2=lpa2)
    space = arm64(ram, page, built, used)
    assert space.physical(high + 3 * page + 5) == physical + 3 * page + 5
    assert space.physical(high + block + page + 7) == physical + block + page + 7
    with pytest.raises(Unmapped, match="is not mapped"):
        space.physical(high + 4 * page)


@pytest.mark.parametrize(("page", "built", "used"), WIDTHS)
def test_the_direct_map_of_arm64(page: int, built: int, used: int) -> None:
    space = arm64(Ram(), page, built, used)
    first = -(1 << built) & WORD
    assert space.direct(first + 0x12345) == 0x4000_0000 + 0x12345
    assert space.direct(-(1 << used - 1) & WORD) is None


def test_a_52_bit_kernel_on_less_moves_its_offset_below_zero() -> None:
    offset = 0x4000_0000 - ((1 << 52) - (1 << 48)) & WORD
    space = arm64(Ram(), 0x10000, 52, 48, **{"NUMBER(PHYS_OFFSET)": f"{offset:#x}"})
    assert space.direct((-(1 << 48) & WORD) + 0x1000) == 0x4000_1000


def test_the_tag_of_a_pointer_is_no_address() -> None:
    space = arm64(Ram(), 0x1000, 48, 48)
    assert space.physical(0xF3FF_0000_0012_3456) == 0x4012_3456


def test_the_image_of_arm64() -> None:
    space = arm64(Ram(), 0x1000, 48, 48)
    assert space.physical(IMAGE + 0x1234) == 0x4100_1234


def test_what_is_after_the_image_is_in_the_tables() -> None:
    """With KASLR the image of arm64 is among vmalloc areas: what comes after it is not at a fixed distance."""
    ram = Ram()
    other = IMAGE + (64 << 20)
    map_arm64(ram, ROOT, other, TARGET, page=0x1000, bits=48)
    assert arm64(ram, 0x1000, 48, 48).physical(other + 8) == TARGET + 8


def test_the_end_of_the_image_needs_no_tables_if_these_are_lost() -> None:
    assert arm64(Ram(), 0x1000, 48, 48).physical(IMAGE + (64 << 20)) == 0x4100_0000 + (64 << 20)


# -- reading -----------------------------------------------------------------------------------------------


def test_bytes_across_pages_that_are_apart() -> None:
    ram = Ram()
    for page, physical in ((0, 0x700_0000), (1, 0x500_0000), (2, 0x600_0000)):
        map_x86(ram, ROOT, VMALLOC + 0x1000 * page, physical)
        ram.write(physical, bytes([page + 1]) * 0x1000)
    space = x86(ram)
    assert space.read(VMALLOC + 0xFFE, 0x1004) == b"\1\1" + b"\2" * 0x1000 + b"\3\3"
    assert space.number(VMALLOC + 0xFFF, 2) == 0x0201
    assert space.holds(VMALLOC, 0x3000) and not space.holds(VMALLOC, 0x3001)


def test_pages_of_64_kib_are_forgotten_in_time() -> None:
    """Every page may be the same page of zeros: what is kept is bounded in bytes, not in pages."""

    class Zeros(Ram):
        def read(self, address: int, size: int) -> bytes:
            return bytes(size)

    space = AddressSpace(Zeros(), {"NUMBER(phys_base)": "0"}, 0x10000)
    for page in range(2000):
        space.number(KERNEL_MAP + 0x10000 * page, 8)
    assert sum(map(len, space._pages.values())) <= 64 << 20


def test_numbers_of_vmcoreinfo() -> None:
    info = {"a": "12", "b": "-5", "c": "0x1f", "d": "x", "e": "1" * 5000, "f": ""}
    assert [info_number(info, key) for key in "abcdefg"] == [12, -5, 31, None, None, None, None]
    assert hex_number({"k": "ffffffff81000000"}, "k") == IMAGE


KEYS = (
    *("phys_base", "VA_BITS", "PHYS_OFFSET", "kimage_voffset", "TCR_EL1_T1SZ", "sme_mask", "pgtable_l5_enabled"),
    *("VMALLOC_START", "KERNEL_IMAGE_SIZE"),
)


@given(
    st.dictionaries(
        st.sampled_from([f"NUMBER({key})" for key in KEYS] + ["SYMBOL(_stext)", "SYMBOL(swapper_pg_dir)"]),
        st.integers(-(1 << 70), 1 << 70).map(str) | st.integers(0, 64).map(str) | st.text(max_size=6),
    ),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0x1000, 0x4000, 0x10000]),
    st.binary(min_size=64, max_size=64),
)
def test_no_vmcoreinfo_breaks_it(info: dict[str, str], virtual: int, page: int, entries: bytes) -> None:
    ram = Ram()
    ram.write(ROOT, entries * 512)
    space = AddressSpace(ram, info, page)
    try:
        space.read(virtual, 64)
    except (Unmapped, MissingMemory) as error:
        assert str(error)
