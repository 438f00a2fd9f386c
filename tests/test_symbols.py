# SPDX-License-Identifier: MIT
"""Symbol lists and vmlinux files: what is taken from them, and what is refused."""

from __future__ import annotations

import io
import platform
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from luoser.errors import LuoserError, SourceError
from luoser.limits import Limits, limited
from luoser.symbols import Symbols, read_symbols
from tests import real
from tests.work import held, processor_time, steps

NAMES = frozenset(("_stext", "kho_in", "kho_out", "kho_scratch", "luo_global", "page_offset_base"))
LINES = """\
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81e31960 B kho_scratch_cnt
ffffffff81e31968 B kho_scratch
ffffffff81e31980 b kho_in
ffffffff81e31a20 b kho_out
ffffffff81e31ac0 b luo_global
ffffffff81e31ad8 b something
"""


def read(tmp_path: Path, data: str | bytes, names: frozenset[str] = NAMES) -> Symbols:
    file = tmp_path / "symbols"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_symbols(file, names)


def places(found: Symbols) -> dict[str, tuple[int, int]]:
    return {name: (symbol.address, symbol.size) for name, symbol in found.found.items()}


# -- System.map and kallsyms -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", real.CASES)
def test_kallsyms_of_a_real_kernel(tmp_path: Path, case: str) -> None:
    for boot in real.truth(case):
        said = {line.split()[0]: int(line.split()[1], 16) for line in boot["sym"]}
        found = read(tmp_path, "".join(f"{address:016x} b {name}\n" for name, address in said.items()))
        assert {name: symbol.address for name, symbol in found.found.items()} == {
            name: said[name] for name in NAMES & said.keys()
        }


def test_system_map(tmp_path: Path) -> None:
    found = read(tmp_path, LINES)
    assert places(found) == {
        "_stext": (0xFFFFFFFF81000000, 4096),
        "kho_scratch": (0xFFFFFFFF81E31968, 0x18),
        "kho_in": (0xFFFFFFFF81E31980, 0xA0),
        "kho_out": (0xFFFFFFFF81E31A20, 0xA0),
        "luo_global": (0xFFFFFFFF81E31AC0, 0x18),
    }
    assert found.build_id is None and found.get("kho_in") == found.found["kho_in"] and found.get("_text") is None
    assert all(symbol.members is None for symbol in found.found.values())


def test_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    assert places(read(tmp_path, "\n".join(sorted(LINES.splitlines(), reverse=True)))) == places(read(tmp_path, LINES))


def test_lines_that_end_as_on_windows(tmp_path: Path) -> None:
    assert places(read(tmp_path, LINES.replace("\n", "\r\n"))) == places(read(tmp_path, LINES))


def test_symbols_of_modules_are_not_the_kernels(tmp_path: Path) -> None:
    """/proc/kallsyms lists them too, with the module's name."""
    module = "ffffffffc0001000 t _stext\t[kho_lab]\nffffffffc0002000 b kho_in\t[kho_lab]\n"
    assert (
        places(read(tmp_path, module + LINES))
        == places(read(tmp_path, LINES + module))
        == places(read(tmp_path, LINES))
    )


def test_name_of_two_static_variables_tells_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, LINES + "ffffffff81f00000 b kho_out\n")
    assert "kho_out" not in found.found and "kho_in" in found.found


def test_symbol_at_the_end_has_a_bounded_size(tmp_path: Path) -> None:
    assert places(read(tmp_path, "ffffffff81e31980 b kho_in\n")) == {"kho_in": (0xFFFFFFFF81E31980, 4096)}


def test_no_symbol_of_interest(tmp_path: Path) -> None:
    assert read(tmp_path, "ffffffff81e31980 b other\n").found == {}


def test_addresses_hidden_by_kptr_restrict_are_refused(tmp_path: Path) -> None:
    hidden = "".join(f"{0:016x}{line[16:]}\n" for line in LINES.splitlines())
    with pytest.raises(SourceError, match="kptr_restrict"):
        read(tmp_path, hidden)


NO_SYMBOLS = {
    "empty": b"",
    "text": b"just some text\n" * 1000,
    "other digits": b"0xffffffff81000000 T _stext\n",
    "32-bit": b"c1000000 T _stext\n",
    "upper case": b"FFFFFFFF81000000 T _stext\n",
    "bzImage": b"MZ\xea\x07\0\xc0\x07" + bytes(4096),
    "zeros": bytes(1 << 16),
}


@pytest.mark.parametrize("kind", NO_SYMBOLS)
def test_file_that_is_no_symbol_list_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match="expected a System"):
        read(tmp_path, NO_SYMBOLS[kind])


def test_memory_dump_as_symbols_is_refused_at_once(tmp_path: Path) -> None:
    """After a look at its first bytes, not when it has been read."""
    file = tmp_path / "image"
    with file.open("wb") as out:
        out.write(random.Random(1).randbytes(1 << 20))
        out.truncate(1 << 32)
    with held(1 << 20), pytest.raises(SourceError):
        read_symbols(file, NAMES)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=str(tmp_path / name)):
        read_symbols(tmp_path / name, NAMES)


def test_a_list_that_is_too_long_is_refused_and_not_cut(tmp_path: Path) -> None:
    place = tmp_path / "System.map"
    place.write_text("ffffffff81000000 T _stext\nffffffff82000000 D kho_in\n")
    assert read_symbols(place, frozenset({"kho_in"})).get("kho_in") is not None
    with limited(Limits(symbol_bytes=40)), pytest.raises(SourceError, match="--limit symbol_bytes=N"):
        read_symbols(place, frozenset({"kho_in"}))


def test_name_of_the_file_is_made_safe(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read_symbols(tmp_path / "\x1b[31m", NAMES)
    assert str(caught.value).isprintable()


# -- vmlinux ------------------------------------------------------------------------------------------------

SOURCE = """
#include <stddef.h>
typedef unsigned long long u64;
typedef u64 phys_addr_t;
struct list_head { struct list_head *next, *prev; };
struct kho_debugfs { void *dir, *sub_fdt_dir; struct list_head fdt_list; };
typedef struct { int counter; } atomic_t;
typedef struct { long long counter; } atomic64_t;
struct mutex { atomic64_t owner; unsigned wait_lock; struct { atomic_t tail; } osq; void *first_waiter; };
struct kho_radix_tree { void *root; struct mutex lock; };
union some { u64 number; void *pointer; };
struct kho_in {
	phys_addr_t fdt_phys, scratch_phys;
	char previous_release[65];
	unsigned kexec_count;
	struct kho_debugfs dbg;
	struct { u64 anonymous; };
	union some choice;
	unsigned low : 3, high : 5;
};
struct kho_out { void *fdt; struct mutex lock; struct kho_radix_tree radix_tree; struct kho_debugfs dbg; };
static __attribute__((used)) struct kho_in kho_in;
static __attribute__((used)) struct kho_out kho_out;
static __attribute__((used)) struct { _Bool enabled; void *luo_ser_out; u64 liveupdate_num; } luo_global;
void *kho_scratch;
const u64 offsets[] = {
	offsetof(struct kho_in, fdt_phys), offsetof(struct kho_in, scratch_phys), offsetof(struct kho_in, kexec_count),
	offsetof(struct kho_in, dbg.fdt_list.prev), offsetof(struct kho_in, anonymous), offsetof(struct kho_in, choice),
	offsetof(struct kho_out, fdt), offsetof(struct kho_out, lock.osq.tail), offsetof(struct kho_out, radix_tree.root),
	sizeof(struct kho_in), sizeof(struct kho_out),
};
u64 probe(u64 index) { return kho_in.fdt_phys + luo_global.liveupdate_num + offsets[index]; }
"""
OTHER = """
static __attribute__((used)) struct { int unrelated; } kho_in;
int other(void) { return kho_in.unrelated++; }
void _start(void) { other(); }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vmlinux: linked like the kernel, with debug info and a build id."""
    if shutil.which("gcc") is None or platform.machine() != "x86_64":
        pytest.skip("no gcc for x86-64 here")
    place = tmp_path_factory.mktemp("vmlinux")
    (place / "kho.c").write_text(SOURCE)
    (place / "start.c").write_text(OTHER.replace("kho_in", "other_in"))
    link(place, "vmlinux", "-g")
    return place


def link(place: Path, name: str, *options: str, files: tuple[str, ...] = ("start.c", "kho.c")) -> Path:
    subprocess.run(
        ["gcc", "-O1", "-static", "-nostdlib", "-fno-pic", "-no-pie", "-mcmodel=kernel",
         "-fno-asynchronous-unwind-tables", "-Wl,--build-id=sha1,-Ttext-segment=0xffffffff81000000",
         *options, *files, "-o", name],
        cwd=place, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return place / name


def elf_of(file: Path) -> Any:
    return pytest.importorskip("elftools.elf.elffile").ELFFile(io.BytesIO(file.read_bytes()))


def symbol_of(file: Path, name: str) -> Any:
    return elf_of(file).get_section_by_name(".symtab").get_symbol_by_name(name)[0]


def offsets_of(file: Path) -> list[int]:
    """What gcc's offsetof and sizeof put into the file."""
    elf, symbol = elf_of(file), symbol_of(file, "offsets")
    section = elf.get_section(symbol["st_shndx"])
    start = symbol["st_value"] - section["sh_addr"]
    data = section.data()[start : start + symbol["st_size"]]
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


PATHS = (
    ("kho_in", "fdt_phys"),
    ("kho_in", "scratch_phys"),
    ("kho_in", "kexec_count"),
    ("kho_in", "dbg.fdt_list.prev"),
    ("kho_in", "anonymous"),
    ("kho_in", "choice"),
    ("kho_out", "fdt"),
    ("kho_out", "lock.osq.tail.counter"),
    ("kho_out", "radix_tree.root"),
)


def test_members_lie_where_gcc_put_them(compiled: Path) -> None:
    found = read_symbols(compiled / "vmlinux", NAMES)
    *offsets, in_size, out_size = offsets_of(compiled / "vmlinux")
    for (name, path), offset in zip(PATHS, offsets, strict=True):
        members = found.found[name].members
        assert members is not None and members[offset] == path
    assert found.found["kho_in"].size == in_size and found.found["kho_out"].size == out_size


def test_members_of_a_struct_without_a_name(compiled: Path) -> None:
    members = read_symbols(compiled / "vmlinux", NAMES).found["luo_global"].members
    assert members == {0: "enabled", 8: "luo_ser_out", 16: "liveupdate_num"}


def test_plain_variable_has_no_members(compiled: Path) -> None:
    assert read_symbols(compiled / "vmlinux", NAMES).found["kho_scratch"].members is None


def test_addresses_and_build_id_of_a_vmlinux(compiled: Path) -> None:
    found = read_symbols(compiled / "vmlinux", NAMES)
    for name, symbol in found.found.items():
        assert symbol.address == symbol_of(compiled / "vmlinux", name)["st_value"] > 0xFFFFFFFF81000000
    note = next(iter(elf_of(compiled / "vmlinux").iter_sections("SHT_NOTE")))
    assert found.build_id == note.data()[-20:].hex()


@pytest.mark.parametrize(
    "options",
    [["-g", "-gz=zlib"], ["-gdwarf-4"], ["-gdwarf-5"], ["-g", "-O2"]],
    ids=" ".join,
)
def test_forms_of_debug_info(compiled: Path, options: list[str]) -> None:
    found = read_symbols(link(compiled, "form", *options), NAMES)
    members = found.found["kho_out"].members
    assert members is not None and members[0] == "fdt"


@pytest.mark.parametrize("options", [[], ["-g", "-gsplit-dwarf"], ["-g", "-gno-aranges"], ["-gbtf"]], ids=" ".join)
def test_without_debug_info_there_are_no_members(compiled: Path, options: list[str]) -> None:
    if "-gno-aranges" in options:
        file = compiled / "without"
        shutil.copy(compiled / "vmlinux", file)
        subprocess.run(["objcopy", "--remove-section", ".debug_aranges", file], check=True)
    else:
        file = link(compiled, "without", *options)
    found = read_symbols(file, NAMES)
    assert found.found["kho_out"].address == symbol_of(file, "kho_out")["st_value"]
    assert found.found["kho_out"].members is None


def test_two_static_variables_of_one_name_tell_nothing(compiled: Path) -> None:
    (compiled / "twice.c").write_text(OTHER)
    found = read_symbols(link(compiled, "twice", "-g", files=("twice.c", "kho.c")), NAMES)
    assert "kho_in" not in found.found and "kho_out" in found.found


def test_stripped_vmlinux_is_refused(compiled: Path) -> None:
    with pytest.raises(SourceError, match="without"):
        read_symbols(link(compiled, "stripped", "-s"), NAMES)


def test_32_bit_elf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="ELF"):
        read(tmp_path, b"\x7fELF\1\1\1" + bytes(200))


def test_memory_dump_in_elf_is_refused(tmp_path: Path) -> None:
    import lzma

    with pytest.raises(SourceError, match="without"):
        read(tmp_path, lzma.decompress(real.path("7.3-a/frozen").read_bytes()))


def test_vmlinux_without_pyelftools_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "elftools.elf.elffile", None)
    with pytest.raises(SourceError, match=r"luoser\[vmlinux\]"):
        read(tmp_path, b"\x7fELF\2\1\1" + bytes(200))


def test_cut_vmlinux_is_refused_or_read_without_a_traceback(compiled: Path) -> None:
    data = (compiled / "vmlinux").read_bytes()
    for size in range(4, len(data), len(data) // 60):
        (compiled / "cut").write_bytes(data[:size])
        with pytest.raises(SourceError):
            read_symbols(compiled / "cut", NAMES)


def test_damaged_vmlinux_gives_no_traceback_and_no_hang(compiled: Path) -> None:
    """Bytes changed anywhere but in what the program itself is."""
    data, chance = (compiled / "vmlinux").read_bytes(), random.Random(5)
    start, read, longest = data.index(b".symtab\0") - 0x4000, 0, 0.0
    sound = processor_time(lambda: read_symbols(compiled / "vmlinux", NAMES))
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 4, 40))):
            broken[chance.randrange(max(0, start), len(data))] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
        (compiled / "damaged").write_bytes(broken)
        begun = time.thread_time()
        try:
            read += len(read_symbols(compiled / "damaged", NAMES).found) > 0
        except LuoserError as error:
            assert str(error).isprintable()
        longest = max(longest, time.thread_time() - begun)
    assert read and longest < 200 * sound


def test_type_that_refers_to_itself_ends(compiled: Path) -> None:
    """Each variable and each name of a type changed to be a name of itself."""
    elf = elf_of(compiled / "vmlinux")
    data, start = (compiled / "vmlinux").read_bytes(), elf.get_section_by_name(".debug_info")["sh_offset"]
    changed = 0
    for unit in elf.get_dwarf_info().iter_CUs():
        for entry in unit.iter_DIEs():
            if entry.tag in ("DW_TAG_variable", "DW_TAG_typedef") and "DW_AT_type" in entry.attributes:
                place = start + entry.attributes["DW_AT_type"].offset
                itself = (entry.offset - unit.cu_offset).to_bytes(4, "little")
                (compiled / "loop").write_bytes(data[:place] + itself + data[place + 4 :])
                with steps(500_000):  # 90,000 for the sound file
                    read_symbols(compiled / "loop", NAMES)
                changed += 1
    assert changed > 5


def test_reading_a_vmlinux_leaves_it_alone(compiled: Path) -> None:
    file = compiled / "vmlinux"
    before = (file.read_bytes(), file.stat().st_mtime_ns, sorted(compiled.iterdir()))
    read_symbols(file, NAMES)
    assert (file.read_bytes(), file.stat().st_mtime_ns, sorted(compiled.iterdir())) == before
