# SPDX-License-Identifier: MIT
"""Small kernels with KHO and LUO, built from Debian's source packages into a cache outside of the tree."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = [
    "CACHE",
    "FIRST_LUO",
    "SERIES",
    "Archive",
    "Kernel",
    "NoKernel",
    "add_options",
    "chosen",
    "compile_kernel",
    "compiler",
    "host",
    "kernel",
    "need_tools",
    "numbers",
]

CACHE = Path(os.environ.get("LUOSER_KERNELS", Path.home() / ".cache" / "luoser-kernels"))
"""Sources and kernels, one folder per series. Nothing else is written outside of the folder of a run."""
_HERE = Path(__file__).parent / "kernel"
SERIES = ("6.17", "6.18", "6.19", "7.1", "7.2", "7.3")
"""What is built, oldest first; on arm64 only the newest, with pages of each size."""
FIRST_LUO = (6, 19)
"""The first series that has LUO."""
_SUITES = "trixie trixie-backports sid"
_REQUIRED = "CONFIG_KEXEC_HANDOVER=y"
_MAKE = {"x86-64": ("x86_64", "bzImage", "arch/x86/boot/bzImage"), "arm64": ("arm64", "Image", "arch/arm64/boot/Image")}
_CROSS = {"x86-64": "x86_64-linux-gnu-", "arm64": "aarch64-linux-gnu-"}


class NoKernel(Exception):
    """The kernel cannot be had here. Its text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel in the cache.

    series:  such as 7.3.
    release: as uname -r says.
    machine: `x86-64` or `arm64`.
    pages:   `4K`, `16K` or `64K`.
    image:   bzImage or Image.
    symbols: its System.map.
    """

    series: str
    release: str
    machine: str
    pages: str
    image: Path
    symbols: Path

    @property
    def number(self) -> tuple[int, ...]:
        """The series as numbers."""
        return tuple(map(int, self.series.split(".")))

    def at(self, out: Path) -> Kernel:
        """The kernel of the same series in another folder. out: where it was built."""
        image, release = out / _MAKE[self.machine][2], (out / "include/config/kernel.release").read_text().strip()
        return replace(self, release=release, image=image, symbols=out / "System.map")

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return int(self.pages.removesuffix("K")) << 10


def kernel(series: str, machine: str = "x86-64", pages: str = "4K", *, build: bool = True) -> Kernel:
    """A kernel, built if it is not in the cache.

    series:  such as 7.3; the newest of it that the archive has.
    machine: `x86-64` or `arm64`.
    pages:   size of a page; other than 4K only on arm64.
    build:   False: only if it is in the cache.

    Raises NoKernel with the reason.
    """
    out = CACHE / series / f"{machine}-{pages}"
    stamp, wanted = out / "made-from", _fingerprint(machine, pages)

    def is_made() -> bool:
        return stamp.exists() and stamp.read_text() == wanted

    if not is_made():
        if not build:
            raise NoKernel(f"no kernel {series} for {machine} with pages of {pages} in the cache")
        with _alone(out.parent):
            if not is_made():  # by who was here before
                _build(_source(series), out, machine, pages)
                stamp.write_text(wanted)
    release = (out / "include/config/kernel.release").read_text().strip()
    image = out / _MAKE[machine][2]
    return Kernel(series=series, release=release, machine=machine, pages=pages, image=image, symbols=out / "System.map")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else builds in a folder of the cache: two builds in one destroy each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose kernels."""
    parser.add_argument("--kernel", action="append", choices=SERIES, help="default: all series")
    parser.add_argument("--machine", action="append", choices=("x86-64", "arm64"), help="default: both")
    parser.add_argument("--pages", action="append", choices=("4K", "16K", "64K"), help="default: each size")


def chosen(given: argparse.Namespace) -> list[tuple[str, str, str]]:
    """(series, machine, pages) of the kernels that a command line chooses."""
    return [
        (series, machine, pages)
        for series in given.kernel or SERIES
        for machine in given.machine or ("x86-64", "arm64")
        for pages in given.pages or ("4K", "16K", "64K")
        if (pages == "4K" if machine == "x86-64" else given.kernel or series == SERIES[-1])
    ]


def _fragments(machine: str, pages: str) -> list[Path]:
    own = [_HERE / f"config.{pages}"] if machine == "arm64" else []
    return [_HERE / "config", _HERE / f"config.{machine}", *own]


def _fingerprint(machine: str, pages: str) -> str:
    files = [*_fragments(machine, pages), *sorted(_HERE.glob("*.c"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# -- the source -------------------------------------------------------------------------------------------


def _source(series: str) -> Path:
    """The unpacked source of a series."""
    place = CACHE / series / "source"
    if (place / "Makefile").exists():
        return place
    archive, found = Archive(), CACHE / series / "package"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    package = f"linux-source-{series}"
    if archive.ask("show", package):
        archive.unpack(found, package)
        tarball = found / f"usr/src/{package}.tar.xz"
    else:
        versions = re.findall(rf"^Version: ({re.escape(series)}\.\S+)", archive.ask("showsrc", "linux"), re.MULTILINE)
        if not versions:
            raise NoKernel(f"the archive has no source of a kernel {series}")
        tarball = archive.tarball(found, sorted(set(versions), key=numbers, reverse=True))
    part = place.with_suffix(".part")
    part.mkdir(exist_ok=True)
    _run(["tar", "xf", str(tarball), "-C", str(part), "--strip-components=1"], found)
    _add_pci(part)
    part.rename(place)
    shutil.rmtree(found)
    return place


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


class Archive:
    """Debian's archive, by the sources that apt has here, with more suites in a configuration of its own."""

    def __init__(self, architecture: str = "amd64") -> None:
        """architecture: of binary packages, as Debian calls it."""
        if shutil.which("apt-get") is None:
            raise NoKernel("apt-get is not installed; kernels come from Debian's archive")
        lists = CACHE / f"lists-{architecture}"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        sources = CACHE / "debian.sources"
        places = "\n\n".join(file.read_text() for file in Path("/etc/apt/sources.list.d").glob("*.sources"))
        uri = re.search(r"^URIs: *(\S*/debian/?)(?: |$)", places, re.MULTILINE)
        if uri is None:
            raise NoKernel("no source of Debian's archive in /etc/apt/sources.list.d")
        keys = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
        sources.write_text(f"Types: deb deb-src\nURIs: {uri[1]}\nSuites: {_SUITES}\nComponents: main\n{keys}\n")
        self.options = [
            *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root"),
            *("-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures::={architecture}"),
        ]
        _run(["apt-get", *self.options, "-qq", "update"], CACHE)

    def ask(self, *words: str) -> str:
        """What apt-cache says, or nothing."""
        command = ["apt-cache", *self.options, *words]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout

    def tarball(self, place: Path, versions: Sequence[str]) -> Path:
        """The first upstream tarball that the archive still has; its lists name some that have left."""
        for version in versions:
            with suppress(NoKernel):
                self.get(place, "source", "--download-only", "--tar-only", f"linux={version}")
            for found in place.glob("linux_*.orig.tar.xz"):
                return found
        raise NoKernel(f"the archive has none of linux {', '.join(versions)} any more")

    def unpack(self, place: Path, package: str) -> None:
        """Download a binary package, and unpack it into a folder."""
        self.get(place, "download", package)
        for found in place.glob("*.deb"):
            _run(["dpkg-deb", "-x", found.name, "."], place)
            found.unlink()

    def get(self, place: Path, *words: str) -> None:
        """Download into a folder."""
        _run(["apt-get", *self.options, "-qq", *words], place)


# -- the build --------------------------------------------------------------------------------------------


def _add_pci(source: Path) -> None:
    """Add the lists of PCI devices that no released kernel has: an FLB of each file handler of a LUO with FLBs."""
    luo = source / "kernel/liveupdate"
    if "liveupdate_test_register(fh);" not in (text := _text(luo / "luo_file.c")):
        return
    shutil.copy(_HERE / "pci_flb.c", luo / "pci_flb.c")
    with (luo / "Makefile").open("a") as file:
        file.write("obj-$(CONFIG_LIVEUPDATE_TEST) += pci_flb.o\n")
    call = "liveupdate_test_register(fh);\n\t{ extern void pci_flb_register(struct liveupdate_file_handler *); "
    (luo / "luo_file.c").write_text(text.replace("liveupdate_test_register(fh);", f"{call}pci_flb_register(fh); }}", 1))


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _build(source: Path, out: Path, machine: str, pages: str) -> None:
    need_tools(machine)
    if (flb := source / "kernel/liveupdate/pci_flb.c").exists():
        shutil.copy(_HERE / "pci_flb.c", flb)
    out.mkdir(parents=True, exist_ok=True)
    fragment = out / "fragment"
    fragment.write_text("".join(file.read_text() for file in _fragments(machine, pages)))
    make = _make(out, machine)
    _run([*make, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"], source)
    if _REQUIRED not in (out / ".config").read_text():
        raise NoKernel(f"the kernel in {source} has no KHO on {machine}")
    compile_kernel(source, out, machine)


def need_tools(machine: str) -> None:
    """Raise NoKernel if a program is not here that builds kernels. machine: for which."""
    for tool in ("flex", "bison", "bc", "make", compiler(machine)):
        if not _has(tool):
            raise NoKernel(f"{tool} is not installed; docs/kernels.md lists what a build needs")


def compile_kernel(source: Path, out: Path, machine: str) -> None:
    """Build a configured kernel. out: folder of its .config. Raises NoKernel."""
    _run([*_make(out, machine), _MAKE[machine][1]], source, log=out / "build.log")


def _make(out: Path, machine: str) -> list[str]:
    make = ["make", "-s", f"O={out}", f"ARCH={_MAKE[machine][0]}", f"PAHOLE={_pahole()}", f"-j{os.cpu_count()}"]
    return make if machine == host() else [*make, f"CROSS_COMPILE={_CROSS[machine]}"]


_PAHOLE = (
    "pahole",
    "libdwarves1",
    "libbpf1",
    "libelf1t64",
    "libdw1t64",
    "zlib1g",
    "libzstd1",
    "liblzma5",
    "libbz2-1.0",
)
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def _pahole() -> str:
    """A pahole that writes BTF as kernels of the day want it: the one here, or the archive's with its own libraries."""
    here = (
        subprocess.run(["pahole", "--version"], check=False, capture_output=True, text=True) if _has("pahole") else None
    )
    if (here is not None and numbers(here.stdout) >= [1, 26]) or host() != "x86-64":
        return "pahole"
    root, wrapper = CACHE / "pahole", CACHE / "pahole" / "run"
    if not wrapper.exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        archive = Archive()
        for package in (*_PAHOLE, "libc6"):
            archive.unpack(root, package)
        libraries = root / "usr/lib/x86_64-linux-gnu"
        wrapper.write_text(f'#!/bin/sh\nexec {root}/{_LOADER} --library-path {libraries} {root}/usr/bin/pahole "$@"\n')
        wrapper.chmod(0o755)
    return str(wrapper)


def _has(tool: str) -> bool:
    return shutil.which(tool) is not None


def compiler(machine: str) -> str:
    """The C compiler for a machine."""
    return "gcc" if machine == host() else f"{_CROSS[machine]}gcc"


def host() -> str:
    """The machine that this runs on."""
    return {"x86_64": "x86-64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _run(command: Sequence[str], place: Path, *, log: Path | None = None) -> None:
    result = subprocess.run(command, check=False, cwd=place, capture_output=True, text=True)
    if log is not None:
        log.write_text(result.stdout + result.stderr)
    if result.returncode:
        raise NoKernel(f"{command[0]} {command[-1]} failed: {result.stderr.strip()[-300:]}")
