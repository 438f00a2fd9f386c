# SPDX-License-Identifier: MIT
"""What user space says of the sessions that it made: whose they are, and what their tokens stand for.

It is read from names, tokens and contents that user space chose. The kernel looks at none of it, so it is kept apart
from the state: no rule and no comparison uses it, and it is never a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from luoser.abi.names import (
    CRIU,
    MAPPING_TOKEN,
    MAPPING_VERSION,
    NANOVMM,
    NANOVMM_MAGIC,
    SCHEMES,
    SYSTEMD,
    Scheme,
    criu_image,
)
from luoser.errors import FormatError
from luoser.limits import LIMITS, how_to_raise
from luoser.state.model import File, Luo, Memfd, Session
from luoser.text import counted

__all__ = ["Said", "UserSpace", "file_bytes", "user_space"]

_LONGEST = 255
_NOTES = 16
"""Most notes on entries of units. A mapping of 64 KiB has room for 6000."""
_STATE = 24
"""Bytes of the head of NanoVMM's machine state: u64 magic, u32 version, u32 vCPUs, u64 bytes of RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One thing that user space names.

    what:    in words, with names that user space chose, not made safe.
    token:   of the file. None: not a file of this session.
    session: name of another session. None: not a session.
    """

    what: str
    token: int | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpace:
    """What user space says of one session.

    scheme:  whose session it is.
    by:      what shows it, in words.
    facts:   of the whole session, in words.
    entries: what it preserved.
    notes:   where its words do not fit each other or the session, and what could not be read; with names that user
             space chose, not made safe.
    """

    scheme: Scheme
    by: str
    facts: tuple[str, ...] = ()
    entries: tuple[Said, ...] = ()
    notes: tuple[str, ...] = ()


def user_space(luo: Luo) -> Mapping[int, UserSpace]:
    """What user space says, by index of the session. Other sessions belong to no scheme that is known.

    luo: with contents, else no mapping can be read. Of more sessions than LIMITS.user_space the rest is left out.
    """
    made: dict[int, UserSpace] = {}
    names = Counter(session.name for session in luo.sessions)
    for index, session in enumerate(luo.sessions):
        scheme = next((scheme for scheme in SCHEMES if _fits(scheme, session)), None)
        if scheme is None:
            continue
        if len(made) >= LIMITS.user_space:
            text = f"later sessions were not looked at for the words of user space; {how_to_raise('user_space')}"
            last = max(made, default=None)
            if last is not None:
                made[last] = replace(made[last], notes=(*made[last].notes, text))
            break
        made[index] = _read(scheme, session, names)
    return made


def _fits(scheme: Scheme, session: Session) -> bool:
    if scheme.session is not None and not scheme.session.fullmatch(session.name):
        return False
    if not scheme.handlers:
        return scheme.session is not None
    found = {file.token: file.compatible for file in session.files if file.token in scheme.handlers}
    return all(found.get(token, "").startswith(handler) for token, handler in scheme.handlers.items())


def _read(scheme: Scheme, session: Session, names: Mapping[str, int]) -> UserSpace:
    if scheme is SYSTEMD:
        return _Mapping(session, names).read()
    if scheme is CRIU:
        return UserSpace(scheme=scheme, by="the session's name", **_images(session))
    by = "its tokens and handlers" if scheme.session is None else "the session's name"
    entries = tuple(Said(what=what, token=file.token) for file, what in _known(scheme, session.files))
    return UserSpace(scheme=scheme, by=by, entries=entries, facts=_machine(session) if scheme is NANOVMM else ())


def _known(scheme: Scheme, files: Iterable[File]) -> Iterator[tuple[File, str]]:
    for file in files:
        what = scheme.of_token(file.token)
        if what is not None:
            yield file, what


def _images(session: Session) -> dict[str, Any]:
    """Of CRIU: the images whose tokens are the hashes of names that are known."""
    matched = CRIU.session.fullmatch(session.name) if CRIU.session is not None else None
    assert matched is not None
    pid, entries = int(matched[1]), list[Said]()
    for index, file in enumerate(session.files):
        name = criu_image(file.token, index, pid)
        if name is not None:
            entries.append(Said(what=name, token=file.token))
    left = len(session.files) - len(entries)
    notes = (f"{left} of {len(session.files)} tokens are not those of images that are known by name",) if left else ()
    return {"facts": (f"process {pid}",), "entries": tuple(entries), "notes": notes}


def _machine(session: Session) -> tuple[str, ...]:
    """Of NanoVMM: the head of its machine state."""
    state = next((file.memfd for file in session.files if file.token == 0x2000), None)
    data = file_bytes(state) if state is not None else None
    if data is None or len(data) < _STATE or int.from_bytes(data[:8], "little") != NANOVMM_MAGIC:
        return ()
    version, cpus, size = (int.from_bytes(data[at:end], "little") for at, end in ((8, 12), (12, 16), (16, 24)))
    return f"machine state version {version}", f"{cpus} vCPUs", f"{size:#x} bytes of RAM"


def file_bytes(memfd: Memfd) -> bytes | None:
    """The bytes of a small file, from its contents. None: it has none, or not all of them."""
    if not memfd.contents or not 0 < memfd.size <= LIMITS.contents_size:
        return None
    pieces, page, made = {piece.address: piece for piece in memfd.contents}, memfd.folios.list.page_size, bytearray()
    for index, address, _ in memfd.folios.list.rows():
        if index * page >= memfd.size:
            break
        piece = pieces.get(address)
        if piece is None or index * page != len(made):  # a hole, or a folio before it of which a part is missing
            return None
        made += piece.data[: piece.size].ljust(piece.size, b"\0")
    return bytes(made[: memfd.size]) if len(made) >= memfd.size else None


@dataclass(slots=True)
class _Mapping:
    """Reads systemd's mapping of the tokens of its session to units and the names of their descriptors."""

    session: Session
    names: Mapping[str, int]
    entries: list[Said] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def read(self) -> UserSpace:
        values = self._values()
        if values is not None:
            self._document(values)
        by = "the session's name" + (" and its mapping" if values is not None else "")
        return UserSpace(
            scheme=SYSTEMD, by=by, facts=tuple(self.facts), entries=tuple(self.entries), notes=tuple(self.notes)
        )

    def _values(self) -> dict[str, Any] | None:
        """The mapping. None, with a note: there is none that can be read."""
        from luoser.parse import decoded, parse_json  # late: few sessions have JSON

        try:
            values = parse_json(decoded(self._bytes()), unique=True)
            if isinstance(values, dict):
                return values
            self._note("the mapping is not a JSON object")
        except FormatError as error:
            self._note(f"the mapping was not decoded: {error}")
        except LookupError as error:
            self._note(str(error.args[0]))
        return None

    def _bytes(self) -> bytes:
        """The bytes of the mapping. Raises LookupError with the reason if they were not read."""
        file = next((file for file in self.session.files if file.token == MAPPING_TOKEN), None)
        if file is None:
            raise LookupError(f"no mapping: the session has no file with token {MAPPING_TOKEN:#x}")
        if file.memfd is None:
            raise LookupError(f"the mapping, token {MAPPING_TOKEN:#x}, is not a memfd that can be read")
        size, most = file.memfd.size, LIMITS.contents_size
        if size > most:
            raise LookupError(f"the mapping, {size} bytes, was not read; {how_to_raise('contents_size')}")
        data = file_bytes(file.memfd)
        if data is None:
            why = (
                "some of its pages are not in the source"
                if file.memfd.contents
                else "give --contents, or a source with its pages"
            )
            raise LookupError(f"the mapping, {size} bytes, was not read: {why}")
        return data

    def _note(self, text: str) -> None:
        self.notes.append(text)

    def _document(self, values: dict[str, Any]) -> None:
        units: Any = values
        if "version" in values:  # the first form was the object of units itself
            version, units = values["version"], values.get("units", {})
            if not _is_number(version) or version > MAPPING_VERSION:
                self._note(
                    f"the mapping has version {_cut(str(version))}: expected at most {MAPPING_VERSION}; not decoded"
                )
                return
            self.facts.append(f"mapping version {version}")
            self._state(values.get("state"))
        if not isinstance(units, dict):
            self._note("the mapping's units are not an object")
            return
        for unit, entries in units.items():
            self._unit(_cut(unit), entries.get("fdstore") if isinstance(entries, dict) else entries)
        if len(self.notes) > _NOTES:
            self.notes[_NOTES:] = [f"{len(self.notes) - _NOTES} more entries of units are not as expected"]
        self.facts.append(counted(len(units), "unit"))
        self._compare()

    def _state(self, state: Any) -> None:
        count = state.get("kexecsCount") if isinstance(state, dict) else None
        if _is_number(count):
            self.facts.append(f"{count} kexecs before")

    def _unit(self, unit: str, entries: Any) -> None:
        if not isinstance(entries, list):
            self._note(f"unit {unit}: its fd store is not a list")
            return
        for entry in entries:
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str):
                self._entry(f'{unit}, fd "{_cut(name)}"', entry)
            else:
                self._note(f"unit {unit}: an entry without a name")

    def _entry(self, what: str, entry: dict[str, Any]) -> None:
        kind = entry.get("type")
        if kind == "fd":
            token = entry.get("token", entry.get("fd_index"))
            if _is_number(token):
                self.entries.append(Said(what=what, token=token))
            else:
                self._note(f"{what}: its token is not a number of 64 bits")
        elif kind == "luo_session":
            name = entry.get("sessionName", entry.get("session_name"))
            if isinstance(name, str):
                self.entries.append(Said(what=what, session=_cut(name)))
            else:
                self._note(f"{what}: no name of a session")
        else:
            self._note(f"{what}: unknown type")

    def _compare(self) -> None:
        """Note what mapping and session do not have in common."""
        tokens = Counter(entry.token for entry in self.entries if entry.token is not None)
        for entry in self.entries:
            if entry.session == self.session.name:
                self._note(f"{entry.what}: the session of this mapping itself")
            elif entry.session is not None and not self.names.get(entry.session):
                self._note(f"{entry.what}: no session {entry.session} is handed over")
        if tokens[MAPPING_TOKEN]:
            self._note(f"token {MAPPING_TOKEN:#x} is that of the mapping, and of an entry in it")
        self._tokens("entries have one token", (token for token, count in tokens.items() if count > 1))
        if self.session.count > len(self.session.files):
            self._note("not all files of the session were read: tokens were not compared")
            return
        present = {file.token for file in self.session.files} - {MAPPING_TOKEN}
        self._tokens("in the mapping, but not in the session", tokens.keys() - present - {MAPPING_TOKEN})
        self._tokens("in the session, but not in the mapping", present - tokens.keys())

    def _tokens(self, what: str, tokens: Iterable[int]) -> None:
        found: Sequence[int] = sorted(tokens)
        if found:
            more = f" and {len(found) - 4} more" if len(found) > 4 else ""
            shown = ", ".join(f"{token:#x}" for token in found[:4])
            self._note(f"{what}: token{'s' if len(found) > 1 else ''} {shown}{more}")


def _cut(name: str) -> str:
    """A name, which has at most 255 characters in systemd and 63 in the kernel, cut if it is longer."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64
