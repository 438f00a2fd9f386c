# SPDX-License-Identifier: MIT
"""Output files: a name is taken when all was written, and never from somebody else."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from luoser.errors import UsageError
from luoser.output import need_other, new_file, new_output, packed_file


def names(place: Path) -> list[str]:
    return sorted(entry.name for entry in place.iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_new_file_has_its_bytes(tmp_path: Path, force: bool) -> None:
    with new_file(str(tmp_path / "out"), force=force) as file:
        file.write(b"hello")
        file.seek(1)
        assert file.read(2) == b"el"
    assert (tmp_path / "out").read_bytes() == b"hello"
    assert names(tmp_path) == ["out"]


def test_name_appears_only_when_all_is_written(tmp_path: Path) -> None:
    with new_file(str(tmp_path / "out"), force=False) as file:
        file.write(b"half")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_mode_is_that_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with new_file(str(tmp_path / "out"), force=False):
            pass
        assert os.umask(mask) == mask, "the mask of the process is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~mask


def test_existing_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(UsageError, match="--force"), new_file(str(tmp_path / "out"), force=False):
        pytest.fail("written to nevertheless")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_force_replaces_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    os.link(tmp_path / "out", tmp_path / "other")
    with new_file(str(tmp_path / "out"), force=True) as file:
        file.write(b"new")
        assert (tmp_path / "out").read_bytes() == b"old"
    assert (tmp_path / "out").read_bytes() == b"new"
    assert (tmp_path / "other").read_bytes() == b"old", "the bytes of the old file are not touched"
    assert names(tmp_path) == ["other", "out"]


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_is_not_followed(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "target"
    if exists:
        target.write_bytes(b"precious")
    (tmp_path / "out").symlink_to(target)
    with pytest.raises(UsageError), new_file(str(tmp_path / "out"), force=False):
        pytest.fail("written to nevertheless")
    assert (tmp_path / "out").is_symlink()
    assert target.exists() is exists


def test_force_replaces_a_symbolic_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "out").symlink_to(tmp_path / "target")
    with new_file(str(tmp_path / "out"), force=True) as file:
        file.write(b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_name_that_somebody_takes_meanwhile_is_left_to_them(tmp_path: Path, make: Callable[[Path], None]) -> None:
    with pytest.raises(UsageError, match="exists"), new_file(str(tmp_path / "out"), force=False) as file:
        file.write(b"mine")
        make(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert not (tmp_path / "out").is_file() or (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_failed_write_leaves_nothing_behind(tmp_path: Path, error: BaseException, force: bool) -> None:
    if force:
        (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(type(error)), new_file(str(tmp_path / "out"), force=force) as file:
        file.write(b"half" * 100_000)
        raise error
    assert names(tmp_path) == (["out"] if force else [])
    assert not force or (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None], force: bool) -> None:
    make(tmp_path / "out")
    before = (tmp_path / "out").lstat()
    with pytest.raises(UsageError, match="not a regular file"), new_file(str(tmp_path / "out"), force=force):
        pytest.fail("written to nevertheless")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").lstat() == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null", "/dev/fd/1", "/proc/self/fd/1", "/dev/luoser-new"])
def test_standard_output_and_devices_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, force: bool
) -> None:
    """As root a forced rename would put a file where /dev/null was."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="standard output"), new_file(name, force=force):
        pytest.fail("written to nevertheless")
    assert names(tmp_path) == []
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# -- file systems without hard links -----------------------------------------------------------------------


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_links")
def test_file_without_hard_links(tmp_path: Path) -> None:
    with new_file(str(tmp_path / "out"), force=False) as file:
        file.write(b"hello")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_bytes() == b"hello"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) & 0o600 == 0o600
    assert names(tmp_path) == ["out"]


@pytest.mark.usefixtures("no_links")
@pytest.mark.parametrize(
    "make", [lambda path: path.write_bytes(b"theirs"), Path.mkdir, lambda path: path.symlink_to("precious")]
)
def test_name_that_somebody_takes_meanwhile_without_hard_links(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"), new_file(str(tmp_path / "out"), force=False) as file:
        file.write(b"mine")
        make(tmp_path / "out")
    assert names(tmp_path) == ["out", "precious"]
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "out").is_file() or (tmp_path / "out").read_bytes() in (b"theirs", b"precious")


@pytest.mark.usefixtures("no_links")
def test_rename_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="no"), new_file(str(tmp_path / "out"), force=False):
        pass
    assert names(tmp_path) == []


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError), new_file(str(tmp_path / "no" / "out"), force=False):
        pass


def test_directory_that_is_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"), new_file(str(tmp_path / "a" / "out"), force=False):
        pass


def test_name_is_made_safe_in_the_error(tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[31m\nb"
    name.touch()
    with pytest.raises(UsageError) as caught, new_file(str(name), force=False):
        pass
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("how", ["same name", "other name", "hard link", "symbolic link"])
def test_input_is_no_output(tmp_path: Path, how: str) -> None:
    (tmp_path / "in").write_bytes(b"in")
    target = tmp_path / ("in" if how == "same name" else "out")
    if how == "other name":
        target = tmp_path / "." / ".." / tmp_path.name / "in"
    elif how == "hard link":
        os.link(tmp_path / "in", target)
    elif how == "symbolic link":
        target.symlink_to("in")
    with pytest.raises(UsageError, match="output and input are the same file"):
        need_other(str(target), ["-", str(tmp_path / "none"), str(tmp_path / "in")])


def test_a_file_of_a_folder_that_is_read_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "copy" / "out").mkdir(parents=True)
    (tmp_path / "copy" / "out" / "fdt").write_bytes(b"in")
    (tmp_path / "link").symlink_to("copy")
    for folder in ("copy", "link"):
        with pytest.raises(UsageError, match="a file of the folder that is read"):
            need_other(str(tmp_path / "copy" / "out" / "fdt"), [str(tmp_path / folder)])
        need_other(str(tmp_path / "copy" / "new"), [str(tmp_path / folder)])


def test_other_files_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"in")
    (tmp_path / "out").write_bytes(b"in")
    need_other(str(tmp_path / "out"), ["-", str(tmp_path / "none"), str(tmp_path / "in")])
    need_other(str(tmp_path / "new"), [str(tmp_path / "in"), str(tmp_path / "new")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("force", [False, True])
def test_signal_leaves_nothing_beside_the_target(tmp_path: Path, number: signal.Signals, force: bool) -> None:
    (tmp_path / "old").write_bytes(b"old")
    code = (
        "import resource, signal, sys, time\nfrom luoser.output import need_other, new_file\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"with new_file({str(tmp_path / ('old' if force else 'out'))!r}, force={force}) as file:\n"
        "    file.write(b'half')\n    print('open', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None and child.stdout.readline() == b"open\n"
        child.send_signal(number)
        assert child.wait(30) == -number
    assert names(tmp_path) == ["old"] and (tmp_path / "old").read_bytes() == b"old"


def test_a_second_signal_does_not_end_the_cleaning(tmp_path: Path) -> None:
    """A terminal that closes and systemd send more than one."""
    code = (
        "import os, pathlib, signal\nfrom luoser.output import new_file\nremove = pathlib.Path.unlink\n"
        "def unlink(*given):\n    os.kill(os.getpid(), signal.SIGHUP)\n    remove(*given)\n"
        "pathlib.Path.unlink = unlink\n"
        f"with new_file({str(tmp_path / 'out')!r}, force=False):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGTERM
    assert names(tmp_path) == []


EVERYWHERE = """
import os, pathlib, resource, signal, sys, tempfile
from luoser.output import new_file

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, number, force, fault = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True", sys.argv[4]
tempfile.gettempdir()
if fault == "link":
    os.link = lambda *_: exec("raise OSError")

def write(place):
    count = 0
    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.endswith(("output.py", "tempfile.py")):
            return None
        count += 1
        if count == place:
            os.kill(os.getpid(), number)
        return trace
    sys.settrace(trace)
    with new_file(str(folder / "out"), force=force) as file:
        file.write(b"whole")
        if fault == "error":
            raise ZeroDivisionError

place, status = 0, 1
while status & 127 or status >> 8 == 1:
    place += 1
    child = os.fork()
    if not child:
        try:
            write(place)
        except ZeroDivisionError:
            os._exit(2)
        except KeyboardInterrupt:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    for left in folder.iterdir():
        if left.name != "out" or left.read_bytes() != b"whole":
            sys.exit(f"signal at event {place}: {left.name} is left")
        left.unlink()
sys.exit(0 if place > 50 else "the signal did not come")
"""
"""Writes a file until a signal at the n-th line has not come."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("force", "fault"), [(False, ""), (True, ""), (False, "error"), (False, "link")])
def test_signal_at_any_line_leaves_nothing(tmp_path: Path, number: signal.Signals, force: bool, fault: str) -> None:
    code = [sys.executable, "-c", EVERYWHERE, str(tmp_path), str(int(number)), str(force), fault]
    done = subprocess.run(code, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_signals_are_as_before_after_a_file(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)]
    with new_file(str(tmp_path / "out"), force=False):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)] == before


# -- what errors name --------------------------------------------------------------------------------------


def test_an_error_names_the_output_and_not_its_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, new_file(str(tmp_path / "no" / "out"), force=False):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "out")
    with pytest.raises(OSError) as full, new_file(str(tmp_path / "out"), force=False):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(tmp_path / "out")


def test_an_error_of_the_source_is_not_one_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, new_file(str(tmp_path / "out"), force=False):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert caught.value.filename is None


# -- standard output and compression -----------------------------------------------------------------------


def test_standard_output_gets_all_or_nothing(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with pytest.raises(ValueError), new_output("-", force=False) as file:
        file.write(b"half")
        raise ValueError
    assert capfdbinary.readouterr().out == b""
    with new_output("-", force=False) as file:
        file.write(b"whole")
    assert capfdbinary.readouterr().out == b"whole"


def test_a_terminal_gets_no_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(UsageError, match="is a terminal"), new_output("-", force=False):
        pytest.fail("written to nevertheless")


@pytest.mark.parametrize(("name", "unpack"), [("x.xz", lzma.decompress), ("x.gz", gzip.decompress), ("x", bytes)])
def test_packed_file(tmp_path: Path, name: str, unpack: Callable[[bytes], bytes]) -> None:
    with packed_file(str(tmp_path / name), force=False) as file:
        file.seek(4)
        file.write(b"hello")
    assert unpack((tmp_path / name).read_bytes()) == b"\0\0\0\0hello"


@pytest.mark.parametrize("suffix", [".lz4", ".zip", ".Z"])
def test_names_of_other_compressors_are_refused(tmp_path: Path, suffix: str) -> None:
    place = tmp_path / f"x.elf{suffix}"
    with pytest.raises(UsageError, match=r"expected a name that ends with \.xz"), packed_file(str(place), force=False):
        pass
    assert not place.exists()
