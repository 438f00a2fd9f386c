# SPDX-License-Identifier: MIT
"""`luoser build`: golden blobs and whole memory images from a description."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from luoser.budget import Budget
from luoser.cli import complete
from luoser.cli.common import NUMBER, beside, limit_option
from luoser.cli.kernel_tree import FORMS, KernelTree
from luoser.render.out import complain

if TYPE_CHECKING:
    from luoser.abi.registry import Layout
    from luoser.api.negatives import Golden
    from luoser.memory.source import Memory
    from luoser.state import State
    from luoser.writer import Image
    from luoser.writer.image import Passed
    from luoser.writer.mutate import Mutation

__all__ = ["command"]

_IMAGES = ("elf", "raw")
_C = ("c", "kunit", "kselftest")
_BLOBS = ("bin", *_C)
_DIFFERENT = 1
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What to write, and where.

    form:   format of the output. None: the default.
    name:   of the array in C. None: the layout's.
    pad:    fill a blob with zeros up to the size of its folio.
    source: what it is made from, for a comment in C.
    target: path of the file, `-`: standard output.
    tree:   source of a kernel, into which blobs go. None: they go to the file.
    """

    target: str
    tree: KernelTree | None
    form: str | None
    name: str | None
    pad: bool
    force: bool
    source: str

    @property
    def suffix(self) -> str:
        """Of the name of a file in this format."""
        return f".{'c' if self.form in _C else self.form}"

    def blobs(
        self, found: Sequence[tuple[Layout, bytes]], *, page_size: int = 4096, broken: Mutation | None = None
    ) -> None:
        """Write blobs, as bytes or as C: one to a file, any number into a kernel's source.

        broken: the rule that they break. None: none.
        """
        from luoser.api.negatives import array_name, notes_of
        from luoser.output import new_output
        from luoser.writer.golden import C_FORMATS
        from luoser.writer.golden.tree import Blob
        from luoser.writer.place import order_of

        made, notes = list[Blob](), notes_of(broken) if broken is not None else ()
        for layout, data in found:
            name = self.name or layout.name.replace("-", "_")
            name = array_name(name, broken) if broken is not None else name
            whole = data.ljust(page_size << order_of(len(data), page_size), b"\0") if self.pad else data
            made.append(Blob(name=name, layout=layout, data=whole, notes=notes))
        if self.tree is not None:
            for word in self.tree.write(made, source=self.source, force=self.force):
                complain(word)
            return
        (one,) = made
        content = one.data
        if self.form in C_FORMATS:
            make = C_FORMATS[self.form]
            text = make(name=one.name, layout=one.layout, data=one.data, source=self.source, notes=one.notes)
            content = text.encode()
        with new_output(self.target, force=self.force, is_text=self.form in _C) as file:
            file.write(content)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boot:
    """How a kernel is to find an incoming root.

    machine:    `x86-64` or `arm64`. None: as the page size says.
    base:       first address of what has none. None: the machine's.
    chosen:     file to write the /chosen to. setup_data: file to write the node to.
    """

    machine: str | None
    base: int | None
    chosen: str | None
    setup_data: str | None
    force: bool

    @property
    def first(self) -> int | None:
        """First address that is assigned. None: the default of the writer."""
        from luoser.writer.place import FIRST

        return FIRST[self.machine] if self.base is None else self.base

    @staticmethod
    def _room(image: Image, told: Passed) -> str:
        """How much RAM the scratch areas allow, in words: they have to hold its memmap."""
        from luoser.abi.kho import kho_scratch, memmap_of
        from luoser.text import human_size

        array, size = image.read(told.array, told.size), kho_scratch.size
        scratch = sum(kho_scratch.parse(array[place : place + size]).size for place in range(0, told.size, size))
        ram = memmap_of(scratch, image.page_size)
        use = f"is for {human_size(ram)} of RAM at most" if ram else "is too small for any machine"
        return f"scratch of {human_size(scratch)} {use}"

    def check(self, image: Image) -> None:
        """Raise UsageError for an output that does not fit the machine, or if no kernel has to be told anything."""
        from luoser.errors import UsageError
        from luoser.writer.scratch import machine_of

        machine = self.machine or machine_of(image.page_size)
        for target, of in ((self.chosen, "arm64"), (self.setup_data, "x86-64")):
            if target is not None and machine != of:
                raise UsageError(f"{'--chosen' if of == 'arm64' else '--setup-data'} is for {of}, not for {machine}")
            if target is not None and len(image.passed) != 1:
                raise UsageError(f"expected one incoming root with scratch areas, found {len(image.passed)}")

    def report(self, image: Image) -> None:
        """Say what has to be passed to the kernel of each incoming root, and write it."""
        from luoser.output import new_file
        from luoser.writer.scratch import chosen_source, machine_of, node_bytes

        machine = self.machine or machine_of(image.page_size)
        what = "setup_data node" if machine == "x86-64" else "devicetree with /chosen"
        for told in image.passed:
            words = f"root {told.root:#x}, scratch array {told.array:#x} of {told.size} bytes, {what} {told.node:#x}"
            complain(f"to boot with: {words}; {self._room(image, told)}")
        target = self.setup_data if machine == "x86-64" else self.chosen
        if target is not None:
            (told,) = image.passed
            with new_file(target, force=self.force) as file:
                file.write(node_bytes(told, machine) if machine == "x86-64" else chosen_source(told).encode())


@dataclass(frozen=True, slots=True)
class _Beside:
    """Reads a file that a SPEC names, by its place. targets: files to write. budget: of bytes to read of all files."""

    spec: str
    targets: tuple[str, ...]
    budget: Budget

    def __call__(self, name: str) -> bytes:
        from luoser.errors import UsageError
        from luoser.limits import LIMITS, how_to_raise
        from luoser.output import need_other
        from luoser.text import safe_text

        place, most = Path(beside(self.spec, name)), LIMITS.spec_size
        shown = safe_text(str(place))
        for target in self.targets:
            need_other(target, [str(place)])
        try:
            if not place.is_file():
                raise UsageError(f"{shown}: expected a file with the contents of a memfd")
            with place.open("rb") as file:
                data = file.read(most + 1)  # as it is: also what is packed is what a guest has
        except OSError as error:
            raise UsageError(f"{shown}: {error.strerror or error}") from error
        if self.budget.take(len(data)) < len(data):
            text = f"too large for a SPEC: expected at most {most} bytes of files"
            raise UsageError(f"{shown}: {text}; {how_to_raise('spec_size')}")
        return data


@click.command("build")
@click.argument("spec", required=False, type=click.Path())
@click.option("-o", "--output", "target", type=click.Path(), help="File to write; `-` is standard output.")
@click.option(
    "--format",
    "form",
    type=click.Choice((*_BLOBS, *_IMAGES, "patch")),
    help="Format of the output. Default: elf for a state, bin for a blob, kunit in the source of a kernel.",
)
@click.option(
    "--kernel",
    default="7.3",
    show_default=True,
    shell_complete=complete.releases,
    help="Kernel release to assume where SPEC has no layouts.",
)
@click.option(
    "--layout",
    metavar="NAME",
    shell_complete=complete.layouts,
    help="Layout of a device list or blob where SPEC has none.",
)
@click.option("--blob", metavar="WHERE", help="Write only this node of a state, such as pci[0], luo or an address.")
@click.option("--name", help="Name of the array in C. Default: the layout's.")
@click.option(
    "--mutate",
    metavar="RULE",
    shell_complete=complete.rules,
    help="Break this rule of `luoser check`, for a negative test.",
)
@click.option(
    "--kernel-tree",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Source of a kernel: add goldens of all nodes there (kunit or kselftest), and what its build needs. With "
    "--format patch it stays as it is.",
)
@click.option(
    "--all-mutations", metavar="DIR", type=click.Path(), help="Write a file for each rule that can be broken to DIR."
)
@click.option(
    "--list-mutations",
    metavar="LAYOUT",
    shell_complete=complete.layouts,
    help="List the rules that can be broken in a blob of LAYOUT.",
)
@click.option(
    "--machine",
    type=click.Choice(("x86-64", "arm64")),
    help="Machine that boots the image: what points its kernel to an incoming root, and the default of --base. "
    "Default: x86-64 for pages of 4 KiB, else arm64.",
)
@click.option(
    "--base",
    type=NUMBER,
    help="First physical address for what has none in SPEC. Default: 16 MiB; with --machine "
    "0x20000000 (x86-64) or 0x60000000 (arm64), where a kernel with 1 GiB has nothing of its own.",
)
@click.option("--chosen", metavar="FILE", type=click.Path(), help="Write the /chosen of an incoming root, as DTS.")
@click.option("--setup-data", metavar="FILE", type=click.Path(), help="Write the setup_data node of an incoming root.")
@click.option("--pad", is_flag=True, help="Fill a blob with zeros up to the size of the folio that a kernel allocates.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@limit_option
@click.pass_context
def command(
    context: click.Context,
    /,
    spec: str | None,
    target: str | None,
    kernel: str,
    layout: str | None,
    blob: str | None,
    mutate: str | None,
    kernel_tree: str | None,
    all_mutations: str | None,
    list_mutations: str | None,
    machine: str | None,
    base: int | None,
    chosen: str | None,
    setup_data: str | None,
    **output: Any,
) -> None:
    """Make the bytes that SPEC describes: one blob, C code with it, or the memory image of a handover.

    SPEC is a document of `inspect --full --contents --format json` or `decode --format json`, or the same in TOML;
    `-` is standard input. Anything with a default may be left out. Contents of a memfd may be `contents_text`, or
    `contents_file`, a file beside SPEC. The result is read again: exit code 1 if it differs from SPEC, with a line
    for each difference.

    \b
      luoser build list.toml -o list.bin
      luoser build list.toml -o list_test.c --format kunit
      luoser build list.toml -o bad.c --format kunit --mutate flags-illegal
      luoser build handover.toml --kernel-tree ~/linux
      luoser build handover.toml --kernel-tree ~/linux --format patch -o a.patch
      luoser build handover.toml -o handover.elf --kernel 7.2
    """
    from luoser.api.negatives import mutation_of
    from luoser.cli.hints import read_spec
    from luoser.errors import UsageError
    from luoser.limits import LIMITS
    from luoser.text import safe_text
    from luoser.writer.contents import with_contents
    from luoser.writer.spec import is_blob, list_as_state

    if list_mutations is not None:
        _list_mutations(list_mutations, context)
        return
    broken = mutation_of(mutate) if mutate is not None else None
    tree = _tree(kernel_tree, target, output["form"])
    outputs = [place for place in (target, kernel_tree if target is None else None, all_mutations) if place is not None]
    if spec is None or len(outputs) != 1 or (broken is not None and all_mutations is not None):
        raise UsageError(
            "expected SPEC and -o FILE, SPEC and --kernel-tree DIR, SPEC and --all-mutations DIR, or --list-mutations "
            "LAYOUT"
        )
    if tree is not None:
        output["form"] = tree.form
    shown = "standard input" if spec == "-" else safe_text(spec)
    values = read_spec(spec, shown)
    made = _Output(source=safe_text(Path(spec).name), target=target or "", tree=tree, **output)
    targets = [place for place in (target, chosen, setup_data) if place is not None]
    _check_outputs(spec, targets, force=made.force)
    try:
        is_node = is_blob(values) or blob is not None or tree is not None
        _refuse_idle(context, made, is_bare=is_blob(values), is_node=is_node)
        if is_blob(values) and broken is None and all_mutations is None:
            words = list(_build_blob(values, layout, made))
        else:
            if is_blob(values):
                _refuse_other_layout(values, layout)
                values, blob = list_as_state(values, layout), "pci[0]"
            boot = _Boot(machine=machine, base=base, chosen=chosen, setup_data=setup_data, force=made.force)
            values = with_contents(values, _Beside(spec, tuple(targets), Budget(LIMITS.spec_size, lambda: 0)))
            full, golden = _golden(values, kernel, layout, blob, made, boot)
            if all_mutations is not None:
                words = list(_write_all(golden, made, Path(all_mutations)))
            elif broken is not None:
                words = list(_write_broken(golden, made, boot, broken))
            else:
                words = list(_write_whole(golden, made, boot, full))
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from error
    for word in words:
        complain(f"{shown}: {word}")
    if words and broken is None and all_mutations is None:
        raise SystemExit(_DIFFERENT)


def _tree(folder: str | None, target: str | None, form: str | None) -> KernelTree | None:
    """The source of a kernel into which goldens go. Raises UsageError for options that do not fit it."""
    from luoser.errors import UsageError

    if folder is None:
        if form == "patch":
            raise UsageError("--format patch: needs --kernel-tree DIR, whose Makefile and Kconfig it changes")
        return None
    form = form or FORMS[0]
    if form not in FORMS:
        raise UsageError(f"--kernel-tree: expected --format {', '.join(FORMS)}, found {form}")
    if (target is None) == (form == "patch"):
        raise UsageError("--kernel-tree: expected -o FILE with --format patch, and only with it")
    return KernelTree(folder=folder, form=form, target=target or "")


def _list_mutations(name: str, context: click.Context) -> None:
    from luoser.api.negatives import rules_of
    from luoser.checks import rules
    from luoser.errors import UsageError
    from luoser.render.out import line

    others = [option for option in context.params if option != "list_mutations" and _is_given(context, option)]
    if others:
        raise UsageError("--list-mutations LAYOUT needs nothing else")
    slugs = {rule.id: rule.slug for rule in rules()}
    found = rules_of(name)
    for rule in found:
        line((rule, "name"), f"  {slugs[rule]}")
    if not found:
        complain(f"no rule can be broken in a blob of {name} alone")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def _check_outputs(spec: str, targets: list[str], *, force: bool) -> None:
    """Raises UsageError for outputs that are the SPEC, each other, or exist."""
    from luoser.errors import UsageError
    from luoser.output import need_other
    from luoser.text import safe_text

    for number, target in enumerate(targets):
        need_other(target, [spec])
        if any(Path(target).absolute() == Path(other).absolute() for other in targets[:number]):
            raise UsageError(f"{safe_text(target)}: given as two outputs; give another one")
        if Path(target).exists() and not force and target != "-":
            raise UsageError(f"{safe_text(target)}: exists; --force replaces it")


def _refuse_idle(context: click.Context, made: _Output, *, is_bare: bool, is_node: bool) -> None:
    """Raises UsageError for an option that would be without effect.

    is_bare: SPEC is a bare blob. is_node: only a blob is written.
    """
    from luoser.abi.release import release
    from luoser.errors import UsageError

    release(context.params["kernel"])
    blobs = ", ".join(_BLOBS)
    if is_bare and (made.form in _IMAGES or context.params["blob"] is not None):
        raise UsageError(
            f"SPEC is a bare blob: expected --format {blobs}; images and --blob need a SPEC with handovers"
        )
    if not is_node and made.form in _BLOBS:
        raise UsageError(f"--format {made.form} is for one blob: select it with --blob, such as --blob pci[0]")
    for name, is_idle, why in (
        ("kernel", is_bare, "for a SPEC with handovers: this one is a bare blob, whose layout says all"),
        ("machine", is_node, "for a whole image"),
        ("chosen", is_node, "for a whole image"),
        ("setup_data", is_node, "for a whole image"),
        ("base", is_bare, "for a SPEC with handovers"),
        ("name", made.form not in (*_C, *FORMS), f"the name of an array in C: expected --format {', '.join(_C)}"),
        ("pad", not is_node, "for a blob, not for an image"),
    ):
        if is_idle and _is_given(context, name):
            raise UsageError(f"--{name.replace('_', '-')} is {why}")


def _build_blob(values: Json, layout: str | None, made: _Output) -> Iterator[str]:
    from luoser.reader.blob import decode
    from luoser.state import blob_document
    from luoser.writer.spec import blob_bytes
    from luoser.writer.verify import differences

    _refuse_other_layout(values, layout)
    form, data = blob_bytes(values, None if "layout" in values else layout)
    made.blobs([(form, data)])
    read = blob_document(decode(data, form.name), path="")
    yield from (word for word in differences(values, read) if not word.startswith("size "))


def _refuse_other_layout(values: Json, layout: str | None) -> None:
    from luoser.errors import UsageError

    if layout is not None and values.get("layout", layout) != layout:
        raise UsageError(f"--layout {layout}: SPEC has {values['layout']}; leave out one of the two")


def _golden(
    values: Json, kernel: str, layout: str | None, blob: str | None, made: _Output, boot: _Boot
) -> tuple[Json, Golden]:
    """(full document, what is to be written)."""
    from luoser.api.built import with_layout
    from luoser.api.negatives import Golden
    from luoser.cli.kernel_tree import paths
    from luoser.errors import UsageError
    from luoser.state.from_json import from_document
    from luoser.writer import write
    from luoser.writer.complete import complete

    full = complete(with_layout(values, layout), kernel=kernel, base=boot.first)
    state = from_document(full)
    image = write(state, machine=boot.machine)
    boot.check(image)
    where = [blob] if blob is not None else paths(state) if made.tree is not None else []
    nodes = _nodes(image, state, where, one=blob is not None)
    if made.name is not None and len(nodes) > 1:
        raise UsageError(f"--name is for one blob, found {len(nodes)}; select one with --blob")
    return full, Golden(image=image, state=state, nodes=nodes, where=blob or "")


def _write_whole(golden: Golden, made: _Output, boot: _Boot, full: Json) -> Iterator[str]:
    """Write what SPEC describes. Yields what the image lacks, and how it differs from SPEC."""
    from luoser.reader import read
    from luoser.state import to_document
    from luoser.writer.verify import differences

    memory = _write(golden, golden.image, made)
    if not golden.nodes:
        boot.report(golden.image)
    yield from golden.image.lacks
    if made.target != "-" and not golden.nodes:
        golden.image.drop()  # it is read again from the file
    with memory:
        again = read(memory, page_size=golden.image.page_size if memory.is_guess else None, contents=True)
        yield from differences(full, to_document(again, full=True), memory)


def _write_broken(golden: Golden, made: _Output, boot: _Boot, broken: Mutation) -> Iterator[str]:
    """Write a negative. Yields what a kernel does with it."""
    from luoser.checks.outcome import outcomes

    image = golden.broken(broken)
    _write(golden, image, made, broken).close()
    if not golden.nodes:
        boot.report(image)
    yield f"breaks {broken.rule}. Expected of a kernel: {broken.answer}"
    yield from (f"recorded of {outcome.words}" for outcome in outcomes(broken.rule))
    yield from _how_to_check(golden, broken, image)
    yield from image.lacks


def _how_to_check(golden: Golden, broken: Mutation, image: Image) -> Iterator[str]:
    """The options that `check` needs to find a broken rule, where the bytes fit another layout better."""
    if options := " ".join(f"--layout {name}" for name in golden.asks_layouts(broken, image)):
        yield f"`luoser check {options}` finds {broken.rule}; without it another layout is assumed"


def _write_all(golden: Golden, made: _Output, folder: Path) -> Iterator[str]:
    """Write a negative for each rule that can be broken, to a file that is named like the rule."""
    from luoser.api import negatives
    from luoser.checks import rules
    from luoser.errors import UsageError

    folder.mkdir(exist_ok=True)
    slugs = {rule.id: rule.slug for rule in rules()}
    form, count = made.form or ("bin" if golden.nodes else "elf"), 0
    for broken, image in negatives.possible(golden):
        whole = replace(made, form=form)
        target = folder / f"{broken.rule}-{slugs[broken.rule]}{whole.suffix}"
        _write(golden, image, replace(whole, target=str(target)), broken).close()
        yield from _how_to_check(golden, broken, image)
        count += 1
    if not count:
        raise UsageError("no rule can be broken in this")
    yield f"{count} negatives in {folder}"


def _write(golden: Golden, image: Image, made: _Output, broken: Mutation | None = None) -> Memory:
    """Write a golden or negative. The result is the image as a source, as it was written."""
    from luoser.writer.image import write_image

    if golden.nodes:
        found = [(layout, image.read(address, size)) for layout, address, size in golden.changed(image)]
        made.blobs(found, page_size=image.page_size, broken=broken)
        return image.memory()
    write_image(made.target, image, made.form or "elf", force=made.force)
    return _written(made, image.page_size) if made.target != "-" else image.memory()


def _written(made: _Output, page_size: int) -> Memory:
    """The image that was written, as a source."""
    from luoser.memory.open import open_memory

    memory = open_memory(made.target, raw=made.form == "raw")
    if memory.page_size is None:
        memory.page_size = page_size
    return memory


def _nodes(image: Image, state: State, places: Iterable[str], *, one: bool) -> tuple[tuple[Layout, int, int], ...]:
    """The first node of each layout at some paths, as `node_at`. one: it has to exist."""
    from luoser.api.negatives import node_at
    from luoser.errors import UsageError

    found: dict[str, tuple[Layout, int, int]] = {}
    for where in places:
        try:
            node = node_at(image, state, where)
        except UsageError:
            if one:
                raise
        else:
            found.setdefault(node[0].name, node)
    return tuple(found.values())
