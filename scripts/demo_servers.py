"""The demo's peers: the tests' own HTTP and FTP servers, which keep every version written."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer
from tests.support.multipart import parse_multipart

# Where no handler is, pyftpdlib adds one and prints every command.
logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())


class VersionedFtpServer(FtpServer):
    """An FTP server that remembers what a file was before it is overwritten."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.overwritten: dict[str, list[bytes]] = {}

    def refusal(self, command: str, argument: str) -> str | None:
        """Refuse nothing; look at a command before it is done."""
        target = Path(argument) if command == "RNTO" else self.root / argument.lstrip("/")
        if command in ("RNTO", "STOR") and target.is_file():
            self.overwritten.setdefault(target.name, []).append(target.read_bytes())
        return super().refusal(command, argument)

    def versions(self, name: str) -> list[bytes]:
        """Return every version of a file, oldest first."""
        present = [path.read_bytes() for path in self.root.rglob(name) if path.is_file()]
        return [*self.overwritten.get(name, []), *present]


class FolderWatch:
    """Looks at a folder every millisecond, as a context manager, and keeps what it sees."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, dict[int, bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def versions(self, name: str) -> list[bytes]:
        """Return every version of a file that was seen, oldest first."""
        self._look()
        return list(self._seen.get(name, {}).values())

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            self._look()

    def _look(self) -> None:
        for path in self._folder.glob("*.png"):
            try:
                inode = path.stat().st_ino
                if inode not in self._seen.setdefault(path.name, {}):
                    self._seen[path.name][inode] = path.read_bytes()
            except FileNotFoundError:
                continue  # it was replaced while we looked


def uploads(server: HttpServer, name: str) -> list[bytes]:
    """Return every version of a file that was PUT or POSTed, oldest first."""
    versions = []
    for request in server.requests:
        if request.method == "PUT" and request.path.rpartition("/")[2] == name:
            versions.append(request.body)
        elif request.method == "POST":
            parts = parse_multipart(request.headers.get("content-type", ""), request.body)
            versions += [part.body for part in parts if part.file_name == name]
    return versions
