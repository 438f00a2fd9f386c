# SPDX-License-Identifier: MIT
"""Commands that take many sources."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import pytest

from luoser import __version__
from luoser.fleet.fingerprint import fingerprint
from tests import ktap, real, schemas
from tests.conftest import Run
from tests.images import Image
from tests.memory.servers import s3_bucket, served

FROZEN, POST, PRE = (real.path(f"7.3-a/{name}") for name in ("frozen", "post", "pre"))
COMMANDS = ("check", "inspect", "pci")


def results(output: bytes) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    for result in found:
        assert schemas.errors(result) == []
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return [Path(result["source"]["path"]).name for result in found]


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A folder of dumps: sound, with findings, without state, broken."""
    shutil.copy(FROZEN, tmp_path / "1-sound.elf.xz")
    (tmp_path / "2-broken.elf").write_bytes(b"\x7fELF" + bytes(100))
    (tmp_path / "3-empty.elf").write_bytes(Image(base=1 << 20).core())
    shutil.copy(POST, tmp_path / "4-sound.elf.xz")
    return tmp_path


# -- one result for each ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_document_of_each_is_that_of_the_command_alone(luoser_command: Run, command: str) -> None:
    many = results(luoser_command(command, FROZEN, POST, "--format", "jsonl").stdout)
    alone = [json.loads(luoser_command(command, source, "--format", "json").stdout) for source in (FROZEN, POST)]
    assert [result["document"] for result in many] == alone


def test_the_document_of_diff_is_that_of_the_command_alone(luoser_command: Run) -> None:
    many = results(luoser_command("diff", "--against", FROZEN, POST, PRE, "--format", "jsonl").stdout)
    alone = [json.loads(luoser_command("diff", FROZEN, source, "--format", "json").stdout) for source in (POST, PRE)]
    assert [result["document"] for result in many] == alone
    assert [result["verdict"] for result in many] == ["progress", "different"]


def test_a_result_names_its_source_and_what_it_cost(luoser_command: Run) -> None:
    (result,) = results(luoser_command("check", FROZEN, "--format", "jsonl").stdout)
    mark = fingerprint([str(FROZEN)])
    of = {"path": str(FROZEN), "sha256": mark.sha256, "etag": None, "format": "elf", "kernel": "7.3.4"}
    assert result["source"] == of and mark.is_known
    assert (result["command"], result["version"], result["verdict"]) == ("check", __version__, "sound")
    assert result["cost"]["seconds"] > 0 and result["cost"]["bytes_read"] > 4096
    assert (result["exit"], result["error"], result["messages"]) == (0, None, [])


def test_a_diff_names_both_sources(luoser_command: Run) -> None:
    document = json.loads(luoser_command("diff", FROZEN, POST, "--format", "json").stdout)
    assert [document[side]["path"] for side in ("before", "after")] == [str(FROZEN), str(POST)]


def test_the_result_of_a_diff_is_about_the_second_source(luoser_command: Run, tmp_path: Path) -> None:
    """Not about the baseline, if the other one is a document or cannot be read."""
    old = real.path("6.19-a/frozen")
    document, broken = tmp_path / "old.json", tmp_path / "broken.elf"
    document.write_bytes(luoser_command("inspect", old, "--full", "--format", "json").stdout)
    broken.write_bytes(b"")
    found = results(luoser_command("diff", "--against", FROZEN, document, broken, "--format", "jsonl").stdout)
    assert [result["source"]["kernel"] for result in found] == ["6.19.11", None]
    assert [result["source"]["format"] for result in found] == ["elf", None]
    assert [result["cost"]["bytes_read"] for result in found] == [None, None]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_read_is_a_result_and_the_run_goes_on(luoser_command: Run, hosts: Path, command: str) -> None:
    result = luoser_command(command, hosts, "--format", "jsonl")
    found = results(result.stdout)
    assert (result.returncode, result.stderr) == (2, b"")
    assert names(found) == ["1-sound.elf.xz", "2-broken.elf", "3-empty.elf", "4-sound.elf.xz"]
    assert [one["error"] is None for one in found] == [True, False, False, True]
    assert "2-broken.elf: " in found[1]["error"] and found[1]["document"] is None


def test_messages_of_a_source_that_was_judged_are_no_error(luoser_command: Run, tmp_path: Path) -> None:
    """A dump that is cut off and shows no root is inconclusive."""
    data = bytearray(subprocess.run(["xz", "-dc", FROZEN], check=True, capture_output=True).stdout)
    (tmp_path / "cut.elf").write_bytes(data[: len(data) // 8])
    (found,) = results(luoser_command("check", tmp_path / "cut.elf", "--format", "jsonl").stdout)
    assert (found["exit"], found["verdict"], found["error"]) == (4, "inconclusive", None)


# -- text -------------------------------------------------------------------------------------------------------------


def test_of_several_each_is_a_line(luoser_command: Run) -> None:
    result = luoser_command("check", FROZEN, POST)
    first, second = result.stdout.decode().splitlines()
    assert re.fullmatch(rf"{FROZEN}: sound, 1 info \(MAP020\): \d+ rules passed", first)
    assert re.fullmatch(rf"{POST}: sound: \d+ rules passed", second)
    assert result.stderr == b"luoser: 2 sources: 2 sound\n"


def test_a_line_of_inspect_says_what_is_handed_over(luoser_command: Run) -> None:
    shown = luoser_command("inspect", FROZEN, POST).stdout.decode().splitlines()
    assert shown[0] == (
        f"{FROZEN}: sound; elf, x86-64, kernel 7.3.4, 4 KiB pages; outgoing, 6 sessions, 64 files, 16 PCI devices"
    )


def test_a_line_of_pci_has_the_number_of_devices(luoser_command: Run) -> None:
    shown = luoser_command("pci", FROZEN, POST).stdout.decode().splitlines()
    assert shown[0] == f"{FROZEN}: outgoing 8 devices, pci-v2-u64; outgoing 8 devices, pci-lu-v2-03"


@pytest.mark.parametrize("command", COMMANDS)
def test_asked_for_all_of_each_is_shown(luoser_command: Run, command: str) -> None:
    both = luoser_command(command, FROZEN, POST, "--format", "text").stdout
    assert both == b"\n".join(luoser_command(command, source).stdout for source in (FROZEN, POST))


@pytest.mark.parametrize("option", ["--summary", "--all", "--full", "--contents", "--depth=1"])
def test_who_asks_for_more_gets_more_than_a_line(luoser_command: Run, option: str) -> None:
    both = luoser_command("inspect", FROZEN, POST, option).stdout
    assert both == b"\n".join(luoser_command("inspect", source, option).stdout for source in (FROZEN, POST))


# -- one document about all -------------------------------------------------------------------------------------------

ENDED = {"1-sound.elf.xz": True, "2-broken.elf": False, "3-empty.elf": False, "4-sound.elf.xz": True}
"""Whether each of the hosts is judged."""


def of_hosts(run: Run, hosts: Path, output: str) -> str:
    """What a format says of them. What could not be read is in it, and on stderr."""
    result = run("check", hosts, "--format", output)
    assert result.returncode == 2
    said = result.stderr.decode().splitlines()
    assert [line.startswith(f"luoser: {hosts}/{name}: ") for line, name in zip(said, list(ENDED)[1:3], strict=True)]
    return result.stdout.decode()


def test_in_ktap_each_is_a_test(luoser_command: Run, hosts: Path) -> None:
    tests = ktap.read(of_hosts(luoser_command, hosts, "ktap"))
    assert {Path(test.name).name: test.is_ok for test in tests} == ENDED
    alone = luoser_command("check", hosts / "1-sound.elf.xz", "--format", "ktap").stdout.decode()
    assert tests[0].tests == ktap.read(alone) != ()
    assert ["no KHO root" in test.reason for test in tests] == [False, False, True, False]


def test_in_junit_each_is_a_suite(luoser_command: Run, hosts: Path) -> None:
    suites = list(Tree.fromstring(of_hosts(luoser_command, hosts, "junit").encode()))
    assert {Path(one.attrib["name"]).name: one.attrib["errors"] == "0" for one in suites} == ENDED
    assert all(one.attrib["failures"] == "0" for one in suites)


def test_in_sarif_each_is_an_invocation(luoser_command: Run, hosts: Path) -> None:
    (run,) = json.loads(of_hosts(luoser_command, hosts, "sarif"))["runs"]
    (alone,) = json.loads(luoser_command("check", hosts / "1-sound.elf.xz", "--format", "sarif").stdout)["runs"]
    assert [invocation["executionSuccessful"] for invocation in run["invocations"]] == list(ENDED.values())
    assert run["invocations"][:1] == alone["invocations"] and run["tool"] == alone["tool"]


def test_for_github_what_was_not_read_is_an_error(luoser_command: Run, hosts: Path) -> None:
    lines = of_hosts(luoser_command, hosts, "github").splitlines()
    starts = ["::notice file=", f"luoser: {hosts}/1", "::error file=", "::error file=", f"luoser: {hosts}/4"]
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 5


def test_no_name_of_a_file_is_a_command_to_a_runner(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "##[error]a\n::error::b.elf").write_bytes(b"\x7fELF" + bytes(100))
    result = luoser_command("check", tmp_path, "--format", "github")
    said, annotation = result.stderr.decode(), result.stdout.decode()
    assert said.startswith("luoser: ") and annotation.startswith("::error file=")
    assert all(text.count("\n") == 1 and "##" not in text for text in (said, annotation))


@pytest.mark.parametrize("output", ["ktap", "junit", "github", "sarif"])
def test_no_document_has_the_secrets_of_a_url(luoser_command: Run, output: str) -> None:
    url = "http://user:hush@127.0.0.1:1/vm.elf?signature=hush"
    result = luoser_command("check", FROZEN, url, "--format", output)
    assert result.returncode == 2 and b"127.0.0.1" in result.stdout and b"hush" not in result.stdout + result.stderr


def test_what_a_command_printed_before_it_failed_is_no_part_of_a_document() -> None:
    from luoser.cli.many import _Answer, _result_of

    found = _result_of(("a", "b"), _Answer(exit=2, out="half of", said=("gone",)))
    assert (found.source, found.out, found.error) == ("a,b", "", "gone")


@pytest.mark.parametrize("output", ["junit", "github"])
def test_so_is_a_single_one_that_was_not_read(luoser_command: Run, hosts: Path, output: str) -> None:
    """An empty file is no result for who collects them."""
    result = luoser_command("check", hosts / "2-broken.elf", "--format", output)
    assert result.returncode == 2 and b"error" in result.stdout and b"2-broken.elf" in result.stdout
    assert luoser_command("check", "-", "--format", output, input=FROZEN.read_bytes()).returncode == 2


def test_a_format_of_one_document_is_for_one_source(luoser_command: Run) -> None:
    result = luoser_command("inspect", FROZEN, POST, "--format", "dot")
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"--format dot is for one source" in result.stderr


def test_errors_are_lines_on_stderr(luoser_command: Run, hosts: Path) -> None:
    result = luoser_command("check", hosts)
    assert len(result.stdout.splitlines()) == 2
    said = result.stderr.decode()
    assert "luoser: 4 sources: 1 not read, 2 sound, 1 without KHO state\n" in said
    assert f"luoser: {hosts}/2-broken.elf: " in said and "Traceback" not in said


# -- exit code --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "worst"), [({0}, 0), ({0, 3}, 3), ({3, 4, 0}, 4), ({4, 1, 3}, 1), ({2, 1, 4, 3, 0}, 2), ({130}, 130)]
)
def test_the_worst_of_all_is_the_exit_code(codes: set[int], worst: int) -> None:
    from luoser.cli.many import worst_of

    assert worst_of(codes) == worst


@pytest.mark.parametrize(("sources", "code"), [(("1*", "4*"), 0), (("1*", "3*"), 3), (("*",), 2)])
def test_a_source_without_state_is_worse_than_a_sound_one(
    luoser_command: Run, hosts: Path, sources: tuple[str, ...], code: int
) -> None:
    assert luoser_command("check", *(f"{hosts}/{name}" for name in sources)).returncode == code


# -- which sources ----------------------------------------------------------------------------------------------------


def test_lists_name_sources_beside_those_of_the_command_line(luoser_command: Run, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{POST}\n{PRE}\n")
    found = results(luoser_command("pci", FROZEN, "--from-list", tmp_path / "list", "--format", "jsonl").stdout)
    assert names(found) == [FROZEN.name, POST.name, PRE.name]
    listed = luoser_command("pci", "--from-list", "-", "--format", "jsonl", input=f"{POST}\n".encode()).stdout
    assert names(results(listed)) == [POST.name]


def test_no_source_at_all_is_an_error(luoser_command: Run) -> None:
    result = luoser_command("check", "--from-list", "-", input=b"")
    assert result.returncode == 2 and b"Missing argument SOURCE" in result.stderr


def test_standard_input_is_a_source_alone(luoser_command: Run) -> None:
    result = luoser_command("check", "-", FROZEN)
    assert result.returncode == 2 and b"standard input is a source only if there is no other" in result.stderr
    result = luoser_command("check", "-", "--format", "jsonl", input=FROZEN.read_bytes())
    assert result.returncode == 2 and b"standard input" in result.stderr


@pytest.fixture
def pipe() -> Iterator[int]:
    """A pipe with a dump in it, as `<(…)` of a shell makes one."""
    out, into = os.pipe()
    os.write(into, FROZEN.read_bytes())
    os.close(into)
    yield out
    os.close(out)


def test_pipes_are_sources_among_others(luoser_process: Run, pipe: int) -> None:
    found = luoser_process("check", PRE, f"/dev/fd/{pipe}", "--format", "jsonl", pass_fds=(pipe,))
    assert [result["verdict"] for result in results(found.stdout)] == ["sound", "sound"]


def test_a_pipe_is_no_baseline_of_several(luoser_process: Run, pipe: int) -> None:
    found = luoser_process("diff", "--against", f"/dev/fd/{pipe}", FROZEN, POST, pass_fds=(pipe,))
    assert found.returncode == 2 and b"expected a file, found a pipe" in found.stderr
    assert luoser_process("diff", "--against", f"/dev/fd/{pipe}", FROZEN, pass_fds=(pipe,)).returncode == 0


def test_the_files_of_a_split_dump_are_one_source(luoser_command: Run) -> None:
    parts = [real.ROOT / f"fixtures/formats/kdump-split-{number}.xz" for number in (1, 2)]
    for given in (parts, [",".join(map(str, parts))]):
        (found,) = results(luoser_command("check", *given, "--format", "jsonl").stdout)
        assert found["source"]["path"] == ",".join(map(str, parts))
        assert (found["source"]["format"], found["verdict"]) == ("kdump", "sound")


def test_each_is_compared_with_the_baseline(luoser_command: Run) -> None:
    result = luoser_command("diff", "--against", FROZEN, FROZEN.parent)
    lines = [line.rpartition("/")[2] for line in result.stdout.decode().splitlines()]
    assert "frozen.elf.xz: equal: no difference" in lines and "post.elf.xz: progress: 5 progress" in lines
    assert (result.returncode, len(lines)) == (1, 4)


def test_a_baseline_is_one_source(luoser_command: Run) -> None:
    result = luoser_command("diff", "--against", FROZEN.parent, POST)
    assert result.returncode == 2 and b"7.3-a: expected one source, found 4" in result.stderr


def test_split_dumps_can_be_compared(luoser_command: Run) -> None:
    parts = ",".join(str(real.ROOT / f"fixtures/formats/kdump-split-{number}.xz") for number in (1, 2))
    assert luoser_command("diff", parts, real.ROOT / "fixtures/formats/lime.xz").returncode == 0


# -- extract ----------------------------------------------------------------------------------------------------------


def test_each_cut_has_the_name_of_its_source(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("extract", FROZEN, POST, "-o", tmp_path / "{name}.gz")
    assert result.returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["frozen.elf.gz", "post.elf.gz"]
    cut = tmp_path / "frozen.elf.gz"
    both = [luoser_command("check", source, "--format", "json").stdout for source in (FROZEN, cut)]
    assert json.loads(both[0])["passed"] == json.loads(both[1])["passed"]


def test_results_of_extract_name_what_was_written(luoser_command: Run, tmp_path: Path) -> None:
    output = tmp_path / "{name}"
    found = results(luoser_command("extract", FROZEN, POST, "-o", output, "--format", "jsonl").stdout)
    assert [one["document"]["path"] for one in found] == [str(tmp_path / name) for name in ("frozen.elf", "post.elf")]


def test_several_sources_do_not_go_into_one_file(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("extract", FROZEN, POST, "-o", tmp_path / "one.elf")
    assert result.returncode == 2 and b"give a name such as {name}.elf.xz" in result.stderr


@pytest.mark.parametrize("how", ["name", "link"])
def test_no_cut_replaces_a_source_that_is_still_to_be_read(luoser_command: Run, tmp_path: Path, how: str) -> None:
    shutil.copy(FROZEN, tmp_path / "vm.xz")
    other = tmp_path / ("vm.elf" if how == "name" else "other")
    other.write_bytes(Image(base=1 << 20).core())
    if how == "link":
        (tmp_path / "vm.elf").hardlink_to(other)
    before = other.read_bytes()
    run = luoser_command("extract", tmp_path / "vm.xz", other, "-o", tmp_path / "{name}.elf", "--force")
    assert run.returncode == 2 and b"vm.elf: output and input are the same file" in run.stderr
    assert other.read_bytes() == before and sorted(path.name for path in tmp_path.iterdir())[-1] == "vm.xz"


def test_two_sources_of_one_name_are_refused(luoser_command: Run, tmp_path: Path) -> None:
    other = real.path("6.19-a/frozen")
    result = luoser_command("extract", FROZEN, other, "-o", tmp_path / "{name}")
    assert result.returncode == 2 and b"both are named frozen.elf" in result.stderr
    assert list(tmp_path.iterdir()) == []


# -- nothing depends on how it is done --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "inspect"])
def test_results_do_not_depend_on_jobs_and_order(luoser_command: Run, hosts: Path, command: str) -> None:
    def documents(*options: str) -> dict[str, str]:
        found = results(luoser_command(command, *options, "--format", "jsonl").stdout)
        for one in found:
            one["cost"].pop("seconds")
        return {one["source"]["path"]: json.dumps(one) for one in found}

    files = sorted(map(str, hosts.iterdir()))
    first = documents(str(hosts), "--jobs", "1")
    assert documents(*files, "--jobs", "3") == documents(*reversed(files), "--jobs", "2") == first


def test_a_source_that_takes_too_long_is_a_result(luoser_command: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    began = time.monotonic()
    result = luoser_command("check", tmp_path / "fifo", FROZEN, "--timeout", "2", "--format", "jsonl")
    first, second = results(result.stdout)
    assert "fifo: not read within 2 s; --timeout gives it more time" in first["error"]
    assert (second["verdict"], result.returncode) == ("sound", 2)
    assert time.monotonic() - began < 60


def test_memory_for_one_source_is_bounded(luoser_command: Run, tmp_path: Path) -> None:
    result = luoser_command("check", FROZEN, POST, "--memory", "8M", "--format", "jsonl")
    assert {one["error"].rpartition(": ")[2] for one in results(result.stdout)} <= {
        "out of memory",
        "the process that read it ended with exit code 1; others go on",
    }


def test_no_memory_at_all_is_refused(luoser_command: Run) -> None:
    """For the system that is no limit."""
    result = luoser_command("check", FROZEN, POST, "--memory", "0")
    assert result.returncode == 2 and b"'--memory': expected bytes, found 0" in result.stderr


def test_names_of_sources_do_not_reach_the_terminal_raw(luoser_command: Run, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b[31mred\n.elf.xz"
    shutil.copy(FROZEN, evil)
    for output in ("line", "text", "jsonl"):
        result = luoser_command("check", evil, POST, "--format", output)
        assert b"\x1b" not in result.stdout + result.stderr and result.returncode == 0


# -- at URLs ----------------------------------------------------------------------------------------------------------


def without_place(found: list[dict[str, Any]], place: str) -> list[str]:
    """Results without what depends on where a source lies: its name, its fingerprint, hints, and the cost."""
    for one in found:
        for name in ("sha256", "etag"):
            one["source"].pop(name)
        one.pop("cost")
        one.pop("messages")
        one["error"] = one["error"] and one["error"].partition(";")[0]  # a hint may be about a file
    return [json.dumps(one).replace(place, "") for one in found]


def test_results_do_not_depend_on_where_a_source_lies(luoser_command: Run, hosts: Path) -> None:
    with served(files={file.name: file for file in hosts.iterdir()}) as server:
        urls = [server.url(name) for name in sorted(server.files)]
        remote = results(luoser_command("check", *urls, "--format", "jsonl").stdout)
        assert {one["source"]["etag"] for one in remote} == {'"1"'} and remote[0]["source"]["sha256"] is None
        size = server.files["1-sound.elf.xz"].stat().st_size  # type: ignore[union-attr]
        assert remote[0]["cost"]["bytes_read"] == size and remote[0]["cost"]["requests"] > 0
    here = results(luoser_command("check", hosts, "--format", "jsonl").stdout)
    assert without_place(remote, server.base) == without_place(here, str(hosts))


def test_secrets_of_urls_are_in_no_result(luoser_command: Run, hosts: Path) -> None:
    with served(files={file.name: file for file in hosts.iterdir()}) as server:
        base = server.base.replace("http://", "http://user:geheimnis@")
        urls = [f"{base}/{name}?signature=geheimnis" for name in (*server.files, "gone")]
        for output in ("line", "jsonl"):
            result = luoser_command("check", *urls, "--format", output)
            assert b"geheimnis" not in result.stdout + result.stderr and result.returncode == 2


def test_a_pattern_stands_for_files_of_a_bucket(luoser_command: Run) -> None:
    with s3_bucket() as client:
        for name, file in (("a/1.elf.xz", FROZEN), ("a/2.elf.xz", POST), ("b/3.elf.xz", PRE)):
            client.put_object(Bucket="dumps", Key=name, Body=file.read_bytes())
        found = results(luoser_command("pci", "s3://dumps/a/*.xz", "--format", "jsonl").stdout)
        assert [one["source"]["path"] for one in found] == ["s3://dumps/a/1.elf.xz", "s3://dumps/a/2.elf.xz"]
        result = luoser_command("pci", "s3://dumps/c/*")
        assert (result.returncode, result.stderr) == (2, b"luoser: s3://dumps/c/*: no file there fits this pattern\n")
        result = luoser_command("pci", "s3://nothing/*")
        assert result.returncode == 2 and b"s3://nothing/*: " in result.stderr and b"Traceback" not in result.stderr


def test_workers_end_with_the_command(luoser_process: Run, tmp_path: Path) -> None:
    """An interrupted run leaves no process behind."""
    os.mkfifo(tmp_path / "fifo")
    command = [sys.executable, "-c", "from luoser.cli.main import main; main()", "check", tmp_path / "fifo", FROZEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=real.ROOT) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 30
        while len(workers := children.read_text().split()) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, b"luoser: interrupted\n")
    assert workers and not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
