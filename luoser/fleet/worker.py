# SPDX-License-Identifier: MIT
"""A process that does tasks, one after the other. What happens to it happens to one source only."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO, NoReturn, cast

from luoser.fleet.task import Task

__all__ = ["OUT_OF_MEMORY", "Worker", "main", "own_memory"]

OUT_OF_MEMORY = "out of memory"
_SIZE = struct.Struct("<Q")
_START = "import sys; sys.path[:] = sys.argv[2:]; from luoser.fleet.worker import main; main(int(sys.argv[1]))"
_TIDY = 25.0
"""Seconds for a process to end by itself: two answers of QEMU, until a guest that was stopped runs again. One that has
nothing to put right ends at once."""
_MORE, _LAST = b"+", b"."
"""Before an answer: whether the process takes another task."""
_GROWN = 256 << 20
"""Bytes of memory of its own with which a worker ends after its task: the next one begins with little."""


class Worker:
    """A process for tasks, which begins with the first one. After it has ended, another one begins with the next task.

    memory: most bytes that it may use for itself; what it maps of files does not count.
    """

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, task: Task) -> None:
        """Hand over a task. The worker has none."""
        if self._process is not None and self._process.poll() is not None:
            self.end()
        data = pickle.dumps((task.call, task.args))
        while True:
            process = self._process = self._process or self._begun()
            try:
                _put(cast(BinaryIO, process.stdin), data)
                return
            except BrokenPipeError:  # it ended after its last task
                self.end()

    def _begun(self) -> subprocess.Popen[bytes]:
        paths = [str(Path(path).absolute()) for path in sys.path]
        return subprocess.Popen(
            [sys.executable, "-I", "-c", _START, str(self._memory), *paths],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            close_fds=False,  # a source may be one that a shell made: /dev/fd/63
        )  # fmt: skip

    def fileno(self) -> int:
        """A descriptor that can be read when the task is done, or the process has ended."""
        return cast(BinaryIO, cast("subprocess.Popen[bytes]", self._process).stdout).fileno()

    def take(self) -> tuple[Any, str, int]:
        """(what the task gave, why there is nothing, in words, bytes of the answer). Waits for it."""
        process = cast("subprocess.Popen[bytes]", self._process)
        data = _get(cast(BinaryIO, process.stdout))
        if data is None:
            code = process.wait()
            self.end()
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            return None, f"the process that read it ended {how}; others go on", 0
        if data[:1] == _LAST:
            self.end()
        value, lost = pickle.loads(data[1:])  # of our own process
        return value, lost, len(data)

    def end(self) -> None:
        """End the process, whatever it does. It may remove files that it was writing."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_TIDY)
            except subprocess.TimeoutExpired:
                process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):  # what it had not taken
                        stream.close()
            process.wait()


def own_memory() -> int:
    """Bytes of memory of this process that no file backs."""
    numbers = Path("/proc/self/statm").read_bytes().split()
    return (int(numbers[1]) - int(numbers[2])) * resource.getpagesize()


def main(memory: int) -> NoReturn:
    """Do tasks from standard input until it ends, with what is at work then. memory: as of `Worker`."""
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what a library prints is no answer
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory if hard < 0 else min(memory, hard), hard))
    tasks = SimpleQueue[bytes]()
    Thread(target=_receive, args=(source, tasks), daemon=True).start()
    while True:
        data = tasks.get()
        try:
            answer = pickle.dumps(_answer(data))
        except MemoryError:
            answer = pickle.dumps((None, OUT_OF_MEMORY))
        is_last = own_memory() > _GROWN
        _put(answers, (_LAST if is_last else _MORE) + answer)
        if is_last:
            os._exit(0)  # at once: the thread has the lock of what it reads


def _receive(source: BinaryIO, tasks: SimpleQueue[bytes]) -> None:
    """Take tasks. When whoever gives them is gone, end the process, also if the file that it reads never ends."""
    while (data := _get(source)) is not None:
        tasks.put(data)
    os.kill(os.getpid(), signal.SIGTERM)


def _answer(data: bytes) -> tuple[Any, str]:
    call, args = pickle.loads(data)  # of the process that began this one
    try:
        return call(*args), ""
    except MemoryError:
        return None, OUT_OF_MEMORY


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(_SIZE.pack(len(data)) + data)
    file.flush()


def _get(file: BinaryIO) -> bytes | None:
    """The next message. None: there is none, or not all of it."""
    head = file.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    data = file.read(size)
    return data if len(data) == size else None
