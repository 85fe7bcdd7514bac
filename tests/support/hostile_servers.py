"""Servers that misbehave: raw HTTP, a scripted FTP server, and a trap that counts connections."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

Behave = Callable[["Peer"], None]
_LONGEST_S = 60.0


class Peer:
    """One accepted connection; ends when the server does."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.connection = connection
        self.stopping = stopping
        connection.settimeout(_LONGEST_S)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.connection.sendall(data)

    def line(self) -> bytes:
        """Read one line, empty at the end."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.connection.recv(1)
            if not byte:
                return b""
            line += byte
        return bytes(line)

    def request(self) -> str:
        """Read the head of an HTTP request; return its path."""
        path = self.line().split(b" ")[1:2]
        while self.line().strip():
            pass
        return path[0].decode() if path else ""

    def wait(self, seconds: float = _LONGEST_S) -> bool:
        """Do nothing for a while; return whether to go on."""
        return not self.stopping.wait(seconds)

    def reset(self) -> None:
        """Break off with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class HostileServer:
    """Answer every connection by a function, each in a thread, as a context manager.

    Args:
        behave: what is done with a connection.
        host: where it listens.
    """

    def __init__(self, behave: Behave, *, host: str = "127.0.0.2") -> None:
        self.behave = behave
        self.host = host
        self.connections = 0
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((self.host, 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def url(self, path: str, scheme: str = "http", userinfo: str = "") -> str:
        """Return the URL of a path."""
        return f"{scheme}://{userinfo}{self.host}:{self.port}{path}"

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._start(lambda held=connection: self._serve(held))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            self.behave(Peer(connection, self._stopping))
        self._open.discard(connection)


class Trap:
    """Listen on one port of every local address and note which addresses were connected to."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        four = socket.create_server(("0.0.0.0", 0), backlog=64)  # noqa: S104
        self.port = int(four.getsockname()[1])
        self._listeners = [four]
        with contextlib.suppress(OSError):  # no IPv6 here
            six = socket.create_server(("::", self.port), family=socket.AF_INET6, backlog=64)
            self._listeners.append(six)
        for listener in self._listeners:
            thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                self.touched.append(connection.getsockname()[0])


class FtpScript:
    """The behaviour of an FTP server that serves one file and can be told to misbehave.

    Args:
        body: what RETR sends.
        replies: command -> its whole reply, in place of the usual one.
        greeting: what it says first.
        before: command -> called before the reply; returning ends the connection when False.
        transfer: sends or reads what the data connection carries.
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        replies: Mapping[str, bytes] | None = None,
        greeting: bytes = b"220 welcome\r\n",
        before: Mapping[str, Callable[[Peer], bool]] | None = None,
        transfer: Callable[[Peer, bytes], None] | None = None,
    ) -> None:
        self.body = body
        self.replies = dict(replies or {})
        self.greeting = greeting
        self.before = dict(before or {})
        self.transfer = transfer

    def __call__(self, peer: Peer) -> None:
        """Serve one control connection."""
        peer.send(self.greeting)
        with contextlib.ExitStack() as exits:
            listener: socket.socket | None = None
            while words := peer.line().split():
                command = words[0].decode("latin-1").upper()
                if not self.before.get(command, lambda _: True)(peer):
                    return
                if command in self.replies:
                    peer.send(self.replies[command])
                elif command in ("EPSV", "PASV"):
                    listener = exits.enter_context(
                        socket.create_server((peer.connection.getsockname()[0], 0))
                    )
                    peer.send(b"229 ok (|||%d|)\r\n" % listener.getsockname()[1])
                elif command in ("RETR", "STOR") and listener is not None:
                    self._move(peer, listener, command)
                else:
                    peer.send(_USUAL.get(command, b"502 no\r\n"))

    def _move(self, peer: Peer, listener: socket.socket, command: str) -> None:
        peer.send(b"150 here\r\n")
        connection, _ = listener.accept()
        with connection:
            other = Peer(connection, peer.stopping)
            if self.transfer is not None:
                self.transfer(other, self.body)
            elif command == "RETR":
                other.send(self.body)
            else:
                while connection.recv(65536):
                    pass
        peer.send(b"226 done\r\n")


_USUAL: Mapping[str, bytes] = {
    "USER": b"331 and the word\r\n",
    "PASS": b"230 in\r\n",
    "PWD": b'257 "/" is it\r\n',
    "CWD": b"250 there\r\n",
    "MKD": b"257 made\r\n",
    "TYPE": b"200 so\r\n",
    "NOOP": b"200 yes\r\n",
    "RNFR": b"350 to\r\n",
    "RNTO": b"250 so\r\n",
    "DELE": b"250 gone\r\n",
    "QUIT": b"221 bye\r\n",
}
