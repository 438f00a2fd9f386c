# SPDX-License-Identifier: MIT
"""Where a remote file lies: an HTTP server, or any other file system of fsspec. It gives ranges of one version of it.

A URL is opened by the file system of its scheme alone: what fsspec chains with `::` is none. Answers of HTTP servers
are checked here, as fsspec takes what comes: a whole file for a range, another version, fewer bytes.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from luoser.errors import SourceError, UsageError
from luoser.limits import LIMITS, how_to_raise
from luoser.text import safe_text, source_name

if TYPE_CHECKING:
    from luoser.memory.remote import Traffic

__all__ = ["Origin", "fitting_urls", "open_origin"]

T = TypeVar("T")
_PAUSES = (0.1, 0.5)
"""Seconds before a request is made again."""
_REDIRECTS = 5
_FOREVER = 10**6
"""Seconds beyond which a wait is not longer: timers have a largest value."""
_LARGEST = 1 << 62
_CHUNK = 1 << 20
_STEADY = 4 << 20
"""Bytes for which `remote_seconds` are given once more."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_PERSONAL = frozenset({"auth", "cookies", "headers", "params"})
"""Options of requests and of a session that another host than the user's does not get."""
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of a server that may answer the next time."""
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_WEAK = "W/"
"""How an ETag begins that files with other bytes can have, too."""
_PACKING = ("Content-Encoding", "identity")
_MARKS = ("size", "ETag", "etag", "generation", "md5Hash", "VersionId", "mtime", "last_modified", "updated", "created")
"""What file systems of fsspec say of a version of a file."""
_LONGEST = 200
"""Characters of a message of a library."""
_RIGHTS = "credentials are those of fsspec: docs/howto/remote.md"


class _Again(Exception):
    """A request failed, and may not fail the next time. Its text says why."""


class Origin(ABC):
    """A remote file, of which one version is read.

    shown:      its name, safe to print.
    size:       in bytes. None: the server does not say.
    has_ranges: whether parts of it can be fetched. Else only `whole` works.
    first:      its first bytes.
    version:    what names the version that is read, safe to print: an ETag, or what the server has in its place. Empty:
                nothing does.
    remarks:    on what cannot be noticed.
    """

    size: int | None
    has_ranges = True
    first = b""
    version = ""

    def __init__(self, shown: str, traffic: Traffic) -> None:
        self.shown, self.traffic = shown, traffic
        self.remarks: list[str] = []

    def fetch(self, start: int, end: int) -> bytes:
        """The bytes of [start, end), which are in the file. Raises SourceError, also if the file was changed."""
        return self._asked(lambda seconds: self._fetch(start, end, seconds), end - start)

    def whole(self) -> Iterator[bytes]:
        """All bytes, in pieces. Raises SourceError."""
        for start in range(0, self.size or 0, _CHUNK):
            yield self.fetch(start, min(start + _CHUNK, self.size or 0))

    @abstractmethod
    def _fetch(self, start: int, end: int, seconds: float) -> bytes: ...

    def _asked(self, ask: Callable[[float], T], size: int) -> T:
        """What a request gives, which is made again if it fails. size: bytes that are expected."""
        seconds = min(LIMITS.remote_seconds * (1 + size // _STEADY), _FOREVER)
        deadline = time.monotonic() + seconds
        for pause in (*_PAUSES, None):
            try:
                return ask(max(0.001, deadline - time.monotonic()))
            except _Again as error:
                why = str(error)
            except TimeoutError:
                raise SourceError(
                    f"{self.shown}: no answer within {seconds} s; {how_to_raise('remote_seconds')}"
                ) from None
            if pause is None or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
        raise SourceError(f"{self.shown}: {why}; tried {len(_PAUSES) + 1} times")

    def _changed(self, before: object, now: object) -> SourceError:
        text = f"changed while it was read: expected {_brief(before)}, found {_brief(now)}"
        return SourceError(f"{self.shown}: {text}; read it again, or a copy that nobody writes")


def open_origin(name: str, traffic: Traffic, first: int) -> Origin:
    """The file at a URL.

    traffic: where requests and bytes are counted.
    first:   bytes that are fetched when it is opened, at most.

    Raises SourceError for a file that cannot be read, UsageError if a package for its scheme is missing.
    """
    shown, scheme = source_name(name), name.partition("://")[0].lower()
    kind = _file_system(shown, scheme)
    is_http = scheme in ("http", "https")
    found = _Http(kind, name, shown, traffic, first) if is_http else _Stored(kind, name, shown, traffic)
    if found.size is not None and found.size > _LARGEST:
        raise SourceError(f"{shown}: impossible size: {found.size} bytes")
    return found


def _file_system(shown: str, scheme: str) -> Any:
    """The file system of fsspec for a scheme. Raises as `open_origin`. shown: what it is for."""
    try:
        from fsspec import get_filesystem_class
    except ImportError:
        raise UsageError(f"{shown}: reading from there needs fsspec: pip install 'luoser[remote]'") from None
    try:
        return get_filesystem_class(scheme)
    except ImportError as error:
        extra = scheme in ("http", "https")
        hint = "pip install 'luoser[remote]'" if extra else "pip install it beside 'luoser[remote]'"
        raise UsageError(f"{shown}: {safe_text(str(error))[:_LONGEST]}; {hint}") from None
    except ValueError:
        raise UsageError(
            f"{shown}: unknown scheme {safe_text(scheme)}:// of fsspec; a file of that name is ./…"
        ) from None


def fitting_urls(pattern: str, most: int) -> list[str]:
    """The files whose URLs fit a pattern with `*`, sorted. most: how many there may be.

    Raises SourceError for a place that cannot be listed, UsageError if it is none whose files have URLs of their own.
    """
    shown, scheme = source_name(pattern), pattern.partition("://")[0].lower()
    kind = _file_system(shown, scheme)
    how = "name each file, or give a list with --from-list"

    def found() -> list[str]:
        files = kind(**kind._get_kwargs_from_urls(pattern), skip_instance_cache=True)
        if files.unstrip_protocol(kind._strip_protocol(pattern)) != pattern:
            raise UsageError(f"{shown}: patterns are not for {scheme}:// with a host; {how}")
        return sorted(files.unstrip_protocol(name) for name in files.glob(kind._strip_protocol(pattern)))

    try:
        names, error = _in_time(found, min(LIMITS.remote_seconds, _FOREVER))
    except TimeoutError:
        text = f"not listed within {LIMITS.remote_seconds} s; {how_to_raise('remote_seconds')}"
        raise SourceError(f"{shown}: {text}") from None
    if isinstance(error, UsageError):
        raise error
    if error is not None or names is None:
        raise SourceError(f"{shown}: cannot be listed: {_words(error or OSError(), pattern)}; {how}")
    return names[:most]


def _brief(what: object) -> str:
    return safe_text(str(what))[:_LONGEST]


def _words(error: BaseException, name: str) -> str:
    """What a library says, if it shows nothing of the URL; else only the kind of its error."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    user = name.partition("://")[2].partition("/")[0].rpartition("@")[0]
    secrets = [part for part in re.split(r"[:&=]", f"{user}&{name.partition('?')[2]}") if len(part) > 2]
    is_safe = text and "://" not in text and not any(secret in text for secret in secrets)
    return _brief(f"{kind}: {text}") if is_safe else kind


# -- HTTP -------------------------------------------------------------------------------------------------


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Http(Origin):
    """A file of an HTTP server. Its version is its ETag, or the time of its last change, and its size."""

    def __init__(self, kind: Any, url: str, shown: str, traffic: Traffic, first: int) -> None:
        super().__init__(shown, traffic)
        self._files, self._url = kind(skip_instance_cache=True), url
        self._other: Any = None
        self.size, self._mark = None, ""
        self._asked(lambda seconds: self._begin(first, seconds), first)
        if not self._mark:
            text = "the server gives neither ETag nor Last-Modified"
            self.remarks.append(f"{text}: a change of the file while it is read shows only if its size changes")
        elif self._mark.startswith(_WEAK):
            self.remarks.append("the server gives a weak ETag: a change of the file while it is read may not show")
        elif self._mark.startswith('"'):
            self.version = safe_text(self._mark)
        else:
            self.version = f"{safe_text(self._mark)}, {self.size} bytes"  # seconds are no version

    def _begin(self, first: int, seconds: float) -> None:
        """The first request, which shows the version and the size of the file, and whether there are ranges of it."""
        answer = self._ask(0, first, seconds)
        self._mark = _mark(answer.headers)
        if answer.status == 206:
            self.size = self._total(answer)
            self.first = self._checked(answer, 0, min(first, self.size))
        elif answer.status == 416:
            raise SourceError(f"{self.shown}: the file is empty")
        else:
            self._open_whole(answer)

    def _open_whole(self, answer: _Answer) -> None:
        """The server gave the whole file for a range."""
        said = answer.headers.get("Content-Length", "")
        self.size = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None
        self.has_ranges = self.size is not None and 0 < len(answer.body) == self.size
        self.first = answer.body if self.has_ranges else b""
        if self.size == 0:
            raise SourceError(f"{self.shown}: the file is empty")

    def _fetch(self, start: int, end: int, seconds: float) -> bytes:
        answer = self._ask(start, end, seconds)
        if answer.status == 416:
            raise self._changed(f"{self.size} bytes", answer.headers.get("Content-Range", "fewer"))
        if answer.status != 206:
            text = f"the server gave ranges, and now the whole file: status {answer.status}"
            raise SourceError(f"{self.shown}: {text}")
        return self._checked(answer, start, end)

    def _total(self, answer: _Answer) -> int:
        """Bytes of the file, as an answer says."""
        span = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if span is None:
            said = answer.headers.get("Content-Range", "nothing")
            raise SourceError(f"{self.shown}: Content-Range: expected bytes START-END/SIZE, found {_brief(said)}")
        return int(span[3])

    def _checked(self, answer: _Answer, start: int, end: int) -> bytes:
        """The bytes of an answer, if they are [start, end) of the same version."""
        total, mark = self._total(answer), _mark(answer.headers)
        if (total, mark) != (self.size, self._mark):
            raise self._changed(f"{self.size} bytes, {self._mark or 'no ETag'}", f"{total} bytes, {mark or 'no ETag'}")
        said = answer.headers["Content-Range"].partition("/")[0]
        if said != f"bytes {start}-{end - 1}":
            raise SourceError(f"{self.shown}: expected bytes {start}-{end - 1}, the server sent {_brief(said)}")
        if len(answer.body) < end - start:
            raise _Again(f"the answer is cut off: expected {end - start} bytes, found {len(answer.body)}")
        if len(answer.body) > end - start:
            raise SourceError(f"{self.shown}: wrong length of an answer: expected {end - start} bytes, found more")
        return answer.body

    def _ask(self, start: int, end: int, seconds: float) -> _Answer:

        async def answered() -> _Answer:
            async with await self._response(f"bytes={start}-{end - 1}") as response:
                length = response.content_length
                is_wanted = response.status == 206 or (length is not None and length <= end - start)
                is_wanted = is_wanted and response.headers.get(*_PACKING) == _PACKING[1]
                body = await self._body(response, end - start + 1) if is_wanted else b""
                return _Answer(response.status, response.headers, body)

        answer = self._done(answered, seconds)
        self._need_file(answer.status, answer.headers)
        return answer

    def _done(self, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """What a work of the event loop gives. Raises TimeoutError if it takes longer."""
        from asyncio import timeout

        from fsspec.asyn import sync

        async def timed() -> T:
            async with timeout(seconds):
                return await work()

        with self._told():
            result: T = sync(self._files.loop, timed)
        return result

    async def _response(self, span: str | None) -> Any:
        """The answer, of wherever the server redirects to. Another host does not get what is for this one."""
        import aiohttp

        files, url = self._files, self._files.encode_url(self._url)
        options = dict(files.kwargs)
        wanted = {"Accept-Encoding": "identity"} | ({} if span is None else {"Range": span})
        headers = {**options.pop("headers", {}), **wanted}
        options |= {"allow_redirects": False, "timeout": aiohttp.ClientTimeout(total=None)}
        for _ in range(_REDIRECTS + 1):
            session = await files.set_session()
            self.traffic.requests += 1
            response = await session.get(url, headers=headers, **options)
            if response.status not in _MOVED or "Location" not in response.headers:
                return response
            response.close()
            before, url = url, self._next(url, response.headers["Location"])
            options.pop("params", None)
            if url.origin() != before.origin():
                files, headers = self._elsewhere(), wanted
                options = {name: value for name, value in options.items() if name not in _PERSONAL}
        raise SourceError(f"{self.shown}: more than {_REDIRECTS} redirects")

    def _next(self, url: Any, location: str) -> Any:
        """Where a redirect leads."""
        import yarl

        found = url.join(yarl.URL(location))
        if found.scheme not in ("http", "https") or not found.host:
            raise SourceError(f"{self.shown}: redirected to what is not HTTP: {_brief(found.scheme)}:")
        if (url.scheme, found.scheme) == ("https", "http"):
            raise SourceError(f"{self.shown}: redirected from https to http, where anybody on the way can change it")
        if found.origin() == url.origin() and found.user is None:
            found = found.with_user(url.user).with_password(url.password)
        return found

    def _elsewhere(self) -> Any:
        """A file system for other hosts than that of the URL."""
        if self._other is None:
            self._other = type(self._files)(skip_instance_cache=True)
            kept = {name: value for name, value in self._files.client_kwargs.items() if name not in _PERSONAL}
            self._other.client_kwargs = kept
        return self._other

    async def _body(self, response: Any, most: int) -> bytes:
        parts = list[bytes]()
        while most and (piece := await response.content.read(most)):
            self.traffic.fetched += len(piece)
            most -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def _need_file(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise SourceError unless an answer can be of a file."""
        if status in _BUSY:
            raise _Again(f"the server answers with status {status}")
        if status in (401, 403, 407):
            raise SourceError(f"{self.shown}: the server does not allow it: status {status}; {_RIGHTS}")
        if status in (404, 410):
            raise SourceError(f"{self.shown}: no such file on the server: status {status}")
        if status not in (200, 206, 416):
            raise SourceError(f"{self.shown}: expected a file, the server answers with status {status}")
        packing = headers.get(*_PACKING)
        if packing != _PACKING[1]:
            text = f"the server packs what it sends (Content-Encoding: {_brief(packing)}), unasked"
            raise SourceError(f"{self.shown}: {text}; its ranges are not those of the file; copy it first")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of aiohttp in our words."""
        import aiohttp

        lasting = (aiohttp.ClientSSLError, aiohttp.InvalidURL, aiohttp.ClientResponseError)
        try:
            yield
        except (*lasting, ValueError) as error:
            raise SourceError(f"{self.shown}: {_words(error, self._url)}") from None
        except aiohttp.ClientPayloadError:
            raise _Again("the answer is cut off") from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _Again(_words(error, self._url)) from None

    def whole(self) -> Iterator[bytes]:
        length, waited = 0, 0.0

        def timed(work: Callable[[], Awaitable[T]]) -> T:
            nonlocal waited
            begun, most = time.monotonic(), LIMITS.remote_seconds * (1 + length // _STEADY)
            try:
                return self._done(work, min(max(0.001, most - waited), _FOREVER))
            finally:
                waited += time.monotonic() - begun

        try:
            response = timed(lambda: self._response(None))
            try:
                self._need_file(response.status, response.headers)
                if _mark(response.headers) != self._mark:
                    raise self._changed(self._mark or "no ETag", _mark(response.headers) or "no ETag")
                while piece := timed(lambda: response.content.read(_CHUNK)):
                    self.traffic.fetched += len(piece)
                    length += len(piece)
                    yield piece
            finally:
                self._files.loop.call_soon_threadsafe(response.close)
        except _Again as error:
            raise SourceError(f"{self.shown}: {error}, after {length} bytes") from None
        except TimeoutError:
            text = f"no answer within {LIMITS.remote_seconds} s for each {_STEADY >> 20} MiB, after {length} bytes"
            raise SourceError(f"{self.shown}: {text}; {how_to_raise('remote_seconds')}") from None
        if self.size is not None and length != self.size:
            raise SourceError(f"{self.shown}: the answer is cut off: expected {self.size} bytes, found {length}")


def _mark(headers: Mapping[str, str]) -> str:
    """What names a version of a file: its ETag; if that is weak, or there is none, also the time of its last change."""
    mark, changed = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return mark if mark and not mark.startswith(_WEAK) else " ".join(filter(None, (mark, changed)))


# -- other file systems -----------------------------------------------------------------------------------


class _Stored(Origin):
    """A file of a file system of fsspec. Its version is what the file system says of it, asked for after each range.

    It is not asked if the requests themselves are for one version, as those of s3fs are (If-Match).
    """

    def __init__(self, kind: Any, name: str, shown: str, traffic: Traffic) -> None:
        super().__init__(shown, traffic)
        self._name, self._path = name, ""
        self._marks: dict[str, str] = {}

        def opened() -> tuple[Any, Any, Mapping[str, Any]]:
            files = kind(**kind._get_kwargs_from_urls(name), skip_instance_cache=True)
            self._path = kind._strip_protocol(name)
            info = files.info(self._path)
            if info.get("type") == "directory":
                raise IsADirectoryError
            return files, files.open(self._path, "rb", cache_type="none"), info

        self._files, self._file, info = self._asked(lambda seconds: self._told(opened, seconds), 0)
        self._marks = _marks(info)
        marks = " ".join(f"{name}={value}" for name, value in sorted(self._marks.items()))
        self.version = safe_text(str(info.get("ETag") or marks))
        self.size = info.get("size")
        if not self.size:
            raise SourceError(f"{shown}: {'the file is empty' if self.size == 0 else 'its size is not known'}")
        asked = {**getattr(self._file, "req_kw", {}), **getattr(self._file, "read_kw", {})}
        self._is_fixed = bool(info.get("ETag")) and asked.get("IfMatch") == info["ETag"]

    def _fetch(self, start: int, end: int, seconds: float) -> bytes:
        def fetched() -> tuple[bytes, Mapping[str, Any] | None]:
            self._file.seek(start)
            data = self._file.read(end - start)
            if self._is_fixed:
                return data, None
            self._files.invalidate_cache()
            self.traffic.requests += 1
            return data, self._files.info(self._path)

        data, info = self._told(fetched, seconds)
        self.traffic.fetched += len(data)
        if info is not None and (marks := _marks(info)) != self._marks:
            name = next(name for name in {**marks, **self._marks} if marks.get(name) != self._marks.get(name))
            raise self._changed(f"{name} {self._marks.get(name)}", marks.get(name))
        if len(data) != end - start:
            raise _Again(f"the answer is cut off: expected {end - start} bytes, found {len(data)}")
        return bytes(data)

    def _told(self, work: Callable[[], T], seconds: float) -> T:
        """What a work gives within some seconds, with errors of any library in our words."""
        self.traffic.requests += 1
        result, error = _in_time(work, seconds)
        if error is not None:
            raise self._error(error)
        return cast(T, result)

    def _error(self, error: Exception) -> Exception:
        """The error of a library, in our words."""
        kind, words = type(error).__name__, _words(error, self._name)
        if isinstance(error, FileNotFoundError):
            return SourceError(f"{self.shown}: no such file")
        if isinstance(error, IsADirectoryError):
            return SourceError(f"{self.shown}: a folder; expected one file")
        if isinstance(error, PermissionError) or "Credentials" in kind:
            return SourceError(f"{self.shown}: not allowed ({words}); {_RIGHTS}")
        if isinstance(error, ImportError):
            return UsageError(f"{self.shown}: {words}; pip install it beside 'luoser[remote]'")
        if kind == "FileExpired":  # of s3fs
            return self._changed(f"ETag {self._marks.get('ETag')}", "another version")
        return _Again(words)


def _marks(info: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(info[name]) for name in _MARKS if info.get(name) is not None}


def _in_time(work: Callable[[], T], seconds: float) -> tuple[T | None, Exception | None]:
    """(what a work gives, what it raised). Raises TimeoutError if it takes longer: its thread is left alone then.

    Its errors are not raised here, where those of a signal are raised, too: of --timeout, for one.
    """
    box: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            box.put((work(), None))
        except Exception as error:  # of any library
            box.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        return box.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
