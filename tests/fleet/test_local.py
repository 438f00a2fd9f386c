# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from luoser.fleet import local
from luoser.fleet.local import Local, alone, cores, fair_memory
from luoser.fleet.task import Done, Task, in_order
from luoser.fleet.worker import Worker
from tests import real
from tests.fleet import calls

MEMORY = 512 << 20


def engine(jobs: int = 2, memory: int = MEMORY) -> Local:
    return Local(jobs=jobs, memory=memory)


def test_results_come_in_the_order_of_the_tasks() -> None:
    tasks = [Task(calls.wait, (0.3 if number == 0 else 0.0, number)) for number in range(6)]
    assert [done.value for done in in_order(engine(), tasks)] == list(range(6))


def test_without_order_they_come_as_they_are_done() -> None:
    tasks = [Task(calls.wait, (1.0, 0)), Task(calls.wait, (0.0, 1))]
    assert [done.number for done in engine().completed(tasks, lambda _: True)] == [1, 0]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_no_more_are_done_at_a_time_than_jobs(tmp_path: Path, jobs: int) -> None:
    tasks = [Task(calls.mark, (str(tmp_path / str(number)), number)) for number in range(8)]
    assert len(list(engine(jobs).completed(tasks, lambda _: True))) == 8
    assert 1 <= len({file.read_text() for file in tmp_path.iterdir()}) <= jobs


def test_a_process_that_ends_costs_its_own_task_only() -> None:
    tasks = [Task(calls.double, (1,)), Task(calls.end, (calls.SIGKILL,)), Task(calls.double, (2,))]
    first, second, third = in_order(engine(1), tasks)
    assert (first.value, third.value) == (2, 4)
    assert "ended by signal 9" in second.lost


def test_memory_is_bounded() -> None:
    tasks = [Task(calls.fill, (2 * MEMORY,)), Task(calls.fill, (1000,))]
    first, second = in_order(engine(1), tasks)
    assert (first.lost, second.value) == ("out of memory", 1000)


def test_a_task_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_GRACE", 0.1)
    began = time.monotonic()
    slow, quick = in_order(engine(1), [Task(calls.wait, (60.0, 0), 0.1), Task(calls.double, (3,), 30.0)])
    assert slow.lost.startswith("not done within 0.1 s; --timeout") and quick.value == 6
    assert time.monotonic() - began < 30


def test_what_a_call_prints_is_not_an_answer() -> None:
    (done,) = in_order(engine(1), [Task(calls.print_and_return, ("x" * 100,))])
    assert done.value == "x" * 100


def test_large_values_come_whole() -> None:
    (done,) = in_order(engine(1), [Task(calls.double, ("x" * (8 << 20),))])  # type: ignore[arg-type]
    assert len(done.value) == 16 << 20


def test_a_task_is_not_taken_before_there_is_room_for_it() -> None:
    taken = list[int]()

    def tasks() -> Iterator[Task]:
        for number in range(100):
            taken.append(number)
            yield Task(calls.double, (number,))

    with closing(engine().completed(tasks(), lambda _: True)) as results:
        next(results)
    assert len(taken) <= 4


def test_tasks_do_not_run_far_ahead_of_one_that_is_slow() -> None:
    started = list[int]()

    class Counting:
        def completed(self, tasks: object, may_start: object) -> Iterator[Done]:
            number = 1
            while may_start(number):  # type: ignore[operator]
                started.append(number)
                yield Done(number)
                number += 1
            yield Done(0)

    assert next(in_order(Counting(), [])).number == 0
    assert 100 < len(started) < 1000


def test_large_results_do_not_wait_in_any_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While the first task lasts, others begin until their results are as large as allowed."""
    monkeypatch.setattr("luoser.fleet.task._WAITING", 3 << 20)
    begun = list[int]()

    def tasks() -> Iterator[Task]:
        yield Task(calls.wait_for, (str(tmp_path / "go"), 30.0))
        for number in range(1, 20):
            begun.append(number)
            yield Task(calls.double, ("x" * (1 << 19),))

    def go() -> None:
        time.sleep(1.0)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=go)
    thread.start()
    results = in_order(engine(), tasks())
    next(results)
    early = len(begun)
    assert len(list(results)) == 19 and 3 <= early <= 6
    thread.join()


def test_processes_end_when_the_results_are_no_longer_wanted(tmp_path: Path) -> None:
    tasks = [Task(calls.mark, (str(tmp_path / "pid"), 1)), Task(calls.wait, (60.0, 0))]
    with closing(engine(1).completed(tasks, lambda _: True)) as results:
        next(results)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_worker_serves_again_after_its_process_was_killed() -> None:
    worker = Worker(MEMORY)
    try:
        assert alone(worker, Task(calls.end, (calls.SIGKILL,))).lost
        assert alone(worker, Task(calls.double, (4,))).value == 8
    finally:
        worker.end()


def test_a_process_of_its_own_does_not_grow(tmp_path: Path) -> None:
    """One that has used much memory is replaced by another one."""
    tasks = [Task(calls.mark, (str(tmp_path / "1"), 1)), Task(calls.keep, (300 << 20,))]
    tasks.append(Task(calls.mark, (str(tmp_path / "2"), 2)))
    assert [done.lost for done in in_order(engine(1, 1 << 30), tasks)] == ["", "", ""]
    assert (tmp_path / "1").read_text() != (tmp_path / "2").read_text()


def test_a_process_that_is_ended_removes_what_it_was_writing(tmp_path: Path) -> None:
    worker = Worker(MEMORY)
    worker.start(Task(calls.write, (str(tmp_path / "x"),)))
    while not list(tmp_path.iterdir()):
        time.sleep(0.01)
    worker.end()
    assert not list(tmp_path.iterdir())


def test_a_process_has_time_to_put_right_what_it_changed(tmp_path: Path) -> None:
    """As QEMU's stub needs some, after which the guest runs again."""
    worker, begun = Worker(MEMORY), tmp_path / "begun"
    worker.start(Task(calls.undo_slowly, (str(begun), str(tmp_path / "undone"))))
    while not begun.exists():
        time.sleep(0.01)
    worker.end()
    assert (tmp_path / "undone").exists()


def test_a_process_that_does_not_end_by_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luoser.fleet.worker._TIDY", 0.2)
    worker = Worker(MEMORY)
    worker.start(Task(calls.mark, (str(tmp_path / "pid"), 1)))
    assert worker.take()[0] == 1
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    worker.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_began_them(tmp_path: Path, number: signal.Signals) -> None:
    """Even if they wait for ever."""
    code = f"from tests.fleet import calls; calls.begin_and_wait({str(tmp_path / 'pid')!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=real.ROOT) as process:
        while not (tmp_path / "pid").exists() or not (text := (tmp_path / "pid").read_text()):
            time.sleep(0.01)
        process.send_signal(number)
    end = time.monotonic() + 30
    while (is_there := Path(f"/proc/{text}/stat").exists()) and time.monotonic() < end:
        if Path(f"/proc/{text}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    assert not is_there


def test_all_of_a_fair_share_fits_into_the_machine() -> None:
    assert 4 * fair_memory(4) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert cores() >= 1


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of dumps may come from anywhere."""
    for name in ("pickle", "struct", "resource", "luoser"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    (done,) = in_order(engine(1), [Task(calls.double, (1,))])
    assert done.value == 2
