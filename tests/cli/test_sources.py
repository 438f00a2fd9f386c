# SPDX-License-Identifier: MIT
"""The options that say what a source is: --symbols, --map, --base, --pc-hole; and folders of debugfs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luoser.cli.main import cli
from luoser.errors import SourceError, UsageError
from tests import real, schemas
from tests.conftest import Run
from tests.images import Image, Node, text, u64
from tests.kernels import PLACES, Kernel
from tests.memory.trees import debugfs

FROZEN = str(real.path("7.3-a/frozen"))
MIB = 1 << 20


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def out(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def roots(*arguments: str | Path) -> dict[str, str]:
    document = json.loads(out("inspect", "--format", "json", *arguments))
    assert schemas.errors(document) == []
    return {handover["address"]: handover["direction"] for handover in document["handovers"]}


# -- symbols --------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel that was handed a root and has one of its own: `core` and `System.map`."""
    made = Kernel(image=Image(base=MIB))
    made.hand(incoming=made.image.handover(), outgoing=made.image.handover())
    (tmp_path / "core").write_bytes(made.image.core(notes=made.note()))
    (tmp_path / "System.map").write_text(made.system_map())
    return made


def test_symbols_make_the_directions_certain(tmp_path: Path, kernel: Kernel) -> None:
    assert set(roots(tmp_path / "core").values()) == {"unknown"}
    assert list(roots(tmp_path / "core", "--symbols", tmp_path / "System.map").values()) == ["incoming", "outgoing"]
    shown = out("inspect", tmp_path / "core", "--symbols", tmp_path / "System.map")
    assert f"certain: kho_out, byte 0 of {tmp_path}/System.map points to it" in shown


@pytest.mark.parametrize("command", ["map", "pci"])
def test_every_command_takes_symbols(tmp_path: Path, kernel: Kernel, command: str) -> None:
    shown = out(command, tmp_path / "core", "--symbols", tmp_path / "System.map")
    assert "incoming" in shown and "outgoing" in shown


def test_both_sides_of_a_comparison_have_symbols(tmp_path: Path, kernel: Kernel) -> None:
    core, symbols = tmp_path / "core", tmp_path / "System.map"
    other = tmp_path / "other.map"
    other.write_text(symbols.read_text().replace(" _stext\n", " _stext_\n") + "ffffffff81234567 T _stext\n")
    pairing = out("diff", core, core, "--symbols", symbols)
    assert pairing.count("(incoming) and") == 1 and pairing.count("(outgoing) and") == 1
    assert "(unknown) and" in out("diff", core, core)
    assert out("diff", core, core, "--symbols", symbols, "--symbols", symbols) == pairing
    for given in ((symbols, other), (other, symbols)):
        with pytest.raises(SourceError, match=r"other\.map: symbols of another kernel"):
            invoke("diff", core, core, *(word for name in given for word in ("--symbols", name)))
    with pytest.raises(UsageError, match="--symbols: expected those of BEFORE and AFTER, found 3 files"):
        invoke("diff", core, core, *["--symbols", symbols] * 3)


def test_cut_with_symbols_keeps_what_they_told(tmp_path: Path, kernel: Kernel) -> None:
    """The pages of the variables are in it; those of the kernel's text are not."""
    out("extract", tmp_path / "core", "--symbols", tmp_path / "System.map", "-o", tmp_path / "cut")
    given = ("--symbols", tmp_path / "System.map")
    assert roots(tmp_path / "cut", *given) == roots(tmp_path / "core", *given)
    assert (tmp_path / "cut").stat().st_size < MIB


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", b"expected a System.map, kallsyms or vmlinux"),
        (f"{0:016x} T _stext\n{0:016x} b kho_in\n", b"kptr_restrict"),
        ("ffffffff81000000 T _start\n", b"no symbol in common with VMCOREINFO: expected one of _stext"),
    ],
)
def test_symbols_that_cannot_be_used_are_2(
    tmp_path: Path, kernel: Kernel, luoser_command: Run, text: str, words: bytes
) -> None:
    (tmp_path / "symbols").write_text(text)
    result = luoser_command("inspect", tmp_path / "core", "--symbols", tmp_path / "symbols")
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"luoser: ") and result.stderr.count(b"\n") == 1 and words in result.stderr


def test_symbols_of_another_kernel_are_2(tmp_path: Path, kernel: Kernel) -> None:
    other = Kernel(image=Image(), places={**PLACES, "clear_seq": PLACES["clear_seq"] + 64})
    (tmp_path / "other").write_text(other.system_map())
    with pytest.raises(SourceError, match="another kernel than"):
        invoke("inspect", tmp_path / "core", "--symbols", tmp_path / "other")


@pytest.mark.parametrize("name", ["nothing", "", "\x1b[31m"])
def test_symbols_that_are_not_there(tmp_path: Path, kernel: Kernel, name: str) -> None:
    with pytest.raises(SourceError) as caught:
        invoke("inspect", tmp_path / "core", "--symbols", tmp_path / name if name else "")
    assert str(caught.value).isprintable()


def test_cut_of_a_real_dump_says_that_it_has_no_variables(tmp_path: Path) -> None:
    truth = dict(line.split() for line in real.truth("7.3-a")[0]["sym"])
    info = real.dump("7.3-a/frozen").vmcoreinfo
    truth |= {"_stext": info["SYMBOL(_stext)"], "clear_seq": info["SYMBOL(clear_seq)"]}
    (tmp_path / "kallsyms").write_text("".join(f"{address} b {name}\n" for name, address in truth.items()))
    shown = out("inspect", FROZEN, "--symbols", tmp_path / "kallsyms")
    assert "variable kho_in: page 0x1d83" in shown and "inferred: the only root" in shown


# -- where the bytes of an image belong --------------------------------------------------------------------------


@pytest.fixture
def placed(tmp_path: Path) -> tuple[Path, str]:
    """An image that starts at 1 MiB, in which nothing is told by its contents but the root itself; its address."""
    image = Image(base=MIB)
    root = image.handover({"odd": (image.alloc(b"state"), 8)})
    (tmp_path / "image").write_bytes(image.data)
    return tmp_path / "image", f"{root:#x}"


@pytest.mark.parametrize(
    "options",
    [
        ["--base", "0x100000"],
        ["--base", "1048576"],
        ["--map", "0x100000:0x200000@0"],
        ["--map", "0x100000:0x10000@0", "--map", "0x110000:0x1f0000@0x10000"],
        ["--map", "0x110000:0x1f0000@0x10000", "--map", "0x100000:0x10000@0"],
    ],
)
def test_image_is_put_where_it_belongs(placed: tuple[Path, str], options: list[str]) -> None:
    file, root = placed
    assert roots(file, *options) == {root: "outgoing"}
    assert list(roots(file)) != [root]


def test_hole_of_a_pc(tmp_path: Path) -> None:
    image = Image(base=1 << 32, pages=128)
    root = image.handover({"odd": (image.alloc(b"state"), 8)})
    with (tmp_path / "image").open("wb") as file:
        file.seek(0x8000_0000)
        file.write(image.data)
    assert roots(tmp_path / "image", "--pc-hole", "0x80000000") == {f"{root:#x}": "outgoing"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--base", "0", "--pc-hole", "0x80000000"], "give only one of them"),
        (["--base", "0", "--map", "0:4096@0"], "give only one of them"),
        (["--map", "0:4096@0", "--pc-hole", "0x80000000"], "give only one of them"),
        (
            ["--map", "0:0x2000@0", "--map", "0x1000:0x1000@0x5000"],
            "two parts of the image overlap at address 0x1000",
        ),
        (["--map", "0:4096@0", "--map", "0:4096@0"], "two parts of the image overlap at address 0x0"),
        (["--map", "0:0@0"], "is empty"),
        (["--map", "0:4096@0x40000000"], "begins at byte 0x40000000, the image has 0x200000"),
        (["--pc-hole", "0xc0000000"], "begins at byte 0xc0000000, the image has 0x200000"),
        (["--pc-hole", "0"], "below 4 GiB"),
        (["--pc-hole", "0x100000000"], "below 4 GiB"),
    ],
)
def test_places_that_contradict_each_other_are_refused(
    placed: tuple[Path, str], options: list[str], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        invoke("inspect", placed[0], *options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "0", "0:1", "0@1", "0:@0", ":1@0", "0:1@", "x:1@0", "0:-1@0", "0:1@0@0", "\x1b:1@0"]
)
def test_map_that_is_none_is_2(placed: tuple[Path, str], text: str) -> None:
    result = invoke("inspect", placed[0], "--map", text)
    assert result.exit_code == 2 and "START:LENGTH@OFFSET" in result.output


@pytest.mark.parametrize("options", [["--base", "0x1000"], ["--pc-hole", "0x80000000"], ["--map", "0:1@0"]])
def test_dumps_say_themselves_where_their_bytes_are(options: list[str]) -> None:
    with pytest.raises(SourceError, match="format elf has physical addresses"):
        invoke("inspect", FROZEN, *options)


@pytest.mark.parametrize("base", ["0xffffffffffffffff", "0x10000000000000000", str(10**30), "0xfffffffff0000"])
def test_base_that_no_machine_has(placed: tuple[Path, str], base: str) -> None:
    with pytest.raises(UsageError, match="beyond the 52-bit physical address limit"):
        invoke("inspect", placed[0], "--base", base)


def test_core_that_claims_more_addresses_than_there_are(tmp_path: Path) -> None:
    image = Image(base=(1 << 64) - 32 * 4096)
    image.tree(Node("", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}))
    image._next = (1 << 64) + 4096
    image.tree(Node("", {"compatible": text("kho-v4"), "preserved-memory-map": u64(0)}))
    (tmp_path / "core").write_bytes(image.core())
    assert invoke("inspect", tmp_path / "core").exit_code == 0


# -- shifted images that put themselves right --------------------------------------------------------------------


@pytest.fixture
def shifted(tmp_path: Path) -> tuple[Path, str, str]:
    """An image of memory from 64 MiB on; the addresses of its root and of its LUO page."""
    image = Image(base=64 * MIB)
    luo = image.alloc(b"luo-v5\0\0" + u64(1))
    root = image.handover({"LUO": (luo, 32)})
    (tmp_path / "image").write_bytes(image.data)
    return tmp_path / "image", f"{root:#x}", f"{luo:#x}"


def test_root_of_a_shifted_image_is_named_as_it_is_shown(shifted: tuple[Path, str, str]) -> None:
    file, root, _ = shifted
    assert list(roots(file)) == [root] == list(roots(file, "--root", root))
    shown = out("inspect", file, "--root", root)
    assert "shifted image: assuming byte 0 is physical address 0x4000000; --map overrides this" in shown
    with pytest.raises(UsageError, match="no KHO root at"):
        invoke("inspect", file, "--root", f"{int(root, 16) - 64 * MIB:#x}")


def test_cut_and_blob_of_a_shifted_image(shifted: tuple[Path, str, str], tmp_path: Path) -> None:
    file, root, luo = shifted
    out("extract", file, "-o", tmp_path / "cut")
    assert list(roots(tmp_path / "cut")) == [root]
    said = out("extract", file, "-o", tmp_path / "blob", "--blob", "luo")
    assert luo in said and (tmp_path / "blob").read_bytes().startswith(b"luo-v5")


def test_cut_of_an_image_that_could_not_be_put_right_is_whole(tmp_path: Path) -> None:
    """Looking for a better place must not lose the pages that were read at the first one."""
    image = Image()
    image.handover({"LUO": (image.alloc(keep=False), 32)}, map_address=image.alloc(b"#!/bin/sh" * 99, keep=False))
    image.alloc(b"luo-v5\0\0" + u64(9), keep=False)
    (tmp_path / "image").write_bytes(image.data)
    out("extract", tmp_path / "image", "-o", tmp_path / "cut")
    assert roots(tmp_path / "cut") == roots(tmp_path / "image")


# -- debugfs ----------------------------------------------------------------------------------------------------


def test_folder_of_blobs(tmp_path: Path, luoser_command: Run) -> None:
    result = luoser_command("inspect", debugfs(tmp_path, "7.3-a/1"), "--format", "json")
    assert (result.returncode, result.stderr) == (0, b"")
    document = json.loads(result.stdout)
    assert (document["source"]["format"], document["handovers"][0]["direction"]) == ("debugfs", "incoming")


def test_blobs_are_not_cut_into_a_core(tmp_path: Path) -> None:
    """Their root has no address that could be written down."""
    debugfs(tmp_path / "kho", "7.3-a/1")
    with pytest.raises(UsageError, match="debugfs blobs have no pages"):
        invoke("extract", tmp_path / "kho", "-o", tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_blob_of_a_sub_tree_comes_out_of_debugfs(tmp_path: Path) -> None:
    folder = debugfs(tmp_path / "kho", "7.3-a/1")
    out("extract", folder, "-o", tmp_path / "out", "--blob", "subtrees[pci-luo-lab]")
    assert (tmp_path / "out").read_bytes() == (folder / "in/sub_fdts/pci-luo-lab").read_bytes()


def test_standard_input_is_no_folder_of_that_name(tmp_path: Path, luoser_process: Run) -> None:
    debugfs(tmp_path / "-", "7.3-a/1")
    result = luoser_process("inspect", "-", input=b"", cwd=tmp_path, env={"PYTHONPATH": str(real.ROOT)})
    assert result.returncode == 2 and b"standard input" in result.stderr


def test_limit_is_in_force_for_one_command() -> None:
    found = invoke("inspect", real.path("7.3-a/frozen"), "--limit", "entries=1", "--limit", "roots=0x10")
    assert found.exit_code == 0 and "--limit entries=N raises this limit, now 1" in found.output
    assert "--limit" not in out("inspect", real.path("7.3-a/frozen"))
    assert invoke("check", real.path("7.3-a/frozen"), "--limit", "entries=1").exit_code == 4


@pytest.mark.parametrize("word", ["entries", "entries=", "entries=-1", "entries=x", "nothing=1", "=1", ""])
def test_limit_that_is_none_is_2(word: str) -> None:
    assert invoke("inspect", real.path("7.3-a/frozen"), "--limit", word).exit_code == 2


def test_timeout_ends_the_wait_for_a_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = signal.getsignal(signal.SIGALRM)
    found = invoke("inspect", "--timeout", "0.2", tmp_path / "fifo")
    assert found.exit_code == 2 and "not read within 0.2 s; --timeout" in found.output
    assert signal.getsignal(signal.SIGALRM) is before
    assert invoke("inspect", "--timeout", "60", real.path("7.3-a/frozen")).exit_code == 0
