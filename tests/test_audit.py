# SPDX-License-Identifier: MIT
"""Reading a dump writes nothing, starts nothing, talks to nobody: seen by an audit hook in a process of its own."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import golden, real
from tests.images import Image
from tests.kernels import Kernel
from tests.memory.trees import debugfs

_HOOK = r"""
import json, os, sys

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
UNNAMED = getattr(os, "O_TMPFILE", 0)
seen = []


def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(flags, int) or not flags & WRITES:
            return
        seen.append(["unnamed" if UNNAMED and flags & UNNAMED == UNNAMED else "open", str(path), str(mode), flags])
    elif event.split(".")[0] in ("socket", "subprocess", "urllib", "ftplib", "http", "smtplib", "shutil", "ctypes",
                                 "webbrowser", "pty"):
        if event not in ("ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle", "ctypes.addressof"):
            seen.append([event, *map(str, arguments)])
    elif event in ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile",
                   "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
                   "os.chmod", "os.chown", "os.utime", "os.setxattr", "os.kill", "exec.x"):
        seen.append([event, *map(str, arguments)])


sys.dont_write_bytecode = True
sys.addaudithook(hook)
WORK
from luoser.cli.main import cli
runs = []
for arguments in json.loads(sys.argv[1]):
    try:
        cli.main(args=arguments, prog_name="luoser")
    except SystemExit as end:
        runs.append([end.code or 0, seen[:]])
    seen.clear()
sys.stdout.flush()
print(json.dumps(runs), file=sys.stderr)
"""


def watched(*runs: list[str], work: str = "") -> list[tuple[int, list[list[str]]]]:
    """(exit code, what the hook saw) of each run of the command, in one process."""
    result = subprocess.run(
        [sys.executable, "-c", _HOOK.replace("WORK", work), json.dumps(runs)], check=False, capture_output=True,
        stdin=subprocess.DEVNULL, cwd=real.ROOT, timeout=600,
    )  # fmt: skip
    return [(code, seen) for code, seen in json.loads(result.stderr.splitlines()[-1])]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import lzma

    place = tmp_path_factory.mktemp("audit") / "frozen.elf"
    place.write_bytes(lzma.decompress(real.path("7.3-a/frozen").read_bytes()))
    return place


@pytest.mark.parametrize(
    "arguments",
    [["inspect"], ["inspect", "--contents", "--format", "json"], ["inspect", "--salvage"], ["pci"], ["map"]],
    ids=" ".join,
)
def test_reading_a_dump_opens_nothing_for_writing(unpacked: Path, arguments: list[str]) -> None:
    assert watched([*arguments, str(unpacked)]) == [(0, [])]


def test_symbols_shifted_images_and_debugfs_open_nothing_for_writing(tmp_path: Path) -> None:
    kernel = Kernel(image=Image(base=1 << 26))
    kernel.hand(outgoing=kernel.image.handover({"LUO": (kernel.image.alloc(b"luo-v5"), 32)}))
    kernel.info_page()
    (tmp_path / "image").write_bytes(kernel.image.data)
    (tmp_path / "System.map").write_text(kernel.system_map())
    given = ["inspect", str(tmp_path / "image"), "--symbols", str(tmp_path / "System.map")]
    folder = ["inspect", str(debugfs(tmp_path / "kho", "7.3-a/1"))]
    assert watched(given, [*given, "--base", "0x4000000"], folder) == [(0, [])] * 3


@pytest.mark.parametrize(
    "arguments",
    [["decode"], ["decode", "--format", "json"], ["abi", "detect"]],
    ids=" ".join,
)
def test_decoding_opens_nothing_for_writing(arguments: list[str]) -> None:
    names = ("pci-folio.bin", "kho-v4-root.dtb", "luo-session-block.bin")
    assert watched(*([*arguments, str(golden.GOLDEN / name)] for name in names)) == [(0, [])] * 3


@pytest.mark.parametrize("name", ["topology/lspci-xxx.txt", "topology/lspci-vmmnnDk.txt", "real/7.3-a/topology.json"])
def test_reading_a_topology_opens_nothing_for_writing(name: str) -> None:
    assert watched(["topology", str(real.ROOT / "fixtures" / name)]) == [(0, [])]


@pytest.mark.skipif(not Path("/sys/bus/pci/devices").is_dir(), reason="no PCI devices here")
def test_asking_this_machine_for_its_devices_starts_nothing() -> None:
    ((code, seen),) = watched(["topology"])
    assert code in (0, 2) and seen == []


def test_a_small_packed_dump_makes_no_file() -> None:
    assert watched(*(["inspect", str(real.path(name))] for name in ("7.3-a/frozen", "7.3-a/post"))) == [(0, [])] * 2


def test_a_large_packed_dump_makes_one_unnamed_file(tmp_path: Path) -> None:
    """The standard library tries out the temporary directory first, with a file that it removes again."""
    (tmp_path / "large").write_bytes(
        gzip.compress(lzma.decompress(real.path("7.3-a/frozen").read_bytes()) + bytes(4 << 20))
    )
    ((code, seen),) = watched(["inspect", str(tmp_path / "large")])
    assert code == 0
    tried = [event[1] for event in seen if event[0] == "os.remove"]
    rest = [event[:2] for event in seen if event[0] != "os.remove" and event[1] not in tried]
    place = tempfile.gettempdir()
    assert rest == [["open", place], ["unnamed", place]]
    assert len(tried) <= 1 and not any(Path(name).exists() for name in tried)


def test_a_broken_dump_makes_nothing_either(tmp_path: Path) -> None:
    place = tmp_path / "broken"
    place.write_bytes(b"\x7fELF" + bytes(100))
    before = sorted(tmp_path.iterdir())
    code = f"try:\n    import luoser\n    luoser.open({str(place)!r})\nexcept luoser.errors.LuoserError:\n    pass"
    assert watched(["--help"], work="import luoser.errors\n" + code) == [(0, [])]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("work", "event"),
    [
        ("open(os.devnull, 'w').close()", "open"),
        ("os.system('true')", "os.system"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import socket; socket.socket().close()", "socket.__new__"),
        ("import tempfile; tempfile.NamedTemporaryFile().close()", "open"),
    ],
)
def test_the_hook_sees_what_it_looks_for(work: str, event: str) -> None:
    assert event in {found[0] for _, seen in watched(["--help"], work=work) for found in seen}
