# SPDX-License-Identifier: MIT
"""What shells complete: asked as the scripts of share/ ask, and by bash, zsh and fish where they are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from luoser.cli import complete
from luoser.cli.main import _COMMANDS, cli
from tests import real, shell_files
from tests.conftest import Run
from tests.real import ROOT

FROZEN = str(real.path("7.3-a/frozen"))
OTHER = str(real.path("7.3-chain/frozen"))
WORDS = {
    "check --as a": ["auto"],
    "check --as luo-": [],
    "check --as pci-version-": [],
    "in": ["inspect"],
    "abi s": ["show"],
    "help dif": ["diff"],
    "inspect --de": ["--depth"],
    "inspect --format m": ["mermaid", "markdown"],
    "inspect li": ["li", "live:"],  # the first one: files
    "decode --as pci-v2-u": ["pci-v2-u64", "pci-v2-u32"],
    "check x --select flags-i": ["flags-illegal"],
    "compat 7.": ["7.0", "7.1", "7.2", "7.3"],
    "check --next 7.": ["7.0", "7.1", "7.2", "7.3"],
    "rules TO": ["TOP001", "TOP"],
    "abi list --subject mem": ["memblock", "memfd"],
    "inspect --limit report_h": ["report_hex="],
    f"hexdump {FROZEN} pc": ["pc", "pci[0]", "pci[1]"],
    f"hexdump {FROZEN} luo.sessions[0].": ["luo.sessions[0].blocks[0]", "luo.sessions[0].files[0].memfd"],
    f"extract {FROZEN} --blob luo.fl": ["luo.flbs[0]", "luo.flb_area"],
    f"extract {FROZEN} --memfd vm-w": ["vm-web-01/0x1a", "vm-web-01/0x1b", "vm-web-01/0x1c"],
    f"inspect {FROZEN} pc": ["pc"],
    "hexdump no-such-file luo.": ["luo."],
    "extract README.md --memfd v": [],
    "diff --ignore p": ["pci", "preserved"],
    f"diff {FROZEN} no-such-file --ignore p": ["pci", "preserved"],
    f"diff {FROZEN} {OTHER} --ignore pci": ["pci/*/address", "pci/*/driver_data"],
    f"diff --against {OTHER} {FROZEN} --ignore luo/sessions/*/f": ["luo/sessions/*/files/*/data"],
}


def completed(line: str) -> list[str]:
    *words, begun = line.split(" ")
    shell = ShellComplete(cli, {}, "luoser", "_LUOSER_COMPLETE")
    return [item.value for item in shell.get_completions(words, begun)]


@pytest.mark.parametrize("line", WORDS)
def test_what_is_completed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("luoser.cli.complete._SECONDS", 60.0)  # a busy machine reads a dump for longer
    found = completed(line)
    assert set(WORDS[line]) <= set(found)
    assert all(word.startswith(line.split(" ")[-1]) for word in found)
    assert bool(found) == bool(WORDS[line])


@pytest.mark.parametrize("command", ["inspect", "check --next 7.3", "compat 7.3", f"hexdump {FROZEN}"])
def test_files_come_alone_before_a_word_is_begun(command: str) -> None:
    """bash forgets its files for any other word."""
    shell = ShellComplete(cli, {}, "luoser", "_LUOSER_COMPLETE")
    found = shell.get_completions(command.split(), "")
    assert ("file" in [item.type for item in found]) and "live:" not in [item.value for item in found]


def test_a_source_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "_SECONDS", 0.001)
    assert completed(f"extract {FROZEN} --memfd vm-w") == []


def test_every_command_is_completed_without_being_imported() -> None:
    code = "import sys\nfrom tests.cli.test_complete import completed\nprint(*completed(''))\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    words, modules = (line.split() for line in result.stdout.splitlines())
    assert words == sorted(_COMMANDS)
    assert "luoser.cli.main" in modules and "luoser.cli.inspect" not in modules


def test_names_have_a_completion() -> None:
    """An option or argument whose value is a name that luoser knows offers these names."""
    known = {"LAYOUT", "PATTERN", "RULE", "RELEASE", "WHERE", "SESSION/TOKEN", "NAME=VALUE"}
    for name in _COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for parameter in command.params:
            metavar = parameter.metavar or getattr(parameter.type, "name", "")
            if metavar in known and (name, parameter.name) not in {("build", "blob")}:
                assert parameter._custom_shell_complete is not None, (name, parameter.name)


def of_shell(tmp_path: Path, shell: str, script: str) -> list[str]:
    """What a script in a shell prints, with `luoser` on the PATH."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "luoser").write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m luoser "$@"\n')
    (folder / "luoser").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [shell, *(("-f",) if shell == "zsh" else ()), "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_bash(tmp_path: Path) -> None:
    script = """
        . share/bash-completion/completions/luoser
        complete -p luoser
        COMP_WORDS=(luoser decode --as pci-v2-u) COMP_CWORD=3 COMPREPLY=()
        _luoser_completion luoser
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert of_shell(tmp_path, "bash", script)[-2:] == completed("decode --as pci-v2-u")


@pytest.mark.parametrize(
    ("line", "words", "like"),
    [
        ("decode --as=pci-v2-u", "luoser decode --as = pci-v2-u", "decode --as pci-v2-u"),
        ("inspect --limit=rep", "luoser inspect --limit = rep", "inspect --limit rep"),
        ("inspect --limit=", "luoser inspect --limit =", "inspect --limit "),
    ],
)
def test_bash_splits_at_the_sign_of_a_value(tmp_path: Path, line: str, words: str, like: str) -> None:
    script = f"""
        . share/bash-completion/completions/luoser
        compopt() {{ :; }}  # is for a running completion
        COMP_LINE='luoser {line}' COMP_WORDS=({words}) COMP_CWORD={words.count(" ")} COMPREPLY=()
        _luoser_completion luoser
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert of_shell(tmp_path, "bash", script) == completed(like) != []


@pytest.mark.parametrize("shell", shell_files.PLACES)
def test_the_script_that_the_command_prints_is_the_shipped_one(luoser_process: Run, shell: str) -> None:
    printed = luoser_process(env={**os.environ, "_LUOSER_COMPLETE": f"{shell}_source"}).stdout.decode()
    assert printed.strip() == (shell_files.SHARE / shell_files.PLACES[shell]).read_text().strip()


@pytest.mark.parametrize("line", ["decode --as pci-v2-u", "decode --as=pci-v2-u", "inspect --limit=rep", "in"])
def test_fish(tmp_path: Path, line: str) -> None:
    """What is offered has all of the word, `--as=` before a value, too."""
    script = f"source share/fish/vendor_completions.d/luoser.fish; complete -C 'luoser {line}'"
    option = line[line.index("--") : line.index("=") + 1] if "=" in line else ""
    rows = of_shell(tmp_path, "fish", script)
    assert {row.partition("\t")[0] for row in rows} == {option + word for word in completed(line.replace("=", " "))}


def test_fish_offers_files_as_the_value_of_an_option(tmp_path: Path) -> None:
    script = "source share/fish/vendor_completions.d/luoser.fish; complete -C 'luoser diff --against=fixt'"
    assert [row.partition("\t")[0] for row in of_shell(tmp_path, "fish", script)] == ["--against=fixtures/"]


@pytest.mark.parametrize("line", ["decode --as pci-v2-u", "decode --as=pci-v2-u", "inspect --limit=rep", "abi s"])
def test_zsh(tmp_path: Path, line: str) -> None:
    """What is offered is the rest of the word after `--as=`, which compset takes away."""
    script = f"""
        compdef() {{ true }}
        compset() {{ print -r -- "away $*" }}
        _describe() {{ print -l -- ${{(P)${{@[-1]}}}} }}
        compadd() {{ print -l -- ${{(P)${{@[-1]}}}} }}
        . share/zsh/site-functions/_luoser
        words=(luoser {line}) CURRENT={line.count(" ") + 2}
        _luoser_completion
    """
    away, *rows = of_shell(tmp_path, "zsh", script)
    assert away == "away -P --*="
    assert [row.partition(":")[0] for row in rows] == completed(line.replace("=", " "))


# -- the files ---------------------------------------------------------------------------------------------


def test_manual_pages_are_current() -> None:
    made = shell_files.manual()
    assert {place.name for place in (shell_files.SHARE / "man/man1").iterdir()} == {Path(path).name for path in made}
    stale = [path for path, text in made.items() if (shell_files.SHARE / path).read_text() != text]
    assert stale == [], "run `make pages`"


def test_scripts_are_current() -> None:
    made = shell_files.completions()
    stale = [path for path, text in made.items() if (shell_files.SHARE / path).read_text() != text]
    assert stale == [], "run `make pages`"


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="no mandoc")
def test_manual_pages_are_troff() -> None:
    pages = sorted((shell_files.SHARE / "man/man1").iterdir())
    command = ["mandoc", "-T", "lint", "-W", "warning", *pages]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in result.stdout.splitlines() if "missing date" not in line] == []
