# SPDX-License-Identifier: MIT
"""An HTTP server of files, with ranges, that can be told to do everything wrong."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Answer", "Server", "s3_bucket", "served"]


@dataclass
class Answer:
    """What a server is about to send. A fault changes it.

    start, end: the range of the file. None: the whole file.
    body:       bytes to send instead.
    cut:        bytes of the body that are sent before the connection ends. None: all.
    """

    number: int
    status: int
    headers: dict[str, str]
    start: int
    end: int
    body: bytes | None = None
    cut: int | None = None
    wait: float = 0.0


Fault = Callable[[Answer], None]


@dataclass
class Server:
    """Files by name, and what goes wrong.

    fault: is called with each answer.
    asked: (method, path, Range) of each request.
    heads: headers of each request.
    sent:  bytes of bodies.
    drip:  seconds between bytes of bodies.
    """

    files: dict[str, bytes | Path] = field(default_factory=dict)
    fault: Fault | None = None
    ranges: bool = True
    etag: str | None = '"1"'
    asked: list[tuple[str, str]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    drip: float = 0.0
    base: str = ""

    def url(self, name: str, data: bytes | Path | None = None) -> str:
        """The address of a file. data: that it gets."""
        if data is not None:
            self.files[name] = data
        return f"{self.base}/{name}"


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Range", "")))
            server.heads.append(dict(self.headers.items()))
            data = server.files.get(self.path.lstrip("/").partition("?")[0])
            size = 0 if data is None else data.stat().st_size if isinstance(data, Path) else len(data)
            answer = Answer(len(server.asked), 404 if data is None else 200, {}, 0, size)
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if data is not None and span is not None and server.ranges:
                answer.status, answer.start = 206, int(span[1])
                answer.end = min(int(span[2]) + 1, size)
                answer.headers["Content-Range"] = f"bytes {answer.start}-{answer.end - 1}/{size}"
                if answer.start >= size:
                    answer.status, answer.start, answer.end = 416, 0, 0
                    answer.headers["Content-Range"] = f"bytes */{size}"
            if server.etag is not None:
                answer.headers["ETag"] = server.etag
            answer.headers["Content-Length"] = str(answer.end - answer.start)
            if server.fault is not None:
                server.fault(answer)
            time.sleep(answer.wait)
            self._send(answer, data)

        def _send(self, answer: Answer, data: bytes | Path | None) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            left = answer.end - answer.start if answer.cut is None else answer.cut
            for piece in [answer.body] if answer.body is not None else _pieces(data, answer.start, answer.start + left):
                server.sent += len(piece)
                for part in (piece[at : at + 1] for at in range(len(piece))) if server.drip else [piece]:
                    self.wfile.write(part)
                    time.sleep(server.drip)
            if answer.cut is not None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    return Handler


def _pieces(data: bytes | Path | None, start: int, end: int) -> Iterator[bytes]:
    if isinstance(data, Path):
        with data.open("rb") as file:
            file.seek(start)
            for place in range(start, end, 1 << 20):
                yield file.read(min(1 << 20, end - place))
    elif data is not None:
        yield data[start:end]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are expected."""


@contextmanager
def s3_bucket() -> Iterator[Any]:
    """A client of an S3 server on this machine, which has the bucket `dumps`. fsspec finds it by the environment."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    import botocore.session

    http = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    http.start()
    host, port = http.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "geheimnis")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = botocore.session.Session().create_client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket="dumps")
        yield client
    http.stop()


@contextmanager
def served(**options: Any) -> Iterator[Server]:
    """A server on a port of its own."""
    server = Server(**options)
    http = _Quiet(("127.0.0.1", 0), _handler(server))
    server.base = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
