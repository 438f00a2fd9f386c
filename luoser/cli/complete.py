# SPDX-License-Identifier: MIT
"""What a shell offers in place of a word that is not finished: names that luoser knows, paths of a state."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from luoser.text import counted

__all__ = [
    "SHELLS",
    "changes",
    "commands",
    "files_of",
    "kernels",
    "layouts",
    "limits",
    "lists",
    "memfds",
    "nodes",
    "releases",
    "rules",
    "sources",
    "subjects",
]

_SECONDS = 3.0
"""A source that takes longer to read is given up: somebody waits for the shell."""
_MANY = 40
_Words = Callable[[click.Context], Iterable[tuple[str, str]]]
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _Bash(BashComplete):
    """The completion of bash, which splits `--limit=rep` into three words: they are joined again."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value completion word words=()

    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        [[ $word == "=" && ${words[-1]} == --* ]] || words+=("$word")
    done
    [[ $word == "=" ]] && words+=("")

    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete $1)

    for completion in $response; do
        IFS=',' read type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
            [[ $value == *= ]] && compopt -o nospace
        fi
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Zsh(ZshComplete):
    """The completion of zsh. Of `--limit=rep`, which is one word there, `--limit=` stays as it is."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local asked kind word help
    local -a named plain
    (( $+commands[%(prog_name)s] )) || return 1

    asked=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete %(prog_name)s)
    compset -P '--*='

    for kind word help in "${(@f)asked}"; do
        case $kind in
            plain) if [[ $help == _ ]]; then plain+=("$word"); else named+=("$word:$help"); fi ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done

    (( $#named )) && _describe -V unsorted named
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(FishComplete):
    """The completion of fish, where `--limit=rep` is one word, and what is offered begins as the word does."""

    source_template = """\
function %(complete_func)s
    set -l word (commandline -ct)
    set -l option (string match -r -- '^--[^=]+=' "$word")
    set -l asked (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD="$word" %(prog_name)s)

    for line in $asked
        set -l item (string split -m 1 , -- $line)
        set -l found "$item[2]"
        switch $item[1]
            case dir
                set found (__fish_complete_directories "$item[2]")
            case file
                set found (__fish_complete_path "$item[2]")
        end
        for text in $found
            echo -- "$option$text"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


SHELLS = (_Bash, _Zsh, _Fish)
"""Completion of each shell, in place of those of click: each offers the value of `--option=value`, too."""


def _completes(words: _Words) -> _Complete:
    """A completion with those of some (word, help) that begin as the word does. What cannot be read has none."""

    @functools.wraps(words)
    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        from luoser.errors import LuoserError

        try:
            return [CompletionItem(word, help=text) for word, text in words(context) if word.startswith(begun)]
        except (LuoserError, OSError, click.ClickException):
            return []

    return complete


@_completes
def layouts(_: click.Context) -> Iterator[tuple[str, str]]:
    """Names of layouts."""
    from luoser.abi.registry import layouts as known

    yield from ((layout.name, layout.seen_in) for layout in known())


@_completes
def lists(_: click.Context) -> Iterator[tuple[str, str]]:
    """`auto`, and names of layouts of device lists that can be read alone."""
    from luoser.abi.pci import LAYOUTS

    yield "auto", "the one that fits"
    yield from ((layout.name, layout.header.seen_in) for layout in LAYOUTS if layout.is_whole)


@_completes
def subjects(_: click.Context) -> Iterator[tuple[str, str]]:
    """Subjects of layouts."""
    from luoser.abi.registry import layouts as known

    yield from ((subject, "") for subject in dict.fromkeys(layout.subject for layout in known()))


@_completes
def rules(_: click.Context) -> Iterator[tuple[str, str]]:
    """Ids, slugs and families of rules."""
    from luoser.checks import rules as known

    for rule in known():
        yield rule.id, rule.slug
    yield from ((rule.slug, rule.id) for rule in known())
    yield from dict.fromkeys((rule.id[:3], "all of the family") for rule in known())


@_completes
def limits(_: click.Context) -> Iterator[tuple[str, str]]:
    """Names of limits, with `=`."""
    from luoser.limits import meanings

    yield from ((f"{name}=", word) for name, (_, word) in meanings().items())


@_completes
def releases(_: click.Context) -> Iterator[tuple[str, str]]:
    """Kernel releases with forms of their own."""
    from luoser.abi.release import RELEASES

    yield from ((release, "") for release in RELEASES)


def kernels(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Kernels for `compat`: releases, and what is a source."""
    return [*releases(context, parameter, begun), *files_of(context, parameter, begun)]


@_completes
def commands(context: click.Context) -> Iterator[tuple[str, str]]:
    """Names of commands."""
    group = context.find_root().command
    assert isinstance(group, click.Group)
    yield from ((name, "") for name in group.list_commands(context))


def nodes(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Paths of the nodes of the source. If these are many, those without a further dot."""
    found = _paths(context, parameter, begun)
    near = [item for item in found if "." not in item.value[len(begun) :]]
    return near if near and len(found) > _MANY else found


@_completes
def _paths(context: click.Context) -> Iterator[tuple[str, str]]:
    from luoser.render.report.nodes import nodes as known
    from luoser.state import State

    state = _state(context)
    if isinstance(state, State):
        yield from ((path, f"{node.address:#x}") for path, node in known(state))


@_completes
def memfds(context: click.Context) -> Iterator[tuple[str, str]]:
    """SESSION/TOKEN of each preserved memfd of the source."""
    from luoser.state import State
    from luoser.text import human_size, safe_text

    state = _state(context)
    for handover in state.handovers if isinstance(state, State) else ():
        for session in handover.luo.sessions if handover.luo is not None else ():
            for file in session.files:
                if file.memfd is not None and session.name == safe_text(session.name):
                    yield f"{session.name}/{file.token:#x}", human_size(file.memfd.size)


def sources(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Files, and `live:` once it is begun: with a word beside them bash shows no files."""
    live = [CompletionItem("live:")] if begun and "live:".startswith(begun) else []
    return [CompletionItem(begun, type="file"), *live]


def files_of(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Sources, and after one of them the paths of its nodes: click cannot know where many sources end."""
    is_next = context.command.name == "hexdump" and _given(context)
    return [*sources(context, parameter, begun), *(nodes(context, parameter, begun) if is_next else ())]


@_completes
def changes(context: click.Context) -> Iterator[tuple[str, str]]:
    """Patterns of the paths of changes between two sources. What the path begins with, if there are not two."""
    from luoser.api import diff
    from luoser.changes import PARTS
    from luoser.cli.common import within

    given = _given(context)
    if len(given) < 2:
        yield from ((part, "") for part in PARTS)
        return
    with within(_SECONDS, given[0]):
        found = diff(given[0], given[1]).changes
    counts = Counter(_pattern(change.where) for change in found)
    yield from ((pattern, counted(count, "change")) for pattern, count in counts.items())


_COLLECTIONS = ("files", "flbs", "handovers", "memblock", "pci", "sessions", "subtrees")
"""Parts of the path of a change that a name follows."""


def _pattern(path: str) -> str:
    """The pattern of the changes that are about the same member of anything."""
    parts = path.split("/")
    made = [
        "*" if before in _COLLECTIONS or part[:1].isdigit() else re.sub(r"\[.*\]$", "*", part)
        for before, part in zip(["", *parts], parts, strict=False)
    ]
    return "/".join(made)


def _given(context: click.Context) -> list[str]:
    """The sources that are on the command line already."""
    several = (context.params.get(name) or () for name in ("source", "sources"))
    words = [context.params.get("against"), *chain(*several), context.params.get("where"), *context.args]
    return [word for word in words if isinstance(word, str) and (word == "live:" or os.path.exists(word))]  # noqa: PTH110


def _state(context: click.Context) -> object:
    """The state of the sources on the command line. None: there are none."""
    from luoser.api import load
    from luoser.cli.common import within

    given = _given(context)
    if not given:
        return None
    with within(_SECONDS, given[0]):
        return load(*given)
