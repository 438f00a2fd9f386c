# SPDX-License-Identifier: MIT
"""The running kernel: its symbols, its types, and the addresses in `kho_in`, `kho_out`, `kho_scratch` and `luo_global`.

Symbols are given, or come from the kallsyms in its memory. Offsets in variables depend on release and configuration,
so there are none here: types have the members; without them each aligned word is tried that may point to a root.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from luoser.abi.kho import kho_scratch
from luoser.budget import Budget
from luoser.errors import MissingMemory, SourceError
from luoser.kernel.answers import Answers
from luoser.kernel.btf import Btf
from luoser.kernel.kallsyms import NoKallsyms, find_kallsyms
from luoser.kernel.shape import kallsyms_places, recovered_infos
from luoser.kernel.space import AddressSpace, Unmapped, hex_number, info_number
from luoser.kernel.subset import write_btf
from luoser.kernel.types import Kind, Types, TypesError, need_members
from luoser.limits import LIMITS, how_to_raise
from luoser.memory.elf import parse_vmcoreinfo
from luoser.memory.source import MACHINES, Memory
from luoser.reader.walk import Subject, Walk
from luoser.symbols import Symbol, Symbols, read_symbols
from luoser.text import one_bit_off, safe_text

__all__ = ["SYMBOLS", "Kernel", "Pointer", "find_kernels", "find_successors", "variable_type"]

_AREAS = (("kho_scratch", "kho_scratch_cnt"), ("kho_bootmem", "kho_bootmem_cnt"))
"""Pointer to the array of scratch areas, and their number; scratch is to be called bootmem from 7.4 on."""
_ANCHORS = (
    *("_stext", "swapper_pg_dir", "init_top_pgt", "init_uts_ns"),
    *("kallsyms_names", "prb", "clear_seq", "node_data"),
)
"""Symbols that are also in VMCOREINFO, in text, data, read-only data and bss. They identify the build."""
_FUNCTIONS = frozenset({"_stext"})
"""Symbols that kallsyms have without CONFIG_KALLSYMS_ALL, too."""
_OBJECTS = ("luo_global", "luo_session_global", "luo_flb_global", "luo_file_handler_list", "luo_preserved_files")
_TYPED = ("kho_in", "kho_out", "luo_session_global", "luo_flb_global")
"""Variables whose struct has their name."""
_TYPES = ("__start_BTF", "__stop_BTF")
_FAMILIES = (
    ("kho_in", "kho_out"),
    *_AREAS,
    ("luo_session_global", "luo_file_handler_list", "luo_global"),
    _TYPES,
    ("kallsyms_names", "init_uts_ns"),
)
"""Symbols of which a kernel has all or none."""
SYMBOLS = frozenset(
    (
        "kho_in",
        "kho_out",
        *(name for names in _AREAS for name in names),
        "page_offset_base",
        *_OBJECTS,
        *_TYPES,
        *_ANCHORS,
    )
)
"""Names that `luoser.symbols.read_symbols` has to find."""
STRUCTS = (
    *(
        "luo_session_global",
        "luo_session_header",
        "luo_session",
        "luo_file_set",
        "luo_file",
        "kho_block_set",
        "kho_block",
    ),
    *("luo_flb_global", "luo_flb_private", "luo_flb_private_state", "liveupdate_flb", "liveupdate_file_handler"),
    *("kho_in", "kho_out", "list_head", "file", "inode"),
)
"""Structs of the kernel that are walked."""
_DENSE = re.compile(r"luo_|kho_|liveupdate_|list_head")
"""Names of those of them of which no member has an alignment of its own, as cache lines have."""
_PAGE_OFFSET = 0xFFFF_8880_0000_0000
"""Start of the direct map of x86-64 if the kernel has no variable for it."""
_WORD = (1 << 64) - 1
_WORDS = 128
"""Bytes of a variable that are searched for a pointer. In all releases it is in there; bytes after it may be another
variable without a symbol."""
_ALWAYS = ("_stext", "swapper_pg_dir", "init_uts_ns")
"""Symbols that VMCOREINFO of each kernel has."""
_AT_FINALIZE = "ser.fdt"
"""Member with the page that a kernel up to 6.18 has from its boot on, and writes its root to when KHO is finalized."""
_INFO = b"OSRELEASE="
_UTS_FIELD, _UTS_RELEASE = 65, 2
_BTF_SIZE = 1 << 30


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer in a variable.

    address: physical.
    holder:  the variable with its member, such as `kho_in.fdt_phys`.
    """

    address: int
    holder: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in memory with known symbols.

    walk:     the source.
    symbols:  of this kernel.
    space:    its virtual memory, with its VMCOREINFO.
    slide:    bytes to add to the address of a symbol (KASLR).
    types:    its own. None: not known.
    is_found: nobody said that it is the running one; it was found in memory.
    """

    walk: Walk
    symbols: Symbols
    space: AddressSpace
    slide: int
    types: Types | None = None
    is_found: bool = False

    @property
    def is_running(self) -> bool:
        """Whether it is certain that it is the running one: the user says so, or VMCOREINFO was written when it ran."""
        return not self.is_found or self.walk.memory.is_own_info

    def address(self, name: str) -> int | None:
        """Virtual address of a symbol. None: it has none."""
        symbol = self.symbols.get(name)
        return None if symbol is None else symbol.address + self.slide

    def answers(self) -> bytes:
        """What a cut needs to know the same: the symbols that were found, and the types that are used."""
        try:
            btf = write_btf(self.types, _kept(self.types)) if self.types is not None else b""
        except TypesError:  # a cut can do without
            btf = b""
        text, place, build = self.space.identity()
        symbols = {name: (symbol.address + self.slide, symbol.size) for name, symbol in self.symbols.found.items()}
        return Answers(text=text, place=place, build=build, symbols=symbols, btf=btf).pack()

    def reads(self, name: str) -> bool:
        """Whether a variable has a symbol and its bytes are in the source."""
        return bool(self._read(name, _WORDS))

    def pointers(self, name: str, members: tuple[str, ...]) -> list[Pointer]:
        """Possible pointers to pages in a variable.

        name:    of the variable.
        members: with debug info, only these members are used.
        """
        symbol = self.symbols.get(name)
        if symbol is None:
            return []
        known = symbol.members or {}
        if not any(member in members for member in known.values()):
            known = {}
        data = self._read(name, symbol.size if known else _WORDS)
        found: list[Pointer] = []
        for place, word in enumerate(struct.unpack_from(f"<{len(data) // 8}Q", data)):
            member = known.get(8 * place)
            if word and (not known or member in members):
                holder = f"{name}.{member}" if member else f"{name}, byte {8 * place}"
                found += [Pointer(address, holder) for address in self._meanings(word, member)]
        return found

    def lost(self, name: str, members: tuple[str, ...], roots: Container[int]) -> Iterator[tuple[str, int | None]]:
        """(what a variable says, physical address) of each pointer to a root that leads to none. None: to no page.

        name, members: as for `pointers`. Without members that are known, no word need be a pointer.
        roots:         addresses of all roots.
        """
        symbol = self.symbols.get(name)
        known = symbol.members or {} if symbol is not None else {}
        data = self._read(name, symbol.size) if symbol is not None and known else b""
        is_final = any(data[offset : offset + 1].strip(b"\0") for offset in known if known[offset] == "finalized")
        made = {member for member in members if is_final or member != _AT_FINALIZE}
        for offset, member in known.items():
            word = int.from_bytes(data[offset : offset + 8], "little") if member in made else 0
            pages = [*self._meanings(word, member)] if word else []
            if word and not any(page in roots for page in pages):
                yield f"{name}.{member} of {self.symbols.path} is {word:#x}", pages[0] if pages else None

    def scratch(self) -> tuple[int, int] | None:
        """(physical address, size in bytes) of the array that `kho_scratch` (bootmem) points to. None: unknown.

        A problem if it leads nowhere, as that of a kernel with roots does not.
        """
        known = next((names for names in _AREAS if self.symbols.get(names[0]) is not None), _AREAS[0])
        if not all(map(self.reads, known)):
            return None
        pointer, count = self._number(known[0], 8) or 0, self._number(known[1], 4) or 0
        address = self.space.direct(pointer) if pointer and count else None
        if address is None:
            text = f"{known[0]} of {self.symbols.path} is {pointer:#x}, with {count} areas: expected an array of them"
            self.walk.problem("scratch-unread", None, None, text)
            return None
        return address, count * kho_scratch.size

    def _read(self, name: str, size: int) -> bytes:
        """The first bytes of a variable. Empty: no symbol, or not in the source."""
        symbol = self.symbols.get(name)
        address = self.space.image(symbol.address + self.slide) if symbol is not None else None
        if symbol is None or address is None:
            return b""
        size = min(size, symbol.size)
        self.walk.memory.keep(address, size)
        with self.walk.memory.exactly():
            return self.walk.read(address, size, Subject(f"variable {name}", "")) or b""

    def _number(self, name: str, size: int) -> int | None:
        data = self._read(name, size)
        return int.from_bytes(data, "little") if len(data) == size else None

    def _meanings(self, word: int, member: str | None) -> Iterator[int]:
        """Pages that a word may point to: as physical address, through the direct map, or as a struct page.

        member: that has the word. Its name says which. None: not known.
        """
        ways: tuple[int | None, ...] = (word, self.space.direct(word), self._page(word))
        if member is not None:
            ways = (word, None, None) if member.endswith("_phys") else (None, *ways[1:])
        for address in ways:
            if address is not None and self.walk.is_page_address(address):
                yield address

    def _page(self, virtual: int) -> int | None:
        """Physical address of the page of a struct page. None: not a pointer to one."""
        info = self.space.info
        base, size = hex_number(info, "SYMBOL(vmemmap)"), info_number(info, "SIZE(page)")
        if not base or not size:
            return None
        index, rest = divmod((virtual - base) & _WORD, size)
        return None if rest else index * self.walk.page_size


def find_kernels(walk: Walk, symbols: Symbols | None, *, search: bool = True) -> list[Kernel]:
    """The kernels in memory with known symbols. Two if the image of the previous kernel is still there.

    walk:    the source.
    symbols: of the running kernel. None: those in the memory of each kernel, else those that go with the source.
    search:  for the kernels of a source without VMCOREINFO. False: it has none.

    With symbols: empty, with a problem, if a kernel with other symbols is there, too: it may be the running one. Raises
    SourceError if the source has VMCOREINFO and the symbols are those of another kernel.
    """
    if not (search or walk.memory.vmcoreinfo):
        if symbols is not None:
            word = "not used, as their kernel is found only by a search: --search"
            walk.problem("symbols", None, None, f"{symbols.path}: {word}")
        return []
    made = _with_given(walk, symbols) if symbols is not None else _with_own(walk, search=search) or _with_listed(walk)
    return [_complete(kernel) for kernel in made]


def _with_given(walk: Walk, symbols: Symbols) -> list[Kernel]:
    info = walk.memory.vmcoreinfo
    if info:
        kernel = _checked(walk, symbols, info)
        if _is_there(walk, info) is not False:
            return [kernel]
        text = f"kernel {_release(info)} of VMCOREINFO is not in this source; symbols not used"
        walk.problem("symbols", None, None, text)
        return []
    found: list[Kernel] = []
    others: dict[str, str] = {}
    for info in _kernel_infos(walk):
        try:
            found.append(_checked(walk, symbols, info))
        except SourceError as error:
            others[_release(info)] = str(error)
    if found and others:
        word = f"kernel {', '.join(others)} is in this source, too: unknown which kernel is running"
        walk.problem("symbols", None, None, f"{symbols.path}: {word}; symbols not used")
        return []
    if not found:
        word = f" ({'; '.join(others.values())})" if others else ""
        walk.problem(
            "symbols", None, None, f"{symbols.path}: no kernel with these symbols in this source{word}; not used"
        )
    return found


def _with_listed(walk: Walk) -> list[Kernel]:
    """The kernels with the symbols that go with the source. Nobody asked for them: a problem if they cannot be used."""
    if walk.memory.symbols is None:
        return []
    try:
        return _with_given(walk, read_symbols(walk.memory.symbols, SYMBOLS))
    except SourceError as error:
        walk.problem("symbols", None, None, f"not used: {error}")
        return []


# -- out of the memory itself -----------------------------------------------------------------------------


def _with_own(walk: Walk, *, search: bool) -> list[Kernel]:
    """The kernels of which VMCOREINFO, kallsyms or a cut's note are in the source; without these, none."""
    info = walk.memory.vmcoreinfo
    if info and _is_there(walk, info) is not False:
        _need_info(walk, info)
        return [*_found(walk, _of_note(walk, [info], search=search))]
    # That of a hypervisor's dump may be of a kernel before a kexec; another one was written by the kernel that ran.
    may_search = search and not walk.memory.is_own_info
    infos = [*_kernel_infos(walk)] if may_search else []
    if not infos and may_search and not walk.memory.live:
        places = walk.first("kernel_places", kallsyms_places(walk.memory), "places that look like kallsyms")
        infos = [*walk.first("kernels", recovered_infos(walk.memory, places), "kernels")]
    infos = _of_note(walk, infos, search=search)
    if info:
        text = f"kernel {_release(info)} of VMCOREINFO is not where it says: its utsname has another release"
        there = _uts_release(walk, info) or ""
        is_next = there in map(_release, infos)  # 7.3.5 is one bit off 7.3.4
        is_damaged = walk.memory.is_own_info or (not is_next and one_bit_off(there, [_release(info)]) is not None)
        code = "symbols-unread" if is_damaged else "symbols"
        walk.problem(code, None, None, f"{text}; its own symbols are not used")
    return [*_found(walk, infos)]


def _need_info(walk: Walk, info: Mapping[str, str]) -> None:
    """A problem if VMCOREINFO of a kernel that has kallsyms lacks what each of them writes: then they are not found."""
    if not any(key.startswith("SYMBOL(kallsyms_") for key in info):  # before 6.0
        return
    lacks = [name for name in _ALWAYS if hex_number(info, f"SYMBOL({name})") is None]
    if AddressSpace(walk.memory, info).image(0) is None and walk.memory.machine in MACHINES:
        lacks.append("phys_base and kimage_voffset")
    if lacks:
        text = f"kernel {_release(info)}: VMCOREINFO has no {' and no '.join(lacks)}, or no number: it is damaged"
        walk.problem("symbols-unread", None, None, text)


def _of_note(walk: Walk, infos: list[Mapping[str, str]], *, search: bool) -> list[Mapping[str, str]]:
    """The kernels, or that of the note of a cut: VMCOREINFO of a dump can be of a kernel before the one that ran.

    A problem if the note is of no kernel that is found: its symbols and types are not used.
    """
    note = Answers.unpack(walk.memory.answers)

    def noted(some: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
        return [info for info in some if note is not None and note.is_of(*AddressSpace(walk.memory, info).identity())]

    if note is None or noted(infos):
        return infos
    found = noted(_kernel_infos(walk)) if search else []
    if not found:
        text = f"{walk.memory.answers_from} is of a kernel with _stext at {note.text:#x}, {note.place:#x} in memory"
        code = "symbols-unread" if walk.memory.vmcoreinfo else "symbols"
        walk.problem(code, None, None, f"{text}; VMCOREINFO is of another one, or damaged; the note is not used")
    return found or infos


def find_successors(walk: Walk, kernel: Kernel) -> list[Kernel]:
    """Other kernels in memory, by their own VMCOREINFO. kernel: that of the source's."""
    text = hex_number(kernel.space.info, "SYMBOL(_stext)")
    infos = [info for info in _kernel_infos(walk) if hex_number(info, "SYMBOL(_stext)") != text]
    apart = Walk(walk.memory, walk.page_size)  # memory of a kernel that does not run any more may be in use: no problem
    return [_complete(other) for other in _found(apart, infos)]


def _found(walk: Walk, infos: Sequence[Mapping[str, str]]) -> Iterator[Kernel]:
    for each in infos:
        space = AddressSpace(walk.memory, each, walk.page_size)
        name = f"kernel {_release(each)}"
        if len(infos) > 1:
            name += f" (_stext at {space.image(hex_number(each, 'SYMBOL(_stext)') or 0):#x})"
        symbols = _own_symbols(walk, space, name)
        if symbols is not None:
            yield Kernel(walk, symbols, space, 0, is_found=True)


def _answers(walk: Walk, space: AddressSpace) -> Answers | None:
    """The note of a cut, if it is about this kernel."""
    found = Answers.unpack(walk.memory.answers) if walk.memory.answers else None
    if found is None and walk.memory.answers:
        text = "the note of this cut with the kernel's symbols and types is damaged, and not used"
        walk.problem("symbols-unread", None, None, text)
    return found if found is not None and found.is_of(*space.identity()) else None


def _own_symbols(walk: Walk, space: AddressSpace, name: str) -> Symbols | None:
    """The symbols that a kernel has in its own memory, or in the note of a cut. None: not in the source."""
    answers = _answers(walk, space)
    with walk.memory.trial():  # megabytes, of which a cut needs only the answers
        try:
            kallsyms = find_kallsyms(space)
            found = kallsyms.get(SYMBOLS)
        except NoKallsyms as error:
            if answers is not None:
                return _noted_symbols(walk, space, name, answers)
            if not error.is_absent:
                code = "symbols" if error.is_excluded else "symbols-unread"
                walk.problem(code, None, None, f"{name}: {error}; its own symbols are not used")
            return None
        except (Unmapped, MissingMemory) as error:
            if answers is not None:
                return _noted_symbols(walk, space, name, answers)
            walk.problem("symbols", None, None, f"{name}: kallsyms: {error}; its own symbols are not used")
            return None
    if kallsyms.damage:
        walk.problem("symbols-unread", None, None, f"{name}: {kallsyms.damage}")
    if not found.keys() - _FUNCTIONS:
        if answers is not None:
            return _noted_symbols(walk, space, name, answers)
        if kallsyms.damage:  # a wrong number of symbols: variables are the last ones
            return None
        text = "kallsyms have functions only (no CONFIG_KALLSYMS_ALL); --symbols System.map gives its variables"
        walk.problem("symbols", None, None, f"{name}: {text}")
        return None
    _need_families(walk, name, found)
    single = {key: places[0] for key, places in found.items() if len(places) == 1}
    if answers is not None:
        _need_equal(walk, name, answers, {key: one.address for key, one in single.items()}, "kallsyms in memory")
    return Symbols(path=name, found={key: Symbol(key, one.address, one.size) for key, one in single.items()})


def _noted_symbols(walk: Walk, space: AddressSpace, name: str, answers: Answers) -> Symbols | None:
    """The symbols in the note of a cut. None, with a problem, if VMCOREINFO has one of them elsewhere."""
    said = {key: address for key in _ANCHORS if (address := hex_number(space.info, f"SYMBOL({key})")) is not None}
    if not _need_equal(walk, name, answers, said, "VMCOREINFO"):
        return None
    _need_families(walk, name, answers.symbols)
    places = {key: Symbol(key, address, min(size, _BTF_SIZE)) for key, (address, size) in answers.symbols.items()}
    return Symbols(path=name, found=places)


def _need_families(walk: Walk, name: str, found: Container[str]) -> None:
    """A problem for each symbol that is missing though its kernel has it: others of its family were found."""
    for family in _FAMILIES:
        there = [key for key in family if key in found]
        for key in family if there else ():
            if key not in there:
                text = f"no {key} in its symbols, which every kernel with {there[0]} has: they are damaged"
                walk.problem("symbols-unread", None, None, f"{name}: {text}")


def _need_variables(kernel: Kernel, types: Types) -> None:
    """A problem for each variable without a symbol of which the kernel's own types have the struct, or the reverse."""
    named = {name for name in _TYPED if types.struct(name) is not None}
    for name in _TYPED if named and kernel.is_found else ():
        has_symbol = kernel.symbols.get(name) is not None
        if has_symbol != (name in named):
            here, there = ("types", "symbols") if has_symbol else ("symbols", "types")
            text = f"{kernel.symbols.path}: no {name} in its {here}, although its {there} have it: they are damaged"
            kernel.walk.problem(f"{here}-unread", None, None, text)


def _need_equal(walk: Walk, name: str, answers: Answers, known: Mapping[str, int], where: str) -> bool:
    """Whether the note of a cut has symbols where something else has them. A problem if not.

    known: addresses by name. where: they are from, in words.
    """
    other = next((key for key in known if answers.symbols.get(key, (known[key],))[0] != known[key]), None)
    if other is not None:
        text = f"{other} is at {answers.symbols[other][0]:#x}, {where} has {known[other]:#x}; the note is not used"
        walk.problem("symbols", None, None, f"{name}: {walk.memory.answers_from} contradicts its memory: {text}")
    return other is None


def _complete(kernel: Kernel) -> Kernel:
    """With its direct map, its types, and the members of its variables."""
    if kernel.space.is_x86:
        known = kernel.symbols.get("page_offset_base")
        kernel.space.page_offset = kernel._number("page_offset_base", 8) if known is not None else _PAGE_OFFSET
    types = _own_types(kernel)
    if types is None:
        return kernel
    try:
        symbols = _with_members(kernel.symbols.found, types, kernel.walk.members_budget)
        for name in STRUCTS:
            if (number := types.struct(name)) is not None:
                types.need_sound(number, kernel.walk.members_budget)
                if _DENSE.match(name) and not types.is_dense(number):
                    raise TypesError(f"{types.where}: damaged: struct {name} has a hole that no compiler makes")
        _need_variables(kernel, types)
    except TypesError as error:
        kernel.walk.problem("types-unread", None, None, f"{error}; types are not used")
        return kernel
    return replace(kernel, symbols=replace(kernel.symbols, found=symbols), types=types)


def _with_members(found: Mapping[str, Symbol], types: Types, budget: Budget) -> dict[str, Symbol]:
    """Symbols with the members of the variables that name roots. Raises TypesError."""
    symbols = dict(found)
    for name in ("kho_in", "kho_out", "luo_global"):
        variable, number = symbols.get(name), variable_type(types, name)
        if variable is not None and not variable.members and number is not None:
            symbols[name] = replace(variable, members=_paths(types, number, budget))
    return symbols


def _own_types(kernel: Kernel) -> Types | None:
    walk, name = kernel.walk, kernel.symbols.path if kernel.is_found else f"kernel {_release(kernel.space.info)}"
    where = f"BTF of {name}"
    answers = _answers(walk, kernel.space)
    noted = answers.btf if answers is not None else b""
    try:
        found = _types_in_memory(kernel, where)
    except TypesError as error:
        walk.problem("types-unread", None, None, f"{error}; types are not used")
        return None
    except (Unmapped, MissingMemory) as error:
        if not noted:
            walk.problem("types", None, None, f"{where}: {error}; types are not used")
            return None
        found = None
    try:
        if found is None:
            return Btf(noted, where=_noted_where(walk, where)) if noted else None
        if noted and write_btf(found, _kept(found)) != noted:
            text = f"{walk.memory.answers_from} contradicts its memory, which has other types; the note is not used"
            walk.problem("types", None, None, f"{kernel.symbols.path}: {text}")
    except TypesError as error:
        walk.problem("types-unread", None, None, f"{error}; types are not used")
        return None
    return found


def _noted_where(walk: Walk, where: str) -> str:
    """What types of a note are said to be from. where: the kernel's own, which the note of a cut has copied."""
    return where if walk.memory.answers_from == Memory.answers_from else walk.memory.answers_from


def _types_in_memory(kernel: Kernel, where: str) -> Types | None:
    """The types between the kernel's own symbols. None: it has none. Raises TypesError, Unmapped, MissingMemory."""
    start, end = map(kernel.address, _TYPES)
    if start is None or end is None:
        return None
    if not 0 < end - start <= LIMITS.type_bytes:
        text = f"{where}: {end - start} bytes from {start:#x}"
        raise TypesError(f"{text}; {how_to_raise('type_bytes')}" if end > start else text)
    with kernel.walk.memory.trial():
        return Btf(kernel.space.read(start, end - start), where=where)


_OURS = re.compile(r"kho|luo|liveupdate|_ser$|_ser_|^setup_data$|^fdt_")
"""Names of structs of KHO, LUO and their users."""
_MARKS = {"luo_global": "liveupdate_num"}
"""A member by which the type of a variable is known that has no name."""


def variable_type(types: Types, name: str) -> int | None:
    """Number of the struct of a variable: that of its name, or the one without a name that has a member of its own.

    types: of the kernel.
    name:  of the variable, one of `luo_global`, `kho_in` and the like.

    None: there is none, or several.
    """
    if name not in _MARKS:
        return types.struct(name)
    found = [
        number
        for number, struct_name in types.structs()
        if not struct_name and any(member == _MARKS[name] for member, _ in types.members(number))
    ]
    return found[0] if len(found) == 1 else None


def _kept(types: Types) -> list[int]:
    """Numbers of the types that a cut keeps: those of KHO, LUO and their users, and what is walked."""
    wanted = [number for number, name in types.structs() if name in STRUCTS or _OURS.search(name)]
    return [*wanted, *filter(None, (variable_type(types, name) for name in _MARKS))]


def _paths(types: Types, number: int, budget: Budget) -> dict[int, str]:
    """Path of each member of a struct by offset in bytes, members of inner structs included. Raises TypesError."""
    found: dict[int, str] = {}
    todo = [(number, "", 0, 3)]
    while todo:
        struct_number, path, base, deep = todo.pop()
        for name, place in types.members(struct_number):
            need_members(budget, types)
            inner = types.plain(place.type) if place.type else 0
            if deep and inner and types.head(inner).kind is Kind.STRUCT:
                todo.append((inner, f"{path}{name}.", base + place.offset, deep - 1))
            else:
                found.setdefault(base + place.offset, path + name)
    return found


def _kernel_infos(walk: Walk) -> Iterator[Mapping[str, str]]:
    """VMCOREINFO of each kernel whose image is in the source. A crash kernel has a copy of the page."""
    return walk.first("kernels", _all_infos(walk), "kernels")


def _all_infos(walk: Walk) -> Iterator[Mapping[str, str]]:
    images: set[int | None] = set()
    for address in walk.first("kernel_places", walk.memory.find_pages(_INFO), "pages that start as VMCOREINFO does"):
        try:
            page = walk.memory.read(address, walk.page_size)
        except MissingMemory:
            continue
        info = parse_vmcoreinfo(page.partition(b"\0")[0])
        start = hex_number(info, "SYMBOL(_stext)")
        image = AddressSpace(walk.memory, info).image(start) if start is not None else None
        if image not in images and _is_there(walk, info):
            walk.memory.keep(address, len(page.partition(b"\0")[0]) + 1)
            images.add(image)
            yield info


def _is_there(walk: Walk, info: Mapping[str, str]) -> bool | None:
    """Whether a kernel is at the addresses of its VMCOREINFO, by the release in its utsname. None: unknown."""
    release = _uts_release(walk, info)
    return None if release is None else bool(release) and release == info.get("OSRELEASE")


def _uts_release(walk: Walk, info: Mapping[str, str]) -> str | None:
    """The release in the utsname of a kernel, safe to print. None: not in the source, or no symbol says where."""
    names, offset = hex_number(info, "SYMBOL(init_uts_ns)"), info_number(info, "OFFSET(uts_namespace.name)")
    space = AddressSpace(walk.memory, info)
    address = space.image(names + offset) if names is not None and offset is not None else None
    if address is None:
        return None
    try:
        with walk.memory.exactly():
            release = walk.memory.read(address + _UTS_RELEASE * _UTS_FIELD, _UTS_FIELD).split(b"\0")[0]
    except MissingMemory:
        return None
    walk.memory.keep(address + _UTS_RELEASE * _UTS_FIELD, len(release) + 1)
    return safe_text(release)


def _checked(walk: Walk, symbols: Symbols, info: Mapping[str, str]) -> Kernel:
    """The kernel of some VMCOREINFO, if build id and distances between symbols are the same. Raises SourceError."""
    theirs = info.get("BUILD-ID")
    if symbols.build_id and theirs and symbols.build_id != theirs:
        raise SourceError(
            f"{symbols.path}: wrong build id: expected {theirs} of {_release(info)}, found {symbols.build_id}"
        )
    slides = {
        name: said - symbol.address
        for name in _ANCHORS
        if (said := hex_number(info, f"SYMBOL({name})")) is not None and (symbol := symbols.get(name))
    }
    if not slides:
        raise SourceError(f"{symbols.path}: no symbol in common with VMCOREINFO: expected one of {', '.join(_ANCHORS)}")
    first, slide = next(iter(slides.items()))
    other = next((name for name in slides if slides[name] != slide), None)
    if other is not None:
        raise SourceError(
            f"{symbols.path}: symbols of another kernel than {_release(info)}: the distance from {first} to {other} "
            f"differs by {abs(slides[other] - slide):#x} bytes"
        )
    if len(slides) == 1 and slide and not (symbols.build_id and theirs):
        raise SourceError(f"{symbols.path}: only {first} in common with VMCOREINFO, which does not identify the kernel")
    return Kernel(walk, symbols, AddressSpace(walk.memory, info, walk.page_size), slide)


def _release(info: Mapping[str, str]) -> str:
    return safe_text(info.get("OSRELEASE", "?"), again=True)
