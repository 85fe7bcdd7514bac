"""A destination that takes an upload only when it is let: a raw server with a little HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

DEADLINE_S = 15.0
_TURN_S = 0.02


class StallingSink:
    """Answers PUTs; those to a path in `stalled` are read to their head only, until `release`.

    Attributes:
        begun: paths whose head was read.
        finished: paths whose whole body was read.
        broken: paths whose sender broke off before.
    """

    def __init__(self) -> None:
        self.stalled: set[str] = set()
        self.begun: list[str] = []
        self.finished: list[str] = []
        self.broken: list[str] = []
        self._release = threading.Event()
        self._closing = threading.Event()
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        # So small that an upload of some MB cannot hide in the kernel's buffers.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.settimeout(_TURN_S)
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._release.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._server.close()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}{path}"

    def release(self) -> None:
        """Read on."""
        self._release.set()

    def wait_for(self, paths: list[str], path: str) -> None:
        """Wait until a path is in one of the lists."""
        with self._news:
            assert self._news.wait_for(lambda: path in paths, DEADLINE_S), (
                f"begun {self.begun}, finished {self.finished}, broken {self.broken}"
            )

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                self._start(self._talk, self._server.accept()[0])

    def _talk(self, peer: socket.socket) -> None:
        peer.settimeout(_TURN_S)
        with peer, contextlib.suppress(ConnectionError):
            while not self._closing.is_set():
                head, _, body = self._read_until(peer, b"", b"\r\n\r\n").partition(b"\r\n\r\n")
                if not head:
                    return
                path = head.split()[1].decode()
                self._note(self.begun, path)
                if path in self.stalled:
                    self._release.wait(DEADLINE_S)
                size = int(head.lower().split(b"content-length:")[1].split()[0])
                if not self._read_rest(peer, size - len(body)):
                    self._note(self.broken, path)
                    return
                self._note(self.finished, path)
                peer.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    def _read_until(self, peer: socket.socket, data: bytes, mark: bytes) -> bytes:
        while mark not in data and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                chunk = peer.recv(4096)
                if not chunk:
                    return b""
                data += chunk
        return data

    def _read_rest(self, peer: socket.socket, size: int) -> bool:
        while size > 0:
            try:
                chunk = peer.recv(min(size, 65536))
            except TimeoutError:
                if self._closing.is_set():
                    return False
                continue
            except ConnectionError:
                return False
            if not chunk:
                return False
            size -= len(chunk)
        return True

    def _note(self, paths: list[str], path: str) -> None:
        with self._news:
            paths.append(path)
            self._news.notify_all()
