"""The far ends that the contract test runs over: one for each scheme, with the same interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from imgserve.request import Destination
from imgserve.worker.transfers import TransferSettings
from tests.support.ftp_server import FtpServer
from tests.support.http_server import HttpServer, Reply
from tests.support.tls import Certificate

# A password with everything that a URL gives a meaning to.
USER, PASSWORD = "üser", "p@ss:w/rd?#ü"
USERINFO = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
LOOPBACK = ("127.0.0.0/8", "::1/128")


def closed_port() -> int:
    """Return a loopback port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(slots=True)
class Peer:
    """A server (or folder) that files are fetched from and uploaded to."""

    name: str
    settings: TransferSettings
    root: Path | None = None
    http: HttpServer | None = None
    ftp: FtpServer | None = None

    @property
    def checks_passwords(self) -> bool:
        return self.http is not None or self.ftp is not None

    def url(self, path: str, *, userinfo: str = USERINFO) -> str:
        if self.http is not None:
            return self.http.url(path, userinfo=userinfo)
        if self.ftp is not None:
            return self.ftp.url(path, userinfo=userinfo)
        return f"file://{self.root}{path}"

    def destination(self, path: str, *, userinfo: str = USERINFO) -> Destination:
        return Destination(self.url(path, userinfo=userinfo))

    def unreachable_url(self, path: str) -> str:
        return f"{self.url('/').partition(':')[0]}://127.0.0.1:{closed_port()}{path}"

    def put(self, path: str, body: bytes) -> None:
        if self.http is not None:
            self.http.files[path] = body
        elif self.root is not None:
            file = self.root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)

    def stored(self) -> dict[str, bytes]:
        """Return every file that is there, by path."""
        if self.http is not None:
            return dict(self.http.stored)
        assert self.root is not None
        files = (file for file in self.root.rglob("*") if file.is_file())
        return {f"/{file.relative_to(self.root)}": file.read_bytes() for file in files}

    def refuse_uploads(self) -> None:
        """Let the next upload to /refused/a.png fail after its bytes have gone out."""
        if self.http is not None:
            self.http.script["/refused/a.png"] = [Reply(507)]
        elif self.ftp is not None:
            self.ftp.refuse.update({"RNFR": "550 no", "RNTO": "550 no"})
            self.ftp.refuse_names.add("a.png")
        elif self.root is not None:
            (self.root / "refused" / "a.png").mkdir(parents=True)


@contextmanager
def http_peer(tmp_path: Path, certificate: Certificate | None) -> Iterator[Peer]:
    with HttpServer(certificate=certificate, credentials=(USER, PASSWORD)) as server:
        yield Peer("http", _settings(certificate), http=server)


@contextmanager
def ftp_peer(
    tmp_path: Path, certificate: Certificate | None, *, implicit: bool = False
) -> Iterator[Peer]:
    with FtpServer(
        tmp_path, credentials=(USER, PASSWORD), certificate=certificate, implicit=implicit
    ) as server:
        yield Peer("ftp", _settings(certificate), root=tmp_path, ftp=server)


@contextmanager
def file_peer(tmp_path: Path) -> Iterator[Peer]:
    yield Peer("file", TransferSettings(file_roots=(tmp_path,)), root=tmp_path)


def _settings(certificate: Certificate | None) -> TransferSettings:
    ca_file = str(certificate.ca_file) if certificate else None
    return TransferSettings(allow_networks=LOOPBACK, ca_file=ca_file)
