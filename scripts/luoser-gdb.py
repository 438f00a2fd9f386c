# SPDX-License-Identifier: MIT
"""Luoser inside of gdb, on a guest that gdb debugs through QEMU's stub.

    (gdb) target remote :1234
    (gdb) source luoser-gdb.py
    (gdb) luoser inspect
    (gdb) luoser hexdump luo.sessions[0]

The command runs the program luoser, which reads the guest through gdb: this file serves the stub's protocol to it on a
socket of its own, and passes on nothing but reads of memory and the questions where RAM is. So gdb's Python needs no
package, and may be older than luoser's. The guest stays as it is, and so does the stub's physical mode.
"""

import codecs
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import tempfile

import gdb

_COMMANDS = ("inspect", "check", "pci", "map", "hexdump", "diff", "extract", "report")
_MODE = "qemu.PhyMemMode"
_STEP = 1 << 14
_PACKET = re.compile(rb"\$([^#$]*)#[0-9a-fA-F]{2}")
_READ = re.compile(r"m([0-9a-f]{1,16}),([0-9a-f]{1,8})")


class Luoser(gdb.Command):
    """Show what the kernel of a QEMU guest hands over by kexec: KHO, LUO, the preserved PCI devices.

    luoser inspect|check|pci|map|hexdump|diff|extract|report [ARGUMENT]...

    Runs the program luoser on the memory of the guest. ARGUMENTs are those of the program without SOURCE, which is the
    guest; with diff it is BEFORE. `shell luoser help inspect` explains them. The program is looked for in PATH; the
    environment variable LUOSER names another one. Its exit code is in $_luoser_exitcode.
    """

    def __init__(self):
        super().__init__("luoser", gdb.COMMAND_DATA)

    def complete(self, text, word):
        return [name for name in _COMMANDS if name.startswith(word)] if text == word else gdb.COMPLETE_FILENAME

    def invoke(self, argument, from_tty):
        words = gdb.string_to_argv(argument)
        if not words or words[0] not in _COMMANDS:
            raise gdb.GdbError(f"expected luoser {'|'.join(_COMMANDS)}; others need no guest: shell luoser ...")
        program = _program()
        with _PhysicalMode(), tempfile.TemporaryDirectory(prefix="luoser-") as folder:
            code, errors = _run(program, words, f"{folder}/gdb")
        gdb.set_convenience_variable("_luoser_exitcode", code)
        if code == 2 or code < 0:
            raise gdb.GdbError(errors.strip() or "luoser failed")
        gdb.write(errors, gdb.STDERR)


def _program():
    named = os.environ.get("LUOSER")
    if named:
        return shlex.split(named)
    found = shutil.which("luoser")
    if found is None:
        raise gdb.GdbError("the program luoser is not in PATH; set LUOSER=... in the environment before gdb")
    return [found]


class _PhysicalMode:
    """The stub reads physical addresses in here, and then as before."""

    def __enter__(self):
        thread = gdb.selected_thread()
        if thread is None or thread.is_running():
            raise gdb.GdbError("expected a guest that is stopped: target remote HOST:PORT, and interrupt if it runs")
        self._before = _packet(f"q{_MODE}")
        if self._before not in ("0", "1"):
            raise gdb.GdbError("this target reads no physical addresses; the stub of QEMU 4.1 and later does")
        try:
            self._set("1")
        except BaseException:
            self._set(self._before)
            raise

    def __exit__(self, *_):
        self._set(self._before)

    @staticmethod
    def _set(mode):
        if _packet(f"Q{_MODE}:{mode}") != "OK":
            raise gdb.GdbError(f"the stub refuses Q{_MODE}:{mode}")


def _packet(text):
    """The stub's answer to a packet."""
    try:
        said = gdb.execute(f"maintenance packet {text}", to_string=True)
    except gdb.error as error:
        raise gdb.GdbError(f"no remote target: {error}") from None
    found = re.search(r'received: "(.*)"', said)
    return found[1] if found else ""


def _target():
    """What gdb is connected to, as `target remote` was told; gdb before 12 does not say it."""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    return getattr(connection, "details", None) or "target"


def _run(program, words, place):
    """(exit code, stderr) of luoser on this guest. place: a path for a socket."""
    width = gdb.parameter("width")
    environment = {**os.environ, "COLUMNS": str(width)} if width else dict(os.environ)
    environment.pop("PYTHONHOME", None)  # of gdb's own Python
    command = [*program, words[0], f"gdb:{place},as:{_target()}", "--pause", *words[1:]]
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryFile() as errors:
        listener.bind(place)
        listener.listen(1)
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        except OSError as error:
            raise gdb.GdbError(f"{program[0]}: {error.strerror}") from None
        with process:
            try:
                _serve(listener, process.stdout)
                code = process.wait()
            finally:
                process.terminate()
        errors.seek(0)
        return code, errors.read().decode("utf-8", "replace")


def _serve(listener, output):
    """Answer the program, and print what it prints, until its output ends."""
    connections, pending, decode = [], b"", codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        while True:
            for ready in select.select([output, listener, *connections], [], [])[0]:
                if ready is listener:
                    connections.append(listener.accept()[0])
                elif ready is output:
                    data = os.read(output.fileno(), 1 << 16)
                    gdb.write(decode(data, not data))
                    if not data:
                        return
                else:
                    data = _received(ready)
                    pending = _answered(ready, pending + data)
                    if not data:
                        connections.remove(ready)
                        ready.close()
    finally:
        for connection in connections:
            connection.close()


def _received(connection):
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _answered(connection, data):
    """Answer all packets in the data. Returns what is left of it."""
    end = 0
    for found in _PACKET.finditer(data):
        end = found.end()
        for answer in _answers(found[1].decode("latin-1")):
            body = answer.encode()
            try:
                connection.sendall(b"$" + body + b"#%02x" % (sum(body) & 255))
            except OSError:  # the program has ended
                return b""
    return data[end:]


def _answers(packet):
    """The packets that answer one of luoser's."""
    read = _READ.fullmatch(packet)
    if read is not None:
        return [_memory(int(read[1], 16), min(int(read[2], 16), _STEP))]
    if packet.startswith("qSupported"):
        return [f"PacketSize={2 * _STEP:x}"]
    if packet == f"q{_MODE}":
        return ["1"]
    if packet.startswith(f"Q{_MODE}:"):
        return ["OK"]  # it is set, and put back, by this file
    if packet.startswith("qRcmd,"):
        return [*_monitor(bytes.fromhex(packet[6:]).decode()), "OK"]
    return [""]


def _memory(address, size):
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size)).hex()
    except (gdb.error, OverflowError):
        return "E14"


def _monitor(command):
    """What QEMU's monitor says, in packets. Of the state what luoser wants to know: gdb holds the guest."""
    said = "VM status: paused (debug)"
    if command == "info mtree -f":
        said = gdb.execute("monitor info mtree -f", to_string=True)
    digits = said.encode().hex()
    return ["O" + digits[place : place + _STEP] for place in range(0, len(digits), _STEP)]


Luoser()
