# SPDX-License-Identifier: MIT
"""LUO as a branch of the tree: sessions, files, FLBs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from luoser.abi.luo import is_test_flb
from luoser.render.drawing import Drawing
from luoser.render.out import Part, Tree
from luoser.render.runs import file_runs, flb_runs, ranges_text, session_runs
from luoser.render.values import in_brackets, lost_folios, memfd_text, preserved_note, record_text
from luoser.state import Direction, File, Flb, Luo, PendingFlb, Session
from luoser.state.user_space import Said, UserSpace, user_space
from luoser.text import counted, rounded_size, safe_text

__all__ = ["LuoDrawing", "flb_names"]

_FILE_LINES = 30
"""Of more lines of files than these, each session has one that sums up its files."""
_USER_LINES = 8
"""Of more lines of what user space says of a session than these, only the first ones are shown."""
_SESSION_LINES = 40
"""Of more lines of sessions than these, only the first ones are shown."""


@dataclass(frozen=True)
class LuoDrawing(Drawing):
    """Draws LUO of a handover.

    lost: what is not preserved of each file that was looked at, by its id.
    said: what user space says of a session, by its id.
    """

    lost: dict[int, str] = field(default_factory=dict)
    said: dict[int, UserSpace] = field(default_factory=dict)

    def draw(self, tree: Tree, luo: Luo) -> None:
        """Add the branch."""
        state: Part = ("serialised", "good")
        if not luo.serialized:
            words = {
                Direction.INCOMING: "empty: consumed, or nothing was handed over",
                Direction.OUTGOING: "not serialised yet",
                Direction.UNKNOWN: "empty: not serialised yet, or consumed",
            }
            state = (words[self.handover.direction], "note")
        files = [file for session in luo.sessions for file in session.files]
        total = f": {counted(len(luo.sessions), 'session')}, {_files_text(files)}" if luo.serialized else ""
        number = "" if luo.number is not None else "no number  "
        place = f"{safe_text(luo.compatible or luo.layout)} at "
        branch = tree.add(("LUO", "name"), f"  {place}", (f"{luo.address:#x}", "address"), f"  {number}", state, total)
        if not luo.serialized:
            return
        if self.handover.is_taken:
            branch.add(("as handed over: retrieved or finished parts stay until they are reused", "quiet"))
        for entry in luo.subsystems:
            branch.add("subsystem ", (safe_text(entry.name), "name"), f"  data {entry.data:#x}")
        said = user_space(luo)
        self.said.update({id(luo.sessions[index]): words for index, words in said.items()})
        self._all_sessions(branch, luo.sessions)
        for run in flb_runs(luo.flbs) if self.folded else [(flb,) for flb in luo.flbs]:
            self._flbs(branch, run)

    def _all_sessions(self, branch: Tree, sessions: Sequence[Session]) -> None:
        if not self.folded:
            for session in sessions:
                self._session(branch, session)
            return
        runs = list(session_runs(sessions, self._lost, lambda session: id(session) in self.said))
        is_long = sum(sum(1 for _ in file_runs(run[0].files, self._lost)) for run in runs) > _FILE_LINES
        if is_long:
            branch.add(("files are summed up; --all lists them", "quiet"))
        for run in runs[:_SESSION_LINES]:
            self._sessions(branch, run, summed_up=is_long)
        left = [session for run in runs[_SESSION_LINES:] for session in run]
        if left:
            files = [file for session in left for file in session.files]
            branch.add((f"… {len(left)} more sessions, {_files_text(files)}; --all lists them", "note"))

    def _session(self, branch: Tree, session: Session) -> None:
        """One session with each of its files."""
        leaf = branch.add("session ", *_name(session), f"  {_files_text(session.files)}")
        self._user_space(leaf, session)
        for file in self.some(session.files, leaf):
            self._file(leaf, file)

    def _sessions(self, branch: Tree, run: Sequence[Session], *, summed_up: bool) -> None:
        """One session, or several in a row whose files are alike."""
        first, last = run[0], run[-1]
        head: list[Part] = ["session ", *_name(first)]
        if len(run) > 1:
            head = [f"{len(run)} sessions ", (safe_text(first.name), "name"), " … ", (safe_text(last.name), "name")]
        each = " each" if len(run) > 1 else ""
        if summed_up and first.files:
            leaf = branch.add(*head, f"  {_summary(first.files)}{each}")
            self._user_space(leaf, first)
            for file in self.some([file for session in run for file in session.files if self._is_odd(file)], leaf):
                self._file(leaf, file)
            return
        leaf = branch.add(*head, f"  {_files_text(first.files)}{each}")
        self._user_space(leaf, first)
        for files in file_runs(first.files, self._lost):
            if len(files) > 1:
                leaf.add(*self._files(files))
            else:
                self._file(leaf, files[0])

    def _user_space(self, leaf: Tree, session: Session) -> None:
        """What user space says of a session, apart from what the kernel says."""
        words = self.said.get(id(session))
        if words is None:
            return
        facts = "".join(f", {safe_text(fact)}" for fact in words.facts)
        branch = leaf.add(
            ("user space says", "quiet"), f"  {words.scheme.name}{facts}", (f"  (by {words.by})", "quiet")
        )
        lines: list[Part] = [said_text(entry) for entry in words.entries]
        lines += [(f"note: {safe_text(note)}", "note") for note in words.notes]
        most = _USER_LINES if self.folded and not self.full else len(lines)
        for line in lines[:most]:
            branch.add(line)
        if len(lines) > most:
            branch.add((f"… {len(lines) - most} more lines; --all has them", "note"))

    def _is_odd(self, file: File) -> bool:
        """Whether something of a file is not preserved, or it is a memfd that was not read to its end."""
        memfd = file.memfd
        is_cut = memfd is not None and len(memfd.folios.list) < memfd.folios.count
        return is_cut or bool(self._lost(file)) or (memfd is None and file.compatible.startswith("memfd"))

    def _lost(self, file: File) -> str:
        """What is not preserved of a file, in words: its data or its folios. Empty: nothing, or the map is not read."""
        if id(file) not in self.lost:
            data = preserved_note(self.map, file.data, brief=True)
            self.lost[id(file)] = data or lost_folios(self.map, file.memfd)
        return self.lost[id(file)]

    def _file(self, leaf: Tree, file: File) -> None:
        place = self._place(file.address)
        head = (f"file {file.token:#x}  ", (safe_text(file.compatible), "name"), *place, f"  data {file.data:#x}")
        page_size = self.page_size if self.folded else None
        lost = self._lost(file)
        style = "problem" if lost.endswith("not preserved") else "note"
        note: Part = (in_brackets(lost), style) if lost else self.note(file.data)
        if file.memfd is not None:
            what = f"  {memfd_text(file.memfd, page_size=page_size)}"
        else:
            is_unread = file.compatible.startswith("memfd") and not lost
            what = in_brackets("descriptor empty or not readable") if is_unread else ""
        entry = leaf.add(*head, note, what)
        if file.detail is not None:
            entry.add(record_text(file.detail, full=self.full))
        self.foreign(entry, file.contents)

    def _files(self, files: Sequence[File]) -> tuple[Part, ...]:
        """A line for files that are alike but for token and address."""
        memfd = files[0].memfd
        assert memfd is not None
        size, _, facts = memfd_text(memfd, page_size=self.page_size).partition("  ")
        what = "memfds" if files[0].compatible.startswith("memfd") else "files"
        name = (safe_text(files[0].compatible), "name")
        tokens = ranges_text([file.token for file in files])
        return f"{len(files)} {what} of {size}, tokens {tokens}  ", name, f"  {facts}" if facts else ""

    def _flbs(self, branch: Tree, run: Sequence[Flb]) -> None:
        """One FLB, or several in a row that the kernel's self-test made."""
        flb = run[0]
        if len(run) > 1:
            branch.add(*flb_names(run), f"  {counted(flb.count, 'file')} each")
            return
        note = in_brackets("magic of a test FLB") if is_test_flb(flb.data) else self.note(flb.data)
        detail = f"  {record_text(flb.detail, full=self.full)}" if flb.detail is not None else ""
        shown = f"  data {flb.data:#x}{note}  {counted(flb.count, 'file')}{detail}"
        entry = branch.add("FLB ", (safe_text(flb.name), "name"), *self._place(flb.address), shown)
        self.foreign(entry, flb.contents)

    def _place(self, address: int | None) -> tuple[Part, ...]:
        """Where an entry is. Empty: in a folded tree, or unknown."""
        return () if self.folded or address is None else (" at ", (f"{address:#x}", "address"))


def flb_names(run: Sequence[Flb | PendingFlb]) -> tuple[Part, ...]:
    """Number and names of several test FLBs in a row."""
    names = (safe_text(run[0].name), "name"), " … ", (safe_text(run[-1].name).rpartition("-")[2], "name")
    return f"{len(run)} FLBs ", *names, in_brackets("magic of test FLBs")


def _name(session: Session) -> tuple[Part, ...]:
    name = (safe_text(session.name) or "(no session)", "name")
    return (name, "  ", (f"{session.address:#x}", "address")) if session.address is not None else (name,)


def said_text(entry: Said) -> str:
    """One thing that user space names, as a line."""
    if entry.session is not None:
        return f"session {safe_text(entry.session)}: {safe_text(entry.what)}"
    return f"token {entry.token:#x}: {safe_text(entry.what)}" if entry.token is not None else safe_text(entry.what)


def _files_text(files: Sequence[File]) -> str:
    """The number of files, and the size of the memfds among them."""
    size = sum(file.memfd.size for file in files if file.memfd is not None)
    return counted(len(files), "file") + (f", {rounded_size(size)}" if size else "")


def _summary(files: Sequence[File]) -> str:
    """How many files each handler has, their size, and their tokens."""
    counts = Counter(safe_text(file.compatible) for file in files)
    kinds = ", ".join(f"{count} {name}" for name, count in counts.items())
    size = sum(file.memfd.size for file in files if file.memfd is not None)
    tokens = ranges_text(sorted(file.token for file in files))
    return f"{kinds}{f', {rounded_size(size)}' if size else ''}, tokens {tokens}"
