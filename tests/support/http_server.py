"""A real HTTP(S) server for tests: it serves, stores, misbehaves on request, and remembers."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.support.multipart import Part, parse_multipart
from tests.support.tls import Certificate

# Longer than any test waits: a gate that nobody opens must not hang the run.
_GATE_DEADLINE_S = 20.0


@dataclass(slots=True)
class Reply:
    """One scripted answer.

    Args:
        status, headers, body: as sent; Content-Length is added unless `headers` has it.
        gate: after `gate_at` bytes of the body, wait until this event is set.
        pause_s: wait this long before each single byte of the body: a trickle.
        cut_at: break off after so many bytes of the body, before it is whole.
        reset: break off with a TCP reset instead of an orderly close.
        hang_up: close after the whole answer without having said `Connection: close`.
        silent: read the request and close without any answer.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    gate: threading.Event | None = None
    gate_at: int = 0
    pause_s: float = 0
    cut_at: int | None = None
    reset: bool = False
    hang_up: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; `path` is decoded and without its query, `target` as sent."""

    method: str
    path: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class HttpServer:
    """Serve on a free loopback port, as a context manager.

    GET finds `files`, then what was stored; PUT stores; POST of form data is parsed into
    `posted` and its file stored under `/<page>/<file name>`. `script[path]` goes before all
    that: a list of replies, of which the last one stays.

    Args:
        certificate: for HTTPS.
        credentials: a user name and password that every request must carry.
    """

    def __init__(
        self,
        *,
        certificate: Certificate | None = None,
        credentials: tuple[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.files: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}
        self.stored: dict[str, bytes] = {}
        self.posted: list[tuple[str, list[Part]]] = []
        self.script: dict[str, list[Reply]] = {}
        self.requests: list[Received] = []
        self.credentials = credentials
        self.connections = 0
        self._stopping = threading.Event()
        self._certificate = certificate
        self._host = host
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Server((self._host, 0), _Handler)
        self._server.owner = self
        if self._certificate is not None:
            # The handshake happens in the connection's own thread, at its first read.
            self._server.socket = self._certificate.server_context().wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        # Kept connections would hold their threads; closing them ends the threads.
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/", *, userinfo: str = "", host: str = "") -> str:
        """Return the URL of a path, which is used as given."""
        scheme = "https" if self._certificate else "http"
        at = f"{userinfo}@" if userinfo else ""
        return f"{scheme}://{at}{host or self._host}:{self.port}{path}"

    def upload_page(self, path: str, action: str, field_name: str, hidden: str = "") -> None:
        """Put an HTML page with an upload form at a path; it takes GET only."""
        self.files[path] = (
            f'<!doctype html><form method="post" enctype="multipart/form-data" action="{action}">'
            f'{hidden}<input type="file" name="{field_name}"><input type="submit"></form>'
        ).encode()
        self.content_types[path] = "text/html; charset=utf-8"

    def answer(self, received: Received) -> Reply:
        """Decide the reply to a request; called by the connection's thread."""
        with self._lock:
            self.requests.append(received)
            scripted = self.script.get(received.path)
            if scripted:
                return scripted.pop(0) if len(scripted) > 1 else scripted[0]
            if not self._is_welcome(received):
                return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
            if received.method == "GET":
                return self._get(received.path)
            if received.method == "PUT":
                self.stored[received.path] = received.body
                return Reply(201)
            return self._post(received)

    def _is_welcome(self, received: Received) -> bool:
        if self.credentials is None:
            return True
        token = base64.b64encode(":".join(self.credentials).encode()).decode()
        return received.headers.get("authorization") == f"Basic {token}"

    def _get(self, path: str) -> Reply:
        body = self.files.get(path, self.stored.get(path))
        if body is None:
            return Reply(404, body=b"no such file")
        return Reply(200, {"Content-Type": self.content_types.get(path, "image/png")}, body)

    def _post(self, received: Received) -> Reply:
        if received.path in self.files:
            return Reply(405, body=b"this page takes no POST")
        try:
            parts = parse_multipart(received.headers.get("content-type", ""), received.body)
        except ValueError as exc:
            return Reply(400, body=str(exc).encode())
        self.posted.append((received.path, parts))
        for part in parts:
            if part.file_name is not None:
                self.stored[f"{received.path}/{part.file_name}"] = part.body
        return Reply(200, {"Content-Type": "text/plain"}, b"thank you")

    def opened(self, connection: socket.socket) -> int:
        """Note a new connection and number it."""
        with self._lock:
            self.connections += 1
            self._open.add(connection)
            return self.connections

    def closed(self, connection: socket.socket) -> None:
        """Note the end of a connection."""
        with self._lock:
            self._open.discard(connection)

    def wait(self, event: threading.Event | None, timeout_s: float) -> None:
        """Wait for an event, a time or the end of the server."""
        if event is None:
            self._stopping.wait(timeout_s)
            return
        # Short turns, so that a server that stops is not held up.
        for _ in range(int(timeout_s / 0.02)):
            if event.wait(0.02) or self._stopping.is_set():
                return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 128
    owner: HttpServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests break off on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.server.owner.opened(self.connection)

    def finish(self) -> None:
        self.server.owner.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        received = Received(
            method=self.command,
            path=unquote(urlsplit(self.path).path),
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
            connection=self.number,
        )
        reply = self.server.owner.answer(received)
        if not reply.silent:
            self._send(reply)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Before socketserver's shutdown(), which would say an orderly goodbye.
            self.connection.close()
        if reply.reset or reply.silent or reply.hang_up or reply.cut_at is not None:
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        chunked = "chunked" in reply.headers.get("Transfer-Encoding", "")
        if "Content-Length" not in reply.headers and not chunked:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        body = reply.body if reply.cut_at is None else reply.body[: reply.cut_at]
        if chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        if reply.pause_s:
            for byte in body:
                self.server.owner.wait(None, reply.pause_s)
                self.wfile.write(bytes((byte,)))
            return
        if reply.gate is not None:
            self.wfile.write(body[: reply.gate_at])
            self.server.owner.wait(reply.gate, _GATE_DEADLINE_S)
            body = body[reply.gate_at :]
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing on stderr."""
