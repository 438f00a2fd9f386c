# SPDX-License-Identifier: MIT
"""A blob as a KUnit suite, which compares each member of the kernel's own structs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from luoser.abi.registry import Layout
from luoser.errors import UsageError
from luoser.text import safe_text
from luoser.writer.golden.blob import Group, groups, table
from luoser.writer.golden.c_array import array_lines
from luoser.writer.golden.compare import Place, address, comparisons, indices
from luoser.writer.golden.declarations import assertions, c_type
from luoser.writer.golden.source import WIDTH, assignment, call, function, head, width
from luoser.writer.golden.stanzas import kconfig, makefile

__all__ = ["header_of", "kunit"]

_HEADERS = {
    "device_": "linux/kho/abi/iommu.h",
    "fdt_": "linux/libfdt.h",
    "guest_memfd_": "linux/kho/abi/kvm.h",
    "hugemfd_": "linux/kho/abi/hugetlb.h",
    "hugetlb_": "linux/kho/abi/hugetlb.h",
    "iommu_": "linux/kho/abi/iommu.h",
    "iommufd_": "linux/kho/abi/iommufd.h",
    "kho_block_": "linux/kho/abi/block.h",
    "kho_data": "asm/setup_data.h",
    "kho_kexec_": "linux/kho/abi/kexec_metadata.h",
    "kho_radix_": "linux/kho/abi/kexec_handover.h",
    "kho_scratch": "linux/kexec_handover.h",
    "kho_vmalloc": "linux/kho/abi/kexec_handover.h",
    "kvm_": "linux/kho/abi/kvm.h",
    "liveupdate_": "linux/liveupdate.h",
    "luo_": "linux/kho/abi/luo.h",
    "memfd_": "linux/kho/abi/memfd.h",
    "pci_": "linux/kho/abi/pci.h",
    "setup_data": "asm/setup_data.h",
    "vfio_pci_": "linux/kho/abi/vfio_pci.h",
}
"""Header that declares a struct, by the start of its name. For structs that are not merged, as in their series."""
_UNIONS = frozenset({"kho_vmalloc", "kho_vmalloc_hdr", "khoser_mem_chunk_hdr", "khoser_mem_bitmap_ptr"})


def kunit(
    *,
    name: str,
    layout: Layout,
    data: bytes,
    source: str,
    notes: Sequence[str] = (),
    include: Sequence[str] = (),
    in_tree: bool = False,
) -> str:
    """A C file with the array, assertions on the layout of its structs, and a KUnit suite with the name of the array.

    include: headers that declare the structs. Empty: the usual ones.
    in_tree: the kernel's build knows the file. If not, a comment has the lines for its Makefile and Kconfig, unless
             the structs are private to another file.

    The other parameters are those of `c_array`. Raises as `c_array` does, and UsageError for a bad header name.
    """
    found = groups(layout, data)
    headers, more = _headers(layout, [group.struct.tag for group in found])
    if include:
        headers, more = [*map(_checked, include)], []
    if not more and not in_tree:
        more = ["Makefile:", *makefile(name), "Kconfig:", *kconfig(name, layout)]
    lines = [*head(name, layout, data, source, notes, more), "#include <kunit/test.h>"]
    lines += [f"#include <{header}>" for header in headers]
    lines += ["", *array_lines(name, layout, data), ""]
    lines += assertions(group.struct for group in found)
    for group in found:
        lines += [*table(group, data, uapi=False), "", *_case(name, group), ""]
    return "\n".join([*lines, *_suite(name, layout, found), ""])


def _checked(header: str) -> str:
    if not header or not header.isascii() or not header.isprintable() or any(mark in header for mark in '<>"\\'):
        raise UsageError(f"{safe_text(header)!r} is not a valid name of a C header")
    return header


def _headers(layout: Layout, tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """(headers that declare these structs, notes on structs that no header declares)."""
    headers, notes = set(), []
    for tag in dict.fromkeys(tags):
        if header := header_of(layout, tag):
            headers.add(header)
        elif _is_private(layout):
            notes.append(f"struct {tag} is private to the PCI code of 2025: include this file there.")
        else:
            notes.append(f"No header declares struct {tag}: include this file where it is declared.")
    return sorted(headers), notes


def header_of(layout: Layout, tag: str) -> str | None:
    """The header that declares a struct of a layout. None: no header does."""
    if _is_private(layout):
        return None
    return next((header for start, header in _HEADERS.items() if tag.startswith(start)), None)


def _is_private(layout: Layout) -> bool:
    return layout.name.startswith(("pci-lu", "pci-resource"))


def _case(name: str, group: Group) -> list[str]:
    """C lines of the test case of one group."""
    struct, one = group.struct, group.count == 1
    indent = "\t" if one else "\t\t"
    at, row = group.each
    got = f"(const void *)({name} + at)" if group.aligned else "&copy"
    lines = [f"{indent}const size_t at = {at};"]
    if not group.aligned:
        lines.append(f"{indent}struct {struct.tag} copy;")
    lines += [
        *assignment(indent, f"const struct {struct.tag} *got", got),
        *assignment(indent, f"const struct {group.symbol}_want *want", row),
        *_declared(indices(group), indent),
        "",
    ]
    if not group.aligned:
        lines += call(indent, "memcpy(", ["&copy", f"{name} + at", "sizeof(copy)"])
    lines += comparisons(group, _expect, indent)
    if not one:
        lines = ["\tsize_t i;", "", f"\tfor (i = 0; i < {group.count}; i++) {{", *lines, "\t}"]
    return [*function("void", f"{name}_{group.symbol}(struct kunit *test)"), "{", *lines, "}"]


def _declared(names: Sequence[str], indent: str) -> list[str]:
    return [f"{indent}size_t {', '.join(names)};"] if names else []


def _expect(place: Place, indent: str) -> list[str]:
    member, got, want = place.member, f"got->{place.path}", f"want->{place.path}"
    where = ['"struct at 0x%zx"', "at"]
    if place.as_bytes or _is_union(place):
        both = [address(member, got), address(member, want)]
        return call(indent, "KUNIT_EXPECT_MEMEQ_MSG(", ["test", *both, str(member.total), *where])
    left = got
    if member.first_bit is not None:  # typeof() does not accept a bit-field
        left = f"({c_type(member, uapi=False)}){got}"
    elif member.c_type in ("be32", "be64"):
        left = f"{member.c_type}_to_cpu({got})"
    return call(indent, "KUNIT_EXPECT_EQ_MSG(", ["test", left, want, *where])


def _is_union(place: Place) -> bool:
    """Whether the member is `union { u64 phys; T *ptr; }` in the kernel, but an address in the schema."""
    if place.member.c_type != "phys" or place.path.endswith("phys_start"):
        return False
    return place.holder in _UNIONS or place.holder.startswith("kvm_")


def _listed(case: str) -> list[str]:
    """C lines of a case in the suite's table."""
    line = f"\tKUNIT_CASE({case}),"
    return [line] if width(line) <= WIDTH else ["\tKUNIT_CASE(", f"\t\t{case}),"]


def _suite(name: str, layout: Layout, found: Sequence[Group]) -> list[str]:
    cases = [line for group in found for line in _listed(f"{name}_{group.symbol}")]
    return [
        f"static struct kunit_case {name}_cases[] = {{", *cases, "\t{}", "};", "",
        f"static struct kunit_suite {name}_suite = {{",
        f'\t.name = "{name}",', f"\t.test_cases = {name}_cases,", "};", "",
        f"kunit_test_suite({name}_suite);", "",
        'MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");',
        f'MODULE_DESCRIPTION("KUnit test of {layout.name}");',
        'MODULE_LICENSE("GPL");',
    ]  # fmt: skip
